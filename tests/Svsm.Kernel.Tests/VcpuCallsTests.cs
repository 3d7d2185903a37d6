// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Linq;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Threading.Tasks;
using Svsm.Kernel.Guest;
using Svsm.Kernel.Locks;
using Svsm.Kernel.Memory;
using Svsm.Kernel.Protocols;
using Svsm.Wire;
using Xunit;

namespace Svsm.Kernel.Tests;

public sealed class VcpuCallsTests
{
    private const ulong Page1 = 0x30_0000;
    private const ulong Area1 = 0x30_1000;
    private const ulong Page2 = 0x30_2000;
    private const ulong Area2 = 0x30_3000;
    private const ulong Svme = 0x1000;
    private const ulong First = TestVm.RegionBase + 0x1000;
    private const RmpPermissions NoRights = RmpPermissions.None;

    private readonly TestVm _vm = new();

    public VcpuCallsTests()
    {
        foreach (ulong page in (ulong[])[Page1, Area1, Page2, Area2])
        {
            _vm.Give(page);
        }

        Prepare(Page1);
        Prepare(Page2);
        _vm.Platform.Operations.Clear();
    }

    [Fact]
    public void Offsets_AreThoseOfTheVmsa()
    {
        Vmsa vmsa = default;
        Assert.Equal(VcpuCalls.VmplOffset, (int)Unsafe.ByteOffset(ref Unsafe.As<Vmsa, byte>(ref vmsa), ref vmsa.Vmpl));
        Assert.Equal(VmsaGate.EferOffset, (int)Unsafe.ByteOffset(ref Unsafe.As<Vmsa, byte>(ref vmsa), ref Unsafe.As<ulong, byte>(ref vmsa.Efer)));
        Assert.Equal(VcpuCalls.FeaturesOffset, (int)Unsafe.ByteOffset(ref Unsafe.As<Vmsa, byte>(ref vmsa), ref Unsafe.As<ulong, byte>(ref vmsa.SevFeatures)));
    }

    [Fact]
    public void Create_GoodPages_AreTakenFromTheGuestAndServed()
    {
        _vm.Platform[Area1].Contents.AsSpan(0, 16).Fill(0xFF);

        Assert.Equal(SvsmResultCode.Success, Create(Page1, Area1, 1));

        Assert.True(_vm.Vcpu(1).Exists);
        Assert.False(_vm.Vcpu(1).IsFirst);
        Assert.Equal((Page1, Area1, TestVm.Features), (_vm.Vcpu(1).Vmsa.Value, _vm.Vcpu(1).CallingArea.Value, _vm.Vcpu(1).Features));
        Assert.Equal((PageState.Vmsa, PageState.CallingArea), (_vm.StateOf(Page1), _vm.StateOf(Area1)));
        Assert.Equal(RmpPermissions.GuestVmsa, _vm.Platform[Page1].Permissions[2]);
        Assert.Equal(NoRights, _vm.Platform[Page1].Permissions[3]);
        Assert.Equal(1, _vm.Platform.Flushes);
        Assert.Equal(new byte[8], _vm.Platform[Area1].Contents[..8]);
        Assert.Equal(0xFF, _vm.Platform[Area1].Contents[8]);
        AssertIdle();
    }

    // The guest could write to the page until its rights are gone everywhere: what is checked must be what runs.
    [Fact]
    public void Create_Order_RightsGoFirstVmsaBitComesLast()
    {
        Create(Page1, Area1, 1);
        Assert.Equal(
            [(Vmpl.Vmpl2, NoRights), (Vmpl.Vmpl3, NoRights), (Vmpl.Vmpl2, RmpPermissions.GuestVmsa)],
            _vm.Platform.Operations.Where(operation => operation.Name == "adjust").Select(operation => (operation.Target, operation.Permissions)));
    }

    [Theory]
    [InlineData(Page1 + 8, Area1, 1)]
    [InlineData(Page1, Area1 + 0x800, 1)]
    [InlineData(Page1, Page1, 1)]
    [InlineData(Page1, Area1, 0)]
    [InlineData(Page1, Area1, TestVm.VcpuCount)]
    [InlineData(Page1, Area1, uint.MaxValue)]
    [InlineData(Page1, TestVm.CallingArea, 1)]
    public void Create_WrongParameters_AreRefused(ulong vmsa, ulong area, uint apicId) => AssertRefused(SvsmResultCode.InvalidParameter, vmsa, area, apicId);

    [Theory]
    [InlineData(TestVm.FreshPage, Area1)]
    [InlineData(Page1, TestVm.FreshPage)]
    [InlineData(TestVm.RegionBase, Area1)]
    [InlineData(Page1, TestVm.RegionBase)]
    [InlineData(TestVm.CallingArea, Area1)]
    [InlineData(0xA_0000, Area1)]
    [InlineData(0xFFFF_FFFF_FFFF_F000, Area1)]
    [InlineData(Page1, 0x8000_0000_0000)]
    public void Create_PagesThatAreNotTheGuests_AreRefused(ulong vmsa, ulong area) => AssertRefused(SvsmResultCode.InvalidAddress, vmsa, area, 1);

    [Fact]
    public void Create_WrongVmpl_GivesThePageBack()
    {
        VmsaAt(Page1).Vmpl = 0;
        AssertRefused(SvsmResultCode.InvalidParameter, Page1, Area1, 1);
    }

    [Fact]
    public void Create_OtherFeatures_GivesThePageBack()
    {
        VmsaAt(Page1).SevFeatures = (ulong)SevFeatures.SnpActive;
        AssertRefused(SvsmResultCode.InvalidParameter, Page1, Area1, 1);
    }

    [Fact]
    public void Create_WithoutSvme_GivesThePageBack()
    {
        VmsaAt(Page1).Efer = 0xD01;
        AssertRefused(SvsmResultCode.InvalidParameter, Page1, Area1, 1);
    }

    [Fact]
    public void Create_VmsaOrAreaInUse_IsRefused()
    {
        Create(Page1, Area1, 1);
        Assert.Equal(SvsmResultCode.InvalidAddress, Create(Page1, Area2, 2));
        Assert.Equal(SvsmResultCode.InvalidParameter, Create(Page2, Area1, 2));
        Assert.Equal(SvsmResultCode.InvalidAddress, Create(Page2, Page1, 2));
        Assert.False(_vm.Vcpu(2).Exists);
        Assert.Equal((PageState.Guest, PageState.Guest), (_vm.StateOf(Page2), _vm.StateOf(Area2)));
    }

    [Fact]
    public void Create_CpuThatServesACall_IsBusy()
    {
        Assert.True(_vm.Vcpu(1).Lock.TryAcquire(LockRank.GuestVcpu));
        Assert.Equal(SvsmResultCode.Busy, Create(Page1, Area1, 1));
        Assert.Equal((PageState.Guest, PageState.Guest), (_vm.StateOf(Page1), _vm.StateOf(Area1)));
        _vm.Vcpu(1).Lock.Release(LockRank.GuestVcpu);
        Assert.Equal(SvsmResultCode.Success, Create(Page1, Area1, 1));
    }

    [Fact]
    public void Create_CpuThatHasOne_ReplacesIt()
    {
        Create(Page1, Area1, 1);
        Assert.Equal(SvsmResultCode.Success, Create(Page2, Area2, 1));
        Assert.Equal((Page2, Area2), (_vm.Vcpu(1).Vmsa.Value, _vm.Vcpu(1).CallingArea.Value));
        Assert.Equal((PageState.Vmsa, PageState.Guest), (_vm.StateOf(Page1), _vm.StateOf(Area1)));

        Assert.Equal(SvsmResultCode.Success, Delete(Page1));
        Assert.Equal(PageState.Guest, _vm.StateOf(Page1));
        Assert.True(_vm.Vcpu(1).Exists);
    }

    // As Linux does it for a CPU that comes back.
    [Fact]
    public void Create_SameCallingAreaAgain_IsKept()
    {
        Create(Page1, Area1, 1);
        Assert.Equal(SvsmResultCode.Success, Create(Page2, Area1, 1));
        Assert.Equal(PageState.CallingArea, _vm.StateOf(Area1));

        VmsaAt(TestVm.ListPage) = default;
        Assert.Equal(SvsmResultCode.InvalidParameter, Create(TestVm.ListPage, Area1, 1));
        Assert.Equal(PageState.CallingArea, _vm.StateOf(Area1));
    }

    [Fact]
    public void Create_FirstVcpuFromAnother_ReplacesIt()
    {
        Create(Page1, Area1, 1);
        _vm.Caller = 1;
        Assert.Equal(SvsmResultCode.Success, Create(Page2, Area2, 0));
        Assert.False(_vm.Vcpu(0).IsFirst);
        Assert.Equal(PageState.Guest, _vm.StateOf(TestVm.CallingArea));
    }

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(2)]
    public void Create_HostTakesThePage_IsLost(int step)
    {
        _vm.Platform.FailAt = step;
        Assert.Equal(SvsmResultCode.PValidateFailInput, Create(Page1, Area1, 1));
        Assert.Equal((PageState.Lost, PageState.Guest), (_vm.StateOf(Page1), _vm.StateOf(Area1)));
        Assert.False(_vm.Vcpu(1).Exists);
        AssertIdle();
    }

    [Fact]
    public void Delete_VcpuThatDoesNotRun_GivesItsPagesBack()
    {
        Create(Page1, Area1, 1);
        Assert.Equal(SvsmResultCode.Success, Delete(Page1));
        Assert.False(_vm.Vcpu(1).Exists);
        Assert.Equal((PageState.Guest, PageState.Guest), (_vm.StateOf(Page1), _vm.StateOf(Area1)));
        Assert.Equal(RmpPermissions.All, _vm.Platform[Page1].Permissions[2]);
        Assert.Equal(0ul, VmsaAt(Page1).Efer & Svme);
        AssertIdle();
        Assert.Equal(SvsmResultCode.InvalidAddress, Delete(Page1));
    }

    [Fact]
    public void Delete_VcpuThatRuns_IsInUse()
    {
        Create(Page1, Area1, 1);
        _vm.Platform[Page1].IsRunning = true;
        Assert.Equal(SvsmResultCode.VmsaInUse, Delete(Page1));
        Assert.True(_vm.Vcpu(1).Exists);
        Assert.Equal((PageState.Vmsa, PageState.CallingArea), (_vm.StateOf(Page1), _vm.StateOf(Area1)));
        AssertIdle();
    }

    [Fact]
    public void Delete_VcpuWhoseVmsaIsGone_EndsItAndLosesThePage()
    {
        Create(Page1, Area1, 1);
        _vm.Platform[Page1].TakeAway();
        Assert.Equal(SvsmResultCode.PValidateFailInput, Delete(Page1));
        Assert.False(_vm.Vcpu(1).Exists);
        Assert.Equal((PageState.Lost, PageState.Guest), (_vm.StateOf(Page1), _vm.StateOf(Area1)));
        AssertIdle();
        Assert.Equal(SvsmResultCode.InvalidAddress, Delete(Page1));
        Assert.Equal(SvsmResultCode.Success, Create(Page2, Area1, 1));
    }

    [Fact]
    public void Create_VmsaThatIsGone_LosesThePageAlone()
    {
        _vm.Platform[Page1].TakeAway();
        Assert.Equal(SvsmResultCode.PValidateFailInput, Create(Page1, Area1, 1));
        Assert.False(_vm.Vcpu(1).Exists);
        Assert.Equal((PageState.Lost, PageState.Guest), (_vm.StateOf(Page1), _vm.StateOf(Area1)));
        AssertIdle();
    }

    [Fact]
    public void Lose_Vcpu_LosesItsVmsaAndFreesItsArea()
    {
        Create(Page1, Area1, 1);
        VcpuCalls.Lose(ref _vm.Vcpu(1), _vm.Table);
        Assert.False(_vm.Vcpu(1).Exists);
        Assert.Equal((PageState.Lost, PageState.Guest), (_vm.StateOf(Page1), _vm.StateOf(Area1)));
        Assert.Equal(SvsmResultCode.Success, Create(Page2, Area1, 1));
    }

    [Fact]
    public void CreateAndDelete_OfFiveHundredAndTwelveVcpus_ServeEach()
    {
        const int Count = 512;
        const ulong First = 0x40_0000;
        var vm = new TestVm(Count);
        for (uint id = 1; id < Count; id++)
        {
            vm.Give(Vmsa(id));
            vm.Give(Vmsa(id) + 0x1000);
            Unsafe.As<byte, Vmsa>(ref vm.Platform[Vmsa(id)].Contents[0]) = new Vmsa { Efer = Svme, Vmpl = (byte)TestVm.Guest, SevFeatures = (ulong)TestVm.Features };
            Assert.Equal(SvsmResultCode.Success, vm.Core(CoreCall.CreateVcpu, Vmsa(id), Vmsa(id) + 0x1000, id));
        }

        Assert.Equal(SvsmResultCode.InvalidParameter, vm.Core(CoreCall.CreateVcpu, Vmsa(1), Vmsa(1) + 0x1000, Count));
        Assert.All(Enumerable.Range(1, Count - 1), id => Assert.Equal(Vmsa((uint)id), vm.Vcpu(id).Vmsa.Value));
        vm.Caller = Count - 1;
        Assert.Equal(SvsmResultCode.InvalidParameter, vm.Core(CoreCall.DeleteVcpu, Vmsa(Count - 1)));
        for (uint id = 1; id < Count - 1; id++)
        {
            Assert.Equal(SvsmResultCode.Success, vm.Core(CoreCall.DeleteVcpu, Vmsa(id)));
            Assert.Equal((PageState.Guest, PageState.Guest), (vm.StateOf(Vmsa(id)), vm.StateOf(Vmsa(id) + 0x1000)));
        }

        static ulong Vmsa(uint id) => First + (id * 0x2000ul);
    }

    [Fact]
    public void Restore_VcpuOfAnotherMachine_IsPutClosedAndQuiet()
    {
        _vm.Platform[Area1].Contents[0] = 1;
        Assert.True(Restore(1, Page1, Area1));
        ref GuestVcpu vcpu = ref _vm.Vcpu(1);
        Assert.Equal((true, true, false), (vcpu.Exists, vcpu.IsQuiet, vcpu.IsFirst));
        Assert.Equal((Page1, Area1, TestVm.Features), (vcpu.Vmsa.Value, vcpu.CallingArea.Value, vcpu.Features));
        Assert.Equal((PageState.Vmsa, PageState.CallingArea), (_vm.StateOf(Page1), _vm.StateOf(Area1)));
        Assert.Equal(RmpPermissions.GuestVmsa, _vm.Platform[Page1].Permissions[2]);
        Assert.Equal((0ul, 0x1234ul), (VmsaAt(Page1).Efer, VmsaAt(Page1).Rip));

        // It has called; the call waits for it.
        Assert.Equal(1, _vm.Platform[Area1].Contents[0]);
        AssertIdle();
    }

    [Fact]
    public void Restore_FirstVcpu_KeepsItsFrame()
    {
        _vm.Platform[First].IsValidated = true;
        Assert.False(Restore(0, 0, Area1));
        _vm.Vcpu(0).Exists = false;
        Assert.False(Restore(1, 0, Area1));
        Assert.True(Restore(0, 0, Area1));
        Assert.Equal((true, First, PageState.Svsm), (_vm.Vcpu(0).IsFirst, _vm.Vcpu(0).Vmsa.Value, _vm.StateOf(First)));
        Assert.Equal(0x1234ul, VmsaAt(First).Rip);
    }

    // Two vCPUs cannot share an area.
    [Fact]
    public void Restore_CallingAreaOfAnother_IsRefused()
    {
        Assert.True(Restore(1, Page1, Area1));
        Assert.False(Restore(2, Page2, Area1));
        Assert.False(Restore(2, Page2, TestVm.CallingArea));
        Assert.Equal((false, PageState.Guest), (_vm.Vcpu(2).Exists, _vm.StateOf(Page2)));

        // Nor is a vCPU put twice.
        Assert.False(Restore(1, Page2, Area2));
        Assert.Equal((PageState.CallingArea, PageState.Guest, PageState.Guest), (_vm.StateOf(Area1), _vm.StateOf(Page2), _vm.StateOf(Area2)));
        AssertIdle();
    }

    [Theory]
    [InlineData(Page1 + 8, Area1, 0, 2)]
    [InlineData(Page1, Area1 + 8, 0, 2)]
    [InlineData(Page1, Page1, 0, 2)]
    [InlineData(TestVm.RegionBase, Area1, 0, 2)]
    [InlineData(Page1, TestVm.RegionBase, 0, 2)]
    [InlineData(TestVm.FreshPage, Area1, 0, 2)]
    [InlineData(Page1, Area1, Svme, 2)]
    [InlineData(Page1, Area1, 0, 0)]
    public void Restore_WhatDoesNotFit_ChangesNothing(ulong vmsa, ulong area, ulong efer, byte vmpl)
    {
        Assert.False(Restore(1, vmsa, area, efer, vmpl));
        Assert.False(_vm.Vcpu(1).Exists);
        Assert.Equal((PageState.Guest, PageState.Guest), (_vm.StateOf(Page1), _vm.StateOf(Area1)));
        AssertIdle();
    }

    [Theory]
    [InlineData(0)]
    [InlineData(2)]
    public void Restore_HostTakesThePage_IsLost(int step)
    {
        _vm.Platform.FailAt = step;
        Assert.False(Restore(1, Page1, Area1));
        Assert.Equal((false, PageState.Lost, PageState.Guest), (_vm.Vcpu(1).Exists, _vm.StateOf(Page1), _vm.StateOf(Area1)));
        AssertIdle();
    }

    // Another vCPU has its list in the calling area at this moment.
    [Fact]
    public async Task Lose_AreaThatIsPinned_WaitsForIt()
    {
        Create(Page1, Area1, 1);
        Assert.Equal(PageResult.Success, _vm.Table.Pin(Area1 >> 12));
        Task losing = Task.Run(() => VcpuCalls.Lose(ref _vm.Vcpu(1), _vm.Table), TestContext.Current.CancellationToken);
        while (_vm.StateOf(Page1) != PageState.Lost)
        {
            await Task.Yield();
        }

        Assert.Equal(PageState.CallingArea, _vm.StateOf(Area1));
        Assert.True(_vm.Vcpu(1).Exists);
        _vm.Table.Unpin(Area1 >> 12);
        await losing;
        Assert.Equal(PageState.Guest, _vm.StateOf(Area1));
        Assert.False(_vm.Vcpu(1).Exists);
    }

    [Fact]
    public void Delete_VcpuThatIsServed_IsBusy()
    {
        Create(Page1, Area1, 1);
        Assert.True(_vm.Vcpu(1).Lock.TryAcquire(LockRank.GuestVcpu));
        Assert.Equal(SvsmResultCode.Busy, Delete(Page1));
        _vm.Vcpu(1).Lock.Release(LockRank.GuestVcpu);
        Assert.Equal(SvsmResultCode.Success, Delete(Page1));
    }

    [Fact]
    public void Delete_Itself_IsRefused()
    {
        Create(Page1, Area1, 1);
        _vm.Caller = 1;
        Assert.Equal(SvsmResultCode.InvalidParameter, Delete(Page1));
        Assert.True(_vm.Vcpu(1).Exists);
    }

    [Theory]
    [InlineData(Page1 + 1, SvsmResultCode.InvalidParameter)]
    [InlineData(Page1, SvsmResultCode.InvalidAddress)]
    [InlineData(TestVm.FreshPage, SvsmResultCode.InvalidAddress)]
    [InlineData(TestVm.CallingArea, SvsmResultCode.InvalidAddress)]
    [InlineData(TestVm.RegionBase, SvsmResultCode.InvalidAddress)]
    [InlineData(0xFFFF_FFFF_FFFF_F000, SvsmResultCode.InvalidAddress)]
    public void Delete_WhatIsNoVmsa_IsRefused(ulong address, SvsmResultCode expected) => Assert.Equal(expected, Delete(address));

    private void AssertRefused(SvsmResultCode expected, ulong vmsa, ulong area, uint apicId)
    {
        ulong[] pages = [Page1, Area1, TestVm.CallingArea];
        PageState[] before = [.. pages.Select(_vm.StateOf)];
        Assert.Equal(expected, Create(vmsa, area, apicId));
        Assert.Equal(before, pages.Select(_vm.StateOf));
        Assert.Equal(RmpPermissions.All, _vm.Platform[Page1].Permissions[2]);
        Assert.False(_vm.Vcpu(1).Exists);
        AssertIdle();
    }

    private void AssertIdle()
    {
        Assert.True(_vm.Platform.IsIdle);
        Assert.True(CpuLocks.Current.IsIdle);
    }

    private SvsmResultCode Create(ulong vmsa, ulong area, uint apicId) => _vm.Core(CoreCall.CreateVcpu, vmsa, area, apicId);

    private SvsmResultCode Delete(ulong vmsa) => _vm.Core(CoreCall.DeleteVcpu, vmsa);

    private bool Restore(int number, ulong vmsa, ulong area, ulong efer = 0, byte vmpl = (byte)TestVm.Guest)
    {
        var contents = new Vmsa { Efer = efer, Vmpl = vmpl, SevFeatures = (ulong)TestVm.Features, Rip = 0x1234 };
        byte[] page = new byte[Page.Size];
        MemoryMarshal.Write(page, in contents);
        var head = new MoveVcpu { Number = (uint)number, State = MoveVcpuState.Runs, CallingArea = area, Vmsa = vmsa };
        return VcpuCalls.TryRestore(
            in head, page, new PhysicalAddress(First), TestVm.Features, new GuestContext(_vm.Vcpus, number, TestVm.Guest), _vm.Table, ref _vm.PlatformReference);
    }

    private ref Vmsa VmsaAt(ulong address) => ref Unsafe.As<byte, Vmsa>(ref _vm.Platform[address].Contents[0]);

    private void Prepare(ulong address) => VmsaAt(address) = new Vmsa { Efer = Svme, Vmpl = (byte)TestVm.Guest, SevFeatures = (ulong)TestVm.Features };
}
