// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// What hosts and relays may try: the table "Threats" of docs/migration-protocol.md, as far as it is the protocol's to stop. TestMigration.Check runs after each step.

using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using System.Linq;
using System.Security.Cryptography;
using Svsm.StoreKeys.Tests;
using Xunit;

namespace Svsm.Migration.Tests;

[Collection(LaunchGroup.Name)]
public sealed class ThreatTests(LaunchFixture fixture)
{
    private static readonly TimeSpan s_tooLong = TestMigration.Patience + TimeSpan.FromSeconds(1);

    [Fact]
    public void Clone_SecondTargetHearsEverything_AndGetsNothing()
    {
        using var second = new TestMigration(fixture);
        using var migration = new TestMigration(fixture);
        migration.ToTarget = frame =>
        {
            second.Target.Receive(TestMigration.Copy(frame));
            Check(migration, second);
            return [frame];
        };
        migration.RunToTheEnd();

        Assert.Equal((MigrationState.Aborted, MigrationReason.NotTrusted), (second.Target.State, second.Target.Reason));
        Assert.Equal(0, second.TargetGuest.Taken);
    }

    [Fact]
    public void Clone_SecondTargetGreetsTheSource_EndsItBeforeAnythingIsSaid()
    {
        using var second = new TestMigration(fixture);
        using var migration = new TestMigration(fixture);
        migration.ToSource = frame =>
        {
            if (!TestMigration.IsHello(frame))
            {
                return [frame];
            }

            // The second one has heard the same HELLO.
            second.Target.Receive(migration.FromSource[0]);
            return [frame, ScriptedEnd.Take(second.Target)];
        };
        migration.Begin().Run();
        migration.Pass(s_tooLong);
        second.Clock.Pass(s_tooLong);
        second.Target.CheckTime();

        Assert.NotEqual(MigrationState.Ended, migration.Target.State);
        migration.AssertAborted(MigrationReason.Malformed, MigrationReason.Silence);
        Check(migration, second);
    }

    [Fact]
    public void Clone_SecondTargetWithTheReleaseOfTheFirst_DoesNotRun()
    {
        var guest = new SourceModel(20);
        using var first = new TestMigration(fixture, guest) { SkipsProof = true };
        first.ToSource = frame => TestMigration.TypeOf(frame) == RecordType.Held ? [] : [frame];
        first.Begin().Run();
        first.ToTarget = _ => [];
        first.Pass(s_tooLong).Run();
        Assert.Equal((MigrationState.Aborted, MigrationState.HandedOver), (first.Source.State, first.Target.State));

        // The guest moves to another target; the first one holds an older copy of it, and gets all that the source says.
        guest.Write(5);
        using var second = new TestMigration(fixture, guest) { SkipsProof = true };
        second.ToTarget = frame =>
        {
            first.Target.Receive(TestMigration.Copy(frame));
            CheckOneGuest(guest, first, second);
            return [frame];
        };
        second.RunToTheEnd();

        first.Target.Receive(second.FromSource.Single(frame => TestMigration.TypeOf(frame) == RecordType.Release));
        first.Clock.Pass(TimeSpan.FromDays(1));
        first.Target.CheckTime();
        Assert.Equal(MigrationState.HandedOver, first.Target.State);
        Assert.False(first.TargetGuest.IsRunning);
        CheckOneGuest(guest, first, second);
    }

    [Fact]
    public void Clone_SourceAfterTheHandOver_NeverGoesOn()
    {
        using TestMigration migration = new TestMigration(fixture) { SkipsProof = true }.RunToTheEnd();

        migration.Source.Begin();
        Assert.False(migration.Source.TryCancel());
        Assert.False(migration.Source.Work());
        foreach (MigrationFrame frame in (MigrationFrame[])[.. migration.FromTarget, .. migration.FromSource])
        {
            migration.GiveToSource(frame);
        }

        migration.Run();
        migration.Pass(TimeSpan.FromDays(100));
        migration.AssertDone();
        Assert.Equal(0, migration.Guest.Resumes);
    }

    [Fact]
    public void Rollback_StreamIsPlayedToANewTarget_DoesNotRun()
    {
        using TestMigration recorded = new TestMigration(fixture).RunToTheEnd();
        for (int skip = 0; skip < 3; skip++)
        {
            using var migration = new TestMigration(fixture);
            foreach (MigrationFrame frame in recorded.FromSource.Skip(skip))
            {
                migration.GiveToTarget(frame);
            }

            migration.Run();
            Assert.Equal(MigrationState.Aborted, migration.Target.State);
            Assert.Equal(0, migration.TargetGuest.Taken);
        }
    }

    [Fact]
    public void Rollback_StreamIsPlayedToTheSameTarget_DoesNothing()
    {
        using TestMigration migration = new TestMigration(fixture) { SkipsProof = true }.RunToTheEnd();
        byte[] before = migration.TargetGuest.Model!.Digest();
        foreach (MigrationFrame frame in migration.FromSource.ToArray())
        {
            migration.GiveToTarget(frame);
        }

        migration.Run();
        Assert.Equal(before, migration.TargetGuest.Model!.Digest());
        migration.AssertDone();
    }

    [Fact]
    public void Fork_ReleaseHeldBack_SourceDoesNotRun()
    {
        using var migration = new TestMigration(fixture) { SkipsProof = true };
        migration.ToTarget = frame => TestMigration.TypeOf(frame) == RecordType.Release ? [] : [frame];
        migration.Begin().Run();

        migration.Pass(TimeSpan.FromDays(1000));
        Assert.False(migration.Source.TryCancel());
        Assert.False(migration.Source.Work());
        Assert.True(migration.Guest.IsStopped);
        Assert.Equal((0, MigrationState.HandedOver, MigrationState.HandedOver), (migration.Guest.Resumes, migration.Source.State, migration.Target.State));
        migration.GiveToTarget(migration.FromSource[^1]);
        migration.Run();
        migration.AssertDone();
    }

    [Fact]
    public void Fork_SourceThatIsToAbortAfterTheRelease_DoesNot()
    {
        using TestMigration migration = new TestMigration(fixture) { SkipsProof = true }.Begin();
        migration.Run(() => migration.Source.State == MigrationState.HandedOver);
        using TestMigration other = new TestMigration(fixture) { SkipsProof = true }.Begin();
        other.Run(() => other.Target.State == MigrationState.Copying);
        other.Target.TryCancel();
        other.Collect();
        MigrationFrame abort = other.FromTarget.Single(frame => TestMigration.TypeOf(frame) == RecordType.TargetAbort);
        foreach (MigrationFrame frame in (MigrationFrame[])[abort, .. migration.FromTarget, new(FrameKind.Clear, new byte[144]), new(FrameKind.None, [])])
        {
            migration.GiveToSource(frame);
        }

        migration.Pass(s_tooLong);
        Assert.False(migration.Source.TryCancel());
        migration.Run();
        migration.AssertDone();
        Assert.Equal(0, migration.Guest.Resumes);
    }

    [Theory]
    [InlineData(RecordType.Offer)]
    [InlineData(RecordType.Page)]
    [InlineData(RecordType.Zeroes)]
    [InlineData(RecordType.States)]
    [InlineData(RecordType.Module)]
    [InlineData(RecordType.Vcpu)]
    public void Record_DroppedRepeatedOrReordered_EndsTheMigration(RecordType type)
    {
        for (int kind = 0; kind < 3; kind++)
        {
            int seen = 0;
            MigrationFrame? kept = null;
            using var migration = new TestMigration(fixture) { SkipsProof = true };
            migration.ToTarget = frame =>
            {
                if (kept is MigrationFrame other)
                {
                    kept = null;
                    return [frame, other];
                }

                if (TestMigration.TypeOf(frame) != type || ++seen != 1)
                {
                    return [frame];
                }

                kept = kind == 2 ? frame : null;
                return kind == 1 ? [frame, frame] : [];
            };
            migration.Begin().Run();
            migration.Pass(s_tooLong).Run();

            // Nothing comes behind an OFFER before its answer, so nothing tells of its loss but time.
            bool isSilent = type == RecordType.Offer && kind != 1;
            migration.AssertAborted(isSilent ? MigrationReason.Silence : MigrationReason.NotAuthentic, isSilent ? migration.Target.Reason : MigrationReason.NotAuthentic);
        }
    }

    [Theory]
    [InlineData(RecordType.Accept)]
    [InlineData(RecordType.Progress)]
    public void RecordOfTheTarget_Repeated_EndsTheMigration(RecordType type)
    {
        using var migration = new TestMigration(fixture, new SourceModel(2500)) { SkipsProof = true, Writes = 0 };
        migration.ToSource = frame => TestMigration.TypeOf(frame) == type ? [frame, frame] : [frame];
        migration.Begin().Run();
        migration.AssertAborted(MigrationReason.NotAuthentic, MigrationReason.NotAuthentic);
    }

    [Fact]
    public void HandOver_FramesRepeatedAndTurnedAround_EndWell()
    {
        // What is repeated does no harm when it is handed over already.
        using var migration = new TestMigration(fixture) { SkipsProof = true };
        migration.ToSource = frame => TestMigration.TypeOf(frame) is RecordType.Held or RecordType.Running ? [frame, frame] : [frame];
        migration.ToTarget = frame => TestMigration.TypeOf(frame) == RecordType.Release ? [migration.FromSource[0], migration.FromSource[^2], frame, frame] : [frame];
        migration.RunToTheEnd();
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Delay_BeyondTheLimit_GuestGoesOn_AndLateFramesDoNothing(bool isOfTarget)
    {
        using TestMigration migration = new TestMigration(fixture) { SkipsProof = true }.Begin();
        migration.Run(() => migration.Source.State == MigrationState.Rest);
        migration.HoldsToSource = isOfTarget;
        migration.HoldsToTarget = !isOfTarget;
        while (migration.Step())
        {
        }

        migration.Pass(s_tooLong);
        migration.HoldsToSource = migration.HoldsToTarget = false;
        migration.Run();
        migration.AssertAborted(MigrationReason.Silence, MigrationReason.Silence);
    }

    [Theory]
    [InlineData(RecordType.Page)]
    [InlineData(RecordType.Vcpu)]
    [InlineData(RecordType.Finish)]
    public void Truncate_EndOfTheStream_NothingRuns(RecordType last)
    {
        // Everything behind the last record of that type but one is lost; FINISH and RELEASE of another migration come instead.
        using TestMigration other = new TestMigration(fixture) { SkipsProof = true }.RunToTheEnd();
        bool isCut = false;
        using var migration = new TestMigration(fixture) { SkipsProof = true };
        migration.ToTarget = frame =>
        {
            if (!isCut && TestMigration.TypeOf(frame) == last)
            {
                isCut = true;
                return other.FromSource.Where(frame => TestMigration.TypeOf(frame) is RecordType.Finish or RecordType.Release);
            }

            return isCut && TestMigration.TypeOf(frame) != RecordType.SourceAbort ? [] : [frame];
        };
        migration.Begin().Run();
        migration.Pass(s_tooLong).Run();
        migration.AssertAborted(MigrationReason.NotAuthentic, MigrationReason.NotAuthentic);
    }

    [Fact]
    public void Truncate_FinishAfterAGap_NothingRuns()
    {
        using var migration = new TestMigration(fixture) { SkipsProof = true };
        migration.ToTarget = frame => TestMigration.TypeOf(frame) == RecordType.Vcpu ? [] : [frame];
        migration.Begin().Run();
        migration.AssertAborted(MigrationReason.NotAuthentic, MigrationReason.NotAuthentic);
    }

    [Fact]
    public void Replay_HelloOrEvidenceOfAnotherMigration_IsNotTrusted()
    {
        using TestMigration old = new TestMigration(fixture).RunToTheEnd();
        foreach (bool isHello in (bool[])[true, false])
        {
            foreach (bool isOfSource in (bool[])[true, false])
            {
                MigrationFrame played = (isOfSource ? old.FromSource : old.FromTarget)[isHello ? 0 : 1];
                using var migration = new TestMigration(fixture);
                IEnumerable<MigrationFrame> Play(MigrationFrame frame) => (isHello ? TestMigration.IsHello(frame) : TestMigration.IsEvidence(frame)) ? [played] : [frame];
                migration.ToTarget = isOfSource ? Play : migration.ToTarget;
                migration.ToSource = isOfSource ? migration.ToSource : Play;
                migration.Begin().Run();
                migration.Pass(s_tooLong).Run();

                Assert.Equal((MigrationState.Aborted, MigrationState.Aborted), (migration.Source.State, migration.Target.State));
                Assert.Contains(MigrationReason.NotTrusted, (MigrationReason[])[migration.Source.Reason, migration.Target.Reason]);
                Assert.DoesNotContain("Offer", migration.Events.Where(_ => isOfSource || isHello));
                Assert.Equal(0, migration.TargetGuest.Taken);
            }
        }
    }

    [Theory]
    [InlineData(RecordType.Offer, true)]
    [InlineData(RecordType.Page, true)]
    [InlineData(RecordType.Finish, true)]
    [InlineData(RecordType.Accept, false)]
    [InlineData(RecordType.Held, false)]
    public void Splice_RecordsOfTwoMigrations_EndBoth(RecordType type, bool isOfSource)
    {
        using var one = new TestMigration(fixture, new SourceModel(20, seed: 1)) { SkipsProof = true, Writes = 0 };
        using var two = new TestMigration(fixture, new SourceModel(20, seed: 1)) { SkipsProof = true, Writes = 0 };
        bool isDone = false;

        // From the first record of that type on, each goes to the other migration.
        IEnumerable<MigrationFrame> Cross(TestMigration other, MigrationFrame frame)
        {
            isDone |= TestMigration.TypeOf(frame) == type;
            if (!isDone)
            {
                return [frame];
            }

            (isOfSource ? (Action<MigrationFrame>)other.GiveToTarget : other.GiveToSource)(frame);
            return [];
        }

        if (isOfSource)
        {
            (one.ToTarget, two.ToTarget) = (frame => Cross(two, frame), frame => Cross(one, frame));
        }
        else
        {
            (one.ToSource, two.ToSource) = (frame => Cross(two, frame), frame => Cross(one, frame));
        }

        one.Begin();
        two.Begin();
        while (one.Step() | two.Step())
        {
        }

        Assert.True(isDone);
        foreach (TestMigration migration in (TestMigration[])[one, two])
        {
            migration.Pass(s_tooLong);
        }

        while (one.Step() | two.Step())
        {
        }

        foreach (TestMigration migration in (TestMigration[])[one, two])
        {
            Assert.False(migration.TargetGuest.IsRunning);
            Assert.False(migration.Guest.HasGivenUp);
            Assert.Equal(MigrationState.Aborted, migration.Source.State);
            Assert.False(migration.Guest.IsStopped);
        }
    }

    [Fact]
    public void Splice_ReleaseOfAnotherMigration_DoesNotRelease()
    {
        using var one = new TestMigration(fixture) { SkipsProof = true };
        using var two = new TestMigration(fixture) { SkipsProof = true };
        one.ToTarget = frame => TestMigration.TypeOf(frame) == RecordType.Release ? [] : [frame];
        two.ToTarget = one.ToTarget;
        one.Begin().Run();
        two.Begin().Run();
        one.GiveToTarget(two.FromSource[^1]);
        two.GiveToTarget(one.FromSource[^1]);
        one.Run();
        two.Run();
        Assert.False(one.TargetGuest.IsRunning || two.TargetGuest.IsRunning);

        one.GiveToTarget(one.FromSource[^1]);
        one.Run();
        one.AssertDone();
    }

    [Theory]
    [InlineData(RecordType.Page)]
    [InlineData(RecordType.Zeroes)]
    [InlineData(RecordType.Finish)]
    [InlineData(RecordType.Vcpu)]
    public void Change_AnyByteOfAHead_EndsTheMigration(RecordType type)
    {
        foreach (int offset in (int[])[0, 4, 5, 6, 8, 15, 16, 17, 18, 23, 24, -1])
        {
            bool isDone = false;
            using var migration = new TestMigration(fixture, new SourceModel(8)) { SkipsProof = true };
            migration.ToTarget = frame =>
            {
                if (!isDone && TestMigration.TypeOf(frame) == type)
                {
                    isDone = true;
                    frame.Contents[offset < 0 ? ^1 : offset] ^= 0x10;
                }

                return [frame];
            };
            migration.Begin().Run();
            Assert.True(isDone);
            migration.AssertAborted(MigrationReason.NotAuthentic, MigrationReason.NotAuthentic);
        }
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Change_AnyByteOfHelloOrEvidence_EndsTheMigration(bool isOfSource)
    {
        // HELLO: each kind of byte; EVIDENCE: report, certificates, what fills the table up.
        foreach ((bool isHello, int offset) in ((bool, int)[])[(true, 0), (true, 8), (true, 12), (true, 16), (true, 47), (true, 48), (true, 143), (false, 0), (false, 4), (false, 8), (false, 0x58),
            (false, 0x2B0), (false, 0x4A8), (false, 0x4BC), (false, 0x800), (false, -1)])
        {
            using var migration = new TestMigration(fixture, new SourceModel(8));
            IEnumerable<MigrationFrame> Change(MigrationFrame frame)
            {
                if (isHello ? TestMigration.IsHello(frame) : TestMigration.IsEvidence(frame))
                {
                    frame.Contents[offset < 0 ? ^1 : offset] ^= 1;
                }

                return [frame];
            }

            migration.ToTarget = isOfSource ? Change : migration.ToTarget;
            migration.ToSource = isOfSource ? migration.ToSource : Change;
            migration.Begin().Run();
            migration.Pass(s_tooLong).Run();
            Assert.Equal((MigrationState.Aborted, MigrationState.Aborted), (migration.Source.State, migration.Target.State));
            Assert.False(migration.Guest.IsStopped);
            Assert.Equal(0, migration.TargetGuest.Taken);
        }
    }

    [Theory]
    [InlineData(true, 0)]
    [InlineData(true, 2)]
    [InlineData(false, 0)]
    [InlineData(false, 2)]
    public void Downgrade_VersionChanged_EndsTheMigration(bool isOfSource, byte version)
    {
        using var migration = new TestMigration(fixture);
        IEnumerable<MigrationFrame> Change(MigrationFrame frame)
        {
            frame.Contents[12] = TestMigration.IsHello(frame) ? version : frame.Contents[12];
            return [frame];
        }

        migration.ToTarget = isOfSource ? Change : migration.ToTarget;
        migration.ToSource = isOfSource ? migration.ToSource : Change;
        migration.Begin().Run();
        migration.Pass(s_tooLong);

        // A target speaks its version with a later source: then the reports tell.
        MigrationReason expected = isOfSource && version == 2 ? MigrationReason.NotTrusted : MigrationReason.VersionUnknown;
        migration.AssertAborted(isOfSource ? MigrationReason.Silence : expected, isOfSource ? expected : MigrationReason.Silence);
    }

    [Fact]
    public void Between_WhoeverSpeaksWithKeysOfItsOwn_IsNotTrusted()
    {
        // Its HELLOs with its keys; the reports are those of the ends.
        foreach ((bool toTarget, bool toSource) in ((bool, bool)[])[(true, true), (true, false), (false, true)])
        {
            using var asSource = new ScriptedEnd(fixture.Source, isSource: true);
            using var asTarget = new ScriptedEnd(fixture.Target, isSource: false);
            using var migration = new TestMigration(fixture);
            migration.ToTarget = frame => [toTarget && TestMigration.IsHello(frame) ? new(FrameKind.Clear, asSource.Hello) : frame];
            migration.ToSource = frame => [toSource && TestMigration.IsHello(frame) ? new(FrameKind.Clear, asTarget.Hello) : frame];
            migration.Begin().Run();
            migration.Pass(s_tooLong);
            migration.AssertAborted(MigrationReason.Silence, MigrationReason.NotTrusted);
        }
    }

    [Fact]
    public void Between_ReflectedFrames_EndTheMigration()
    {
        using var source = new TestMigration(fixture);
        source.ToTarget = frame =>
        {
            source.GiveToSource(frame);
            return [];
        };
        source.Begin().Run();
        source.Pass(s_tooLong);
        Assert.Equal((MigrationState.Aborted, MigrationReason.Malformed), (source.Source.State, source.Source.Reason));
        Assert.Equal((MigrationState.Greeting, false), (source.Target.State, source.TargetGuest.IsRunning));

        // The source's own records come back to it.
        using var records = new TestMigration(fixture);
        records.ToTarget = frame =>
        {
            if (TestMigration.TypeOf(frame) == RecordType.Offer)
            {
                records.GiveToSource(frame);
            }

            return [frame];
        };
        records.Begin().Run();
        records.AssertAborted(MigrationReason.NotAuthentic, MigrationReason.NotAuthentic);
    }

    [Theory]
    [InlineData("author")]
    [InlineData("no author")]
    [InlineData("family")]
    [InlineData("old")]
    [InlineData("debug")]
    [InlineData("agent")]
    [InlineData("chip")]
    [InlineData("tcb")]
    public void WrongEnd_TheOtherOneSaysNo(string kind)
    {
        using TestLaunch launch = kind switch
        {
            "author" => fixture.New(author: 6),
            "no author" => fixture.New(author: null),
            "family" => fixture.New(family: 1),
            "old" => fixture.New(svn: LaunchFixture.Svn - 1),
            "debug" => fixture.New(policy: 0xB_0000),
            "agent" => fixture.New(policy: 0x7_0000),
            "chip" => fixture.New(chip: fixture.OtherChip),
            _ => fixture.New(),
        };
        MigrationPolicy strict = kind == "tcb" ? fixture.Policy(tcb: 0xDB18_0000_0000_0005) : fixture.Policy();

        // Wrong target: it believes the source, or nothing would be shown to that.
        MigrationPolicy any = fixture.Policy();
        using (var wrongTarget = new TestMigration(fixture, targetLaunch: launch, sourcePolicy: strict, targetPolicy: any))
        {
            wrongTarget.Begin().Run();
            wrongTarget.Pass(s_tooLong).Run();

            // A VM with another POLICY does not want the guest of this one in any case.
            bool isOtherVm = kind is "debug" or "agent";
            wrongTarget.AssertAborted(isOtherVm ? MigrationReason.Silence : MigrationReason.NotTrusted, isOtherVm ? MigrationReason.NotThisGuest : MigrationReason.Silence);
            Assert.DoesNotContain("Offer", wrongTarget.Events);
        }

        using (var wrongSource = new TestMigration(fixture, sourceLaunch: launch, sourcePolicy: any, targetPolicy: strict))
        {
            wrongSource.Begin().Run();
            wrongSource.Pass(s_tooLong);
            wrongSource.AssertAborted(MigrationReason.Silence, MigrationReason.NotTrusted);

            // It shows nothing of itself to who is not trusted.
            Assert.Single(wrongSource.FromTarget);
        }
    }

    [Fact]
    public void WrongGuest_OtherHostData_IsRefusedByBoth()
    {
        using TestLaunch launch = fixture.New(hostData: SHA256.HashData("vm 2"u8));
        using (var migration = new TestMigration(fixture, sourceLaunch: launch))
        {
            migration.Begin().Run();
            migration.Pass(s_tooLong);
            migration.AssertAborted(MigrationReason.Silence, MigrationReason.NotThisGuest);
        }

        using var toWrong = new TestMigration(fixture);
        using var target = new ScriptedEnd(launch, isSource: false);
        toWrong.Source.Begin();
        byte[] evidence = target.Evidence(ScriptedEnd.Take(toWrong.Source).Contents);
        toWrong.Source.Receive(new(FrameKind.Clear, target.Hello));
        toWrong.Source.Receive(new(FrameKind.Clear, evidence));
        Assert.Equal(MigrationReason.NotThisGuest, toWrong.Source.Reason);
    }

    [Fact]
    public void Inject_PagesOfTheHost_AreNotWritten()
    {
        using var migration = new TestMigration(fixture, new SourceModel(8)) { SkipsProof = true, Writes = 0 };
        int taken = 0;
        migration.ToTarget = frame =>
        {
            if (TestMigration.TypeOf(frame) != RecordType.Finish)
            {
                return [frame];
            }

            // The next number, a page, a key of the host's.
            taken = migration.TargetGuest.Taken;
            int number = (int)BinaryPrimitives.ReadUInt64LittleEndian(frame.Contents.AsSpan(8));
            return [new(FrameKind.Record, new OtherCipher(new byte[48]).At(number).Seal(RecordType.Page, GuestModel.First, new byte[4096]))];
        };
        migration.Begin().Run();
        migration.AssertAborted(MigrationReason.NotAuthentic, MigrationReason.NotAuthentic);
        Assert.True(migration.TargetGuest.Types[RecordType.Vcpu] == 2 && migration.TargetGuest.Taken >= taken);
    }

    [Fact]
    public void KeepStopped_GuestGoesOnAfterTheLimit()
    {
        using TestMigration migration = new TestMigration(fixture) { SkipsProof = true }.Begin();
        migration.Run(() => migration.Source.State == MigrationState.Rest);
        migration.HoldsToTarget = migration.HoldsToSource = true;
        Assert.True(migration.Guest.IsStopped);
        byte[] before = migration.Guest.Model.Digest();
        migration.Pass(s_tooLong);

        Assert.False(migration.Guest.IsStopped);
        Assert.Equal(before, migration.Guest.Model.Digest());
        Assert.Equal(before, migration.Guest.DigestAtStop);
    }

    private static void Check(TestMigration one, TestMigration other)
    {
        one.Check();
        other.Check();
    }

    private static void CheckOneGuest(SourceModel guest, params TestMigration[] migrations) => TestMigration.Check(
        guest, [.. migrations.Select(migration => (migration.Source.State, false))], [.. migrations.Select(migration => (migration.Target.State, migration.TargetGuest))]);
}
