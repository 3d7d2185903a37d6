// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Keys that the security processor derives for VMPL0 from the chip's own key.
//
//   request   00 u32 root: bit 0 0, the chip; 2:1 1, VCEK | 04 zero (4) | 08 u64 fields | 10 u32 VMPL | 14 u32 SVN | 18 u64 TCB
//   answer    00 u32 status | 04 zero (28) | 20 key (32)
//
// VCEK, whatever the platform prefers: a VLEK is the same on all machines of a cloud, and comes and goes as its host likes, and so would the key. The root
// key of the VM is made anew for each launch without a migration agent.
//
// The process has the key of VMPL0, so whoever reads its memory can ask for these keys himself: copies that cannot be cleared do no more harm.
//
// Source: AMD SEV-SNP ABI specification (56860), MSG_KEY_REQ and MSG_KEY_RSP, as collected from Linux include/uapi/linux/sev-guest.h; bits 2:1 from
// amd/AMD-ASPFW, sev_guest.h.

using System;
using System.Buffers.Binary;
using System.Security.Cryptography;
using Svsm.Wire;

namespace Svsm.Modules.Attestation;

internal sealed class KeySource(GuestRequests requests)
{
    public const byte RequestType = 3;

    private const int RequestLength = 32;
    private const int AnswerLength = 64;
    private const int KeyOffset = 0x20;
    private const uint RootVcek = 1 << 1;

    /// <summary>Gets a key.</summary>
    /// <param name="fields">What it depends on.</param>
    /// <param name="svn">The security version, if it does.</param>
    /// <param name="tcb">The TCB version, if it does.</param>
    /// <param name="key">Gets the key, 32 bytes, if there is one. The caller clears it.</param>
    public GuestRequestResult TryDerive(DerivedKeyFields fields, uint svn, ulong tcb, Span<byte> key)
    {
        Span<byte> payload = stackalloc byte[RequestLength];
        payload.Clear();
        BinaryPrimitives.WriteUInt32LittleEndian(payload, RootVcek);
        BinaryPrimitives.WriteUInt64LittleEndian(payload[0x08..], (ulong)fields);
        BinaryPrimitives.WriteUInt32LittleEndian(payload[0x10..], GuestRequests.Vmpl0);
        BinaryPrimitives.WriteUInt32LittleEndian(payload[0x14..], svn);
        BinaryPrimitives.WriteUInt64LittleEndian(payload[0x18..], tcb);
        GuestRequestResult result = requests.TryExchange(RequestType, payload, withCertificates: false, out byte[] answer, out _);
        if (result != GuestRequestResult.Success)
        {
            return result;
        }

        try
        {
            uint status = answer.Length < sizeof(uint) ? uint.MaxValue : BinaryPrimitives.ReadUInt32LittleEndian(answer);
            if (status != 0)
            {
                return requests.Refuse("key", status);
            }

            // A key of zeroes is none: anybody has that.
            if (answer.Length != AnswerLength || !answer.AsSpan(KeyOffset).ContainsAnyExcept((byte)0))
            {
                return requests.GiveUp("an answer has no key");
            }

            answer.AsSpan(KeyOffset).CopyTo(key);
            return GuestRequestResult.Success;
        }
        finally
        {
            CryptographicOperations.ZeroMemory(answer);
        }
    }
}
