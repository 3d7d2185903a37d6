// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Generic;
using System.Text;
using Svsm.Kernel.Modules;
using Svsm.Wire;
using Xunit;

namespace Svsm.Kernel.Tests;

public sealed class ArchiveReaderTests
{
    private const int FuzzCases = 20_000;

    private delegate void Change(byte[] archive);

    [Fact]
    public void TryOpen_Good_EverythingIsFound()
    {
        byte[] bytes = TestArchive.Build();
        Assert.True(ArchiveReader.TryOpen(bytes, out ArchiveReader archive));
        Assert.Equal((3, 2, bytes.Length), (archive.FileCount, archive.ModuleCount, archive.Bytes.Length));
        Assert.Equal(TestArchive.NoteContents, archive.ContentsOf(TestArchive.Note));
        Assert.Equal(TestElf.Build(), archive.ContentsOf(TestArchive.Program));
        ArchiveFile file = archive.File(TestArchive.Secret);
        Assert.Equal(TestArchive.SecretPath, Encoding.UTF8.GetString(archive.PathOf(in file)));
        ArchiveModule module = archive.Module(0);
        Assert.Equal(TestArchive.ModuleName, Encoding.UTF8.GetString(archive.NameOf(in module)));
        Assert.Equal(TestArchive.ModuleName + "\0A=1\0B=22\0", Encoding.UTF8.GetString(archive.TextOf(in module)));
    }

    [Fact]
    public void TryFind_Path_IsForItsReadersOnly()
    {
        Assert.True(ArchiveReader.TryOpen(TestArchive.Build(), out ArchiveReader archive));
        Assert.True(archive.TryFind("/etc/note"u8, 0, out int index));
        Assert.Equal(TestArchive.Note, index);
        Assert.False(archive.TryFind("/etc/note"u8, 1, out _));
        Assert.True(archive.TryFind("/etc/secret"u8, 1, out index));
        Assert.Equal(TestArchive.Secret, index);
        Assert.False(archive.TryFind("/etc/secret"u8, 0, out _));
        Assert.False(archive.TryFind("/modules"u8, 0, out _));
        Assert.False(archive.TryFind("/etc/not"u8, 0, out _));
        Assert.False(archive.TryFind("/etc/note\0"u8, 0, out _));
        Assert.False(archive.TryFind("/etc/note/"u8, 0, out _));
        Assert.False(archive.TryFind("etc/note"u8, 0, out _));
        Assert.False(archive.TryFind(""u8, 0, out _));
    }

    // Bit 31 is the last module's.
    [Fact]
    public void TryFind_LastModule_HasItsBit()
    {
        byte[] bytes = TestArchive.Build();
        TestArchive.File(bytes, TestArchive.Note).Readers = 1u << 31;
        Assert.True(ArchiveReader.TryOpen(bytes, out ArchiveReader archive));
        Assert.True(archive.TryFind("/etc/note"u8, 31, out _));
        Assert.False(archive.TryFind("/etc/note"u8, 30, out _));
    }

    [Fact]
    public void TryOpen_AnyLength_IsRefused()
    {
        byte[] bytes = TestArchive.Build();
        for (int length = 0; length < bytes.Length; length += length < 400 ? 1 : 127)
        {
            Assert.False(ArchiveReader.TryOpen(bytes.AsSpan(0, length), out _), $"{length} bytes");
        }

        Assert.False(ArchiveReader.TryOpen(new byte[4096], out _));
    }

    public static TheoryData<string> Refused => [.. s_refused.Keys];

    private static readonly Dictionary<string, Change> s_refused = new()
    {
        ["magic"] = bytes => TestArchive.Header(bytes).Magic++,
        ["version 0"] = bytes => TestArchive.Header(bytes).Version = 0,
        ["version 1"] = bytes => TestArchive.Header(bytes).Version = 1,
        ["version 3"] = bytes => TestArchive.Header(bytes).Version = 3,
        ["reserved of the header"] = bytes => TestArchive.Header(bytes).Reserved = 1,
        ["length, a page more"] = bytes => TestArchive.Header(bytes).Length += 4096,
        ["length, a page less"] = bytes => TestArchive.Header(bytes).Length -= 4096,
        ["length of 4 GiB more"] = bytes => TestArchive.Header(bytes).Length += 1ul << 32,
        ["257 files"] = bytes => TestArchive.Header(bytes).FileCount = 257,
        ["files without end"] = bytes => TestArchive.Header(bytes).FileCount = uint.MaxValue,
        ["33 modules"] = bytes => TestArchive.Header(bytes).ModuleCount = 33,
        ["modules without end"] = bytes => TestArchive.Header(bytes).ModuleCount = uint.MaxValue,

        ["reserved of a file"] = bytes => TestArchive.File(bytes, 1).Reserved = 1,
        ["path of 1 byte"] = bytes => TestArchive.File(bytes, 1).PathLength = 1,
        ["path of 0 bytes"] = bytes => TestArchive.File(bytes, 1).PathLength = 0,
        ["path of 256 bytes"] = bytes => TestArchive.File(bytes, 1).PathLength = 256,
        ["path of 4 GiB"] = bytes => TestArchive.File(bytes, 1).PathLength = uint.MaxValue,
        ["path behind the end"] = bytes => TestArchive.File(bytes, 1).PathOffset = (uint)bytes.Length,
        ["path at 4 GiB"] = bytes => TestArchive.File(bytes, 1).PathOffset = uint.MaxValue,
        ["path across the end"] = bytes =>
        {
            bytes[^1] = (byte)'/';
            TestArchive.File(bytes, 1).PathOffset = (uint)bytes.Length - 1;
            TestArchive.File(bytes, 1).PathLength = 2;
        },
        ["path from nowhere"] = bytes => bytes[TestArchive.File(bytes, 1).PathOffset] = (byte)'e',
        ["two files of a path"] = bytes =>
        {
            TestArchive.File(bytes, 1).PathOffset = TestArchive.File(bytes, 0).PathOffset;
            TestArchive.File(bytes, 1).PathLength = TestArchive.File(bytes, 0).PathLength;
        },
        ["contents not at a page"] = bytes => TestArchive.File(bytes, 2).Offset += 512,
        ["contents behind the end"] = bytes => TestArchive.File(bytes, 2).Offset = (ulong)bytes.Length + 4096,
        ["contents at 2^64"] = bytes => TestArchive.File(bytes, 2).Offset = ulong.MaxValue & ~0xFFFul,
        ["contents of a byte too many"] = bytes => TestArchive.File(bytes, 2).Length = (ulong)bytes.Length - TestArchive.File(bytes, 2).Offset + 1,
        ["contents of 2^64 bytes"] = bytes => TestArchive.File(bytes, 2).Length = ulong.MaxValue,
        ["contents of nearly 2^64 bytes"] = bytes => TestArchive.File(bytes, 2).Length = 0 - TestArchive.File(bytes, 2).Offset,
        ["contents in a page of another file"] = bytes => TestArchive.File(bytes, 1).Offset = TestArchive.File(bytes, 0).Offset + 4096,
        ["the same contents"] = bytes => TestArchive.File(bytes, 1).Offset = TestArchive.File(bytes, 0).Offset,
        ["contents not in order"] = bytes =>
            (TestArchive.File(bytes, 0).Offset, TestArchive.File(bytes, 2).Offset) = (TestArchive.File(bytes, 2).Offset, TestArchive.File(bytes, 0).Offset),

        ["the core protocol"] = bytes => TestArchive.Module(bytes, 1).Protocol = SvsmProtocol.Core,
        ["two modules of a protocol"] = bytes => TestArchive.Module(bytes, 1).Protocol = TestArchive.Module(bytes, 0).Protocol,
        ["version 0 of a protocol"] = bytes => TestArchive.Module(bytes, 1).MinVersion = 0,
        ["no version"] = bytes => TestArchive.Module(bytes, 1).MinVersion = 3,
        ["no such program"] = bytes => TestArchive.Module(bytes, 1).Program = 3,
        ["program 2^32 - 1"] = bytes => TestArchive.Module(bytes, 1).Program = uint.MaxValue,
        ["text behind the end"] = bytes => TestArchive.Module(bytes, 1).TextOffset = (uint)bytes.Length,
        ["text at 4 GiB"] = bytes => TestArchive.Module(bytes, 1).TextOffset = uint.MaxValue,
        ["text of 2049 bytes"] = bytes =>
        {
            bytes.AsSpan(4096, 2048).Fill((byte)'x');
            bytes[4096 + 2048] = 0;
            TestArchive.Module(bytes, 1).TextOffset = 4096;
            TestArchive.Module(bytes, 1).TextLength = 2049;
        },
        ["text of 4 GiB"] = bytes => TestArchive.Module(bytes, 1).TextLength = uint.MaxValue,
        ["text without an end mark"] = bytes => TestArchive.Module(bytes, 1).TextLength--,
        ["text behind its last string"] = bytes => TestArchive.Module(bytes, 1).TextLength++,
        ["no text"] = bytes => TestArchive.Module(bytes, 1).TextLength = 0,
        ["no argument"] = bytes => TestArchive.Module(bytes, 0).ArgumentCount = 0,
        ["only environment"] = bytes => (TestArchive.Module(bytes, 0).ArgumentCount, TestArchive.Module(bytes, 0).EnvironmentCount) = (0, 3),
        ["a string more than there is"] = bytes => TestArchive.Module(bytes, 0).EnvironmentCount = 3,
        ["a string less than there is"] = bytes => TestArchive.Module(bytes, 0).EnvironmentCount = 1,
        ["65 strings"] = bytes => SetStrings(bytes, 33, 32),
        ["65 arguments"] = bytes => SetStrings(bytes, 65, 0),
        ["counts of strings that overflow"] = bytes => (TestArchive.Module(bytes, 0).ArgumentCount, TestArchive.Module(bytes, 0).EnvironmentCount) = (4, uint.MaxValue),
        ["arguments that overflow"] = bytes => (TestArchive.Module(bytes, 0).ArgumentCount, TestArchive.Module(bytes, 0).EnvironmentCount) = (uint.MaxValue, 4),
        ["memory limit of 63 pages"] = bytes => TestArchive.Module(bytes, 1).MemoryLimit = 63 * 4096,
        ["memory limit of 0"] = bytes => TestArchive.Module(bytes, 1).MemoryLimit = 0,
        ["memory limit above 1 GiB"] = bytes => TestArchive.Module(bytes, 1).MemoryLimit = (1ul << 30) + 4096,
        ["memory limit of 2^64"] = bytes => TestArchive.Module(bytes, 1).MemoryLimit = ulong.MaxValue & ~0xFFFul,
        ["memory limit of half a page"] = bytes => TestArchive.Module(bytes, 1).MemoryLimit += 2048,
        ["watchdog 0"] = bytes => TestArchive.Module(bytes, 1).Watchdog = 0,
        ["watchdog above an hour"] = bytes => TestArchive.Module(bytes, 1).Watchdog = 3_600_001,
        ["failure policy 2"] = bytes => TestArchive.Module(bytes, 1).OnFailure = (ModuleFailurePolicy)2,
        ["permission 64"] = bytes => TestArchive.Module(bytes, 1).Permissions = (ModulePermissions)64,
        ["a module that attests and stores"] = bytes => TestArchive.Module(bytes, 1).Permissions = ModulePermissions.Attest | ModulePermissions.Store,
        ["a module that attests and keeps the store"] = bytes => TestArchive.Module(bytes, 1).Permissions = ModulePermissions.Attest | ModulePermissions.KeepStore,
        ["a module that stores with itself"] = bytes => TestArchive.Module(bytes, 1).Permissions = ModulePermissions.Store | ModulePermissions.KeepStore,
        ["a module that moves the guest and stores"] = bytes => TestArchive.Module(bytes, 1).Permissions = ModulePermissions.Store | ModulePermissions.Migrate,
        ["two modules that move the guest"] = bytes => TestArchive.Module(bytes, 0).Permissions = TestArchive.Module(bytes, 1).Permissions = ModulePermissions.Migrate,
        ["two modules that keep the store"] = bytes => TestArchive.Module(bytes, 0).Permissions = TestArchive.Module(bytes, 1).Permissions = ModulePermissions.KeepStore,
        ["permission 2^31"] = bytes => TestArchive.Module(bytes, 1).Permissions = (ModulePermissions)0x8000_0000,
        ["two modules that attest"] = bytes => TestArchive.Module(bytes, 0).Permissions |= ModulePermissions.Attest,
        ["two modules of a service"] = bytes => TestArchive.Module(bytes, 0).Service[15] = TestArchive.Module(bytes, 1).Service[15] = 1,
        ["a quota without a store"] = bytes => TestArchive.Module(bytes, 1).StoreQuota = 1,
        ["a quota of 2^63"] = bytes => (TestArchive.Module(bytes, 1).Permissions, TestArchive.Module(bytes, 1).StoreQuota) = (ModulePermissions.Store, 1ul << 63),
    };

    [Theory]
    [MemberData(nameof(Refused))]
    public void TryOpen_BrokenRule_IsRefused(string rule)
    {
        byte[] bytes = TestArchive.Build();
        s_refused[rule](bytes);
        Assert.False(ArchiveReader.TryOpen(bytes, out _));
    }

    public static TheoryData<string> Accepted => [.. s_accepted.Keys];

    // What is just not a broken rule.
    private static readonly Dictionary<string, Change> s_accepted = new()
    {
        ["no modules"] = bytes => TestArchive.Header(bytes).ModuleCount = 0,
        ["path of 2 bytes"] = bytes => TestArchive.File(bytes, 1).PathLength = 2,
        ["path of 255 bytes"] = bytes => TestArchive.File(bytes, 1).PathLength = 255,
        ["path at the end"] = bytes =>
        {
            bytes[^2] = (byte)'/';
            TestArchive.File(bytes, 1).PathOffset = (uint)bytes.Length - 2;
            TestArchive.File(bytes, 1).PathLength = 2;
        },
        ["contents to the end"] = bytes => TestArchive.File(bytes, 2).Length = (ulong)bytes.Length - TestArchive.File(bytes, 2).Offset,
        ["contents of a whole page"] = bytes => TestArchive.File(bytes, 1).Length = 4096,
        ["empty contents at the end"] = bytes => (TestArchive.File(bytes, 2).Offset, TestArchive.File(bytes, 2).Length) = ((ulong)bytes.Length, 0),
        ["64 strings"] = bytes => SetStrings(bytes, 32, 32),
        ["64 arguments"] = bytes => SetStrings(bytes, 64, 0),
        ["text of 2048 bytes"] = bytes =>
        {
            bytes.AsSpan(4096, 2047).Fill((byte)'x');
            bytes[4096 + 2047] = 0;
            TestArchive.Module(bytes, 1).TextOffset = 4096;
            TestArchive.Module(bytes, 1).TextLength = 2048;
        },
        ["memory limit of 64 pages"] = bytes => TestArchive.Module(bytes, 1).MemoryLimit = 64 * 4096,
        ["memory limit of 1 GiB"] = bytes => TestArchive.Module(bytes, 1).MemoryLimit = 1ul << 30,
        ["watchdog 1"] = bytes => TestArchive.Module(bytes, 1).Watchdog = 1,
        ["watchdog of an hour"] = bytes => TestArchive.Module(bytes, 1).Watchdog = 3_600_000,
        ["retire"] = bytes => TestArchive.Module(bytes, 1).OnFailure = ModuleFailurePolicy.Retire,
        ["one version"] = bytes => TestArchive.Module(bytes, 1).MinVersion = 2,
        ["all versions"] = bytes => TestArchive.Module(bytes, 1).MaxVersion = uint.MaxValue,
        ["all permissions"] = bytes => TestArchive.Module(bytes, 1).Permissions = (ModulePermissions)7,
        ["the last protocol"] = bytes => TestArchive.Module(bytes, 1).Protocol = (SvsmProtocol)uint.MaxValue,
    };

    [Theory]
    [MemberData(nameof(Accepted))]
    public void TryOpen_AtTheBounds_IsAccepted(string bound)
    {
        byte[] bytes = TestArchive.Build();
        s_accepted[bound](bytes);
        Assert.True(ArchiveReader.TryOpen(bytes, out ArchiveReader archive));
        CheckRules(in archive);
    }

    // The tables end where the archive ends, or one entry behind it.
    [Theory]
    [InlineData(126, true)]
    [InlineData(127, false)]
    public void TryOpen_TablesAtTheEnd_AreBounded(int files, bool expected)
    {
        byte[] bytes = new byte[4096];
        TestArchive.Header(bytes) = new ArchiveHeader { Magic = ArchiveHeader.MagicValue, Version = ArchiveHeader.CurrentVersion, FileCount = (uint)files, Length = 4096 };

        // Paths are any bytes behind a slash: each file has other ones, somewhere in the tables themselves.
        for (int i = 0; i < Math.Min(files, 126); i++)
        {
            ref ArchiveFile file = ref TestArchive.File(bytes, i);
            file.PathOffset = (uint)(ArchiveHeader.Size + (i * ArchiveFile.Size) + 24);
            file.PathLength = 4;
            file.Readers = (uint)'/' | ((uint)i << 8);
            file.Offset = 4096;
        }

        Assert.Equal(expected, ArchiveReader.TryOpen(bytes, out _));
    }

    [Fact]
    public void TryOpen_ChangedBytes_KeepsTheRules() => Fuzz(FuzzCases);

    [Fact]
    [Trait("Run", "all")]
    public void TryOpen_AMillionChanges_KeepsTheRules() => Fuzz(1_000_000);

    [Fact]
    public void TryOpen_RandomBytes_DoesNotThrow()
    {
        var random = new Random(20261129);
        byte[] bytes = new byte[8192];
        for (int i = 0; i < 500; i++)
        {
            random.NextBytes(bytes);
            Check(bytes.AsSpan(0, random.Next(bytes.Length + 1)));

            // Behind a good header there is more to be read.
            TestArchive.Header(bytes) = new ArchiveHeader
            {
                Magic = ArchiveHeader.MagicValue,
                Version = ArchiveHeader.CurrentVersion,
                FileCount = (uint)random.Next(258),
                ModuleCount = (uint)random.Next(34),
                Length = (ulong)bytes.Length,
            };
            Check(bytes);
        }
    }

    // Tables and text are in the first page; nobody looks at what lies behind it.
    private static void Fuzz(int cases)
    {
        byte[] original = TestArchive.Build();
        byte[] bytes = [.. original];
        int tables = ArchiveHeader.Size + (3 * ArchiveFile.Size) + (2 * ArchiveModule.Size);
        ulong[] numbers = [0, 1, 2, 3, 0x7F, 0xFF, 0x100, 0xFFF, 0x1000, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF, ulong.MaxValue, ulong.MaxValue - 0xFFF, (ulong)original.Length, (ulong)original.Length - 1];
        var random = new Random(1);
        int accepted = 0;
        for (int i = 0; i < cases; i++)
        {
            original.AsSpan(0, 4096).CopyTo(bytes);
            for (int change = random.Next(1, 4); change > 0; change--)
            {
                int at = random.Next(3) == 0 ? random.Next(4096) : random.Next(24, tables + 100);
                if (random.Next(2) == 0)
                {
                    bytes[at] = (byte)random.Next(256);
                }
                else
                {
                    BitConverter.TryWriteBytes(bytes.AsSpan(at & ~7), numbers[random.Next(numbers.Length)]);
                }
            }

            accepted += Check(bytes) ? 1 : 0;
        }

        // The changes are of a kind that both outcomes are seen.
        Assert.InRange(accepted, cases / 100, cases * 9 / 10);
    }

    private static bool Check(ReadOnlySpan<byte> bytes)
    {
        bool isGood = ArchiveReader.TryOpen(bytes, out ArchiveReader archive);
        if (isGood)
        {
            CheckRules(in archive);
        }

        return isGood;
    }

    private static void CheckRules(in ArchiveReader archive)
    {
        ulong end = 0;
        for (int i = 0; i < archive.FileCount; i++)
        {
            ArchiveFile file = archive.File(i);
            Assert.True(file.Offset % 4096 == 0 && file.Offset >= end);
            Assert.Equal(file.Length, (ulong)archive.ContentsOf(i).Length);
            end = file.Offset + ((file.Length + 4095) / 4096 * 4096);
            ReadOnlySpan<byte> path = archive.PathOf(in file);
            Assert.InRange(path.Length, 2, ArchiveFile.MaxPath);
            Assert.Equal((byte)'/', path[0]);
            for (int module = 0; module < ArchiveHeader.MaxModules; module++)
            {
                Assert.Equal((file.Readers >> module & 1) != 0, archive.TryFind(path, module, out int index) && index == i);
            }
        }

        Assert.True(end <= (ulong)archive.Bytes.Length);
        for (int i = 0; i < archive.ModuleCount; i++)
        {
            ArchiveModule module = archive.Module(i);
            Assert.True(module.Program < archive.FileCount && module.MaxVersion >= module.MinVersion && module.MemoryLimit % 4096 == 0);
            ReadOnlySpan<byte> text = archive.TextOf(in module);
            Assert.InRange(text.Length, 1, ArchiveModule.MaxText);
            Assert.Equal(0, text[^1]);
            Assert.Equal((int)(module.ArgumentCount + module.EnvironmentCount), text.Count((byte)0));
            Assert.Equal(text[..text.IndexOf((byte)0)], archive.NameOf(in module));
        }
    }

    // The text of module 0 becomes so many strings, where the first file is.
    private static void SetStrings(byte[] bytes, uint arguments, uint environment)
    {
        ref ArchiveModule module = ref TestArchive.Module(bytes, 0);
        (module.ArgumentCount, module.EnvironmentCount) = (arguments, environment);
        (module.TextOffset, module.TextLength) = (4096, (arguments + environment) * 2);
        for (int i = 0; i < module.TextLength; i++)
        {
            bytes[4096 + i] = (byte)(i % 2 == 0 ? 'x' : 0);
        }
    }
}
