// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Variables that mean something to the engine. Their GUIDs, as all of the engine, are in numbers: text would bring its parser into the image.
//
// Source: UEFI specification 2.10, 3.3 and 32.4.1; EDK2 MdePkg/Include/Guid/{GlobalVariable,ImageAuthentication}.h and
// SecurityPkg/Include/Guid/AuthenticatedVariableFormat.h.

using System;

namespace Svsm.Modules.VarStore;

internal static class KnownVariables
{
    public static readonly Guid Global = new(0x8be4df61, 0x93ca, 0x11d2, 0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c); // 8be4df61-93ca-11d2-aa0d-00e098032b8c
    public static readonly Guid ImageSecurity = new(0xd719b2cb, 0x3d3a, 0x4596, 0xa3, 0xbc, 0xda, 0xd0, 0x0e, 0x67, 0x65, 0x6f); // d719b2cb-3d3a-4596-a3bc-dad00e67656f
    public static readonly Guid HardwareError = new(0x414e6bdd, 0xe47b, 0x47cc, 0xb2, 0x44, 0xbb, 0x61, 0x02, 0x0c, 0xf5, 0x16); // 414e6bdd-e47b-47cc-b244-bb61020cf516

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
    public static readonly VariableId SecureBootEnable = new(new(0xf0a30bc7, 0xaf08, 0x4556, 0x99, 0xc4, 0x00, 0x10, 0x09, 0xc9, 0x3a, 0x44), "SecureBootEnable"); // f0a30bc7-af08-4556-99c4-001009c93a44
    public static readonly VariableId CustomMode = new(new(0xc076ec0c, 0x7028, 0x4399, 0xa0, 0x72, 0x71, 0xee, 0x5c, 0x44, 0x8b, 0x9f), "CustomMode"); // c076ec0c-7028-4399-a072-71ee5c448b9f
    public static readonly VariableId VendorKeysNv = new(new(0x9073e4e0, 0x60ec, 0x4b6e, 0x99, 0x03, 0x4c, 0x22, 0x3c, 0x26, 0x0f, 0x3c), "VendorKeysNv"); // 9073e4e0-60ec-4b6e-9903-4c223c260f3c

    /// <summary>Whether it is one of <c>db</c>, <c>dbx</c>, <c>dbt</c>.</summary>
    public static bool IsDatabase(VariableId id) => id == Allowed || id == Forbidden || id == Timestamps;

    /// <summary>Whether its data is signature lists: <c>PK</c>, <c>KEK</c>, <c>db</c>, <c>dbx</c>, <c>dbt</c>.</summary>
    public static bool IsSecureBootKey(VariableId id) => id == PlatformKey || id == KeyExchangeKeys || IsDatabase(id);

    /// <summary>Whether only the engine writes it, at any time.</summary>
    public static bool IsReadOnly(VariableId id) =>
        id == SetupMode || id == SecureBoot || id == SignatureSupport || id == VendorKeys || id == VendorKeysNv;
}
