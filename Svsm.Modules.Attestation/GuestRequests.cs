// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Requests to the security processor under the key of VMPL0, for ReportSource and KeySource.
//
// A key and a message number that encrypt two messages give the key away, and with it everything that VMPL0 says. So:
//
//   the kernel takes the number of a request before the request leaves, and lets no other bytes out with it
//   a request that has no answer yet is sent again as it is, byte by byte. The process that made it may be gone: the kernel has the bytes
//   the answer to a request that asks the same is taken; one to a request that nobody waits for any more is thrown away, whatever its type
//   an answer that is not the security processor's means that the host is between: the key is given up, for the life of the VM
//
// While the host is busy the caller is told so, and asks again; the request stays where it is.

using System;
using System.Security.Cryptography;
using Svsm.Core;
using Svsm.Wire;

namespace Svsm.Modules.Attestation;

internal enum GuestRequestResult
{
    Success,

    // The same call later.
    Busy,

    // The security processor does not do it. The log has its status.
    Refused,

    // There is nothing any more, and the log says why.
    Failed,
}

internal sealed class GuestRequests(SecurityProcessor processor, ModuleLog log)
{
    // How often a busy host is asked within one call. Hosts limit how often guests ask, and mean seconds: the caller waits better.
    public const int MaxSends = 4;

    // What every request to the security processor is about.
    public const uint Vmpl0 = 0;

    private bool _toldWhy;

    /// <summary>Has a request answered.</summary>
    /// <param name="type">Type of the request; its answer has the next one.</param>
    /// <param name="payload">What it asks.</param>
    /// <param name="withCertificates">The host is asked for certificates as well.</param>
    /// <param name="answer">What the security processor says to it; the caller clears it. Empty if there is nothing.</param>
    /// <param name="certificates">What the host gave for certificates: untrusted. Empty: nothing.</param>
    public GuestRequestResult TryExchange(byte type, ReadOnlySpan<byte> payload, bool withCertificates, out byte[] answer, out byte[] certificates)
    {
        // At first the request that is under way, if there is one; afterwards none is.
        GuestRequestResult result = TryExchangeOnce(type, payload, withCertificates, out answer, out certificates, out bool wasForeign);
        return result == GuestRequestResult.Success && wasForeign
            ? TryExchangeOnce(type, payload, withCertificates, out answer, out certificates, out _)
            : result;
    }

    /// <summary>Gives up the key: what the security processor says cannot be.</summary>
    public GuestRequestResult GiveUp(string why)
    {
        processor.WipeKey();
        return Fail($"no reports and no keys: {why}, and the key of VMPL0 was given up");
    }

    /// <summary>Tells what the security processor said to a request.</summary>
    public GuestRequestResult Refuse(string what, uint status)
    {
        log.Error($"the security processor gives no {what}: status 0x{status:X}");
        return GuestRequestResult.Refused;
    }

    // Success of a foreign request: it was answered, and nobody waits for it.
    private GuestRequestResult TryExchangeOnce(
        byte type, ReadOnlySpan<byte> payload, bool withCertificates, out byte[] answer, out byte[] certificates, out bool wasForeign)
    {
        answer = [];
        certificates = [];
        wasForeign = false;
        byte[] page = new byte[SecurityProcessor.PageLength];
        SecurityProcessorState state = default;
        try
        {
            if (!processor.TryGetState(out state))
            {
                return Fail("it may not attest: its image has to permit it");
            }

            if ((state.Flags & SecurityProcessorFlags.HasKey) == 0)
            {
                return Fail("no reports and no keys: the key of VMPL0 is lost");
            }

            if ((state.Flags & SecurityProcessorFlags.InFlight) != 0)
            {
                processor.ReadRequest(page);
                wasForeign = !IsSame(state.Key, state.Sequence, page, type, payload);
            }
            else
            {
                GuestMessage.Seal(state.Key, state.Sequence, type, payload, page);
            }

            byte sent = GuestMessage.TypeOf(page);
            switch (Send(page, withCertificates))
            {
                case SecurityProcessorResult.Answered:
                    break;
                case SecurityProcessorResult.Busy:
                    return GuestRequestResult.Busy;
                case SecurityProcessorResult.Refused:
                    return Fail("no reports and no keys: the host or the security processor refused a request, and the key of VMPL0 is lost");
                case SecurityProcessorResult.NoKey:
                    return Fail("no reports and no keys: the key of VMPL0 is lost");
                case SecurityProcessorResult.NotSent:
                    log.Error("the kernel did not send a request");
                    return GuestRequestResult.Failed;
                default:
                    return Fail("it may not attest: its image has to permit it");
            }

            processor.ReadResponse(page);
            if (!GuestMessage.TryOpen(state.Key, state.Sequence + 1, (byte)(sent + 1), page, out byte[] opened))
            {
                return GiveUp("an answer is not the security processor's");
            }

            if (wasForeign)
            {
                CryptographicOperations.ZeroMemory(opened);
                return GuestRequestResult.Success;
            }

            // From here on it is the security processor that speaks.
            answer = opened;
            certificates = withCertificates ? CertificateTable.Trim(processor.ReadCertificates()) : [];
            return GuestRequestResult.Success;
        }
        finally
        {
            CryptographicOperations.ZeroMemory(state.Key);
        }
    }

    // Whether the request that is under way asks this. It was sent under the key, by this module or the one before it.
    private static bool IsSame(ReadOnlySpan<byte> key, ulong sequence, ReadOnlySpan<byte> page, byte type, ReadOnlySpan<byte> payload) =>
        GuestMessage.TryOpen(key, sequence, type, page, out byte[] sent) && sent.AsSpan().SequenceEqual(payload);

    private SecurityProcessorResult Send(byte[] page, bool withCertificates)
    {
        var result = SecurityProcessorResult.Busy;
        for (int i = 0; i < MaxSends && result == SecurityProcessorResult.Busy; i++)
        {
            result = processor.Send(page, withCertificates);
        }

        return result;
    }

    // What will not change any more is told once.
    private GuestRequestResult Fail(string why)
    {
        if (!_toldWhy)
        {
            _toldWhy = true;
            log.Error(why);
        }

        return GuestRequestResult.Failed;
    }
}
