// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The part of the AMD security processor that a launch meets: LAUNCH_START, LAUNCH_UPDATE, LAUNCH_FINISH.
// These are commands of one guest in this order: after LAUNCH_FINISH the guest runs, and the firmware answers the other two with INVALID_GUEST_STATE.
// It computes the launch digest on its own, from the updates that are really made and without the SDK's measurement library:
// two derivations of one rule from the specification find each other's mistakes.
//
// Each update replaces the digest: LD = SHA-384(PAGE_INFO), from 48 zero bytes. PAGE_INFO is 0x70 bytes:
//   00 current LD (48) | 30 SHA-384 of the contents for NORMAL and VMSA, else zeroes (48) | 60 u16 0x70 | 62 u8 page type |
//   63 five zero bytes (IMI page, VMPL permissions) | 68 u64 GPA
//
// Source: AMD SEV-SNP ABI specification (56860), as collected from virtee/sev and sev-snp-measure.

using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using System.Runtime.InteropServices;
using System.Security.Cryptography;
using Svsm.Diagnostics;
using Svsm.Igvm;
using Svsm.Wire;

namespace Svsm.Simulator;

internal sealed class SecurityProcessor
{
    public const int PageSize = 4096;

    public const int DigestLength = 48;

    // Version of the ABI that the simulated firmware implements; a guest may ask for no newer one.
    public const byte AbiMajor = 1;
    public const byte AbiMinor = 55;

    private const int PageInfoLength = 0x70;
    private const ulong PolicyReservedOne = 1ul << 17;
    private const int PolicyFirstReservedZero = 26;

    // Family 0x17, model 1, stepping 2 in the form of CPUID function 1: QEMU's CPU model EPYC, which the simulated machine is.
    public const uint FamilyModelStepping = 0x0080_0F12;

    private const uint SecretsVersion = 3;

    private static readonly byte[] s_zeroes = new byte[PageSize];

    private readonly ulong _policy;
    private readonly byte[] _digest = new byte[DigestLength];
    private readonly HashSet<ulong> _assigned = [];
    private bool _isFinished;

    // VMPCK0 to VMPCK3, fresh: nothing but this guest and the simulated firmware knows them.
    private readonly byte[][] _messageKeys;

    // LAUNCH_START.
    public SecurityProcessor(ulong policy)
    {
        if ((policy & PolicyReservedOne) == 0)
        {
            throw SvsmDiagnostics.LaunchRefused.Error($"guest policy 0x{policy:X}", "bit 17 set, as in 0x30000");
        }

        if (policy >> PolicyFirstReservedZero != 0)
        {
            throw SvsmDiagnostics.LaunchRefused.Error($"guest policy 0x{policy:X}", $"bits 63 to {PolicyFirstReservedZero} zero");
        }

        byte minor = (byte)policy;
        byte major = (byte)(policy >> 8);
        if (major > AbiMajor || (major == AbiMajor && minor > AbiMinor))
        {
            throw SvsmDiagnostics.LaunchRefused.Error($"guest policy 0x{policy:X}, which asks for firmware ABI {major}.{minor}", $"{AbiMajor}.{AbiMinor} or older");
        }

        _policy = policy;
        _messageKeys = new byte[GuestContext.VmplCount][];
        for (int i = 0; i < _messageKeys.Length; i++)
        {
            _messageKeys[i] = RandomNumberGenerator.GetBytes(GuestContext.KeyLength);
        }
    }

    public ReadOnlyMemory<byte> Digest => _digest;

    // LAUNCH_UPDATE. Contents are 4096 bytes, or empty for zeroes.
    public void Update(SnpPageType type, ulong gpa, ReadOnlySpan<byte> contents)
    {
        RequireLaunching("a launch update");

        // A VMSA has no place in the guest's address space: on KVM all have one address.
        if (type != SnpPageType.Vmsa && !_assigned.Add(gpa))
        {
            throw SvsmDiagnostics.LaunchRefused.Error($"a second launch update of GPA 0x{gpa:X}, which is assigned already", "one update per page");
        }

        Span<byte> pageInfo = stackalloc byte[PageInfoLength];
        pageInfo.Clear();
        _digest.CopyTo(pageInfo);
        if (type is SnpPageType.Normal or SnpPageType.Vmsa)
        {
            SHA384.HashData(contents.IsEmpty ? s_zeroes : contents, pageInfo[0x30..]);
        }

        BinaryPrimitives.WriteUInt16LittleEndian(pageInfo[0x60..], PageInfoLength);
        pageInfo[0x62] = (byte)type;
        BinaryPrimitives.WriteUInt64LittleEndian(pageInfo[0x68..], gpa);
        SHA384.HashData(pageInfo, _digest);
    }

    // LAUNCH_FINISH. What is kept of the guest.
    public GuestContext Finish(IgvmSnpIdBlock? idBlock, ReadOnlyMemory<byte> hostData = default)
    {
        RequireLaunching("a second end of the launch");
        if (idBlock is not null)
        {
            IdBlockVerifier.Verify(idBlock, _digest, _policy);
        }

        _isFinished = true;
        return new GuestContext { Policy = _policy, Digest = _digest, MessageKeys = _messageKeys, IdBlock = idBlock, HostData = hostData };
    }

    // The contents of a secrets page: the same for every one of a guest.
    public byte[] CreateSecretsPage()
    {
        var secrets = new SecretsPage { Version = SecretsVersion, FamilyModelStepping = FamilyModelStepping };
        _messageKeys[0].CopyTo(secrets.Vmpck0);
        _messageKeys[1].CopyTo(secrets.Vmpck1);
        _messageKeys[2].CopyTo(secrets.Vmpck2);
        _messageKeys[3].CopyTo(secrets.Vmpck3);
        byte[] page = new byte[PageSize];
        MemoryMarshal.Write(page, in secrets);
        return page;
    }
    private void RequireLaunching(string what)
    {
        if (_isFinished)
        {
            throw SvsmDiagnostics.LaunchRefused.Error($"{what} of a guest that runs already", "updates and one end, in this order");
        }
    }
}
