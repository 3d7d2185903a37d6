// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The modules of this repository's packages as their items put them into an image (buildTransitive of each package): for images that are made without a
// project, by eng/boot, eng/bench and tests. A test of each compares it with the item.

using Svsm.Builder;
using Svsm.Wire;

namespace Svsm.Boot;

internal static class PackagedModules
{
    /// <summary>Attestation: the package Svsm.Modules.Attestation.</summary>
    public static ModuleOptions Attestation => new()
    {
        TypeName = "Svsm.Modules.Attestation.AttestationModule",
        Protocol = (uint)SvsmProtocol.Attestation,
        Permissions = ModulePermissions.ReadGuest | ModulePermissions.WriteGuest | ModulePermissions.Attest,
    };

    /// <summary>The virtual TPM: the package Svsm.Modules.Vtpm.</summary>
    public static ModuleOptions Vtpm => Stateful("Svsm.Modules.Vtpm.VtpmModule", SvsmProtocol.Vtpm, "c476f1eb-0123-45a5-9641-b4e7dde5bfe3", ModuleOptions.DefaultStoreQuota);

    /// <summary>UEFI variables: the package Svsm.Modules.VarStore.</summary>
    public static ModuleOptions VarStore => Stateful("Svsm.Modules.VarStore.VarStoreModule", SvsmProtocol.UefiMm, "a4453a59-9e1b-4787-a033-1986d6adbe55", 768 << 10);

    /// <summary>The persistent store: the package Svsm.Modules.Storage.</summary>
    public static ModuleOptions Storage => Stateful("Svsm.Modules.Storage.StorageModule", (SvsmProtocol)0x8000_5302, "d76e4d24-880d-433f-93a9-11c5fd9a2e0b", 0) with
    {
        Watchdog = 180_000,
        Permissions = ModulePermissions.KeepStore,
    };

    /// <summary>Migration: the package Svsm.Modules.Migration.</summary>
    public static ModuleOptions Migration => new()
    {
        TypeName = "Svsm.Modules.Migration.MigrationModule",
        Protocol = 0x8000_5303,
        HeapLimit = 6 << 20,
        MemoryLimit = 10 << 20,
        Watchdog = 60_000,
        Permissions = ModulePermissions.Migrate,
    };

    /// <summary>The test module that fills its part of the store.</summary>
    public static ModuleOptions Filling => new()
    {
        TypeName = "Svsm.TestFilling.FillingModule",
        Protocol = 0x8000_0010,

        // It lists all its records at once. 4 MiB are too few in one run of three.
        HeapLimit = 6 << 20,
        MemoryLimit = 8 << 20,
        Watchdog = 60_000,
        Permissions = ModulePermissions.Store,
        StoreQuota = 2 << 20,
    };

    // What keeps state that must not be forgotten is not started anew.
    private static ModuleOptions Stateful(string typeName, SvsmProtocol protocol, string service, long quota) => new()
    {
        TypeName = typeName,
        Protocol = (uint)protocol,
        Service = new(service),
        HeapLimit = 6 << 20,
        MemoryLimit = 8 << 20,
        Watchdog = 60_000,
        OnFailure = ModuleFailurePolicy.Retire,
        Permissions = ModulePermissions.ReadGuest | ModulePermissions.WriteGuest | ModulePermissions.Store,
        StoreQuota = quota,
    };
}
