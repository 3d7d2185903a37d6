// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The messages of the variable service, for VariableStore. A message and its answer share a payload, little-endian:
//
//   00 u64 function | 08 u64 EFI_STATUS, in the answer | 10 what belongs to the function
//
//    1 GetVariable          00 GUID | 10 u64 bytes of data | 18 u64 bytes of the name, with NUL | 20 u32 attributes | 24 name, data. Answer: bytes,
//    3 SetVariable             attributes, data. The data has to fit behind the name into the payload, also for a get
//    2 GetNextVariableName  00 GUID | 10 u64 bytes that there are for the name | 18 name. All of the rest of the payload is for the name
//    4 QueryVariableInfo    00 u64 all, 08 u64 left, 10 u64 largest variable | 18 u32 attributes, which are the question
//    5 ready to boot, 6 ExitBootServices: nothing
//    8 lock a variable      00 GUID | 10 u64 bytes of the name | 18 name
//    9, 10 property         00 GUID | 10 u64 bytes of the name | 18 u16 revision 1, u16 bit 0 read-only, u32 attributes, u64 fewest, u64 most bytes | 30 name
//   11 payload size         00 u64 the largest payload behind the function header
//
// Not served: 7 (statistics) is for a build of EDK2 that counts; 12 to 14 (a cache in the memory of the guest) is what OVMF refuses to have together
// with such a service. They are EFI_UNSUPPORTED, as anything unknown.
//
// Source: EDK2 MdeModulePkg/Include/Guid/SmmVariableCommon.h; VariableSmm.c (SmmVariableHandler) for the checks; VariableSmmRuntimeDxe.c for what the client
// of OVMF sends.

using System;
using System.Buffers.Binary;
using System.Runtime.InteropServices;

namespace Svsm.Modules.VarStore;

internal sealed class VariableMessages(VariableService service)
{
    public const int HeaderLength = 16;

    private const int GuidLength = 16;
    private const int DataSizeOffset = 16;
    private const int AccessNameSizeOffset = 24;
    private const int AccessAttributesOffset = 32;
    private const int AccessNameOffset = 36;
    private const int NameSizeOffset = 16;
    private const int NameOffset = 24;
    private const int InfoAttributesOffset = 24;
    private const int InfoLength = 28;
    private const int PropertyOffset = 24;
    private const int PropertyNameOffset = 48;
    private const ushort PropertyRevision = 1;
    private const ushort ReadOnlyProperty = 1;

    private enum Function : ulong
    {
        Get = 1,
        GetNextName = 2,
        Set = 3,
        Query = 4,
        ReadyToBoot = 5,
        ExitBootServices = 6,
        Lock = 8,
        SetProperty = 9,
        GetProperty = 10,
        GetPayloadSize = 11,
    }

    /// <summary>Answers a message in place.</summary>
    /// <param name="message">The payload, at least <see cref="HeaderLength"/>; a private copy.</param>
    /// <param name="capacity">The longest payload that the guest's buffer has room for.</param>
    public void Answer(Memory<byte> message, int capacity)
    {
        Memory<byte> body = message[HeaderLength..];
        EfiStatus status = (Function)BinaryPrimitives.ReadUInt64LittleEndian(message.Span) switch
        {
            Function.Get => Get(body.Span),
            Function.GetNextName => GetNextName(body.Span),
            Function.Set => Set(body),
            Function.Query => Query(body.Span),
            Function.ReadyToBoot => service.GetReadyToBoot(),
            Function.ExitBootServices => ExitBootServices(),
            Function.Lock => Lock(body.Span),
            Function.SetProperty => SetProperty(body.Span),
            Function.GetProperty => GetProperty(body.Span),
            Function.GetPayloadSize => GetPayloadSize(body.Span, capacity),
            _ => EfiStatus.Unsupported,
        };
        BinaryPrimitives.WriteUInt64LittleEndian(message.Span[sizeof(ulong)..], (ulong)status);
    }

    private static EfiStatus GetPayloadSize(Span<byte> body, int capacity)
    {
        if (body.Length < sizeof(ulong))
        {
            return EfiStatus.BadBufferSize;
        }

        BinaryPrimitives.WriteUInt64LittleEndian(body, (ulong)(capacity - HeaderLength));
        return EfiStatus.Success;
    }

    // What both a get and a set have. The data is behind the name, as long as is said.
    private static EfiStatus ReadAccess(ReadOnlySpan<byte> body, out VariableId id, out int dataOffset, out int dataSize)
    {
        id = VariableId.None;
        dataOffset = 0;
        dataSize = 0;
        if (body.Length < AccessNameOffset)
        {
            return EfiStatus.BadBufferSize;
        }

        ulong untrustedData = BinaryPrimitives.ReadUInt64LittleEndian(body[DataSizeOffset..]);
        ulong untrustedName = BinaryPrimitives.ReadUInt64LittleEndian(body[AccessNameSizeOffset..]);
        ulong room = (ulong)(body.Length - AccessNameOffset);
        if (untrustedData > room || untrustedName > room - untrustedData || !TryReadName(body.Slice(AccessNameOffset, (int)untrustedName), out string name))
        {
            return EfiStatus.AccessDenied;
        }

        id = new(new Guid(body[..GuidLength]), name);
        dataOffset = AccessNameOffset + (int)untrustedName;
        dataSize = (int)untrustedData;
        return EfiStatus.Success;
    }

    // A NUL has to be the last unit; the name ends at the first one.
    private static bool TryReadName(ReadOnlySpan<byte> bytes, out string name)
    {
        name = "";
        ReadOnlySpan<char> units = MemoryMarshal.Cast<byte, char>(bytes);
        if (units.IsEmpty || units[^1] != '\0')
        {
            return false;
        }

        name = new string(units[..units.IndexOf('\0')]);
        return true;
    }

    private static EfiStatus ReadNamed(ReadOnlySpan<byte> body, int nameOffset, out VariableId id)
    {
        id = VariableId.None;
        if (body.Length < nameOffset)
        {
            return EfiStatus.BadBufferSize;
        }

        ulong untrustedName = BinaryPrimitives.ReadUInt64LittleEndian(body[NameSizeOffset..]);
        if (untrustedName > (ulong)(body.Length - nameOffset) || !TryReadName(body.Slice(nameOffset, (int)untrustedName), out string name))
        {
            return EfiStatus.AccessDenied;
        }

        id = new(new Guid(body[..GuidLength]), name);
        return name.Length is 0 || Variable.NameLength(name) > VariableLimits.MaxNameLength ? EfiStatus.InvalidParameter : EfiStatus.Success;
    }

    private EfiStatus Get(Span<byte> body)
    {
        EfiStatus status = ReadAccess(body, out VariableId id, out int dataOffset, out int dataSize);
        if (status != EfiStatus.Success)
        {
            return status;
        }

        if (service.Find(id) is not Variable variable)
        {
            return EfiStatus.NotFound;
        }

        BinaryPrimitives.WriteUInt64LittleEndian(body[DataSizeOffset..], (ulong)variable.Data.Length);
        BinaryPrimitives.WriteUInt32LittleEndian(body[AccessAttributesOffset..], (uint)variable.Attributes);
        if (variable.Data.Length > dataSize)
        {
            return EfiStatus.BufferTooSmall;
        }

        variable.Data.CopyTo(body[dataOffset..]);
        return EfiStatus.Success;
    }

    private EfiStatus GetNextName(Span<byte> body)
    {
        if (body.Length < NameOffset)
        {
            return EfiStatus.BadBufferSize;
        }

        ulong untrustedSize = BinaryPrimitives.ReadUInt64LittleEndian(body[NameSizeOffset..]);
        Span<byte> nameBytes = body[NameOffset..];
        ReadOnlySpan<char> units = MemoryMarshal.Cast<byte, char>(nameBytes);
        if (untrustedSize > (ulong)nameBytes.Length || units.IsEmpty || units[^1] != '\0')
        {
            return EfiStatus.AccessDenied;
        }

        int end = units[..((int)untrustedSize / sizeof(char))].IndexOf('\0');
        if (end < 0)
        {
            return EfiStatus.InvalidParameter;
        }

        EfiStatus status = service.GetNext(new(new Guid(body[..GuidLength]), new string(units[..end])), out Variable? next);
        if (status != EfiStatus.Success)
        {
            return status;
        }

        int length = Variable.NameLength(next!.Id.Name);
        BinaryPrimitives.WriteUInt64LittleEndian(body[NameSizeOffset..], (ulong)length);
        if ((ulong)length > untrustedSize)
        {
            return EfiStatus.BufferTooSmall;
        }

        next.Id.Vendor.TryWriteBytes(body);
        MemoryMarshal.AsBytes(next.Id.Name.AsSpan()).CopyTo(nameBytes);
        nameBytes.Slice(length - sizeof(char), sizeof(char)).Clear();
        return EfiStatus.Success;
    }

    private EfiStatus Set(ReadOnlyMemory<byte> body)
    {
        EfiStatus status = ReadAccess(body.Span, out VariableId id, out int dataOffset, out int dataSize);
        return status != EfiStatus.Success
            ? status
            : service.Set(id, (VariableAttributes)BinaryPrimitives.ReadUInt32LittleEndian(body.Span[AccessAttributesOffset..]), body.Slice(dataOffset, dataSize));
    }

    private EfiStatus Query(Span<byte> body)
    {
        if (body.Length < InfoLength)
        {
            return EfiStatus.BadBufferSize;
        }

        EfiStatus status = service.Query((VariableAttributes)BinaryPrimitives.ReadUInt32LittleEndian(body[InfoAttributesOffset..]), out VariableInfo info);
        if (status == EfiStatus.Success)
        {
            BinaryPrimitives.WriteUInt64LittleEndian(body, info.MaxStorage);
            BinaryPrimitives.WriteUInt64LittleEndian(body[8..], info.RemainingStorage);
            BinaryPrimitives.WriteUInt64LittleEndian(body[16..], info.MaxVariable);
        }

        return status;
    }

    private EfiStatus ExitBootServices()
    {
        service.ExitBootServices();
        return EfiStatus.Success;
    }

    private EfiStatus Lock(ReadOnlySpan<byte> body)
    {
        if (service.IsEndOfDxe)
        {
            return EfiStatus.AccessDenied;
        }

        EfiStatus status = ReadNamed(body, NameOffset, out VariableId id);
        return status != EfiStatus.Success ? status : service.Policies.Register(VariablePolicy.NewLock(id));
    }

    private EfiStatus SetProperty(ReadOnlySpan<byte> body)
    {
        if (service.IsEndOfDxe)
        {
            return EfiStatus.AccessDenied;
        }

        EfiStatus status = ReadNamed(body, PropertyNameOffset, out VariableId id);
        if (status != EfiStatus.Success)
        {
            return status;
        }

        ReadOnlySpan<byte> property = body[PropertyOffset..];
        return BinaryPrimitives.ReadUInt16LittleEndian(property) != PropertyRevision
            ? EfiStatus.InvalidParameter
            : service.Properties.Set(id, new(
                (BinaryPrimitives.ReadUInt16LittleEndian(property[2..]) & ReadOnlyProperty) != 0,
                (VariableAttributes)BinaryPrimitives.ReadUInt32LittleEndian(property[4..]),
                BinaryPrimitives.ReadUInt64LittleEndian(property[8..]),
                BinaryPrimitives.ReadUInt64LittleEndian(property[16..])));
    }

    private EfiStatus GetProperty(Span<byte> body)
    {
        EfiStatus status = ReadNamed(body, PropertyNameOffset, out VariableId id);
        if (status != EfiStatus.Success)
        {
            return status;
        }

        if (service.Properties.Find(id) is not VariableProperty found)
        {
            return EfiStatus.NotFound;
        }

        Span<byte> property = body[PropertyOffset..];
        BinaryPrimitives.WriteUInt16LittleEndian(property, PropertyRevision);
        BinaryPrimitives.WriteUInt16LittleEndian(property[2..], found.IsReadOnly ? ReadOnlyProperty : (ushort)0);
        BinaryPrimitives.WriteUInt32LittleEndian(property[4..], (uint)found.Attributes);
        BinaryPrimitives.WriteUInt64LittleEndian(property[8..], found.MinSize);
        BinaryPrimitives.WriteUInt64LittleEndian(property[16..], found.MaxSize);
        return EfiStatus.Success;
    }
}
