// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Boxing under the names by which the compiler calls it.

using System.Runtime.CompilerServices;
using Internal.Runtime;
using Internal.Runtime.CompilerHelpers;

namespace System.Runtime;

internal static unsafe class RuntimeExports
{
    // SAFETY (whole class): the compiler passes the type of the value and a reference to one.

    private static object RhBox(MethodTable* type, ref byte data)
    {
        void* instance = Allocation.NewObject(type);
        object result = Unsafe.As<nint, object>(ref *(nint*)&instance);
        SpanHelpers.Memmove(ref Unsafe.As<RawData>(result).Data, ref data, type->PayloadSize);
        return result;
    }

    private static ref byte RhUnbox2(MethodTable* type, object? instance)
    {
        if (instance is null)
        {
            ThrowHelpers.ThrowNullReferenceException();
        }

        if (instance.m_pMethodTable != type)
        {
            ThrowHelpers.ThrowInvalidCastException();
        }

        return ref Unsafe.As<RawData>(instance).Data;
    }

    private static void RhUnboxNullable(ref byte data, MethodTable* type, object instance) => ThrowHelpers.ThrowNotImplementedException();

    private static void RhUnboxTypeTest(MethodTable* type, MethodTable* boxed)
    {
        if (type != boxed)
        {
            ThrowHelpers.ThrowInvalidCastException();
        }
    }
}
