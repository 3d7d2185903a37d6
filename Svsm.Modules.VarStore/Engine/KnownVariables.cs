// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Variables that mean something to the engine.
// Source: UEFI specification 2.10, 3.3 and 32.4.1; EDK2 MdePkg/Include/Guid/{GlobalVariable,ImageAuthentication}.h and
// SecurityPkg/Include/Guid/AuthenticatedVariableFormat.h.

using System;

namespace Svsm.Modules.VarStore;

internal static class KnownVariables
{
    public static readonly Guid Global = new("8be4df61-93ca-11d2-aa0d-00e098032b8c");
    public static readonly Guid ImageSecurity = new("d719b2cb-3d3a-4596-a3bc-dad00e67656f");
    public static readonly Guid HardwareError = new("414e6bdd-e47b-47cc-b244-bb61020cf516");

    public static readonly VariableId PlatformKey = new(Global, "PK");
    public static readonly VariableId KeyExchangeKeys = new(Global, "KEK");
    public static readonly VariableId Allowed = new(ImageSecurity, "db");
    public static readonly VariableId Forbidden = new(ImageSecurity, "dbx");
    public static readonly VariableId Timestamps = new(ImageSecurity, "dbt");

    public static readonly VariableId SetupMode = new(Global, "SetupMode");
    public static readonly VariableId AuditMode = new(Global, "AuditMode");
    public static readonly VariableId DeployedMode = new(Global, "DeployedMode");
    public static readonly VariableId SecureBoot = new(Global, "SecureBoot");
    public static readonly VariableId SignatureSupport = new(Global, "SignatureSupport");
    public static readonly VariableId VendorKeys = new(Global, "VendorKeys");

    // Of EDK2, not of the UEFI specification.
    public static readonly VariableId SecureBootEnable = new(new("f0a30bc7-af08-4556-99c4-001009c93a44"), "SecureBootEnable");
    public static readonly VariableId CustomMode = new(new("c076ec0c-7028-4399-a072-71ee5c448b9f"), "CustomMode");
    public static readonly VariableId VendorKeysNv = new(new("9073e4e0-60ec-4b6e-9903-4c223c260f3c"), "VendorKeysNv");

    /// <summary>Whether it is one of <c>db</c>, <c>dbx</c>, <c>dbt</c>.</summary>
    public static bool IsDatabase(VariableId id) => id == Allowed || id == Forbidden || id == Timestamps;

    /// <summary>Whether its data is signature lists: <c>PK</c>, <c>KEK</c>, <c>db</c>, <c>dbx</c>, <c>dbt</c>.</summary>
    public static bool IsSecureBootKey(VariableId id) => id == PlatformKey || id == KeyExchangeKeys || IsDatabase(id);

    /// <summary>Whether only the engine writes it, at any time.</summary>
    public static bool IsReadOnly(VariableId id) =>
        id == SetupMode || id == SecureBoot || id == SignatureSupport || id == VendorKeys || id == VendorKeysNv;
}
