// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The probe guest: a small guest at VMPL2 that makes every call an SVSM must answer, and some that it must refuse, and says
// what came back. One line per check, a line of totals, and an exit status at port 0xF4 (Svsm.Simulator.Shared.Link).
//
//   probe: ok   name
//   probe: FAIL name got 0x... want 0x...
//   probe: N passed, N failed
//
// What it does instead when the ELF file's probe_command says so: Commands.cs; when something was typed: TypedCommands.cs.

using System.Runtime.InteropServices;
using Svsm.Platform;
using Svsm.Wire;

namespace Svsm.ProbeGuest;

/// <summary>What the guest was started with. Boot.S has the offsets.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct ProbeStart
{
    /// <summary>GPA of the CPUID page.</summary>
    public ulong CpuidPage;

    /// <summary>GPA of the secrets page.</summary>
    public ulong SecretsPage;

    /// <summary>GPA of the memory map.</summary>
    public ulong MemoryMap;

    /// <summary>The C-bit.</summary>
    public ulong EncryptionMask;
}

internal static unsafe class Program
{
    [UnmanagedCallersOnly(EntryPoint = "probe_main")]
    private static void Main(ProbeStart* start)
    {
        Cpus.Initialize();
        Calls.UseArea(((SecretsPage*)start->SecretsPage)->SvsmCallingArea);
        Machine.Open(in *start);
        if (Commands.TryRun(in *start) || TypedCommands.TryRun())
        {
            return;
        }

        Text<Com1>.WriteLine("probe: guest at VMPL2"u8);
        StartChecks.Run(in *start);
        CallChecks.Run();
        PvalidateChecks.Run(in *start);
        RemapChecks.Run(in *start);
        DepositChecks.Run(in *start);
        VcpuChecks.Run(in *start);
        GoneChecks.Run();
        Probe.Finish();
    }

    [System.Runtime.RuntimeExport("svsm_fail_fast")]
    private static void FailFast(char* text, int length)
    {
        Text<Com1>.Write("probe: internal error: "u8);
        Text<Com1>.Write(new System.ReadOnlySpan<char>(text, length));
        Text<Com1>.WriteLine();
        Machine.Exit(ExitStatus.Exception);
    }
}
