// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Buffers.Binary;
using System.IO;
using System.Net;
using System.Net.Sockets;
using Svsm.Modules.Vtpm.Desk;
using Svsm.Modules.Vtpm.Wire;
using Xunit;

namespace Svsm.Modules.Vtpm.Tests;

public sealed class TpmServerTests : IDisposable
{
    private static readonly byte[] s_startup = TestTpm.Command(0x144, [], [0, 0]);
    private static readonly byte[] s_getRandom = TestTpm.Command(0x17B, [], [0, 8]);

    private readonly StringWriter _trace = new();
    private readonly TestTpm _tpm = new(start: false);
    private readonly TpmServer _server;
    private readonly EndPoint _data;
    private readonly EndPoint _platform;
    private readonly EndPoint _control;

    public TpmServerTests()
    {
        _server = new TpmServer(_tpm.Engine, new TpmTrace(_trace));
        _data = _server.ListenForData(new IPEndPoint(IPAddress.Loopback, 0));
        _platform = _server.ListenForPlatform(new IPEndPoint(IPAddress.Loopback, 0));
        _control = _server.ListenForControl(new IPEndPoint(IPAddress.Loopback, 0));
    }

    public void Dispose() => _server.Dispose();

    [Fact]
    public void Data_RawAndFramed_AreToldApart()
    {
        using Socket client = Connect(_data);
        Assert.Equal(0u, Raw(client, s_startup));
        Assert.Equal(8, Framed(client, s_getRandom).Length - 12);
        Assert.Equal(0u, Raw(client, s_getRandom));
    }

    [Fact]
    public void Data_Framed_IsAnsweredInOnePiece()
    {
        using Socket client = Connect(_data);
        client.Send([.. TestTpm.U32(8), 0, .. TestTpm.U32((uint)s_startup.Length), .. s_startup]);
        byte[] answer = new byte[100];
        Assert.Equal(18, client.Receive(answer));
        Assert.Equal([0, 0, 0, 10], answer[..4]);
        Assert.Equal([0, 0, 0, 0], answer[14..18]);
    }

    [Fact]
    public void Data_CommandInPieces_IsPutTogether()
    {
        using Socket client = Connect(_data);
        Raw(client, s_startup);
        client.NoDelay = true;
        foreach (byte part in s_getRandom)
        {
            client.Send([part]);
        }

        Assert.Equal(20, Receive(client, 20).Length);
    }

    [Fact]
    public void Data_TwoCommandsAtOnce_AreBothAnswered()
    {
        using Socket client = Connect(_data);
        client.Send([.. s_startup, .. s_getRandom]);
        Receive(client, 10);
        Receive(client, 20);
    }

    [Theory]
    [InlineData(0u)]
    [InlineData(9u)]
    [InlineData(4097u)]
    [InlineData(uint.MaxValue)]
    public void Data_RawSizeImpossible_IsAnsweredAndEnds(uint size)
    {
        using Socket client = Connect(_data);
        client.Send([0x80, 1, .. TestTpm.U32(size), 0, 0, 1, 0x7B]);
        Assert.Equal((uint)TpmResponseCode.CommandSize, TestTpm.Code(Receive(client, 10)));
        AssertEnded(client);
    }

    [Theory]
    [InlineData("00000008 00 00001001")]
    [InlineData("00000008 00 FFFFFFFF")]
    [InlineData("00000008 05 0000000A")]
    [InlineData("00000000")]
    [InlineData("0000001F")]
    [InlineData("00FFFFFF")]
    [InlineData("00000014")]
    public void Data_FramedImpossible_EndsConnectionOnly(string bytes)
    {
        using (Socket client = Connect(_data))
        {
            client.Send(Convert.FromHexString(bytes.Replace(" ", "", StringComparison.Ordinal)));
            AssertEnded(client);
        }

        using Socket next = Connect(_data);
        Assert.Equal(0u, Raw(next, s_startup));
    }

    [Fact]
    public void Platform_PowerOff_StopsAnswersUntilPowerOn()
    {
        using Socket client = Connect(_data);
        using Socket platform = Connect(_platform);
        Raw(client, s_startup);
        Signal(platform, 2);
        Assert.Empty(Framed(client, s_getRandom));
        Assert.Equal((uint)TpmResponseCode.Failure, Raw(client, s_getRandom));
        Signal(platform, 1);
        Assert.Equal((uint)TpmResponseCode.Initialize, Raw(client, s_getRandom));
        Raw(client, s_startup);

        // Power that is on stays on.
        Signal(platform, 1);
        Assert.Equal(0u, Raw(client, s_getRandom));
        Signal(platform, 17);
        Assert.Equal((uint)TpmResponseCode.Initialize, Raw(client, s_getRandom));
    }

    [Fact]
    public void Platform_Stop_EndsServer()
    {
        using Socket platform = Connect(_platform);
        Assert.False(_server.Stopped.IsCancellationRequested);
        platform.Send(TestTpm.U32(21));
        AssertEnded(platform);
        Assert.True(_server.Stopped.IsCancellationRequested);
    }

    [Fact]
    public void Platform_PhysicalPresence_ReachesTheTpm()
    {
        using Socket platform = Connect(_platform);
        Signal(platform, 3);
        Assert.True(_tpm.Engine.IsPhysicallyPresent);
        Signal(platform, 4);
        Assert.False(_tpm.Engine.IsPhysicallyPresent);
    }

    [Fact]
    public void Control_Locality_HoldsForRawCommands()
    {
        using Socket client = Connect(_data);
        using Socket control = Connect(_control);
        Raw(client, s_startup);
        byte[] reset = TestTpm.Command(0x13D, [20], [], TestTpm.PasswordSession());
        Assert.Equal((uint)TpmResponseCode.Locality, Raw(client, reset));
        Assert.Equal("00000000", Control(control, "00000005 04", 4));
        Assert.Equal(0u, Raw(client, reset));
        Assert.Equal("00000003", Control(control, "00000005 05", 4));
    }

    [Fact]
    public void Control_EachCode_IsAnsweredWhole()
    {
        using Socket control = Connect(_control);
        Assert.Equal("00000000" + "00000000" + "00002CBF", Control(control, "00000001", 12));
        Assert.Equal("00000000", Control(control, "00000002 00000000", 4));
        Assert.Equal("0000000000", Control(control, "00000004", 5));
        Assert.Equal("00000000", Control(control, "0000000B 03", 4));
        Assert.Equal("00000003", Control(control, "0000000B 00", 4));
        Assert.Equal("00000000", Control(control, "00000009", 4));
        Assert.Equal("00000000" + "00000000", Control(control, "0000000F", 8));
        Assert.Equal("00000000" + "00001000" + "00001000" + "00001000", Control(control, "00000011 00000000", 16));
        Assert.Equal("00000000", Control(control, "0000000E", 4));
        Assert.Equal("0000000A", Control(control, "0000000C 00000000", 4));
        AssertEnded(control);
    }

    [Fact]
    public void Control_HashBeforeStartup_GoesIntoPcr0()
    {
        using Socket control = Connect(_control);
        Control(control, "00000006", 4);
        Control(control, "00000007 00000003 616263", 4);
        Control(control, "00000008", 4);
        using Socket client = Connect(_data);
        Raw(client, s_startup);
        byte[] locality4 = new byte[32];
        locality4[^1] = 4;
        byte[] digest = System.Security.Cryptography.SHA256.HashData("abc"u8);
        Assert.Equal(System.Security.Cryptography.SHA256.HashData([.. locality4, .. digest]), ReadPcr(client, 0));
    }

    [Fact]
    public void Control_HashAfterStartup_ResetsAndExtendsPcr17()
    {
        using Socket client = Connect(_data);
        using Socket control = Connect(_control);
        Raw(client, s_startup);
        Control(control, "00000006", 4);
        Assert.Equal(new byte[32], ReadPcr(client, 18));
        Control(control, "00000007 00000002 6162", 4);
        Control(control, "00000007 00000001 63", 4);
        Control(control, "00000008", 4);
        byte[] digest = System.Security.Cryptography.SHA256.HashData("abc"u8);
        Assert.Equal(System.Security.Cryptography.SHA256.HashData([.. new byte[32], .. digest]), ReadPcr(client, 17));
    }

    [Fact]
    public void Unix_Socket_IsServedAndRemoved()
    {
        string path = Path.Combine(Path.GetTempPath(), Path.GetRandomFileName());
        _server.ListenForData(new UnixDomainSocketEndPoint(path));
        using (var client = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified))
        {
            client.Connect(new UnixDomainSocketEndPoint(path));
            Assert.Equal(0u, Raw(client, s_startup));
        }

        _server.Dispose();
        Assert.False(File.Exists(path));
    }

    [Fact]
    public void Trace_CommandsAndResponses_AreNamed()
    {
        using Socket client = Connect(_data);
        Raw(client, s_startup);
        Raw(client, TestTpm.Command(0x13D, [16], [], TestTpm.PasswordSession()));
        Raw(client, TestTpm.Command(0x13D, [0], [], TestTpm.PasswordSession()));
        Raw(client, TestTpm.Command(0x17D, [], [0]));
        string[] lines = _trace.ToString().Split('\n');
        Assert.Equal("> Startup (2 bytes)", lines[0]);
        Assert.StartsWith("< Success (10 bytes", lines[1], StringComparison.Ordinal);
        Assert.Equal("> PcrReset 00000010 [password] (0 bytes)", lines[2]);
        Assert.StartsWith("< Locality", lines[5], StringComparison.Ordinal);
        Assert.StartsWith("< Insufficient at parameter 1 (0x1DA)", lines[7], StringComparison.Ordinal);
    }

    [Fact]
    public void Trace_AnyBytes_AreTaken()
    {
        var random = new Random(7);
        var trace = new TpmTrace(TextWriter.Null);
        byte[] command = TestTpm.Command(0x13D, [16], [], [.. TestTpm.PasswordSession(1, 2, 3), .. TestTpm.PasswordSession(4)]);
        for (int i = 0; i < 20_000; i++)
        {
            byte[] changed = command[..random.Next(command.Length + 1)];
            for (int n = random.Next(4); n > 0 && changed.Length != 0; n--)
            {
                changed[random.Next(changed.Length)] = (byte)random.Next(256);
            }

            trace.Command(changed, 0);
        }
    }

    private static Socket Connect(EndPoint endPoint)
    {
        var socket = new Socket(endPoint.AddressFamily, SocketType.Stream, ProtocolType.Tcp) { ReceiveTimeout = 30_000 };
        socket.Connect(endPoint);
        return socket;
    }

    private static byte[] Receive(Socket socket, int count)
    {
        byte[] bytes = new byte[count];
        for (int done = 0; done < count;)
        {
            int received = socket.Receive(bytes.AsSpan(done));
            Assert.NotEqual(0, received);
            done += received;
        }

        return bytes;
    }

    private static void AssertEnded(Socket socket)
    {
        try
        {
            Assert.Equal(0, socket.Receive(new byte[1]));
        }
        catch (SocketException exception) when (exception.SocketErrorCode == SocketError.ConnectionReset)
        {
            // Also an end: the server had not read everything.
        }
    }

    private static uint Raw(Socket socket, byte[] command)
    {
        socket.Send(command);
        byte[] head = Receive(socket, 10);
        Receive(socket, (int)BinaryPrimitives.ReadUInt32BigEndian(head.AsSpan(2)) - 10);
        return TestTpm.Code(head);
    }

    private static byte[] Framed(Socket socket, byte[] command)
    {
        socket.Send([.. TestTpm.U32(8), 0, .. TestTpm.U32((uint)command.Length), .. command]);
        byte[] response = Receive(socket, (int)BinaryPrimitives.ReadUInt32BigEndian(Receive(socket, 4)));
        Assert.Equal([0, 0, 0, 0], Receive(socket, 4));
        return response;
    }

    private static void Signal(Socket socket, uint code)
    {
        socket.Send(TestTpm.U32(code));
        Assert.Equal([0, 0, 0, 0], Receive(socket, 4));
    }

    private static string Control(Socket socket, string bytes, int answer)
    {
        socket.Send(Convert.FromHexString(bytes.Replace(" ", "", StringComparison.Ordinal)));
        return Convert.ToHexString(Receive(socket, answer));
    }

    private static byte[] ReadPcr(Socket socket, int pcr)
    {
        byte[] selection = new byte[3];
        selection[pcr / 8] = (byte)(1 << (pcr % 8));
        byte[] command = TestTpm.Command(0x17E, [], [0, 0, 0, 1, 0, 0x0B, 3, .. selection]);
        return Framed(socket, command)[^32..];
    }
}
