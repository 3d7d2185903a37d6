// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The variable headers of an IGVM file, one record per structure, for readers and writers of such files.
//
// Order in a file, no going back: platform (0x001-0x100), initialization (0x101-0x200), directive (0x301-0x400).
// Values are those of the file. Data blocks (pages, contexts) are slices of the file that was parsed, never copies, and are compared by content.
//
// Source: igvm_defs 0.4.0, structures IGVM_VHS_*.

using System;

namespace Svsm.Igvm;

/// <summary>A variable header: a platform, an initialization header or a directive.</summary>
public abstract record IgvmHeader
{
    private protected IgvmHeader()
    {
    }

    /// <summary>Type of the header in the file.</summary>
    public abstract IgvmHeaderType Type { get; }

    private protected static int HashData(ReadOnlyMemory<byte> data)
    {
        var hash = default(HashCode);
        hash.AddBytes(data.Span);
        return hash.ToHashCode();
    }
}

/// <summary>A platform that the file can start on (<c>IGVM_VHS_SUPPORTED_PLATFORM</c>).</summary>
public sealed record IgvmPlatform : IgvmHeader
{
    /// <inheritdoc/>
    public override IgvmHeaderType Type => IgvmHeaderType.SupportedPlatform;

    /// <summary>The one bit that stands for this platform in the masks of other headers.</summary>
    public required uint CompatibilityMask { get; init; }

    /// <summary>Highest virtual trust level used: 0 or 2.</summary>
    public byte HighestVtl { get; init; }

    /// <summary>The isolation technology.</summary>
    public required IgvmPlatformType PlatformType { get; init; }

    /// <summary>Version of the platform definition; 1 for every type.</summary>
    public ushort PlatformVersion { get; init; } = 1;

    /// <summary>First guest-physical address of the shared half (vTOM), or 0. Must be 0 for Native and VSM.</summary>
    public ulong SharedGpaBoundary { get; init; }
}

/// <summary>A header between the platforms and the directives.</summary>
public abstract record IgvmInitialization : IgvmHeader
{
    private protected IgvmInitialization()
    {
    }

    /// <summary>Platforms that the header is for.</summary>
    public required uint CompatibilityMask { get; init; }
}

/// <summary>Guest policy for launch (<c>IGVM_VHS_GUEST_POLICY</c>).</summary>
public sealed record IgvmGuestPolicy : IgvmInitialization
{
    /// <inheritdoc/>
    public override IgvmHeaderType Type => IgvmHeaderType.GuestPolicy;

    /// <summary>The policy in the platform's own form.</summary>
    public required ulong Policy { get; init; }
}

/// <summary>A region that the host may place elsewhere (<c>IGVM_VHS_RELOCATABLE_REGION</c>).</summary>
public sealed record IgvmRelocatableRegion : IgvmInitialization
{
    /// <inheritdoc/>
    public override IgvmHeaderType Type => IgvmHeaderType.RelocatableRegion;

    /// <summary>Virtual processor whose registers are adjusted.</summary>
    public ushort VpIndex { get; init; }

    /// <summary>Trust level whose registers are adjusted, 0 to 2.</summary>
    public byte Vtl { get; init; }

    /// <summary>Which registers are adjusted.</summary>
    public IgvmRelocationFlags Flags { get; init; }

    /// <summary>Alignment of the new place, bytes, a multiple of 4096, not 0.</summary>
    public required ulong Alignment { get; init; }

    /// <summary>Where the file places the region, a multiple of <see cref="Alignment"/>.</summary>
    public required ulong Gpa { get; init; }

    /// <summary>Length, bytes, a multiple of 4096.</summary>
    public required ulong ByteLength { get; init; }

    /// <summary>Lowest allowed place, a multiple of <see cref="Alignment"/>.</summary>
    public required ulong MinimumGpa { get; init; }

    /// <summary>Highest allowed end, a multiple of <see cref="Alignment"/>.</summary>
    public required ulong MaximumGpa { get; init; }
}

/// <summary>Page tables that the host rewrites after a relocation (<c>IGVM_VHS_PAGE_TABLE_RELOCATION</c>).</summary>
public sealed record IgvmPageTableRelocation : IgvmInitialization
{
    /// <inheritdoc/>
    public override IgvmHeaderType Type => IgvmHeaderType.PageTableRelocationRegion;

    /// <summary>Virtual processor that uses the tables.</summary>
    public ushort VpIndex { get; init; }

    /// <summary>Trust level that uses the tables, 0 to 2.</summary>
    public byte Vtl { get; init; }

    /// <summary>Start of the region, a multiple of 4096.</summary>
    public required ulong Gpa { get; init; }

    /// <summary>Length of the region, bytes, a multiple of 4096.</summary>
    public required ulong ByteLength { get; init; }

    /// <summary>Length of its used beginning, bytes, a multiple of 4096, at most <see cref="ByteLength"/>.</summary>
    public required ulong UsedByteLength { get; init; }
}

/// <summary>CoRIM reference values (<c>IGVM_VHT_CORIM_DOCUMENT</c>).</summary>
public sealed record IgvmCorimDocument : IgvmInitialization
{
    /// <inheritdoc/>
    public override IgvmHeaderType Type => IgvmHeaderType.CorimDocument;

    /// <summary>The CBOR document.</summary>
    public required ReadOnlyMemory<byte> Data { get; init; }

    /// <summary>Compares by content.</summary>
    /// <param name="other">The other header.</param>
    /// <returns>True when mask and data are equal.</returns>
    public bool Equals(IgvmCorimDocument? other) => base.Equals(other) && Data.Span.SequenceEqual(other.Data.Span);

    /// <inheritdoc/>
    public override int GetHashCode() => HashCode.Combine(CompatibilityMask, HashData(Data));
}

/// <summary>Signature of a CoRIM document (<c>IGVM_VHT_CORIM_SIGNATURE</c>).</summary>
public sealed record IgvmCorimSignature : IgvmInitialization
{
    /// <inheritdoc/>
    public override IgvmHeaderType Type => IgvmHeaderType.CorimSignature;

    /// <summary>The COSE_Sign1 signature.</summary>
    public required ReadOnlyMemory<byte> Data { get; init; }

    /// <summary>Compares by content.</summary>
    /// <param name="other">The other header.</param>
    /// <returns>True when mask and data are equal.</returns>
    public bool Equals(IgvmCorimSignature? other) => base.Equals(other) && Data.Span.SequenceEqual(other.Data.Span);

    /// <inheritdoc/>
    public override int GetHashCode() => HashCode.Combine(CompatibilityMask, HashData(Data));
}

/// <summary>Realm attributes for Arm CCA (<c>IGVM_VHS_CCA_POLICY</c>).</summary>
public sealed record IgvmCcaPolicy : IgvmInitialization
{
    /// <inheritdoc/>
    public override IgvmHeaderType Type => IgvmHeaderType.CcaPolicy;

    /// <summary>Attribute bits that must be 0.</summary>
    public ulong RequiredZeroes { get; init; }

    /// <summary>Attribute bits that must be 1; no bit may be in both masks.</summary>
    public ulong RequiredOnes { get; init; }

    /// <summary>0 SHA-256, 1 SHA-512, 2 SHA-384.</summary>
    public byte HashAlgorithm { get; init; }

    /// <summary>Live-firmware-activation policy.</summary>
    public byte LfaPolicy { get; init; }
}
