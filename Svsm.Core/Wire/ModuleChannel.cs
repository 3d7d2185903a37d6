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
//   6     security        pread, pwrite: guest messages under the key of VMPL0, at the offsets of SecurityProcessorOffset
//         processor
//   7     services        pread: which services there are, and their manifests, at the offsets of ServiceOffset
//   8     store           pwrite, at 0: a request to the module that keeps the store; pread, at 0: its answer
//   9     keys            pwrite, at 0: a request to the module that attests, for a key of the security processor; pread, at 0: its answer
//   10    disks           pread, pwrite: registers of the SVSM's disks, and memory that they reach, at the offsets of DiskOffset
//   11    move            pread, pwrite: what there is to move of the guest, at the offsets of MoveOffset
//
// 6 and 7 are those of the one module that may attest, 8 of those that may store, 9 and 10 of the one that keeps the store, 9, 10 and 11 of the one that
// moves the guest, for which 10 is its channel; EPERM for the others.
//
// One request at a time: it is read, worked on, answered. A message is 64 bytes, little-endian, and PayloadSize bytes follow it: requests of other
// modules and Restore have such, and so have answers to other modules, to Manifest and to Save. An answer has the kind and the sequence number of its
// request. Anything else on the channel is a defect of the module, and its host ends it.
//
// A guest that moves to another SVSM takes the states of its modules with it (docs/migration-protocol.md). States are longer than a payload, so
// they go in parts:
//
//   Save      in: Rcx offset of the part, or ModuleMessage.VersionOnly
//             out: Result; Call version of the state; Rdx bytes of all of it; payload: the part, as much as there is and fits
//             Offset 0 makes the state; the module's process keeps it until its last byte was read, offset 0 is asked for again, or something else
//             but a request of another module comes. So parts are asked for from 0 on, and again before the last one was.
//             VersionOnly makes none and has no payload, Rdx is 0: version 0 says that the module cannot move.
//             InvalidParameter: the module cannot move (offset 0), or there is no such part. Version and bytes are 0 then.
//   Restore   in: Call version; Rcx offset of the part; Rdx bytes of all of it, at most ModuleMessage.MaxState; payload: the part, only of an empty
//             state empty
//             out: Result
//             In a process that has had no call of a guest yet. Parts come in order, from 0; the last one gives the state to the module.
//             InvalidParameter: the module does not take it, or it is not the part that is due; what came is forgotten. InvalidRequest: the process
//             has had a call, or a state, already. A process whose module did not take a state is of no use to the guest: it may have some of it.
//   Leave     out: Result; InvalidRequest: the module cannot say that it is not used here without the guest.
//   Arrive    out: Result; InvalidRequest: the module cannot take that back. May come again.

using System;
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

    /// <summary>Messages to the security processor: <see cref="SecurityProcessorOffset"/>.</summary>
    public const int SecurityProcessor = 6;

    /// <summary>Manifests of the services: <see cref="ServiceOffset"/>.</summary>
    public const int Services = 7;

    /// <summary>
    /// The store: a write is a request, of at most <see cref="ModuleMessage.MaxPayload"/> bytes, and drops the one before; a read waits for its answer, all of
    /// it at once. ENOENT: the image has no such module; EIO: it failed, or does not run; EINVAL: there was no request, or the buffer is too small.
    /// </summary>
    public const int Store = 8;

    /// <summary>Keys of the security processor, for the module that keeps the store: as <see cref="Store"/>, answered by the module that attests.</summary>
    public const int Keys = 9;

    /// <summary>
    /// The SVSM's disks: <see cref="DiskOffset"/>. For the module that moves the guest its channel: <see cref="DiskOffset.SourceChannel"/> in place of disk 0,
    /// <see cref="DiskOffset.TargetChannel"/> in place of disk 1, no others, and memory of its own.
    /// </summary>
    public const int Disks = 10;

    /// <summary>What there is to move of the guest: <see cref="MoveOffset"/>.</summary>
    public const int Move = 11;

    /// <summary>Most bytes that one call copies.</summary>
    public const int MaxTransfer = 0x10_0000;
}

/// <summary>
/// Offsets of <see cref="ModuleDescriptor.SecurityProcessor"/>. What is there outlives the process: whoever is started after it sees which numbers
/// are used, and which request is under way.
/// </summary>
/// <remarks>
/// A write of a request is EAGAIN while the host is busy: the same bytes are to be written again, and nothing else is taken. It is EINVAL if the
/// page is no request with the number that is due, or has other bytes than the one under way; EIO if the host refused, with which the key is lost;
/// ENOKEY if it was before.
/// </remarks>
public static class SecurityProcessorOffset
{
    /// <summary>Read: a <see cref="SecurityProcessorState"/>.</summary>
    public const int State = 0;

    /// <summary>Write, a page: sends a request. Read: the request that was sent last, zero before the first one.</summary>
    public const int Request = 0x1000;

    /// <summary>Write, a page: sends a request, and asks the host for certificates as well.</summary>
    public const int ExtendedRequest = 0x2000;

    /// <summary>Read: the page of the last answer, as it came; zero if there is none.</summary>
    public const int Response = 0x3000;

    /// <summary>Write, any byte: gives up the key, for the life of the VM.</summary>
    public const int Wipe = 0x4000;

    /// <summary>Read: the certificates that came with the last answer, from the host, as they came.</summary>
    public const int Certificates = 0x8000;

    /// <summary>Most bytes of certificates.</summary>
    public const int MaxCertificates = 0x4000;
}

/// <summary>What the security processor's key is good for.</summary>
[Flags]
public enum SecurityProcessorFlags : uint
{
    /// <summary>Nothing: the key is gone.</summary>
    None = 0,

    /// <summary>There is a key.</summary>
    HasKey = 1,

    /// <summary>A request was sent and has no answer yet: its bytes are the only ones that may be sent.</summary>
    InFlight = 2,
}

/// <summary>Where the messages to the security processor are.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 8, Size = Length)]
public struct SecurityProcessorState
{
    /// <summary>Bytes of it.</summary>
    public const int Length = 64;

    /// <summary>The key of VMPL0, for AES-256-GCM; zero if it is gone.</summary>
    [Secret]
    public Bytes32 Key;

    /// <summary>Number of the request that is due, from 1; its answer has the next one. With a request in flight: that of it.</summary>
    public ulong Sequence;

    /// <summary>The state of key and request.</summary>
    public SecurityProcessorFlags Flags;

    /// <summary>Bytes at <see cref="SecurityProcessorOffset.Certificates"/>, whole pages; 0: none came.</summary>
    public uint CertificateLength;
}

/// <summary>Offsets of <see cref="ModuleDescriptor.Services"/>.</summary>
public static class ServiceOffset
{
    /// <summary>Read: a <see cref="ServiceEntry"/> for each service whose module runs.</summary>
    public const long List = 1L << 62;

    /// <summary>
    /// Read, all of it at once: the manifest of a service. ENOENT: there is no such service or version; EINVAL: the buffer is too small; EIO: its
    /// module failed.
    /// </summary>
    /// <param name="index"><see cref="ServiceEntry.Index"/>.</param>
    /// <param name="version">The version of the manifest.</param>
    public static long Manifest(uint index, uint version) => ((long)index << 32) | version;
}

/// <summary>A service of a module.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 8, Size = Length)]
public struct ServiceEntry
{
    /// <summary>Bytes of it.</summary>
    public const int Length = 32;

    /// <summary>Its GUID, in the byte order of UEFI.</summary>
    public Bytes16 Service;

    /// <summary>Index of the module.</summary>
    public uint Index;

    /// <summary>The protocol that the module serves.</summary>
    public SvsmProtocol Protocol;
}

/// <summary>
/// Offsets of <see cref="ModuleDescriptor.Disks"/>. What is read there is the host's word: registers, and memory, which the host may change at any time.
/// EIO: the host does not do it. EINVAL: another offset or length.
/// </summary>
public static class DiskOffset
{
    /// <summary>Most disks.</summary>
    public const int MaxDisks = 4;

    /// <summary>Where, counted in disks, the registers of a channel of migrations are, in a VM with a guest of its own. A virtio console.</summary>
    public const int SourceChannel = 4;

    /// <summary>The same in a VM that was launched to get a guest.</summary>
    public const int TargetChannel = 5;

    /// <summary>Channels of migrations.</summary>
    public const int MaxChannels = 2;

    /// <summary>Bytes of registers of a disk. Where there is none, registers read all ones.</summary>
    public const int RegistersLength = 0x1000;

    /// <summary>
    /// Guest-physical address of the registers of disk 0, those of the others behind them: virtio-mmio, version 2. Images and hosts agree on it; the image is
    /// measured with it, so no word of the host leads the SVSM anywhere else.
    /// </summary>
    public const ulong RegistersBase = 0xFEF0_0000;

    /// <summary>Registers: 4 bytes at a multiple of 4, for all disks one behind the other.</summary>
    public const int Registers = 0;

    /// <summary>Memory shared with the host, <see cref="MemoryLength"/> bytes: for queues and data of all disks.</summary>
    public const int Memory = 0x10_0000;

    /// <summary>Bytes of shared memory.</summary>
    public const int MemoryLength = 0x1_0000;

    /// <summary>Read, 8 bytes: the guest-physical address of the memory.</summary>
    public const int MemoryAddress = 0x20_0000;
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

    /// <summary>A request to the store, from the module with the protocol <see cref="ModuleMessage.Rcx"/> and the quota <see cref="ModuleMessage.Rdx"/>: the kernel's word.</summary>
    Store = 4,

    /// <summary>A request for a key of the security processor, or a report of it, from the module that keeps the store, or the one that moves the guest.</summary>
    Key = 5,

    /// <summary>The guest is stopped, and moves: a part of what the module has of it, or which version that is of.</summary>
    Save = 6,

    /// <summary>The guest comes from another SVSM: a part of what the module had of it there.</summary>
    Restore = 7,

    /// <summary>
    /// The guest is not here: everything of it is at the other SVSM, or it is about to come from there. What the module keeps elsewhere is not to be used until
    /// <see cref="Arrive"/>, not even by a VM that is started anew.
    /// </summary>
    Leave = 8,

    /// <summary>
    /// To the module that moves the guest: its channel has something, or its time has come. It works for a while, and answers in <see cref="ModuleMessage.Rcx"/>
    /// after how many milliseconds it wants to be asked again; 0: at once; all ones: when there is something.
    /// </summary>
    Work = 9,

    /// <summary>The guest is here, and about to run: it has come, or stays after all. Takes <see cref="Leave"/> back.</summary>
    Arrive = 10,
}

/// <summary>A message in either direction.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 8, Size = Length)]
public struct ModuleMessage
{
    /// <summary>Bytes of a message.</summary>
    public const int Length = 64;

    /// <summary>The largest payload in bytes.</summary>
    public const int MaxPayload = 0x1_0000;

    /// <summary>The largest state of a module in bytes: 1 MiB.</summary>
    public const int MaxState = 0x10_0000;

    /// <summary>Offset of a <see cref="ModuleMessageKind.Save"/> that only asks for the version of the state.</summary>
    public const ulong VersionOnly = ulong.MaxValue;

    /// <summary>What is wanted, or answered.</summary>
    public ModuleMessageKind Kind;

    /// <summary>Bytes that follow.</summary>
    public uint PayloadSize;

    /// <summary>Number of the request, from 1; the answer repeats it.</summary>
    public ulong Sequence;

    /// <summary>The calling vCPU, from 0.</summary>
    public uint Vcpu;

    /// <summary>
    /// RAX bits 31:0 of the guest: the call's number. For <see cref="ModuleMessageKind.Manifest"/> the version of the manifest, for states that of the state.
    /// </summary>
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
