// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// A guest message all the way: sealed here as a guest does it, sent by the probe in the machine, answered by the simulated security processor.
// The probe has no AES: it sends a page that the test made, and prints what comes back.

extern alias machine;

using System;
using System.Buffers.Binary;
using System.IO;
using System.Linq;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Threading;
using System.Threading.Tasks;
using machine::Svsm.Simulator;
using Svsm.Simulator.Shared;
using Xunit;

namespace Svsm.Hypervisor.Tests;

/// <summary>The probe talks to the security processor.</summary>
public sealed class GuestMessageTests
{
    [Fact]
    public async Task Report_FromInsideTheMachine_VerifiesAgainstTheChain()
    {
        CancellationToken cancellation = TestContext.Current.CancellationToken;
        DirectoryInfo folder = Directory.CreateTempSubdirectory("svsm-test-");
        try
        {
            using SimulatedChip chip = SimulatedChip.Open(Path.Combine(folder.FullName, "chip"));
            byte[][] keys = [.. Enumerable.Range(0, 4).Select(_ => RandomNumberGenerator.GetBytes(32))];
            byte[] digest = RandomNumberGenerator.GetBytes(48);
            byte[] data = RandomNumberGenerator.GetBytes(64);
            var guest = new GuestContext { Policy = 0x3_0000, Digest = digest, MessageKeys = keys };
            var service = new GuestRequestService(new GuestMessages(guest, () => chip, reportVersion: 3), () => chip);

            // What the probe asks after the first message is the hypervisor's own matter: room for certificates, and a refusal.
            int asked = 0;
            byte[] Answer(byte[] request) => asked++ switch
            {
                0 => service.Answer(request),
                1 => QemuRun.GuestResponse(1ul << 32, 1, []),
                _ => QemuRun.GuestResponse(0x16, 0, []),
            };
            RunResult result = await QemuRun.StartAsync(
                await File.ReadAllBytesAsync(QemuRun.Hypervisor, cancellation), ProbeLaunch.Make(5, message: Seal(keys[0], data)), Answer, cancellation);

            Assert.True(result is { Reason: StopReason.GuestExit, Detail: 0 }, result.ToString());
            byte[] report = Open(keys[0], Convert.FromHexString(result.Console.ToString().Split('\n')[0]));
            Assert.Equal(3u, BinaryPrimitives.ReadUInt32LittleEndian(report));
            Assert.Equal(data, report[0x50..0x90]);
            Assert.Equal(digest, report[0x90..0xC0]);
            using X509Certificate2 vcek = X509Certificate2.CreateFromPem(await File.ReadAllTextAsync(Path.Combine(folder.FullName, "chip", "vcek.pem"), cancellation));
            using ECDsa key = vcek.GetECDsaPublicKey()!;
            byte[] signature = [.. report[0x2A0..0x2D0].Reverse(), .. report[0x2E8..0x318].Reverse()];
            Assert.True(key.VerifyData(report.AsSpan(0, 0x2A0), signature, HashAlgorithmName.SHA384, DSASignatureFormat.IeeeP1363FixedFieldConcatenation));
        }
        finally
        {
            folder.Delete(recursive: true);
        }
    }

    // A REPORT request with number 1 for VMPL0.
    private static byte[] Seal(byte[] key, byte[] data)
    {
        byte[] page = new byte[4096];
        page[0x20] = 1;
        new byte[] { 1, 1, 0x60, 0, 5, 1, 96, 0 }.CopyTo(page, 0x30);
        byte[] payload = [.. data, .. new byte[32]];
        using var cipher = new AesGcm(key, 16);
        cipher.Encrypt(Nonce(1), payload, page.AsSpan(0x60, payload.Length), page.AsSpan(0, 16), page.AsSpan(0x30, 0x30));
        return page;
    }

    // The report in a response with number 2.
    private static byte[] Open(byte[] key, byte[] page)
    {
        Assert.Equal(2, page[0x20]);
        Assert.Equal(6, page[0x34]);
        byte[] payload = new byte[BinaryPrimitives.ReadUInt16LittleEndian(page.AsSpan(0x36))];
        using var cipher = new AesGcm(key, 16);
        cipher.Decrypt(Nonce(2), page.AsSpan(0x60, payload.Length), page.AsSpan(0, 16), payload, page.AsSpan(0x30, 0x30));
        Assert.Equal(0u, BinaryPrimitives.ReadUInt32LittleEndian(payload));
        return payload[0x20..];
    }

    private static byte[] Nonce(byte number) => [number, .. new byte[11]];
}
