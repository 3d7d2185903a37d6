// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Runs a module in a test's own process, under any test framework: the test plays the guest. What the module throws reaches the test.
//
//   using var test = new ModuleTest(new EchoModule());
//   test.Memory.GuestWrite(new(0x1000), "hello"u8);
//   SvsmAnswer answer = test.Call(call: 1, rcx: 0x1000, rdx: 5);
//   Assert.Equal(SvsmResultCode.Success, answer.Code);

using System;
using System.Buffers;
using System.Collections.Generic;
using Svsm.Wire;

namespace Svsm.Core.Testing;

/// <summary>What the guest gets: the registers after a call.</summary>
/// <param name="Code">RAX.</param>
/// <param name="Rcx">RCX.</param>
/// <param name="Rdx">RDX.</param>
/// <param name="R8">R8.</param>
/// <param name="R9">R9.</param>
public readonly record struct SvsmAnswer(SvsmResultCode Code, ulong Rcx, ulong Rdx, ulong R8, ulong R9);

/// <summary>A line of a module's log, as the log's reader gets it.</summary>
/// <param name="Level">How important it is.</param>
/// <param name="Line">The text, escaped.</param>
public readonly record struct ModuleLogLine(ModuleLogLevel Level, string Line);

/// <summary>What a module gives of a guest that moves.</summary>
/// <param name="Version">Version of the state, from 1.</param>
/// <param name="Bytes">The state.</param>
public readonly record struct ModuleState(uint Version, ReadOnlyMemory<byte> Bytes);

/// <summary>A module and the guest that calls it. Not for use by two threads at once.</summary>
public sealed class ModuleTest : IDisposable
{
    /// <summary>Bytes of guest memory unless a test says otherwise: 16 MiB.</summary>
    public const int DefaultMemorySize = 0x100_0000;

    private readonly SvsmModule _module;
    private readonly ModuleRequests _requests;
    private readonly RecordedLog _log = new();
    private ulong _sequence;

    /// <summary>Starts a module.</summary>
    /// <param name="module">A new module; the test ends it.</param>
    /// <param name="memorySize">Bytes of guest memory, in whole pages; the guest has every right to them at first.</param>
    /// <param name="securityProcessor">The security processor; null: the module may not attest.</param>
    /// <param name="services">The services; null: the module may not attest.</param>
    /// <param name="peers">The other modules; null: the module may ask none.</param>
    /// <param name="disks">The SVSM's disks; null: there are none, and the module does not look for them.</param>
    /// <param name="move">The guest to be moved; null: the module does not move it.</param>
    /// <exception cref="ArgumentOutOfRangeException">The size is not a positive number of pages.</exception>
    /// <exception cref="InvalidOperationException">The module was started before.</exception>
    public ModuleTest(SvsmModule module, int memorySize = DefaultMemorySize, SecurityProcessor? securityProcessor = null, ServiceManifests? services = null, ModulePeers? peers = null, SvsmDisks? disks = null, GuestMove? move = null)
    {
        ArgumentNullException.ThrowIfNull(module);
        Memory = new TestGuestMemory(memorySize);
        _module = module;
        _requests = new ModuleRequests(module);
        module.Attach(Memory, _log, securityProcessor ?? new NoSecurityProcessor(), services ?? new NoServices(), peers ?? new NoPeers(), disks, move);
        module.Start();
    }

    /// <summary>The guest's memory.</summary>
    public TestGuestMemory Memory { get; }

    /// <summary>What the module logged so far.</summary>
    public IReadOnlyList<ModuleLogLine> Log => _log.Lines;

    /// <summary>Calls the module as a guest does.</summary>
    /// <param name="call">The number of the call.</param>
    /// <param name="rcx">RCX.</param>
    /// <param name="rdx">RDX.</param>
    /// <param name="r8">R8.</param>
    /// <param name="r9">R9.</param>
    /// <param name="vcpu">The calling vCPU.</param>
    /// <returns>The registers afterwards.</returns>
    public SvsmAnswer Call(uint call, ulong rcx = 0, ulong rdx = 0, ulong r8 = 0, ulong r9 = 0, int vcpu = 0)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(vcpu);
        ModuleMessage answer = Send(
            new() { Kind = ModuleMessageKind.Call, Vcpu = (uint)vcpu, Call = call, Rcx = rcx, Rdx = rdx, R8 = r8, R9 = r9 }, default, out _);
        return new((SvsmResultCode)answer.Result, answer.Rcx, answer.Rdx, answer.R8, answer.R9);
    }

    /// <summary>Asks for the manifest.</summary>
    /// <param name="version">Its version.</param>
    /// <returns>The manifest, or null: there is none of that version.</returns>
    /// <exception cref="InvalidOperationException">It is too large.</exception>
    public byte[]? GetManifest(uint version)
    {
        ModuleMessage answer = Send(new() { Kind = ModuleMessageKind.Manifest, Call = version }, default, out byte[] manifest);
        return (SvsmResultCode)answer.Result == SvsmResultCode.Success ? manifest : null;
    }

    /// <summary>Asks as another module does.</summary>
    /// <param name="kind"><see cref="ModuleMessageKind.Store"/> or <see cref="ModuleMessageKind.Key"/>.</param>
    /// <param name="protocol">Protocol of that module.</param>
    /// <param name="request">The request.</param>
    /// <param name="storeQuota">Bytes that the module may have in the store.</param>
    /// <returns>The answer, or null: the module serves no such requests.</returns>
    public byte[]? Ask(ModuleMessageKind kind, uint protocol, ReadOnlyMemory<byte> request, long storeQuota = 0)
    {
        ModuleMessage answer = Send(new() { Kind = kind, Rcx = protocol, Rdx = (ulong)storeQuota }, request, out byte[] contents);
        return (SvsmResultCode)answer.Result == SvsmResultCode.Success ? contents : null;
    }

    /// <summary>Has the module that moves the guest work for a while.</summary>
    /// <returns>After how many milliseconds it wants to work again; all ones: when there is something.</returns>
    public ulong Work() => Send(new() { Kind = ModuleMessageKind.Work }, default, out _).Rcx;

    /// <summary>Has the guest start anew.</summary>
    public void Reset() => Send(new() { Kind = ModuleMessageKind.Reset }, default, out _);

    /// <summary>Asks for the version of the state, as the SVSM does before the guest begins to move.</summary>
    /// <returns>The version; 0: the module cannot move.</returns>
    public uint GetStateVersion() => Send(new() { Kind = ModuleMessageKind.Save, Rcx = ModuleMessage.VersionOnly }, default, out _).Call;

    /// <summary>Asks for the state, part by part, as the SVSM does when the guest moves.</summary>
    /// <returns>The state, or null: the module cannot move.</returns>
    /// <exception cref="InvalidOperationException">It is too large.</exception>
    public ModuleState? Save()
    {
        var state = new ArrayBufferWriter<byte>();
        ModuleMessage answer;
        do
        {
            answer = Send(new() { Kind = ModuleMessageKind.Save, Rcx = (ulong)state.WrittenCount }, default, out byte[] part);
            if ((SvsmResultCode)answer.Result != SvsmResultCode.Success)
            {
                return null;
            }

            state.Write(part);
        }
        while ((ulong)state.WrittenCount != answer.Rdx);

        return new(answer.Call, state.WrittenMemory);
    }

    /// <summary>Gives a state to the module, part by part, as the SVSM does that a guest moves to.</summary>
    /// <param name="state">The state.</param>
    /// <returns>False: it does not take it, or it had a call or a state already.</returns>
    public bool Restore(ModuleState state)
    {
        int length = 0;
        ModuleMessage answer;
        do
        {
            ReadOnlyMemory<byte> part = state.Bytes.Slice(length, Math.Min(state.Bytes.Length - length, ModuleMessage.MaxPayload));
            answer = Send(new() { Kind = ModuleMessageKind.Restore, Call = state.Version, Rcx = (ulong)length, Rdx = (ulong)state.Bytes.Length }, part, out _);
            length += part.Length;
        }
        while (length < state.Bytes.Length && (SvsmResultCode)answer.Result == SvsmResultCode.Success);

        return (SvsmResultCode)answer.Result == SvsmResultCode.Success;
    }

    /// <summary>Says that the guest is not here: it is at another SVSM, or about to come from there.</summary>
    /// <returns>False: the module cannot let it go.</returns>
    public bool Leave() => (SvsmResultCode)Send(new() { Kind = ModuleMessageKind.Leave }, default, out _).Result == SvsmResultCode.Success;

    /// <summary>Says that the guest is here, and runs next.</summary>
    /// <returns>False: the module cannot go on with what it keeps elsewhere.</returns>
    public bool Arrive() => (SvsmResultCode)Send(new() { Kind = ModuleMessageKind.Arrive }, default, out _).Result == SvsmResultCode.Success;

    /// <summary>Sends a request as it is on the channel (Svsm.Wire.ModuleMessage), for tests of what no other method here sends.</summary>
    /// <param name="request">The request. It gets its number and the size of its contents here.</param>
    /// <param name="contents">What follows it.</param>
    /// <param name="payload">What follows the answer.</param>
    /// <returns>The answer.</returns>
    /// <exception cref="InvalidOperationException">It is no request, or the module gave more than may follow an answer.</exception>
    public ModuleMessage Send(ModuleMessage request, ReadOnlyMemory<byte> contents, out byte[] payload)
    {
        request.Sequence = ++_sequence;
        request.PayloadSize = (uint)contents.Length;
        if (!_requests.TryAnswer(in request, contents, out ModuleMessage answer, out ReadOnlyMemory<byte> bytes))
        {
            throw new InvalidOperationException($"a request of the kind {request.Kind} was not taken");
        }

        payload = bytes.ToArray();
        _requests.Answered();
        return answer;
    }

    /// <summary>Ends the module.</summary>
    public void Dispose() => _module.Dispose();

    private sealed class NoSecurityProcessor : SecurityProcessor
    {
        public override bool TryGetState(out SecurityProcessorState state)
        {
            state = default;
            return false;
        }

        public override SecurityProcessorResult Send(ReadOnlySpan<byte> request, bool withCertificates) => SecurityProcessorResult.NotPermitted;

        public override void ReadRequest(Span<byte> page) => page.Clear();

        public override void ReadResponse(Span<byte> page) => page.Clear();

        public override byte[] ReadCertificates() => [];

        public override void WipeKey()
        {
        }
    }

    private sealed class NoServices : ServiceManifests
    {
        public override IReadOnlyList<Guid> List() => [];

        public override ManifestResult TryRead(Guid service, uint version, out byte[] manifest)
        {
            manifest = [];
            return ManifestResult.NotPermitted;
        }
    }

    private sealed class NoPeers : ModulePeers
    {
        public override PeerResult Ask(ModuleMessageKind kind, ReadOnlySpan<byte> request, out byte[] answer)
        {
            answer = [];
            return PeerResult.NotPermitted;
        }
    }

    private sealed class RecordedLog : ModuleLog
    {
        public List<ModuleLogLine> Lines { get; } = [];

        private protected override void WriteCore(ModuleLogLevel level, string line) => Lines.Add(new(level, line));
    }
}
