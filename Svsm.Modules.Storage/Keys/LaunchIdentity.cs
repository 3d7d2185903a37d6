// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Who this SVSM is to the security processor, from a report about itself. The answer comes under the key of VMPL0, so the host has no word in it.
//
// Offsets: AMD SEV-SNP ABI specification (56860), ATTESTATION_REPORT, as collected from COCONUT-SVSM and virtee/sev.

using System;
using System.Buffers.Binary;
using Svsm.Core;
using Svsm.Store;
using Svsm.Wire;

namespace Svsm.StoreKeys;

/// <summary>Who this SVSM is.</summary>
public sealed class LaunchIdentity
{
    private const int SvnOffset = 0x004;
    private const int FlagsOffset = 0x048;
    private const int CommittedTcbOffset = 0x1E0;
    private const uint AuthorKeyFlag = 1;

    private LaunchIdentity(ReadOnlySpan<byte> report)
    {
        HasAuthorKey = (BinaryPrimitives.ReadUInt32LittleEndian(report[FlagsOffset..]) & AuthorKeyFlag) != 0;
        NewOrigin = new(BinaryPrimitives.ReadUInt32LittleEndian(report[SvnOffset..]), BinaryPrimitives.ReadUInt64LittleEndian(report[CommittedTcbOffset..]));
    }

    /// <summary>An author key signed the key of the ID block it was launched with.</summary>
    public bool HasAuthorKey { get; }

    /// <summary>Origin of the key of a new store: the guest's own SVN, and the TCB that the chip does not go back behind.</summary>
    public StoreKeyOrigin NewOrigin { get; }

    /// <summary>Asks the security processor.</summary>
    /// <param name="peer">The module that attests.</param>
    /// <param name="identity">The identity, if it is there.</param>
    /// <returns>What became of it.</returns>
    public static AttestingResult TryGet(AttestingPeer peer, out LaunchIdentity? identity)
    {
        ArgumentNullException.ThrowIfNull(peer);
        AttestingResult result = peer.GetReport(new byte[KeyAnswer.ReportDataLength], out byte[] report, out _);
        identity = result == AttestingResult.Done ? new LaunchIdentity(report) : null;
        return result;
    }
}
