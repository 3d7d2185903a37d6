// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The host's part in a guest request: takes the frame that the hypervisor sends for it (Shared/Link.cs), has the security processor handle the
// message, and makes the frames of the answer.
//
// Certificates come first: when the guest has no room for them, it learns how much it needs and the message is not handled, so that the
// same message can come again. Source: Linux arch/x86/kvm/svm/sev.c (snp_handle_guest_req, snp_handle_ext_guest_req).

using System;
using System.Buffers.Binary;
using System.IO;
using Svsm.Simulator.Shared;

namespace Svsm.Simulator;

internal sealed class GuestRequestService
{
    private const ulong InvalidLength = 1ul << 32;

    private readonly GuestMessages _messages;
    private readonly Func<SimulatedChip> _chip;

    public GuestRequestService(GuestMessages messages, Func<SimulatedChip> chip)
    {
        _messages = messages;
        _chip = chip;
    }

    // The payload of a GuestRequest frame, whose length was checked, to the bytes of the answering frames.
    public byte[] Answer(ReadOnlySpan<byte> payload)
    {
        uint room = BinaryPrimitives.ReadUInt32LittleEndian(payload);
        ReadOnlySpan<byte> request = payload[Link.GuestRequestHeaderLength..];
        byte[] certificates = room == Link.NoCertificates ? [] : CertificateTable.Make(_chip());
        int pageCount = certificates.Length / SecurityProcessor.PageSize;
        using var answer = new MemoryStream();
        if (room < pageCount)
        {
            WriteResponse(answer, InvalidLength, (uint)pageCount, []);
            return answer.ToArray();
        }

        FirmwareStatus status = _messages.Handle(request, out byte[] response);
        for (int i = 0; i < pageCount; i++)
        {
            WriteFrame(answer, LinkFrame.Certificates, certificates.AsSpan(i * SecurityProcessor.PageSize, SecurityProcessor.PageSize));
        }

        WriteResponse(answer, (uint)status, 0, response);
        return answer.ToArray();
    }

    private static void WriteResponse(MemoryStream answer, ulong exitInfo2, uint pagesNeeded, ReadOnlySpan<byte> message)
    {
        byte[] payload = new byte[Link.GuestResponseHeaderLength + message.Length];
        BinaryPrimitives.WriteUInt64LittleEndian(payload, exitInfo2);
        BinaryPrimitives.WriteUInt32LittleEndian(payload.AsSpan(8), pagesNeeded);
        message.CopyTo(payload.AsSpan(Link.GuestResponseHeaderLength));
        WriteFrame(answer, LinkFrame.GuestResponse, payload);
    }

    // A frame of the link.
    public static byte[] Frame(LinkFrame type, ReadOnlySpan<byte> payload) => [Link.Start, (byte)type, (byte)payload.Length, (byte)(payload.Length >> 8), .. payload];

    private static void WriteFrame(MemoryStream answer, LinkFrame type, ReadOnlySpan<byte> payload) => answer.Write(Frame(type, payload));
}
