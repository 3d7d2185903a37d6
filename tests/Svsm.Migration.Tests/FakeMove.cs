// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The kernel of a machine whose guest moves, as a table in memory: what descriptor 11 does (Wire/MoveChannel.cs), with its order and its refusals, and without
// page tables. A test looks at all of it, and may have each call refused.

using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using Svsm.Core;
using Svsm.Wire;

namespace Svsm.Migration.Tests;

/// <summary>A page of the guest.</summary>
internal sealed class FakePage
{
    public MovePageState State { get; set; } = MovePageState.Private;

    public byte[] Contents { get; set; } = new byte[GuestMove.PageLength];

    public bool IsDirty { get; set; }
}

/// <summary>Another module.</summary>
internal sealed class FakeModule(uint protocol, byte[] state)
{
    public uint Protocol => protocol;

    public uint Version { get; set; } = 1;

    /// <summary>What it has, or has got so far.</summary>
    public byte[] State { get; set; } = state;

    public bool Runs { get; set; } = true;

    /// <summary>Kinds of messages that it refuses.</summary>
    public HashSet<ModuleMessageKind> Refuses { get; } = [];

    /// <summary>It fails over every message: there is no answer.</summary>
    public bool Fails { get; set; }

    /// <summary>Changes its answers to Save.</summary>
    public Func<byte[], byte[]>? AlterPart { get; set; }
}

/// <summary>The kernel.</summary>
internal sealed class FakeMove : GuestMove
{
    /// <summary>The first page of each range, and how many there are: not all at multiples of 8, and two ranges in one byte of bits.</summary>
    public static readonly (ulong First, ulong Count)[] Layout = [(0x103, 40), (0x12D, 3), (0x400, 17)];

    private bool _isTracked;

    public FakeMove(int vcpus = 2, params FakeModule[] modules)
    {
        foreach ((ulong first, ulong count) in Layout)
        {
            for (ulong page = first; page < first + count; page++)
            {
                Pages[page] = new FakePage();
            }
        }

        Modules = [.. modules];
        Vcpus = new MoveVcpu[vcpus];
        Vmsas = new byte[vcpus][];
        for (int i = 0; i < vcpus; i++)
        {
            Vcpus[i] = new MoveVcpu { Number = (uint)i, State = MoveVcpuState.Waits };
            Vmsas[i] = new byte[PageLength];
        }
    }

    public SortedDictionary<ulong, FakePage> Pages { get; } = [];

    public List<FakeModule> Modules { get; }

    public MoveVcpu[] Vcpus { get; }

    public byte[][] Vmsas { get; }

    public MoveState State { get; private set; }

    public ulong TimeStampCounter { get; set; } = 1000;

    public ulong Features { get; set; } = 0x1;

    public uint EncryptionBit { get; set; } = 51;

    public MoveRange[] Ranges { get; set; } = [.. Layout.Select(range => new MoveRange { Address = range.First * PageLength, Bytes = range.Count * PageLength })];

    /// <summary>What was asked of kernel and modules, in its order.</summary>
    public List<string> Steps { get; } = [];

    /// <summary>Answers to controls in place of the kernel's, each for one time.</summary>
    public Dictionary<MoveControl, Queue<MoveControlResult>> Answers { get; } = [];

    /// <summary>Pages that cannot be written, or become anything else.</summary>
    public HashSet<ulong> BadPages { get; } = [];

    /// <summary>No vCPU fits.</summary>
    public bool RefusesVcpus { get; set; }

    /// <summary>Pages that were taken.</summary>
    public List<ulong> Taken { get; } = [];

    /// <summary>The guest writes a page.</summary>
    public void Write(ulong page, byte value)
    {
        if (State != MoveState.Running)
        {
            throw new InvalidOperationException("a guest that does not run writes");
        }

        Pages[page].Contents.AsSpan().Fill(value);
        Pages[page].IsDirty = true;
    }

    public override MoveInformation ReadInformation() => new()
    {
        Vcpus = (uint)Vcpus.Length,
        EncryptionBit = EncryptionBit,
        Features = Features,
        TimeStampCounter = TimeStampCounter,
    };

    public override MoveRange[] ReadRanges() => [.. Ranges];

    // An index is not a place in the list.
    public override MoveModule[] ReadModules() =>
        [.. Modules.Select((module, i) => new MoveModule { Protocol = (SvsmProtocol)module.Protocol, Index = (uint)i + 3, Runs = module.Runs ? 1u : 0 })];

    public override MoveControlResult Control(MoveControl control)
    {
        MoveControlResult result = Answers.TryGetValue(control, out Queue<MoveControlResult>? answers) && answers.Count != 0 ? answers.Dequeue() : Do(control);
        Steps.Add(result == MoveControlResult.Done ? $"{control}" : $"{control}: {result}");
        return result;
    }

    public override void Take(ReadOnlySpan<ulong> pages)
    {
        if (pages.Length > MoveOffset.MaxTaken)
        {
            throw new IOException("too many pages");
        }

        foreach (ulong page in pages)
        {
            Pages[page].IsDirty = false;
            Taken.Add(page);
        }
    }

    // Without regard to ranges: bits of neighbours are there as well.
    public override void ReadDirty(ulong firstPage, Span<byte> bits)
    {
        if (!_isTracked || firstPage % 8 != 0 || bits.Length > PageLength)
        {
            throw new IOException("not tracked, or not so");
        }

        bits.Clear();
        for (int i = 0; i < bits.Length * 8; i++)
        {
            bits[i / 8] |= Pages.TryGetValue(firstPage + (ulong)i, out FakePage? page) && page.IsDirty ? (byte)(1 << (i % 8)) : (byte)0;
        }
    }

    public override void ReadStates(ulong firstPage, Span<byte> states)
    {
        for (int i = 0; i < states.Length; i++)
        {
            states[i] = (byte)(Pages.TryGetValue(firstPage + (ulong)i, out FakePage? page) ? page.State : MovePageState.None);
        }
    }

    public override bool TryWriteStates(ulong firstPage, ReadOnlySpan<byte> states)
    {
        CheckHeld();
        for (int i = 0; i < states.Length; i++)
        {
            ulong number = firstPage + (ulong)i;
            if (BadPages.Contains(number) || !Pages.TryGetValue(number, out FakePage? page))
            {
                return false;
            }

            page.State = (MovePageState)states[i];
        }

        return true;
    }

    public override bool TryReadPages(ulong address, Span<byte> pages)
    {
        for (int i = 0; i < pages.Length / PageLength; i++)
        {
            if (!Pages.TryGetValue((address / PageLength) + (ulong)i, out FakePage? page) || page.State != MovePageState.Private)
            {
                return false;
            }

            page.Contents.CopyTo(pages[(i * PageLength)..]);
        }

        return true;
    }

    public override bool TryWritePages(ulong address, ReadOnlySpan<byte> pages)
    {
        CheckHeld();
        for (int i = 0; i < pages.Length / PageLength; i++)
        {
            ulong number = (address / PageLength) + (ulong)i;
            if (BadPages.Contains(number) || !Pages.TryGetValue(number, out FakePage? page) || page.State != MovePageState.Private)
            {
                return false;
            }

            page.Contents = pages.Slice(i * PageLength, PageLength).ToArray();
        }

        return true;
    }

    public override MoveVcpu ReadVcpu(int number, Span<byte> vmsa)
    {
        if (State != MoveState.Stopped)
        {
            throw new IOException("the guest is not stopped");
        }

        if (Vcpus[number].State == MoveVcpuState.Runs)
        {
            Vmsas[number].CopyTo(vmsa);
        }

        return Vcpus[number];
    }

    public override bool TryWriteVcpu(in MoveVcpu vcpu, ReadOnlySpan<byte> vmsa)
    {
        CheckHeld();
        if (RefusesVcpus)
        {
            return false;
        }

        Vcpus[vcpu.Number] = vcpu;
        Vmsas[vcpu.Number] = vmsa.ToArray();
        return true;
    }

    public override bool TryAsk(int module, ModuleMessageKind kind, ref MoveRequest request, ReadOnlySpan<byte> contents, out byte[] answer)
    {
        answer = [];
        FakeModule asked = Modules[module - 3];
        if (!asked.Runs || asked.Fails || contents.Length > ModuleMessage.MaxPayload)
        {
            return false;
        }

        if (kind != ModuleMessageKind.Save)
        {
            Steps.Add($"{kind} {asked.Protocol}");
        }

        request.Result = (ulong)SvsmResultCode.Success;
        if (asked.Refuses.Contains(kind) && request.Rcx != ModuleMessage.VersionOnly)
        {
            request.Result = (ulong)SvsmResultCode.InvalidParameter;
            return true;
        }

        switch (kind)
        {
            case ModuleMessageKind.Save:
                request.Call = asked.Version;
                if (request.Rcx != ModuleMessage.VersionOnly)
                {
                    request.Rdx = (ulong)asked.State.Length;
                    answer = asked.State[(int)request.Rcx..Math.Min(asked.State.Length, (int)request.Rcx + ModuleMessage.MaxPayload)];
                    answer = asked.AlterPart?.Invoke(answer) ?? answer;
                }

                break;
            case ModuleMessageKind.Restore:
                asked.State = request.Rcx == 0 ? contents.ToArray() : [.. asked.State, .. contents];
                break;
        }

        return true;
    }

    private MoveControlResult Do(MoveControl control)
    {
        switch (control)
        {
            case MoveControl.Track:
                _isTracked = true;
                foreach (FakePage page in Pages.Values)
                {
                    page.IsDirty = true;
                }

                return MoveControlResult.Done;
            case MoveControl.Pace:
                return MoveControlResult.Done;
            case MoveControl.Stop when State is MoveState.Running or MoveState.Stopped:
                State = MoveState.Stopped;
                return MoveControlResult.Done;
            case MoveControl.Run when State != MoveState.Gone:
                State = MoveState.Running;
                return MoveControlResult.Done;
            case MoveControl.GiveUp when State == MoveState.Stopped:
                State = MoveState.Gone;
                return MoveControlResult.Done;
            case MoveControl.Hold when State is MoveState.Running or MoveState.Held:
                State = MoveState.Held;
                return MoveControlResult.Done;
            default:
                return MoveControlResult.Refused;
        }
    }

    private void CheckHeld()
    {
        if (State != MoveState.Held)
        {
            throw new InvalidOperationException("the guest is not held");
        }
    }
}
