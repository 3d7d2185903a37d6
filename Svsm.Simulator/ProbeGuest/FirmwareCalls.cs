// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// A boot as the service of UEFI variables sees it: the messages that EDK2's drivers make of what OVMF's boot manager and then an operating system do, in their
// order, with their lengths and buffers. Written after reading them, for there is no build of OVMF with these drivers to be had (docs/uefi-variables.md).
//
//   DXE        VirtMmCommunicationDxe asks for the protocol; VariableSmmRuntimeDxe for the size of a payload, and for SecureBoot
//   BDS        console variables, indications, policies that lock, timeout, languages; end of DXE; boot options, which the first boot makes
//   loader     BootCurrent, ready to boot, ExitBootServices: each of the latter is a function and an event
//   system     all names, BootOrder with attributes; it puts an option of its own in front, once
//
// A message is made in memory of the driver's own. VirtMmCommunicationDxe copies as much of it as it says to have into its buffer of 64 KiB and as much
// back: what an answer has beyond that is lost. What is in the buffers besides is what was there before.
//
//   firmware: no BootOrder                 at the beginning
//   firmware: BootOrder N N ...            or this, and its options
//   firmware: BootN DESCRIPTION
//   firmware: visible NAME                 to the system
//
// Source: EDK2 OvmfPkg/VirtMmCommunicationDxe; MdeModulePkg/Universal/Variable/RuntimeDxe/{VariableSmmRuntimeDxe,VariablePolicySmmDxe,Measurement}.c,
// Universal/BdsDxe/BdsEntry.c, Library/UefiBootManagerLib; Linux drivers/firmware/efi.
//
// SAFETY (whole type): the pages are validated before they are used.

using System;
using System.Buffers.Binary;
using Svsm.Platform;
using Svsm.Wire;

namespace Svsm.ProbeGuest;

internal static unsafe class FirmwareCalls
{
    private const int BufferLength = 0x1_0000;
    private const int PolicyBufferLength = 0x4000;
    private const uint Request = 1;

    // Of a message, of a function in it, of a policy in it.
    private const int HeaderLength = 24;
    private const int FunctionHeaderLength = 16;
    private const int PolicyHeaderLength = 20;
    private const int PolicyEntryLength = 44;
    private const int ResultOffset = 12;

    private const int AccessNameOffset = 36;
    private const int NextNameOffset = 24;
    private const int InfoLength = 28;

    private const ulong GetFunction = 1;
    private const ulong NextFunction = 2;
    private const ulong SetFunction = 3;
    private const ulong InfoFunction = 4;
    private const ulong ReadyToBootFunction = 5;
    private const ulong ExitBootServicesFunction = 6;
    private const ulong PayloadSizeFunction = 11;
    private const uint RegisterPolicy = 3;
    private const uint PolicyVersion = 0x1_0000;
    private const byte LockNow = 1;

    private const uint Hidden = 3;
    private const uint Volatile = 6;
    private const uint NonVolatile = 7;

    private const ulong Success = 0;
    private const ulong BufferTooSmall = 0x8000_0000_0000_0005;
    private const ulong WriteProtected = 0x8000_0000_0000_0008;
    private const ulong NotFound = 0x8000_0000_0000_000E;

    private const int MaxOptions = 8;
    private const int OptionLength = 8;
    private const int MaxOptionData = 256;
    private const int LoadOptionHeader = 6;

    // Room for a name that the boot manager begins with, and Linux.
    private const int FirmwareRoom = 2;
    private const int SystemRoom = 512;

    private static ulong MessageAddress => TestMemory.Base + BufferLength;

    private static ulong NameAddress => TestMemory.Base + (2 * BufferLength);

    private static Span<byte> Message => Bytes(MessageAddress, BufferLength);

    private static Span<byte> Body => Message.Slice(HeaderLength + FunctionHeaderLength);

    // ed32d533-99e6-4209-9cc0-2d72cdd998a7
    private static ReadOnlySpan<byte> Variables => [0x33, 0xD5, 0x32, 0xED, 0xE6, 0x99, 0x09, 0x42, 0x9C, 0xC0, 0x2D, 0x72, 0xCD, 0xD9, 0x98, 0xA7];

    // da1b0d11-d1a7-46c4-9dc9-f3714875c6eb
    private static ReadOnlySpan<byte> Policies => [0x11, 0x0D, 0x1B, 0xDA, 0xA7, 0xD1, 0xC4, 0x46, 0x9D, 0xC9, 0xF3, 0x71, 0x48, 0x75, 0xC6, 0xEB];

    // 02ce967a-dd7e-4ffc-9ee7-810cf0470880
    private static ReadOnlySpan<byte> EndOfDxe => [0x7A, 0x96, 0xCE, 0x02, 0x7E, 0xDD, 0xFC, 0x4F, 0x9E, 0xE7, 0x81, 0x0C, 0xF0, 0x47, 0x08, 0x80];

    // 7ce88fb3-4bd7-4679-87a8-a8d8dee50d2b
    private static ReadOnlySpan<byte> ReadyToBoot => [0xB3, 0x8F, 0xE8, 0x7C, 0xD7, 0x4B, 0x79, 0x46, 0x87, 0xA8, 0xA8, 0xD8, 0xDE, 0xE5, 0x0D, 0x2B];

    // 27abf055-b1b8-4c26-8048-748f37baa2df
    private static ReadOnlySpan<byte> ExitBootServices => [0x55, 0xF0, 0xAB, 0x27, 0xB8, 0xB1, 0x26, 0x4C, 0x80, 0x48, 0x74, 0x8F, 0x37, 0xBA, 0xA2, 0xDF];

    // 8be4df61-93ca-11d2-aa0d-00e098032b8c
    private static ReadOnlySpan<byte> Global => [0x61, 0xDF, 0xE4, 0x8B, 0xCA, 0x93, 0xD2, 0x11, 0xAA, 0x0D, 0x00, 0xE0, 0x98, 0x03, 0x2B, 0x8C];

    // 4c19049f-4137-4dd3-9c10-8b97a83ffdfa
    private static ReadOnlySpan<byte> MemoryType => [0x9F, 0x04, 0x19, 0x4C, 0x37, 0x41, 0xD3, 0x4D, 0x9C, 0x10, 0x8B, 0x97, 0xA8, 0x3F, 0xFD, 0xFA];

    /// <summary>Boots, and ends the VM.</summary>
    public static void Run()
    {
        if (TestMemory.TryTake(TestMemory.Base, (2 * BufferLength / 0x1000) + 1))
        {
            StartDrivers();
            StartBootManager();
            bool isNew = !TryTellOptions();
            if (isNew)
            {
                AddOption(0, "UEFI disk"u8, @"\EFI\BOOT\BOOTX64.EFI"u8);
            }

            LeaveFirmware();
            RunSystem(isNew);
        }
        else
        {
            Probe.True("there is memory"u8, false);
        }

        Probe.Finish();
    }

    private static void StartDrivers()
    {
        SvsmCall query = new() { Rcx = ((ulong)SvsmProtocol.UefiMm << 32) | 1 };
        Probe.Result("the protocol is asked for"u8, Calls.Call(SvsmProtocol.Core, (uint)CoreCall.QueryProtocol, ref query), SvsmResultCode.Success);
        Probe.True("the protocol is there"u8, query.Rcx != 0);

        Probe.Equal("the size of a payload"u8, Send(PayloadSizeFunction, sizeof(ulong)), Success);
        Probe.Equal("it is the buffer without heads"u8, BinaryPrimitives.ReadUInt64LittleEndian(Body), BufferLength - HeaderLength - FunctionHeaderLength);

        Probe.Equal("SecureBoot"u8, GetWhole(Global, "SecureBoot"u8, out _, out ReadOnlySpan<byte> secureBoot), Success);
        Probe.True("it is off"u8, secureBoot.Length == 1 && secureBoot[0] == 0);
    }

    private static void StartBootManager()
    {
        Probe.Equal("no ConIn"u8, GetWhole(Global, "ConIn"u8, out _, out _), NotFound);
        Probe.Equal("no ConOut"u8, GetWhole(Global, "ConOut"u8, out _, out _), NotFound);
        Probe.Equal("no ErrOut"u8, GetWhole(Global, "ErrOut"u8, out _, out _), NotFound);
        Probe.Equal("OsIndicationsSupported"u8, Set(Global, "OsIndicationsSupported"u8, Volatile, [1, 0, 0, 0, 0, 0, 0, 0]), Success);
        Probe.Equal("no OsIndications"u8, Get(Global, "OsIndications"u8, sizeof(ulong), out _, out _, out _), NotFound);
        Probe.Equal("a lock of what is there"u8, Lock("OsIndicationsSupported"u8), Success);
        Probe.Equal("a lock of what is not there yet"u8, Lock("BootOptionSupport"u8), Success);
        Probe.Equal("Timeout"u8, Set(Global, "Timeout"u8, NonVolatile, [3, 0]), Success);
        Probe.Equal("BootOptionSupport, in spite of the lock"u8, Set(Global, "BootOptionSupport"u8, Volatile, [0x13, 3, 0, 0]), Success);
        Probe.Equal("no BootNext"u8, GetWhole(Global, "BootNext"u8, out _, out _), NotFound);
        Probe.Equal("PlatformLangCodes"u8, Set(Global, "PlatformLangCodes"u8, Volatile, "en;fr\0"u8), Success);
        if (GetWhole(Global, "PlatformLang"u8, out _, out _) == NotFound)
        {
            Probe.Equal("PlatformLang"u8, Set(Global, "PlatformLang"u8, NonVolatile, "en\0"u8), Success);
        }

        Notify(EndOfDxe);
        Probe.Equal("the lock holds from the end of DXE on"u8, Set(Global, "OsIndicationsSupported"u8, Volatile, [2, 0, 0, 0, 0, 0, 0, 0]), WriteProtected);
    }

    // False: there are none.
    private static bool TryTellOptions()
    {
        if (GetWhole(Global, "BootOrder"u8, out uint attributes, out ReadOnlySpan<byte> found) == NotFound)
        {
            Text<Com1>.WriteLine("firmware: no BootOrder"u8);
            return false;
        }

        Probe.Equal("BootOrder is non-volatile"u8, attributes, NonVolatile);
        Span<byte> order = stackalloc byte[MaxOptions * sizeof(ushort)];
        order = order.Slice(0, Math.Min(found.Length, order.Length));
        found.Slice(0, order.Length).CopyTo(order);
        Text<Com1>.Write("firmware: BootOrder"u8);
        for (int at = 0; at < order.Length; at += sizeof(ushort))
        {
            Text<Com1>.Write(" "u8);
            Text<Com1>.WriteHex(BinaryPrimitives.ReadUInt16LittleEndian(order.Slice(at)), 4);
        }

        Text<Com1>.WriteLine();
        Span<byte> name = stackalloc byte[OptionLength];
        for (int at = 0; at < order.Length; at += sizeof(ushort))
        {
            NameOption(BinaryPrimitives.ReadUInt16LittleEndian(order.Slice(at)), name);
            Probe.Equal("an option in BootOrder"u8, GetWhole(Global, name, out _, out ReadOnlySpan<byte> option), Success);
            Text<Com1>.Write("firmware: "u8);
            Text<Com1>.Write(name);
            Text<Com1>.Write(" "u8);
            WriteUnits(option.Length > LoadOptionHeader ? option.Slice(LoadOptionHeader) : default);
            Text<Com1>.WriteLine();
        }

        return true;
    }

    // The option, then the order with it in front.
    private static void AddOption(ushort number, ReadOnlySpan<byte> description, ReadOnlySpan<byte> path)
    {
        Span<byte> name = stackalloc byte[OptionLength];
        NameOption(number, name);
        Span<byte> option = stackalloc byte[MaxOptionData];
        option.Clear();

        // Active; a path of a file, and its end.
        int at = LoadOptionHeader;
        PutUnits(option, ref at, description);
        int pathOffset = at;
        at += 4;
        PutUnits(option, ref at, path);
        option[0] = 1;
        option[pathOffset] = 4;
        option[pathOffset + 1] = 4;
        BinaryPrimitives.WriteUInt16LittleEndian(option.Slice(pathOffset + 2), (ushort)(at - pathOffset));
        option[at] = 0x7F;
        option[at + 1] = 0xFF;
        option[at + 2] = 4;
        at += 4;
        BinaryPrimitives.WriteUInt16LittleEndian(option.Slice(4), (ushort)(at - pathOffset));
        Probe.Equal("an option is set"u8, Set(Global, name, NonVolatile, option.Slice(0, at)), Success);

        Span<byte> order = stackalloc byte[MaxOptions * sizeof(ushort)];
        BinaryPrimitives.WriteUInt16LittleEndian(order, number);
        int length = sizeof(ushort);
        if (GetWhole(Global, "BootOrder"u8, out _, out ReadOnlySpan<byte> old) == Success)
        {
            old.CopyTo(order.Slice(length));
            length += old.Length;
        }

        Probe.Equal("BootOrder is set"u8, Set(Global, "BootOrder"u8, NonVolatile, order.Slice(0, length)), Success);
    }

    private static void LeaveFirmware()
    {
        Probe.True("all names for firmware"u8, CountNames(FirmwareRoom, isTold: false) > 0);
        ulong status = Get(MemoryType, "MemoryTypeInformation"u8, 0, out _, out _, out _);
        if (status == NotFound)
        {
            status = Set(MemoryType, "MemoryTypeInformation"u8, Hidden, [0, 0, 0, 0, 8, 0, 0, 0]);
            Probe.Equal("MemoryTypeInformation"u8, status, Success);
        }
        else
        {
            Probe.Equal("MemoryTypeInformation is there"u8, status, BufferTooSmall);
        }

        Probe.Equal("BootCurrent"u8, Set(Global, "BootCurrent"u8, Volatile, [0, 0]), Success);
        Probe.Equal("ready to boot"u8, Send(ReadyToBootFunction, 0), Success);
        Notify(ReadyToBoot);
        BinaryPrimitives.WriteUInt32LittleEndian(Body.Slice(InfoLength - sizeof(uint)), NonVolatile);
        Probe.Equal("what is left"u8, Send(InfoFunction, InfoLength), Success);
        Probe.True("there is more than a variable takes"u8, BinaryPrimitives.ReadUInt64LittleEndian(Body.Slice(8)) > BufferLength);
        Probe.Equal("SetupMode for the loader"u8, Get(Global, "SetupMode"u8, 1, out _, out _, out _), Success);
        Probe.Equal("boot services are exited"u8, Send(ExitBootServicesFunction, 0), Success);
        Notify(ExitBootServices);
    }

    private static void RunSystem(bool isNew)
    {
        Probe.True("all names for the system"u8, CountNames(SystemRoom, isTold: true) > 0);
        Probe.Equal("BootOrder for the system"u8, Get(Global, "BootOrder"u8, 1024, out uint attributes, out _, out _), Success);
        Probe.Equal("its attributes"u8, attributes, NonVolatile);
        Probe.Equal("what is firmware's alone"u8, Get(MemoryType, "MemoryTypeInformation"u8, 1024, out _, out _, out _), NotFound);
        Probe.Equal("a volatile variable is not written"u8, Set(Global, "BootCurrent"u8, Volatile, [1, 0]), WriteProtected);
        Probe.Equal("nor a locked one"u8, Set(Global, "BootOptionSupport"u8, Volatile, [0, 0, 0, 0]), WriteProtected);
        if (isNew)
        {
            AddOption(1, "Linux"u8, @"\EFI\linux.efi"u8);
        }
    }

    // At first without room for the data.
    private static ulong GetWhole(ReadOnlySpan<byte> vendor, ReadOnlySpan<byte> name, out uint attributes, out ReadOnlySpan<byte> data)
    {
        ulong status = Get(vendor, name, 0, out attributes, out data, out int size);
        return status == BufferTooSmall ? Get(vendor, name, size, out attributes, out data, out _) : status;
    }

    // The data is in the message, until the next one.
    private static ulong Get(ReadOnlySpan<byte> vendor, ReadOnlySpan<byte> name, int room, out uint attributes, out ReadOnlySpan<byte> data, out int size)
    {
        int dataOffset = PutAccess(vendor, name, 0, room);
        ulong status = Send(GetFunction, dataOffset + room);
        size = (int)BinaryPrimitives.ReadUInt64LittleEndian(Body.Slice(16));
        attributes = BinaryPrimitives.ReadUInt32LittleEndian(Body.Slice(32));
        data = status == Success ? Body.Slice(dataOffset, size) : default;
        return status;
    }

    private static ulong Set(ReadOnlySpan<byte> vendor, ReadOnlySpan<byte> name, uint attributes, ReadOnlySpan<byte> data)
    {
        int dataOffset = PutAccess(vendor, name, attributes, data.Length);
        data.CopyTo(Body.Slice(dataOffset));
        return Send(SetFunction, dataOffset + data.Length);
    }

    // Where the data begins.
    private static int PutAccess(ReadOnlySpan<byte> vendor, ReadOnlySpan<byte> name, uint attributes, int dataLength)
    {
        int at = AccessNameOffset;
        PutUnits(Body, ref at, name);
        vendor.CopyTo(Body);
        BinaryPrimitives.WriteUInt64LittleEndian(Body.Slice(16), (ulong)dataLength);
        BinaryPrimitives.WriteUInt64LittleEndian(Body.Slice(24), (ulong)(at - AccessNameOffset));
        BinaryPrimitives.WriteUInt32LittleEndian(Body.Slice(32), attributes);
        return at;
    }

    private static int CountNames(int room, bool isTold)
    {
        Span<byte> vendor = Bytes(NameAddress, 16);
        Span<byte> name = Bytes(NameAddress + 16, 0x1000 - 16);
        vendor.Clear();
        name.Clear();
        for (int count = 0; ; count++)
        {
            int size = room;
            ulong status = GetNext(vendor, name, ref size);
            if (status == BufferTooSmall)
            {
                room = size;
                status = GetNext(vendor, name, ref size);
            }

            if (status != Success)
            {
                Probe.Equal("the names end"u8, status, NotFound);
                return count;
            }

            if (isTold)
            {
                Text<Com1>.Write("firmware: visible "u8);
                WriteUnits(name);
                Text<Com1>.WriteLine();
            }
        }
    }

    private static ulong GetNext(Span<byte> vendor, Span<byte> name, ref int size)
    {
        int length = sizeof(char);
        while (name[length - 2] != 0 || name[length - 1] != 0)
        {
            length += sizeof(char);
        }

        int room = Math.Max(size, length);
        vendor.CopyTo(Body);
        BinaryPrimitives.WriteUInt64LittleEndian(Body.Slice(16), (ulong)size);
        Body.Slice(NextNameOffset, room).Clear();
        name.Slice(0, length).CopyTo(Body.Slice(NextNameOffset));
        ulong status = Send(NextFunction, NextNameOffset + room);
        if (status is Success or BufferTooSmall)
        {
            size = (int)BinaryPrimitives.ReadUInt64LittleEndian(Body.Slice(16));
        }

        if (status == Success)
        {
            Body.Slice(0, 16).CopyTo(vendor);
            Body.Slice(NextNameOffset, size).CopyTo(name);
        }

        return status;
    }

    // The whole buffer of the driver, 4 pages, is the message.
    private static ulong Lock(ReadOnlySpan<byte> name)
    {
        Span<byte> payload = Message.Slice(HeaderLength);
        "VCPC"u8.CopyTo(payload);
        BinaryPrimitives.WriteUInt32LittleEndian(payload.Slice(4), 1);
        BinaryPrimitives.WriteUInt32LittleEndian(payload.Slice(8), RegisterPolicy);
        Span<byte> entry = payload.Slice(PolicyHeaderLength);
        entry.Slice(0, PolicyEntryLength).Clear();
        int length = PolicyEntryLength;
        PutUnits(entry, ref length, name);
        BinaryPrimitives.WriteUInt32LittleEndian(entry, PolicyVersion);
        BinaryPrimitives.WriteUInt16LittleEndian(entry.Slice(4), (ushort)length);
        BinaryPrimitives.WriteUInt16LittleEndian(entry.Slice(6), PolicyEntryLength);
        Global.CopyTo(entry.Slice(8));
        BinaryPrimitives.WriteUInt32LittleEndian(entry.Slice(28), uint.MaxValue);
        entry[40] = LockNow;
        Communicate(Policies, PolicyBufferLength - HeaderLength);
        return BinaryPrimitives.ReadUInt64LittleEndian(payload.Slice(ResultOffset));
    }

    private static void Notify(ReadOnlySpan<byte> receiver)
    {
        Message[HeaderLength] = 0;
        Communicate(receiver, 1);
    }

    private static ulong Send(ulong function, int bodyLength)
    {
        BinaryPrimitives.WriteUInt64LittleEndian(Message.Slice(HeaderLength), function);
        Communicate(Variables, FunctionHeaderLength + bodyLength);
        return BinaryPrimitives.ReadUInt64LittleEndian(Message.Slice(HeaderLength + sizeof(ulong)));
    }

    private static void Communicate(ReadOnlySpan<byte> receiver, int payloadLength)
    {
        receiver.CopyTo(Message);
        BinaryPrimitives.WriteUInt64LittleEndian(Message.Slice(16), (ulong)payloadLength);
        Span<byte> buffer = Bytes(TestMemory.Base, HeaderLength + payloadLength);
        Message.Slice(0, buffer.Length).CopyTo(buffer);
        SvsmCall call = new() { Rcx = TestMemory.Base, Rdx = BufferLength };
        SvsmResultCode result = Calls.Call(SvsmProtocol.UefiMm, Request, ref call);
        if (result != SvsmResultCode.Success)
        {
            Probe.Result("the call of the service"u8, result, SvsmResultCode.Success);
        }

        buffer.CopyTo(Message);
    }

    private static void NameOption(ushort number, Span<byte> name)
    {
        "Boot"u8.CopyTo(name);
        for (int i = 0; i < 4; i++)
        {
            name[4 + i] = "0123456789ABCDEF"u8[(number >> (4 * (3 - i))) & 15];
        }
    }

    // UTF-16 of ASCII, with NUL.
    private static void PutUnits(Span<byte> target, ref int at, ReadOnlySpan<byte> text)
    {
        for (int i = 0; i <= text.Length; i++)
        {
            target[at++] = i < text.Length ? text[i] : (byte)0;
            target[at++] = 0;
        }
    }

    private static void WriteUnits(ReadOnlySpan<byte> units)
    {
        for (int at = 0; at + 1 < units.Length && units[at] != 0; at += sizeof(char))
        {
            Text<Com1>.Write(units.Slice(at, 1));
        }
    }

    private static Span<byte> Bytes(ulong address, int length) => new((void*)address, length);
}
