// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Buffers.Binary;
using System.Formats.Asn1;
using System.Linq;
using System.Security.Cryptography;
using Xunit;
using static Svsm.Vtpm.Clients.Tests.Messages;

namespace Svsm.Vtpm.Clients.Tests;

// Objects that Debian's swtpm has made are loaded and used here, and the other way round. Both have one state, so that parents, Names and
// tickets are the same; what one encrypts, signs or wraps the other decrypts, verifies or unwraps. Saved contexts have a format of each TPM's
// own and are not exchanged.
public sealed class ObjectOracleTests
{
    // fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth; then restricted, decrypt, sign.
    private const uint Fixed = 0x0072;
    private const uint Storage = Fixed | 0x3_0000;
    private const uint Decrypt = Fixed | 0x2_0000;
    private const uint Sign = Fixed | 0x4_0000;
    private const uint Both = Fixed | 0x6_0000;

    private static readonly byte[] s_auth = "auth"u8.ToArray();
    private static readonly byte[] s_digest = SHA256.HashData("message"u8);
    private static readonly byte[] s_noTicket = [0x80, 0x24, .. U32(Null), 0, 0];

    public static TheoryData<string, string> Kinds
    {
        get
        {
            var data = new TheoryData<string, string>();
            foreach (string parent in (string[])["ecc256", "ecc384", "ecc521", "rsa2048"])
            {
                foreach (string child in (string[])["rsa2048", "ecc256", "ecc384", "ecc521", "ecc-bn", "ecdaa", "hmac", "hmac512", "xor", "seal", "aes128", "aes256", "cmac", "storage"])
                {
                    data.Add(parent, child);
                }
            }

            data.Add("ecc256", "rsa3072");
            data.Add("rsa2048", "hmac1");
            return data;
        }
    }

    [Theory]
    [MemberData(nameof(Kinds))]
    public void Objects_MadeOnEither_AreLoadedAndUsedOnTheOther(string parent, string child)
    {
        using var pair = new TpmPair();
        Side ours = new("this TPM", pair.Ours);
        Side theirs = new("swtpm", pair.Theirs);
        foreach (Side side in (Side[])[ours, theirs])
        {
            side.Startup();
            side.Primary(ParentTemplate(parent));
        }

        Assert.Equal(theirs.ParentPublic, ours.ParentPublic);
        Exchange(ours, theirs, child);
        Exchange(theirs, ours, child);
    }

    // The serial number and the digest are functions of keys and content.
    [Theory]
    [InlineData("rsa2048", 0x14, 0x0B)]
    [InlineData("rsa2048", 0x16, 0x0C)]
    [InlineData("rsa2048", 0x16, 0x04)]
    [InlineData("ecc384", 0x18, 0x0D)]
    public void CertifyX509_SameKey_GivesTheSameCertificate(string kind, int scheme, int hash)
    {
        using var pair = new TpmPair();
        Side ours = new("this TPM", pair.Ours);
        Side theirs = new("swtpm", pair.Theirs);
        ours.Startup();
        theirs.Startup();
        byte[] template = ChildTemplate(kind, Sign | 0x8_0000);
        Assert.Equal(theirs.Primary(template), ours.Primary(template));
        byte[] parameters = [0, 0, .. U16(scheme), .. U16(hash), .. Sized(PartialCertificate())];
        byte[] mine = ours.Do(0x197, [ours.Parent, ours.Parent], parameters, [.. Auth(), .. Auth()]);
        byte[] other = theirs.Do(0x197, [theirs.Parent, theirs.Parent], parameters, [.. Auth(), .. Auth()]);
        int same = 2 + BinaryPrimitives.ReadUInt16BigEndian(mine);
        same += 2 + BinaryPrimitives.ReadUInt16BigEndian(mine.AsSpan(same));
        Assert.Equal(other[..same], mine[..same]);
        if (scheme == 0x14)
        {
            Assert.Equal(other, mine);
        }
    }

    // What an attestation hides about the TPM is hidden by the same mask.
    [Fact]
    public void Attestation_ObfuscatedFields_HaveTheSameMask()
    {
        using var pair = new TpmPair();
        byte[][] masks = [.. new[] { new Side("this TPM", pair.Ours), new Side("swtpm", pair.Theirs) }.Select(side =>
        {
            side.Startup();
            side.Primary(ChildTemplate("ecc256", Sign));
            byte[] answer = side.Do(0x148, [side.Parent, side.Parent], [.. Sized(7, 7), 0, 0x18, 0, 0x0B], [.. Auth(), .. Auth()]);
            byte[] attest = answer[2..(2 + BinaryPrimitives.ReadUInt16BigEndian(answer))];
            int place = 6;
            place += 2 + BinaryPrimitives.ReadUInt16BigEndian(attest.AsSpan(place));
            place += 2 + BinaryPrimitives.ReadUInt16BigEndian(attest.AsSpan(place)) + 8;
            byte[] time = side.Do(0x181, [], []);
            uint reset = BinaryPrimitives.ReadUInt32BigEndian(attest.AsSpan(place)) - BinaryPrimitives.ReadUInt32BigEndian(time.AsSpan(16));
            uint restart = BinaryPrimitives.ReadUInt32BigEndian(attest.AsSpan(place + 4)) - BinaryPrimitives.ReadUInt32BigEndian(time.AsSpan(20));
            byte[] version = side.Do(0x17A, [], [.. U32(6), .. U32(0x10B), .. U32(2)]);
            ulong firmware = BinaryPrimitives.ReadUInt64BigEndian(attest.AsSpan(place + 9))
                - (((ulong)BinaryPrimitives.ReadUInt32BigEndian(version.AsSpan(13)) << 32) | BinaryPrimitives.ReadUInt32BigEndian(version.AsSpan(21)));

            // And what is not hidden: signer, extra data, the object.
            return (byte[])[.. attest[..(place - 8)], .. U32(reset), .. U32(restart), .. U32((uint)(firmware >> 32)), .. U32((uint)firmware), .. attest[(place + 17)..]];
        })];
        Assert.Equal(masks[1], masks[0]);
        Assert.NotEqual(new byte[16], masks[0][^100..^84]);
    }

    private static void Exchange(Side maker, Side user, string kind)
    {
        byte[] policy = SHA256.HashData([.. new byte[32], .. U32(0x16C), .. U32(0x14B)]);
        byte[] made = maker.Do(
            0x153, [maker.Parent], [.. Sized([.. Sized(s_auth), .. Sized(kind == "seal" ? "secret"u8.ToArray() : [])]), .. Sized(ChildTemplate(kind)), 0, 0, 0, 0, 0, 0], Auth());
        byte[] privatePart = Next(made, 0);
        byte[] publicPart = Next(made, privatePart.Length);
        uint first = maker.Load(privatePart, publicPart);
        uint second = user.Load(privatePart, publicPart);
        Use(maker, first, user, second, kind);
        Use(user, second, maker, first, kind);
        Tickets(maker, first, user, second, kind);
        Credential(maker, first, user, second);
        maker.Flush(first);
        user.Flush(second);
        Duplicate(maker, user, policy, isWrapped: false);
        Duplicate(maker, user, policy, isWrapped: true);
    }

    // What one makes with the object the other takes.
    private static void Use(Side one, uint first, Side other, uint second, string kind)
    {
        byte[] auth = Auth(Password, s_auth);
        switch (kind)
        {
            case "rsa2048" or "rsa3072":
                Assert.Equal(Signature(other, second, 0x14, 0x0B), Signature(one, first, 0x14, 0x0B));
                CrossSign(one, first, other, second, 0x14, 0x16);
                foreach (byte[] scheme in (byte[][])[[0, 0x15], [0, 0x17, 0, 0x0B], [0, 0x17, 0, 0x04]])
                {
                    byte[] cipher = one.Do(0x174, [first], [.. Sized(1, 2, 3), .. scheme, .. Sized("label\0"u8.ToArray())]);
                    Assert.Equal(Sized(1, 2, 3), other.Do(0x159, [second], [.. cipher, .. scheme, .. Sized("label\0"u8.ToArray())], auth));
                }

                break;
            case "ecc256" or "ecc384" or "ecc521" or "ecc-bn":
                CrossSign(one, first, other, second, 0x18, 0x1C);
                byte[] exchange = one.Do(0x163, [first], []);
                int size = 2 + BinaryPrimitives.ReadUInt16BigEndian(exchange);
                Assert.Equal(exchange[..size], other.Do(0x154, [second], exchange[size..], auth));
                break;
            case "ecdaa":
                byte[] commitment = one.Do(0x18B, [first], [.. Sized(0, 0, 0, 0), 0, 0, 0, 0], auth);
                byte[] signed = one.Do(0x15D, [first], [.. Sized(s_digest), 0, 0x1A, 0, 0x0B, .. commitment[^2..], .. s_noTicket], auth);
                Assert.Equal([0, 0x1A, 0, 0x0B], signed[..4]);
                break;
            case "hmac" or "hmac1" or "hmac512" or "cmac":
                Assert.Equal(other.Do(0x155, [second], [.. Sized(1, 2), 0, 0x10], auth), one.Do(0x155, [first], [.. Sized(1, 2), 0, 0x10], auth));
                break;
            case "aes128" or "aes192" or "aes256":
                foreach (byte mode in (byte[])[0x40, 0x41, 0x42, 0x43, 0x44])
                {
                    byte[] iv = mode == 0x44 ? [] : new byte[16];
                    byte[] data = [.. Enumerable.Range(0, mode is 0x42 or 0x44 ? 48 : 41).Select(i => (byte)i)];
                    byte[] encrypted = one.Do(0x193, [first], [.. Sized(data), 0, 0, mode, .. Sized(iv)], auth);
                    byte[] decrypted = other.Do(0x193, [second], [.. Next(encrypted, 0), 1, 0, mode, .. Sized(iv)], auth);
                    Assert.Equal(Sized(data), Next(decrypted, 0));

                    // The chaining values of both, too. Of the one difference see PartialBlock.
                    byte[] same = other.Do(0x193, [second], [.. Sized(data), 0, 0, mode, .. Sized(iv)], auth);
                    if (mode == 0x43)
                    {
                        PartialBlock(one, encrypted, data.Length % 16);
                        PartialBlock(other, same, data.Length % 16);
                        encrypted = encrypted[..^7];
                        same = same[..^7];
                    }

                    Assert.Equal(same, encrypted);
                }

                break;
            case "seal":
                Assert.Equal(Sized("secret"u8.ToArray()), other.Do(0x15E, [second], [], auth));
                break;
            case "storage":
                // A grandchild.
                byte[] made = one.Do(0x153, [first], [.. Sized([.. Sized(s_auth), .. Sized(9, 9)]), .. Sized(ChildTemplate("seal")), 0, 0, 0, 0, 0, 0], auth);
                byte[] privatePart = Next(made, 0);
                uint loaded = other.Load(privatePart, Next(made, privatePart.Length), second, auth);
                Assert.Equal(Sized(9, 9), other.Do(0x15E, [loaded], [], auth));
                other.Flush(loaded);
                break;
            default:
                Assert.Equal("xor", kind);
                break;
        }
    }

    // Tolerated: the rest of the chaining value after a partial last block of CFB. The TCG reference implementation (CryptSym.c) fills it with
    // zeros, and so does this TPM; libtpms 0.9 leaves it to OpenSSL, which leaves the rest of the block that it has encrypted.
    private static void PartialBlock(Side side, byte[] answer, int used)
    {
        byte[] rest = answer[^(16 - used)..];
        Assert.Equal(side.IsOurs, rest.All(b => b == 0));
    }

    private static void CrossSign(Side one, uint first, Side other, uint second, params int[] schemes)
    {
        foreach (int scheme in schemes)
        {
            byte[] signature = Signature(one, first, scheme, 0x0B);
            other.Do(0x177, [second], [.. Sized(s_digest), .. signature]);
            signature[^1] ^= 1;
            Assert.Equal(0x2DBu, other.Try(0x177, [second], [.. Sized(s_digest), .. signature]));
        }
    }

    private static byte[] Signature(Side side, uint key, int scheme, int hash)
        => side.Do(0x15D, [key], [.. Sized(s_digest), .. U16(scheme), .. U16(hash), .. s_noTicket], Auth(Password, s_auth));

    // Tickets of one are tickets of the other: of a hash, of a creation, of a verification.
    private static void Tickets(Side maker, uint first, Side user, uint second, string kind)
    {
        Assert.Equal(user.Do(0x17D, [], [.. Sized(1, 2, 3), 0, 0x0B, .. U32(Owner)]), maker.Do(0x17D, [], [.. Sized(1, 2, 3), 0, 0x0B, .. U32(Owner)]));
        if (kind.StartsWith("ecc", StringComparison.Ordinal) || kind.StartsWith("rsa", StringComparison.Ordinal))
        {
            byte[] signature = Signature(maker, first, kind[0] == 'r' ? 0x14 : 0x18, 0x0B);
            byte[] parameters = [.. Sized(s_digest), .. signature];
            Assert.Equal(user.Do(0x177, [second], parameters), maker.Do(0x177, [first], parameters));
        }
    }

    private static void Credential(Side maker, uint first, Side user, uint second)
    {
        byte[] name = Next(maker.Do(0x173, [first], []), Next(maker.Do(0x173, [first], []), 0).Length);
        byte[] credential = maker.Do(0x168, [maker.Parent], [.. Sized(5, 6, 7), .. name]);
        Assert.Equal(Sized(5, 6, 7), user.Do(0x147, [second, user.Parent], credential, [.. Auth(Password, s_auth), .. Auth()]));
    }

    // An HMAC key that may leave its TPM goes to the other one, under the same parent.
    private static void Duplicate(Side maker, Side user, byte[] policy, bool isWrapped)
    {
        byte[] template = [0, 8, 0, 0x0B, .. U32(0x4_0060), .. Sized(policy), 0, 5, 0, 0x0B, 0, 0];
        byte[] made = maker.Do(0x153, [maker.Parent], [.. Sized([.. Sized(s_auth), 0, 0]), .. Sized(template), 0, 0, 0, 0, 0, 0], Auth());
        byte[] privatePart = Next(made, 0);
        byte[] publicPart = Next(made, privatePart.Length);
        uint loaded = maker.Load(privatePart, publicPart);
        uint session = BinaryPrimitives.ReadUInt32BigEndian(maker.Do(0x176, [Null, Null], [.. Sized(new byte[16]), 0, 0, 1, 0, 0x10, 0, 0x0B]));
        maker.Do(0x16C, [session], U32(0x14B));
        byte[] symmetric = isWrapped ? [0, 6, 0, 128, 0, 0x43] : [0, 0x10];
        byte[] duplicate = maker.Do(0x14B, [loaded, maker.Parent], [0, 0, .. symmetric], [.. U32(session), 0, 0, 0, 0, 0]);
        byte[] mac = maker.Do(0x155, [loaded], [.. Sized(4, 2), 0, 0x10], Auth(Password, s_auth));
        maker.Flush(loaded);

        byte[] key = Next(duplicate, 0);
        byte[] blob = Next(duplicate, key.Length);
        byte[] seed = Next(duplicate, key.Length + blob.Length);
        byte[] imported = user.Do(0x156, [user.Parent], [.. key, .. publicPart, .. blob, .. seed, .. symmetric], Auth());
        uint there = user.Load(imported, publicPart);
        Assert.Equal(mac, user.Do(0x155, [there], [.. Sized(4, 2), 0, 0x10], Auth(Password, s_auth)));
        user.Flush(there);
    }

    private static byte[] ParentTemplate(string kind) => kind == "rsa2048"
        ? [0, 1, 0, 0x0B, .. U32(Storage), 0, 0, 0, 6, 0, 128, 0, 0x43, 0, 0x10, 8, 0, 0, 0, 0, 0, 0, 0]
        : EccStorage(kind);

    private static byte[] EccStorage(string kind)
        => [0, 0x23, 0, 0x0B, .. U32(Storage), 0, 0, 0, 6, 0, 128, 0, 0x43, 0, 0x10, 0, Curve(kind), 0, 0x10, 0, 0, 0, 0];

    private static byte Curve(string kind) => kind switch { "ecc256" => 3, "ecc384" => 4, "ecc521" => 5, _ => 0x10 };

    private static byte[] ChildTemplate(string kind, uint attributes = Both) => kind switch
    {
        "rsa2048" => [0, 1, 0, 0x0B, .. U32(attributes), 0, 0, 0, 0x10, 0, 0x10, 8, 0, 0, 0, 0, 0, 0, 0],
        "rsa3072" => [0, 1, 0, 0x0B, .. U32(attributes), 0, 0, 0, 0x10, 0, 0x10, 12, 0, 0, 0, 0, 0, 0, 0],
        "ecc256" or "ecc384" or "ecc521" or "ecc-bn" => [0, 0x23, 0, 0x0B, .. U32(attributes), 0, 0, 0, 0x10, 0, 0x10, 0, Curve(kind), 0, 0x10, 0, 0, 0, 0],
        "ecdaa" => [0, 0x23, 0, 0x0B, .. U32(Sign), 0, 0, 0, 0x10, 0, 0x1A, 0, 0x0B, 0, 0, 0, 0x10, 0, 0x10, 0, 0, 0, 0],
        "hmac" => [0, 8, 0, 0x0B, .. U32(Sign), 0, 0, 0, 5, 0, 0x0B, 0, 0],
        "hmac1" => [0, 8, 0, 4, .. U32(Sign), 0, 0, 0, 5, 0, 4, 0, 0],
        "hmac512" => [0, 8, 0, 0x0D, .. U32(Sign), 0, 0, 0, 5, 0, 0x0D, 0, 0],
        "xor" => [0, 8, 0, 0x0B, .. U32(Decrypt), 0, 0, 0, 0x0A, 0, 0x0B, 0, 0x22, 0, 0],
        "seal" => [0, 8, 0, 0x0B, .. U32(0x52), 0, 0, 0, 0x10, 0, 0],
        "aes128" => [0, 0x25, 0, 0x0B, .. U32(Both), 0, 0, 0, 6, 0, 128, 0, 0x10, 0, 0],
        "cmac" => [0, 0x25, 0, 0x0B, .. U32(Sign), 0, 0, 0, 6, 0, 128, 0, 0x3F, 0, 0],
        "aes256" => [0, 0x25, 0, 0x0B, .. U32(Both), 0, 0, 0, 6, 1, 0, 0, 0x10, 0, 0],
        _ => EccStorage("ecc256"),
    };

    private static byte[] PartialCertificate()
    {
        var usages = new AsnWriter(AsnEncodingRules.DER);
        usages.WriteBitString([0x80], 7);
        var writer = new AsnWriter(AsnEncodingRules.DER);
        using (writer.PushSequence())
        {
            Name();
            using (writer.PushSequence())
            {
                writer.WriteUtcTime(new DateTimeOffset(2020, 1, 1, 0, 0, 0, TimeSpan.Zero));
                writer.WriteUtcTime(new DateTimeOffset(2040, 1, 1, 0, 0, 0, TimeSpan.Zero));
            }

            Name();
            using (writer.PushSequence(new Asn1Tag(TagClass.ContextSpecific, 3, isConstructed: true)))
            using (writer.PushSequence())
            using (writer.PushSequence())
            {
                writer.WriteObjectIdentifier("2.5.29.15");
                writer.WriteBoolean(true);
                writer.WriteOctetString(usages.Encode());
            }
        }

        return writer.Encode();

        void Name()
        {
            using (writer.PushSequence())
            using (writer.PushSetOf())
            using (writer.PushSequence())
            {
                writer.WriteObjectIdentifier("2.5.4.3");
                writer.WriteCharacterString(UniversalTagNumber.UTF8String, "subject");
            }
        }
    }

    // The TPM2B at a place, with its length.
    private static byte[] Next(byte[] bytes, int place) => bytes[place..(place + 2 + BinaryPrimitives.ReadUInt16BigEndian(bytes.AsSpan(place)))];

    /// <summary>One of the two TPMs.</summary>
    private sealed class Side(string name, Func<byte[], byte[]> send)
    {
        internal bool IsOurs => name == "this TPM";

        internal uint Parent { get; private set; }

        internal byte[] ParentPublic { get; private set; } = [];

        internal void Startup() => Do(0x144, [], [0, 0]);

        /// <summary>Makes the parent, a primary key of the owner, and gives its public area.</summary>
        internal byte[] Primary(byte[] template)
        {
            byte[] answer = Send(0x131, [Owner], [.. Sized(0, 0, 0, 0), .. Sized(template), 0, 0, 0, 0, 0, 0], Auth());
            Parent = BinaryPrimitives.ReadUInt32BigEndian(answer.AsSpan(10));
            return ParentPublic = Next(answer, 18);
        }

        /// <summary>The response code.</summary>
        internal uint Try(uint code, uint[] handles, byte[] parameters, byte[]? sessions = null) => Code(Answer(Command(code, handles, parameters, sessions)));

        /// <summary>The parameters of a good response without a handle.</summary>
        internal byte[] Do(uint code, uint[] handles, byte[] parameters, byte[]? sessions = null)
        {
            byte[] answer = Send(code, handles, parameters, sessions);
            return sessions is null ? answer[10..] : answer[14..(14 + (int)BinaryPrimitives.ReadUInt32BigEndian(answer.AsSpan(10)))];
        }

        internal uint Load(byte[] privatePart, byte[] publicPart) => Load(privatePart, publicPart, Parent, Auth());

        internal uint Load(byte[] privatePart, byte[] publicPart, uint parent, byte[] auth)
            => BinaryPrimitives.ReadUInt32BigEndian(Send(0x157, [parent], [.. privatePart, .. publicPart], auth).AsSpan(10));

        internal void Flush(uint handle) => Do(0x165, [], U32(handle));

        private byte[] Send(uint code, uint[] handles, byte[] parameters, byte[]? sessions)
        {
            byte[] command = Command(code, handles, parameters, sessions);
            byte[] answer = Answer(command);
            Assert.True(Code(answer) == 0, $"{name}: 0x{code:X}: 0x{Code(answer):X}: {Convert.ToHexString(command)}");
            return answer;
        }

        // swtpm wants a command again when it has to write a mark first.
        private byte[] Answer(byte[] command)
        {
            byte[] answer = send(command);
            return Code(answer) == 0x922 ? send(command) : answer;
        }
    }
}
