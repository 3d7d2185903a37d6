// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// How much there may be. A module has a heap of a few MiB, and a guest that writes as much as it can must not end it.

namespace Svsm.Modules.VarStore;

/// <summary>Limits of the variables, in bytes unless it says otherwise.</summary>
internal static class VariableLimits
{
    /// <summary>All non-volatile variables together, with what each has beside name and data: as much as OVMF has.</summary>
    public const int NonVolatileQuota = 0x4_0000;

    /// <summary>All volatile variables together.</summary>
    public const int VolatileQuota = 0x2_0000;

    /// <summary>Data of a variable.</summary>
    public const int MaxData = 0x1_0000;

    /// <summary>A name, with its NUL: what Linux takes.</summary>
    public const int MaxNameLength = 1024;

    /// <summary>The highest number that a guest's variable gets: behind it is room for those that the engine makes itself, in front of the rests of large ones.</summary>
    public const uint MaxNumber = 0x7FFF_FF00;

    /// <summary>All policies together.</summary>
    public const int PolicyQuota = 0x1_0000;

    /// <summary>How many variables may be given properties.</summary>
    public const int MaxProperties = 256;
}
