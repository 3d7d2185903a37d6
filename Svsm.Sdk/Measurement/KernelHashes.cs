// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The table of hashes by which OVMF checks a directly booted kernel; QEMU puts it on a measured page.
//
// Layout, 168 bytes padded to 176: GUID of the table, u16 168, then for command line, initrd and kernel {GUID, u16 50, SHA-256}.
//
// Source: QEMU target/i386/sev.c (SevHashTable), EDK2 OvmfPkg/AmdSev/BlobVerifierLibSevHashes.

using System;
using System.Buffers.Binary;
using System.Security.Cryptography;
using System.Text;

namespace Svsm.Measurement;

/// <summary>Hashes of a kernel, its initrd and its command line.</summary>
public sealed class KernelHashes
{
    /// <summary>Bytes of the table with its padding.</summary>
    public const int ByteLength = 176;

    private const int TableLength = 168;
    private const int EntryLength = 50;

    private static readonly Guid s_table = new("9438d606-4f22-4cc9-b479-a793d411fd21");
    private static readonly Guid s_commandLine = new("97d02dd8-bd20-4c94-aa78-e7714d36ab2a");
    private static readonly Guid s_initrd = new("44baf731-3a2f-4bd7-9af1-41e29169781d");
    private static readonly Guid s_kernel = new("4de79437-abd2-427f-b835-d5b172d2045b");

    private readonly byte[] _table = new byte[ByteLength];

    /// <summary>Hashes what is booted.</summary>
    /// <param name="kernel">The kernel file.</param>
    /// <param name="initrd">The initrd; empty when there is none.</param>
    /// <param name="commandLine">The command line, without the NUL at its end; empty when there is none.</param>
    public KernelHashes(ReadOnlySpan<byte> kernel, ReadOnlySpan<byte> initrd, string commandLine)
    {
        ArgumentNullException.ThrowIfNull(commandLine);
        Span<byte> table = _table;
        s_table.TryWriteBytes(table);
        BinaryPrimitives.WriteUInt16LittleEndian(table[16..], TableLength);
        WriteEntry(table[18..], s_commandLine, Encoding.UTF8.GetBytes(commandLine + "\0"));
        WriteEntry(table[(18 + EntryLength)..], s_initrd, initrd);
        WriteEntry(table[(18 + (2 * EntryLength))..], s_kernel, kernel);
    }

    /// <summary>The page that QEMU launches.</summary>
    /// <param name="area">Where the firmware wants the table.</param>
    /// <returns>4096 bytes: the table at the area's offset in its page, zeroes around it.</returns>
    /// <exception cref="MeasurementException">The table does not fit the area or its page.</exception>
    public byte[] ToPage(OvmfArea area)
    {
        int offset = (int)(area.Base % LaunchDigestAccumulator.PageSize);
        if (area.ByteLength < ByteLength || offset > LaunchDigestAccumulator.PageSize - ByteLength)
        {
            throw new MeasurementException(MeasurementError.BadFirmware, $"The firmware has 0x{area.ByteLength:X} bytes at 0x{area.Base:X} for kernel hashes; wanted are {ByteLength} within one page.");
        }

        byte[] page = new byte[LaunchDigestAccumulator.PageSize];
        _table.CopyTo(page, offset);
        return page;
    }

    private static void WriteEntry(Span<byte> entry, Guid guid, ReadOnlySpan<byte> content)
    {
        guid.TryWriteBytes(entry);
        BinaryPrimitives.WriteUInt16LittleEndian(entry[16..], EntryLength);
        SHA256.HashData(content, entry[18..]);
    }
}
