// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// A write of an authenticated variable: its data is who signs it, then what is to be written.
//
//   00 EFI_TIME (16) | 10 u32 length of the rest of the descriptor | 14 u16 revision | 16 u16 type 0xEF1 | 18 GUID of PKCS #7 | 28 message | payload
//
// Signed is: the name without NUL, the vendor's GUID, the attributes, the time, the payload.
//
// A variable that is not one of secure boot belongs to who signed its first write: it keeps SHA-256(signer's common name | SHA-256(certificate)), as QEMU does,
// and later writes have to have the same. A later write is newer than the last one, unless it appends.
//
// Source: UEFI specification 2.10, 8.2.2; EDK2 SecurityPkg/Library/AuthVariableLib/AuthService.c (VerifyTimeBasedPayload); QEMU
// hw/uefi/var-service-pkcs7.c for the hash.

using System;
using System.Buffers.Binary;
using System.Runtime.InteropServices;

namespace Svsm.Modules.VarStore;

internal sealed class AuthenticatedWrite
{
    private const int LengthOffset = 0x10;
    private const int TypeOffset = 0x16;
    private const int KindOffset = 0x18;
    private const int MessageOffset = 0x28;
    private const ushort GuidType = 0x0EF1;

    private static readonly Guid s_pkcs7 = new(0x4aafd29d, 0x68df, 0x49ee, 0x8a, 0xa9, 0x34, 0x7d, 0x37, 0x56, 0x65, 0xa7); // 4aafd29d-68df-49ee-8aa9-347d375665a7

    private readonly VariableId _id;
    private readonly VariableAttributes _attributes;
    private readonly ReadOnlyMemory<byte> _data;
    private readonly ReadOnlyMemory<byte> _message;
    private SignedMessage? _signed;

    private AuthenticatedWrite(VariableId id, VariableAttributes attributes, ReadOnlyMemory<byte> data, ReadOnlyMemory<byte> message, ReadOnlyMemory<byte> payload)
    {
        _id = id;
        _attributes = attributes;
        _data = data;
        _message = message;
        Payload = payload;
    }

    /// <summary>What is to be written.</summary>
    public ReadOnlyMemory<byte> Payload { get; }

    public EfiTime Time => EfiTime.Read(_data.Span);

    /// <summary>Reads a write. Null: the descriptor does not fit into the data.</summary>
    public static AuthenticatedWrite? Read(VariableId id, VariableAttributes attributes, ReadOnlyMemory<byte> data)
    {
        if (data.Length < MessageOffset)
        {
            return null;
        }

        uint untrustedLength = BinaryPrimitives.ReadUInt32LittleEndian(data.Span[LengthOffset..]);
        if (untrustedLength < MessageOffset - LengthOffset || untrustedLength > (uint)(data.Length - LengthOffset))
        {
            return null;
        }

        int end = LengthOffset + (int)untrustedLength;
        return new AuthenticatedWrite(id, attributes, data, data[MessageOffset..end], data[end..]);
    }

    /// <summary>Checks everything but who signed it: form, time, message, signatures.</summary>
    /// <param name="old">The variable as it is; null: there is none.</param>
    public bool IsGood(Variable? old)
    {
        ReadOnlySpan<byte> data = _data.Span;
        if (!EfiTime.HasOnlySeconds(data) || BinaryPrimitives.ReadUInt16LittleEndian(data[TypeOffset..]) != GuidType || new Guid(data.Slice(KindOffset, 16)) != s_pkcs7
            || (old is not null && (_attributes & VariableAttributes.AppendWrite) == 0 && !Time.IsLaterThan(old.Time)))
        {
            return false;
        }

        _signed = SignedMessage.Read(_message);
        if (_signed is null)
        {
            return false;
        }

        byte[] head = new byte[16 + sizeof(uint)];
        _id.Vendor.TryWriteBytes(head);
        BinaryPrimitives.WriteUInt32LittleEndian(head.AsSpan(16), (uint)_attributes);
        return _signed.IsSigned(_signed.Hash.Compute(MemoryMarshal.AsBytes(_id.Name.AsSpan()).ToArray(), head, _data[..EfiTime.Length], Payload));
    }

    /// <summary>Whether a certificate, or one that it issued, signed it. Only after <see cref="IsGood"/>.</summary>
    public bool IsSignedBy(ReadOnlyMemory<byte> trusted) => Certificate.Read(trusted) is Certificate certificate && _signed!.LeadsTo(certificate);

    /// <summary>Whether the very owner of a certificate signed it, not one that it issued. Only after <see cref="IsGood"/>.</summary>
    public bool IsSignedByOwner(ReadOnlyMemory<byte> trusted) => _signed!.First.Der.Span.SequenceEqual(trusted.Span) && IsSignedBy(trusted);

    /// <summary>Checks a write of a variable that belongs to who signed it first.</summary>
    /// <param name="old">The variable as it is; null: there is none.</param>
    /// <param name="signer">Who signed it.</param>
    /// <returns><see cref="EfiStatus.SecurityViolation"/>: not signed, not newer, or by somebody else.</returns>
    public EfiStatus Authenticate(Variable? old, out byte[] signer)
    {
        signer = [];
        if (!IsGood(old) || _signed!.Last.CommonName.IsEmpty)
        {
            return EfiStatus.SecurityViolation;
        }

        signer = HashAlgorithm.Sha256.Compute(_signed.Last.CommonName, HashAlgorithm.Sha256.Compute(_signed.First.Der));
        return (old is null || signer.AsSpan().SequenceEqual(old.Signer)) && _signed.LeadsTo(_signed.First)
            ? EfiStatus.Success
            : EfiStatus.SecurityViolation;
    }
}
