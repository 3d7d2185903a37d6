// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// What the kernel writes for its guest, apart from the writing itself (GuestStart.cs, GuestVcpu.cs):
//
//   secrets page   a copy; the keys of more privileged VMPLs zero, the SVSM's fields filled in
//   CPUID page     a copy
//   calling area   zeroes
//   memory map     the checked RAM without the SVSM's region; type 0 only, ended by an entry of zero pages
//   VMSA           of a payload (docs/image-layout.md): 32-bit protected mode, flat segments, paging off, EIP = entry,
//                  EDI = CPUID page, ESI = secrets page, EDX = memory map; the rest is the reset state
//                  of Linux: 64-bit mode on the launched page tables, RIP = entry, RSI = boot parameters; LinuxHandover.cs has what they find
//                  of a firmware: the reset state, in 16-bit mode at the reset vector
//   vCPU count     for a firmware that wants it

using System;
using Svsm.Kernel.Memory;
using Svsm.Kernel.Protocols;
using Svsm.Wire;

namespace Svsm.Kernel.Guest;

/// <summary>Contents of the guest's first pages.</summary>
internal static class GuestHandover
{
    private const ushort CodeAttributes = 0xC9B;
    private const ushort DataAttributes = 0xC93;
    private const ushort TaskAttributes = 0x8B;
    private const ushort LocalTableAttributes = 0x82;
    private const ushort LongCodeAttributes = 0xA9B;
    private const ushort RealCodeAttributes = 0x9B;
    private const ushort RealDataAttributes = 0x93;
    private const ushort LinuxCodeSelector = 0x10;
    private const ushort LinuxDataSelector = 0x18;
    private const ulong Cr0ProtectedMode = 0x31;
    private const ulong Cr0Reset = 0x6000_0010;
    private const ulong Cr0Paging = 1ul << 31;
    private const ulong Cr4PhysicalAddressExtension = 1ul << 5;
    private const ulong EferLongMode = 0x500;
    private const ulong RflagsReserved = 2;
    private const ulong Dr6Reset = 0xFFFF_0FF0;
    private const ulong Dr7Reset = 0x400;
    private const ulong PatReset = 0x0007_0406_0007_0406;
    private const uint MxcsrReset = 0x1F80;
    private const ushort TagWordReset = 0x5555;
    private const ushort ControlWordReset = 0x40;

    /// <summary>SEV_FEATURES of the guest: the SVSM's own without those that change how interrupts and debug registers reach it.</summary>
    public static SevFeatures FeaturesFor(SevFeatures own) => own & ~(SevFeatures.RestrictedInjection | SevFeatures.DebugSwap);

    /// <summary>Writes the guest's secrets page.</summary>
    /// <param name="copy">The guest's page.</param>
    /// <param name="own">The SVSM's page.</param>
    /// <param name="configuration">The measured configuration.</param>
    public static void FillSecrets(ref SecretsPage copy, in SecretsPage own, in ImageConfiguration configuration)
    {
        copy = own;

        // Whoever has a key speaks to the security processor as its VMPL: the guest gets its own and those below.
        if (configuration.GuestVmpl > Vmpl.Vmpl0)
        {
            ((Span<byte>)copy.Vmpck0).Clear();
        }

        if (configuration.GuestVmpl > Vmpl.Vmpl1)
        {
            ((Span<byte>)copy.Vmpck1).Clear();
        }

        if (configuration.GuestVmpl > Vmpl.Vmpl2)
        {
            ((Span<byte>)copy.Vmpck2).Clear();
        }

        copy.SvsmBase = configuration.RegionBase;
        copy.SvsmSize = configuration.RegionLength;
        copy.SvsmCallingArea = configuration.GuestCallingArea;
        copy.SvsmMaxVersion = ProtocolTable.CoreVersion;
        copy.SvsmGuestVmpl = (byte)configuration.GuestVmpl;
    }

    /// <summary>Writes the guest's memory map.</summary>
    /// <param name="map">Room for the entries.</param>
    /// <param name="ram">The guest's RAM; ascending, disjoint.</param>
    /// <param name="kind">Kind of the guest. A firmware finds no hole below 1 MiB: it knows of that area, and takes the first hole for the end of its RAM.</param>
    /// <returns>False: there is no room for all ranges and the entry that ends the list. The map is of no use then.</returns>
    public static bool TryFillMemoryMap(Span<MemoryMapEntry> map, ReadOnlySpan<PageRange> ram, GuestKind kind)
    {
        int count = 0;
        for (int i = 0; i < ram.Length; i++)
        {
            if (kind == GuestKind.Firmware && i != 0 &&
                ram[i - 1].End == MemoryMap.LegacyFirstPage && ram[i].First == MemoryMap.LegacyFirstPage + MemoryMap.LegacyPageCount)
            {
                map[count - 1].PageCount = ram[i].End - map[count - 1].StartPage;
            }
            else if (count == map.Length)
            {
                return false;
            }
            else
            {
                map[count++] = new MemoryMapEntry { StartPage = ram[i].First, PageCount = ram[i].Count };
            }
        }

        if (count == map.Length)
        {
            return false;
        }

        map[count] = default;
        return true;
    }

    /// <summary>Fills in the guest's start state. The page is zero before.</summary>
    /// <param name="vmsa">The page.</param>
    /// <param name="configuration">The measured configuration.</param>
    /// <param name="features">SEV_FEATURES of the guest.</param>
    /// <param name="encryptionMask">The C-bit.</param>
    public static void FillVmsa(ref Vmsa vmsa, in ImageConfiguration configuration, SevFeatures features, ulong encryptionMask)
    {
        vmsa.Gdtr.Limit = 0xFFFF;
        vmsa.Idtr.Limit = 0xFFFF;
        vmsa.Ldtr = new SegmentRegister { Attributes = LocalTableAttributes, Limit = 0xFFFF };
        vmsa.Tr = new SegmentRegister { Attributes = TaskAttributes, Limit = 0xFFFF };
        vmsa.Vmpl = (byte)configuration.GuestVmpl;
        vmsa.Cr0 = Cr0ProtectedMode;
        vmsa.Rflags = RflagsReserved;
        vmsa.Dr6 = Dr6Reset;
        vmsa.Dr7 = Dr7Reset;
        vmsa.Pat = PatReset;
        vmsa.Xcr0 = 1;
        vmsa.Mxcsr = MxcsrReset;
        vmsa.X87TagWord = TagWordReset;
        vmsa.X87ControlWord = ControlWordReset;
        vmsa.SevFeatures = (ulong)features;
        vmsa.Rip = configuration.GuestEntry;
        switch (configuration.GuestKind)
        {
            case GuestKind.Linux:
                StartLinux(ref vmsa, in configuration, encryptionMask);
                break;
            case GuestKind.Firmware:
                StartFirmware(ref vmsa);
                break;
            default:
                StartPayload(ref vmsa, in configuration);
                break;
        }
    }

    private static void StartPayload(ref Vmsa vmsa, in ImageConfiguration configuration)
    {
        vmsa.Cs = new SegmentRegister { Selector = 0x08, Attributes = CodeAttributes, Limit = uint.MaxValue };
        SetData(ref vmsa, 0x10);
        vmsa.Rdi = configuration.GuestCpuidPage;
        vmsa.Rsi = configuration.GuestSecretsPage;
        vmsa.Rdx = configuration.GuestMemoryMap;
    }

    // The 64-bit entry rather than the 32-bit one: the latter asks the host for CPUID and with it for the C-bit's position, before it has
    // found the CPUID page. Segments are those of the boot protocol, and of the launched descriptor table.
    private static void StartLinux(ref Vmsa vmsa, in ImageConfiguration configuration, ulong encryptionMask)
    {
        vmsa.Cs = new SegmentRegister { Selector = LinuxCodeSelector, Attributes = LongCodeAttributes, Limit = uint.MaxValue };
        SetData(ref vmsa, LinuxDataSelector);
        vmsa.Gdtr.Base = configuration.GuestDescriptorTable;
        vmsa.Gdtr.Limit = configuration.GuestDescriptorTableLength - 1;
        vmsa.Cr0 = Cr0ProtectedMode | Cr0Paging;
        vmsa.Cr3 = configuration.GuestPageTables | encryptionMask;
        vmsa.Cr4 = Cr4PhysicalAddressExtension;
        vmsa.Efer = EferLongMode;
        vmsa.Rsi = configuration.GuestBootParameters;
    }

    // As a processor comes out of reset, in 16-bit mode; the upper half of the entry is in the base of CS.
    private static void StartFirmware(ref Vmsa vmsa)
    {
        vmsa.Cs = new SegmentRegister { Selector = 0xF000, Attributes = RealCodeAttributes, Limit = 0xFFFF, Base = vmsa.Rip & 0xFFFF_0000 };
        vmsa.Rip &= 0xFFFF;
        SetData(ref vmsa, new SegmentRegister { Attributes = RealDataAttributes, Limit = 0xFFFF });
        vmsa.Cr0 = Cr0Reset;
    }

    private static void SetData(ref Vmsa vmsa, ushort selector) =>
        SetData(ref vmsa, new SegmentRegister { Selector = selector, Attributes = DataAttributes, Limit = uint.MaxValue });

    private static void SetData(ref Vmsa vmsa, SegmentRegister data)
    {
        vmsa.Ds = data;
        vmsa.Es = data;
        vmsa.Fs = data;
        vmsa.Gs = data;
        vmsa.Ss = data;
    }
}
