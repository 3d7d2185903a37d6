// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The channel of a process: read, write, pread and pwrite of its descriptors, called directly. The class library's files and console are not
// used for it: they need more of an operating system than a module has.

using System;
using System.IO;
using System.Runtime.InteropServices;
using System.Security.Cryptography;
using System.Text;
using Svsm.Wire;

namespace Svsm.Core;

/// <summary>The ends of the channel that a process has.</summary>
internal sealed class DescriptorChannel
{
    private readonly byte[] _request = new byte[ModuleMessage.Length];

    public GuestMemory Guest { get; } = new DescriptorMemory();

    public ModuleLog Log { get; } = new DescriptorLog();

    public bool IsBroken { get; private set; }

    public bool TryReceive(out ModuleMessage request, out byte[] payload)
    {
        payload = [];
        request = default;
        if (!TryFill(_request, isFirst: true))
        {
            return false;
        }

        request = MemoryMarshal.Read<ModuleMessage>(_request);
        if (request.PayloadSize > ModuleMessage.MaxPayload)
        {
            IsBroken = true;
            return false;
        }

        payload = new byte[request.PayloadSize];
        return TryFill(payload, isFirst: false);
    }

    // The end of the requests comes before the first byte of one.
    private bool TryFill(Span<byte> rest, bool isFirst)
    {
        while (!rest.IsEmpty)
        {
            nint count = Descriptor.Read(ModuleDescriptor.Requests, rest);
            if (count <= 0)
            {
                IsBroken = count < 0 || !isFirst;
                return false;
            }

            isFirst = false;
            rest = rest[(int)count..];
        }

        return true;
    }

    // Head and payload in one write where it fits, so that a short answer is one system call.
    public static void Send(in ModuleMessage answer, ReadOnlySpan<byte> payload)
    {
        byte[] message = new byte[ModuleMessage.Length + payload.Length];
        MemoryMarshal.Write(message, in answer);
        payload.CopyTo(message.AsSpan(ModuleMessage.Length));
        ReadOnlySpan<byte> rest = message;
        while (!rest.IsEmpty)
        {
            nint count = Descriptor.Write(ModuleDescriptor.Answers, rest);
            if (count <= 0)
            {
                throw new IOException($"an answer of {message.Length} bytes was not taken; {rest.Length} are left");
            }

            rest = rest[(int)count..];
        }

        // It may be an answer to another module, with a key in it.
        CryptographicOperations.ZeroMemory(message);
    }

    private sealed class DescriptorMemory : GuestMemory
    {
        private protected override bool TryReadCore(PhysicalAddress address, Span<byte> destination) =>
            Descriptor.ReadAt(ModuleDescriptor.GuestMemory, destination, (long)address.Value) == destination.Length;

        private protected override bool TryWriteCore(PhysicalAddress address, ReadOnlySpan<byte> source) =>
            Descriptor.WriteAt(ModuleDescriptor.GuestMemory, source, (long)address.Value) == source.Length;
    }

    private sealed class DescriptorLog : ModuleLog
    {
        private protected override void WriteCore(ModuleLogLevel level, string line)
        {
            Span<byte> bytes = stackalloc byte[MaxLength + 4];
            bytes[0] = (byte)'<';
            bytes[1] = (byte)('0' + (int)level);
            bytes[2] = (byte)'>';
            int length = 3 + Encoding.ASCII.GetBytes(line, bytes[3..]);
            bytes[length++] = (byte)'\n';

            // A log that is full or closed is no reason to fail.
            _ = Descriptor.Write(ModuleDescriptor.Log, bytes[..length]);
        }
    }
}
