// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Immutable;
using System.Linq;
using Microsoft.Build.Framework;
using Svsm.Builder;
using Svsm.Diagnostics;

namespace Svsm.Sdk.Tasks;

/// <summary>
/// Reads the items that the migration policy is made of. SvsmMigrationPeer: the path of an author's key; metadata: FamilyId, as the property SvsmFamilyId of
/// the images has it; MinimumSvn. SvsmMigrationRoot: the path of a root certificate; metadata: MinimumTcb. What decides whom a guest is entrusted to has no
/// default.
/// </summary>
internal static class MigrationItems
{
    /// <summary>Reads SvsmMigrationPeer items and their files.</summary>
    /// <exception cref="SvsmDiagnosticException">
    /// SVSM2015: a file cannot be read. SVSM4010: metadata is not possible. (The rest is checked with the modules.)
    /// </exception>
    public static ImmutableArray<MigrationPeer> ReadPeers(ITaskItem[] items) => [.. items.Select(item => new MigrationPeer(
        item.ItemSpec, WriteSvsmImage.Read("MigrationPeer", item.ItemSpec), ReadFamily(item),
        (uint)ReadNumber("SvsmMigrationPeer", item, "MinimumSvn", uint.MaxValue)))];

    /// <summary>Reads SvsmMigrationRoot items and their files.</summary>
    /// <exception cref="SvsmDiagnosticException">As above.</exception>
    public static ImmutableArray<MigrationRoot> ReadRoots(ITaskItem[] items) => [.. items.Select(item => new MigrationRoot(
        item.ItemSpec, WriteSvsmImage.Read("MigrationRoot", item.ItemSpec), ReadNumber("SvsmMigrationRoot", item, "MinimumTcb", ulong.MaxValue)))];

    private static byte[] ReadFamily(ITaskItem item)
    {
        string text = item.GetMetadata("FamilyId").Trim();
        return WriteSvsmImage.TryParseId(text) ?? throw SvsmDiagnostics.MigrationPolicyInvalid.Error(
            $"SvsmMigrationPeer '{item.ItemSpec}' has FamilyId '{text}'", $"{WriteSvsmImage.WantedId}, or none for zeroes");
    }

    private static ulong ReadNumber(string kind, ITaskItem item, string name, ulong most)
    {
        string text = item.GetMetadata(name).Trim();
        return WriteSvsmImage.TryParseNumber(text, most, out ulong value)
            ? value
            : throw SvsmDiagnostics.MigrationPolicyInvalid.Error(
                $"{kind} '{item.ItemSpec}' has " + (text.Length == 0 ? $"no {name}" : $"{name} '{text}'"), WriteSvsmImage.NumberUpTo(most));
    }
}
