// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

namespace Svsm.Kernel.Memory;

/// <summary>Why memory could not be had. Running out is an answer, never a panic.</summary>
internal enum MemoryError : byte
{
    /// <summary>Nothing is wrong.</summary>
    None,

    /// <summary>No frame is free, or none large enough.</summary>
    NoFrames,

    /// <summary>No virtual addresses are free, or none in one piece.</summary>
    NoAddresses,

    /// <summary>The size is zero, or more than can ever be had.</summary>
    InvalidSize,
}
