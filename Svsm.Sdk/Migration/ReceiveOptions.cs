// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;

namespace Svsm.Migration.Relay;

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
