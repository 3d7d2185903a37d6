// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// A process on a simulated platform: the program of a test archive, loaded. The test plays the processor: it sets the registers of a system call or
// of an exception as they would be, and looks at them afterwards.

using System;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Text;
using Svsm.Kernel.Arch;
using Svsm.Kernel.Memory;
using Svsm.Kernel.Modules;
using Svsm.Kernel.Processes;
using Svsm.Wire;
using Xunit;

namespace Svsm.Kernel.Tests;

internal sealed unsafe class TestProcess
{
    private readonly byte[] _context = GC.AllocateArray<byte>(Page.Size, pinned: true);
    private readonly byte[] _archive;
    private SimulatedProcessPlatform _platform;
    private Process _process;

    /// <summary>Makes one that is not loaded.</summary>
    public TestProcess(byte[] archive)
    {
        _archive = archive;
        _platform = new SimulatedProcessPlatform(archive);
        _process.Context = (UserContext*)Unsafe.AsPointer(ref _context[0]);
    }

    /// <summary>Makes one that is loaded, with two pages to pass things in.</summary>
    public TestProcess()
        : this(TestArchive.Build())
    {
        Assert.Equal(LoadError.None, Load(0, out _));
        Buffer = Map(2);
    }

    public SimulatedProcessPlatform Platform => _platform;

    public ref SimulatedProcessPlatform PlatformReference => ref _platform;

    public ref Process Process => ref _process;

    public ref UserContext Registers => ref Unsafe.As<byte, UserContext>(ref _context[0]);

    /// <summary>The FPU state.</summary>
    public Span<byte> Extended => _context.AsSpan(UserContext.ExtendedOffset, 576);

    /// <summary>Address of two pages that may be written; there is nothing behind them.</summary>
    public ulong Buffer { get; }

    /// <summary>Pages of the archive that the process may have.</summary>
    public (ulong Start, ulong End) Text
    {
        get
        {
            ulong start = SimulatedProcessPlatform.ArchiveBase + TestArchive.File(_archive, TestArchive.Program).Offset;
            return (start, start + ((TestArchive.File(_archive, TestArchive.Program).Length + 0xFFF) & ~0xFFFul));
        }
    }

    public LoadError Load(int module, out ElfError error)
    {
        Assert.True(ArchiveReader.TryOpen(_archive, out ArchiveReader archive));
        return _process.TryLoad(ref _platform, in archive, SimulatedProcessPlatform.ArchiveBase, module, ProcessAudit.CBit, out error);
    }

    public void Unload() => _process.Unload(ref _platform);

    /// <summary>A system call whose result is RAX.</summary>
    public long Call(ulong number, ulong first = 0, ulong second = 0, ulong third = 0, ulong fourth = 0)
    {
        Assert.Equal(CallResult.Done, Serve(number, first, second, third, fourth));
        return (long)Registers.Rax;
    }

    /// <summary>A system call.</summary>
    public CallResult Serve(ulong number, ulong first = 0, ulong second = 0, ulong third = 0, ulong fourth = 0)
    {
        ref UserContext registers = ref Registers;
        registers.Rax = number;
        registers.Rdi = first;
        registers.Rsi = second;
        registers.Rdx = third;
        registers.R10 = fourth;
        registers.Vector = UserContext.SystemCall;
        CallResult result = SystemCalls.Handle(ref _process, ref _platform);
        Assert.True(_platform.IsIdle, "a frame is still mapped");
        return result;
    }

    /// <summary>An exception.</summary>
    public bool Raise(int vector, ulong errorCode = 0, ulong faultAddress = 0)
    {
        (Registers.Vector, Registers.ErrorCode, Registers.FaultAddress) = ((ulong)vector, errorCode, faultAddress);
        return _process.TryHandleException(ref _platform);
    }

    /// <summary>A page fault of a read, if nothing else is said.</summary>
    public bool Fault(ulong address, ulong errorCode = 4) => Raise(Vector.PageFault, errorCode, address);

    public ulong Map(int pages, AccessRights rights = AccessRights.Read | AccessRights.Write)
    {
        Assert.True(_process.Memory.TryMap((ulong)pages * Page.Size, rights, out ulong start));
        return start;
    }

    public void Write(ulong address, ReadOnlySpan<byte> bytes) =>
        Assert.Equal(AccessResult.Success, _process.Memory.TryCopyOut(ref _platform, _platform.Archive, address, bytes));

    /// <summary>Writes, if the process may itself and there is memory.</summary>
    public void TryWrite(ulong address, ulong value) =>
        _ = _process.Memory.TryCopyOut(ref _platform, _platform.Archive, address, MemoryMarshal.AsBytes(new ReadOnlySpan<ulong>(in value)));

    public void Write(ulong address, string text) => Write(address, Encoding.UTF8.GetBytes(text + "\0"));

    public void Write<T>(ulong address, T value)
        where T : unmanaged => Write(address, MemoryMarshal.AsBytes(new ReadOnlySpan<T>(in value)));

    public byte[] Read(ulong address, int length)
    {
        byte[] bytes = new byte[length];
        Assert.Equal(AccessResult.Success, _process.Memory.TryCopyIn(ref _platform, _platform.Archive, address, bytes));
        return bytes;
    }

    public T Read<T>(ulong address)
        where T : unmanaged => MemoryMarshal.Read<T>(Read(address, sizeof(T)));

    public void Check() => ProcessAudit.Check(ref _process.Memory, _platform, Text);
}
