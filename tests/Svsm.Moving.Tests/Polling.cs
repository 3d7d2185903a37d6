// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// How long these tests wait for anything, and how: two machines share a processor with whatever else runs.

using System;
using System.Diagnostics;
using System.Globalization;
using System.Threading.Tasks;
using Xunit;

namespace Svsm.Moving.Tests;

internal static class Polling
{
    private const int AskEvery = 100;

    /// <summary>Far beyond what anything takes on a busy machine: minutes in SVSM_TEST_PATIENCE, or 20.</summary>
    public static TimeSpan Patience { get; } = TimeSpan.FromMinutes(int.Parse(Environment.GetEnvironmentVariable("SVSM_TEST_PATIENCE") ?? "20", CultureInfo.InvariantCulture));

    /// <summary>Waits until something is so.</summary>
    /// <param name="what">It, for the message when it does not come.</param>
    /// <param name="isSo">Whether it is.</param>
    /// <param name="askAsync">Asks for it, every two seconds.</param>
    public static async Task UntilAsync(string what, Func<bool> isSo, Func<Task>? askAsync = null)
    {
        long start = Stopwatch.GetTimestamp();
        for (int i = 1; !isSo(); i++)
        {
            Assert.True(Stopwatch.GetElapsedTime(start) < Patience, $"{what}: waited for in vain");
            await Task.Delay(20, TestContext.Current.CancellationToken);
            if (i % AskEvery == 0 && askAsync is not null)
            {
                await askAsync();
            }
        }
    }
}
