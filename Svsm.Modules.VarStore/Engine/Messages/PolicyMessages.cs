// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The messages of the variable-policy service, for VariableStore. Payload, little-endian, packed:
//
//   00 u32 'VCPC' | 04 u32 revision 1 | 08 u32 command | 0C u64 EFI_STATUS, in the answer | 14 what belongs to the command
//
//   1 disable        nothing. Always EFI_WRITE_PROTECTED, as EDK2 unless a platform says otherwise: policies are what firmware trusts
//   2 is enabled     00 u8: 1
//   3 register       the entry (VariablePolicies.cs)
//   4 dump           00 u32 page | 04 u32 bytes of all | 08 u32 bytes of the page | 0C u8 more follow | 0D the page. Page 0 asks for the size, page n is the
//                    n-th of at most PageLength bytes
//   5 lock           nothing
//   6 info, 7 info about the state that locks    00 GUID | 10 u32 bytes of the name | 14 u32 bytes for a name that is told | 18 the entry's header, or what it
//                    says about the state (44 bytes) | 44 name, told name
//
// Dump and info want the whole buffer that EDK2 uses for them, 4 pages with all headers, whatever is in it.
//
// Source: EDK2 MdeModulePkg/Include/Guid/VarCheckPolicyMmi.h (and ..Common.h), MdeModulePkg/Library/VarCheckPolicyLib, VariablePolicyLib.

using System;
using System.Buffers.Binary;
using System.Runtime.InteropServices;

namespace Svsm.Modules.VarStore;

internal sealed class PolicyMessages(VariablePolicies policies)
{
    public const int HeaderLength = 20;

    /// <summary>Bytes of a page of a dump.</summary>
    public const int PageLength = WholeLength - HeaderLength - DumpHeaderLength;

    private const uint Signature = 0x4350_4356;
    private const uint Revision = 1;
    private const int ResultOffset = 12;

    // 4 pages without the header of the message.
    private const int WholeLength = 0x4000 - VariableStore.MessageHeaderLength;
    private const int DumpHeaderLength = 13;
    private const int InfoNameLengthOffset = 16;
    private const int InfoToldLengthOffset = 20;
    private const int InfoEntryOffset = 24;
    private const int InfoNameOffset = InfoEntryOffset + VariablePolicy.HeaderLength;

    private byte[]? _dump;

    private enum Command : uint
    {
        Disable = 1,
        IsEnabled = 2,
        Register = 3,
        Dump = 4,
        Lock = 5,
        Info = 6,
        StateInfo = 7,
    }

    /// <summary>Bytes of the dump that is under way; null: none is. Policies are only added while one is, so it is the first ones.</summary>
    public int? DumpLength => _dump?.Length;

    /// <summary>Goes on with a dump.</summary>
    /// <param name="length">Its bytes. Untrusted.</param>
    /// <returns>False: there are not so many.</returns>
    public bool TryRestoreDump(uint length)
    {
        byte[] all = policies.Dump();
        if (length > (uint)all.Length)
        {
            return false;
        }

        _dump = all[..(int)length];
        return true;
    }

    /// <summary>Forgets what was kept for the guest before.</summary>
    public void Clear() => _dump = null;

    /// <summary>Answers a message in place.</summary>
    /// <param name="message">The payload, at least <see cref="HeaderLength"/>; a private copy.</param>
    public void Answer(Span<byte> message)
    {
        EfiStatus status = BinaryPrimitives.ReadUInt32LittleEndian(message) != Signature || BinaryPrimitives.ReadUInt32LittleEndian(message[4..]) != Revision
            ? EfiStatus.InvalidParameter
            : Execute((Command)BinaryPrimitives.ReadUInt32LittleEndian(message[8..]), message[HeaderLength..]);
        BinaryPrimitives.WriteUInt64LittleEndian(message[ResultOffset..], (ulong)status);
    }

    private EfiStatus Execute(Command command, Span<byte> body)
    {
        // A dump in pages ends with any other command.
        if (command != Command.Dump)
        {
            _dump = null;
        }

        return command switch
        {
            Command.Disable => EfiStatus.WriteProtected,
            Command.IsEnabled => IsEnabled(body),
            Command.Register => policies.Register(body),
            Command.Dump => Dump(body),
            Command.Lock => policies.Lock(),
            Command.Info => Info(body, ofState: false),
            Command.StateInfo => Info(body, ofState: true),
            _ => EfiStatus.Unsupported,
        };
    }

    private static EfiStatus IsEnabled(Span<byte> body)
    {
        if (body.IsEmpty)
        {
            return EfiStatus.InvalidParameter;
        }

        body[0] = 1;
        return EfiStatus.Success;
    }

    private EfiStatus Dump(Span<byte> body)
    {
        if (body.Length < WholeLength - HeaderLength)
        {
            return EfiStatus.InvalidParameter;
        }

        uint page = BinaryPrimitives.ReadUInt32LittleEndian(body);
        int length = 0;
        bool hasMore = false;
        var status = EfiStatus.Success;
        if (page == 0)
        {
            _dump = policies.Dump();
            hasMore = _dump.Length != 0;
        }
        else if (_dump is null)
        {
            status = EfiStatus.Timeout;
        }
        else if (page > (uint)((_dump.Length + PageLength - 1) / PageLength))
        {
            status = EfiStatus.InvalidParameter;
        }
        else
        {
            int at = ((int)page - 1) * PageLength;
            length = Math.Min(PageLength, _dump.Length - at);
            hasMore = at + length < _dump.Length;
            _dump.AsSpan(at, length).CopyTo(body[DumpHeaderLength..]);
        }

        BinaryPrimitives.WriteInt32LittleEndian(body[4..], _dump?.Length ?? 0);
        BinaryPrimitives.WriteInt32LittleEndian(body[8..], length);
        body[12] = hasMore ? (byte)1 : (byte)0;
        return status;
    }

    private EfiStatus Info(Span<byte> body, bool ofState)
    {
        if (body.Length < WholeLength - HeaderLength)
        {
            return EfiStatus.InvalidParameter;
        }

        Span<byte> names = body[InfoNameOffset..(WholeLength - HeaderLength)];
        uint nameLength = BinaryPrimitives.ReadUInt32LittleEndian(body[InfoNameLengthOffset..]);
        uint toldLength = BinaryPrimitives.ReadUInt32LittleEndian(body[InfoToldLengthOffset..]);
        if (nameLength > (uint)names.Length || toldLength > (uint)names.Length - nameLength)
        {
            return EfiStatus.InvalidParameter;
        }

        ReadOnlySpan<char> name = MemoryMarshal.Cast<byte, char>(names[..(int)nameLength]);
        int end = name.IndexOf('\0');
        if (end < 0)
        {
            return EfiStatus.InvalidParameter;
        }

        VariablePolicy? policy = policies.Find(new(new Guid(body[..InfoNameLengthOffset]), new string(name[..end])));
        Span<byte> entry = body.Slice(InfoEntryOffset, VariablePolicy.HeaderLength);
        entry.Clear();
        if (policy is null || (ofState && policy.State is null))
        {
            return EfiStatus.NotFound;
        }

        policy.Entry.AsSpan(ofState ? VariablePolicy.HeaderLength : 0, ofState ? VariablePolicy.StateLength : VariablePolicy.HeaderLength).CopyTo(entry);
        string? told = ofState ? policy.State!.Name : policy.Name;
        int needed = told is null ? 0 : Variable.NameLength(told);
        BinaryPrimitives.WriteInt32LittleEndian(body[InfoToldLengthOffset..], needed);
        if ((uint)needed > toldLength)
        {
            return EfiStatus.BufferTooSmall;
        }

        Span<byte> place = names[(int)nameLength..];
        if (told is null)
        {
            place.Clear();
        }
        else
        {
            MemoryMarshal.AsBytes(told.AsSpan()).CopyTo(place);
            place.Slice(needed - sizeof(char), sizeof(char)).Clear();
        }

        return EfiStatus.Success;
    }
}
