// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

namespace Svsm.Migration.Relay;

/// <summary>First bytes of frames of kind 5.</summary>
internal static class RelayVerb
{
    /// <summary>u64 frames that have come. Neither numbered nor kept.</summary>
    public const byte Acknowledge = 0x01;

    /// <summary>State of this side's SVSM: 32 bytes, as it has said it.</summary>
    public const byte Notice = 0x02;

    /// <summary>The relay ends. UTF-8: why, or empty if all went well.</summary>
    public const byte End = 0x03;

    /// <summary>Bytes of an acknowledgement.</summary>
    public const int AcknowledgeLength = 1 + sizeof(ulong);
}
