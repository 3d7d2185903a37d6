// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The files of an image. docs/svsm-tool.md documents the two JSON forms; a change of meaning there changes FormatVersion.
//
//   NAME.igvm                    what the host loads
//   NAME.digest.json             the launch digest, and every page that goes into it
//   NAME.reference-values.json   what a verifier compares an attestation report with
//   NAME.map                     symbols of the kernel, "0xADDRESS name"; and, behind '#', the parts of the image
//
// Files for further host flavours are called NAME.FLAVOUR.igvm and so on. Nothing in them depends on time, folder or machine,
// nor on random numbers: signatures are those of RFC 6979.

using System;
using System.Collections.Generic;
using System.Collections.Immutable;
using System.Globalization;
using System.IO;
using System.Reflection;
using System.Text;
using System.Text.Json;
using Svsm.Diagnostics;
using Svsm.Igvm;
using Svsm.Igvm.Imaging;
using Svsm.Measurement;
using Svsm.Wire;

namespace Svsm.Builder;

/// <summary>The files of an image for one host, in memory.</summary>
/// <param name="Image">The image.</param>
/// <param name="LaunchDigest">Its launch digest (on stock QEMU, with one vCPU).</param>
/// <param name="Igvm">The IGVM file.</param>
/// <param name="DigestJson">The digest file.</param>
/// <param name="ReferenceValuesJson">The reference values.</param>
/// <param name="Map">The map.</param>
public sealed record SvsmImageFiles(
    SvsmImage Image,
    LaunchDigest LaunchDigest,
    ReadOnlyMemory<byte> Igvm,
    ReadOnlyMemory<byte> DigestJson,
    ReadOnlyMemory<byte> ReferenceValuesJson,
    ReadOnlyMemory<byte> Map);

/// <summary>The files of an image for one host, on disk.</summary>
/// <param name="Files">What was written.</param>
/// <param name="ImagePath">The IGVM file.</param>
/// <param name="DigestPath">The digest file.</param>
/// <param name="ReferenceValuesPath">The reference values.</param>
/// <param name="MapPath">The map.</param>
public sealed record WrittenSvsmImage(SvsmImageFiles Files, string ImagePath, string DigestPath, string ReferenceValuesPath, string MapPath);

/// <summary>Writes images.</summary>
public static class SvsmImageWriter
{
    /// <summary>Version of the JSON forms.</summary>
    public const int FormatVersion = 1;

    // The digest on stock QEMU depends on the number of vCPUs; these are written down, `svsm measure` computes others.
    private static readonly int[] s_vcpuCounts = [1, 2, 4, 8, 16, 32, 64];

    /// <summary>Builds an image for each of several hosts and writes its files.</summary>
    /// <param name="options">What the image is built from; the flavour in it does not matter.</param>
    /// <param name="directory">Where the files go; created when it is not there.</param>
    /// <param name="name">Name of the files. Those of the first flavour have just this name, those of others the flavour's name behind it.</param>
    /// <param name="flavours">The hosts, at least one, none twice.</param>
    /// <returns>What was written, in the order of <paramref name="flavours"/>. All images are complete before the first file is written.</returns>
    /// <exception cref="SvsmDiagnosticException">SVSM2001 to SVSM2014, SVSM3001: the image cannot be built. SVSM2015: a file cannot be written.</exception>
    public static ImmutableArray<WrittenSvsmImage> WriteFiles(SvsmImageOptions options, string directory, string name, IReadOnlyList<HostFlavour> flavours)
    {
        ArgumentNullException.ThrowIfNull(options);
        ArgumentException.ThrowIfNullOrEmpty(directory);
        ArgumentException.ThrowIfNullOrEmpty(name);
        ArgumentNullException.ThrowIfNull(flavours);
        if (flavours.Count == 0 || new HashSet<HostFlavour>(flavours).Count != flavours.Count)
        {
            throw SvsmDiagnostics.ImageOptionInvalid.Error($"{flavours.Count} host flavours, {new HashSet<HostFlavour>(flavours).Count} of them different", "at least one, none twice");
        }

        var written = ImmutableArray.CreateBuilder<WrittenSvsmImage>();
        foreach (HostFlavour flavour in flavours)
        {
            SvsmImage image = SvsmImageBuilder.Build(options with { Flavour = flavour });
            string stem = written.Count == 0 ? name : $"{name}.{HostFlavourNames.ToName(flavour)}";
            string path = Path.Combine(directory, stem);
            written.Add(new WrittenSvsmImage(
                Render(image, stem, options.Identity), path + ".igvm", path + ".digest.json", path + ".reference-values.json", path + ".map"));
        }

        foreach (WrittenSvsmImage image in written)
        {
            Write(image.ImagePath, image.Files.Igvm);
            Write(image.DigestPath, image.Files.DigestJson);
            Write(image.ReferenceValuesPath, image.Files.ReferenceValuesJson);
            Write(image.MapPath, image.Files.Map);
        }

        return written.DrainToImmutable();
    }

    /// <summary>Makes the files of an image in memory.</summary>
    /// <param name="image">The image.</param>
    /// <param name="name">Name of the files, without extension; they mention it.</param>
    /// <param name="identity">Identity for an ID block; null = none.</param>
    /// <returns>The files.</returns>
    /// <exception cref="SvsmDiagnosticException">SVSM2014: the host would refuse the image. SVSM3001: a key or an id cannot be used.</exception>
    public static SvsmImageFiles Render(SvsmImage image, string name, ImageIdentity? identity = null)
    {
        ArgumentNullException.ThrowIfNull(image);
        ArgumentException.ThrowIfNullOrEmpty(name);
        IgvmFile file = image.ToIgvm();
        IdKey? idKey = null;
        IdKey? authorKey = null;
        if (identity is not null)
        {
            file = ImageSigner.Sign(file, image.Flavour, identity);
            idKey = IdKey.FromPem(identity.IdKeyPem);
            authorKey = identity.AuthorKeyPem is null ? null : IdKey.FromPem(identity.AuthorKeyPem);
        }

        MeasurementResult measured = ImageSigner.Measure(file, image.Flavour);
        ImmutableArray<(int Vcpus, LaunchDigest Digest)> digests = [(1, measured.Digest)];
        if (HostProfile.For(image.Flavour).MeasuresEveryVcpu)
        {
            digests = [.. Array.ConvertAll(s_vcpuCounts, vcpus => (vcpus, ImageSigner.Measure(file, image.Flavour, vcpus).Digest))];
        }

        return new SvsmImageFiles(
            image,
            measured.Digest,
            file.Write(),
            Json(writer => WriteDigest(writer, image, name, measured, digests)),
            Json(writer => WriteReferenceValues(writer, image, name, digests, identity, idKey, authorKey)),
            Encoding.UTF8.GetBytes(RenderMap(image, name)));
    }

    /// <summary>Renders the map of an image.</summary>
    /// <param name="image">The image.</param>
    /// <param name="name">Name of the files, without extension.</param>
    /// <returns>Text with line feeds.</returns>
    public static string RenderMap(SvsmImage image, string name)
    {
        ArgumentNullException.ThrowIfNull(image);
        var text = new StringBuilder();
        text.Append(CultureInfo.InvariantCulture, $"# {name}.igvm for host {HostFlavourNames.ToName(image.Flavour)}\n#\n");
        text.Append("# First and last guest-physical address, virtual address, rights, kind, part\n");
        foreach (ImagePart part in image.Parts)
        {
            string rights = part.Rights == PageRights.None ? "---" : new string(
            [
                'r', part.Rights.HasFlag(PageRights.Write) ? 'w' : '-', part.Rights.HasFlag(PageRights.Execute) ? 'x' : '-',
            ]);
            string mapped = part.Rights == PageRights.None ? new string('-', 18) : string.Create(CultureInfo.InvariantCulture, $"0x{part.VirtualAddress:x16}");
            text.Append(CultureInfo.InvariantCulture, $"# 0x{part.Gpa:x12} 0x{part.Gpa + part.Length - 1:x12} {mapped} {rights} {KindName(part.Kind),-9} {part.Name}\n");
        }

        if (!image.Modules.Modules.IsEmpty)
        {
            text.Append("#\n# Protocol, versions, memory limit, class of each module\n");
            foreach (ArchivedModule module in image.Modules.Modules)
            {
                text.Append(CultureInfo.InvariantCulture, $"# 0x{(uint)module.Entry.Protocol:x8} {module.Entry.MinVersion}-{module.Entry.MaxVersion} {module.Entry.MemoryLimit} {module.Arguments[0]}\n");
            }

            text.Append("#\n# Bytes, path, and the modules that may open it, of each file\n");
            foreach (ArchivedFile file in image.Modules.Files)
            {
                string readers = string.Join(", ", image.Modules.ReadersOf(file));
                text.Append(CultureInfo.InvariantCulture, $"# {file.Length} {file.Path}{(readers.Length == 0 ? "" : " for ")}{readers}\n");
            }
        }

        text.Append("#\n# Symbols of the kernel\n");
        foreach (ElfSymbol symbol in image.Symbols)
        {
            text.Append(CultureInfo.InvariantCulture, $"0x{symbol.Value:x16} {symbol.Name}\n");
        }

        return text.ToString();
    }

    /// <summary>The name of a part's kind in maps and reports.</summary>
    /// <param name="kind">The kind.</param>
    /// <returns>One lower-case word.</returns>
    public static string KindName(ImagePartKind kind) => kind switch
    {
        ImagePartKind.Data => "data",
        ImagePartKind.Zero => "zero",
        ImagePartKind.Parameter => "parameter",
        ImagePartKind.Secrets => "secrets",
        ImagePartKind.Cpuid => "cpuid",
        _ => "reserved",
    };

    /// <summary>The name of a measured page's type in maps and reports.</summary>
    /// <param name="type">The type.</param>
    /// <returns>One lower-case word.</returns>
    public static string TypeName(SnpPageType type) => type switch
    {
        SnpPageType.Normal => "normal",
        SnpPageType.Vmsa => "vmsa",
        SnpPageType.Zero => "zero",
        SnpPageType.Unmeasured => "unmeasured",
        SnpPageType.Secrets => "secrets",
        SnpPageType.Cpuid => "cpuid",
        _ => "unknown",
    };

    private static void WriteDigest(
        Utf8JsonWriter writer, SvsmImage image, string name, MeasurementResult measured, ImmutableArray<(int Vcpus, LaunchDigest Digest)> digests)
    {
        WriteHead(writer, image, name, digests);
        writer.WriteStartArray("pages");
        foreach (MeasuredPage page in measured.Pages)
        {
            writer.WriteStartObject();
            writer.WriteString("gpa", Hex(page.Gpa));
            writer.WriteString("type", TypeName(page.Type));
            if (page.Contents != default)
            {
                writer.WriteString("contents", page.Contents.ToString());
            }

            if (FindPart(image, page.Gpa) is ImagePart part)
            {
                writer.WriteString("part", part.Name);
            }

            writer.WriteEndObject();
        }

        writer.WriteEndArray();
    }

    private static ImagePart? FindPart(SvsmImage image, ulong gpa)
    {
        foreach (ImagePart part in image.Parts)
        {
            if (gpa >= part.Gpa && gpa - part.Gpa < part.Length && part.Kind != ImagePartKind.Reserved)
            {
                return part;
            }
        }

        return null;
    }

    private static void WriteReferenceValues(
        Utf8JsonWriter writer, SvsmImage image, string name, ImmutableArray<(int Vcpus, LaunchDigest Digest)> digests,
        ImageIdentity? identity, IdKey? idKey, IdKey? authorKey)
    {
        ulong policy = image.Launch.GuestPolicy;
        WriteHead(writer, image, name, digests);
        writer.WriteStartObject("policyBits");
        writer.WriteNumber("abiMajor", (policy >> 8) & 0xFF);
        writer.WriteNumber("abiMinor", policy & 0xFF);
        foreach ((string bit, int number) in (ReadOnlySpan<(string, int)>)[
            ("smt", 16), ("migrationAgent", 18), ("debug", 19), ("singleSocket", 20), ("cxl", 21), ("aes256Xts", 22),
            ("raplDisabled", 23), ("ciphertextHiding", 24), ("pageSwapDisabled", 25)])
        {
            writer.WriteBoolean(bit, (policy >> number & 1) != 0);
        }

        writer.WriteEndObject();
        writer.WriteNumber("vmpl", 0);
        writer.WriteNumber("guestVmpl", (byte)image.Configuration.GuestVmpl);
        writer.WriteNumber("guestSvn", identity?.GuestSvn ?? 0);
        writer.WriteString("familyId", Convert.ToHexStringLower((identity?.FamilyId ?? new byte[IdBlock.IdLength]).Span));
        writer.WriteString("imageId", Convert.ToHexStringLower((identity?.ImageId ?? new byte[IdBlock.IdLength]).Span));
        writer.WriteString("idKeyDigest", (idKey?.Digest ?? default).ToString());
        writer.WriteString("authorKeyDigest", (authorKey?.Digest ?? default).ToString());
        WriteModules(writer, image.Modules);
    }

    /// <summary>Writes the modules of an image and their files as reports have them: <c>"modules": [ ... ], "files": [ ... ]</c>.</summary>
    /// <param name="writer">In an object.</param>
    /// <param name="archive">The modules.</param>
    public static void WriteModules(Utf8JsonWriter writer, ModuleArchive archive)
    {
        ArgumentNullException.ThrowIfNull(writer);
        ArgumentNullException.ThrowIfNull(archive);
        writer.WriteStartArray("modules");
        foreach (ArchivedModule module in archive.Modules)
        {
            writer.WriteStartObject();
            writer.WriteString("class", module.Arguments[0]);
            writer.WriteString("protocol", Hex((uint)module.Entry.Protocol));
            writer.WriteNumber("minVersion", module.Entry.MinVersion);
            writer.WriteNumber("maxVersion", module.Entry.MaxVersion);
            writer.WriteNumber("memoryLimit", module.Entry.MemoryLimit);
            writer.WriteNumber("watchdog", module.Entry.Watchdog);
            writer.WriteString("onFailure", module.Entry.OnFailure.ToString());
            writer.WriteNumber("restartLimit", module.Entry.RestartLimit);
            writer.WriteString("permissions", module.Entry.Permissions.ToString());
            writer.WriteNumber("storeQuota", module.Entry.StoreQuota);
            writer.WriteEndObject();
        }

        writer.WriteEndArray();
        writer.WriteStartArray("files");
        foreach (ArchivedFile file in archive.Files)
        {
            writer.WriteStartObject();
            writer.WriteString("path", file.Path);
            writer.WriteNumber("byteLength", file.Length);
            writer.WriteStartArray("modules");
            foreach (string reader in archive.ReadersOf(file))
            {
                writer.WriteStringValue(reader);
            }

            writer.WriteEndArray();
            writer.WriteEndObject();
        }

        writer.WriteEndArray();
    }

    private static void WriteHead(Utf8JsonWriter writer, SvsmImage image, string name, ImmutableArray<(int Vcpus, LaunchDigest Digest)> digests)
    {
        writer.WriteNumber("formatVersion", FormatVersion);
        writer.WriteString("image", name + ".igvm");
        writer.WriteString("sdkVersion", SdkVersion());
        writer.WriteString("flavour", HostFlavourNames.ToName(image.Flavour));
        writer.WriteString("policy", Hex(image.Launch.GuestPolicy));
        writer.WriteString("launchDigest", digests[0].Digest.ToString());
        if (digests.Length > 1)
        {
            writer.WriteStartArray("launchDigests");
            foreach ((int vcpus, LaunchDigest digest) in digests)
            {
                writer.WriteStartObject();
                writer.WriteNumber("vcpus", vcpus);
                writer.WriteString("cpuSignature", Hex(CpuSignature.EpycV4));
                writer.WriteString("launchDigest", digest.ToString());
                writer.WriteEndObject();
            }

            writer.WriteEndArray();
        }
    }

    private static string SdkVersion() =>
        typeof(SvsmImageWriter).Assembly.GetCustomAttribute<AssemblyInformationalVersionAttribute>()?.InformationalVersion ?? "";

    private static string Hex(ulong value) => string.Create(CultureInfo.InvariantCulture, $"0x{value:x}");

    private static byte[] Json(Action<Utf8JsonWriter> write)
    {
        using var stream = new MemoryStream();
        using (var writer = new Utf8JsonWriter(stream, new JsonWriterOptions { Indented = true, NewLine = "\n" }))
        {
            writer.WriteStartObject();
            write(writer);
            writer.WriteEndObject();
        }

        stream.WriteByte((byte)'\n');
        return stream.ToArray();
    }

    private static void Write(string path, ReadOnlyMemory<byte> bytes)
    {
        try
        {
            Directory.CreateDirectory(Path.GetDirectoryName(Path.GetFullPath(path))!);
            File.WriteAllBytes(path, bytes.Span);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw SvsmDiagnostics.ImageFileFailed.Error($"'{path}': {e.Message}", "a folder that can be written to", e);
        }
    }
}
