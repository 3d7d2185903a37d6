// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using System.Linq;
using System.Text;
using Svsm.Platform;
using Svsm.Simulator.Shared;
using Svsm.Wire;
using Xunit;

namespace Svsm.Hypervisor.Tests;

/// <summary>Frames, ports and CPUID.</summary>
public sealed unsafe class LinkWriterTests
{
    [Fact]
    public void WriteConsole_Line_IsOneFrame()
    {
        var port = new ListPort();
        var link = new LinkWriter(port);
        foreach (byte value in "hi\n"u8)
        {
            link.WriteConsole(0x102, 2, value);
        }

        Assert.Equal([0xA5, 2, 7, 0, 0x02, 0x01, 2, 0, (byte)'h', (byte)'i', (byte)'\n'], port.Bytes);
    }

    [Fact]
    public void WriteConsole_AnotherSpeaker_EndsTheFrame()
    {
        var port = new ListPort();
        var link = new LinkWriter(port);
        link.WriteConsole(0, 0, (byte)'a');
        link.WriteConsole(0, 2, (byte)'b');
        link.FlushConsole();
        Assert.Equal([0xA5, 2, 5, 0, 0, 0, 0, 0, (byte)'a', 0xA5, 2, 5, 0, 0, 0, 2, 0, (byte)'b'], port.Bytes);
        port.Bytes.Clear();
        link.FlushConsole();
        Assert.Empty(port.Bytes);
    }

    [Fact]
    public void WriteConsole_LongLine_IsCut()
    {
        var port = new ListPort();
        var link = new LinkWriter(port);
        for (int i = 0; i < 1000; i++)
        {
            link.WriteConsole(0, 0, (byte)'x');
        }

        link.FlushConsole();
        Assert.Equal(1000 + (2 * 8), port.Bytes.Count);
    }

    [Theory]
    [InlineData(0ul, "v 0x0")]
    [InlineData(0x10ul, "v 0x10")]
    [InlineData(ulong.MaxValue, "v 0xffffffffffffffff")]
    public void Log_TextAndNumber_IsOneFrame(ulong value, string expected)
    {
        var port = new ListPort();
        new LinkWriter(port).Log("v "u8).LogHex(value).EndLog();
        Assert.Equal(expected, Encoding.UTF8.GetString(port.Bytes.ToArray()[4..]));
    }

    [Fact]
    public void Ports_Uart_IdentifiesItselfAndSends()
    {
        using var machine = new TestMachine();
        PortSpace ports = machine.Machine.Ports;
        Assert.Equal(0x60u, ports.Read(0x3FD, 1));
        Assert.True(ports.Write(machine.Cpu, 0x3FF, 1, 0x5A));
        Assert.Equal(0x5Au, ports.Read(0x3FF, 1));
        Assert.True(ports.Write(machine.Cpu, 0x3FC, 1, 0x1A));
        Assert.Equal(0x90u, ports.Read(0x3FE, 1));
        Assert.True(ports.Write(machine.Cpu, 0x3F8, 1, 'x'));
        Assert.True(ports.Write(machine.Cpu, 0x3FC, 1, 0x0B));
        Assert.True(ports.Write(machine.Cpu, 0x3FB, 1, 0x83));
        Assert.True(ports.Write(machine.Cpu, 0x3F8, 2, 0x0102));
        Assert.Equal(0x0102u, ports.Read(0x3F8, 2));
        Assert.True(ports.Write(machine.Cpu, 0x3FB, 1, 0x03));
        Assert.True(ports.Write(machine.Cpu, 0x3FA, 1, 0x01));
        Assert.Equal(0xC1u, ports.Read(0x3FA, 1));
        Assert.True(ports.Write(machine.Cpu, 0x3F8, 1, 'y'));
        machine.Machine.Link.FlushConsole();
        Assert.Equal((byte)'y', machine.Port.Bytes[^1]);
        Assert.DoesNotContain((byte)'x', machine.Port.Bytes);
    }

    [Theory]
    [InlineData(0x80, 1, 0xFFu)]
    [InlineData(0xCFC, 4, 0xFFFF_FFFFu)]
    [InlineData(0x3F7, 2, 0x00FFu)]
    public void Ports_Unused_Float(ushort port, int size, uint expected)
    {
        using var machine = new TestMachine();
        Assert.Equal(expected, machine.Machine.Ports.Read(port, size));
    }

    [Fact]
    public void Ports_Reset_EndsTheRun()
    {
        using var machine = new TestMachine();
        Assert.True(machine.Machine.Ports.Write(machine.Cpu, 0xCF9, 1, 0x02));
        Assert.False(machine.Machine.Ports.Write(machine.Cpu, 0x64, 1, 0xFE));
        Assert.Equal((StopReason.Reset, 0x64ul), (machine.Cpu.StopRequest.Reason, machine.Cpu.StopRequest.Detail));
    }

    [Theory]
    [InlineData(0x4000_0002u)]
    [InlineData(0x8000_0020u)]
    [InlineData(0xCu)]
    [InlineData(0xDu)]
    [InlineData(0xFFFF_FFFFu)]
    public void Cpuid_UnknownFunction_IsZero(uint function)
    {
        CpuidResult result = CpuidModel.Query(new FakeProcessor(), function, 0, 0, 1);
        Assert.Equal((0u, 0u, 0u, 0u), (result.Eax, result.Ebx, result.Ecx, result.Edx));
    }

    // Linux believes that there are x2APICs in virtual machines only where it knows the hypervisor.
    [Fact]
    public void Cpuid_Hypervisor_HasTheSignatureOfKvm()
    {
        CpuidResult result = CpuidModel.Query(new FakeProcessor(), 0x4000_0000, 0, 0, 1);
        byte[] signature = [.. BitConverter.GetBytes(result.Ebx), .. BitConverter.GetBytes(result.Ecx), .. BitConverter.GetBytes(result.Edx)];
        Assert.Equal("KVMKVMKVM\0\0\0"u8.ToArray(), signature);
        Assert.Equal(0x4000_0001u, result.Eax);
    }

    [Fact]
    public void Cpuid_HiddenFeatures_AreHidden()
    {
        var processor = new FakeProcessor();

        // All that a processor could have but MONITOR, FMA, PCID, TSC deadline, XSAVE, OSXSAVE, AVX, F16C.
        Assert.Equal(~0x3D02_1008u, CpuidModel.Query(processor, 1, 0, 0, 1).Ecx);

        // TSC adjust, AVX2, INVPCID, AVX-512 (F, DQ, IFMA, PF, ER, CD, BW, VL); VAES and VPCLMULQDQ.
        CpuidResult more = CpuidModel.Query(processor, 7, 0, 0, 1);
        Assert.Equal((~0xDC23_0422u, ~0x0000_0600u, 1u << 4), (more.Ebx, more.Ecx, more.Edx));
        more = CpuidModel.Query(processor, 7, 1, 0, 1);
        Assert.Equal((0u, 0u, 0u, 0u), (more.Eax, more.Ebx, more.Ecx, more.Edx));

        // SVM, XOP, FMA4.
        Assert.Equal(~0x0001_0804u, CpuidModel.Query(processor, 0x8000_0001, 0, 0, 1).Ecx);
        Assert.Equal(7u << 24, CpuidModel.Query(processor, 1, 0, 7, 8).Ebx & (0xFFu << 24));
        Assert.Equal(7u, CpuidModel.Query(processor, 0xB, 0, 7, 8).Edx);
        Assert.Equal(1u << 3, CpuidModel.Query(processor, 0x8000_0008, 0, 0, 1).Ebx & (1u << 3));
    }
}

/// <summary>The launch blob's reader.</summary>
public sealed unsafe class LaunchLoaderTests
{
    [Fact]
    public void TryLoad_Blob_PutsPagesWhereTheyBelong()
    {
        using var machine = new LaunchMachine();
        BlobBuilder builder = machine.Builder;
        builder.AddPage(0x1000, LaunchPageType.Normal, LaunchMachine.Filled(0x11));
        builder.AddPage(0x2000, LaunchPageType.Zero, null);
        builder.AddPage(0x3000, LaunchPageType.Required, null, count: 3);
        Assert.True(machine.Load(), machine.Error);
        GuestMemory memory = machine.Machine.Memory;
        Assert.True(memory.Find(0x1000)->Assigned && memory.Find(0x1000)->Validated);
        Assert.Equal(0x11, memory.PrivateBytes(memory.Find(0x1000))[4095]);
        Assert.Equal(0, memory.PrivateBytes(memory.Find(0x2000))[7]);
        Assert.True(memory.Find(0x5000)->Assigned);
        Assert.False(memory.Find(0x5000)->Validated);
        Assert.False(memory.Find(0x6000)->Assigned);
        Assert.Equal(0x1234ul, machine.Machine.Cpus[0].State->Rip);
    }

    [Fact]
    public void TryLoad_CpuidPage_GetsItsValues()
    {
        using var machine = new LaunchMachine();
        var page = new byte[4096];
        page[0] = 1;
        BitConverter.TryWriteBytes(page.AsSpan(16), 0x8000_001F);
        machine.Builder.AddPage(0x1000, LaunchPageType.Cpuid, page);
        Assert.Equal(47, LoadCpuid(machine)[16 + 28] & 0x3F);
    }

    // What goes into memory is what the security processor made of the page.
    [Fact]
    public void TryLoad_CpuidPage_IsTheOneThatWasChecked()
    {
        using var machine = new LaunchMachine();
        machine.Builder.AddPage(0x1000, LaunchPageType.Cpuid, new byte[4096]);
        LoadCpuid(machine);
        GuestMemory memory = machine.Machine.Memory;
        Assert.Equal(LaunchMachine.Filled(0x5A), new ReadOnlySpan<byte>(memory.PrivateBytes(memory.Find(0x1000)), 4096).ToArray());
        Assert.Equal(0ul, machine.Machine.Cpus[0].TimeStampOffset);
    }

    // An answer that is quicker than the wait for it must not interrupt the guest later: runs repeat.
    [Fact]
    public void TryLoad_CpuidPage_AnswerInterruptsNobody()
    {
        using var machine = new LaunchMachine();
        machine.Builder.AddPage(0x1000, LaunchPageType.Cpuid, new byte[4096]);
        machine.Port.WrittenWithInterrupts = false;
        LoadCpuid(machine);
        Assert.False(machine.Port.WrittenWithInterrupts);
        Assert.True(machine.Port.InterruptsEnabled);
    }

    [Theory]
    [InlineData(LinkFrame.GuestResponse, 4096)]
    [InlineData(LinkFrame.CpuidPage, 4095)]
    [InlineData(LinkFrame.CpuidPage, 0)]
    public void TryLoad_CpuidPageWithAnotherAnswer_IsRefused(LinkFrame type, int length)
    {
        using var machine = new LaunchMachine();
        machine.Builder.AddPage(0x1000, LaunchPageType.Cpuid, new byte[4096]);
        machine.Answer(type, new byte[length]);
        Assert.False(machine.Load());
        Assert.Contains("page", machine.Error, StringComparison.Ordinal);
    }

    [Fact]
    public void TryLoad_CpuidPage_LosesFunctionsThatSayNothing()
    {
        using var machine = new LaunchMachine();
        var page = new byte[4096];
        page[0] = 3;
        BitConverter.TryWriteBytes(page.AsSpan(16), 0xDu);
        BitConverter.TryWriteBytes(page.AsSpan(16 + 48), 0x8000_001F);
        BitConverter.TryWriteBytes(page.AsSpan(16 + 96), 0x4000_0002u);
        machine.Builder.AddPage(0x1000, LaunchPageType.Cpuid, page);
        byte[] filled = LoadCpuid(machine);
        Assert.Equal((1u, 0x8000_001Fu), (BitConverter.ToUInt32(filled), BitConverter.ToUInt32(filled, 16)));
        Assert.True(filled.AsSpan(16 + 48, 96).IndexOfAnyExcept((byte)0) < 0);
    }

    // The page as the hypervisor sends it; the answer is another one.
    private static byte[] LoadCpuid(LaunchMachine machine)
    {
        machine.Answer(LinkFrame.CpuidPage, LaunchMachine.Filled(0x5A));
        Assert.True(machine.Load(), machine.Error);
        Assert.Equal([Link.Start, (byte)LinkFrame.CpuidPage, 0, 0x10], machine.Port.Bytes[..4]);
        return [.. machine.Port.Bytes[4..(4 + 4096)]];
    }

    [Fact]
    public void TryLoad_RequiredRange_HasLargeEntriesWhereTheyAreWhole()
    {
        using var machine = new LaunchMachine();
        machine.Builder.Ram.Add(new LaunchRam { Base = 0x100_0000, Length = 0x80_0000 });
        machine.Builder.AddPage(0x11F_F000, LaunchPageType.Required, null, count: 1 + 512 + 511);
        Assert.True(machine.Load(), machine.Error);
        GuestMemory memory = machine.Machine.Memory;
        Assert.True(memory.Find(0x11F_F000)->Assigned && !memory.Find(0x11F_F000)->IsLarge);
        Assert.True(memory.Find(0x120_0000)->IsLarge && memory.Find(0x13F_F000)->IsLarge);
        Assert.True(memory.Find(0x140_0000)->Assigned && !memory.Find(0x140_0000)->IsLarge);
        Assert.False(memory.Find(0x120_0000)->Validated);
    }

    [Fact]
    public void TryLoad_BadPages_AreRefused()
    {
        Action<BlobBuilder>[] mistakes =
        [
            b => b.AddPage(0x1001, LaunchPageType.Normal, null),
            b => b.AddPage(LaunchMachine.RamLength, LaunchPageType.Normal, null),
            b => b.AddPage(0x1000, LaunchPageType.Normal, null, count: 2),
            b => b.AddPage(0x1000, LaunchPageType.Zero, LaunchMachine.Filled(1)),
            b => b.AddPage(0x1000, (LaunchPageType)77, null),
            b => b.AddPage(LaunchMachine.RamLength - 0x1000, LaunchPageType.Required, null, count: 2),
            b => b.AddPage(0x1000, LaunchPageType.Cpuid, LaunchMachine.Filled(0xFF)),
            b => b.AddPage(0x9000, LaunchPageType.Vmsa, null),
            b => b.AddPage(0x9000, LaunchPageType.Vmsa, LaunchMachine.Filled(0xFF)),
            b => b.AddPage(0x9000, LaunchPageType.Vmsa, LaunchMachine.Filled(0), index: 1),
            b =>
            {
                b.AddPage(0x1000, LaunchPageType.Normal, null);
                b.AddPage(0x1000, LaunchPageType.Normal, null);
            },
        ];
        for (int i = 0; i < mistakes.Length; i++)
        {
            using var machine = new LaunchMachine();
            mistakes[i](machine.Builder);
            Assert.False(machine.Load(), $"mistake {i}");
            Assert.Contains("launch blob", machine.Error, StringComparison.Ordinal);
        }
    }

    [Fact]
    public void TryLoad_Items_AreReadByPorts()
    {
        using var machine = new LaunchMachine();
        machine.Builder.Items.Add((new LaunchItem { Key = 0x19, Length = 3 }, [1, 2, 3]));
        var battery = new byte[RealTimeClock.Length];
        battery[0x34] = 0x77;
        machine.Builder.Items.Add((new LaunchItem { Key = LaunchItem.BatteryMemory, Length = RealTimeClock.Length }, battery));
        machine.Builder.Items.Add((new LaunchItem { Key = LaunchItem.ConsoleInput, Length = 2 }, "hi"u8.ToArray()));
        Assert.True(machine.Load(), machine.Error);
        PortSpace ports = machine.Machine.Ports;
        VirtualCpu cpu = machine.Machine.Cpus[0];
        Assert.Equal([0x61, 'h', 0x61, 'i', 0x60], new ushort[] { 0x3FD, 0x3F8, 0x3FD, 0x3F8, 0x3FD }.Select(port => (int)ports.Read(port, 1)));
        Assert.True(ports.Write(cpu, MachinePorts.FirmwareSelector, 2, 0x19));
        Assert.Equal([1, 2, 3, 0, 0], Enumerable.Range(0, 5).Select(_ => (int)ports.Read(MachinePorts.FirmwareData, 1)));
        Assert.True(ports.Write(cpu, MachinePorts.BatteryIndex, 1, 0xB4));
        Assert.Equal(0x77u, ports.Read(MachinePorts.BatteryData, 1));
    }

    // Control, length and address of a request that lies at 0x1FF8, across two pages; the bytes of item 0x19 are 1, 2, 3.
    [Theory]
    [InlineData(0x0019_000Au, 3u, 0x3000ul, 0u, new byte[] { 1, 2, 3, 0xEE })]
    [InlineData(0x0019_000Au, 2u, 0x2FFFul, 0u, new byte[] { 2, 0xEE, 0xEE, 0xEE })]
    [InlineData(0x0019_000Au, 6u, 0x2FFFul, 0u, new byte[] { 2, 3, 0, 0, 0, 0xEE })]
    [InlineData(0x0020_000Au, 2u, 0x3000ul, 0u, new byte[] { 0, 0, 0xEE })]
    [InlineData(0x0019_0008u, 9u, 0x3000ul, 0u, new byte[] { 0xEE })]
    [InlineData(0x0019_000Au, 0u, ulong.MaxValue, 0u, new byte[] { 0xEE })]
    [InlineData(0x0019_0018u, 1u, 0x3000ul, 1u, new byte[] { 0xEE })]
    [InlineData(0x0019_000Au, 3u, LaunchMachine.RamLength - 2, 1u, new byte[] { 0xEE })]
    [InlineData(0x0019_000Au, 3u, ulong.MaxValue - 1, 1u, new byte[] { 0xEE })]
    [InlineData(0x0019_000Au, 3u, 0x0000_8000_0000_3000ul, 1u, new byte[] { 0xEE })]
    [InlineData(0x0019_000Au, 0x2000u, 0x3000ul, 1u, new byte[] { 1, 2, 3, 0 })]
    public void TryLoad_Items_AreReadByDma(uint control, uint length, ulong address, uint answer, byte[] at3000)
    {
        const ulong Request = 0x1FF8;
        const ulong Private = 0x4000;
        using var machine = new LaunchMachine();
        machine.Builder.Items.Add((new LaunchItem { Key = 0x19, Length = 3 }, [1, 2, 3]));
        machine.Builder.AddPage(Private, LaunchPageType.Normal, LaunchMachine.Filled(0x55));
        Assert.True(machine.Load(), machine.Error);
        GuestMemory memory = machine.Machine.Memory;
        byte[] request = new byte[16];
        BinaryPrimitives.WriteUInt32BigEndian(request, control);
        BinaryPrimitives.WriteUInt32BigEndian(request.AsSpan(4), length);
        BinaryPrimitives.WriteUInt64BigEndian(request.AsSpan(8), address);
        memory.CopyToShared(Request, request);
        memory.CopyToShared(0x3000, [0xEE, 0xEE, 0xEE, 0xEE, 0xEE, 0xEE]);

        StartDma(machine, Request);

        byte[] result = new byte[4];
        memory.CopyFromShared(Request, result);
        Assert.Equal(answer, BinaryPrimitives.ReadUInt32BigEndian(result));
        byte[] data = new byte[at3000.Length];
        memory.CopyFromShared(0x3000, data);
        Assert.Equal(at3000, data);
        Assert.Equal(0x55, *memory.PrivateBytes(memory.Find(Private)));
    }

    [Fact]
    public void TryLoad_Items_DmaGoesOnWhereItStopped()
    {
        using var machine = new LaunchMachine();
        machine.Builder.Items.Add((new LaunchItem { Key = 0x19, Length = 5 }, [1, 2, 3, 4, 5]));
        Assert.True(machine.Load(), machine.Error);
        Assert.Equal("QEMU CFG", string.Concat(Enumerable.Range(0x514, 8).Select(port => (char)machine.Machine.Ports.Read((ushort)port, 1))));
        foreach ((uint control, uint length) in (ReadOnlySpan<(uint, uint)>)[(0x0019_0008, 0), (4, 2), (2, 1)])
        {
            byte[] request = new byte[16];
            BinaryPrimitives.WriteUInt32BigEndian(request, control);
            BinaryPrimitives.WriteUInt32BigEndian(request.AsSpan(4), length);
            BinaryPrimitives.WriteUInt64BigEndian(request.AsSpan(8), 0x3000);
            machine.Machine.Memory.CopyToShared(0x2000, request);
            StartDma(machine, 0x2000);
        }

        byte[] data = new byte[2];
        machine.Machine.Memory.CopyFromShared(0x3000, data);
        Assert.Equal([3, 0], data);
        Assert.Equal(4u, machine.Machine.Ports.Read(MachinePorts.FirmwareData, 1));
    }

    // Neither is there anything that could be told, nor does the run end.
    [Theory]
    [InlineData(0x4000ul)]
    [InlineData(0x3FF8ul)]
    [InlineData(LaunchMachine.RamLength - 8)]
    [InlineData(ulong.MaxValue - 3)]
    public void TryLoad_Items_DmaRequestThatIsNotShared_IsIgnored(ulong request)
    {
        using var machine = new LaunchMachine();
        machine.Builder.Items.Add((new LaunchItem { Key = 0x19, Length = 1 }, [1]));
        machine.Builder.AddPage(0x4000, LaunchPageType.Normal, LaunchMachine.Filled(0x55));
        Assert.True(machine.Load(), machine.Error);

        StartDma(machine, request);

        Assert.Equal(0x55, *machine.Machine.Memory.PrivateBytes(machine.Machine.Memory.Find(0x4000)));
    }

    [Fact]
    public void TryLoad_BadItems_AreRefused()
    {
        LaunchItem[] mistakes =
        [
            new() { Key = LaunchItem.ConsoleInput + 1, Length = 1 },
            new() { Key = LaunchItem.ConsoleInput, Length = 4097 },
            new() { Key = LaunchItem.BatteryMemory, Length = 127 },
            new() { Key = 1, Length = 4097 },
            new() { Key = 1, Length = ulong.MaxValue },
            new() { Key = 1, Length = 1, DataBlock = 1 },
            new() { Key = 1, Length = 1, DataBlock = ulong.MaxValue / 2 },
            new() { Key = 1, Length = 1, Reserved = 1 },
        ];
        foreach (LaunchItem mistake in mistakes)
        {
            using var machine = new LaunchMachine();
            machine.Builder.Items.Add((mistake, [1]));
            Assert.False(machine.Load());
            Assert.Contains("launch blob", machine.Error, StringComparison.Ordinal);
        }
    }

    [Fact]
    public void TryLoad_TooManyItems_AreRefused()
    {
        using var machine = new LaunchMachine();
        for (uint i = 0; i <= LaunchHeader.MaxItemCount; i++)
        {
            machine.Builder.Items.Add((new LaunchItem { Key = i, Length = 1 }, [1]));
        }

        Assert.False(machine.Load());
    }

    [Fact]
    public void TryLoad_BadHeader_IsRefused()
    {
        Action<byte[]>[] mistakes =
        [
            blob => blob[0] ^= 1,
            blob => blob[8] = 9,
            blob => blob[12] = 0,
            blob => blob[12] = 65,
            blob => blob[0x13] = 0x7F,
            blob => blob[0x17] = 0x7F,
            blob => blob[0x20] = 1,
            blob => blob[0x27] = 1,
            blob => blob[0x2F] = 1,
            blob => blob[0x43] = 0x7F,
        ];
        for (int i = 0; i < mistakes.Length; i++)
        {
            using var machine = new LaunchMachine();
            Assert.False(machine.Load(mistakes[i]), $"mistake {i}");
        }
    }

    [Theory]
    [InlineData(0)]
    [InlineData(63)]
    public void TryLoad_TooShort_IsRefused(int length)
    {
        using var machine = new LaunchMachine();
        Assert.False(machine.Load(length));
    }

    [Fact]
    public void TryLoad_UnsoundVmsa_IsRefused()
    {
        using var machine = new LaunchMachine { SevFeatures = SevFeatures.VirtualTom | SevFeatures.SnpActive };
        Assert.False(machine.Load());
        Assert.Contains("VMRUN", machine.Error, StringComparison.Ordinal);
    }

    [Fact]
    public void TryLoad_NoVmsa_IsRefused()
    {
        using var machine = new LaunchMachine { WithVmsa = false };
        Assert.False(machine.Load());
        Assert.Contains("no VMSA", machine.Error, StringComparison.Ordinal);
    }

    private static void StartDma(LaunchMachine machine, ulong request)
    {
        VirtualCpu cpu = machine.Machine.Cpus[0];
        Assert.True(machine.Machine.Ports.Write(cpu, MachinePorts.FirmwareDma, 4, BinaryPrimitives.ReverseEndianness((uint)(request >> 32))));
        Assert.True(machine.Machine.Ports.Write(cpu, MachinePorts.FirmwareDma + 4, 4, BinaryPrimitives.ReverseEndianness((uint)request)));
    }
}
