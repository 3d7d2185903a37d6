// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;

namespace Svsm.Modules.Vtpm.Tests;

/// <summary>A platform on which time flies, so that what makes RSA keys meets its end soon, and every run does the same.</summary>
internal sealed class HurriedPlatform : ITpmClock, ITpmEntropy, ITpmStorage
{
    private long _now;

    /// <summary>What is stored; empty: nothing.</summary>
    internal byte[] Stored { get; set; } = [];

    public long Milliseconds => _now += 1_000;

    public bool TryFill(Span<byte> buffer)
    {
        buffer.Fill(0x5A);
        return true;
    }

    public TpmStorageResult Read(out byte[] content)
    {
        content = Stored;
        return Stored.Length == 0 ? TpmStorageResult.Absent : TpmStorageResult.Done;
    }

    public TpmStorageResult Write(ReadOnlySpan<byte> content)
    {
        Stored = content.ToArray();
        return TpmStorageResult.Done;
    }
}
