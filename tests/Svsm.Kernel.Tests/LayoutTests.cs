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
using Svsm.Kernel.Processes;
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
    public void HvEntry_Offsets_AreThoseOfTheTypes()
    {
        Dictionary<string, ulong> constants = ReadConstants("Doorbell.S");
        PerCpu cpu = default;
        Assert.Equal(Offset(ref cpu, ref cpu.Turn.Holds), constants["HOLDS"]);
        Assert.Equal(Offset(ref cpu, ref cpu.Turn.HasEvents), constants["HAS_EVENTS"]);
        Assert.Equal(Offset(ref cpu, ref cpu.Turn.StackBottom), constants["STACK_BOTTOM"]);
        Assert.Equal(Offset(ref cpu, ref cpu.Turn.StackSize), constants["STACK_SIZE"]);
        Assert.Equal(SevMsr.Ghcb, constants["MSR_GHCB"]);
        Assert.Equal((ulong)Vector.Hypervisor, constants["VECTOR_HYPERVISOR"]);
        Assert.Equal(ReadConstants("User.S")["USER_CODE"], constants["USER_CODE"]);
    }

    [Fact]
    public void User_Registers_AreWhereTheContextHasThem()
    {
        Dictionary<string, ulong> constants = ReadConstants("User.S");
        UserContext context = default;
        Assert.Equal(Offset(ref context, ref context.Rax), constants["RAX"]);
        Assert.Equal(Offset(ref context, ref context.Rcx), constants["RCX"]);
        Assert.Equal(Offset(ref context, ref context.Rdx), constants["RDX"]);
        Assert.Equal(Offset(ref context, ref context.Rbx), constants["RBX"]);
        Assert.Equal(Offset(ref context, ref context.Rbp), constants["RBP"]);
        Assert.Equal(Offset(ref context, ref context.Rsi), constants["RSI"]);
        Assert.Equal(Offset(ref context, ref context.Rdi), constants["RDI"]);
        Assert.Equal(Offset(ref context, ref context.R8), constants["R8"]);
        Assert.Equal(Offset(ref context, ref context.R9), constants["R9"]);
        Assert.Equal(Offset(ref context, ref context.R10), constants["R10"]);
        Assert.Equal(Offset(ref context, ref context.R11), constants["R11"]);
        Assert.Equal(Offset(ref context, ref context.R12), constants["R12"]);
        Assert.Equal(Offset(ref context, ref context.R13), constants["R13"]);
        Assert.Equal(Offset(ref context, ref context.R14), constants["R14"]);
        Assert.Equal(Offset(ref context, ref context.R15), constants["R15"]);
        Assert.Equal(Offset(ref context, ref context.Vector), constants["VECTOR"]);
        Assert.Equal(Offset(ref context, ref context.ErrorCode), constants["ERROR"]);
        Assert.Equal(Offset(ref context, ref context.Rip), constants["RIP"]);
        Assert.Equal(Offset(ref context, ref context.Rflags), constants["RFLAGS"]);
        Assert.Equal(Offset(ref context, ref context.Rsp), constants["RSP"]);
        Assert.Equal(Offset(ref context, ref context.FaultAddress), constants["CR2"]);
        Assert.Equal(Offset(ref context, ref context.FsBase), constants["FS_BASE"]);
        Assert.Equal((ulong)UserContext.ExtendedOffset, constants["EXTENDED"]);
        Assert.Equal(UserContext.SystemCall, constants["SYSTEM_CALL"]);
        Assert.Equal((ulong)Vector.Hypervisor, constants["VECTOR_HYPERVISOR"]);
    }

    [Fact]
    public unsafe void User_PerCpu_IsWhereTheCpuHasIt()
    {
        Dictionary<string, ulong> constants = ReadSums("User.S");
        PerCpu cpu = default;
        Assert.Equal(KernelLayout.PerCpuData, constants["PER_CPU"]);
        Assert.Equal(Offset(ref cpu, ref cpu.Turn.HasEvents), constants["HAS_EVENTS"]);
        Assert.Equal(KernelLayout.PerCpuData + Offset(ref cpu, ref cpu.User.Rax), constants["USER_RAX"]);
        Assert.Equal(KernelLayout.PerCpuData + Offset(ref cpu, ref cpu.User.Context), constants["USER_CONTEXT"]);
        Assert.Equal(KernelLayout.PerCpuData + Offset(ref cpu, ref cpu.User.KernelStack), constants["KERNEL_RSP"]);
        Assert.Equal(Offset(ref cpu, ref cpu.Tss.Rsp[0]), constants["TSS_RSP0_OFFSET"]);

        // AMD64 Architecture Programmer's Manual, volume 2, 12.2.5.
        Assert.Equal(4ul, Offset(ref cpu.Tss, ref cpu.Tss.Rsp[0]));
        Assert.Equal(0x24ul, Offset(ref cpu.Tss, ref cpu.Tss.Ist[0]));
        Assert.Equal(0x66ul, Offset(ref cpu.Tss, ref cpu.Tss.IOMapBase));
        Assert.True(Unsafe.SizeOf<PerCpu>() <= Page.Size);
    }

    // A selector is the place of its descriptor, and the privilege level.
    [Fact]
    public void User_Selectors_AreThoseOfTheDescriptors()
    {
        Dictionary<string, ulong> constants = ReadConstants("User.S");
        string source = Read("DescriptorTables.cs");
        Assert.Equal((SelectorOf("UserCodeDescriptor") | 3, SelectorOf("UserDataDescriptor") | 3), (constants["USER_CODE"], constants["USER_DATA"]));
        Assert.Equal(((ulong)KernelLayout.CodeSelector, (ulong)KernelLayout.DataSelector), (SelectorOf("CodeDescriptor"), SelectorOf("DataDescriptor")));

        Assert.Contains(string.Create(CultureInfo.InvariantCulture, $"cmpq    $0x{constants["USER_CODE"]:X}, 24(%rsp)"), Read("Svsm.Platform.Exceptions.inc"), StringComparison.Ordinal);

        // What a signal handler is told.
        SignalFrame.Make(default, Signal.Segment, 0, default, out SignalFrame frame);
        Assert.Equal((constants["USER_CODE"], constants["USER_DATA"]), (frame.Segments & 0xFFFF, frame.Segments >> 48));

        ulong SelectorOf(string descriptor) =>
            ulong.Parse(Regex.Match(source, @"cpu\.Gdt\[(\d)\] = " + descriptor + ";").Groups[1].Value, CultureInfo.InvariantCulture) * 8;
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

    // Those that are another constant and a number as well.
    private static Dictionary<string, ulong> ReadSums(string file)
    {
        Dictionary<string, ulong> constants = ReadConstants(file);
        foreach (Match match in Sum().Matches(Read(file)))
        {
            constants.Add(match.Groups[1].Value, constants[match.Groups[2].Value] + ulong.Parse(match.Groups[3].Value, NumberStyles.HexNumber, CultureInfo.InvariantCulture));
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

    [GeneratedRegex(@"^\s+\.set\s+(\w+), (\w+) \+ 0x([0-9A-Fa-f]+)\s*(?:#.*)?$", RegexOptions.Multiline)]
    private static partial Regex Sum();
}
