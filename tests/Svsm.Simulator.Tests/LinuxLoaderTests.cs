// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Buffers.Binary;
using System.Linq;
using System.Runtime.InteropServices;
using System.Text;
using Svsm.Diagnostics;
using Svsm.Simulator.Shared;
using Svsm.Wire;
using Xunit;

namespace Svsm.Simulator.Tests;

/// <summary>A Linux kernel without firmware: what is launched, and what is refused.</summary>
public sealed class LinuxLoaderTests
{
    private const ulong MiB = 1 << 20;
    private const ulong KernelAt = 16 * MiB;

    [Fact]
    public void Load_Kernel_LaunchesWhatTheBootProtocolWants()
    {
        byte[] disk = [.. "070701"u8, .. new byte[5000]];
        LaunchPlan plan = LinuxLoader.Load(MakeKernel(), disk, "console=ttyS0", new GuestRam(256 * MiB), 3);

        byte[] parameters = Page(plan, 0x1_0000);
        Assert.Equal(0x5372_6448u, BinaryPrimitives.ReadUInt32LittleEndian(parameters.AsSpan(0x202)));
        Assert.Equal(0xFF, parameters[0x210]);
        uint diskAt = BinaryPrimitives.ReadUInt32LittleEndian(parameters.AsSpan(0x218));
        Assert.Equal((ulong)(256 * MiB) - 8192, diskAt);
        Assert.Equal((uint)disk.Length, BinaryPrimitives.ReadUInt32LittleEndian(parameters.AsSpan(0x21C)));
        Assert.Equal(disk[..4096], Page(plan, diskAt));
        Assert.Equal("console=ttyS0\0", Encoding.ASCII.GetString(Page(plan, BinaryPrimitives.ReadUInt32LittleEndian(parameters.AsSpan(0x228))).AsSpan(0, 14)));
        Assert.Equal(0xAA, Page(plan, KernelAt)[0]);

        // setup_data of type 7 leads to the blob, and that to secrets and CPUID page.
        byte[] setup = Page(plan, BinaryPrimitives.ReadUInt64LittleEndian(parameters.AsSpan(0x250)));
        Assert.Equal(7u, BinaryPrimitives.ReadUInt32LittleEndian(setup.AsSpan(8)));
        uint blob = BinaryPrimitives.ReadUInt32LittleEndian(setup.AsSpan(16)) & 0xFFF;
        Assert.Equal(LaunchPageType.Secrets, Find(plan, BinaryPrimitives.ReadUInt64LittleEndian(setup.AsSpan((int)blob + 8))).Type);
        Assert.Equal(LaunchPageType.Cpuid, Find(plan, BinaryPrimitives.ReadUInt64LittleEndian(setup.AsSpan((int)blob + 24))).Type);

        LaunchUpdate last = plan.Updates[^1];
        Vmsa vmsa = MemoryMarshal.Read<Vmsa>(last.Contents.Span);
        Assert.Equal((LaunchPageType.Vmsa, KernelAt + 0x200, 0x1_0000ul), (last.Type, vmsa.Rip, vmsa.Rsi));
        Assert.Equal(LaunchOptions.HostFlushes, plan.Options);
    }

    [Fact]
    public void Load_Kernel_ValidatesAllRamButTheVideoHole()
    {
        LaunchPlan plan = LinuxLoader.Load(MakeKernel(), default, "", new GuestRam(256 * MiB), 1);
        ulong launched = (ulong)plan.Updates.Count(update => update.Type != LaunchPageType.Vmsa) * 4096;
        Assert.Equal((256 * MiB) - 0x2_0000, launched + RangeSet.Length(plan.Validated));
        Assert.DoesNotContain(plan.Validated, range => range.Base < 0xC_0000 && range.Base + range.Length > 0xA_0000);
        Assert.Empty(plan.Required);
    }

    [Theory]
    [InlineData(0, 0)]
    [InlineData(0x1FE, 0)]
    [InlineData(0x202, 0)]
    [InlineData(0x207, 1)]
    [InlineData(0x201, 0x20)]
    [InlineData(0x236, 0)]
    [InlineData(0x1F1, 0xFF)]
    [InlineData(0x258, 1)]
    [InlineData(0x25F, 0xFF)]
    [InlineData(0x263, 0xFF)]
    public void Load_DamagedKernel_IsRefused(int offset, byte value)
    {
        byte[] kernel = offset == 0 ? new byte[100] : MakeKernel();
        kernel[offset] = value;
        SvsmDiagnosticException exception = Assert.Throws<SvsmDiagnosticException>(
            () => LinuxLoader.Load(kernel, default, "", new GuestRam(256 * MiB), 1));
        Assert.Equal(SvsmDiagnostics.GuestKernelRefused, exception.Diagnostic);
    }

    [Fact]
    public void Load_DamagedOrTooLargeDisk_IsRefused()
    {
        foreach (byte[] disk in (byte[][])["nothing that a kernel knows"u8.ToArray(), [.. "070701"u8, .. new byte[(int)(240 * MiB)]]])
        {
            SvsmDiagnosticException exception = Assert.Throws<SvsmDiagnosticException>(
                () => LinuxLoader.Load(MakeKernel(), disk, "", new GuestRam(256 * MiB), 1));
            Assert.Equal(SvsmDiagnostics.InitialRamDiskRefused, exception.Diagnostic);
        }
    }

    [Theory]
    [InlineData(2049)]
    [InlineData(0)]
    public void Load_CommandLineTooLongOrWithZero_IsRefused(int length)
    {
        string text = length == 0 ? "a\0b" : new string('a', length);
        SvsmDiagnosticException exception = Assert.Throws<SvsmDiagnosticException>(
            () => LinuxLoader.Load(MakeKernel(), default, text, new GuestRam(256 * MiB), 1));
        Assert.Equal(SvsmDiagnostics.RunOptionInvalid, exception.Diagnostic);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(64)]
    public void AcpiTables_AllTables_AreLinkedAndSumUpToZero(int vcpuCount)
    {
        const ulong At = 0xE_0000;
        byte[] all = AcpiTables.Create(At, vcpuCount);
        Assert.Equal(0, Sum(all.AsSpan(0, 20)));
        Assert.Equal(0, Sum(all.AsSpan(0, 36)));
        byte[] xsdt = Table(BinaryPrimitives.ReadUInt64LittleEndian(all.AsSpan(24)), "XSDT");
        byte[] fadt = Table(BinaryPrimitives.ReadUInt64LittleEndian(xsdt.AsSpan(36)), "FACP");
        byte[] madt = Table(BinaryPrimitives.ReadUInt64LittleEndian(xsdt.AsSpan(44)), "APIC");
        Table(BinaryPrimitives.ReadUInt64LittleEndian(fadt.AsSpan(140)), "DSDT");
        Assert.Equal((276, 44 + (16 * vcpuCount) + 12), (fadt.Length, madt.Length));
        Assert.Equal((9, (uint)vcpuCount - 1), (madt[^28], BinaryPrimitives.ReadUInt32LittleEndian(madt.AsSpan(madt.Length - 24))));

        byte[] Table(ulong gpa, string signature)
        {
            Span<byte> table = all.AsSpan((int)(gpa - At));
            table = table[..(int)BinaryPrimitives.ReadUInt32LittleEndian(table[4..])];
            Assert.Equal(signature, Encoding.ASCII.GetString(table[..4]));
            Assert.Equal(0, Sum(table));
            return table.ToArray();
        }
    }

    private static byte Sum(ReadOnlySpan<byte> bytes)
    {
        byte sum = 0;
        foreach (byte value in bytes)
        {
            sum += value;
        }

        return sum;
    }

    private static LaunchUpdate Find(LaunchPlan plan, ulong gpa) => plan.Updates.Single(update => update.Gpa == gpa);

    private static byte[] Page(LaunchPlan plan, ulong gpa) => Find(plan, gpa).Contents.ToArray();

    // A header and 64 KiB behind four sectors of setup.
    private static byte[] MakeKernel()
    {
        byte[] kernel = new byte[(5 * 512) + 0x1_0000];
        kernel[0x1F1] = 4;
        BinaryPrimitives.WriteUInt16LittleEndian(kernel.AsSpan(0x1FE), 0xAA55);
        kernel[0x201] = 0x6A;
        BinaryPrimitives.WriteUInt32LittleEndian(kernel.AsSpan(0x202), 0x5372_6448);
        BinaryPrimitives.WriteUInt16LittleEndian(kernel.AsSpan(0x206), 0x20F);
        BinaryPrimitives.WriteUInt32LittleEndian(kernel.AsSpan(0x22C), 0x7FFF_FFFF);
        kernel[0x236] = 1;
        BinaryPrimitives.WriteUInt32LittleEndian(kernel.AsSpan(0x238), 2047);
        BinaryPrimitives.WriteUInt64LittleEndian(kernel.AsSpan(0x258), KernelAt);
        BinaryPrimitives.WriteUInt32LittleEndian(kernel.AsSpan(0x260), 32 << 20);
        kernel.AsSpan(5 * 512).Fill(0xAA);
        return kernel;
    }
}
