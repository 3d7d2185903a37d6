// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Generic;
using System.Collections.Immutable;
using System.Linq;
using System.Runtime.InteropServices;
using System.Text;
using System.Text.Json;
using Svsm.Diagnostics;
using Svsm.Igvm;
using Svsm.Wire;
using Xunit;

namespace Svsm.Builder.Tests;

public sealed class ModuleArchiveTests
{
    private const ulong MiB = 0x10_0000;

    private static readonly byte[] s_program = [.. Enumerable.Range(0, 10_000).Select(i => (byte)(i * 7))];
    private static readonly byte[] s_note = Encoding.UTF8.GetBytes("note");

    public static TheoryData<HostFlavour> Flavours => [HostFlavour.Qemu, HostFlavour.StockQemu, HostFlavour.HyperV, HostFlavour.Vanadium];

    private static readonly Guid s_service = new("c476f1eb-0123-45a5-9641-b4e7dde5bfe3");

    private static ModuleOptions Echo => new() { TypeName = "Acme.EchoModule", Protocol = 0x8000_0001 };

    private static ModuleOptions Tpm => new()
    {
        TypeName = "Svsm.Tpm",
        Protocol = 2,
        MaxVersion = 3,
        HeapLimit = 8 * MiB,
        MemoryLimit = 12 * MiB,
        Watchdog = 60_000,
        OnFailure = ModuleFailurePolicy.Retire,
        RestartLimit = 7,
        Permissions = ModulePermissions.ReadGuest | ModulePermissions.Attest,
        Service = s_service,
    };

    private static ImmutableArray<ModuleFile> Files =>
        [new ModuleFile(ModuleOptions.DefaultProgram, s_program), new ModuleFile("/etc/note", s_note) { Readers = [0x8000_0001] }];

    private static SvsmImageOptions Options(params ModuleOptions[] modules) => new()
    {
        Kernel = TestElf.Kernel().ToArray(),
        GuestPayload = TestElf.Payload().ToArray(),
        Modules = [.. modules],
        Files = Files,
    };

    private static ReadOnlySpan<T> Entries<T>(byte[] archive, int offset, uint count)
        where T : unmanaged => MemoryMarshal.Cast<byte, T>(archive.AsSpan(offset))[..(int)count];

    [Fact]
    public void Write_TwoModules_EverythingIsWhereTheEntriesSay()
    {
        byte[] archive = ModuleArchiveWriter.Write(Files, [Echo, Tpm]);

        ArchiveHeader header = MemoryMarshal.Read<ArchiveHeader>(archive);
        Assert.Equal((ArchiveHeader.MagicValue, ArchiveHeader.CurrentVersion), (header.Magic, header.Version));
        Assert.Equal((2u, 2u, (ulong)archive.Length), (header.FileCount, header.ModuleCount, header.Length));
        Assert.Equal(0, archive.Length % 4096);

        ReadOnlySpan<ArchiveFile> files = Entries<ArchiveFile>(archive, ArchiveHeader.Size, 2);
        ReadOnlySpan<ArchiveModule> modules = Entries<ArchiveModule>(archive, ArchiveHeader.Size + (2 * ArchiveFile.Size), 2);
        Assert.Equal("/etc/note", Encoding.UTF8.GetString(archive, (int)files[0].PathOffset, (int)files[0].PathLength));
        Assert.Equal("/modules", Encoding.UTF8.GetString(archive, (int)files[1].PathOffset, (int)files[1].PathLength));
        Assert.Equal((0b10u, 0u), (files[0].Readers, files[1].Readers));
        Assert.All(files.ToArray(), file => Assert.Equal(0ul, file.Offset % 4096));
        Assert.Equal(s_note, archive[(int)files[0].Offset..][..(int)files[0].Length]);
        Assert.Equal(s_program, archive[(int)files[1].Offset..][..(int)files[1].Length]);
        Assert.All(archive[((int)files[0].Offset + s_note.Length)..(int)files[1].Offset], b => Assert.Equal(0, b));
        Assert.Equal((ulong)archive.Length, files[1].Offset + 0x3000);

        ArchiveModule tpm = modules[0];
        Assert.Equal(((SvsmProtocol)2, 1u, 3u, 1u), (tpm.Protocol, tpm.MinVersion, tpm.MaxVersion, tpm.Program));
        Assert.Equal((12 * MiB, 60_000u, ModuleFailurePolicy.Retire, 7u), (tpm.MemoryLimit, tpm.Watchdog, tpm.OnFailure, tpm.RestartLimit));
        Assert.Equal(ModulePermissions.ReadGuest | ModulePermissions.Attest, tpm.Permissions);
        Assert.Equal(Convert.FromHexString("EBF176C42301A5459641B4E7DDE5BFE3"), ((ReadOnlySpan<byte>)tpm.Service).ToArray());
        Assert.Equal((1u, 3u), (tpm.ArgumentCount, tpm.EnvironmentCount));
        Assert.Equal(
            "Svsm.Tpm\0DOTNET_GCHeapHardLimit=800000\0DOTNET_GCRegionRange=10000000\0DOTNET_GCgen0size=40000\0",
            Encoding.UTF8.GetString(archive, (int)tpm.TextOffset, (int)tpm.TextLength));
        ArchiveModule echo = modules[1];
        Assert.Equal(((SvsmProtocol)0x8000_0001, 1u, 1u, 1u), (echo.Protocol, echo.MinVersion, echo.MaxVersion, echo.Program));
        Assert.StartsWith("Acme.EchoModule\0DOTNET_GCHeapHardLimit=400000\0", Encoding.UTF8.GetString(archive, (int)echo.TextOffset, (int)echo.TextLength), StringComparison.Ordinal);
        Assert.Equal(ModulePermissions.ReadGuest | ModulePermissions.WriteGuest, echo.Permissions);
        Assert.Equal(new byte[16], ((ReadOnlySpan<byte>)echo.Service).ToArray());
        ulong contents = files[0].Offset;
        Assert.All(modules.ToArray(), module => Assert.True(module.TextOffset + module.TextLength <= contents));
    }

    [Fact]
    public void Read_WhatWasWritten_IsThere()
    {
        ModuleArchive archive = ModuleArchive.Read(ModuleArchiveWriter.Write(Files, [Echo, Tpm]))!;

        Assert.Equal(["/etc/note", "/modules"], archive.Files.Select(file => file.Path));
        Assert.Equal([4ul, 10_000ul], archive.Files.Select(file => file.Length));
        Assert.Equal(["Acme.EchoModule"], archive.ReadersOf(archive.Files[0]));
        Assert.Empty(archive.ReadersOf(archive.Files[1]));
        Assert.Equal(["Svsm.Tpm", "Acme.EchoModule"], archive.Modules.Select(module => Assert.Single(module.Arguments)));
        Assert.Equal(["DOTNET_GCHeapHardLimit=800000", "DOTNET_GCRegionRange=10000000", "DOTNET_GCgen0size=40000"], archive.Modules[0].Environment);
        Assert.Equal(12 * MiB, archive.Modules[0].Entry.MemoryLimit);
    }

    [Fact]
    public void Read_DamagedArchive_IsNullOrWithinBounds()
    {
        byte[] good = ModuleArchiveWriter.Write(Files, [Echo, Tpm]);
        Assert.Null(ModuleArchive.Read([]));
        Assert.Null(ModuleArchive.Read(good.AsSpan(0, good.Length - 1)));
        int head = (int)ModuleArchive.Read(good)!.Files[0].Offset;
        var random = new Random(1);
        for (int i = 0; i < 20_000; i++)
        {
            byte[] bad = (byte[])good.Clone();
            for (int j = random.Next(1, 8); j > 0; j--)
            {
                bad[random.Next(Math.Min(head, 400))] = (byte)random.Next();
            }

            foreach (ArchivedFile file in ModuleArchive.Read(bad)?.Files ?? [])
            {
                Assert.True(file.Offset + file.Length <= (ulong)bad.Length && file.Offset <= (ulong)bad.Length);
            }
        }
    }

    [Fact]
    public void Render_MapAndReferenceValues_ListModulesAndFiles()
    {
        SvsmImageFiles files = SvsmImageWriter.Render(SvsmImageBuilder.Build(Options(Echo, Tpm)), "Test");

        Assert.Contains(
            "# Protocol, versions, memory limit, class of each module\n# 0x00000002 1-3 12582912 Svsm.Tpm\n# 0x80000001 1-1 6291456 Acme.EchoModule\n" +
            "#\n# Bytes, path, and the modules that may open it, of each file\n# 4 /etc/note for Acme.EchoModule\n# 10000 /modules\n",
            Encoding.UTF8.GetString(files.Map.Span), StringComparison.Ordinal);
        using JsonDocument json = JsonDocument.Parse(files.ReferenceValuesJson);
        JsonElement tpm = json.RootElement.GetProperty("modules")[0];
        Assert.Equal(
            ("Svsm.Tpm", "0x2", 3, 12 * MiB, "Retire", "ReadGuest, Attest"),
            (tpm.GetProperty("class").GetString(), tpm.GetProperty("protocol").GetString(), tpm.GetProperty("maxVersion").GetInt32(),
                tpm.GetProperty("memoryLimit").GetUInt64(), tpm.GetProperty("onFailure").GetString(), tpm.GetProperty("permissions").GetString()));
        JsonElement note = json.RootElement.GetProperty("files")[0];
        Assert.Equal(
            ("/etc/note", 4, "Acme.EchoModule"),
            (note.GetProperty("path").GetString(), note.GetProperty("byteLength").GetInt32(), Assert.Single(note.GetProperty("modules").EnumerateArray()).GetString()));
    }

    [Fact]
    public void Write_AnyOrder_GivesTheSameBytes() =>
        Assert.Equal(ModuleArchiveWriter.Write(Files, [Echo, Tpm]), ModuleArchiveWriter.Write([.. Files.Reverse()], [Tpm, Echo]));

    [Fact]
    public void Write_LargeHeap_ItsAddressSpaceIsSixteenTimesThat()
    {
        byte[] archive = ModuleArchiveWriter.Write(Files, [Echo with { HeapLimit = 32 * MiB, MemoryLimit = 40 * MiB }]);
        Assert.Contains("DOTNET_GCHeapHardLimit=2000000\0DOTNET_GCRegionRange=20000000\0", Encoding.UTF8.GetString(archive), StringComparison.Ordinal);
    }

    [Theory]
    [MemberData(nameof(Flavours))]
    public void Build_WithModules_KernelFindsTheArchive(HostFlavour flavour)
    {
        SvsmImage image = SvsmImageBuilder.Build(Options(Echo, Tpm) with { Flavour = flavour });
        var memory = new ImageMemory(IgvmFile.Parse(image.ToIgvm().Write()));
        ImageConfiguration configuration = image.Configuration;
        Dictionary<ulong, Translation> map = memory.Mappings(configuration.KernelRoot).ToDictionary(e => e.VirtualAddress, e => e.Page);

        byte[] wanted = ModuleArchiveWriter.Write(Files, [Echo, Tpm]);
        Assert.Equal((ulong)wanted.Length, configuration.ArchiveLength);
        for (ulong offset = 0; offset < configuration.ArchiveLength; offset += 4096)
        {
            Translation page = map[KernelAddressSpace.Archive + offset];
            Assert.Equal(configuration.ArchiveBase + offset, page.Gpa);
            Assert.True(page is { Writable: false, Executable: false, Global: true, User: false });
            Assert.True(memory.Page(page.Gpa).SequenceEqual(wanted.AsSpan((int)offset, 4096)));
        }

        Assert.DoesNotContain(KernelAddressSpace.Archive + configuration.ArchiveLength, map.Keys);
        Assert.InRange(configuration.ArchiveBase, configuration.RegionBase, configuration.HeapBase - configuration.ArchiveLength);
        Assert.Equal((8 + 2 + 6 + 12) * MiB, configuration.RegionLength);
        Assert.Equal(configuration.ArchiveLength, image.Sizes.Modules);
        Assert.True(image.Parts.Single(part => part.Name == "modules").IsMeasured);
    }

    [Fact]
    public void Build_ThreeModulesOfDefaultLimits_StayWithin32MiB()
    {
        SvsmImage image = SvsmImageBuilder.Build(Options(Echo, Echo with { Protocol = 7 }, Echo with { Protocol = 8 }) with
        {
            Files = [new ModuleFile(ModuleOptions.DefaultProgram, new byte[4 * MiB - 8192])],
        });
        Assert.Equal(30 * MiB, image.Configuration.RegionLength);
    }

    [Fact]
    public void Build_ArchiveOfManyTables_IsMappedToItsEnd()
    {
        SvsmImage image = SvsmImageBuilder.Build(Options(Echo) with { Files = [new ModuleFile(ModuleOptions.DefaultProgram, new byte[20 * MiB])] });
        var memory = new ImageMemory(image.ToIgvm());
        ulong last = KernelAddressSpace.Archive + image.Configuration.ArchiveLength - 4096;
        Assert.Contains(memory.Mappings(image.Configuration.KernelRoot), e => e.VirtualAddress == last);
        BootParameters boot = MemoryMarshal.Read<BootParameters>(memory.Page(image.Launch.Vmsa.Rbx));
        Assert.Equal(image.Configuration.KernelTableCount, boot.KernelTableCount);
    }

    [Fact]
    public void Build_WithoutModules_NothingOfThem()
    {
        SvsmImage image = SvsmImageBuilder.Build(Options() with { Files = [] });
        Assert.Equal((0ul, 0ul, 8 * MiB), (image.Configuration.ArchiveBase, image.Configuration.ArchiveLength, image.Configuration.RegionLength));
    }

    [Fact]
    public void Build_TwoModulesOfAProtocol_Fails() =>
        Fails(SvsmDiagnostics.ProtocolTaken, Options(Echo, Echo with { TypeName = "Other.Module" }), "Acme.EchoModule", "Other.Module", "0x80000001");

    [Fact]
    public void Build_RegionTooSmallForLimits_Fails() =>
        Fails(SvsmDiagnostics.RegionFull, Options(Echo with { MemoryLimit = 200 * MiB }, Tpm), "2 modules");

    [Fact]
    public void Build_LimitOfNearlyAllThereIs_Fails() => Fails(SvsmDiagnostics.RegionFull, Options(Echo with { MemoryLimit = ulong.MaxValue & ~0xFFFul }), "1 modules");

    [Fact]
    public void Build_FilesWithoutModule_Fails() => Fails(SvsmDiagnostics.ImageOptionInvalid, Options(), "2 files");

    public static TheoryData<string, Func<ModuleOptions, ModuleOptions>> BadModules => new()
    {
        { "protocol 0", module => module with { Protocol = 0 } },
        { "versions 0 to 1", module => module with { MinVersion = 0 } },
        { "versions 3 to 2", module => module with { MinVersion = 3, MaxVersion = 2 } },
        { "class is ''", module => module with { TypeName = "" } },
        { "class is", module => module with { TypeName = "A\0B" } },
        { "class name of 2000", module => module with { TypeName = new string('x', 2000) } },
        { "program '/other'", module => module with { Program = "/other" } },
        { "heap limit of 0xFFFFF", module => module with { HeapLimit = MiB - 1 } },
        { "memory limit of 0x4FF000", module => module with { MemoryLimit = (5 * MiB) - 4096 } },
        { "memory limit of 0x600001", module => module with { MemoryLimit = (6 * MiB) + 1 } },
        { "memory limit of 0x0", module => module with { MemoryLimit = 0 } },
        { "heap limit of 0xFFFFFFFFFFFFFFFF", module => module with { HeapLimit = ulong.MaxValue } },
        { "watchdog of 0", module => module with { Watchdog = 0 } },
        { "watchdog of 3600001", module => module with { Watchdog = 3_600_001 } },
        { "failure policy 2", module => module with { OnFailure = (ModuleFailurePolicy)2 } },
        { "permissions 0x40", module => module with { Permissions = (ModulePermissions)0x40 } },
        { "the permissions Store, Migrate", module => module with { Permissions = ModulePermissions.Store | ModulePermissions.Migrate, StoreQuota = 4096 } },
        { "Attest, Store", module => module with { Permissions = ModulePermissions.Attest | ModulePermissions.Store } },
        { "store quota of 0", module => module with { Permissions = ModulePermissions.Store } },
        { "store quota of -1", module => module with { Permissions = ModulePermissions.Store, StoreQuota = -1 } },
        { "store quota of 4096", module => module with { StoreQuota = 4096 } },
        { "Store, KeepStore", module => module with { Permissions = ModulePermissions.KeepStore | ModulePermissions.Store } },
    };

    [Theory]
    [MemberData(nameof(BadModules), DisableDiscoveryEnumeration = true)]
    public void Build_BadModule_Fails(string text, Func<ModuleOptions, ModuleOptions> alter) =>
        Fails(SvsmDiagnostics.ModuleOptionInvalid, Options(alter(Echo), Tpm), text);

    [Fact]
    public void Build_TwoModulesThatAttest_Fails() =>
        Fails(SvsmDiagnostics.ModuleOptionInvalid, Options(Tpm, Echo with { Permissions = ModulePermissions.Attest }), "permission to attest");

    [Fact]
    public void Build_TwoModulesThatKeepTheStore_Fails() =>
        Fails(
            SvsmDiagnostics.ModuleOptionInvalid,
            Options(Tpm with { Permissions = ModulePermissions.KeepStore }, Echo with { Permissions = ModulePermissions.KeepStore }), "permission to keep the store");

    [Fact]
    public void Build_TwoModulesOfAService_Fails() =>
        Fails(SvsmDiagnostics.ModuleOptionInvalid, Options(Tpm, Echo with { Service = s_service }), "the service c476f1eb-0123-45a5-9641-b4e7dde5bfe3, which");

    [Fact]
    public void Build_ServiceZero_Fails() => Fails(SvsmDiagnostics.ModuleOptionInvalid, Options(Tpm, Echo with { Service = Guid.Empty }), "the service 00000000");

    [Fact]
    public void Build_TooManyModules_Fails() =>
        Fails(SvsmDiagnostics.ModuleOptionInvalid, Options([.. Enumerable.Range(1, 33).Select(i => Echo with { Protocol = (uint)i })]), "33 modules");

    [Theory]
    [InlineData("")]
    [InlineData("/")]
    [InlineData("modules")]
    [InlineData("/a/")]
    [InlineData("/a//b")]
    [InlineData("/a/../b")]
    [InlineData("/./b")]
    [InlineData("/a\0b")]
    [InlineData("/a\nb")]
    [InlineData("/a/\u0085")]
    public void Build_BadPath_Fails(string path) =>
        Fails(SvsmDiagnostics.ModuleFileInvalid, Options(Echo) with { Files = Files.Add(new ModuleFile(path, s_note)) }, $"a file with the path '{path}'");

    [Fact]
    public void Build_PathOfMoreThan255Bytes_Fails() =>
        Fails(SvsmDiagnostics.ModuleFileInvalid, Options(Echo) with { Files = Files.Add(new ModuleFile("/" + new string('ä', 128), s_note)) }, "255");

    [Fact]
    public void Build_TwoFilesOfAPath_Fails() =>
        Fails(SvsmDiagnostics.ModuleFileInvalid, Options(Echo) with { Files = Files.Add(new ModuleFile("/etc/note", s_note)) }, "two files with the path '/etc/note'");

    [Fact]
    public void Build_TooManyFiles_Fails()
    {
        ImmutableArray<ModuleFile> files = [.. Files, .. Enumerable.Range(2, ArchiveHeader.MaxFiles - 2).Select(i => new ModuleFile($"/f{i}", s_note))];
        Assert.Equal(ArchiveHeader.MaxFiles, ModuleArchive.Read(ModuleArchiveWriter.Write(files, [Echo]))!.Files.Length);
        Fails(SvsmDiagnostics.ModuleFileInvalid, Options(Echo) with { Files = files.Add(new ModuleFile("/one-more", s_note)) }, "257 files", "at most 256");
    }

    [Fact]
    public void Build_ReaderThatIsNoModule_Fails() =>
        Fails(SvsmDiagnostics.ModuleFileInvalid, Options(Tpm), "protocol 0x80000001");

    [Fact]
    public void Build_EmptyProgram_Fails() =>
        Fails(SvsmDiagnostics.ModuleOptionInvalid, Options(Echo) with { Files = [new ModuleFile(ModuleOptions.DefaultProgram, default)] }, "program '/modules'");

    private static void Fails(SvsmDiagnostic expected, SvsmImageOptions options, params string[] texts)
    {
        var exception = Assert.Throws<SvsmDiagnosticException>(() => SvsmImageBuilder.Build(options));
        Assert.Equal(expected, exception.Diagnostic);
        Assert.All(texts, text => Assert.Contains(text, exception.Message, StringComparison.Ordinal));
    }
}
