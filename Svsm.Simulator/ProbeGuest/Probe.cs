// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using Svsm.Platform;
using Svsm.Wire;

namespace Svsm.ProbeGuest;

/// <summary>Counts and prints checks, one line each.</summary>
internal static class Probe
{
    private static uint s_passed;
    private static uint s_failed;

    /// <summary>Whether a check failed.</summary>
    public static bool HasFailed => s_failed != 0;

    /// <summary>A check of a number.</summary>
    public static void Equal(ReadOnlySpan<byte> name, ulong got, ulong wanted)
    {
        if (got == wanted)
        {
            s_passed++;
            Text<Com1>.Write("probe: ok   "u8);
            Text<Com1>.WriteLine(name);
            return;
        }

        s_failed++;
        Text<Com1>.Write("probe: FAIL "u8);
        Text<Com1>.Write(name);
        Text<Com1>.Write(" got 0x"u8);
        Text<Com1>.WriteHex(got);
        Text<Com1>.Write(" want 0x"u8);
        Text<Com1>.WriteHex(wanted);
        Text<Com1>.WriteLine();
    }

    /// <summary>A check of a result code.</summary>
    public static void Result(ReadOnlySpan<byte> name, SvsmResultCode got, SvsmResultCode wanted) => Equal(name, (ulong)got, (ulong)wanted);

    /// <summary>A check of a condition.</summary>
    public static void True(ReadOnlySpan<byte> name, bool condition) => Equal(name, condition ? 1u : 0u, 1);

    /// <summary>Prints the totals, and ends the VM.</summary>
    public static void Finish()
    {
        Summarize();
        Machine.Exit(HasFailed ? ExitStatus.Failed : ExitStatus.Passed);
    }

    /// <summary>Prints the totals.</summary>
    public static void Summarize()
    {
        Text<Com1>.Write("probe: "u8);
        Text<Com1>.WriteDecimal(s_passed);
        Text<Com1>.Write(" passed, "u8);
        Text<Com1>.WriteDecimal(s_failed);
        Text<Com1>.WriteLine(" failed"u8);
    }
}
