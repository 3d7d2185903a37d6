// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

namespace Svsm.Simulator;

// What the firmware of the security processor answers: as the result of SNP_GUEST_REQUEST (bits 31:0 of SW_EXITINFO2), or as STATUS
// inside a response. Source: Linux include/uapi/linux/psp-sev.h; which is for what: AMD's published firmware (amd/AMD-ASPFW, sev_mcmd.c, cipher.c).
internal enum FirmwareStatus : uint
{
    Success = 0,

    // The authentication tag does not fit the message: another key, or a changed header or payload.
    BadMeasurement = 0x0B,

    // A field of a message is out of its range.
    InvalidParameter = 0x16,

    // The sequence number is not the next one, or those of a key are used up.
    AeadOverflow = 0x1D,

    // The chip has no such signing key.
    InvalidKey = 0x27,
}
