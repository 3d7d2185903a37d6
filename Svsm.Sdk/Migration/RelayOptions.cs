// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// What a relay is told, what it tells while it works, and what it tells at the end.

using System;
using System.Threading;
using Svsm.Diagnostics;

namespace Svsm.Migration.Relay;

/// <summary>What both relays are told.</summary>
public record RelayOptions
{
    /// <summary>Path of the Unix socket on which the machine listens.</summary>
    public required string Machine { get; init; }

    /// <summary>For how long a broken connection to the other relay is tried again.</summary>
    public TimeSpan Retry { get; init; } = TimeSpan.FromSeconds(60);

    /// <summary>Gets a line for what people should know. Called from any thread, never by two at once.</summary>
    public Action<string> Log { get; init; } = _ => { };

    /// <summary>Gets how far it is, whenever an SVSM says so. Called from any thread, never by two at once.</summary>
    public Action<RelayProgress> Progress { get; init; } = _ => { };

    /// <summary>Wishes to cancel: the SVSM decides.</summary>
    public CancellationToken Cancel { get; init; }

    /// <summary>Ends the relay, whatever becomes of the migration.</summary>
    public CancellationToken End { get; init; }

    internal TimeProvider Time { get; init; } = TimeProvider.System;

    internal RelayLimits Limits { get; init; } = new();
}

/// <summary>What the sending relay is told.</summary>
public sealed record SendOptions : RelayOptions
{
    /// <summary>Name or address of the other relay's host.</summary>
    public required string Host { get; init; }

    /// <summary>Its TCP port.</summary>
    public required int Port { get; init; }

    /// <summary>
    /// Where the release goes: a file that is not there yet. Without it: <c>migration-</c>, the session's number, <c>.release</c> in the current folder.
    /// </summary>
    public string? ReleaseFile { get; init; }
}

/// <summary>What the receiving relay is told. Either of the two is there.</summary>
public sealed record ReceiveOptions : RelayOptions
{
    /// <summary>Where to listen, or null.</summary>
    public System.Net.IPEndPoint? Listen { get; init; }

    /// <summary>Called with the address, when it listens.</summary>
    public Action<System.Net.IPEndPoint> Listening { get; init; } = _ => { };

    /// <summary>The file of a release that is brought to the target, or null.</summary>
    public string? ReleaseFile { get; init; }
}

/// <summary>Limits of relays. Tests have others.</summary>
internal sealed record RelayLimits
{
    /// <summary>Bytes of frames that the other relay has not acknowledged; behind them nothing is read from the machine.</summary>
    public int Unacknowledged { get; init; } = 8 << 20;

    /// <summary>Bytes of the hypervisor's state.</summary>
    public int State { get; init; } = 64 << 20;

    /// <summary>Frames that came and wait for the machine.</summary>
    public int Incoming { get; init; } = 64;

    /// <summary>Acknowledged at the latest after so many frames, and after so long.</summary>
    public int AcknowledgeEvery { get; init; } = 64;

    public TimeSpan AcknowledgeAfter { get; init; } = TimeSpan.FromMilliseconds(100);

    /// <summary>An end of a connection says something at least so often.</summary>
    public TimeSpan Beat { get; init; } = TimeSpan.FromSeconds(5);

    /// <summary>A connection that is silent for so long is broken.</summary>
    public TimeSpan Silence { get; init; } = TimeSpan.FromSeconds(20);

    /// <summary>Connecting, and the preamble.</summary>
    public TimeSpan Handshake { get; init; } = TimeSpan.FromSeconds(10);

    /// <summary>Between two tries to connect.</summary>
    public TimeSpan Pause { get; init; } = TimeSpan.FromMilliseconds(250);

    /// <summary>The machine takes a frame in this time.</summary>
    public TimeSpan MachineWrite { get; init; } = TimeSpan.FromSeconds(60);

    /// <summary>The machine gives, or takes, the hypervisor's state in this time.</summary>
    public TimeSpan MachineState { get; init; } = TimeSpan.FromSeconds(60);

    /// <summary>The SVSM says something when it is asked to begin.</summary>
    public TimeSpan Begin { get; init; } = TimeSpan.FromSeconds(30);

    /// <summary>The SVSM says what became of a wish.</summary>
    public TimeSpan Answer { get; init; } = TimeSpan.FromSeconds(10);

    /// <summary>A target that has its release runs in this time.</summary>
    public TimeSpan Run { get; init; } = TimeSpan.FromSeconds(60);

    /// <summary>At the end, for the acknowledgement of what has gone.</summary>
    public TimeSpan Close { get; init; } = TimeSpan.FromSeconds(2);
}

/// <summary>How far a migration is, as the relay knows it. All of it is said by SVSMs in the clear.</summary>
/// <param name="Source">State of the source.</param>
/// <param name="Target">State of the target.</param>
/// <param name="Pages">Pages that were sent; one that was sent twice counts twice.</param>
/// <param name="PagesLeft">Pages that are left now.</param>
/// <param name="Round">Number of the round, from 1.</param>
/// <param name="PagesPerSecond">How fast pages go.</param>
/// <param name="DirtiedPerSecond">How fast the guest writes pages again.</param>
/// <param name="BytesPerSecond">How fast bytes go to the target's side.</param>
/// <param name="Downtime">How long the guest would rest if it was stopped now; null: not to be told.</param>
public sealed record RelayProgress(
    MigrationState Source,
    MigrationState Target,
    ulong Pages,
    ulong PagesLeft,
    uint Round,
    double PagesPerSecond,
    double DirtiedPerSecond,
    double BytesPerSecond,
    TimeSpan? Downtime);

/// <summary>How it ended, as far as the relay knows.</summary>
public enum RelayEnding
{
    /// <summary>The guest runs at the target.</summary>
    Running,

    /// <summary>The source has not given up: the guest is there.</summary>
    Aborted,

    /// <summary>The source has given up, or may have, and the target was not seen running.</summary>
    Unreleased,
}

/// <summary>What became of a migration.</summary>
public sealed record RelayOutcome
{
    /// <summary>How it ended.</summary>
    public required RelayEnding Ending { get; init; }

    /// <summary>Last known state of the source. <see cref="MigrationState.Idle"/>: nothing was heard.</summary>
    public required MigrationState Source { get; init; }

    /// <summary>Last known state of the target. <see cref="MigrationState.Idle"/>: nothing was heard.</summary>
    public required MigrationState Target { get; init; }

    /// <summary>Why it was aborted: of the end that has found it, as far as is known.</summary>
    public required MigrationReason Reason { get; init; }

    /// <summary>What the relay itself has found wrong, or null.</summary>
    public SvsmDiagnosticException? Failure { get; init; }

    /// <summary>Last words of the other relay, if it has ended early; otherwise empty. Printable.</summary>
    public string PeerWords { get; init; } = "";

    /// <summary>Pages that were sent.</summary>
    public required ulong Pages { get; init; }

    /// <summary>Rounds over the guest's memory.</summary>
    public required uint Rounds { get; init; }

    /// <summary>Bytes of frames to the other relay. What went twice counts once.</summary>
    public required long BytesSent { get; init; }

    /// <summary>Bytes of frames from the other relay.</summary>
    public required long BytesReceived { get; init; }

    /// <summary>From the beginning to the end.</summary>
    public required TimeSpan Elapsed { get; init; }

    /// <summary>From the rest of the source to the run of the target, as the relay has seen them; null: it has not seen both.</summary>
    public TimeSpan? Downtime { get; init; }

    /// <summary>Connections to the other relay behind the first one.</summary>
    public required int Reconnections { get; init; }

    /// <summary>The file with the release, or null: there is none.</summary>
    public string? ReleaseFile { get; init; }
}
