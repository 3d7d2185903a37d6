// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Calls to the virtual TPM (Svsm.Modules.Vtpm), as Linux and OVMF make them: start-up, random numbers, PCRs, a key; buffers that are none; all vCPUs
// at once. PCRs tell whether the TPM is the same one all the while: their values follow from what was extended, in any order, because all of it is
// the same digest.
//
//   request    UINT32 8 (TPM_SEND_COMMAND), locality 0, UINT32 size, TPM command
//   response   UINT32 size, TPM response; in the same buffer
//
// Integers of the TPM are big-endian, others little-endian.
//
// Source: Secure VM Service Module specification, "vTPM Protocol"; TPM 2.0 Library, parts 2 and 3.
//
// SAFETY (whole type): the jobs are static methods, which every vCPU can call; the pages are validated before they are used.

using System;
using System.Buffers.Binary;
using System.Threading;
using Svsm.Platform;
using Svsm.Wire;

namespace Svsm.ProbeGuest;

internal static unsafe class TpmCalls
{
    private const SvsmProtocol Protocol = SvsmProtocol.Vtpm;
    private const uint Query = 0;
    private const uint Command = 1;
    private const uint NoSuchCall = 2;
    private const uint SendCommand = 8;
    private const int BufferLength = 0x1000;
    private const int RequestHead = 9;
    private const int ResponseHead = 4;
    private const int CodeOffset = 6;
    private const int TpmHead = 10;
    private const int DigestLength = 32;
    private const int RandomLength = 16;
    private const int RandomOffset = TpmHead + 2;
    private const uint BadTag = 0x1E;
    private const uint CommandSize = 0x142;
    private const uint FirstTransientHandle = 0x8000_0000;

    // Two pages for each vCPU, so that a buffer can lie over the end of one.
    private const int PagesPerCpu = 2;

    // Divisible by the numbers of vCPUs that tests have.
    private const int SharedExtends = 16;

    private static uint s_wrong;

    private static ReadOnlySpan<byte> Startup => [0x80, 0x01, 0, 0, 0, 12, 0, 0, 0x01, 0x44, 0, 0];

    private static ReadOnlySpan<byte> GetRandom => [0x80, 0x01, 0, 0, 0, 12, 0, 0, 0x01, 0x7B, 0, RandomLength];

    // TPM_PT_FAMILY_INDICATOR alone.
    private static ReadOnlySpan<byte> GetFamily => [0x80, 0x01, 0, 0, 0, 22, 0, 0, 0x01, 0x7A, 0, 0, 0, 6, 0, 0, 0x01, 0, 0, 0, 0, 1];

    // There are more, TPM_CAP_TPM_PROPERTIES, one: that is "2.0".
    private static ReadOnlySpan<byte> Family => [1, 0, 0, 0, 6, 0, 0, 0, 1, 0, 0, 0x01, 0, (byte)'2', (byte)'.', (byte)'0', 0];

    // PCR 1, SHA-256, an empty password; the digest is 32 times 1.
    private static ReadOnlySpan<byte> Extend =>
    [
        0x80, 0x02, 0, 0, 0, 65, 0, 0, 0x01, 0x82, 0, 0, 0, 1, 0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0x0B,
        1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
    ];

    private static ReadOnlySpan<byte> ReadPcr => [0x80, 0x01, 0, 0, 0, 20, 0, 0, 0x01, 0x7E, 0, 0, 0, 1, 0, 0x0B, 3, 2, 0, 0];

    // Of 32 zeroes and the digest.
    private static ReadOnlySpan<byte> ExtendedOnce =>
    [
        0x5C, 0x85, 0x95, 0x5F, 0x70, 0x92, 0x83, 0xEC, 0xCE, 0x2B, 0x74, 0xF1, 0xB1, 0x55, 0x29, 0x18,
        0x81, 0x9F, 0x39, 0x09, 0x11, 0x81, 0x6E, 0x7B, 0xB4, 0x66, 0x80, 0x5A, 0x38, 0xAB, 0x87, 0xF3,
    ];

    // And SharedExtends times the digest after that.
    private static ReadOnlySpan<byte> ExtendedByAll =>
    [
        0x97, 0x3A, 0xDB, 0x6E, 0x8F, 0xFB, 0xEA, 0x21, 0x8B, 0x8F, 0x64, 0x1D, 0xBB, 0xE1, 0x5C, 0x26,
        0xF3, 0x2B, 0xF8, 0xAA, 0x95, 0xE4, 0x01, 0x64, 0xA0, 0x38, 0x08, 0x86, 0xE9, 0xF6, 0x62, 0x1B,
    ];

    // A storage key of the owner's hierarchy: restricted decryption on NIST P-256, AES-128 in CFB mode.
    private static ReadOnlySpan<byte> CreateEcc =>
    [
        0x80, 0x02, 0, 0, 0, 67, 0, 0, 0x01, 0x31, 0x40, 0, 0, 1, 0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0,
        0, 4, 0, 0, 0, 0,
        0, 26, 0, 0x23, 0, 0x0B, 0, 0x03, 0x04, 0x72, 0, 0, 0, 6, 0, 128, 0, 0x43, 0, 0x10, 0, 3, 0, 0x10, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0,
    ];

    // The same with RSA of 2048 bits.
    private static ReadOnlySpan<byte> CreateRsa =>
    [
        0x80, 0x02, 0, 0, 0, 67, 0, 0, 0x01, 0x31, 0x40, 0, 0, 1, 0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0,
        0, 4, 0, 0, 0, 0,
        0, 26, 0, 0x01, 0, 0x0B, 0, 0x03, 0x04, 0x72, 0, 0, 0, 6, 0, 128, 0, 0x43, 0, 0x10, 8, 0, 0, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0,
    ];

    private static ReadOnlySpan<byte> Flush => [0x80, 0x01, 0, 0, 0, 14, 0, 0, 0x01, 0x65, 0x80, 0, 0, 0];

    /// <summary>Makes calls of all kinds, and ends the VM.</summary>
    public static void Run(in ProbeStart start)
    {
        Prepare();
        ulong page = TestMemory.PageAt(0);
        SvsmCall call = new() { Rdx = ulong.MaxValue };
        Probe.Result("tpm: query"u8, Calls.Call(Protocol, Query, ref call), SvsmResultCode.Success);
        Probe.Equal("tpm: platform commands"u8, call.Rcx, 1ul << (int)SendCommand);
        Probe.Equal("tpm: features"u8, call.Rdx, 0);
        call = new SvsmCall { Rcx = page };
        Probe.Result("tpm: no such call"u8, Calls.Call(Protocol, NoSuchCall, ref call), SvsmResultCode.UnsupportedCall);

        Expect("tpm: startup"u8, page, Startup);
        Expect("tpm: capability"u8, page, GetFamily);
        Probe.True("tpm: family"u8, Response(page).Slice(TpmHead).SequenceEqual(Family));
        Expect("tpm: random numbers"u8, page, GetRandom);
        Span<byte> first = stackalloc byte[RandomLength];
        Response(page).Slice(RandomOffset).CopyTo(first);
        Expect("tpm: random numbers again"u8, page, GetRandom);
        Probe.True("tpm: other ones"u8, !first.SequenceEqual(Response(page).Slice(RandomOffset)) && first.ContainsAnyExcept((byte)0));
        Expect("tpm: extend"u8, page, Extend);
        CheckPcr("tpm: PCR"u8, page, ExtendedOnce);

        CreateAndFlush(CreateEcc);
        CheckBuffers(((SecretsPage*)start.SecretsPage)->SvsmBase);
        CheckPcr("tpm: PCR after calls that are none"u8, page, ExtendedOnce);
        Cpus.RunOnAll(&Work);
        Probe.Equal("tpm: wrong answers"u8, s_wrong, 0);
        CheckPcr("tpm: PCR after calls of all vCPUs"u8, page, ExtendedByAll);
        Probe.Finish();
    }

    /// <summary>Has the TPM make an RSA key, and ends the VM.</summary>
    public static void RunRsa()
    {
        Prepare();
        Expect("tpm: startup"u8, TestMemory.PageAt(0), Startup);
        CreateAndFlush(CreateRsa);
        Probe.Finish();
    }

    private static void Prepare()
    {
        Probe.Result("tpm: vCPUs"u8, Cpus.StartAll(), SvsmResultCode.Success);
        int count = PagesPerCpu * Cpus.Count;
        Probe.True("tpm: memory"u8, TestMemory.TryTake(TestMemory.Base, count));
    }

    // Longer than a turn: the SVSM comes back in between.
    private static void CreateAndFlush(ReadOnlySpan<byte> command)
    {
        ulong page = TestMemory.PageAt(0);
        Write(page, SendCommand, 0, (uint)command.Length, command);
        uint repeated = 0;
        SvsmCall call;
        while (true)
        {
            call = new SvsmCall { Rax = ((ulong)Protocol << 32) | Command, Rcx = page };
            Calls.CallOnce(ref call);
            if (call.Rax != (ulong)SvsmResultCode.Incomplete)
            {
                break;
            }

            repeated++;
        }

        Probe.Result("tpm: create a primary key"u8, (SvsmResultCode)call.Rax, SvsmResultCode.Success);
        Probe.Equal("tpm: its response code"u8, Code(page), 0);
        Probe.Equal("tpm: its handle"u8, BinaryPrimitives.ReadUInt32BigEndian(Response(page).Slice(TpmHead)), FirstTransientHandle);
        Probe.True("tpm: was asked again and again"u8, repeated > 1);
        Expect("tpm: flush it"u8, page, Flush);
    }

    private static void CheckBuffers(ulong svsmBase)
    {
        // Over the end of a page.
        ulong page = TestMemory.PageAt(0);
        Expect("tpm: buffer in two pages"u8, page + 0x123, GetFamily);
        Probe.True("tpm: its answer"u8, Response(page + 0x123).Slice(TpmHead).SequenceEqual(Family));
        Expect("tpm: buffer that begins at the end of a page"u8, page + 0xFFD, GetFamily);
        Probe.True("tpm: its answer"u8, Response(page + 0xFFD).Slice(TpmHead).SequenceEqual(Family));

        // Not the guest's, or not all of it.
        ulong end = TestMemory.PageAt(PagesPerCpu * Cpus.Count);
        Refuse("tpm: buffer that is shared"u8, end);
        Write(end - BufferLength, SendCommand, 0, (uint)Extend.Length, Extend);
        Refuse("tpm: buffer whose last byte is shared"u8, end - BufferLength + 1);
        Refuse("tpm: buffer of the SVSM"u8, svsmBase);
        Refuse("tpm: buffer beyond the memory"u8, 1ul << 46);
        Refuse("tpm: buffer beyond all addresses"u8, 1ul << 62);
        Refuse("tpm: buffer at a negative address"u8, ulong.MaxValue - BufferLength + 1);
        Refuse("tpm: buffer around the end of the addresses"u8, ulong.MaxValue);

        // Garbage in front of the command.
        Write(page, SendCommand + 1, 0, (uint)Extend.Length, Extend);
        Probe.Result("tpm: no such platform command"u8, Call(page), SvsmResultCode.InvalidParameter);
        Write(page, SendCommand, 1, (uint)Extend.Length, Extend);
        Probe.Result("tpm: another locality"u8, Call(page), SvsmResultCode.InvalidFormat);
        Write(page, SendCommand, 0, BufferLength - RequestHead + 1, Extend);
        Probe.Result("tpm: a command that does not fit"u8, Call(page), SvsmResultCode.InvalidFormat);
        Write(page, SendCommand, 0, uint.MaxValue, Extend);
        Probe.Result("tpm: a command of 4 GiB"u8, Call(page), SvsmResultCode.InvalidFormat);
        Bytes(page, BufferLength).Fill(0xFF);
        Probe.Result("tpm: all bytes 255"u8, Call(page), SvsmResultCode.InvalidParameter);
        Probe.True("tpm: the buffer is as it was"u8, !Bytes(page, BufferLength).ContainsAnyExcept((byte)0xFF));

        // And in the command: the TPM's own answers, which are a head and nothing else.
        CheckGarbage(page, BufferLength / 2, BadTag);
        CheckGarbage(page, BufferLength - RequestHead, CommandSize);
        for (int length = 0; length < Extend.Length; length++)
        {
            Write(page, SendCommand, 0, (uint)length, Extend);
            if (Call(page) != SvsmResultCode.Success || Response(page).Length != TpmHead || Code(page) == 0)
            {
                Probe.Equal("tpm: a command that is cut off was taken, bytes"u8, (uint)length, uint.MaxValue);
            }
        }
    }

    private static void CheckGarbage(ulong buffer, int length, uint code)
    {
        Write(buffer, SendCommand, 0, (uint)length, []);
        Bytes(buffer + RequestHead, length).Fill(0xA5);
        Probe.Result("tpm: a command that is none"u8, Call(buffer), SvsmResultCode.Success);
        Probe.Equal("tpm: its response code"u8, Code(buffer), code);
        Probe.Equal("tpm: its response"u8, (uint)Response(buffer).Length, TpmHead);
    }

    private static void Refuse(ReadOnlySpan<byte> name, ulong buffer) => Probe.Result(name, Call(buffer), SvsmResultCode.InvalidAddress);

    private static void Work(int cpu)
    {
        ulong page = TestMemory.PageAt(PagesPerCpu * cpu);
        uint wrong = 0;
        for (int round = 0; round < SharedExtends / Cpus.Count; round++)
        {
            wrong += Send(page, Extend) == SvsmResultCode.Success && Code(page) == 0 ? 0u : 1;
            wrong += Send(page, GetFamily) == SvsmResultCode.Success && Code(page) == 0 && Response(page).Slice(TpmHead).SequenceEqual(Family) ? 0u : 1;
        }

        Interlocked.Add(ref s_wrong, wrong);
    }

    // Its last digest.
    private static void CheckPcr(ReadOnlySpan<byte> name, ulong buffer, ReadOnlySpan<byte> wanted)
    {
        Expect(name, buffer, ReadPcr);
        ReadOnlySpan<byte> response = Response(buffer);
        Probe.True(name, response.Length > DigestLength && response.Slice(response.Length - DigestLength).SequenceEqual(wanted));
    }

    private static void Expect(ReadOnlySpan<byte> name, ulong buffer, ReadOnlySpan<byte> command)
    {
        Probe.Result(name, Send(buffer, command), SvsmResultCode.Success);
        Probe.Equal(name, Code(buffer), 0);
    }

    private static SvsmResultCode Send(ulong buffer, ReadOnlySpan<byte> command)
    {
        Write(buffer, SendCommand, 0, (uint)command.Length, command);
        return Call(buffer);
    }

    private static SvsmResultCode Call(ulong buffer)
    {
        SvsmCall call = new() { Rcx = buffer };
        return Calls.Call(Protocol, Command, ref call);
    }

    private static void Write(ulong buffer, uint platformCommand, byte locality, uint length, ReadOnlySpan<byte> command)
    {
        Span<byte> bytes = Bytes(buffer, BufferLength);
        bytes.Clear();
        BinaryPrimitives.WriteUInt32LittleEndian(bytes, platformCommand);
        bytes[sizeof(uint)] = locality;
        BinaryPrimitives.WriteUInt32LittleEndian(bytes.Slice(sizeof(uint) + 1), length);
        command.CopyTo(bytes.Slice(RequestHead));
    }

    private static Span<byte> Bytes(ulong address, int length) => new((void*)address, length);

    // All that the buffer has room for, if its size says more: the checks of a length fail then.
    private static ReadOnlySpan<byte> Response(ulong buffer) =>
        new((byte*)buffer + ResponseHead, (int)Math.Min(*(uint*)buffer, (uint)(BufferLength - ResponseHead)));

    private static uint Code(ulong buffer) => BinaryPrimitives.ReadUInt32BigEndian(Bytes(buffer + ResponseHead + CodeOffset, sizeof(uint)));
}
