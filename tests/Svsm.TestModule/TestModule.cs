// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using System.Diagnostics;
using System.IO;
using System.Threading;
using Svsm.Core;
using Svsm.Wire;

namespace Svsm.TestModule;

/// <summary>A module with a call for each thing that a module can do.</summary>
[SvsmProtocol(0x8000_0001)]
public sealed class TestModule : SvsmModule
{
    /// <summary>Answers with the registers in reverse order, plus one.</summary>
    public const uint Reverse = 1;

    /// <summary>Adds one to the 32-bit number at RCX.</summary>
    public const uint Increment = 2;

    /// <summary>Copies RDX bytes (at most 64 KiB) from RCX to R8.</summary>
    public const uint Copy = 3;

    /// <summary>Writes the RDX bytes at RCX into the log.</summary>
    public const uint Say = 4;

    /// <summary>Throws.</summary>
    public const uint Throw = 5;

    /// <summary>Has null and zero used as they should not be, and goes on: Success if each was an exception.</summary>
    public const uint Fault = 6;

    /// <summary>Takes memory until there is no more, and goes on: Success if that was an exception.</summary>
    public const uint Exhaust = 7;

    /// <summary>Fails in the way of RCX: <see cref="Misdeed"/>.</summary>
    public const uint Misbehave = 8;

    /// <summary>Computes for RCX milliseconds.</summary>
    public const uint Compute = 9;

    /// <summary>Sleeps for RCX milliseconds.</summary>
    public const uint Sleep = 10;

    /// <summary>Draws random numbers in each way that there is: Success if no two are the same.</summary>
    public const uint Draw = 11;

    /// <summary>Reads the file of the archive at the path of RDX bytes at RCX; RCX: its length, RDX: its first byte.</summary>
    public const uint ReadFile = 12;

    /// <summary>Reads 8 bytes of its own memory at RCX, whatever is there; RCX: what they are.</summary>
    public const uint Peek = 13;

    /// <summary>Keeps RCX bytes of RDX: the state that moves. One byte more than a state may have can be kept.</summary>
    public const uint Keep = 14;

    /// <summary>RCX: how many bytes are kept, RDX: their sum.</summary>
    public const uint Tell = 15;

    // Guests call as often as they like.
    private const int MaxSteps = 100;

    private byte[] _kept = [];

    public List<string> Steps { get; } = [];

    protected override uint StateVersion => 2;

    protected override void Start() => Steps.Add("start");

    protected override SvsmResult Handle(in SvsmRequest request)
    {
        Note($"call {request.Call} of vCPU {request.Vcpu}");
        switch (request.Call)
        {
            case Reverse:
                return new SvsmResult(SvsmResultCode.Success) { Rcx = request.R9 + 1, Rdx = request.R8 + 1, R8 = request.Rdx + 1, R9 = request.Rcx + 1 };

            case Increment:
                var address = new PhysicalAddress(request.Rcx);
                if (!Guest.TryRead(address, out uint number))
                {
                    return SvsmResultCode.InvalidAddress;
                }

                Span<byte> bytes = stackalloc byte[sizeof(uint)];
                BinaryPrimitives.WriteUInt32LittleEndian(bytes, number + 1);
                return Guest.TryWrite(address, bytes) ? SvsmResultCode.Success : SvsmResultCode.InvalidAddress;

            case Copy when request.Rdx <= 0x1_0000:
                byte[] buffer = new byte[request.Rdx];
                return Guest.TryRead(new(request.Rcx), buffer) && Guest.TryWrite(new(request.R8), buffer)
                    ? new SvsmResult(SvsmResultCode.Success) { Rcx = request.Rdx }
                    : SvsmResultCode.InvalidAddress;

            case Say when request.Rdx <= 0x1000:
                byte[] text = new byte[request.Rdx];
                if (!Guest.TryRead(new(request.Rcx), text))
                {
                    return SvsmResultCode.InvalidAddress;
                }

                Log.Information(System.Text.Encoding.Latin1.GetString(text));
                return SvsmResultCode.Success;

            case Throw:
                throw new NotSupportedException("as asked\nfor");

            case Fault:
                return Misdeeds.ThrowsOnFaults() ? SvsmResultCode.Success : SvsmResultCode.InvalidRequest;

            case Exhaust:
                return Misdeeds.ThrowsWhenOutOfMemory() ? SvsmResultCode.Success : SvsmResultCode.InvalidRequest;

            case Misbehave:
                Misdeeds.Commit((Misdeed)request.Rcx);
                return SvsmResultCode.Success;

            case Compute when request.Rcx <= 60_000:
                var watch = Stopwatch.StartNew();
                ulong rounds = 0;
                while (watch.ElapsedMilliseconds < (long)request.Rcx)
                {
                    rounds++;
                }

                return new SvsmResult(SvsmResultCode.Success) { Rcx = rounds };

            case Sleep when request.Rcx <= 60_000:
                Thread.Sleep((int)request.Rcx);
                return SvsmResultCode.Success;

            case Draw:
                return Misdeeds.DrawsDifferentNumbers() ? SvsmResultCode.Success : SvsmResultCode.InvalidRequest;

            case ReadFile when request.Rdx <= 256:
                byte[] path = new byte[request.Rdx];
                return Guest.TryRead(new(request.Rcx), path) ? Read(System.Text.Encoding.UTF8.GetString(path)) : SvsmResultCode.InvalidAddress;

            case Peek:
                return new SvsmResult(SvsmResultCode.Success) { Rcx = Misdeeds.Peek(request.Rcx) };

            case Keep when request.Rcx <= ModuleMessage.MaxState + 1:
                _kept = new byte[request.Rcx];
                Array.Fill(_kept, (byte)request.Rdx);
                return SvsmResultCode.Success;

            case Tell:
                ulong sum = 0;
                foreach (byte kept in _kept)
                {
                    sum += kept;
                }

                return new SvsmResult(SvsmResultCode.Success) { Rcx = (ulong)_kept.Length, Rdx = sum };

            default:
                return SvsmResultCode.UnsupportedCall;
        }
    }

    protected override ReadOnlyMemory<byte> SaveState()
    {
        Note("save");
        return _kept.AsSpan().ToArray();
    }

    // A state of version 1 has no zeroes, one of version 2 any bytes of one value.
    protected override bool TryRestoreState(uint version, ReadOnlyMemory<byte> state)
    {
        Note($"restore {state.Length} bytes of version {version}");
        ReadOnlySpan<byte> bytes = state.Span;
        if (!bytes.IsEmpty && (bytes.ContainsAnyExcept(bytes[0]) || (version == 1 && bytes[0] == 0)))
        {
            return false;
        }

        _kept = bytes.ToArray();
        return true;
    }

    protected override bool TryLeave()
    {
        Note("leave");
        return _kept.Length != 13;
    }

    protected override bool TryArrive()
    {
        Note("arrive");
        return _kept.Length != 14;
    }

    private void Note(string step)
    {
        if (Steps.Count < MaxSteps)
        {
            Steps.Add(step);
        }
    }

    private static SvsmResult Read(string path)
    {
        try
        {
            byte[] contents = File.ReadAllBytes(path);
            return new SvsmResult(SvsmResultCode.Success) { Rcx = (ulong)contents.Length, Rdx = contents.Length == 0 ? 0u : contents[0] };
        }
        catch (IOException)
        {
            return SvsmResultCode.InvalidParameter;
        }
    }

    protected override bool TryGetManifest(uint version, out ReadOnlyMemory<byte> manifest)
    {
        manifest = new byte[version];
        return version != 0;
    }

    protected override void Reset() => Steps.Add("reset");

    protected override void Dispose(bool disposing)
    {
        Steps.Add("end");
        base.Dispose(disposing);
    }
}
