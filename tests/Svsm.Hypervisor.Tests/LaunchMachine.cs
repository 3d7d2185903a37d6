// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// A machine that a launch blob is loaded into.

using System;
using System.Runtime.InteropServices;
using System.Text;
using Svsm.Simulator.Shared;
using Svsm.Wire;

namespace Svsm.Hypervisor.Tests;

/// <summary>A machine before its launch.</summary>
internal sealed unsafe class LaunchMachine : IDisposable
{
    public const ulong RamLength = 1 << 20;

    private const nuint PoolLength = 4 << 20;
    private readonly void* _memory;

    public LaunchMachine()
    {
        _memory = NativeMemory.AlignedAlloc(PoolLength, 4096);
        var pool = new FramePool();
        pool.AddRange((ulong)_memory, (ulong)_memory + PoolLength);
        Machine = new VirtualMachine(pool, new LinkWriter(Port), new FakeProcessor());
        Builder.Ram.Add(new LaunchRam { Base = 0, Length = RamLength });
    }

    public VirtualMachine Machine { get; }

    public ListPort Port { get; } = new();

    public BlobBuilder Builder { get; } = new();

    public SevFeatures SevFeatures { get; init; } = SevFeatures.SnpActive;

    public bool WithVmsa { get; init; } = true;

    public string Error { get; private set; } = "";

    public static byte[] Filled(byte value)
    {
        var page = new byte[4096];
        page.AsSpan().Fill(value);
        return page;
    }

    public bool Load() => Load(Complete());

    public bool Load(Action<byte[]> mistake)
    {
        byte[] blob = Complete();
        mistake(blob);
        return Load(blob);
    }

    public bool Load(int length) => Load(Complete()[..length]);

    /// <summary>Queues what the machine's host side sends.</summary>
    public void Answer(LinkFrame type, byte[] payload)
    {
        foreach (byte value in (byte[])[Link.Start, (byte)type, (byte)payload.Length, (byte)(payload.Length >> 8), .. payload])
        {
            Port.Answers.Enqueue(value);
        }
    }

    public void Dispose() => NativeMemory.AlignedFree(_memory);

    private byte[] Complete()
    {
        if (WithVmsa)
        {
            var vmsa = new Vmsa { Efer = Amd64.EferSvme, Cr0 = 0x11, SevFeatures = (ulong)SevFeatures, Rip = 0x1234 };
            var page = new byte[4096];
            MemoryMarshal.Write(page, in vmsa);
            Builder.AddPage(0xFFFF_FFFF_F000, LaunchPageType.Vmsa, page);
        }

        return Builder.ToArray();
    }

    private bool Load(byte[] blob)
    {
        fixed (byte* bytes = blob)
        {
            var loader = new LaunchLoader(Machine, bytes, (ulong)blob.Length);
            bool loaded = loader.TryLoad();
            Error = Encoding.UTF8.GetString(loader.Error);
            return loaded;
        }
    }
}
