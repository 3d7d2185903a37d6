// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// SNP_GUEST_REQUEST: the messages between a guest and the security processor, which the host carries and cannot read.
//
//   00 tag (32, 16 used) | 20 u64 sequence number | 28 zero (8) | 30 u8 algorithm 1 | 31 u8 header version 1 | 32 u16 header size 0x60 |
//   34 u8 type | 35 u8 message version 1 | 36 u16 payload size | 38 zero (4) | 3C u8 VMPCK | 3D zero (35) | 60 payload
//
// AES-256-GCM with the VMPCK; nonce = sequence number and four zero bytes; the bytes 0x30 to 0x5F are authenticated too.
// Per key, a request has the number after the last message, and its response the next one. A request that is refused as a whole uses up no
// number: the guest may send the same bytes again, and must not send others under that number. One that is answered with a STATUS
// inside the response does.
//
// Checked in this order: header, tag, number, version, type with size. Answered: CPUID (1), KEY (3), REPORT (5), TSC_INFO (17). Refused like an unknown type:
// EXPORT, IMPORT, ABSORB and VMRK (7 to 13), which need a migration agent, and the machine has none.
//
// Source: AMD SEV-SNP ABI specification (56860), guest messages, as collected from COCONUT-SVSM and Linux drivers/virt/coco/sev-guest; order of the
// checks, their numbers, and how keys are derived from AMD's published firmware (amd/AMD-ASPFW, sev_mcmd.c, nist_kdf.c). Stricter than that: reserved
// bytes of the header must be zero, a message may not be shorter than its type, and there are no VMPLs beyond 3.

using System;
using System.Buffers.Binary;
using System.Runtime.InteropServices;
using System.Security.Cryptography;
using Svsm.Wire;

namespace Svsm.Simulator;

internal sealed class GuestMessages
{
    public const int PageSize = SecurityProcessor.PageSize;
    public const int HeaderLength = 0x60;

    // Offset of the message type, which the host reads too.
    public const int TypeOffset = 0x34;
    public const byte ReportRequest = 5;

    private const byte CpuidRequest = 1;
    private const byte KeyRequest = 3;
    private const byte TscRequest = 17;

    private const int TagLength = 16;
    private const int NonceLength = 12;
    private const int SequenceOffset = 0x20;
    private const int AuthenticatedOffset = 0x30;
    private const int VersionOffset = 0x35;
    private const int SizeOffset = 0x36;
    private const int KeyIndexOffset = 0x3C;
    private const byte AesGcm256 = 1;
    private const byte HeaderVersion = 1;
    private const byte MessageVersion = 1;
    private const int BlockLength = 16;

    private const int CpuidHeaderLength = CpuidPageHeader.EntriesOffset;
    private const int CpuidEntryLength = 48;
    private const int ReportRequestLength = 96;
    private const int ReportResponseHeader = 0x20;
    private const int KeyRequestLength = 32;
    private const int KeyResponseLength = 64;
    private const int DerivedKeyOffset = 0x20;

    // What keys are derived from: 00 u32 root, 2:1 kind of ID key | 08 u64 fields | 10 u32 VMPL | 14 u32 SVN | 18 u64 TCB | 20 u64 policy | 28 image ID (16) |
    // 38 family ID (16) | 48 launch digest, the first 32 bytes | 68 host data (32) | 88 digest of the ID key, the first 32 bytes
    private const int MixLength = 0xA8;
    private const int MixDigestLength = 32;
    private const int TscLength = 128;

    private const uint SelectDefaultKey = 0;
    private const uint SelectVcek = 1;
    private const uint SelectMask = 3;
    private const int SelectShift = 1;

    private readonly GuestContext _guest;
    private readonly Func<SimulatedChip> _chip;
    private readonly int _reportVersion;
    private readonly ulong[] _sequence;

    // The chip is asked for when the first message needs it. Sequence: the numbers of the last messages, for tests; else zeroes.
    public GuestMessages(GuestContext guest, Func<SimulatedChip> chip, int reportVersion, ulong[]? sequence = null)
    {
        _guest = guest;
        _chip = chip;
        _reportVersion = reportVersion;
        _sequence = sequence ?? new ulong[GuestContext.VmplCount];
    }

    // Takes a request page. The response is empty when the request is refused, else header and payload.
    public FirmwareStatus Handle(ReadOnlySpan<byte> request, out byte[] response)
    {
        const ulong HighestSequence = ulong.MaxValue - 2;
        response = [];
        int keyIndex = request[KeyIndexOffset];
        int size = BinaryPrimitives.ReadUInt16LittleEndian(request[SizeOffset..]);
        bool wellFormed = request[0x30] == AesGcm256 && request[0x31] == HeaderVersion && size != 0 && size % BlockLength == 0
            && BinaryPrimitives.ReadUInt16LittleEndian(request[0x32..]) == HeaderLength
            && keyIndex < GuestContext.VmplCount && size <= request.Length - HeaderLength
            && IsZero(request[0x28..0x30]) && IsZero(request[0x38..0x3C]) && IsZero(request[0x3D..HeaderLength]);
        if (!wellFormed)
        {
            return FirmwareStatus.InvalidParameter;
        }

        ulong sequence = BinaryPrimitives.ReadUInt64LittleEndian(request[SequenceOffset..]);
        using var cipher = new AesGcm(_guest.MessageKeys[keyIndex], TagLength);
        byte[] payload = new byte[size];
        try
        {
            cipher.Decrypt(Nonce(sequence), request.Slice(HeaderLength, size), request[..TagLength], payload, request[AuthenticatedOffset..HeaderLength]);
        }
        catch (AuthenticationTagMismatchException)
        {
            return FirmwareStatus.BadMeasurement;
        }

        // One status for both: no numbers are left, and another number than the next one. A message that was sent before ends here.
        if (_sequence[keyIndex] > HighestSequence || sequence != _sequence[keyIndex] + 1)
        {
            return FirmwareStatus.AeadOverflow;
        }

        byte type = request[TypeOffset];
        byte[]? answer = (type, size) switch
        {
            _ when request[VersionOffset] != MessageVersion => null,
            (CpuidRequest, >= CpuidHeaderLength) => CheckCpuid(payload),
            (ReportRequest, >= ReportRequestLength) => Report(payload.AsSpan(0, ReportRequestLength), (uint)keyIndex),
            (KeyRequest, >= KeyRequestLength) => DeriveKey(payload.AsSpan(0, KeyRequestLength), (uint)keyIndex),
            (TscRequest, >= TscLength) => TscInformation(payload.AsSpan(0, TscLength)),
            _ => null,
        };
        if (answer is null)
        {
            return FirmwareStatus.InvalidParameter;
        }

        _sequence[keyIndex] += 2;
        response = Seal(cipher, sequence + 1, (byte)(type + 1), (byte)keyIndex, answer);
        return FirmwareStatus.Success;
    }

    private static byte[] Nonce(ulong sequence)
    {
        byte[] nonce = new byte[NonceLength];
        BinaryPrimitives.WriteUInt64LittleEndian(nonce, sequence);
        return nonce;
    }

    private static byte[] Seal(AesGcm cipher, ulong sequence, byte type, byte keyIndex, byte[] payload)
    {
        byte[] message = new byte[HeaderLength + payload.Length];
        BinaryPrimitives.WriteUInt64LittleEndian(message.AsSpan(SequenceOffset), sequence);
        message[0x30] = AesGcm256;
        message[0x31] = HeaderVersion;
        BinaryPrimitives.WriteUInt16LittleEndian(message.AsSpan(0x32), HeaderLength);
        message[TypeOffset] = type;
        message[VersionOffset] = MessageVersion;
        BinaryPrimitives.WriteUInt16LittleEndian(message.AsSpan(SizeOffset), (ushort)payload.Length);
        message[KeyIndexOffset] = keyIndex;
        cipher.Encrypt(Nonce(sequence), payload, message.AsSpan(HeaderLength), message.AsSpan(0, TagLength), message.AsSpan(AuthenticatedOffset..HeaderLength));
        return message;
    }

    private static byte[] Status(FirmwareStatus status, int length)
    {
        byte[] response = new byte[length];
        BinaryPrimitives.WriteUInt32LittleEndian(response, (uint)status);
        return response;
    }

    // As a CPUID page: 00 u32 count | 04 zeroes | 10 functions (48 each)  ->  00 u32 status | 04 u32 functions checked | 08 zeroes | 10 the functions,
    // corrected. The response is as long as the request. Null when the functions do not fit into the message.
    private static byte[]? CheckCpuid(ReadOnlySpan<byte> request)
    {
        CpuidPageHeader header = MemoryMarshal.Read<CpuidPageHeader>(request);
        if (header.Count > CpuidPageHeader.MaxEntries || header.Reserved0 != 0 || header.Reserved1 != 0)
        {
            return Status(FirmwareStatus.InvalidParameter, request.Length);
        }

        if (header.Count > (request.Length - CpuidHeaderLength) / CpuidEntryLength)
        {
            return null;
        }

        byte[] response = Status(FirmwareStatus.Success, request.Length);
        request.Slice(CpuidHeaderLength, (int)header.Count * CpuidEntryLength).CopyTo(response.AsSpan(CpuidHeaderLength));
        uint count = 0;
        foreach (ref CpuidEntry entry in CpuidPolicy.Entries(response, header.Count))
        {
            count += CpuidPolicy.IsChecked(entry.Function) ? 1u : 0;
            if (!CpuidPolicy.Check(ref entry))
            {
                BinaryPrimitives.WriteUInt32LittleEndian(response, (uint)FirmwareStatus.InvalidParameter);
            }
        }

        BinaryPrimitives.WriteUInt32LittleEndian(response.AsSpan(sizeof(uint)), count);
        return response;
    }

    // 00 report data (64) | 40 u32 VMPL | 44 u32 key selection | 48 zeroes  ->  00 u32 status | 04 u32 report length | 20 report
    private byte[] Report(ReadOnlySpan<byte> request, uint callerVmpl)
    {
        uint vmpl = BinaryPrimitives.ReadUInt32LittleEndian(request[0x40..]);
        uint select = BinaryPrimitives.ReadUInt32LittleEndian(request[0x44..]);
        if (select > SelectMask || !IsZero(request[0x48..]))
        {
            return Status(FirmwareStatus.InvalidParameter, ReportResponseHeader);
        }

        if (select is not (SelectDefaultKey or SelectVcek))
        {
            return Status(FirmwareStatus.InvalidKey, ReportResponseHeader);
        }

        if (!MaySpeakFor(callerVmpl, vmpl))
        {
            return Status(FirmwareStatus.InvalidParameter, ReportResponseHeader);
        }

        byte[] response = Status(FirmwareStatus.Success, ReportResponseHeader + AttestationReport.Length);
        BinaryPrimitives.WriteInt32LittleEndian(response.AsSpan(4), AttestationReport.Length);
        AttestationReport.Make(_reportVersion, _guest, _chip(), vmpl, request[..AttestationReport.ReportDataLength]).CopyTo(response, ReportResponseHeader);
        return response;
    }

    // 00 u32: bit 0 root (0 chip, 1 VM root key), 2:1 key of the chip as for reports | 04 zero | 08 u64 fields | 10 u32 VMPL | 14 u32 SVN |
    // 18 u64 TCB  ->  00 u32 status | 20 key (32)
    private byte[] DeriveKey(ReadOnlySpan<byte> request, uint callerVmpl)
    {
        const ulong AllFields = 0x3F;
        const ulong PolicyField = 1;
        const ulong ImageIdField = 2;
        const ulong FamilyIdField = 4;
        const ulong MeasurementField = 8;
        const ulong SvnField = 0x10;
        const ulong TcbField = 0x20;
        uint root = BinaryPrimitives.ReadUInt32LittleEndian(request);
        uint select = (root >> SelectShift) & SelectMask;
        bool ofChip = (root & 1) == 0;
        ulong fields = BinaryPrimitives.ReadUInt64LittleEndian(request[0x08..]);
        uint vmpl = BinaryPrimitives.ReadUInt32LittleEndian(request[0x10..]);
        uint svn = BinaryPrimitives.ReadUInt32LittleEndian(request[0x14..]);
        var tcb = new TcbVersion(BinaryPrimitives.ReadUInt64LittleEndian(request[0x18..]));
        if (root >> (SelectShift + 2) != 0 || !IsZero(request[0x04..0x08]))
        {
            return Status(FirmwareStatus.InvalidParameter, KeyResponseLength);
        }

        if (ofChip && select is not (SelectDefaultKey or SelectVcek))
        {
            return Status(FirmwareStatus.InvalidKey, KeyResponseLength);
        }

        // SVN and TCB count only when they are selected.
        bool withSvn = (fields & SvnField) != 0;
        bool withTcb = (fields & TcbField) != 0;
        if (fields > AllFields || !MaySpeakFor(callerVmpl, vmpl) || (withSvn && svn > _guest.GuestSvn) || (withTcb && !tcb.IsAtMost(TcbVersion.Current)))
        {
            return Status(FirmwareStatus.InvalidParameter, KeyResponseLength);
        }

        Span<byte> mix = stackalloc byte[MixLength];
        mix.Clear();
        ReadOnlySpan<byte> idKey = _guest.IdKeyDigest(out uint idKeyKind);
        BinaryPrimitives.WriteUInt32LittleEndian(mix, (root & 1) | (idKeyKind << 1));
        BinaryPrimitives.WriteUInt64LittleEndian(mix[0x08..], fields);
        BinaryPrimitives.WriteUInt32LittleEndian(mix[0x10..], vmpl);
        BinaryPrimitives.WriteUInt32LittleEndian(mix[0x14..], withSvn ? svn : 0);
        BinaryPrimitives.WriteUInt64LittleEndian(mix[0x18..], withTcb ? tcb.Value : 0);
        BinaryPrimitives.WriteUInt64LittleEndian(mix[0x20..], (fields & PolicyField) != 0 ? _guest.Policy : 0);
        Mix(ImageIdField, _guest.ImageId, mix[0x28..0x38]);
        Mix(FamilyIdField, _guest.FamilyId, mix[0x38..0x48]);
        Mix(MeasurementField, _guest.Digest.Span, mix[0x48..0x68]);
        _guest.HostData.Span.CopyTo(mix[0x68..]);
        idKey[..Math.Min(idKey.Length, MixDigestLength)].CopyTo(mix[0x88..]);

        // A chip's keys are those of its TCB; an older one's can be had, a newer one's not.
        byte[] response = Status(FirmwareStatus.Success, KeyResponseLength);
        ReadOnlySpan<byte> key = ofChip ? _chip().KeyOf(withTcb ? tcb : TcbVersion.Current) : _guest.VmRootKey.Span;
        DeriveBlock(key, mix, response.AsSpan(DerivedKeyOffset));
        return response;

        void Mix(ulong field, ReadOnlySpan<byte> value, Span<byte> at)
        {
            if ((fields & field) != 0)
            {
                value[..at.Length].CopyTo(at);
            }
        }
    }

    // NIST SP 800-108 in counter mode with HMAC-SHA-256, one block: u32 1 | label | 0 | context | u32 bits. The numbers are little-endian, as the
    // security processor is.
    private static void DeriveBlock(ReadOnlySpan<byte> key, ReadOnlySpan<byte> context, Span<byte> derived)
    {
        byte[] input = [1, 0, 0, 0, .. "gmsg-keyreq"u8, 0, .. context, 0, 1, 0, 0];
        HMACSHA256.HashData(key, input, derived);
    }

    // zeroes -> 00 u32 status | 08 u64 scale, 8.32 fixed point | 10 u64 offset | 18 u32 factor. The machine does not scale the guest's counter.
    private static byte[] TscInformation(ReadOnlySpan<byte> request)
    {
        const ulong One = 1ul << 32;
        if (!IsZero(request))
        {
            return Status(FirmwareStatus.InvalidParameter, TscLength);
        }

        byte[] response = Status(FirmwareStatus.Success, TscLength);
        BinaryPrimitives.WriteUInt64LittleEndian(response.AsSpan(0x08), One);
        return response;
    }

    // Who has VMPCKn speaks for VMPLn and for the less privileged ones.
    private static bool MaySpeakFor(uint callerVmpl, uint vmpl) => vmpl >= callerVmpl && vmpl < GuestContext.VmplCount;

    private static bool IsZero(ReadOnlySpan<byte> bytes) => !bytes.ContainsAnyExcept((byte)0);
}
