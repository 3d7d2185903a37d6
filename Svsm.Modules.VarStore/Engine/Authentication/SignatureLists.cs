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

    private static readonly Guid s_x509 = new("a5c059a1-94e4-4aa7-87b5-ab155c2bf072");

    // Bytes of an entry without its owner.
    private static readonly Dictionary<Guid, int> s_kinds = new()
    {
        [new("c1c41626-504c-4092-aca9-41f936934328")] = 32, // SHA-256
        [new("3c5766e8-269c-4e34-aa14-ed776e85b3b6")] = 256, // RSA-2048
        [new("e2b36190-879b-4a3d-ad8d-f2e7bba32784")] = 256, // RSA-2048, SHA-256
        [new("826ca512-cf10-4ac9-b187-be01496631bd")] = 20, // SHA-1
        [new("67f8444f-8743-48f1-a328-1eaab8736080")] = 256, // RSA-2048, SHA-1
        [s_x509] = AnyLength,
        [new("0b6e5233-a65c-44c9-9407-d9ab83bfc8bd")] = 28, // SHA-224
        [new("ff3e5307-9fd0-48c9-85f1-8ad56c701e01")] = 48, // SHA-384
        [new("093e0fae-a6c4-4f50-9f1b-d41e2b89c19a")] = 64, // SHA-512
        [new("3bd2a492-96c0-4079-b420-fcf98ef103ed")] = 48, // X.509 by SHA-256, time
        [new("7076876e-80c2-4ee6-aad2-28b349a6865b")] = 64, // X.509 by SHA-384, time
        [new("446dbf63-2502-4cda-bcfa-2465d2b0fe9d")] = 80, // X.509 by SHA-512, time
    };

    private static readonly Guid[] s_supported =
    [
        new("826ca512-cf10-4ac9-b187-be01496631bd"), new("c1c41626-504c-4092-aca9-41f936934328"), new("ff3e5307-9fd0-48c9-85f1-8ad56c701e01"),
        new("093e0fae-a6c4-4f50-9f1b-d41e2b89c19a"), new("3c5766e8-269c-4e34-aa14-ed776e85b3b6"), s_x509,
    ];

    /// <summary>Who has put a certificate of an image into a list, unless its owner is told: the service of UEFI variables of an SVSM.</summary>
    public static readonly Guid ServiceOwner = new("a4453a59-9e1b-4787-a033-1986d6adbe55");

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
            || !s_kinds.TryGetValue(kind, out int wanted) || entryLength <= OwnerLength || (wanted != AnyLength && entryLength != (uint)(OwnerLength + wanted))
            || (length - HeaderLength) % entryLength != 0)
        {
            return false;
        }

        list = new List(kind, rest[HeaderLength..(int)length], (int)entryLength);
        rest = rest[(int)length..];
        return true;
    }

    private readonly record struct List(Guid Kind, ReadOnlyMemory<byte> Contents, int EntryLength)
    {
        public int Count => Contents.Length / EntryLength;

        public ReadOnlyMemory<byte> this[int index] => Contents.Slice(index * EntryLength, EntryLength);
    }
}
