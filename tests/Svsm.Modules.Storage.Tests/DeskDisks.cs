// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

extern alias simulator;

using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Threading.Tasks;
using simulator::Svsm.Simulator;
using Svsm.Core;
using Xunit;

namespace Svsm.Modules.Storage.Tests;

/// <summary>
/// The SVSM's devices on the desk: the disk of the simulated machine behind its registers in slot 0, its channel in slot 1 if there is one, and the memory that all
/// reach. A test sees each access, and changes what the driver gets.
/// </summary>
internal sealed class DeskDisks : SvsmDisks, IDeviceMemory, IDisposable
{
    public const ulong Address = 0x8_0000_0000;

    private readonly byte[] _memory = new byte[MemoryLength];
    private readonly SvsmDisk _disk;
    private readonly VirtioConsole? _channel;
    private readonly VirtioMmioTransport[] _transports;

    public DeskDisks(SvsmDisk disk, string? channel = null)
    {
        _disk = disk;
        disk.Open();
        _channel = channel is null ? null : new VirtioConsole(channel);
        _channel?.Open();
        _transports = _channel is null ? [new VirtioMmioTransport(disk, this)] : [new VirtioMmioTransport(disk, this), new VirtioMmioTransport(_channel, this)];
    }

    /// <summary>What the driver reads of a register, if not what the device says.</summary>
    public Func<int, uint, uint>? OnRegister { get; set; }

    /// <summary>Called before each access of the driver to the memory.</summary>
    public Action<byte[]>? BeforeMemory { get; set; }

    /// <summary>Called before each access of the driver to a register or the memory; what it throws, the driver gets.</summary>
    public Action? BeforeAccess { get; set; }

    public override ulong MemoryAddress => Address;

    public override uint ReadRegister(int disk, int register)
    {
        Assert.InRange(disk, 0, MaxDisks - 1);
        Assert.True(register is >= 0 and < 0x1000 && register % 4 == 0);
        BeforeAccess?.Invoke();
        if (disk >= _transports.Length)
        {
            return uint.MaxValue;
        }

        uint value = (uint)_transports[disk].Read((ulong)register, sizeof(uint));
        Assert.True(_transports[disk].PollAsync().IsCompletedSuccessfully);
        return OnRegister?.Invoke(register, value) ?? value;
    }

    public override void WriteRegister(int disk, int register, uint value)
    {
        Assert.InRange(disk, 0, _transports.Length - 1);
        BeforeAccess?.Invoke();
        Assert.True(_transports[disk].WriteAsync((ulong)register, sizeof(uint), value).IsCompletedSuccessfully);
        Assert.True(_transports[disk].PollAsync().IsCompletedSuccessfully);
    }

    public override void ReadMemory(int offset, Span<byte> destination)
    {
        BeforeAccess?.Invoke();
        BeforeMemory?.Invoke(_memory);
        _memory.AsSpan(offset, destination.Length).CopyTo(destination);
    }

    public override void WriteMemory(int offset, ReadOnlySpan<byte> source)
    {
        BeforeAccess?.Invoke();
        source.CopyTo(_memory.AsSpan(offset, source.Length));
    }

    public void Dispose()
    {
        _disk.Close();
        _channel?.Dispose();
    }

    Task<bool> IDeviceMemory.ReadAsync(IReadOnlyList<DevicePart> parts) =>
        CopyAsync(parts, part => _memory.AsSpan((int)(part.Gpa - Address), part.Bytes.Count).CopyTo(part.Bytes));

    Task<bool> IDeviceMemory.WriteAsync(IReadOnlyList<DevicePart> parts) =>
        CopyAsync(parts, part => part.Bytes.AsSpan().CopyTo(_memory.AsSpan((int)(part.Gpa - Address))));

    private static Task<bool> CopyAsync(IReadOnlyList<DevicePart> parts, Action<DevicePart> copy)
    {
        bool isInside = parts.All(part => part.Gpa >= Address && part.Gpa - Address <= MemoryLength - (ulong)part.Bytes.Count);
        foreach (DevicePart part in isInside ? parts : [])
        {
            copy(part);
        }

        return Task.FromResult(isInside);
    }
}

/// <summary>A disk that a test watches and spoils.</summary>
internal sealed class SpoiltDisk(string path) : SvsmDisk(path)
{
    /// <summary>Called for every request; what it returns is what the device gives back, null: it never does.</summary>
    public Func<BlockRequest, BlockCompletion?, BlockCompletion?>? OnRequest { get; set; }

    /// <summary>Whether requests get no further.</summary>
    public Func<BlockRequest, bool>? IsLost { get; set; }

    public int Writes { get; private set; }

    public int Flushes { get; private set; }

    public int Reads { get; private set; }

    public override BlockCompletion? Handle(BlockRequest request)
    {
        Writes += request.Operation == BlockOperation.Write ? 1 : 0;
        Flushes += request.Operation == BlockOperation.Flush ? 1 : 0;
        Reads += request.Operation == BlockOperation.Read ? 1 : 0;
        BlockCompletion? completion = IsLost?.Invoke(request) == true ? null : base.Handle(request);
        return OnRequest is null ? completion : OnRequest(request, completion);
    }
}

/// <summary>A disk with a file of its own, in a folder that goes with it.</summary>
internal sealed class TestDisk : IDisposable
{
    public TestDisk(int length = 2 << 20)
    {
        Folder = Directory.CreateTempSubdirectory("svsm-storage-").FullName;
        Path = System.IO.Path.Combine(Folder, "disk");
        File.WriteAllBytes(Path, new byte[length]);
        Open();
    }

    public string Folder { get; }

    public string Path { get; }

    /// <summary>A socket that somebody listens on; null: there is no channel. From the next start on.</summary>
    public string? Channel { get; set; }

    public SpoiltDisk Device { get; private set; } = null!;

    public DeskDisks Disks { get; private set; } = null!;

    /// <summary>What is on the disk, while the machine runs.</summary>
    public byte[] Read()
    {
        using var file = new FileStream(Path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite);
        byte[] bytes = new byte[file.Length];
        file.ReadExactly(bytes);
        return bytes;
    }

    /// <summary>Puts something else on the disk, while the machine runs or when it does not.</summary>
    public void Write(byte[] bytes)
    {
        using var file = new FileStream(Path, FileMode.Open, FileAccess.Write, FileShare.ReadWrite);
        file.SetLength(bytes.Length);
        file.Write(bytes);
    }

    /// <summary>The machine starts again: a device that knows nothing, with the same file.</summary>
    public void Restart()
    {
        Disks.Dispose();
        Open();
    }

    public void Dispose()
    {
        Disks.Dispose();
        Directory.Delete(Folder, recursive: true);
    }

    private void Open()
    {
        Device = new SpoiltDisk(Path);
        Disks = new DeskDisks(Device, Channel);
    }
}
