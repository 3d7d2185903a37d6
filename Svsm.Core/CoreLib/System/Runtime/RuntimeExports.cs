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

    private static object? RhBox(MethodTable* type, ref byte data)
    {
        ref byte value = ref data;
        if (type->ElementType == ElementType.Nullable)
        {
            // A nullable is boxed as null or as its value.
            if (data == 0)
            {
                return null;
            }

            value = ref Unsafe.Add(ref data, type->NullableValueOffset);
            type = MethodTable.NullableValueType(type);
        }

        void* instance = Allocation.NewObject(type);
        object result = Unsafe.As<nint, object>(ref *(nint*)&instance);
        SpanHelpers.Memmove(ref Unsafe.As<RawData>(result).Data, ref value, type->ValueSize);
        return result;
    }

    private static ref byte RhUnbox2(MethodTable* type, object? instance)
    {
        if (instance is null)
        {
            ThrowHelpers.ThrowNullReferenceException();
        }

        RhUnboxTypeTest(type, instance.m_pMethodTable);
        return ref Unsafe.As<RawData>(instance).Data;
    }

    private static void RhUnboxNullable(ref byte data, MethodTable* type, object? instance)
    {
        ref byte value = ref Unsafe.Add(ref data, type->NullableValueOffset);
        MethodTable* valueType = MethodTable.NullableValueType(type);
        if (instance is null)
        {
            data = 0;
            SpanHelpers.ClearWithoutReferences(ref value, valueType->ValueSize);
            return;
        }

        if (instance.m_pMethodTable != valueType)
        {
            ThrowHelpers.ThrowInvalidCastException();
        }

        data = 1;
        SpanHelpers.Memmove(ref value, ref Unsafe.As<RawData>(instance).Data, valueType->ValueSize);
    }

    // An enumeration unboxes as its underlying type and the other way round; other types only as themselves.
    private static void RhUnboxTypeTest(MethodTable* type, MethodTable* boxed)
    {
        if (type != boxed
            && (type->ElementType != boxed->ElementType || type->ElementType is < ElementType.SByte or > ElementType.UIntPtr))
        {
            ThrowHelpers.ThrowInvalidCastException();
        }
    }
}
