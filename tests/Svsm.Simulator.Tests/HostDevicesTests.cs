// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Generic;
using System.IO;
using System.IO.MemoryMappedFiles;
using System.Linq;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Threading.Tasks;
using Svsm.Simulator.Shared;
using Xunit;

namespace Svsm.Simulator.Tests;

/// <summary>How devices reach the guest's shared memory: parts in the window, and a command for as many as fit.</summary>
public sealed class HostDevicesTests : IDisposable
{
    private const ulong Base = 0x1000_0000;

    private readonly DirectoryInfo _folder = Directory.CreateTempSubdirectory("svsm-test-");
    private readonly HostDevices _devices;
    private readonly MemoryMappedFile _file;
    private readonly MemoryMappedViewAccessor _window;
    private readonly byte[] _memory = new byte[1 << 20];
    private readonly List<CommandHeader> _commands = [];

    public HostDevicesTests()
    {
        _devices = new HostDevices(new MachineOptions { ImagePath = "" }, _folder.FullName) { Command = Execute };
        _file = MemoryMappedFile.CreateFromFile(Path.Combine(_folder.FullName, "window"), FileMode.Open);
        _window = _file.CreateViewAccessor(0, Link.WindowLength);
    }

    public void Dispose()
    {
        _window.Dispose();
        _file.Dispose();
        _devices.Dispose();
        _folder.Delete(recursive: true);
    }

    [Fact]
    public async Task PartsOfARequest_AreOneCommand()
    {
        byte[] first = [1, 2, 3];
        byte[] second = [0, 4, 5, 0];

        Assert.True(await _devices.WriteAsync([new(Base, first), new(Base + 0x100, new ArraySegment<byte>(second, 1, 2)), new(Base + 0x200, ArraySegment<byte>.Empty)]));

        Assert.Equal([1, 2, 3, 0], _memory[..4]);
        Assert.Equal([4, 5, 0], _memory[0x100..0x103]);
        byte[] read = new byte[6];
        Assert.True(await _devices.ReadAsync([new(Base + 0x100, new ArraySegment<byte>(read, 1, 2)), new(Base + 1, new ArraySegment<byte>(read, 4, 2))]));
        Assert.Equal([0, 4, 5, 0, 2, 3], read);
        Assert.Equal([(CommandKind.WriteShared, 2ul), (CommandKind.ReadShared, 2ul)], _commands.Select(command => (command.Kind, command.Value)));
    }

    [Theory]
    [InlineData(1)]
    [InlineData((int)Link.WindowLength - 17, 1)]
    [InlineData((int)Link.WindowLength - 16)]
    [InlineData((int)Link.WindowLength - 15)]
    [InlineData((int)Link.WindowLength - 32, 1)]
    [InlineData((int)Link.WindowLength - 33, 1)]
    [InlineData(300_000, 5, 100_000)]
    public async Task PartsOfAnyLength_Pass(params int[] lengths)
    {
        byte[][] parts = [.. lengths.Select((length, i) => { byte[] part = new byte[length]; new Random(i).NextBytes(part); return part; })];
        ulong[] places = [.. lengths.Select((_, i) => Base + (ulong)lengths.Take(i).Sum())];

        Assert.True(await _devices.WriteAsync([.. parts.Zip(places, (part, place) => new DevicePart(place, part))]));
        Assert.Equal(parts.SelectMany(part => part), _memory[..lengths.Sum()]);

        byte[][] read = [.. lengths.Select(length => new byte[length])];
        Assert.True(await _devices.ReadAsync([.. read.Zip(places, (part, place) => new DevicePart(place, part))]));
        Assert.Equal(parts, read);
    }

    [Fact]
    public async Task ManyParts_Pass()
    {
        byte[] bytes = [.. Enumerable.Range(0, 10_000).Select(i => (byte)(i * 7))];

        Assert.True(await _devices.WriteAsync([.. bytes.Select((_, i) => new DevicePart(Base + (ulong)i, new ArraySegment<byte>(bytes, i, 1)))]));

        Assert.Equal(bytes, _memory[..bytes.Length]);
    }

    [Fact]
    public async Task MemoryThatIsNotShared_IsNotReached()
    {
        byte[] bytes = [7, 7];

        Assert.False(await _devices.ReadAsync([new(Base, bytes), new(0, bytes)]));
        Assert.False(await _devices.WriteAsync([new(Base, bytes), new(ulong.MaxValue, bytes)]));

        Assert.Equal([7, 7], bytes);
        Assert.Equal([0, 0], _memory[..2]);
        Assert.True(await _devices.ReadAsync([]));
        Assert.Equal(2, _commands.Count);
    }

    // What the hypervisor does: Svsm.Hypervisor's HostDevice.TryCopyShared.
    private Task<bool> Execute(CommandHeader command)
    {
        _commands.Add(command);
        byte[] window = new byte[Link.WindowLength];
        _window.ReadArray(0, window, 0, window.Length);
        int end = (int)command.Value * Unsafe.SizeOf<SharedPart>();
        SharedPart[] parts = MemoryMarshal.Cast<byte, SharedPart>(window.AsSpan(0, end)).ToArray();
        if (parts.Any(part => part.Address < Base || part.Address - Base > (ulong)_memory.Length - part.Length))
        {
            return Task.FromResult(false);
        }

        foreach (SharedPart part in parts)
        {
            Span<byte> here = _memory.AsSpan((int)(part.Address - Base), (int)part.Length);
            Span<byte> there = window.AsSpan(end, (int)part.Length);
            (command.Kind == CommandKind.WriteShared ? there : here).CopyTo(command.Kind == CommandKind.WriteShared ? here : there);
            end += (int)part.Length;
        }

        _window.WriteArray(0, window, 0, window.Length);
        return Task.FromResult(true);
    }
}
