// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The virtual TPM of a guest that is moved: PCRs go on with the same log, a key that was made before signs quotes afterwards, a session and an NV index are there, and the
// clock does not go back.

using System;
using System.Buffers.Binary;
using System.Linq;
using System.Security.Cryptography;
using System.Threading.Tasks;
using Svsm.Boot;
using Svsm.Modules.Vtpm.Tests;
using Svsm.Wire;
using Xunit;
using static Svsm.Vtpm.Clients.Tests.Messages;

namespace Svsm.Moving.Tests;

public sealed class TpmTests
{
    private const int Ended = 7;
    private const uint Pcr = 10;
    private const uint Index = 0x0150_0000;
    private const uint Key = 0x8000_0000;
    private const uint Session = 0x0300_0000;

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    public async Task Tpm_GoesOnAtTheTarget(int vcpuCount)
    {
        byte[] data = [.. Enumerable.Range(0, 300).Select(i => (byte)(i * 7))];
        byte[] pcr = new byte[32];
        await using MovingPair pair = await MovingPair.StartAsync(
            "typed", vcpuCount, modules: [PackagedModules.Vtpm with { Permissions = ModulePermissions.ReadGuest | ModulePermissions.WriteGuest, StoreQuota = 0 }]);
        var source = new TypedGuest(pair.Source);
        await source.TpmAsync(NvCommands.Startup[9..]);
        for (int i = 0; i < 3; i++)
        {
            pcr = await ExtendAsync(source, pcr, i);
        }

        ECDsa key = PublicKeyOf(await source.TpmAsync(CreateKey()));
        await source.TpmAsync(Command(0x176, [Null, Null], [.. Sized(new byte[16]), .. Sized(), 1, 0, 0x10, 0, 0x0B]));
        await source.TpmAsync(Command(0x16C, [Session], U32(0x158)));
        await source.TpmAsync(NvCommands.Define(Index, 0x0206_0006, (ushort)data.Length)[9..]);
        await source.TpmAsync(NvCommands.Write(Index, data)[9..]);
        (ulong clockBefore, uint resets, uint restarts) = await QuoteAsync(source, key, pcr);

        using var relay = new TestRelay(pair);
        await relay.BeginAsync();

        Notice notice = await relay.WaitForAsync(ofSource: true, Ended, TestContext.Current.CancellationToken);
        Assert.Equal((Ended, 0), (notice.State, notice.Reason));

        var target = new TypedGuest(pair.Target, source.Number);
        (ulong clock, uint resetsAfter, uint restartsAfter) = await QuoteAsync(target, key, pcr);
        Assert.True(clock >= clockBefore, $"the TPM's clock was {clockBefore}, then {clock}");
        Assert.Equal((resets, restarts), (resetsAfter, restartsAfter));
        for (int i = 3; i < 5; i++)
        {
            pcr = await ExtendAsync(target, pcr, i);
        }

        await QuoteAsync(target, key, pcr);
        byte[] digest = await target.TpmAsync(Command(0x189, [Session], []));
        Assert.Equal(SHA256.HashData([.. new byte[32], .. U32(0x16C), .. U32(0x158)]), digest[12..44]);
        byte[] read = await target.TpmAsync(NvCommands.Read(Index, (ushort)data.Length)[9..]);
        Assert.Equal(data, read[16..(16 + data.Length)]);
        await pair.Target.TypeAsync("end\n");
        Assert.Equal(0, (await pair.Target.WaitForEndAsync()).ExitStatus);
    }

    private static async Task<byte[]> ExtendAsync(TypedGuest guest, byte[] pcr, int number)
    {
        byte[] digest = SHA256.HashData([(byte)number]);
        await guest.TpmAsync(Command(0x182, [Pcr], [.. U32(1), 0, 0x0B, .. digest], Auth()));
        return SHA256.HashData([.. pcr, .. digest]);
    }

    // ECDSA on P-256, restricted to what the TPM itself says.
    private static byte[] CreateKey() => Command(
        0x131, [Endorsement],
        [
            .. Sized(0, 0, 0, 0),
            .. Sized(0, 0x23, 0, 0x0B, 0, 5, 0, 0x72, 0, 0, 0, 0x10, 0, 0x18, 0, 0x0B, 0, 3, 0, 0x10, 0, 0, 0, 0),
            .. Sized(), .. U32(0),
        ],
        Auth());

    private static ECDsa PublicKeyOf(byte[] response)
    {
        Assert.Equal(Key, BinaryPrimitives.ReadUInt32BigEndian(response.AsSpan(10)));
        int end = 20 + BinaryPrimitives.ReadUInt16BigEndian(response.AsSpan(18));
        return ECDsa.Create(new ECParameters
        {
            Curve = ECCurve.NamedCurves.nistP256,
            Q = new ECPoint { X = response[(end - 66)..(end - 34)], Y = response[(end - 32)..end] },
        });
    }

    // A quote over the PCR, checked with the key and the log. Returns clock, reset count and restart count.
    private static async Task<(ulong Clock, uint Resets, uint Restarts)> QuoteAsync(TypedGuest guest, ECDsa key, byte[] pcr)
    {
        byte[] nonce = RandomNumberGenerator.GetBytes(20);
        byte[] response = await guest.TpmAsync(Command(0x158, [Key], [.. Sized(nonce), 0, 0x10, .. U32(1), 0, 0x0B, 3, 0, 4, 0], Auth()));
        int length = BinaryPrimitives.ReadUInt16BigEndian(response.AsSpan(14));
        byte[] attest = response[16..(16 + length)];
        int at = 16 + length + 4;
        byte[] signature = [.. Number(response, ref at), .. Number(response, ref at)];
        Assert.True(key.VerifyData(attest, signature, HashAlgorithmName.SHA256));
        int name = BinaryPrimitives.ReadUInt16BigEndian(attest.AsSpan(6));
        int clockInfo = 8 + name + 2 + nonce.Length;
        Assert.Equal(nonce, attest[(8 + name + 2)..clockInfo]);
        Assert.Equal(SHA256.HashData(pcr), attest[^32..]);
        return (BinaryPrimitives.ReadUInt64BigEndian(attest.AsSpan(clockInfo)), BinaryPrimitives.ReadUInt32BigEndian(attest.AsSpan(clockInfo + 8)),
            BinaryPrimitives.ReadUInt32BigEndian(attest.AsSpan(clockInfo + 12)));
    }

    private static byte[] Number(byte[] response, ref int at)
    {
        int length = BinaryPrimitives.ReadUInt16BigEndian(response.AsSpan(at));
        byte[] number = new byte[32];
        response.AsSpan(at + 2, length).CopyTo(number.AsSpan(32 - length));
        at += 2 + length;
        return number;
    }
}
