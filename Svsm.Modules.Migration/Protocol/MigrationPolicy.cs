// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Whom an SVSM lets be the other end of a migration: a file of its image, so it is measured. docs/migration-protocol.md, "Policy".
//
// For the module, which reads it, and by its source for the builder of images, which makes it, and the svsm tool, which shows it. So it needs nothing of its
// project.

using System;
using System.Buffers.Binary;
using System.Collections.Generic;

namespace Svsm.Migration;

/// <summary>An author whose images may be the other end.</summary>
/// <param name="AuthorKeyDigest">Digest of the author key, as reports have it, 48 bytes.</param>
/// <param name="FamilyId">Family id of the images' ID blocks, 16 bytes.</param>
/// <param name="MinimumSvn">The least security version.</param>
public sealed record MigrationRule(ReadOnlyMemory<byte> AuthorKeyDigest, ReadOnlyMemory<byte> FamilyId, uint MinimumSvn);

/// <summary>The policy of an image.</summary>
public sealed class MigrationPolicy
{
    /// <summary>The file of the image, for the module of migration.</summary>
    public const string Path = "/migration.policy";

    /// <summary>Most rules.</summary>
    public const int MaxRules = 16;

    private const int DigestLength = 48;
    private const uint Version = 1;
    private const int CountOffset = 0x0C;
    private const int RootOffset = 0x10;
    private const int TcbOffset = 0x40;
    private const int ReservedOffset = 0x48;
    private const int RulesOffset = 0x50;
    private const int RuleLength = 0x50;
    private const int FamilyOffset = DigestLength;
    private const int FamilyLength = 16;
    private const int SvnOffset = FamilyOffset + FamilyLength;
    private const int RuleReservedOffset = SvnOffset + sizeof(uint);

    private MigrationPolicy(ReadOnlyMemory<byte> root, ulong minimumTcb, IReadOnlyList<MigrationRule> rules) => (RootDigest, MinimumTcb, Rules) = (root, minimumTcb, rules);

    /// <summary>SHA-384 of the SubjectPublicKeyInfo of the chips' root, 48 bytes.</summary>
    public ReadOnlyMemory<byte> RootDigest { get; }

    /// <summary>What the reported TCB must reach in each byte.</summary>
    public ulong MinimumTcb { get; }

    /// <summary>The rules: one of them must be met.</summary>
    public IReadOnlyList<MigrationRule> Rules { get; }

    private static ReadOnlySpan<byte> Magic => "SVSMMIGP"u8;

    /// <summary>Makes the file of an image.</summary>
    /// <param name="rootDigest">SHA-384 of the root's SubjectPublicKeyInfo, 48 bytes.</param>
    /// <param name="minimumTcb">What the reported TCB must reach in each byte.</param>
    /// <param name="rules">1 to <see cref="MaxRules"/>.</param>
    /// <returns>The file.</returns>
    /// <exception cref="ArgumentException">A digest, an id or the number of rules is another one, or a digest of an author is zero.</exception>
    public static byte[] Make(ReadOnlySpan<byte> rootDigest, ulong minimumTcb, IReadOnlyList<MigrationRule> rules)
    {
        ArgumentNullException.ThrowIfNull(rules);
        if (rootDigest.Length != DigestLength || rules.Count is 0 or > MaxRules)
        {
            throw new ArgumentException($"a digest of {rootDigest.Length} bytes and {rules.Count} rules; wanted are {DigestLength} and 1 to {MaxRules}", nameof(rules));
        }

        byte[] file = new byte[RulesOffset + (rules.Count * RuleLength)];
        Magic.CopyTo(file);
        BinaryPrimitives.WriteUInt32LittleEndian(file.AsSpan(Magic.Length), Version);
        BinaryPrimitives.WriteInt32LittleEndian(file.AsSpan(CountOffset), rules.Count);
        rootDigest.CopyTo(file.AsSpan(RootOffset));
        BinaryPrimitives.WriteUInt64LittleEndian(file.AsSpan(TcbOffset), minimumTcb);
        for (int i = 0; i < rules.Count; i++)
        {
            if (rules[i].AuthorKeyDigest.Length != DigestLength || rules[i].FamilyId.Length != FamilyLength)
            {
                throw new ArgumentException($"rule {i} has a digest of {rules[i].AuthorKeyDigest.Length} bytes and a family id of {rules[i].FamilyId.Length}", nameof(rules));
            }

            if (!rules[i].AuthorKeyDigest.Span.ContainsAnyExcept((byte)0))
            {
                throw new ArgumentException($"rule {i} has no author", nameof(rules));
            }

            Span<byte> rule = file.AsSpan(RulesOffset + (i * RuleLength), RuleLength);
            rules[i].AuthorKeyDigest.Span.CopyTo(rule);
            rules[i].FamilyId.Span.CopyTo(rule[FamilyOffset..]);
            BinaryPrimitives.WriteUInt32LittleEndian(rule[SvnOffset..], rules[i].MinimumSvn);
        }

        return file;
    }

    /// <summary>Reads the file of an image.</summary>
    /// <param name="file">All of it.</param>
    /// <returns>Null: it is none.</returns>
    public static MigrationPolicy? TryRead(ReadOnlySpan<byte> file)
    {
        if (file.Length < RulesOffset || !file.StartsWith(Magic) || BinaryPrimitives.ReadUInt32LittleEndian(file[Magic.Length..]) != Version
            || BinaryPrimitives.ReadUInt64LittleEndian(file[ReservedOffset..]) != 0)
        {
            return null;
        }

        uint count = BinaryPrimitives.ReadUInt32LittleEndian(file[CountOffset..]);
        if (count is 0 or > MaxRules || file.Length != RulesOffset + ((int)count * RuleLength))
        {
            return null;
        }

        var rules = new MigrationRule[count];
        for (int i = 0; i < rules.Length; i++)
        {
            ReadOnlySpan<byte> rule = file.Slice(RulesOffset + (i * RuleLength), RuleLength);

            // No author has this digest: it is what reports without one have.
            if (rule[RuleReservedOffset..].ContainsAnyExcept((byte)0) || !rule[..DigestLength].ContainsAnyExcept((byte)0))
            {
                return null;
            }

            rules[i] = new(
                rule[..DigestLength].ToArray(), rule.Slice(FamilyOffset, FamilyLength).ToArray(), BinaryPrimitives.ReadUInt32LittleEndian(rule[SvnOffset..]));
        }

        return new(file.Slice(RootOffset, DigestLength).ToArray(), BinaryPrimitives.ReadUInt64LittleEndian(file[TcbOffset..]), rules);
    }
}
