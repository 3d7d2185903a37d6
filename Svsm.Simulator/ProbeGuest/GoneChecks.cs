// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Pages that the guest gives to the host and takes back without telling the SVSM: assigned, but not validated any more. What the SVSM was to
// do with them fails; it and the guest go on, and such a page can never be validated again.

using Svsm.Platform;
using Svsm.Wire;

namespace Svsm.ProbeGuest;

internal static unsafe class GoneChecks
{
    private const int First = 100;
    private const int Count = 10;

    public static void Run()
    {
        ulong list = TestMemory.PageAt(First);
        ulong area = TestMemory.PageAt(First + 1);
        ulong page = TestMemory.PageAt(First + 2);
        Probe.True("gone: pages made private"u8, TestMemory.MakePrivate(list, Count));
        for (int i = 0; i < Count; i++)
        {
            Probe.Result("gone: page validated"u8, Calls.PValidateOne(TestMemory.PageAt(First + i), true, false, false), SvsmResultCode.Success);
        }

        Probe.True("gone: pages are taken"u8, Machine.TakeAway(list) && Machine.TakeAway(area) && Machine.TakeAway(page));
        Probe.Result("gone: list"u8, Calls.Core(CoreCall.PValidate, list), SvsmResultCode.InvalidAddress);
        Probe.Result("gone: list of a deposit"u8, Calls.Core(CoreCall.DepositMemory, list), SvsmResultCode.InvalidAddress);
        Probe.Result("gone: calling area"u8, Calls.Core(CoreCall.RemapCallingArea, area), SvsmResultCode.InvalidAddress);
        Probe.Result("gone: page validated twice"u8, Calls.PValidateOne(page, true, false, false), SvsmResultCode.PValidateNoChange);
        Probe.Result("gone: page rescinded"u8, Calls.PValidateOne(page, false, false, false), SvsmResultCode.PValidateFailInput);
        Probe.Result("gone: page validated again"u8, Calls.PValidateOne(page, true, false, false), SvsmResultCode.InvalidAddress);
        Probe.Result("gone: page rescinded again"u8, Calls.PValidateOne(page, false, false, false), SvsmResultCode.InvalidAddress);
        Lent(TestMemory.PageAt(First + 3), TestMemory.PageAt(First + 4));
        if (Cpus.Count > 1)
        {
            Vmsas(TestMemory.PageAt(First + 5), TestMemory.PageAt(First + 6), TestMemory.PageAt(First + 7), TestMemory.PageAt(First + 8));
        }

        Probe.Result("gone: the SVSM goes on"u8, Calls.Core(CoreCall.QueryProtocol, 1), SvsmResultCode.Success);
    }

    // Deposited after it was taken, and taken after it was deposited: then the SVSM finds out when it gives the page back.
    private static void Lent(ulong before, ulong after)
    {
        Probe.True("gone: page to lend is taken"u8, Machine.TakeAway(before));
        Calls.WriteHead(Calls.Buffer, 1, 0);
        Calls.WriteEntry(Calls.Buffer, 0, before);
        Probe.Result("gone: deposit"u8, Calls.Core(CoreCall.DepositMemory, Calls.Buffer), SvsmResultCode.PValidateFailInput);
        Calls.WriteHead(Calls.Buffer, 1, 0);
        Calls.WriteEntry(Calls.Buffer, 0, after);
        Probe.Result("gone: deposit of another"u8, Calls.Core(CoreCall.DepositMemory, Calls.Buffer), SvsmResultCode.Success);
        Probe.True("gone: page that was lent is taken"u8, Machine.TakeAway(after));
        Calls.WriteHead(Calls.Buffer, 1, 0);
        Probe.Result("gone: withdrawal"u8, Calls.Core(CoreCall.WithdrawMemory, Calls.Buffer), SvsmResultCode.PValidateFailInput);
        Probe.Result("gone: page that was lent is lost"u8, Calls.PValidateOne(after, true, false, false), SvsmResultCode.InvalidAddress);
    }

    // vCPU 1 waits for work on the VMSA that it has. One that is made in its place, and that the host never runs, goes.
    private static void Vmsas(ulong never, ulong unused, ulong second, ulong area)
    {
        Cpus.FillVmsa(1, never);
        Probe.True("gone: page for a VMSA is taken"u8, Machine.TakeAway(never));
        Probe.Result("gone: create"u8, Cpus.Create(never, area, 1), SvsmResultCode.PValidateFailInput);
        Probe.Result("gone: a page that was to be a VMSA is lost"u8, Calls.PValidateOne(never, true, false, false), SvsmResultCode.InvalidAddress);

        Cpus.FillVmsa(1, unused);
        Probe.Result("gone: create in place of another"u8, Cpus.Create(unused, area, 1), SvsmResultCode.Success);
        Probe.True("gone: VMSA is taken"u8, Machine.TakeAway(unused));
        Probe.Result("gone: delete"u8, Calls.Core(CoreCall.DeleteVcpu, unused), SvsmResultCode.PValidateFailInput);
        Probe.Result("gone: delete again"u8, Calls.Core(CoreCall.DeleteVcpu, unused), SvsmResultCode.InvalidAddress);
        Probe.Result("gone: its calling area is ordinary memory"u8, Calls.PValidateOne(area, false, false, false), SvsmResultCode.Success);
        Probe.Result("gone: which can be validated"u8, Calls.PValidateOne(area, true, false, false), SvsmResultCode.Success);

        // Now the CPU itself finds out, when the old vCPU calls.
        Cpus.FillVmsa(1, second);
        Probe.Result("gone: create another"u8, Cpus.Create(second, area, 1), SvsmResultCode.Success);
        Probe.True("gone: this VMSA is taken"u8, Machine.TakeAway(second));
        Cpus.Begin(&CallOnFirst);
        SvsmResultCode result;
        do
        {
            X64.Pause();
            result = Calls.PValidateOne(area, false, false, false);
        }
        while (result == SvsmResultCode.InvalidAddress);

        Probe.Result("gone: the CPU gives up the calling area"u8, result, SvsmResultCode.Success);
        Probe.Result("gone: the VMSA is lost"u8, Calls.Core(CoreCall.DeleteVcpu, second), SvsmResultCode.InvalidAddress);
        do
        {
            X64.Pause();
            result = Calls.Core(CoreCall.DeleteVcpu, Cpus.VmsaOf(1));
        }
        while (result == SvsmResultCode.VmsaInUse);

        Probe.Result("gone: the VMSA that was replaced"u8, result, SvsmResultCode.Success);
        Probe.Result("gone: the vCPU made again"u8, Cpus.Start(1), SvsmResultCode.Success);
    }

    // Nobody answers: the CPU has lost the vCPU that it serves.
    private static void CallOnFirst(int cpu)
    {
        if (cpu == 1)
        {
            Calls.Core(CoreCall.QueryProtocol, 1);
        }
    }
}
