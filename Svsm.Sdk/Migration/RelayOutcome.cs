// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using Svsm.Diagnostics;

namespace Svsm.Migration.Relay;

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

    /// <summary>Of the pages, those while the guest was stopped.</summary>
    public required ulong PagesOfRest { get; init; }

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
