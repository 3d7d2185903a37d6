// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using System.Linq;
using System.Numerics;
using System.Reflection;
using System.Security.Cryptography;
using Svsm.Modules.Vtpm.Crypto;
using Svsm.Modules.Vtpm.Wire;
using Xunit;

namespace Svsm.Modules.Vtpm.Tests;

// What went wrong in other TPMs, and the test that shows that it does not here. Tests that have no better place are below.
public sealed class SecurityCasesTests
{
    private const uint Key = 0x8000_0000;

    private static readonly (string Case, string Test)[] s_cases =
    [
        ("CVE-2023-1017, CVE-2023-1018: a decrypt session without a whole first parameter", "SessionAreaTests.Decrypt_ParameterTooShort_IsSessionError"),
        ("the same in the response: an encrypt session with an empty first parameter", "SessionAreaTests.Encrypt_EmptyResult_IsAnswered"),
        ("CVE-2025-49133, CVE-2025-2884: an HMAC signature with another hash than the key's", "SecurityCasesTests.Sign_HmacWithOtherHash_IsRefused"),
        ("CVE-2021-3446: the chaining value that an encryption returns", "SecurityCasesTests.EncryptDecrypt_InPieces_IsTheWhole"),
        ("CVE-2021-3505: RSA keys from too little randomness", "SecurityCasesTests.Create_RsaKeys_ShareNoPrime"),
        ("CVE-2017-15361: RSA primes of a special form", "SecurityCasesTests.Create_RsaKeys_HaveNoFingerprint"),
        ("CVE-2021-3623: state that does not parse", "KilledTests.TryOpen_EveryPrefixAndEveryByteChanged_NeverMakesSeeds"),
        ("the same for the volatile state", "SuspendTests.Resume_EveryPrefixAndByteChanged_IsAStateOrInvalid"),
        ("CVE-2020-28407: a symbolic link in the place of a state file", "StateDirectoryTests.Write_SymbolicLink_IsNotFollowed"),
        ("CVE-2019-11090, CVE-2019-16863: times that depend on ECDSA's secrets", "ConstantTimeTests.MachineCode_InnerRoutines_JumpsOnlyInLoops"),
        ("CVE-2026-6727: times of OAEP's decoding", "SecurityCasesTests.RsaDecrypt_PaddingWrongAnywhere_IsOneAnswerInOneTime"),
        ("power taken away so that a wrong authorisation does not count", "SecurityCasesTests.Startup_PowerLostAfterProtectedUse_Counts"),
        ("signed comparisons of PolicyNV and PolicyCounterTimer", "PolicyTests.Compare_EveryOperation_IsArithmetic"),
        ("the gap of session contexts", "ContextTests.Session_GapTooLarge_OldestComesFirst"),
        ("a session's context loaded again", "ContextTests.Session_Saved_IsLoadedOnceFromItsLastContext"),
        ("contexts changed, or of objects without a Name", "ContextTests.Object_AnyByteChanged_IsRefused"),
        ("the same", "ContextTests.Object_WithoutNameAlgorithm_IsSavedAndLoaded"),
        ("tickets of another TPM, time or reference", "PolicyTests.Ticket_OtherTpmTimeOrReference_IsRefused"),
        ("times of comparing tickets, HMACs, passwords", "SecurityCasesTests.Comparisons_OfTheEngine_TakeOneTimeButForPublicBytes"),
        ("a digest of the TPM's own structures, hashed in pieces", "StateTests.SequenceComplete_AttestationMagicInPieces_GivesNoTicket"),
        ("secrets that stay in memory", "StateTests.Execute_SecretInCommand_IsNotKept"),
        ("counts that ask for memory", "SecurityCasesTests.Execute_HugeCounts_AllocateNothing"),
        ("commands that take long", "ObjectTests.TryExecute_LongCommand_IsContinuedOrEndsWithoutATrace"),
        ("any bytes", "HostileInputTests.Execute_MutatedCommands_NeverFails"),
        ("any structure", "FuzzTests.Execute_StructuredCommands_KeepTheInvariants"),
        ("seeds made anew because the state is gone or damaged", "StateTests.TryOpen_NothingStored_MakesNoSeeds"),
        ("the same on the desk", "StateDirectoryTests.TryOpen_DamagedState_MakesNoSeeds"),
    ];

    [Fact]
    public void Cases_Tests_AreThere()
    {
        foreach ((string text, string test) in s_cases)
        {
            string[] parts = test.Split('.');
            MethodInfo? method = typeof(SecurityCasesTests).Assembly.GetType("Svsm.Modules.Vtpm.Tests." + parts[0])?.GetMethod(parts[1]);
            Assert.True(method?.GetCustomAttributes<FactAttribute>().Any() == true, $"{text}: there is no test {test}");
        }
    }

    // What compares bytes and stops at the first that differs is called where all of them are public: Names, public areas,
    // signatures that are verified, messages to a key, the data of an NV index that the caller may read.
    [Fact]
    public void Comparisons_OfTheEngine_TakeOneTimeButForPublicBytes()
    {
        var found = new SortedSet<string>(StringComparer.Ordinal);
        int compared = 0;
        const BindingFlags All = BindingFlags.Static | BindingFlags.Instance | BindingFlags.Public | BindingFlags.NonPublic | BindingFlags.DeclaredOnly;
        foreach (MethodBase method in typeof(Tpm).Assembly.GetTypes().SelectMany(type => type.GetMethods(All).Cast<MethodBase>().Concat(type.GetConstructors(All))))
        {
            foreach (MethodBase called in Calls(method))
            {
                compared += called.DeclaringType == typeof(CryptographicOperations) && called.Name == nameof(CryptographicOperations.FixedTimeEquals) ? 1 : 0;
                if (called.Name is "SequenceEqual" or "SequenceCompareTo" or "StartsWith" or "EndsWith" or "CommonPrefixLength")
                {
                    found.Add($"{method.DeclaringType!.Name}.{method.Name}");
                }
            }
        }

        Assert.Equal(
            "EccSignatures.VerifySchnorr ObjectChangeAuth.Execute ObjectLoading.SameNumber Policies.Compare RsaPadding.IsPss SecretExchange.PrivateOperation Signing.VerifyRsa", string.Join(' ', found));
        Assert.NotEqual(0, compared);
    }

    [Fact]
    public void Sign_HmacWithOtherHash_IsRefused()
    {
        var tpm = new TestTpm();
        Primary(tpm, [0, 8, 0, 0x0B, .. TestTpm.U32(0x4_0072), 0, 0, 0, 5, 0, 0x0B, 0, 0]);
        byte[] noTicket = [0x80, 0x24, .. TestTpm.U32(TestTpm.Null), 0, 0];
        foreach ((byte hash, int size) in ((byte, int)[])[(4, 20), (0x0C, 48), (0x0D, 64), (0x0D, 0)])
        {
            Assert.Equal(0x2D2u, tpm.Try(0x15D, [Key], [.. TestTpm.Sized(new byte[size]), 0, 5, 0, hash, .. noTicket], TestTpm.PasswordSession()));
        }

        Assert.Equal(0x1D5u, tpm.Try(0x15D, [Key], [.. TestTpm.Sized(new byte[64]), 0, 5, 0, 0x0B, .. noTicket], TestTpm.PasswordSession()));
        Assert.Equal(0u, tpm.Try(0x15D, [Key], [.. TestTpm.Sized(new byte[32]), 0, 5, 0, 0x0B, .. noTicket], TestTpm.PasswordSession()));
        Assert.False(tpm.Engine.IsFailed);
    }

    [Theory]
    [InlineData(0x40)]
    [InlineData(0x41)]
    [InlineData(0x42)]
    [InlineData(0x43)]
    public void EncryptDecrypt_InPieces_IsTheWhole(byte mode)
    {
        var tpm = new TestTpm();
        Primary(tpm, [0, 0x25, 0, 0x0B, .. TestTpm.U32(0x6_0072), 0, 0, 0, 6, 0, 128, 0, 0x10, 0, 0]);
        byte[] data = [.. Enumerable.Range(0, 96).Select(i => (byte)i)];
        foreach (byte decrypt in (byte[])[0, 1])
        {
            byte[] whole = Transform(new byte[16], data, out _);
            byte[] iv = new byte[16];
            byte[] pieces = [];
            foreach (int size in (int[])[16, 48, 32])
            {
                pieces = [.. pieces, .. Transform(iv, data[pieces.Length..(pieces.Length + size)], out iv)];
            }

            Assert.Equal(whole, pieces);

            byte[] Transform(byte[] ivIn, byte[] text, out byte[] ivOut)
            {
                byte[] answer = tpm.Do(0x193, [Key], [.. TestTpm.Sized(text), decrypt, 0, mode, .. TestTpm.Sized(ivIn)], TestTpm.PasswordSession());
                ivOut = answer[(4 + text.Length)..(20 + text.Length)];
                return answer[2..(2 + text.Length)];
            }
        }
    }

    [Fact]
    public void Create_RsaKeys_ShareNoPrime()
    {
        // Of one TPM, and after its random numbers have begun anew.
        var tpm = new TestTpm();
        BigInteger first = RsaModulus(tpm);
        BigInteger second = RsaModulus(tpm);
        tpm.PowerCycle();
        tpm.Startup(0);
        BigInteger third = RsaModulus(tpm);
        Assert.True(BigInteger.GreatestCommonDivisor(first, second).IsOne);
        Assert.True(BigInteger.GreatestCommonDivisor(first * second, third).IsOne);
    }

    // Keys of that library are powers of 65537 modulo every small prime; others are that for 38 primes at once with a chance of 2^-27.
    [Fact]
    public void Create_RsaKeys_HaveNoFingerprint()
    {
        BigInteger modulus = RsaModulus(new TestTpm());
        int[] primes = [3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97, 101, 103, 107, 109, 113, 127, 131, 137, 139, 149, 151, 157, 163, 167];
        Assert.False(Array.TrueForAll(primes, prime =>
        {
            int rest = (int)(modulus % prime);
            int power = 1;
            for (int i = 0; i < prime; i++)
            {
                if (power == rest)
                {
                    return true;
                }

                power = power * (65537 % prime) % prime;
            }

            return false;
        }));
    }

    // Blocks with one byte wrong, at every place; what finds the message in them does the same for all (its machine code: ConstantTimeTests).
    [Fact]
    public void RsaDecrypt_PaddingWrongAnywhere_IsOneAnswerInOneTime()
    {
        Assert.Contains(ConstantTimeTests.Routines, row => row.Data.Item1 == nameof(RsaPadding) && row.Data.Item2 == nameof(RsaPadding.FindOaepMessage));
        Assert.Contains(ConstantTimeTests.Routines, row => row.Data.Item1 == nameof(RsaPadding) && row.Data.Item2 == nameof(RsaPadding.FindEsMessage));
        var tpm = new TestTpm();
        Primary(tpm, [0, 1, 0, 0x0B, .. TestTpm.U32(0x2_0072), 0, 0, 0, 0x10, 0, 0x10, 8, 0, 0, 0, 0, 0, 0, 0]);
        var cryptography = new BouncyCastleCryptography();
        CounterDrbg random = CounterDrbg.Create(cryptography, [7]);
        byte[] message = random.Generate(20);
        byte[] oaep = RsaPadding.EncodeOaep(cryptography, AlgorithmId.Sha256, [], message, 256, random)!;
        byte[] es = RsaPadding.EncodeEs(message, 256, random)!;
        byte[] oaepScheme = [0, 0x17, 0, 0x0B];
        byte[] esScheme = [0, 0x15];
        Assert.Equal(TestTpm.Sized(message), tpm.Do(0x159, [Key], [.. TestTpm.Sized(Encrypt(oaep)), .. oaepScheme, 0, 0], TestTpm.PasswordSession())[..22]);
        Assert.Equal(TestTpm.Sized(message), tpm.Do(0x159, [Key], [.. TestTpm.Sized(Encrypt(es)), .. esScheme, 0, 0], TestTpm.PasswordSession())[..22]);

        // With what masks it undone, so that a single byte of the padding is wrong: each of the label's digest, each zero, the one.
        byte[] data = oaep[33..];
        byte[] seed = Xor(oaep[1..33], cryptography.Mask(AlgorithmId.Sha256, data, 32));
        data = Xor(data, cryptography.Mask(AlgorithmId.Sha256, seed, data.Length));
        for (int i = 0; i < data.Length - message.Length; i += 3)
        {
            byte[] wrong = (byte[])data.Clone();
            wrong[i] ^= 2;
            wrong = Xor(wrong, cryptography.Mask(AlgorithmId.Sha256, seed, data.Length));
            byte[] block = [0, .. Xor(seed, cryptography.Mask(AlgorithmId.Sha256, wrong, 32)), .. wrong];
            Assert.Equal((uint)TpmResponseCode.Value, tpm.Try(0x159, [Key], [.. TestTpm.Sized(Encrypt(block)), .. oaepScheme, 0, 0], TestTpm.PasswordSession()));
        }

        foreach (int i in (int[])[0, 1, 2, 9, 100])
        {
            byte[] block = (byte[])es.Clone();
            block[i] = i < 2 ? (byte)(i + 3) : (byte)0;
            Assert.Equal(
                i == 100 ? 0u : (uint)TpmResponseCode.Value, tpm.Try(0x159, [Key], [.. TestTpm.Sized(Encrypt(block)), .. esScheme, 0, 0], TestTpm.PasswordSession()));
        }

        // The raw operation with the public exponent, which the TPM does with the null scheme.
        byte[] Encrypt(byte[] block) => tpm.Do(0x174, [Key], [.. TestTpm.Sized(block), 0, 0x10, 0, 0])[2..];

        static byte[] Xor(byte[] left, byte[] right) => [.. left.Zip(right, (a, b) => (byte)(a ^ b))];
    }

    [Fact]
    public void Startup_PowerLostAfterProtectedUse_Counts()
    {
        var tpm = new TestTpm();
        byte[] template = [0, 8, 0, 0x0B, .. TestTpm.U32(0x52), 0, 0, 0, 0x10, 0, 0];
        tpm.Do(
            0x131, [TestTpm.Owner], [.. TestTpm.Sized([.. TestTpm.Sized(7), .. TestTpm.Sized(1)]), .. TestTpm.Sized(template), 0, 0, 0, 0, 0, 0], TestTpm.PasswordSession());
        Assert.Equal(0u, tpm.Property(0x20E));

        // Even a right one, because nobody knows what came after it. Only once, and not after a shutdown.
        tpm.Do(0x15E, [Key], [], TestTpm.PasswordSession(7));
        tpm.PowerCycle();
        tpm.Startup(0);
        Assert.Equal(1u, tpm.Property(0x20E));
        tpm.PowerCycle();
        tpm.Startup(0);
        Assert.Equal(1u, tpm.Property(0x20E));
    }

    [Theory]
    [InlineData(0x17E, "ffffffff000b03ffffff")]
    [InlineData(0x142, "ffffffff0004")]
    [InlineData(0x171, "ffffffff0020")]
    [InlineData(0x17F, "0000ffffffff000b03ffffff")]
    public void Execute_HugeCounts_AllocateNothing(uint code, string parameters)
    {
        var tpm = new TestTpm();
        byte[] session = tpm.Do(0x176, [TestTpm.Null, TestTpm.Null], [.. TestTpm.Sized(new byte[16]), 0, 0, 1, 0, 0x10, 0, 0x0B])[..4];
        uint[] handles = code is 0x171 or 0x17F ? [BinaryPrimitives.ReadUInt32BigEndian(session)] : [];
        byte[] command = TestTpm.Command(code, handles, Convert.FromHexString(parameters));
        byte[] response = new byte[Tpm.MaxCommandSize];
        tpm.Engine.Execute(command, 0, response);
        long before = GC.GetAllocatedBytesForCurrentThread();
        tpm.Engine.Execute(command, 0, response);
        Assert.InRange(GC.GetAllocatedBytesForCurrentThread() - before, 0, 16 * 1024);
        Assert.Equal(0x95u, TestTpm.Code(response) & 0xBF);
    }

    // The methods whose tokens follow an instruction `call` or `callvirt`; other bytes of that value name no method, or one that nobody looks for.
    private static IEnumerable<MethodBase> Calls(MethodBase method)
    {
        byte[] code = method.GetMethodBody()?.GetILAsByteArray() ?? [];
        for (int i = 0; i + 5 <= code.Length; i++)
        {
            if (code[i] is not (0x28 or 0x6F) || code[i + 4] is not (0x06 or 0x0A or 0x2B))
            {
                continue;
            }

            MethodBase? called = null;
            try
            {
                called = method.Module.ResolveMethod(
                    BitConverter.ToInt32(code, i + 1),
                    method.DeclaringType!.IsGenericType ? method.DeclaringType.GetGenericArguments() : null,
                    method.IsGenericMethod ? method.GetGenericArguments() : null);
            }
            catch (ArgumentException)
            {
                // Not a token.
            }

            if (called is not null)
            {
                yield return called;
            }
        }
    }

    private static void Primary(TestTpm tpm, byte[] template)
        => tpm.Do(0x131, [TestTpm.Owner], [0, 4, 0, 0, 0, 0, .. TestTpm.Sized(template), 0, 0, 0, 0, 0, 0], TestTpm.PasswordSession());

    // Of a key that TPM2_Create makes under a new parent.
    private static BigInteger RsaModulus(TestTpm tpm)
    {
        Primary(tpm, [0, 0x23, 0, 0x0B, .. TestTpm.U32(0x3_0072), 0, 0, 0, 6, 0, 128, 0, 0x43, 0, 0x10, 0, 3, 0, 0x10, 0, 0, 0, 0]);
        byte[] template = [0, 1, 0, 0x0B, .. TestTpm.U32(0x4_0072), 0, 0, 0, 0x10, 0, 0x10, 8, 0, 0, 0, 0, 0, 0, 0];
        byte[] made = tpm.Do(0x153, [Key], [0, 4, 0, 0, 0, 0, .. TestTpm.Sized(template), 0, 0, 0, 0, 0, 0], TestTpm.PasswordSession());
        int place = 2 + BinaryPrimitives.ReadUInt16BigEndian(made);
        int size = BinaryPrimitives.ReadUInt16BigEndian(made.AsSpan(place));
        tpm.Do(0x165, [], TestTpm.U32(Key));
        return new BigInteger(made.AsSpan(place + 2 + size - 256, 256), isUnsigned: true, isBigEndian: true);
    }
}
