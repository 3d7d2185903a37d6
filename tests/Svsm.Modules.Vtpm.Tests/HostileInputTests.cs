// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Generic;
using System.Linq;
using System.Text.Json;
using Xunit;

namespace Svsm.Modules.Vtpm.Tests;

public sealed class HostileInputTests
{
    [Theory]
    [InlineData(0x25)]
    [InlineData(8)]
    public void Execute_KeyWithoutItsSecretPart_IsNotUsed(byte type)
    {
        var tpm = new TestTpm();
        byte[] parameters = type == 8 ? [0, 5, 0, 0x0B] : [0, 6, 1, 0, 0, 0x43];
        byte[] area = [0, type, 0, 0x0B, 0, (byte)(type == 8 ? 4 : 6), 4, 0x40, 0, 0, .. parameters, .. TestTpm.Sized(new byte[32])];
        byte[] answer = tpm.Do(0x167, [], [0, 0, .. TestTpm.Sized(area), .. TestTpm.U32(TestTpm.Null)]);
        uint key = System.Buffers.Binary.BinaryPrimitives.ReadUInt32BigEndian(answer);
        uint code = type == 8
            ? tpm.Try(0x155, [key], [.. TestTpm.Sized(new byte[8]), 0, 0x10], TestTpm.PasswordSession())
            : tpm.Try(0x193, [key], [.. TestTpm.Sized(new byte[32]), 1, 0, 0x43, .. TestTpm.Sized(new byte[16])], TestTpm.PasswordSession());

        // TPM_RC_AUTH_UNAVAILABLE: what would authorise the use is in the secret part.
        Assert.Equal(0x12Fu, code);
        Assert.False(tpm.Engine.IsFailed);
    }

    [Fact]
    public void Execute_EveryPrefixOfEveryCommand_IsAnswered()
    {
        var tpm = new TestTpm();
        foreach (byte[] command in Recorded())
        {
            for (int size = 0; size < command.Length; size += Math.Max(1, size / 8))
            {
                Assert.NotEqual(0u, TestTpm.Code(tpm.Send(command[..size])));
                Assert.False(tpm.Engine.IsFailed);
            }
        }
    }

    [Fact]
    public void Execute_MutatedCommands_NeverFails()
    {
        var random = new Random(20191108);
        var tpm = new TestTpm();
        byte[][] commands = [.. Recorded()];
        for (int i = 0; i < 30_000; i++)
        {
            byte[] command = (byte[])commands[random.Next(commands.Length)].Clone();
            int changes = random.Next(4);
            for (int change = 0; change < changes; change++)
            {
                int at = random.Next(command.Length);
                command[at] = random.Next(3) switch
                {
                    0 => (byte)random.Next(256),
                    1 => (byte)(command[at] ^ (1 << random.Next(8))),
                    _ => (byte)(random.Next(2) == 0 ? 0 : 0xFF),
                };
            }

            // A size that fits more often than not: otherwise nothing behind the header is reached.
            if (random.Next(8) != 0 && command.Length >= 6)
            {
                TestTpm.U32((uint)command.Length).CopyTo(command, 2);
            }

            tpm.Milliseconds += random.Next(100);
            tpm.Locality = (byte)random.Next(5);
            tpm.Send(command);
            Assert.False(tpm.Engine.IsFailed, Convert.ToHexString(command));
        }

        // The same TPM still works and its state is still readable.
        tpm.PowerCycle();
        tpm.Locality = 0;
        tpm.Startup(0);
        Assert.Equal(34, tpm.Do(0x17B, [], TestTpm.U16(32)).Length);
    }

    [Fact]
    public void Execute_TooLong_IsCommandSize()
    {
        var tpm = new TestTpm();
        Assert.Equal(0x142u, TestTpm.Code(tpm.Send(new byte[Tpm.MaxCommandSize + 1])));
        Assert.Equal(0x142u, TestTpm.Code(tpm.Send([.. TestTpm.U16(0x8001), .. TestTpm.U32(uint.MaxValue), .. TestTpm.U32(0x17B), 0, 4])));
    }

    [Fact]
    public void Execute_EveryCommandCode_IsServedExactlyWhenListed()
    {
        var tpm = new TestTpm();
        byte[] answer = tpm.Do(0x17A, [], [.. TestTpm.U32(2), .. TestTpm.U32(0), .. TestTpm.U32(1000)]);
        var listed = new HashSet<uint>();
        for (int offset = 9; offset < answer.Length; offset += 4)
        {
            listed.Add(System.Buffers.Binary.BinaryPrimitives.ReadUInt32BigEndian(answer.AsSpan(offset)) & 0xFFFF);
        }

        Assert.Equal(0, answer[0]);
        Assert.Equal((uint)listed.Count, tpm.Property(0x129));
        for (uint code = 0x110; code < 0x1B0; code++)
        {
            Assert.Equal(!listed.Contains(code), tpm.Try(code, [], new byte[3]) == 0x143);
        }
    }

    private static List<byte[]> Recorded()
    {
        using JsonDocument document = TestTpm.Resource("SwtpmExchanges.json");
        return document.RootElement.GetProperty("exchanges").EnumerateArray().Concat(document.RootElement.GetProperty("objects").EnumerateArray()).Select(e => Convert.FromHexString(e[1].GetString()!)).ToList();
    }
}
