// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

namespace Svsm.Migration.Relay;

/// <summary>First bytes of frames of kind 3.</summary>
internal static class LocalVerb
{
    /// <summary>To the SVSM: begin, as the <see cref="MigrationRole"/> that follows.</summary>
    public const byte Begin = 0x01;

    /// <summary>To the SVSM: cancel.</summary>
    public const byte Cancel = 0x02;

    /// <summary>From the SVSM: its state, a <see cref="Relay.Notice"/>.</summary>
    public const byte Notice = 0x81;
}
