// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Predicts the launch digest of plain OVMF on QEMU/KVM, without IGVM: the firmware's pages, then the sections of its SEV metadata in table
// order, then one VMSA for each vCPU. For cross-checks with other tools, and for guests without an SVSM.
//
// Source: QEMU target/i386/sev.c; sev-snp-measure, whose digests are test vectors here. Not confirmed on hardware.

using System;
using Svsm.Igvm.Imaging;
using Svsm.Wire;

namespace Svsm.Measurement;

/// <summary>Predicts launch digests of plain OVMF guests.</summary>
public static class OvmfMeasurement
{
    /// <summary>The digest after the pages of the firmware file alone.</summary>
    /// <param name="firmware">The firmware.</param>
    /// <returns>The digest so far.</returns>
    public static LaunchDigest MeasurePages(OvmfImage firmware)
    {
        ArgumentNullException.ThrowIfNull(firmware);
        var log = new MeasurementLog();
        AddPages(firmware, log);
        return log.ToResult().Digest;
    }

    /// <summary>Predicts the launch digest on QEMU/KVM.</summary>
    /// <param name="firmware">The firmware; needs SEV metadata.</param>
    /// <param name="vcpuCount">Number of vCPUs, 1 to 65536.</param>
    /// <param name="features">SEV_FEATURES of the guest.</param>
    /// <param name="cpuSignature">CPUID signature of the processor model.</param>
    /// <param name="hashes">Hashes of a directly booted kernel (QEMU's kernel-hashes=on), or null.</param>
    /// <returns>The digest and every page that went into it.</returns>
    /// <exception cref="MeasurementException">The firmware lacks what the launch needs, or the number of vCPUs is out of range.</exception>
    public static MeasurementResult Measure(
        OvmfImage firmware,
        int vcpuCount = 1,
        SevFeatures features = SevFeatures.SnpActive,
        uint cpuSignature = CpuSignature.EpycV4,
        KernelHashes? hashes = null)
    {
        ArgumentNullException.ThrowIfNull(firmware);
        if (vcpuCount is < 1 or > 65536)
        {
            throw new MeasurementException(MeasurementError.BadVcpuCount, $"The number of vCPUs is {vcpuCount}; it must be 1 to 65536.");
        }

        if (firmware.SevSections.IsEmpty)
        {
            throw new MeasurementException(MeasurementError.BadFirmware, "The firmware has no SEV metadata; use an OVMF build with SEV-SNP support.");
        }

        if (vcpuCount > 1 && firmware.ApResetAddress is null)
        {
            throw new MeasurementException(MeasurementError.BadFirmware, $"The firmware does not say where vCPUs start after the first; the guest has {vcpuCount}.");
        }

        var log = new MeasurementLog();
        AddPages(firmware, log);
        AddSections(firmware, hashes, log);
        log.Add(SnpPageType.Vmsa, HostProfile.KvmVmsaGpa, VmsaPage.ToArray(KvmResetVmsa.Create(KvmResetVmsa.ResetVector, features, cpuSignature)));
        if (vcpuCount > 1)
        {
            byte[] other = VmsaPage.ToArray(KvmResetVmsa.Create(firmware.ApResetAddress!.Value, features, cpuSignature));
            for (int i = 1; i < vcpuCount; i++)
            {
                log.Add(SnpPageType.Vmsa, HostProfile.KvmVmsaGpa, other);
            }
        }

        return log.ToResult();
    }

    private static void AddPages(OvmfImage firmware, MeasurementLog log)
    {
        for (int at = 0; at < firmware.Data.Length; at += LaunchDigestAccumulator.PageSize)
        {
            log.Add(SnpPageType.Normal, firmware.BaseAddress + (ulong)at, firmware.Data.Span.Slice(at, LaunchDigestAccumulator.PageSize));
        }
    }

    private static void AddSections(OvmfImage firmware, KernelHashes? hashes, MeasurementLog log)
    {
        bool hashesDone = hashes is null;
        foreach (OvmfSevSection section in firmware.SevSections)
        {
            switch (section.Type)
            {
                case OvmfSevSectionType.Secrets:
                    log.Add(SnpPageType.Secrets, section.Base);
                    break;
                case OvmfSevSectionType.Cpuid:
                    log.Add(SnpPageType.Cpuid, section.Base);
                    break;
                case OvmfSevSectionType.KernelHashes when hashes is not null && firmware.KernelHashTable is OvmfArea area &&
                    area.Base - (area.Base % LaunchDigestAccumulator.PageSize) == section.Base:
                    log.Add(SnpPageType.Normal, section.Base, hashes.ToPage(area));
                    hashesDone = true;
                    break;
                default:
                    for (uint at = 0; at < section.ByteLength; at += LaunchDigestAccumulator.PageSize)
                    {
                        log.Add(SnpPageType.Zero, section.Base + at);
                    }

                    break;
            }
        }

        if (!hashesDone)
        {
            throw new MeasurementException(MeasurementError.BadFirmware, "The firmware has no page for kernel hashes; use a build for measured direct boot (AmdSev).");
        }
    }
}
