// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using System.Linq;
using System.Security.Cryptography;
using Xunit;

namespace Svsm.Migration.Tests;

public sealed class MigrationPolicyTests
{
    private const ulong Tcb = 0xDB18_0000_0000_0004;
    private static readonly byte[] s_root = SHA384.HashData("root"u8);

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(MigrationPolicy.MaxRules)]
    public void TryRead_WhatMakeMade_IsTheSame(int count)
    {
        byte[] file = MigrationPolicy.Make(s_root, Tcb, Rules(count));

        MigrationPolicy? policy = MigrationPolicy.TryRead(file);

        Assert.NotNull(policy);
        Assert.Equal(0x50 + (0x50 * count), file.Length);
        Assert.Equal(s_root, policy.RootDigest.ToArray());
        Assert.Equal(Tcb, policy.MinimumTcb);
        Assert.Equal(count, policy.Rules.Count);
        for (int i = 0; i < count; i++)
        {
            MigrationRule expected = Rules(count)[i];
            Assert.Equal(expected.AuthorKeyDigest.ToArray(), policy.Rules[i].AuthorKeyDigest.ToArray());
            Assert.Equal(expected.FamilyId.ToArray(), policy.Rules[i].FamilyId.ToArray());
            Assert.Equal(expected.MinimumSvn, policy.Rules[i].MinimumSvn);
        }
    }

    [Fact]
    public void Make_Layout_IsTheDocumented()
    {
        byte[] file = MigrationPolicy.Make(s_root, Tcb, Rules(2));

        byte[] expected =
        [
            .. "SVSMMIGP"u8, 1, 0, 0, 0, 2, 0, 0, 0, .. s_root, 4, 0, 0, 0, 0, 0, 0x18, 0xDB, .. new byte[8],
            .. SHA384.HashData([0]), .. new byte[16], 100, 0, 0, 0, .. new byte[12],
            .. SHA384.HashData([1]), .. Enumerable.Repeat((byte)1, 16), 101, 0, 0, 0, .. new byte[12],
        ];
        Assert.Equal(expected, file);
    }

    [Fact]
    public void TryRead_EachBitChanged_IsRefusedOrAnotherPolicy()
    {
        byte[] file = MigrationPolicy.Make(s_root, Tcb, Rules(2));
        string original = Text(MigrationPolicy.TryRead(file)!);
        for (int bit = 0; bit < file.Length * 8; bit++)
        {
            byte[] changed = [.. file];
            changed[bit / 8] ^= (byte)(1 << (bit % 8));

            MigrationPolicy? policy = MigrationPolicy.TryRead(changed);

            bool isFree = bit / 8 is (>= 0x10 and < 0x48) || (bit / 8 >= 0x50 && (bit / 8 - 0x50) % 0x50 < 0x44);
            Assert.True(isFree == (policy is not null), $"bit {bit % 8} of byte 0x{bit / 8:X}");
            Assert.True(policy is null || Text(policy) != original, $"bit {bit % 8} of byte 0x{bit / 8:X}");
        }
    }

    [Fact]
    public void TryRead_CutOrExtended_IsRefused()
    {
        byte[] file = MigrationPolicy.Make(s_root, Tcb, Rules(2));

        Assert.NotNull(MigrationPolicy.TryRead(file));
        Assert.All(Enumerable.Range(0, file.Length), length => Assert.Null(MigrationPolicy.TryRead(file.AsSpan(0, length))));
        Assert.All(Enumerable.Range(1, 200), more => Assert.Null(MigrationPolicy.TryRead((byte[])[.. file, .. new byte[more]])));
    }

    [Theory]
    [InlineData(0u)]
    [InlineData(17u)]
    [InlineData(0x8000_0001u)]
    [InlineData(uint.MaxValue)]
    public void TryRead_NumberOfRulesBeyondLimits_IsRefused(uint count)
    {
        foreach (int rules in (int[])[0, 1, 17])
        {
            byte[] file = MigrationPolicy.Make(s_root, Tcb, Rules(1));
            Array.Resize(ref file, 0x50 + (0x50 * rules));
            for (int i = 1; i < rules; i++)
            {
                file.AsSpan(0x50, 0x50).CopyTo(file.AsSpan(0x50 + (0x50 * i)));
            }

            BinaryPrimitives.WriteUInt32LittleEndian(file.AsSpan(0x0C), count);
            Assert.Null(MigrationPolicy.TryRead(file));
        }
    }

    [Fact]
    public void TryRead_RuleWithoutAuthor_IsRefused()
    {
        byte[] file = MigrationPolicy.Make(s_root, Tcb, Rules(2));
        file.AsSpan(0xA0, 48).Clear();

        Assert.Null(MigrationPolicy.TryRead(file));
    }

    [Fact]
    public void Make_WrongLengths_Throws()
    {
        MigrationRule good = Rules(1)[0];
        Assert.Throws<ArgumentException>(() => MigrationPolicy.Make(s_root.AsSpan(1), Tcb, [good]));
        Assert.Throws<ArgumentException>(() => MigrationPolicy.Make(s_root, Tcb, []));
        Assert.Throws<ArgumentException>(() => MigrationPolicy.Make(s_root, Tcb, Rules(17)));
        Assert.Throws<ArgumentException>(() => MigrationPolicy.Make(s_root, Tcb, [good with { AuthorKeyDigest = new byte[47] }]));
        Assert.Throws<ArgumentException>(() => MigrationPolicy.Make(s_root, Tcb, [good with { FamilyId = new byte[17] }]));
    }

    [Fact]
    public void Make_WhatTryReadRefuses_IsNotMade()
    {
        // A policy with such a rule would be no policy in the image, where nobody sees why.
        Assert.Throws<ArgumentException>(() => MigrationPolicy.Make(s_root, Tcb, [Rules(1)[0] with { AuthorKeyDigest = new byte[48] }]));
    }

    private static List<MigrationRule> Rules(int count) =>
        [.. Enumerable.Range(0, count).Select(i => new MigrationRule(SHA384.HashData([(byte)i]), Enumerable.Repeat((byte)i, 16).ToArray(), 100 + (uint)i))];

    private static string Text(MigrationPolicy policy) => string.Join(
        ' ',
        [Convert.ToHexString(policy.RootDigest.Span), $"{policy.MinimumTcb}", .. policy.Rules.Select(rule => $"{Convert.ToHexString(rule.AuthorKeyDigest.Span)} {Convert.ToHexString(rule.FamilyId.Span)} {rule.MinimumSvn}")]);
}
