// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// What a guest passes with a call of the attestation protocol, for AttestationModule: structures in its memory, little-endian. The module copies
// one, checks it, and uses the copy.
//
//   00 u64 report      address of a page      08 u32 bytes    0C zero (4)
//   10 u64 nonce       address                18 u16 bytes    1A zero (6)
//   20 u64 manifest    address of a page      28 u32 bytes    2C zero (4)
//   30 u64 certificates address of a page     38 u32 bytes    3C zero (4)
//   only for a single service: 40 GUID (16) | 50 u32 version of its manifest | 54 zero (4)
//
// Source: Secure VM Service Module specification (58019), tables 11 and 13, as collected from COCONUT-SVSM kernel/src/protocols/attest.rs and Linux
// arch/x86/include/asm/sev.h (struct svsm_attest_call). The byte order of the GUID is that of UEFI: Linux copies its guid_t.

using System;
using System.Runtime.InteropServices;
using Svsm.Core;
using Svsm.Wire;

namespace Svsm.Modules.Attestation;

/// <summary>The structure of <c>SVSM_ATTEST_SERVICES</c>.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 8, Size = Length)]
internal struct AttestServicesRequest
{
    public const int Length = 0x40;

    // The only size. The report has the hash of nonce and manifest in one piece: a guest that chose the size could put a manifest of its own making
    // into the end of a longer nonce, and the report would pass for one about both.
    public const int NonceLength = 64;

    // Bits of a guest-physical address.
    private const ulong AddressLimit = 1UL << 52;

    public ulong Report;
    public uint ReportSize;
    public uint Reserved0;
    public ulong Nonce;
    public ushort NonceSize;
    public ushort Reserved1;
    public uint Reserved2;
    public ulong Manifest;
    public uint ManifestSize;
    public uint Reserved3;
    public ulong Certificates;
    public uint CertificatesSize;
    public uint Reserved4;

    // Certificates are left out by a size of zero, and their address then means nothing.
    public readonly bool WantsCertificates => CertificatesSize != 0;

    // Everything that can be said without looking at memory.
    public readonly SvsmResultCode Check()
    {
        if ((Reserved0 | Reserved1 | Reserved2 | Reserved3 | Reserved4) != 0 || NonceSize != NonceLength
            || new PhysicalAddress(Nonce).PageOffset > PhysicalAddress.PageSize - NonceLength
            || !new PhysicalAddress(Report).IsPageAligned || !new PhysicalAddress(Manifest).IsPageAligned
            || (WantsCertificates && !new PhysicalAddress(Certificates).IsPageAligned))
        {
            return SvsmResultCode.InvalidParameter;
        }

        if (!IsRange(Report, ReportSize) || !IsRange(Manifest, ManifestSize) || !IsRange(Nonce, NonceSize) || (WantsCertificates && !IsRange(Certificates, CertificatesSize)))
        {
            return SvsmResultCode.InvalidAddress;
        }

        return Overlap(Report, ReportSize, Manifest, ManifestSize)
            || (WantsCertificates && (Overlap(Report, ReportSize, Certificates, CertificatesSize) || Overlap(Manifest, ManifestSize, Certificates, CertificatesSize)))
            ? SvsmResultCode.InvalidParameter
            : SvsmResultCode.Success;
    }

    private static bool IsRange(ulong address, uint size) => address <= AddressLimit - size;

    private static bool Overlap(ulong first, uint firstSize, ulong second, uint secondSize) => first < second + secondSize && second < first + firstSize;
}

/// <summary>The structure of <c>SVSM_ATTEST_SINGLE_SERVICE</c>.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 8, Size = Length)]
internal struct AttestSingleServiceRequest
{
    public const int Length = 0x58;

    public AttestServicesRequest Buffers;
    public Bytes16 Service;
    public uint Version;
    public uint Reserved;

    public readonly Guid ServiceId => new((ReadOnlySpan<byte>)Service);

    public readonly SvsmResultCode Check() => Reserved != 0 ? SvsmResultCode.InvalidParameter : Buffers.Check();
}
