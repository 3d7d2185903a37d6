// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Modules that ask each other as the store, its users and the one that attests do, and say what they were asked.

using System;
using System.Diagnostics;
using Svsm.Core;
using Svsm.Wire;

namespace Svsm.TestModule;

/// <summary>In the place of a module with a part of the store.</summary>
[SvsmProtocol(0x8000_0005)]
public sealed class AskingModule : SvsmModule
{
    /// <summary>Sends a request of RCX bytes of RDX; R9: the length of the answer, and the sum of its bytes above bit 32. InvalidRequest: there is none.</summary>
    public const uint Ask = 1;

    private ulong _atStart;

    // Who is asked is there already.
    protected override void Start() => _atStart = Send(3, 1)?.R9 ?? 0;

    protected override SvsmResult Handle(in SvsmRequest request) => request.Call switch
    {
        0 => new SvsmResult(SvsmResultCode.Success) { R9 = _atStart },
        Ask => Send((int)request.Rcx, (byte)request.Rdx) ?? SvsmResultCode.InvalidRequest,
        _ => SvsmResultCode.UnsupportedCall,
    };

    private SvsmResult? Send(int length, byte filler)
    {
        byte[] request = new byte[length];
        Array.Fill(request, filler);
        if (Peers.Ask(ModuleMessageKind.Store, request, out byte[] answer) != PeerResult.Answered)
        {
            return null;
        }

        ulong sum = 0;
        foreach (byte part in answer)
        {
            sum += part;
        }

        return new SvsmResult(SvsmResultCode.Success) { R9 = (uint)answer.Length | (sum << 32) };
    }
}

/// <summary>
/// In the place of the module that keeps the store: answers with what it was asked, each byte and that of a key added. A request that begins with
/// <see cref="Fail"/> makes it fail, one with <see cref="Wait"/> takes 5 ms.
/// </summary>
[SvsmProtocol(0x8000_0006)]
public sealed class KeepingModule : SvsmModule
{
    /// <summary>First byte of a request over which it fails.</summary>
    public const byte Fail = 0xFA;

    /// <summary>The quota that the image gives whoever asks.</summary>
    public const long Quota = 0x1234;

    /// <summary>First byte of a request that takes its time.</summary>
    public const byte Wait = 0xAA;

    protected override SvsmResult Handle(in SvsmRequest request) => SvsmResultCode.Success;

    protected override bool TryServe(in PeerRequest request, out ReadOnlyMemory<byte> answer)
    {
        answer = default;
        if (request.Kind != ModuleMessageKind.Store || request.Protocol != 0x8000_0005 || request.StoreQuota != Quota || Peers.Ask(ModuleMessageKind.Key, [7], out byte[] key) != PeerResult.Answered)
        {
            return false;
        }

        byte first = request.Contents.IsEmpty ? (byte)0 : request.Contents.Span[0];
        if (first == Fail)
        {
            throw new NotSupportedException("as asked");
        }

        for (long start = Stopwatch.GetTimestamp(); first == Wait && Stopwatch.GetElapsedTime(start).TotalMilliseconds < 5;)
        {
        }

        byte[] bytes = request.Contents.ToArray();
        for (int i = 0; i < bytes.Length; i++)
        {
            bytes[i] += key[0];
        }

        answer = bytes;
        return true;
    }
}

/// <summary>In the place of the module that attests: a key is the first byte of the request, and 1.</summary>
[SvsmProtocol(0x8000_0007)]
public sealed class KeyModule : SvsmModule
{
    protected override SvsmResult Handle(in SvsmRequest request) => SvsmResultCode.UnsupportedCall;

    protected override bool TryServe(in PeerRequest request, out ReadOnlyMemory<byte> answer)
    {
        answer = new[] { (byte)(request.Contents.Span[0] + 1) };
        return request.Kind == ModuleMessageKind.Key;
    }
}
