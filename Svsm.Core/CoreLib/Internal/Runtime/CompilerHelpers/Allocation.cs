// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// "new" of classes and arrays. The image's allocator supplies zeroed memory (svsm_alloc); what it gives is never freed.

using System;
using System.Runtime;
using System.Runtime.CompilerServices;

namespace Internal.Runtime.CompilerHelpers;

internal static unsafe class Allocation
{
    private const int PointerAlignment = 8;

    // SAFETY (whole class): the compiler passes the type of the object; the allocator returns at least that many zeroed, 8-byte aligned bytes.

    [RuntimeExport("RhpNewFast")]
    internal static void* NewObject(MethodTable* type)
    {
        void* instance = Allocate(type->BaseSize);
        *(MethodTable**)instance = type;
        return instance;
    }

    [RuntimeExport("RhNewObject")]
    private static void* NewObjectSlow(MethodTable* type) => NewObject(type);

    [RuntimeExport("RhpNewArray")]
    private static void* NewArray(MethodTable* type, nint length)
    {
        if ((nuint)length > int.MaxValue)
        {
            ThrowHelpers.ThrowOverflowException();
        }

        // At most 2^31 * 2^16 + 2^32: no overflow.
        nuint size = type->BaseSize + ((nuint)length * type->ComponentSize);
        void* instance = Allocate((size + (PointerAlignment - 1)) & ~(nuint)(PointerAlignment - 1));
        *(MethodTable**)instance = type;
        *(int*)((MethodTable**)instance + 1) = (int)length;
        return instance;
    }

    [RuntimeExport("RhNewArray")]
    private static void* NewArraySlow(MethodTable* type, nint length) => NewArray(type, length);

    [RuntimeExport("RhpNewArrayFast")]
    private static void* NewArrayFast(MethodTable* type, nint length) => NewArray(type, length);

    [RuntimeExport("RhpNewPtrArrayFast")]
    private static void* NewPointerArray(MethodTable* type, nint length) => NewArray(type, length);

    [RuntimeExport("RhNewString")]
    private static void* NewString(MethodTable* type, nint length) => NewArray(type, length);

    [RuntimeImport("*", "svsm_alloc")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    private static extern void* Allocate(nuint byteLength);
}
