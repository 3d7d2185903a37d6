// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// What the module that keeps the store asks of the one that attests (ModuleMessageKind.Key): a key that the security processor derives for VMPL0, and
// reports about VMPL0. Little-endian.
//
//   request   00 u32 kind | 04 u32 SVN | 08 u64 fields | 10 u64 TCB | 18 data of the report (48)
//   answer    00 u32 status | 04 zero (4), and if it is Done:
//             a key     08 key (32)
//             a report  08 report (1184) | certificates, as the host gave them, up to the end
//
// What a request does not need is zero. The key is one of the chip (VCEK) for VMPL0; a guest cannot have it from the security processor. Whatever the
// fields say, firmware mixes in HOST_DATA, and the digest of the author key, of the ID key without one, or nothing without an ID block.
//
// A report has the 48 bytes and 16 zeroes as REPORT_DATA: nobody who asks here gets a report that passes for one about the services of the image, which
// has SHA-512 of a nonce and their manifests there, and no hash is known that ends with 16 zeroes.
//
// Source of the fields: AMD SEV-SNP ABI specification (56860), MSG_KEY_REQ, GUEST_FIELD_SELECT; of what is always mixed in: amd/AMD-ASPFW, sev_mcmd.c.

using System;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace Svsm.Wire;

/// <summary>48 bytes.</summary>
[InlineArray(48)]
public struct Bytes48
{
    private byte _element0;
}

/// <summary>What is wanted.</summary>
public enum KeyRequestKind : uint
{
    /// <summary>A key.</summary>
    Derive = 1,

    /// <summary>A report.</summary>
    Report = 2,
}

/// <summary>What a key depends on, besides chip, VMPL, HOST_DATA and the keys of the ID block: <c>GUEST_FIELD_SELECT</c>.</summary>
[Flags]
public enum DerivedKeyFields : ulong
{
    /// <summary>Nothing else.</summary>
    None = 0,

    /// <summary>The guest's policy.</summary>
    Policy = 1,

    /// <summary>The image id of the ID block.</summary>
    ImageId = 2,

    /// <summary>The family id of the ID block.</summary>
    FamilyId = 4,

    /// <summary>The launch digest.</summary>
    Measurement = 8,

    /// <summary>A security version, at most the guest's own.</summary>
    Svn = 0x10,

    /// <summary>A TCB version, at most the chip's own.</summary>
    Tcb = 0x20,

    /// <summary>All of them.</summary>
    All = 0x3F,
}

/// <summary>What became of a request.</summary>
public enum KeyStatus : uint
{
    /// <summary>It is there.</summary>
    Done = 0,

    /// <summary>The host is busy: the same request later.</summary>
    Busy = 1,

    /// <summary>The security processor does not do it: the SVN is higher than the guest's, a part of the TCB higher than the chip's, or the chip has no VCEK for guests.</summary>
    Refused = 2,

    /// <summary>The key of VMPL0 is lost until the VM is launched again, and with it all of this.</summary>
    NoKey = 3,

    /// <summary>It is no request.</summary>
    BadRequest = 4,
}

/// <summary>A request.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 8, Size = Length)]
public struct KeyRequest
{
    /// <summary>Bytes of it.</summary>
    public const int Length = 0x48;

    /// <summary>What is wanted.</summary>
    public KeyRequestKind Kind;

    /// <summary>Derive, with <see cref="DerivedKeyFields.Svn"/>: the security version.</summary>
    public uint Svn;

    /// <summary>Derive: what the key depends on.</summary>
    public DerivedKeyFields Fields;

    /// <summary>Derive, with <see cref="DerivedKeyFields.Tcb"/>: the TCB version.</summary>
    public ulong Tcb;

    /// <summary>Report: the first bytes of its REPORT_DATA.</summary>
    public Bytes48 ReportData;
}

/// <summary>The head of an answer.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 8, Size = Length)]
public struct KeyAnswer
{
    /// <summary>Bytes of it.</summary>
    public const int Length = 8;

    /// <summary>Bytes of a key.</summary>
    public const int KeyLength = 32;

    /// <summary>Bytes of a report.</summary>
    public const int ReportLength = 0x4A0;

    /// <summary>Bytes of a report's data that the one who asks decides about.</summary>
    public const int ReportDataLength = 48;

    /// <summary>What became of the request.</summary>
    public KeyStatus Status;

    /// <summary>Zero.</summary>
    public uint Reserved;
}
