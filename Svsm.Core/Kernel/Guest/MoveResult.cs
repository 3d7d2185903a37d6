// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

namespace Svsm.Kernel.Guest;

/// <summary>What became of a read or write of what there is to move.</summary>
internal enum MoveResult : byte
{
    /// <summary>Done.</summary>
    Done,

    /// <summary>It is to be asked again.</summary>
    Again,

    /// <summary>It is not possible now, or there is no such thing.</summary>
    Invalid,

    /// <summary>A page is not private.</summary>
    Fault,

    /// <summary>There is no memory.</summary>
    NoMemory,

    /// <summary>The host does not offer what it needs.</summary>
    NotOffered,
}
