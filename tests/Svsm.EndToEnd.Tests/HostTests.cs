// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The kernel on hosts and in images that it must refuse: each boot ends with a named reason, before a guest runs.

using System;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Threading.Tasks;
using Svsm.Boot;
using Svsm.Builder;
using Svsm.Simulator;
using Svsm.Wire;
using Xunit;

namespace Svsm.EndToEnd.Tests;

public sealed class HostTests
{
    private const ulong KernelReasonSet = 5;

    [Fact]
    public async Task Boot_StockQemuImageOnAHostWithOneVmpl_StopsWithAClearMessage()
    {
        using ImageUnderTest image = ImageUnderTest.Build(flavour: HostFlavour.StockQemu);

        MachineResult result = await ImageUnderTest.RunAsync(image.Options() with { SingleVmpl = true });

        AssertTerminated(TerminationReason.SingleVmpl, result);
        Assert.Contains("VMPL", result.ConsoleText((int)Vmpl.Vmpl0), StringComparison.Ordinal);
        Assert.Empty(result.ConsoleText((int)Vmpl.Vmpl2));
    }

    // Its further vCPUs are launched at VMPL0 too, at the reset vector: in the guest's memory.
    [Fact]
    public async Task Boot_StockQemuImageOnAHostThatOffersSeveralVmpls_StartsNoGuest()
    {
        using ImageUnderTest image = ImageUnderTest.Build(flavour: HostFlavour.StockQemu);

        MachineResult result = await image.RunAsync();

        AssertTerminated(TerminationReason.SingleVmpl, result);
        Assert.Empty(result.ConsoleText((int)Vmpl.Vmpl2));
    }

    // The machine has no virtual top of memory. So the stub is told to look at the bit of SEV_STATUS next to it, which is set.
    [Fact]
    public async Task Boot_VirtualTopOfMemory_IsRefusedByTheStub()
    {
        byte[] testVirtualTom = [0xA9, 0x08, 0x00, 0x00, 0x00];
        const byte SnpActive = 0x04;
        using ImageUnderTest image = ImageUnderTest.Build(alterKernel: kernel =>
        {
            Span<byte> stub = ProbeCommand.BytesAt(kernel, ElfFile.Parse(kernel, "kernel").FindSymbol("svsm_boot")!.Value.Value)[..32];
            int at = stub.IndexOf(testVirtualTom);
            Assert.InRange(at, 1, 32);
            stub[at + 1] = SnpActive;
        });

        AssertTerminated(TerminationReason.VirtualTom, await image.RunAsync());
    }

    // Without the function there is no limit to compare the memory map with.
    [Fact]
    public async Task Boot_CpuidPageWithoutAddressSizes_IsRefused()
    {
        const uint AddressSizes = 0x8000_0008;
        using ImageUnderTest image = ImageUnderTest.Build();
        image.AlterPage(image.GpaOf("boot.cpuid"), page =>
        {
            foreach (ref CpuidEntry entry in MemoryMarshal.Cast<byte, CpuidEntry>(page.Slice(CpuidPageHeader.EntriesOffset, (int)CpuidPageHeader.MaxEntries * Unsafe.SizeOf<CpuidEntry>())))
            {
                entry.Function = entry.Function == AddressSizes ? 0x8000_0007 : entry.Function;
            }
        });

        AssertTerminated(TerminationReason.CpuidPage, await image.RunAsync());
    }

    [Fact]
    public async Task Boot_OtherFeaturesThanConfigured_IsRefused()
    {
        using ImageUnderTest image = ImageUnderTest.Build();
        AlterConfiguration(image, (ref ImageConfiguration configuration) => configuration.SevFeatures |= SevFeatures.SecureTsc);

        AssertTerminated(TerminationReason.SevStatusMismatch, await image.RunAsync());
    }

    [Fact]
    public async Task Boot_ConfigurationOfAnotherVersion_IsRefused()
    {
        using ImageUnderTest image = ImageUnderTest.Build();
        AlterConfiguration(image, (ref ImageConfiguration configuration) => configuration.Version++);

        AssertTerminated(TerminationReason.Configuration, await image.RunAsync());
    }

    [Fact]
    public async Task Boot_GuestRangeInTheRegion_IsRefused()
    {
        using ImageUnderTest image = ImageUnderTest.Build();
        AlterConfiguration(image, (ref ImageConfiguration configuration) =>
        {
            configuration.Ranges[(int)configuration.GuestRangeCount - 1].Base = configuration.RegionBase;
        });

        AssertTerminated(TerminationReason.GuestRange, await image.RunAsync());
    }

    [Fact]
    public async Task Boot_WithoutBootParameters_IsRefusedByTheStub()
    {
        using ImageUnderTest image = ImageUnderTest.Build();
        image.AlterPage(image.GpaOf("boot.parameters"), page => page[0] ^= 0xFF);

        AssertTerminated(TerminationReason.BootParameters, await image.RunAsync());
    }

    private delegate void Alteration(ref ImageConfiguration configuration);

    private static void AlterConfiguration(ImageUnderTest image, Alteration alteration) =>
        image.AlterPage(image.GpaOf("hand-over.configuration"), page => alteration(ref Unsafe.As<byte, ImageConfiguration>(ref page[0])));

    private static void AssertTerminated(TerminationReason reason, MachineResult result)
    {
        Assert.True(result.Stop == MachineStop.Terminate, result.ToString());
        Assert.Equal((KernelReasonSet, reason), (result.Detail & 0xF, (TerminationReason)(result.Detail >> 4)));
    }
}
