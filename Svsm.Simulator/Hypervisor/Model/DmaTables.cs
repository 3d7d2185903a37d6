// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// What devices of PCI reach by DMA: the shared view of the guest's pages, at their guest-physical addresses, and nothing else. QEMU's IOMMU
// (Intel's) keeps to tables that are built here; a device that goes anywhere else is stopped there, as a write to a private page is on hardware.
//
//   root table     bus 0 only
//   context table  16 bytes per function; devices of the guest only, all with the same
//   page tables    three levels, 39 bits: an entry per shared page, which is there from the moment that the page becomes shared, or that the guest
//                  first touches a page that has been since the launch
//
// Source: Intel Virtualization Technology for Directed I/O 3.3, chapters 9 (structures of legacy mode) and 11 (registers).

using System;

namespace Svsm.Hypervisor;

/// <summary>The devices' view of memory.</summary>
internal sealed unsafe class DmaTables
{
    // SAFETY (whole type): tables are frames of the pool, which are never given back; every index is below 512, or 256 for a function.

    private const ulong Registers = 0xFED9_0000;
    private const ulong Version = Registers + 0x00;
    private const ulong ExtendedCapability = Registers + 0x10;
    private const ulong GlobalCommand = Registers + 0x18;
    private const ulong GlobalStatus = Registers + 0x1C;
    private const ulong RootAddress = Registers + 0x20;
    private const ulong ContextCommand = Registers + 0x28;
    private const uint SetRoot = 1u << 30;
    private const uint Translate = 1u << 31;
    private const ulong InvalidateContexts = (1ul << 63) | (1ul << 61);
    private const ulong InvalidateAll = (1ul << 63) | (1ul << 60);
    private const ulong InvalidatePage = (1ul << 63) | (3ul << 60);
    private const int DomainShift = 32;
    private const int InvalidateOffsetShift = 8;
    private const ulong InvalidateOffsetMask = 0x3FF;
    private const ulong InvalidateOffsetUnit = 16;
    private const ulong InvalidateCommand = 8;

    private const ulong Present = 1;
    private const ulong ReadWrite = 3;
    private const ulong ThreeLevels = 1;
    private const ulong Domain = 1;
    private const int ContextDomainShift = 8;
    private const int WordsPerContext = 2;

    private const int Levels = 3;
    private const int PageShift = 12;
    private const int BitsPerLevel = 9;
    private const int EntriesPerTable = 1 << BitsPerLevel;
    private const ulong Reach = 1ul << (PageShift + (Levels * BitsPerLevel));

    private readonly FramePool _pool;
    private HostProcessor? _processor;
    private ulong* _contexts;
    private ulong* _root;
    private ulong _invalidateAddress;

    /// <summary>Makes a machine without DMA.</summary>
    public DmaTables(FramePool pool)
    {
        _pool = pool;
    }

    /// <summary>Whether devices reach memory.</summary>
    public bool IsEnabled => _processor != null;

    /// <summary>Switches QEMU's IOMMU on: devices reach nothing from here on.</summary>
    /// <param name="processor">How to reach it.</param>
    /// <param name="pci">The devices.</param>
    /// <returns>False when QEMU has none, or one that does not do what it was asked to.</returns>
    public bool TryEnable(HostProcessor processor, PciBus pci)
    {
        uint version = (uint)processor.ReadDevice(Version, sizeof(uint));
        if (version is 0 or uint.MaxValue)
        {
            return false;
        }

        _root = (ulong*)_pool.AllocateZeroed();
        _contexts = (ulong*)_pool.AllocateZeroed();
        ulong* buses = (ulong*)_pool.AllocateZeroed();
        *buses = (ulong)_contexts | Present;
        for (int number = 0; number < PciBus.FunctionsPerBus; number++)
        {
            if (pci.IsDevice(number))
            {
                _contexts[number * WordsPerContext] = (ulong)_root | Present;
                _contexts[(number * WordsPerContext) + 1] = ThreeLevels | (Domain << ContextDomainShift);
            }
        }

        ulong capability = processor.ReadDevice(ExtendedCapability, sizeof(ulong));
        _invalidateAddress = Registers + ((capability >> InvalidateOffsetShift & InvalidateOffsetMask) * InvalidateOffsetUnit);
        processor.WriteDevice(RootAddress, sizeof(ulong), (ulong)buses);
        processor.WriteDevice(GlobalCommand, sizeof(uint), SetRoot);
        processor.WriteDevice(ContextCommand, sizeof(ulong), InvalidateContexts);
        processor.WriteDevice(_invalidateAddress + InvalidateCommand, sizeof(ulong), InvalidateAll);
        processor.WriteDevice(GlobalCommand, sizeof(uint), Translate);
        _processor = processor;
        return (processor.ReadDevice(GlobalStatus, sizeof(uint)) & Translate) != 0;
    }

    /// <summary>Devices reach a page.</summary>
    /// <param name="gpa">Guest-physical, page-aligned; what lies beyond 39 bits stays out of reach.</param>
    /// <param name="frame">Its shared view.</param>
    public void Map(ulong gpa, byte* frame)
    {
        if (_processor != null && gpa < Reach)
        {
            // An entry that was not there is not remembered by the IOMMU, so there is nothing to invalidate.
            *Entry(gpa) = (ulong)frame | ReadWrite;
        }
    }

    /// <summary>Devices reach a page no longer.</summary>
    /// <param name="gpa">Guest-physical, page-aligned.</param>
    public void Unmap(ulong gpa)
    {
        if (_processor is not { } processor || gpa >= Reach)
        {
            return;
        }

        ulong* entry = Entry(gpa);
        if (*entry != 0)
        {
            *entry = 0;
            processor.WriteDevice(_invalidateAddress, sizeof(ulong), gpa);
            processor.WriteDevice(_invalidateAddress + InvalidateCommand, sizeof(ulong), InvalidatePage | (Domain << DomainShift));
        }
    }

    private ulong* Entry(ulong gpa)
    {
        ulong* table = _root;
        for (int level = Levels - 1; level > 0; level--)
        {
            ulong* entry = table + Index(gpa, level);
            if (*entry == 0)
            {
                *entry = (ulong)_pool.AllocateZeroed() | ReadWrite;
            }

            table = (ulong*)(*entry & ~ReadWrite);
        }

        return table + Index(gpa, 0);
    }

    private static int Index(ulong gpa, int level) => (int)(gpa >> (PageShift + (level * BitsPerLevel))) & (EntriesPerTable - 1);
}
