// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The service channel of a module's process: what its descriptors are, and the messages on them. For the kernel (one end), for Svsm.Core
// (the other end) and for whoever runs a module as an ordinary process.
//
// A process has nothing but descriptors:
//
//   1, 2  log             write: UTF-8 text, a line each; "<n>" in front is the level (ModuleLogLevel)
//   3     requests        read: the next request, when there is one; end of file: the module is to end
//   4     answers         write: the answer to the request that was read last
//   5     guest memory    pread, pwrite: copies at a guest-physical address; EFAULT where the guest has no right to the page itself
//
// One request at a time: it is read, worked on, answered. A message is 64 bytes, little-endian; the answer to Manifest is followed by
// PayloadSize bytes, written with it or after it. An answer has the kind and the sequence number of its request. Anything else on the
// channel is a defect of the module, and its host ends it.

using System.Runtime.InteropServices;

namespace Svsm.Wire;

/// <summary>File descriptors of a module's process.</summary>
public static class ModuleDescriptor
{
    /// <summary>Output of the class library's console: a log line without a level.</summary>
    public const int Console = 1;

    /// <summary>The log.</summary>
    public const int Log = 2;

    /// <summary>Requests, to read.</summary>
    public const int Requests = 3;

    /// <summary>Answers, to write.</summary>
    public const int Answers = 4;

    /// <summary>Guest memory, to read and write at offsets that are guest-physical addresses.</summary>
    public const int GuestMemory = 5;

    /// <summary>Most bytes that one call copies.</summary>
    public const int MaxTransfer = 0x10_0000;
}

/// <summary>What a request wants.</summary>
public enum ModuleMessageKind : uint
{
    /// <summary>A call of the guest.</summary>
    Call = 1,

    /// <summary>The attestation manifest: <see cref="ModuleMessage.Call"/> is the version asked for.</summary>
    Manifest = 2,

    /// <summary>The guest starts anew: what was kept for it is to be forgotten.</summary>
    Reset = 3,
}

/// <summary>A message in either direction.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 8, Size = Length)]
public struct ModuleMessage
{
    /// <summary>Bytes of a message.</summary>
    public const int Length = 64;

    /// <summary>The largest payload of an answer in bytes.</summary>
    public const int MaxPayload = 0x1_0000;

    /// <summary>What is wanted, or answered.</summary>
    public ModuleMessageKind Kind;

    /// <summary>Bytes that follow an answer; 0 in a request.</summary>
    public uint PayloadSize;

    /// <summary>Number of the request, from 1; the answer repeats it.</summary>
    public ulong Sequence;

    /// <summary>The calling vCPU, from 0.</summary>
    public uint Vcpu;

    /// <summary>RAX bits 31:0 of the guest: the call's number. For <see cref="ModuleMessageKind.Manifest"/> the version of the manifest.</summary>
    public uint Call;

    /// <summary>In an answer: RAX of the guest, an <see cref="SvsmResultCode"/>.</summary>
    public ulong Result;

    /// <summary>RCX of the guest; in an answer what it gets.</summary>
    public ulong Rcx;

    /// <summary>RDX of the guest; in an answer what it gets.</summary>
    public ulong Rdx;

    /// <summary>R8 of the guest; in an answer what it gets.</summary>
    public ulong R8;

    /// <summary>R9 of the guest; in an answer what it gets.</summary>
    public ulong R9;
}
