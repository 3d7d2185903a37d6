// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Memory that the kernel shares with the host beyond the pages of each CPU: messages to the security processor, what the SVSM's disks reach. In consecutive
// frames, because the host is told one address; mapped for all CPUs, at addresses of its own, so that nothing private is ever near. Asked for while booting, before
// other CPUs run, and never given back.
//
// The host may change it at any time. Nothing is looked at there: what is wanted is copied out once, and checked in the copy.

using System;
using Svsm.Kernel.Arch;
using Svsm.Kernel.Snp;

namespace Svsm.Kernel.Memory;

/// <summary>Memory shared with the host.</summary>
internal unsafe struct SharedPages
{
    private static int s_used;

    private ulong _address;
    private int _count;

    /// <summary>Its first frame.</summary>
    public PhysicalAddress Frame { get; private set; }

    /// <summary>The bytes. Of the host as well: copied, never looked at.</summary>
    // SAFETY: mapped for good.
    public readonly Span<byte> Bytes => new((void*)_address, _count * Page.Size);

    /// <summary>Allocates consecutive frames, and shares them; ends the VM when the host refuses.</summary>
    /// <param name="order">1 &lt;&lt; order pages of zeroes.</param>
    /// <param name="pages">The pages; when there is an error, none.</param>
    /// <returns>What was lacking.</returns>
    public static MemoryError Allocate(int order, out SharedPages pages)
    {
        pages = default;
        int count = 1 << order;
        if (count > KernelLayout.SharedPagesCount - s_used)
        {
            return MemoryError.NoAddresses;
        }

        if (!FrameAllocator.TryAllocate(order, out PhysicalAddress frame))
        {
            return MemoryError.NoFrames;
        }

        ulong address = KernelLayout.SharedPages + ((ulong)s_used * Page.Size);
        for (int i = 0; i < count; i++)
        {
            ulong offset = (ulong)i * Page.Size;
            MemoryError error = AddressSpace.MapShared(address + offset, new PhysicalAddress(frame.Value + offset), PageSize.Small);
            if (error != MemoryError.None)
            {
                // Nothing is shared yet.
                for (int done = 0; done < i; done++)
                {
                    _ = AddressSpace.TryUnmapShared(address + ((ulong)done * Page.Size), out _);
                }

                Translations.DropEverywhere(address, count);
                FrameAllocator.Free(frame, order);
                return error;
            }
        }

        for (int i = 0; i < count; i++)
        {
            _ = Host.Share(address + ((ulong)i * Page.Size));
        }

        s_used += count;
        pages._address = address;
        pages._count = count;
        pages.Frame = frame;
        return MemoryError.None;
    }
}
