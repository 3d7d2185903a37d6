// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The address space of a process on the CPU that runs it: entry 0 of the CPU's PML4 is the process's while it runs, and zero otherwise. So the
// kernel's part stays as it is, and no address of a process means anything while the kernel does something else.
//
// A CPU drops its translations of the process when it leaves it (the change of CR3: a process has no global pages). Whoever runs the process next,
// here or elsewhere, may have changed or freed its pages by then.

using System.Threading;
using Svsm.Kernel.Arch;
using Svsm.Kernel.Memory;
using Svsm.Platform;

namespace Svsm.Kernel.Processes;

/// <summary>Loads the address space of a process.</summary>
internal static unsafe class ProcessTables
{
    private const int TopLevel = 3;

    /// <summary>Makes the memory of a process that of the current CPU.</summary>
    /// <param name="memory">The memory; the process runs nowhere else.</param>
    public static void Load(ref ProcessMemory memory)
    {
        TableWindows windows = default;
        ulong entry = new PageTables<TableWindows>(ref windows, AddressSpace.EncryptionMask).Read(memory.Root, 0, TopLevel);
        SetFirstEntry(entry);
    }

    /// <summary>Ends it, and forgets all translations of it.</summary>
    public static void Unload()
    {
        SetFirstEntry(0);
        X64.WriteCr3(X64.ReadCr3());
    }

    private static void SetFirstEntry(ulong entry)
    {
        using FrameMapping root = FrameMapping.Map(AddressSpace.Root);

        // SAFETY: the mapped PML4 of this CPU, which nobody else edits.
        Volatile.Write(ref *(ulong*)root.Pointer, entry);
    }
}
