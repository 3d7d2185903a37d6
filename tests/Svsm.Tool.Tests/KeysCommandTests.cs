// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Concurrent;
using System.IO;
using System.Net.Sockets;
using System.Security.Cryptography;
using System.Text;
using System.Threading;
using System.Threading.Tasks;
using Svsm.Attestation.Tests;
using Svsm.StoreKeys.Tests;
using Xunit;

namespace Svsm.Tool.Tests;

/// <summary>svsm keys, as a user has it: files by one command, a broker and a proxy by two others, and bytes of an SVSM through them.</summary>
public sealed class KeysCommandTests : ToolTest
{
    private const int NumberLength = 66;

    [Fact]
    public async Task Files_AreMadeFromOneKey()
    {
        string key = WriteKey("key.pem");
        Assert.Equal(ExitStatus.Success, (await Run("keys", "pin", "--key", key, "--output", At("pin"))).Status);
        Assert.Equal(ExitStatus.Success, (await Run("keys", "pin", "--key", key, "--trustee", "-o", At("pin-trustee"))).Status);
        byte[] pin = File.ReadAllBytes(At("pin"));
        byte[] trustee = File.ReadAllBytes(At("pin-trustee"));
        Assert.Equal("SVSMBRK1\u0001\0\0\0\0\0\0\0", Encoding.ASCII.GetString(pin[..16]));
        Assert.Equal([.. pin[..8], 2, .. pin[9..]], trustee);
        using var ecdsa = ECDsa.Create();
        ecdsa.ImportFromPem(File.ReadAllText(key));
        ECParameters parameters = ecdsa.ExportParameters(includePrivateParameters: false);
        Assert.Equal([.. parameters.Q.X!, .. parameters.Q.Y!], pin[16..]);

        foreach ((string[] option, byte flags) in ((string[], byte)[])[([], 0), (["--movable"], 1)])
        {
            string path = At($"secret{flags}");
            Assert.Equal(ExitStatus.Success, (await Run(["keys", "secret", "--key", key, "--output", path, .. option])).Status);
            byte[] secret = File.ReadAllBytes(path);
            Assert.Equal("SVSMSEC1", Encoding.ASCII.GetString(secret[..8]));
            Assert.Equal([flags, 0, 0, 0, 0, 0, 0, 0], secret[8..16]);
            Assert.True(ecdsa.VerifyData((byte[])[.. "svsm broker 1 secret"u8, 0, .. secret[..0x30]], secret[0x30..], HashAlgorithmName.SHA384, DSASignatureFormat.IeeeP1363FixedFieldConcatenation));
            Assert.True(OperatingSystem.IsWindows() || File.GetUnixFileMode(path) == (UnixFileMode.UserRead | UnixFileMode.UserWrite));

            // Once.
            Outcome again = await Run("keys", "secret", "--key", key, "--output", path);
            Assert.Equal(ExitStatus.BadFile, again.Status);
            Assert.StartsWith("error SVSM7053: ", again.Error, StringComparison.Ordinal);
            Assert.Equal(secret, File.ReadAllBytes(path));
            Assert.Equal([path], Directory.GetFiles(At(""), $"secret{flags}*"));
        }
    }

    [Fact]
    public async Task WhatIsMissing_IsTold()
    {
        string key = WriteKey("key.pem");
        WriteImage();
        string reference = At("Test.reference-values.json");
        Assert.StartsWith("error SVSM7050: ", (await Run("keys", "pin", "--key", reference, "--output", At("pin"))).Error, StringComparison.Ordinal);
        string[] serve = ["keys", "serve", "--key", key, "--ark", new string('0', 64), "--reference", reference];
        Assert.StartsWith("error SVSM7051: ", (await Run([.. serve, "--state", At("nowhere")])).Error, StringComparison.Ordinal);
        Assert.StartsWith("error SVSM7052: ", (await Run([.. serve, "--state", At(""), "--listen", "nowhere"])).Error, StringComparison.Ordinal);
        Assert.StartsWith("error SVSM7052: ", (await Run("keys", "proxy", "--unix", key, "--broker", "http://127.0.0.1:1", "--resource", "a/b/c")).Error, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("keys", "serve")]
    [InlineData("keys", "secret", "--key", "k")]
    [InlineData("keys", "proxy", "--unix", "s", "--broker", "ftp://x/", "--resource", "a/b/c")]
    [InlineData("keys", "proxy", "--unix", "s", "--broker", "x", "--resource", "a/b/c")]
    [InlineData("keys", "proxy", "--unix", "s", "--broker", "http://x/", "--resource", "a/b")]
    [InlineData("keys", "proxy", "--unix", "s", "--broker", "http://x/", "--resource", "../b/c")]
    public async Task WrongCommandLine_IsRefused(params string[] args) => Assert.Equal(ExitStatus.Usage, (await Run(args)).Status);

    // What an SVSM sends, by hand: HELLO, and a report about a fresh key that the test plays the chip for.
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task BrokerAndProxy_GiveTheSecretToTheImage(bool isImage)
    {
        string key = WriteKey("key.pem");
        WriteImage();
        (byte[] ark, byte[] ask, byte[] vcek) = TestAuthority.MakeChain();
        File.WriteAllText(At("ark.pem"), PemEncoding.WriteString("CERTIFICATE", ark));
        File.WriteAllBytes(At("chip"), TestAuthority.MakeTable(vcek, ask));
        Directory.CreateDirectory(At("state"));
        await Run("keys", "secret", "--key", key, "--output", At("state/default.svsm.vm1.secret"));
        using var digest = System.Text.Json.JsonDocument.Parse(File.ReadAllBytes(At("Test.reference-values.json")));
        byte[] measured = Convert.FromHexString(digest.RootElement.GetProperty("launchDigest").GetString()!);

        using var end = CancellationTokenSource.CreateLinkedTokenSource(TestContext.Current.CancellationToken);
        string url = Serving.FreeUrl();
        var log = new Log();
        Task<int> broker = Start(log, end.Token, "keys", "serve", "--key", key, "--state", At("state"), "--ark", At("ark.pem"), "--reference", At("Test.reference-values.json"), "--certificates", At("chip"), "--listen", url);
        await WaitAsync(broker, () => log.ToString().Contains("serving secrets of", StringComparison.Ordinal));
        var proxyLog = new Log();
        Task<int> proxy = Start(proxyLog, end.Token, "keys", "proxy", "--unix", At("sock"), "--broker", url[..^1], "--resource", "default/svsm/vm1");
        await WaitAsync(proxy, () => proxyLog.ToString().Contains("default/svsm/vm1 of", StringComparison.Ordinal));

        using (var svsm = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified))
        {
            svsm.Connect(new UnixDomainSocketEndPoint(At("sock")));
            byte[] hello = Exchange(svsm, [1, 0, 0, 0, 1, 0, 0, 0]);
            Assert.Equal([0, 0, 0, 0, 44, 0, 0, 0], hello[..8]);
            using ECDiffieHellman fresh = ECDiffieHellman.Create(ECCurve.NamedCurves.nistP521);
            ECParameters mine = fresh.ExportParameters(includePrivateParameters: false);
            string runtime = "{\"additional-evidence\":\"\",\"nonce\":\"" + Encoding.ASCII.GetString(hello[8..]) + "\",\"tee-pubkey\":{\"alg\":\"ECDH-ES+A256KW\",\"crv\":\"P-521\",\"kty\":\"EC\",\"x\":\""
                + System.Buffers.Text.Base64Url.EncodeToString(mine.Q.X) + "\",\"y\":\"" + System.Buffers.Text.Base64Url.EncodeToString(mine.Q.Y) + "\"}}";
            byte[] report = TestAuthority.MakeReport(bytes =>
            {
                if (isImage)
                {
                    measured.CopyTo(bytes, 0x90);
                }

                SHA384.HashData(Encoding.ASCII.GetBytes(runtime), bytes.AsSpan(0x50));
            });
            byte[] answer = Exchange(svsm, [2, 0, 0, 0, 0, 0, 0, 0, .. mine.Q.X!, .. mine.Q.Y!, .. report]);
            if (isImage)
            {
                Assert.Equal([0, 0, 0, 0], answer[..4]);
                Assert.Equal([40, 0, 0, 0, 0x90, 0, 0, 0, 96, 0, 0, 0], answer[8..20]);
                Assert.True(answer.Length > 20 + (2 * NumberLength));
            }
            else
            {
                Assert.Equal([2, 0, 0, 0], answer);
            }
        }

        await end.CancelAsync();
        Assert.Equal(ExitStatus.Success, await broker);
        Assert.Equal(ExitStatus.Success, await proxy);
        Assert.Contains(isImage ? "given: default/svsm/vm1" : "SVSM3107", log.ToString(), StringComparison.Ordinal);
    }

    private static Task<int> Start(Log log, CancellationToken cancellationToken, params string[] args) =>
        Task.Run(() => SvsmCommandLine.RunAsync(args, new ToolConsole(TextWriter.Null, log), cancellationToken), CancellationToken.None);

    private static async Task WaitAsync(Task<int> running, Func<bool> isReady)
    {
        while (!isReady())
        {
            Assert.False(running.IsCompleted);
            await Task.Yield();
        }
    }

    // Written by the one that serves, on any thread, read by the test.
    private sealed class Log : TextWriter
    {
        private readonly ConcurrentQueue<string> _parts = [];

        public override Encoding Encoding => Encoding.Unicode;

        public override void Write(char value) => _parts.Enqueue(value.ToString());

        public override void Write(string? value) => _parts.Enqueue(value ?? "");

        public override string ToString() => string.Concat(_parts);
    }

    private static byte[] Exchange(Socket socket, byte[] request)
    {
        socket.Send([.. BitConverter.GetBytes(request.Length), 9, 8, 7, 6, .. request]);
        byte[] head = new byte[8];
        Fill(head);
        Assert.Equal([9, 8, 7, 6], head[4..]);
        byte[] answer = new byte[BitConverter.ToInt32(head)];
        Fill(answer);
        return answer;

        void Fill(Span<byte> rest)
        {
            while (!rest.IsEmpty)
            {
                int count = socket.Receive(rest);
                Assert.NotEqual(0, count);
                rest = rest[count..];
            }
        }
    }
}
