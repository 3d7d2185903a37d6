// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// From the entry code to the request loop. The order is the order of trust: what the processor vouches for, then what the image
// was measured with, then what the host says.
//
//   1  descriptor tables; CPUID page, SEV_STATUS and VMPL checked          no console yet: a failure is a termination code
//   2  GHCB protocol agreed on, GHCB page shared and registered            console from here on
//   3  host features, vCPU count, memory map checked
//   4  own memory validated, page states made, low area given back
//   5  the guest's pages, VMSA and vCPU
//   6  the modules
//   7  the other CPUs
//   8  request loop, on every CPU

using System;
using System.Runtime.InteropServices;
using System.Threading;
using Svsm.Kernel.Arch;
using Svsm.Kernel.Diagnostics;
using Svsm.Kernel.Guest;
using Svsm.Kernel.Memory;
using Svsm.Kernel.Modules;
using Svsm.Kernel.Processes;
using Svsm.Kernel.Protocols;
using Svsm.Kernel.Snp;
using Svsm.Platform;
using Svsm.Wire;

namespace Svsm.Kernel;

/// <summary>The kernel's main line.</summary>
internal static unsafe class KernelMain
{
    [UnmanagedCallersOnly(EntryPoint = "svsm_kernel_main")]
    private static void Main(ulong encryptionMask)
    {
        // SAFETY: the builder maps the configuration there, read-only, and it is measured.
        ref readonly ImageConfiguration configuration = ref *(ImageConfiguration*)KernelAddressSpace.Configuration;
        int encryptionBit = System.Numerics.BitOperations.TrailingZeroCount(encryptionMask);

        DescriptorTables.Build();
        DescriptorTables.Load();
        CheckConfiguration(encryptionMask, in configuration);
        if (!CpuidTable.TryOpen(VcHandler.CpuidPage, out CpuidTable cpuid))
        {
            Panic.Stop(TerminationReason.CpuidPage, "the CPUID page has too many entries"u8);
        }

        Processor.Protect(in cpuid);
        ExtendedState.Choose(in cpuid);
        ProcessorRandom.Initialize(in cpuid);
        ExtendedState.Enable();
        ulong status = X64.ReadMsr(SevMsr.SevStatus);
        TerminationReason reason = SevStatusCheck.Check(status, configuration.SevFeatures);
        if (reason != TerminationReason.None)
        {
            Panic.Stop(reason, "SEV_STATUS is not what the image was measured with"u8, status);
        }

        CheckVmpl();
        Host.Negotiate(encryptionBit);
        Host.RegisterPage();
        Devices.Console.Initialize(configuration.ConsolePort);
        Log.Initialize(configuration.ConsoleLevel);
        Log.Text("svsm: Svsm.Kernel "u8);
        Log.Text(KernelVersion.Text);
        Log.Text(", VMPL0, C-bit "u8);
        Log.Decimal((ulong)encryptionBit);
        Log.Text(", SEV_STATUS "u8);
        Log.Hex(status);
        Log.End(default);
        Host.CheckFeatures();
        Doorbell.Initialize(configuration.SevFeatures);
        Doorbell.Register();
        if (configuration.Flavour == HostFlavour.StockQemu)
        {
            // Such a host launches every vCPU with a VMSA at VMPL0, the further ones at the reset vector. It could run them when a guest
            // has its code there: so there is none, whatever VMPLs the host claims to have.
            Panic.Stop(TerminationReason.SingleVmpl, "an image for stock QEMU starts no guest: all vCPUs are launched at VMPL0 there"u8);
        }

        if (!cpuid.TryGetPageLimit(encryptionBit, out ulong pageLimit))
        {
            Panic.Stop(TerminationReason.CpuidPage, "the CPUID page has no physical-address size from 32 to 52 bits"u8);
        }

        if (!cpuid.HasInvlpgb)
        {
            Panic.Stop(TerminationReason.NoInvlpgb, "the CPUID page has no INVLPGB (function 0x80000008, EBX bit 3)"u8);
        }

        bool isShared = ReadParameters(out int cpuCount);
        KernelMemory.ReadMap(in configuration, pageLimit);
        KernelMemory.ValidateHeap(in configuration, isShared);
        KernelMemory.CreatePageStates(in configuration, cpuCount, isShared);
        KernelMemory.RescindLowArea(in configuration);
        if (GuestVcpus.Create(cpuCount) != MemoryError.None || KernelRecords.CreateCounters(cpuCount) != MemoryError.None)
        {
            Panic.Stop(TerminationReason.OutOfMemory, "no memory for what there is once per CPU"u8);
        }

        LogMemory(in configuration);

        if (configuration.GuestKind is not (GuestKind.Payload or GuestKind.Linux or GuestKind.Firmware))
        {
            Panic.Stop(TerminationReason.NoGuest, "the image has no guest"u8);
        }

        GuestStart.PrepareRanges(in configuration, isShared);
        GuestStart.PreparePages(in configuration);
        if (configuration.GuestKind == GuestKind.Linux)
        {
            GuestStart.PrepareLinux(in configuration, (uint)cpuCount, encryptionMask);
            GuestStart.ValidateRam(in configuration, isShared);
        }

        FirstVcpu.Create(in configuration, encryptionMask);
        GuestMove.Initialize(in configuration, isShared);
        ModuleTable.Start(in configuration, cpuCount);
        ApplicationProcessors.Start(in configuration, cpuCount);
        GuestGate.Begin();
        if (!GuestGate.IsOpen)
        {
            Log.End("svsm: waits for a guest from another machine"u8);
            RequestLoop.Run(configuration.GuestVmpl);
        }

        Log.Text("svsm: the guest starts at VMPL"u8);
        Log.Decimal((ulong)configuration.GuestVmpl);
        Log.Text(", entry "u8);
        Log.Hex(configuration.GuestEntry);
        Log.End(default);
        RequestLoop.Run(configuration.GuestVmpl);
    }

    // The configuration is measured: this finds a kernel and a builder that do not belong together, not an attack.
    private static void CheckConfiguration(ulong encryptionMask, in ImageConfiguration configuration)
    {
        bool isValid =
            configuration.Magic == ImageConfiguration.MagicValue &&
            configuration.Version == ImageConfiguration.CurrentVersion &&
            configuration.GuestVmpl is >= Vmpl.Vmpl1 and <= Vmpl.Vmpl3 &&
            configuration.GuestRangeCount <= ImageConfiguration.MaxGuestRanges &&
            configuration.HeapBase - configuration.RegionBase <= configuration.RegionLength &&
            configuration.RegionLength / Page.Size < FrameAllocator.MaxFrames &&
            AddressSpace.TryInitialize(encryptionMask, in configuration);
        if (!isValid)
        {
            Panic.Stop(TerminationReason.Configuration, "the image configuration is not one of this kernel's"u8);
        }
    }

    // Only VMPL0 may change what VMPL1 may do. The page is the kernel's own, and VMPL1 has no rights on it before and after.
    private static void CheckVmpl()
    {
        uint result = X64.RmpAdjust(KernelLayout.PerCpuData, X64.PageSize4K, (ulong)Vmpl.Vmpl1);
        if ((RmpResult)result != RmpResult.Success)
        {
            Panic.Stop(TerminationReason.NotVmpl0, "not at VMPL0"u8, result);
        }
    }

    // Returns whether memory that was not launched is shared with the host.
    private static bool ReadParameters(out int cpuCount)
    {
        // SAFETY: the builder maps the page there. One read: both fields are from the same moment.
        ulong parameters = Volatile.Read(ref *(ulong*)KernelAddressSpace.GeneralParameters);
        uint vcpuCount = (uint)parameters;
        uint environment = (uint)(parameters >> 32);
        if (vcpuCount is 0 or > GuestVcpus.MaxCount)
        {
            Panic.Stop(TerminationReason.VcpuCount, "the host's vCPU count is not 1 to 512"u8, vcpuCount);
        }

        cpuCount = (int)vcpuCount;
        Log.Text("svsm: "u8);
        Log.Decimal(vcpuCount);
        Log.End(vcpuCount == 1 ? " vCPU"u8 : " vCPUs"u8);
        return (environment & GeneralParameters.MemoryIsShared) != 0;
    }

    private static void LogMemory(in ImageConfiguration configuration)
    {
        ReadOnlySpan<PageRange> ranges = KernelMemory.GuestRanges;
        for (int i = 0; i < ranges.Length; i++)
        {
            Log.Text("svsm: guest RAM "u8);
            Log.Hex(ranges[i].First << Page.Shift);
            Log.Text("-"u8);
            Log.Hex((ranges[i].End << Page.Shift) - 1);
            Log.End(default);
        }

        Log.Text("svsm: region "u8);
        Log.Hex(configuration.RegionBase);
        Log.Text("-"u8);
        Log.Hex(configuration.RegionBase + configuration.RegionLength - 1);
        Log.Text(", "u8);
        Log.Decimal((ulong)FrameAllocator.Used);
        Log.Text(" of "u8);
        Log.Decimal((ulong)FrameAllocator.Count);
        Log.End(" frames in use"u8);
    }
}
