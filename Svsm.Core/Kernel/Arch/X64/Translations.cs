// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Translations that other processors may remember: INVLPGB drops them there, TLBSYNC waits until it is done. docs/decisions tells why there
// is no other way here. A processor checks rights when it fills its TLB, not when it uses it; so a right that was taken away is gone when
// these functions return, and not before.
//
// Guest and SVSM run under one address-space identifier (ASID), each with its own page tables, and the guest's linear addresses are not known
// here: its translations are dropped all at once. Source: AMD64 Architecture Programmer's Manual, volume 3, INVLPGB.

using Svsm.Kernel.Memory;
using Svsm.Platform;

namespace Svsm.Kernel.Arch;

/// <summary>Drops translations on every processor of the VM.</summary>
internal static class Translations
{
    private const ulong AddressValid = 1ul << 0;
    private const ulong AsidValid = 1ul << 2;
    private const ulong WithGlobal = 1ul << 3;

    /// <summary>Drops the translations of kernel pages that were unmapped; returns when no processor has one.</summary>
    /// <param name="address">First page.</param>
    /// <param name="pageCount">Number of 4-KiB pages.</param>
    public static void DropEverywhere(ulong address, int pageCount)
    {
        for (int i = 0; i < pageCount; i++)
        {
            X64.InvalidateBroadcast((address + ((ulong)i * Page.Size)) | AddressValid | AsidValid | WithGlobal, 0, 0);
        }

        X64.SynchronizeInvalidations();
    }

    /// <summary>Drops all translations of the VM, the guest's among them; returns when no processor has one.</summary>
    public static void DropAll()
    {
        X64.InvalidateBroadcast(AsidValid | WithGlobal, 0, 0);
        X64.SynchronizeInvalidations();
    }
}
