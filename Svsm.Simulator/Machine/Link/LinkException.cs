// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;

namespace Svsm.Simulator;

// Never leaves the library: it becomes a result with MachineStop.LinkBroken.
internal sealed class LinkException : Exception
{
    public LinkException(string message)
        : base(message)
    {
    }
}
