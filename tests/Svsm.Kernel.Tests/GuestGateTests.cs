// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Stopping the guest. The gate is the kernel's, once for all: one test with its states in order, and nothing beside it.

using System;
using System.Runtime.CompilerServices;
using Svsm.Kernel.Guest;
using Svsm.Kernel.Locks;
using Svsm.Kernel.Tasks;
using Svsm.Wire;
using Xunit;

namespace Svsm.Kernel.Tests;

[CollectionDefinition(nameof(GuestGateTests), DisableParallelization = true)]
[Collection(nameof(GuestGateTests))]
public sealed class GuestGateTests
{
    private const ulong Page1 = 0x30_0000;
    private const ulong Area1 = 0x30_1000;
    private const ulong Svme = 0x1000;

    private readonly TestVm _vm = new();

    public GuestGateTests()
    {
        _vm.Give(Page1);
        _vm.Give(Area1);
        Unsafe.As<byte, Vmsa>(ref _vm.Platform[Page1].Contents[0]) = new Vmsa { Efer = Svme, Vmpl = (byte)TestVm.Guest, SevFeatures = (ulong)TestVm.Features };
    }

    [Fact]
    public void Guest_StopsWhenAllAreQuiet()
    {
        Assert.True(GuestGate.IsOpen);
        try
        {
            Check();
        }
        finally
        {
            GuestGate.TryRun(_vm.Vcpus);
        }
    }

    private void Check()
    {
        // vCPU 1 is not there, and has said that it is quiet while the guest was stopped before: then it is made.
        _vm.Vcpu(1).IsQuiet = true;
        Assert.Equal(SvsmResultCode.Success, _vm.Core(CoreCall.CreateVcpu, Page1, Area1, 1));
        Assert.False(_vm.Vcpu(1).IsQuiet);
        Assert.True(GuestGate.Serves(in _vm.Vcpu(1)));

        _vm.Vcpu(0).IsQuiet = _vm.Vcpu(2).IsQuiet = _vm.Vcpu(3).IsQuiet = true;
        Assert.True(GuestGate.Serves(in _vm.Vcpu(0)));
        Assert.False(GuestGate.TryStop(_vm.Vcpus));
        Assert.Equal((1u, MoveState.Stopped), (Wakeups.Last, GuestGate.State));

        // It has not come back; what is quiet is not served, whatever is written into its calling area.
        Assert.True(GuestGate.Serves(in _vm.Vcpu(1)));
        Assert.False(GuestGate.Serves(in _vm.Vcpu(0)));

        // A vCPU that is still served makes none that was looked at already.
        Assert.Equal(SvsmResultCode.Success, _vm.Core(CoreCall.DeleteVcpu, Page1));
        _vm.Vcpu(1).IsQuiet = true;
        Assert.Equal(SvsmResultCode.Busy, _vm.Core(CoreCall.CreateVcpu, Page1, Area1, 1));
        Assert.Equal((false, true), (_vm.Vcpu(1).Exists, _vm.Vcpu(1).IsQuiet));
        Assert.True(GuestGate.TryStop(_vm.Vcpus));

        // Whose lock is held is not quiet.
        Assert.True(_vm.Vcpu(2).Lock.TryAcquire(LockRank.GuestVcpu));
        Assert.False(GuestGate.TryStop(_vm.Vcpus));
        Assert.Equal(2u, Wakeups.Last);
        _vm.Vcpu(2).Lock.Release(LockRank.GuestVcpu);
        Assert.True(GuestGate.TryStop(_vm.Vcpus));

        Assert.True(GuestGate.TryRun(_vm.Vcpus));
        Assert.Equal((true, MoveState.Running), (GuestGate.IsOpen, GuestGate.State));
        Assert.True(CpuLocks.Current.IsIdle);
    }
}
