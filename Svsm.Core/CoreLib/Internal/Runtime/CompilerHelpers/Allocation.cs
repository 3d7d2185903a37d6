// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// "new" of classes and arrays. The image's allocator supplies zeroed memory (svsm_alloc); what it gives is never freed.
// Exceptions have a store of their own: a throw must name its reason also when the allocator is closed or exhausted, and nothing returns from it.

using System;
using System.Runtime;
using System.Runtime.CompilerServices;
using System.Threading;

namespace Internal.Runtime.CompilerHelpers;

internal static unsafe class Allocation
{
    private const int PointerAlignment = 8;

    [InlineArray(64)]
    private struct ExceptionStore
    {
        private ulong _word0;
    }

    private static ExceptionStore s_exceptionStore;
    private static int s_exceptionStoreUsed;

    // SAFETY (whole class): the compiler passes the type of the object; the allocator returns at least that many zeroed, 8-byte aligned bytes.

    [RuntimeExport("RhpNewFast")]
    internal static void* NewObject(MethodTable* type)
    {
        void* instance = IsException(type) ? AllocateException((int)type->InstanceSize) : Allocate(type->InstanceSize);
        *(MethodTable**)instance = type;
        return instance;
    }

    private static bool IsException(MethodTable* type)
    {
        MethodTable* exception = MethodTable.Of<Exception>();
        for (MethodTable* current = type; current != null; current = current->RelatedType)
        {
            if (current == exception)
            {
                return true;
            }
        }

        return false;
    }

    private static void* AllocateException(int byteLength)
    {
        // The size of an object is a multiple of the alignment. Zeroed at the start and used once.
        int end = Interlocked.Add(ref s_exceptionStoreUsed, byteLength);
        if (end > sizeof(ExceptionStore))
        {
            Environment.FailFast("OutOfMemoryException: exceptions were created and not thrown");
        }

        return (byte*)Unsafe.AsPointer(ref s_exceptionStore) + (end - byteLength);
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
        nuint size = type->InstanceSize + ((nuint)length * type->ComponentSize);
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
