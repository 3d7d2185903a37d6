// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// A module's part of the store without the module. Shared with the tests of the module that keeps it.

using Svsm.Core.Testing;
using Svsm.Wire;

namespace Svsm.Core.Tests;

internal static class StorePart
{
    /// <summary>The store, as a module sees it that has these beside it.</summary>
    public static ModuleStore Of(ModulePeers peers)
    {
        var module = new Module();
        using var test = new ModuleTest(module, peers: peers);
        return module.Part;
    }

    private sealed class Module : SvsmModule
    {
        public ModuleStore Part => Store;

        protected override SvsmResult Handle(in SvsmRequest request) => SvsmResultCode.UnsupportedCall;
    }
}
