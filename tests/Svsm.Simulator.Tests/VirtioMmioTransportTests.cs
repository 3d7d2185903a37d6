// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The disk of the SVSM against drivers of this test, good ones and hostile ones. Queue of 8: descriptors at 0x1000, available ring at 0x2000, used ring
// at 0x3000; header of the request at 0x4000, status at 0x4100, data at 0x5000.

using System;
using System.Buffers.Binary;
using System.IO;
using System.Linq;
using System.Security.Cryptography;
using System.Threading.Tasks;
using Svsm.Diagnostics;
using Xunit;

namespace Svsm.Simulator.Tests;

public sealed class VirtioMmioTransportTests : IDisposable
{
    private const ushort Next = 1;
    private const ushort Writable = 2;
    private const ushort Indirect = 4;
    private const int Descriptors = 0x1000;
    private const int Available = 0x2000;
    private const int Used = 0x3000;
    private const int Header = 0x4000;
    private const int Status = 0x4100;
    private const int Data = 0x5000;

    private readonly DirectoryInfo _folder = Directory.CreateTempSubdirectory("svsm-test-");
    private readonly byte[] _contents = RandomNumberGenerator.GetBytes(16 * 512);
    private readonly DeviceMemory _memory = new();
    private readonly SvsmDisk _disk;
    private readonly VirtioMmioTransport _transport;
    private ushort _offered;

    public VirtioMmioTransportTests()
    {
        string path = Path.Combine(_folder.FullName, "disk");
        File.WriteAllBytes(path, _contents);
        _disk = new SvsmDisk(path);
        _disk.Open();
        _transport = new VirtioMmioTransport(_disk, _memory);
    }

    public void Dispose()
    {
        _disk.Close();
        _folder.Delete(recursive: true);
    }

    [Fact]
    public async Task Read_OverSeveralDescriptors_FillsThemInOrder()
    {
        await StartAsync();
        SetHeader(0, sector: 3);
        Describe(0, Header, 10, Next, 1);
        Describe(1, Header + 10, 6, Next, 2);
        Describe(2, Data, 100, Next | Writable, 3);
        Describe(3, Data + 0x800, 413, Writable, 0);
        await OfferAsync(0);

        Assert.Equal(_contents[1536..1636], _memory.Bytes[Data..(Data + 100)]);
        Assert.Equal(_contents[1636..2048], _memory.Bytes[(Data + 0x800)..(Data + 0x800 + 412)]);
        Assert.Equal(0, _memory.Bytes[Data + 0x800 + 412]);
        Assert.Equal((0u, 513u, 1), Given(0));
        Assert.True(_transport.Interrupts);
    }

    [Fact]
    public async Task Requests_TwoAtOnceAndAroundTheRing_AreGivenBackInOrder()
    {
        await StartAsync();
        SetHeader(0, sector: 1);
        for (int round = 0; round < 10; round++)
        {
            Describe(0, Header, 16, Next, 1);
            Describe(1, Data, 513, Writable, 0);
            Describe(4, Header, 16, Next, 5);
            Describe(5, Data + 0x800, 513, Writable, 0);
            BinaryPrimitives.WriteUInt16LittleEndian(_memory.Bytes.AsSpan(Available + 4 + (_offered++ % 8 * 2)), 0);
            await OfferAsync(4);
            Assert.Equal((0u, 513u), (Given(2 * round).Id, Given(2 * round).Length));
            Assert.Equal((4u, 513u, 2 * (round + 1)), Given((2 * round) + 1));
        }

        Assert.Equal(_contents[512..1024], _memory.Bytes[(Data + 0x800)..(Data + 0xA00)]);
    }

    [Theory]
    [InlineData(8u, 20, 0)]
    [InlineData(8u, 21, 2)]
    [InlineData(4u, 0, 0)]
    [InlineData(2u, 0, 2)]
    [InlineData(0xFFFF_FFFFu, 0, 2)]
    [InlineData(0u, 511, 1)]
    public async Task Request_OtherOperation_HasItsStatus(uint operation, int room, byte status)
    {
        await StartAsync();
        SetHeader(operation, sector: 0);
        Describe(0, Header, 16, Next, 1);
        Describe(1, Data, (uint)room + 1, Writable, 0);
        _memory.Bytes[Data + room] = 0xFF;
        await OfferAsync(0);
        Assert.Equal(status, _memory.Bytes[Data + room]);
    }

    [Fact]
    public async Task Driver_WantsNoInterrupts_GetsNone()
    {
        await StartAsync();
        _memory.Bytes[Available] = 1;
        await ReadFirstAsync();
        Assert.False(_transport.Interrupts);
        Assert.Equal(1, Given(0).Count);
    }

    [Fact]
    public async Task Request_AsksForItsPartsTogether()
    {
        await StartAsync();
        await ReadFirstAsync();
        Assert.Equal(3, _memory.Uses);
    }

    [Fact]
    public async Task Interrupt_Acknowledged_IsQuiet()
    {
        await StartAsync();
        await ReadFirstAsync();
        Assert.Equal(1ul, _transport.Read(0x60, 4));
        await _transport.WriteAsync(0x64, 4, 1);
        Assert.False(_transport.Interrupts);
    }

    [Fact]
    public async Task Notify_BeforeDriverOk_DoesNothing()
    {
        await StartAsync(status: 0xB);
        await ReadFirstAsync();
        Assert.Equal(0, Given(0).Count);
    }

    [Theory]
    [InlineData(0ul)]
    [InlineData(1ul)]
    [InlineData(2ul)]
    [InlineData(7ul)]
    public async Task Features_NotThoseOffered_AreRefused(ulong features)
    {
        await _transport.WriteAsync(0x70, 4, 3);
        await _transport.WriteAsync(0x24, 4, 1);
        await _transport.WriteAsync(0x20, 4, features);
        await _transport.WriteAsync(0x70, 4, 0xF);
        Assert.Equal(3ul, _transport.Read(0x70, 4));
    }

    // What the driver has wrong, and the device that does nothing more until its reset.
    [Theory]
    [InlineData("loop")]
    [InlineData("far next")]
    [InlineData("far head")]
    [InlineData("indirect")]
    [InlineData("order")]
    [InlineData("empty")]
    [InlineData("long")]
    [InlineData("no status")]
    [InlineData("short header")]
    [InlineData("private header")]
    [InlineData("private data")]
    [InlineData("index")]
    public async Task Driver_Hostile_MustResetTheDevice(string mistake)
    {
        await StartAsync();
        SetHeader(0, sector: 0);
        Describe(0, mistake == "private header" ? (ulong)DeviceMemory.Length : Header, mistake == "short header" ? 15u : mistake == "empty" ? 0u : 16u, Next, mistake == "far next" ? (ushort)8 : (ushort)1);
        Describe(1, mistake == "private data" ? (ulong)DeviceMemory.Length - 1 : Data, mistake == "long" ? uint.MaxValue : 513, Writable, 0);
        switch (mistake)
        {
            case "loop":
                Describe(1, Data, 513, Next | Writable, 1);
                break;
            case "indirect":
                Describe(0, Header, 16, Indirect, 1);
                break;
            case "order":
                Describe(1, Data, 513, Next | Writable, 2);
                Describe(2, Data, 1, 0, 0);
                break;
            case "no status":
                Describe(1, Data, 513, 0, 0);
                break;
            case "index":
                _offered += 8;
                break;
        }

        byte[] before = [.. _memory.Bytes];
        await OfferAsync(mistake == "far head" ? (ushort)8 : (ushort)0);
        Assert.Equal(0x4Ful, _transport.Read(0x70, 4));
        Assert.Equal(2ul, _transport.Read(0x60, 4));
        Assert.Equal(before[Used..(Used + 0x100)], _memory.Bytes[Used..(Used + 0x100)]);
        Assert.Equal(before[Data..(Data + 0x1000)], _memory.Bytes[Data..(Data + 0x1000)]);

        await ReadFirstAsync();
        Assert.Equal(0, Given(0).Count);
        await StartAsync();
        await ReadFirstAsync();
        Assert.Equal((0u, 513u, 1), Given(0));
    }

    [Fact]
    public async Task Registers_Garbage_AreTakenOrLost()
    {
        var random = new Random(1);
        for (int i = 0; i < 100_000; i++)
        {
            ulong offset = (ulong)random.Next(0x120);
            int size = 1 << random.Next(4);
            if (random.Next(2) == 0)
            {
                _transport.Read(offset, size);
            }
            else
            {
                await _transport.WriteAsync(offset, size, offset == 0x70 && random.Next(4) != 0 ? 0xF : (ulong)random.NextInt64());
            }
        }

        await StartAsync();
        await ReadFirstAsync();
        Assert.Equal((0u, 513u, 1), Given(0));
    }

    [Fact]
    public void Configuration_AnySize_IsPartOfTheSame()
    {
        Assert.Equal(16ul, _transport.Read(0x100, 8));
        Assert.Equal((16ul, 0ul, 512ul, 2ul, 0ul), (_transport.Read(0x100, 4), _transport.Read(0x104, 4), _transport.Read(0x114, 4), _transport.Read(0x115, 1), _transport.Read(0x118, 4)));
    }

    [Fact]
    public void Disk_OddOrMissing_IsRefused()
    {
        string odd = Path.Combine(_folder.FullName, "odd");
        File.WriteAllBytes(odd, new byte[700]);
        Assert.Same(SvsmDiagnostics.RunOptionInvalid, Assert.Throws<SvsmDiagnosticException>(new SvsmDisk(odd).Open).Diagnostic);
        Assert.Same(SvsmDiagnostics.RunFileUnreadable, Assert.Throws<SvsmDiagnosticException>(new SvsmDisk(odd + "er").Open).Diagnostic);
    }

    private async Task StartAsync(byte status = 0xF)
    {
        _offered = 0;
        _memory.Bytes.AsSpan(Descriptors, Header - Descriptors).Clear();
        (ulong Register, ulong Value)[] writes =
        [
            (0x70, 0), (0x70, 3), (0x24, 1), (0x20, 3), (0x24, 0), (0x20, 0), (0x70, 0xB), (0x30, 0), (0x38, 8), (0x80, Descriptors), (0x84, 0),
            (0x90, Available), (0x94, 0), (0xA0, Used), (0xA4, 0), (0x44, 1), (0x70, status),
        ];
        foreach ((ulong register, ulong value) in writes)
        {
            await _transport.WriteAsync(register, 4, value);
        }

        Assert.Equal(status, (byte)_transport.Read(0x70, 4));
    }

    private async Task ReadFirstAsync()
    {
        SetHeader(0, sector: 0);
        Describe(0, Header, 16, Next, 1);
        Describe(1, Data, 512, Next | Writable, 2);
        Describe(2, Status, 1, Writable, 0);
        await OfferAsync(0);
    }

    private void SetHeader(uint operation, ulong sector)
    {
        BinaryPrimitives.WriteUInt32LittleEndian(_memory.Bytes.AsSpan(Header), operation);
        BinaryPrimitives.WriteUInt64LittleEndian(_memory.Bytes.AsSpan(Header + 8), sector);
    }

    private void Describe(int index, ulong gpa, uint length, ushort flags, ushort next)
    {
        Span<byte> descriptor = _memory.Bytes.AsSpan(Descriptors + (index * 16), 16);
        BinaryPrimitives.WriteUInt64LittleEndian(descriptor, gpa);
        BinaryPrimitives.WriteUInt32LittleEndian(descriptor[8..], length);
        BinaryPrimitives.WriteUInt16LittleEndian(descriptor[12..], flags);
        BinaryPrimitives.WriteUInt16LittleEndian(descriptor[14..], next);
    }

    private async Task OfferAsync(ushort head)
    {
        BinaryPrimitives.WriteUInt16LittleEndian(_memory.Bytes.AsSpan(Available + 4 + (_offered++ % 8 * 2)), head);
        BinaryPrimitives.WriteUInt16LittleEndian(_memory.Bytes.AsSpan(Available + 2), _offered);
        await _transport.WriteAsync(0x50, 4, 0);
    }

    private (uint Id, uint Length, int Count) Given(int index)
    {
        ReadOnlySpan<byte> element = _memory.Bytes.AsSpan(Used + 4 + (index % 8 * 8), 8);
        return (BinaryPrimitives.ReadUInt32LittleEndian(element), BinaryPrimitives.ReadUInt32LittleEndian(element[4..]), BinaryPrimitives.ReadUInt16LittleEndian(_memory.Bytes.AsSpan(Used + 2)));
    }
}
