// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Linq;
using System.Xml.Linq;
using Svsm.Boot;
using Svsm.Builder;
using Svsm.Wire;
using Xunit;

namespace Svsm.EndToEnd.Tests;

/// <summary>The limits that modules are tested with are those that images have from the packages.</summary>
public sealed class PackagedModuleTests
{
    private static readonly string[] s_metadata = ["Include", "Type", "HeapLimit", "MemoryLimit", "Watchdog", "OnFailure", "Permissions", "StoreQuota"];

    [Theory]
    [InlineData("AttestationItem")]
    [InlineData("MigrationItem")]
    [InlineData("StorageItem")]
    [InlineData("VtpmItem")]
    [InlineData("VarStoreItem")]
    public void ItemOfThePackage_IsWhatIsTested(string name)
    {
        ModuleOptions options = name switch
        {
            "AttestationItem" => PackagedModules.Attestation,
            "MigrationItem" => PackagedModules.Migration,
            "StorageItem" => PackagedModules.Storage,
            "VtpmItem" => PackagedModules.Vtpm,
            _ => PackagedModules.VarStore,
        };
        XElement item = XDocument.Load(ImageUnderTest.PathOf(name)).Descendants("SvsmModule").Single();

        Assert.Empty(item.Attributes().Select(attribute => attribute.Name.LocalName).Except(s_metadata));
        Assert.Equal(options.TypeName, (string?)item.Attribute("Type"));
        Assert.Equal(options.HeapLimit, Bytes(item, "HeapLimit") ?? ModuleOptions.DefaultHeapLimit);
        Assert.Equal(options.MemoryLimit, Bytes(item, "MemoryLimit") ?? ModuleOptions.DefaultMemoryLimit);
        Assert.Equal(options.Watchdog, (uint?)item.Attribute("Watchdog") ?? ModuleOptions.DefaultWatchdog);
        Assert.Equal(options.OnFailure, Enum.Parse<ModuleFailurePolicy>((string?)item.Attribute("OnFailure") ?? nameof(ModuleFailurePolicy.Restart)));
        Assert.Equal(options.Permissions, Enum.Parse<ModulePermissions>(((string?)item.Attribute("Permissions") ?? "ReadGuest;WriteGuest").Replace(';', ',')));
        Assert.Equal(options.StoreQuota, (long)(Bytes(item, "StoreQuota") ?? ((options.Permissions & ModulePermissions.Store) != 0 ? ModuleOptions.DefaultStoreQuota : 0ul)));
    }

    private static ulong? Bytes(XElement item, string name) =>
        (string?)item.Attribute(name) is string text ? ulong.Parse(text[..^3], null) << (text.EndsWith("KiB", StringComparison.Ordinal) ? 10 : 20) : null;
}
