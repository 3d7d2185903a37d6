// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// What the security processor keeps of a guest after its launch: the source of reports and derived keys, and the keys of its messages.

using System;
using System.Collections.Generic;
using System.Security.Cryptography;
using Svsm.Igvm;

namespace Svsm.Simulator;

internal sealed class GuestContext
{
    public const int VmplCount = 4;
    public const int KeyLength = 32;

    public required ulong Policy { get; init; }

    // 48 bytes.
    public required ReadOnlyMemory<byte> Digest { get; init; }

    // VMPCK0 to VMPCK3, as in the secrets page.
    public required IReadOnlyList<byte[]> MessageKeys { get; init; }

    // The ID block, which the launch has checked; null = none.
    public IgvmSnpIdBlock? IdBlock { get; init; }

    // Without a migration agent the firmware makes both for each launch anew.
    public ReadOnlyMemory<byte> ReportId { get; } = RandomNumberGenerator.GetBytes(KeyLength);

    public ReadOnlyMemory<byte> VmRootKey { get; } = RandomNumberGenerator.GetBytes(KeyLength);

    private static readonly byte[] s_noId = new byte[16];

    public uint GuestSvn => IdBlock?.GuestSvn ?? 0;

    public ReadOnlySpan<byte> FamilyId => IdBlock is null ? s_noId : IdBlock.FamilyId.Span;

    public ReadOnlySpan<byte> ImageId => IdBlock is null ? s_noId : IdBlock.ImageId.Span;
}
