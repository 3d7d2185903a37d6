// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;
using CsCheck;
using Svsm.Kernel.Memory;
using Svsm.Wire;
using Xunit;

namespace Svsm.Kernel.Tests;

public sealed class GuestPagesTests
{
    private const ulong Fresh = TestVm.FreshPage;
    private const ulong Large = TestVm.LargePage;

    private readonly TestVm _vm = new();

    [Fact]
    public void Validate_FreshPage_ZeroesBeforeItGivesRights()
    {
        _vm.Platform[Fresh].Contents[5] = 7;
        Assert.Equal(PageResult.Success, _vm.Validate(Fresh));
        Assert.Equal(["validate", "zero", "adjust"], _vm.Platform.Operations.Select(operation => operation.Name));
        Operation adjust = _vm.Platform.Operations[2];
        Assert.Equal((TestVm.Guest, RmpPermissions.All), (adjust.Target, adjust.Permissions));
        Assert.Equal(0, _vm.Platform[Fresh].Contents[5]);
        Assert.Equal(PageState.Guest, _vm.StateOf(Fresh));
        Assert.True(_vm.Platform.IsIdle);
    }

    [Fact]
    public void Validate_ValidPage_ReachesNoProcessor()
    {
        _vm.Give(Fresh);
        int before = _vm.Platform.Operations.Count;
        Assert.Equal(PageResult.NoChange, _vm.Validate(Fresh));
        Assert.Equal(before, _vm.Platform.Operations.Count);
    }

    [Theory]
    [InlineData(TestVm.RegionBase)]
    [InlineData(TestVm.RegionBase + 0xF_F000)]
    [InlineData(TestVm.CallingArea)]
    [InlineData(0xA_0000ul)]
    [InlineData(0xF_F000ul)]
    [InlineData(0x100_0000ul)]
    [InlineData(Fresh | (1ul << 47))]
    [InlineData(Fresh | (1ul << 51))]
    [InlineData(0xFFFF_FFFF_FFFF_F000ul)]
    public void Rescind_PageThatIsNotTheGuests_IsRefused(ulong address)
    {
        Assert.Equal(PageResult.InvalidAddress, _vm.Rescind(address));
        Assert.Empty(_vm.Platform.Operations);
    }

    [Theory]
    [InlineData(TestVm.RegionBase)]
    [InlineData(0xA_0000ul)]
    [InlineData(Fresh | (1ul << 47))]
    public void Validate_PageThatIsNotTheGuests_IsRefused(ulong address)
    {
        Assert.Equal(PageResult.InvalidAddress, _vm.Validate(address));
        Assert.Empty(_vm.Platform.Operations);
    }

    [Fact]
    public void Validate_LargePageIntoTheRegion_IsRefused() => Assert.Equal(PageResult.InvalidAddress, _vm.Validate(TestVm.RegionBase, PageSize.Large));

    [Fact]
    public void Validate_LargePageBeyondRam_IsRefused() => Assert.Equal(PageResult.InvalidAddress, _vm.Validate(0, PageSize.Large));

    [Theory]
    [InlineData(RmpResult.FailInput, PageResult.FailInput)]
    [InlineData(RmpResult.FailPermission, PageResult.FailInput)]
    [InlineData(RmpResult.FailSizeMismatch, PageResult.FailInput)]
    public void Validate_ProcessorRefuses_ChangesNothing(object answer, object expected)
    {
        _vm.Platform.FailAt = 0;
        _vm.Platform.FailWith = (RmpResult)answer;
        Assert.Equal((PageResult)expected, _vm.Validate(Fresh));
        Assert.Equal(PageState.Unvalidated, _vm.StateOf(Fresh));
        Assert.Equal(RmpPermissions.None, _vm.Platform[Fresh].Permissions[(int)TestVm.Guest]);
        Assert.True(_vm.Platform.IsIdle);
    }

    [Fact]
    public void Validate_ProcessorSaysNoChange_IsTheHostsDoing()
    {
        _vm.Platform[Fresh].IsValidated = true;
        Assert.Equal(PageResult.HostViolation, _vm.Validate(Fresh));
        Assert.DoesNotContain(_vm.Platform.Operations, operation => operation.Name == "adjust");
        Assert.True(_vm.Platform.IsIdle);
    }

    [Fact]
    public void Validate_ProcessorSaysNoChange_LosesThePage()
    {
        _vm.Platform[Fresh].IsValidated = true;
        _vm.Validate(Fresh);
        Assert.Equal(PageState.Lost, _vm.StateOf(Fresh));
    }

    // Neither can be told from the guest's giving the page away on another vCPU: an error, and the page is never validated again.
    [Theory]
    [InlineData(1, PageSize.Small)]
    [InlineData(2, PageSize.Small)]
    [InlineData(1, PageSize.Large)]
    [InlineData(2, PageSize.Large)]
    public void Validate_PageGoesInTheMiddle_IsLost(int step, object size)
    {
        _vm.Platform.MakeLarge(Large);
        _vm.Platform.FailAt = step;
        Assert.Equal(PageResult.FailInput, _vm.Validate(Large, (PageSize)size));
        Assert.Equal(PageState.Lost, _vm.StateOf(Large));
        Assert.True(_vm.Platform.IsIdle);
        int before = _vm.Platform.Operations.Count;
        Assert.Equal(PageResult.InvalidAddress, _vm.Validate(Large, (PageSize)size));
        Assert.Equal(PageResult.InvalidAddress, _vm.Validate(Large));
        Assert.Equal(PageResult.InvalidAddress, _vm.Rescind(Large));
        Assert.Equal(before, _vm.Platform.Operations.Count);
    }

    [Fact]
    public void Validate_LargePage_IsOneStepEach()
    {
        _vm.Platform.MakeLarge(Large);
        Assert.Equal(PageResult.Success, _vm.Validate(Large, PageSize.Large));
        Assert.Equal(3, _vm.Platform.Operations.Count);
        Assert.All(_vm.Platform.Operations, operation => Assert.Equal(PageSize.Large, operation.Size));
        Assert.Equal(PageState.Guest, _vm.StateOf(Large));
        Assert.Equal(PageState.Guest, _vm.StateOf(Large + 0x1F_F000));
        Assert.Equal(PageState.Unvalidated, _vm.StateOf(Large + 0x20_0000));
        Assert.Equal(PageState.Unvalidated, _vm.StateOf(Large - 0x1000));
    }

    [Fact]
    public void Validate_LargePageInSmallEntries_IsSizeMismatch()
    {
        Assert.Equal(PageResult.SizeMismatch, _vm.Validate(Large, PageSize.Large));
        Assert.Equal(PageState.Unvalidated, _vm.StateOf(Large));
    }

    [Fact]
    public void Validate_HostSplitsBehindTheValidation_IsFollowed()
    {
        _vm.Platform.MakeLarge(Large);
        _vm.Platform.FailAt = 2;
        _vm.Platform.FailWith = RmpResult.FailSizeMismatch;
        Assert.Equal(PageResult.Success, _vm.Validate(Large, PageSize.Large));
        Assert.Equal(512, _vm.Platform.Operations.Count(operation => operation is { Name: "adjust", Size: PageSize.Small, Permissions: RmpPermissions.All }));
        Assert.Equal(PageState.Guest, _vm.StateOf(Large + 0x1F_F000));
        Assert.True(_vm.Platform.IsIdle);
    }

    [Theory]
    [InlineData(0ul)]
    [InlineData(0x10_0000ul)]
    [InlineData(0x1F_F000ul)]
    public void LargePage_OfMixedStates_IsSizeMismatch(ulong offset)
    {
        _vm.Give(Large + offset);
        int before = _vm.Platform.Operations.Count;
        Assert.Equal(PageResult.SizeMismatch, _vm.Validate(Large, PageSize.Large));
        Assert.Equal(PageResult.SizeMismatch, _vm.Rescind(Large, PageSize.Large));
        Assert.Equal(before, _vm.Platform.Operations.Count);
    }

    [Fact]
    public void LargePage_WithACallingArea_IsRefused()
    {
        _vm.SetState(Large, 512, PageState.Guest);
        _vm.SetState(Large + 0x3000, 1, PageState.CallingArea);
        Assert.Equal(PageResult.InvalidAddress, _vm.Rescind(Large, PageSize.Large));
        _vm.SetState(Large + 0x3000, 1, PageState.Vmsa);
        Assert.Equal(PageResult.InvalidAddress, _vm.Rescind(Large, PageSize.Large));
        Assert.Empty(_vm.Platform.Operations);
    }

    [Fact]
    public void LargePage_AllValid_IsNoChange()
    {
        _vm.SetState(Large, 512, PageState.Guest);
        Assert.Equal(PageResult.NoChange, _vm.Validate(Large, PageSize.Large));
    }

    [Fact]
    public void Rescind_Page_RevokesEveryLowerVmplFirst()
    {
        _vm.Give(Fresh);
        _vm.Platform.Operations.Clear();
        Assert.Equal(PageResult.Success, _vm.Rescind(Fresh));
        Assert.Equal(
            [("adjust", Vmpl.Vmpl2), ("adjust", Vmpl.Vmpl3), ("rescind", Vmpl.Vmpl0)],
            _vm.Platform.Operations.Select(operation => (operation.Name, operation.Target)));
        Assert.All(_vm.Platform.Operations, operation => Assert.Equal(RmpPermissions.None, operation.Permissions));
        Assert.Equal(PageState.Unvalidated, _vm.StateOf(Fresh));
    }

    [Fact]
    public void Rescind_UnvalidatedPage_ReachesNoProcessor()
    {
        Assert.Equal(PageResult.NoChange, _vm.Rescind(Fresh));
        Assert.Empty(_vm.Platform.Operations);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(2)]
    public void Rescind_AnyStepFails_LosesThePage(int step)
    {
        _vm.Give(Fresh);
        _vm.Platform.Operations.Clear();
        _vm.Platform.FailAt = step;
        Assert.Equal(PageResult.FailInput, _vm.Rescind(Fresh));
        Assert.Equal(PageState.Lost, _vm.StateOf(Fresh));
        Assert.Equal(PageResult.InvalidAddress, _vm.Validate(Fresh));
        Assert.True(_vm.Platform.IsIdle);
    }

    [Fact]
    public void Rescind_ProcessorSaysNoChange_LosesThePage()
    {
        _vm.Give(Fresh);
        _vm.Platform.Operations.Clear();
        _vm.Platform.FailAt = 2;
        _vm.Platform.FailUnchanged = true;
        Assert.Equal(PageResult.FailInput, _vm.Rescind(Fresh));
        Assert.Equal(PageState.Lost, _vm.StateOf(Fresh));
    }

    // The guest had the host share the page without rescinding it.
    [Fact]
    public void Rescind_PageThatIsGone_IsAnError()
    {
        _vm.Give(Fresh);
        _vm.Platform[Fresh].TakeAway();
        Assert.Equal(PageResult.FailInput, _vm.Rescind(Fresh));
        Assert.Equal(PageState.Lost, _vm.StateOf(Fresh));
    }

    [Theory]
    [InlineData(PageSize.Small)]
    [InlineData(PageSize.Large)]
    public void Transition_OfAPageThatChanges_IsBusy(object size)
    {
        PhysicalAddress page = new(Large);
        Assert.Equal(PageResult.Success, _vm.Table.Begin(page, (PageSize)size, PageState.Unvalidated, PageState.Guest));
        Assert.Equal(PageState.Changing, _vm.StateOf(Large));
        Assert.Equal(PageResult.Busy, _vm.Validate(Large));
        Assert.Equal(PageResult.Busy, _vm.Validate(Large, PageSize.Large));
        Assert.Equal(PageResult.Busy, _vm.Rescind(Large));
        Assert.Equal(PageResult.Busy, _vm.Table.Pin(page.PageNumber));
        Assert.False(GuestPages.IsGuestPage(_vm.Table, page));
        Assert.Empty(_vm.Platform.Operations);
        _vm.Table.End(page, (PageSize)size, PageState.Unvalidated);
        Assert.Equal(PageResult.Success, _vm.Validate(Large));
    }

    [Fact]
    public void Transition_OfAPinnedPage_IsBusyUntilItIsUnpinned()
    {
        PhysicalAddress page = new(Large + 0x3000);
        _vm.SetState(Large, 512, PageState.Guest);
        Assert.Equal(PageResult.Success, _vm.Table.Pin(page.PageNumber));
        Assert.Equal(PageResult.Busy, _vm.Rescind(page.Value));
        Assert.Equal(PageResult.Busy, _vm.Rescind(Large, PageSize.Large));
        Assert.Equal(PageResult.Busy, GuestPages.ClaimCallingArea(_vm.Table, page));
        Assert.Equal(PageResult.NoChange, _vm.Validate(page.Value));
        Assert.Equal(PageState.Guest, _vm.StateOf(page.Value));
        _vm.Table.Unpin(page.PageNumber);
        Assert.Equal(PageResult.Success, GuestPages.ClaimCallingArea(_vm.Table, page));
    }

    [Fact]
    public void Take_Page_RevokesAndKeepsItValidated()
    {
        PhysicalAddress page = new(Fresh);
        Assert.Equal(PageResult.InvalidAddress, GuestPages.Take(_vm.Table, ref PlatformOf(_vm), page, TestVm.Guest, PageState.Vmsa));
        _vm.Give(Fresh);
        _vm.Platform[Fresh].Contents[3] = 4;
        Assert.Equal(PageResult.Success, GuestPages.Take(_vm.Table, ref PlatformOf(_vm), page, TestVm.Guest, PageState.Vmsa));
        Assert.Equal(PageState.Changing, _vm.StateOf(Fresh));
        Assert.All(_vm.Platform[Fresh].Permissions, permission => Assert.Equal(RmpPermissions.None, permission));
        Assert.True(_vm.Platform[Fresh].IsValidated);
        Assert.Equal(PageResult.Success, GuestPages.GiveBack(_vm.Table, ref PlatformOf(_vm), page, TestVm.Guest));
        Assert.Equal((PageState.Guest, RmpPermissions.All, (byte)4), (_vm.StateOf(Fresh), _vm.Platform[Fresh].Permissions[(int)TestVm.Guest], _vm.Platform[Fresh].Contents[3]));
        _vm.SetState(Fresh, 1, PageState.Vmsa);
        Assert.Equal(PageResult.NoChange, GuestPages.Take(_vm.Table, ref PlatformOf(_vm), page, TestVm.Guest, PageState.Vmsa));
    }

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    public void Take_AnyStepFails_LosesThePage(int step)
    {
        _vm.Give(Fresh);
        _vm.Platform.Operations.Clear();
        _vm.Platform.FailAt = step;
        Assert.Equal(PageResult.FailInput, GuestPages.Take(_vm.Table, ref PlatformOf(_vm), new PhysicalAddress(Fresh), TestVm.Guest, PageState.Vmsa));
        Assert.Equal(PageState.Lost, _vm.StateOf(Fresh));
        Assert.True(_vm.Platform.IsIdle);
    }

    [Fact]
    public void Rescind_LargePageInSmallEntries_IsSizeMismatchAndChangesNothing()
    {
        for (ulong i = 0; i < 512; i++)
        {
            _vm.Give(Large + (i * 0x1000));
        }

        Assert.Equal(PageResult.SizeMismatch, _vm.Rescind(Large, PageSize.Large));
        Assert.Equal(PageState.Guest, _vm.StateOf(Large));
        Assert.Equal(RmpPermissions.All, _vm.Platform[Large].Permissions[(int)TestVm.Guest]);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    public void Rescind_HostSplitsBetweenSteps_IsFollowed(int step)
    {
        _vm.Platform.MakeLarge(Large);
        Assert.Equal(PageResult.Success, _vm.Validate(Large, PageSize.Large));
        _vm.Platform.Operations.Clear();
        _vm.Platform.FailAt = step;
        _vm.Platform.FailWith = RmpResult.FailSizeMismatch;
        Assert.Equal(PageResult.Success, _vm.Rescind(Large, PageSize.Large));
        for (ulong i = 0; i < 512; i++)
        {
            SimulatedPage page = _vm.Platform[Large + (i * 0x1000)];
            Assert.False(page.IsValidated);
            Assert.All(page.Permissions, permission => Assert.Equal(RmpPermissions.None, permission));
        }

        Assert.True(_vm.Platform.IsIdle);
    }

    [Fact]
    public void GrantLaunched_LaunchedPage_KeepsItsContents()
    {
        _vm.Platform[Fresh].IsValidated = true;
        _vm.Platform[Fresh].Contents[0] = 9;
        Assert.Equal(PageResult.Success, _vm.GrantLaunched(Fresh));
        Assert.Equal(PageState.Guest, _vm.StateOf(Fresh));
        Assert.Equal(9, _vm.Platform[Fresh].Contents[0]);
        Assert.Equal(PageResult.InvalidAddress, _vm.GrantLaunched(Fresh));
    }

    [Fact]
    public void GrantLaunched_SvsmMemory_IsRefused() => Assert.Equal(PageResult.InvalidAddress, _vm.GrantLaunched(TestVm.RegionBase));

    [Fact]
    public void GrantLaunched_ProcessorRefuses_LosesThePage()
    {
        _vm.Platform.FailAt = 0;
        Assert.Equal(PageResult.FailInput, _vm.GrantLaunched(Fresh));
        Assert.Equal(PageState.Lost, _vm.StateOf(Fresh));
    }

    [Fact]
    public void CallingArea_ClaimAndRelease_ChangeTheState()
    {
        PhysicalAddress page = new(Fresh);
        Assert.Equal(PageResult.InvalidAddress, GuestPages.ClaimCallingArea(_vm.Table, page));
        _vm.Give(Fresh);
        Assert.Equal(PageResult.Success, GuestPages.ClaimCallingArea(_vm.Table, page));
        Assert.Equal(PageResult.NoChange, GuestPages.ClaimCallingArea(_vm.Table, page));
        Assert.True(GuestPages.IsGuestPage(_vm.Table, page));
        Assert.Equal(PageResult.Success, GuestPages.ReleaseCallingArea(_vm.Table, page));
        Assert.Equal(PageState.Guest, _vm.StateOf(Fresh));
        Assert.Equal(PageResult.InvalidAddress, GuestPages.ReleaseCallingArea(_vm.Table, new PhysicalAddress(TestVm.RegionBase)));
        Assert.Equal(PageState.Svsm, _vm.StateOf(TestVm.RegionBase));
    }

    // Ever the same two pages, on all processors of the test machine: each transition happens as a whole, and none twice.
    [Fact]
    public void Transitions_OnSeveralCpus_ExcludeEachOther()
    {
        const int Rounds = 20_000;
        var states = new PageStates(new PageRange(0, 1024));
        int owners = 0;
        int mistakes = 0;
        Parallel.For(0, 4, cpu =>
        {
            for (int round = 0; round < Rounds; round++)
            {
                bool large = (round + cpu) % 3 == 0;
                PhysicalAddress address = new(large ? 0ul : 0x1000ul);
                PageSize size = large ? PageSize.Large : PageSize.Small;
                if (states.Table.Begin(address, size, PageState.Unvalidated, PageState.Guest) == PageResult.Success)
                {
                    mistakes += Interlocked.Increment(ref owners) == 1 ? 0 : 1;
                    Interlocked.Decrement(ref owners);
                    states.Table.End(address, size, PageState.Unvalidated);
                }
            }
        });
        Assert.Equal(0, mistakes);
        Assert.Equal(PageState.Unvalidated, states.Table.Get(0));
        Assert.Equal(PageState.Unvalidated, states.Table.Get(1));
    }

    [Fact]
    public void Transitions_InAnyOrder_KeepTableAndReverseMapTogether() =>
        Gen.Select(Gen.Int[0, 3], Gen.Int[0, 5], Gen.Bool).Array[0, 40].Sample(steps =>
        {
            TestVm vm = new();
            vm.Platform.MakeLarge(Large);
            foreach ((int operation, int page, bool large) in steps)
            {
                ulong address = large ? Large : Large + ((ulong)page * 0x1000);
                PageSize size = large ? PageSize.Large : PageSize.Small;
                PageResult result = operation < 2 ? vm.Validate(address, size) : vm.Rescind(address, size);
                Assert.NotEqual(PageResult.HostViolation, result);
                Assert.True(vm.Platform.IsIdle);
                for (ulong i = 0; i < 6; i++)
                {
                    SimulatedPage simulated = vm.Platform[Large + (i * 0x1000)];
                    bool isGuest = vm.StateOf(Large + (i * 0x1000)) == PageState.Guest;
                    Assert.Equal(isGuest, simulated.IsValidated);
                    Assert.Equal(isGuest ? RmpPermissions.All : RmpPermissions.None, simulated.Permissions[(int)TestVm.Guest]);
                }
            }
        });

    private static ref SimulatedPlatform PlatformOf(TestVm vm) => ref vm.PlatformReference;
}
