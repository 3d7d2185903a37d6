// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Attributes of a variable. Source: UEFI specification 2.10, 8.2.1 (GetVariable, "Related Definitions").

using System;

namespace Svsm.Modules.VarStore;

/// <summary>Attributes of a variable.</summary>
[Flags]
public enum VariableAttributes : uint
{
    /// <summary>None: in a write, the variable is deleted.</summary>
    None = 0,

    /// <summary><c>EFI_VARIABLE_NON_VOLATILE</c>.</summary>
    NonVolatile = 0x01,

    /// <summary><c>EFI_VARIABLE_BOOTSERVICE_ACCESS</c>.</summary>
    BootServiceAccess = 0x02,

    /// <summary><c>EFI_VARIABLE_RUNTIME_ACCESS</c>.</summary>
    RuntimeAccess = 0x04,

    /// <summary><c>EFI_VARIABLE_HARDWARE_ERROR_RECORD</c>: not served.</summary>
    HardwareErrorRecord = 0x08,

    /// <summary><c>EFI_VARIABLE_AUTHENTICATED_WRITE_ACCESS</c>: by counters, deprecated, not served.</summary>
    AuthenticatedWriteAccess = 0x10,

    /// <summary><c>EFI_VARIABLE_TIME_BASED_AUTHENTICATED_WRITE_ACCESS</c>.</summary>
    TimeBasedAuthenticatedWriteAccess = 0x20,

    /// <summary><c>EFI_VARIABLE_APPEND_WRITE</c>: of a write, never of a variable.</summary>
    AppendWrite = 0x40,

    /// <summary>Who may see it, before and after <c>ExitBootServices</c>.</summary>
    Access = BootServiceAccess | RuntimeAccess,

    /// <summary>The attributes that a write may have (<c>EFI_VARIABLE_ATTRIBUTES_MASK</c> of EDK2).</summary>
    Known = NonVolatile | BootServiceAccess | RuntimeAccess | HardwareErrorRecord | TimeBasedAuthenticatedWriteAccess | AppendWrite,
}
