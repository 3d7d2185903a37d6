// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The description that the compiler writes for every type an image can allocate or cast to, and that every object points to.
//
// Layout, in 8-byte words: component size (arrays, strings) or extended flags u16, flags u16, base size u32; related type (base class, or the
// element type of an array); vtable slot count u16, interface count u16, hash u32; the vtable; the interfaces; then 4-byte relative pointers:
// module, writable data, and by flag dispatch map, finalizer, sealed virtual slots, generic definition, generic arguments.
// It is a private contract of the pinned compiler version: the self-test image exercises every part of it that is read here.
// Source: dotnet/runtime, src/coreclr/nativeaot/Common/src/Internal/Runtime/MethodTable.cs, and what the pinned compiler emits.

using System;
using System.Runtime.CompilerServices;

namespace Internal.Runtime;

internal unsafe struct MethodTable
{
    private const ushort HasDispatchMapFlag = 0x0004;
    private const ushort HasFinalizerFlag = 0x0010;
    private const ushort HasSealedVirtualsFlag = 0x0040;
    private const int ElementTypeShift = 10;
    private const ushort ElementTypeMask = 0x1F;
    private const int PaddingShift = 5;
    private const ushort PaddingMask = 0x7;
    private const int NullableOffsetShift = 8;
    private const ushort NullableOffsetMask = 0x7;

    // The base size counts a word before the type pointer, where a runtime keeps locks and hashes: not allocated here.
    private const uint UnusedHeader = 8;
    private const uint TypePointer = 8;

    private readonly ushort _componentSizeOrExtendedFlags;
    private readonly ushort _flags;
    private readonly uint _baseSize;
    private readonly MethodTable* _relatedType;
    private readonly ushort _vtableSlotCount;
    private readonly ushort _interfaceCount;
    private readonly uint _hashCode;

    // SAFETY (whole struct): instances exist only where the compiler wrote them, so what follows them in memory is as laid out above.

    /// <summary>Of arrays and strings: bytes of one element.</summary>
    internal readonly uint ComponentSize => _componentSizeOrExtendedFlags;

    /// <summary>Bytes of an object; of an array or a string without its elements.</summary>
    internal readonly uint InstanceSize => _baseSize - UnusedHeader;

    /// <summary>Bytes of an object's fields, with padding at the end.</summary>
    internal readonly uint PayloadSize => InstanceSize - TypePointer;

    /// <summary>Bytes of a value outside of a box.</summary>
    internal readonly uint ValueSize => PayloadSize - ((uint)(_componentSizeOrExtendedFlags >> PaddingShift) & PaddingMask);

    internal readonly ElementType ElementType => (ElementType)((_flags >> ElementTypeShift) & ElementTypeMask);

    internal readonly bool IsArray => ElementType is ElementType.Array or ElementType.VectorArray;

    /// <summary>Of a <c>Nullable</c>: offset of the value behind the flag.</summary>
    internal readonly int NullableValueOffset => 1 << ((_componentSizeOrExtendedFlags >> NullableOffsetShift) & NullableOffsetMask);

    /// <summary>The base class; of an array the element type; null of <c>object</c> and of interfaces.</summary>
    internal readonly MethodTable* RelatedType => _relatedType;

    internal readonly bool HasDispatchMap => (_flags & HasDispatchMapFlag) != 0;

    internal readonly int VtableSlotCount => _vtableSlotCount;

    internal readonly int InterfaceCount => _interfaceCount;

    internal static void** Vtable(MethodTable* type) => (void**)(type + 1);

    internal static MethodTable** Interfaces(MethodTable* type) => (MethodTable**)(Vtable(type) + type->_vtableSlotCount);

    /// <summary>The type of <typeparamref name="T"/>.</summary>
    [Intrinsic]
    internal static extern MethodTable* Of<T>();

    internal static DispatchMap* DispatchMapOf(MethodTable* type) => (DispatchMap*)Follow(DispatchMapField(type));

    internal static void* SealedVirtual(MethodTable* type, int index) => Follow(Follow(SealedVirtualsField(type)) + (index * sizeof(int)));

    /// <summary>Of a <c>Nullable</c>: the type of its value. A single generic argument is pointed to directly.</summary>
    internal static MethodTable* NullableValueType(MethodTable* type)
    {
        byte* genericDefinition = SealedVirtualsField(type) + ((type->_flags & HasSealedVirtualsFlag) != 0 ? sizeof(int) : 0);
        return (MethodTable*)Follow(genericDefinition + sizeof(int));
    }

    // The first two relative pointers, which every type has, are skipped.
    private static byte* DispatchMapField(MethodTable* type) => (byte*)(Interfaces(type) + type->_interfaceCount) + (2 * sizeof(int));

    private static byte* SealedVirtualsField(MethodTable* type) =>
        DispatchMapField(type)
        + ((type->_flags & HasDispatchMapFlag) != 0 ? sizeof(int) : 0)
        + ((type->_flags & HasFinalizerFlag) != 0 ? sizeof(int) : 0);

    // A 4-byte offset, counted from its own address.
    internal static byte* Follow(byte* field) => field + *(int*)field;
}

// What kind of type it is. Enumerations have the value of their underlying type.
internal enum ElementType
{
    SByte = 0x04,
    UIntPtr = 0x0D,
    Nullable = 0x12,
    Class = 0x14,
    Interface = 0x15,
    SystemArray = 0x16,
    Array = 0x17,
    VectorArray = 0x18,
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
