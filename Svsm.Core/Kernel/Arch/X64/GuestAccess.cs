// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Copies from and to pages of the guest, and the instructions on them. A fault is an answer here: GuestAccess.S. The tests have another one.

using System.Runtime;
using System.Runtime.CompilerServices;
using Svsm.Kernel.Memory;
using Svsm.Wire;

namespace Svsm.Kernel.Arch;

/// <summary>Accesses to mapped pages of the guest.</summary>
internal static unsafe class GuestAccess
{
    /// <summary>Copies bytes, one of the two sides in a page of the guest.</summary>
    /// <returns>False: the page cannot be reached; some bytes may have been copied.</returns>
    // SAFETY: the window (GuestWindow.cs) checked that the bytes lie in its page; the other side is a span of as many.
    public static bool TryCopy(ref byte destination, ref readonly byte source, int length) =>
        Copy((byte*)Unsafe.AsPointer(ref destination), (byte*)Unsafe.AsPointer(ref Unsafe.AsRef(in source)), (uint)length) != 0;

    /// <summary>Keeps some bits of a quadword in a mapped page and clears the others, atomically and before what follows.</summary>
    /// <returns>False: the page cannot be reached; nothing was written.</returns>
    // SAFETY: as TryCopy.
    public static bool TryAnd(ref ulong target, ulong bits) => And((ulong*)Unsafe.AsPointer(ref target), bits) != 0;

    /// <summary>Sets some bits of a quadword in a mapped page, atomically and before what follows.</summary>
    /// <returns>False: the page cannot be reached; nothing was written.</returns>
    // SAFETY: as TryCopy.
    public static bool TryOr(ref ulong target, ulong bits) => Or((ulong*)Unsafe.AsPointer(ref target), bits) != 0;

    /// <summary>Writes zeroes to a mapped page.</summary>
    /// <returns>False: the page cannot be reached; some bytes may have been written.</returns>
    public static bool TryZero(ulong address, PageSize size) => Zero(address, PhysicalAddress.BytesOf(size)) != 0;

    /// <summary>PVALIDATE of a mapped page.</summary>
    /// <returns><see cref="RmpResult.FailInput"/> also when the instruction faulted.</returns>
    public static RmpResult PValidate(ulong address, PageSize size, bool validate, out bool unchanged)
    {
        ulong result = PValidate(address, (uint)size, validate ? 1u : 0u);
        unchanged = (result >> 32) != 0;
        return (RmpResult)(uint)result;
    }

    /// <summary>RMPADJUST of a mapped page.</summary>
    /// <returns><see cref="RmpResult.FailInput"/> also when the instruction faulted.</returns>
    public static RmpResult RmpAdjust(ulong address, PageSize size, Vmpl target, RmpPermissions permissions) =>
        (RmpResult)RmpAdjust(address, (ulong)size, (ulong)target | (ulong)permissions);

    [RuntimeImport("*", "svsm_guest_copy")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    private static extern uint Copy(byte* destination, byte* source, ulong length);

    [RuntimeImport("*", "svsm_guest_and")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    private static extern uint And(ulong* target, ulong bits);

    [RuntimeImport("*", "svsm_guest_or")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    private static extern uint Or(ulong* target, ulong bits);

    [RuntimeImport("*", "svsm_guest_zero")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    private static extern uint Zero(ulong address, ulong length);

    [RuntimeImport("*", "svsm_guest_pvalidate")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    private static extern ulong PValidate(ulong address, uint pageSize, uint validate);

    [RuntimeImport("*", "svsm_guest_rmpadjust")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    private static extern uint RmpAdjust(ulong address, ulong pageSize, ulong attributes);
}
