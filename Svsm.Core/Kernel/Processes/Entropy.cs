// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Random numbers of the processor, and of nobody else: the host could choose what it supplies. RDSEED where the CPUID page has it, else RDRAND.
// Bounded retries, and a test of repetition on the fly: a generator that is stuck gives the same word twice, a good one does so once in 2^64 pairs.
// A failure is an answer; nothing of what was drawn before it is used. Source: NIST SP 800-90B, 4.4.1 (repetition count test); AMD64 Architecture
// Programmer's Manual, volume 3, RDRAND and RDSEED.

using System;
using System.Buffers.Binary;
using Svsm.Kernel.Snp;
using Svsm.Platform;

namespace Svsm.Kernel.Processes;

/// <summary>The processor's instructions; the tests have others.</summary>
internal interface IRandomInstructions
{
    /// <summary>RDSEED may be used.</summary>
    bool HasSeed { get; }

    /// <summary>RDSEED.</summary>
    bool TryReadSeed(out ulong value);

    /// <summary>RDRAND.</summary>
    bool TryReadRandom(out ulong value);
}

/// <summary>Draws random bytes.</summary>
internal static class Entropy
{
    /// <summary>Tries for one word. Manuals promise success within 10 for RDRAND; RDSEED may starve longer when all CPUs draw.</summary>
    public const int MaxTries = 1024;

    /// <summary>Fills a buffer.</summary>
    /// <param name="source">The instructions.</param>
    /// <param name="destination">The buffer; zero after a failure.</param>
    /// <returns>False: the processor has none, or repeats itself.</returns>
    public static bool TryFill<TSource>(ref TSource source, Span<byte> destination)
        where TSource : IRandomInstructions
    {
        // The first word is compared with one that is thrown away.
        bool isGood = TryDraw(ref source, out ulong last);
        Span<byte> rest = destination;
        Span<byte> word = stackalloc byte[sizeof(ulong)];
        while (isGood && !rest.IsEmpty)
        {
            isGood = TryDraw(ref source, out ulong next) && next != last;
            last = next;
            BinaryPrimitives.WriteUInt64LittleEndian(word, next);
            int length = Math.Min(rest.Length, sizeof(ulong));
            word.Slice(0, length).CopyTo(rest);
            rest = rest.Slice(length);
        }

        word.Clear();
        if (!isGood)
        {
            destination.Clear();
        }

        return isGood;
    }

    private static bool TryDraw<TSource>(ref TSource source, out ulong value)
        where TSource : IRandomInstructions
    {
        for (int i = 0; i < MaxTries; i++)
        {
            if (source.HasSeed ? source.TryReadSeed(out value) : source.TryReadRandom(out value))
            {
                return true;
            }
        }

        value = 0;
        return false;
    }
}

/// <summary>The processor.</summary>
internal struct ProcessorRandom : IRandomInstructions
{
    private const uint EbxSeed = 1u << 18;

    private static bool s_hasSeed;

    /// <inheritdoc/>
    public readonly bool HasSeed => s_hasSeed;

    /// <summary>Looks at what the processor has.</summary>
    public static void Initialize(in CpuidTable cpuid) => s_hasSeed = (cpuid.Get(CpuidTable.ExtendedFeatures, 0).Ebx & EbxSeed) != 0;

    /// <inheritdoc/>
    public readonly bool TryReadSeed(out ulong value) => X64.TryReadSeed(out value);

    /// <inheritdoc/>
    public readonly bool TryReadRandom(out ulong value) => X64.TryReadRandom(out value);
}
