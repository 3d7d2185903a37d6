// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The channel of a process: read, write, pread and pwrite of its descriptors, called directly. The class library's files and console are not
// used for it: they need more of an operating system than a module has.

using System;
using System.IO;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Text;
using Svsm.Wire;

namespace Svsm.Core;

/// <summary>The ends of the channel that a process has.</summary>
internal sealed partial class DescriptorChannel
{
    private readonly byte[] _request = new byte[ModuleMessage.Length];

    public GuestMemory Guest { get; } = new DescriptorMemory();

    public ModuleLog Log { get; } = new DescriptorLog();

    public bool IsBroken { get; private set; }

    public bool TryReceive(out ModuleMessage request)
    {
        int length = 0;
        while (length < _request.Length)
        {
            nint count = Native.Read(ModuleDescriptor.Requests, _request.AsSpan(length));
            if (count <= 0)
            {
                IsBroken = count < 0 || length != 0;
                request = default;
                return false;
            }

            length += (int)count;
        }

        request = MemoryMarshal.Read<ModuleMessage>(_request);
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
            nint count = Native.Write(ModuleDescriptor.Answers, rest);
            if (count <= 0)
            {
                throw new IOException($"an answer of {message.Length} bytes was not taken; {rest.Length} are left");
            }

            rest = rest[(int)count..];
        }
    }

    private sealed class DescriptorMemory : GuestMemory
    {
        private protected override bool TryReadCore(PhysicalAddress address, Span<byte> destination) =>
            Native.ReadAt(ModuleDescriptor.GuestMemory, destination, (long)address.Value) == destination.Length;

        private protected override bool TryWriteCore(PhysicalAddress address, ReadOnlySpan<byte> source) =>
            Native.WriteAt(ModuleDescriptor.GuestMemory, source, (long)address.Value) == source.Length;
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
            _ = Native.Write(ModuleDescriptor.Log, bytes[..length]);
        }
    }

    // The four functions of libc. Linked directly into an image's program (DirectPInvoke), so nothing is looked up at run time.
    private static partial class Native
    {
        public static unsafe nint Read(int descriptor, Span<byte> destination)
        {
            // SAFETY: the buffer is pinned for the call, and its length is given with it.
            fixed (byte* pointer = destination)
            {
                return read(descriptor, pointer, (nuint)destination.Length);
            }
        }

        public static unsafe nint Write(int descriptor, ReadOnlySpan<byte> source)
        {
            // SAFETY: as in Read.
            fixed (byte* pointer = source)
            {
                return write(descriptor, pointer, (nuint)source.Length);
            }
        }

        public static unsafe nint ReadAt(int descriptor, Span<byte> destination, long offset)
        {
            // SAFETY: as in Read.
            fixed (byte* pointer = destination)
            {
                return pread(descriptor, pointer, (nuint)destination.Length, offset);
            }
        }

        public static unsafe nint WriteAt(int descriptor, ReadOnlySpan<byte> source, long offset)
        {
            // SAFETY: as in Read.
            fixed (byte* pointer = source)
            {
                return pwrite(descriptor, pointer, (nuint)source.Length, offset);
            }
        }

        [LibraryImport("libc")]
        private static unsafe partial nint read(int descriptor, byte* buffer, nuint length);

        [LibraryImport("libc")]
        private static unsafe partial nint write(int descriptor, byte* buffer, nuint length);

        [LibraryImport("libc")]
        private static unsafe partial nint pread(int descriptor, byte* buffer, nuint length, long offset);

        [LibraryImport("libc")]
        private static unsafe partial nint pwrite(int descriptor, byte* buffer, nuint length, long offset);
    }
}
