// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using Svsm.Kernel.Arch;
using Svsm.Kernel.Diagnostics;
using Svsm.Kernel.Guest;
using Svsm.Kernel.Memory;
using Svsm.Kernel.Modules;
using Svsm.Kernel.Snp;
using Svsm.Platform;
using Svsm.Wire;

namespace Svsm.Kernel.Processes;

/// <summary>The machine, for processes.</summary>
internal unsafe struct ProcessPlatform : IProcessPlatform
{
    private const uint LowestPrintable = 0x20;
    private const uint HighestPrintable = 0x7E;

    /// <inheritdoc/>
    public readonly ReadOnlySpan<byte> Archive => ModuleTable.Archive;

    /// <inheritdoc/>
    public readonly ulong Now => KernelClock.Now;

    /// <inheritdoc/>
    public readonly ref GuestMessages Messages => ref ModuleTable.Messages;

    /// <inheritdoc/>
    public readonly bool TryAllocate(out PhysicalAddress frame) => FrameAllocator.TryAllocate(out frame);

    /// <inheritdoc/>
    public readonly void Free(PhysicalAddress frame) => FrameAllocator.Free(frame);

    /// <inheritdoc/>
    // SAFETY: the window is mapped until Unmap.
    public readonly ulong* Map(PhysicalAddress table) => (ulong*)AddressSpace.MapWindow(table);

    /// <inheritdoc/>
    public readonly void Unmap(ulong* table) => AddressSpace.UnmapWindow((ulong)table);

    /// <inheritdoc/>
    public readonly void Invalidate(ulong address) => X64.InvalidatePage(address);

    /// <inheritdoc/>
    public readonly bool TryReadGuest(ulong address, Span<byte> destination)
    {
        PhysicalAddress start = new(address);
        if (!TryPin(start, out GuestWindow window))
        {
            return false;
        }

        bool isRead = window.TryRead(start.PageOffset, destination);
        Unpin(start, window);
        return isRead;
    }

    /// <inheritdoc/>
    public readonly bool TryWriteGuest(ulong address, ReadOnlySpan<byte> source)
    {
        PhysicalAddress start = new(address);
        if (!TryPin(start, out GuestWindow window))
        {
            return false;
        }

        bool isWritten = window.TryWrite(start.PageOffset, source);
        Unpin(start, window);
        return isWritten;
    }

    /// <inheritdoc/>
    public readonly bool TryDraw(Span<byte> destination)
    {
        ProcessorRandom source = default;
        return Entropy.TryFill(ref source, destination);
    }

    /// <inheritdoc/>
    public readonly bool TrySend(ReadOnlySpan<byte> request, Span<byte> response, Span<byte> certificates, out ulong status) =>
        GuestRequests.TrySend(request, response, certificates, out status);

    /// <inheritdoc/>
    public readonly int ListServices(int module, Span<ServiceEntry> entries) => InternalCalls.ListServices(module, entries);

    /// <inheritdoc/>
    public readonly InternalState AskManifest(int asking, uint module, uint version, out ReadOnlySpan<byte> manifest) =>
        InternalCalls.AskManifest(asking, module, version, out manifest);

    /// <inheritdoc/>
    public readonly bool TryBeginRequest(int asking, ModuleMessageKind kind, int length, out Span<byte> room) =>
        InternalCalls.TryBegin(asking, kind, length, out room);

    /// <inheritdoc/>
    public readonly unsafe bool TryBeginAnswer(int module, int length, out byte* room) => InternalCalls.TryBeginAnswer(module, length, out room);

    /// <inheritdoc/>
    public readonly InternalState SendRequest(int asking) => InternalCalls.Send(asking);

    /// <inheritdoc/>
    public readonly InternalState AwaitAnswer(int asking, ModuleMessageKind kind, out ReadOnlySpan<byte> answer) => InternalCalls.Await(asking, kind, out answer);

    /// <inheritdoc/>
    public readonly void EndRequest(int asking) => InternalCalls.End(asking);

    /// <inheritdoc/>
    public readonly Span<byte> DeviceMemory(ModulePermissions driver) => SvsmDevices.Memory(driver);

    /// <inheritdoc/>
    public readonly ulong DeviceMemoryAddress(ModulePermissions driver) => SvsmDevices.MemoryAddress(driver).Value;

    /// <inheritdoc/>
    public readonly InternalState SendRequestTo(int asking, int module, in MoveRequest request) => InternalCalls.SendTo(asking, module, in request);

    /// <inheritdoc/>
    public readonly MoveRequest AnswerFields(int asking) => InternalCalls.FieldsOf(asking);

    /// <inheritdoc/>
    public readonly MoveResult ReadMove(MoveArea area, ulong where, Span<byte> bytes, out int count) => GuestMove.Read(area, where, bytes, out count);

    /// <inheritdoc/>
    public readonly MoveResult WriteMove(MoveArea area, ulong where, ReadOnlySpan<byte> bytes, int asking) => GuestMove.Write(area, where, bytes, asking);

    /// <inheritdoc/>
    public readonly bool TryAccessDevice(uint register, bool isWrite, ref uint value) => SvsmDevices.TryAccess(register, isWrite, ref value);

    /// <inheritdoc/>
    public readonly CpuidValues Cpuid(uint function, uint index) => VcHandler.Cpuid(function, index);

    /// <inheritdoc/>
    public readonly void Log(int module, LogLevel level, ReadOnlySpan<byte> line)
    {
        ModuleTable.LogName(module);
        for (int i = 0; i < line.Length; i++)
        {
            // Whatever could pass for another line, or act on a terminal, is shown as one character.
            byte shown = line[i] is >= (byte)LowestPrintable and <= (byte)HighestPrintable ? line[i] : (byte)'?';
            Diagnostics.Log.Text(new ReadOnlySpan<byte>(in shown));
        }

        Diagnostics.Log.End(default, level);
    }

    private static bool TryPin(PhysicalAddress address, out GuestWindow window)
    {
        window = default;
        if (KernelMemory.PageStates.Pin(address.PageNumber) != PageResult.Success)
        {
            return false;
        }

        SnpPlatform platform = default;
        window = platform.Map(address.PageBase);
        return true;
    }

    private static void Unpin(PhysicalAddress address, GuestWindow window)
    {
        SnpPlatform platform = default;
        platform.Unmap(window);
        KernelMemory.PageStates.Unpin(address.PageNumber);
    }
}
