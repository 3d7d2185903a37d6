// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The devices that the machine itself plays, for a run: their transports, and the way to the guest's shared memory. Data pass through the window, a
// file that QEMU has as the memory of an ivshmem device and the hypervisor copies to and from.

using System;
using System.Collections.Generic;
using System.Globalization;
using System.IO;
using System.IO.MemoryMappedFiles;
using System.Runtime.CompilerServices;
using System.Threading;
using System.Threading.Tasks;
using Svsm.Simulator.Shared;

namespace Svsm.Simulator;

internal sealed class HostDevices : IDeviceMemory, IDisposable
{
    // Relative to QEMU's working folder.
    private const string WindowFileName = "window";

    // The last slot in front of the LPC bridge. The guest does not see it.
    private const string WindowSlot = "1e";

    private static readonly int s_partLength = Unsafe.SizeOf<SharedPart>();

    private readonly MemoryMappedFile _file;
    private readonly MemoryMappedViewAccessor _window;
    private readonly SemaphoreSlim _windowUse = new(1, 1);
    private readonly IReadOnlyList<SvsmDisk> _disks;
    private readonly VirtioConsole? _channel;
    private readonly MigrationChannel? _migration;
    private readonly VirtioMmioTransport?[] _transports = new VirtioMmioTransport?[MachinePorts.HostDeviceSlots];

    // Throws SvsmDiagnosticException when a disk or the channel cannot be had.
    public HostDevices(MachineOptions options, string folder)
    {
        _disks = options.SvsmDisks;
        _channel = options.SvsmChannel is string path ? new VirtioConsole(path) : null;
        for (int i = 0; i < _disks.Count; i++)
        {
            _transports[i] = new VirtioMmioTransport(_disks[i], this);
        }

        if (_channel is not null)
        {
            _transports[_disks.Count] = new VirtioMmioTransport(_channel, this);
        }

        if (options.Migration is { } migration)
        {
            _migration = new MigrationChannel(migration.SocketPath);
            _transports[PlaceOf(migration)] = new VirtioMmioTransport(_migration, this);
        }

        _file = Machine.WithFile("a temporary file, writable", Path.Combine(folder, WindowFileName), path =>
            MemoryMappedFile.CreateFromFile(path, FileMode.CreateNew, mapName: null, Link.WindowLength));
        _window = _file.CreateViewAccessor(0, Link.WindowLength);
        try
        {
            foreach (SvsmDisk disk in _disks)
            {
                disk.Open();
            }

            _channel?.Open();
            _migration?.Open();
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    // Sends a command to the hypervisor and waits until it is done. Set before the first access.
    public Func<CommandHeader, Task<bool>>? Command { get; set; }

    // Which devices there are: bit n = the one in place n.
    public static uint Places(MachineOptions options) =>
        ((1u << options.SvsmDeviceCount) - 1) | (options.Migration is { } migration ? 1u << PlaceOf(migration) : 0);

    public static IEnumerable<string> Arguments(MachineOptions options) => Places(options) == 0
        ? []
        :
        [
            "-object", string.Create(CultureInfo.InvariantCulture, $"memory-backend-file,id=window,mem-path={WindowFileName},size={Link.WindowLength},share=on"),
            "-device", $"ivshmem-plain,memdev=window,addr={WindowSlot}",
        ];

    // The run has begun. Each relay that comes gets an exchange for the hypervisor's state.
    public void Start(Func<HostStateExchange> exchange) =>
        _migration?.Start(exchange, () => Command!(new CommandHeader { Kind = CommandKind.NotifySvsm }));

    // An access whose device and size the recorder has checked.
    public async Task<DeviceAnswer> HandleAsync(DeviceAccess access)
    {
        VirtioMmioTransport transport = _transports[access.Device]!;
        int size = (int)(access.Kind & ~DeviceAccess.Write);
        ulong value = 0;
        if ((access.Kind & DeviceAccess.Write) != 0)
        {
            await transport.WriteAsync(access.Offset, size, access.Value).ConfigureAwait(false);
        }
        else
        {
            value = transport.Read(access.Offset, size);
        }

        await transport.PollAsync().ConfigureAwait(false);

        return new DeviceAnswer { Value = value, Interrupt = transport.Interrupts ? 1u : 0u };
    }

    public Task<bool> ReadAsync(IReadOnlyList<DevicePart> parts) => CopyAsync(CommandKind.ReadShared, parts);

    public Task<bool> WriteAsync(IReadOnlyList<DevicePart> parts) => CopyAsync(CommandKind.WriteShared, parts);

    // What a command wrote to the window: its answer says how much.
    public Task<byte[]> ReadWindowAsync(Func<Task<uint>> command) => UseWindowAsync(async () =>
    {
        Thread.MemoryBarrier();
        byte[] bytes = new byte[Math.Min(await command().ConfigureAwait(false), Link.WindowLength)];
        _window.ReadArray(0, bytes, 0, bytes.Length);
        return bytes;
    });

    // Has a command read the window.
    public Task<T> WriteWindowAsync<T>(ReadOnlyMemory<byte> bytes, Func<Task<T>> command) => UseWindowAsync(() =>
    {
        _window.WriteArray(0, bytes.ToArray(), 0, bytes.Length);
        Thread.MemoryBarrier();
        return command();
    });

    public void Dispose()
    {
        foreach (SvsmDisk disk in _disks)
        {
            disk.Close();
        }

        _channel?.Dispose();
        _migration?.Dispose();
        _windowUse.Dispose();
        _window.Dispose();
        _file.Dispose();
    }

    private async Task<T> UseWindowAsync<T>(Func<Task<T>> use)
    {
        await _windowUse.WaitAsync().ConfigureAwait(false);
        try
        {
            return await use().ConfigureAwait(false);
        }
        finally
        {
            _windowUse.Release();
        }
    }

    private static int PlaceOf(MachineMigration migration) =>
        migration.Role == MigrationRole.Source ? MachinePorts.MigrationSource : MachinePorts.MigrationTarget;

    // With as few commands as the window allows: each is a round trip over the link.
    private async Task<bool> CopyAsync(CommandKind kind, IReadOnlyList<DevicePart> parts)
    {
        List<DevicePart> next = [];
        int room = (int)Link.WindowLength;
        foreach (DevicePart part in parts)
        {
            for (DevicePart rest = part; rest.Bytes.Count != 0;)
            {
                if (room <= s_partLength || next.Count == Link.MaxSharedParts)
                {
                    if (!await CopyNextAsync(kind, next).ConfigureAwait(false))
                    {
                        return false;
                    }

                    next = [];
                    room = (int)Link.WindowLength;
                }

                int count = Math.Min(rest.Bytes.Count, room - s_partLength);
                next.Add(rest with { Bytes = rest.Bytes[..count] });
                rest = new DevicePart(rest.Gpa + (ulong)count, rest.Bytes[count..]);
                room -= s_partLength + count;
            }
        }

        return next.Count == 0 || await CopyNextAsync(kind, next).ConfigureAwait(false);
    }

    private Task<bool> CopyNextAsync(CommandKind kind, List<DevicePart> parts) => UseWindowAsync(async () =>
    {
        for (int i = 0; i < parts.Count; i++)
        {
            var part = new SharedPart { Address = parts[i].Gpa, Length = (ulong)parts[i].Bytes.Count };
            _window.Write(i * s_partLength, ref part);
        }

        if (kind == CommandKind.WriteShared)
        {
            ForEach((offset, bytes) => _window.WriteArray(offset, bytes.Array!, bytes.Offset, bytes.Count));
        }

        // What the hypervisor writes to the window is there when it says that it is done, and the other way round: the link is slower than any cache.
        Thread.MemoryBarrier();
        bool done = await Command!(new CommandHeader { Kind = kind, Value = (ulong)parts.Count }).ConfigureAwait(false);
        if (done && kind == CommandKind.ReadShared)
        {
            ForEach((offset, bytes) => _window.ReadArray(offset, bytes.Array!, bytes.Offset, bytes.Count));
        }

        return done;

        void ForEach(Action<int, ArraySegment<byte>> pass)
        {
            int offset = parts.Count * s_partLength;
            foreach (DevicePart part in parts)
            {
                pass(offset, part.Bytes);
                offset += part.Bytes.Count;
            }
        }
    });
}
