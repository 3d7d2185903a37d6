// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;

namespace Svsm.Migration.Relay;

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

    /// <summary>
    /// A connection on which nothing is acknowledged for so long is broken, whatever else comes. The other end acknowledges when its machine takes: this is more
    /// than <see cref="MachineWrite"/> and <see cref="MachineState"/>.
    /// </summary>
    public TimeSpan Acknowledged { get; init; } = TimeSpan.FromSeconds(90);

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

    /// <summary>For the record that the SVSM gives behind its last notice; and for the last words, when the relay is to end at once.</summary>
    public TimeSpan Close { get; init; } = TimeSpan.FromSeconds(2);
}
