// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Starts the CPUs beyond the first one, one after the other, while booting. Each gets a CpuArea, made at run
// time, so that CPUs cost nothing until they exist; then a VMSA, and a request to the host to run it.
//
// The APIC ids are 0 to count - 1; docs/kernel.md tells why. A host that does not run a CPU keeps the VM from booting, which it can do anyway.

using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Threading;
using Svsm.Kernel.Arch;
using Svsm.Kernel.Diagnostics;
using Svsm.Kernel.Guest;
using Svsm.Kernel.Memory;
using Svsm.Kernel.Modules;
using Svsm.Kernel.Processes;
using Svsm.Kernel.Protocols;
using Svsm.Platform;
using Svsm.Wire;

namespace Svsm.Kernel.Snp;

/// <summary>The CPUs beyond the first one.</summary>
internal static unsafe class ApplicationProcessors
{
    private const uint EferMsr = 0xC000_0080;

    private static int s_started;
    private static Vmpl s_guest;

    /// <summary>Starts the CPUs; ends the VM when that cannot be done.</summary>
    /// <param name="configuration">The measured configuration.</param>
    /// <param name="count">Number of CPUs, the first one included.</param>
    public static void Start(in ImageConfiguration configuration, int count)
    {
        s_guest = configuration.GuestVmpl;
        ProcessorState state = new()
        {
            Cr0 = X64.ReadCr0(),
            Cr4 = X64.ReadCr4(),
            Efer = X64.ReadMsr(EferMsr),
            Features = configuration.SevFeatures,
            Entry = EntryAddress(),
        };
        for (uint index = 1; index < count; index++)
        {
            if (!VmsaFrame.TryAllocate(out PhysicalAddress vmsa) || CpuArea.Create(out CpuArea area) != MemoryError.None)
            {
                Panic.Stop(TerminationReason.OutOfMemory, "no frames for CPU"u8, index);
                return;
            }

            if (!area.TryTranslate(KernelLayout.PerCpuData, out PhysicalAddress data))
            {
                Panic.Stop(TerminationReason.Internal, "no data page for CPU"u8, index);
            }

            using (FrameMapping mapping = FrameMapping.Map(data))
            {
                // SAFETY: a mapped frame, larger than the structure.
                ((PerCpu*)mapping.Pointer)->Index = index;
            }

            using (FrameMapping mapping = FrameMapping.Map(vmsa))
            {
                // SAFETY: a mapped frame, as large as the structure.
                ProcessorVmsa.Fill(ref *(Vmsa*)mapping.Pointer, in state, area.Release().Value | AddressSpace.EncryptionMask);
            }

            StartOne(index, vmsa, state.Features);
        }
    }

    private static void StartOne(uint index, PhysicalAddress vmsa, SevFeatures features)
    {
        // RMPADJUST makes a page a VMSA along with changing what a lower VMPL may do; VMPL1 gets nothing.
        SnpPlatform platform = default;
        platform.Open(vmsa, PageSize.Small);
        RmpResult result = platform.RmpAdjust(Vmpl.Vmpl1, RmpPermissions.VmsaPage);
        platform.Close();
        if (result != RmpResult.Success)
        {
            Panic.Stop(TerminationReason.RmpAdjust, "the VMSA of a CPU could not be made"u8, (ulong)result);
        }

        int before = s_started;
        if (!Host.TryCreateVcpu(index, Vmpl.Vmpl0, vmsa, features))
        {
            Panic.Stop(TerminationReason.CpuStart, "the host refused to start CPU"u8, index);
        }

        while (Volatile.Read(ref s_started) == before)
        {
            X64.Pause();
        }
    }

    [UnmanagedCallersOnly(EntryPoint = "svsm_cpu_main")]
    private static void Main()
    {
        DescriptorTables.Load();
        Host.RegisterPage();
        ExtendedState.Enable();
        Doorbell.Register();
        if (ModuleTable.IsUsed)
        {
            UserContext.PrepareCpu();
        }

        Interlocked.Increment(ref s_started);
        RequestLoop.Run(s_guest);
    }

    [System.Runtime.RuntimeImport("*", "svsm_cpu_entry_address")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    private static extern ulong EntryAddress();
}
