// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// A disk for the SVSM itself: the device behind a virtio-mmio transport (VirtioMmioTransport.cs), a file. It does what it is asked at once, so what
// it has answered is in the file. Derived classes are hostile: they answer otherwise, late or never, in a few lines.
//
// Source: Virtual I/O Device (VIRTIO) 1.2, 5.2 (block device).

using System;
using System.Buffers.Binary;
using System.IO;
using System.Text;
using Svsm.Diagnostics;

namespace Svsm.Simulator;

/// <summary>What a driver asks a disk for.</summary>
public enum BlockOperation
{
    /// <summary>Read sectors (<c>VIRTIO_BLK_T_IN</c>).</summary>
    Read = 0,

    /// <summary>Write sectors (<c>VIRTIO_BLK_T_OUT</c>).</summary>
    Write = 1,

    /// <summary>Make what was written last (<c>VIRTIO_BLK_T_FLUSH</c>).</summary>
    Flush = 4,

    /// <summary>Tell the disk's name, 20 bytes (<c>VIRTIO_BLK_T_GET_ID</c>).</summary>
    GetId = 8,
}

/// <summary>Status of a request (<c>VIRTIO_BLK_S_...</c>).</summary>
public enum BlockStatus : byte
{
    /// <summary>Done.</summary>
    Ok = 0,

    /// <summary>Failed.</summary>
    IOError = 1,

    /// <summary>The device has no such operation.</summary>
    Unsupported = 2,
}

/// <summary>A request of a driver. The driver is not trusted: nothing in it is checked.</summary>
/// <param name="Operation">What for; may be none of the names.</param>
/// <param name="Sector">First sector of 512 bytes.</param>
/// <param name="Data">What the driver gives: the bytes to write.</param>
/// <param name="Room">Bytes that the driver takes, without the status.</param>
/// <param name="Id">Index of the request's first descriptor, by which it is given back.</param>
public sealed record BlockRequest(BlockOperation Operation, ulong Sector, ReadOnlyMemory<byte> Data, int Room, ushort Id);

/// <summary>How a disk gives a request back.</summary>
public sealed record BlockCompletion
{
    /// <summary>Last of the bytes that the driver takes.</summary>
    public BlockStatus Status { get; init; }

    /// <summary>Those before it; what has no room is left out.</summary>
    public ReadOnlyMemory<byte> Data { get; init; }

    /// <summary>What the device says of the number of bytes that it has written.</summary>
    public uint Length { get; init; }

    /// <summary>Which request the device says that this is.</summary>
    public uint Id { get; init; }
}

/// <summary>A disk of the SVSM. Instances belong to one run.</summary>
public class SvsmDisk
{
    /// <summary>Bytes per sector.</summary>
    public const int SectorLength = 512;

    private const int IdLength = 20;

    private FileStream? _file;

    /// <summary>Makes a disk.</summary>
    /// <param name="path">A file with its contents, a multiple of 512 bytes long.</param>
    public SvsmDisk(string path)
    {
        ArgumentNullException.ThrowIfNull(path);
        Path = path;
    }

    /// <summary>The file.</summary>
    public string Path { get; }

    /// <summary>Whether it cannot be written.</summary>
    public bool ReadOnly { get; init; }

    /// <summary>Number of sectors, as the device tells it; 0 before the run.</summary>
    public virtual ulong SectorCount => _file is null ? 0 : (ulong)_file.Length / SectorLength;

    /// <summary>A register as the driver reads it, for a device that lies there.</summary>
    /// <param name="offset">Offset of the register.</param>
    /// <param name="value">What it should be.</param>
    /// <returns>What the driver reads.</returns>
    public virtual ulong ReadRegister(ulong offset, ulong value) => value;

    /// <summary>Does what a driver asks for.</summary>
    /// <param name="request">The request.</param>
    /// <returns>How it is given back; null = it never is.</returns>
    public virtual BlockCompletion? Handle(BlockRequest request)
    {
        ArgumentNullException.ThrowIfNull(request);
        byte[] data = [];
        BlockStatus status = request.Operation switch
        {
            BlockOperation.Read => Read(request, out data),
            BlockOperation.Write => Write(request),
            BlockOperation.Flush => Flush(),
            BlockOperation.GetId when request.Room == IdLength => Identify(out data),
            _ => BlockStatus.Unsupported,
        };
        return new BlockCompletion { Status = status, Data = data, Length = (uint)data.Length + 1, Id = request.Id };
    }

    // Throws SvsmDiagnosticException when there is no such file, or it is none of a disk.
    internal void Open()
    {
        _file = Machine.WithFile("the SVSM's disk, readable, and writable unless it is read-only", Path, path =>
            new FileStream(path, FileMode.Open, ReadOnly ? FileAccess.Read : FileAccess.ReadWrite, FileShare.Read, bufferSize: 0));
        if (_file.Length == 0 || _file.Length % SectorLength != 0)
        {
            long length = _file.Length;
            Close();
            throw SvsmDiagnostics.RunOptionInvalid.Error($"the SVSM's disk '{Path}' of {length} bytes", $"a multiple of {SectorLength} bytes, not 0");
        }
    }

    internal void Close()
    {
        _file?.Dispose();
        _file = null;
    }

    private BlockStatus Read(BlockRequest request, out byte[] data)
    {
        data = [];
        if (!IsOnDisk(request.Sector, request.Room))
        {
            return BlockStatus.IOError;
        }

        data = new byte[request.Room];
        _file!.Position = (long)request.Sector * SectorLength;
        _file.ReadExactly(data);
        return BlockStatus.Ok;
    }

    private BlockStatus Write(BlockRequest request)
    {
        if (ReadOnly || !IsOnDisk(request.Sector, request.Data.Length))
        {
            return BlockStatus.IOError;
        }

        _file!.Position = (long)request.Sector * SectorLength;
        _file.Write(request.Data.Span);
        return BlockStatus.Ok;
    }

    private BlockStatus Flush()
    {
        _file!.Flush();
        return BlockStatus.Ok;
    }

    private static BlockStatus Identify(out byte[] data)
    {
        data = new byte[IdLength];
        Encoding.ASCII.GetBytes("svsm-disk").CopyTo(data, 0);
        return BlockStatus.Ok;
    }

    private bool IsOnDisk(ulong sector, int length)
    {
        ulong count = (ulong)_file!.Length / SectorLength;
        return length % SectorLength == 0 && sector <= count && (ulong)length / SectorLength <= count - sector;
    }
}
