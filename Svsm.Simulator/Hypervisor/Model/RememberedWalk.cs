// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The last translation of each use that the hypervisor makes of guest memory, so that an exit need not walk the guest's tables again.
// For instruction bytes and the delivery of #VC; one set per vCPU and VMPL, all sets of a vCPU in one frame.
//
// It is no TLB: a remembered translation is used only while a walk would come to the same end. That is when linear page, privilege and the
// control registers are the same, every table entry that the walk read still holds the same value (accessed and dirty bits included), and
// no page that it went through has got another RMP entry or frame since (GuestMemory.Generation). So the guest needs no flush for it, and a
// missing flush does not show here.

using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Svsm.Wire;

namespace Svsm.Hypervisor;

/// <summary>What a translation is used for; each use remembers one.</summary>
internal enum WalkUse
{
    /// <summary>The instruction at RIP.</summary>
    Code,

    /// <summary>A gate of the IDT.</summary>
    Gate,

    /// <summary>A descriptor of the GDT or LDT.</summary>
    Descriptor,

    /// <summary>Stack pointers in the TSS.</summary>
    TaskState,

    /// <summary>The frame of an exception.</summary>
    Stack,
}

/// <summary>A translation and what it depends on. 128 bytes.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct RememberedWalk
{
    // SAFETY (whole type): slots point into frames of guest pages that are marked as remembered. A frame that is taken from such a page
    // changes the generation first, and slots are followed after the generation was compared.

    /// <summary>Sets per VMPL: a power of two, so that a vCPU's sets fill one frame.</summary>
    public const int UsesPerVmpl = 8;

    private const int MaxLevels = 4;

    /// <summary>RFLAGS.AC, which SMAP looks at, becomes bit 2 of a tag.</summary>
    private const int AlignmentShift = 16;

    private ulong _tag;
    private ulong _cr3;
    private ulong _cr0;
    private ulong _cr4;
    private ulong _efer;
    private ulong _generation;
    private byte* _page;
    private int _levels;
    private fixed ulong _slots[MaxLevels];
    private fixed ulong _values[MaxLevels];

    /// <summary>Makes bytes reachable that the guest itself could reach.</summary>
    /// <param name="memory">The guest's memory.</param>
    /// <param name="cpu">The vCPU.</param>
    /// <param name="use">What for; always with the same kind of access.</param>
    /// <param name="linear">Linear address.</param>
    /// <param name="kind">Kind of access.</param>
    /// <param name="user">Whether it counts as one at CPL 3.</param>
    /// <returns>The byte at the address, the rest of its page behind it; null when the guest could not reach it.</returns>
    public static byte* Reach(GuestMemory memory, VirtualCpu cpu, WalkUse use, ulong linear, AccessKind kind, bool user)
    {
        Vmsa* state = cpu.State;
        RememberedWalk* walk = cpu.Walks + ((cpu.Vmpl * UsesPerVmpl) + (int)use);

        // Bit 0 is set in every tag; an empty entry has 0.
        ulong tag = Amd64.PageOf(linear) | ((state->Rflags & Amd64.FlagAlignment) >> AlignmentShift) | (user ? 3ul : 1);
        if (walk->_tag == tag && walk->_generation == memory.Generation && walk->_cr3 == state->Cr3 && walk->_cr0 == state->Cr0
            && walk->_cr4 == state->Cr4 && walk->_efer == state->Efer && walk->IsUnchanged())
        {
            return walk->_page + (linear & (Amd64.PageSize - 1));
        }

        walk->_tag = 0;
        walk->Clear();
        WalkResult result = GuestPageWalk.Translate(memory, state, cpu.Vmpl, linear, kind, user, walk);
        byte* bytes = null;
        if (result.Status == WalkStatus.Done)
        {
            result.Verdict = memory.Access(result.Gpa, cpu.Vmpl, result.IsPrivate || kind == AccessKind.Fetch, kind, user, out bytes);
        }

        if (bytes == null)
        {
            bool isWrite = kind == AccessKind.Write || result.Status == WalkStatus.Refused;
            if (isWrite && result.Verdict == AccessVerdict.VmplPermission)
            {
                cpu.Refusal = result.Gpa;
            }

            return null;
        }

        memory.Find(result.Gpa)->IsRemembered = true;
        walk->_tag = tag;
        walk->_cr3 = state->Cr3;
        walk->_cr0 = state->Cr0;
        walk->_cr4 = state->Cr4;
        walk->_efer = state->Efer;
        walk->_generation = memory.Generation;
        walk->_page = bytes - (linear & (Amd64.PageSize - 1));
        return bytes;
    }

    /// <summary>Forgets the table entries: a walk begins.</summary>
    public void Clear() => _levels = 0;

    /// <summary>Adds a table entry that the walk has read.</summary>
    /// <param name="page">The table's page.</param>
    /// <param name="slot">The entry.</param>
    /// <param name="value">What the walk found there, accessed and dirty bits set. Another vCPU may have changed it since.</param>
    public void Add(GuestPage* page, ulong* slot, ulong value)
    {
        page->IsRemembered = true;
        _slots[_levels] = (ulong)slot;
        _values[_levels] = value;
        _levels++;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private readonly bool IsUnchanged()
    {
        // Four levels are the rule; a large page has fewer, and no paging none.
        for (int i = _levels - 1; i >= 0; i--)
        {
            if (*(ulong*)_slots[i] != _values[i])
            {
                return false;
            }
        }

        return true;
    }
}
