// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The seam between what PageTables decides and where tables are: the kernel's implementation is Arch/X64/TableWindows.cs, the tests' one an array.

namespace Svsm.Kernel.Memory;

/// <summary>Frames that hold page tables, or are about to be mapped by them.</summary>
internal unsafe interface ITableMemory
{
    /// <summary>Hands out a frame of zeroes.</summary>
    /// <returns>False: none is free.</returns>
    bool TryAllocate(out PhysicalAddress frame);

    /// <summary>Takes a frame back.</summary>
    void Free(PhysicalAddress frame);

    /// <summary>Makes a table reachable.</summary>
    /// <returns>Its 512 entries.</returns>
    ulong* Map(PhysicalAddress table);

    /// <summary>Ends what <see cref="Map"/> began.</summary>
    void Unmap(ulong* table);
}
