// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using Svsm.Kernel.Memory;
using Svsm.Kernel.Snp;
using Svsm.Wire;
using Xunit;

namespace Svsm.Kernel.Tests;

public sealed class GhcbMsrProtocolTests
{
    private static readonly PhysicalAddress s_page = new(0x800_3000);

    // Layout of the answers: AMD GHCB specification as in Linux arch/x86/include/asm/sev-common.h.
    [Theory]
    [InlineData(0x0002_0001_3300_0001ul, TerminationReason.None)]
    [InlineData(0x0002_0002_3300_0001ul, TerminationReason.None)]
    [InlineData(0xFFFF_0000_3300_0001ul, TerminationReason.None)]
    [InlineData(0x0001_0001_3300_0001ul, TerminationReason.GhcbVersion)]
    [InlineData(0x0004_0003_3300_0001ul, TerminationReason.GhcbVersion)]
    [InlineData(0x0002_0001_2F00_0001ul, TerminationReason.EncryptionBitMismatch)]
    [InlineData(0x0002_0001_0000_0001ul, TerminationReason.EncryptionBitMismatch)]
    [InlineData(0x0002_0001_3300_0002ul, TerminationReason.GhcbAnswer)]
    [InlineData(0x0002_0001_3300_1001ul, TerminationReason.GhcbAnswer)]
    [InlineData(0x0002_0001_3380_0001ul, TerminationReason.GhcbAnswer)]
    [InlineData(0x0002_0001_3300_0100ul, TerminationReason.GhcbAnswer)]
    [InlineData(0ul, TerminationReason.GhcbAnswer)]
    public void CheckSevInfo_Answer_IsCheckedInFull(ulong answer, TerminationReason expected) =>
        Assert.Equal(expected, GhcbMsrProtocol.CheckSevInfo(answer, 51));

    [Theory]
    [InlineData(0x2_3081ul, TerminationReason.None)]
    [InlineData(0x6_F081ul, TerminationReason.None)]
    [InlineData(0x0_3081ul, TerminationReason.SingleVmpl)]
    [InlineData(0x2_1081ul, TerminationReason.HypervisorFeatures)]
    [InlineData(0x2_2081ul, TerminationReason.HypervisorFeatures)]
    [InlineData(0x0081ul, TerminationReason.HypervisorFeatures)]
    [InlineData(0x2_3080ul, TerminationReason.GhcbAnswer)]
    [InlineData(0ul, TerminationReason.GhcbAnswer)]
    public void CheckFeatures_Answer_MustHaveWhatAnSvsmNeeds(ulong answer, TerminationReason expected) =>
        Assert.Equal(expected, GhcbMsrProtocol.CheckFeatures(answer));

    [Fact]
    public void Register_Page_MustBeRepeated()
    {
        Assert.Equal(0x800_3012ul, GhcbMsrProtocol.RegisterRequest(s_page));
        Assert.True(GhcbMsrProtocol.IsRegistered(0x800_3013, s_page));
        Assert.False(GhcbMsrProtocol.IsRegistered(0x800_4013, s_page));
        Assert.False(GhcbMsrProtocol.IsRegistered(0x800_3012, s_page));
        Assert.False(GhcbMsrProtocol.IsRegistered(0xFFFF_FFFF_FFFF_F013, s_page));
    }

    [Fact]
    public void PageState_Request_HasOperationAndPage()
    {
        Assert.Equal(0x0010_0000_0800_3014ul, GhcbMsrProtocol.PageStateRequest(s_page, PageStateOperation.Private));
        Assert.Equal(0x0020_0000_0800_3014ul, GhcbMsrProtocol.PageStateRequest(s_page, PageStateOperation.Shared));
    }

    [Theory]
    [InlineData(0x15ul, true)]
    [InlineData(0x1_0000_0015ul, false)]
    [InlineData(0x1015ul, false)]
    [InlineData(0x14ul, false)]
    public void PageState_Answer_MayNotHaveAnError(ulong answer, bool expected) => Assert.Equal(expected, GhcbMsrProtocol.IsPageStateChanged(answer));

    [Theory]
    [InlineData(0x17ul, true)]
    [InlineData(0x1_0000_0017ul, false)]
    [InlineData(0x1017ul, false)]
    [InlineData(0x2_0000_0016ul, false)]
    public void RunVmpl_Answer_MayNotHaveAnError(ulong answer, bool expected) => Assert.Equal(expected, GhcbMsrProtocol.HasRun(answer));

    [Fact]
    public void RunVmpl_Request_HasTheVmpl() => Assert.Equal(0x2_0000_0016ul, GhcbMsrProtocol.RunVmplRequest(Vmpl.Vmpl2));

    [Fact]
    public void Terminate_Request_HasSetAndReason() => Assert.Equal(0x24_5100ul, GhcbMsrProtocol.TerminateRequest(TerminationReason.NoGuest));
}
