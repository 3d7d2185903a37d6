// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;

namespace Svsm.Migration.Relay;

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
