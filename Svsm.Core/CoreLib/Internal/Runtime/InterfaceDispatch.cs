// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Calls through an interface with many implementers: finds the method from object and call site. See RhpInitialDynamicInterfaceDispatch in Runtime.S.
//
// A call site has a cell of two words: code address, and the interface as a relative pointer whose two low bits tell its kind. Cells lie in groups;
// the group ends with a cell whose code address is null and whose second word holds the slot number.

using System;
using System.Runtime;
using Internal.Runtime.CompilerHelpers;

namespace Internal.Runtime;

internal static unsafe class InterfaceDispatch
{
    private struct Cell
    {
        internal void* Code;
        internal nint Data;
    }

    // SAFETY (whole class): arguments come from compiled code: an object reference, or null, and the cell of a call site.

    /// <summary>The code that a call through this cell on this object runs.</summary>
    [RuntimeExport("svsm_resolve_interface")]
    internal static void* Resolve(object? instance, nint dispatchCell)
    {
        if (instance is null)
        {
            ThrowHelpers.ThrowNullReferenceException();
        }

        Cell* cell = (Cell*)dispatchCell;
        byte* field = (byte*)&cell->Data;
        MethodTable* interfaceType = (MethodTable*)((nint)MethodTable.Follow(field) & ~3);
        while (cell->Code != null)
        {
            cell++;
        }

        ushort slot = (ushort)cell->Data;
        MethodTable* type = instance.m_pMethodTable;

        // The class and its bases first: a method of theirs beats a default one of the interface.
        void* code = Find(type, interfaceType, slot, useDefaults: false);
        if (code == null)
        {
            code = Find(type, interfaceType, slot, useDefaults: true);
        }

        if (code == null)
        {
            Environment.FailFast("EntryPointNotFoundException: no method for an interface call");
        }

        return code;
    }

    private static void* Find(MethodTable* type, MethodTable* interfaceType, ushort slot, bool useDefaults)
    {
        for (MethodTable* current = type; current != null; current = current->RelatedType)
        {
            if (!current->HasDispatchMap)
            {
                continue;
            }

            DispatchMap* map = MethodTable.DispatchMapOf(current);
            foreach (DispatchMap.Entry entry in useDefaults ? DispatchMap.Default(map) : DispatchMap.Standard(map))
            {
                if (entry.InterfaceSlot != slot || MethodTable.Interfaces(current)[entry.InterfaceIndex] != interfaceType)
                {
                    continue;
                }

                return entry.ImplementationSlot < current->VtableSlotCount
                    ? MethodTable.Vtable(type)[entry.ImplementationSlot]
                    : MethodTable.SealedVirtual(current, entry.ImplementationSlot - current->VtableSlotCount);
            }
        }

        return null;
    }
}
