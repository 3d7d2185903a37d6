// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// A guest of a test: a module with a kernel, the layout of its buffers, and what it gets.

extern alias simulator;

using System;
using System.Buffers.Binary;
using System.Linq;
using System.Security.Cryptography;
using simulator::Svsm.Simulator;
using Svsm.Core;
using Svsm.Core.Testing;
using Svsm.Wire;
using Xunit;

namespace Svsm.Modules.Attestation.Tests;

/// <summary>The chip of all tests: its keys take seconds to make.</summary>
public sealed class ChipFixture : IDisposable
{
    private readonly System.IO.DirectoryInfo _folder = System.IO.Directory.CreateTempSubdirectory("svsm-attest-");

    public ChipFixture() => Chip = SimulatedChip.Open(System.IO.Path.Combine(_folder.FullName, "chip"));

    internal SimulatedChip Chip { get; }

    public void Dispose()
    {
        Chip.Dispose();
        _folder.Delete(recursive: true);
    }
}

[CollectionDefinition(Name)]
public sealed class ChipGroup : ICollectionFixture<ChipFixture>
{
    public const string Name = "chip";
}

internal sealed class AttestationGuest : IDisposable
{
    public const uint AllServices = 0;
    public const uint SingleService = 1;

    public const ulong Structure = 0x1008;
    public const ulong Nonce = 0x2000;
    public const ulong Report = 0x1_0000;
    public const ulong Manifest = 0x2_0000;
    public const ulong Certificates = 0x3_0000;
    private const int MemorySize = 0x10_0000;

    private ModuleTest _test;

    public AttestationGuest(TestKernel kernel, TestServices? services = null)
    {
        Kernel = kernel;
        Services = services ?? new TestServices();
        _test = new ModuleTest(new AttestationModule(), MemorySize, kernel, Services);
        NonceBytes = RandomNumberGenerator.GetBytes(64);
    }

    public TestKernel Kernel { get; }

    public TestServices Services { get; }

    public ModuleTest Test => _test;

    public byte[] NonceBytes { get; set; }

    /// <summary>The process of the module ends; another one is started.</summary>
    public void Restart()
    {
        _test.Dispose();
        _test = new ModuleTest(new AttestationModule(), MemorySize, Kernel, Services);
    }

    /// <summary>A structure of the protocol, with large buffers.</summary>
    public static byte[] NewStructure(uint certificatesSize = 0x4000, Guid? service = null, uint version = 0)
    {
        byte[] bytes = new byte[0x58];
        BinaryPrimitives.WriteUInt64LittleEndian(bytes, Report);
        BinaryPrimitives.WriteUInt32LittleEndian(bytes.AsSpan(0x08), 0x1000);
        BinaryPrimitives.WriteUInt64LittleEndian(bytes.AsSpan(0x10), Nonce);
        BinaryPrimitives.WriteUInt16LittleEndian(bytes.AsSpan(0x18), 64);
        BinaryPrimitives.WriteUInt64LittleEndian(bytes.AsSpan(0x20), Manifest);
        BinaryPrimitives.WriteUInt32LittleEndian(bytes.AsSpan(0x28), 0x1000);
        BinaryPrimitives.WriteUInt64LittleEndian(bytes.AsSpan(0x30), Certificates);
        BinaryPrimitives.WriteUInt32LittleEndian(bytes.AsSpan(0x38), certificatesSize);
        service.GetValueOrDefault().TryWriteBytes(bytes.AsSpan(0x40));
        BinaryPrimitives.WriteUInt32LittleEndian(bytes.AsSpan(0x50), version);
        return bytes;
    }

    public SvsmAnswer Call(uint call, byte[] structure)
    {
        _test.Memory.GuestWrite(new(Nonce), NonceBytes);
        _test.Memory.GuestWrite(new(Structure), structure);
        return _test.Call(call, rcx: Structure, rdx: ulong.MaxValue, r8: ulong.MaxValue);
    }

    /// <summary>The module as the one that keeps the store has it.</summary>
    public ModulePeers NewPeers() => new AttestingModule(this);

    public SvsmAnswer CallAllServices() => Call(AllServices, NewStructure());

    /// <summary>The call succeeded: the report has the hash of nonce and manifest, and the chip signed it.</summary>
    public byte[] AssertGood(SvsmAnswer answer)
    {
        Assert.Equal(SvsmResultCode.Success, answer.Code);
        Assert.Equal(0x4A0u, answer.R8);
        byte[] manifest = _test.Memory.GuestRead(new(Manifest), (int)answer.Rcx);
        byte[] report = _test.Memory.GuestRead(new(Report), 0x4A0);
        Assert.Equal(SHA512.HashData([.. NonceBytes, .. manifest]), report[0x50..0x90]);
        Assert.Equal(0u, BinaryPrimitives.ReadUInt32LittleEndian(report.AsSpan(0x30)));
        Kernel.AssertNoNumberTwice();
        return manifest;
    }

    /// <summary>The buffers have what they had before.</summary>
    public void AssertNothingWritten()
    {
        foreach (ulong buffer in (ulong[])[Report, Manifest, Certificates])
        {
            Assert.DoesNotContain(_test.Memory.GuestRead(new(buffer), 0x4000), value => value != 0);
        }
    }

    public void Dispose() => _test.Dispose();

    private sealed class AttestingModule(AttestationGuest guest) : ModulePeers
    {
        public override PeerResult Ask(ModuleMessageKind kind, ReadOnlySpan<byte> request, out byte[] answer)
        {
            answer = guest._test.Ask(kind, protocol: 0x8000_0002, request.ToArray()) ?? [];
            return PeerResult.Answered;
        }
    }
}
