// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// An IGVM file: everything a host needs to start a guest with a known launch digest.
//
// File = fixed header (24 bytes in version 1, 32 in version 2) | variable headers (type, length, structure, padding to 8) | data blocks.
// All integers are little-endian. The CRC-32 covers the fixed header (with its checksum field 0) and the variable headers, not the data.
//
// Source: igvm_defs 0.4.0; what is refused follows the igvm crate 0.4.0, which QEMU, Cloud Hypervisor and OpenVMM use.

using System;
using System.Collections.Immutable;
using System.IO;
using System.Linq;
using System.Numerics;

namespace Svsm.Igvm;

/// <summary>An IGVM file, parsed or to be written. Immutable.</summary>
public sealed record IgvmFile
{
    /// <summary>Version of the fixed header.</summary>
    public IgvmFormatVersion FormatVersion { get; init; } = IgvmFormatVersion.V1;

    /// <summary>Processor architecture; version 1 is always x64.</summary>
    public IgvmArchitecture Architecture { get; init; } = IgvmArchitecture.X64;

    /// <summary>Platforms in file order; at least one, each type and each mask once.</summary>
    public ImmutableArray<IgvmPlatform> Platforms { get; init; } = [];

    /// <summary>Initialization headers in file order.</summary>
    public ImmutableArray<IgvmInitialization> Initializations { get; init; } = [];

    /// <summary>Directives in file order.</summary>
    public ImmutableArray<IgvmDirective> Directives { get; init; } = [];

    /// <summary>Parses a file.</summary>
    /// <param name="file">The whole file. Data blocks of the result are slices of it, so it must not change afterwards. Untrusted.</param>
    /// <returns>The file.</returns>
    /// <exception cref="IgvmFormatException">The file breaks the format; nothing else is thrown.</exception>
    /// <remarks>
    /// Allocates at most eight times the length of the file plus 1 MiB, whatever the headers claim.
    /// A file that parses can still be one that a given host refuses: see <see cref="IgvmValidator"/>.
    /// </remarks>
    public static IgvmFile Parse(ReadOnlyMemory<byte> file) => new IgvmReader(file).Read();

    /// <summary>Writes the file into memory.</summary>
    /// <returns>The bytes; the same model gives the same bytes.</returns>
    /// <exception cref="IgvmFormatException">The model breaks the format, or the file would exceed 2 GiB.</exception>
    public byte[] Write() => new IgvmWriter(this).WriteArray();

    /// <summary>Writes the file to a stream.</summary>
    /// <param name="stream">Receives the bytes. Left open.</param>
    /// <exception cref="IgvmFormatException">The model breaks the format, or the file would exceed 2 GiB; nothing was written then.</exception>
    /// <exception cref="IOException">The stream failed.</exception>
    public void WriteTo(Stream stream)
    {
        ArgumentNullException.ThrowIfNull(stream);
        new IgvmWriter(this).WriteTo(stream);
    }

    /// <summary>The platform header of a type.</summary>
    /// <param name="platformType">The type.</param>
    /// <returns>The header, or null when the file is not for that platform.</returns>
    public IgvmPlatform? FindPlatform(IgvmPlatformType platformType)
    {
        foreach (IgvmPlatform platform in Platforms)
        {
            if (platform.PlatformType == platformType)
            {
                return platform;
            }
        }

        return null;
    }

    /// <summary>The guest policy for a platform.</summary>
    /// <param name="compatibilityMask">The platform's mask.</param>
    /// <returns>The first policy whose mask has a bit in common, or null.</returns>
    public ulong? FindGuestPolicy(uint compatibilityMask)
    {
        foreach (IgvmInitialization header in Initializations)
        {
            if (header is IgvmGuestPolicy policy && (policy.CompatibilityMask & compatibilityMask) != 0)
            {
                return policy.Policy;
            }
        }

        return null;
    }

    /// <summary>Compares headers and data by content.</summary>
    /// <param name="other">The other file.</param>
    /// <returns>True when both would be written as the same bytes.</returns>
    public bool Equals(IgvmFile? other) =>
        other is not null && FormatVersion == other.FormatVersion && Architecture == other.Architecture &&
        Platforms.SequenceEqual(other.Platforms) && Initializations.SequenceEqual(other.Initializations) &&
        Directives.SequenceEqual(other.Directives);

    /// <inheritdoc/>
    public override int GetHashCode()
    {
        var hash = default(HashCode);
        hash.Add(FormatVersion);
        hash.Add(Architecture);
        foreach (IgvmPlatform platform in Platforms)
        {
            hash.Add(platform);
        }

        foreach (IgvmInitialization header in Initializations)
        {
            hash.Add(header);
        }

        foreach (IgvmDirective directive in Directives)
        {
            hash.Add(directive);
        }

        return hash.ToHashCode();
    }

    internal static bool IsSingleBit(uint mask) => BitOperations.PopCount(mask) == 1;
}
