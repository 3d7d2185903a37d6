// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Diagnostics;
using System.Security.Cryptography;

namespace Svsm.Modules.Vtpm.Desk;

/// <summary>Clock and entropy of the machine that the server runs on.</summary>
public sealed class DeskPlatform : ITpmClock, ITpmEntropy
{
    private readonly Stopwatch _clock = Stopwatch.StartNew();

    /// <inheritdoc/>
    public long Milliseconds => _clock.ElapsedMilliseconds;

    /// <inheritdoc/>
    public bool TryFill(Span<byte> buffer)
    {
        RandomNumberGenerator.Fill(buffer);
        return true;
    }
}
