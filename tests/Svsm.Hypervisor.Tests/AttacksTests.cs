// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Generic;
using System.Runtime.InteropServices;
using Svsm.Simulator.Shared;
using Svsm.Wire;
using Xunit;

namespace Svsm.Hypervisor.Tests;

/// <summary>The hostile host.</summary>
public sealed unsafe class AttacksTests
{
    private const ulong Page = 0x30_0000;
    private const ulong Other = 0x40_0000;

    [Fact]
    public void Remap_Page_LosesContentsValidationAndRights()
    {
        using var machine = new TestMachine();
        *(ulong*)machine.Private(Page) = 1;
        machine.Page(Page)->SetPermissions(2, RmpPermissions.All);
        Add(machine, new LaunchAttack { Action = AttackAction.Remap, Gpa = Page, First = 2 });

        AfterExit(machine);
        Assert.True(machine.Page(Page)->Validated);
        AfterExit(machine);

        Assert.True(machine.Page(Page)->Assigned);
        Assert.False(machine.Page(Page)->Validated);
        Assert.Equal((RmpPermissions)0, machine.Page(Page)->GetPermissions(2));
        Assert.Equal(GuestMemory.Ciphertext, *(ulong*)machine.Memory.PrivateBytes(machine.Page(Page)));
        Assert.Equal([(0u, AttackOutcome.Done, 2ul)], Told(machine));
    }

    [Fact]
    public void Swap_Pages_ExchangesContents()
    {
        using var machine = new TestMachine();
        *(ulong*)machine.Private(Page) = 1;
        *(ulong*)machine.Private(Other) = 2;
        Add(machine, new LaunchAttack { Action = AttackAction.Swap, Gpa = Page, Value = Other });

        AfterExit(machine);

        Assert.Equal((2ul, 1ul), (*(ulong*)machine.Memory.PrivateBytes(machine.Page(Page)), *(ulong*)machine.Memory.PrivateBytes(machine.Page(Other))));
        Assert.False(machine.Page(Page)->Validated || machine.Page(Other)->Validated);
    }

    [Fact]
    public void Replay_Page_HasOldContentsLater()
    {
        using var machine = new TestMachine();
        *(ulong*)machine.Private(Page) = 1;
        Add(machine, new LaunchAttack { Action = AttackAction.Replay, Gpa = Page, Value = 2 });

        AfterExit(machine);
        *(ulong*)machine.Memory.PrivateBytes(machine.Page(Page)) = 9;
        AfterExit(machine);
        Assert.True(machine.Page(Page)->Validated);
        AfterExit(machine);

        Assert.Equal(1ul, *(ulong*)machine.Memory.PrivateBytes(machine.Page(Page)));
        Assert.False(machine.Page(Page)->Validated);
        Assert.Equal([(0u, AttackOutcome.Done, 1ul), (0u, AttackOutcome.Done, 3ul)], Told(machine));
    }

    [Fact]
    public void Flip_WithoutPage_TakesTheOneJustValidated()
    {
        using var machine = new TestMachine();
        *(ulong*)machine.Private(Page) = 1;
        Add(machine, new LaunchAttack { Action = AttackAction.Flip, Trigger = AttackTrigger.Validated });

        machine.Machine.Attacks.AfterValidate(machine.Cpu, Page);

        Assert.False(machine.Page(Page)->Validated);
        Assert.Equal(1ul, *(ulong*)machine.Memory.PrivateBytes(machine.Page(Page)));
    }

    [Theory]
    [InlineData(AttackAction.Remap)]
    [InlineData(AttackAction.Flip)]
    [InlineData(AttackAction.Replay)]
    [InlineData(AttackAction.Swap)]
    public void PageAttack_SharedPageOrNoMemory_HasNoTarget(AttackAction action)
    {
        using var machine = new TestMachine();
        Add(machine, new LaunchAttack { Action = action, Gpa = Page, Value = Page });
        Add(machine, new LaunchAttack { Action = action, Gpa = TestMachine.RamLength, Value = Page });

        AfterExit(machine);

        Assert.Equal([(0u, AttackOutcome.NoTarget, 1ul), (1u, AttackOutcome.NoTarget, 1ul)], Told(machine));
        Assert.False(machine.Page(Page)->Assigned);
    }

    [Fact]
    public void Inject_WithoutRestriction_IsOnTheNextEntry()
    {
        using var machine = new TestMachine();
        Add(machine, new LaunchAttack { Action = AttackAction.Inject, Value = 0x41 });

        AfterExit(machine);

        Assert.Equal(0x8000_0041ul, machine.Cpu.Vmcb->EventInjection);
    }

    [Fact]
    public void Inject_WhileAnotherEventWaits_FollowsLater()
    {
        using var machine = new TestMachine();
        Add(machine, new LaunchAttack { Action = AttackAction.Inject, Value = 0x41 });
        machine.Cpu.Raise(Amd64.VectorInvalidOpcode);

        AfterExit(machine);
        Assert.Empty(Told(machine));
        machine.Cpu.Vmcb->EventInjection = 0;
        AfterExit(machine);

        Assert.Equal(0x8000_0041ul, machine.Cpu.Vmcb->EventInjection);
        Assert.Equal(AttackOutcome.Done, Assert.Single(Told(machine)).Outcome);
    }

    [Theory]
    [InlineData(0x41ul, AttackOutcome.RefusedByProcessor)]
    [InlineData(0x202ul, AttackOutcome.RefusedByProcessor)]
    [InlineData(0x31Dul, AttackOutcome.RefusedByProcessor)]
    [InlineData(0x31Cul, AttackOutcome.Done)]
    public void Inject_UnderRestriction_OnlyTheDoorbellPasses(ulong value, AttackOutcome outcome)
    {
        using var machine = new TestMachine();
        machine.Cpu.Features |= SevFeatures.RestrictedInjection;
        Add(machine, new LaunchAttack { Action = AttackAction.Inject, Value = value });

        AfterExit(machine);

        Assert.Equal(outcome, Assert.Single(Told(machine)).Outcome);
        Assert.Equal(outcome == AttackOutcome.Done, machine.Cpu.Vmcb->EventInjection != 0);
    }

    [Fact]
    public void VmgExit_IgnoredOrAnsweredOtherwise_LeavesWhatTheAttackSays()
    {
        using var machine = new TestMachine();
        Add(machine, new LaunchAttack { Action = AttackAction.Ignore, Trigger = AttackTrigger.GhcbMsr, Code = GhcbMsr.SevInfoRequest });
        Add(machine, new LaunchAttack { Action = AttackAction.Answer, Trigger = AttackTrigger.GhcbMsr, Code = GhcbMsr.FeaturesRequest, Value = 1ul << 40, Combine = 1 });

        machine.Cpu.Current.GhcbMsr = GhcbMsr.SevInfoRequest;
        Assert.True(machine.Machine.Attacks.VmgExit(machine.Cpu));
        Assert.Equal(GhcbMsr.SevInfoRequest, machine.Cpu.Current.GhcbMsr);

        machine.Cpu.Current.GhcbMsr = GhcbMsr.SevInfoRequest;
        Assert.True(machine.Machine.Attacks.VmgExit(machine.Cpu));
        Assert.Equal(VmgExit.SevInfo, machine.Cpu.Current.GhcbMsr);

        machine.Cpu.Current.GhcbMsr = GhcbMsr.FeaturesRequest;
        Assert.True(machine.Machine.Attacks.VmgExit(machine.Cpu));
        Assert.Equal((((ulong)VmgExit.Features(machine.Machine) << 12) | GhcbMsr.FeaturesResponse) ^ (1ul << 40), machine.Cpu.Current.GhcbMsr);
    }

    [Fact]
    public void Answer_ByPage_ChangesTheField()
    {
        using var machine = new TestMachine();
        machine.Cpu.Current.GhcbMsr = Page;
        machine.Cpu.Current.RegisteredGhcb = Page;
        Add(machine, new LaunchAttack { Action = AttackAction.Answer, Trigger = AttackTrigger.GhcbPage, Gpa = 0x398, Value = 0xABCD });

        Assert.True(machine.Machine.Attacks.VmgExit(machine.Cpu));

        Assert.Equal(0xABCDul, *(ulong*)(machine.Memory.SharedBytes(machine.Page(Page)) + 0x398));
    }

    [Theory]
    [InlineData(2)]
    [InlineData(9)]
    public void RunVmpl_WithoutVmsa_IsRefused(int vmpl)
    {
        using var machine = new TestMachine();
        Add(machine, new LaunchAttack { Action = AttackAction.RunVmpl, Value = (ulong)vmpl });

        AfterExit(machine);

        Assert.Equal(AttackOutcome.RefusedByProcessor, Assert.Single(Told(machine)).Outcome);
        Assert.Equal(0, machine.Cpu.Vmpl);
    }

    [Fact]
    public void Attack_OtherVmplOrCode_DoesNotCount()
    {
        using var machine = new TestMachine();
        machine.Private(Page);
        Add(machine, new LaunchAttack { Action = AttackAction.Flip, Gpa = Page, Code = 0x72 }, vmpl: 2);

        machine.Machine.Attacks.AfterExit(machine.Cpu, 0, 0x72);
        machine.Machine.Attacks.AfterExit(machine.Cpu, 2, 0x7C);
        Assert.Empty(Told(machine));
        machine.Machine.Attacks.AfterExit(machine.Cpu, 2, 0x72);

        Assert.Equal([(0u, AttackOutcome.Done, 1ul)], Told(machine));
    }

    [Fact]
    public void TryAdd_Malformed_IsRefused()
    {
        using var machine = new TestMachine();
        var good = new LaunchAttack { Action = AttackAction.Flip, Repeat = 1, First = 1 };
        Attacks attacks = machine.Machine.Attacks;

        Assert.False(attacks.TryAdd(default));
        Assert.False(attacks.TryAdd(good with { Action = (AttackAction)99 }));
        Assert.False(attacks.TryAdd(good with { Trigger = (AttackTrigger)9 }));
        Assert.False(attacks.TryAdd(good with { Repeat = 0 }));
        Assert.False(attacks.TryAdd(good with { First = 0 }));
        Assert.False(attacks.TryAdd(good with { Action = AttackAction.Answer, Trigger = AttackTrigger.GhcbPage, Gpa = 4089 }));
        Assert.False(attacks.TryAdd(good with { Action = AttackAction.Ignore, Trigger = AttackTrigger.Exit }));
        Assert.False(attacks.Any);
        for (uint i = 0; i < LaunchHeader.MaxAttackCount; i++)
        {
            Assert.True(attacks.TryAdd(good));
        }

        Assert.False(attacks.TryAdd(good));
    }

    private static void Add(TestMachine machine, LaunchAttack attack, int vmpl = -1)
    {
        attack.Repeat = 1;
        attack.First = Math.Max(1, attack.First);
        attack.Vmpl = vmpl < 0 ? LaunchAttack.AnyVmpl : (uint)vmpl;
        attack.Code = attack.Code == 0 ? LaunchAttack.AnyCode : attack.Code;
        Assert.True(machine.Machine.Attacks.TryAdd(attack));
    }

    private static void AfterExit(TestMachine machine) => Assert.True(machine.Machine.Attacks.AfterExit(machine.Cpu, machine.Cpu.Vmpl, 0x72));

    private static List<(uint Index, AttackOutcome Outcome, ulong Number)> Told(TestMachine machine)
    {
        var told = new List<(uint, AttackOutcome, ulong)>();
        ReadOnlySpan<byte> bytes = machine.Port.Bytes.ToArray();
        while (!bytes.IsEmpty)
        {
            int length = bytes[2] | (bytes[3] << 8);
            if (bytes[1] == (byte)LinkFrame.Attack)
            {
                told.Add((MemoryMarshal.Read<uint>(bytes[4..]), (AttackOutcome)MemoryMarshal.Read<uint>(bytes[8..]), MemoryMarshal.Read<ulong>(bytes[12..])));
            }

            bytes = bytes[(4 + length)..];
        }

        return told;
    }
}
