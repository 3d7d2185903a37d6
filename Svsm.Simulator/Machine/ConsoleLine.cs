// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

namespace Svsm.Simulator;

/// <summary>Who wrote to a console.</summary>
/// <param name="Vcpu">vCPU; 0 for the host.</param>
/// <param name="Vmpl">VMPL, 0 to 3; -1 for the host, that is the simulator itself.</param>
public readonly record struct ConsoleSource(int Vcpu, int Vmpl)
{
    /// <summary>The simulator itself.</summary>
    public static ConsoleSource Host { get; } = new(0, -1);
}

/// <summary>A line of console output.</summary>
/// <param name="Source">Who wrote it.</param>
/// <param name="Text">The line without its line end; addresses of the SVSM's kernel followed by their symbols. May contain control characters.</param>
public sealed record ConsoleLine(ConsoleSource Source, string Text)
{
    /// <summary>True when its end was not written before the run ended.</summary>
    public bool IsUnfinished { get; init; }
}
