// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Generic;
using System.Linq;
using Svsm.Simulator.Shared;
using Xunit;

namespace Svsm.Simulator.Tests;

public sealed class GuestRequestServiceTests
{
    [Fact]
    public void Answer_WithoutCertificates_IsOneFrame()
    {
        List<(LinkFrame Type, byte[] Payload)> frames = Answer(Service(), Link.NoCertificates, TestMessage.Seal(17, 1, new byte[128]));

        (LinkFrame type, byte[] payload) = Assert.Single(frames);
        Assert.Equal(LinkFrame.GuestResponse, type);
        Assert.Equal(new byte[16], payload[..16]);
        TestMessage.Open(payload[16..], 18, 2);
    }

    [Fact]
    public void Answer_Refusal_HasFirmwareStatusAndNoMessage()
    {
        (LinkFrame _, byte[] payload) = Assert.Single(Answer(Service(), Link.NoCertificates, new byte[4096]));

        Assert.Equal((byte[])[0x16, .. new byte[15]], payload);
    }

    [Fact]
    public void Answer_TooLittleRoom_TellsPagesAndUsesNoNumber()
    {
        byte[] request = TestMessage.Seal(5, 1, TestMessage.ReportRequest());
        GuestRequestService service = Service();
        byte[] table = CertificateTable.Make(TestChip.Instance);
        uint pages = (uint)table.Length / 4096;

        (LinkFrame type, byte[] payload) = Assert.Single(Answer(service, pages - 1, request));
        List<(LinkFrame Type, byte[] Payload)> frames = Answer(service, pages + 1, request);

        Assert.Equal(LinkFrame.GuestResponse, type);
        Assert.Equal((byte[])[0, 0, 0, 0, 1, 0, 0, 0, (byte)pages, 0, 0, 0, 0, 0, 0, 0], payload);
        Assert.All(frames[..^1], frame => Assert.Equal(LinkFrame.Certificates, frame.Type));
        Assert.Equal(table, frames[..^1].SelectMany(frame => frame.Payload));
        Assert.Equal(new byte[16], frames[^1].Payload[..16]);
        TestMessage.Open(frames[^1].Payload[16..], 6, 2);
    }

    private static GuestRequestService Service()
    {
        static SimulatedChip Chip() => TestChip.Instance;
        return new GuestRequestService(new GuestMessages(TestMessage.Guest(), Chip, 2), Chip);
    }

    private static List<(LinkFrame Type, byte[] Payload)> Answer(GuestRequestService service, uint room, byte[] page)
    {
        var frames = new List<(LinkFrame, byte[])>();
        var reader = new LinkReader((type, payload) => frames.Add((type, payload.ToArray())));
        reader.Push(service.Answer([.. BitConverter.GetBytes((ulong)room), .. page]));
        Assert.True(reader.AtFrameBoundary);
        return frames;
    }
}
