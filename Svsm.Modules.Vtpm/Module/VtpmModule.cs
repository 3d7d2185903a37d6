// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The virtual TPM as a module of an image: protocol 2, for stock Linux (tpm_svsm) and OVMF.
//
//   0 VTPM_QUERY     out: RCX platform commands, RDX features
//   1 VTPM_CMD       in: RCX address of a buffer of 4096 bytes, anywhere; the response is written into it
//
// What the calls mean is VtpmProtocol's matter. It works in slices, for hosts that have to return to the guest by themselves; here the kernel does
// that while the module works, so a command is done to its end.
//
// A command has more time here than elsewhere: it does not hold the guest's processor, and the time in which others had it counts as well. An RSA key
// that is tried again is the same work again. What ends is TPM_RC_RETRY before the watchdog of the module, which takes the TPM away.
//
// In an image that keeps a store the TPM survives: its state is written before the answer to a command that changed it leaves. If that store cannot be
// opened there is no TPM: never a new one in the place of the old one. In an image without a store the TPM lives as long as the process: its seeds are
// made when it starts, and a verifier can tell (bit 0 of the firmware version).
//
// With a guest that moves to another SVSM goes all of the TPM, and its clock stands meanwhile; random numbers are others afterwards. A TPM in failure mode
// does not move, and one that is stored only to where there is a store as well: it would end with the VM, and nobody would have been told.
//
//   state, version 1     u32 flags, little-endian: bit 0 the TPM is stored | what Tpm.TrySave gives (docs/vtpm.md, "State")
//
// When the guest starts anew it is powered on anew, which is what a reset of the machine does to a TPM. The module is not to be restarted after a failure
// (its item in the package says so): a fresh TPM under a running guest would have PCRs that anybody could fill again.
//
// Source: Secure VM Service Module specification, "vTPM Protocol".

using System;
using System.Buffers.Binary;
using System.Security.Cryptography;
using Svsm.Core;
using Svsm.Wire;

namespace Svsm.Modules.Vtpm;

/// <summary>The virtual TPM.</summary>
[SvsmProtocol(2, Service = "c476f1eb-0123-45a5-9641-b4e7dde5bfe3")]
public sealed class VtpmModule : SvsmModule, ITpmClock, ITpmEntropy
{
    private const uint Query = 0;
    private const uint Command = 1;

    private const int CommandMilliseconds = 30_000;

    private const uint FirstStateVersion = 1;
    private const uint StoredFlag = 1;

    private readonly byte[] _buffer = new byte[VtpmProtocol.BufferSize];
    private TpmPlatform? _platform;
    private Tpm? _tpm;
    private VtpmProtocol? _protocol;

    /// <inheritdoc/>
    protected override uint StateVersion => _tpm!.IsFailed ? 0 : FirstStateVersion;

    /// <inheritdoc/>
    long ITpmClock.Milliseconds => Environment.TickCount64;

    /// <inheritdoc/>
    bool ITpmEntropy.TryFill(Span<byte> buffer)
    {
        try
        {
            RandomNumberGenerator.Fill(buffer);
            return true;
        }
        catch (CryptographicException)
        {
            return false;
        }
    }

    /// <inheritdoc/>
    protected override void Start()
    {
        // Before there are callers: nothing that could be answered. The process ends, and the guest has no TPM.
        StoreStatus status = Store.TryDescribe(out StoreDescription description);
        if (status is not (StoreStatus.Done or StoreStatus.NotThere))
        {
            throw new InvalidOperationException($"the TPM's state cannot be had: {status}");
        }

        ITpmStorage? storage = status == StoreStatus.Done ? new StoredState(Store) : null;
        _platform = new TpmPlatform(this, this, storage) { MessageSize = VtpmProtocol.MaxCommandSize, CommandMilliseconds = CommandMilliseconds };
        TpmOpenResult result = storage is null ? TpmOpenResult.NotManufactured : Tpm.TryOpen(_platform, out _tpm);
        bool isNew = result == TpmOpenResult.NotManufactured;
        if (isNew)
        {
            result = Tpm.TryManufacture(_platform, out _tpm);
        }

        if (result != TpmOpenResult.Done)
        {
            throw new InvalidOperationException($"the TPM cannot be {(isNew ? "made" : "opened")}: {result}");
        }

        Log.Information(
            storage is null ? "a new TPM, which ends with the VM"
            : (isNew ? "a new TPM, stored" : "the stored TPM") + (description.IsRollbackDetected ? "" : "; an older state of it cannot be told"));
        _protocol = new VtpmProtocol(_tpm!, this);
    }

    /// <inheritdoc/>
    protected override SvsmResult Handle(in SvsmRequest request) => request.Call switch
    {
        Query => new SvsmResult(SvsmResultCode.Success) { Rcx = VtpmProtocol.PlatformCommands, Rdx = VtpmProtocol.Features },
        Command => Execute(request.Vcpu, new PhysicalAddress(request.Rcx)),
        _ => SvsmResultCode.UnsupportedCall,
    };

    /// <inheritdoc/>
    protected override bool TryGetManifest(uint version, out ReadOnlyMemory<byte> manifest)
    {
        VtpmResult result;
        byte[] key;
        do
        {
            result = _protocol!.Manifest(version, EndorsementKeyKind.Rsa2048, out key);
        }
        while (result == VtpmResult.Incomplete);

        manifest = key;
        return result == VtpmResult.Success;
    }

    /// <inheritdoc/>
    protected override void Reset() => _tpm!.PowerOn();

    /// <inheritdoc/>
    protected override ReadOnlyMemory<byte> SaveState()
    {
        if (!_tpm!.TrySave(out byte[] saved))
        {
            throw new InvalidOperationException("a TPM in failure mode was asked for its state");
        }

        byte[] state = new byte[sizeof(uint) + saved.Length];
        BinaryPrimitives.WriteUInt32LittleEndian(state, _tpm.IsEphemeral ? 0 : StoredFlag);
        saved.CopyTo(state, sizeof(uint));
        CryptographicOperations.ZeroMemory(saved);
        return state;
    }

    /// <inheritdoc/>
    protected override bool TryRestoreState(uint version, ReadOnlyMemory<byte> state)
    {
        if (version != FirstStateVersion || state.Length < sizeof(uint))
        {
            return false;
        }

        uint flags = BinaryPrimitives.ReadUInt32LittleEndian(state.Span);
        if ((flags & ~StoredFlag) != 0)
        {
            return false;
        }

        if (flags == StoredFlag && _platform!.Storage is null)
        {
            Log.Error("the TPM of the guest that comes is a stored one, and this image has no store for it");
            return false;
        }

        TpmOpenResult result = Tpm.TryRestore(_platform!, state[sizeof(uint)..], out Tpm? tpm);
        if (result != TpmOpenResult.Done)
        {
            Log.Error($"the TPM of the guest that comes cannot be taken: {result}");
            return false;
        }

        _tpm = tpm;
        _protocol = new VtpmProtocol(tpm!, this);
        Log.Information($"the TPM of the guest that comes{(tpm!.IsEphemeral ? "" : ", stored")}");
        return true;
    }

    private SvsmResult Execute(int vcpu, PhysicalAddress address)
    {
        if (!Guest.TryRead(address, _buffer))
        {
            return SvsmResultCode.InvalidAddress;
        }

        try
        {
            VtpmResult result;
            int size;
            do
            {
                result = _protocol!.Command(vcpu, address.Value, _buffer, out size);
            }
            while (result == VtpmResult.Incomplete);

            return size != 0 && !Guest.TryWrite(address, _buffer.AsSpan(0, size)) ? SvsmResultCode.InvalidAddress : (SvsmResultCode)result;
        }
        finally
        {
            // Commands have authorisations in them, responses what was sealed.
            CryptographicOperations.ZeroMemory(_buffer);
        }
    }
}
