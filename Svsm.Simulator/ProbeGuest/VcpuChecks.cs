// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// CREATE_VCPU and DELETE_VCPU: every reason for refusal, vCPUs that run and call, one that is deleted and made again. With one vCPU in the VM
// only the refusals.

using System.Runtime;
using System.Runtime.CompilerServices;
using System.Threading;
using Svsm.Platform;
using Svsm.Wire;

namespace Svsm.ProbeGuest;

internal static unsafe class VcpuChecks
{
    private const ulong PageBytes = 0x1000;
    private const ulong EferSvme = 1ul << 12;
    private const int BusyTries = 100_000;

    private static uint s_answered;
    private static bool s_isReleased;
    private static bool s_isHeld;
    private static bool s_rests;

    public static void Run(in ProbeStart start)
    {
        Probe.Result("create: APIC id of the caller"u8, CreateSpare(0), SvsmResultCode.InvalidParameter);
        Probe.Result("create: APIC id of no CPU"u8, CreateSpare(512), SvsmResultCode.InvalidParameter);
        Probe.Result("create: highest APIC id"u8, CreateSpare(uint.MaxValue), SvsmResultCode.InvalidParameter);
        Probe.Result("delete: misaligned"u8, Delete(Spare + 8), SvsmResultCode.InvalidParameter);
        Probe.Result("delete: ordinary page"u8, Delete(Spare), SvsmResultCode.InvalidAddress);
        Probe.Result("delete: calling area"u8, Delete(Calls.Area), SvsmResultCode.InvalidAddress);
        Probe.Result("delete: SVSM memory"u8, Delete(((SecretsPage*)start.SecretsPage)->SvsmBase), SvsmResultCode.InvalidAddress);
        Probe.Result("delete: not validated"u8, Delete(TestMemory.PageAt(65)), SvsmResultCode.InvalidAddress);
        Probe.Result("delete: highest page"u8, Delete(0xFFFF_FFFF_FFFF_F000), SvsmResultCode.InvalidAddress);
        if (Cpus.Count > 1)
        {
            Refusals(in start);
            Probe.Result("create: all vCPUs"u8, Cpus.StartAll(), SvsmResultCode.Success);
            Calling();
            Busy();
            Deleting();
        }
    }

    private static ulong Spare => Pages() + PageBytes;

    private static ulong SpareArea => Pages() + (2 * PageBytes);

    private static void Refusals(in ProbeStart start)
    {
        ulong svsm = ((SecretsPage*)start.SecretsPage)->SvsmBase;
        Cpus.FillVmsa(1, Spare);
        Probe.Result("create: misaligned VMSA"u8, Cpus.Create(Spare + 8, SpareArea, 1), SvsmResultCode.InvalidParameter);
        Probe.Result("create: misaligned calling area"u8, Cpus.Create(Spare, SpareArea + 0x800, 1), SvsmResultCode.InvalidParameter);
        Probe.Result("create: VMSA = calling area"u8, Cpus.Create(Spare, Spare, 1), SvsmResultCode.InvalidParameter);
        Probe.Result("create: the caller's calling area"u8, Cpus.Create(Spare, Calls.Area, 1), SvsmResultCode.InvalidParameter);
        Probe.Result("create: calling area as VMSA"u8, Cpus.Create(Calls.Area, SpareArea, 1), SvsmResultCode.InvalidAddress);
        Probe.Result("create: SVSM memory as VMSA"u8, Cpus.Create(svsm, SpareArea, 1), SvsmResultCode.InvalidAddress);
        Probe.Result("create: SVSM memory as calling area"u8, Cpus.Create(Spare, svsm, 1), SvsmResultCode.InvalidAddress);
        Probe.Result("create: VMSA not validated"u8, Cpus.Create(TestMemory.PageAt(65), SpareArea, 1), SvsmResultCode.InvalidAddress);
        Probe.Result("create: calling area not validated"u8, Cpus.Create(Spare, TestMemory.PageAt(65), 1), SvsmResultCode.InvalidAddress);
        Probe.Result("create: C-bit set"u8, Cpus.Create(Spare | start.EncryptionMask, SpareArea, 1), SvsmResultCode.InvalidAddress);
        Probe.Result("create: 0xA0000"u8, Cpus.Create(0xA_0000, SpareArea, 1), SvsmResultCode.InvalidAddress);
        Probe.Result("create: highest page"u8, Cpus.Create(0xFFFF_FFFF_FFFF_F000, SpareArea, 1), SvsmResultCode.InvalidAddress);

        ref Vmsa vmsa = ref *(Vmsa*)Spare;
        for (byte vmpl = 0; vmpl < 4; vmpl++)
        {
            vmsa.Vmpl = vmpl;
            if (vmpl != (byte)Vmpl.Vmpl2)
            {
                Probe.Result("create: another VMPL"u8, CreateSpare(1), SvsmResultCode.InvalidParameter);
            }
        }

        vmsa.Vmpl = (byte)Vmpl.Vmpl2;
        vmsa.Efer &= ~EferSvme;
        Probe.Result("create: SVME clear"u8, CreateSpare(1), SvsmResultCode.InvalidParameter);
        vmsa.Efer |= EferSvme;
        vmsa.SevFeatures ^= (ulong)SevFeatures.RestrictedInjection;
        Probe.Result("create: other SEV features"u8, CreateSpare(1), SvsmResultCode.InvalidParameter);
        vmsa.SevFeatures = 0;
        Probe.Result("create: no SEV features"u8, CreateSpare(1), SvsmResultCode.InvalidParameter);

        // Refused pages are the guest's as before.
        Volatile.Write(ref vmsa.Rax, 0x1234);
        Probe.Equal("create: a refused page can be written"u8, Volatile.Read(ref vmsa.Rax), 0x1234);
        Probe.Result("create: a refused page can be rescinded"u8, Calls.PValidateOne(Spare, false, false, false), SvsmResultCode.Success);
        Probe.Result("create: and validated again"u8, Calls.PValidateOne(Spare, true, false, false), SvsmResultCode.Success);
    }

    private static void Calling()
    {
        s_answered = 0;
        Cpus.RunOnAll(&Query);
        Probe.Equal("vCPUs: all are answered"u8, s_answered, (ulong)Cpus.Count);
        Probe.Result("vCPUs: VMSA cannot be rescinded"u8, Calls.PValidateOne(Cpus.VmsaOf(1), false, false, false), SvsmResultCode.InvalidAddress);
        Probe.Result("vCPUs: VMSA cannot be validated"u8, Calls.PValidateOne(Cpus.VmsaOf(1), true, false, false), SvsmResultCode.InvalidAddress);
        Probe.Result("vCPUs: calling area of another"u8, Calls.Core(CoreCall.RemapCallingArea, Cpus.AreaOf(1)), SvsmResultCode.InvalidParameter);
        Probe.Result("vCPUs: VMSA as calling area"u8, Calls.Core(CoreCall.RemapCallingArea, Cpus.VmsaOf(1)), SvsmResultCode.InvalidAddress);
        Probe.Result("vCPUs: list in a VMSA"u8, Calls.Core(CoreCall.PValidate, Cpus.VmsaOf(1)), SvsmResultCode.InvalidAddress);
        Cpus.FillVmsa(1, Spare);
        Probe.Result("vCPUs: VMSA of another as calling area"u8, Cpus.Create(Spare, Cpus.VmsaOf(1), 1), SvsmResultCode.InvalidAddress);
        Probe.Result("vCPUs: VMSA of another"u8, Cpus.Create(Cpus.VmsaOf(1), SpareArea, 1), SvsmResultCode.InvalidAddress);
    }

    // A vCPU that is in the SVSM most of the time, and another one that wants what it has: sooner or later it comes in the middle.
    private static void Busy()
    {
        const ulong Page = TestMemory.Split;
        ref Vmsa vmsa = ref *(Vmsa*)Spare;
        vmsa.Efer = 0;
        s_isReleased = false;
        Cpus.Begin(&ValidateForEver);
        SvsmResultCode create = UntilBusy(CoreCall.CreateVcpu, Spare, SpareArea, 1);
        SvsmResultCode delete = UntilBusy(CoreCall.DeleteVcpu, Cpus.VmsaOf(1));
        SvsmResultCode remap = UntilBusy(CoreCall.RemapCallingArea, Page);
        SvsmResultCode deposit = UntilBusy(CoreCall.DepositMemory, Page);
        SvsmResultCode withdraw = UntilBusy(CoreCall.WithdrawMemory, Page);
        Calls.WriteHead(Calls.Buffer, 1, 0);
        Calls.WriteEntry(Calls.Buffer, 0, Page | PvalidateList.Validate | PvalidateList.IgnoreNoChange);
        SvsmResultCode validate = UntilBusy(CoreCall.PValidate, Calls.Buffer);
        Volatile.Write(ref s_isReleased, true);
        Cpus.WaitFor(1);
        Probe.Result("create: a vCPU that is being served"u8, create, SvsmResultCode.Busy);
        Probe.Result("delete: a vCPU that is being served"u8, delete, SvsmResultCode.Busy);
        Probe.Result("remap: a page that another vCPU works on"u8, remap, SvsmResultCode.Busy);
        Probe.Result("deposit: list in such a page"u8, deposit, SvsmResultCode.Busy);
        Probe.Result("withdraw: list in such a page"u8, withdraw, SvsmResultCode.Busy);
        Probe.Result("validate: such a page"u8, validate, SvsmResultCode.Busy);
    }

    // Makes a call again and again until it is answered with BUSY.
    private static SvsmResultCode UntilBusy(CoreCall name, ulong rcx, ulong rdx = 0, ulong r8 = 0)
    {
        SvsmResultCode result = SvsmResultCode.Success;
        for (int i = 0; i < BusyTries && result != SvsmResultCode.Busy; i++)
        {
            SvsmCall call = new() { Rax = (uint)name, Rcx = rcx, Rdx = rdx, R8 = r8 };
            Calls.CallOnce(ref call);
            result = (SvsmResultCode)call.Rax;
            if (name == CoreCall.PValidate && result == SvsmResultCode.Success)
            {
                // It was free at this moment; the same list again.
                Calls.WriteHead(rcx, 1, 0);
            }

            if (name == CoreCall.RemapCallingArea && result == SvsmResultCode.Success)
            {
                // It was free at this moment. The other vCPU rests until it is given back: what the call back answers is read there, when it is free again.
                ulong old = Calls.Area;
                Calls.UseArea(rcx);
                Volatile.Write(ref s_rests, false);
                Volatile.Write(ref s_isHeld, true);
                while (!Volatile.Read(ref s_rests))
                {
                    X64.Pause();
                }

                Calls.Core(CoreCall.RemapCallingArea, old);
                Calls.UseArea(old);
                Volatile.Write(ref s_isHeld, false);
            }
        }

        return result;
    }

    private static void ValidateForEver(int cpu)
    {
        const int Count = 500;
        for (ulong flags = 0; cpu == 1 && !Volatile.Read(ref s_isReleased); flags ^= PvalidateList.Validate)
        {
            while (Volatile.Read(ref s_isHeld))
            {
                Volatile.Write(ref s_rests, true);
                X64.Pause();
            }

            Calls.WriteHead(Calls.Buffer, Count, 0);
            for (int i = 0; i < Count; i++)
            {
                Calls.WriteEntry(Calls.Buffer, i, (TestMemory.Split + ((ulong)i * PageBytes)) | flags | PvalidateList.IgnoreNoChange);
            }

            Calls.Core(CoreCall.PValidate, Calls.Buffer);
        }
    }

    private static void Deleting()
    {
        ulong vmsa = Cpus.VmsaOf(1);
        Probe.Result("delete: a vCPU that runs"u8, Delete(vmsa), SvsmResultCode.VmsaInUse);
        s_isReleased = false;
        Cpus.Begin(&HaltOnFirst);
        while (!Volatile.Read(ref s_isReleased))
        {
            X64.Pause();
        }

        // The vCPU is on its way into HLT: in use until it is there.
        SvsmResultCode result;
        do
        {
            X64.Pause();
            result = Delete(vmsa);
        }
        while (result == SvsmResultCode.VmsaInUse);

        Probe.Result("delete: a vCPU that halts"u8, result, SvsmResultCode.Success);
        Probe.Result("delete: twice"u8, Delete(vmsa), SvsmResultCode.InvalidAddress);
        Probe.Equal("delete: the VMSA can be read again"u8, ((Vmsa*)vmsa)->Vmpl, (ulong)Vmpl.Vmpl2);
        Probe.Equal("delete: it is not runnable"u8, ((Vmsa*)vmsa)->Efer & EferSvme, 0);
        Probe.Result("delete: its calling area is ordinary memory"u8, Calls.PValidateOne(Cpus.AreaOf(1), false, false, false), SvsmResultCode.Success);
        Probe.Result("delete: which can be validated"u8, Calls.PValidateOne(Cpus.AreaOf(1), true, false, false), SvsmResultCode.Success);
        Probe.Result("delete: the vCPU made again"u8, Cpus.Start(1), SvsmResultCode.Success);

        // A VMSA in another page for the same APIC id: the old one stays a VMSA until it is deleted.
        s_isReleased = false;
        Cpus.Begin(&HaltOnFirst);
        while (!Volatile.Read(ref s_isReleased))
        {
            X64.Pause();
        }

        Cpus.FillVmsa(1, Spare);
        do
        {
            X64.Pause();
            result = CreateSpare(1);
        }
        while (result == SvsmResultCode.Busy);

        Probe.Result("create: in place of another"u8, result, SvsmResultCode.Success);
        Probe.Result("create: the old calling area is ordinary memory"u8, Calls.Core(CoreCall.PValidate, Cpus.AreaOf(1)), SvsmResultCode.InvalidParameter);
        Probe.Result("delete: the VMSA that was replaced"u8, DeleteWhenIdle(vmsa), SvsmResultCode.Success);
        Probe.Result("delete: the one in its place"u8, DeleteWhenIdle(Spare), SvsmResultCode.Success);
        Probe.Result("create: and the first one again"u8, Cpus.Start(1), SvsmResultCode.Success);
        s_answered = 0;
        Cpus.RunOnAll(&Query);
        Probe.Equal("vCPUs: all are answered again"u8, s_answered, (ulong)Cpus.Count);
    }

    private static SvsmResultCode DeleteWhenIdle(ulong vmsa)
    {
        SvsmResultCode result;
        do
        {
            X64.Pause();
            result = Delete(vmsa);
        }
        while (result == SvsmResultCode.VmsaInUse);

        return result;
    }

    private static void Query(int cpu)
    {
        SvsmCall call = new() { Rcx = 1, R9 = (ulong)cpu };
        if (Calls.Call(SvsmProtocol.Core, (uint)CoreCall.QueryProtocol, ref call) == SvsmResultCode.Success && call.Rcx == ((1ul << 32) | 1) && call.R9 == (ulong)cpu)
        {
            Interlocked.Increment(ref s_answered);
        }
    }

    private static void HaltOnFirst(int cpu)
    {
        if (cpu != 1)
        {
            return;
        }

        Volatile.Write(ref s_isReleased, true);
        while (true)
        {
            X64.Halt();
        }
    }

    private static SvsmResultCode CreateSpare(ulong apicId) => Cpus.Create(Spare, SpareArea, apicId);

    private static SvsmResultCode Delete(ulong vmsa) => Calls.Core(CoreCall.DeleteVcpu, vmsa);

    [RuntimeImport("*", "probe_pages_address")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    private static extern ulong Pages();
}
