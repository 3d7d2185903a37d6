// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Calls with random registers. Addresses are random, or in places where a check might slip: memory that is not validated, the SVSM's
// own, the edges of the address space. None of them is memory of this guest, so no call may take one: whatever the SVSM answers,
// it must not be success for a call that takes an address, and it must still answer afterwards.

using System;
using Svsm.Platform;
using Svsm.Wire;

namespace Svsm.ProbeGuest;

internal static unsafe class FuzzCalls
{
    private const int Count = 4000;
    private const ulong Seed = 0x9E37_79B9_7F4A_7C15;

    public static void Run(in ProbeStart start)
    {
        ref SecretsPage secrets = ref *(SecretsPage*)start.SecretsPage;
        ulong state = Seed;
        uint wrong = 0;
        for (int i = 0; i < Count; i++)
        {
            ulong choice = Next(ref state);
            SvsmProtocol protocol = (choice & 3) != 0 ? SvsmProtocol.Core : (SvsmProtocol)((choice >> 8) & 7);
            uint call = (choice & 4) != 0 ? (uint)(choice >> 16) & 7 : (uint)(choice >> 16);
            SvsmCall registers = new()
            {
                Rax = ((ulong)protocol << 32) | call,
                Rcx = Address(ref state, in secrets, start.EncryptionMask),
                Rdx = Address(ref state, in secrets, start.EncryptionMask),
                R8 = Next(ref state),
                R9 = Next(ref state),
            };
            Calls.CallOnce(ref registers);
            if (!IsAcceptable(protocol, call, (SvsmResultCode)registers.Rax))
            {
                wrong++;
                Text<Com1>.Write("probe: call 0x"u8);
                Text<Com1>.WriteHex(((ulong)protocol << 32) | call);
                Text<Com1>.Write(" answered 0x"u8);
                Text<Com1>.WriteHex(registers.Rax);
                Text<Com1>.WriteLine();
            }
        }

        Probe.Equal("fuzz: answers that cannot be right"u8, wrong, 0);
        Probe.Result("fuzz: the SVSM still answers"u8, Calls.Core(CoreCall.QueryProtocol, 1), SvsmResultCode.Success);
        Probe.Summarize();
        Machine.Exit(Probe.HasFailed ? ExitStatus.Failed : ExitStatus.Passed);
    }

    private static bool IsAcceptable(SvsmProtocol protocol, uint call, SvsmResultCode result)
    {
        if (protocol != SvsmProtocol.Core)
        {
            return result == SvsmResultCode.UnsupportedProtocol;
        }

        return (CoreCall)call switch
        {
            CoreCall.RemapCallingArea or CoreCall.PValidate or CoreCall.CreateVcpu or CoreCall.DeleteVcpu => result is SvsmResultCode.InvalidAddress or SvsmResultCode.InvalidParameter,
            CoreCall.QueryProtocol => result == SvsmResultCode.Success,
            CoreCall.ConfigureVtom => result is SvsmResultCode.Success or SvsmResultCode.InvalidRequest,
            _ => result == SvsmResultCode.UnsupportedCall,
        };
    }

    private static ulong Address(ref ulong state, in SecretsPage secrets, ulong encryptionMask)
    {
        ulong value = Next(ref state);
        ulong kind = value >> 61;
        value &= (1ul << 61) - 1;
        return kind switch
        {
            0 => Next(ref state) | (1ul << 63),
            1 => secrets.SvsmBase + (value % secrets.SvsmSize),
            2 => (secrets.SvsmBase + (value % secrets.SvsmSize)) & ~0xFFFul,
            3 => TestMemory.Base + (value % TestMemory.Length),
            4 => (TestMemory.Base + (value % TestMemory.Length)) & ~0xFFFul,
            5 => (secrets.SvsmCallingArea | encryptionMask) + (value & 0xFFF),
            6 => ulong.MaxValue - (value & 0xFFFF),
            _ => 0xA_0000 + (value % 0x6_0000),
        };
    }

    // xorshift64*, S. Vigna: good enough to be everywhere, and the same in every run.
    private static ulong Next(ref ulong state)
    {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        return state * 0x2545_F491_4F6C_DD1D;
    }
}
