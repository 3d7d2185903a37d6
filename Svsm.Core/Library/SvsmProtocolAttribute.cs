// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Which protocol a module serves. The build reads it from the module's assembly, without running it.

using System;

namespace Svsm.Core;

/// <summary>Names the protocol that a module serves.</summary>
[AttributeUsage(AttributeTargets.Class, Inherited = false)]
public sealed class SvsmProtocolAttribute : Attribute
{
    /// <summary>Names a protocol.</summary>
    /// <param name="protocol">Its number: RAX bits 63:32 of the guest's calls. 0, the core protocol, is the kernel's. Numbers
    /// from 0x8000_0000 on are assigned by nobody so far: take one of these for a protocol of your own.</param>
    public SvsmProtocolAttribute(uint protocol) => Protocol = protocol;

    /// <summary>The protocol's number.</summary>
    public uint Protocol { get; }

    /// <summary>Lowest version that is served; at least 1.</summary>
    public uint MinVersion { get; set; } = 1;

    /// <summary>Highest version that is served; not below <see cref="MinVersion"/>.</summary>
    public uint MaxVersion { get; set; } = 1;

    /// <summary>GUID of the service in an attestation manifest, or null: the module is not in it.</summary>
    public string? Service { get; set; }
}
