// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// What a host does to start a guest: the result of reading an IGVM file, ready for the hypervisor.

using System;
using System.Collections.Generic;
using Svsm.Simulator.Shared;

namespace Svsm.Simulator;

// One launch update. Contents are 4096 bytes, or empty for zeroes.
internal readonly record struct LaunchUpdate(LaunchPageType Type, ulong Gpa, ReadOnlyMemory<byte> Contents, uint Index = 0);

// Data of an item; LaunchItem has the keys.
internal readonly record struct LaunchItemData(uint Key, ReadOnlyMemory<byte> Contents);

internal sealed record LaunchPlan
{
    public required ulong Policy { get; init; }

    public required int VcpuCount { get; init; }

    // Sorted, disjoint: the RAM of the machine, and pages that the image wants elsewhere.
    public required IReadOnlyList<LaunchRam> Ram { get; init; }

    // In the order of the launch: pages, then VMSAs.
    public required IReadOnlyList<LaunchUpdate> Updates { get; init; }

    // Private but not launched; disjoint, and disjoint from the updates.
    public required IReadOnlyList<LaunchRam> Required { get; init; }

    // Private, validated, not launched: as firmware would leave it. Disjoint, and disjoint from updates and required memory.
    public IReadOnlyList<LaunchRam> Validated { get; init; } = [];

    // What a firmware can ask for, when there is one, and what was typed before the start.
    public IReadOnlyList<LaunchItemData> Items { get; init; } = [];

    public LaunchOptions Options { get; init; }

    public required ReadOnlyMemory<byte> Digest { get; init; }

    public required GuestContext Guest { get; init; }
}
