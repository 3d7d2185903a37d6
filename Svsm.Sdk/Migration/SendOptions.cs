// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

namespace Svsm.Migration.Relay;

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
