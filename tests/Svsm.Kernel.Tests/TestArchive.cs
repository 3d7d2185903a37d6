// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// An archive of modules with three files and two modules. Tests change its entries in place.

using System;
using System.Collections.Generic;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Text;
using Svsm.Wire;

namespace Svsm.Kernel.Tests;

internal static class TestArchive
{
    public const string NotePath = "/etc/note";
    public const string SecretPath = "/etc/secret";
    public const string ProgramPath = "/modules";
    public const string ModuleName = "Acme.Echo";
    public const ulong MemoryLimit = 160 * 4096;

    /// <summary>Indexes of the files.</summary>
    public const int Note = 0;
    public const int Secret = 1;
    public const int Program = 2;

    /// <summary>Contents of <see cref="Note"/>, which module 0 may read: longer than a page.</summary>
    public static byte[] NoteContents { get; } = MakeNote();

    public static byte[] Build() => Build(TestElf.Build());

    /// <summary>Builds it; the file of both modules is a given program.</summary>
    public static byte[] Build(byte[] program)
    {
        (string Path, byte[] Contents, uint Readers)[] files = [(NotePath, NoteContents, 1), (SecretPath, "secret"u8.ToArray(), 2), (ProgramPath, program, 0)];
        byte[][] texts = [Encoding.UTF8.GetBytes(ModuleName + "\0A=1\0B=22\0"), "Acme.Other\0"u8.ToArray()];
        var bytes = new List<byte>(new byte[ArchiveHeader.Size + (files.Length * ArchiveFile.Size) + (texts.Length * ArchiveModule.Size)]);
        var fileEntries = new ArchiveFile[files.Length];
        for (int i = 0; i < files.Length; i++)
        {
            fileEntries[i] = new ArchiveFile { PathOffset = (uint)bytes.Count, PathLength = (uint)files[i].Path.Length, Length = (ulong)files[i].Contents.Length, Readers = files[i].Readers };
            bytes.AddRange(Encoding.UTF8.GetBytes(files[i].Path));
        }

        var moduleEntries = new ArchiveModule[texts.Length];
        for (int i = 0; i < texts.Length; i++)
        {
            moduleEntries[i] = new ArchiveModule
            {
                Protocol = (SvsmProtocol)(0x8000_0001u + (uint)i),
                MinVersion = 1,
                MaxVersion = 2,
                Program = Program,
                TextOffset = (uint)bytes.Count,
                TextLength = (uint)texts[i].Length,
                ArgumentCount = 1,
                EnvironmentCount = i == 0 ? 2u : 0,
                MemoryLimit = MemoryLimit,
                Watchdog = 1000,
                Permissions = i == 0 ? ModulePermissions.ReadGuest | ModulePermissions.WriteGuest : ModulePermissions.Attest,
            };
            bytes.AddRange(texts[i]);
        }

        for (int i = 0; i < files.Length; i++)
        {
            Align(bytes);
            fileEntries[i].Offset = (ulong)bytes.Count;
            bytes.AddRange(files[i].Contents);
        }

        Align(bytes);

        // Pinned: processes have pages of it in their tables.
        byte[] archive = GC.AllocateArray<byte>(bytes.Count, pinned: true);
        bytes.CopyTo(archive);
        MemoryMarshal.AsBytes(fileEntries.AsSpan()).CopyTo(archive.AsSpan(ArchiveHeader.Size));
        MemoryMarshal.AsBytes(moduleEntries.AsSpan()).CopyTo(archive.AsSpan(ArchiveHeader.Size + (files.Length * ArchiveFile.Size)));
        Header(archive) = new ArchiveHeader
        {
            Magic = ArchiveHeader.MagicValue,
            Version = ArchiveHeader.CurrentVersion,
            FileCount = (uint)files.Length,
            ModuleCount = (uint)texts.Length,
            Length = (ulong)archive.Length,
        };
        return archive;
    }

    public static ref ArchiveHeader Header(byte[] archive) => ref Unsafe.As<byte, ArchiveHeader>(ref archive[0]);

    public static ref ArchiveFile File(byte[] archive, int index) =>
        ref Unsafe.As<byte, ArchiveFile>(ref archive[ArchiveHeader.Size + (index * ArchiveFile.Size)]);

    public static ref ArchiveModule Module(byte[] archive, int index) =>
        ref Unsafe.As<byte, ArchiveModule>(ref archive[ArchiveHeader.Size + ((int)Header(archive).FileCount * ArchiveFile.Size) + (index * ArchiveModule.Size)]);

    private static byte[] MakeNote()
    {
        byte[] note = new byte[5000];
        for (int i = 0; i < note.Length; i++)
        {
            note[i] = (byte)('a' + (i % 26));
        }

        return note;
    }

    private static void Align(List<byte> bytes)
    {
        while (bytes.Count % 4096 != 0)
        {
            bytes.Add(0);
        }
    }
}
