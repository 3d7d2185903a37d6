// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System.Security.Cryptography;

namespace Svsm.Migration.Relay;

/// <summary>First bytes of frames of kind 4.</summary>
internal static class MachineVerb
{
    /// <summary>To the source's machine: give your state.</summary>
    public const byte Give = 0x01;

    /// <summary>A part of the state.</summary>
    public const byte Part = 0x81;

    /// <summary>The state is complete: its bytes, its SHA-256.</summary>
    public const byte End = 0x82;

    /// <summary>From the target's machine: taken.</summary>
    public const byte Taken = 0x83;

    /// <summary>From the target's machine: refused, and why.</summary>
    public const byte Refused = 0x84;

    /// <summary>From the source's machine: there is no state to be had, and why.</summary>
    public const byte Unavailable = 0x85;

    /// <summary>Most bytes of the state in a frame.</summary>
    public const int PartLength = 0x1_0000;

    /// <summary>Contents of the last frame.</summary>
    public const int EndLength = 1 + sizeof(ulong) + SHA256.HashSizeInBytes;
}
