// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The manifests of the image's services, for the one module that may attest. The kernel asks the modules; what they say is theirs.

using System;
using System.Collections.Generic;

namespace Svsm.Core;

/// <summary>What became of the wish for a manifest.</summary>
public enum ManifestResult
{
    /// <summary>It is there.</summary>
    Success,

    /// <summary>There is no such service, or it has no manifest of that version.</summary>
    NotFound,

    /// <summary>Its module failed while it was asked.</summary>
    Failed,

    /// <summary>The module may not attest, or is not in an image.</summary>
    NotPermitted,
}

/// <summary>The services of the image.</summary>
public abstract class ServiceManifests
{
    /// <summary>The GUIDs of the services whose modules run, in the order of the image: those with <see cref="SvsmProtocolAttribute.Service"/>.</summary>
    /// <returns>Empty: there are none, or the module may not attest, or is not in an image.</returns>
    public abstract IReadOnlyList<Guid> List();

    /// <summary>Asks for a manifest.</summary>
    /// <param name="service">GUID of the service.</param>
    /// <param name="version">Version of the manifest.</param>
    /// <param name="manifest">The manifest, at most 64 KiB; empty if there is none.</param>
    /// <returns>What became of it.</returns>
    /// <remarks>Another module works for it: it may take as long as a call to that one.</remarks>
    public abstract ManifestResult TryRead(Guid service, uint version, out byte[] manifest);
}
