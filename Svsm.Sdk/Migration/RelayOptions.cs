// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Threading;

namespace Svsm.Migration.Relay;

/// <summary>What both relays are told.</summary>
public record RelayOptions
{
    /// <summary><see cref="Retry"/> if nothing else is said.</summary>
    public static readonly TimeSpan DefaultRetry = TimeSpan.FromSeconds(60);

    /// <summary>Path of the Unix socket on which the machine listens.</summary>
    public required string Machine { get; init; }

    /// <summary>For how long a broken connection to the other relay is tried again.</summary>
    public TimeSpan Retry { get; init; } = DefaultRetry;

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
