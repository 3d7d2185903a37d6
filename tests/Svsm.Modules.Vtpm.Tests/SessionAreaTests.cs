// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using System.Security.Cryptography;
using System.Text;
using Xunit;

namespace Svsm.Modules.Vtpm.Tests;

// HMAC sessions against a client written here on the stock class library's cryptography.
public sealed class SessionAreaTests
{
    private const uint GetRandom = 0x17B;
    private const uint StirRandom = 0x146;
    private const uint HierarchyChangeAuth = 0x129;

    private static readonly byte[] s_aes128Cfb = [0, 6, 0, 128, 0, 0x43];
    private static readonly byte[] s_xorSha256 = [0, 0xA, 0, 0xB];
    private static readonly byte[] s_none = [0, 0x10];

    [Theory]
    [InlineData(0x0B)]
    [InlineData(0x04)]
    [InlineData(0x0C)]
    [InlineData(0x0D)]
    public void Hmac_Unbound_AuthorizesAndIsAnswered(int hash)
    {
        var tpm = new TestTpm();
        tpm.Do(HierarchyChangeAuth, [TestTpm.Owner], TestTpm.Sized(1, 2, 3), TestTpm.PasswordSession());
        var session = new Client(tpm, s_none, hash: hash);
        for (int i = 0; i < 3; i++)
        {
            session.Run(0x128, [TestTpm.Owner], ClockValue(1000 + i), auth: [1, 2, 3]);
        }

        Assert.Equal(0x9A2u, session.TryRun(0x128, [TestTpm.Owner], ClockValue(2000), auth: [1, 2]));
        session.Run(0x128, [TestTpm.Owner], ClockValue(2001), auth: [1, 2, 3]);
    }

    [Fact]
    public void Hmac_NotContinued_EndsSession()
    {
        var tpm = new TestTpm();
        var session = new Client(tpm, s_none);
        session.Run(0x128, [TestTpm.Owner], ClockValue(1000), attributes: 0);
        Assert.Equal(0x918u, session.TryRun(0x128, [TestTpm.Owner], ClockValue(1001)));
        Assert.Equal(0u, tpm.Property(0x203));
    }

    [Fact]
    public void Hmac_CommandFails_KeepsNonceAndSession()
    {
        var tpm = new TestTpm();
        var session = new Client(tpm, s_none);
        Assert.Equal(0x1C4u, session.TryRun(0x128, [TestTpm.Owner], ClockValue(-1), attributes: 0));
        session.Run(0x128, [TestTpm.Owner], ClockValue(1001));
    }

    [Fact]
    public void Hmac_Bound_LeavesAuthOutForItsEntityOnly()
    {
        var tpm = new TestTpm();
        tpm.Do(HierarchyChangeAuth, [TestTpm.Owner], TestTpm.Sized(9, 9), TestTpm.PasswordSession());
        tpm.Do(HierarchyChangeAuth, [TestTpm.Platform], TestTpm.Sized(8), TestTpm.PasswordSession());
        var session = new Client(tpm, s_none, bind: TestTpm.Owner, bindAuth: [9, 9]);
        session.Run(0x128, [TestTpm.Owner], ClockValue(1000));
        Assert.Equal(0x9A2u, session.TryRun(0x128, [TestTpm.Platform], ClockValue(1001)));
        session.Run(0x128, [TestTpm.Platform], ClockValue(1002), auth: [8]);

        // After a change of the authValue the session is not bound to the entity any more.
        tpm.Do(HierarchyChangeAuth, [TestTpm.Owner], TestTpm.Sized(7), TestTpm.PasswordSession(9, 9));
        Assert.Equal(0x9A2u, session.TryRun(0x128, [TestTpm.Owner], ClockValue(1003)));
        session.Run(0x128, [TestTpm.Owner], ClockValue(1004), auth: [7]);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void ParameterEncryption_NewAuth_ArrivesAndCanBeUsed(bool aes)
    {
        var tpm = new TestTpm();
        tpm.Do(HierarchyChangeAuth, [TestTpm.Owner], TestTpm.Sized(5), TestTpm.PasswordSession());
        var session = new Client(tpm, aes ? s_aes128Cfb : s_xorSha256, bind: TestTpm.Owner, bindAuth: [5]);
        byte[] newAuth = [.. Encoding.ASCII.GetBytes("a password of more than one block")];

        // The response is keyed with the new authValue if the key has it at all: a bound session's does not.
        session.Run(HierarchyChangeAuth, [TestTpm.Owner], TestTpm.Sized(newAuth), attributes: 0x21, entityAuth: [5]);
        tpm.Do(0x128, [TestTpm.Owner], ClockValue(1000), TestTpm.PasswordSession(newAuth));
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void ParameterEncryption_Response_IsDecrypted(bool aes)
    {
        var tpm = new TestTpm();
        var session = new Client(tpm, aes ? s_aes128Cfb : s_xorSha256, bind: TestTpm.Owner, bindAuth: []);
        byte[] hash = session.Run(0x17D, [], [.. TestTpm.Sized(97, 98, 99), .. TestTpm.U16(0xB), .. TestTpm.U32(TestTpm.Null)], attributes: 0x61);
        Assert.Equal(SHA256.HashData("abc"u8), hash[2..34]);
    }

    [Theory]
    [InlineData("", 0x99A)]
    [InlineData("00", 0x99A)]
    [InlineData("0001", 0x995)]
    [InlineData("ffff00", 0x995)]
    [InlineData("0000", 0)]
    public void Decrypt_ParameterTooShort_IsSessionError(string parameters, uint expected)
    {
        // CVE-2023-1017 and CVE-2023-1018: decrypting a parameter that is not there.
        var tpm = new TestTpm();
        var session = new Client(tpm, s_aes128Cfb, bind: TestTpm.Owner, bindAuth: []);
        Assert.Equal(expected, session.TryRun(StirRandom, [], Convert.FromHexString(parameters), attributes: 0x21, encrypts: false));
    }

    [Fact]
    public void Encrypt_EmptyResult_IsAnswered()
    {
        // The response's side of the same: there is nothing to encrypt.
        var tpm = new TestTpm();
        var session = new Client(tpm, s_aes128Cfb, bind: TestTpm.Owner, bindAuth: []);
        Assert.Equal([0, 0], session.Run(GetRandom, [], TestTpm.U16(0), attributes: 0x41));
    }

    [Fact]
    public void Audit_ExclusiveSession_EndsWithOtherCommand()
    {
        var tpm = new TestTpm();
        var session = new Client(tpm, s_none);
        session.Run(GetRandom, [], TestTpm.U16(8), attributes: 0x81);
        Assert.Equal(0x83, session.LastAttributes);
        session.Run(GetRandom, [], TestTpm.U16(8), attributes: 0x83);
        tpm.Do(GetRandom, [], TestTpm.U16(1));
        Assert.Equal(0x121u, session.TryRun(GetRandom, [], TestTpm.U16(8), attributes: 0x83));
        session.Run(GetRandom, [], TestTpm.U16(8), attributes: 0x81);
        Assert.Equal(0x81, session.LastAttributes);
        session.Run(GetRandom, [], TestTpm.U16(8), attributes: 0x85);
        Assert.Equal(0x87, session.LastAttributes);
    }

    [Fact]
    public void DictionaryAttack_SessionBoundToLockout_CountsAsLockout()
    {
        var tpm = new TestTpm();
        tpm.Do(HierarchyChangeAuth, [TestTpm.Lockout], TestTpm.Sized(4), TestTpm.PasswordSession());
        var session = new Client(tpm, s_none, bind: TestTpm.Lockout, bindAuth: [3]);
        Assert.Equal(0x98Eu, session.TryRun(0x128, [TestTpm.Owner], ClockValue(1000)));
        Assert.Equal(0x921u, tpm.Try(0x139, [TestTpm.Lockout], [], TestTpm.PasswordSession(4)));
        Assert.Equal(0x921u, session.TryRun(0x128, [TestTpm.Owner], ClockValue(1000)));
    }

    private static byte[] ClockValue(long value)
    {
        var bytes = new byte[8];
        BinaryPrimitives.WriteInt64BigEndian(bytes, value);
        return bytes;
    }

    // One HMAC session from the caller's side.
    private sealed class Client
    {
        private readonly TestTpm _tpm;
        private readonly byte[] _symmetric;
        private readonly HashAlgorithmName _hash;
        private readonly byte[] _key;
        private byte[] _nonceTpm;
        private byte _counter;

        internal Client(TestTpm tpm, byte[] symmetric, uint bind = TestTpm.Null, byte[]? bindAuth = null, int hash = 0xB)
        {
            _tpm = tpm;
            _symmetric = symmetric;
            _hash = hash switch
            {
                4 => HashAlgorithmName.SHA1,
                0xC => HashAlgorithmName.SHA384,
                0xD => HashAlgorithmName.SHA512,
                _ => HashAlgorithmName.SHA256,
            };
            byte[] nonce = new byte[16];
            byte[] answer = tpm.Do(
                0x176, [TestTpm.Null, bind], [.. TestTpm.Sized(nonce), 0, 0, 0, .. symmetric, .. TestTpm.U16(hash)]);
            Handle = BinaryPrimitives.ReadUInt32BigEndian(answer);
            _nonceTpm = answer[6..];
            _key = bindAuth is null ? [] : DeriveKey(bindAuth, "ATH", _nonceTpm, nonce, CryptographicOperations.HashData(_hash, Array.Empty<byte>()).Length);
        }

        internal uint Handle { get; }

        internal int LastAttributes { get; private set; }

        internal uint TryRun(uint code, uint[] handles, byte[] parameters, byte[]? auth = null, int attributes = 1, bool encrypts = true)
        {
            byte[] response = Send(code, handles, parameters, auth ?? [], attributes, encrypts, [], out byte[] nonce);
            if (TestTpm.Code(response) == 0)
            {
                Check(code, response, nonce, auth ?? [], [], attributes);
            }

            return TestTpm.Code(response);
        }

        internal byte[] Run(uint code, uint[] handles, byte[] parameters, byte[]? auth = null, int attributes = 1, byte[]? entityAuth = null)
        {
            byte[] response = Send(code, handles, parameters, auth ?? [], attributes, true, entityAuth ?? auth ?? [], out byte[] nonce);
            Assert.Equal(0u, TestTpm.Code(response));
            return Check(code, response, nonce, auth ?? [], entityAuth ?? auth ?? [], attributes);
        }

        private byte[] Send(
            uint code, uint[] handles, byte[] parameters, byte[] auth, int attributes, bool encrypts, byte[] entityAuth, out byte[] nonce)
        {
            nonce = new byte[16];
            nonce[0] = ++_counter;
            byte[] sent = (byte[])parameters.Clone();
            if ((attributes & 0x20) != 0 && encrypts)
            {
                Transform(sent, nonce, _nonceTpm, entityAuth, encrypt: true);
            }

            var names = new List<byte>(TestTpm.U32(code));
            foreach (uint handle in handles)
            {
                names.AddRange(TestTpm.U32(handle));
            }

            byte[] cpHash = CryptographicOperations.HashData(_hash, [.. names, .. sent]);
            byte[] key = [.. _key, .. auth];
            byte[] hmac = Hmac(key, [.. cpHash, .. nonce, .. _nonceTpm, (byte)attributes]);
            byte[] area = [.. TestTpm.U32(Handle), .. TestTpm.Sized(nonce), (byte)attributes, .. TestTpm.Sized(key.Length == 0 ? [] : hmac)];
            return _tpm.Send(TestTpm.Command(code, handles, sent, area));
        }

        private byte[] Check(uint code, byte[] response, byte[] nonce, byte[] auth, byte[] entityAuth, int attributes)
        {
            int size = (int)BinaryPrimitives.ReadUInt32BigEndian(response.AsSpan(10));
            byte[] parameters = response[14..(14 + size)];
            ReadOnlySpan<byte> area = response.AsSpan(14 + size);
            int nonceSize = BinaryPrimitives.ReadUInt16BigEndian(area);
            _nonceTpm = area.Slice(2, nonceSize).ToArray();
            LastAttributes = area[2 + nonceSize];
            ReadOnlySpan<byte> hmac = area[(5 + nonceSize)..];
            byte[] key = [.. _key, .. auth];
            byte[] rpHash = CryptographicOperations.HashData(_hash, [.. TestTpm.U32(0), .. TestTpm.U32(code), .. parameters]);
            byte[] expected = Hmac(key, [.. rpHash, .. _nonceTpm, .. nonce, (byte)LastAttributes]);
            Assert.Equal(key.Length == 0 ? [] : expected, hmac.ToArray());
            if ((attributes & 0x40) != 0)
            {
                Transform(parameters, _nonceTpm, nonce, entityAuth, encrypt: false);
            }

            return parameters;
        }

        private void Transform(byte[] parameters, byte[] newer, byte[] older, byte[] entityAuth, bool encrypt)
        {
            int size = BinaryPrimitives.ReadUInt16BigEndian(parameters);
            byte[] key = [.. _key, .. entityAuth];
            byte[] data = parameters[2..(2 + size)];
            if (_symmetric[1] == 0xA)
            {
                byte[] mask = DeriveKey(key, "XOR", newer, older, size);
                for (int i = 0; i < size; i++)
                {
                    data[i] ^= mask[i];
                }
            }
            else
            {
                byte[] material = DeriveKey(key, "CFB", newer, older, 32);
                using var aes = Aes.Create();
                aes.Key = material[..16];
                data = encrypt
                    ? aes.EncryptCfb(data, material[16..], PaddingMode.Zeros, 128)[..size]
                    : Decrypt(aes, data, material[16..]);
            }

            data.CopyTo(parameters, 2);
        }

        private static byte[] Decrypt(Aes aes, byte[] data, byte[] iv)
        {
            byte[] padded = new byte[(data.Length + 15) / 16 * 16];
            data.CopyTo(padded, 0);
            return aes.DecryptCfb(padded, iv, PaddingMode.None, 128)[..data.Length];
        }

        private byte[] Hmac(byte[] key, byte[] data) => CryptographicOperations.HmacData(_hash, key, data);

        private byte[] DeriveKey(byte[] key, string label, byte[] contextU, byte[] contextV, int bytes)
        {
            var result = new List<byte>();
            for (uint counter = 1; result.Count < bytes; counter++)
            {
                result.AddRange(Hmac(
                    key,
                    [.. TestTpm.U32(counter), .. Encoding.ASCII.GetBytes(label), 0, .. contextU, .. contextV, .. TestTpm.U32((uint)bytes * 8)]));
            }

            return [.. result[..bytes]];
        }
    }
}
