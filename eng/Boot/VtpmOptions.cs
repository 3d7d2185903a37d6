// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The virtual TPM in an image that is not built by MSBuild: for eng/bench, and linked into the tests that boot it. A test compares it with the item of the
// package, Svsm.Modules.Vtpm/Module/buildTransitive.

using Svsm.Builder;
using Svsm.Wire;

namespace Svsm.Boot;

internal static class VtpmOptions
{
    /// <summary>The module.</summary>
    public static ModuleOptions Module => new()
    {
        TypeName = "Svsm.Modules.Vtpm.VtpmModule",
        Protocol = (uint)SvsmProtocol.Vtpm,
        Service = new("c476f1eb-0123-45a5-9641-b4e7dde5bfe3"),
        HeapLimit = 6 << 20,
        MemoryLimit = 8 << 20,
        Watchdog = 60_000,
        OnFailure = ModuleFailurePolicy.Retire,
    };
}
