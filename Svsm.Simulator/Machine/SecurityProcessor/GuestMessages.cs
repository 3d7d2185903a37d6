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
// Answered: KEY (3), REPORT (5), TSC_INFO (17). Refused like an unknown type: CPUID (1), whose values the hypervisor of this machine makes and not
// its security processor; EXPORT, IMPORT, ABSORB and VMRK (7 to 13), which need a migration agent, and the machine has none.
//
// Source: AMD SEV-SNP ABI specification (56860), guest messages, as collected from COCONUT-SVSM and Linux drivers/virt/coco/sev-guest; numbers
// of the refusals from Linux psp-sev.h. That a wrong sequence number is INVALID_PARAM, and the order of the checks, is not told there: assumed.

using System;
using System.Buffers.Binary;
using System.IO;
using System.Security.Cryptography;

namespace Svsm.Simulator;

internal sealed class GuestMessages
{
    public const int PageSize = SecurityProcessor.PageSize;
    public const int HeaderLength = 0x60;

    // Offset of the message type, which the host reads too.
    public const int TypeOffset = 0x34;
    public const byte ReportRequest = 5;

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

    private const int ReportRequestLength = 96;
    private const int ReportResponseHeader = 0x20;
    private const int KeyRequestLength = 32;
    private const int KeyResponseLength = 64;
    private const int DerivedKeyOffset = 0x20;
    private const int TscLength = 128;

    private const uint SelectDefaultKey = 0;
    private const uint SelectVcek = 1;
    private const uint SelectVlek = 2;

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
        bool wellFormed = request[0x30] == AesGcm256 && request[0x31] == HeaderVersion && request[VersionOffset] == MessageVersion
            && BinaryPrimitives.ReadUInt16LittleEndian(request[0x32..]) == HeaderLength
            && keyIndex < GuestContext.VmplCount && size <= request.Length - HeaderLength
            && IsZero(request[0x28..0x30]) && IsZero(request[0x38..0x3C]) && IsZero(request[0x3D..HeaderLength]);
        if (!wellFormed)
        {
            return FirmwareStatus.InvalidParameter;
        }

        if (_sequence[keyIndex] > HighestSequence)
        {
            return FirmwareStatus.AeadOverflow;
        }

        ulong sequence = BinaryPrimitives.ReadUInt64LittleEndian(request[SequenceOffset..]);
        if (sequence != _sequence[keyIndex] + 1)
        {
            return FirmwareStatus.InvalidParameter;
        }

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

        byte type = request[TypeOffset];
        byte[]? answer = (type, size) switch
        {
            (ReportRequest, ReportRequestLength) => Report(payload, (uint)keyIndex),
            (KeyRequest, KeyRequestLength) => DeriveKey(payload, (uint)keyIndex),
            (TscRequest, TscLength) => TscInformation(payload),
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

    // 00 report data (64) | 40 u32 VMPL | 44 u32 key selection | 48 zeroes  ->  00 u32 status | 04 u32 report length | 20 report
    private byte[] Report(ReadOnlySpan<byte> request, uint callerVmpl)
    {
        uint vmpl = BinaryPrimitives.ReadUInt32LittleEndian(request[0x40..]);
        uint select = BinaryPrimitives.ReadUInt32LittleEndian(request[0x44..]);
        if (!MaySpeakFor(callerVmpl, vmpl) || select > SelectVlek || !IsZero(request[0x48..]))
        {
            return Status(FirmwareStatus.InvalidParameter, ReportResponseHeader);
        }

        if (select is not (SelectDefaultKey or SelectVcek))
        {
            return Status(FirmwareStatus.InvalidKey, ReportResponseHeader);
        }

        byte[] response = Status(FirmwareStatus.Success, ReportResponseHeader + AttestationReport.Length);
        BinaryPrimitives.WriteInt32LittleEndian(response.AsSpan(4), AttestationReport.Length);
        AttestationReport.Make(_reportVersion, _guest, _chip(), vmpl, request[..AttestationReport.ReportDataLength]).CopyTo(response, ReportResponseHeader);
        return response;
    }

    // 00 u32 root (0 VCEK, 1 VM root key) | 04 zero | 08 u64 fields | 10 u32 VMPL | 14 u32 SVN | 18 u64 TCB  ->  00 u32 status | 20 key (32)
    private byte[] DeriveKey(ReadOnlySpan<byte> request, uint callerVmpl)
    {
        const ulong AllFields = 0x3F;
        uint root = BinaryPrimitives.ReadUInt32LittleEndian(request);
        ulong fields = BinaryPrimitives.ReadUInt64LittleEndian(request[0x08..]);
        uint vmpl = BinaryPrimitives.ReadUInt32LittleEndian(request[0x10..]);
        uint svn = BinaryPrimitives.ReadUInt32LittleEndian(request[0x14..]);
        var tcb = new TcbVersion(BinaryPrimitives.ReadUInt64LittleEndian(request[0x18..]));
        if (root > 1 || !IsZero(request[0x04..0x08]) || fields > AllFields || !MaySpeakFor(callerVmpl, vmpl)
            || svn > _guest.GuestSvn || !tcb.IsAtMost(TcbVersion.Current))
        {
            return Status(FirmwareStatus.InvalidParameter, KeyResponseLength);
        }

        // The mix of real firmware is not published. This one keeps what guests rely on: the same request and the same selected fields give
        // the same key on the same chip, and any other selection or value another.
        using var mix = new MemoryStream();
        mix.Write("derived key"u8);
        mix.Write(request[..0x14]);
        Span<byte> policy = stackalloc byte[sizeof(ulong)];
        BinaryPrimitives.WriteUInt64LittleEndian(policy, _guest.Policy);
        Mix(0, policy);
        Mix(1, _guest.ImageId);
        Mix(2, _guest.FamilyId);
        Mix(3, _guest.Digest.Span);
        Mix(4, request[0x14..0x18]);
        Mix(5, request[0x18..0x20]);
        byte[] response = Status(FirmwareStatus.Success, KeyResponseLength);
        byte[] key = root == 0 ? _chip().Derive(mix.ToArray()) : HMACSHA384.HashData(_guest.VmRootKey.Span, mix.ToArray())[..GuestContext.KeyLength];
        key.CopyTo(response, DerivedKeyOffset);
        return response;

        void Mix(int field, ReadOnlySpan<byte> value)
        {
            if ((fields >> field & 1) != 0)
            {
                mix.Write(value);
            }
        }
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
