// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Buffers.Binary;
using Svsm.Kernel.Arch;
using Svsm.Kernel.Guest;
using Svsm.Kernel.Memory;
using Svsm.Wire;
using Xunit;

namespace Svsm.Kernel.Tests;

public sealed class VmsaGateTests
{
    private const ulong Svme = 0x1000;
    private const ulong OtherBits = 0x0D01;

    private static readonly PhysicalAddress s_page = new(0x8F0_1000);

    [Fact]
    public void Open_Any_SetsSvmeOnly()
    {
        var processor = new Processor { Efer = OtherBits };
        Assert.True(VmsaGate.TryOpen(processor.Window));
        Assert.Equal(OtherBits | Svme, processor.Efer);
    }

    [Fact]
    public void Close_GuestThatHasExited_ClearsSvmeOnly()
    {
        var processor = new Processor { Efer = OtherBits | Svme };
        Assert.Equal(RmpResult.Success, Close(processor));
        Assert.Equal(OtherBits, processor.Efer);
        Assert.Equal(1, processor.Checks);
    }

    [Theory]
    [InlineData(RmpResult.FailInUse)]
    [InlineData(RmpResult.FailPermission)]
    public void Close_PageThatIsInUseOrNoVmsa_SaysSo(RmpResult answer)
    {
        var processor = new Processor { Efer = Svme, Answer = answer };
        Assert.Equal(answer, Close(processor));
    }

    // The guest ran on another processor when SVME was cleared, and its exit stored the EFER that it had been entered with.
    [Fact]
    public void Close_GuestThatExitsMeanwhile_IsClosedAgain()
    {
        var processor = new Processor { Efer = OtherBits | Svme, ExitsAtFirstCheck = true };
        Assert.Equal(RmpResult.Success, Close(processor));
        Assert.Equal(OtherBits, processor.Efer);
        Assert.Equal(2, processor.Checks);
    }

    [Fact]
    public void OpenAndClose_PageThatIsGone_SaySo()
    {
        var processor = new Processor { Efer = Svme };
        processor.TakeAway();
        Assert.Equal(RmpResult.FailInput, Close(processor));
        Assert.False(VmsaGate.TryOpen(processor.Window));
        Assert.Equal(0, processor.Checks);
    }

    // Between the two accesses of the SVSM.
    [Fact]
    public void Close_PageThatGoesMeanwhile_SaysSo()
    {
        var processor = new Processor { Efer = Svme, GoesAtFirstCheck = true };
        Assert.Equal(RmpResult.FailInput, Close(processor));
        Assert.Equal(1, processor.Checks);
    }

    private static RmpResult Close(Processor processor)
    {
        RmpResult result = VmsaGate.Close(processor.Window, s_page, Vmpl.Vmpl2, ref processor);
        Assert.False(processor.IsOpen);
        return result;
    }

    private sealed class Processor : IGuestPlatform
    {
        private readonly byte[] _page = GC.AllocateArray<byte>(Page.Size, pinned: true);

        public GuestWindow Window => new(ref _page[0], 0);

        public ulong Efer
        {
            get => BinaryPrimitives.ReadUInt64LittleEndian(_page.AsSpan(VmsaGate.EferOffset));
            set => BinaryPrimitives.WriteUInt64LittleEndian(_page.AsSpan(VmsaGate.EferOffset), value);
        }

        public bool GoesAtFirstCheck { get; init; }

        public void TakeAway() => GuestAccess.Fault(_page);

        public RmpResult Answer { get; init; }

        public bool ExitsAtFirstCheck { get; init; }

        public int Checks { get; private set; }

        public bool IsOpen { get; private set; }

        public void Open(PhysicalAddress page, PageSize size)
        {
            Assert.Equal((s_page.Value, PageSize.Small), (page.Value, size));
            IsOpen = true;
        }

        public void Close() => IsOpen = false;

        public RmpResult RmpAdjust(Vmpl target, RmpPermissions permissions)
        {
            Assert.True(IsOpen);
            Assert.Equal((Vmpl.Vmpl2, RmpPermissions.GuestVmsa), (target, permissions));
            if (ExitsAtFirstCheck && Checks == 0)
            {
                Efer |= Svme;
            }

            if (GoesAtFirstCheck)
            {
                TakeAway();
            }

            Checks++;
            return Answer;
        }

        public RmpResult PValidate(bool validate, out bool unchanged) => throw new NotSupportedException();

        public bool TryZero() => throw new NotSupportedException();

        public GuestWindow Map(PhysicalAddress page) => throw new NotSupportedException();

        public void Unmap(GuestWindow window) => throw new NotSupportedException();

        public void FlushGuestTranslations() => throw new NotSupportedException();

        public bool HasSpareFrames => throw new NotSupportedException();

        public bool TryAddSpareFrame(PhysicalAddress frame) => throw new NotSupportedException();

        public bool TryTakeSpareFrame(out PhysicalAddress frame) => throw new NotSupportedException();
    }
}
