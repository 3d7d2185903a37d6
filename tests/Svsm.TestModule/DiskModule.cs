// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.IO;
using System.Linq;
using Svsm.Core;
using Svsm.Wire;

namespace Svsm.TestModule;

/// <summary>In the place of the module that keeps the store: finds the disks when it starts, and says so in its log.</summary>
[SvsmProtocol(0x8000_0008)]
public sealed class DiskModule : SvsmModule
{
    private const int Magic = 0x000;
    private const int Version = 0x004;
    private const int Kind = 0x008;
    private const int Status = 0x070;
    private const int Capacity = 0x100;
    private const uint VirtioMagic = 0x7472_6976;

    protected override void Start()
    {
        for (int disk = 0; disk < SvsmDisks.MaxDisks; disk++)
        {
            uint magic = Disks.ReadRegister(disk, Magic);
            if (magic != VirtioMagic)
            {
                Log.Information($"disk {disk}: none, 0x{magic:X}");
                continue;
            }

            Disks.WriteRegister(disk, Status, 3);
            ulong capacity = Disks.ReadRegister(disk, Capacity) | ((ulong)Disks.ReadRegister(disk, Capacity + 4) << 32);
            Log.Information($"disk {disk}: version {Disks.ReadRegister(disk, Version)}, kind {Disks.ReadRegister(disk, Kind)}, status {Disks.ReadRegister(disk, Status)}, {capacity} sectors");
        }

        byte[] pattern = [.. Enumerable.Range(0, SvsmDisks.MemoryLength).Select(i => (byte)(i * 7))];
        byte[] copy = new byte[pattern.Length];
        Disks.WriteMemory(0, pattern);
        Disks.ReadMemory(0, copy);
        Log.Information($"memory: page aligned {Disks.MemoryAddress % 4096 == 0}, the same {copy.AsSpan().SequenceEqual(pattern)}");
        try
        {
            Disks.ReadMemory(SvsmDisks.MemoryLength - 1, copy.AsSpan(0, 2));
        }
        catch (IOException exception)
        {
            Log.Information(exception.Message);
        }
    }

    protected override SvsmResult Handle(in SvsmRequest request) => SvsmResultCode.Success;
}
