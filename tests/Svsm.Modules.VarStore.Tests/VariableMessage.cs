// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// A message of EDK2's variable driver as bytes, made without the engine that reads it. Shared with the tests of the store and of the machine. From the
// start: GUID of the protocol, length of what follows (8 bytes); function, status (8 each); the structure of GetVariable and SetVariable: GUID, length of
// the data, length of the name (8 each), attributes (4), name with its end in UTF-16, data.
//
// Source: EDK2, MdeModulePkg/Include/Guid/SmmVariableCommon.h, SMM_VARIABLE_COMMUNICATE_HEADER and SMM_VARIABLE_COMMUNICATE_ACCESS_VARIABLE.

using System;
using System.Buffers.Binary;
using System.Runtime.InteropServices;

namespace Svsm.Modules.VarStore.Tests;

internal static class VariableMessage
{
    public const int StatusOffset = 32;
    public const int DataLengthOffset = 56;
    private const int NameOffset = 76;

    private static readonly Guid s_vendor = new("12345678-9abc-def0-1234-56789abcdef0");

    /// <summary>Where the data of a variable are.</summary>
    public static int DataOffset(string name) => NameOffset + ((name.Length + 1) * 2);

    /// <summary>GetVariable (1) or SetVariable (3).</summary>
    /// <param name="data">What is set, or the room for what is got.</param>
    /// <param name="vendor">Null: one of the tests.</param>
    public static byte[] Access(ulong function, string name, uint attributes, byte[] data, Guid? vendor = null)
    {
        byte[] nameBytes = MemoryMarshal.AsBytes((name + '\0').AsSpan()).ToArray();
        byte[] message = [.. new byte[NameOffset], .. nameBytes, .. data];
        new Guid("ed32d533-99e6-4209-9cc0-2d72cdd998a7").TryWriteBytes(message);
        BinaryPrimitives.WriteInt64LittleEndian(message.AsSpan(16), message.Length - 24);
        BinaryPrimitives.WriteUInt64LittleEndian(message.AsSpan(24), function);
        (vendor ?? s_vendor).TryWriteBytes(message.AsSpan(40));
        BinaryPrimitives.WriteInt64LittleEndian(message.AsSpan(DataLengthOffset), data.Length);
        BinaryPrimitives.WriteInt64LittleEndian(message.AsSpan(64), nameBytes.Length);
        BinaryPrimitives.WriteUInt32LittleEndian(message.AsSpan(72), attributes);
        return message;
    }
}
