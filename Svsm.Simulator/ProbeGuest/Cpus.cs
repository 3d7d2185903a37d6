// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The probe guest's vCPUs: the first one, and those that it makes itself, by CREATE_VCPU and a request to the host, as Linux does it. A vCPU
// finds its data by its stack. The others wait for work in a loop with PAUSE; the boot vCPU gives it and waits until all have done it.

using System;
using System.Runtime;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Threading;
using Svsm.Platform;
using Svsm.Wire;

namespace Svsm.ProbeGuest;

/// <summary>A vCPU of the probe guest.</summary>
internal unsafe struct Cpu
{
    /// <summary>Its GHCB page.</summary>
    public ulong* Ghcb;

    /// <summary>Its calling area.</summary>
    public byte* Area;

    /// <summary>#VC handled.</summary>
    public uint VcCount;

    /// <summary>Number of the last piece of work that it has done.</summary>
    public uint Done;
}

/// <summary>The vCPUs.</summary>
internal static unsafe class Cpus
{
    /// <summary>Most vCPUs that are used. Boot.S has room for as many.</summary>
    public const int MaxCount = 16;

    private const int StackShift = 14;
    private const ulong PageBytes = 0x1000;
    private const uint EferMsr = 0xC000_0080;
    private const ulong EferSvme = 1ul << 12;
    private const uint AddressSizes = 0x8000_0008;

    [InlineArray(MaxCount)]
    private struct Array
    {
        private Cpu _element0;
    }

    private static Array s_cpus;
    private static int s_started = 1;
    private static uint s_work;
    private static delegate*<int, void> s_job;

    /// <summary>This vCPU.</summary>
    public static ref Cpu Current => ref s_cpus[Index];

    /// <summary>Number of this vCPU.</summary>
    public static int Index => (int)((StackPointer() - Stacks()) >> StackShift);

    /// <summary>vCPUs of the VM, as the CPUID page says, at most <see cref="MaxCount"/>.</summary>
    public static int Count => Math.Min((int)(Machine.Cpuid(AddressSizes, 0).Ecx & 0xFF) + 1, MaxCount);

    /// <summary>SEV_FEATURES of this vCPU.</summary>
    public static SevFeatures Features => (SevFeatures)(X64.ReadMsr(SevMsr.SevStatus) >> SevStatus.FeaturesShift);

    /// <summary>The page for a vCPU's VMSA.</summary>
    public static ulong VmsaOf(int cpu) => Vmsas() + ((ulong)cpu * PageBytes);

    /// <summary>The page for a vCPU's calling area.</summary>
    public static ulong AreaOf(int cpu) => Areas() + ((ulong)cpu * PageBytes);

    /// <summary>Gives the first vCPU its pages.</summary>
    public static void Initialize()
    {
        for (int i = 0; i < MaxCount; i++)
        {
            s_cpus[i].Ghcb = (ulong*)(Ghcbs() + ((ulong)i * PageBytes));
        }
    }

    /// <summary>Writes the VMSA of a vCPU: in 64-bit mode, on the page tables of this one, with a stack of its own.</summary>
    /// <param name="cpu">Number of the vCPU.</param>
    /// <param name="page">Where to.</param>
    public static void FillVmsa(int cpu, ulong page)
    {
        SegmentRegister data = new() { Selector = 0x10, Attributes = 0xC93, Limit = uint.MaxValue };
        ref Vmsa vmsa = ref *(Vmsa*)page;
        new Span<byte>((void*)page, (int)PageBytes).Clear();
        vmsa.Cs = new SegmentRegister { Selector = 0x08, Attributes = 0xA9B, Limit = uint.MaxValue };
        vmsa.Ds = data;
        vmsa.Es = data;
        vmsa.Ss = data;
        vmsa.Tr = new SegmentRegister { Attributes = 0x8B };
        vmsa.Ldtr = new SegmentRegister { Attributes = 0x82 };

        // The first vCPU's GDT: a #VC handler returns to its code segment.
        DescriptorTable gdt;
        StoreGdt(&gdt);
        vmsa.Gdtr = new SegmentRegister { Limit = gdt.Limit, Base = gdt.Base };
        vmsa.Vmpl = (byte)Vmpl.Vmpl2;
        vmsa.Cr0 = X64.ReadCr0();
        vmsa.Cr3 = X64.ReadCr3();
        vmsa.Cr4 = X64.ReadCr4();
        vmsa.Efer = X64.ReadMsr(EferMsr) | EferSvme;
        vmsa.Rflags = 2;
        vmsa.Dr6 = 0xFFFF_0FF0;
        vmsa.Dr7 = 0x400;
        vmsa.Pat = 0x0007_0406_0007_0406;
        vmsa.Xcr0 = 1;
        vmsa.Mxcsr = 0x1F80;
        vmsa.SevFeatures = (ulong)Features;
        vmsa.Rip = Entry();
        vmsa.Rsp = Stacks() + ((ulong)(cpu + 1) << StackShift);
    }

    /// <summary>Asks the SVSM for a vCPU.</summary>
    public static SvsmResultCode Create(ulong vmsa, ulong area, ulong apicId)
    {
        SvsmCall call = new() { Rcx = vmsa, Rdx = area, R8 = apicId };
        return Calls.Call(SvsmProtocol.Core, (uint)CoreCall.CreateVcpu, ref call);
    }

    /// <summary>Makes a vCPU and waits until it is ready for work.</summary>
    /// <returns>What the SVSM said; ends the VM when it is the host that refuses.</returns>
    public static SvsmResultCode Start(int cpu)
    {
        FillVmsa(cpu, VmsaOf(cpu));
        SvsmResultCode result = Create(VmsaOf(cpu), AreaOf(cpu), (uint)cpu);
        if (result != SvsmResultCode.Success)
        {
            return result;
        }

        s_cpus[cpu].Area = (byte*)AreaOf(cpu);
        Volatile.Write(ref s_cpus[cpu].Done, uint.MaxValue);
        Run(cpu);
        return result;
    }

    /// <summary>Has the host run a vCPU that the SVSM knows, and waits until it is ready for work.</summary>
    public static void Run(int cpu)
    {
        if (!Machine.CreateVcpu((uint)cpu, VmsaOf(cpu), Features))
        {
            Machine.Terminate(ProbeTermination.GhcbRequest);
        }

        while (Volatile.Read(ref s_cpus[cpu].Done) != s_work)
        {
            X64.Pause();
        }

        s_started = Math.Max(s_started, cpu + 1);
    }

    /// <summary>Makes all vCPUs.</summary>
    /// <returns>What the SVSM said to the first one that it refused, or success.</returns>
    public static SvsmResultCode StartAll()
    {
        SvsmResultCode result = SvsmResultCode.Success;
        int count = Count;
        for (int cpu = 1; cpu < count && result == SvsmResultCode.Success; cpu++)
        {
            result = Start(cpu);
        }

        return result;
    }

    /// <summary>Has every vCPU do something, at the same time.</summary>
    /// <param name="job">What to do; gets the number of the vCPU.</param>
    public static void RunOnAll(delegate*<int, void> job)
    {
        Begin(job);
        job(0);
        for (int cpu = 1; cpu < s_started; cpu++)
        {
            WaitFor(cpu);
        }
    }

    /// <summary>Has the other vCPUs do something, and does not wait.</summary>
    public static void Begin(delegate*<int, void> job)
    {
        s_job = job;
        Volatile.Write(ref s_work, s_work + 1);
    }

    /// <summary>Waits until a vCPU has done its work.</summary>
    public static void WaitFor(int cpu)
    {
        while (Volatile.Read(ref s_cpus[cpu].Done) != s_work)
        {
            X64.Pause();
        }
    }

    [UnmanagedCallersOnly(EntryPoint = "probe_cpu_main")]
    private static void Main()
    {
        Machine.OpenCpu();
        int index = Index;
        uint done = Volatile.Read(ref s_work);
        Volatile.Write(ref s_cpus[index].Done, done);
        while (true)
        {
            uint work = Volatile.Read(ref s_work);
            if (work == done)
            {
                X64.Pause();
                continue;
            }

            s_job(index);
            done = work;
            Volatile.Write(ref s_cpus[index].Done, done);
        }
    }

    [RuntimeImport("*", "probe_stack_pointer")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    private static extern ulong StackPointer();

    [RuntimeImport("*", "probe_store_gdt")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    private static extern void StoreGdt(DescriptorTable* table);

    [RuntimeImport("*", "probe_stacks_address")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    private static extern ulong Stacks();

    [RuntimeImport("*", "probe_ghcbs_address")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    private static extern ulong Ghcbs();

    [RuntimeImport("*", "probe_vmsas_address")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    private static extern ulong Vmsas();

    [RuntimeImport("*", "probe_areas_address")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    private static extern ulong Areas();

    [RuntimeImport("*", "probe_cpu_entry_address")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    private static extern ulong Entry();
}
