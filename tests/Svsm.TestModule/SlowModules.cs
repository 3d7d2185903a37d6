// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Modules that take their time.

using System;
using System.Diagnostics;
using System.Threading;
using Svsm.Core;
using Svsm.Wire;

namespace Svsm.TestModule;

/// <summary>A module that never gets ready: it sleeps.</summary>
[SvsmProtocol(0x8000_0003)]
public sealed class SleepingModule : SvsmModule
{
    protected override void Start() => Thread.Sleep(TimeSpan.FromDays(1));

    protected override SvsmResult Handle(in SvsmRequest request) => SvsmResultCode.Success;
}

/// <summary>A module for the place of the one that attests: computes for two seconds, whatever is asked, and refuses.</summary>
[SvsmProtocol(0x8000_0004)]
public sealed class SlowAttestingModule : SvsmModule
{
    /// <summary>What it takes.</summary>
    public static readonly TimeSpan Time = TimeSpan.FromSeconds(2);

    protected override SvsmResult Handle(in SvsmRequest request)
    {
        for (long start = Stopwatch.GetTimestamp(); Stopwatch.GetElapsedTime(start) < Time;)
        {
        }

        Log.Information("refused, at last");
        return SvsmResultCode.InvalidParameter;
    }
}
