// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The identity of an SNP guest: what its owner signs, and what the security processor checks at the end of the launch.
//
// Layout, 96 bytes: 00 launch digest[48] · 30 family id[16] · 40 image id[16] · 50 u32 version 1 · 54 u32 guest SVN · 58 u64 policy.
//
// Source: SEV-SNP firmware ABI, SNP_LAUNCH_FINISH, structure ID_BLOCK.

using System;
using System.Buffers.Binary;

namespace Svsm.Measurement;

/// <summary>An ID block.</summary>
public sealed record IdBlock
{
    /// <summary>Bytes of an ID block.</summary>
    public const int ByteLength = 96;

    /// <summary>Bytes of a family id or image id.</summary>
    public const int IdLength = 16;

    private const uint CurrentVersion = 1;

    private readonly ReadOnlyMemory<byte> _familyId = new byte[IdLength];
    private readonly ReadOnlyMemory<byte> _imageId = new byte[IdLength];

    /// <summary>The launch digest that the guest must have.</summary>
    public required LaunchDigest LaunchDigest { get; init; }

    /// <summary>16 bytes chosen by the owner; default zeroes.</summary>
    /// <exception cref="ArgumentException">The length differs.</exception>
    public ReadOnlyMemory<byte> FamilyId
    {
        get => _familyId;
        init => _familyId = RequireId(value, nameof(FamilyId));
    }

    /// <summary>16 bytes chosen by the owner; default zeroes.</summary>
    /// <exception cref="ArgumentException">The length differs.</exception>
    public ReadOnlyMemory<byte> ImageId
    {
        get => _imageId;
        init => _imageId = RequireId(value, nameof(ImageId));
    }

    /// <summary>Security version of the guest.</summary>
    public uint GuestSvn { get; init; }

    /// <summary>Guest policy; must equal the one that the guest is started with.</summary>
    public required ulong Policy { get; init; }

    /// <summary>Reads an ID block.</summary>
    /// <param name="bytes">96 bytes.</param>
    /// <returns>The ID block.</returns>
    /// <exception cref="MeasurementException">The length or the version differs.</exception>
    public static IdBlock Parse(ReadOnlySpan<byte> bytes)
    {
        if (bytes.Length != ByteLength)
        {
            throw new MeasurementException(MeasurementError.BadIdBlock, $"An ID block has {ByteLength} bytes; {bytes.Length} were given.");
        }

        uint version = BinaryPrimitives.ReadUInt32LittleEndian(bytes[0x50..]);
        if (version != CurrentVersion)
        {
            throw new MeasurementException(MeasurementError.BadIdBlock, $"The ID block has version {version}; it must be {CurrentVersion}.");
        }

        return new IdBlock
        {
            LaunchDigest = new LaunchDigest(bytes[..0x30]),
            FamilyId = bytes.Slice(0x30, IdLength).ToArray(),
            ImageId = bytes.Slice(0x40, IdLength).ToArray(),
            GuestSvn = BinaryPrimitives.ReadUInt32LittleEndian(bytes[0x54..]),
            Policy = BinaryPrimitives.ReadUInt64LittleEndian(bytes[0x58..]),
        };
    }

    /// <summary>The bytes that are signed.</summary>
    /// <returns>96 bytes.</returns>
    public byte[] ToArray()
    {
        byte[] bytes = new byte[ByteLength];
        LaunchDigest.CopyTo(bytes);
        FamilyId.CopyTo(bytes.AsMemory(0x30));
        ImageId.CopyTo(bytes.AsMemory(0x40));
        BinaryPrimitives.WriteUInt32LittleEndian(bytes.AsSpan(0x50), CurrentVersion);
        BinaryPrimitives.WriteUInt32LittleEndian(bytes.AsSpan(0x54), GuestSvn);
        BinaryPrimitives.WriteUInt64LittleEndian(bytes.AsSpan(0x58), Policy);
        return bytes;
    }

    /// <summary>Compares by content.</summary>
    /// <param name="other">The other ID block.</param>
    /// <returns>True when all fields are equal.</returns>
    public bool Equals(IdBlock? other) => other is not null && ToArray().AsSpan().SequenceEqual(other.ToArray());

    /// <inheritdoc/>
    public override int GetHashCode() => HashCode.Combine(LaunchDigest, GuestSvn, Policy);

    private static ReadOnlyMemory<byte> RequireId(ReadOnlyMemory<byte> id, string name) => id.Length == IdLength
        ? id
        : throw new ArgumentException($"{name} has {id.Length} bytes; it must have {IdLength}.", name);
}
