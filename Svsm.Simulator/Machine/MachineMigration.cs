// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

namespace Svsm.Simulator;

/// <summary>Which end of a migration a machine is.</summary>
public enum MigrationRole
{
    /// <summary>The guest runs here, and may go.</summary>
    Source = 1,

    /// <summary>No guest runs here; one may come.</summary>
    Target = 2,
}

/// <summary>The channel of a migration: how a relay on this PC reaches the SVSM, and the machine itself. docs/simulated-machine.md has what it carries.</summary>
/// <param name="Role">Which end this machine is. The SVSM learns it by the place of the channel.</param>
/// <param name="SocketPath">The Unix socket that the machine makes and listens on; there must be nothing yet. It is removed at the end of the run.</param>
public sealed record MachineMigration(MigrationRole Role, string SocketPath);
