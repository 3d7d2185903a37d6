// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.IO;
using System.Net.Sockets;
using System.Threading;
using System.Threading.Tasks;
using Xunit;

namespace Svsm.Tool.Tests;

public sealed class TpmCommandTests : ToolTest
{
    [Fact]
    public async Task Manufacture_Twice_IsRefusedAndChangesNothing()
    {
        Assert.Equal(ExitStatus.Success, (await Run("tpm", "manufacture", "--state", At("tpm"))).Status);
        byte[] state = await File.ReadAllBytesAsync(At("tpm/tpm.state"), TestContext.Current.CancellationToken);
        Outcome second = await Run("tpm", "manufacture", "--state", At("tpm"));
        Assert.Equal(ExitStatus.BadFile, second.Status);
        Assert.Contains("SVSM6008", second.Error, StringComparison.Ordinal);
        Assert.Equal(state, await File.ReadAllBytesAsync(At("tpm/tpm.state"), TestContext.Current.CancellationToken));
    }

    [Fact]
    public async Task Serve_NotManufactured_IsRefusedAndMakesNothing()
    {
        Outcome outcome = await Run("tpm", "serve", "--port", "0", "--state", At("tpm"));
        Assert.Equal(ExitStatus.BadFile, outcome.Status);
        Assert.Contains("has no TPM", outcome.Error, StringComparison.Ordinal);
        Assert.False(File.Exists(At("tpm/tpm.state")));
    }

    [Fact]
    public async Task Serve_UnixSocket_AnswersAndStops()
    {
        await Run("tpm", "manufacture", "--state", At("tpm"));
        var error = new StringWriter();
        Task<int> serving = SvsmCommandLine.RunAsync(
            ["tpm", "serve", "--port", "0", "--swtpm-port", "0", "--trace", "--state", At("tpm"), "--unix", At("s")],
            new ToolConsole(TextWriter.Null, TextWriter.Synchronized(error)),
            TestContext.Current.CancellationToken);
        while (!File.Exists(At("s.platform")))
        {
            // Not read before nobody writes to it any more.
            if (serving.IsCompleted)
            {
                Assert.Fail(error.ToString());
            }

            await Task.Yield();
        }

        using (var client = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified))
        {
            client.Connect(new UnixDomainSocketEndPoint(At("s")));
            client.Send([0x80, 1, 0, 0, 0, 12, 0, 0, 1, 0x44, 0, 0]);
            byte[] answer = new byte[10];
            Assert.Equal(10, client.Receive(answer));
            Assert.Equal([0x80, 1, 0, 0, 0, 10, 0, 0, 0, 0], answer);

            // TPM_STOP.
            client.Send([0, 0, 0, 21]);
        }

        Assert.Equal(ExitStatus.Success, await serving);
        Assert.Contains("> Startup", error.ToString(), StringComparison.Ordinal);
        Assert.False(File.Exists(At("s")));
    }

    [Fact]
    public async Task Serve_Cancelled_Ends()
    {
        using var cancelled = new CancellationTokenSource();
        await cancelled.CancelAsync();
        var error = new StringWriter();
        Assert.Equal(ExitStatus.Success, await SvsmCommandLine.RunAsync(["tpm", "serve", "--port", "0"], new ToolConsole(TextWriter.Null, error), cancelled.Token));
        Assert.Contains("ephemeral", error.ToString(), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("--port", "65535")]
    [InlineData("--swtpm-port", "-1")]
    public async Task Serve_PortOutOfRange_IsUsage(string option, string value) =>
        Assert.Equal(ExitStatus.Usage, (await Run("tpm", "serve", option, value)).Status);

    [Fact]
    public async Task Serve_AddressTaken_IsAnError()
    {
        Outcome outcome = await Run("tpm", "serve", "--port", "0", "--unix", At("no/such/folder"));
        Assert.Equal(ExitStatus.BadFile, outcome.Status);
        Assert.Contains("SVSM6009", outcome.Error, StringComparison.Ordinal);
    }
}
