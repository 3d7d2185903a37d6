// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.IO;
using Svsm.Builder;
using Svsm.Diagnostics;
using Svsm.Igvm;
using Svsm.Wire;

namespace Svsm.Tool;

// An IGVM file that a command works on, and what the tool knows of it beyond the format.
internal sealed class ImageFile
{
    private ImageFile(string path, byte[] bytes, IgvmFile file)
    {
        Path = path;
        Bytes = bytes;
        File = file;
        Facts = SvsmFacts.Find(file);
    }

    public string Path { get; }

    public string Name => System.IO.Path.GetFileName(Path);

    public byte[] Bytes { get; }

    public IgvmFile File { get; }

    /// <summary>What an image of this project says about itself; null for other files.</summary>
    public SvsmFacts? Facts { get; }

    /// <summary>The digest file that the build writes beside the image.</summary>
    public string DigestPath => System.IO.Path.ChangeExtension(Path, ".digest.json");

    /// <summary>The host: the one asked for, or the one that the image was built for, or qemu.</summary>
    public HostFlavour Flavour(HostFlavour? asked) => asked ?? (Facts is SvsmFacts facts ? facts.Configuration.Flavour : HostFlavour.Qemu);

    public static ImageFile Load(string path)
    {
        byte[] bytes = Read(path);
        try
        {
            return new ImageFile(path, bytes, IgvmFile.Parse(bytes));
        }
        catch (IgvmFormatException e)
        {
            throw SvsmDiagnostics.IgvmFileDamaged.Error($"'{path}': {(e.Subject.Length == 0 ? e.Message : $"{e.Subject} is {e.Seen}{(e.Offset is long at ? $" at offset 0x{at:x}" : "")}")}", e.Wanted.Length == 0 ? "an IGVM file" : e.Wanted, e);
        }
    }

    public static byte[] Read(string path)
    {
        try
        {
            return System.IO.File.ReadAllBytes(path);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or ArgumentException or NotSupportedException)
        {
            throw SvsmDiagnostics.ImageFileFailed.Error($"'{path}': {e.Message}", "a file that can be read", e);
        }
    }

    public static void Write(string path, byte[] bytes)
    {
        try
        {
            System.IO.File.WriteAllBytes(path, bytes);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or ArgumentException or NotSupportedException)
        {
            throw SvsmDiagnostics.ImageFileFailed.Error($"'{path}': {e.Message}", "a path that can be written to", e);
        }
    }
}
