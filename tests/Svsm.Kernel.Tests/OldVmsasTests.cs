// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System.Runtime.CompilerServices;
using Svsm.Kernel.Guest;
using Svsm.Kernel.Memory;
using Svsm.Wire;
using Xunit;

namespace Svsm.Kernel.Tests;

public sealed class OldVmsasTests
{
    private const ulong Page1 = 0x30_0000;
    private const ulong Page2 = 0x30_1000;
    private const ulong Area1 = 0x30_2000;
    private const ulong First = TestVm.RegionBase + 0x1000;
    private const ulong Svme = 0x1000;

    private readonly TestVm _vm = new();

    public OldVmsasTests()
    {
        foreach (ulong page in (ulong[])[Page1, Page2, Area1])
        {
            _vm.Give(page);
        }

        foreach (ulong page in (ulong[])[Page1, Page2, First])
        {
            VmsaAt(page) = new Vmsa { Efer = Svme | 0x500, Vmpl = (byte)TestVm.Guest, SevFeatures = (ulong)TestVm.Features };
            _vm.Platform[page].IsValidated = true;
        }
    }

    [Fact]
    public void TryClose_ReplacedVmsa_CannotRunAnyMore()
    {
        Create(Page1, 1);
        Assert.False(Contains(Page1));
        Create(Page2, 1);
        Assert.Equal((true, false, false), (Contains(Page1), Contains(Page2), Contains(Area1)));

        // The new one and the first one are those of vCPUs: their CPUs close them.
        Assert.True(TryClose());
        Assert.Equal((0x500ul, Svme | 0x500, Svme | 0x500), (VmsaAt(Page1).Efer, VmsaAt(Page2).Efer, VmsaAt(First).Efer));
        Assert.Equal((PageState.Vmsa, PageState.Vmsa), (_vm.StateOf(Page1), _vm.StateOf(Page2)));
        Assert.True(_vm.Platform.IsIdle);

        Assert.Equal(SvsmResultCode.Success, _vm.Core(CoreCall.DeleteVcpu, Page1));
        Assert.False(Contains(Page1));
    }

    [Fact]
    public void TryClose_ReplacedVmsaThatRuns_IsNotClosed()
    {
        Create(Page1, 1);
        Create(Page2, 1);
        _vm.Platform[Page1].IsRunning = true;
        Assert.False(TryClose());
        Assert.Equal(PageState.Vmsa, _vm.StateOf(Page1));
        _vm.Platform[Page1].IsRunning = false;
        Assert.True(TryClose());
        Assert.Equal(0x500ul, VmsaAt(Page1).Efer);
    }

    [Fact]
    public void TryClose_ReplacedVmsaThatTheHostHasTaken_IsLost()
    {
        Create(Page1, 1);
        Create(Page2, 1);
        _vm.Platform[Page1].TakeAway();
        Assert.True(TryClose());
        Assert.Equal((PageState.Lost, false), (_vm.StateOf(Page1), Contains(Page1)));
    }

    [Fact]
    public void TryClose_FirstVmsaThatWasReplaced_IsClosed()
    {
        Create(Page1, 1);
        _vm.Caller = 1;
        _vm.Give(TestVm.FreshPage);
        Assert.Equal(SvsmResultCode.Success, _vm.Core(CoreCall.CreateVcpu, Page2, TestVm.FreshPage, 0));
        Assert.True(TryClose());
        Assert.Equal(0x500ul, VmsaAt(First).Efer);
        VmsaAt(First).Efer |= Svme;
        _vm.Platform[First].IsRunning = true;
        Assert.False(TryClose());
    }

    [Fact]
    public void TryMake_PageOfTheGuest_BecomesOneThatCannotRun()
    {
        Assert.Equal(PageResult.Success, GuestPages.Take(_vm.Table, ref _vm.PlatformReference, new PhysicalAddress(Page1), TestVm.Guest, PageState.Vmsa));
        Assert.True(OldVmsas.TryMake(new PhysicalAddress(Page1), TestVm.Guest, _vm.Table, ref _vm.PlatformReference));
        Assert.True(Contains(Page1));
        Assert.Equal((0x500ul, RmpPermissions.GuestVmsa), (VmsaAt(Page1).Efer, _vm.Platform[Page1].Permissions[2]));

        Assert.Equal(PageResult.Success, GuestPages.Take(_vm.Table, ref _vm.PlatformReference, new PhysicalAddress(Page2), TestVm.Guest, PageState.Vmsa));
        _vm.Platform[Page2].TakeAway();
        Assert.False(OldVmsas.TryMake(new PhysicalAddress(Page2), TestVm.Guest, _vm.Table, ref _vm.PlatformReference));
        Assert.Equal(PageState.Lost, _vm.StateOf(Page2));
        Assert.True(_vm.Platform.IsIdle);
    }

    private void Create(ulong vmsa, uint number) => Assert.Equal(SvsmResultCode.Success, _vm.Core(CoreCall.CreateVcpu, vmsa, Area1, number));

    private bool TryClose() => OldVmsas.TryClose(new PhysicalAddress(First), TestVm.Guest, _vm.Vcpus, _vm.Table, ref _vm.PlatformReference);

    private bool Contains(ulong page) => OldVmsas.Contains(page >> 12, _vm.Vcpus, _vm.Table);

    private ref Vmsa VmsaAt(ulong address) => ref Unsafe.As<byte, Vmsa>(ref _vm.Platform[address].Contents[0]);
}
