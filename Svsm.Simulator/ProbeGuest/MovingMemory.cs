// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// A guest that is moved while it runs: all vCPUs write their pages over and over, and look each time whether there is what they have written last. A page that was
// copied at the wrong moment, or not at all, is found on the other machine; so is a vCPU that is not where it was. The first vCPU tells the rounds that it has
// made, calls the SVSM, and looks whether time goes on. It ends when somebody types a q.
//
// A page has its generation in its first quadword, and in every other one a value that depends on page, generation and place. Some pages are written in
// every round, most seldom: so there are hot and cold ones. Or all of them are hot, and only a few of their words are used, which is fast.
//
// A guest with more than one vCPU has given the second one a VMSA before, and has not deleted it, as firmware does: it moves as well.
//
// SAFETY (whole type): the pages were validated; each is written by one vCPU.

using System.Threading;
using Svsm.Platform;
using Svsm.Wire;

namespace Svsm.ProbeGuest;

internal static unsafe class MovingMemory
{
    private const uint Words = 0x1000 / sizeof(ulong);
    private const uint WordsOfFast = 8;
    private const uint RoundsOfALine = 4;
    private const uint RoundsOfAFastLine = 64;

    // One page in so many is written in every round; of the others one in so many.
    private const uint HotEvery = 16;
    private const uint ColdEvery = 8;

    private static uint s_pages;
    private static uint s_words;
    private static bool s_isFast;
    private static uint s_wrong;
    private static bool s_ends;

    /// <summary>Writes until it is told to end, and ends the VM.</summary>
    /// <param name="pages">How many pages, at most those of <see cref="TestMemory"/>.</param>
    /// <param name="isFast">Of each page a few words, and all pages in every round.</param>
    public static void Run(uint pages, bool isFast)
    {
        (s_pages, s_words, s_isFast) = (pages, isFast ? WordsOfFast : Words, isFast);
        Probe.True("moving: memory"u8, (pages + 1) * 0x1000ul <= TestMemory.Length && TestMemory.TryTake(TestMemory.Base, (int)pages + 1));
        ulong old = TestMemory.PageAt((int)pages);
        ulong start = 0;
        if (Cpus.Count > 1)
        {
            Cpus.FillVmsa(1, old);
            start = ((Vmsa*)old)->Rip;
            Probe.Result("moving: VMSA that is replaced"u8, Cpus.Create(old, Cpus.AreaOf(1), 1), SvsmResultCode.Success);
        }

        Probe.Result("moving: vCPUs"u8, Cpus.StartAll(), SvsmResultCode.Success);
        Cpus.RunOnAll(&Write);
        Probe.Equal("moving: pages that are not as they were written"u8, s_wrong, 0);
        if (Cpus.Count > 1)
        {
            Probe.Result("moving: VMSA that was replaced"u8, Calls.Core(CoreCall.DeleteVcpu, old), SvsmResultCode.Success);
            Probe.Equal("moving: its contents"u8, ((Vmsa*)old)->Rip, start);
        }

        Probe.Finish();
    }

    private static void Write(int cpu)
    {
        uint count = (uint)Cpus.Count;
        ulong time = X64.ReadTimeStampCounter();
        for (uint page = (uint)cpu; page < s_pages; page += count)
        {
            Fill(page, 1);
        }

        for (uint round = 1; !Volatile.Read(ref s_ends); round++)
        {
            for (uint page = (uint)cpu; page < s_pages; page += count)
            {
                bool isWritten = s_isFast || page / count % HotEvery == 0 || (page + round) % ColdEvery == 0;
                if (!IsRight(page, out ulong generation))
                {
                    Interlocked.Increment(ref s_wrong);
                }
                else if (isWritten)
                {
                    Fill(page, generation + 1);
                }
            }

            if (cpu == 0)
            {
                Tell(round, ref time);
            }
        }
    }

    private static void Tell(uint round, ref ulong time)
    {
        ulong now = X64.ReadTimeStampCounter();
        SvsmCall call = new() { Rcx = (ulong)SvsmProtocol.Core << 32 | 1 };
        bool isRight = now > time && Calls.Call(SvsmProtocol.Core, (uint)CoreCall.QueryProtocol, ref call) == SvsmResultCode.Success && call.Rcx != 0;
        time = now;
        if (!isRight)
        {
            Interlocked.Increment(ref s_wrong);
        }

        if (round % (s_isFast ? RoundsOfAFastLine : RoundsOfALine) == 0)
        {
            Text<Com1>.Write("moving: round "u8);
            Text<Com1>.WriteDecimal(round);
            Text<Com1>.Write(", wrong "u8);
            Text<Com1>.WriteDecimal(s_wrong);
            Text<Com1>.WriteLine();
        }

        if (Com1.TryRead(out byte typed) && typed == (byte)'q')
        {
            Volatile.Write(ref s_ends, true);
        }
    }

    private static void Fill(uint page, ulong generation)
    {
        ulong* words = WordsOf(page);
        for (uint i = 1; i < s_words; i++)
        {
            words[i] = ValueOf(page, generation, i);
        }

        words[0] = generation;
    }

    private static bool IsRight(uint page, out ulong generation)
    {
        ulong* words = WordsOf(page);
        generation = words[0];
        for (uint i = 1; i < s_words; i++)
        {
            if (words[i] != ValueOf(page, generation, i))
            {
                return false;
            }
        }

        return generation != 0;
    }

    private static ulong* WordsOf(uint page) => (ulong*)TestMemory.PageAt((int)page);

    private static ulong ValueOf(uint page, ulong generation, uint word) => ((((ulong)page << 32) | word) * 0x9E37_79B9_7F4A_7C15) ^ (generation * 0xC2B2_AE3D_27D4_EB4F);
}
