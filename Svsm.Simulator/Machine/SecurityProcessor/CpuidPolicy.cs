// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// What the security processor lets a host say in a CPUID page (LAUNCH_UPDATE of type CPUID) and a guest ask about in a CPUID message: for each
// function of the processor, what each register may hold. The host fills the page, so the guest can rely on no more than this: features and
// sizes are at most those of the chip, and what a wrong value of could lead astray (sizes of XSAVE areas, C-bit) is exact.
//
//   bits    only these may be set                    exact   this value
//   at most this value or less                       a register can have several fields, each with its rule; bits outside of them are zero
//
// Functions 0 to 0xFFFF and 0x8000_0000 to 0x8000_FFFF are checked, and those that are not in the table must say nothing at all. Others, as the
// hypervisor's own at 0x4000_0000, pass as they are. A value that is not allowed is replaced by the nearest one that is, and refused all
// the same: the host may try again with the page that it gets back.
//
// Source: the rules and values of family 19h, models 10h to 1Fh, in AMD's published firmware (amd/AMD-ASPFW, cpuid_lookup.c and .h, "CPUID Policy
// Enforcement" of the PPR); that KVM and QEMU show what was corrected, Linux arch/x86/kvm/svm/sev.c and QEMU target/i386/sev.c. The simulated
// chip's own: its C-bit, and its family, model and stepping. Not in the table: 0x8000_0024, whose values are not in the published part.

using System;
using System.Collections.Generic;
using System.Runtime.InteropServices;
using Svsm.Wire;

namespace Svsm.Simulator;

internal static class CpuidPolicy
{
    private const uint LastStandard = 0xFFFF;
    private const uint FirstExtended = 0x8000_0000;
    private const uint LastExtended = 0x8000_FFFF;
    private const uint Zero = 0;
    private const uint CBitPosition = 47;
    private const uint XsaveFunction = 0xD;

    private static readonly Register s_any = Bits(uint.MaxValue);
    private static readonly Register s_none = Bits(Zero);
    private static readonly Register s_family = new(0x0FFF_0FFF) { IsFamily = true };

    private static readonly Dictionary<(uint Function, uint Index), Register[]> s_rules = new()
    {
        [(0, 0)] = [AtMost(0x10), s_any, s_any, s_any],
        [(1, 0)] = [s_family, new(0xFFFF_0000, Exactly(0xFF00, 0x0800)), Bits(0xFEFA_320B), Bits(0x178B_FBFF)],
        [(2, 0)] = [s_any, s_any, s_any, s_any],
        [(4, 0)] = [s_any, s_any, s_any, s_any],
        [(5, 0)] = [Bits(0xFFFF), Bits(0xFFFF), Bits(3), Bits(0xFF)],
        [(6, 0)] = [Bits(4), s_none, Bits(1), s_none],
        [(7, 0)] = [AtMost(1), Bits(0xF1BF_97A9), Bits(0x0041_5FDE), Bits(0x1000_0010)],
        [(7, 1)] = [Bits(0x20), s_none, s_none, s_none],
        [(0xB, 0)] = [Bits(0x1F), Bits(0xFFFF), Bits(0xFFFF), s_any],
        [(0xB, 1)] = [Bits(0x1F), Bits(0xFFFF), Bits(0xFFFF), s_any],
        [(0xB, 2)] = [Bits(0x1F), Bits(0xFFFF), Bits(0xFFFF), s_any],

        // EBX of the first two by XCR0 and XSS: see XsaveSize.
        [(XsaveFunction, 0)] = [new(0x2E4, Exactly(3, 3)), s_any, s_any, s_none],
        [(XsaveFunction, 1)] = [Bits(0xF), s_any, Bits(0x1800), s_none],
        [(XsaveFunction, 2)] = [Exact(0x100), Exact(0x240), s_none, s_none],
        [(XsaveFunction, 5)] = [Exact(0x40), Exact(0x340), Bits(3), s_none],
        [(XsaveFunction, 6)] = [Exact(0x200), Exact(0x380), Bits(3), s_none],
        [(XsaveFunction, 7)] = [Exact(0x400), Exact(0x580), Bits(3), s_none],
        [(XsaveFunction, 9)] = [Exact(8), Exact(0x980), s_none, s_none],
        [(XsaveFunction, 0xB)] = [Exact(0x10), s_none, Exact(1), s_none],
        [(XsaveFunction, 0xC)] = [Exact(0x18), s_none, Exact(1), s_none],
        [(0xF, 0)] = [s_none, s_any, s_none, Bits(2)],
        [(0xF, 1)] = [Bits(0x1FF), s_any, s_any, Bits(7)],
        [(0x10, 0)] = [s_none, Bits(6), s_none, s_none],
        [(0x10, 1)] = [Bits(0x1F), s_any, Bits(4), Bits(0xFFFF)],
        [(0x8000_0000, 0)] = [AtMost(0x8000_0028), s_any, s_any, s_any],
        [(0x8000_0001, 0)] = [s_family, Bits(0xF000_0000), Bits(0x75C2_37FF), Bits(0x2FD3_FBFF)],
        [(0x8000_0002, 0)] = [s_any, s_any, s_any, s_any],
        [(0x8000_0003, 0)] = [s_any, s_any, s_any, s_any],
        [(0x8000_0004, 0)] = [s_any, s_any, s_any, s_any],
        [(0x8000_0005, 0)] = [s_any, s_any, s_any, s_any],
        [(0x8000_0006, 0)] = [s_any, s_any, s_any, Bits(0xFFFC_FFFF)],
        [(0x8000_0007, 0)] = [s_none, Bits(0x3B), s_any, Bits(0x6799)],
        [(0x8000_0008, 0)] = [new(0x00FF_0000, UpTo(0xFF, 52), UpTo(0xFF00, 57 << 8)), Bits(0x79BE_F35F), Bits(0x0003_F0FF), new(Zero, UpTo(0xFFFF, 7), UpTo(0x00FF_0000, 1 << 16))],
        [(0x8000_000A, 0)] = [Bits(0xFF), s_any, s_none, Bits(0x1FBF_BCFF)],
        [(0x8000_0019, 0)] = [s_any, s_any, s_none, s_none],
        [(0x8000_001A, 0)] = [Bits(7), s_none, s_none, s_none],
        [(0x8000_001B, 0)] = [Bits(0xBFF), s_none, s_none, s_none],
        [(0x8000_001D, 0)] = [Bits(0x03FF_C3FF), s_any, s_any, Bits(3)],
        [(0x8000_001D, 1)] = [Bits(0x03FF_C3FF), s_any, s_any, Bits(3)],
        [(0x8000_001D, 2)] = [Bits(0x03FF_C3FF), s_any, s_any, Bits(3)],
        [(0x8000_001D, 3)] = [Bits(0x03FF_C3FF), s_any, s_any, Bits(3)],
        [(0x8000_001D, 4)] = [Bits(0xF), s_none, s_any, s_none],
        [(0x8000_001E, 0)] = [s_any, Bits(0xFFFF), Bits(0x7FF), s_none],
        [(0x8000_001F, 0)] = [Bits(0x030F_FFFF), new(0xFC0, Exactly(0x3F, CBitPosition), UpTo(0xF000, 4 << 12)), s_any, s_any],
        [(0x8000_0020, 0)] = [s_none, Bits(0x1E), s_none, s_none],
        [(0x8000_0020, 1)] = [s_any, s_none, s_none, s_any],
        [(0x8000_0020, 2)] = [s_any, s_none, s_none, s_any],
        [(0x8000_0020, 3)] = [s_none, s_any, Bits(0x7F), s_none],
        [(0x8000_0021, 0)] = [Bits(0x1806_2FCF), Bits(0xFFF), s_none, s_none],
        [(0x8000_0022, 0)] = [Bits(7), new(0xFFFF_FC00, UpTo(0xF, 6), UpTo(0x3F0, 0x10 << 4)), s_any, s_none],
        [(0x8000_0023, 0)] = [Bits(1), s_any, s_none, s_none],
        [(0x8000_0026, 0)] = [s_any, s_any, s_any, s_any],
        [(0x8000_0026, 1)] = [s_any, s_any, s_any, s_any],
        [(0x8000_0026, 2)] = [s_any, s_any, s_any, s_any],
        [(0x8000_0026, 3)] = [s_any, s_any, s_any, s_any],
    };

    // Whether a function is one of the processor's, which the policy is about.
    public static bool IsChecked(uint function) => function is <= LastStandard or (>= FirstExtended and <= LastExtended);

    // Checks and corrects one function. Returns whether it was allowed.
    public static bool Check(ref CpuidEntry entry)
    {
        if (!IsChecked(entry.Function))
        {
            return true;
        }

        CpuidEntry given = entry;
        if (!s_rules.TryGetValue((entry.Function, entry.Index), out Register[]? rules))
        {
            rules = [s_none, s_none, s_none, s_none];
        }

        entry.Eax = rules[0].Nearest(entry.Eax);
        entry.Ebx = entry is { Function: XsaveFunction, Index: 0 or 1 } ? XsaveSize(in entry) : rules[1].Nearest(entry.Ebx);
        entry.Ecx = rules[2].Nearest(entry.Ecx);
        entry.Edx = rules[3].Nearest(entry.Edx);
        return entry.Reserved == 0 && (given.Eax, given.Ebx, given.Ecx, given.Edx) == (entry.Eax, entry.Ebx, entry.Ecx, entry.Edx);
    }

    // LAUNCH_UPDATE of a CPUID page: checks and corrects all of it. What was not allowed is told function by function, as it was and as it is now.
    public static FirmwareStatus CheckPage(Span<byte> page, List<(CpuidEntry Given, CpuidEntry Allowed)> corrections)
    {
        CpuidPageHeader header = MemoryMarshal.Read<CpuidPageHeader>(page);
        if (header.Count > CpuidPageHeader.MaxEntries || header.Reserved0 != 0 || header.Reserved1 != 0)
        {
            return FirmwareStatus.InvalidParameter;
        }

        bool allowed = true;
        foreach (ref CpuidEntry entry in Entries(page, header.Count))
        {
            CpuidEntry given = entry;
            if (!Check(ref entry))
            {
                corrections.Add((given, entry));
                allowed = false;
            }
        }

        return allowed ? FirmwareStatus.Success : FirmwareStatus.InvalidParameter;
    }

    // The functions of a CPUID page or message.
    public static Span<CpuidEntry> Entries(Span<byte> page, uint count) => MemoryMarshal.Cast<byte, CpuidEntry>(page[CpuidPageHeader.EntriesOffset..])[..(int)count];

    // Bytes that XSAVE (index 0) or XSAVES (index 1) need for the features that XCR0 and XSS of the entry enable.
    private static uint XsaveSize(in CpuidEntry entry)
    {
        const uint Legacy = 0x240;
        ReadOnlySpan<(int Bit, uint Size, uint End)> features =
            [(2, 0x100, 0x340), (5, 0x40, 0x380), (6, 0x200, 0x580), (7, 0x400, 0x980), (9, 8, 0x988)];
        uint end = Legacy;
        uint sum = Legacy;
        foreach ((int bit, uint size, uint featureEnd) in features)
        {
            if ((entry.Xcr0 >> bit & 1) != 0)
            {
                end = featureEnd;
                sum += size;
            }
        }

        const int UserShadowStack = 11;
        const int SupervisorShadowStack = 12;
        sum += (entry.Xss >> UserShadowStack & 1) != 0 ? 0x10u : 0;
        sum += (entry.Xss >> SupervisorShadowStack & 1) != 0 ? 0x18u : 0;
        return entry.Index == 0 ? end : sum;
    }

    private static Register Bits(uint mask) => new(mask);

    private static Register Exact(uint value) => new(Zero, Exactly(uint.MaxValue, value));

    private static Register AtMost(uint value) => new(Zero, UpTo(uint.MaxValue, value));

    private static Field Exactly(uint mask, uint value) => new(mask, value, IsExact: true);

    private static Field UpTo(uint mask, uint value) => new(mask, value, IsExact: false);

    // Bits of a register that have one value, or a highest one; in place.
    private readonly record struct Field(uint Mask, uint Value, bool IsExact);

    // What a register may hold: free bits, and fields beside them.
    private sealed class Register(uint free, params Field[] fields)
    {
        // Family, model and stepping: those of the chip, or older ones.
        public bool IsFamily { get; init; }

        public uint Nearest(uint value)
        {
            uint result = value & free;
            if (IsFamily)
            {
                return Order(value) > Order(SecurityProcessor.FamilyModelStepping) ? SecurityProcessor.FamilyModelStepping : result;
            }

            foreach (Field field in fields)
            {
                uint part = value & field.Mask;
                result |= field.IsExact || part > field.Value ? field.Value : part;
            }

            return result;
        }

        // Family, model, stepping from the most significant on.
        private static uint Order(uint value)
        {
            uint family = ((value >> 8) & 0xF) + ((value >> 20) & 0xFF);
            uint model = ((value >> 4) & 0xF) | ((value >> 12) & 0xF0);
            return (family << 12) | (model << 4) | (value & 0xF);
        }
    }
}
