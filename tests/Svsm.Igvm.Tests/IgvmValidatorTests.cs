// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Immutable;
using System.Linq;
using Svsm.Igvm.Imaging;
using Svsm.Igvm.Tests.Imaging;
using Svsm.Wire;
using Xunit;

namespace Svsm.Igvm.Tests;

public sealed class IgvmValidatorTests
{
    private const uint Snp = LaunchImageWriter.SnpMask;

    // What is done to a file that no host complains about; who complains then, and a word of the complaint.
    public static TheoryData<string, IgvmHost, IgvmFindingSeverity, Func<IgvmFile, IgvmFile>> Faults { get; } = new()
    {
        { "compatibility mask 0x2", IgvmHost.Any, IgvmFindingSeverity.Warning, file => Add(file, new IgvmRequiredMemory { Gpa = 0, CompatibilityMask = 2, ByteLength = 0x1000 }) },
        { "compatibility mask 0x0", IgvmHost.Any, IgvmFindingSeverity.Warning, file => Add(file, new IgvmRequiredMemory { Gpa = 0, CompatibilityMask = 0, ByteLength = 0x1000 }) },
        { "overlaps", IgvmHost.Any, IgvmFindingSeverity.Error, file => Add(file, Page(0x1_0000)) },
        { "overlaps", IgvmHost.Any, IgvmFindingSeverity.Error, file => Add(file, Page(0x0) with { Flags = IgvmPageDataFlags.Is2MBPage, Data = default }) },
        { "overlaps", IgvmHost.Any, IgvmFindingSeverity.Error, file => Add(file, new IgvmErrorRange { Gpa = TestImages.RegionBase, CompatibilityMask = Snp, ByteLength = 0x1000 }) },
        { "address space", IgvmHost.Any, IgvmFindingSeverity.Error, file => Add(file, new IgvmErrorRange { Gpa = 0xFFFF_FFFF_FFFF_F000, CompatibilityMask = Snp, ByteLength = 0x2000 }) },
        { "area of 0x1000", IgvmHost.Any, IgvmFindingSeverity.Error, file => InsertParameter(file, IgvmParameterKind.VpCount, 0xFFD) },
        { "area of 0x1000", IgvmHost.Any, IgvmFindingSeverity.Error, file => InsertParameter(file, IgvmParameterKind.MemoryMap, 0xFD1) },
        { "never inserted", IgvmHost.Any, IgvmFindingSeverity.Warning, file => InsertFirst(file, new IgvmParameterArea { ByteLength = 0x1000, Index = 55 }) },
        { "no SEV-SNP platform", IgvmHost.Any, IgvmFindingSeverity.Error, _ => TestFiles.Arm },
        { "no guest policy", IgvmHost.Any, IgvmFindingSeverity.Warning, file => file with { Initializations = [] } },
        { "bit 17", IgvmHost.Any, IgvmFindingSeverity.Error, file => file with { Initializations = [new IgvmGuestPolicy { CompatibilityMask = Snp, Policy = 0 }] } },
        { "several guest policies", IgvmHost.Any, IgvmFindingSeverity.Warning, file => file with { Initializations = [file.Initializations[0], file.Initializations[0]] } },
        { "no VP_CONTEXT", IgvmHost.Any, IgvmFindingSeverity.Error, file => file with { Directives = [.. file.Directives.Where(directive => directive is not IgvmVpContext)] } },
        { "two VP_CONTEXTs", IgvmHost.Any, IgvmFindingSeverity.Error, file => Add(file, file.Directives.OfType<IgvmVpContext>().Single()) },
        { "SNP active", IgvmHost.Any, IgvmFindingSeverity.Error, file => SetVmsa(file, vmsa => vmsa with { SevFeatures = 0 }) },
        { "SVME", IgvmHost.Any, IgvmFindingSeverity.Error, file => SetVmsa(file, vmsa => vmsa with { Efer = 0 }) },
        { "2 MiB", IgvmHost.Any, IgvmFindingSeverity.Warning, file => SetContext(file, context => context with { Gpa = 0x4000_0000 }) },
        { "several ID blocks", IgvmHost.Any, IgvmFindingSeverity.Error, file => Add(Add(file, TestFiles.IdBlock), TestFiles.IdBlock) },
        { "ID block has version 2", IgvmHost.Any, IgvmFindingSeverity.Error, file => Add(file, TestFiles.IdBlock with { Version = 2 }) },
        { "author_key_enabled", IgvmHost.Any, IgvmFindingSeverity.Warning, file => Add(file, TestFiles.IdBlock with { AuthorKeyEnabled = 0 }) },
        { "4096 bytes of data", IgvmHost.Any, IgvmFindingSeverity.Warning, file => Add(file, Page(0x4000_0000) with { Flags = IgvmPageDataFlags.Is2MBPage }) },

        { "does not know", IgvmHost.StockQemu, IgvmFindingSeverity.Error, file => InsertParameter(file, IgvmParameterKind.DeviceTree) },
        { "does not know", IgvmHost.StockQemu, IgvmFindingSeverity.Error, file => InsertParameter(file, IgvmParameterKind.Srat) },
        { "does not know", IgvmHost.CoconutQemu, IgvmFindingSeverity.Error, file => InsertParameter(file, IgvmParameterKind.CommandLine) },
        { "does not know", IgvmHost.StockQemu, IgvmFindingSeverity.Error, file => Add(file, new IgvmErrorRange { Gpa = 0, CompatibilityMask = Snp, ByteLength = 0x1000 }) },
        { "does not know", IgvmHost.CoconutQemu, IgvmFindingSeverity.Error, file => file with { Initializations = file.Initializations.Add(new IgvmCorimDocument { CompatibilityMask = Snp, Data = new byte[3] }) } },
        { "11.0", IgvmHost.StockQemu, IgvmFindingSeverity.Warning, file => InsertParameter(file, IgvmParameterKind.Madt) },
        { "11.1.3", IgvmHost.StockQemu, IgvmFindingSeverity.Warning, file => InsertParameter(file, IgvmParameterKind.MemoryMap, 0x100) },
        { "initial data", IgvmHost.CoconutQemu, IgvmFindingSeverity.Warning, file => InsertFirst(file, new IgvmParameterArea { ByteLength = 0x1000, Index = 55, InitialData = TestFiles.Page(1) }) },
        { "marked shared", IgvmHost.StockQemu, IgvmFindingSeverity.Warning, file => Add(file, Page(0x50_0000) with { Flags = IgvmPageDataFlags.Shared }) },
        { "follows a page", IgvmHost.StockQemu, IgvmFindingSeverity.Warning, file => Add(Add(file, new IgvmParameterArea { ByteLength = 0x1000, Index = 55 }), new IgvmParameterInsert { Gpa = 0x50_0000, CompatibilityMask = Snp, AreaIndex = 55 }) },
        { "KVM puts it", IgvmHost.CoconutQemu, IgvmFindingSeverity.Error, file => SetContext(file, context => context with { Gpa = 0x8000 }) },
        { "CR0", IgvmHost.StockQemu, IgvmFindingSeverity.Error, file => SetVmsa(file, vmsa => vmsa with { Cr0 = 0x8000_0031 }) },
        { "CR4", IgvmHost.StockQemu, IgvmFindingSeverity.Error, file => SetVmsa(file, vmsa => vmsa with { Cr4 = 0x20 }) },
        { "DR7", IgvmHost.CoconutQemu, IgvmFindingSeverity.Error, file => SetVmsa(file, vmsa => vmsa with { Dr7 = 0x401 }) },
        { "offset 0xCB", IgvmHost.StockQemu, IgvmFindingSeverity.Error, file => SetVmsa(file, vmsa => vmsa with { Cpl = 3 }) },
        { "RestrictedInjection", IgvmHost.StockQemu, IgvmFindingSeverity.Error, file => SetVmsa(file, vmsa => vmsa with { SevFeatures = 0x9 }) },
        { "ReflectVc", IgvmHost.CoconutQemu, IgvmFindingSeverity.Error, file => SetVmsa(file, vmsa => vmsa with { SevFeatures = 0x5 }) },
        { "creates the others", IgvmHost.CoconutQemu, IgvmFindingSeverity.Warning, file => Add(file, file.Directives.OfType<IgvmVpContext>().Single() with { VpIndex = 1 }) },

        { "must be SevSnp", IgvmHost.CloudHypervisor, IgvmFindingSeverity.Error, file => file with { Platforms = file.Platforms.Insert(0, new IgvmPlatform { CompatibilityMask = 2, PlatformType = IgvmPlatformType.Tdx }) } },
        { "EnvironmentInfo", IgvmHost.CloudHypervisor, IgvmFindingSeverity.Error, file => InsertParameter(file, IgvmParameterKind.EnvironmentInfo) },
        { "ErrorRange", IgvmHost.CloudHypervisor, IgvmFindingSeverity.Error, file => Add(file, new IgvmErrorRange { Gpa = 0, CompatibilityMask = Snp, ByteLength = 0x1000 }) },
        { "CpuidXf", IgvmHost.CloudHypervisor, IgvmFindingSeverity.Error, file => Add(file, Page(0x50_0000) with { DataType = IgvmPageDataType.CpuidXf }) },
        { "has no data", IgvmHost.CloudHypervisor, IgvmFindingSeverity.Warning, file => Add(file, Page(0x50_0000) with { Data = default }) },
        { "first page", IgvmHost.CloudHypervisor, IgvmFindingSeverity.Warning, file => InsertFirst(file, new IgvmParameterArea { ByteLength = 0x2000, Index = 55 }) },
        { "ignored", IgvmHost.CloudHypervisor, IgvmFindingSeverity.Warning, file => Add(file, file.Directives.OfType<IgvmVpContext>().Single() with { VpIndex = 1 }) },

        { "highest VTL 2", IgvmHost.OpenVmm, IgvmFindingSeverity.Error, file => file with { Platforms = [file.Platforms[0] with { HighestVtl = 2 }] } },
        { "guest policy", IgvmHost.OpenVmm, IgvmFindingSeverity.Error, file => file with { Initializations = [] } },
        { "2 VP_CONTEXTs", IgvmHost.OpenVmm, IgvmFindingSeverity.Error, file => Add(file, file.Directives.OfType<IgvmVpContext>().Single() with { VpIndex = 1 }) },
        { "KVM puts it", IgvmHost.OpenVmm, IgvmFindingSeverity.Error, file => SetContext(file, context => context with { Gpa = 0x8000 }) },
        { "AlternateInjection", IgvmHost.OpenVmm, IgvmFindingSeverity.Error, file => SetVmsa(file, vmsa => vmsa with { SevFeatures = 0x11 }) },
        { "VbsMeasurement", IgvmHost.OpenVmm, IgvmFindingSeverity.Error, file => Add(file, TestFiles.Everything.Directives.OfType<IgvmVbsMeasurement>().Single()) },
        {
            "platform Native",
            IgvmHost.OpenVmm,
            IgvmFindingSeverity.Error,
            file => Add(
                file with { Platforms = file.Platforms.Add(new IgvmPlatform { CompatibilityMask = 2, PlatformType = IgvmPlatformType.Native }) },
                new IgvmVpContext { Gpa = 0, CompatibilityMask = 2, Data = new IgvmNativeVpContext().ToPage() })
        },

        { "inside the SVSM's region", IgvmHost.HyperV, IgvmFindingSeverity.Error, file => file },
        { "virtual TOM", IgvmHost.HyperV, IgvmFindingSeverity.Error, file => SetVmsa(file, vmsa => vmsa with { VirtualTom = 1ul << 46 }) },
        { "virtual TOM", IgvmHost.HyperV, IgvmFindingSeverity.Error, file => SetVmsa(file, vmsa => vmsa with { SevFeatures = 3 }) },
        { "PAT", IgvmHost.Vanadium, IgvmFindingSeverity.Warning, file => file },
        { "KVM puts it", IgvmHost.Vanadium, IgvmFindingSeverity.Error, file => SetContext(file, context => context with { Gpa = 0x8000 }) },
    };

    [Fact]
    public void Validate_GoodFile_HasNoFindingsButOfHostsWithAnotherForm()
    {
        ImmutableArray<IgvmFinding> findings = IgvmValidator.Validate(Good());

        Assert.Equal([IgvmHost.HyperV, IgvmHost.Vanadium], findings.Select(finding => finding.Host).Distinct().Order());
    }

    [Theory]
    [MemberData(nameof(Faults))]
    public void Validate_Fault_IsFound(string reason, IgvmHost host, IgvmFindingSeverity severity, Func<IgvmFile, IgvmFile> spoil)
    {
        ImmutableArray<IgvmFinding> findings = IgvmValidator.Validate(spoil(Good()));

        Assert.Contains(findings, finding => finding.Host == host && finding.Severity == severity && finding.Reason.Contains(reason, StringComparison.Ordinal));
    }

    [Fact]
    public void Validate_RelocationOfAnSnpGuest_IsFoundForOpenVmmOnly()
    {
        IgvmFile file = TestFiles.Everything;
        Assert.DoesNotContain(IgvmValidator.Validate(file), finding => finding.Host == IgvmHost.OpenVmm && finding.Reason.Contains("relocate", StringComparison.Ordinal));

        IgvmFile relocated = file with
        {
            Initializations = [.. file.Initializations.Select(header => header is IgvmRelocatableRegion region ? region with { CompatibilityMask = TestFiles.Vsm | TestFiles.Snp } : header)],
        };
        Assert.Contains(IgvmValidator.Validate(relocated), finding => finding.Host == IgvmHost.OpenVmm && finding.Reason.Contains("relocate", StringComparison.Ordinal));
    }

    [Fact]
    public void Validate_PagesOfOtherPlatformsAtOneAddress_AreNoOverlap()
    {
        IgvmFile file = Good();
        file = file with { Platforms = file.Platforms.Add(new IgvmPlatform { CompatibilityMask = 2, PlatformType = IgvmPlatformType.Tdx }) };

        Assert.DoesNotContain(IgvmValidator.Validate(Add(file, Page(0x1_0000) with { CompatibilityMask = 2 })), finding => finding.Host == IgvmHost.Any);
        Assert.Contains(IgvmValidator.Validate(Add(file, Page(0x1_0000) with { CompatibilityMask = 3 })), finding => finding.Host == IgvmHost.Any);
    }

    [Fact]
    public void Validate_ForAFlavour_AsksThatHostOnly()
    {
        IgvmFile file = Add(Good(), Page(0x1_0000));

        Assert.Equal([IgvmHost.Any], IgvmValidator.Validate(file, HostFlavour.StockQemu).Select(finding => finding.Host));
        Assert.Equal([IgvmHost.Any], IgvmValidator.Validate(file, HostFlavour.Qemu).Select(finding => finding.Host));
        Assert.Contains(IgvmHost.HyperV, IgvmValidator.Validate(file, HostFlavour.HyperV).Select(finding => finding.Host));
        Assert.Contains(IgvmHost.Vanadium, IgvmValidator.Validate(file, HostFlavour.Vanadium).Select(finding => finding.Host));
        Assert.Throws<ArgumentOutOfRangeException>(() => IgvmValidator.Validate(file, (HostFlavour)77));
    }

    [Fact]
    public void Validate_ModelThatBreaksTheFormat_Throws() =>
        Assert.Throws<IgvmFormatException>(() => IgvmValidator.Validate(Good() with { Platforms = [] }));

    // For stock QEMU, without a guest and without what Cloud Hypervisor and OpenVMM do not take.
    private static IgvmFile Good()
    {
        var image = new LaunchImage { RegionBase = TestImages.RegionBase, RegionLength = TestImages.RegionLength };
        TestImages.SetRegisters(ref image.Vmsa);
        image.AddParameterPage(TestImages.RegionBase, new LaunchParameter(IgvmParameterKind.VpCount));
        image.AddParameterPage(TestImages.RegionBase + 0x1000, new LaunchParameter(IgvmParameterKind.MemoryMap));
        image.AddData(0x1_0000, TestFiles.Page(1));
        image.AddSecrets(0x1_1000);
        return LaunchImageWriter.Write(image, HostFlavour.StockQemu);
    }

    private static IgvmPageData Page(ulong gpa) => new() { Gpa = gpa, CompatibilityMask = Snp, Data = TestFiles.Page(9) };

    private static IgvmFile Add(IgvmFile file, IgvmDirective directive) => file with { Directives = file.Directives.Add(directive) };

    private static IgvmFile InsertFirst(IgvmFile file, IgvmDirective directive) => file with { Directives = file.Directives.Insert(0, directive) };

    private static IgvmFile InsertParameter(IgvmFile file, IgvmParameterKind kind, uint offset = 0)
    {
        int at = file.Directives.IndexOf(file.Directives.OfType<IgvmParameterUsage>().First());
        return file with { Directives = file.Directives.Insert(at, new IgvmParameterUsage { Kind = kind, AreaIndex = 0, ByteOffset = offset }) };
    }

    private static IgvmFile SetContext(IgvmFile file, Func<IgvmVpContext, IgvmVpContext> change) =>
        file with { Directives = [.. file.Directives.Select(directive => directive is IgvmVpContext context ? change(context) : directive)] };

    private static IgvmFile SetVmsa(IgvmFile file, Func<Vmsa, Vmsa> change) =>
        SetContext(file, context => context with { Data = VmsaPage.ToArray(change(VmsaPage.Read(context.Data.Span))) });
}
