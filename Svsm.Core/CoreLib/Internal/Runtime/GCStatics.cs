// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Static fields that hold references live in one object per class, which must exist before the first access.

using System;
using System.Runtime;
using System.Runtime.CompilerServices;
using Internal.Runtime.CompilerHelpers;

namespace Internal.Runtime;

/// <summary>Creates the objects that hold static fields with references.</summary>
public static unsafe class GCStatics
{
    // Source: dotnet/runtime, ReadyToRunHeader and StartupCodeHelpers.InitializeStatics of the pinned version.
    private const int GCStaticRegion = 201;
    private const int UninitializedFlag = 1;
    private const int HasPreinitializedDataFlag = 2;

    private struct Header
    {
        internal uint Signature;
        internal ushort MajorVersion;
        internal ushort MinorVersion;
        internal uint Flags;
        internal ushort SectionCount;
        internal byte EntrySize;
        internal byte EntryType;
    }

    private struct Section
    {
        internal int Id;
        internal int Flags;
        internal byte* Start;
        internal byte* End;
    }

    /// <summary>Creates the objects. Once, on one CPU, with the allocator ready, before C# that uses such fields.</summary>
    public static void Initialize()
    {
        // SAFETY: the header and what it points to were written by the compiler of this image.
        Header* header = ModuleHeader();
        Section* sections = (Section*)(header + 1);
        for (int i = 0; i < header->SectionCount; i++)
        {
            if (sections[i].Id != GCStaticRegion)
            {
                continue;
            }

            for (byte* entry = sections[i].Start; entry < sections[i].End; entry += sizeof(int))
            {
                InitializeOne(MethodTable.Follow(entry));
            }
        }
    }

    // The block is one word. Before: a relative pointer to the type of the holder object with two flag bits, then one to initial contents. After: the object.
    private static void InitializeOne(byte* block)
    {
        int value = *(int*)block;
        if ((value & UninitializedFlag) == 0)
        {
            return;
        }

        MethodTable* type = (MethodTable*)((nint)(block + value) & ~3);
        void* holder = Allocation.NewObject(type);
        if ((value & HasPreinitializedDataFlag) != 0)
        {
            SpanHelpers.NativeMove((byte*)holder + sizeof(void*), MethodTable.Follow(block + sizeof(int)), type->PayloadSize);
        }

        *(void**)block = holder;
    }

    [RuntimeImport("*", "svsm_module_header")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    private static extern Header* ModuleHeader();
}
