// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// PVALIDATE: pages that may be validated and are usable then, every reason for refusal, and the list's next index.

using System;
using System.Threading;
using Svsm.Wire;

namespace Svsm.ProbeGuest;

internal static unsafe class PvalidateChecks
{
    private const ulong PageBytes = 0x1000;
    private const ulong Validate = PvalidateList.Validate;
    private const ulong Large = 1;

    public static void Run(in ProbeStart start)
    {
        SinglePage();
        Lists();
        Entries(in start);
        Addresses(in start);
        SplitPage();
        LargePage();
        LongList();
    }

    // A call works on 8 MiB: here four times the same 2-MiB page.
    private static void LongList()
    {
        const ulong Page = TestMemory.Base + TestMemory.Length;
        const int Count = 5;
        Probe.True("long list: page made private"u8, Machine.MakeLargePagePrivate(Page));
        Calls.WriteHead(Calls.Buffer, Count, 0);
        for (int i = 0; i < Count; i++)
        {
            Calls.WriteEntry(Calls.Buffer, i, Page | 1 | (i % 2 == 0 ? PvalidateList.Validate : 0));
        }

        SvsmCall call = new() { Rax = (uint)CoreCall.PValidate, Rcx = Calls.Buffer };
        Calls.CallOnce(ref call);
        Probe.Result("long list: not in one call"u8, (SvsmResultCode)call.Rax, SvsmResultCode.Incomplete);
        Probe.Equal("long list: next is where it goes on"u8, Calls.ReadNext(Calls.Buffer), Count - 1);
        Probe.Result("long list: the rest"u8, Calls.Core(CoreCall.PValidate, Calls.Buffer), SvsmResultCode.Success);
    }

    private static void SinglePage()
    {
        ulong page = TestMemory.PageAt(0);
        Probe.True("pvalidate: page made private"u8, TestMemory.MakePrivate(page, 1));
        Probe.Result("pvalidate: fresh page"u8, Calls.PValidateOne(page, true, false, false), SvsmResultCode.Success);
        Probe.True("pvalidate: page is zero"u8, !new ReadOnlySpan<byte>((void*)page, (int)PageBytes).ContainsAnyExcept((byte)0));
        Volatile.Write(ref *(ulong*)page, 0x5555_AAAA_1234_4321);
        Probe.Equal("pvalidate: page can be written"u8, Volatile.Read(ref *(ulong*)page), 0x5555_AAAA_1234_4321);
        Probe.Result("pvalidate: twice"u8, Calls.PValidateOne(page, true, false, false), SvsmResultCode.PValidateNoChange);
        Probe.Equal("pvalidate: twice leaves contents"u8, Volatile.Read(ref *(ulong*)page), 0x5555_AAAA_1234_4321);
        Probe.Result("pvalidate: twice, ignored"u8, Calls.PValidateOne(page, true, true, false), SvsmResultCode.Success);
        Probe.Equal("pvalidate: twice, ignored, leaves contents"u8, Volatile.Read(ref *(ulong*)page), 0x5555_AAAA_1234_4321);
        Probe.Result("rescind: page"u8, Calls.PValidateOne(page, false, false, false), SvsmResultCode.Success);
        Probe.Result("rescind: twice"u8, Calls.PValidateOne(page, false, false, false), SvsmResultCode.PValidateNoChange);
        Probe.Result("rescind: twice, ignored"u8, Calls.PValidateOne(page, false, true, false), SvsmResultCode.Success);
        Probe.Result("pvalidate: rescinded page"u8, Calls.PValidateOne(page, true, false, false), SvsmResultCode.Success);
        Probe.Equal("pvalidate: rescinded page is zero again"u8, Volatile.Read(ref *(ulong*)page), 0);
    }

    private static void Lists()
    {
        ulong list = Calls.Buffer;
        ulong first = TestMemory.PageAt(8);
        Probe.True("list: pages made private"u8, TestMemory.MakePrivate(first, 4));
        Calls.WriteHead(list, 4, 0);
        for (int i = 0; i < 4; i++)
        {
            Calls.WriteEntry(list, i, (first + ((ulong)i * PageBytes)) | Validate);
        }

        Probe.Result("list: four pages"u8, Calls.Core(CoreCall.PValidate, list), SvsmResultCode.Success);
        Probe.Equal("list: next is past the end"u8, Calls.ReadNext(list), 4);

        // The third fails; the ones before are done, the one after is not.
        Calls.WriteHead(list, 4, 0);
        Calls.WriteEntry(list, 0, first);
        Calls.WriteEntry(list, 1, first + PageBytes);
        Calls.WriteEntry(list, 2, first + (2 * PageBytes) + Validate);
        Calls.WriteEntry(list, 3, first + (3 * PageBytes));
        Probe.Result("list: third fails"u8, Calls.Core(CoreCall.PValidate, list), SvsmResultCode.PValidateNoChange);
        Probe.Equal("list: next is the one that failed"u8, Calls.ReadNext(list), 2);
        Calls.WriteEntry(list, 2, first + (2 * PageBytes));
        Probe.Result("list: goes on at next"u8, Calls.Core(CoreCall.PValidate, list), SvsmResultCode.Success);
        Probe.Equal("list: next is past the end again"u8, Calls.ReadNext(list), 4);
        Probe.Result("list: fourth was rescinded"u8, Calls.PValidateOne(first + (3 * PageBytes), false, false, false), SvsmResultCode.PValidateNoChange);

        // What is rescinded and validated in one call must not be reached by an old translation in between.
        Probe.Result("list: page of two entries"u8, Calls.PValidateOne(first, true, false, false), SvsmResultCode.Success);
        Calls.WriteHead(list, 2, 0);
        Calls.WriteEntry(list, 0, first);
        Calls.WriteEntry(list, 1, first | Validate);
        Probe.Result("list: rescinds and validates one page"u8, Calls.Core(CoreCall.PValidate, list), SvsmResultCode.Success);
        Probe.Result("list: page of two entries, rescind"u8, Calls.PValidateOne(first, false, false, false), SvsmResultCode.Success);

        Calls.WriteHead(list, 0, 0);
        Probe.Result("list: empty"u8, Calls.Core(CoreCall.PValidate, list), SvsmResultCode.InvalidParameter);
        Calls.WriteHead(list, 1, 1);
        Probe.Result("list: next = count"u8, Calls.Core(CoreCall.PValidate, list), SvsmResultCode.InvalidParameter);
        Calls.WriteHead(list, 1, ushort.MaxValue);
        Probe.Result("list: next > count"u8, Calls.Core(CoreCall.PValidate, list), SvsmResultCode.InvalidParameter);
        Calls.WriteHead(list, 511, 0);
        Probe.Result("list: one entry too many for its page"u8, Calls.Core(CoreCall.PValidate, list), SvsmResultCode.InvalidParameter);
        Probe.Equal("list: next is untouched by a refusal"u8, Calls.ReadNext(list), 0);
        Calls.WriteHead(list, ushort.MaxValue, 0);
        Probe.Result("list: 65535 entries"u8, Calls.Core(CoreCall.PValidate, list), SvsmResultCode.InvalidParameter);
        Probe.Result("list: misaligned by 4"u8, Calls.Core(CoreCall.PValidate, list + 4), SvsmResultCode.InvalidParameter);
        Probe.Result("list: misaligned by 1"u8, Calls.Core(CoreCall.PValidate, list + 1), SvsmResultCode.InvalidParameter);
        Probe.Result("list: not validated"u8, Calls.Core(CoreCall.PValidate, TestMemory.PageAt(64)), SvsmResultCode.InvalidAddress);
        Probe.Result("list: at 0"u8, Calls.Core(CoreCall.PValidate, 0), SvsmResultCode.InvalidAddress);
        Probe.Result("list: at the end of the address space"u8, Calls.Core(CoreCall.PValidate, ulong.MaxValue - 7), SvsmResultCode.InvalidAddress);

        // A list in a page of its own, at its end.
        ulong own = TestMemory.PageAt(0) + PageBytes - 16;
        Probe.True("list: page made private"u8, TestMemory.MakePrivate(first, 1));
        Calls.WriteHead(own, 1, 0);
        Calls.WriteEntry(own, 0, first | Validate);
        Probe.Result("list: at the end of a page"u8, Calls.Core(CoreCall.PValidate, own), SvsmResultCode.Success);
        Calls.WriteHead(own, 2, 0);
        Probe.Result("list: beyond the end of a page"u8, Calls.Core(CoreCall.PValidate, own), SvsmResultCode.InvalidParameter);
        Calls.WriteHead(own, 1, 0);
        Calls.WriteEntry(own, 0, TestMemory.PageAt(0));
        Probe.Result("list: rescinds its own page"u8, Calls.Core(CoreCall.PValidate, own), SvsmResultCode.InvalidParameter);
        *(ulong*)(own + 8) = 1;
        Probe.Result("list: head at the last quadword"u8, Calls.Core(CoreCall.PValidate, own + 8), SvsmResultCode.InvalidParameter);
        Probe.Result("rescind: page of the list"u8, Calls.PValidateOne(first, false, false, false), SvsmResultCode.Success);
    }

    private static void Entries(in ProbeStart start)
    {
        ulong page = TestMemory.PageAt(16) | Validate;
        for (int bit = 4; bit < 12; bit++)
        {
            Probe.Result("entry: reserved bit"u8, Calls.PValidateEntry(page | (1ul << bit)), SvsmResultCode.InvalidParameter);
        }

        Probe.Result("entry: page size 2"u8, Calls.PValidateEntry(page | 2), SvsmResultCode.InvalidParameter);
        Probe.Result("entry: page size 3"u8, Calls.PValidateEntry(page | 3), SvsmResultCode.InvalidParameter);
        Probe.Equal("entry: next is the one that failed"u8, Calls.ReadNext(Calls.Buffer), 0);
        Probe.Result("entry: misaligned 2-MiB page"u8, Calls.PValidateEntry(page | Large), SvsmResultCode.InvalidParameter);
        Probe.Result("entry: misaligned 2-MiB page, rescind"u8, Calls.PValidateEntry(TestMemory.PageAt(16) | Large), SvsmResultCode.InvalidParameter);
        Probe.Result("entry: rescinds the calling area that holds the list"u8, Calls.PValidateEntry(Calls.Area), SvsmResultCode.InvalidParameter);
        Calls.WriteHead(TestMemory.PageAt(0), 1, 0);
        Calls.WriteEntry(TestMemory.PageAt(0), 0, Calls.Area);
        Probe.Result("entry: rescinds the calling area"u8, Calls.Core(CoreCall.PValidate, TestMemory.PageAt(0)), SvsmResultCode.InvalidAddress);
        Probe.Result("entry: secrets page, validate"u8, Calls.PValidateEntry(start.SecretsPage | Validate), SvsmResultCode.PValidateNoChange);
    }

    private static void Addresses(in ProbeStart start)
    {
        ref SecretsPage secrets = ref *(SecretsPage*)start.SecretsPage;
        ulong svsm = secrets.SvsmBase;
        ulong svsmLast = svsm + secrets.SvsmSize - PageBytes;
        Refused("SVSM memory, first page"u8, svsm);
        Refused("SVSM memory, last page"u8, svsmLast);
        Refused("SVSM memory, middle"u8, svsm + (secrets.SvsmSize / 2));
        Probe.Result("address: SVSM memory, 2 MiB, validate"u8, Calls.PValidateEntry(svsm | Validate | Large), SvsmResultCode.InvalidAddress);
        Probe.Result("address: SVSM memory, 2 MiB, rescind"u8, Calls.PValidateEntry(svsm | Large), SvsmResultCode.InvalidAddress);
        Refused("0xA0000"u8, 0xA_0000);
        Refused("0xFF000"u8, 0xF_F000);
        Refused("C-bit set"u8, TestMemory.PageAt(16) | start.EncryptionMask);
        Refused("C-bit set on a validated page"u8, TestMemory.PageAt(0) | start.EncryptionMask);
        Refused("above the C-bit"u8, start.EncryptionMask << 1);
        Refused("highest page"u8, 0xFFFF_FFFF_FFFF_F000);
        Refused("launch VMSA"u8, 0xFFFF_FFFF_F000);
        Refused("local APIC"u8, 0xFEE0_0000);
        Refused("just below the C-bit"u8, start.EncryptionMask - PageBytes);
    }

    private static void Refused(ReadOnlySpan<byte> name, ulong address)
    {
        Probe.Result(name, Calls.PValidateEntry(address | Validate), SvsmResultCode.InvalidAddress);
        Probe.Result(name, Calls.PValidateEntry(address), SvsmResultCode.InvalidAddress);
    }

    // Each page was assigned by itself, so the reverse map has 4-KiB entries: a 2-MiB validation has to say so, and to work page by page.
    private static void SplitPage()
    {
        ulong large = TestMemory.Split;
        Probe.True("2 MiB: pages made private"u8, TestMemory.MakePrivate(large, 512));
        Probe.Result("2 MiB: 4-KiB reverse map entries"u8, Calls.PValidateEntry(large | Validate | Large), SvsmResultCode.PValidateSizeMismatch);
        Probe.Equal("2 MiB: next is the one that failed"u8, Calls.ReadNext(Calls.Buffer), 0);
        ulong list = Calls.Buffer;
        for (int part = 0; part < 2; part++)
        {
            Calls.WriteHead(list, 256, 0);
            for (int i = 0; i < 256; i++)
            {
                Calls.WriteEntry(list, i, (large + ((ulong)((part * 256) + i) * PageBytes)) | Validate);
            }

            Probe.Result("2 MiB: page by page"u8, Calls.Core(CoreCall.PValidate, list), SvsmResultCode.Success);
        }

        Probe.Result("2 MiB: all valid already"u8, Calls.PValidateEntry(large | Validate | Large), SvsmResultCode.PValidateNoChange);
        Probe.Result("2 MiB: all valid already, ignored"u8, Calls.PValidateEntry(large | Validate | Large | PvalidateList.IgnoreNoChange), SvsmResultCode.Success);
        Probe.Result("2 MiB: one page rescinded"u8, Calls.PValidateEntry(large), SvsmResultCode.Success);
        Probe.Result("2 MiB: mixed"u8, Calls.PValidateEntry(large | Validate | Large), SvsmResultCode.PValidateSizeMismatch);
        Probe.Result("2 MiB: mixed, rescind"u8, Calls.PValidateEntry(large | Large), SvsmResultCode.PValidateSizeMismatch);
        Probe.Result("2 MiB: one page validated again"u8, Calls.PValidateEntry(large | Validate), SvsmResultCode.Success);
        Probe.Result("2 MiB: rescind with 4-KiB reverse map entries"u8, Calls.PValidateEntry(large | Large), SvsmResultCode.PValidateSizeMismatch);
        Volatile.Write(ref *(ulong*)large, 1);
        Probe.Equal("2 MiB: still valid"u8, Volatile.Read(ref *(ulong*)large), 1);
    }

    // Assigned as a whole: one entry of the reverse map, until a 4-KiB step makes the host split it.
    private static void LargePage()
    {
        ulong large = TestMemory.Large;
        ulong last = large + 0x1F_F000;
        Probe.True("large: made private as a whole"u8, Machine.MakeLargePagePrivate(large));
        Probe.Result("large: validate"u8, Calls.PValidateEntry(large | Validate | Large), SvsmResultCode.Success);
        Probe.True("large: is zero"u8, !new ReadOnlySpan<byte>((void*)large, 0x20_0000).ContainsAnyExcept((byte)0));
        Volatile.Write(ref *(ulong*)last, 0x1234);
        Probe.Result("large: twice"u8, Calls.PValidateEntry(large | Validate | Large), SvsmResultCode.PValidateNoChange);
        Probe.Result("large: 4-KiB page of it, twice"u8, Calls.PValidateEntry(last | Validate), SvsmResultCode.PValidateNoChange);
        Probe.Equal("large: twice leaves contents"u8, Volatile.Read(ref *(ulong*)last), 0x1234);
        Probe.Result("large: rescind"u8, Calls.PValidateEntry(large | Large), SvsmResultCode.Success);
        Probe.Result("large: rescind twice"u8, Calls.PValidateEntry(large | Large), SvsmResultCode.PValidateNoChange);
        Probe.Result("large: validate again"u8, Calls.PValidateEntry(large | Validate | Large), SvsmResultCode.Success);
        Probe.Equal("large: is zero again"u8, Volatile.Read(ref *(ulong*)last), 0);
        Probe.Result("large: 4-KiB page of it rescinded"u8, Calls.PValidateEntry(last), SvsmResultCode.Success);
        Probe.Result("large: mixed"u8, Calls.PValidateEntry(large | Large), SvsmResultCode.PValidateSizeMismatch);
        Probe.Result("large: 4-KiB page of it validated again"u8, Calls.PValidateEntry(last | Validate), SvsmResultCode.Success);
        Probe.Result("large: rescind after the split"u8, Calls.PValidateEntry(large | Large), SvsmResultCode.PValidateSizeMismatch);
    }
}
