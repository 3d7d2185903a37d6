// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Garbage for the host: what a broken or hostile guest sends through the GHCB. The run may end at any of it, with a report; the host must not.

using System.Threading;
using Svsm.Platform;
using Svsm.Wire;
using Generator = Svsm.ProbeGuest.FuzzCalls.Generator;

namespace Svsm.ProbeGuest;

internal static unsafe class FuzzHost
{
    // SAFETY (whole type): the GHCB page belongs to this vCPU, and is shared.

    private const int Words = 0x1000 / sizeof(ulong);
    private const int RaxIndex = 0x1F8 / sizeof(ulong);
    private const int RcxIndex = 0x308 / sizeof(ulong);
    private const int RdxIndex = 0x310 / sizeof(ulong);
    private const int ExitCodeIndex = 0x390 / sizeof(ulong);
    private const int Info1Index = 0x398 / sizeof(ulong);
    private const int Info2Index = 0x3A0 / sizeof(ulong);
    private const int BitmapIndex = 0x3F0 / sizeof(ulong);
    private const int VersionIndex = 0xFF8 / sizeof(ulong);
    private const ulong Version2 = 2ul << 16;
    private const uint MsrsPerRange = 0x2000;

    /// <summary>Reads and writes every MSR, and some beyond, by requests to the host.</summary>
    public static void Msrs(uint seed)
    {
        Generator random = new(seed);
        X64.WriteMsr(SevMsr.Ghcb, (ulong)Cpus.Current.Ghcb);
        Range(ref random, 0);
        Range(ref random, 0xC000_0000);
        Range(ref random, 0xC001_0000);
        Range(ref random, 0x4000_0000);
        Text<Com1>.WriteLine("probe: all MSRs asked for"u8);
        Machine.Exit(ExitStatus.Passed);
    }

    /// <summary>Makes so many requests by page whose every field is garbage, or nearly right.</summary>
    public static void Pages(uint count, uint seed)
    {
        Generator random = new(seed);
        ulong* ghcb = Cpus.Current.Ghcb;
        X64.WriteMsr(SevMsr.Ghcb, (ulong)ghcb);
        for (uint i = 0; i < count; i++)
        {
            for (int word = 0; word < Words; word++)
            {
                Volatile.Write(ref ghcb[word], Value(ref random));
            }

            if (random.Below(4) != 0)
            {
                Volatile.Write(ref ghcb[BitmapIndex], ulong.MaxValue);
                Volatile.Write(ref ghcb[BitmapIndex + 1], ulong.MaxValue);
                Volatile.Write(ref ghcb[VersionIndex], Version2);
                Volatile.Write(ref ghcb[ExitCodeIndex], Code(ref random));
            }

            X64.VmgExit();
        }

        Text<Com1>.WriteLine("probe: all requests made"u8);
        Machine.Exit(ExitStatus.Passed);
    }

    /// <summary>Asks by a register whose value is garbage. Most values no host answers.</summary>
    public static void Register(uint seed)
    {
        Generator random = new(seed);
        for (int i = 0; i < 100; i++)
        {
            Machine.MsrExchange(random.Next());
        }

        Machine.Exit(ExitStatus.StillHere);
    }

    private static void Range(ref Generator random, uint first)
    {
        ulong* ghcb = Cpus.Current.Ghcb;
        for (uint msr = first; msr < first + MsrsPerRange; msr++)
        {
            for (ulong write = 0; write < 2; write++)
            {
                Volatile.Write(ref ghcb[RaxIndex], random.Next());
                Volatile.Write(ref ghcb[RcxIndex], msr);
                Volatile.Write(ref ghcb[RdxIndex], random.Next());
                Volatile.Write(ref ghcb[ExitCodeIndex], (ulong)GhcbExitCode.Msr);
                Volatile.Write(ref ghcb[Info1Index], write);
                Volatile.Write(ref ghcb[Info2Index], 0);
                Volatile.Write(ref ghcb[BitmapIndex], ulong.MaxValue);
                Volatile.Write(ref ghcb[BitmapIndex + 1], ulong.MaxValue);
                Volatile.Write(ref ghcb[VersionIndex], Version2);
                X64.VmgExit();
            }
        }
    }

    // Known codes, but those that end the VM.
    private static ulong Code(ref Generator random)
    {
        ulong number = random.Below(24);
        return number < 12 ? 0x8000_0000 + random.Below(0x1A)
            : number < 22 ? 0x6E + random.Below(0x1E)
            : number == 22 ? (ulong)GhcbExitCode.HypervisorFeatures
            : random.Next();
    }

    // Small numbers, addresses that exist, and anything.
    private static ulong Value(ref Generator random) => random.Below(4) switch
    {
        0 => random.Below(16),
        1 => (TestMemory.Base + (random.Below(0x400) << 12)) | (random.Below(8) == 0 ? random.Below(0x1000) : 0),
        2 => 0,
        _ => random.Next(),
    };
}
