// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using CsCheck;
using Svsm.Simulator.Shared;
using Svsm.Wire;
using Xunit;

namespace Svsm.Hypervisor.Tests;

/// <summary>RMP and backing of guest memory.</summary>
public sealed unsafe class GuestMemoryTests
{
    private const ulong Gpa = 0x20_3000;

    // Rows: assigned, validated, running VMSA, private access, verdict of a read at VMPL0.
    [Theory]
    [InlineData(false, false, false, false, (int)AccessVerdict.Allowed)]
    [InlineData(false, false, false, true, (int)AccessVerdict.PrivateAccessToSharedPage)]
    [InlineData(true, false, false, true, (int)AccessVerdict.NotValidated)]
    [InlineData(true, false, false, false, (int)AccessVerdict.SharedAccessToPrivatePage)]
    [InlineData(true, true, false, true, (int)AccessVerdict.Allowed)]
    [InlineData(true, true, false, false, (int)AccessVerdict.SharedAccessToPrivatePage)]
    [InlineData(true, true, true, true, (int)AccessVerdict.VmsaPage)]
    public void Check_ReadAtVmpl0_FollowsTheRmp(bool assigned, bool validated, bool running, bool isPrivate, int expected)
    {
        var page = default(GuestPage);
        if (assigned)
        {
            page.Assign(large: false);
            page.Validated = validated;
            page.IsRunning = running;
        }

        Assert.Equal((AccessVerdict)expected, GuestMemory.Check(&page, 0, isPrivate, AccessKind.Read, user: false));
    }

    [Fact]
    public void Check_NoRam_IsNoMemory()
    {
        Assert.Equal(AccessVerdict.NoMemory, GuestMemory.Check(null, 0, isPrivate: true, AccessKind.Read, user: false));
    }

    [Fact]
    public void Check_SharedFetch_IsRefusedInAnyState()
    {
        var page = default(GuestPage);
        Assert.Equal(AccessVerdict.SharedFetch, GuestMemory.Check(&page, 0, isPrivate: false, AccessKind.Fetch, user: false));
        page.Assign(large: false);
        Assert.Equal(AccessVerdict.SharedFetch, GuestMemory.Check(&page, 0, isPrivate: false, AccessKind.Fetch, user: false));
    }

    [Fact]
    public void Check_Rights_EachAllowsItsAccessOnly()
    {
        foreach ((RmpPermissions right, AccessKind kind, bool user) in new[]
        {
            (RmpPermissions.Read, AccessKind.Read, false),
            (RmpPermissions.Write, AccessKind.Write, false),
            (RmpPermissions.ExecuteUser, AccessKind.Fetch, true),
            (RmpPermissions.ExecuteSupervisor, AccessKind.Fetch, false),
        })
        {
            for (int vmpl = 1; vmpl < NestedPageTables.VmplCount; vmpl++)
            {
                var page = default(GuestPage);
                page.Assign(large: false);
                page.Validated = true;
                page.SetPermissions(vmpl, right);
                Assert.Equal(AccessVerdict.Allowed, GuestMemory.Check(&page, vmpl, isPrivate: true, kind, user));
                page.SetPermissions(vmpl, RmpPermissions.All & ~right);
                Assert.Equal(AccessVerdict.VmplPermission, GuestMemory.Check(&page, vmpl, isPrivate: true, kind, user));
            }
        }
    }

    [Fact]
    public void Permissions_OfOneVmpl_LeaveTheOthersAlone()
    {
        Gen.Select(Gen.Int[1, 3], Gen.UInt[0, 15], Gen.UInt[0, 15], Gen.UInt[0, 15]).Sample((vmpl, first, second, third) =>
        {
            var page = default(GuestPage);
            page.Assign(large: false);
            page.SetPermissions(1, (RmpPermissions)(first << 8));
            page.SetPermissions(2, (RmpPermissions)(second << 8));
            page.SetPermissions(3, (RmpPermissions)(third << 8));
            page.SetPermissions(vmpl, RmpPermissions.None);
            uint[] expected = [first, second, third];
            expected[vmpl - 1] = 0;
            for (int i = 1; i <= 3; i++)
            {
                Assert.Equal((RmpPermissions)(expected[i - 1] << 8), page.GetPermissions(i));
            }

            Assert.Equal(RmpPermissions.All, page.GetPermissions(0));
            Assert.Equal(1ul | (expected[0] << 8) | (expected[1] << 12) | ((ulong)expected[2] << 16), page.ToReport());
        });
    }

    [Fact]
    public void Assign_Page_DropsRightsAndValidation()
    {
        using var machine = new TestMachine();
        machine.Private(Gpa);
        GuestPage* page = machine.Page(Gpa);
        page->SetPermissions(2, RmpPermissions.All);
        machine.Memory.Unassign(page, Gpa);
        machine.Memory.Assign(page, Gpa, large: false);
        Assert.True(page->Assigned);
        Assert.False(page->Validated);
        Assert.Equal(RmpPermissions.None, page->GetPermissions(2));
    }

    [Fact]
    public void SharedBytes_NeverTouched_AreZero()
    {
        using var machine = new TestMachine();
        Assert.Equal(-1, new ReadOnlySpan<byte>(machine.Memory.SharedBytes(machine.Page(Gpa)), 4096).IndexOfAnyExcept((byte)0));
    }

    [Fact]
    public void StateChange_Contents_DoNotSurvive()
    {
        using var machine = new TestMachine();
        GuestPage* page = machine.Page(Gpa);
        *(ulong*)machine.Memory.SharedBytes(page) = 0x1111;
        machine.Memory.Assign(page, Gpa, large: false);
        Assert.Equal(GuestMemory.Ciphertext, *(ulong*)machine.Memory.PrivateBytes(page));
        *(ulong*)machine.Memory.PrivateBytes(page) = 0x2222;
        machine.Memory.Unassign(page, Gpa);
        Assert.Equal(GuestMemory.Ciphertext, *(ulong*)machine.Memory.SharedBytes(page));
        machine.Memory.Assign(page, Gpa, large: false);
        Assert.Equal(GuestMemory.Ciphertext, *(ulong*)machine.Memory.PrivateBytes(page));
    }

    [Fact]
    public void StateChange_Frames_GoBackToThePool()
    {
        using var machine = new TestMachine();
        GuestPage* page = machine.Page(Gpa);
        ulong free = machine.Pool.FreeCount;
        for (int i = 0; i < 100; i++)
        {
            machine.Memory.SharedBytes(page);
            machine.Memory.Assign(page, Gpa, large: false);
            machine.Memory.PrivateBytes(page);
            machine.Memory.Unassign(page, Gpa);
        }

        Assert.Equal(free, machine.Pool.FreeCount);
    }

    [Fact]
    public void StateChange_NestedEntries_GoAwayForEveryVmpl()
    {
        using var machine = new TestMachine();
        machine.Private(Gpa);
        GuestPage* page = machine.Page(Gpa);
        for (int vmpl = 0; vmpl < NestedPageTables.VmplCount; vmpl++)
        {
            if (vmpl > 0)
            {
                page->SetPermissions(vmpl, RmpPermissions.Read | RmpPermissions.Write);
            }

            machine.Memory.MapNested(page, Gpa, vmpl, isPrivate: true, out _);
            ulong entry = machine.Memory.NestedTables.Lookup(vmpl, Gpa, isPrivate: true);
            Assert.Equal((ulong)page->PrivateFrame, entry & 0x0000_FFFF_FFFF_F000);
            Assert.Equal(vmpl != 0, (entry & Amd64.PteNoExecute) != 0);
        }

        machine.Memory.Unassign(page, Gpa);
        for (int vmpl = 0; vmpl < NestedPageTables.VmplCount; vmpl++)
        {
            Assert.Equal(0ul, machine.Memory.NestedTables.Lookup(vmpl, Gpa, isPrivate: true));
        }
    }

    [Fact]
    public void NestedTables_WithoutPaging_ShowThePrivateView()
    {
        using var machine = new TestMachine();
        machine.Private(Gpa);
        machine.Memory.MapNested(machine.Page(Gpa), Gpa, 0, isPrivate: true, out _);
        ulong* withPaging = (ulong*)machine.Memory.NestedTables.GetRoot(0, paging: true);
        ulong* without = (ulong*)machine.Memory.NestedTables.GetRoot(0, paging: false);
        Assert.NotEqual(0ul, withPaging[256]);
        Assert.Equal(withPaging[256], without[0]);
        Assert.Equal(0ul, withPaging[0]);
        Assert.Equal(0ul, without[256]);
    }

    [Fact]
    public void MapNested_SharedPage_IsNotExecutable()
    {
        using var machine = new TestMachine();
        machine.Memory.MapNested(machine.Page(Gpa), Gpa, 0, isPrivate: false, out _);
        Assert.NotEqual(0ul, machine.Memory.NestedTables.Lookup(0, Gpa, isPrivate: false) & Amd64.PteNoExecute);
    }

    [Theory]
    [InlineData(0x1000, 0)]
    [InlineData(0x1001, 0x1000)]
    [InlineData(0x1000, 0x1001)]
    [InlineData(0x8000_0000_0000, 0x1000)]
    [InlineData(0x7FFF_FFFF_F000, 0x2000)]
    [InlineData(0x3FF_F000, 0x2000)]
    public void TryAddRam_MalformedOrOverlapping_IsRefused(ulong start, ulong length)
    {
        using var machine = new TestMachine();
        Assert.False(machine.Memory.TryAddRam(new LaunchRam { Base = start, Length = length }));
    }

    [Theory]
    [InlineData(TestMachine.RamLength)]
    [InlineData(ulong.MaxValue)]
    [InlineData(0x7FFF_FFFF_F000)]
    public void Find_BeyondRam_IsNull(ulong gpa)
    {
        using var machine = new TestMachine();
        Assert.True(machine.Memory.Find(gpa) == null);
    }

    [Fact]
    public void FramePool_Exhausted_Throws()
    {
        using var machine = new TestMachine();
        while (machine.Pool.FreeCount > 0)
        {
            machine.Pool.Allocate();
        }

        Assert.Throws<InvalidOperationException>(() => { machine.Pool.Allocate(); });
    }

    // The RMP against a model of four booleans: any sequence of what host and guest can do.
    [Fact]
    public void RandomOperations_MatchTheModel()
    {
        Gen.Int[0, 3].Array[1, 60].Sample(
            operations =>
            {
                using var machine = new TestMachine();
                GuestPage* page = machine.Page(Gpa);
                bool assigned = false;
                bool validated = false;
                foreach (int operation in operations)
                {
                    machine.Cpu.Registers[VirtualCpu.Rax] = Gpa;
                    machine.Cpu.Registers[VirtualCpu.Rcx] = 0;
                    machine.Cpu.Registers[VirtualCpu.Rdx] = operation == 2 ? 1ul : 0;
                    switch (operation)
                    {
                        case 0:
                            machine.Memory.Assign(page, Gpa, large: false);
                            assigned = true;
                            break;
                        case 1:
                            machine.Memory.Unassign(page, Gpa);
                            assigned = false;
                            validated = false;
                            break;
                        default:
                            if (assigned)
                            {
                                bool wanted = operation == 2;
                                var instruction = new Instruction { Length = 4, AddressSize = 64, Segment = -1 };
                                Assert.True(RmpInstructions.Validate(machine.Machine, machine.Cpu, in instruction));
                                machine.Memory.Stale.InvalidatePage(machine.Cpu, Gpa);
                                Assert.Equal(validated == wanted, (machine.Cpu.State->Rflags & Amd64.FlagCarry) != 0);
                                validated = wanted;
                            }

                            break;
                    }

                    Assert.Equal(assigned, page->Assigned);
                    Assert.Equal(validated, page->Validated);
                }
            },
            iter: 200);
    }
}
