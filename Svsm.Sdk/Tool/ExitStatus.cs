// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

namespace Svsm.Tool;

/// <summary>Exit statuses of svsm. Those of <c>svsm run</c> are the simulator's (RunExitStatus), which agree with these.</summary>
internal static class ExitStatus
{
    /// <summary>Done, nothing found.</summary>
    public const int Success = 0;

    /// <summary>The files differ, or a check failed.</summary>
    public const int Difference = 1;

    /// <summary>The command line is wrong.</summary>
    public const int Usage = 64;

    /// <summary>A file cannot be read, written, or used for what was asked.</summary>
    public const int BadFile = 65;

    /// <summary>A migration: the source has given up, or may have, and the target was not seen running.</summary>
    public const int Unreleased = 66;
}
