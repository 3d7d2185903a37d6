// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The guest, for the module that moves it to another machine: its memory with what changes there, its vCPUs, the other modules' states. What is where, and in
// which order it is used, is told in Wire/MoveChannel.cs. A test has another one.

using System;
using System.IO;
using System.Runtime.InteropServices;
using System.Security.Cryptography;
using Svsm.Wire;

namespace Svsm.Core;

/// <summary>What became of a <see cref="MoveControl"/>.</summary>
public enum MoveControlResult
{
    /// <summary>It is done.</summary>
    Done,

    /// <summary>It is under way: to be asked again.</summary>
    Again,

    /// <summary>It is not possible: the order is wrong, there is no memory, or the host does not offer what it needs.</summary>
    Refused,
}

/// <summary>The guest to be moved. Numbers of pages are addresses / 4096.</summary>
public abstract class GuestMove
{
    /// <summary>Bytes of a page.</summary>
    public const int PageLength = 4096;

    /// <summary>Most ranges and modules that are told.</summary>
    public const int MaxEntries = PageLength / MoveRange.Length;

    /// <summary>What there is to move.</summary>
    /// <exception cref="IOException">The module may not move the guest, or is not in an image. So for all other members.</exception>
    public abstract MoveInformation ReadInformation();

    /// <summary>The guest's memory.</summary>
    public abstract MoveRange[] ReadRanges();

    /// <summary>The other modules.</summary>
    public abstract MoveModule[] ReadModules();

    /// <summary>Has the kernel do something.</summary>
    /// <param name="control">What.</param>
    public abstract MoveControlResult Control(MoveControl control);

    /// <summary>Takes the guest's right to write pages: they are not dirty from here on, until they are written.</summary>
    /// <param name="pages">Numbers of at most <see cref="MoveOffset.MaxTaken"/> pages.</param>
    public abstract void Take(ReadOnlySpan<ulong> pages);

    /// <summary>Tells which pages are dirty.</summary>
    /// <param name="firstPage">Number of the first one, a multiple of 8.</param>
    /// <param name="bits">Gets a bit for each page: at most a page of bits. Where no memory of the guest is, they are clear.</param>
    public abstract void ReadDirty(ulong firstPage, Span<byte> bits);

    /// <summary>Tells what pages are.</summary>
    /// <param name="firstPage">Number of the first one.</param>
    /// <param name="states">Gets a byte for each page, a <see cref="MovePageState"/>: at most 4096.</param>
    public abstract void ReadStates(ulong firstPage, Span<byte> states);

    /// <summary>Makes pages what they are to be, while the guest is held.</summary>
    /// <param name="firstPage">Number of the first one.</param>
    /// <param name="states">A byte for each page, a <see cref="MovePageState"/>: at most 4096.</param>
    /// <returns>False: one cannot become that; others may have.</returns>
    public abstract bool TryWriteStates(ulong firstPage, ReadOnlySpan<byte> states);

    /// <summary>Copies pages.</summary>
    /// <param name="address">Address of the first one.</param>
    /// <param name="pages">Gets them: whole pages, at most 1 MiB.</param>
    /// <returns>False: one is not private.</returns>
    public abstract bool TryReadPages(ulong address, Span<byte> pages);

    /// <summary>Writes pages, while the guest is held.</summary>
    /// <param name="address">Address of the first one.</param>
    /// <param name="pages">Whole pages, at most 1 MiB.</param>
    /// <returns>False: one is not private, or no memory of the guest; others may have been written.</returns>
    public abstract bool TryWritePages(ulong address, ReadOnlySpan<byte> pages);

    /// <summary>Reads a vCPU, while the guest is stopped.</summary>
    /// <param name="number">Its number.</param>
    /// <param name="vmsa">Gets its VMSA, 4096 bytes, if it runs.</param>
    public abstract MoveVcpu ReadVcpu(int number, Span<byte> vmsa);

    /// <summary>Writes a vCPU, while the guest is held.</summary>
    /// <param name="vcpu">The vCPU.</param>
    /// <param name="vmsa">Its VMSA, if it runs.</param>
    /// <returns>False: it does not fit this VM.</returns>
    public abstract bool TryWriteVcpu(in MoveVcpu vcpu, ReadOnlySpan<byte> vmsa);

    /// <summary>Asks another module, and waits for its answer.</summary>
    /// <param name="module">Its index.</param>
    /// <param name="kind"><see cref="ModuleMessageKind.Save"/>, <see cref="ModuleMessageKind.Restore"/>, <see cref="ModuleMessageKind.Leave"/> or <see cref="ModuleMessageKind.Arrive"/>.</param>
    /// <param name="request">Fields of the message; gets those of the answer.</param>
    /// <param name="contents">What follows the message, at most 64 KiB.</param>
    /// <param name="answer">What follows the answer, at most 64 KiB.</param>
    /// <returns>False: there is no answer: it does not run, or failed.</returns>
    public abstract bool TryAsk(int module, ModuleMessageKind kind, ref MoveRequest request, ReadOnlySpan<byte> contents, out byte[] answer);
}

// Outside of an image the descriptor is not open, and the kernel gives it to the module with the permission only.
internal sealed class DescriptorMove : GuestMove
{
    private byte[]? _request;

    public override MoveInformation ReadInformation()
    {
        MoveInformation information = default;
        Read(MoveArea.Information, 0, MemoryMarshal.AsBytes(new Span<MoveInformation>(ref information)));
        return information;
    }

    public override MoveRange[] ReadRanges()
    {
        var ranges = new MoveRange[MaxEntries];
        return ranges[..(ReadSome(MoveArea.Ranges, MemoryMarshal.AsBytes(ranges.AsSpan())) / MoveRange.Length)];
    }

    public override MoveModule[] ReadModules()
    {
        var modules = new MoveModule[MaxEntries];
        return modules[..(ReadSome(MoveArea.Modules, MemoryMarshal.AsBytes(modules.AsSpan())) / MoveModule.Length)];
    }

    public override MoveControlResult Control(MoveControl control)
    {
        nint written = Descriptor.WriteAt(
            ModuleDescriptor.Move, MemoryMarshal.AsBytes(new ReadOnlySpan<MoveControl>(in control)), MoveOffset.Of(MoveArea.Control, 0));
        return written >= 0 ? MoveControlResult.Done
            : Descriptor.LastError == Descriptor.TryAgain ? MoveControlResult.Again
            : MoveControlResult.Refused;
    }

    public override void Take(ReadOnlySpan<ulong> pages)
    {
        if (!TryWrite(MoveArea.Take, 0, MemoryMarshal.AsBytes(pages)))
        {
            throw Failed(MoveArea.Take);
        }
    }

    public override void ReadDirty(ulong firstPage, Span<byte> bits) => Read(MoveArea.Dirty, firstPage / 8, bits);

    public override void ReadStates(ulong firstPage, Span<byte> states) => Read(MoveArea.States, firstPage, states);

    public override bool TryWriteStates(ulong firstPage, ReadOnlySpan<byte> states) => TryWrite(MoveArea.States, firstPage, states);

    public override bool TryReadPages(ulong address, Span<byte> pages) =>
        Descriptor.ReadAt(ModuleDescriptor.Move, pages, MoveOffset.Of(MoveArea.Pages, address)) == pages.Length;

    public override bool TryWritePages(ulong address, ReadOnlySpan<byte> pages) => TryWrite(MoveArea.Pages, address, pages);

    public override MoveVcpu ReadVcpu(int number, Span<byte> vmsa)
    {
        MoveVcpu vcpu = default;
        ulong where = (ulong)number * MoveVcpu.Stride;
        Read(MoveArea.Vcpus, where, MemoryMarshal.AsBytes(new Span<MoveVcpu>(ref vcpu)));
        if (vcpu.State == MoveVcpuState.Runs)
        {
            Read(MoveArea.Vcpus, where + MoveVcpu.VmsaOffset, vmsa);
        }

        return vcpu;
    }

    public override bool TryWriteVcpu(in MoveVcpu vcpu, ReadOnlySpan<byte> vmsa)
    {
        ulong where = (ulong)vcpu.Number * MoveVcpu.Stride;
        return TryWrite(MoveArea.Vcpus, where, MemoryMarshal.AsBytes(new ReadOnlySpan<MoveVcpu>(in vcpu))) &&
            (vcpu.State != MoveVcpuState.Runs || TryWrite(MoveArea.Vcpus, where + MoveVcpu.VmsaOffset, vmsa));
    }

    public override bool TryAsk(int module, ModuleMessageKind kind, ref MoveRequest request, ReadOnlySpan<byte> contents, out byte[] answer)
    {
        answer = [];
        long offset = MoveOffset.Of(MoveArea.ModuleRequest, ((ulong)kind << MoveOffset.KindShift) | (uint)module);
        byte[] buffer = _request ??= new byte[MoveRequest.Length + ModuleMessage.MaxPayload];
        MemoryMarshal.Write(buffer, in request);
        contents.CopyTo(buffer.AsSpan(MoveRequest.Length));
        nint length = Descriptor.WriteAt(ModuleDescriptor.Move, buffer.AsSpan(0, MoveRequest.Length + contents.Length), offset);
        if (length >= 0)
        {
            length = Descriptor.ReadAt(ModuleDescriptor.Move, buffer, offset);
        }

        if (length >= MoveRequest.Length)
        {
            request = MemoryMarshal.Read<MoveRequest>(buffer);
            answer = buffer.AsSpan(MoveRequest.Length, (int)length - MoveRequest.Length).ToArray();
        }

        CryptographicOperations.ZeroMemory(buffer.AsSpan(0, Math.Max(MoveRequest.Length + contents.Length, (int)length)));
        return length >= MoveRequest.Length;
    }

    private static void Read(MoveArea area, ulong where, Span<byte> destination)
    {
        if (Descriptor.ReadAt(ModuleDescriptor.Move, destination, MoveOffset.Of(area, where)) != destination.Length)
        {
            throw Failed(area);
        }
    }

    private static int ReadSome(MoveArea area, Span<byte> destination)
    {
        nint length = Descriptor.ReadAt(ModuleDescriptor.Move, destination, MoveOffset.Of(area, 0));
        return length >= 0 ? (int)length : throw Failed(area);
    }

    private static bool TryWrite(MoveArea area, ulong where, ReadOnlySpan<byte> source) =>
        Descriptor.WriteAt(ModuleDescriptor.Move, source, MoveOffset.Of(area, where)) == source.Length;

    private static IOException Failed(MoveArea area) => new($"{area} of the guest to be moved: error {Descriptor.LastError}");
}
