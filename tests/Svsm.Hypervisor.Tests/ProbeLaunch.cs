// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Makes the launch blob of the probe: its image, page tables, VMSA. Addresses are told in Svsm.Simulator/HypervisorProbe/Probe.cs.

using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using System.IO;
using System.Runtime.InteropServices;
using Svsm.Simulator.Shared;
using Svsm.Wire;

namespace Svsm.Hypervisor.Tests;

/// <summary>The probe's launch.</summary>
internal static class ProbeLaunch
{
    /// <summary>RAM of the probe in bytes.</summary>
    public const ulong RamLength = 64ul << 20;

    /// <summary>GPA of the launch VMSA, in RAM.</summary>
    public const ulong VmsaGpa = 0x10_8000;

    /// <summary>GPA of the message for the security processor.</summary>
    public const ulong MessageGpa = 0x10_A000;

    // Scenarios of a VMPL0 with restricted injection.
    private const ulong RestrictedScenario = 12;
    private const ulong NotifiedScenario = 42;

    // A 2-MiB area for many of its rows.
    private const ulong RmpTableScenario = 11;
    private const ulong RmpTableRamLength = 384ul << 20;

    private const ulong Tables = 0x10_0000;
    private const ulong CBit = 1ul << 47;
    private const int PageSize = 4096;
    private const ulong PresentWritableUser = 7;
    private const ulong Large = 0x80;

    /// <summary>Makes the blob.</summary>
    /// <param name="scenario">Number of the scenario.</param>
    /// <param name="options">Switches of the run.</param>
    /// <param name="vcpuCount">Number of vCPUs.</param>
    /// <param name="message">A page that the probe finds at <see cref="MessageGpa"/>; null = none.</param>
    /// <param name="attacks">What the host does that it should not.</param>
    public static byte[] Make(ulong scenario, LaunchOptions options = LaunchOptions.None, uint vcpuCount = 1, byte[]? message = null, params LaunchAttack[] attacks)
    {
        var builder = new BlobBuilder { Options = options, VcpuCount = vcpuCount };
        builder.Attacks.AddRange(attacks);
        builder.Ram.Add(new LaunchRam { Base = 0, Length = scenario == RmpTableScenario ? RmpTableRamLength : RamLength });
        ulong entry = AddImage(builder, File.ReadAllBytes(Path.Combine(AppContext.BaseDirectory, "Svsm.HypervisorProbe.elf")));
        AddTables(builder);
        if (message is not null)
        {
            builder.AddPage(MessageGpa, LaunchPageType.Normal, message);
        }

        builder.AddPage(VmsaGpa, LaunchPageType.Vmsa, MakeVmsa(entry, scenario));
        return builder.ToArray();
    }

    private static ulong AddImage(BlobBuilder builder, byte[] elf)
    {
        ulong entry = BinaryPrimitives.ReadUInt64LittleEndian(elf.AsSpan(0x18));
        int headers = (int)BinaryPrimitives.ReadUInt64LittleEndian(elf.AsSpan(0x20));
        int count = BinaryPrimitives.ReadUInt16LittleEndian(elf.AsSpan(0x38));
        for (int i = 0; i < count; i++)
        {
            ReadOnlySpan<byte> header = elf.AsSpan(headers + (i * 56), 56);
            int offset = (int)BinaryPrimitives.ReadUInt64LittleEndian(header[8..]);
            ulong address = BinaryPrimitives.ReadUInt64LittleEndian(header[24..]);
            int fileLength = (int)BinaryPrimitives.ReadUInt64LittleEndian(header[32..]);
            int length = (int)BinaryPrimitives.ReadUInt64LittleEndian(header[40..]);
            for (int done = 0; done < length; done += PageSize)
            {
                byte[]? page = null;
                if (done < fileLength)
                {
                    page = new byte[PageSize];
                    elf.AsSpan(offset + done, Math.Min(PageSize, fileLength - done)).CopyTo(page);
                }

                builder.AddPage(address + (ulong)done, page is null ? LaunchPageType.Zero : LaunchPageType.Normal, page);
            }
        }

        return entry;
    }

    // 0 PML4 | 1 PDPT, private | 2 its directory | 3 PDPT, shared view | 4 its directory | 5 directory of the window | 6 table of the window
    private static void AddTables(BlobBuilder builder)
    {
        var tables = new ulong[7][];
        for (int i = 0; i < tables.Length; i++)
        {
            tables[i] = new ulong[512];
        }

        tables[0][0] = Pointer(1);
        tables[0][1] = Pointer(3);
        tables[1][0] = Pointer(2);
        tables[1][1] = Pointer(5);
        tables[3][0] = Pointer(4);
        tables[5][0] = Pointer(6);
        for (ulong i = 0; i < 512; i++)
        {
            tables[2][i] = (i << 21) | PresentWritableUser | Large | CBit;
            tables[4][i] = (i << 21) | PresentWritableUser | Large;
        }

        for (int i = 0; i < tables.Length; i++)
        {
            builder.AddPage(Tables + (ulong)(i * PageSize), LaunchPageType.Normal, MemoryMarshal.AsBytes(tables[i].AsSpan()).ToArray());
        }
    }

    private static ulong Pointer(int table) => (Tables + (ulong)(table * PageSize)) | PresentWritableUser | CBit;

    private static byte[] MakeVmsa(ulong entry, ulong scenario)
    {
        var data = new SegmentRegister { Selector = 0x10, Attributes = 0xC93, Limit = uint.MaxValue };
        var vmsa = new Vmsa
        {
            Cs = new SegmentRegister { Selector = 0x08, Attributes = 0xA9B, Limit = uint.MaxValue },
            Ds = data,
            Es = data,
            Fs = data,
            Gs = data,
            Ss = data,
            Tr = new SegmentRegister { Attributes = 0x8B, Limit = 0xFFFF },
            Ldtr = new SegmentRegister { Attributes = 0x82, Limit = 0xFFFF },
            Efer = 0x1D01,
            Cr0 = 0x8000_0033,
            Cr3 = Tables | CBit,
            Cr4 = 0x660,
            Dr6 = 0xFFFF_0FF0,
            Dr7 = 0x400,
            Rflags = 2,
            Rip = entry,
            Rdi = scenario,
            Pat = 0x0007_0406_0007_0406,
            SevFeatures = (ulong)(SevFeatures.SnpActive | (scenario is RestrictedScenario or NotifiedScenario ? SevFeatures.RestrictedInjection : SevFeatures.None)),
            Xcr0 = 1,
            Mxcsr = 0x1F80,
            X87ControlWord = 0x37F,
            X87TagWord = 0xFFFF,
        };
        var page = new byte[PageSize];
        MemoryMarshal.Write(page, in vmsa);
        return page;
    }
}

/// <summary>Writes launch blobs.</summary>
internal sealed class BlobBuilder
{
    private const int PageSize = 4096;

    private readonly List<LaunchPage> _pages = [];
    private readonly List<byte[]> _blocks = [];

    /// <summary>What a firmware may ask for; each takes a block.</summary>
    public List<(LaunchItem Item, byte[] Data)> Items { get; } = [];

    /// <summary>RAM.</summary>
    public List<LaunchRam> Ram { get; } = [];

    /// <summary>What the host does.</summary>
    public List<LaunchAttack> Attacks { get; } = [];

    /// <summary>Switches of the run.</summary>
    public LaunchOptions Options { get; set; }

    /// <summary>Number of vCPUs.</summary>
    public uint VcpuCount { get; set; } = 1;

    /// <summary>Adds a page or a run of pages.</summary>
    public void AddPage(ulong gpa, LaunchPageType type, byte[]? contents, ulong count = 1, uint index = 0)
    {
        ulong block = LaunchPage.NoData;
        if (contents is not null)
        {
            block = (ulong)_blocks.Count;
            _blocks.Add(contents);
        }

        _pages.Add(new LaunchPage { Gpa = gpa, PageCount = count, Type = type, Index = index, DataBlock = block });
    }

    /// <summary>The blob.</summary>
    public byte[] ToArray()
    {
        int tables = Marshal.SizeOf<LaunchHeader>() + (Ram.Count * Marshal.SizeOf<LaunchRam>()) + (_pages.Count * Marshal.SizeOf<LaunchPage>())
            + (Attacks.Count * Marshal.SizeOf<LaunchAttack>()) + (Items.Count * Marshal.SizeOf<LaunchItem>());
        int dataOffset = (tables + PageSize - 1) & ~(PageSize - 1);
        var blob = new byte[dataOffset + ((_blocks.Count + Items.Count) * PageSize)];
        var header = new LaunchHeader
        {
            Magic = LaunchHeader.MagicValue,
            Version = LaunchHeader.CurrentVersion,
            VcpuCount = VcpuCount,
            RamCount = (uint)Ram.Count,
            PageCount = (uint)_pages.Count,
            AttackCount = (uint)Attacks.Count,
            ItemCount = (uint)Items.Count,
            Options = Options,
            DataOffset = (ulong)dataOffset,
            TotalLength = (ulong)blob.Length,
            Policy = 0x3_0000,
        };
        MemoryMarshal.Write(blob, in header);
        int at = Marshal.SizeOf<LaunchHeader>();
        foreach (LaunchRam range in Ram)
        {
            MemoryMarshal.Write(blob.AsSpan(at), in range);
            at += Marshal.SizeOf<LaunchRam>();
        }

        foreach (LaunchPage page in _pages)
        {
            MemoryMarshal.Write(blob.AsSpan(at), in page);
            at += Marshal.SizeOf<LaunchPage>();
        }

        foreach (LaunchAttack attack in Attacks)
        {
            MemoryMarshal.Write(blob.AsSpan(at), in attack);
            at += Marshal.SizeOf<LaunchAttack>();
        }

        for (int i = 0; i < Items.Count; i++)
        {
            LaunchItem item = Items[i].Item;
            item.DataBlock += (ulong)(_blocks.Count + i);
            MemoryMarshal.Write(blob.AsSpan(at), in item);
            at += Marshal.SizeOf<LaunchItem>();
            Items[i].Data.CopyTo(blob, dataOffset + ((_blocks.Count + i) * PageSize));
        }

        for (int i = 0; i < _blocks.Count; i++)
        {
            _blocks[i].CopyTo(blob, dataOffset + (i * PageSize));
        }

        return blob;
    }
}
