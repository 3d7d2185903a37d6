// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

namespace Svsm.Migration.Relay;

/// <summary>Where a relay is.</summary>
internal enum RelayStage
{
    /// <summary>The SVSM was asked to begin, and has said nothing yet.</summary>
    Beginning,

    /// <summary>Frames go.</summary>
    Working,

    /// <summary>The SVSM was asked to cancel.</summary>
    Cancelling,

    /// <summary>The source has given up; the target is to run.</summary>
    Releasing,

    /// <summary>It is said how it ended; the own SVSM is to say the same, or the record that says it to the other one.</summary>
    Settling,

    /// <summary>It is over.</summary>
    Over,
}
