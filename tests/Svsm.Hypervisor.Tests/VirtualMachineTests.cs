// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using Svsm.Simulator.Shared;
using Svsm.Wire;
using Xunit;

namespace Svsm.Hypervisor.Tests;

/// <summary>VMSAs in and out of use, and vCPUs that take turns.</summary>
public sealed unsafe class VirtualMachineTests
{
    private const ulong FirstVmsa = 0x90_1000;
    private const ulong SecondVmsa = 0x90_3000;

    [Fact]
    public void Schedule_Running_StaysUntilItYields()
    {
        using TestMachine machine = MakeTwo();
        VirtualCpu[] cpus = machine.Machine.Cpus;
        Assert.Same(cpus[0], machine.Machine.Schedule(cpus[0]));
        cpus[0].Yields = true;
        Assert.Same(cpus[1], machine.Machine.Schedule(cpus[0]));
        Assert.False(cpus[0].Yields);
        cpus[1].Yields = true;
        Assert.Same(cpus[0], machine.Machine.Schedule(cpus[1]));
    }

    [Fact]
    public void Schedule_Alone_GoesOn()
    {
        using TestMachine machine = MakeTwo();
        VirtualCpu[] cpus = machine.Machine.Cpus;
        Assert.True(machine.Machine.Wait(cpus[1], ExitCode.Halt, 1));
        cpus[0].Yields = true;
        Assert.Same(cpus[0], machine.Machine.Schedule(cpus[0]));
    }

    [Fact]
    public void Wait_OthersRun_StoresTheVmsaBehindTheInstruction()
    {
        using TestMachine machine = MakeTwo();
        VirtualCpu cpu = machine.Machine.Cpus[1];
        cpu.State->Rip = 0x100;
        cpu.Registers[VirtualCpu.Rbx] = 0x42;
        Assert.True(machine.Machine.Wait(cpu, ExitCode.Halt, 1));
        var vmsa = (Vmsa*)machine.Private(SecondVmsa);
        Assert.Equal((0x101ul, 0x42ul, ExitCode.Halt), (vmsa->Rip, vmsa->Rbx, vmsa->ExitCode));
        Assert.False(cpu.IsRunning);
        Assert.False(machine.Page(SecondVmsa)->IsRunning);
    }

    [Fact]
    public void Wait_NobodyElseRuns_StopsAtTheInstruction()
    {
        using TestMachine machine = MakeTwo();
        VirtualCpu[] cpus = machine.Machine.Cpus;
        Assert.True(machine.Machine.Wait(cpus[0], ExitCode.Halt, 1));
        cpus[1].State->Rip = 0x100;
        Assert.False(machine.Machine.Wait(cpus[1], ExitCode.Halt, 1));
        Assert.Equal(ViolationKind.HaltForever, cpus[1].StopRequest.Violation);
        Assert.Equal(0x100ul, cpus[1].State->Rip);
        Assert.Same(cpus[1], machine.Machine.FindStopped(cpus[0]));
    }

    [Fact]
    public void DebugRegisters_WithDebugSwap_FollowTheVcpuAndItsVmsa()
    {
        using TestMachine machine = MakeTwo(SevFeatures.SnpActive | SevFeatures.DebugSwap);
        VirtualCpu[] cpus = machine.Machine.Cpus;
        ulong[] registers = ((FakeProcessor)machine.Machine.Processor).DebugRegisters;
        machine.Machine.Schedule(cpus[0]);
        Assert.Equal([10, 11, 12, 13], registers);
        registers[0] = 99;
        cpus[0].Yields = true;
        machine.Machine.Schedule(cpus[0]);
        Assert.Equal([20, 21, 22, 23], registers);
        cpus[1].Yields = true;
        machine.Machine.Schedule(cpus[1]);
        Assert.Equal([99, 11, 12, 13], registers);
        machine.Machine.Leave(cpus[0], ExitCode.VmgExit);
        Assert.Equal(99ul, ((Vmsa*)machine.Private(FirstVmsa))->Dr0);
        Assert.Equal(0u, cpus[0].Vmcb->InterceptDebugRegisters);
    }

    [Fact]
    public void Enter_WithoutDebugSwap_InterceptsDr7()
    {
        using TestMachine machine = MakeTwo();
        Assert.Equal((1u << 7) | (1u << 23), machine.Machine.Cpus[0].Vmcb->InterceptDebugRegisters);
    }

    [Fact]
    public void Enter_VmsaOfAnotherVcpu_StopsTheRun()
    {
        using TestMachine machine = MakeTwo();
        VirtualCpu cpu = machine.Machine.Cpus[1];
        Assert.True(machine.Machine.Wait(cpu, ExitCode.Halt, 1));
        Assert.True(machine.Machine.TrySetVmsa(cpu.Contexts[0], FirstVmsa));
        Assert.False(machine.Machine.Enter(cpu, 0));
        Assert.Equal(ViolationKind.InvalidVmsa, cpu.StopRequest.Violation);
    }

    [Theory]
    [InlineData(true, false, true)]
    [InlineData(true, true, false)]
    [InlineData(false, false, false)]
    public void Enter_PageIsNoVmsaOrNotTheGuests_StopsTheRun(bool assigned, bool isVmsa, bool validated)
    {
        using TestMachine machine = MakeTwo();
        VirtualCpu cpu = machine.Machine.Cpus[1];
        Assert.True(machine.Machine.Wait(cpu, ExitCode.Halt, 1));
        GuestPage* page = machine.Page(SecondVmsa);
        page->IsVmsa = isVmsa;
        page->Validated = validated;
        if (!assigned)
        {
            machine.Memory.Unassign(page, SecondVmsa);
        }

        Assert.False(machine.Machine.Enter(cpu, 0));
        Assert.Equal(ViolationKind.InvalidVmsa, cpu.StopRequest.Violation);
    }

    [Fact]
    public void Enter_Vmsa_LeavesTheNestedTablesOfAllVmpls()
    {
        using TestMachine machine = MakeTwo();
        VirtualCpu cpu = machine.Machine.Cpus[1];
        Assert.True(machine.Machine.Wait(cpu, ExitCode.Halt, 1));
        machine.Memory.MapNested(machine.Page(SecondVmsa), SecondVmsa, 0, isPrivate: true, out _);
        Assert.True(machine.Machine.Enter(cpu, 0));
        Assert.Equal(0ul, machine.Memory.NestedTables.Lookup(0, SecondVmsa, isPrivate: true));
    }

    private static TestMachine MakeTwo(SevFeatures features = SevFeatures.SnpActive)
    {
        var machine = new TestMachine();
        machine.Machine.Cpus = [new VirtualCpu(machine.Pool, 0), new VirtualCpu(machine.Pool, 1)];
        for (int i = 0; i < 2; i++)
        {
            ulong gpa = i == 0 ? FirstVmsa : SecondVmsa;
            var vmsa = (Vmsa*)machine.Private(gpa);
            TestMachine.Clear((byte*)vmsa);
            machine.Page(gpa)->IsVmsa = true;
            vmsa->SevFeatures = (ulong)features;
            vmsa->Efer = Amd64.EferSvme;
            vmsa->Cr0 = 0x11;
            vmsa->Dr0 = (ulong)((10 * i) + 10);
            vmsa->Dr1 = (ulong)((10 * i) + 11);
            vmsa->Dr2 = (ulong)((10 * i) + 12);
            vmsa->Dr3 = (ulong)((10 * i) + 13);
            Assert.True(machine.Machine.TrySetVmsa(machine.Machine.Cpus[i].Contexts[0], gpa));
            Assert.True(machine.Machine.Enter(machine.Machine.Cpus[i], 0));
        }

        return machine;
    }
}
