// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System.Collections.Generic;
using System.Collections.Immutable;
using Svsm.Wire;

namespace Svsm.Measurement;

// An accumulator that writes down what it does, and hashes a page of zeroes once.
internal sealed class MeasurementLog
{
    private static readonly byte[] s_zeroes = new byte[LaunchDigestAccumulator.PageSize];
    private static readonly LaunchDigest s_zeroesHash = LaunchDigestAccumulator.HashContents(SnpPageType.Normal, s_zeroes);

    private readonly LaunchDigestAccumulator _accumulator = new();
    private readonly List<MeasuredPage> _pages = [];

    public void Add(SnpPageType type, ulong gpa, System.ReadOnlySpan<byte> contents = default)
    {
        LaunchDigest hash = _accumulator.Update(type, gpa, contents);
        _pages.Add(new MeasuredPage(gpa, type, hash, _accumulator.Digest));
    }

    public void AddNormalZeroes(ulong gpa)
    {
        _accumulator.Update(SnpPageType.Normal, gpa, s_zeroesHash);
        _pages.Add(new MeasuredPage(gpa, SnpPageType.Normal, s_zeroesHash, _accumulator.Digest));
    }

    public MeasurementResult ToResult() => new(_accumulator.Digest, [.. _pages]);
}
