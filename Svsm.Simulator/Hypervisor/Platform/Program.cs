// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The hypervisor's start, its run loop and its end.
//
// The outer machine: QEMU 7.2 or newer, -accel tcg -cpu EPYC,+svm,+npt,phys-bits=48 -nodefaults -serial (the link)
// -device isa-debug-exit,iobase=0x501,iosize=2 -kernel (this image) -initrd (the launch blob). docs/simulator.md has the whole line.

using System;
using System.Runtime;
using System.Runtime.CompilerServices;
using Svsm.Platform;
using Svsm.Simulator.Shared;

namespace Svsm.Hypervisor;

internal static unsafe class Program
{
    // SAFETY (whole type): the loader's structures lie in memory that is mapped one to one and not given to the pool before they were read.

    private const ushort OuterExitPort = 0x501;
    private const ushort OuterExitCode = 0;
    private const ulong FirstUsableAddress = 0x10_0000;

    private const uint MsrEfer = 0xC000_0080;
    private const uint MsrHostSave = 0xC001_0117;
    private const uint ExtendedFeatures = 0x8000_0001;
    private const uint ExtendedFeatureSvm = 1 << 2;
    private const uint SvmFeatures = 0x8000_000A;
    private const uint SvmFeatureNestedPaging = 1 << 0;
    private const uint AddressSizes = 0x8000_0008;

    private const int LayoutLength = 7;
    private const ushort MasterPicMask = 0x21;
    private const ushort SlavePicMask = 0xA1;

    private static LinkWriter? s_link;

    [RuntimeExport("svsm_hypervisor_main")]
    private static void Main(MultibootInformation* boot, byte* heap, nuint heapLength)
    {
        BootHeap.Initialize(heap, heapLength);
        RuntimeInit.Run();
        var link = new LinkWriter(new Com1());
        s_link = link;
        link.SendHello();

        ulong* layout = stackalloc ulong[LayoutLength];
        ImageLayout(layout);
        ExceptionTable.Load(layout[3]);
        CheckProcessor(link);

        if ((boot->Flags & MultibootInformation.HasModules) == 0 || boot->ModuleCount == 0
            || (boot->Flags & MultibootInformation.HasMemoryMap) == 0)
        {
            Refuse(link, "no launch blob: give it as -initrd; multiboot flags"u8, boot->Flags);
        }

        var module = (MultibootModule*)(ulong)boot->Modules;
        var pool = new FramePool();
        AddMemory(pool, boot, System.Math.Max(layout[2], EndOfModules(boot)));
        MaskPic();
        EnableSvm(pool.AllocateZeroed());
        Intercepts.Initialize(pool);

        var machine = new VirtualMachine(pool, link, new LevelOneProcessor()) { Clock = OuterApic.Start() };
        machine.Pci.Scan();
        machine.Window = (byte*)machine.Pci.Window;
        if (machine.Pci.HasDevices)
        {
            if (!machine.Memory.Dma.TryEnable(machine.Processor, machine.Pci))
            {
                Refuse(link, "the outer machine has PCI devices and no IOMMU: -device intel-iommu; devices"u8, 1);
            }

            OuterIoApic.EnablePins();
        }

        var loader = new LaunchLoader(machine, (byte*)(ulong)module->Start, module->End - module->Start);
        if (!loader.TryLoad())
        {
            Refuse(link, loader.Error, loader.BadIndex);
        }

        if (machine.Threads.Enabled)
        {
            RunOnProcessors(machine, layout);
        }

        StopReporter.Send(machine, Run(machine));
        PowerOff();
    }

    private static void RunOnProcessors(VirtualMachine machine, ulong* layout)
    {
        VirtualCpu first = machine.Cpus[0];
        machine.Threads.Acquire(first);
        OuterIoApic.SendTo(OuterProcessors.Of(first.Id));
        int missing = OuterProcessors.Start(machine, new ReadOnlySpan<byte>((byte*)layout[4], (int)(layout[5] - layout[4])), (ulong*)layout[6]);
        if (missing != 0)
        {
            Refuse(machine.Link, "the outer machine has not one processor more than vCPUs: -smp, and no -icount; processor"u8, (ulong)missing);
        }

        // What interrupted this processor until now, nobody else has seen.
        first.HasTakenInterrupts = true;
        machine.Threads.Release();
        while (true)
        {
            X64.Halt();
        }
    }

    /// <summary>Runs a vCPU on its own processor, which holds the lock. Whoever stops the run never lets go of it.</summary>
    internal static void RunOnOwnProcessor(VirtualMachine machine, VirtualCpu cpu)
    {
        VcpuThreads threads = machine.Threads;
        while (machine.AwaitStart(cpu))
        {
            machine.Interrupts.Offer(cpu);
            if (!machine.Commands.BeforeEntry(cpu))
            {
                break;
            }

            cpu.IsUnsettled = true;
            threads.Enter(cpu);
            WorldSwitch.Run(cpu);
            threads.Exit(cpu);
            Interrupts.SettleOnce(cpu);
            machine.Events.Exit(cpu);
            if (!machine.Commands.TryHandle(cpu, out bool resume))
            {
                resume = Handle(machine, cpu);
            }

            if (!resume || !machine.LookAtInterrupts(cpu))
            {
                break;
            }
        }

        threads.RecallAll();
        StopReporter.Send(machine, machine.FindStopped(cpu));
        PowerOff();
    }

    // The vCPUs take turns on one processor: runs repeat, and no lock is needed. Who stopped is returned.
    private static VirtualCpu Run(VirtualMachine machine)
    {
        VirtualCpu cpu = machine.Cpus[0];
        while (true)
        {
            machine.Interrupts.Offer(cpu);
            if (!machine.Commands.BeforeEntry(cpu))
            {
                break;
            }

            WorldSwitch.Run(cpu);
            Interrupts.Settle(cpu);
            machine.Events.Exit(cpu);
            if (!machine.Commands.TryHandle(cpu, out bool resume))
            {
                resume = Handle(machine, cpu);
            }

            if (!resume || machine.Schedule(cpu) is not { } next)
            {
                break;
            }

            cpu = next;
        }

        return machine.FindStopped(cpu);
    }

    private static bool Handle(VirtualMachine machine, VirtualCpu cpu) =>
        machine.Attacks.Any ? HandleAndAttack(machine, cpu) : HandleExit(machine, cpu) && machine.Commands.AfterExit(cpu);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static bool HandleExit(VirtualMachine machine, VirtualCpu cpu) =>
        ExitHandler.Handle(machine, cpu) || NestedFaults.TryLeaveForWrite(machine, cpu);

    // The handler may have switched to another VMPL.
    private static bool HandleAndAttack(VirtualMachine machine, VirtualCpu cpu)
    {
        int vmpl = cpu.Vmpl;
        ulong code = cpu.Vmcb->ExitCode;
        return HandleExit(machine, cpu) && machine.Commands.AfterExit(cpu) && machine.Attacks.AfterExit(cpu, vmpl, code);
    }

    private static void CheckProcessor(LinkWriter link)
    {
        const uint WantedAddressBits = 48;
        bool svm = (X64.Cpuid(ExtendedFeatures).Ecx & ExtendedFeatureSvm) != 0;
        if (!svm || (X64.Cpuid(SvmFeatures).Edx & SvmFeatureNestedPaging) == 0)
        {
            Refuse(link, "the outer processor has no SVM with nested paging: -cpu EPYC,+svm,+npt,phys-bits=48; features"u8, X64.Cpuid(ExtendedFeatures).Ecx);
        }

        uint addressBits = X64.Cpuid(AddressSizes).Eax & 0xFF;
        if (addressBits != WantedAddressBits)
        {
            Refuse(link, "the outer processor must have 48 physical address bits: -cpu EPYC,+svm,+npt,phys-bits=48; bits"u8, addressBits);
        }
    }

    // Of the outer machine's interrupts only those of its APICs are wanted: none of the 8259.
    private static void MaskPic()
    {
        X64.Out8(MasterPicMask, 0xFF);
        X64.Out8(SlavePicMask, 0xFF);
    }

    /// <summary>Makes this processor ready to run guests.</summary>
    /// <param name="hostSave">A frame of its own.</param>
    internal static void EnableSvm(byte* hostSave)
    {
        X64.WriteMsr(MsrEfer, X64.ReadMsr(MsrEfer) | Amd64.EferSvme);
        X64.WriteMsr(MsrHostSave, (ulong)hostSave);
        HoldInterrupts();
    }

    private static ulong EndOfModules(MultibootInformation* boot)
    {
        ulong end = 0;
        for (uint i = 0; i < boot->ModuleCount; i++)
        {
            end = System.Math.Max(end, ((MultibootModule*)(ulong)boot->Modules)[i].End);
        }

        return end;
    }

    // Modules lie behind the image, so everything from the image on up to the last module's end is taken.
    private static void AddMemory(FramePool pool, MultibootInformation* boot, ulong endOfUse)
    {
        ulong* layout = stackalloc ulong[LayoutLength];
        ImageLayout(layout);
        for (uint offset = 0; offset < boot->MemoryMapLength;)
        {
            var entry = (MultibootMemory*)((ulong)boot->MemoryMap + offset);
            offset += entry->Size + sizeof(uint);
            if (entry->Type != MultibootMemory.Available)
            {
                continue;
            }

            ulong start = System.Math.Max(entry->Base, FirstUsableAddress);
            ulong end = entry->Base + entry->Length;
            pool.AddRange(start, System.Math.Min(end, layout[0]));
            pool.AddRange(System.Math.Max(start, endOfUse), end);
        }
    }

    private static void Refuse(LinkWriter link, ReadOnlySpan<byte> reason, ulong value)
    {
        link.Log(reason).Log(" "u8).LogHex(value).EndLog();
        StopReporter.SendExit(link, StopReason.BadLaunch, 0);
        PowerOff();
    }

    [RuntimeExport("svsm_hypervisor_exception")]
    private static void Exception(ulong* frame, ulong framePointer)
    {
        Fault("exception of the hypervisor: vector "u8, frame[0], " error "u8, frame[1], " rip "u8, frame[2], " rsp "u8, frame[5], " cr2 "u8, X64.ReadCr2(), " rbp "u8, framePointer);
    }

    [RuntimeExport("svsm_fail_fast")]
    private static void FailFast(char* text, int length)
    {
        LinkWriter? link = s_link;
        if (link != null)
        {
            link.FlushConsole();
            link.Log("panic of the hypervisor: "u8);
            for (int i = 0; i < length; i++)
            {
                // SAFETY: the core library passes the extent of the text, which is ASCII in this image.
                byte character = (byte)text[i];
                link.Log(new ReadOnlySpan<byte>(in character));
            }

            link.EndLog();
            StopReporter.SendExit(link, StopReason.HypervisorFault, 0);
        }

        PowerOff();
    }

    private static void Fault(
        ReadOnlySpan<byte> name1,
        ulong value1,
        ReadOnlySpan<byte> name2,
        ulong value2,
        ReadOnlySpan<byte> name3,
        ulong value3,
        ReadOnlySpan<byte> name4,
        ulong value4,
        ReadOnlySpan<byte> name5,
        ulong value5,
        ReadOnlySpan<byte> name6,
        ulong value6)
    {
        LinkWriter? link = s_link;
        if (link != null)
        {
            link.FlushConsole();
            link.Log(name1).LogHex(value1).Log(name2).LogHex(value2).Log(name3).LogHex(value3);
            link.Log(name4).LogHex(value4).Log(name5).LogHex(value5).Log(name6).LogHex(value6).EndLog();
            StopReporter.SendExit(link, StopReason.HypervisorFault, value1);
        }

        PowerOff();
    }

    private static void PowerOff()
    {
        X64.Out16(OuterExitPort, OuterExitCode);
        while (true)
        {
            X64.Halt();
        }
    }

    [RuntimeImport("*", "svsm_hypervisor_layout")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    private static extern void ImageLayout(ulong* values);

    [RuntimeImport("*", "svsm_hold_interrupts")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    private static extern void HoldInterrupts();
}
