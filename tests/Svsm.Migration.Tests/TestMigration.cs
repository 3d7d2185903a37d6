// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Two ends with model guests, the clock, and the relay between them, one step after the other; after each step, what must always hold is checked (Check).
//
// The relay of a test is two functions: what comes out for a frame that goes in. They may give none, several, or others.

extern alias simulator;

using System;
using System.Collections.Generic;
using System.Linq;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using simulator::Svsm.Simulator;
using Svsm.StoreKeys.Tests;
using Xunit;

namespace Svsm.Migration.Tests;

/// <summary>A clock that a test sets.</summary>
internal sealed class TestClock : TimeProvider
{
    private long _now = TimeSpan.TicksPerDay;

    public override long TimestampFrequency => TimeSpan.TicksPerSecond;

    public override long GetTimestamp() => _now;

    public void Pass(TimeSpan time) => _now += time.Ticks;
}

/// <summary>The launches that most tests share: an image of one author on one chip, twice, and what may be wrong with one.</summary>
public sealed class LaunchFixture : IDisposable
{
    private readonly ChipFixture _chips = new();
    private readonly Dictionary<string, TestLaunch> _launches = [];
    private readonly Dictionary<byte, byte[]> _authors = [];

    internal const byte Author = 5;
    internal const byte Family = 0xFA;
    internal const uint Svn = 3;

    internal SimulatedChip Chip => _chips.Chip;

    internal SimulatedChip OtherChip => _chips.Other;

    internal TestLaunch Source => Get("source", () => New());

    internal TestLaunch Target => Get("target", () => New());

    internal TestLaunch New(byte? author = Author, byte family = Family, uint svn = Svn, ulong policy = 0x3_0000, byte[]? hostData = null, SimulatedChip? chip = null, int version = 2)
    {
        chip ??= Chip;
        var launch = new TestLaunch(chip, policy: policy, author: author, svn: svn, family: family, hostData: hostData, reportVersion: version);
        launch.Kernel.HostCertificates = CertificateTable.Make(chip);
        return launch;
    }

    internal MigrationPolicy Policy(byte? author = null, byte? family = null, uint? svn = null, ulong tcb = 0, SimulatedChip? chip = null)
    {
        using X509Certificate2 ark = X509CertificateLoader.LoadCertificate((chip ?? Chip).Ark.Span);
        byte[] key = AuthorDigest(author ?? Author);
        byte[] rule = [.. Enumerable.Repeat(family ?? Family, 16)];
        return MigrationPolicy.TryRead(MigrationPolicy.Make(SHA384.HashData(ark.PublicKey.ExportSubjectPublicKeyInfo()), tcb, [new(key, rule, svn ?? Svn)]))!;
    }

    // As reports of the launches have it.
    private byte[] AuthorDigest(byte author)
    {
        if (_authors.TryGetValue(author, out byte[]? digest))
        {
            return digest;
        }

        using TestLaunch launch = New(author);
        Assert.Equal(Core.AttestingResult.Done, launch.Peer.GetReport(new byte[48], out byte[] report, out _));
        return _authors[author] = report[0x110..0x140];
    }

    public void Dispose()
    {
        foreach (TestLaunch launch in _launches.Values)
        {
            launch.Dispose();
        }

        _chips.Dispose();
    }

    private TestLaunch Get(string name, Func<TestLaunch> make)
    {
        if (!_launches.TryGetValue(name, out TestLaunch? launch))
        {
            launch = make();
            _launches[name] = launch;
        }

        return launch;
    }
}

[CollectionDefinition(Name)]
public sealed class LaunchGroup : ICollectionFixture<LaunchFixture>
{
    public const string Name = "launches";
}

/// <summary>A migration, or what becomes of it.</summary>
internal sealed class TestMigration : IDisposable
{
    public static readonly TimeSpan Patience = TimeSpan.FromSeconds(30);

    private readonly Queue<MigrationFrame> _toTarget = new();
    private readonly Queue<MigrationFrame> _toSource = new();

    public TestMigration(
        LaunchFixture fixture, SourceModel? guest = null, TargetModel? target = null, TestLaunch? sourceLaunch = null, TestLaunch? targetLaunch = null, MigrationPolicy? sourcePolicy = null,
        MigrationPolicy? targetPolicy = null)
    {
        Guest = guest ?? new SourceModel(40);
        TargetGuest = target ?? new TargetModel();
        MigrationPolicy? policy = sourcePolicy is null || targetPolicy is null ? fixture.Policy() : null;
        Source = new MigrationSource(Guest, (sourceLaunch ?? fixture.Source).Peer, sourcePolicy ?? policy!, Clock, Patience);
        Target = new MigrationTarget(TargetGuest, (targetLaunch ?? fixture.Target).Peer, targetPolicy ?? policy!, Clock, Patience);
        Guest.OnGiveUp = () =>
        {
            Events.Add("give up");

            // Nothing that the relay could have is a RELEASE.
            while (Source.TryTake(out MigrationFrame frame))
            {
                Assert.NotEqual(RecordType.Release, TypeOf(frame));
                Leave(frame, isOfSource: true);
            }
        };
        TargetGuest.OnRun = () => Events.Add("run");
    }

    public TestClock Clock { get; } = new();

    public SourceModel Guest { get; }

    public TargetModel TargetGuest { get; }

    public MigrationSource Source { get; }

    public MigrationTarget Target { get; }

    /// <summary>What was sent, and what was done with the guest, in that order.</summary>
    public List<string> Events { get; } = [];

    /// <summary>All that the ends gave to the relay.</summary>
    public List<MigrationFrame> FromSource { get; } = [];

    public List<MigrationFrame> FromTarget { get; } = [];

    /// <summary>What the relay makes of a frame.</summary>
    public Func<MigrationFrame, IEnumerable<MigrationFrame>> ToTarget { get; set; } = frame => [frame];

    public Func<MigrationFrame, IEnumerable<MigrationFrame>> ToSource { get; set; } = frame => [frame];

    /// <summary>Begins behind the proof: curves take most of the time.</summary>
    public bool SkipsProof { get; init; }

    /// <summary>Pages that the guest writes between two slices of work.</summary>
    public int Writes { get; set; } = 1;

    public bool IsSourceOff { get; set; }

    public bool IsTargetOff { get; set; }

    /// <summary>Frames stay with the relay.</summary>
    public bool HoldsToTarget { get; set; }

    public bool HoldsToSource { get; set; }

    public bool IsWhole => Target.State == MigrationState.Ended && TargetGuest.IsRunning && TargetGuest.Model!.Digest().AsSpan().SequenceEqual(Guest.DigestAtStop);

    public static RecordType TypeOf(MigrationFrame frame) => frame.Kind == FrameKind.Record && frame.Contents.Length > 4 ? (RecordType)frame.Contents[4] : RecordType.None;

    public static bool IsEvidence(MigrationFrame frame) => frame.Kind == FrameKind.Clear && frame.Contents.Length > 0x4A0;

    public static bool IsHello(MigrationFrame frame) => frame.Kind == FrameKind.Clear && !IsEvidence(frame);

    public static MigrationFrame Copy(MigrationFrame frame) => frame with { Contents = [.. frame.Contents] };

    /// <summary>Puts a frame of the relay's own on its way.</summary>
    public void GiveToTarget(MigrationFrame frame) => _toTarget.Enqueue(Copy(frame));

    public void GiveToSource(MigrationFrame frame) => _toSource.Enqueue(Copy(frame));

    public TestMigration Begin()
    {
        if (SkipsProof && Source.State == MigrationState.Idle)
        {
            byte[] secrets = RandomNumberGenerator.GetBytes(96);
            Target.Trust(secrets[..48], secrets[48..]);
            Source.Trust(secrets[..48], secrets[48..]);
        }
        else
        {
            Source.Begin();
        }

        Collect();
        Check();
        return this;
    }

    /// <summary>A frame arrives, or the source works.</summary>
    /// <returns>False: nothing goes on.</returns>
    public bool Step()
    {
        if (!HoldsToTarget && _toTarget.TryDequeue(out MigrationFrame frame))
        {
            if (!IsTargetOff)
            {
                Target.Receive(frame);
            }
        }
        else if (!HoldsToSource && _toSource.TryDequeue(out frame))
        {
            if (!IsSourceOff)
            {
                Source.Receive(frame);
            }
        }
        else if (IsSourceOff)
        {
            return false;
        }
        else
        {
            // The last record goes with the word that there is nothing more to do.
            Guest.Write(Writes);
            int count = FromSource.Count;
            bool works = Source.Work();
            Collect();
            Check();
            return works || FromSource.Count != count;
        }

        Collect();
        Check();
        return true;
    }

    /// <summary>Goes on until nothing does, or until something is so.</summary>
    public TestMigration Run(Func<bool>? until = null)
    {
        while (until?.Invoke() != true && Step())
        {
        }

        Assert.True(until?.Invoke() != false, $"source {Source.State} {Source.Reason}, target {Target.State} {Target.Reason}: {Source.Detail} {Target.Detail}");
        return this;
    }

    public TestMigration RunToTheEnd()
    {
        Begin().Run();
        AssertDone();
        return this;
    }

    public void AssertDone()
    {
        Assert.Equal(
            (MigrationState.Ended, MigrationState.Ended, MigrationReason.None, MigrationReason.None, ""),
            (Source.State, Target.State, Source.Reason, Target.Reason, Source.Detail + Target.Detail));
        Assert.True(IsWhole);
        Assert.True(Guest.HasGivenUp);
    }

    /// <summary>Time passes, and both look at the clock.</summary>
    public TestMigration Pass(TimeSpan time)
    {
        Clock.Pass(time);
        CheckTime();
        return this;
    }

    public void CheckTime()
    {
        if (!IsSourceOff)
        {
            Source.CheckTime();
        }

        if (!IsTargetOff)
        {
            Target.CheckTime();
        }

        Collect();
        Check();
    }

    public void Repeat()
    {
        if (!IsSourceOff)
        {
            Source.Repeat();
        }

        if (!IsTargetOff)
        {
            Target.Repeat();
        }

        Collect();
        Check();
    }

    /// <summary>It ended before anything was handed over: the guest goes on at the source, and there is nothing at the target.</summary>
    public void AssertAborted(MigrationReason source, MigrationReason target)
    {
        Assert.Equal((MigrationState.Aborted, MigrationState.Aborted), (Source.State, Target.State));
        Assert.Equal((source, target), (Source.Reason, Target.Reason));
        Assert.False(Guest.HasGivenUp);
        Assert.False(Guest.IsStopped);
        Assert.False(TargetGuest.IsRunning);
        Assert.True(TargetGuest.IsCleared);
        byte[] before = Guest.Model.Digest();
        Guest.Write(1);
        Assert.NotEqual(before, Guest.Model.Digest());
    }

    /// <summary>What must hold at any time.</summary>
    public void Check() => Check(Guest, [(Source.State, false)], [(Target.State, TargetGuest)]);

    /// <summary>What must hold at any time, of one guest, the sources that had it, and all targets that could get it.</summary>
    public static void Check(SourceModel guest, (MigrationState State, bool IsOver)[] sources, (MigrationState State, TargetModel Guest)[] targets)
    {
        Assert.True(targets.Count(target => target.Guest.IsRunning) <= 1, "two targets run");
        foreach ((MigrationState state, TargetModel target) in targets)
        {
            Assert.Equal(state == MigrationState.Ended, target.IsRunning);
            Assert.False(target.IsRunning && !guest.HasGivenUp, "source and target can run");
            Assert.False(target.IsRunning && !target.Model!.Digest().AsSpan().SequenceEqual(guest.DigestAtStop), "the target runs something else");
            Assert.False(state == MigrationState.Aborted && !target.IsCleared, "a target that aborted has something of the guest");
        }

        // A source that has given up never says that it has not, and the other way round.
        Assert.Equal(guest.HasGivenUp, sources.Any(source => source.State is MigrationState.HandedOver or MigrationState.Ended));
        Assert.False(guest.HasGivenUp && !guest.IsStopped, "a guest that was given up runs");
        Assert.False(
            guest.IsStopped && !guest.HasGivenUp && !sources.Any(source => source.State == MigrationState.Rest && !source.IsOver), "a guest is stopped, and nobody will let it go on");
    }

    /// <summary>The relay gets what the ends have.</summary>
    public void Collect()
    {
        while (!IsSourceOff && Source.TryTake(out MigrationFrame frame))
        {
            Leave(frame, isOfSource: true);
        }

        while (!IsTargetOff && Target.TryTake(out MigrationFrame frame))
        {
            Leave(frame, isOfSource: false);
        }
    }

    public void Dispose()
    {
        Source.Dispose();
        Target.Dispose();
    }

    private void Leave(MigrationFrame frame, bool isOfSource)
    {
        Assert.True(frame.Contents.Length <= MigrationFormat.MaxContents);
        (isOfSource ? FromSource : FromTarget).Add(Copy(frame));
        if (TypeOf(frame) is var type and not (RecordType.Page or RecordType.None))
        {
            Events.Add($"{type}");
        }

        foreach (MigrationFrame given in (isOfSource ? ToTarget : ToSource)(Copy(frame)))
        {
            (isOfSource ? _toTarget : _toSource).Enqueue(Copy(given));
        }
    }
}
