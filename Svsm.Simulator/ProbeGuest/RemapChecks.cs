// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// REMAP_CA: another calling area, the same one, and every reason for refusal.

using System.Runtime;
using System.Runtime.CompilerServices;
using System.Threading;
using Svsm.Wire;

namespace Svsm.ProbeGuest;

internal static unsafe class RemapChecks
{
    private const ulong PageBytes = 0x1000;

    public static void Run(in ProbeStart start)
    {
        ref SecretsPage secrets = ref *(SecretsPage*)start.SecretsPage;
        ulong old = Calls.Area;
        ulong other = Pages();
        Probe.Result("remap: same area"u8, Remap(old), SvsmResultCode.Success);
        Probe.Result("remap: misaligned"u8, Remap(other + 8), SvsmResultCode.InvalidParameter);
        Probe.Result("remap: SVSM memory"u8, Remap(secrets.SvsmBase), SvsmResultCode.InvalidAddress);
        Probe.Result("remap: not validated"u8, Remap(TestMemory.PageAt(65)), SvsmResultCode.InvalidAddress);
        Probe.Result("remap: C-bit set"u8, Remap(other | start.EncryptionMask), SvsmResultCode.InvalidAddress);
        Probe.Result("remap: 0xA0000"u8, Remap(0xA_0000), SvsmResultCode.InvalidAddress);
        Probe.Result("remap: highest page"u8, Remap(0xFFFF_FFFF_FFFF_F000), SvsmResultCode.InvalidAddress);

        // Pending in the new area must be cleared, or the SVSM would take a call that nobody made.
        Volatile.Write(ref *(ulong*)other, ulong.MaxValue);
        Volatile.Write(ref *(ulong*)(other + 8), 0x1122_3344_5566_7788);
        Probe.Result("remap: another area"u8, Remap(other), SvsmResultCode.Success);
        Probe.Equal("remap: its first bytes are cleared"u8, Volatile.Read(ref *(ulong*)other), 0);
        Probe.Equal("remap: its buffer is not"u8, Volatile.Read(ref *(ulong*)(other + 8)), 0x1122_3344_5566_7788);

        // The old area is ordinary memory now: a call there is none, a rescind is allowed.
        Calls.UseArea(other);
        Probe.Result("remap: call in the new area"u8, Calls.Core(CoreCall.QueryProtocol, 1), SvsmResultCode.Success);
        Calls.WriteHead(TestMemory.PageAt(0), 1, 0);
        Calls.WriteEntry(TestMemory.PageAt(0), 0, other);
        Probe.Result("remap: new area cannot be rescinded"u8, Calls.Core(CoreCall.PValidate, TestMemory.PageAt(0)), SvsmResultCode.InvalidAddress);
        Probe.Result("remap: old area can"u8, Calls.PValidateOne(old, false, false, false), SvsmResultCode.Success);
        Probe.Result("remap: old area validated again"u8, Calls.PValidateOne(old, true, false, false), SvsmResultCode.Success);
        Probe.Result("remap: back"u8, Remap(old), SvsmResultCode.Success);
        Calls.UseArea(old);
        Probe.Result("remap: call in the old area"u8, Calls.Core(CoreCall.QueryProtocol, 1), SvsmResultCode.Success);
    }

    private static SvsmResultCode Remap(ulong gpa) => Calls.Core(CoreCall.RemapCallingArea, gpa);

    [RuntimeImport("*", "probe_pages_address")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    private static extern ulong Pages();
}
