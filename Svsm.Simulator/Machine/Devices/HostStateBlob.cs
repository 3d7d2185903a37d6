// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// What the hypervisor knows of a guest, as one piece of bytes: for the machine that the guest is moved to. Little-endian.
//
//   00  "SVSMHOST"
//   08  u32 version 1
//   0C  u32 bytes of the model, 1 to 64 KiB
//   10  u64 bytes of the records of pages
//   18  u64 zero
//   20  the model: as Svsm.Simulator/Hypervisor/Model/HostState.cs writes it, and nobody else's business
//       records of the guest's shared pages, each
//         00 u64 GPA  08 u32 pages, at least 1  0C u32 0 zeroes, 1 what is left of private pages, 2 told: their contents follow, at most 15 pages
//
// Nothing behind that. Whoever takes it trusts neither lengths nor numbers in it.

using System;
using System.Buffers;
using System.Buffers.Binary;
using System.Collections.Generic;
using Svsm.Simulator.Shared;

namespace Svsm.Simulator;

/// <summary>The state of a hypervisor cannot be given or taken; the message says why.</summary>
internal sealed class HostStateException(string message) : Exception(message);

internal static class HostStateBlob
{
    public const int HeaderLength = 0x20;

    private const int PageLength = SecurityProcessor.PageSize;
    private const int RecordLength = 16;
    private const uint Version = 1;
    private const string Damaged = "the state of the hypervisor is damaged";

    private static ReadOnlySpan<byte> Magic => "SVSMHOST"u8;

    // The most that a machine with so many pages of RAM can have, and that one piece of bytes can be.
    public static int MaxLength(ulong pages) => (int)Math.Min(HeaderLength + Link.WindowLength + (pages * (PageLength + RecordLength)), (ulong)Array.MaxLength);

    public static byte[] Make(ReadOnlySpan<byte> model, ReadOnlySpan<byte> pages)
    {
        byte[] blob = new byte[HeaderLength + model.Length + pages.Length];
        Magic.CopyTo(blob);
        BinaryPrimitives.WriteUInt32LittleEndian(blob.AsSpan(0x08), Version);
        BinaryPrimitives.WriteUInt32LittleEndian(blob.AsSpan(0x0C), (uint)model.Length);
        BinaryPrimitives.WriteUInt64LittleEndian(blob.AsSpan(0x10), (ulong)pages.Length);
        model.CopyTo(blob.AsSpan(HeaderLength));
        pages.CopyTo(blob.AsSpan(HeaderLength + model.Length));
        return blob;
    }

    // Adds records to those that there are. Throws HostStateException when they are longer than one piece with any model can be.
    public static void Add(ArrayBufferWriter<byte> pages, ReadOnlySpan<byte> records, int maxLength = int.MaxValue)
    {
        if (records.Length > Math.Min(maxLength, Array.MaxLength) - HeaderLength - (int)Link.WindowLength - pages.WrittenCount)
        {
            throw new HostStateException("the state of the hypervisor cannot be given: too many pages are shared");
        }

        pages.Write(records);
    }

    // The model, and whole records in pieces that the window has room for. Throws HostStateException.
    public static (ReadOnlyMemory<byte> Model, IReadOnlyList<ReadOnlyMemory<byte>> Pages) Read(ReadOnlyMemory<byte> blob)
    {
        ReadOnlySpan<byte> header = blob.Span;
        if (header.Length < HeaderLength || !header[..Magic.Length].SequenceEqual(Magic))
        {
            throw new HostStateException(Damaged + ": it does not begin like one");
        }

        uint version = BinaryPrimitives.ReadUInt32LittleEndian(header[0x08..]);
        if (version != Version)
        {
            throw new HostStateException($"the state of the hypervisor has version {version}; this machine takes {Version}");
        }

        uint model = BinaryPrimitives.ReadUInt32LittleEndian(header[0x0C..]);
        ulong pages = BinaryPrimitives.ReadUInt64LittleEndian(header[0x10..]);
        if (model is 0 or > Link.WindowLength || BinaryPrimitives.ReadUInt64LittleEndian(header[0x18..]) != 0
            || (ulong)(header.Length - HeaderLength) < model || pages != (ulong)(header.Length - HeaderLength) - model)
        {
            throw new HostStateException(Damaged + ": its parts are not as long as it says");
        }

        return (blob.Slice(HeaderLength, (int)model), Cut(blob[(HeaderLength + (int)model)..]));
    }

    private static List<ReadOnlyMemory<byte>> Cut(ReadOnlyMemory<byte> records)
    {
        var pieces = new List<ReadOnlyMemory<byte>>();
        int piece = 0;
        for (int at = 0; at != records.Length;)
        {
            long length = RecordLength;
            if (records.Length - at >= RecordLength)
            {
                ReadOnlySpan<byte> record = records.Span[at..];
                uint count = BinaryPrimitives.ReadUInt32LittleEndian(record[8..]);
                uint kind = BinaryPrimitives.ReadUInt32LittleEndian(record[12..]);
                length += kind == (uint)HostStatePages.Told ? (long)count * PageLength : 0;
                length = count == 0 ? long.MaxValue : length;
            }

            if (length > records.Length - at || length > Link.WindowLength)
            {
                throw new HostStateException(Damaged + ": a record of pages is not as long as it says");
            }

            if (at + length - piece > Link.WindowLength)
            {
                pieces.Add(records[piece..at]);
                piece = at;
            }

            at += (int)length;
        }

        pieces.Add(records[piece..]);
        return pieces;
    }
}
