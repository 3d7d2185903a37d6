// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

namespace Svsm.Migration.Relay;

/// <summary>How it ended, as far as the relay knows.</summary>
public enum RelayEnding
{
    /// <summary>The guest runs at the target: the SVSM of this relay says so.</summary>
    Running,

    /// <summary>The source has not given up: the guest is there.</summary>
    Aborted,

    /// <summary>The source has given up, or may have, and the target was not seen running.</summary>
    Unreleased,
}
