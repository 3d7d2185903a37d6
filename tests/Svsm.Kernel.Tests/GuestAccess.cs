// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Takes the place of the kernel's Arch/X64/GuestAccess.cs: pages of a test's VM fault when the test says so.

using System.Collections.Concurrent;
using System.Linq;
using System.Runtime.CompilerServices;
using System.Threading;
using Svsm.Kernel.Memory;

namespace Svsm.Kernel.Arch;

internal static unsafe class GuestAccess
{
    // The pages that fault, by their first byte. Contents are pinned, and kept: else another page could come to lie there.
    private static readonly ConcurrentDictionary<nuint, byte[]> s_faulting = new();

    public static void Fault(byte[] page) => s_faulting.TryAdd((nuint)Unsafe.AsPointer(ref page[0]), page);

    public static bool TryCopy(ref byte destination, ref readonly byte source, int length)
    {
        if (Faults(ref destination) || Faults(ref Unsafe.AsRef(in source)))
        {
            return false;
        }

        Unsafe.CopyBlockUnaligned(ref destination, in source, (uint)length);
        return true;
    }

    public static bool TryAnd(ref ulong target, ulong bits)
    {
        bool faults = Faults(ref Unsafe.As<ulong, byte>(ref target));
        if (!faults)
        {
            Interlocked.And(ref target, bits);
        }

        return !faults;
    }

    public static bool TryOr(ref ulong target, ulong bits)
    {
        bool faults = Faults(ref Unsafe.As<ulong, byte>(ref target));
        if (!faults)
        {
            Interlocked.Or(ref target, bits);
        }

        return !faults;
    }

    private static bool Faults(ref byte address)
    {
        nuint value = (nuint)Unsafe.AsPointer(ref address);
        return s_faulting.Keys.Any(page => value - page < Page.Size);
    }
}
