// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The chain of hashes that the security processor computes while a guest is launched. For everything that predicts or checks a launch digest.
//
// The digest starts as 48 zero bytes. For each 4-KiB page, in launch order, it becomes the SHA-384 of PAGE_INFO, 0x70 bytes:
//   00 digest so far, 48 bytes      30 contents, 48 bytes: SHA-384 of the page (NORMAL, VMSA), else zeroes
//   60 u16 length 0x70              62 u8 page type      63 u8 IMI flag 0      64 u8 VMPL3..VMPL1 permissions and a reserved byte, all 0
//   68 u64 guest-physical address
//
// Source: SEV-SNP firmware ABI, SNP_LAUNCH_UPDATE, structure PAGE_INFO.

using System;
using System.Buffers.Binary;
using System.Security.Cryptography;
using Svsm.Wire;

namespace Svsm.Measurement;

/// <summary>Computes a launch digest page by page.</summary>
public sealed class LaunchDigestAccumulator
{
    /// <summary>Bytes of a page.</summary>
    public const int PageSize = 4096;

    private const int PageInfoLength = 0x70;

    /// <summary>The digest after the pages so far.</summary>
    public LaunchDigest Digest { get; private set; }

    /// <summary>The hash of the contents of a page as it enters the digest.</summary>
    /// <param name="type">The page type.</param>
    /// <param name="contents">4096 bytes for Normal and Vmsa; not looked at for the others.</param>
    /// <returns>SHA-384 of the contents, or zeroes for a type whose contents are not measured.</returns>
    /// <exception cref="ArgumentException">The contents have another length.</exception>
    public static LaunchDigest HashContents(SnpPageType type, ReadOnlySpan<byte> contents)
    {
        if (type is not (SnpPageType.Normal or SnpPageType.Vmsa))
        {
            return default;
        }

        if (contents.Length != PageSize)
        {
            throw new ArgumentException($"A page has {PageSize} bytes; {contents.Length} were given.", nameof(contents));
        }

        Span<byte> hash = stackalloc byte[LaunchDigest.ByteLength];
        SHA384.HashData(contents, hash);
        return new LaunchDigest(hash);
    }

    /// <summary>Adds a page.</summary>
    /// <param name="type">The page type, 1 to 6.</param>
    /// <param name="gpa">Guest-physical address, a multiple of 4096.</param>
    /// <param name="contents">4096 bytes for Normal and Vmsa; not looked at for the others.</param>
    /// <returns>The hash of the contents.</returns>
    /// <exception cref="ArgumentException">The contents have another length, the address is misaligned, or the type is unknown.</exception>
    public LaunchDigest Update(SnpPageType type, ulong gpa, ReadOnlySpan<byte> contents = default)
    {
        LaunchDigest hash = HashContents(type, contents);
        Update(type, gpa, hash);
        return hash;
    }

    /// <summary>Adds a page whose contents were hashed before.</summary>
    /// <param name="type">The page type, 1 to 6.</param>
    /// <param name="gpa">Guest-physical address, a multiple of 4096.</param>
    /// <param name="contents">What <see cref="HashContents"/> gave for the page.</param>
    /// <exception cref="ArgumentException">The address is misaligned, or the type is unknown.</exception>
    public void Update(SnpPageType type, ulong gpa, LaunchDigest contents)
    {
        if (type is < SnpPageType.Normal or > SnpPageType.Cpuid)
        {
            throw new ArgumentException($"The page type is {(byte)type}; known are 1 to 6.", nameof(type));
        }

        if (gpa % PageSize != 0)
        {
            throw new ArgumentException($"The address 0x{gpa:X} is not a multiple of {PageSize}.", nameof(gpa));
        }

        Span<byte> info = stackalloc byte[PageInfoLength];
        info.Clear();
        Digest.CopyTo(info);
        contents.CopyTo(info[0x30..]);
        BinaryPrimitives.WriteUInt16LittleEndian(info[0x60..], PageInfoLength);
        info[0x62] = (byte)type;
        BinaryPrimitives.WriteUInt64LittleEndian(info[0x68..], gpa);
        Span<byte> digest = stackalloc byte[LaunchDigest.ByteLength];
        SHA384.HashData(info, digest);
        Digest = new LaunchDigest(digest);
    }
}
