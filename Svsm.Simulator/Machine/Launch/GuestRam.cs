// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Where the RAM of the guest lies: as on QEMU's machine q35, which leaves room for devices below 4 GiB.

using System.Collections.Generic;
using Svsm.Simulator.Shared;

namespace Svsm.Simulator;

internal sealed class GuestRam
{
    // From this size on, QEMU's q35 splits the RAM at 2 GiB and puts the rest above 4 GiB.
    private const ulong SplitFrom = 0xB000_0000;
    private const ulong SplitAt = 0x8000_0000;
    private const ulong UpperBase = 0x1_0000_0000;

    // Length in bytes, whole pages, not zero.
    public GuestRam(ulong length)
    {
        Ranges = length < SplitFrom
            ? [new LaunchRam { Base = 0, Length = length }]
            : [new LaunchRam { Base = 0, Length = SplitAt }, new LaunchRam { Base = UpperBase, Length = length - SplitAt }];
    }

    // Sorted, disjoint.
    public IReadOnlyList<LaunchRam> Ranges { get; }
}
