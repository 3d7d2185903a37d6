// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Buffers.Binary;
using System.Runtime.InteropServices;
using System.Text;
using Svsm.Simulator.Shared;

namespace Svsm.Simulator.Tests;

/// <summary>Frames as the hypervisor writes them.</summary>
internal static class Frames
{
    public static byte[] Hello { get; } = Frame(LinkFrame.Hello, BitConverter.GetBytes(Link.Version));

    public static byte[] Frame(LinkFrame type, ReadOnlySpan<byte> payload) =>
        [Link.Start, (byte)type, (byte)payload.Length, (byte)(payload.Length >> 8), .. payload];

    public static byte[] Console(int vcpu, int vmpl, string text) => Frame(LinkFrame.Console, [(byte)vcpu, 0, (byte)vmpl, 0, .. Encoding.UTF8.GetBytes(text)]);

    public static byte[] Log(string text) => Frame(LinkFrame.Log, Encoding.UTF8.GetBytes(text));

    public static byte[] Report(StopReport report) => Frame(LinkFrame.Report, MemoryMarshal.AsBytes(new ReadOnlySpan<StopReport>(in report)));

    public static byte[] Statistics(params VmplStatistics[] entries) => Frame(LinkFrame.Statistics, MemoryMarshal.AsBytes(entries.AsSpan()));

    public static byte[] Map(params RmpRange[] ranges) => Frame(LinkFrame.RmpMap, MemoryMarshal.AsBytes(ranges.AsSpan()));

    public static byte[] Events(params EventCount[] entries) => Frame(LinkFrame.EventCounts, MemoryMarshal.AsBytes(entries.AsSpan()));

    public static byte[] GuestRequest(uint room, byte[] page) => Frame(LinkFrame.GuestRequest, [.. BitConverter.GetBytes((ulong)room), .. page]);

    public static byte[] Exit(StopReason reason, ulong detail)
    {
        byte[] payload = new byte[16];
        BinaryPrimitives.WriteUInt32LittleEndian(payload, (uint)reason);
        BinaryPrimitives.WriteUInt64LittleEndian(payload.AsSpan(8), detail);
        return Frame(LinkFrame.Exit, payload);
    }
}
