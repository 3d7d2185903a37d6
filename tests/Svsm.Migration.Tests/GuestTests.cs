// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Buffers.Binary;
using System.IO;
using System.Linq;
using System.Runtime.InteropServices;
using Svsm.Core;
using Svsm.Core.Testing;
using Svsm.Modules.Migration;
using Svsm.Wire;
using Xunit;

namespace Svsm.Migration.Tests;

/// <summary>What the module of migration does with the kernel, at both ends: everything that moves, its order, and every refusal.</summary>
public sealed class GuestTests : IDisposable
{
    private const int PageLength = GuestMove.PageLength;
    private const ulong First = 0x103;
    private const ulong VmsaPage = 0x405;

    private readonly LoggingModule _module = new();
    private readonly ModuleTest _test;
    private readonly FakeMove _there = New();
    private readonly FakeMove _here = New();
    private readonly SourceGuest _source;
    private readonly TargetGuest _target;

    public GuestTests()
    {
        _test = new ModuleTest(_module);
        _source = new SourceGuest(_there, _module.OwnLog);
        _target = new TargetGuest(_here, _module.OwnLog);
        var random = new Random(1);
        foreach ((ulong number, FakePage page) in _there.Pages)
        {
            if (number % 3 != 0)
            {
                random.NextBytes(page.Contents);
            }
        }

        _there.Pages[0x110].State = MovePageState.NotValidated;
        _there.Pages[0x111].State = MovePageState.Deposited;
        _there.Pages[0x112].State = MovePageState.Lost;
        _there.Pages[VmsaPage].State = MovePageState.Vmsa;
        random.NextBytes(_there.Vmsas[0]);
        _there.Vcpus[0] = new MoveVcpu { Number = 0, State = MoveVcpuState.Runs, CallingArea = First * PageLength, Vmsa = VmsaPage * PageLength, TimeStampCounter = 500 };
        random.NextBytes(_there.Modules[1].State);
        foreach (FakeModule module in _here.Modules)
        {
            module.State = [];
        }

        Assert.Equal(MoveControlResult.Done, _here.Control(MoveControl.Hold));
    }

    private string Log => string.Join('\n', _test.Log.Select(line => line.Line));

    public void Dispose() => _test.Dispose();

    [Fact]
    public void Guest_Moves_AsItIs()
    {
        Assert.Equal(MigrationReason.None, Prepare());
        Round();
        _there.Write(First, 7);
        _there.Write(0x410, 0);
        Assert.Equal(2, Round());
        Stop();

        SendParts();

        Assert.True(_target.IsComplete());
        Assert.True(_source.TryLeave());
        _source.GiveUp();
        Assert.True(_target.TryRun());
        foreach ((ulong number, FakePage page) in _there.Pages)
        {
            Assert.Equal(page.State, _here.Pages[number].State);
            Assert.True(page.State != MovePageState.Private || page.Contents.AsSpan().SequenceEqual(_here.Pages[number].Contents), $"page 0x{number:X}");
        }

        Assert.Equal(_there.Vcpus, _here.Vcpus);
        Assert.Equal(_there.Vmsas[0], _here.Vmsas[0]);
        Assert.All(_there.Modules.Zip(_here.Modules), pair => Assert.Equal(pair.First.State, pair.Second.State));
        Assert.Equal(["Track", "Stop", "Leave 2", "Leave 4", "Leave 9", "GiveUp"], _there.Steps);
        Assert.Equal(
            ["Hold", "Leave 2", "Leave 4", "Leave 9", "Restore 2", "Restore 4", "Restore 4", "Restore 9", "Arrive 9", "Arrive 4", "Arrive 2", "Run"],
            _here.Steps);
        Assert.Equal((MoveState.Gone, MoveState.Running), (_there.State, _here.State));
    }

    [Fact]
    public void BeginRound_PagesThatAreWrittenAgainAndAgain_AreLeftForTheRest()
    {
        Assert.Equal(MigrationReason.None, Prepare());
        ulong all = _source.PagesLeft;
        Assert.Equal((ulong)_there.Pages.Count, all);
        for (int round = 1; round <= 5; round++)
        {
            _there.Taken.Clear();
            _source.BeginRound(isPaced: false);
            Assert.Equal(round == 1 ? all : 2, _source.PagesLeft);
            byte[] page = new byte[PageLength];
            while (_source.NextPage(page, out _) != PageKind.None)
            {
            }

            // Written after the rounds 1, 2 and 3: the fourth one leaves it.
            Assert.Equal(round <= 3, _there.Taken.Contains(First));
            Assert.Equal(round >= 4 ? 1u : 0, _source.PagesLeft);
            _there.Write(First, (byte)round);
            _there.Write(First + (ulong)round, 1);
        }

        Stop();
        Assert.Contains(First, _there.Taken);
        Assert.Equal(0u, _source.PagesLeft);
        SendParts();
        Assert.Equal(5, _here.Pages[First].Contents[0]);
    }

    [Fact]
    public void BeginRound_Paced_LeavesNoPageForTheRest_UntilTheGuestGoesOn()
    {
        Assert.Equal(MigrationReason.None, Prepare());
        for (int round = 1; round <= 6; round++)
        {
            _there.Taken.Clear();
            Round(isPaced: round >= 5);
            Assert.Equal(round != 4, _there.Taken.Contains(First));
            _there.Write(First, (byte)round);
        }

        _source.Resume();
        _source.Resume();

        // Each round without what was not written in the one before.
        Assert.Equal(["Track", "Pace", "Pace", "Run"], _there.Steps);
        Assert.Equal(MoveState.Running, _there.State);
    }

    [Fact]
    public void Describe_ModuleThatWasRetired_IsNotOffered()
    {
        _there.Modules[0].Runs = false;
        _here.Modules[0].Runs = false;

        Assert.Equal(MigrationReason.None, Prepare());
        Round();
        Stop();
        SendParts();

        Assert.True(_target.IsComplete());
        Assert.True(_source.TryLeave());
        Assert.Equal(["Track", "Stop", "Leave 4", "Leave 9"], _there.Steps);
    }

    [Fact]
    public void Describe_WhatCannotMove_IsSaid()
    {
        _there.Modules[1].Version = 0;
        Assert.Equal(MigrationReason.CannotMove, _source.Describe(out _));
        Assert.Contains("the module of protocol 0x4 cannot move", Log, StringComparison.Ordinal);

        _there.Modules[1].Version = 1;
        _there.Modules[2].Fails = true;
        Assert.Equal(MigrationReason.CannotMove, _source.Describe(out _));
        Assert.Contains("the module of protocol 0x9 cannot move", Log, StringComparison.Ordinal);
        Assert.Empty(_there.Steps);

        _there.Modules[2].Fails = false;
        Answer(_there, MoveControl.Track, MoveControlResult.Refused);
        Assert.Equal(MigrationReason.CannotMove, _source.Describe(out _));
        Assert.Contains("writes of the guest cannot be noticed", Log, StringComparison.Ordinal);
    }

    [Fact]
    public void TryStop_ThatTakesAWhile_IsAskedForAgain()
    {
        Answer(_there, MoveControl.Stop, MoveControlResult.Again, MoveControlResult.Again);

        Assert.True(_source.TryStop());

        Assert.Equal(["Stop: Again", "Stop: Again", "Stop"], _there.Steps);
    }

    [Fact]
    public void TryStop_ThatIsRefused_LetsTheGuestRun()
    {
        Answer(_there, MoveControl.Stop, MoveControlResult.Refused);

        Assert.False(_source.TryStop());
        _source.Resume();

        Assert.Equal(["Stop: Refused"], _there.Steps);
        Assert.Equal(MoveState.Running, _there.State);
    }

    public static TheoryData<string, Action<FakeModuleAccess>> BadModules => new()
    {
        { "no answer", module => module.Fails() },
        { "refused", module => module.RefusesToSave() },
        { "no version any more", module => module.HasNoVersion() },
        { "a part without bytes", module => module.Gives(_ => []) },
        { "more than there is", module => module.Gives(part => [.. part, 0, 0, 0, .. part]) },
    };

    [Theory]
    [MemberData(nameof(BadModules))]
    public void TryNextPart_ModuleThatDoesNotGiveItsState_Throws(string what, Action<FakeModuleAccess> spoil)
    {
        Assert.Equal(MigrationReason.None, Prepare());
        Round();
        Stop();
        spoil(new(_there.Modules[1]));

        IOException exception = Assert.Throws<IOException>(SendParts);

        Assert.True(exception.Message.Contains("protocol 0x4", StringComparison.Ordinal), what);
        _source.Resume();
        Assert.Equal(MoveState.Running, _there.State);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(2)]
    public void TryLeave_ModuleThatCannot_ThoseThatHaveLeftArrive(int which)
    {
        Assert.Equal(MigrationReason.None, Prepare());
        Stop();
        _there.Modules[which].Refuses.Add(ModuleMessageKind.Leave);

        Assert.False(_source.TryLeave());
        _source.Resume();

        uint[] protocols = [2, 4, 9];
        Assert.Equal(
            [
                "Track", "Stop", .. protocols.Take(which + 1).Select(protocol => $"Leave {protocol}"),
                .. protocols.Take(which).Reverse().Select(protocol => $"Arrive {protocol}"), "Run",
            ],
            _there.Steps);
        Assert.Contains($"the module of protocol 0x{protocols[which]:X} cannot leave", Log, StringComparison.Ordinal);

        // Once.
        _source.Resume();
        Assert.Equal("Run", _there.Steps[^1]);
        Assert.Single(_there.Steps, "Run");
    }

    [Fact]
    public void Resume_ModuleThatCannotArrive_LetsTheGuestRunAllTheSame()
    {
        Assert.Equal(MigrationReason.None, Prepare());
        Stop();
        Assert.True(_source.TryLeave());
        _there.Modules[2].Refuses.Add(ModuleMessageKind.Arrive);

        _source.Resume();

        Assert.Equal(["Arrive 9", "Arrive 4", "Arrive 2", "Run"], _there.Steps[^4..]);
        Assert.Contains("the module of protocol 0x9 cannot go on yet", Log, StringComparison.Ordinal);
    }

    [Fact]
    public void GiveUp_ThatIsUnderWay_IsAskedForAgain()
    {
        Assert.True(_source.TryStop());
        Answer(_there, MoveControl.GiveUp, MoveControlResult.Again);

        _source.GiveUp();

        Assert.Equal(["Stop", "GiveUp: Again", "GiveUp"], _there.Steps);
    }

    [Fact]
    public void GiveUp_ThatIsRefused_Throws() => Assert.Throws<InvalidOperationException>(_source.GiveUp);

    public static TheoryData<string, Action<FakeMoveAccess>> OtherMachines => new()
    {
        { "SEV features", move => move.HasFeatures(3) },
        { "the C-bit", move => move.HasEncryptionBit(47) },
        { "ranges of memory", move => move.HasRanges(2) },
        { "in other places", move => move.IsShifted() },
        { "0x2 with state 1", move => move.HasOlderModule() },
        { "0x2 with state 1", move => move.HasRetiredModule() },
        { "0x9 with state 1", move => move.HasNoSuchModule() },
    };

    [Theory]
    [MemberData(nameof(OtherMachines))]
    public void Prepare_MachineThatIsAnother_IsNotSuitable(string what, Action<FakeMoveAccess> change)
    {
        change(new(_here));

        Assert.Equal(MigrationReason.NotSuitable, Prepare());
        Assert.Contains(what, Log, StringComparison.Ordinal);
    }

    [Fact]
    public void Prepare_OtherNumberOfVcpus_IsNotSuitable()
    {
        Assert.Equal(MigrationReason.None, _source.Describe(out byte[] offer));

        Assert.Equal(MigrationReason.NotSuitable, new TargetGuest(New(vcpus: 3), _module.OwnLog).Prepare(offer));
        Assert.Contains("vCPUs: 0x2 at the source, 0x3 here", Log, StringComparison.Ordinal);
    }

    [Fact]
    public void Prepare_TextThatIsNone_IsMalformed()
    {
        Assert.Equal(MigrationReason.None, _source.Describe(out byte[] offer));
        for (int length = 0; length < offer.Length; length++)
        {
            Assert.Equal(MigrationReason.Malformed, _target.Prepare(offer.AsSpan(0, length)));
        }

        Assert.Equal(MigrationReason.Malformed, _target.Prepare([.. offer, 0]));
        foreach (int reserved in (int[])[4, 0x1C])
        {
            byte[] changed = [.. offer];
            changed[reserved] = 1;
            Assert.Equal(MigrationReason.Malformed, _target.Prepare(changed));
        }
    }

    public static TheoryData<string, RecordType, ulong, byte[]> Malformed => new()
    {
        { "a page that was never announced", RecordType.Page, 0x102 * PageLength, new byte[PageLength] },
        { "a page between two ranges", RecordType.Page, 0x12C * PageLength, new byte[PageLength] },
        { "a page at the end of all", RecordType.Page, ulong.MaxValue & ~0xFFFul, new byte[PageLength] },
        { "a page at no multiple of 4096", RecordType.Page, (First * PageLength) + 8, new byte[PageLength] },
        { "a page that is short", RecordType.Page, First * PageLength, new byte[PageLength - 1] },
        { "a page that is long", RecordType.Page, First * PageLength, new byte[PageLength + 1] },
        { "zeroes that were never announced", RecordType.Zeroes, 0, Runs(0x102, 1) },
        { "zeroes beyond a range", RecordType.Zeroes, 0, Runs(0x400, 18) },
        { "zeroes without an end", RecordType.Zeroes, 0, Runs(0x400, ulong.MaxValue) },
        { "zeroes at no multiple of 4096", RecordType.Zeroes, 0, [8, .. Runs(0x400, 1)[1..]] },
        { "half a run of zeroes", RecordType.Zeroes, 0, Runs(0x400, 1)[..15] },
        { "a state of a page that was never announced", RecordType.States, 0, States(0x102, 1, 1) },
        { "states beyond a range", RecordType.States, 0, States(0x400, 18, 3) },
        { "states without an end", RecordType.States, 0, States(0x400, uint.MaxValue, 3) },
        { "a state twice", RecordType.States, 0, [.. States(0x400, 2, 3), .. States(0x401, 1, 3)] },
        { "another state", RecordType.States, 0, [.. States(0x400, 1, 3), .. States(0x400, 1, 1)] },
        { "state 0", RecordType.States, 0, States(0x400, 1, 0) },
        { "state 6", RecordType.States, 0, States(0x400, 1, 6) },
        { "a state that is none of a byte", RecordType.States, 0, States(0x400, 1, 0x101) },
        { "states at no multiple of 4096", RecordType.States, 0, [8, .. States(0x400, 1, 1)[1..]] },
        { "half a run of states", RecordType.States, 0, States(0x400, 1, 1)[..15] },
        { "half a head of a module", RecordType.Module, 0, Module(2, 1, 0, 0, 0)[..0x17] },
        { "a module that was not offered", RecordType.Module, 0, Module(5, 1, 0, 0, 0) },
        { "another version of a module", RecordType.Module, 0, Module(2, 2, 0, 0, 0) },
        { "a part of a module that is not due", RecordType.Module, 0, Module(2, 1, 1, 2, 1) },
        { "more of a module than there is", RecordType.Module, 0, Module(2, 1, 0, 1, 2) },
        { "half a head of a vCPU", RecordType.Vcpu, 0, new byte[MoveVcpu.Length - 1] },
        { "a vCPU without its VMSA", RecordType.Vcpu, 0, Vcpu(new() { State = MoveVcpuState.Runs }, 0) },
        { "a vCPU with half a VMSA", RecordType.Vcpu, 0, Vcpu(new() { State = MoveVcpuState.Runs }, PageLength / 2) },
        { "a VMSA of a vCPU that waits", RecordType.Vcpu, 0, Vcpu(new() { State = MoveVcpuState.Waits }, PageLength) },
        { "a vCPU that was not offered", RecordType.Vcpu, 0, Vcpu(new() { Number = 2, State = MoveVcpuState.Waits }, 0) },
        { "a record of another type", RecordType.Offer, 0, [] },
    };

    [Theory]
    [MemberData(nameof(Malformed))]
    public void Take_RecordThatHasNoPlace_IsMalformed(string what, RecordType type, ulong address, byte[] text)
    {
        Assert.Equal(MigrationReason.None, Prepare());

        MigrationReason reason = _target.Take(type, address, text);

        Assert.True(reason == MigrationReason.Malformed, $"{what}: {reason}");
        Assert.DoesNotContain(_here.Steps, step => step.StartsWith("Restore", StringComparison.Ordinal));
    }

    // Whoever had stated it could change what was verified.
    [Fact]
    public void Take_ContentsBehindTheState_AreMalformed()
    {
        Assert.Equal(MigrationReason.None, Prepare());
        Assert.Equal(MigrationReason.None, Take(RecordType.Page, new byte[PageLength], First * PageLength));
        Assert.Equal(MigrationReason.None, Take(RecordType.Page, new byte[PageLength], First * PageLength));
        Assert.Equal(MigrationReason.None, Take(RecordType.States, States(First, 2, 3)));

        Assert.Equal(MigrationReason.Malformed, Take(RecordType.Page, new byte[PageLength], First * PageLength));
        Assert.Equal(MigrationReason.Malformed, Take(RecordType.Zeroes, Runs(First + 1, 1)));

        Assert.Equal(MovePageState.NotValidated, _here.Pages[First].State);
        Assert.Equal(2u, _target.Pages);
    }

    [Fact]
    public void Take_VcpuOrModuleTwice_IsMalformed()
    {
        Assert.Equal(MigrationReason.None, Prepare());
        Assert.Equal(MigrationReason.None, Take(RecordType.Vcpu, Vcpu(new() { State = MoveVcpuState.Waits }, 0)));
        Assert.Equal(MigrationReason.Malformed, Take(RecordType.Vcpu, Vcpu(new() { State = MoveVcpuState.Waits }, 0)));
        Assert.Equal(MigrationReason.None, Take(RecordType.Module, Module(2, 1, 0, 0, 0)));
        Assert.Equal(MigrationReason.Malformed, Take(RecordType.Module, Module(2, 1, 0, 0, 0)));
    }

    [Fact]
    public void Take_KernelThatRefuses_Fails()
    {
        Assert.Equal(MigrationReason.None, Prepare());
        _here.BadPages.Add(First);
        _here.RefusesVcpus = true;

        Assert.Equal(MigrationReason.Failed, Take(RecordType.Page, new byte[PageLength], First * PageLength));
        Assert.Equal(MigrationReason.Failed, Take(RecordType.Zeroes, Runs(First, 2)));
        Assert.Equal(MigrationReason.Failed, Take(RecordType.States, States(First, 1, 3)));
        Assert.Contains("pages from 0x103 cannot become NotValidated", Log, StringComparison.Ordinal);
        Assert.Equal(MigrationReason.NotSuitable, Take(RecordType.Vcpu, Vcpu(new() { Number = 1, State = MoveVcpuState.Waits }, 0)));
        Assert.Contains("vCPU 1 does not fit this VM", Log, StringComparison.Ordinal);
    }

    [Fact]
    public void Take_PageThatIsNotPrivateHere_BecomesSoFirst()
    {
        Assert.Equal(MigrationReason.None, Prepare());
        _here.Pages[First].State = MovePageState.NotValidated;

        Assert.Equal(MigrationReason.None, Take(RecordType.Page, [.. Enumerable.Repeat((byte)9, PageLength)], First * PageLength));

        Assert.Equal((MovePageState.Private, 9), (_here.Pages[First].State, _here.Pages[First].Contents[^1]));
    }

    [Fact]
    public void Take_ModuleThatCannotSayThatTheGuestIsAway_GetsNoState()
    {
        Assert.Equal(MigrationReason.None, Prepare());
        _here.Modules[2].Refuses.Add(ModuleMessageKind.Leave);

        Assert.Equal(MigrationReason.Failed, Take(RecordType.Module, Module(2, 1, 0, 0, 0)));

        Assert.Equal(["Hold", "Leave 2", "Leave 4", "Leave 9"], _here.Steps);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Take_ModuleThatDoesNotTakeItsState_IsNotSuitable(bool fails)
    {
        Assert.Equal(MigrationReason.None, Prepare());
        Assert.Equal(MigrationReason.None, Take(RecordType.Module, Module(2, 1, 0, 0, 0)));
        _here.Modules[1].Fails = fails;
        _here.Modules[1].Refuses.Add(ModuleMessageKind.Restore);

        Assert.Equal(MigrationReason.NotSuitable, Take(RecordType.Module, Module(4, 1, 0, 5, 5)));

        Assert.Contains("the module of protocol 0x4 does not take its state", Log, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("nothing", true)]
    [InlineData("contents", false)]
    [InlineData("states", false)]
    [InlineData("module", false)]
    [InlineData("vCPU", false)]
    [InlineData("VMSA", false)]
    public void IsComplete_SomethingThatIsMissing_IsSaid(string missing, bool isComplete)
    {
        Assert.Equal(MigrationReason.None, Prepare());
        foreach ((ulong first, ulong count) in FakeMove.Layout)
        {
            ulong pages = first == 0x103 && missing == "contents" ? count - 1 : count;
            ulong before = first == 0x400 ? VmsaPage - first : pages;
            Assert.Equal(MigrationReason.None, Take(RecordType.Zeroes, [.. Runs(first, before), .. before == pages ? [] : Runs(VmsaPage + 1, pages - before - 1)]));
            uint stated = (uint)count - (missing == "states" && first == 0x12D ? 1u : 0);
            Assert.Equal(
                MigrationReason.None,
                Take(RecordType.States, before == pages ? States(first, stated, 1) : [.. States(first, 5, 1), .. States(VmsaPage, 1, 2), .. States(VmsaPage + 1, stated - 6, 1)]));
        }

        foreach (uint protocol in (uint[])[2, 4, 9])
        {
            Assert.True(protocol == 4 && missing == "module" || Take(RecordType.Module, Module(protocol, 1, 0, 0, 0)) == MigrationReason.None);
        }

        ulong vmsa = missing == "VMSA" ? 0 : VmsaPage * PageLength;
        Assert.Equal(MigrationReason.None, Take(RecordType.Vcpu, Vcpu(new() { State = MoveVcpuState.Runs, Vmsa = vmsa }, PageLength)));
        Assert.True(missing == "vCPU" || Take(RecordType.Vcpu, Vcpu(new() { Number = 1, State = MoveVcpuState.Waits }, 0)) == MigrationReason.None);

        Assert.Equal(isComplete, _target.IsComplete());
        Assert.Equal(isComplete, Log.Length == 0);
        Assert.Equal(missing is "contents" or "VMSA", Log.Contains("the contents of 1 pages have not come", StringComparison.Ordinal));
    }

    [Fact]
    public void IsComplete_NothingThatWasOffered_IsNot() => Assert.False(_target.IsComplete());

    [Fact]
    public void TryRun_ClockThatWouldGoBack_WaitsForTheHost()
    {
        MoveAll();
        _here.TimeStampCounter = 499;

        Assert.False(_target.TryRun());
        Assert.DoesNotContain(_here.Steps, step => step.StartsWith("Arrive", StringComparison.Ordinal));

        _here.TimeStampCounter = 500;
        Assert.True(_target.TryRun());
        Assert.Equal(["Arrive 9", "Arrive 4", "Arrive 2", "Run"], _here.Steps[^4..]);
    }

    [Fact]
    public void TryRun_KernelThatDoesNotYet_IsAskedAgain()
    {
        MoveAll();
        Answer(_here, MoveControl.Run, MoveControlResult.Again);

        Assert.False(_target.TryRun());
        Assert.True(_target.TryRun());

        Assert.Equal(["Arrive 2", "Run: Again", "Run"], _here.Steps[^3..]);
    }

    [Fact]
    public void TryRun_ModuleThatCannotArrive_RunsAllTheSame()
    {
        MoveAll();
        _here.Modules[2].Fails = true;

        Assert.True(_target.TryRun());

        Assert.Contains("the module of protocol 0x9 cannot go on yet", Log, StringComparison.Ordinal);
        Assert.Equal(MoveState.Running, _here.State);
    }

    private static FakeMove New(int vcpus = 2) => new(vcpus, new(2, []), new(4, new byte[100_000]), new(9, [1]));

    private static void Answer(FakeMove move, MoveControl control, params MoveControlResult[] results) => move.Answers[control] = new(results);

    private MigrationReason Prepare()
    {
        Assert.Equal(MigrationReason.None, _source.Describe(out byte[] offer));
        return _target.Prepare(offer);
    }

    // Pages of a round, and how many they are.
    private int Round(bool isPaced = false)
    {
        _source.BeginRound(isPaced);
        byte[] page = new byte[PageLength];
        int count = 0;
        while (_source.NextPage(page, out ulong address) is var kind && kind != PageKind.None)
        {
            Assert.Equal(MigrationReason.None, kind == PageKind.Zeroes ? Take(RecordType.Zeroes, Runs(address / PageLength, 1)) : Take(RecordType.Page, page, address));
            count++;
        }

        return count;
    }

    private void Stop()
    {
        Assert.True(_source.TryStop());
        Round();
    }

    private void SendParts()
    {
        while (_source.TryNextPart(out RecordType type, out byte[] text))
        {
            Assert.Equal(MigrationReason.None, Take(type, text));
        }
    }

    private void MoveAll()
    {
        Assert.Equal(MigrationReason.None, Prepare());
        Round();
        Stop();
        SendParts();
        Assert.True(_target.IsComplete());
    }

    private MigrationReason Take(RecordType type, byte[] text, ulong address = 0) => _target.Take(type, address, text);

    private static byte[] Runs(ulong page, ulong count)
    {
        byte[] text = new byte[16];
        BinaryPrimitives.WriteUInt64LittleEndian(text, page * PageLength);
        BinaryPrimitives.WriteUInt64LittleEndian(text.AsSpan(8), count);
        return text;
    }

    private static byte[] States(ulong page, uint count, uint state)
    {
        byte[] text = Runs(page, count);
        BinaryPrimitives.WriteUInt32LittleEndian(text.AsSpan(12), state);
        return text;
    }

    private static byte[] Module(uint protocol, uint version, ulong offset, ulong total, int length)
    {
        byte[] text = new byte[0x18 + length];
        BinaryPrimitives.WriteUInt32LittleEndian(text, protocol);
        BinaryPrimitives.WriteUInt32LittleEndian(text.AsSpan(4), version);
        BinaryPrimitives.WriteUInt64LittleEndian(text.AsSpan(8), offset);
        BinaryPrimitives.WriteUInt64LittleEndian(text.AsSpan(16), total);
        return text;
    }

    private static byte[] Vcpu(MoveVcpu vcpu, int vmsaLength)
    {
        byte[] text = new byte[MoveVcpu.Length + vmsaLength];
        MemoryMarshal.Write(text, in vcpu);
        return text;
    }

    /// <summary>What a public theory may say of a module.</summary>
    public sealed class FakeModuleAccess
    {
        private readonly FakeModule _module;

        internal FakeModuleAccess(FakeModule module) => _module = module;

        public void Fails() => _module.Fails = true;

        public void RefusesToSave() => _module.Refuses.Add(ModuleMessageKind.Save);

        public void HasNoVersion() => _module.Version = 0;

        public void Gives(Func<byte[], byte[]> alter) => _module.AlterPart = alter;
    }

    /// <summary>What a public theory may say of a machine.</summary>
    public sealed class FakeMoveAccess
    {
        private readonly FakeMove _move;

        internal FakeMoveAccess(FakeMove move) => _move = move;

        public void HasFeatures(ulong features) => _move.Features = features;

        public void HasEncryptionBit(uint bit) => _move.EncryptionBit = bit;

        public void HasRanges(int count) => _move.Ranges = _move.Ranges[..count];

        public void IsShifted() => _move.Ranges = [.. _move.Ranges.Select(range => range with { Address = range.Address + PageLength })];

        public void HasOlderModule() => _move.Modules[0].Version = 0;

        public void HasRetiredModule() => _move.Modules[0].Runs = false;

        public void HasNoSuchModule() => _move.Modules.RemoveAt(2);
    }

    // Logs are made by whoever runs a module.
    [SvsmProtocol(MigrationModule.ProtocolNumber)]
    private sealed class LoggingModule : SvsmModule
    {
        public ModuleLog OwnLog => Log;

        protected override SvsmResult Handle(in SvsmRequest request) => SvsmResultCode.UnsupportedCall;
    }
}
