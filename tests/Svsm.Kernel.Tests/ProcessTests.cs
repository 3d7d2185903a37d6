// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Buffers.Binary;
using System.Runtime.InteropServices;
using System.Text;
using Svsm.Kernel.Arch;
using Svsm.Kernel.Memory;
using Svsm.Kernel.Processes;
using Svsm.Wire;
using Xunit;

namespace Svsm.Kernel.Tests;

public sealed class ProcessTests
{
    private const ulong Handler = 0x40_1100;
    private const ulong Restorer = 0x40_1200;
    private const ulong Write = 2;
    private const ulong Fetch = 16;
    private const ulong Cpuid = 0x72;
    private const int FrameLength = 440;

    [Fact]
    public void TryLoad_Good_BeginsAtItsEntryWithItsStack()
    {
        var process = new TestProcess(TestArchive.Build());
        Assert.Equal((LoadError.None, ElfError.None), (process.Load(0, out ElfError error), error));
        Assert.Equal((TestElf.Entry, 2ul, 0ul), (process.Registers.Rip, process.Registers.Rflags, process.Registers.FsBase));
        Assert.Equal((0x037Fu, 0x1F80u), (BinaryPrimitives.ReadUInt16LittleEndian(process.Extended), BinaryPrimitives.ReadUInt32LittleEndian(process.Extended[24..])));
        ulong stack = process.Registers.Rsp;
        Assert.Equal(0ul, stack % 16);
        Assert.True(stack > ProcessMemory.HeapHigh - Page.Size && stack < ProcessMemory.HeapHigh);
        Assert.Equal(1ul, process.Read<ulong>(stack));
        ulong name = process.Read<ulong>(stack + 8);
        Assert.Equal(Encoding.UTF8.GetBytes(TestArchive.ModuleName + "\0A=1\0B=22\0"), process.Read(name, TestArchive.ModuleName.Length + 10));
        Assert.Equal((0, ModulePermissions.ReadGuest | ModulePermissions.WriteGuest, ProcessEnd.None), (process.Process.Module, process.Process.Permissions, process.Process.Reason));
        Assert.Equal(TestArchive.MemoryLimit / Page.Size, process.Process.Memory.PageLimit);
        process.Check();
        process.Unload();
        Assert.Equal(0, process.Platform.Frames.Allocated);
    }

    // What is mapped later leaves a free page below the stack.
    [Fact]
    public void TryLoad_Stack_HasAGuardPage()
    {
        var process = new TestProcess();
        Assert.Equal(ProcessMemory.HeapHigh - Process.StackLength - (3 * Page.Size), process.Buffer);
        Assert.True(process.Fault(ProcessMemory.HeapHigh - Process.StackLength, 6));
        Assert.False(process.Fault(ProcessMemory.HeapHigh - Process.StackLength - 1, 6));
    }

    [Fact]
    public void TryLoad_BadProgram_SaysWhatIsWrong()
    {
        byte[] program = TestElf.Build();
        TestElf.Header(program).Machine = 3;
        var process = new TestProcess(TestArchive.Build(program));
        Assert.Equal((LoadError.BadProgram, ElfError.NotStaticExecutable), (process.Load(0, out ElfError error), error));
        process.Unload();
        Assert.Equal(0, process.Platform.Frames.Allocated);
    }

    [Fact]
    public void TryLoad_NoRandomNumbers_IsAnError()
    {
        var process = new TestProcess(TestArchive.Build());
        process.Platform.HasRandom = false;
        Assert.Equal(LoadError.NoRandomNumbers, process.Load(0, out _));
        process.Unload();
        Assert.Equal(0, process.Platform.Frames.Allocated);
    }

    // Data and stack are more than the limit.
    [Fact]
    public void TryLoad_LimitBelowDataAndStack_IsOutOfMemory()
    {
        byte[] archive = TestArchive.Build();
        TestArchive.Module(archive, 0).MemoryLimit = 67 * Page.Size;
        Assert.Equal(LoadError.OutOfMemory, new TestProcess(archive).Load(0, out _));
        TestArchive.Module(archive, 0).MemoryLimit = 68 * Page.Size;
        Assert.Equal(LoadError.None, new TestProcess(archive).Load(0, out _));

        byte[] program = TestElf.Build();
        TestElf.Segment(program, TestElf.Data).MemoryLength = 0x10_0000;
        archive = TestArchive.Build(program);
        Assert.Equal(LoadError.OutOfMemory, new TestProcess(archive).Load(0, out _));
    }

    [Fact]
    public void TryLoad_AnyAllocationFails_LeaksNothing()
    {
        LoadError error = LoadError.OutOfMemory;
        int left = 0;
        for (; error != LoadError.None; left++)
        {
            var process = new TestProcess(TestArchive.Build());
            process.Platform.Frames.Left = left;
            error = process.Load(0, out _);
            Assert.True(error is LoadError.None or LoadError.OutOfMemory);
            process.Unload();
            Assert.Equal(0, process.Platform.Frames.Allocated);
            Assert.True(process.Platform.IsIdle);
        }

        // PML4, three tables, one page of the stack: the fifth is enough.
        Assert.Equal(6, left);
    }

    [Fact]
    public void Give_Request_IsThereToBeRead()
    {
        var process = new TestProcess();
        process.Process.AnswerOffset = 5;
        process.Process.Give(new ModuleMessage { Kind = ModuleMessageKind.Call, Sequence = 3 });
        Assert.Equal((0, 0, true, 3ul), (process.Process.RequestOffset, process.Process.AnswerOffset, process.Process.HasRequest, process.Process.Request.Sequence));
    }

    [Theory]
    [InlineData(0x40_1000ul, Fetch, true)]
    [InlineData(0x40_1000ul, 0ul, true)]
    [InlineData(0x40_1000ul, Write, false)]
    [InlineData(0x40_4000ul, Write, true)]
    [InlineData(0x40_4000ul, Fetch, false)]
    [InlineData(0x40_3000ul, 0ul, false)]
    [InlineData(0ul, 0ul, false)]
    [InlineData(0xFFFF_FF80_0000_0000ul, 0ul, false)]
    public void TryHandleException_PageFault_IsTouchedOrTheEnd(ulong address, ulong errorCode, bool goesOn)
    {
        var process = new TestProcess();
        Assert.Equal(goesOn, process.Fault(address, errorCode | 4));
        Assert.Equal(goesOn ? (ProcessEnd.None, 0u) : (ProcessEnd.Fault, 11u), (process.Process.Reason, process.Process.ExitStatus));
        Assert.Equal(TestElf.Entry, process.Registers.Rip);
        process.Check();
    }

    [Fact]
    public void TryHandleException_PageFaultWithoutFrame_IsOutOfMemory()
    {
        var process = new TestProcess();
        SetAction(process, 11);
        process.Platform.Frames.Left = 0;
        Assert.False(process.Fault(process.Buffer + Page.Size, Write));
        Assert.Equal(ProcessEnd.OutOfMemory, process.Process.Reason);
        process.Check();
    }

    [Theory]
    [InlineData(Vector.DivideError, 8u, 1u)]
    [InlineData(Vector.Debug, 5u, 0u)]
    [InlineData(Vector.Breakpoint, 5u, 0u)]
    [InlineData(4, 11u, 0u)]
    [InlineData(Vector.InvalidOpcode, 4u, 0u)]
    [InlineData(7, 11u, 0u)]
    [InlineData(Vector.StackFault, 7u, 0u)]
    [InlineData(Vector.GeneralProtection, 11u, 0u)]
    [InlineData(Vector.FloatingPoint, 8u, 0u)]
    [InlineData(Vector.AlignmentCheck, 7u, 0u)]
    [InlineData(Vector.SimdFloatingPoint, 8u, 0u)]
    [InlineData(Vector.VmmCommunication, 11u, 0u)]
    public void TryHandleException_Vector_IsItsSignal(int vector, uint signal, uint code)
    {
        var process = new TestProcess();
        Assert.False(process.Raise(vector));
        Assert.Equal((ProcessEnd.Fault, signal), (process.Process.Reason, process.Process.ExitStatus));

        process = new TestProcess();
        SetAction(process, signal);
        Assert.True(process.Raise(vector, 0x55, 0x1234));
        Assert.Equal((Handler, (ulong)signal, 2ul, ProcessEnd.None), (process.Registers.Rip, process.Registers.Rdi, process.Registers.Rflags, process.Process.Reason));
        Assert.Equal((signal, code, TestElf.Entry), (process.Read<uint>(process.Registers.Rsi), process.Read<uint>(process.Registers.Rsi + 8), process.Read<ulong>(process.Registers.Rsi + 16)));
        process.Check();
    }

    // SEGV_MAPERR and SEGV_ACCERR, which the runtime does not tell apart; Linux does.
    [Theory]
    [InlineData(0x18ul, 0ul, 1u)]
    [InlineData(0x40_1000ul, Write, 2u)]
    public void TryHandleException_FaultWithHandler_TellsTheAddress(ulong address, ulong errorCode, uint code)
    {
        var process = new TestProcess();
        SetAction(process, 11);
        ulong stack = process.Registers.Rsp;
        Assert.True(process.Fault(address, errorCode));
        ref UserContext registers = ref process.Registers;
        Assert.Equal((code, address), (process.Read<uint>(registers.Rsi + 8), process.Read<ulong>(registers.Rsi + 16)));

        // As after a call: the stack was aligned before the return address. Below the red zone, and above it the FPU state.
        Assert.Equal(8ul, registers.Rsp % 16);
        Assert.Equal(Restorer, process.Read<ulong>(registers.Rsp));
        Assert.Equal(registers.Rsp + 8, registers.Rdx);
        ulong extended = process.Read<ulong>(registers.Rsp + 8 + 40 + 184);
        Assert.True(extended % 64 == 0 && extended >= registers.Rsp + FrameLength && extended + 512 <= stack - 128);
        Assert.Equal(process.Extended[..512].ToArray(), process.Read(extended, 512));
    }

    [Theory]
    [InlineData(0ul, 0x0400_0004ul)]
    [InlineData(1ul, 0x0400_0004ul)]
    [InlineData(Handler, 4ul)]
    [InlineData(ProcessMemory.UserEnd, 0x0400_0004ul)]
    [InlineData(ulong.MaxValue, 0x0400_0004ul)]
    public void TryHandleException_NoHandler_IsTheEnd(ulong handler, ulong flags)
    {
        var process = new TestProcess();
        process.Process.Signals.Of(11) = new SignalAction { Handler = handler, Flags = flags, ReturnAddress = Restorer };
        Assert.False(process.Fault(0));
        Assert.Equal((ProcessEnd.Fault, 11u), (process.Process.Reason, process.Process.ExitStatus));
    }

    // A stack that overflows, or is no stack at all.
    [Theory]
    [InlineData(0ul)]
    [InlineData(8ul)]
    [InlineData(1200ul)]
    [InlineData(0x40_2000ul)]
    [InlineData(ProcessMemory.HeapHigh - Process.StackLength)]
    [InlineData(ProcessMemory.HeapHigh - Process.StackLength + 1000)]
    [InlineData(ProcessMemory.UserEnd)]
    [InlineData(ulong.MaxValue)]
    public void TryHandleException_NoStackForTheHandler_IsTheEnd(ulong stack)
    {
        var process = new TestProcess();
        SetAction(process, 11);
        process.Registers.Rsp = stack;
        Assert.False(process.Fault(0));
        Assert.Equal((ProcessEnd.Fault, 11u, stack), (process.Process.Reason, process.Process.ExitStatus, process.Registers.Rsp));
        process.Check();
    }

    [Fact]
    public void SignalReturn_Untouched_GoesOnAsBefore()
    {
        var process = new TestProcess();
        SetAction(process, 11);
        Fill(ref process.Registers);
        process.Registers.Rflags = 0x0024_0CD7;
        byte[] registers = Snapshot(process);
        byte[] extended = process.Extended.ToArray();
        Assert.True(process.Fault(0));
        process.Extended[..512].Fill(0xAB);

        // The handler returns to the restorer.
        process.Registers.Rsp += 8;
        Assert.Equal(CallResult.Done, process.Serve(15));
        Assert.Equal(registers, Snapshot(process));
        Assert.Equal(extended.AsSpan(0, 512), process.Extended[..512]);

        // XSAVE areas: neither x87 nor SSE state is the initial one.
        Assert.Equal(3ul, BinaryPrimitives.ReadUInt64LittleEndian(process.Extended[512..]));
        process.Check();
    }

    // What the runtime does: it has the process go on elsewhere, with other registers.
    [Fact]
    public void SignalReturn_OtherRegisters_AreTaken()
    {
        var process = new TestProcess();
        SetAction(process, 11);
        Assert.True(process.Fault(0));
        ulong registers = process.Registers.Rdx + 40;
        for (ulong i = 0; i < 15; i++)
        {
            process.Write(registers + (i * 8), 0x1000 + i);
        }

        process.Write(registers + (15 * 8), 0x7000ul);
        process.Write(registers + (16 * 8), ProcessMemory.UserEnd - 1);
        process.Write(registers + (17 * 8), ulong.MaxValue);
        process.Registers.Rsp += 8;
        Assert.Equal(CallResult.Done, process.Serve(15));
        ref UserContext taken = ref process.Registers;
        Assert.Equal((0x1000ul, 0x1007ul, 0x1008ul, 0x100Dul, 0x100Eul), (taken.R8, taken.R15, taken.Rdi, taken.Rax, taken.Rcx));
        Assert.Equal((0x7000ul, ProcessMemory.UserEnd - 1, 0x0024_0CD7ul), (taken.Rsp, taken.Rip, taken.Rflags));
    }

    [Theory]
    [InlineData(15, ProcessMemory.UserEnd)]
    [InlineData(15, ulong.MaxValue)]
    [InlineData(15, 0x8000_0000_0000ul)]
    [InlineData(16, ProcessMemory.UserEnd)]
    [InlineData(16, 0xFFFF_8000_0000_0000ul)]
    [InlineData(23, 0x40_3000ul)]
    [InlineData(23, ulong.MaxValue)]
    [InlineData(23, ProcessMemory.HeapHigh - 511)]
    public void SignalReturn_AddressThatIsNone_IsTheEnd(int word, ulong value)
    {
        var process = new TestProcess();
        SetAction(process, 11);
        Assert.True(process.Fault(0));
        process.Write(process.Registers.Rdx + 40 + ((ulong)word * 8), value);
        process.Registers.Rsp += 8;
        Assert.Equal(CallResult.Ended, process.Serve(15));
        Assert.Equal((ProcessEnd.Fault, 11u), (process.Process.Reason, process.Process.ExitStatus));
        process.Check();
    }

    [Theory]
    [InlineData(0ul)]
    [InlineData(7ul)]
    [InlineData(8ul)]
    [InlineData(ulong.MaxValue)]
    [InlineData(ProcessMemory.HeapHigh - FrameLength + 9)]
    public void SignalReturn_NoFrame_IsTheEnd(ulong stack)
    {
        var process = new TestProcess();
        process.Registers.Rsp = stack;
        Assert.Equal(CallResult.Ended, process.Serve(15));
        Assert.Equal(ProcessEnd.Fault, process.Process.Reason);
    }

    [Fact]
    public void SignalReturn_WithoutExtendedState_LeavesItAsItIs()
    {
        var process = new TestProcess();
        SetAction(process, 11);
        Assert.True(process.Fault(0));
        process.Write(process.Registers.Rdx + 40 + (23 * 8), 0ul);
        process.Registers.Rsp += 8;
        process.Extended[..512].Fill(0xAB);
        Assert.Equal(CallResult.Done, process.Serve(15));
        Assert.All(process.Extended[..512].ToArray(), value => Assert.Equal(0xAB, value));
    }

    // Loading bits that do not exist would be a fault of the kernel.
    [Fact]
    public void SignalReturn_BitsOfMxcsrThatDoNotExist_AreDropped()
    {
        var process = new TestProcess();
        SetAction(process, 11);
        Assert.True(process.Fault(0));
        process.Write(process.Read<ulong>(process.Registers.Rdx + 40 + (23 * 8)) + 24, uint.MaxValue);
        process.Registers.Rsp += 8;
        Assert.Equal(CallResult.Done, process.Serve(15));
        Assert.Equal(0xFFFFu, BinaryPrimitives.ReadUInt32LittleEndian(process.Extended[24..]));
    }

    [Fact]
    public void TryHandleException_Cpuid_IsThePagesAnswer()
    {
        var process = new TestProcess();
        process.Write(process.Buffer + Page.Size - 1, [0x0F, 0xA2]);
        Fill(ref process.Registers);
        (process.Registers.Rip, process.Registers.Rax, process.Registers.Rcx) = (process.Buffer + Page.Size - 1, 0xFFFF_FFFF_0000_0007, 0xFFFF_FFFF_0000_0001);
        Assert.True(process.Raise(Vector.VmmCommunication, Cpuid));
        ref UserContext registers = ref process.Registers;
        Assert.Equal((8ul, 3ul, 0x8000_0003ul, 0xFFFF_FFF4ul, process.Buffer + Page.Size + 1), (registers.Rax, registers.Rbx, registers.Rcx, registers.Rdx, registers.Rip));
    }

    [Theory]
    [InlineData(Cpuid, 0x0F, 0x31)]
    [InlineData(Cpuid, 0xF3, 0xA2)]
    [InlineData(0x73ul, 0x0F, 0xA2)]
    [InlineData(0x7Bul, 0x0F, 0xA2)]
    public void TryHandleException_OtherVc_IsASignal(ulong errorCode, byte first, byte second)
    {
        var process = new TestProcess();
        process.Write(process.Buffer, [first, second]);
        process.Registers.Rip = process.Buffer;
        Assert.False(process.Raise(Vector.VmmCommunication, errorCode));
        Assert.Equal((ProcessEnd.Fault, 11u, process.Buffer), (process.Process.Reason, process.Process.ExitStatus, process.Registers.Rip));
    }

    // The host may inject #VC where no instruction is.
    [Theory]
    [InlineData(0ul)]
    [InlineData(ProcessMemory.HeapHigh - 1)]
    [InlineData(ProcessMemory.UserEnd - 1)]
    public void TryHandleException_CpuidNowhere_IsASignal(ulong rip)
    {
        var process = new TestProcess();
        process.Registers.Rip = rip;
        Assert.False(process.Raise(Vector.VmmCommunication, Cpuid));
        Assert.Equal((ProcessEnd.Fault, rip), (process.Process.Reason, process.Registers.Rip));
    }

    private static void SetAction(TestProcess process, uint signal) =>
        process.Process.Signals.Of(signal) = new SignalAction { Handler = Handler, Flags = SignalAction.Restorer | 4, ReturnAddress = Restorer };

    private static void Fill(ref UserContext registers)
    {
        ulong stack = registers.Rsp;
        Span<ulong> general = MemoryMarshal.CreateSpan(ref registers.Rax, 15);
        for (int i = 0; i < general.Length; i++)
        {
            general[i] = 0xABCD_0000_0000_0000 + (ulong)i;
        }

        registers.Rsp = stack;
    }

    // General registers, RIP, flags, RSP.
    private static byte[] Snapshot(TestProcess process)
    {
        ref UserContext registers = ref process.Registers;
        return [.. MemoryMarshal.AsBytes(MemoryMarshal.CreateSpan(ref registers.Rax, 15)).ToArray(),
            .. BitConverter.GetBytes(registers.Rip), .. BitConverter.GetBytes(registers.Rflags), .. BitConverter.GetBytes(registers.Rsp)];
    }
}
