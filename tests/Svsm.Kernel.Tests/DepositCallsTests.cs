// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Buffers.Binary;
using System.Linq;
using Svsm.Kernel.Memory;
using Svsm.Wire;
using Xunit;

namespace Svsm.Kernel.Tests;

public sealed class DepositCallsTests
{
    private const ulong First = 0x50_0000;
    private const int PageCount = 200;

    private readonly TestVm _vm = new();

    public DepositCallsTests()
    {
        for (int i = 0; i < PageCount; i++)
        {
            _vm.Give(PageAt(i));
            _vm.Platform[PageAt(i)].Contents.AsSpan().Fill(0xAA);
        }

        _vm.Platform.Operations.Clear();
    }

    [Fact]
    public void Deposit_Pages_AreTheSvsms()
    {
        _vm.WriteList(TestVm.ListPage, 3, 0, PageAt(0), PageAt(1), PageAt(2));

        Assert.Equal(SvsmResultCode.Success, Deposit());

        Assert.Equal(3, _vm.ReadNext(TestVm.ListPage));
        Assert.Equal([PageAt(0), PageAt(1), PageAt(2)], _vm.Platform.SpareFrames.Select(frame => frame.Value).Order());
        for (int i = 0; i < 3; i++)
        {
            Assert.Equal(PageState.Svsm, _vm.StateOf(PageAt(i)));
            Assert.Equal(RmpPermissions.None, _vm.Platform[PageAt(i)].Permissions[2]);
            Assert.DoesNotContain((byte)0xAA, _vm.Platform[PageAt(i)].Contents);
        }

        Assert.Equal(1, _vm.Platform.Flushes);
        Assert.Equal(1, _vm.Platform[TestVm.CallingArea].Contents[CallingArea.MemoryAvailableOffset]);
    }

    // What is zeroed or read before every processor has forgotten the page could still be written by the guest.
    [Fact]
    public void Deposit_Order_RightsGoBeforeZeroes()
    {
        _vm.WriteList(TestVm.ListPage, 2, 0, PageAt(0), PageAt(1));
        Deposit();
        Assert.Equal(["adjust", "adjust", "adjust", "adjust", "zero", "zero"], _vm.Platform.Operations.Select(operation => operation.Name));
    }

    [Fact]
    public void Withdraw_WhatWasDeposited_ComesBackZeroAndWithRights()
    {
        _vm.WriteList(TestVm.ListPage, 3, 0, PageAt(0), PageAt(1), PageAt(2));
        Deposit();
        _vm.Platform[PageAt(1)].Contents.AsSpan().Fill(0x55);
        _vm.WriteList(TestVm.ListPage, 10, 1, new ulong[10]);

        Assert.Equal(SvsmResultCode.Success, Withdraw());

        Assert.Equal(4, _vm.ReadNext(TestVm.ListPage));
        Assert.Equal([PageAt(0), PageAt(1), PageAt(2)], Enumerable.Range(1, 3).Select(EntryAt).Order());
        Assert.Equal((0ul, 0ul), (EntryAt(0), EntryAt(4)));
        for (int i = 0; i < 3; i++)
        {
            Assert.Equal(PageState.Guest, _vm.StateOf(PageAt(i)));
            Assert.Equal(RmpPermissions.All, _vm.Platform[PageAt(i)].Permissions[2]);
            Assert.Equal(new byte[4096], _vm.Platform[PageAt(i)].Contents);
        }

        Assert.Equal(0, _vm.Platform[TestVm.CallingArea].Contents[CallingArea.MemoryAvailableOffset]);
        Assert.Equal(SvsmResultCode.Success, Withdraw());
        Assert.Equal(4, _vm.ReadNext(TestVm.ListPage));
    }

    [Fact]
    public void Withdraw_LessRoomThanPages_LeavesTheRest()
    {
        _vm.WriteList(TestVm.ListPage, 3, 0, PageAt(0), PageAt(1), PageAt(2));
        Deposit();
        _vm.WriteList(TestVm.ListPage, 1, 0, 0);
        Assert.Equal(SvsmResultCode.Success, Withdraw());
        Assert.Equal(2, _vm.Platform.SpareFrames.Count);
        Assert.Equal(1, _vm.Platform[TestVm.CallingArea].Contents[CallingArea.MemoryAvailableOffset]);
    }

    [Fact]
    public void Deposit_LongList_IsIncompleteUntilItIsDone()
    {
        _vm.WriteList(TestVm.ListPage, PageCount, 0, [.. Enumerable.Range(0, PageCount).Select(PageAt)]);
        Assert.Equal(SvsmResultCode.Incomplete, Deposit());
        Assert.Equal(128, _vm.ReadNext(TestVm.ListPage));
        Assert.Equal(SvsmResultCode.Success, Deposit());
        Assert.Equal(PageCount, _vm.ReadNext(TestVm.ListPage));

        _vm.WriteList(TestVm.ListPage, PageCount, 0, new ulong[PageCount]);
        Assert.Equal(SvsmResultCode.Incomplete, Withdraw());
        Assert.Equal(SvsmResultCode.Success, Withdraw());
        Assert.Equal(PageCount, _vm.ReadNext(TestVm.ListPage));
        Assert.All(Enumerable.Range(0, PageCount), i => Assert.Equal(PageState.Guest, _vm.StateOf(PageAt(i))));
    }

    [Fact]
    public void Deposit_OneThatFails_KeepsTheOnesBefore()
    {
        _vm.WriteList(TestVm.ListPage, 3, 0, PageAt(0), TestVm.FreshPage + 0x10_0000, PageAt(2));
        Assert.Equal(SvsmResultCode.InvalidAddress, Deposit());
        Assert.Equal(1, _vm.ReadNext(TestVm.ListPage));
        Assert.Equal((PageState.Svsm, PageState.Guest), (_vm.StateOf(PageAt(0)), _vm.StateOf(PageAt(2))));
        Assert.Single(_vm.Platform.SpareFrames);
    }

    [Theory]
    [InlineData(TestVm.RegionBase, SvsmResultCode.InvalidAddress)]
    [InlineData(TestVm.CallingArea, SvsmResultCode.InvalidAddress)]
    [InlineData(TestVm.FreshPage, SvsmResultCode.InvalidAddress)]
    [InlineData(0xA_0000, SvsmResultCode.InvalidAddress)]
    [InlineData(0xFFFF_FFFF_FFFF_F000, SvsmResultCode.InvalidAddress)]
    [InlineData(TestVm.ListPage, SvsmResultCode.InvalidParameter)]
    [InlineData(First | 1, SvsmResultCode.PValidateSizeMismatch)]
    [InlineData(First | 2, SvsmResultCode.InvalidParameter)]
    [InlineData(First | 4, SvsmResultCode.InvalidParameter)]
    [InlineData(First | 0x800, SvsmResultCode.InvalidParameter)]
    public void Deposit_WrongEntry_IsRefused(ulong entry, SvsmResultCode expected)
    {
        _vm.WriteList(TestVm.ListPage, 1, 0, entry);
        Assert.Equal(expected, Deposit());
        Assert.Equal(0, _vm.ReadNext(TestVm.ListPage));
        Assert.Empty(_vm.Platform.SpareFrames);
        Assert.Equal(PageState.Guest, _vm.StateOf(First));
        Assert.True(_vm.Platform.IsIdle);
    }

    [Fact]
    public void Deposit_Twice_IsNotTheGuestsAnyMore()
    {
        _vm.WriteList(TestVm.ListPage, 2, 0, PageAt(0), PageAt(0));
        Assert.Equal(SvsmResultCode.Busy, Deposit());
        _vm.WriteList(TestVm.ListPage, 1, 0, PageAt(0));
        Assert.Equal(SvsmResultCode.InvalidAddress, Deposit());
        Assert.Single(_vm.Platform.SpareFrames);
    }

    [Theory]
    [InlineData((ushort)0, (ushort)0, TestVm.ListPage, SvsmResultCode.InvalidParameter)]
    [InlineData((ushort)1, (ushort)1, TestVm.ListPage, SvsmResultCode.InvalidParameter)]
    [InlineData((ushort)512, (ushort)0, TestVm.ListPage, SvsmResultCode.InvalidParameter)]
    [InlineData((ushort)1, (ushort)0, TestVm.ListPage + 0xFF8, SvsmResultCode.InvalidParameter)]
    [InlineData((ushort)1, (ushort)0, TestVm.ListPage + 4, SvsmResultCode.InvalidParameter)]
    public void Both_WrongList_AreRefused(ushort count, ushort next, ulong list, SvsmResultCode expected)
    {
        if ((list & 7) == 0)
        {
            _vm.WriteList(list, count, next);
        }

        Assert.Equal(expected, _vm.Core(CoreCall.DepositMemory, list));
        Assert.Equal(expected, _vm.Core(CoreCall.WithdrawMemory, list));
    }

    [Theory]
    [InlineData(TestVm.RegionBase)]
    [InlineData(TestVm.FreshPage)]
    [InlineData(0xFFFF_FFFF_FFFF_FFF8)]
    public void Both_ListThatIsNotTheGuests_AreRefused(ulong list)
    {
        Assert.Equal(SvsmResultCode.InvalidAddress, _vm.Core(CoreCall.DepositMemory, list));
        Assert.Equal(SvsmResultCode.InvalidAddress, _vm.Core(CoreCall.WithdrawMemory, list));
    }

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    public void Deposit_HostTakesThePageFromTheGuest_IsLost(int step)
    {
        _vm.Platform.FailAt = step;
        _vm.WriteList(TestVm.ListPage, 1, 0, PageAt(0));
        Assert.Equal(SvsmResultCode.PValidateFailInput, Deposit());
        Assert.Equal(PageState.Lost, _vm.StateOf(PageAt(0)));
        Assert.Empty(_vm.Platform.SpareFrames);
    }

    // Three pages are taken (six steps), the second one cannot be zeroed: the third is the guest's again.
    [Fact]
    public void Deposit_HostTakesThePageBeforeItIsZeroed_GivesTheOthersBack()
    {
        _vm.Platform.FailAt = 7;
        _vm.WriteList(TestVm.ListPage, 3, 0, PageAt(0), PageAt(1), PageAt(2));
        Assert.Equal(SvsmResultCode.PValidateFailInput, Deposit());
        Assert.Equal(1, _vm.ReadNext(TestVm.ListPage));
        Assert.Equal([PageState.Svsm, PageState.Lost, PageState.Guest], Enumerable.Range(0, 3).Select(i => _vm.StateOf(PageAt(i))));
        Assert.Single(_vm.Platform.SpareFrames);
    }

    // Zeroed, but it goes before the SVSM has it in its list.
    [Fact]
    public void Deposit_PageThatGoesAtTheLastMoment_IsLost()
    {
        _vm.Platform.OnAddSpareFrame = page => _vm.Platform[page.Value].TakeAway();
        _vm.WriteList(TestVm.ListPage, 2, 0, PageAt(0), PageAt(1));
        Assert.Equal(SvsmResultCode.PValidateFailInput, Deposit());
        Assert.Equal(0, _vm.ReadNext(TestVm.ListPage));
        Assert.Equal((PageState.Lost, PageState.Guest), (_vm.StateOf(PageAt(0)), _vm.StateOf(PageAt(1))));
        Assert.Empty(_vm.Platform.SpareFrames);
    }

    [Fact]
    public void Withdraw_PageThatIsGone_IsLostAndTheOthersCome()
    {
        _vm.WriteList(TestVm.ListPage, 2, 0, PageAt(0), PageAt(1));
        Assert.Equal(SvsmResultCode.Success, Deposit());
        _vm.Platform[PageAt(1)].TakeAway();
        _vm.WriteList(TestVm.ListPage, 2, 0, 0, 0);
        Assert.Equal(SvsmResultCode.PValidateFailInput, Withdraw());
        Assert.Equal(SvsmResultCode.Success, Withdraw());
        Assert.Equal((PageState.Guest, PageState.Lost), (_vm.StateOf(PageAt(0)), _vm.StateOf(PageAt(1))));
    }

    private static ulong PageAt(int index) => First + ((ulong)index * 0x1000);

    private SvsmResultCode Deposit() => _vm.Core(CoreCall.DepositMemory, TestVm.ListPage);

    private SvsmResultCode Withdraw() => _vm.Core(CoreCall.WithdrawMemory, TestVm.ListPage);

    private ulong EntryAt(int index) => BinaryPrimitives.ReadUInt64LittleEndian(_vm.Platform[TestVm.ListPage].Contents.AsSpan(8 + (index * 8)));
}
