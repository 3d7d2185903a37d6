// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// What a process reaches through the kernel, in memory of the test: frames, the archive, pages of the guest, a clock, random numbers, a log. It
// complains where a real machine would be damaged: a frame that is not the process's is mapped or freed, a page of the archive that no process has
// is mapped, a copy of guest memory crosses a page or is made without permission.

using System;
using System.Collections.Generic;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Text;
using Svsm.Kernel.Memory;
using Svsm.Kernel.Guest;
using Svsm.Kernel.Modules;
using Svsm.Kernel.Processes;
using Svsm.Kernel.Snp;
using Svsm.Wire;
using Xunit;

namespace Svsm.Kernel.Tests;

internal sealed unsafe class SimulatedProcessPlatform : IProcessPlatform
{
    public const ulong ArchiveBase = 0x7_0000_0000;

    private readonly byte[] _archive;
    private readonly byte[] _original;
    private int _mapped;
    private byte _random;
    private readonly byte[] _messageMemory = GC.AllocateArray<byte>(GuestMessages.MemoryLength, pinned: true);
    private readonly Bytes32[] _keys = GC.AllocateArray<Bytes32>(1, pinned: true);
    private GuestMessages _messages;

    public SimulatedProcessPlatform(byte[] archive)
    {
        _archive = archive;
        _original = [.. archive];
        ((Span<byte>)_keys[0]).Fill(0x5A);
        _messages = new GuestMessages((byte*)Unsafe.AsPointer(ref _messageMemory[0]), (Bytes32*)Unsafe.AsPointer(ref _keys[0]));
    }

    public ref GuestMessages Messages => ref _messages;

    /// <summary>The key of VMPL0.</summary>
    public ref Bytes32 Key => ref _keys[0];

    /// <summary>What the host says to a request, and to a request with certificates; null: that it does not do it.</summary>
    public Func<bool, ulong?> Host { get; set; } = _ => 0;

    /// <summary>Every page that left.</summary>
    public List<(byte[] Request, bool WantsCertificates)> Sent { get; } = [];

    /// <summary>The services that there are.</summary>
    public List<ServiceEntry> Services { get; } = [];

    /// <summary>The state of the manifest that was asked for.</summary>
    public InternalState Manifest { get; set; }

    public byte[] ManifestBytes { get; set; } = [];

    public (uint Module, uint Version)? Asked { get; private set; }

    public ArrayTableMemory Frames { get; } = new();

    /// <summary>Set: one of so many allocations, guest accesses and draws fails.</summary>
    public Random? Chance { get; set; }

    public int FailOneOf { get; set; } = 24;

    /// <summary>Addresses whose translation was dropped.</summary>
    public List<ulong> Invalidated { get; } = [];

    /// <summary>Number of times that a frame was mapped: the work that a call makes.</summary>
    public long MapCount { get; private set; }

    /// <summary>Pages that the guest has a right to itself, by number.</summary>
    public Dictionary<ulong, byte[]> Guest { get; } = [];

    public ModulePermissions GuestPermissions { get; set; } = ModulePermissions.ReadGuest | ModulePermissions.WriteGuest;

    public bool HasRandom { get; set; } = true;

    public List<(int Module, LogLevel Level, string Text)> Lines { get; } = [];

    public ReadOnlySpan<byte> Archive => _archive;

    public ulong Now { get; set; } = 5_000_000_007;

    public bool IsIdle => _mapped == 0 && Frames.IsIdle;

    public bool IsArchiveUntouched => _archive.AsSpan().SequenceEqual(_original);

    public bool IsInArchive(PhysicalAddress frame) => frame.Value - ArchiveBase < (ulong)_archive.Length;

    public bool TryAllocate(out PhysicalAddress frame)
    {
        frame = default;
        return !IsFailing() && Frames.TryAllocate(out frame);
    }

    public void Free(PhysicalAddress frame) => Frames.Free(frame);

    public ulong* Map(PhysicalAddress table)
    {
        MapCount++;
        if (!IsInArchive(table))
        {
            return Frames.Map(table);
        }

        Assert.Equal(0, table.PageOffset);
        _mapped++;
        return (ulong*)Unsafe.AsPointer(ref _archive[(int)(table.Value - ArchiveBase)]);
    }

    public void Unmap(ulong* table)
    {
        if ((ulong)table - (ulong)Unsafe.AsPointer(ref MemoryMarshal.GetArrayDataReference(_archive)) < (ulong)_archive.Length)
        {
            _mapped--;
        }
        else
        {
            Frames.Unmap(table);
        }
    }

    public void Invalidate(ulong address) => Invalidated.Add(address);

    public bool TryReadGuest(ulong address, Span<byte> destination)
    {
        Assert.True((GuestPermissions & ModulePermissions.ReadGuest) != 0, "guest memory was read without permission");
        if (!TryFindGuest(address, destination.Length, out byte[]? page))
        {
            // Any contents after a failure.
            destination.Fill(0xEE);
            return false;
        }

        page.AsSpan((int)(address % Page.Size), destination.Length).CopyTo(destination);
        return true;
    }

    public bool TryWriteGuest(ulong address, ReadOnlySpan<byte> source)
    {
        Assert.True((GuestPermissions & ModulePermissions.WriteGuest) != 0, "guest memory was written without permission");
        if (!TryFindGuest(address, source.Length, out byte[]? page))
        {
            return false;
        }

        source.CopyTo(page.AsSpan((int)(address % Page.Size)));
        return true;
    }

    public bool TryDraw(Span<byte> destination)
    {
        if (!HasRandom || IsFailing())
        {
            destination.Clear();
            return false;
        }

        for (int i = 0; i < destination.Length; i++)
        {
            destination[i] = ++_random;
        }

        return true;
    }

    // The answer is the request with every bit turned round.
    public bool TrySend(ReadOnlySpan<byte> request, Span<byte> response, Span<byte> certificates, out ulong status)
    {
        Sent.Add((request.ToArray(), !certificates.IsEmpty));
        ulong? word = Host(!certificates.IsEmpty);
        status = word ?? 0;
        if (word is null)
        {
            return false;
        }

        for (int i = 0; i < response.Length; i++)
        {
            response[i] = (byte)~request[i];
        }

        certificates.Fill(0xCE);
        return true;
    }

    public int ListServices(int module, Span<ServiceEntry> entries)
    {
        CollectionsMarshal.AsSpan(Services).CopyTo(entries);
        return Services.Count;
    }

    public InternalState AskManifest(int asking, uint module, uint version, out ReadOnlySpan<byte> manifest)
    {
        Asked = (module, version);
        manifest = Manifest == InternalState.Ready ? ManifestBytes : default;
        return Manifest;
    }

    /// <summary>The state of the request to another module.</summary>
    public InternalState Peer { get; set; }

    public byte[] PeerAnswer { get; set; } = [];

    /// <summary>Requests to other modules that were sent.</summary>
    public List<(ModuleMessageKind Kind, byte[] Request)> Requests { get; } = [];

    /// <summary>The request that was begun and not sent or ended.</summary>
    public (ModuleMessageKind Kind, byte[] Room)? Begun { get; private set; }

    /// <summary>There is no memory for a request.</summary>
    public bool HasNoRoom { get; set; }

    public bool TryBeginRequest(int asking, ModuleMessageKind kind, int length, out Span<byte> room)
    {
        Assert.InRange(length, 0, ModuleMessage.MaxPayload);
        Begun = HasNoRoom ? null : (kind, new byte[length]);
        room = Begun?.Room;
        return Begun is not null;
    }

    /// <summary>Room for what follows an answer, as long as it says.</summary>
    public byte[] AnswerRoom { get; private set; } = [];

    public bool TryBeginAnswer(int module, int length, out byte* room)
    {
        Assert.InRange(length, 1, ModuleMessage.MaxPayload);
        room = null;
        if (HasNoRoom)
        {
            return false;
        }

        AnswerRoom = GC.AllocateArray<byte>(length, pinned: true);
        room = (byte*)Unsafe.AsPointer(ref AnswerRoom[0]);
        return true;
    }

    public InternalState SendRequest(int asking)
    {
        if (Peer is InternalState.NotFound or InternalState.Failed)
        {
            return Peer;
        }

        Requests.Add(Begun!.Value);
        Begun = null;
        return InternalState.Pending;
    }

    public InternalState AwaitAnswer(int asking, ModuleMessageKind kind, out ReadOnlySpan<byte> answer)
    {
        bool isThere = Requests.Count != 0 && Requests[^1].Kind == kind;
        answer = isThere && Peer == InternalState.Ready ? PeerAnswer : default;
        return isThere ? Peer : InternalState.NotFound;
    }

    public void EndRequest(int asking) => (Asked, Begun) = (null, null);

    public byte[] Disk { get; } = new byte[DiskOffset.MemoryLength];

    public byte[] Channel { get; } = new byte[DiskOffset.MemoryLength];

    public Span<byte> DeviceMemory(ModulePermissions driver) => driver == ModulePermissions.Migrate ? Channel : Disk;

    public ulong DeviceMemoryAddress(ModulePermissions driver) => driver == ModulePermissions.Migrate ? 0x5_4322_0000ul : 0x5_4321_0000;

    /// <summary>To which module the last request went, with which fields; and those of the answer.</summary>
    public (int Module, MoveRequest Fields) SentTo { get; private set; }

    public MoveRequest AnsweredFields { get; set; }

    public InternalState SendRequestTo(int asking, int module, in MoveRequest request)
    {
        SentTo = (module, request);
        return SendRequest(asking);
    }

    public MoveRequest AnswerFields(int asking) => AnsweredFields;

    /// <summary>Reads and writes of what there is to move, in order; what is read is the low byte of where, in every byte.</summary>
    public List<(bool IsWrite, MoveArea Area, ulong Where, byte[] Bytes)> Moves { get; } = [];

    public MoveResult MoveResult { get; set; }

    /// <summary>Bytes that there are to read at most.</summary>
    public int MoveBytes { get; set; } = int.MaxValue;

    public MoveResult ReadMove(MoveArea area, ulong where, Span<byte> bytes, out int count)
    {
        Assert.True(bytes.Length <= 4096);
        count = Math.Min(bytes.Length, MoveBytes);
        bytes.Fill((byte)(where >> 12));
        Moves.Add((false, area, where, bytes.ToArray()));
        return MoveResult;
    }

    public MoveResult WriteMove(MoveArea area, ulong where, ReadOnlySpan<byte> bytes, int asking)
    {
        Assert.True(bytes.Length <= 4096);
        Moves.Add((true, area, where, bytes.ToArray()));
        return MoveResult;
    }

    /// <summary>Registers of the disks; those that are not there the host does not do.</summary>
    public Dictionary<uint, uint> Registers { get; } = [];

    public bool TryAccessDevice(uint register, bool isWrite, ref uint value)
    {
        Assert.True(register < 0x6000 && register % 4 == 0);
        if (!Registers.TryGetValue(register, out uint old))
        {
            // Whatever the host has left in the buffer.
            value = 0xDEAD_BEEF;
            return false;
        }

        Registers[register] = isWrite ? value : old;
        value = old;
        return true;
    }

    public CpuidValues Cpuid(uint function, uint index) => new() { Eax = function + 1, Ebx = index + 2, Ecx = 0x8000_0003, Edx = 0xFFFF_FFF4 };

    public void Log(int module, LogLevel level, ReadOnlySpan<byte> line) => Lines.Add((module, level, Encoding.UTF8.GetString(line)));

    private bool TryFindGuest(ulong address, int length, out byte[]? page)
    {
        Assert.InRange(length, 0, Page.Size - (int)(address % Page.Size));
        page = null;
        return !IsFailing() && Guest.TryGetValue(address / Page.Size, out page);
    }

    private bool IsFailing() => Chance?.Next(FailOneOf) == 0;
}
