// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Both ends, with a relay that does what it should, or is cut.

using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using System.Linq;
using System.Security.Cryptography;
using Svsm.StoreKeys.Tests;
using Xunit;

namespace Svsm.Migration.Tests;

[Collection(LaunchGroup.Name)]
public sealed class MigrationTests(LaunchFixture fixture)
{
    private static readonly TimeSpan s_moment = TimeSpan.FromSeconds(1);
    private static readonly TimeSpan s_tooLong = TestMigration.Patience + s_moment;

    [Fact]
    public void Migration_GuestThatWrites_IsWholeAtTheTarget()
    {
        using var migration = new TestMigration(fixture, new SourceModel(300)) { Writes = 3 };

        byte[] page = [.. migration.Guest.Model.Pages.First(page => !page.AsSpan(0, 16).Contains((byte)0))!];

        migration.RunToTheEnd();

        Assert.True(migration.Source.Rounds > 2, $"{migration.Source.Rounds} rounds");
        Assert.True(migration.Source.PagesSent > 300);
        Assert.Equal(0ul, migration.Source.PagesLeft);
        Assert.True(migration.TargetGuest.Types[RecordType.Page] > 100);
        Assert.Equal(0, migration.Guest.Resumes);
        Assert.Equal(1, migration.Guest.Stops);

        // Nothing of a page is on the channel.
        Assert.DoesNotContain(migration.FromSource, frame => frame.Contents.AsSpan().IndexOf(page.AsSpan(0, 16)) >= 0);
    }

    // A page for each that is sent, or more: without pacing no round would leave less.
    [Theory]
    [InlineData(0, false)]
    [InlineData(1, true)]
    [InlineData(4, true)]
    [InlineData(20, true)]
    public void Migration_GuestThatWritesALot_IsPaced_AndStopsForTheLastFew(int writes, bool isPaced)
    {
        const int Pages = 500;
        using var migration = new TestMigration(fixture, new SourceModel(Pages)) { Writes = writes, SkipsProof = true };

        migration.RunToTheEnd();

        Assert.Equal(isPaced, migration.Guest.WasPaced);
        Assert.InRange(migration.Source.PagesOfRest, isPaced ? 1ul : 0, (ulong)(Pages / 50));
        Assert.InRange(migration.Source.Rounds, 2u, 12u);
    }

    [Fact]
    public void Migration_PacedAndAborted_LetsTheGuestWriteAgain()
    {
        using var migration = new TestMigration(fixture, new SourceModel(200)) { Writes = 20, SkipsProof = true };
        migration.Begin().Run(() => migration.Guest.WasPaced);

        Assert.True(migration.Source.TryCancel());

        Assert.Equal((false, 1), (migration.Guest.WasPaced, migration.Guest.Resumes));
        Assert.Equal(0ul, migration.Source.PagesOfRest);
    }

    [Fact]
    public void Migration_Events_AreInTheOrderOfTheHandOver()
    {
        using TestMigration migration = new TestMigration(fixture).RunToTheEnd();

        string[] events = [.. migration.Events.Where(name => name is not ("Zeroes" or "States" or "Module" or "Vcpu"))];
        Assert.Equal(["Offer", "Accept", "Finish", "Held", "give up", "Release", "run", "Running"], events);
    }

    [Theory]
    [InlineData(3)]
    [InlineData(5)]
    public void Migration_OtherVersionsOfReports_AreGood(int version)
    {
        using TestLaunch launch = fixture.New(version: version);
        using TestMigration migration = new TestMigration(fixture, targetLaunch: launch).RunToTheEnd();
    }

    [Fact]
    public void Migration_SameHostData_IsGood()
    {
        byte[] hostData = SHA256.HashData("vm"u8);
        using TestLaunch source = fixture.New(hostData: hostData);
        using TestLaunch target = fixture.New(hostData: hostData);
        using TestMigration migration = new TestMigration(fixture, sourceLaunch: source, targetLaunch: target).RunToTheEnd();
    }

    [Fact]
    public void Migration_AcrossChipsAndImages_IsGood()
    {
        using TestLaunch target = fixture.New(chip: fixture.OtherChip, svn: 9);
        using TestMigration migration = new TestMigration(fixture, targetLaunch: target, sourcePolicy: fixture.Policy(chip: fixture.OtherChip), targetPolicy: fixture.Policy()).RunToTheEnd();
    }

    [Fact]
    public void Migration_GuestOfZeroes_IsNamedNotSent()
    {
        var guest = new SourceModel(1000);
        foreach (byte[]? page in guest.Model.Pages)
        {
            page.AsSpan().Clear();
        }

        using TestMigration migration = new TestMigration(fixture, guest) { SkipsProof = true, Writes = 0 }.RunToTheEnd();

        Assert.Equal(1, migration.TargetGuest.Types[RecordType.Zeroes]);
        Assert.False(migration.TargetGuest.Types.ContainsKey(RecordType.Page));
    }

    [Fact]
    public void Migration_ManyRunsOfZeroes_GoInSeveralRecords()
    {
        // Each other page: 4100 runs, of which 4096 go into a record.
        var guest = new SourceModel(8200);
        for (int i = 0; i < guest.Model.Pages.Length; i++)
        {
            guest.Model.Pages[i].AsSpan().Fill((byte)(i & 1));
        }

        using TestMigration migration = new TestMigration(fixture, guest) { SkipsProof = true, Writes = 0 }.RunToTheEnd();

        Assert.Equal(2, migration.TargetGuest.Types[RecordType.Zeroes]);
        Assert.Equal(4100, migration.TargetGuest.Types[RecordType.Page]);
        Assert.Contains("Progress", migration.Events);
    }

    [Fact]
    public void Work_TargetThatSaysNothing_StopsAtTheWindow()
    {
        var guest = new SourceModel(6000);
        foreach (byte[]? page in guest.Model.Pages)
        {
            page.AsSpan().Fill(7);
        }

        using TestMigration migration = new TestMigration(fixture, guest) { SkipsProof = true, Writes = 0 }.Begin();
        migration.Run(() => migration.Source.State == MigrationState.Copying);
        migration.HoldsToTarget = true;
        while (migration.Step())
        {
        }

        Assert.Equal(4096, migration.FromSource.Count(frame => frame.Kind == FrameKind.Record));
        Assert.Equal(MigrationState.Copying, migration.Source.State);

        // What the target says about the first 1024 of them lets 1024 more go.
        migration.HoldsToTarget = false;
        migration.Run(() => migration.FromTarget.Count(frame => TestMigration.TypeOf(frame) == RecordType.Progress) == 1);
        migration.HoldsToTarget = true;
        while (migration.Step())
        {
        }

        Assert.Equal(4096 + 1024, migration.FromSource.Count(frame => frame.Kind == FrameKind.Record));
        migration.HoldsToTarget = false;
        migration.Run();
        migration.AssertDone();
    }

    [Fact]
    public void WantStop_GuestThatWritesAllTheTime_StopsAfterTheRound()
    {
        using TestMigration migration = new TestMigration(fixture, new SourceModel(60)) { SkipsProof = true, Writes = 60 }.Begin();
        migration.Run(() => migration.Source.Rounds == 2);
        migration.Source.WantStop();
        migration.Run();

        migration.AssertDone();
        Assert.Equal(3u, migration.Source.Rounds);
    }

    [Fact]
    public void Rounds_PagesThatTheSvsmWritesAllTheTime_HaveAnEnd()
    {
        using TestMigration migration = new TestMigration(fixture, new SourceModel(20) { IgnoresPacing = true }) { SkipsProof = true, Writes = 40 }.RunToTheEnd();
        Assert.InRange(migration.Source.Rounds, 10u, 40u);
    }

    [Theory]
    [InlineData(MigrationState.Greeting)]
    [InlineData(MigrationState.Proof)]
    [InlineData(MigrationState.Offer)]
    [InlineData(MigrationState.Copying)]
    [InlineData(MigrationState.Rest)]
    public void TryCancel_SourceBeforeTheHandOver_GuestGoesOn(MigrationState state)
    {
        using TestMigration migration = new TestMigration(fixture).Begin();
        migration.Run(() => migration.Source.State == state);

        Assert.True(migration.Source.TryCancel());
        Assert.False(migration.Source.TryCancel());
        migration.Collect();
        migration.Run();

        // A target hears of it if there is a key; otherwise it waits.
        migration.Pass(s_tooLong);
        migration.AssertAborted(MigrationReason.Cancelled, state is MigrationState.Greeting or MigrationState.Proof ? MigrationReason.Silence : MigrationReason.Cancelled);
    }

    [Theory]
    [InlineData(MigrationState.Greeting)]
    [InlineData(MigrationState.Proof)]
    [InlineData(MigrationState.Offer)]
    [InlineData(MigrationState.Copying)]
    public void TryCancel_TargetBeforeTheHandOver_GuestGoesOn(MigrationState state)
    {
        using TestMigration migration = new TestMigration(fixture).Begin();
        migration.Run(() => migration.Target.State == state);

        Assert.True(migration.Target.TryCancel());
        migration.Collect();
        migration.Run();
        migration.Pass(s_tooLong);
        migration.AssertAborted(state is MigrationState.Greeting or MigrationState.Proof ? MigrationReason.Silence : MigrationReason.Cancelled, MigrationReason.Cancelled);
    }

    [Fact]
    public void TryCancel_AfterTheHandOver_IsRefused()
    {
        using TestMigration migration = new TestMigration(fixture) { SkipsProof = true }.Begin();
        migration.Run(() => migration.Target.State == MigrationState.HandedOver);
        Assert.False(migration.Target.TryCancel());
        migration.Run(() => migration.Source.State == MigrationState.HandedOver);
        Assert.False(migration.Source.TryCancel());
        migration.Run();
        migration.AssertDone();
        Assert.False(migration.Source.TryCancel());
        Assert.False(migration.Target.TryCancel());
    }

    [Fact]
    public void TryCancel_Idle_NothingBegins()
    {
        using var migration = new TestMigration(fixture);
        Assert.True(migration.Source.TryCancel());
        migration.Begin();
        Assert.Empty(migration.FromSource);
        Assert.Equal(MigrationState.Aborted, migration.Source.State);
    }

    [Theory]
    [InlineData(MigrationState.Greeting)]
    [InlineData(MigrationState.Proof)]
    [InlineData(MigrationState.Offer)]
    [InlineData(MigrationState.Copying)]
    [InlineData(MigrationState.Rest)]
    public void CheckTime_SilentTarget_GuestGoesOnAtTheSource(MigrationState state)
    {
        using TestMigration migration = new TestMigration(fixture).Begin();
        migration.Run(() => migration.Source.State == state);
        migration.IsTargetOff = true;
        while (migration.Step())
        {
        }

        migration.Pass(TestMigration.Patience);
        Assert.Equal(state == MigrationState.Copying ? MigrationState.Rest : state, migration.Source.State);
        migration.Pass(s_moment);

        Assert.Equal((MigrationState.Aborted, MigrationReason.Silence), (migration.Source.State, migration.Source.Reason));
        Assert.False(migration.Guest.IsStopped);
        Assert.Equal(1, migration.Guest.Resumes);
    }

    // Nobody has called it: it may be launched long before somebody does.
    [Fact]
    public void CheckTime_TargetWithoutASource_Waits()
    {
        using var migration = new TestMigration(fixture);
        migration.Clock.Pass(s_tooLong);
        migration.Target.CheckTime();
        Assert.Equal(MigrationState.Greeting, migration.Target.State);
        Assert.True(migration.Target.IsIdle);
        migration.Begin().Run();
        Assert.True(migration.TargetGuest.IsRunning);
    }

    [Theory]
    [InlineData(MigrationState.Proof)]
    [InlineData(MigrationState.Offer)]
    [InlineData(MigrationState.Copying)]
    public void CheckTime_SilentSource_TargetClears(MigrationState state)
    {
        using TestMigration migration = new TestMigration(fixture).Begin();
        migration.Run(() => migration.Target.State == state);
        migration.IsSourceOff = true;

        migration.Pass(TestMigration.Patience);
        Assert.Equal(state, migration.Target.State);
        migration.Pass(s_moment);

        Assert.Equal((MigrationState.Aborted, MigrationReason.Silence), (migration.Target.State, migration.Target.Reason));
        Assert.True(migration.TargetGuest.IsCleared);
    }

    [Fact]
    public void CheckTime_Idle_HasNoLimit_AndTheLimitBeginsWithTheGreeting()
    {
        using var migration = new TestMigration(fixture);
        migration.Clock.Pass(s_tooLong);
        migration.Source.CheckTime();
        Assert.Equal(MigrationState.Idle, migration.Source.State);

        migration.Begin();
        migration.Source.CheckTime();

        Assert.Equal((MigrationState.Greeting, ""), (migration.Source.State, migration.Source.Detail));
    }

    [Fact]
    public void CheckTime_WhatIsHandedOver_HasNoLimit()
    {
        using TestMigration migration = new TestMigration(fixture) { SkipsProof = true }.Begin();
        migration.Run(() => migration.Target.State == MigrationState.HandedOver);
        migration.Clock.Pass(TimeSpan.FromDays(1000));
        migration.Target.CheckTime();
        Assert.Equal(MigrationState.HandedOver, migration.Target.State);
        migration.Run(() => migration.Source.State == MigrationState.HandedOver);
        migration.Pass(TimeSpan.FromDays(1000));
        Assert.Equal(MigrationState.HandedOver, migration.Source.State);
        migration.Run();
        migration.AssertDone();
        migration.Pass(TimeSpan.FromDays(1000));
        migration.AssertDone();
    }

    [Theory]
    [InlineData(1500, 25)]
    [InlineData(60, 1000)]
    public void CheckTime_SlowChannel_GoesOn(int pages, int milliseconds)
    {
        // It takes longer than the time limit, with a record each now and then.
        using TestMigration migration = new TestMigration(fixture, new SourceModel(pages)) { SkipsProof = true, Writes = 0 }.Begin();
        TimeSpan time = default;
        while (migration.Step())
        {
            migration.Pass(TimeSpan.FromMilliseconds(milliseconds));
            time += TimeSpan.FromMilliseconds(milliseconds);
        }

        migration.AssertDone();
        Assert.True(time > TestMigration.Patience, $"{time}");
    }

    [Fact]
    public void Describe_GuestThatCannotMove_TellsTheTarget()
    {
        using TestMigration migration = new TestMigration(fixture, new SourceModel(10) { DescribeResult = MigrationReason.CannotMove }) { SkipsProof = true }.Begin();
        migration.Run();

        migration.AssertAborted(MigrationReason.CannotMove, MigrationReason.CannotMove);
        Assert.Equal(["SourceAbort"], migration.Events);
    }

    [Fact]
    public void Prepare_TargetOfAnotherSize_TellsTheSource()
    {
        using TestMigration migration = new TestMigration(fixture, target: new TargetModel { Pages = 41 }) { SkipsProof = true }.Begin();
        migration.Run();

        migration.AssertAborted(MigrationReason.NotSuitable, MigrationReason.NotSuitable);
        Assert.Equal(0, migration.Guest.Stops);
    }

    [Fact]
    public void TryStop_GuestThatDoesNotStop_GoesOn()
    {
        using TestMigration migration = new TestMigration(fixture, new SourceModel(10) { RefusesToStop = true }) { SkipsProof = true }.Begin();
        migration.Run();

        migration.AssertAborted(MigrationReason.Failed, MigrationReason.Failed);
    }

    [Fact]
    public void Take_TargetThatFails_TellsTheSource()
    {
        using TestMigration migration = new TestMigration(fixture, target: new TargetModel { TakesAtMost = 20 }) { SkipsProof = true }.Begin();
        migration.Run();

        migration.AssertAborted(MigrationReason.Failed, MigrationReason.Failed);
    }

    [Fact]
    public void IsComplete_VcpusMissing_GuestGoesOnAtTheSource()
    {
        using TestMigration migration = new TestMigration(fixture, new SourceModel(10) { SendsNoVcpus = true }) { SkipsProof = true }.Begin();
        migration.Run();

        migration.AssertAborted(MigrationReason.Incomplete, MigrationReason.Incomplete);
        Assert.Equal(1, migration.Guest.Stops);
    }

    [Fact]
    public void Guest_AfterAnAbort_CanMoveAgain()
    {
        var guest = new SourceModel(50);
        using (TestMigration first = new TestMigration(fixture, guest) { SkipsProof = true }.Begin())
        {
            first.Run(() => first.Source.State == MigrationState.Rest);
            Assert.True(first.Source.TryCancel());
            first.Collect();
            first.Run();
            first.AssertAborted(MigrationReason.Cancelled, MigrationReason.Cancelled);
        }

        using TestMigration second = new TestMigration(fixture, guest) { SkipsProof = true }.RunToTheEnd();
    }

    [Fact]
    public void Repeat_ReleaseLost_TargetRunsWhenItComes()
    {
        bool isLost = true;
        using var migration = new TestMigration(fixture) { SkipsProof = true };
        migration.ToTarget = frame => TestMigration.TypeOf(frame) == RecordType.Release && isLost ? [] : [frame];
        migration.Begin().Run();
        Assert.Equal((MigrationState.HandedOver, MigrationState.HandedOver), (migration.Source.State, migration.Target.State));
        Assert.False(migration.TargetGuest.IsRunning);
        Assert.True(migration.Guest.HasGivenUp);

        for (int i = 0; i < 3; i++)
        {
            migration.Repeat();
            migration.Run();
        }

        MigrationFrame[] releases = [.. migration.FromSource.Where(frame => TestMigration.TypeOf(frame) == RecordType.Release)];
        Assert.Equal(4, releases.Length);
        Assert.All(releases, release => Assert.Equal(releases[0].Contents, release.Contents));
        isLost = false;
        migration.Repeat();
        migration.Run();
        migration.AssertDone();
    }

    [Fact]
    public void Release_KeptInAFile_IsEnough()
    {
        using var migration = new TestMigration(fixture) { SkipsProof = true };
        migration.ToTarget = frame => TestMigration.TypeOf(frame) == RecordType.Release ? [] : [frame];
        migration.Begin().Run();
        MigrationFrame release = migration.FromSource.Single(frame => TestMigration.TypeOf(frame) == RecordType.Release);

        // The source's power is gone.
        migration.IsSourceOff = true;
        migration.Pass(TimeSpan.FromDays(10));
        migration.Target.Receive(release);
        migration.Collect();
        migration.Check();
        Assert.True(migration.IsWhole);
    }

    [Fact]
    public void Repeat_HeldLost_SourceGivesUpWhenItComes()
    {
        bool isLost = true;
        using var migration = new TestMigration(fixture) { SkipsProof = true };
        migration.ToSource = frame => TestMigration.TypeOf(frame) == RecordType.Held && isLost ? [] : [frame];
        migration.Begin().Run();
        Assert.Equal((MigrationState.Rest, MigrationState.HandedOver), (migration.Source.State, migration.Target.State));
        Assert.False(migration.Guest.HasGivenUp);

        isLost = false;
        migration.Repeat();
        migration.Run();
        migration.AssertDone();
    }

    [Fact]
    public void Repeat_HeldLostForGood_GuestGoesOnAtTheSource_AndTheTargetHearsOfIt()
    {
        using var migration = new TestMigration(fixture) { SkipsProof = true };
        migration.ToSource = frame => TestMigration.TypeOf(frame) == RecordType.Held ? [] : [frame];
        migration.Begin().Run();
        migration.Pass(s_tooLong).Run();
        migration.AssertAborted(MigrationReason.Silence, MigrationReason.Silence);

        // HELD comes after all.
        migration.GiveToSource(migration.FromTarget.Single(frame => TestMigration.TypeOf(frame) == RecordType.Held));
        migration.Run();
        migration.AssertAborted(MigrationReason.Silence, MigrationReason.Silence);
    }

    [Fact]
    public void Repeat_RunningLost_SourceHearsOfItWhenItComes()
    {
        bool isLost = true;
        using var migration = new TestMigration(fixture) { SkipsProof = true };
        migration.ToSource = frame => TestMigration.TypeOf(frame) == RecordType.Running && isLost ? [] : [frame];
        migration.Begin().Run();
        Assert.Equal((MigrationState.HandedOver, MigrationState.Ended), (migration.Source.State, migration.Target.State));

        isLost = false;
        migration.Repeat();
        migration.Run();
        migration.AssertDone();
    }

    [Fact]
    public void Repeat_BeforeTheHandOver_IsNothing()
    {
        using TestMigration migration = new TestMigration(fixture) { SkipsProof = true }.Begin();
        migration.Run(() => migration.Source.State == MigrationState.Rest);
        int frames = migration.FromSource.Count + migration.FromTarget.Count;
        migration.Repeat();
        Assert.Equal(frames, migration.FromSource.Count + migration.FromTarget.Count);
    }

    [Fact]
    public void AbortLost_TargetThatHolds_WaitsForEver_AndNeverRuns()
    {
        using var migration = new TestMigration(fixture) { SkipsProof = true };
        migration.ToSource = frame => TestMigration.TypeOf(frame) == RecordType.Held ? [] : [frame];
        migration.ToTarget = frame => TestMigration.TypeOf(frame) == RecordType.SourceAbort ? [] : [frame];
        migration.Begin().Run();
        migration.Pass(s_tooLong).Run();

        Assert.Equal((MigrationState.Aborted, MigrationState.HandedOver), (migration.Source.State, migration.Target.State));
        Assert.False(migration.Guest.IsStopped);
        migration.Pass(TimeSpan.FromDays(1000));
        Assert.Equal(MigrationState.HandedOver, migration.Target.State);
        Assert.False(migration.TargetGuest.IsRunning);
    }

    [Fact]
    public void AbortLost_TargetThatCopies_EndsAfterItsLimit()
    {
        using var migration = new TestMigration(fixture) { SkipsProof = true };
        migration.ToTarget = frame => TestMigration.TypeOf(frame) == RecordType.SourceAbort ? [] : [frame];
        migration.Begin().Run(() => migration.Source.Rounds == 1 && migration.Source.PagesSent > 5);
        migration.Source.TryCancel();
        migration.Collect();
        migration.Run();
        Assert.Equal(MigrationState.Copying, migration.Target.State);
        migration.Pass(s_tooLong);
        migration.AssertAborted(MigrationReason.Cancelled, MigrationReason.Silence);
    }

    [Theory]
    [InlineData(MigrationState.Greeting)]
    [InlineData(MigrationState.Copying)]
    [InlineData(MigrationState.Rest)]
    public void Dispose_SourceBeforeTheHandOver_GuestGoesOn(MigrationState state)
    {
        var guest = new SourceModel(20);
        using (TestMigration migration = new TestMigration(fixture, guest).Begin())
        {
            migration.Run(() => migration.Source.State == state);
        }

        Assert.False(guest.IsStopped);
        Assert.Equal(1, guest.Resumes);
    }

    [Fact]
    public void Dispose_TargetThatHolds_NeverRuns()
    {
        using var migration = new TestMigration(fixture) { SkipsProof = true };
        migration.ToTarget = frame => TestMigration.TypeOf(frame) == RecordType.Release ? [] : [frame];
        migration.Begin().Run();

        migration.Target.Dispose();
        migration.Target.Receive(migration.FromSource.Single(frame => TestMigration.TypeOf(frame) == RecordType.Release));

        Assert.False(migration.TargetGuest.IsRunning);
    }

    [Fact]
    public void Attest_NoReport_Fails()
    {
        using TestLaunch launch = fixture.New();
        launch.Kernel.Permitted = false;
        using TestMigration source = new TestMigration(fixture, sourceLaunch: launch).Begin();
        source.Run();
        source.Pass(s_tooLong);
        source.AssertAborted(MigrationReason.Failed, MigrationReason.Silence);

        using TestMigration target = new TestMigration(fixture, targetLaunch: launch).Begin();
        target.Run();
        target.Pass(s_tooLong);
        target.AssertAborted(MigrationReason.Silence, MigrationReason.Failed);
    }

    [Theory]
    [InlineData(0u)]
    [InlineData(2u)]
    [InlineData(uint.MaxValue)]
    public void Source_TargetOfAnotherVersion_IsRefused(uint version)
    {
        using var migration = new TestMigration(fixture);
        using var target = new ScriptedEnd(fixture.Target, isSource: false, version);
        migration.Source.Begin();
        migration.Source.Receive(new(FrameKind.Clear, target.Hello));
        Assert.Equal(MigrationReason.VersionUnknown, migration.Source.Reason);
    }

    [Fact]
    public void Target_SourceOfALaterVersion_SpeaksVersion1()
    {
        using var migration = new TestMigration(fixture);
        using var source = new ScriptedEnd(fixture.Source, isSource: true, version: 7);
        source.Meet(migration.Target);

        using var other = new TestMigration(fixture);
        using var older = new ScriptedEnd(fixture.Source, isSource: true, version: 0);
        other.Target.Receive(new(FrameKind.Clear, older.Hello));
        Assert.Equal(MigrationReason.VersionUnknown, other.Target.Reason);
    }

    [Fact]
    public void Source_WithAnotherImplementation_HandsOver()
    {
        using var migration = new TestMigration(fixture, new SourceModel(30)) { Writes = 0 };
        MigrationSource source = migration.Source;
        using var target = new ScriptedEnd(fixture.Target, isSource: false);
        var model = new TargetModel();

        Assert.Equal(MigrationReason.None, model.Prepare(target.Meet(source)));
        source.Receive(target.Seal(RecordType.Accept, []));
        byte[] digest = TakeAll(source, target, model, out byte[] finish);
        Assert.True(model.IsComplete());
        Assert.Equal(source.PagesSent, BinaryPrimitives.ReadUInt64LittleEndian(finish));
        Assert.Equal(source.Rounds, BinaryPrimitives.ReadUInt64LittleEndian(finish.AsSpan(8)));
        Assert.Equal(digest, finish[16..]);
        Assert.False(migration.Guest.HasGivenUp);
        source.Receive(target.Seal(RecordType.Held, digest));
        Assert.True(migration.Guest.HasGivenUp);
        (RecordType type, byte[] text) = target.Open(ScriptedEnd.Take(source));
        Assert.Equal(RecordType.Release, type);
        Assert.Equal(digest, text);
        Assert.Equal(migration.Guest.DigestAtStop, model.Model!.Digest());
        source.Receive(target.Seal(RecordType.Running, []));
        Assert.Equal(MigrationState.Ended, source.State);
    }

    [Fact]
    public void Source_ModuleThatCannotLeave_GuestGoesOn()
    {
        using var migration = new TestMigration(fixture);
        migration.Guest.RefusesToLeave = true;
        migration.Begin().Run();
        migration.AssertAborted(MigrationReason.Failed, MigrationReason.Failed);
        Assert.Equal((1, 1), (migration.Guest.Leaves, migration.Guest.Resumes));
    }

    // The host has not set the clock when the release comes: the guest runs when it has, and not before.
    [Fact]
    public void Target_EarlyClock_RunsLater()
    {
        using var migration = new TestMigration(fixture);
        migration.TargetGuest.HasEarlyClock = true;
        migration.Begin().Run();
        migration.Target.Work();
        Assert.Equal((MigrationState.HandedOver, false), (migration.Target.State, migration.TargetGuest.IsRunning));
        migration.TargetGuest.HasEarlyClock = false;
        migration.Target.Work();
        Assert.Equal((MigrationState.Ended, true), (migration.Target.State, migration.TargetGuest.IsRunning));
    }

    [Fact]
    public void Target_WithAnotherImplementation_Holds()
    {
        using var migration = new TestMigration(fixture);
        MigrationTarget target = migration.Target;
        using var source = new ScriptedEnd(fixture.Source, isSource: true);
        SendAll(source, target, new SourceModel(5));
        byte[] digest = source.SentDigest();
        target.Receive(source.Seal(RecordType.Finish, [.. new byte[16], .. digest]));
        (RecordType type, byte[] held) = source.Open(ScriptedEnd.Take(target));
        Assert.Equal((RecordType.Held, true), (type, held.AsSpan().SequenceEqual(digest)));

        // What is not the RELEASE of this history does nothing.
        target.Receive(source.Seal(RecordType.Release, new byte[48]));
        target.Receive(source.Seal(RecordType.Release, []));
        target.Receive(source.Seal(RecordType.Page, new byte[4096], GuestModel.First));
        target.Receive(source.Seal(RecordType.Finish, [.. new byte[16], .. source.SentDigest()]));
        Assert.Equal(MigrationState.HandedOver, target.State);
        Assert.False(migration.TargetGuest.IsRunning);
        target.Receive(source.Seal(RecordType.Release, digest));
        Assert.True(migration.TargetGuest.IsRunning);
        Assert.Equal(RecordType.Running, source.Open(ScriptedEnd.Take(target)).Type);
    }

    [Theory]
    [InlineData("another digest")]
    [InlineData("too short")]
    [InlineData("digest of before")]
    public void Target_FinishOfAnotherHistory_IsIncomplete(string kind)
    {
        using var migration = new TestMigration(fixture);
        using var source = new ScriptedEnd(fixture.Source, isSource: true);
        SendAll(source, migration.Target, new SourceModel(5));
        byte[] digest = source.SentDigest();
        if (kind == "digest of before")
        {
            migration.Target.Receive(source.Seal(RecordType.Page, new byte[4096], GuestModel.First));
        }

        byte[] finish = [.. new byte[16], .. digest];
        finish[^1] ^= kind == "another digest" ? (byte)1 : (byte)0;
        migration.Target.Receive(source.Seal(RecordType.Finish, kind == "too short" ? finish[..63] : finish));

        Assert.Equal(kind == "too short" ? MigrationReason.Malformed : MigrationReason.Incomplete, migration.Target.Reason);
        Assert.True(migration.TargetGuest.IsCleared);
    }

    [Fact]
    public void Target_RecordsThatAreNotDue_EndIt()
    {
        foreach (RecordType type in (RecordType[])[RecordType.None, RecordType.Page, RecordType.Finish, RecordType.Release, RecordType.Accept, RecordType.Held, RecordType.Running, (RecordType)0x7F])
        {
            using var migration = new TestMigration(fixture);
            using var source = new ScriptedEnd(fixture.Source, isSource: true);
            source.Meet(migration.Target);
            migration.Target.Receive(source.Seal(type, new byte[48]));
            Assert.Equal(MigrationReason.Malformed, migration.Target.Reason);
            Assert.Equal((RecordType.TargetAbort, "03000000"), Text(source.Open(ScriptedEnd.Take(migration.Target))));
            Assert.Equal(0, migration.TargetGuest.Taken);
        }
    }

    [Theory]
    [InlineData(RecordType.Held, 48)]
    [InlineData(RecordType.Running, 0)]
    [InlineData(RecordType.Accept, 0)]
    [InlineData(RecordType.Progress, 7)]
    [InlineData(RecordType.Progress, 9)]
    [InlineData(RecordType.Release, 48)]
    [InlineData(RecordType.None, 0)]
    public void Source_RecordsThatAreNotDue_EndIt(RecordType type, int length)
    {
        using var migration = new TestMigration(fixture);
        using var target = new ScriptedEnd(fixture.Target, isSource: false);
        target.Meet(migration.Source);
        migration.Source.Receive(target.Seal(RecordType.Accept, []));
        Assert.Equal(MigrationState.Copying, migration.Source.State);
        migration.Source.Receive(target.Seal(type, new byte[length]));
        Assert.Equal(MigrationReason.Malformed, migration.Source.Reason);
        Assert.False(migration.Guest.IsStopped);
    }

    [Fact]
    public void Source_HeldBeforeFinishOrOfAnotherDigest_GuestGoesOn()
    {
        for (int kind = 0; kind < 3; kind++)
        {
            using var migration = new TestMigration(fixture, new SourceModel(10)) { Writes = 0 };
            using var target = new ScriptedEnd(fixture.Target, isSource: false);
            target.Meet(migration.Source);
            migration.Source.Receive(target.Seal(RecordType.Accept, []));
            byte[] digest = new byte[48];
            if (kind == 0)
            {
                while (migration.Source.State != MigrationState.Rest)
                {
                    migration.Source.Work();
                }

                while (migration.Source.TryTake(out MigrationFrame frame))
                {
                    target.Open(frame);
                }

                digest = target.ReceivedDigest();
            }
            else
            {
                digest = TakeAll(migration.Source, target, null, out _);
                digest = kind == 1 ? digest[..47] : [.. digest[..47], (byte)(digest[47] ^ 1)];
            }

            Assert.True(migration.Guest.IsStopped);
            migration.Source.Receive(target.Seal(RecordType.Held, digest));
            Assert.Equal(MigrationReason.Malformed, migration.Source.Reason);
            Assert.False(migration.Guest.HasGivenUp);
            Assert.False(migration.Guest.IsStopped);
        }
    }

    [Fact]
    public void Source_ProgressThatIsNone_EndsIt()
    {
        // Records that were not sent, and fewer than before.
        foreach (ulong[] numbers in (ulong[][])[[ulong.MaxValue], [11], [5, 4]])
        {
            using var migration = new TestMigration(fixture, new SourceModel(40)) { Writes = 0 };
            using var target = new ScriptedEnd(fixture.Target, isSource: false);
            target.Meet(migration.Source);
            migration.Source.Receive(target.Seal(RecordType.Accept, []));
            int sent = 1;
            while (sent < 11)
            {
                migration.Source.Work();
                sent += migration.Source.TryTake(out _) ? 1 : 0;
            }

            foreach (ulong number in numbers)
            {
                Assert.Equal(MigrationState.Copying, migration.Source.State);
                migration.Source.Receive(target.Seal(RecordType.Progress, ScriptedEnd.Number64(number)));
            }

            Assert.Equal(MigrationReason.Malformed, migration.Source.Reason);
        }
    }

    [Theory]
    [InlineData(10u, MigrationReason.Incomplete)]
    [InlineData(8u, MigrationReason.NotSuitable)]
    [InlineData(0u, MigrationReason.Malformed)]
    [InlineData(12u, MigrationReason.Malformed)]
    [InlineData(uint.MaxValue, MigrationReason.Malformed)]
    public void Source_TargetAborts_IsTheReason(uint said, MigrationReason expected)
    {
        using var migration = new TestMigration(fixture);
        using var target = new ScriptedEnd(fixture.Target, isSource: false);
        target.Meet(migration.Source);
        migration.Source.Receive(target.Seal(RecordType.TargetAbort, ScriptedEnd.Number(said)));
        Assert.Equal((MigrationState.Aborted, expected), (migration.Source.State, migration.Source.Reason));
        Assert.False(migration.Source.TryTake(out _));
    }

    [Fact]
    public void Source_TargetAbortsAfterTheHandOver_NothingGoesBack()
    {
        using var migration = new TestMigration(fixture, new SourceModel(10)) { Writes = 0 };
        using var target = new ScriptedEnd(fixture.Target, isSource: false);
        target.Meet(migration.Source);
        migration.Source.Receive(target.Seal(RecordType.Accept, []));
        migration.Source.Receive(target.Seal(RecordType.Held, TakeAll(migration.Source, target, null, out _, receive: false)));
        Assert.Equal(MigrationState.HandedOver, migration.Source.State);

        migration.Source.Receive(target.Seal(RecordType.TargetAbort, ScriptedEnd.Number(11)));
        migration.Source.Receive(target.Seal(RecordType.Accept, []));
        migration.Source.Receive(target.Seal(RecordType.Held, new byte[48]));

        Assert.Equal(MigrationState.HandedOver, migration.Source.State);
        Assert.Equal(0, migration.Guest.Resumes);
        Assert.True(migration.Guest.HasGivenUp);
        Assert.False(migration.Source.Work());
    }

    [Fact]
    public void Receive_FramesThatAreNone_EndItBeforeTheHandOverAndNotAfterIt()
    {
        MigrationFrame[] frames = [new(FrameKind.None, []), new(FrameKind.Local, [1]), new((FrameKind)77, new byte[100]), new(FrameKind.Record, []), new(FrameKind.Record, new byte[0x2_0000])];
        foreach (MigrationFrame frame in (MigrationFrame[])[.. frames, new(FrameKind.Clear, [])])
        {
            using TestMigration migration = new TestMigration(fixture, new SourceModel(10)) { SkipsProof = true }.Begin();
            migration.Run(() => migration.Source.State == MigrationState.Rest);
            migration.GiveToSource(frame);
            migration.Run();
            Assert.Equal(MigrationState.Aborted, migration.Source.State);
            Assert.False(migration.Guest.IsStopped);
            Assert.Equal(MigrationState.Aborted, migration.Target.State);
        }

        using var handedOver = new TestMigration(fixture, new SourceModel(10)) { SkipsProof = true };
        handedOver.ToTarget = frame => TestMigration.TypeOf(frame) == RecordType.Release ? [.. frames, new(FrameKind.Clear, handedOver.FromSource[0].Contents), frame] : [frame];
        handedOver.ToSource = frame => TestMigration.TypeOf(frame) == RecordType.Running ? [.. frames, new(FrameKind.Clear, handedOver.FromTarget[0].Contents), frame] : [frame];
        handedOver.RunToTheEnd();
    }

    private static (RecordType Type, string Text) Text((RecordType Type, byte[] Text) record) => (record.Type, Convert.ToHexString(record.Text));

    // Takes what a source sends before FINISH, and FINISH. Returns the digest of what it said before that.
    private static byte[] TakeAll(MigrationSource source, ScriptedEnd target, TargetModel? model, out byte[] finish, bool receive = true)
    {
        finish = [];
        byte[] digest = [];
        while (finish.Length == 0)
        {
            source.Work();
            while (source.TryTake(out MigrationFrame frame))
            {
                digest = target.ReceivedDigest();
                (RecordType type, byte[] text) = target.Open(frame);
                if (type == RecordType.Finish)
                {
                    finish = text;
                }
                else if (model is not null && receive)
                {
                    Assert.Equal(MigrationReason.None, model.Take(type, BinaryPrimitives.ReadUInt64LittleEndian(frame.Contents.AsSpan(0x10)), text));
                }
            }
        }

        return digest;
    }

    private static void SendAll(ScriptedEnd source, MigrationTarget target, SourceModel guest)
    {
        source.Meet(target);
        guest.Describe(out byte[] offer);
        target.Receive(source.Seal(RecordType.Offer, offer));
        Assert.Equal(RecordType.Accept, source.Open(ScriptedEnd.Take(target)).Type);
        guest.BeginRound(isPaced: false);
        byte[] page = new byte[4096];
        while (guest.NextPage(page, out ulong address) != PageKind.None)
        {
            target.Receive(source.Seal(RecordType.Page, page, address));
        }

        Assert.True(guest.TryStop());
        while (guest.TryNextPart(out RecordType type, out byte[] text))
        {
            target.Receive(source.Seal(type, text));
        }

        Assert.Equal(MigrationState.Copying, target.State);
    }
}
