// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Numbers that assembly source and linker script repeat, against the types that own them.

using System;
using System.Collections.Generic;
using System.Globalization;
using System.IO;
using System.Runtime.CompilerServices;
using System.Text.RegularExpressions;
using Svsm.Kernel.Arch;
using Svsm.Kernel.Memory;
using Svsm.Wire;
using Xunit;

namespace Svsm.Kernel.Tests;

public sealed partial class LayoutTests
{
    [Fact]
    public void BootStub_Constants_AreThoseOfTheTypes()
    {
        Dictionary<string, ulong> constants = ReadConstants("Boot.S");
        BootParameters boot = default;
        Assert.Equal(BootParameters.MagicValue, constants["BOOT_MAGIC"]);
        Assert.Equal(Offset(ref boot, ref boot.CpuidPage), constants["BOOT_CPUID_PAGE"]);
        Assert.Equal(Offset(ref boot, ref boot.BootRoot), constants["BOOT_ROOT"]);
        Assert.Equal(Offset(ref boot, ref boot.BootTableCount), constants["BOOT_TABLE_COUNT"]);
        Assert.Equal(Offset(ref boot, ref boot.KernelTablesWindow), constants["BOOT_KERNEL_WINDOW"]);
        Assert.Equal(Offset(ref boot, ref boot.KernelTableCount), constants["BOOT_KERNEL_TABLE_COUNT"]);
        Assert.Equal(Offset(ref boot, ref boot.KernelEntry), constants["BOOT_KERNEL_ENTRY"]);
        Assert.Equal(Offset(ref boot, ref boot.KernelStackTop), constants["BOOT_KERNEL_STACK"]);

        CpuidEntry entry = default;
        Assert.Equal((ulong)CpuidPageHeader.MaxEntries, constants["CPUID_MAX_ENTRIES"]);
        Assert.Equal((ulong)CpuidPageHeader.EntriesOffset, constants["CPUID_ENTRIES"]);
        Assert.Equal((ulong)Unsafe.SizeOf<CpuidEntry>(), constants["CPUID_ENTRY_LENGTH"]);
        Assert.Equal(Offset(ref entry, ref entry.Ebx), constants["CPUID_EBX"]);
        Assert.Equal(Offset(ref entry, ref entry.Ecx), constants["CPUID_ECX"]);

        Assert.Equal((ulong)TerminationReasonSet.Svsm, constants["REASON_SET"]);
        Assert.Equal((ulong)TerminationReason.BootParameters, constants["REASON_BOOT_PARAMETERS"]);
        Assert.Equal((ulong)TerminationReason.CpuidPage, constants["REASON_CPUID_PAGE"]);
        Assert.Equal((ulong)TerminationReason.EncryptionBit, constants["REASON_ENCRYPTION_BIT"]);
        Assert.Equal((ulong)TerminationReason.RandomNumbers, constants["REASON_RANDOM_NUMBERS"]);
        Assert.Equal((ulong)TerminationReason.VirtualTom, constants["REASON_VIRTUAL_TOM"]);
        Assert.Equal(SevMsr.Ghcb, constants["MSR_GHCB"]);
        Assert.Equal(SevMsr.SevStatus, constants["MSR_SEV_STATUS"]);
        Assert.Equal((ulong)SevFeatures.VirtualTom << SevStatus.FeaturesShift, constants["SEV_STATUS_VIRTUAL_TOM"]);
    }

    // The launch VMSA has zeroes there (docs/image-layout.md): compiled code that computes with fractions would end in #XM.
    [Fact]
    public void Entry_FloatingPoint_IsSetUpBeforeCompiledCodeRuns()
    {
        string source = Read("Entry.S");
        int call = source.IndexOf("call    svsm_kernel_main", StringComparison.Ordinal);
        Assert.InRange(source.IndexOf("fninit", StringComparison.Ordinal), 0, call);
        Assert.InRange(source.IndexOf("ldmxcsr (%rsp)", StringComparison.Ordinal), 0, call);
        Assert.Equal(0x1F80ul, ReadConstants("Entry.S")["MXCSR_RESET"]);
    }

    [Fact]
    public void Entry_Constants_AreThoseOfTheTypes()
    {
        Dictionary<string, ulong> constants = ReadConstants("Entry.S");
        ImageConfiguration configuration = default;
        Assert.Equal(KernelAddressSpace.Configuration + Offset(ref configuration, ref configuration.KernelRoot), constants["CONFIGURATION_KERNEL_ROOT"]);
        Assert.Equal(SevMsr.Ghcb, constants["MSR_GHCB"]);
        string source = Read("Entry.S");
        Assert.Contains(
            string.Create(CultureInfo.InvariantCulture, $"0x100 | {TerminationReasonSet.Svsm} << 12 | 0x{(byte)TerminationReason.RandomNumbers:X2} << 16"), source, StringComparison.Ordinal);
    }

    [Fact]
    public void LinkerScript_PerCpuSegments_AreWhereTheKernelLooks()
    {
        string script = Read("Kernel.ld");
        Assert.Contains(Hex("PER_CPU = 0x", KernelAddressSpace.PerCpuBase), script, StringComparison.Ordinal);
        Assert.Contains(Hex("IMAGE = 0x", KernelAddressSpace.ImageBase), script, StringComparison.Ordinal);
        Assert.Contains(Hex("LOW_AREA = 0x", LowArea.Base), script, StringComparison.Ordinal);
        AssertSegment(script, ".percpu", KernelLayout.PerCpuData, Page.Size);
        AssertSegment(script, ".ghcb", KernelLayout.GhcbPage, Page.Size);
        AssertSegment(script, ".stack", KernelLayout.StackBottom, KernelLayout.StackTop - KernelLayout.StackBottom);
        AssertSegment(script, ".stack_df", KernelLayout.DoubleFaultStackTop - KernelLayout.ExceptionStackSize, KernelLayout.ExceptionStackSize);
        AssertSegment(script, ".stack_vc", KernelLayout.VcStackTop - KernelLayout.ExceptionStackSize, KernelLayout.ExceptionStackSize);
        AssertSegment(script, ".stack_nmi", KernelLayout.NmiStackTop - KernelLayout.ExceptionStackSize, KernelLayout.ExceptionStackSize);
        AssertSegment(script, ".doorbell", KernelLayout.DoorbellPage, Page.Size);
        AssertSegment(script, ".stack_hv", KernelLayout.HvStackTop - KernelLayout.ExceptionStackSize, KernelLayout.ExceptionStackSize);
    }

    [Fact]
    public void HvEntry_Addresses_AreThoseOfTheKernel()
    {
        Dictionary<string, ulong> constants = ReadConstants("Doorbell.S");
        Assert.Equal(KernelLayout.PerCpuData, constants["PER_CPU"]);
        Assert.Equal(KernelLayout.HvStackTop - KernelLayout.ExceptionStackSize, constants["HV_STACK_BOTTOM"]);
        Assert.Equal(KernelLayout.ExceptionStackSize, constants["HV_STACK_SIZE"]);
        Assert.Equal((ulong)HvDoorbellFlags.NoFurtherSignal, constants["NO_FURTHER_SIGNAL"]);
    }

    [Fact]
    public void KernelVersion_IsThePackages() =>
        Assert.Contains($"<VersionPrefix>{System.Text.Encoding.UTF8.GetString(KernelVersion.Text)}</VersionPrefix>", Read("Directory.Build.props"), StringComparison.Ordinal);

    [Fact]
    public void TryFindStack_EachStack_EndsAtItsTop()
    {
        foreach (ulong top in (ulong[])[KernelLayout.StackTop, KernelLayout.DoubleFaultStackTop, KernelLayout.VcStackTop, KernelLayout.NmiStackTop, KernelLayout.HvStackTop])
        {
            Assert.True(KernelLayout.TryFindStack(top - 8, out ulong end));
            Assert.Equal(top, end);
            Assert.False(KernelLayout.TryFindStack(top, out _));
        }

        Assert.True(KernelLayout.TryFindStack(KernelLayout.StackBottom, out _));
        Assert.False(KernelLayout.TryFindStack(KernelLayout.StackBottom - 1, out _));
        Assert.False(KernelLayout.TryFindStack(0, out _));
        Assert.False(KernelLayout.TryFindStack(ulong.MaxValue, out _));
    }

    [Fact]
    public void IsGuardPage_BelowEachStack_IsOne()
    {
        Assert.True(KernelLayout.IsGuardPage(KernelLayout.StackBottom - 1));
        Assert.True(KernelLayout.IsGuardPage(KernelLayout.DoubleFaultStackTop - KernelLayout.ExceptionStackSize - 8));
        Assert.True(KernelLayout.IsGuardPage(KernelLayout.VcStackTop - KernelLayout.ExceptionStackSize - 8));
        Assert.True(KernelLayout.IsGuardPage(KernelLayout.NmiStackTop - KernelLayout.ExceptionStackSize - 8));
        Assert.True(KernelLayout.IsGuardPage(KernelLayout.HvStackTop - KernelLayout.ExceptionStackSize - 8));
        Assert.False(KernelLayout.IsGuardPage(KernelLayout.StackBottom));
        Assert.False(KernelLayout.IsGuardPage(KernelLayout.PerCpuData));
        Assert.False(KernelLayout.IsGuardPage(0));
    }

    private static void AssertSegment(string script, string name, ulong address, ulong length)
    {
        Match match = Regex.Match(script, Regex.Escape(name) + @" PER_CPU \+ 0x([0-9A-F]+) \(NOLOAD\) : \{ \. \+= (?:(\d+) \* )?PAGE;");
        Assert.True(match.Success, name);
        Assert.Equal(address - KernelAddressSpace.PerCpuBase, ulong.Parse(match.Groups[1].Value, NumberStyles.HexNumber, CultureInfo.InvariantCulture));
        ulong pages = match.Groups[2].Success ? ulong.Parse(match.Groups[2].Value, CultureInfo.InvariantCulture) : 1;
        Assert.Equal(length, pages * Page.Size);
    }

    private static Dictionary<string, ulong> ReadConstants(string file)
    {
        var constants = new Dictionary<string, ulong>();
        foreach (Match match in Constant().Matches(Read(file)))
        {
            string value = match.Groups[2].Value;
            constants.Add(
                match.Groups[1].Value,
                value.StartsWith("0x", StringComparison.Ordinal) ? ulong.Parse(value.AsSpan(2), NumberStyles.HexNumber, CultureInfo.InvariantCulture) : ulong.Parse(value, CultureInfo.InvariantCulture));
        }

        return constants;
    }

    private static string Hex(string prefix, ulong value) => string.Create(CultureInfo.InvariantCulture, $"{prefix}{value:X};");

    private static string Read(string file)
    {
        using Stream stream = typeof(LayoutTests).Assembly.GetManifestResourceStream(file)!;
        using var reader = new StreamReader(stream);
        return reader.ReadToEnd();
    }

    private static ulong Offset<TStruct, TField>(ref TStruct start, ref TField field) => (ulong)Unsafe.ByteOffset(ref Unsafe.As<TStruct, byte>(ref start), ref Unsafe.As<TField, byte>(ref field));

    [GeneratedRegex(@"^\s+\.set\s+(\w+), (0x[0-9A-Fa-f]+|\d+)\s*(?:#.*)?$", RegexOptions.Multiline)]
    private static partial Regex Constant();
}
