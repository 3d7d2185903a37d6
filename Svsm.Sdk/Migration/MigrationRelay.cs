// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The relays of a migration, for whoever has a machine: svsm migrate send and svsm migrate receive.
//
//   source SVSM <-- console --> machine <-- Unix socket --> sending relay <-- TCP --> receiving relay <-- Unix socket --> machine <-- console --> target SVSM
//
// docs/migration-protocol.md has the frames, docs/migration-relays.md what relays do with them, and say to each other.

using System.Threading.Tasks;
using Svsm.Diagnostics;

namespace Svsm.Migration.Relay;

/// <summary>Relays of a migration. Nobody has to trust them.</summary>
public static class MigrationRelay
{
    /// <summary>Sends the guest of a source.</summary>
    /// <param name="options">Which one, and to whom.</param>
    /// <returns>What became of it.</returns>
    /// <exception cref="SvsmDiagnosticException">
    /// Nothing has begun: SVSM7101 or SVSM7102 no machine, SVSM7103 it says something that is no frame, SVSM7104 no relay there, SVSM7105 something else there,
    /// SVSM7108 the release could not be written, SVSM7109 the relay there has another sender.
    /// </exception>
    public static async Task<RelayOutcome> SendAsync(SendOptions options)
    {
        using var relay = new SendingRelay(options);
        return await relay.RunAsync().ConfigureAwait(false);
    }

    /// <summary>Receives a guest for a target, or brings it the release from a file.</summary>
    /// <param name="options">Which one, and from whom.</param>
    /// <returns>What became of it.</returns>
    /// <exception cref="SvsmDiagnosticException">
    /// Nothing has begun: SVSM7101 no machine, SVSM7106 it cannot listen there, SVSM7107 the file has no release.
    /// </exception>
    public static async Task<RelayOutcome> ReceiveAsync(ReceiveOptions options)
    {
        using var relay = new ReceivingRelay(options);
        await relay.OpenAsync().ConfigureAwait(false);
        return await relay.RunAsync().ConfigureAwait(false);
    }
}
