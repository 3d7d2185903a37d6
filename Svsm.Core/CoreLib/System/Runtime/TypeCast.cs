// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Casts, type tests and stores into arrays of references, under the names by which the compiler calls them.

using System.Runtime.CompilerServices;
using Internal.Runtime;
using Internal.Runtime.CompilerHelpers;

namespace System.Runtime;

internal static unsafe class TypeCast
{
    // SAFETY (whole class): type pointers come from the compiler and from objects it made.

    private static object? IsInstanceOfClass(MethodTable* type, object? instance) =>
        instance is not null && IsClass(instance.m_pMethodTable, type) ? instance : null;

    private static object? IsInstanceOfInterface(MethodTable* type, object? instance) =>
        instance is not null && HasInterface(instance.m_pMethodTable, type) ? instance : null;

    private static object? IsInstanceOfAny(MethodTable* type, object? instance) =>
        instance is not null && IsAssignable(instance.m_pMethodTable, type) ? instance : null;

    // Variance of generic interfaces and delegates is not looked at: such a cast fails unless the types are the same.
    private static bool IsAssignable(MethodTable* from, MethodTable* to)
    {
        if (from == to)
        {
            return true;
        }

        if (to->ElementType == ElementType.Interface)
        {
            return HasInterface(from, to);
        }

        if (!to->IsArray)
        {
            return IsClass(from, to);
        }

        // Arrays of references convert like their elements; a value type only to itself.
        return from->IsArray
            && from->InstanceSize == to->InstanceSize
            && (from->RelatedType == to->RelatedType
                || (from->RelatedType->ElementType >= ElementType.Class && IsAssignable(from->RelatedType, to->RelatedType)));
    }

    private static bool IsClass(MethodTable* from, MethodTable* to)
    {
        if (from->IsArray)
        {
            // Its related type is its element type: its bases are Array and object.
            return to->ElementType == ElementType.SystemArray || to == MethodTable.Of<object>() || from == to;
        }

        for (MethodTable* current = from; current != null; current = current->RelatedType)
        {
            if (current == to)
            {
                return true;
            }
        }

        return false;
    }

    private static bool HasInterface(MethodTable* from, MethodTable* to)
    {
        for (int i = 0; i < from->InterfaceCount; i++)
        {
            if (MethodTable.Interfaces(from)[i] == to)
            {
                return true;
            }
        }

        return false;
    }

    // Exception filters are compiled, never run; the compiler wants their helper all the same.
    private static bool IsInstanceOfException(MethodTable* type, object? instance) => IsInstanceOfClass(type, instance) is not null;

    private static object? CheckCastClass(MethodTable* type, object? instance) => Check(instance, IsInstanceOfClass(type, instance));

    private static object? CheckCastClassSpecial(MethodTable* type, object? instance) => CheckCastClass(type, instance);

    private static object? CheckCastInterface(MethodTable* type, object? instance) => Check(instance, IsInstanceOfInterface(type, instance));

    private static object? CheckCastAny(MethodTable* type, object? instance) => Check(instance, IsInstanceOfAny(type, instance));

    private static object? Check(object? instance, object? match)
    {
        if (instance is not null && match is null)
        {
            ThrowHelpers.ThrowInvalidCastException();
        }

        return instance;
    }

    private static void StelemRef(object?[] array, nint index, object? value)
    {
        if ((nuint)index >= (nuint)array.Length)
        {
            ThrowHelpers.ThrowIndexOutOfRangeException();
        }

        if (value is not null && !IsAssignable(value.m_pMethodTable, array.m_pMethodTable->RelatedType))
        {
            ThrowHelpers.ThrowArrayTypeMismatchException();
        }

        // Stored as a number: a store of a reference would come back here.
        Unsafe.As<object?, nint>(ref Element(array, index)) = Unsafe.As<object?, nint>(ref value);
    }

    private static ref object? LdelemaRef(object?[] array, nint index, MethodTable* elementType)
    {
        if ((nuint)index >= (nuint)array.Length)
        {
            ThrowHelpers.ThrowIndexOutOfRangeException();
        }

        if (array.m_pMethodTable->RelatedType != elementType)
        {
            ThrowHelpers.ThrowArrayTypeMismatchException();
        }

        return ref Element(array, index);
    }

    // Not "ref array[index]": that would check the type of the array once more, through LdelemaRef.
    private static ref object? Element(object?[] array, nint index) =>
        ref Unsafe.Add(ref Unsafe.As<byte, object?>(ref Unsafe.As<RawArrayData>(array).Data), index);
}
