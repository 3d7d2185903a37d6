// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Random calls to the test module on all vCPUs at once: what it copies, changes and logs is named by addresses that are anything. Each vCPU draws
// the same ones in every run.
//
//   shared pages   16 of the guest. Calls read and write them; the last vCPU validates and rescinds half of them all the time, and another one
//                  changes their contents, so that pages go and bytes change in the middle of a copy
//   kept pages     2 that no call names: they keep a pattern
//   others         the SVSM's memory, no memory, the edges of the address space
//
// A vCPU drops calls as well: it makes one once, and goes on with another. Answers must be among those that are possible; SUCCESS never where an
// address is not the guest's.
//
// SAFETY (whole type): the jobs are static methods, which every vCPU can call; pages are touched only where they stay validated.

using System;
using System.Threading;
using Svsm.Platform;
using Svsm.Wire;

namespace Svsm.ProbeGuest;

internal static unsafe class FuzzModule
{
    private const SvsmProtocol Protocol = (SvsmProtocol)0x8000_0001;
    private const ulong PageBytes = 0x1000;
    private const int SteadyPages = 8;
    private const int ChangingPages = 8;
    private const int KeptPages = 2;
    private const int Pages = SteadyPages + ChangingPages + KeptPages;
    private const uint MaxCall = 6;
    private const ulong MaxLength = 0x2800;

    private static uint s_perCpu;
    private static uint s_wrong;
    private static uint s_answered;
    private static int s_working;
    private static ulong s_seed;
    private static ulong s_svsmBase;

    /// <summary>Makes so many calls, and ends the VM.</summary>
    public static void Run(in ProbeStart start, uint count, uint seed)
    {
        s_svsmBase = ((SecretsPage*)start.SecretsPage)->SvsmBase;
        s_seed = seed;
        Probe.True("fuzz-module: memory"u8, TestMemory.TryTake(TestMemory.Base, Pages));

        for (int page = SteadyPages + ChangingPages; page < Pages; page++)
        {
            new Span<ulong>((void*)TestMemory.PageAt(page), 512).Fill(Pattern(page));
        }

        Probe.Result("fuzz-module: vCPUs"u8, Cpus.StartAll(), SvsmResultCode.Success);
        int callers = Math.Max(1, Cpus.Count - 1);
        s_working = callers;
        s_perCpu = (count + (uint)callers - 1) / (uint)callers;
        Cpus.RunOnAll(&Work);
        bool isKept = true;
        for (int page = SteadyPages + ChangingPages; page < Pages; page++)
        {
            isKept &= !new ReadOnlySpan<ulong>((void*)TestMemory.PageAt(page), 512).ContainsAnyExcept(Pattern(page));
        }

        Probe.True("fuzz-module: pages that no call named are as they were"u8, isKept);
        Probe.Equal("fuzz-module: wrong answers"u8, s_wrong, 0);
        Probe.True("fuzz-module: some calls did something"u8, s_answered != 0);
        Probe.Finish();
    }

    private static ulong Pattern(int page) => TestMemory.PageAt(page) ^ 0x5A5A_0000_0000_A5A5;

    private static void Work(int cpu)
    {
        FuzzCalls.Generator random = new((s_seed * 0x9E37_79B9_7F4A_7C15) + ((ulong)cpu * 0xD1B5_4A32_D192_ED03) + 1);
        if (cpu != 0 && cpu == Cpus.Count - 1)
        {
            while (Volatile.Read(ref s_working) != 0)
            {
                Disturb(random.Next());
            }

            return;
        }

        uint wrong = 0;
        for (uint i = 0; i < s_perCpu; i++)
        {
            wrong += Check(ref random) ? 0u : 1;
        }

        Interlocked.Add(ref s_wrong, wrong);
        Interlocked.Decrement(ref s_working);
    }

    // Takes a page away, gives it back, or changes bytes of one that stays.
    private static void Disturb(ulong random)
    {
        ulong page = TestMemory.PageAt(SteadyPages + (int)(random >> 8 & (ChangingPages - 1)));
        switch (random & 3)
        {
            case 0:
                _ = Calls.PValidateOne(page, false, true, false);
                break;
            case 1:
                _ = Calls.PValidateOne(page, true, true, false);
                break;
            default:
                *(ulong*)(TestMemory.PageAt((int)(random >> 16 & (SteadyPages - 1))) + (random >> 24 & 0xFF8)) = random;
                break;
        }
    }

    private static bool Check(ref FuzzCalls.Generator random)
    {
        uint call = (uint)(random.Next() % (MaxCall + 1));
        call = call >= MaxCall - 1 ? 77 : call;
        ulong length = Length(random.Next());
        SvsmCall registers = new()
        {
            Rcx = Address(random.Next()),
            Rdx = length,
            R8 = Address(random.Next()),
            R9 = random.Next(),
        };
        SvsmCall asked = registers;
        if ((random.Next() & 15) == 0)
        {
            // Once, and never again.
            registers.Rax = ((ulong)Protocol << 32) | call;
            Calls.CallOnce(ref registers);
            return IsPossible(call, (SvsmResultCode)registers.Rax) || registers.Rax == (ulong)SvsmResultCode.Incomplete;
        }

        SvsmResultCode result = Calls.Call(Protocol, call, ref registers);
        if (result == SvsmResultCode.Success)
        {
            Interlocked.Increment(ref s_answered);
        }

        bool names = call switch
        {
            2 => IsMine(asked.Rcx, 4),
            3 => length == 0 || (IsMine(asked.Rcx, length) && IsMine(asked.R8, length)),
            4 => length == 0 || IsMine(asked.Rcx, length),
            _ => true,
        };
        return IsPossible(call, result) && (names || result != SvsmResultCode.Success);
    }

    private static bool IsPossible(uint call, SvsmResultCode result) => call switch
    {
        1 => result == SvsmResultCode.Success,
        2 => result is SvsmResultCode.Success or SvsmResultCode.InvalidAddress,
        3 or 4 => result is SvsmResultCode.Success or SvsmResultCode.InvalidAddress or SvsmResultCode.UnsupportedCall,
        _ => result == SvsmResultCode.UnsupportedCall,
    };

    // Whether all of it is memory that the guest may have: RAM below the SVSM's.
    private static bool IsMine(ulong address, ulong length) => address < s_svsmBase && length <= s_svsmBase - address;

    private static ulong Length(ulong random) => (random & 7) switch
    {
        0 => random >> 3,
        1 => 0,
        _ => (random >> 8) % MaxLength,
    };

    private static ulong Address(ulong random)
    {
        ulong offset = random >> 16;
        return (random & 15) switch
        {
            0 => s_svsmBase + (offset % 0x80_0000),
            1 => offset << 20,
            2 => 0 - (offset & 0xFFF),
            3 => (1ul << 47) + (offset & 0xFFFF),
            4 => s_svsmBase - (offset & 0x1FFF),
            _ => TestMemory.Base + (offset % (((ulong)(SteadyPages + ChangingPages) * PageBytes) - (2 * MaxLength))),
        };
    }
}
