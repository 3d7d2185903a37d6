// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Everything of a store that a guest which moves relies on: its variables, stored or not, and what has been laid down since it started. Little-endian.
//
//   00 u32 flags: bit 0 DXE has ended, 1 boot services are exited, 2 policies are locked, 3 a dump of policies is under way
//   04 u32 bytes of the policies | 08 u32 bytes of the dump: of that many of them | 0C u32 properties | 10 u32 variables
//   14 the state, as record 0 of a storage (34)
//   36 policies, one behind the other
//      properties: u16 bytes of the name, without NUL | u16 bit 0 read-only | GUID (16) | u32 attributes | u64 fewest, u64 most bytes | name
//      variables: u32 number | u32 flags: bit 0 the storage has it | u32 bytes of the record | a record of a storage, of any length and
//        with attributes of volatile variables as well
//
// Volatile variables first, then the others, each kind by ascending numbers: so the same store always gives the same bytes. What is read is checked as if
// nobody vouched for it: limits, names, numbers, and what the engine itself relies on.

using System;
using System.Buffers.Binary;
using System.Runtime.InteropServices;

namespace Svsm.Modules.VarStore;

internal static class MovedVariables
{
    private const uint EndOfDxeFlag = 1;
    private const uint RuntimeFlag = 2;
    private const uint LockedFlag = 4;
    private const uint DumpFlag = 8;
    private const uint StoredFlag = 1;

    private const int HeaderLength = 0x14;
    private const int PropertyLength = 40;
    private const int VariableLength = 12;

    /// <summary>Writes it, in one array: there is no room in a module for more than that.</summary>
    /// <param name="before">Bytes of zero in front of it, for whoever asks.</param>
    /// <param name="table">The variables.</param>
    /// <param name="service">Their service.</param>
    /// <param name="messages">Its messages about policies.</param>
    public static byte[] Save(int before, VariableTable table, VariableService service, PolicyMessages messages)
    {
        byte[] policies = service.Policies.Dump();
        int variables = 0;
        int length = HeaderLength + VariableRecord.StateLength + policies.Length;
        for (Variable? variable = table.Next(null); variable is not null; variable = table.Next(variable))
        {
            variables++;
            length += VariableLength + VariableRecord.Length(variable);
        }

        foreach (VariableId id in service.Properties.Added.Keys)
        {
            length += PropertyLength + (id.Name.Length * sizeof(char));
        }

        byte[] whole = new byte[before + length];
        Span<byte> state = whole.AsSpan(before);
        BinaryPrimitives.WriteUInt32LittleEndian(
            state,
            (service.IsEndOfDxe ? EndOfDxeFlag : 0) | (service.IsRuntime ? RuntimeFlag : 0) | (service.Policies.IsLocked ? LockedFlag : 0)
                | (messages.DumpLength is not null ? DumpFlag : 0));
        BinaryPrimitives.WriteInt32LittleEndian(state[4..], policies.Length);
        BinaryPrimitives.WriteInt32LittleEndian(state[8..], messages.DumpLength ?? 0);
        BinaryPrimitives.WriteInt32LittleEndian(state[0x0C..], service.Properties.Added.Count);
        BinaryPrimitives.WriteInt32LittleEndian(state[0x10..], variables);
        VariableRecord.Write(table.State).CopyTo(state[HeaderLength..]);
        policies.CopyTo(state[(HeaderLength + VariableRecord.StateLength)..]);
        Span<byte> rest = state[(HeaderLength + VariableRecord.StateLength + policies.Length)..];
        foreach ((VariableId id, VariableProperty property) in service.Properties.Added)
        {
            ReadOnlySpan<byte> name = MemoryMarshal.AsBytes(id.Name.AsSpan());
            BinaryPrimitives.WriteUInt16LittleEndian(rest, (ushort)name.Length);
            BinaryPrimitives.WriteUInt16LittleEndian(rest[2..], property.IsReadOnly ? (ushort)1 : (ushort)0);
            id.Vendor.TryWriteBytes(rest[4..]);
            BinaryPrimitives.WriteUInt32LittleEndian(rest[20..], (uint)property.Attributes);
            BinaryPrimitives.WriteUInt64LittleEndian(rest[24..], property.MinSize);
            BinaryPrimitives.WriteUInt64LittleEndian(rest[32..], property.MaxSize);
            name.CopyTo(rest[PropertyLength..]);
            rest = rest[(PropertyLength + name.Length)..];
        }

        for (Variable? variable = table.Next(null); variable is not null; variable = table.Next(variable))
        {
            byte[] record = VariableRecord.Write(variable);
            BinaryPrimitives.WriteUInt32LittleEndian(rest, variable.Number);
            BinaryPrimitives.WriteUInt32LittleEndian(rest[4..], variable.IsStored ? StoredFlag : 0);
            BinaryPrimitives.WriteInt32LittleEndian(rest[8..], record.Length);
            record.CopyTo(rest[VariableLength..]);
            rest = rest[(VariableLength + record.Length)..];
        }

        return whole;
    }

    /// <summary>Reads it into a service that has nothing yet.</summary>
    /// <param name="untrusted">The state.</param>
    /// <param name="table">The service's table, which gets the variables; its storage does not.</param>
    /// <param name="service">The service.</param>
    /// <param name="messages">Its messages about policies.</param>
    /// <returns>False: it is none, and service and table are of no use.</returns>
    public static bool TryRestore(ReadOnlySpan<byte> untrusted, VariableTable table, VariableService service, PolicyMessages messages)
    {
        if (untrusted.Length < HeaderLength + VariableRecord.StateLength
            || !VariableRecord.TryReadState(untrusted.Slice(HeaderLength, VariableRecord.StateLength), out StoreState state))
        {
            return false;
        }

        uint flags = BinaryPrimitives.ReadUInt32LittleEndian(untrusted);
        uint policiesLength = BinaryPrimitives.ReadUInt32LittleEndian(untrusted[4..]);
        uint dumpLength = BinaryPrimitives.ReadUInt32LittleEndian(untrusted[8..]);
        uint properties = BinaryPrimitives.ReadUInt32LittleEndian(untrusted[0x0C..]);
        uint variables = BinaryPrimitives.ReadUInt32LittleEndian(untrusted[0x10..]);
        ReadOnlySpan<byte> rest = untrusted[(HeaderLength + VariableRecord.StateLength)..];

        // DXE is over before boot services are, and its end locks policies.
        if (flags > (EndOfDxeFlag | RuntimeFlag | LockedFlag | DumpFlag)
            || (flags & (EndOfDxeFlag | RuntimeFlag)) == RuntimeFlag || (flags & (EndOfDxeFlag | LockedFlag)) == EndOfDxeFlag
            || policiesLength > (uint)rest.Length || ((flags & DumpFlag) == 0 && dumpLength != 0))
        {
            return false;
        }

        if (!service.Policies.TryRestore(rest[..(int)policiesLength], (flags & LockedFlag) != 0)
            || ((flags & DumpFlag) != 0 && !messages.TryRestoreDump(dumpLength)))
        {
            return false;
        }

        rest = rest[(int)policiesLength..];
        for (; properties != 0; properties--)
        {
            if (!TryReadProperty(ref rest, service.Properties))
            {
                return false;
            }
        }

        for (; variables != 0; variables--)
        {
            if (!TryReadVariable(ref rest, out Variable? variable) || !table.TryAdd(variable!))
            {
                return false;
            }
        }

        // More than a quota is what another version may have left, and what the engine makes itself is not the guest's; more than twice of it is neither.
        if (table.NonVolatileSize > 2 * VariableLimits.NonVolatileQuota || table.VolatileSize > 2 * VariableLimits.VolatileQuota)
        {
            return false;
        }

        table.SetState(state);
        service.Restore((flags & EndOfDxeFlag) != 0, (flags & RuntimeFlag) != 0);
        return rest.IsEmpty && service.SecureBoot.IsWhole;
    }

    private static bool TryReadProperty(ref ReadOnlySpan<byte> rest, VariableProperties properties)
    {
        if (rest.Length < PropertyLength)
        {
            return false;
        }

        int nameLength = BinaryPrimitives.ReadUInt16LittleEndian(rest);
        uint flags = BinaryPrimitives.ReadUInt16LittleEndian(rest[2..]);
        if (flags > 1 || !VariableRecord.TryReadName(rest[PropertyLength..], nameLength, out string name))
        {
            return false;
        }

        var id = new VariableId(new Guid(rest.Slice(4, 16)), name);
        var property = new VariableProperty(
            flags == 1, (VariableAttributes)BinaryPrimitives.ReadUInt32LittleEndian(rest[20..]), BinaryPrimitives.ReadUInt64LittleEndian(rest[24..]),
            BinaryPrimitives.ReadUInt64LittleEndian(rest[32..]));
        rest = rest[(PropertyLength + nameLength)..];
        return !properties.Added.ContainsKey(id) && properties.Set(id, property) == EfiStatus.Success;
    }

    private static bool TryReadVariable(ref ReadOnlySpan<byte> rest, out Variable? variable)
    {
        variable = null;
        if (rest.Length < VariableLength)
        {
            return false;
        }

        uint number = BinaryPrimitives.ReadUInt32LittleEndian(rest);
        uint flags = BinaryPrimitives.ReadUInt32LittleEndian(rest[4..]);
        uint length = BinaryPrimitives.ReadUInt32LittleEndian(rest[8..]);
        rest = rest[VariableLength..];
        if (number is 0 or >= VariableRecord.RestNumber || flags > StoredFlag || length > (uint)rest.Length
            || !VariableRecord.TryRead(number, rest[..(int)length], canBeVolatile: true, out Variable? read)
            || (flags == StoredFlag && (!read!.IsNonVolatile || read.Id == KnownVariables.CustomMode)))
        {
            return false;
        }

        rest = rest[(int)length..];
        variable = read! with { IsStored = flags == StoredFlag };
        return true;
    }
}
