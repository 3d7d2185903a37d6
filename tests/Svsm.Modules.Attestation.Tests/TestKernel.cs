// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// What the kernel keeps of the security processor, beyond the module's process, and the host and the security processor behind it. The rule is that of
// Svsm.Core/Library/SecurityProcessor.cs: the number of a request is taken before it leaves, and no other bytes leave with it.
//
// A test ends the module at any of its calls, before or after the kernel has done what it wants: it sees an exception, and a new module finds
// what was left here.

extern alias simulator;

using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using System.Linq;
using System.Runtime.InteropServices;
using System.Security.Cryptography;
using System.Text;
using simulator::Svsm.Igvm;
using simulator::Svsm.Simulator;
using Svsm.Core;
using Svsm.Wire;
using Xunit;
using GuestMessages = simulator::Svsm.Simulator.GuestMessages;

namespace Svsm.Modules.Attestation.Tests;

/// <summary>The module's process is gone.</summary>
public sealed class CrashException : Exception;

/// <summary>What the host does with a request.</summary>
internal enum HostDeed
{
    Deliver,
    Busy,

    // Busy as well, but the security processor had it.
    DeliverAndSayBusy,
    Refuse,
}

internal sealed class TestKernel : Svsm.Core.SecurityProcessor
{
    private const int SequenceOffset = 0x20;

    private readonly byte[] _key = RandomNumberGenerator.GetBytes(32);
    private readonly GuestMessages _messages;
    private readonly byte[] _request = new byte[PageLength];
    private readonly byte[] _response = new byte[PageLength];
    private byte[] _certificates = [];
    private ulong _sequence = 1;
    private bool _hasKey = true;
    private bool _inFlight;

    public TestKernel(SimulatedChip chip, int reportVersion = 2, ulong sequence = 0, string image = "image", ulong policy = 0x3_0000, IgvmSnpIdBlock? idBlock = null,
        byte[]? hostData = null)
    {
        var guest = new GuestContext
        {
            Policy = policy,
            IdBlock = idBlock,
            HostData = hostData ?? new byte[32],
            Digest = SHA384.HashData(Encoding.ASCII.GetBytes(image)),
            MessageKeys = [_key, .. Enumerable.Range(1, 3).Select(_ => RandomNumberGenerator.GetBytes(32))],
        };
        _messages = new GuestMessages(guest, () => chip, reportVersion, [sequence, 0, 0, 0]);
        _sequence = sequence + 1;
    }

    /// <summary>What the host does next, and then next; nothing left: delivers.</summary>
    public Queue<HostDeed> Host { get; } = new();

    /// <summary>Changes an answer on its way.</summary>
    public Action<byte[]>? Tamper { get; set; }

    /// <summary>Takes the place of the security processor: request page to answer page.</summary>
    public Func<byte[], byte[]>? Instead { get; set; }

    /// <summary>Certificates of the host.</summary>
    public byte[] HostCertificates { get; set; } = [];

    /// <summary>The module is ended at the call with this number, from 0: an even one before it, an odd one after it.</summary>
    public int CrashAt { get; set; } = -1;

    /// <summary>Calls of the module, twice.</summary>
    public int Steps { get; private set; }

    /// <summary>Every page that the host saw.</summary>
    public List<byte[]> Left { get; } = [];

    /// <summary>Whether certificates were wanted with it.</summary>
    public List<bool> AskedForCertificates { get; } = [];

    public bool HasKey => _hasKey;

    public bool IsInFlight => _inFlight;

    public bool Permitted { get; set; } = true;

    public ReadOnlySpan<byte> Key => _key;

    public override bool TryGetState(out SecurityProcessorState state)
    {
        state = default;
        Step();
        if (!Permitted)
        {
            return false;
        }

        if (_hasKey)
        {
            _key.CopyTo((Span<byte>)state.Key);
            state.Flags = SecurityProcessorFlags.HasKey | (_inFlight ? SecurityProcessorFlags.InFlight : SecurityProcessorFlags.None);
        }

        state.Sequence = _sequence;
        state.CertificateLength = (uint)_certificates.Length;
        Step();
        return true;
    }

    public override SecurityProcessorResult Send(ReadOnlySpan<byte> request, bool withCertificates)
    {
        Step();
        SecurityProcessorResult result = SendCore(request, withCertificates);
        Step();
        return result;
    }

    public override void ReadRequest(Span<byte> page)
    {
        Step();
        _request.CopyTo(page);
        Step();
    }

    public override void ReadResponse(Span<byte> page)
    {
        Step();
        _response.CopyTo(page);
        Step();
    }

    public override byte[] ReadCertificates()
    {
        Step();
        byte[] certificates = [.. _certificates];
        Step();
        return certificates;
    }

    public override void WipeKey()
    {
        Step();
        _hasKey = false;
        _inFlight = false;
        Step();
    }

    /// <summary>The host is busy so many times, and then delivers.</summary>
    public void SetBusy(int times)
    {
        Host.Clear();
        for (int i = 0; i < times; i++)
        {
            Host.Enqueue(HostDeed.Busy);
        }
    }

    /// <summary>No number has been seen with two contents.</summary>
    public void AssertNoNumberTwice()
    {
        foreach (IGrouping<ulong, byte[]> pages in Left.GroupBy(page => BinaryPrimitives.ReadUInt64LittleEndian(page.AsSpan(SequenceOffset))))
        {
            Assert.Single(pages.Select(Convert.ToHexString).Distinct());
        }
    }

    /// <summary>An answer by whoever has the key.</summary>
    public byte[] Seal(byte[] request, byte type, byte[] payload)
    {
        byte[] page = new byte[PageLength];
        ulong sequence = BinaryPrimitives.ReadUInt64LittleEndian(request.AsSpan(SequenceOffset)) + 1;
        BinaryPrimitives.WriteUInt64LittleEndian(page.AsSpan(SequenceOffset), sequence);
        new byte[] { 1, 1, 0x60, 0, type, 1 }.CopyTo(page, 0x30);
        BinaryPrimitives.WriteUInt16LittleEndian(page.AsSpan(0x36), (ushort)payload.Length);
        byte[] nonce = new byte[12];
        BinaryPrimitives.WriteUInt64LittleEndian(nonce, sequence);
        using var cipher = new AesGcm(_key, 16);
        cipher.Encrypt(nonce, payload, page.AsSpan(0x60, payload.Length), page.AsSpan(0, 16), page.AsSpan(0x30, 0x30));
        return page;
    }

    private SecurityProcessorResult SendCore(ReadOnlySpan<byte> request, bool withCertificates)
    {
        Assert.Equal(PageLength, request.Length);
        if (!Permitted)
        {
            return SecurityProcessorResult.NotPermitted;
        }

        if (!_hasKey)
        {
            return SecurityProcessorResult.NoKey;
        }

        if (_inFlight ? !request.SequenceEqual(_request) : BinaryPrimitives.ReadUInt64LittleEndian(request[SequenceOffset..]) != _sequence)
        {
            return SecurityProcessorResult.NotSent;
        }

        request.CopyTo(_request);
        _inFlight = true;
        Left.Add(request.ToArray());
        AskedForCertificates.Add(withCertificates);
        HostDeed deed = Host.Count == 0 ? HostDeed.Deliver : Host.Dequeue();
        if (deed is HostDeed.Busy)
        {
            return SecurityProcessorResult.Busy;
        }

        byte[] answer = [];
        if (deed is HostDeed.Refuse || (Instead is null && _messages.Handle(request, out answer) != FirmwareStatus.Success))
        {
            _hasKey = false;
            _inFlight = false;
            return SecurityProcessorResult.Refused;
        }

        if (deed is HostDeed.DeliverAndSayBusy)
        {
            return SecurityProcessorResult.Busy;
        }

        answer = Instead?.Invoke(_request) ?? answer;
        Array.Clear(_response);
        answer.CopyTo(_response, 0);
        Tamper?.Invoke(_response);
        _certificates = withCertificates ? HostCertificates : [];
        _sequence += 2;
        _inFlight = false;
        _hasKey &= _sequence <= ulong.MaxValue - 2;
        return SecurityProcessorResult.Answered;
    }

    private void Step()
    {
        if (Steps++ == CrashAt)
        {
            throw new CrashException();
        }
    }
}

/// <summary>The services of a test's image.</summary>
internal sealed class TestServices : ServiceManifests
{
    /// <summary>Service, its manifests by version, and whether its module fails.</summary>
    public List<(Guid Service, byte[]? Manifest, ManifestResult Result)> Services { get; } = [];

    public override IReadOnlyList<Guid> List() => [.. Services.Select(service => service.Service)];

    public override ManifestResult TryRead(Guid service, uint version, out byte[] manifest)
    {
        manifest = [];
        foreach ((Guid candidate, byte[]? bytes, ManifestResult result) in Services)
        {
            if (candidate == service)
            {
                manifest = result == ManifestResult.Success && version == 0 ? bytes! : [];
                return result == ManifestResult.Success && version != 0 ? ManifestResult.NotFound : result;
            }
        }

        return ManifestResult.NotFound;
    }
}
