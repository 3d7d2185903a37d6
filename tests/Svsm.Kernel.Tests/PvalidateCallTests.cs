// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Linq;
using CsCheck;
using Svsm.Kernel.Memory;
using Svsm.Kernel.Protocols;
using Svsm.Wire;
using Xunit;

namespace Svsm.Kernel.Tests;

public sealed class PvalidateCallTests
{
    private const ulong List = TestVm.ListPage;
    private const ulong Fresh = TestVm.FreshPage;
    private const ulong Validate = PvalidateList.Validate;
    private const ulong Ignore = PvalidateList.IgnoreNoChange;

    private readonly TestVm _vm = new();

    [Fact]
    public void List_OfPages_IsWorkedOff()
    {
        Assert.Equal(SvsmResultCode.Success, Run(List, 3, 0, Fresh | Validate, (Fresh + 0x1000) | Validate, (Fresh + 0x2000) | Validate));
        Assert.Equal(3, _vm.ReadNext(List));
        Assert.Equal(PageState.Guest, _vm.StateOf(Fresh + 0x2000));
        Assert.Equal(0, _vm.Platform.Flushes);
        Assert.True(_vm.Platform.IsIdle);
    }

    [Fact]
    public void List_InTheCallingArea_IsWorkedOff() =>
        Assert.Equal(SvsmResultCode.Success, Run(TestVm.CallingArea + CallingArea.BufferOffset, 1, 0, Fresh | Validate));

    [Fact]
    public void List_WithRescinds_FlushesOnce()
    {
        _vm.Give(Fresh);
        _vm.Give(Fresh + 0x1000);
        Assert.Equal(SvsmResultCode.Success, Run(List, 2, 0, Fresh, Fresh + 0x1000));
        Assert.Equal(1, _vm.Platform.Flushes);
    }

    [Fact]
    public void List_RescindThenValidate_FlushesBetween()
    {
        _vm.Give(Fresh);
        Assert.Equal(SvsmResultCode.Success, Run(List, 2, 0, Fresh, Fresh | Validate));
        int validate = _vm.Platform.Operations.FindLastIndex(operation => operation.Name == "validate");
        Assert.Equal((1, validate), (_vm.Platform.Flushes, _vm.Platform.OperationsBeforeFlush));
    }

    [Fact]
    public void List_StartsAtNext()
    {
        Assert.Equal(SvsmResultCode.Success, Run(List, 3, 2, ulong.MaxValue, ulong.MaxValue, Fresh | Validate));
        Assert.Equal(3, _vm.ReadNext(List));
    }

    [Fact]
    public void List_EntryFails_StopsThereAndSaysWhere()
    {
        _vm.Give(Fresh + 0x1000);
        Assert.Equal(SvsmResultCode.PValidateNoChange, Run(List, 3, 0, Fresh | Validate, (Fresh + 0x1000) | Validate, (Fresh + 0x2000) | Validate));
        Assert.Equal(1, _vm.ReadNext(List));
        Assert.Equal(PageState.Guest, _vm.StateOf(Fresh));
        Assert.Equal(PageState.Unvalidated, _vm.StateOf(Fresh + 0x2000));
    }

    // Another vCPU could validate the page as soon as it is unvalidated: not before every processor has forgotten it.
    [Fact]
    public void List_Rescinded_BelongsToNobodyUntilTheFlush()
    {
        _vm.Give(TestVm.FreshPage);
        PageState atFlush = default;
        _vm.Platform.OnFlush = () => atFlush = _vm.StateOf(TestVm.FreshPage);
        _vm.WriteList(TestVm.ListPage, 1, 0, TestVm.FreshPage);

        Assert.Equal(SvsmResultCode.Success, _vm.Core(CoreCall.PValidate, TestVm.ListPage));

        Assert.Equal((PageState.Changing, PageState.Unvalidated), (atFlush, _vm.StateOf(TestVm.FreshPage)));
    }

    [Fact]
    public void List_SamePageInBothDirections_FlushesInBetween()
    {
        _vm.Give(TestVm.FreshPage);
        ulong rescind = TestVm.FreshPage | PvalidateList.IgnoreNoChange;
        ulong validate = rescind | PvalidateList.Validate;
        _vm.WriteList(TestVm.ListPage, 5, 0, rescind, rescind, validate, rescind, validate);

        Assert.Equal(SvsmResultCode.Success, _vm.Core(CoreCall.PValidate, TestVm.ListPage));

        Assert.Equal(2, _vm.Platform.Flushes);
        Assert.Equal(PageState.Guest, _vm.StateOf(TestVm.FreshPage));
        Assert.Equal(5, _vm.ReadNext(TestVm.ListPage));
    }

    [Fact]
    public void List_RescindThenFailure_StillFlushes()
    {
        _vm.Give(Fresh);
        Assert.Equal(SvsmResultCode.InvalidParameter, Run(List, 2, 0, Fresh, 0xFF0));
        Assert.Equal(1, _vm.Platform.Flushes);
    }

    [Fact]
    public void List_IgnoredNoChange_GoesOn()
    {
        _vm.Give(Fresh);
        Assert.Equal(SvsmResultCode.Success, Run(List, 2, 0, Fresh | Validate | Ignore, (Fresh + 0x1000) | Ignore));
        Assert.Equal(2, _vm.ReadNext(List));
    }

    [Theory]
    [InlineData(0, 0)]
    [InlineData(1, 1)]
    [InlineData(1, 2)]
    [InlineData(0, 0xFFFF)]
    [InlineData(510, 0xFFFF)]
    [InlineData(512, 0)]
    [InlineData(0xFFFF, 0)]
    [InlineData(0xFFFF, 0xFFFE)]
    public void Head_OutOfRange_IsRefused(int count, int next)
    {
        Assert.Equal(SvsmResultCode.InvalidParameter, Run(List, (ushort)count, (ushort)next));
        Assert.Equal(next, _vm.ReadNext(List));
        Assert.Empty(_vm.Platform.Operations);
    }

    [Fact]
    public void List_FillingItsPage_IsWorkedOff()
    {
        ulong[] entries = [.. Enumerable.Range(0, 511).Select(i => (Fresh + ((ulong)i * 0x1000)) | Validate)];
        Assert.Equal(SvsmResultCode.Success, Run(List, 511, 0, entries));
        Assert.Equal(511, _vm.ReadNext(List));
    }

    [Theory]
    [InlineData(0xFF0, 1, SvsmResultCode.Success)]
    [InlineData(0xFF0, 2, SvsmResultCode.InvalidParameter)]
    [InlineData(0xFF8, 1, SvsmResultCode.InvalidParameter)]
    public void List_AtTheEndOfAPage_MayNotLeaveIt(int offset, int count, object expected)
    {
        _vm.WriteList(List + (ulong)offset, (ushort)count, 0);
        if (offset == 0xFF0)
        {
            _vm.WriteList(List + 0xFF0, (ushort)count, 0, Fresh | Validate);
        }

        Assert.Equal((SvsmResultCode)expected, _vm.Core(CoreCall.PValidate, List + (ulong)offset));
    }

    [Theory]
    [InlineData(List + 1, SvsmResultCode.InvalidParameter)]
    [InlineData(List + 4, SvsmResultCode.InvalidParameter)]
    [InlineData(Fresh, SvsmResultCode.InvalidAddress)]
    [InlineData(TestVm.RegionBase, SvsmResultCode.InvalidAddress)]
    [InlineData(List | (1ul << 47), SvsmResultCode.InvalidAddress)]
    [InlineData(0xFFFF_FFFF_FFFF_FFF8ul, SvsmResultCode.InvalidAddress)]
    public void List_BadAddress_IsRefused(ulong address, object expected) =>
        Assert.Equal((SvsmResultCode)expected, _vm.Core(CoreCall.PValidate, address));

    [Theory]
    [InlineData(Fresh | Validate | 0x010, SvsmResultCode.InvalidParameter)]
    [InlineData(Fresh | Validate | 0x800, SvsmResultCode.InvalidParameter)]
    [InlineData(Fresh | Validate | 2, SvsmResultCode.InvalidParameter)]
    [InlineData(Fresh | Validate | 3, SvsmResultCode.InvalidParameter)]
    [InlineData((Fresh + 0x1000) | Validate | 1, SvsmResultCode.InvalidParameter)]
    [InlineData((Fresh + 0x1000) | 1, SvsmResultCode.InvalidParameter)]
    [InlineData(TestVm.RegionBase | Validate, SvsmResultCode.InvalidAddress)]
    [InlineData(TestVm.RegionBase, SvsmResultCode.InvalidAddress)]
    [InlineData(TestVm.RegionBase | Validate | 1, SvsmResultCode.InvalidAddress)]
    [InlineData(0xA_0000ul | Validate, SvsmResultCode.InvalidAddress)]
    [InlineData(0xF_F000ul, SvsmResultCode.InvalidAddress)]
    [InlineData(Fresh | Validate | (1ul << 47), SvsmResultCode.InvalidAddress)]
    [InlineData(0xFFFF_FFFF_FFFF_F000ul | Validate, SvsmResultCode.InvalidAddress)]
    [InlineData(TestVm.CallingArea, SvsmResultCode.InvalidAddress)]
    [InlineData(List, SvsmResultCode.InvalidParameter)]
    [InlineData(TestVm.LargePage | Validate | 1, SvsmResultCode.PValidateSizeMismatch)]
    [InlineData(Fresh, SvsmResultCode.PValidateNoChange)]
    public void Entry_Bad_IsRefusedWithItsCode(ulong entry, object expected)
    {
        Assert.Equal((SvsmResultCode)expected, Run(List, 1, 0, entry));
        Assert.Equal(0, _vm.ReadNext(List));
        Assert.True(_vm.Platform.IsIdle);
    }

    [Fact]
    public void Entry_LargePageAroundTheList_CannotBeRescinded()
    {
        // The list's page lies in a 2-MiB page that is the guest's as a whole.
        _vm.SetState(TestVm.LargePage, 512, PageState.Guest);
        _vm.Platform[TestVm.LargePage + 0x3000].IsValidated = true;
        Assert.Equal(SvsmResultCode.InvalidParameter, Run(TestVm.LargePage + 0x3000, 1, 0, TestVm.LargePage | 1));
    }

    [Fact]
    public void Entry_ProcessorRefuses_IsFailInput()
    {
        _vm.Platform.FailAt = 0;
        Assert.Equal(SvsmResultCode.PValidateFailInput, Run(List, 1, 0, Fresh | Validate));
    }

    [Fact]
    public void Entry_HostExchangedThePage_EndsTheCall()
    {
        _vm.Platform[Fresh].IsValidated = true;
        _vm.WriteList(List, 1, 0, Fresh | Validate);
        Assert.Equal(CallOutcome.HostViolation, _vm.Call(0, (uint)CoreCall.PValidate, List).Outcome);
        Assert.True(_vm.Platform.IsIdle);
    }

    [Fact]
    public void List_ThatIsGone_IsRefused()
    {
        _vm.Platform[List].TakeAway();
        Assert.Equal(SvsmResultCode.InvalidAddress, _vm.Core(CoreCall.PValidate, List));
        Assert.Empty(_vm.Platform.Operations);
        Assert.True(_vm.Platform.IsIdle);
    }

    [Fact]
    public void Entry_PageThatIsGone_IsFailInputAndFlushes()
    {
        _vm.Give(Fresh);
        _vm.Platform[Fresh].TakeAway();
        Assert.Equal(SvsmResultCode.PValidateFailInput, Run(List, 1, 0, Fresh));
        Assert.Equal(1, _vm.Platform.Flushes);
        Assert.Equal(SvsmResultCode.InvalidAddress, Run(List, 1, 0, Fresh | Validate));
    }

    [Fact]
    public void Entry_PageThatAnotherVcpuChanges_IsBusyAndCanBeRepeated()
    {
        PhysicalAddress page = new(Fresh + 0x1000);
        Assert.Equal(PageResult.Success, _vm.Table.Begin(page, PageSize.Small, PageState.Unvalidated, PageState.Guest));
        Assert.Equal(SvsmResultCode.Busy, Run(List, 2, 0, Fresh | Validate, page.Value | Validate));
        Assert.Equal(1, _vm.ReadNext(List));
        _vm.Table.End(page, PageSize.Small, PageState.Unvalidated);
        Assert.Equal(SvsmResultCode.Success, _vm.Core(CoreCall.PValidate, List));
        Assert.Equal(2, _vm.ReadNext(List));
    }

    [Fact]
    public void List_OfManyLargePages_IsWorkedOffInSlices()
    {
        ulong[] entries = [.. Enumerable.Range(2, 6).Select(i => ((ulong)i * Page.LargeSize) | Validate | 1)];
        foreach (ulong entry in entries)
        {
            _vm.Platform.MakeLarge(entry & ~0xFFFul);
        }

        Assert.Equal(SvsmResultCode.Incomplete, Run(List, 6, 0, entries));
        Assert.Equal(4, _vm.ReadNext(List));
        Assert.Equal(PageState.Guest, _vm.StateOf(5 * Page.LargeSize));
        Assert.Equal(PageState.Unvalidated, _vm.StateOf(6 * Page.LargeSize));
        Assert.Equal(SvsmResultCode.Success, _vm.Core(CoreCall.PValidate, List));
        Assert.Equal(6, _vm.ReadNext(List));
    }

    [Fact]
    public void List_OfAnyBytes_IsAnsweredAndKeepsTheSvsmsMemory() =>
        Gen.Select(Gen.UShort[0, 12], Gen.UShort[0, 12], Gen.OneOf(Gen.ULong, Gen.ULong[0, 0x300].Select(page => (page << 12) | Validate), Gen.ULong[0x7FF0, 0x8110].Select(page => page << 12)).Array[12]).Sample((count, next, entries) =>
        {
            TestVm vm = new();
            vm.WriteList(List, count, next, entries);
            (CallOutcome outcome, _, _) = vm.Call(0, (uint)CoreCall.PValidate, List);
            Assert.Equal(CallOutcome.Answered, outcome);
            Assert.True(vm.Platform.IsIdle);
            Assert.DoesNotContain(vm.Platform.Operations, operation => operation.Page is >= TestVm.RegionBase or >= 0xA_0000 and < 0x10_0000);
            Assert.Equal(PageState.CallingArea, vm.StateOf(TestVm.CallingArea));
            Assert.True(vm.ReadNext(List) <= count || vm.ReadNext(List) == next);
        });

    private SvsmResultCode Run(ulong list, ushort count, ushort next, params ReadOnlySpan<ulong> entries)
    {
        _vm.WriteList(list, count, next, entries);
        return _vm.Core(CoreCall.PValidate, list);
    }
}
