// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// What a further CPU needs before its first instruction: page tables with a part of its own, which has the shape of the boot CPU's (data page,
// GHCB page, stacks with guard pages between them, windows). On frames of zeroes, all private; the CPU shares its GHCB page itself.

using System;
using Svsm.Kernel.Memory;

namespace Svsm.Kernel.Arch;

/// <summary>Owner of the memory of a CPU.</summary>
[Owner]
internal struct CpuArea : IDisposable
{
    /// <summary>Frames that an area takes: 19 pages of data, GHCB, doorbell and stacks, and 5 tables.</summary>
    public const int FrameCount = 24;

    private PhysicalAddress _root;

    /// <summary>Gives the area to its CPU, for ever: this one owns nothing afterwards.</summary>
    /// <returns>The PML4: CR3 of the CPU's VMSA is this and the C-bit. RSP is <see cref="KernelLayout.StackTop"/>.</returns>
    public PhysicalAddress Release()
    {
        PhysicalAddress root = _root;
        _root = default;
        return root;
    }

    /// <summary>Makes an area.</summary>
    /// <param name="area">Its owner; when there is an error, of nothing.</param>
    /// <returns><see cref="MemoryError.NoFrames"/>: nothing was taken.</returns>
    public static MemoryError Create(out CpuArea area)
    {
        TableWindows memory = default;
        area = default;
        return new PageTables<TableWindows>(ref memory, AddressSpace.EncryptionMask).CreateCpu(AddressSpace.Root, out area._root);
    }

    /// <summary>Finds the frame behind a page of the area, to be filled in before the CPU starts.</summary>
    /// <param name="address">A virtual address of the CPU's part, <see cref="KernelLayout.PerCpuData"/> for instance.</param>
    /// <param name="frame">The frame.</param>
    /// <returns>False: nothing is mapped there.</returns>
    public readonly bool TryTranslate(ulong address, out PhysicalAddress frame)
    {
        TableWindows memory = default;
        PageTables<TableWindows> tables = new(ref memory, AddressSpace.EncryptionMask);
        ulong entry = tables.Read(_root, address, 0);
        frame = tables.AddressOf(entry);
        return entry != 0;
    }

    /// <summary>Frees the area. Only before the CPU has started: afterwards its GHCB page is shared with the host. Nothing happens the second time.</summary>
    public void Dispose()
    {
        if (_root.Value != 0)
        {
            TableWindows memory = default;
            new PageTables<TableWindows>(ref memory, AddressSpace.EncryptionMask).DestroyCpu(_root);
            _root = default;
        }
    }
}
