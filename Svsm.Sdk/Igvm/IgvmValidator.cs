// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Looks for what a parser accepts and a launch does not survive: contradictions inside a file, and the habits of single hosts.
// About SEV-SNP launches; headers for other platforms matter only where a host stumbles over them.
//
// Source: QEMU backends/igvm.c and target/i386/sev.c, Cloud Hypervisor vmm/src/igvm, OpenVMM vm_loaders/igvm.rs and virt_kvm/src/snp.rs,
// coconut-svsm tools/igvmbuilder and tools/igvmmeasure. Read, not run: no SEV-SNP host was at hand.

using System;
using System.Collections.Generic;
using System.Collections.Immutable;
using System.Globalization;
using System.Linq;
using Svsm.Igvm.Imaging;
using Svsm.Wire;

namespace Svsm.Igvm;

/// <summary>Checks IGVM files beyond the format.</summary>
public static class IgvmValidator
{
    private const ulong PolicyReservedOne = 1ul << 17;
    private const ulong EferSvme = 0x1000;
    private const ulong LargePageSize = 0x20_0000;

    /// <summary>Checks a file against the format's contradictions and every known host.</summary>
    /// <param name="file">A file that was parsed, or that can be written.</param>
    /// <returns>The findings; empty when every host starts the file as it says.</returns>
    /// <exception cref="IgvmFormatException">The model breaks the format.</exception>
    public static ImmutableArray<IgvmFinding> Validate(IgvmFile file) => Validate(file, [.. Enum.GetValues<IgvmHost>()]);

    /// <summary>Checks a file against the format's contradictions and the host that it is for.</summary>
    /// <param name="file">A file that was parsed, or that can be written.</param>
    /// <param name="flavour">The host.</param>
    /// <returns>The findings; empty when the host starts the file as it says.</returns>
    /// <exception cref="IgvmFormatException">The model breaks the format.</exception>
    /// <exception cref="ArgumentOutOfRangeException">The flavour is unknown.</exception>
    public static ImmutableArray<IgvmFinding> Validate(IgvmFile file, HostFlavour flavour) => Validate(file, [IgvmHost.Any, HostOf(flavour)]);

    private static IgvmHost HostOf(HostFlavour flavour) => flavour switch
    {
        HostFlavour.Qemu => IgvmHost.CoconutQemu,
        HostFlavour.StockQemu => IgvmHost.StockQemu,
        HostFlavour.HyperV => IgvmHost.HyperV,
        HostFlavour.Vanadium => IgvmHost.Vanadium,
        _ => throw new ArgumentOutOfRangeException(nameof(flavour), flavour, "Unknown host flavour."),
    };

    private static ImmutableArray<IgvmFinding> Validate(IgvmFile file, ImmutableArray<IgvmHost> hosts)
    {
        ArgumentNullException.ThrowIfNull(file);
        IgvmRules.CheckAll(file);
        var findings = new Findings(file);
        foreach (IgvmHost host in hosts)
        {
            switch (host)
            {
                case IgvmHost.Any:
                    findings.CheckFile();
                    break;
                case IgvmHost.StockQemu:
                case IgvmHost.CoconutQemu:
                    findings.CheckQemu(host);
                    break;
                case IgvmHost.CloudHypervisor:
                    findings.CheckCloudHypervisor();
                    break;
                case IgvmHost.OpenVmm:
                    findings.CheckOpenVmm();
                    break;
                default:
                    findings.CheckProfile(host);
                    break;
            }
        }

        return [.. findings.List];
    }

    private static uint? MaskOf(IgvmHeader header) => header switch
    {
        IgvmInitialization initialization => initialization.CompatibilityMask,
        IgvmPageData page => page.CompatibilityMask,
        IgvmParameterInsert insert => insert.CompatibilityMask,
        IgvmVpContext context => context.CompatibilityMask,
        IgvmRequiredMemory memory => memory.CompatibilityMask,
        IgvmErrorRange range => range.CompatibilityMask,
        IgvmSnpIdBlock block => block.CompatibilityMask,
        IgvmVbsMeasurement measurement => measurement.CompatibilityMask,
        _ => null,
    };

    private static ulong PageLength(IgvmPageData page) => (page.Flags & IgvmPageDataFlags.Is2MBPage) != 0 ? LargePageSize : IgvmPageData.PageSize;

    private static string Text(FormattableString text) => text.ToString(CultureInfo.InvariantCulture);

    private sealed class Findings
    {
        private readonly IgvmFile _file;
        private readonly IgvmPlatform? _snp;
        private readonly List<IgvmVpContext> _contexts;
        private readonly Dictionary<uint, IgvmParameterArea> _areas;

        public Findings(IgvmFile file)
        {
            _file = file;
            _snp = file.FindPlatform(IgvmPlatformType.SevSnp);
            _contexts = [.. file.Directives.OfType<IgvmVpContext>().Where(IsForSnp)];
            _areas = file.Directives.OfType<IgvmParameterArea>().ToDictionary(area => area.Index);
        }

        public List<IgvmFinding> List { get; } = [];

        public void CheckFile()
        {
            CheckMasks();
            CheckOverlaps();
            CheckParameters();
            if (_snp is null)
            {
                Error(IgvmHost.Any, $"the file has no SEV-SNP platform header", null);
                return;
            }

            CheckSnp();
        }

        public void CheckQemu(IgvmHost host)
        {
            foreach (IgvmHeader header in _file.Initializations.Concat<IgvmHeader>(_file.Directives))
            {
                bool known = header.Type switch
                {
                    IgvmHeaderType.GuestPolicy or IgvmHeaderType.PageData or IgvmHeaderType.ParameterArea or IgvmHeaderType.ParameterInsert or
                        IgvmHeaderType.VpContext or IgvmHeaderType.RequiredMemory or IgvmHeaderType.SnpIdBlock or IgvmHeaderType.VpCount or
                        IgvmHeaderType.EnvironmentInfo or IgvmHeaderType.MemoryMap or IgvmHeaderType.Madt => true,
                    IgvmHeaderType.DeviceTree => host == IgvmHost.CoconutQemu,
                    _ => false,
                };
                if (!known)
                {
                    Error(host, $"QEMU ends at a header that it does not know, whatever its mask: {header.Type}", header);
                }

                switch (header)
                {
                    case IgvmParameterUsage { Kind: IgvmParameterKind.Madt } when host == IgvmHost.StockQemu:
                        Warning(host, $"QEMU knows the parameter Madt from 11.0 on only", header);
                        break;
                    case IgvmParameterUsage { Kind: IgvmParameterKind.MemoryMap, ByteOffset: not 0 } usage:
                        Warning(host, $"the memory map is wanted at offset 0x{usage.ByteOffset:X}; QEMU before 11.1.3 writes it at 0", header);
                        break;
                    case IgvmParameterArea { InitialData.IsEmpty: false } area:
                        Warning(host, $"parameter area {area.Index} has initial data, which QEMU ignores", header);
                        break;
                    case IgvmPageData { Flags: var flags } page when IsForSnp(page) && (flags & IgvmPageDataFlags.Shared) != 0:
                        Warning(host, $"the page at 0x{page.Gpa:X} is marked shared; QEMU launches it as a private, measured page", header);
                        break;
                    default:
                        break;
                }
            }

            CheckInsertOrder(host);
            CheckKvmVmsas(host, HostProfile.For(host == IgvmHost.StockQemu ? HostFlavour.StockQemu : HostFlavour.Qemu));
        }

        public void CheckCloudHypervisor()
        {
            const IgvmHost Host = IgvmHost.CloudHypervisor;
            if (_file.Platforms[0].PlatformType != IgvmPlatformType.SevSnp)
            {
                Error(Host, $"the first platform header is {_file.Platforms[0].PlatformType}; Cloud Hypervisor takes the mask of the first one, so it must be SevSnp", _file.Platforms[0]);
            }

            foreach (IgvmDirective directive in _file.Directives)
            {
                switch (directive)
                {
                    case IgvmParameterUsage { Kind: not (IgvmParameterKind.VpCount or IgvmParameterKind.MemoryMap or IgvmParameterKind.CommandLine) } usage:
                        Error(Host, $"Cloud Hypervisor has no parameter {usage.Kind} and ends there", directive);
                        break;
                    case IgvmErrorRange or IgvmVbsMeasurement:
                        Error(Host, $"Cloud Hypervisor does not know {directive.Type} and ends there", directive);
                        break;
                    case IgvmPageData { DataType: IgvmPageDataType.CpuidXf } page:
                        Error(Host, $"the page at 0x{page.Gpa:X} is of type CpuidXf, at which Cloud Hypervisor ends", directive);
                        break;
                    case IgvmPageData { DataType: IgvmPageDataType.Normal, Data.IsEmpty: true } page when IsForSnp(page) && (page.Flags & IgvmPageDataFlags.Unmeasured) == 0:
                        Warning(Host, $"the page at 0x{page.Gpa:X} has no data; Cloud Hypervisor measures it as ZERO on KVM and as NORMAL elsewhere", directive);
                        break;
                    case IgvmParameterArea { ByteLength: > IgvmPageData.PageSize } area:
                        Warning(Host, $"parameter area {area.Index} has 0x{area.ByteLength:X} bytes; on the Microsoft hypervisor just its first page is launched", directive);
                        break;
                    case IgvmVpContext { VpIndex: not 0 } context when IsForSnp(context):
                        Warning(Host, $"the VP_CONTEXT for vCPU {context.VpIndex} is ignored", directive);
                        break;
                    default:
                        break;
                }
            }
        }

        public void CheckOpenVmm()
        {
            const IgvmHost Host = IgvmHost.OpenVmm;
            foreach (IgvmHeader header in _file.Initializations.Concat<IgvmHeader>(_file.Directives))
            {
                if (header is IgvmRelocatableRegion or IgvmPageTableRelocation && (MaskOf(header) & _snp?.CompatibilityMask) is not (0 or null))
                {
                    Error(Host, $"OpenVMM does not relocate SEV-SNP guests, but there is a header {header.Type}", header);
                }
                else if (header is IgvmVbsMeasurement ||
                    (header is IgvmVpContext context && _file.Platforms.Any(platform => platform.PlatformType == IgvmPlatformType.Native && platform.CompatibilityMask == context.CompatibilityMask)))
                {
                    Error(Host, $"OpenVMM ends at {header.Type}{(header is IgvmVpContext ? " for platform Native" : "")}", header);
                }
            }

            if (_snp is null)
            {
                return;
            }

            if (_snp.HighestVtl != 0 || _snp.SharedGpaBoundary != 0)
            {
                Error(Host, $"the SEV-SNP platform header has highest VTL {_snp.HighestVtl} and shared GPA boundary 0x{_snp.SharedGpaBoundary:X}; OpenVMM wants 0 and 0", _snp);
            }

            if (_file.FindGuestPolicy(_snp.CompatibilityMask) is null)
            {
                Error(Host, $"the file has no guest policy; OpenVMM wants one", null);
            }

            if (_contexts.Count != 1 || _contexts[0].VpIndex != 0)
            {
                Error(Host, $"the file has {_contexts.Count} VP_CONTEXTs for SEV-SNP; OpenVMM wants exactly one, for vCPU 0", null);
            }

            foreach (IgvmVpContext context in _contexts)
            {
                CheckKvmAddress(Host, context);
                CheckFeatures(Host, context, HostProfile.For(HostFlavour.StockQemu));
            }
        }

        public void CheckProfile(IgvmHost host)
        {
            HostProfile profile = HostProfile.For(host == IgvmHost.HyperV ? HostFlavour.HyperV : HostFlavour.Vanadium);
            foreach (IgvmVpContext context in _contexts)
            {
                Vmsa vmsa = VmsaPage.Read(context.Data.Span);
                if (profile.VmsaAtKvmGpa)
                {
                    CheckKvmAddress(host, context);
                }
                else if (context.Gpa == HostProfile.KvmVmsaGpa)
                {
                    Error(host, $"the VMSA is at 0x{context.Gpa:X}, which is right on KVM; host {host} wants it inside the SVSM's region", context);
                }

                if (vmsa.VirtualTom != _snp!.SharedGpaBoundary || (vmsa.VirtualTom != 0) != (((SevFeatures)vmsa.SevFeatures & SevFeatures.VirtualTom) != 0))
                {
                    Error(
                        host,
                        $"virtual TOM is 0x{vmsa.VirtualTom:X} in the VMSA, 0x{_snp.SharedGpaBoundary:X} in the platform header, and SEV_FEATURES is 0x{vmsa.SevFeatures:X}; wanted is the same address in both, with bit 1 set when it is not 0",
                        context);
                }

                if (vmsa.Pat != profile.Pat || vmsa.Dr6 != profile.Dr6 || vmsa.Dr7 != profile.Dr7)
                {
                    Warning(
                        host,
                        $"PAT, DR6 and DR7 of the VMSA are 0x{vmsa.Pat:X}, 0x{vmsa.Dr6:X} and 0x{vmsa.Dr7:X}; host {host} starts with 0x{profile.Pat:X}, 0x{profile.Dr6:X} and 0x{profile.Dr7:X}",
                        context);
                }
            }
        }

        private bool IsForSnp(IgvmHeader header) => _snp is not null && (MaskOf(header) & _snp.CompatibilityMask) is not (0 or null);

        private void CheckMasks()
        {
            uint known = 0;
            foreach (IgvmPlatform platform in _file.Platforms)
            {
                known |= platform.CompatibilityMask;
            }

            foreach (IgvmHeader header in _file.Initializations.Concat<IgvmHeader>(_file.Directives))
            {
                if (MaskOf(header) is uint mask && ((mask & known) == 0 || (mask & ~known) != 0))
                {
                    Warning(IgvmHost.Any, $"{header.Type} has compatibility mask 0x{mask:X}; the platforms of the file have 0x{known:X}", header);
                }
            }
        }

        private void CheckOverlaps()
        {
            var ranges = new List<(ulong Start, ulong End, uint Mask, IgvmHeader Header)>();
            foreach (IgvmDirective directive in _file.Directives)
            {
                (ulong start, ulong length) = directive switch
                {
                    IgvmPageData page => (page.Gpa, PageLength(page)),
                    IgvmParameterInsert insert => (insert.Gpa, _areas[insert.AreaIndex].ByteLength),
                    IgvmErrorRange range => (range.Gpa, range.ByteLength),
                    IgvmVpContext context when IsForSnp(context) => (context.Gpa, (ulong)VmsaPage.ByteLength),
                    _ => (0ul, 0ul),
                };
                if (length == 0)
                {
                    continue;
                }

                if (length - 1 > ulong.MaxValue - start)
                {
                    Error(IgvmHost.Any, $"{directive.Type} at 0x{start:X} has 0x{length:X} bytes and leaves the address space", directive);
                    continue;
                }

                // KVM puts the VMSAs of all vCPUs at one address.
                if (start != HostProfile.KvmVmsaGpa || directive is not IgvmVpContext)
                {
                    ranges.Add((start, start + (length - 1), MaskOf(directive)!.Value, directive));
                }
            }

            ranges.Sort(static (x, y) => x.Start.CompareTo(y.Start));
            Span<ulong> ends = stackalloc ulong[32];
            uint seen = 0;
            foreach ((ulong start, ulong end, uint mask, IgvmHeader header) in ranges)
            {
                bool overlaps = false;
                for (int bit = 0; bit < 32; bit++)
                {
                    if ((mask >> bit & 1) != 0)
                    {
                        overlaps |= (seen >> bit & 1) != 0 && start <= ends[bit];
                        ends[bit] = (seen >> bit & 1) != 0 ? Math.Max(ends[bit], end) : end;
                    }
                }

                seen |= mask;
                if (overlaps)
                {
                    Error(IgvmHost.Any, $"{header.Type} at 0x{start:X} overlaps an earlier address range of the file", header);
                }
            }
        }

        private void CheckParameters()
        {
            var inserted = new HashSet<uint>();
            foreach (IgvmDirective directive in _file.Directives)
            {
                if (directive is IgvmParameterInsert insert)
                {
                    inserted.Add(insert.AreaIndex);
                }
                else if (directive is IgvmParameterUsage usage)
                {
                    ulong length = _areas[usage.AreaIndex].ByteLength;
                    uint needed = usage.Kind switch
                    {
                        IgvmParameterKind.VpCount or IgvmParameterKind.EnvironmentInfo => 4,
                        IgvmParameterKind.MemoryMap => 48,
                        IgvmParameterKind.MmioRanges => 32,
                        _ => 1,
                    };
                    if (needed > length || usage.ByteOffset > length - needed)
                    {
                        Error(IgvmHost.Any, $"{usage.Kind} is wanted at offset 0x{usage.ByteOffset:X} of an area of 0x{length:X} bytes; it needs at least {needed}", directive);
                    }
                }
            }

            foreach (IgvmParameterArea area in _areas.Values)
            {
                if (!inserted.Contains(area.Index))
                {
                    Warning(IgvmHost.Any, $"parameter area {area.Index} is never inserted; so the guest does not see it", area);
                }
            }
        }

        private void CheckSnp()
        {
            ulong? policy = _file.FindGuestPolicy(_snp!.CompatibilityMask);
            if (policy is null)
            {
                Warning(IgvmHost.Any, $"the file has no guest policy for SEV-SNP; hosts take one of their own", null);
            }
            else if ((policy & PolicyReservedOne) == 0)
            {
                Error(IgvmHost.Any, $"the guest policy is 0x{policy:X}; bit 17 must be set", null);
            }

            if (_file.Initializations.OfType<IgvmGuestPolicy>().Count(IsForSnp) > 1)
            {
                Warning(IgvmHost.Any, $"the file has several guest policies for SEV-SNP; hosts differ in which one they take", null);
            }

            var indices = new HashSet<ushort>();
            foreach (IgvmVpContext context in _contexts)
            {
                Vmsa vmsa = VmsaPage.Read(context.Data.Span);
                if (!indices.Add(context.VpIndex))
                {
                    Error(IgvmHost.Any, $"the file has two VP_CONTEXTs for vCPU {context.VpIndex} of SEV-SNP", context);
                }

                if (((SevFeatures)vmsa.SevFeatures & SevFeatures.SnpActive) == 0 || (vmsa.Efer & EferSvme) == 0)
                {
                    Error(IgvmHost.Any, $"SEV_FEATURES and EFER of the VMSA of vCPU {context.VpIndex} are 0x{vmsa.SevFeatures:X} and 0x{vmsa.Efer:X}; wanted are bit 0 (SNP active) and bit 12 (SVME) set", context);
                }

                if (context.Gpa % LargePageSize == 0)
                {
                    Warning(IgvmHost.Any, $"the VMSA of vCPU {context.VpIndex} is at 0x{context.Gpa:X}, a multiple of 2 MiB, which some processors mishandle", context);
                }
            }

            if (!indices.Contains(0))
            {
                Error(IgvmHost.Any, $"the file has no VP_CONTEXT for vCPU 0 of SEV-SNP", null);
            }

            int blocks = 0;
            foreach (IgvmSnpIdBlock block in _file.Directives.OfType<IgvmSnpIdBlock>().Where(IsForSnp))
            {
                if (++blocks > 1)
                {
                    Error(IgvmHost.Any, $"the file has several ID blocks for SEV-SNP", block);
                }

                if (block.Version != 1 || block.IdKeyAlgorithm != 1 || block.IdPublicKey.Curve != IgvmSnpPublicKey.P384)
                {
                    Error(IgvmHost.Any, $"the ID block has version {block.Version}, key algorithm {block.IdKeyAlgorithm} and curve {block.IdPublicKey.Curve}; wanted are 1, 1 and 2", block);
                }

                if ((block.AuthorKeyEnabled != 0) != (block.AuthorPublicKey.Curve != 0))
                {
                    Warning(IgvmHost.Any, $"the ID block has author_key_enabled {block.AuthorKeyEnabled} and an author key of curve {block.AuthorPublicKey.Curve}; hosts look at one or the other", block);
                }
            }

            foreach (IgvmPageData page in _file.Directives.OfType<IgvmPageData>().Where(IsForSnp))
            {
                if ((page.Flags & IgvmPageDataFlags.Is2MBPage) != 0 && !page.Data.IsEmpty)
                {
                    Warning(IgvmHost.Any, $"the 2-MiB page at 0x{page.Gpa:X} has 4096 bytes of data, as loaders read; the rest is zeroes", page);
                }
            }
        }

        private void CheckInsertOrder(IgvmHost host)
        {
            bool pages = false;
            foreach (IgvmDirective directive in _file.Directives)
            {
                pages |= directive is IgvmPageData && IsForSnp(directive);
                if (pages && directive is IgvmParameterInsert insert && IsForSnp(insert))
                {
                    Warning(host, $"the parameter insert at 0x{insert.Gpa:X} follows a page; QEMU launches it before the run of pages that precedes it, which changes the launch digest", insert);
                }
            }
        }

        private void CheckKvmVmsas(IgvmHost host, HostProfile profile)
        {
            foreach (IgvmVpContext context in _contexts)
            {
                CheckKvmAddress(host, context);
                foreach (string violation in KvmVmsaRules.FindViolations(VmsaPage.Read(context.Data.Span)))
                {
                    Error(host, $"{violation}", context);
                }

                CheckFeatures(host, context, profile);
            }

            if (_contexts.Count > 1 && !profile.MeasuresEveryVcpu)
            {
                Warning(host, $"the file has {_contexts.Count} VP_CONTEXTs for SEV-SNP; an SVSM starts with one and creates the others itself", null);
            }
        }

        private void CheckKvmAddress(IgvmHost host, IgvmVpContext context)
        {
            if (context.Gpa != HostProfile.KvmVmsaGpa)
            {
                Error(host, $"the VMSA of vCPU {context.VpIndex} is at 0x{context.Gpa:X}; KVM puts it at 0x{HostProfile.KvmVmsaGpa:X}", context);
            }
        }

        private void CheckFeatures(IgvmHost host, IgvmVpContext context, HostProfile profile)
        {
            var features = (SevFeatures)VmsaPage.Read(context.Data.Span).SevFeatures;
            SevFeatures refused = features & ~profile.AcceptedFeatures;
            if (refused != 0)
            {
                Error(host, $"SEV_FEATURES of vCPU {context.VpIndex} is 0x{(ulong)features:X}; the host does not have {refused} (0x{(ulong)refused:X})", context);
            }
        }

        private void Error(IgvmHost host, FormattableString reason, IgvmHeader? header) => List.Add(new IgvmFinding(IgvmFindingSeverity.Error, host, Text(reason), header));

        private void Warning(IgvmHost host, FormattableString reason, IgvmHeader? header) => List.Add(new IgvmFinding(IgvmFindingSeverity.Warning, host, Text(reason), header));
    }
}
