// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// What the model asks of the processor it runs on. The hypervisor has the real one; tests have one of their own.

using Svsm.Platform;

namespace Svsm.Hypervisor;

/// <summary>The level-1 processor.</summary>
internal abstract unsafe class HostProcessor
{
    /// <summary>Identifies the processor (CPUID).</summary>
    public abstract CpuidResult Cpuid(uint function, uint index);

    /// <summary>Reads the time-stamp counter.</summary>
    public abstract ulong ReadTimeStampCounter();

    /// <summary>Reads debug registers 0 to 3.</summary>
    public abstract void ReadDebugRegisters(ulong* values);

    /// <summary>Writes debug registers 0 to 3.</summary>
    public abstract void WriteDebugRegisters(ulong* values);
}
