// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The probe guest that writes all its memory over and over ("moving:N"), as a test sees it: lines that tell its rounds, and how much was not as it was written.

using System;
using System.Linq;
using System.Threading.Tasks;
using Svsm.Simulator;
using Svsm.Wire;
using Xunit;

namespace Svsm.Moving.Tests;

/// <summary>That guest.</summary>
internal static class MovingGuest
{
    /// <summary>How many lines it has written on a machine.</summary>
    public static int LinesOn(MachineTest machine) => machine.GetLines((int)Vmpl.Vmpl2).Count;

    /// <summary>It goes on there: it tells of two more rounds, and has found all its memory as it should be.</summary>
    public static async Task GoesOnAsync(MachineTest machine)
    {
        int before = LinesOn(machine);
        await Polling.UntilAsync("rounds of the guest", () => LinesOn(machine) >= before + 2);

        // The first line may be the end of one that was begun elsewhere.
        ConsoleLine line = machine.GetLines((int)Vmpl.Vmpl2)[before + 1];
        Assert.EndsWith(", wrong 0", line.Text.TrimEnd('\r'), StringComparison.Ordinal);
    }

    /// <summary>It looks at all its memory once more, and ends.</summary>
    public static async Task EndAsync(MachineTest machine)
    {
        await machine.TypeAsync("q");
        MachineResult result = await machine.WaitForEndAsync();
        Assert.True(result.ExitStatus == 0, result.ToString());
    }

    /// <summary>A machine on which it must not have run.</summary>
    public static void AssertHasNotRun(MachineTest machine) => Assert.Empty(machine.GetLines((int)Vmpl.Vmpl2).Select(line => line.Text));
}
