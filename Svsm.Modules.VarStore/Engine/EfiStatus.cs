// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// What UEFI services answer, as far as this engine answers it. Errors of a 64-bit system have bit 63 set.
// Source: UEFI specification 2.10, appendix D.

namespace Svsm.Modules.VarStore;

/// <summary>An <c>EFI_STATUS</c>.</summary>
public enum EfiStatus : ulong
{
    /// <summary><c>EFI_SUCCESS</c>.</summary>
    Success = 0,

    /// <summary><c>EFI_INVALID_PARAMETER</c>.</summary>
    InvalidParameter = 0x8000_0000_0000_0002,

    /// <summary><c>EFI_UNSUPPORTED</c>.</summary>
    Unsupported = 0x8000_0000_0000_0003,

    /// <summary><c>EFI_BAD_BUFFER_SIZE</c>.</summary>
    BadBufferSize = 0x8000_0000_0000_0004,

    /// <summary><c>EFI_BUFFER_TOO_SMALL</c>.</summary>
    BufferTooSmall = 0x8000_0000_0000_0005,

    /// <summary><c>EFI_DEVICE_ERROR</c>: the storage did not take a change; nothing changed.</summary>
    DeviceError = 0x8000_0000_0000_0007,

    /// <summary><c>EFI_WRITE_PROTECTED</c>.</summary>
    WriteProtected = 0x8000_0000_0000_0008,

    /// <summary><c>EFI_OUT_OF_RESOURCES</c>.</summary>
    OutOfResources = 0x8000_0000_0000_0009,

    /// <summary><c>EFI_NOT_FOUND</c>.</summary>
    NotFound = 0x8000_0000_0000_000E,

    /// <summary><c>EFI_ACCESS_DENIED</c>.</summary>
    AccessDenied = 0x8000_0000_0000_000F,

    /// <summary><c>EFI_TIMEOUT</c>.</summary>
    Timeout = 0x8000_0000_0000_0012,

    /// <summary><c>EFI_ALREADY_STARTED</c>.</summary>
    AlreadyStarted = 0x8000_0000_0000_0014,

    /// <summary><c>EFI_SECURITY_VIOLATION</c>.</summary>
    SecurityViolation = 0x8000_0000_0000_001A,
}
