// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

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
        Vmsa vmsa = new() { Efer = OtherBits };
        VmsaGate.Open(ref vmsa);
        Assert.Equal(OtherBits | Svme, vmsa.Efer);
    }

    [Fact]
    public void Close_GuestThatHasExited_ClearsSvmeOnly()
    {
        Vmsa vmsa = new() { Efer = OtherBits | Svme };
        var processor = new Processor { Vmsa = new Vmsa() };
        Assert.Equal(RmpResult.Success, VmsaGate.Close(ref vmsa, s_page, Vmpl.Vmpl2, ref processor));
        Assert.Equal(OtherBits, vmsa.Efer);
        Assert.Equal(1, processor.Checks);
        Assert.False(processor.IsOpen);
    }

    [Theory]
    [InlineData(RmpResult.FailInUse)]
    [InlineData(RmpResult.FailPermission)]
    public void Close_PageThatIsInUseOrNoVmsa_SaysSo(RmpResult answer)
    {
        Vmsa vmsa = new() { Efer = Svme };
        var processor = new Processor { Answer = answer };
        Assert.Equal(answer, VmsaGate.Close(ref vmsa, s_page, Vmpl.Vmpl2, ref processor));
        Assert.False(processor.IsOpen);
    }

    // The guest ran on another processor when SVME was cleared, and its exit stored the EFER that it had been entered with.
    [Fact]
    public void Close_GuestThatExitsMeanwhile_IsClosedAgain()
    {
        var processor = new Processor { Vmsa = new Vmsa { Efer = OtherBits | Svme }, ExitsAtFirstCheck = true };
        Assert.Equal(RmpResult.Success, VmsaGate.Close(ref processor.Vmsa, s_page, Vmpl.Vmpl2, ref processor));
        Assert.Equal(OtherBits, processor.Vmsa.Efer);
        Assert.Equal(2, processor.Checks);
    }

    private sealed class Processor : IGuestPlatform
    {
        public Vmsa Vmsa;

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
                Vmsa.Efer |= Svme;
            }

            Checks++;
            return Answer;
        }

        public RmpResult PValidate(bool validate, out bool unchanged) => throw new System.NotSupportedException();

        public bool TryZero() => throw new System.NotSupportedException();

        public GuestWindow Map(PhysicalAddress page) => throw new System.NotSupportedException();

        public void Unmap(GuestWindow window) => throw new System.NotSupportedException();

        public void FlushGuestTranslations() => throw new System.NotSupportedException();

        public bool HasSpareFrames => throw new System.NotSupportedException();

        public void AddSpareFrame(PhysicalAddress frame) => throw new System.NotSupportedException();

        public bool TryTakeSpareFrame(out PhysicalAddress frame) => throw new System.NotSupportedException();
    }
}
