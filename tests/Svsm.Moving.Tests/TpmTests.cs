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
    private const uint Index = 0x0150_0000;
    private const uint Session = 0x0300_0000;

    [Fact]
    public Task Tpm_GoesOnAtTheTarget() => CheckAsync(2);

    [Fact]
    [Trait("Run", "all")]
    public Task TpmOnOneVcpu_GoesOnAtTheTarget() => CheckAsync(1);

    private static async Task CheckAsync(int vcpuCount)
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

        ECDsa key = Quotes.PublicKeyOf(await source.TpmAsync(Quotes.CreateKey()));
        await source.TpmAsync(Command(0x176, [Null, Null], [.. Sized(new byte[16]), .. Sized(), 1, 0, 0x10, 0, 0x0B]));
        await source.TpmAsync(Command(0x16C, [Session], U32(0x158)));
        await source.TpmAsync(NvCommands.Define(Index, 0x0206_0006, (ushort)data.Length)[9..]);
        await source.TpmAsync(NvCommands.Write(Index, data)[9..]);
        (ulong clockBefore, uint resets, uint restarts) = await QuoteAsync(source, key, pcr);

        using var relay = new TestRelay(pair);
        await relay.BeginAsync();

        Notice notice = await relay.WaitForAsync(ofSource: true, MigrationState.Ended, TestContext.Current.CancellationToken);
        Assert.Equal((MigrationState.Ended, MigrationReason.None), (notice.State, notice.Reason));

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
        await guest.TpmAsync(Command(0x182, [Quotes.Pcr], [.. U32(1), 0, 0x0B, .. digest], Auth()));
        return SHA256.HashData([.. pcr, .. digest]);
    }

    private static async Task<(ulong Clock, uint Resets, uint Restarts)> QuoteAsync(TypedGuest guest, ECDsa key, byte[] pcr)
    {
        byte[] nonce = RandomNumberGenerator.GetBytes(20);
        return Quotes.Check(await guest.TpmAsync(Quotes.Quote(nonce)), key, pcr, nonce);
    }
}
