// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The vTPM protocol of an SVSM (protocol 2), for the host of modules: what a guest's calls mean. Integers are little-endian.
//
//   request    UINT32 platform command 8 (TPM_SEND_COMMAND), locality 0, UINT32 size, TPM command
//   response   UINT32 size, TPM response; in the same buffer
//
// A long command does not hold the guest's processor: the call answers INCOMPLETE after a slice, and the guest repeats it. Who repeats it is
// known by vCPU and buffer address:
//   the same vCPU, the same buffer     goes on; the buffer is not read again
//   the same vCPU, another buffer      has given up what it began: that ends without a trace, the new command begins
//   another vCPU                       BUSY while the command may still be continued, then the command ends without a trace
//   nobody                             the next call finds the time over
//
// In an attestation report of the SVSM the service is its manifest: VtpmProtocol.Manifest.
//
// Source: Secure VM Service Module specification, "vTPM Protocol", "Attestation Protocol"; the layout of TPM_SEND_COMMAND is that of the TCG reference simulator.

using System;
using System.Buffers.Binary;
using System.Security.Cryptography;

namespace Svsm.Modules.Vtpm;

/// <summary>Result codes of the protocol (RAX).</summary>
public enum VtpmResult : uint
{
    /// <summary>Done.</summary>
    Success = 0,

    /// <summary>The call is to be repeated.</summary>
    Incomplete = 0x8000_0000,

    /// <summary>There is no such call.</summary>
    UnsupportedCall = 0x8000_0002,

    /// <summary>The buffer's content is not a request: size or locality.</summary>
    InvalidFormat = 0x8000_0004,

    /// <summary>The platform command or the manifest's version is not served.</summary>
    InvalidParameter = 0x8000_0005,

    /// <summary>The TPM is in failure mode and attests to nothing.</summary>
    InvalidRequest = 0x8000_0006,

    /// <summary>Another vCPU's command is being done.</summary>
    Busy = 0x8000_0007,
}

/// <summary>SVSM protocol 2 in front of a TPM. Not for use by two threads at once.</summary>
public sealed class VtpmProtocol
{
    /// <summary>Bytes of the guest's buffer.</summary>
    public const int BufferSize = 4096;

    /// <summary>The largest command and response in bytes: what the TPM has to be made with.</summary>
    public const int MaxCommandSize = BufferSize - 0x80;

    /// <summary>What VTPM_QUERY answers: bit n is platform command n.</summary>
    public const ulong PlatformCommands = 1UL << (int)SendCommand;

    /// <summary>What VTPM_QUERY answers: no optional features.</summary>
    public const ulong Features = 0;

    /// <summary>The service's identifier in SVSM_ATTEST calls.</summary>
    public static readonly Guid ServiceId = new("c476f1eb-0123-45a5-9641-b4e7dde5bfe3");

    /// <summary>The only version of the attestation manifest.</summary>
    public const uint ManifestVersion = 0;

    private const uint SendCommand = 8;
    private const int RequestHead = 9;
    private const int ResponseHead = sizeof(uint);

    private readonly Tpm _tpm;
    private readonly ITpmClock _clock;
    private readonly byte[] _response = new byte[Tpm.MaxCommandSize];
    private Caller? _pending;
    private long _pendingSince;

    /// <summary>Serves a TPM.</summary>
    /// <param name="tpm">The TPM; its messages are at most <see cref="MaxCommandSize"/> bytes.</param>
    /// <param name="clock">The clock that the TPM has.</param>
    /// <exception cref="ArgumentException">The TPM's messages may be larger.</exception>
    public VtpmProtocol(Tpm tpm, ITpmClock clock)
    {
        ArgumentNullException.ThrowIfNull(tpm);
        ArgumentNullException.ThrowIfNull(clock);
        if (tpm.MessageSize > MaxCommandSize)
        {
            throw new ArgumentException($"messages of {tpm.MessageSize} bytes; at most {MaxCommandSize} fit into the guest's buffer", nameof(tpm));
        }

        _tpm = tpm;
        _clock = clock;
    }

    /// <summary>Whether a command waits for being continued.</summary>
    public bool IsPending => _pending is not null;

    /// <summary>VTPM_CMD.</summary>
    /// <param name="vcpu">The calling vCPU.</param>
    /// <param name="address">The buffer's guest-physical address (RCX); tells a repeated call from another one.</param>
    /// <param name="buffer">A private copy of the buffer, read once. With <see cref="VtpmResult.Success"/> it has the response, to be written back once.</param>
    /// <param name="size">Bytes of the buffer to write back; 0 when nothing is.</param>
    /// <exception cref="ArgumentException">The buffer has another size than <see cref="BufferSize"/>.</exception>
    public VtpmResult Command(int vcpu, ulong address, Span<byte> buffer, out int size)
    {
        if (buffer.Length != BufferSize)
        {
            throw new ArgumentException($"a buffer of {buffer.Length} bytes; {BufferSize} are wanted", nameof(buffer));
        }

        size = 0;
        var caller = new Caller(vcpu, address);
        if (_pending is Caller pending)
        {
            if (pending == caller)
            {
                return _tpm.TryContinue(_response, out int continued) ? Answer(buffer, continued, out size) : VtpmResult.Incomplete;
            }

            if (pending.Vcpu != vcpu && _clock.Milliseconds - _pendingSince <= _tpm.CommandMilliseconds)
            {
                return VtpmResult.Busy;
            }

            _tpm.Cancel(_response);
            _pending = null;
        }

        if (BinaryPrimitives.ReadUInt32LittleEndian(buffer) != SendCommand)
        {
            return VtpmResult.InvalidParameter;
        }

        // Firmware and guest are one party: there is one locality.
        uint length = BinaryPrimitives.ReadUInt32LittleEndian(buffer[5..]);
        if (buffer[4] != 0 || length > BufferSize - RequestHead)
        {
            return VtpmResult.InvalidFormat;
        }

        if (_tpm.TryExecute(buffer.Slice(RequestHead, (int)length), 0, _response, out int done))
        {
            return Answer(buffer, done, out size);
        }

        _pending = caller;
        _pendingSince = _clock.Milliseconds;
        return VtpmResult.Incomplete;
    }

    /// <summary>The service's attestation manifest: which TPM it is, by its endorsement key (TPMT_PUBLIC). Version 0 of the specification has the RSA key.</summary>
    /// <param name="version">From the call; <see cref="ManifestVersion"/>.</param>
    /// <param name="key">The key that the host of the module attests to; a verifier tells by the manifest's first two bytes which it is.</param>
    /// <param name="manifest">The manifest; empty unless the result is <see cref="VtpmResult.Success"/>.</param>
    /// <returns><see cref="VtpmResult.Incomplete"/> after a slice of work, to be repeated; <see cref="VtpmResult.InvalidParameter"/>; <see cref="VtpmResult.InvalidRequest"/>.</returns>
    public VtpmResult Manifest(uint version, EndorsementKeyKind key, out byte[] manifest)
    {
        manifest = [];
        return version != ManifestVersion ? VtpmResult.InvalidParameter
            : _tpm.IsFailed ? VtpmResult.InvalidRequest
            : _tpm.TryGetEndorsementKey(key, out manifest) ? VtpmResult.Success
            : VtpmResult.Incomplete;
    }

    private VtpmResult Answer(Span<byte> buffer, int length, out int size)
    {
        _pending = null;
        BinaryPrimitives.WriteUInt32LittleEndian(buffer, (uint)length);
        _response.AsSpan(0, length).CopyTo(buffer[ResponseHead..]);
        CryptographicOperations.ZeroMemory(_response.AsSpan(0, length));
        size = ResponseHead + length;
        return VtpmResult.Success;
    }

    private readonly record struct Caller(int Vcpu, ulong Address);
}
