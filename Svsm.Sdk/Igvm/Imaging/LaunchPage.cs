// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;

namespace Svsm.Igvm.Imaging;

/// <summary>What a page of a launch image is.</summary>
public enum LaunchPageType
{
    /// <summary>Measured contents.</summary>
    Normal,

    /// <summary>A measured page of zeroes.</summary>
    Zero,

    /// <summary>A page whose address is measured and whose contents are not.</summary>
    Unmeasured,

    /// <summary>The secrets page; filled by the security processor.</summary>
    Secrets,

    /// <summary>The CPUID page; filled by the host, checked by the security processor.</summary>
    Cpuid,
}

/// <summary>A page of a launch image.</summary>
/// <param name="Gpa">Guest-physical address, a multiple of 4096.</param>
/// <param name="Type">What it is.</param>
/// <param name="Data">4096 bytes; empty for Zero and Secrets, and for an unmeasured page of zeroes.</param>
public sealed record LaunchPage(ulong Gpa, LaunchPageType Type, ReadOnlyMemory<byte> Data);

/// <summary>A parameter that the host writes into a parameter page.</summary>
/// <param name="Kind">Which parameter.</param>
/// <param name="ByteOffset">Where in the page.</param>
public readonly record struct LaunchParameter(IgvmParameterKind Kind, uint ByteOffset = 0);

/// <summary>A range of memory that must exist and is not part of the launch.</summary>
/// <param name="Gpa">Start, a multiple of 4096.</param>
/// <param name="ByteLength">Length, a multiple of 4096.</param>
public readonly record struct LaunchMemoryRange(ulong Gpa, uint ByteLength);
