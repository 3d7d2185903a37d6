// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The description that the compiler writes for every type an image can allocate or cast to, and that every object points to.
//
// Layout, in 8-byte words: component size (array elements, string characters) u16, flags u16, base size u32; related type (base class, or the element
// type of an array); vtable slot count u16, interface count u16, hash u32; the vtable; the interfaces; then 4-byte relative pointers, present
// by flag. It is a private contract of the pinned compiler version: the self-test image exercises every part of it.
// Source: dotnet/runtime, src/coreclr/nativeaot/Common/src/Internal/Runtime/MethodTable.cs, and what the pinned compiler emits.

using System;

namespace Internal.Runtime;

internal unsafe struct MethodTable
{
    private const ushort HasDispatchMapFlag = 0x0004;
    private const ushort HasFinalizerFlag = 0x0010;

    // Header word (8), type pointer (8) and the padding of the smallest object are part of the base size.
    private const uint ObjectOverhead = 16;

    private readonly ushort _componentSize;
    private readonly ushort _flags;
    private readonly uint _baseSize;
    private readonly MethodTable* _relatedType;
    private readonly ushort _vtableSlotCount;
    private readonly ushort _interfaceCount;
    private readonly uint _hashCode;

    // SAFETY (whole struct): instances exist only where the compiler wrote them, so what follows them in memory is as laid out above.

    internal readonly uint ComponentSize => _componentSize;

    internal readonly uint BaseSize => _baseSize;

    internal readonly uint PayloadSize => _baseSize - ObjectOverhead;

    internal readonly MethodTable* RelatedType => _relatedType;

    internal readonly bool HasDispatchMap => (_flags & HasDispatchMapFlag) != 0;

    internal readonly int VtableSlotCount => _vtableSlotCount;

    internal readonly int InterfaceCount => _interfaceCount;

    internal static void** Vtable(MethodTable* type) => (void**)(type + 1);

    internal static MethodTable** Interfaces(MethodTable* type) => (MethodTable**)(Vtable(type) + type->_vtableSlotCount);

    internal static DispatchMap* DispatchMapOf(MethodTable* type) => (DispatchMap*)Follow(OptionalFields(type));

    internal static void* SealedVirtual(MethodTable* type, int index)
    {
        byte* field = OptionalFields(type) + sizeof(int);
        if ((type->_flags & HasFinalizerFlag) != 0)
        {
            field += sizeof(int);
        }

        return Follow(Follow(field) + (index * sizeof(int)));
    }

    // Behind the interfaces: two relative pointers (module, writable data) that every type has.
    private static byte* OptionalFields(MethodTable* type) => (byte*)(Interfaces(type) + type->_interfaceCount) + (2 * sizeof(int));

    // A 4-byte offset, counted from its own address.
    internal static byte* Follow(byte* field) => field + *(int*)field;
}

// Which method implements which interface slot: first the class's own, then default implementations, each with static ones apart.
internal unsafe struct DispatchMap
{
    internal struct Entry
    {
        internal ushort InterfaceIndex;
        internal ushort InterfaceSlot;
        internal ushort ImplementationSlot;
    }

    private readonly ushort _standardCount;
    private readonly ushort _defaultCount;
    private readonly ushort _standardStaticCount;
    private readonly ushort _defaultStaticCount;

    internal static ReadOnlySpan<Entry> Standard(DispatchMap* map) => new(map + 1, map->_standardCount);

    internal static ReadOnlySpan<Entry> Default(DispatchMap* map) => new((Entry*)(map + 1) + map->_standardCount, map->_defaultCount);
}
