// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Predicts the launch digest of an IGVM file on a host. For the build (reference values) and for whoever checks one.
//
// What is measured, besides the rules of the file format:
//   QEMU queues a parameter insert at once and a run of pages only when the run ends; so an insert that follows a run is measured before it.
//     A run: page directives one right after the other in the file, addresses consecutive, equal mask, flags, type, and all with or all without data.
//   2-MiB pages count as 512 pages, the first of which has the data of the file and the others zeroes.
//   A page without data is a NORMAL page of zeroes, or type ZERO on Vanadium.
//   A parameter insert counts as UNMEASURED pages, all pages of the area, lowest first.
//   KVM (QEMU, Vanadium) measures VMSAs last, all at 0xFFFFFFFFF000, in vCPU order; Hyper-V at the place in the file.
//   Stock QEMU measures one VMSA for each vCPU. For a vCPU without context in the file, KVM's reset state is assumed: CS:IP F000:FFF0,
//     RDX the CPUID signature of the processor model, SEV_FEATURES of vCPU 0. Not confirmed on hardware.
//   The shared flag is ignored by QEMU (the page is measured); other hosts do not launch such a page.
// Policy, ID block, host data and required memory are not part of the digest.
//
// Source: QEMU backends/igvm.c and target/i386/sev.c; coconut-svsm tools/igvmmeasure; igvm crate 0.4.0, measurement/snp.rs.

using System;
using System.Collections.Generic;
using System.Globalization;
using Svsm.Igvm;
using Svsm.Igvm.Imaging;
using Svsm.Wire;

namespace Svsm.Measurement;

/// <summary>Predicts launch digests of IGVM files.</summary>
public static class LaunchMeasurement
{
    private const ulong PageSize = 4096;
    private const ulong LargePageSize = 0x20_0000;

    // 4 GiB of launched memory. An area of parameters can claim any length; the log has an entry for each page.
    private const ulong MaximumPages = 1 << 20;

    /// <summary>Predicts the launch digest.</summary>
    /// <param name="file">The file.</param>
    /// <param name="flavour">The host that launches it.</param>
    /// <param name="vcpuCount">Number of vCPUs, 1 to 65536. Changes the digest on stock QEMU only.</param>
    /// <param name="cpuSignature">CPUID signature of the processor model. Changes the digest on stock QEMU with several vCPUs only.</param>
    /// <returns>The digest and every page that went into it.</returns>
    /// <exception cref="MeasurementException">The file cannot be launched by this host with this number of vCPUs.</exception>
    /// <exception cref="ArgumentOutOfRangeException">The flavour is unknown.</exception>
    public static MeasurementResult Measure(IgvmFile file, HostFlavour flavour, int vcpuCount = 1, uint cpuSignature = CpuSignature.EpycV4)
    {
        ArgumentNullException.ThrowIfNull(file);
        HostProfile host = HostProfile.For(flavour);
        if (vcpuCount is < 1 or > 65536)
        {
            throw new MeasurementException(MeasurementError.BadVcpuCount, $"The number of vCPUs is {vcpuCount}; it must be 1 to 65536.");
        }

        IgvmPlatform platform = file.FindPlatform(IgvmPlatformType.SevSnp) ??
            throw new MeasurementException(MeasurementError.NoSnpPlatform, "The file has no SEV-SNP platform header; only SEV-SNP launches have a launch digest.");

        var run = new Run(file, host, platform.CompatibilityMask);
        run.AddDirectives();
        if (host.VmsaAtKvmGpa)
        {
            run.AddKvmVmsas(vcpuCount, cpuSignature);
        }

        return run.Log.ToResult();
    }

    private sealed class Run(IgvmFile file, HostProfile host, uint mask)
    {
        private readonly Dictionary<uint, ulong> _areas = [];
        private readonly SortedDictionary<ushort, IgvmVpContext> _contexts = [];

        // QEMU's pending run of pages; other hosts take each page at once.
        private readonly List<IgvmPageData> _pending = [];
        private readonly bool _queuesRuns = host.Flavour is HostFlavour.Qemu or HostFlavour.StockQemu;
        private int _pendingLast;
        private ulong _pageCount;

        public MeasurementLog Log { get; } = new();

        public void AddDirectives()
        {
            for (int i = 0; i < file.Directives.Length; i++)
            {
                switch (file.Directives[i])
                {
                    case IgvmParameterArea area:
                        _areas[area.Index] = area.ByteLength;
                        break;
                    case IgvmParameterInsert insert when (insert.CompatibilityMask & mask) != 0:
                        AddInsert(insert);
                        break;
                    case IgvmPageData page when (page.CompatibilityMask & mask) != 0:
                        if (_pending.Count != 0 && !Continues(_pending[^1], page, i))
                        {
                            Flush();
                        }

                        _pending.Add(page);
                        _pendingLast = i;
                        if (!_queuesRuns)
                        {
                            Flush();
                        }

                        break;
                    case IgvmVpContext context when (context.CompatibilityMask & mask) != 0:
                        AddContext(context);
                        break;
                    default:
                        break;
                }
            }

            Flush();
        }

        public void AddKvmVmsas(int vcpuCount, uint cpuSignature)
        {
            if (!_contexts.TryGetValue(0, out IgvmVpContext? first))
            {
                throw new MeasurementException(MeasurementError.BadVpContext, "The file has no SEV-SNP VP_CONTEXT for vCPU 0.");
            }

            if (!host.MeasuresEveryVcpu)
            {
                foreach (IgvmVpContext context in _contexts.Values)
                {
                    AddVmsa(context);
                }

                return;
            }

            byte[]? reset = null;
            for (int i = 0; i < vcpuCount; i++)
            {
                if (_contexts.Remove((ushort)i, out IgvmVpContext? context))
                {
                    AddVmsa(context);
                    continue;
                }

                if (reset is null)
                {
                    var features = (SevFeatures)VmsaPage.Read(first.Data.Span).SevFeatures;
                    reset = VmsaPage.ToArray(KvmResetVmsa.Create(KvmResetVmsa.ResetVector, features, cpuSignature));
                }

                Log.Add(SnpPageType.Vmsa, HostProfile.KvmVmsaGpa, reset);
            }

            foreach (ushort index in _contexts.Keys)
            {
                throw new MeasurementException(MeasurementError.BadVpContext, $"The file has a VP_CONTEXT for vCPU {index}; the guest has {vcpuCount}. Start it with more vCPUs.");
            }
        }

        private void AddVmsa(IgvmVpContext context) => Log.Add(SnpPageType.Vmsa, HostProfile.KvmVmsaGpa, context.Data.Span);

        private void AddContext(IgvmVpContext context)
        {
            if (!_contexts.TryAdd(context.VpIndex, context))
            {
                throw new MeasurementException(MeasurementError.BadVpContext, $"The file has two VP_CONTEXTs for vCPU {context.VpIndex} of SEV-SNP.");
            }

            if (!host.VmsaAtKvmGpa)
            {
                Log.Add(SnpPageType.Vmsa, context.Gpa, context.Data.Span);
            }
        }

        private void AddInsert(IgvmParameterInsert insert)
        {
            // Files that were parsed or can be written have no insert without its area.
            ulong length = _areas.TryGetValue(insert.AreaIndex, out ulong declared)
                ? declared
                : throw new MeasurementException(MeasurementError.BadPage, $"The file inserts parameter area {insert.AreaIndex}, which it does not declare.");
            Reserve(insert.Gpa, length);
            for (ulong at = 0; at < length; at += PageSize)
            {
                Log.Add(SnpPageType.Unmeasured, insert.Gpa + at);
            }
        }

        private bool Continues(IgvmPageData last, IgvmPageData next, int index) =>
            _pendingLast == index - 1 && last.CompatibilityMask == next.CompatibilityMask && last.Flags == next.Flags && last.DataType == next.DataType &&
            last.Data.IsEmpty == next.Data.IsEmpty && last.Gpa + Size(last) == next.Gpa;

        private void Flush()
        {
            foreach (IgvmPageData page in _pending)
            {
                AddPage(page);
            }

            _pending.Clear();
        }

        private void AddPage(IgvmPageData page)
        {
            if ((page.Flags & IgvmPageDataFlags.Shared) != 0 && !_queuesRuns)
            {
                return;
            }

            SnpPageType type = page.DataType switch
            {
                IgvmPageDataType.Secrets => SnpPageType.Secrets,
                IgvmPageDataType.CpuidData or IgvmPageDataType.CpuidXf => SnpPageType.Cpuid,
                _ when (page.Flags & IgvmPageDataFlags.Unmeasured) != 0 => SnpPageType.Unmeasured,
                _ when page.Data.IsEmpty && host.NativeZeroPages => SnpPageType.Zero,
                _ => SnpPageType.Normal,
            };
            Reserve(page.Gpa, Size(page));
            for (ulong at = 0; at < Size(page); at += PageSize)
            {
                if (type != SnpPageType.Normal)
                {
                    Log.Add(type, page.Gpa + at);
                }
                else if (at != 0 || page.Data.IsEmpty)
                {
                    Log.AddNormalZeroes(page.Gpa + at);
                }
                else
                {
                    Log.Add(type, page.Gpa, page.Data.Span);
                }
            }
        }

        private static ulong Size(IgvmPageData page) => (page.Flags & IgvmPageDataFlags.Is2MBPage) != 0 ? LargePageSize : PageSize;

        private void Reserve(ulong gpa, ulong length)
        {
            ulong pages = length / PageSize;
            if (pages > MaximumPages - _pageCount || (length != 0 && length - 1 > ulong.MaxValue - gpa))
            {
                throw new MeasurementException(
                    MeasurementError.BadPage,
                    string.Create(CultureInfo.InvariantCulture, $"The file launches 0x{length:X} bytes at 0x{gpa:X}; the end must be inside the address space, and all pages together at most {MaximumPages}."));
            }

            _pageCount += pages;
        }
    }
}
