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
    public const int HostDataLength = 32;

    public required ulong Policy { get; init; }

    // 48 bytes.
    public required ReadOnlyMemory<byte> Digest { get; init; }

    // What the host told of the VM at its launch.
    public ReadOnlyMemory<byte> HostData { get; init; } = new byte[HostDataLength];

    // VMPCK0 to VMPCK3, as in the secrets page.
    public required IReadOnlyList<byte[]> MessageKeys { get; init; }

    // The ID block, which the launch has checked; null = none.
    public IgvmSnpIdBlock? IdBlock { get; init; }

    // Without a migration agent the firmware makes both for each launch anew.
    public ReadOnlyMemory<byte> ReportId { get; } = RandomNumberGenerator.GetBytes(KeyLength);

    public ReadOnlyMemory<byte> VmRootKey { get; init; } = RandomNumberGenerator.GetBytes(KeyLength);

    private static readonly byte[] s_noId = new byte[16];

    // SHA-384 of the key that stands for the guest's owner, and what it is: 0 none, 1 ID key, 2 author key.
    public ReadOnlySpan<byte> IdKeyDigest(out uint kind)
    {
        kind = IdBlock is null ? 0u : IdBlock.AuthorPublicKey.Curve == 0 ? 1u : 2u;
        return IdBlock is null ? default : SHA384.HashData(IdBlockVerifier.PublicKeyBytes(kind == 1 ? IdBlock.IdPublicKey : IdBlock.AuthorPublicKey));
    }

    public uint GuestSvn => IdBlock?.GuestSvn ?? 0;

    public ReadOnlySpan<byte> FamilyId => IdBlock is null ? s_noId : IdBlock.FamilyId.Span;

    public ReadOnlySpan<byte> ImageId => IdBlock is null ? s_noId : IdBlock.ImageId.Span;
}
