// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The security processor, for the one module of an image that may attest. The kernel keeps what must survive the module: which message numbers
// are used, the bytes of a request that was sent, whether the key is still good. The module makes the messages: it has the key.
//
//   TryGetState    the key, and the number that is due
//   Send           a request page with that number. The kernel takes the number before anything leaves, and afterwards no other bytes with it
//   ReadResponse   the answer's page
//
// A key and a message number that encrypt two different messages give the key away: so a request that may have left is sent again as it was,
// byte by byte, or the key is given up. A module that finds a request in flight when it starts, from the process before it, reads that
// (ReadRequest), sends it again, and throws the answer away.

using System;
using System.Runtime.InteropServices;
using Svsm.Wire;

namespace Svsm.Core;

/// <summary>What became of a request to the security processor.</summary>
public enum SecurityProcessorResult
{
    /// <summary>The answer is there. Whether it is one of the security processor's is for the module to find out.</summary>
    Answered,

    /// <summary>The host is busy. The same bytes are to be sent again, now or in another call.</summary>
    Busy,

    /// <summary>The host refused, or said that the security processor did. The key is lost.</summary>
    Refused,

    /// <summary>Nothing was sent: it is no request page with the number that is due, or another one is in flight.</summary>
    NotSent,

    /// <summary>Nothing was sent: the key is lost.</summary>
    NoKey,

    /// <summary>Nothing was sent: the module may not attest, or is not in an image.</summary>
    NotPermitted,
}

/// <summary>Messages to the security processor, under the key of VMPL0.</summary>
public abstract class SecurityProcessor
{
    /// <summary>Bytes of a request and of a response: a page.</summary>
    public const int PageLength = 4096;

    /// <summary>Says where the messages are.</summary>
    /// <param name="state">Key, number and flags. The key is the VM's most precious secret: clear the copy when it was used.</param>
    /// <returns>False: the module may not attest, or is not in an image.</returns>
    public abstract bool TryGetState(out SecurityProcessorState state);

    /// <summary>Sends a request.</summary>
    /// <param name="request">The page, <see cref="PageLength"/> bytes: header and encrypted payload.</param>
    /// <param name="withCertificates">The host is asked for certificates as well. It may have none, or more than
    /// <see cref="SecurityProcessorOffset.MaxCertificates"/>, and is not asked again then.</param>
    /// <returns>What became of it.</returns>
    /// <exception cref="ArgumentException"><paramref name="request"/> is not a page.</exception>
    public abstract SecurityProcessorResult Send(ReadOnlySpan<byte> request, bool withCertificates);

    /// <summary>Copies the request that was sent last; zero before the first one.</summary>
    /// <param name="page">Where to, <see cref="PageLength"/> bytes.</param>
    public abstract void ReadRequest(Span<byte> page);

    /// <summary>Copies the last answer, as the host gave it: untrusted until its tag is checked. Zero if there is none.</summary>
    /// <param name="page">Where to, <see cref="PageLength"/> bytes.</param>
    public abstract void ReadResponse(Span<byte> page);

    /// <summary>The certificates that came with the last answer, as the host gave them: untrusted. Whole pages; empty if there are none.</summary>
    public abstract byte[] ReadCertificates();

    /// <summary>Gives up the key, for the life of the VM: after an answer that is not the security processor's.</summary>
    public abstract void WipeKey();
}

// Outside of an image the descriptor is not open, and the kernel gives it to modules with the permission only.
internal sealed class DescriptorSecurityProcessor : SecurityProcessor
{
    public override bool TryGetState(out SecurityProcessorState state)
    {
        state = default;
        return Read(MemoryMarshal.AsBytes(new Span<SecurityProcessorState>(ref state)), SecurityProcessorOffset.State);
    }

    public override SecurityProcessorResult Send(ReadOnlySpan<byte> request, bool withCertificates)
    {
        if (request.Length != PageLength)
        {
            throw new ArgumentException($"a request of {request.Length} bytes; wanted are {PageLength}", nameof(request));
        }

        long offset = withCertificates ? SecurityProcessorOffset.ExtendedRequest : SecurityProcessorOffset.Request;
        return Descriptor.WriteAt(ModuleDescriptor.SecurityProcessor, request, offset) == PageLength
            ? SecurityProcessorResult.Answered
            : Descriptor.LastError switch
            {
                Descriptor.TryAgain => SecurityProcessorResult.Busy,
                Descriptor.InputOutput => SecurityProcessorResult.Refused,
                Descriptor.Invalid => SecurityProcessorResult.NotSent,
                Descriptor.NoKey => SecurityProcessorResult.NoKey,
                _ => SecurityProcessorResult.NotPermitted,
            };
    }

    public override void ReadRequest(Span<byte> page) => ReadPage(page, SecurityProcessorOffset.Request);

    public override void ReadResponse(Span<byte> page) => ReadPage(page, SecurityProcessorOffset.Response);

    public override byte[] ReadCertificates()
    {
        if (!TryGetState(out SecurityProcessorState state) || state.CertificateLength > SecurityProcessorOffset.MaxCertificates)
        {
            return [];
        }

        state.Key = default;
        byte[] certificates = new byte[state.CertificateLength];
        return Read(certificates, SecurityProcessorOffset.Certificates) ? certificates : [];
    }

    public override void WipeKey() => Descriptor.WriteAt(ModuleDescriptor.SecurityProcessor, [0], SecurityProcessorOffset.Wipe);

    private static void ReadPage(Span<byte> page, long offset)
    {
        if (page.Length != PageLength)
        {
            throw new ArgumentException($"a page of {page.Length} bytes; wanted are {PageLength}", nameof(page));
        }

        if (!Read(page, offset))
        {
            page.Clear();
        }
    }

    private static bool Read(Span<byte> destination, long offset) =>
        Descriptor.ReadAt(ModuleDescriptor.SecurityProcessor, destination, offset) == destination.Length;
}
