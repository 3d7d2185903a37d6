// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The directives of an IGVM file: what the host does, in file order, to build the guest.
//
// Source: igvm_defs 0.4.0, structures IGVM_VHS_*.

using System;

namespace Svsm.Igvm;

/// <summary>One step of building the guest.</summary>
public abstract record IgvmDirective : IgvmHeader
{
    private protected IgvmDirective()
    {
    }
}

/// <summary>Declares memory that the host fills with parameters (<c>IGVM_VHS_PARAMETER_AREA</c>).</summary>
/// <remarks>Parameter areas and usages have no compatibility mask: they are for every platform of the file.</remarks>
public sealed record IgvmParameterArea : IgvmDirective
{
    /// <inheritdoc/>
    public override IgvmHeaderType Type => IgvmHeaderType.ParameterArea;

    /// <summary>Length, bytes, a multiple of 4096.</summary>
    public required ulong ByteLength { get; init; }

    /// <summary>Number of the area, unique in the file.</summary>
    public required uint Index { get; init; }

    /// <summary>Initial contents, <see cref="ByteLength"/> bytes; empty = zeroes. QEMU ignores them.</summary>
    public ReadOnlyMemory<byte> InitialData { get; init; }

    /// <summary>Compares by content.</summary>
    /// <param name="other">The other directive.</param>
    /// <returns>True when all fields and the data are equal.</returns>
    public bool Equals(IgvmParameterArea? other) =>
        base.Equals(other) && ByteLength == other.ByteLength && Index == other.Index && InitialData.Span.SequenceEqual(other.InitialData.Span);

    /// <inheritdoc/>
    public override int GetHashCode() => HashCode.Combine(ByteLength, Index, HashData(InitialData));
}

/// <summary>Asks the host for one parameter (<c>IGVM_VHS_PARAMETER</c>, one header type for each kind).</summary>
/// <remarks>Stands after the declaration of its area and before the area's insertion.</remarks>
public sealed record IgvmParameterUsage : IgvmDirective
{
    /// <inheritdoc/>
    public override IgvmHeaderType Type => (IgvmHeaderType)Kind;

    /// <summary>Which parameter.</summary>
    public required IgvmParameterKind Kind { get; init; }

    /// <summary>Area that receives it.</summary>
    public required uint AreaIndex { get; init; }

    /// <summary>Offset in the area, bytes. QEMU before 11.1.3 writes the memory map at 0 whatever stands here.</summary>
    public uint ByteOffset { get; init; }
}

/// <summary>Puts a parameter area into guest memory as unmeasured pages (<c>IGVM_VHS_PARAMETER_INSERT</c>).</summary>
public sealed record IgvmParameterInsert : IgvmDirective
{
    /// <inheritdoc/>
    public override IgvmHeaderType Type => IgvmHeaderType.ParameterInsert;

    /// <summary>Where the area goes, a multiple of 4096.</summary>
    public required ulong Gpa { get; init; }

    /// <summary>Platforms that the directive is for.</summary>
    public required uint CompatibilityMask { get; init; }

    /// <summary>The area. It can be inserted once.</summary>
    public required uint AreaIndex { get; init; }
}

/// <summary>Puts a page into guest memory (<c>IGVM_VHS_PAGE_DATA</c>).</summary>
public sealed record IgvmPageData : IgvmDirective
{
    /// <summary>Bytes of a page, and of its data in the file.</summary>
    public const int PageSize = 4096;

    /// <inheritdoc/>
    public override IgvmHeaderType Type => IgvmHeaderType.PageData;

    /// <summary>Where the page goes, a multiple of 4096 (of 2 MiB for a 2-MiB page).</summary>
    public required ulong Gpa { get; init; }

    /// <summary>Platforms that the directive is for.</summary>
    public required uint CompatibilityMask { get; init; }

    /// <summary>How the page is added.</summary>
    public IgvmPageDataFlags Flags { get; init; }

    /// <summary>What the page is.</summary>
    public IgvmPageDataType DataType { get; init; }

    /// <summary>4096 bytes, or empty for a page of zeroes. Hosts differ in how they measure an empty one.</summary>
    public ReadOnlyMemory<byte> Data { get; init; }

    /// <summary>Compares by content.</summary>
    /// <param name="other">The other directive.</param>
    /// <returns>True when all fields and the data are equal.</returns>
    public bool Equals(IgvmPageData? other) =>
        base.Equals(other) && Gpa == other.Gpa && CompatibilityMask == other.CompatibilityMask && Flags == other.Flags &&
        DataType == other.DataType && Data.Span.SequenceEqual(other.Data.Span);

    /// <inheritdoc/>
    public override int GetHashCode() => HashCode.Combine(Gpa, CompatibilityMask, Flags, DataType, HashData(Data));
}

/// <summary>Initial state of a virtual processor (<c>IGVM_VHS_VP_CONTEXT</c>).</summary>
public sealed record IgvmVpContext : IgvmDirective
{
    /// <inheritdoc/>
    public override IgvmHeaderType Type => IgvmHeaderType.VpContext;

    /// <summary>Where the VMSA goes (SEV-SNP, SEV-ES); 0 for the other platforms.</summary>
    public required ulong Gpa { get; init; }

    /// <summary>The platform: exactly one bit, because it selects the form of <see cref="Data"/>.</summary>
    public required uint CompatibilityMask { get; init; }

    /// <summary>Number of the virtual processor.</summary>
    public ushort VpIndex { get; init; }

    /// <summary>
    /// SEV-SNP and SEV-ES: the 4096-byte VMSA. Native and SEV: 4096 bytes, see <see cref="IgvmNativeVpContext"/>.
    /// VSM: a register list, see <see cref="IgvmVbsRegister"/>. CCA: 4096 bytes, not looked at.
    /// </summary>
    public required ReadOnlyMemory<byte> Data { get; init; }

    /// <summary>Compares by content.</summary>
    /// <param name="other">The other directive.</param>
    /// <returns>True when all fields and the data are equal.</returns>
    public bool Equals(IgvmVpContext? other) =>
        base.Equals(other) && Gpa == other.Gpa && CompatibilityMask == other.CompatibilityMask && VpIndex == other.VpIndex &&
        Data.Span.SequenceEqual(other.Data.Span);

    /// <inheritdoc/>
    public override int GetHashCode() => HashCode.Combine(Gpa, CompatibilityMask, VpIndex, HashData(Data));
}

/// <summary>Memory that must exist, without contents and not measured (<c>IGVM_VHS_REQUIRED_MEMORY</c>).</summary>
public sealed record IgvmRequiredMemory : IgvmDirective
{
    /// <inheritdoc/>
    public override IgvmHeaderType Type => IgvmHeaderType.RequiredMemory;

    /// <summary>Start, a multiple of 4096.</summary>
    public required ulong Gpa { get; init; }

    /// <summary>Platforms that the directive is for.</summary>
    public required uint CompatibilityMask { get; init; }

    /// <summary>Length, bytes, a multiple of 4096.</summary>
    public required uint ByteLength { get; init; }

    /// <summary>How the memory can be used.</summary>
    public IgvmRequiredMemoryFlags Flags { get; init; }
}

/// <summary>Shared memory for error reports of the guest (<c>IGVM_VHS_ERROR_RANGE</c>).</summary>
public sealed record IgvmErrorRange : IgvmDirective
{
    /// <inheritdoc/>
    public override IgvmHeaderType Type => IgvmHeaderType.ErrorRange;

    /// <summary>Start, a multiple of 4096.</summary>
    public required ulong Gpa { get; init; }

    /// <summary>Platforms that the directive is for.</summary>
    public required uint CompatibilityMask { get; init; }

    /// <summary>Length, bytes, a multiple of 4096.</summary>
    public required uint ByteLength { get; init; }
}

/// <summary>An ECDSA signature of an ID block (<c>IGVM_VHS_SNP_ID_BLOCK_SIGNATURE</c>).</summary>
/// <param name="R">72 bytes: R, little-endian, 48 significant bytes, zero-extended.</param>
/// <param name="S">72 bytes: S, the same form.</param>
public sealed record IgvmSnpSignature(ReadOnlyMemory<byte> R, ReadOnlyMemory<byte> S)
{
    /// <summary>Bytes of each number.</summary>
    public const int NumberLength = 72;

    /// <summary>A signature of zeroes, which stands for "none".</summary>
    public static IgvmSnpSignature Empty { get; } = new(new byte[NumberLength], new byte[NumberLength]);

    /// <summary>Compares by content.</summary>
    /// <param name="other">The other signature.</param>
    /// <returns>True when both numbers are equal.</returns>
    public bool Equals(IgvmSnpSignature? other) => other is not null && R.Span.SequenceEqual(other.R.Span) && S.Span.SequenceEqual(other.S.Span);

    /// <inheritdoc/>
    public override int GetHashCode()
    {
        var hash = default(HashCode);
        hash.AddBytes(R.Span);
        hash.AddBytes(S.Span);
        return hash.ToHashCode();
    }
}

/// <summary>An ECDSA public key of an ID block (<c>IGVM_VHS_SNP_ID_BLOCK_PUBLIC_KEY</c>).</summary>
/// <param name="Curve">0 none, 2 P-384.</param>
/// <param name="X">72 bytes: X, little-endian, 48 significant bytes, zero-extended.</param>
/// <param name="Y">72 bytes: Y, the same form.</param>
public sealed record IgvmSnpPublicKey(uint Curve, ReadOnlyMemory<byte> X, ReadOnlyMemory<byte> Y)
{
    /// <summary>The number of curve P-384.</summary>
    public const uint P384 = 2;

    /// <summary>A key of zeroes, which stands for "none".</summary>
    public static IgvmSnpPublicKey Empty { get; } = new(0, new byte[IgvmSnpSignature.NumberLength], new byte[IgvmSnpSignature.NumberLength]);

    /// <summary>Compares by content.</summary>
    /// <param name="other">The other key.</param>
    /// <returns>True when the curve and both numbers are equal.</returns>
    public bool Equals(IgvmSnpPublicKey? other) =>
        other is not null && Curve == other.Curve && X.Span.SequenceEqual(other.X.Span) && Y.Span.SequenceEqual(other.Y.Span);

    /// <inheritdoc/>
    public override int GetHashCode()
    {
        var hash = default(HashCode);
        hash.Add(Curve);
        hash.AddBytes(X.Span);
        hash.AddBytes(Y.Span);
        return hash.ToHashCode();
    }
}

/// <summary>Identity of an SNP guest with its signatures (<c>IGVM_VHS_SNP_ID_BLOCK</c>).</summary>
/// <remarks>The policy that the signature covers is that of the <see cref="IgvmGuestPolicy"/> header.</remarks>
public sealed record IgvmSnpIdBlock : IgvmDirective
{
    /// <inheritdoc/>
    public override IgvmHeaderType Type => IgvmHeaderType.SnpIdBlock;

    /// <summary>Platforms that the directive is for.</summary>
    public required uint CompatibilityMask { get; init; }

    /// <summary>1 when the author key signs the ID key. QEMU looks at the author key's curve instead.</summary>
    public byte AuthorKeyEnabled { get; init; }

    /// <summary>48 bytes: the launch digest that the guest must have.</summary>
    public required ReadOnlyMemory<byte> LaunchDigest { get; init; }

    /// <summary>16 bytes chosen by the owner.</summary>
    public required ReadOnlyMemory<byte> FamilyId { get; init; }

    /// <summary>16 bytes chosen by the owner.</summary>
    public required ReadOnlyMemory<byte> ImageId { get; init; }

    /// <summary>Version of the ID block; 1.</summary>
    public uint Version { get; init; } = 1;

    /// <summary>Security version of the guest.</summary>
    public uint GuestSvn { get; init; }

    /// <summary>Algorithm of the ID key; 1 = ECDSA P-384 with SHA-384.</summary>
    public uint IdKeyAlgorithm { get; init; } = 1;

    /// <summary>Algorithm of the author key; 1 = ECDSA P-384 with SHA-384.</summary>
    public uint AuthorKeyAlgorithm { get; init; } = 1;

    /// <summary>The ID key's signature of the ID block.</summary>
    public required IgvmSnpSignature IdKeySignature { get; init; }

    /// <summary>The ID key.</summary>
    public required IgvmSnpPublicKey IdPublicKey { get; init; }

    /// <summary>The author key's signature of the ID key.</summary>
    public IgvmSnpSignature AuthorKeySignature { get; init; } = IgvmSnpSignature.Empty;

    /// <summary>The author key.</summary>
    public IgvmSnpPublicKey AuthorPublicKey { get; init; } = IgvmSnpPublicKey.Empty;

    /// <summary>Compares by content.</summary>
    /// <param name="other">The other directive.</param>
    /// <returns>True when all fields are equal.</returns>
    public bool Equals(IgvmSnpIdBlock? other) =>
        base.Equals(other) && CompatibilityMask == other.CompatibilityMask && AuthorKeyEnabled == other.AuthorKeyEnabled &&
        LaunchDigest.Span.SequenceEqual(other.LaunchDigest.Span) && FamilyId.Span.SequenceEqual(other.FamilyId.Span) &&
        ImageId.Span.SequenceEqual(other.ImageId.Span) && Version == other.Version && GuestSvn == other.GuestSvn &&
        IdKeyAlgorithm == other.IdKeyAlgorithm && AuthorKeyAlgorithm == other.AuthorKeyAlgorithm &&
        IdKeySignature.Equals(other.IdKeySignature) && IdPublicKey.Equals(other.IdPublicKey) &&
        AuthorKeySignature.Equals(other.AuthorKeySignature) && AuthorPublicKey.Equals(other.AuthorPublicKey);

    /// <inheritdoc/>
    public override int GetHashCode() => HashCode.Combine(CompatibilityMask, HashData(LaunchDigest), GuestSvn, IdKeySignature, IdPublicKey);
}

/// <summary>Signed measurement for Hyper-V virtualization-based isolation (<c>IGVM_VHS_VBS_MEASUREMENT</c>).</summary>
public sealed record IgvmVbsMeasurement : IgvmDirective
{
    /// <inheritdoc/>
    public override IgvmHeaderType Type => IgvmHeaderType.VbsMeasurement;

    /// <summary>Platforms that the directive is for.</summary>
    public required uint CompatibilityMask { get; init; }

    /// <summary>Version of the structure.</summary>
    public uint Version { get; init; }

    /// <summary>Number of the product.</summary>
    public uint ProductId { get; init; }

    /// <summary>Number of the module.</summary>
    public uint ModuleId { get; init; }

    /// <summary>Security version.</summary>
    public uint SecurityVersion { get; init; }

    /// <summary>Policy flags.</summary>
    public uint PolicyFlags { get; init; }

    /// <summary>Algorithm of <see cref="BootDigest"/>; 1 = SHA-256.</summary>
    public uint BootDigestAlgorithm { get; init; }

    /// <summary>Algorithm of <see cref="Signature"/>; 1 = ECDSA P-384.</summary>
    public uint SigningAlgorithm { get; init; }

    /// <summary>64 bytes.</summary>
    public required ReadOnlyMemory<byte> BootDigest { get; init; }

    /// <summary>256 bytes.</summary>
    public required ReadOnlyMemory<byte> Signature { get; init; }

    /// <summary>512 bytes.</summary>
    public required ReadOnlyMemory<byte> PublicKey { get; init; }

    /// <summary>Compares by content.</summary>
    /// <param name="other">The other directive.</param>
    /// <returns>True when all fields are equal.</returns>
    public bool Equals(IgvmVbsMeasurement? other) =>
        base.Equals(other) && CompatibilityMask == other.CompatibilityMask && Version == other.Version && ProductId == other.ProductId &&
        ModuleId == other.ModuleId && SecurityVersion == other.SecurityVersion && PolicyFlags == other.PolicyFlags &&
        BootDigestAlgorithm == other.BootDigestAlgorithm && SigningAlgorithm == other.SigningAlgorithm &&
        BootDigest.Span.SequenceEqual(other.BootDigest.Span) && Signature.Span.SequenceEqual(other.Signature.Span) &&
        PublicKey.Span.SequenceEqual(other.PublicKey.Span);

    /// <inheritdoc/>
    public override int GetHashCode() => HashCode.Combine(CompatibilityMask, ProductId, ModuleId, SecurityVersion, HashData(BootDigest));
}
