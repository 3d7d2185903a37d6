// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Pages that the guest gives to the host and takes back without telling the SVSM: assigned, but not validated any more. What the SVSM was to
// do with them fails; it and the guest go on, and such a page can never be validated again.

using Svsm.Wire;

namespace Svsm.ProbeGuest;

internal static class GoneChecks
{
    private const int First = 100;

    public static void Run()
    {
        ulong list = TestMemory.PageAt(First);
        ulong area = TestMemory.PageAt(First + 1);
        ulong page = TestMemory.PageAt(First + 2);
        Probe.True("gone: pages made private"u8, TestMemory.MakePrivate(list, 3));
        foreach (ulong each in (System.ReadOnlySpan<ulong>)[list, area, page])
        {
            Probe.Result("gone: page validated"u8, Calls.PValidateOne(each, true, false, false), SvsmResultCode.Success);
            Probe.True("gone: page shared"u8, Machine.ChangePageState(each, PageStateOperation.Shared));
            Probe.True("gone: page private again"u8, Machine.ChangePageState(each, PageStateOperation.Private));
        }

        Probe.Result("gone: list"u8, Calls.Core(CoreCall.PValidate, list), SvsmResultCode.InvalidAddress);
        Probe.Result("gone: calling area"u8, Calls.Core(CoreCall.RemapCallingArea, area), SvsmResultCode.InvalidAddress);
        Probe.Result("gone: page validated twice"u8, Calls.PValidateOne(page, true, false, false), SvsmResultCode.PValidateNoChange);
        Probe.Result("gone: page rescinded"u8, Calls.PValidateOne(page, false, false, false), SvsmResultCode.PValidateFailInput);
        Probe.Result("gone: page validated again"u8, Calls.PValidateOne(page, true, false, false), SvsmResultCode.InvalidAddress);
        Probe.Result("gone: page rescinded again"u8, Calls.PValidateOne(page, false, false, false), SvsmResultCode.InvalidAddress);
        Probe.Result("gone: the SVSM goes on"u8, Calls.Core(CoreCall.QueryProtocol, 1), SvsmResultCode.Success);
    }
}
