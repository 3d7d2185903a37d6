// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Writes what has to survive, until the power goes: an NV index of the virtual TPM and three UEFI variables, in turns. Each write is of a number that was
// never written before, over and over, so that a part of it is found out; what is there is told first, and each write that was answered is.
//
//   has P N       place P (0 the NV index, 1 to 3 variables) has the number N; 0: nothing
//   torn P        it has several numbers
//   wrote N       number N is written, to place N modulo 4
//   failed N      it is not: the answer was an error
//
// SAFETY (whole type): the pages are validated before they are used.

using System;
using System.Buffers.Binary;
using System.Runtime.InteropServices;
using Svsm.Platform;
using Svsm.Wire;

namespace Svsm.ProbeGuest;

internal static unsafe class PersistCalls
{
    private const int Places = 4;
    private const int NvLength = 64;
    private const uint NvIndex = 0x0150_0000;
    private const int MaxVariable = 5000;

    private const uint Command = 1;
    private const uint SendCommand = 8;
    private const int RequestHead = 9;
    private const int ResponseHead = 4;
    private const int TpmHead = 10;
    private const uint NoSuchHandle = 0x18B;
    private const ushort NoSessions = 0x8001;
    private const ushort Sessions = 0x8002;
    private const uint DefineSpace = 0x12A;
    private const uint WriteSpace = 0x137;
    private const uint StartUp = 0x144;
    private const uint ReadSpace = 0x14E;

    private const uint Request = 1;
    private const ulong GetFunction = 1;
    private const ulong SetFunction = 3;
    private const uint NonVolatile = 7;
    private const int StatusOffset = 32;
    private const int NameOffset = 76;
    private const int DataOffset = NameOffset + 6;
    private const ulong BufferLength = 0x4000;
    private const ulong NotFound = 0x8000_0000_0000_000E;

    private static ulong TpmPage => TestMemory.PageAt(0);

    private static ulong Message => TestMemory.PageAt(1);

    // GUID of the receiver: variables.
    private static ReadOnlySpan<byte> Receiver => [0x33, 0xD5, 0x32, 0xED, 0xE6, 0x99, 0x09, 0x42, 0x9C, 0xC0, 0x2D, 0x72, 0xCD, 0xD9, 0x98, 0xA7];

    private static ReadOnlySpan<byte> Vendor => [0x78, 0x56, 0x34, 0x12, 0xBC, 0x9A, 0xF0, 0xDE, 0x12, 0x34, 0x56, 0x78, 0x9A, 0xBC, 0xDE, 0xF0];

    // The authorisation area of an empty password.
    private static ReadOnlySpan<byte> Password => [0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0];

    /// <summary>Tells what is there, writes, and ends the VM.</summary>
    /// <param name="count">How many writes.</param>
    public static void Run(ulong count)
    {
        ulong newest = 0;
        bool isReady = TestMemory.TryTake(TestMemory.Base, 1 + (int)(BufferLength / 0x1000));
        BeginCommand(NoSessions, StartUp, [0, 0]);
        isReady = isReady && Execute(12) == 0;
        for (int place = 0; isReady && place < Places; place++)
        {
            isReady = TryTell(place, ref newest);
        }

        for (ulong number = newest + 1; isReady && number <= newest + count; number++)
        {
            bool isWritten = number % Places == 0 ? WriteNv(number) : WriteVariable((int)(number % Places), number);
            Text<Com1>.Write(isWritten ? "wrote "u8 : "failed "u8);
            Text<Com1>.WriteDecimal(number);
            Text<Com1>.WriteLine();
        }

        Machine.Exit(isReady ? ExitStatus.Passed : ExitStatus.Failed);
    }

    private static bool TryTell(int place, ref ulong newest)
    {
        ReadOnlySpan<byte> contents;
        bool isThere = place == 0 ? TryReadNv(out contents, out bool isGood) : TryReadVariable(place, out contents, out isGood);
        if (!isGood)
        {
            return false;
        }

        // Words, which need not be aligned.
        uint number = isThere ? BinaryPrimitives.ReadUInt32LittleEndian(contents) : 0;
        bool isTorn = false;
        for (int at = 0; at + sizeof(uint) <= contents.Length; at += sizeof(uint))
        {
            isTorn |= BinaryPrimitives.ReadUInt32LittleEndian(contents.Slice(at)) != number;
        }

        newest = Math.Max(newest, number);
        Text<Com1>.Write(isTorn ? "torn "u8 : "has "u8);
        Text<Com1>.WriteDecimal(place);
        Text<Com1>.Write(" "u8);
        Text<Com1>.WriteDecimal(number);
        Text<Com1>.WriteLine();
        return true;
    }

    // Makes the index if it is not there.
    private static bool TryReadNv(out ReadOnlySpan<byte> contents, out bool isGood)
    {
        contents = default;
        int length = BeginIndexCommand(ReadSpace);
        Put(ref length, (ushort)NvLength);
        Put(ref length, (ushort)0);
        uint code = Execute(length);
        isGood = code is 0 or NoSuchHandle;
        if (code == 0)
        {
            contents = Bytes(TpmPage + ResponseHead + TpmHead + 6, NvLength);
            return true;
        }

        if (isGood)
        {
            BeginCommand(Sessions, DefineSpace, [0x40, 0, 0, 1]);
            length = TpmHead + 4;
            Put(ref length, Password);
            Put(ref length, [0, 0, 0, 14]);
            Put(ref length, NvIndex);
            Put(ref length, [0, 0x0B, 0x02, 0x06, 0, 0x06, 0, 0]);
            Put(ref length, (ushort)NvLength);
            isGood = Execute(length) == 0 && WriteNv(0);
        }

        return false;
    }

    private static bool WriteNv(ulong number)
    {
        int length = BeginIndexCommand(WriteSpace);
        Put(ref length, (ushort)NvLength);
        Fill(Bytes(TpmPage + RequestHead + (ulong)length, NvLength), number);
        length += NvLength;
        Put(ref length, (ushort)0);
        return Execute(length) == 0;
    }

    private static int BeginIndexCommand(uint code)
    {
        BeginCommand(Sessions, code, default);
        int length = TpmHead;
        Put(ref length, NvIndex);
        Put(ref length, NvIndex);
        Put(ref length, Password);
        return length;
    }

    private static void BeginCommand(ushort tag, uint code, ReadOnlySpan<byte> rest)
    {
        Span<byte> command = Bytes(TpmPage, 0x1000);
        command.Clear();
        command = command.Slice(RequestHead);
        BinaryPrimitives.WriteUInt16BigEndian(command, tag);
        BinaryPrimitives.WriteUInt32BigEndian(command.Slice(6), code);
        rest.CopyTo(command.Slice(TpmHead));
    }

    private static void Put(ref int length, ReadOnlySpan<byte> bytes)
    {
        bytes.CopyTo(Bytes(TpmPage + RequestHead + (ulong)length, bytes.Length));
        length += bytes.Length;
    }

    private static void Put(ref int length, uint number)
    {
        BinaryPrimitives.WriteUInt32BigEndian(Bytes(TpmPage + RequestHead + (ulong)length, sizeof(uint)), number);
        length += sizeof(uint);
    }

    private static void Put(ref int length, ushort number)
    {
        BinaryPrimitives.WriteUInt16BigEndian(Bytes(TpmPage + RequestHead + (ulong)length, sizeof(ushort)), number);
        length += sizeof(ushort);
    }

    // The response code; all ones if there is no response.
    private static uint Execute(int length)
    {
        BinaryPrimitives.WriteUInt32LittleEndian(Bytes(TpmPage, sizeof(uint)), SendCommand);
        BinaryPrimitives.WriteInt32LittleEndian(Bytes(TpmPage + 5, sizeof(int)), length);
        BinaryPrimitives.WriteInt32BigEndian(Bytes(TpmPage + RequestHead + 2, sizeof(int)), length);
        SvsmCall call = new() { Rcx = TpmPage };
        return Calls.Call(SvsmProtocol.Vtpm, Command, ref call) == SvsmResultCode.Success
            ? BinaryPrimitives.ReadUInt32BigEndian(Bytes(TpmPage + ResponseHead + 6, sizeof(uint)))
            : uint.MaxValue;
    }

    private static bool TryReadVariable(int place, out ReadOnlySpan<byte> contents, out bool isGood)
    {
        ulong status = Access(GetFunction, place, 0, LengthOf(place));
        isGood = status is 0 or NotFound;
        contents = status == 0 ? Bytes(Message + DataOffset, LengthOf(place)) : default;
        return status == 0;
    }

    private static bool WriteVariable(int place, ulong number)
    {
        Fill(Bytes(Message + DataOffset, LengthOf(place)), number);
        return Access(SetFunction, place, NonVolatile, LengthOf(place)) == 0;
    }

    // Small, large, larger than a block of the store.
    private static int LengthOf(int place) => place switch
    {
        1 => 64,
        2 => 512,
        _ => MaxVariable,
    };

    // The status of UEFI; all ones if there is none.
    private static ulong Access(ulong function, int place, uint attributes, int length)
    {
        Span<byte> message = Bytes(Message, DataOffset);
        message.Clear();
        Receiver.CopyTo(message);
        BinaryPrimitives.WriteInt64LittleEndian(message.Slice(16), DataOffset + length - 24);
        BinaryPrimitives.WriteUInt64LittleEndian(message.Slice(24), function);
        Vendor.CopyTo(message.Slice(40));
        BinaryPrimitives.WriteInt64LittleEndian(message.Slice(56), length);
        BinaryPrimitives.WriteInt64LittleEndian(message.Slice(64), DataOffset - NameOffset);
        BinaryPrimitives.WriteUInt32LittleEndian(message.Slice(72), attributes);
        message[NameOffset] = (byte)'P';
        message[NameOffset + 2] = (byte)('0' + place);
        SvsmCall call = new() { Rcx = Message, Rdx = BufferLength };
        return Calls.Call(SvsmProtocol.UefiMm, Request, ref call) == SvsmResultCode.Success
            ? BinaryPrimitives.ReadUInt64LittleEndian(Bytes(Message + StatusOffset, sizeof(ulong)))
            : ulong.MaxValue;
    }

    private static void Fill(Span<byte> contents, ulong number) => MemoryMarshal.Cast<byte, uint>(contents).Fill((uint)number);

    private static Span<byte> Bytes(ulong address, int length) => new((void*)address, length);
}
