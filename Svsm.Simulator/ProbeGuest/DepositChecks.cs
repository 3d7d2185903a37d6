// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// DEPOSIT_MEM and WITHDRAW_MEM: pages that go and come back, and every reason for refusal.

using System;
using System.Threading;
using Svsm.Wire;

namespace Svsm.ProbeGuest;

internal static unsafe class DepositChecks
{
    private const int PageCount = 200;
    private const int FirstPage = 128;
    private const ulong PageBytes = 0x1000;

    public static void Run(in ProbeStart start)
    {
        ulong list = Calls.Buffer;
        ulong svsm = ((SecretsPage*)start.SecretsPage)->SvsmBase;
        Probe.Equal("deposit: nothing to withdraw at first"u8, MemoryAvailable, 0);
        Calls.WriteHead(list, 1, 0);
        Probe.Result("withdraw: nothing there"u8, Calls.Core(CoreCall.WithdrawMemory, list), SvsmResultCode.Success);
        Probe.Equal("withdraw: next is unchanged"u8, Calls.ReadNext(list), 0);

        Probe.True("deposit: pages made private"u8, TestMemory.MakePrivate(TestMemory.PageAt(FirstPage), PageCount));
        bool isValidated = true;
        for (int i = 0; i < PageCount; i++)
        {
            isValidated &= Calls.PValidateOne(TestMemory.PageAt(FirstPage + i), true, false, false) == SvsmResultCode.Success;
            Volatile.Write(ref *(ulong*)TestMemory.PageAt(FirstPage + i), ulong.MaxValue);
        }

        Probe.True("deposit: pages validated"u8, isValidated);
        FillList(list, PageCount);
        Probe.Result("deposit: more than one call takes"u8, Once(CoreCall.DepositMemory, list), SvsmResultCode.Incomplete);
        Probe.Result("deposit: the rest"u8, Once(CoreCall.DepositMemory, list), SvsmResultCode.Success);
        Probe.Equal("deposit: next is past the end"u8, Calls.ReadNext(list), PageCount);
        Probe.Equal("deposit: there is something to withdraw"u8, MemoryAvailable, 1);
        Probe.Result("deposit: page cannot be rescinded"u8, Calls.PValidateOne(TestMemory.PageAt(FirstPage), false, false, false), SvsmResultCode.InvalidAddress);
        Probe.Result("deposit: nor be a calling area"u8, Calls.Core(CoreCall.RemapCallingArea, TestMemory.PageAt(FirstPage)), SvsmResultCode.InvalidAddress);
        Refused("page that was deposited"u8, TestMemory.PageAt(FirstPage), SvsmResultCode.InvalidAddress);
        Refused("SVSM memory"u8, svsm, SvsmResultCode.InvalidAddress);
        Refused("not validated"u8, TestMemory.PageAt(65), SvsmResultCode.InvalidAddress);
        Refused("0xA0000"u8, 0xA_0000, SvsmResultCode.InvalidAddress);
        Refused("highest page"u8, 0xFFFF_FFFF_FFFF_F000, SvsmResultCode.InvalidAddress);
        Refused("the list's own page"u8, Calls.Area, SvsmResultCode.InvalidParameter);
        Refused("2-MiB page"u8, TestMemory.Split | 1, SvsmResultCode.PValidateSizeMismatch);
        Refused("page size 2"u8, TestMemory.PageAt(0) | 2, SvsmResultCode.InvalidParameter);
        Refused("reserved bit"u8, TestMemory.PageAt(0) | 0x40, SvsmResultCode.InvalidParameter);
        RefusedLists(list);

        Calls.WriteHead(list, PageCount + 10, 0);
        Probe.Result("withdraw: all"u8, Calls.Core(CoreCall.WithdrawMemory, list), SvsmResultCode.Success);
        Probe.Equal("withdraw: as many as were deposited"u8, Calls.ReadNext(list), PageCount);
        Probe.Equal("withdraw: nothing is left"u8, MemoryAvailable, 0);
        bool isZero = true;
        for (int i = 0; i < PageCount; i++)
        {
            ulong page = ((ulong*)(list + PvalidateList.EntriesOffset))[i];
            bool isOurs = page - TestMemory.PageAt(FirstPage) < PageCount * PageBytes && page % PageBytes == 0;
            isZero &= isOurs && !new ReadOnlySpan<byte>((void*)page, (int)PageBytes).ContainsAnyExcept((byte)0);
        }

        Probe.True("withdraw: ours, and zero"u8, isZero);
        Probe.Result("withdraw: page can be rescinded"u8, Calls.PValidateOne(TestMemory.PageAt(FirstPage), false, false, false), SvsmResultCode.Success);
    }

    private static ulong MemoryAvailable => Volatile.Read(ref *(byte*)(Calls.Area + CallingArea.MemoryAvailableOffset));

    private static void RefusedLists(ulong list)
    {
        Calls.WriteHead(list, 0, 0);
        Probe.Result("deposit: empty list"u8, Calls.Core(CoreCall.DepositMemory, list), SvsmResultCode.InvalidParameter);
        Probe.Result("withdraw: empty list"u8, Calls.Core(CoreCall.WithdrawMemory, list), SvsmResultCode.InvalidParameter);
        Calls.WriteHead(list, 511, 0);
        Probe.Result("deposit: one entry too many for its page"u8, Calls.Core(CoreCall.DepositMemory, list), SvsmResultCode.InvalidParameter);
        Probe.Result("withdraw: one entry too many for its page"u8, Calls.Core(CoreCall.WithdrawMemory, list), SvsmResultCode.InvalidParameter);
        Probe.Result("deposit: misaligned list"u8, Calls.Core(CoreCall.DepositMemory, list + 4), SvsmResultCode.InvalidParameter);
        Probe.Result("withdraw: misaligned list"u8, Calls.Core(CoreCall.WithdrawMemory, list + 4), SvsmResultCode.InvalidParameter);
        Probe.Result("deposit: list not validated"u8, Calls.Core(CoreCall.DepositMemory, TestMemory.PageAt(65)), SvsmResultCode.InvalidAddress);
        Probe.Result("withdraw: list not validated"u8, Calls.Core(CoreCall.WithdrawMemory, TestMemory.PageAt(65)), SvsmResultCode.InvalidAddress);
    }

    private static void Refused(ReadOnlySpan<byte> name, ulong entry, SvsmResultCode wanted)
    {
        Calls.WriteHead(Calls.Buffer, 1, 0);
        Calls.WriteEntry(Calls.Buffer, 0, entry);
        Probe.Result(name, Calls.Core(CoreCall.DepositMemory, Calls.Buffer), wanted);
    }

    private static void FillList(ulong list, ushort count)
    {
        Calls.WriteHead(list, count, 0);
        for (int i = 0; i < count; i++)
        {
            Calls.WriteEntry(list, i, TestMemory.PageAt(FirstPage + i));
        }
    }

    private static SvsmResultCode Once(CoreCall call, ulong list)
    {
        SvsmCall registers = new() { Rax = (uint)call, Rcx = list };
        Calls.CallOnce(ref registers);
        return (SvsmResultCode)registers.Rax;
    }
}
