// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The debugger's server, driven by a client that speaks as much of gdb's remote serial protocol as gdb itself uses here.

using System;
using System.Buffers.Binary;
using System.Globalization;
using System.IO;
using System.Linq;
using System.Net.Sockets;
using System.Text;
using System.Threading;
using System.Threading.Tasks;
using Svsm.Boot;
using Svsm.Builder;
using Svsm.Diagnostics;
using Svsm.Simulator;
using Xunit;

namespace Svsm.EndToEnd.Tests;

public sealed class GdbTests
{
    private const int Rip = 16;

    [Fact]
    public async Task Session_BreakpointRegistersMemoryStep_WorkOnTheKernel()
    {
        using ImageUnderTest image = ImageUnderTest.Build("exit:5");
        byte[] kernel = File.ReadAllBytes(ImageUnderTest.PathOf("Kernel"));
        ulong main = ElfFile.Parse(kernel, "kernel").FindSymbol("Svsm_Kernel_Svsm_Kernel_KernelMain__Main")!.Value.Value;
        await using MachineTest machine = await MachineTest.StartAsync(image.Options() with { GdbPort = 0, VcpuCount = 2 }, TestContext.Current.CancellationToken);
        using var gdb = new Client(machine.GdbPort!.Value);

        // Before the first instruction: the reset state of the boot stub, without paging.
        Assert.Contains("QStartNoAckMode+", await gdb.AskAsync("qSupported:multiprocess+"), StringComparison.Ordinal);
        Assert.StartsWith("T02", await gdb.AskAsync("?"), StringComparison.Ordinal);
        Assert.Equal("m1,2", await gdb.AskAsync("qfThreadInfo"));
        Assert.Equal("vCPU 0, VMPL0, CPL0", Encoding.ASCII.GetString(Convert.FromHexString(await gdb.AskAsync("qThreadExtraInfo,1"))));
        Assert.Equal("OK", await gdb.AskAsync("Hg1"));
        ulong start = await gdb.RegisterAsync(Rip);

        // One instruction: somewhere else.
        Assert.StartsWith("T05thread:1;", await gdb.AskAsync("vCont;s:1;c"), StringComparison.Ordinal);
        Assert.NotEqual(start, await gdb.RegisterAsync(Rip));

        // The kernel's address space does not exist yet: the breakpoint waits for it.
        Assert.StartsWith("E", await gdb.AskAsync(Invariant($"m{main:x},4")), StringComparison.Ordinal);
        Assert.Equal("OK", await gdb.AskAsync(Invariant($"Z0,{main:x},1")));
        Assert.StartsWith("T05thread:1;", await gdb.AskAsync("c"), StringComparison.Ordinal);
        Assert.Equal(main, await gdb.RegisterAsync(Rip));
        Assert.Equal(Convert.ToHexStringLower(ProbeCommand.BytesAt(kernel, main)[..4]), await gdb.AskAsync(Invariant($"m{main:x},4")));
        Assert.Equal("OK", await gdb.AskAsync(Invariant($"z0,{main:x},1")));
        Assert.StartsWith("T05", await gdb.AskAsync("s"), StringComparison.Ordinal);
        Assert.InRange(await gdb.RegisterAsync(Rip), main + 1, main + 15);

        // Registers by number and all at once; memory written and read back.
        string all = await gdb.AskAsync("g");
        Assert.Equal(await gdb.RegisterAsync(Rip), BinaryPrimitives.ReadUInt64LittleEndian(Convert.FromHexString(all).AsSpan(Rip * 8)));
        ulong stack = (await gdb.RegisterAsync(7)) - 512;
        Assert.Equal("OK", await gdb.AskAsync(Invariant($"M{stack:x},4:deadbeef")));
        Assert.Equal("deadbeef", await gdb.AskAsync(Invariant($"m{stack:x},4")));
        ulong rbx = await gdb.RegisterAsync(1);
        Assert.Equal("OK", await gdb.AskAsync("P1=1122334455667788"));
        Assert.Equal(0x8877_6655_4433_2211, await gdb.RegisterAsync(1));
        Assert.Equal("OK", await gdb.AskAsync(Invariant($"P1={Convert.ToHexStringLower(BitConverter.GetBytes(rbx))}")));

        Assert.Equal("W00", await gdb.AskAsync("c"));
        Assert.Equal(5, (await machine.WaitForEndAsync()).ExitStatus);
    }

    [Fact]
    public async Task Interrupt_OfARunningGuest_StopsIt()
    {
        using ImageUnderTest image = ImageUnderTest.Build("loop");
        await using MachineTest machine = await MachineTest.StartAsync(image.Options() with { GdbPort = 0 }, TestContext.Current.CancellationToken);
        using var gdb = new Client(machine.GdbPort!.Value);
        await gdb.SendAsync("c");
        await machine.WaitForLineAsync("probe: running for ever");

        await gdb.SendByteAsync(0x03);

        Assert.Equal("T02thread:1;", await gdb.ReceiveAsync());
        Assert.Equal("vCPU 0, VMPL2, CPL0", Encoding.ASCII.GetString(Convert.FromHexString(await gdb.AskAsync("qThreadExtraInfo,1"))));
        await gdb.SendAsync("k");
        Assert.Equal(MachineStop.Stopped, (await machine.WaitForEndAsync()).Stop);
    }

    [Fact]
    public async Task Monitor_Log_GivesTheLogOfTheKernel()
    {
        using ImageUnderTest image = ImageUnderTest.Build("loop");
        await using MachineTest machine = await MachineTest.StartAsync(image.Options() with { GdbPort = 0 }, TestContext.Current.CancellationToken);
        using var gdb = new Client(machine.GdbPort!.Value);
        Assert.Contains("There is no log", await MonitorAsync("log"), StringComparison.Ordinal);
        Assert.Contains("monitor log", await MonitorAsync("help"), StringComparison.Ordinal);
        await gdb.SendAsync("c");
        await machine.WaitForLineAsync("probe: running for ever");
        await gdb.SendByteAsync(0x03);
        await gdb.ReceiveAsync();

        Assert.Matches("cpu0 information svsm: Svsm.Kernel .*\n(.*\n)*cpu0 information svsm: the guest starts", await MonitorAsync("log"));

        async Task<string> MonitorAsync(string command) =>
            Encoding.ASCII.GetString(Convert.FromHexString(await gdb.AskAsync("qRcmd," + Convert.ToHexStringLower(Encoding.ASCII.GetBytes(command)))));
    }

    [Theory]
    [InlineData("m")]
    [InlineData("mzz,4")]
    [InlineData("qRcmd,zz")]
    [InlineData("M1000,4")]
    [InlineData("P")]
    [InlineData("Z0")]
    [InlineData("Gxx")]
    [InlineData("Hg99")]
    [InlineData("qThreadExtraInfo,77777777777777777777")]
    [InlineData("p99")]
    public async Task Request_ThatIsMalformed_IsRefusedAndTheNextIsServed(string request)
    {
        using ImageUnderTest image = ImageUnderTest.Build("loop");
        await using MachineTest machine = await MachineTest.StartAsync(image.Options() with { GdbPort = 0 }, TestContext.Current.CancellationToken);
        using var gdb = new Client(machine.GdbPort!.Value);

        Assert.StartsWith("E", await gdb.AskAsync(request), StringComparison.Ordinal);
        Assert.Equal("", await gdb.AskAsync("unknown"));
        Assert.Equal("1", await gdb.AskAsync("qAttached"));
    }

    // gdb does so when it gets no answer for two seconds, and takes a second answer for one to its next request.
    [Fact]
    public async Task Request_ThatIsRepeated_IsAnsweredOnce()
    {
        using ImageUnderTest image = ImageUnderTest.Build("loop");
        await using MachineTest machine = await MachineTest.StartAsync(image.Options() with { GdbPort = 0 }, TestContext.Current.CancellationToken);
        using var gdb = new Client(machine.GdbPort!.Value);

        await gdb.SendAsync("qAttached#00$qAttached#00$qAttached");

        Assert.Equal("1", await gdb.ReceiveAsync());
        Assert.Equal("QC1", await gdb.AskAsync("qC"));
    }

    [Fact]
    public async Task Port_ThatIsTaken_IsAnError()
    {
        using ImageUnderTest image = ImageUnderTest.Build("loop");
        await using MachineTest machine = await MachineTest.StartAsync(image.Options() with { GdbPort = 0 }, TestContext.Current.CancellationToken);

        var exception = await Assert.ThrowsAsync<SvsmDiagnosticException>(
            () => MachineTest.StartAsync(image.Options() with { GdbPort = machine.GdbPort }, TestContext.Current.CancellationToken));

        Assert.Same(SvsmDiagnostics.GdbPortUnusable, exception.Diagnostic);
    }

    private static string Invariant(FormattableString text) => FormattableString.Invariant(text);

    private sealed class Client : IDisposable
    {
        private readonly TcpClient _client;
        private readonly NetworkStream _stream;

        public Client(int port)
        {
            _client = new TcpClient("127.0.0.1", port) { NoDelay = true };
            _stream = _client.GetStream();
        }

        private static CancellationToken Token => TestContext.Current.CancellationToken;

        public async Task<string> AskAsync(string data)
        {
            await SendAsync(data);
            return await ReceiveAsync();
        }

        public Task SendAsync(string data)
        {
            byte sum = (byte)data.Sum(character => (byte)character);
            return _stream.WriteAsync(Encoding.ASCII.GetBytes(Invariant($"${data}#{sum:x2}")), Token).AsTask();
        }

        public Task SendByteAsync(byte value) => _stream.WriteAsync(new[] { value }, Token).AsTask();

        public async Task<ulong> RegisterAsync(int number) =>
            BinaryPrimitives.ReadUInt64LittleEndian(Convert.FromHexString(await AskAsync(Invariant($"p{number:x}"))));

        public async Task<string> ReceiveAsync()
        {
            while (await ByteAsync() != '$')
            {
            }

            var text = new StringBuilder();
            byte sum = 0;
            byte value;
            while ((value = await ByteAsync()) != '#')
            {
                text.Append((char)value);
                sum += value;
            }

            string digits = $"{(char)await ByteAsync()}{(char)await ByteAsync()}";
            Assert.Equal(sum, byte.Parse(digits, NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture));
            return text.ToString();
        }

        public void Dispose() => _client.Dispose();

        private async Task<byte> ByteAsync()
        {
            byte[] one = new byte[1];
            await _stream.ReadExactlyAsync(one, Token);
            return one[0];
        }
    }
}
