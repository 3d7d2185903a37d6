// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using Xunit;

namespace Svsm.Store.Tests;

/// <summary>The namespaces of modules.</summary>
public sealed class ModuleNamespacesTests
{
    [Theory]
    [InlineData(4, "00000004-5356-534d-8e5a-314c770b92e6")]
    [InlineData(0xFEDC_BA98, "fedcba98-5356-534d-8e5a-314c770b92e6")]
    public void IdOf_Protocol_IsTheDocumentedId(uint protocol, string id) => Assert.Equal(id, ModuleNamespaces.IdOf(protocol).ToString());
}
