// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using Svsm.Kernel.Memory;
using Svsm.Kernel.Protocols;
using Svsm.Wire;
using Xunit;

namespace Svsm.Kernel.Tests;

public sealed class CoreProtocolTests
{
    private readonly TestVm _vm = new();

    [Theory]
    [InlineData(0x0000_0000_0000_0001ul, 0x0000_0001_0000_0001ul)]
    [InlineData(0x0000_0000_0000_0000ul, 0ul)]
    [InlineData(0x0000_0000_0000_0002ul, 0ul)]
    [InlineData(0x0000_0000_FFFF_FFFFul, 0ul)]
    [InlineData(0x0000_0001_0000_0001ul, 0ul)]
    [InlineData(0x0000_0002_0000_0001ul, 0ul)]
    [InlineData(0x0000_0004_0000_0001ul, 0ul)]
    [InlineData(0xFFFF_FFFF_FFFF_FFFFul, 0ul)]
    public void QueryProtocol_Any_SucceedsAndAnswersInRcx(ulong rcx, ulong expected)
    {
        (CallOutcome outcome, SvsmResultCode result, SvsmRequest registers) = _vm.Call(0, (uint)CoreCall.QueryProtocol, rcx, 5);
        Assert.Equal((CallOutcome.Answered, SvsmResultCode.Success, expected), (outcome, result, registers.Rcx));
        Assert.Equal((5ul, 0x88ul, 0x99ul), (registers.Rdx, registers.R8, registers.R9));
    }

    [Theory]
    [InlineData(8u)]
    [InlineData(9u)]
    [InlineData(uint.MaxValue)]
    public void Call_NotServed_IsUnsupported(uint call)
    {
        (_, SvsmResultCode result, SvsmRequest registers) = _vm.Call(0, call, 0x1234, 5);
        Assert.Equal(SvsmResultCode.UnsupportedCall, result);
        Assert.Equal((0x1234ul, 5ul), (registers.Rcx, registers.Rdx));
    }

    [Theory]
    [InlineData(1u)]
    [InlineData(2u)]
    [InlineData(3u)]
    [InlineData(4u)]
    [InlineData(5u)]
    [InlineData(uint.MaxValue)]
    public void Protocol_NotThere_IsUnsupported(uint protocol) =>
        Assert.Equal(SvsmResultCode.UnsupportedProtocol, _vm.Call(protocol, (uint)CoreCall.QueryProtocol, 1).Result);

    [Fact]
    public void ConfigureVtom_Query_SaysNotSupported()
    {
        (_, SvsmResultCode result, SvsmRequest registers) = _vm.Call(0, (uint)CoreCall.ConfigureVtom, 1);
        Assert.Equal((SvsmResultCode.Success, 0ul), (result, registers.Rcx));
    }

    [Theory]
    [InlineData(0ul)]
    [InlineData(0x8000_0000ul)]
    [InlineData(0xFFFF_FFFF_FFFF_FFFEul)]
    public void ConfigureVtom_Set_IsRefused(ulong rcx) => Assert.Equal(SvsmResultCode.InvalidRequest, _vm.Core(CoreCall.ConfigureVtom, rcx));

    [Fact]
    public void RemapCallingArea_OtherPage_ClearsItsHeadAndFreesTheOldOne()
    {
        byte[] contents = _vm.Platform[TestVm.ListPage].Contents;
        contents.AsSpan().Fill(0xFF);
        Assert.Equal(SvsmResultCode.Success, _vm.Core(CoreCall.RemapCallingArea, TestVm.ListPage));
        Assert.Equal(TestVm.ListPage, _vm.CurrentArea);
        Assert.Equal(new byte[8], contents[..8]);
        Assert.Equal(0xFF, contents[8]);
        Assert.Equal(PageState.CallingArea, _vm.StateOf(TestVm.ListPage));
        Assert.Equal(PageState.Guest, _vm.StateOf(TestVm.CallingArea));
        Assert.True(_vm.Platform.IsIdle);
    }

    [Fact]
    public void RemapCallingArea_SamePage_DoesNothing()
    {
        _vm.Platform[TestVm.CallingArea].Contents[0] = 1;
        Assert.Equal(SvsmResultCode.Success, _vm.Core(CoreCall.RemapCallingArea, TestVm.CallingArea));
        Assert.Equal(1, _vm.Platform[TestVm.CallingArea].Contents[0]);
    }

    [Theory]
    [InlineData(TestVm.ListPage + 1, SvsmResultCode.InvalidParameter)]
    [InlineData(TestVm.ListPage + 0x800, SvsmResultCode.InvalidParameter)]
    [InlineData(ulong.MaxValue, SvsmResultCode.InvalidParameter)]
    [InlineData(TestVm.FreshPage, SvsmResultCode.InvalidAddress)]
    [InlineData(TestVm.RegionBase, SvsmResultCode.InvalidAddress)]
    [InlineData(TestVm.ListPage | (1ul << 47), SvsmResultCode.InvalidAddress)]
    [InlineData(0xFFFF_FFFF_F000ul, SvsmResultCode.InvalidAddress)]
    [InlineData(0xFFFF_FFFF_FFFF_F000ul, SvsmResultCode.InvalidAddress)]
    public void RemapCallingArea_BadAddress_IsRefused(ulong address, object expected)
    {
        Assert.Equal((SvsmResultCode)expected, _vm.Core(CoreCall.RemapCallingArea, address));
        Assert.Equal(TestVm.CallingArea, _vm.CurrentArea);
        Assert.Equal(PageState.CallingArea, _vm.StateOf(TestVm.CallingArea));
    }

    [Fact]
    public void RemapCallingArea_AreaOfAnotherVcpu_IsRefused()
    {
        _vm.SetState(TestVm.ListPage, 1, PageState.CallingArea);
        Assert.Equal(SvsmResultCode.InvalidParameter, _vm.Core(CoreCall.RemapCallingArea, TestVm.ListPage));
        Assert.Equal(TestVm.CallingArea, _vm.CurrentArea);
    }

    [Fact]
    public void RemapCallingArea_PageThatIsGone_ChangesNothing()
    {
        _vm.Platform[TestVm.ListPage].TakeAway();
        Assert.Equal(SvsmResultCode.InvalidAddress, _vm.Core(CoreCall.RemapCallingArea, TestVm.ListPage));
        Assert.Equal(TestVm.CallingArea, _vm.CurrentArea);
        Assert.Equal((PageState.CallingArea, PageState.Guest), (_vm.StateOf(TestVm.CallingArea), _vm.StateOf(TestVm.ListPage)));
        Assert.True(_vm.Platform.IsIdle);
    }

    [Theory]
    [InlineData(TestVm.ListPage)]
    [InlineData(TestVm.CallingArea)]
    public void RemapCallingArea_AnotherVcpuReadsOneOfThem_IsBusy(ulong pinned)
    {
        Assert.Equal(PageResult.Success, _vm.Table.Pin(pinned >> 12));
        Assert.Equal(SvsmResultCode.Busy, _vm.Core(CoreCall.RemapCallingArea, TestVm.ListPage));
        Assert.Equal(TestVm.CallingArea, _vm.CurrentArea);
        _vm.Table.Unpin(pinned >> 12);
        Assert.Equal(SvsmResultCode.Success, _vm.Core(CoreCall.RemapCallingArea, TestVm.ListPage));
    }

    [Fact]
    public void RemapCallingArea_Vmsa_IsRefused()
    {
        _vm.SetState(TestVm.ListPage, 1, PageState.Vmsa);
        Assert.Equal(SvsmResultCode.InvalidAddress, _vm.Core(CoreCall.RemapCallingArea, TestVm.ListPage));
    }
}
