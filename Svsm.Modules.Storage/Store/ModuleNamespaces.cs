// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;

namespace Svsm.Store;

/// <summary>The namespaces that modules have in the store of an image: one for each protocol. For whoever hosts the store, and for tools that look into it.</summary>
public static class ModuleNamespaces
{
    /// <summary>Tells the id of a module's namespace, <c>pppppppp-5356-534d-8e5a-314c770b92e6</c>.</summary>
    /// <param name="protocol">The module's SVSM protocol, the first field of the id: 2 the virtual TPM, 4 UEFI variables.</param>
    public static Guid IdOf(uint protocol) => new(protocol, 0x5356, 0x534D, 0x8E, 0x5A, 0x31, 0x4C, 0x77, 0x0B, 0x92, 0xE6);
}
