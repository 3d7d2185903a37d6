// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Buffers.Binary;
using Svsm.Kernel.Guest;
using Svsm.Kernel.Memory;
using Svsm.Kernel.Protocols;
using Svsm.Wire;

namespace Svsm.Kernel.Tests;

/// <summary>A small VM: 0 to 640 KiB and 1 to 16 MiB of RAM, then the SVSM's region of 1 MiB at 128 MiB; the calling area and a list page are the guest's.</summary>
internal sealed class TestVm
{
    public const ulong RegionBase = 0x800_0000;
    public const ulong CallingArea = 0x10_0000;
    public const ulong ListPage = 0x10_1000;
    public const ulong FreshPage = 0x20_0000;
    public const ulong LargePage = 0x40_0000;
    public const Vmpl Guest = Vmpl.Vmpl2;
    public const int VcpuCount = 4;
    public const SevFeatures Features = SevFeatures.SnpActive | SevFeatures.BtbIsolation;

    private readonly PageRange[] _ranges = [new(0, 0xA0), new(0x100, 0xF00), new(RegionBase >> 12, 0x100)];
    private readonly PageStates _states;
    private SimulatedPlatform _platform = new();
    private readonly GuestVcpu[] _vcpus;

    public TestVm(int vcpuCount = VcpuCount)
    {
        _vcpus = new GuestVcpu[vcpuCount];
        _states = new PageStates(_ranges);
        SetState(RegionBase, 0x100, PageState.Svsm);
        Give(CallingArea);
        Give(ListPage);
        GuestPages.ClaimCallingArea(Table, new PhysicalAddress(CallingArea));
        _platform.Operations.Clear();
        _vcpus[0] = new GuestVcpu { Exists = true, IsFirst = true, Features = Features, Vmsa = new PhysicalAddress(RegionBase + 0x1000), CallingArea = new PhysicalAddress(CallingArea) };
    }

    public SimulatedPlatform Platform => _platform;

    public ref SimulatedPlatform PlatformReference => ref _platform;

    public PageStateTable Table => _states.Table;

    public ulong CurrentArea => _vcpus[0].CallingArea.Value;

    /// <summary>Makes a page the guest's.</summary>
    public void Give(ulong address) => GuestPages.Validate(Table, ref _platform, new PhysicalAddress(address), PageSize.Small, Guest);

    public PageState StateOf(ulong address) => Table.Get(address >> 12);

    public void SetState(ulong address, int pages, PageState state)
    {
        if (!Table.TrySet(new PageRange(address >> 12, (ulong)pages), state))
        {
            throw new ArgumentOutOfRangeException(nameof(address));
        }
    }

    public PageResult Validate(ulong address, PageSize size = PageSize.Small) => GuestPages.Validate(Table, ref _platform, new PhysicalAddress(address), size, Guest);

    public PageResult ValidateRam(ulong first, ulong count, out PhysicalAddress failed) => GuestRam.Validate(Table, ref _platform, new PageRange(first, count), Guest, out failed);

    public PageResult Rescind(ulong address, PageSize size = PageSize.Small)
    {
        PageResult result = GuestPages.Rescind(Table, ref _platform, new PhysicalAddress(address), size, Guest);
        if (result == PageResult.Success)
        {
            _platform.FlushGuestTranslations();
            GuestPages.EndRescind(Table, new PhysicalAddress(address), size);
        }

        return result;
    }

    public PageResult GrantLaunched(ulong address) => GuestPages.GrantLaunched(Table, ref _platform, new PhysicalAddress(address), Guest);

    /// <summary>Which vCPU calls.</summary>
    public int Caller { get; set; }

    public ref GuestVcpu Vcpu(int index) => ref _vcpus[index];

    public Span<GuestVcpu> Vcpus => _vcpus;

    public (CallOutcome Outcome, SvsmResultCode Result, SvsmRequest Registers) Call(ulong protocol, uint call, ulong rcx = 0, ulong rdx = 0, ulong r8 = 0x88)
    {
        SvsmRequest request = new() { Selector = (protocol << 32) | call, Rcx = rcx, Rdx = rdx, R8 = r8, R9 = 0x99 };
        CallOutcome outcome = ProtocolTable.Dispatch(ref request, new GuestContext(_vcpus, Caller, Guest), Table, ref _platform, out SvsmResultCode result);
        return (outcome, result, request);
    }

    public SvsmResultCode Core(CoreCall call, ulong rcx, ulong rdx = 0, ulong r8 = 0x88) => Call(0, (uint)call, rcx, rdx, r8).Result;

    /// <summary>Writes a PVALIDATE list.</summary>
    public void WriteList(ulong address, ushort count, ushort next, params ReadOnlySpan<ulong> entries)
    {
        Span<byte> bytes = _platform[address].Contents.AsSpan((int)(address & 0xFFF));
        BinaryPrimitives.WriteUInt16LittleEndian(bytes, count);
        BinaryPrimitives.WriteUInt16LittleEndian(bytes[PvalidateList.NextOffset..], next);
        for (int i = 0; i < entries.Length; i++)
        {
            BinaryPrimitives.WriteUInt64LittleEndian(bytes[(PvalidateList.EntriesOffset + (i * 8))..], entries[i]);
        }
    }

    public ushort ReadNext(ulong address) =>
        BinaryPrimitives.ReadUInt16LittleEndian(_platform[address].Contents.AsSpan((int)(address & 0xFFF) + PvalidateList.NextOffset));
}
