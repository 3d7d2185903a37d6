// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The seam between what system calls decide and what they act on, so that they are tested on any machine. The kernel's implementation is
// ProcessPlatform.cs.

using System;
using Svsm.Kernel.Snp;
using Svsm.Wire;

namespace Svsm.Kernel.Processes;

/// <summary>What a process reaches through the kernel.</summary>
internal interface IProcessPlatform : IProcessFrames
{
    /// <summary>The archive of modules; nobody changes it.</summary>
    ReadOnlySpan<byte> Archive { get; }

    /// <summary>Nanoseconds since some moment; grows.</summary>
    ulong Now { get; }

    /// <summary>Copies memory of the guest.</summary>
    /// <param name="address">Guest-physical address; with the length in one page. Untrusted otherwise.</param>
    /// <param name="destination">Gets it; any contents after a failure.</param>
    /// <returns>False: the guest has no right to the page itself, or the page is gone.</returns>
    bool TryReadGuest(ulong address, Span<byte> destination);

    /// <summary>Copies into memory of the guest.</summary>
    /// <param name="address">As in <see cref="TryReadGuest"/>.</param>
    /// <param name="source">What to write; nothing: whether it could be written.</param>
    /// <returns>As in <see cref="TryReadGuest"/>; a part may have been written.</returns>
    bool TryWriteGuest(ulong address, ReadOnlySpan<byte> source);

    /// <summary>Draws random bytes: <see cref="Entropy"/>.</summary>
    bool TryDraw(Span<byte> destination);

    /// <summary>What CPUID shows to processes.</summary>
    CpuidValues Cpuid(uint function, uint index);

    /// <summary>Writes a line of a module to the log.</summary>
    /// <param name="module">Index of the module.</param>
    /// <param name="level">How important it is.</param>
    /// <param name="line">The line, from the module: any bytes.</param>
    void Log(int module, LogLevel level, ReadOnlySpan<byte> line);
}
