// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Diagnostics;
using System.Threading;

namespace Svsm.Modules.Storage;

/// <summary>A host that lets a guest ask the security processor only so often, and says that it is busy in between.</summary>
internal static class BusyHost
{
    private const int PauseMilliseconds = 50;

    /// <summary>Asks until the host is not busy, or for so long.</summary>
    /// <param name="isBusy">Asks once.</param>
    /// <param name="milliseconds">How long.</param>
    public static void Ask(Func<bool> isBusy, int milliseconds)
    {
        long start = Stopwatch.GetTimestamp();
        while (isBusy() && Stopwatch.GetElapsedTime(start).TotalMilliseconds < milliseconds)
        {
            Thread.Sleep(PauseMilliseconds);
        }
    }
}
