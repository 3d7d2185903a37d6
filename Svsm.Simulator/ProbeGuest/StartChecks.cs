// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// What the guest finds when it starts: secrets page, CPUID page, memory map, SEV_STATUS, and #VC that works.

using System;
using Svsm.Platform;
using Svsm.Wire;

namespace Svsm.ProbeGuest;

internal static unsafe class StartChecks
{
    private const int MapEntries = 4096 / 24;
    private const uint Encryption = 0x8000_001F;

    public static void Run(in ProbeStart start)
    {
        ref SecretsPage secrets = ref *(SecretsPage*)start.SecretsPage;
        Probe.True("secrets: there is an SVSM"u8, secrets.SvsmSize != 0);
        Probe.Equal("secrets: SVSM memory is page-aligned"u8, (secrets.SvsmBase | secrets.SvsmSize) & 0xFFF, 0);
        Probe.Equal("secrets: core protocol version"u8, secrets.SvsmMaxVersion, 1);
        Probe.Equal("secrets: guest VMPL"u8, secrets.SvsmGuestVmpl, 2);
        Probe.Equal("secrets: calling area is page-aligned"u8, secrets.SvsmCallingArea & 0xFFF, 0);
        Probe.True("secrets: key of VMPL0 is wiped"u8, IsZero(secrets.Vmpck0));
        Probe.True("secrets: key of VMPL1 is wiped"u8, IsZero(secrets.Vmpck1));
        Probe.True("secrets: key of VMPL2 is there"u8, !IsZero(secrets.Vmpck2));
        Probe.True("secrets: key of VMPL3 is there"u8, !IsZero(secrets.Vmpck3));

        uint count = ((CpuidPageHeader*)start.CpuidPage)->Count;
        Probe.True("cpuid page: 1 to 64 entries"u8, count is >= 1 and <= CpuidPageHeader.MaxEntries);
        uint handled = Machine.VcCount;
        CpuidResult encryption = X64.Cpuid(Encryption);
        Probe.True("cpuid: instruction raises #VC"u8, Machine.VcCount == handled + 1);
        Probe.Equal("cpuid: C-bit position"u8, 1ul << (int)(encryption.Ebx & 0x3F), start.EncryptionMask);

        CheckMap(in start, in secrets);

        ulong status = X64.ReadMsr(SevMsr.SevStatus);
        ulong snp = SevStatus.Sev | SevStatus.SevEs | ((ulong)SevFeatures.SnpActive << SevStatus.FeaturesShift);
        ulong removed = (ulong)(SevFeatures.RestrictedInjection | SevFeatures.DebugSwap) << SevStatus.FeaturesShift;
        Probe.Equal("sev status: SNP, without restricted injection and debug swap"u8, status & (snp | removed), snp);
    }

    private static void CheckMap(in ProbeStart start, in SecretsPage secrets)
    {
        ReadOnlySpan<MemoryMapEntry> map = new((void*)start.MemoryMap, MapEntries);
        bool isAscending = true;
        bool isRam = true;
        bool hasSvsm = false;
        bool hasTestMemory = false;
        ulong end = 0;
        int count = 0;
        while (count < map.Length && map[count].PageCount != 0)
        {
            MemoryMapEntry entry = map[count];
            isAscending &= entry.StartPage >= end;
            isRam &= entry.Type == MemoryMapEntryType.Memory && entry.Flags == 0 && entry.Reserved == 0;
            end = entry.StartPage + entry.PageCount;
            hasSvsm |= entry.StartPage < (secrets.SvsmBase + secrets.SvsmSize) >> 12 && secrets.SvsmBase >> 12 < end;
            hasTestMemory |= entry.StartPage <= TestMemory.Base >> 12 && end >= (TestMemory.Base + TestMemory.Length) >> 12;
            count++;
        }

        Probe.True("memory map: is terminated and not empty"u8, count > 0 && count < map.Length);
        Probe.True("memory map: is ascending"u8, isAscending);
        Probe.True("memory map: is RAM only"u8, isRam);
        Probe.True("memory map: is without the SVSM's memory"u8, !hasSvsm);
        Probe.True("memory map: has the test memory"u8, hasTestMemory);
    }

    private static bool IsZero(ReadOnlySpan<byte> bytes) => !bytes.ContainsAnyExcept((byte)0);
}
