// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The disk of the SVSM, driven by the probe guest: a good one, and those of hosts that lie.

using System;
using System.Buffers.Binary;
using System.IO;
using System.Security.Cryptography;
using System.Threading.Tasks;
using Svsm.Simulator;
using Xunit;

namespace Svsm.EndToEnd.Tests;

public sealed class DiskTests : IDisposable
{
    private const int Length = 64 * 1024;
    private readonly DirectoryInfo _folder = Directory.CreateTempSubdirectory("svsm-disk-");
    private readonly byte[] _before = RandomNumberGenerator.GetBytes(Length);

    private string DiskPath => Path.Combine(_folder.FullName, "disk");

    public DiskTests() => File.WriteAllBytes(DiskPath, _before);

    public void Dispose() => _folder.Delete(recursive: true);

    [Fact]
    public async Task Disk_Good_DoesWhatADiskDoes()
    {
        MachineResult result = await RunAsync(new SvsmDisk(DiskPath));

        Assert.True(result.ExitStatus == 0, $"{result}\n{result.ConsoleText(2)}");
        Assert.Contains("probe: disk: sectors 80\n", result.ConsoleText(2), StringComparison.Ordinal);
        Assert.Contains($"probe: disk: contents {BinaryPrimitives.ReadUInt64LittleEndian(_before):x}\n", result.ConsoleText(2), StringComparison.Ordinal);
        byte[] after = File.ReadAllBytes(DiskPath);
        Assert.Equal(_before[..1024], after[..1024]);
        Assert.Equal(0x0123_4567_89AB_CDEFul, BinaryPrimitives.ReadUInt64LittleEndian(after.AsSpan(1024)));
        Assert.Equal(_before[(1024 + 4096)..], after[(1024 + 4096)..]);
    }

    [Fact]
    public async Task Disk_CountingInstructions_RepeatsExactly()
    {
        MachineResult first = await RunAsync(new SvsmDisk(DiskPath), countInstructions: true);
        File.WriteAllBytes(DiskPath, _before);
        MachineResult second = await RunAsync(new SvsmDisk(DiskPath), countInstructions: true);

        Assert.True(first.ExitStatus == 0, $"{first}\n{first.ConsoleText(2)}");
        Assert.Equal(first.Statistics, second.Statistics);
    }

    [Fact]
    public async Task Disk_ReadOnly_RefusesToWrite()
    {
        MachineResult result = await RunAsync(new SvsmDisk(DiskPath) { ReadOnly = true });

        Assert.Contains("probe: FAIL disk: write got 0x1 want 0x0\n", result.ConsoleText(2), StringComparison.Ordinal);
        Assert.Equal(_before, File.ReadAllBytes(DiskPath));
    }

    [Fact]
    public async Task Disk_None_IsNotThere()
    {
        using ImageUnderTest image = ImageUnderTest.Build("disk");
        MachineResult result = await image.RunAsync();

        Assert.Contains("probe: FAIL disk: magic got 0xffffffff want", result.ConsoleText(2), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("silent", "probe: disk: read first is not answered\n")]
    [InlineData("id", "probe: disk: read first is answered for another\n")]
    [InlineData("length", "probe: disk: read first has an answer of another length\n")]
    [InlineData("status", "probe: FAIL disk: read first got 0x1 want 0x0\n")]
    [InlineData("torn", "probe: FAIL disk: what was written is read got 0x0 want 0x1\n")]
    [InlineData("replayed", "probe: FAIL disk: what was written is read got 0x0 want 0x1\n")]
    [InlineData("capacity", "probe: disk: sectors ffffffffffffffff\n")]
    [InlineData("magic", "probe: FAIL disk: magic got 0x0 want")]
    public async Task Disk_Hostile_IsWhatTheDriverSees(string kind, string line)
    {
        MachineResult result = await RunAsync(new HostileDisk(DiskPath, kind));

        Assert.Contains(line, result.ConsoleText(2), StringComparison.Ordinal);
        Assert.Equal(MachineStop.GuestExit, result.Stop);
        Assert.Equal(kind == "capacity", result.ExitStatus == 0);
    }

    [Fact]
    public async Task Disk_Throws_EndsTheRunWithWhatItThrew()
    {
        var error = await Assert.ThrowsAsync<InvalidOperationException>(() => RunAsync(new HostileDisk(DiskPath, "throw")));
        Assert.Equal("a mistake in the test", error.Message);
    }

    private static async Task<MachineResult> RunAsync(SvsmDisk disk, bool countInstructions = false)
    {
        using ImageUnderTest image = ImageUnderTest.Build("disk");
        return await ImageUnderTest.RunAsync(image.Options() with { SvsmDisks = [disk], CountInstructions = countInstructions });
    }

    private sealed class HostileDisk(string path, string kind) : SvsmDisk(path)
    {
        private readonly byte[] _old = File.ReadAllBytes(path);

        public override ulong SectorCount => kind == "capacity" ? ulong.MaxValue : base.SectorCount;

        public override ulong ReadRegister(ulong offset, ulong value) => kind == "magic" && offset == 0 ? 0 : value;

        public override BlockCompletion? Handle(BlockRequest request)
        {
            switch (kind)
            {
                case "silent":
                    return null;
                case "throw":
                    throw new InvalidOperationException("a mistake in the test");
                case "torn" when request.Operation == BlockOperation.Write:
                    base.Handle(request with { Data = request.Data[..SectorLength] });
                    return new BlockCompletion { Length = 1, Id = request.Id };
                case "replayed" when request.Operation == BlockOperation.Read && request.Sector < Length / SectorLength:
                    return base.Handle(request)! with { Data = _old.AsMemory((int)request.Sector * SectorLength, request.Room) };
            }

            BlockCompletion? completion = base.Handle(request);
            return kind switch
            {
                "id" => completion! with { Id = 77 },
                "length" => completion! with { Length = 1_000_000 },
                "status" => completion! with { Status = BlockStatus.IOError },
                _ => completion,
            };
        }
    }
}
