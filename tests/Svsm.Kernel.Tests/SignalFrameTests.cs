// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Offsets are those of the headers of Linux that SignalFrame.cs names, counted from the return address.

using System;
using System.Buffers.Binary;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Svsm.Kernel.Arch;
using Svsm.Kernel.Processes;
using Xunit;

namespace Svsm.Kernel.Tests;

public sealed class SignalFrameTests
{
    private const int Context = 8;
    private const int Registers = Context + 40;
    private const int Info = Context + 304;

    private static UserContext Filled
    {
        get
        {
            UserContext context = default;
            Span<ulong> words = MemoryMarshal.CreateSpan(ref context.Rax, 22);
            for (int i = 0; i < words.Length; i++)
            {
                words[i] = 0x1000_0000 + (ulong)i;
            }

            context.Vector = Vector.PageFault;
            context.Rsp = 0x7000_0000;
            return context;
        }
    }

    [Fact]
    public void Make_Frame_IsWhereLinuxHasIt()
    {
        UserContext context = Filled;
        SignalAction action = new() { Handler = 0x40_1100, Flags = SignalAction.Restorer, ReturnAddress = 0x40_1200 };
        ulong address = SignalFrame.Make(in context, Signal.Segment, 2, in action, out SignalFrame frame);
        ReadOnlySpan<byte> bytes = MemoryMarshal.AsBytes(new ReadOnlySpan<SignalFrame>(in frame));
        Assert.Equal(440, bytes.Length);
        Assert.Equal(0x40_1200ul, Word(bytes, 0));
        ulong[] registers =
        [
            context.R8, context.R9, context.R10, context.R11, context.R12, context.R13, context.R14, context.R15, context.Rdi, context.Rsi, context.Rbp, context.Rbx, context.Rdx, context.Rax,
            context.Rcx, context.Rsp, context.Rip, context.Rflags, 0x002B_0000_0000_0033, context.ErrorCode, context.Vector, 0, context.FaultAddress, frame.Extended,
        ];
        Assert.Equal(registers, MemoryMarshal.Cast<byte, ulong>(bytes[Registers..])[..registers.Length].ToArray());
        Assert.Equal((11ul, 2ul, context.FaultAddress), (Word(bytes, Info), Word(bytes, Info + 8), Word(bytes, Info + 16)));
        Assert.Equal(Info + 128, bytes.Length);

        // Below the red zone; the FPU state is aligned for FXRSTOR, the frame as after a call.
        Assert.Equal((0ul, 8ul), (frame.Extended % 64, address % 16));
        Assert.True(frame.Extended + SignalFrame.ExtendedLength <= context.Rsp - 128);
        Assert.True(address + (ulong)bytes.Length <= frame.Extended);
    }

    [Theory]
    [InlineData(Vector.DivideError)]
    [InlineData(Vector.InvalidOpcode)]
    [InlineData(Vector.GeneralProtection)]
    public void Make_OtherFault_TellsTheInstruction(int vector)
    {
        UserContext context = Filled with { Vector = (ulong)vector };
        SignalFrame.Make(in context, Signal.Arithmetic, 1, default, out SignalFrame frame);
        Assert.Equal((8ul, 1ul, context.Rip), (frame.Number, frame.Code, frame.Address));
    }

    // The stack is the process's choice: what wraps is an address that no process has.
    [Theory]
    [InlineData(0ul)]
    [InlineData(127ul)]
    [InlineData(700ul)]
    [InlineData(ulong.MaxValue)]
    public void Make_StackAtTheEdges_WrapsOutOfTheProcess(ulong stack)
    {
        UserContext context = Filled with { Rsp = stack };
        ulong address = SignalFrame.Make(in context, Signal.Segment, 1, default, out SignalFrame frame);
        Assert.True(address >= ProcessMemory.UserEnd || frame.Extended >= ProcessMemory.UserEnd);
    }

    [Fact]
    public void Enter_Handler_HasItsArguments()
    {
        UserContext context = Filled;
        context.Rflags = 0x24_0CD7;
        SignalAction action = new() { Handler = 0x40_1100 };
        SignalFrame.Enter(ref context, Signal.Arithmetic, in action, 0x6008);
        Assert.Equal((0x40_1100ul, 0x6008ul, 8ul, 0x6008ul + Info, 0x6008ul + Context), (context.Rip, context.Rsp, context.Rdi, context.Rsi, context.Rdx));
        Assert.Equal((0ul, 2ul), (context.Rax, context.Rflags));
    }

    [Fact]
    public void Restore_MadeFrame_IsTheContextAgain()
    {
        UserContext context = Filled with { Rflags = 0x0024_0CD7 };
        SignalFrame.Make(in context, Signal.Segment, 1, default, out SignalFrame frame);
        UserContext restored = default;
        frame.Restore(ref restored);
        UserContext expected = context with { Vector = 0, ErrorCode = 0, FaultAddress = 0, FsBase = 0 };
        Assert.Equal(Bytes(ref expected), Bytes(ref restored));
    }

    // CF, PF, AF, ZF, SF, DF, OF, AC, ID. Not TF, IF, IOPL, NT, RF, VM, VIF, VIP.
    [Theory]
    [InlineData(ulong.MaxValue, 0x0024_0CD7ul)]
    [InlineData(0ul, 2ul)]
    [InlineData(0x100ul, 2ul)]
    [InlineData(0x200ul, 2ul)]
    [InlineData(0x3000ul, 2ul)]
    [InlineData(0x4000ul, 2ul)]
    [InlineData(0x2_0000ul, 2ul)]
    [InlineData(0x18_0000ul, 2ul)]
    public void Restore_Flags_AreThoseThatAProcessMayHave(ulong flags, ulong expected)
    {
        SignalFrame frame = new() { Rflags = flags };
        UserContext context = default;
        frame.Restore(ref context);
        Assert.Equal(expected, context.Rflags);
    }

    [Fact]
    public void SignalActions_Signals_AreApart()
    {
        SignalActions actions = default;
        for (uint signal = 1; signal < 12; signal++)
        {
            actions.Of(signal).Handler = signal;
        }

        actions.Of(12).Handler = 99;
        Assert.Equal((1ul, 11ul, 99ul), (actions.Of(1).Handler, actions.Of(11).Handler, actions.Of(64).Handler));
        Assert.Equal(32, Unsafe.SizeOf<SignalAction>());
    }

    [Fact]
    public unsafe void LegacyState_IsBehindTheRegisters()
    {
        byte[] page = GC.AllocateArray<byte>(4096, pinned: true);
        UserContext* context = (UserContext*)Unsafe.AsPointer(ref page[0]);
        Assert.True(sizeof(UserContext) <= UserContext.ExtendedOffset && UserContext.ExtendedOffset % 64 == 0);
        UserContext.Initialize(context, 0x40_1000, 0x7000);
        Assert.Equal((0x40_1000ul, 0x7000ul, 2ul), (context->Rip, context->Rsp, context->Rflags));
        Assert.Equal((0x37F, 0x1F80u), (BinaryPrimitives.ReadUInt16LittleEndian(page.AsSpan(256)), BinaryPrimitives.ReadUInt32LittleEndian(page.AsSpan(256 + 24))));
        byte[] state = new byte[600];
        state.AsSpan().Fill(0xA5);
        page[256 + 512] = 4;
        UserContext.SetLegacyState(context, state);
        Assert.Equal(state.AsSpan(0, 512), UserContext.LegacyState(context));

        // Other parts that are not initial stay so; nothing else of the header changes.
        Assert.Equal(7, page[256 + 512]);
        Assert.All(page[(256 + 513)..], value => Assert.Equal(0, value));
    }

    private static ulong Word(ReadOnlySpan<byte> bytes, int offset) => BinaryPrimitives.ReadUInt64LittleEndian(bytes[offset..]);

    private static byte[] Bytes(ref UserContext context) => MemoryMarshal.AsBytes(MemoryMarshal.CreateSpan(ref context, 1)).ToArray();
}
