// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// What ModuleHost has of the world: the channel's ends. One implementation is the descriptors of the process, the other is a test's.

using System;
using Svsm.Wire;

namespace Svsm.Core;

internal interface IModuleChannel
{
    /// <summary>The guest's memory.</summary>
    GuestMemory Guest { get; }

    /// <summary>The log.</summary>
    ModuleLog Log { get; }

    /// <summary>Whether the requests ended in the middle of one.</summary>
    bool IsBroken { get; }

    /// <summary>Waits for a request.</summary>
    /// <returns>False: there are no more.</returns>
    bool TryReceive(out ModuleMessage request);

    /// <summary>Sends an answer.</summary>
    /// <exception cref="System.IO.IOException">It could not be sent.</exception>
    void Send(in ModuleMessage answer, ReadOnlySpan<byte> payload);
}
