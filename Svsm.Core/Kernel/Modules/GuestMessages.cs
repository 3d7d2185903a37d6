// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// What the kernel keeps of the messages to the security processor, for the module that makes them: so that a module which ends in the middle, is
// started anew, or is taken over by an attacker cannot have two messages encrypted under one number of one key. That would give the key away.
//
//   a request page comes     its number must be the one that is due, its key that of VMPL0. It is kept, and from here on no other bytes go out
//                            under this number
//   the host is busy         the very bytes may come again, and do not have to
//   the host answers         the answer is copied once, whatever it is; the next number is due
//   anything else            the key is given up: nobody knows whether the security processor has counted
//
// The kernel knows nothing of the contents: whether an answer is one, the module finds out by the key. Free of hardware.
// Source of the header and of the rules for numbers: SEV Secure Nested Paging Firmware ABI Specification (56860), "Guest Messages", as Linux
// drivers/virt/coco/sev-guest/sev-guest.c has them; of the exits: GHCB specification (56421), "SNP Guest Request", "SNP Extended Guest Request".

using System;
using System.Runtime.InteropServices;
using Svsm.Kernel.Memory;
using Svsm.Wire;

namespace Svsm.Kernel.Modules;

/// <summary>What became of a request.</summary>
internal enum GuestMessageResult : byte
{
    /// <summary>There is an answer.</summary>
    Answered,

    /// <summary>The same bytes may come again.</summary>
    Busy,

    /// <summary>The key is given up.</summary>
    Refused,

    /// <summary>It is not the request that is due, or not the one in flight. Nothing was sent.</summary>
    NotSent,

    /// <summary>The key was given up before. Nothing was sent.</summary>
    NoKey,
}

/// <summary>The way to the security processor.</summary>
internal interface IGuestMessagePort
{
    /// <summary>Has the host hand a request over.</summary>
    /// <param name="request">A page.</param>
    /// <param name="response">A page: gets the answer, as it is, if there is one.</param>
    /// <param name="certificates">Gets certificates; empty: they are not asked for.</param>
    /// <param name="status">The host's word: an error of the security processor in bits 31:0, of the host above.</param>
    /// <returns>False: the host did not do it at all, it says.</returns>
    bool TrySend(ReadOnlySpan<byte> request, Span<byte> response, Span<byte> certificates, out ulong status);
}

/// <summary>The state of messages under the key of VMPL0. The kernel has one.</summary>
internal unsafe struct GuestMessages
{
    /// <summary>Bytes of private memory: the last request, the last answer, certificates.</summary>
    public const int MemoryLength = (2 * Page.Size) + SecurityProcessorOffset.MaxCertificates;

    private const int SequenceOffset = 0x20;
    private const int KeyIndexOffset = 0x3C;
    private const int HostErrorShift = 32;
    private const ulong HostBusy = 2;
    private const ulong NumbersOfAnExchange = 2;

    // SAFETY (whole struct): whoever makes it gives memory and a key that exist as long as it does.
    private readonly byte* _memory;
    private readonly Bytes32* _key;
    private ulong _sequence;
    private SecurityProcessorFlags _flags;
    private uint _certificateLength;

    /// <summary>Starts with the first number.</summary>
    /// <param name="memory"><see cref="MemoryLength"/> bytes of zeroes.</param>
    /// <param name="key">The key of VMPL0, where it is given up. All zero: there is none.</param>
    public GuestMessages(byte* memory, Bytes32* key)
    {
        _memory = memory;
        _key = key;
        _sequence = 1;
        int bits = 0;
        foreach (byte part in (ReadOnlySpan<byte>)(*key))
        {
            bits |= part;
        }

        _flags = bits == 0 ? SecurityProcessorFlags.None : SecurityProcessorFlags.HasKey;
    }

    /// <summary>The request that was sent last.</summary>
    public readonly Span<byte> Request => new(_memory, Page.Size);

    /// <summary>The answer that came last.</summary>
    public readonly Span<byte> Response => new(_memory + Page.Size, Page.Size);

    /// <summary>Certificates that came with it.</summary>
    public readonly Span<byte> Certificates => CertificateBuffer.Slice(0, (int)_certificateLength);

    private readonly Span<byte> CertificateBuffer => new(_memory + (2 * Page.Size), SecurityProcessorOffset.MaxCertificates);

    /// <summary>Copies the state out, the key with it.</summary>
    /// <param name="state">Gets it. The caller clears the copy.</param>
    public readonly void CopyState(out SecurityProcessorState state)
    {
        state = new SecurityProcessorState { Sequence = _sequence, Flags = _flags, CertificateLength = _certificateLength };
        if ((_flags & SecurityProcessorFlags.HasKey) != 0)
        {
            state.Key = *_key;
        }
    }

    /// <summary>Sends a request.</summary>
    /// <param name="port">The way.</param>
    /// <param name="request">The page. The caller's own copy: it does not change.</param>
    /// <param name="wantsCertificates">The host is asked for certificates.</param>
    public GuestMessageResult Send<TPort>(ref TPort port, ReadOnlySpan<byte> request, bool wantsCertificates)
        where TPort : IGuestMessagePort
    {
        if ((_flags & SecurityProcessorFlags.HasKey) == 0)
        {
            return GuestMessageResult.NoKey;
        }

        if ((_flags & SecurityProcessorFlags.InFlight) != 0)
        {
            if (!request.SequenceEqual(Request))
            {
                return GuestMessageResult.NotSent;
            }
        }
        else
        {
            _ = MemoryMarshal.TryRead(request.Slice(SequenceOffset), out ulong sequence);
            if (sequence != _sequence || request[KeyIndexOffset] != 0)
            {
                return GuestMessageResult.NotSent;
            }

            // The number is used from here on, whether or not anything leaves.
            request.CopyTo(Request);
            _flags |= SecurityProcessorFlags.InFlight;
        }

        Response.Clear();
        CertificateBuffer.Clear();
        _certificateLength = 0;
        bool isAnswered = false;
        ulong status = 0;
        if (wantsCertificates)
        {
            // A host that has too many certificates, or no such request, says so without the security processor: the very request goes without.
            isAnswered = port.TrySend(request, Response, CertificateBuffer, out status) && status == 0;
            _certificateLength = isAnswered ? (uint)SecurityProcessorOffset.MaxCertificates : 0;
        }

        if (!isAnswered && status >> HostErrorShift != HostBusy && (uint)status == 0)
        {
            isAnswered = port.TrySend(request, Response, default, out status) && status == 0;
        }

        if (isAnswered)
        {
            _flags &= ~SecurityProcessorFlags.InFlight;
            _sequence += NumbersOfAnExchange;
            if (_sequence > ulong.MaxValue - NumbersOfAnExchange)
            {
                Wipe();
            }

            return GuestMessageResult.Answered;
        }

        Response.Clear();
        CertificateBuffer.Clear();
        if (status == HostBusy << HostErrorShift)
        {
            return GuestMessageResult.Busy;
        }

        Wipe();
        return GuestMessageResult.Refused;
    }

    /// <summary>Gives the key up.</summary>
    public void Wipe()
    {
        ((Span<byte>)(*_key)).Clear();
        _flags = SecurityProcessorFlags.None;
    }
}
