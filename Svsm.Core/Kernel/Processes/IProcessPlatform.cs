// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The seam between what system calls decide and what they act on, so that they are tested on any machine. The kernel's implementation is
// ProcessPlatform.cs.

using System;
using Svsm.Kernel.Guest;
using Svsm.Kernel.Modules;
using Svsm.Kernel.Snp;
using Svsm.Wire;

namespace Svsm.Kernel.Processes;

/// <summary>How far a request to another module is.</summary>
internal enum InternalState : byte
{
    /// <summary>The other module works on it.</summary>
    Pending,

    /// <summary>It is there.</summary>
    Ready,

    /// <summary>There is no such module or version, or no request.</summary>
    NotFound,

    /// <summary>The module failed, or there is no memory.</summary>
    Failed,
}

/// <summary>What a process reaches through the kernel.</summary>
internal interface IProcessPlatform : IProcessFrames, IGuestMessagePort
{
    /// <summary>The archive of modules; nobody changes it.</summary>
    ReadOnlySpan<byte> Archive { get; }

    /// <summary>Nanoseconds since some moment; grows.</summary>
    ulong Now { get; }

    /// <summary>Copies memory of the guest.</summary>
    /// <param name="address">Guest-physical address; with the length in one page. Untrusted otherwise.</param>
    /// <param name="destination">Gets it; any contents after a failure.</param>
    /// <returns>False: the guest has no right to the page itself, or the page is gone.</returns>
    bool TryReadGuest(ulong address, Span<byte> destination);

    /// <summary>Copies into memory of the guest.</summary>
    /// <param name="address">As in <see cref="TryReadGuest"/>.</param>
    /// <param name="source">What to write; nothing: whether it could be written.</param>
    /// <returns>As in <see cref="TryReadGuest"/>; a part may have been written.</returns>
    bool TryWriteGuest(ulong address, ReadOnlySpan<byte> source);

    /// <summary>Draws random bytes: <see cref="Entropy"/>.</summary>
    bool TryDraw(Span<byte> destination);

    /// <summary>What CPUID shows to processes.</summary>
    CpuidValues Cpuid(uint function, uint index);

    /// <summary>The messages to the security processor. For the process of the module that attests.</summary>
    ref GuestMessages Messages { get; }

    /// <summary>Lists the services whose modules run.</summary>
    /// <param name="module">Index of the module that asks, which is not listed.</param>
    /// <param name="entries">Gets them: room for <see cref="ArchiveHeader.MaxModules"/>.</param>
    /// <returns>How many there are.</returns>
    int ListServices(int module, Span<ServiceEntry> entries);

    /// <summary>Asks a module for its manifest. For the process of the module that attests.</summary>
    /// <param name="asking">Index of the module that asks.</param>
    /// <param name="module">Index of the module that is asked. Untrusted.</param>
    /// <param name="version">The version.</param>
    /// <param name="manifest">The manifest, if it is there; until <see cref="EndRequest"/>.</param>
    /// <returns>Whether it is there. While it is pending, the same is to be asked again.</returns>
    InternalState AskManifest(int asking, uint module, uint version, out ReadOnlySpan<byte> manifest);

    /// <summary>Gives room for a request to another module, in place of the one before.</summary>
    /// <param name="asking">Index of the module that asks.</param>
    /// <param name="kind"><see cref="ModuleMessageKind.Store"/> or <see cref="ModuleMessageKind.Key"/>.</param>
    /// <param name="length">Bytes, at most <see cref="ModuleMessage.MaxPayload"/>.</param>
    /// <param name="room">Where to; until <see cref="SendRequest"/> or <see cref="EndRequest"/>.</param>
    /// <returns>False: there is no memory.</returns>
    bool TryBeginRequest(int asking, ModuleMessageKind kind, int length, out Span<byte> room);

    /// <summary>Sends the request that <see cref="TryBeginRequest"/> gave room for.</summary>
    /// <returns>Pending: it is sent. NotFound: the image has nobody to answer it. Failed: that module does not run.</returns>
    InternalState SendRequest(int asking);

    /// <summary>Gives room for what follows the answer of a module to another one.</summary>
    /// <param name="module">Index of the module that answers.</param>
    /// <param name="length">Bytes, 1 to <see cref="ModuleMessage.MaxPayload"/>.</param>
    /// <param name="room">Where to; until the answer is there or the process is over.</param>
    /// <returns>False: there is no memory.</returns>
    unsafe bool TryBeginAnswer(int module, int length, out byte* room);

    /// <summary>Says how far the request is.</summary>
    /// <param name="asking">Index of the module that asks.</param>
    /// <param name="kind">What it wanted.</param>
    /// <param name="answer">The answer, if it is there; until <see cref="EndRequest"/>.</param>
    InternalState AwaitAnswer(int asking, ModuleMessageKind kind, out ReadOnlySpan<byte> answer);

    /// <summary>Forgets a request, and its answer.</summary>
    void EndRequest(int asking);

    /// <summary>Memory that the SVSM's devices reach, and the host.</summary>
    /// <param name="driver">Permissions of the process: to keep the store, or to move the guest.</param>
    Span<byte> DeviceMemory(ModulePermissions driver);

    /// <summary>Guest-physical address of <see cref="DeviceMemory"/>.</summary>
    ulong DeviceMemoryAddress(ModulePermissions driver);

    /// <summary>Sends the request that <see cref="TryBeginRequest"/> gave room for to one module. For the process of the module that moves the guest.</summary>
    /// <param name="asking">Index of the module that asks.</param>
    /// <param name="module">Index of the other one. Untrusted.</param>
    /// <param name="request">Fields of the message.</param>
    /// <returns>As <see cref="SendRequest"/>.</returns>
    InternalState SendRequestTo(int asking, int module, in MoveRequest request);

    /// <summary>Fields of the answer to it, which is ready.</summary>
    MoveRequest AnswerFields(int asking);

    /// <summary>Reads a part of what there is to move. For the process of the module that moves the guest.</summary>
    /// <param name="area">What.</param>
    /// <param name="where">Where. Untrusted.</param>
    /// <param name="bytes">Gets it: at most a page.</param>
    /// <param name="count">How many bytes there are.</param>
    MoveResult ReadMove(MoveArea area, ulong where, Span<byte> bytes, out int count);

    /// <summary>Writes a part of it.</summary>
    /// <param name="area">What.</param>
    /// <param name="where">Where. Untrusted.</param>
    /// <param name="bytes">The bytes: at most a page. Untrusted.</param>
    /// <param name="asking">Index of the module that writes.</param>
    MoveResult WriteMove(MoveArea area, ulong where, ReadOnlySpan<byte> bytes, int asking);

    /// <summary>Reads or writes a register of the SVSM's devices.</summary>
    /// <param name="register">Its offset: below the registers of all devices, a multiple of 4.</param>
    /// <param name="isWrite">Writes <paramref name="value"/>.</param>
    /// <param name="value">The value; gets it, from the host.</param>
    /// <returns>False: the host did not do it.</returns>
    bool TryAccessDevice(uint register, bool isWrite, ref uint value);

    /// <summary>Writes a line of a module to the log.</summary>
    /// <param name="module">Index of the module.</param>
    /// <param name="level">How important it is.</param>
    /// <param name="line">The line, from the module: any bytes.</param>
    void Log(int module, LogLevel level, ReadOnlySpan<byte> line);
}
