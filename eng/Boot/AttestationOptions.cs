// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Attestation in an image that is not built by MSBuild: linked into the tests that boot it. A test compares it with the item of the package,
// Svsm.Modules.Attestation/buildTransitive.

using Svsm.Builder;
using Svsm.Wire;

namespace Svsm.Boot;

internal static class AttestationOptions
{
    /// <summary>The module.</summary>
    public static ModuleOptions Module => new()
    {
        TypeName = "Svsm.Modules.Attestation.AttestationModule",
        Protocol = (uint)SvsmProtocol.Attestation,
        Permissions = ModulePermissions.ReadGuest | ModulePermissions.WriteGuest | ModulePermissions.Attest,
    };
}
