// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Signature lists: what PK, KEK, db, dbx and dbt hold, one behind the other. For the engine, and for the image builder, which has this source as well.
//
//   00 GUID of the kind | 10 u32 bytes of the list | 14 u32 bytes of a header, 0 for all kinds that there are | 18 u32 bytes of an entry
//   1C entries: GUID of the owner (16), then a hash, key or certificate
//
// Source: UEFI specification 2.10, 32.4.1; EDK2 SecurityPkg/Library/AuthVariableLib/AuthService.c (mSupportSigItem, CheckSignatureListFormat,
// FilterSignatureList).

using System;
using System.Buffers.Binary;
using System.Collections.Generic;

namespace Svsm.Modules.VarStore;

internal static class SignatureLists
{
    private const int HeaderLength = 0x1C;
    private const int LengthOffset = 0x10;
    private const int ExtraHeaderOffset = 0x14;
    private const int EntryLengthOffset = 0x18;
    private const int OwnerLength = 16;
    private const int AnyLength = -1;

    private static readonly Guid s_sha1 = new(0x826ca512, 0xcf10, 0x4ac9, 0xb1, 0x87, 0xbe, 0x01, 0x49, 0x66, 0x31, 0xbd); // 826ca512-cf10-4ac9-b187-be01496631bd
    private static readonly Guid s_sha256 = new(0xc1c41626, 0x504c, 0x4092, 0xac, 0xa9, 0x41, 0xf9, 0x36, 0x93, 0x43, 0x28); // c1c41626-504c-4092-aca9-41f936934328
    private static readonly Guid s_sha384 = new(0xff3e5307, 0x9fd0, 0x48c9, 0x85, 0xf1, 0x8a, 0xd5, 0x6c, 0x70, 0x1e, 0x01); // ff3e5307-9fd0-48c9-85f1-8ad56c701e01
    private static readonly Guid s_sha512 = new(0x093e0fae, 0xa6c4, 0x4f50, 0x9f, 0x1b, 0xd4, 0x1e, 0x2b, 0x89, 0xc1, 0x9a); // 093e0fae-a6c4-4f50-9f1b-d41e2b89c19a
    private static readonly Guid s_rsa2048 = new(0x3c5766e8, 0x269c, 0x4e34, 0xaa, 0x14, 0xed, 0x77, 0x6e, 0x85, 0xb3, 0xb6); // 3c5766e8-269c-4e34-aa14-ed776e85b3b6
    private static readonly Guid s_x509 = new(0xa5c059a1, 0x94e4, 0x4aa7, 0x87, 0xb5, 0xab, 0x15, 0x5c, 0x2b, 0xf0, 0x72); // a5c059a1-94e4-4aa7-87b5-ab155c2bf072

    private static readonly Kind[] s_kinds =
    [
        new(s_sha256, 32),
        new(s_rsa2048, 256),
        new(new(0xe2b36190, 0x879b, 0x4a3d, 0xad, 0x8d, 0xf2, 0xe7, 0xbb, 0xa3, 0x27, 0x84), 256), // RSA-2048, SHA-256: e2b36190-879b-4a3d-ad8d-f2e7bba32784
        new(s_sha1, 20),
        new(new(0x67f8444f, 0x8743, 0x48f1, 0xa3, 0x28, 0x1e, 0xaa, 0xb8, 0x73, 0x60, 0x80), 256), // RSA-2048, SHA-1: 67f8444f-8743-48f1-a328-1eaab8736080
        new(s_x509, AnyLength),
        new(new(0x0b6e5233, 0xa65c, 0x44c9, 0x94, 0x07, 0xd9, 0xab, 0x83, 0xbf, 0xc8, 0xbd), 28), // SHA-224: 0b6e5233-a65c-44c9-9407-d9ab83bfc8bd
        new(s_sha384, 48),
        new(s_sha512, 64),
        new(new(0x3bd2a492, 0x96c0, 0x4079, 0xb4, 0x20, 0xfc, 0xf9, 0x8e, 0xf1, 0x03, 0xed), 48), // X.509 by SHA-256, time: 3bd2a492-96c0-4079-b420-fcf98ef103ed
        new(new(0x7076876e, 0x80c2, 0x4ee6, 0xaa, 0xd2, 0x28, 0xb3, 0x49, 0xa6, 0x86, 0x5b), 64), // X.509 by SHA-384, time: 7076876e-80c2-4ee6-aad2-28b349a6865b
        new(new(0x446dbf63, 0x2502, 0x4cda, 0xbc, 0xfa, 0x24, 0x65, 0xd2, 0xb0, 0xfe, 0x9d), 80), // X.509 by SHA-512, time: 446dbf63-2502-4cda-bcfa-2465d2b0fe9d
    ];

    private static readonly Guid[] s_supported = [s_sha1, s_sha256, s_sha384, s_sha512, s_rsa2048, s_x509];

    /// <summary>Who has put a certificate of an image into a list, unless its owner is told: the service of UEFI variables of an SVSM.</summary>
    public static readonly Guid ServiceOwner = new(0xa4453a59, 0x9e1b, 0x4787, 0xa0, 0x33, 0x19, 0x86, 0xd6, 0xad, 0xbe, 0x55); // a4453a59-9e1b-4787-a033-1986d6adbe55

    /// <summary>What <c>SignatureSupport</c> says.</summary>
    public static byte[] Supported
    {
        get
        {
            byte[] guids = new byte[s_supported.Length * OwnerLength];
            for (int i = 0; i < s_supported.Length; i++)
            {
                s_supported[i].TryWriteBytes(guids.AsSpan(i * OwnerLength));
            }

            return guids;
        }
    }

    /// <summary>Whether data is signature lists and nothing else, whose certificates are such with RSA keys. No data is none. Untrusted.</summary>
    public static bool AreGood(ReadOnlyMemory<byte> data, out int count)
    {
        count = 0;
        ReadOnlyMemory<byte> rest = data;
        while (!rest.IsEmpty)
        {
            if (!TryReadList(ref rest, out List list))
            {
                return false;
            }

            if (list.Kind == s_x509)
            {
                for (int i = 0; i < list.Count; i++)
                {
                    if (Certificate.Read(list[i][OwnerLength..]) is not { HasRsaKey: true })
                    {
                        return false;
                    }
                }
            }

            count += list.Count;
        }

        return true;
    }

    /// <summary>Whether data is one list with one certificate, with an RSA key: what PK may be. Untrusted.</summary>
    public static bool IsOneCertificate(ReadOnlyMemory<byte> data) => AreGood(data, out int count) && count == 1 && Certificates(data).Count == 1;

    /// <summary>The certificates of lists that <see cref="AreGood"/>; of others, those before the first that is not.</summary>
    public static List<ReadOnlyMemory<byte>> Certificates(ReadOnlyMemory<byte> data)
    {
        var certificates = new List<ReadOnlyMemory<byte>>();
        ReadOnlyMemory<byte> rest = data;
        while (!rest.IsEmpty && TryReadList(ref rest, out List list))
        {
            if (list.Kind == s_x509)
            {
                for (int i = 0; i < list.Count; i++)
                {
                    certificates.Add(list[i][OwnerLength..]);
                }
            }
        }

        return certificates;
    }

    /// <summary>Lists without the entries that others have already. Both <see cref="AreGood"/>.</summary>
    public static byte[] Without(ReadOnlyMemory<byte> data, ReadOnlyMemory<byte> others)
    {
        var left = new List<byte>();
        ReadOnlyMemory<byte> rest = data;
        while (!rest.IsEmpty && TryReadList(ref rest, out List list))
        {
            var entries = new List<byte>();
            for (int i = 0; i < list.Count; i++)
            {
                if (!Has(others, list.Kind, list[i].Span))
                {
                    entries.AddRange(list[i].Span);
                }
            }

            if (entries.Count != 0)
            {
                left.AddRange(NewHeader(list.Kind, entries.Count, list.EntryLength));
                left.AddRange(entries);
            }
        }

        return [.. left];
    }

    /// <summary>A list with a certificate.</summary>
    public static byte[] OfCertificate(Guid owner, ReadOnlySpan<byte> certificate) =>
        [.. NewHeader(s_x509, OwnerLength + certificate.Length, OwnerLength + certificate.Length), .. owner.ToByteArray(), .. certificate];

    // Every entry is compared: a table of them would be larger than they are.
    private static bool Has(ReadOnlyMemory<byte> data, Guid kind, ReadOnlySpan<byte> entry)
    {
        while (!data.IsEmpty && TryReadList(ref data, out List list))
        {
            for (int i = 0; list.Kind == kind && i < list.Count; i++)
            {
                if (list[i].Span.SequenceEqual(entry))
                {
                    return true;
                }
            }
        }

        return false;
    }

    private static byte[] NewHeader(Guid kind, int entriesLength, int entryLength)
    {
        byte[] header = new byte[HeaderLength];
        kind.TryWriteBytes(header);
        BinaryPrimitives.WriteInt32LittleEndian(header.AsSpan(LengthOffset), HeaderLength + entriesLength);
        BinaryPrimitives.WriteInt32LittleEndian(header.AsSpan(EntryLengthOffset), entryLength);
        return header;
    }

    private static bool TryReadList(ref ReadOnlyMemory<byte> rest, out List list)
    {
        list = default;
        ReadOnlySpan<byte> bytes = rest.Span;
        if (bytes.Length < HeaderLength)
        {
            return false;
        }

        uint length = BinaryPrimitives.ReadUInt32LittleEndian(bytes[LengthOffset..]);
        uint entryLength = BinaryPrimitives.ReadUInt32LittleEndian(bytes[EntryLengthOffset..]);
        var kind = new Guid(bytes[..OwnerLength]);
        if (length < HeaderLength || length > (uint)bytes.Length || BinaryPrimitives.ReadUInt32LittleEndian(bytes[ExtraHeaderOffset..]) != 0
            || Array.Find(s_kinds, known => known.Id == kind) is not { Length: int wanted } || entryLength <= OwnerLength || (wanted != AnyLength && entryLength != (uint)(OwnerLength + wanted))
            || (length - HeaderLength) % entryLength != 0)
        {
            return false;
        }

        list = new List(kind, rest[HeaderLength..(int)length], (int)entryLength);
        rest = rest[(int)length..];
        return true;
    }

    // Length: bytes of an entry without its owner.
    private sealed class Kind(Guid id, int length)
    {
        public Guid Id { get; } = id;

        public int Length { get; } = length;
    }

    private readonly record struct List(Guid Kind, ReadOnlyMemory<byte> Contents, int EntryLength)
    {
        public int Count => Contents.Length / EntryLength;

        public ReadOnlyMemory<byte> this[int index] => Contents.Slice(index * EntryLength, EntryLength);
    }
}
