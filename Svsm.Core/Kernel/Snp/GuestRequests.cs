// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Requests to the security processor: pages shared with the host, and the exits that hand them over. What a request is, and which may be sent, is
// Modules/GuestMessages.cs. One at a time: the process of one module asks.
//
//   page 0      the request
//   page 1      the answer
//   page 2-5    certificates
//
// Source: GHCB specification (56421), "SNP Guest Request" and "SNP Extended Guest Request".

using System;
using Svsm.Kernel.Memory;
using Svsm.Wire;

namespace Svsm.Kernel.Snp;

/// <summary>Hands requests to the security processor.</summary>
internal static class GuestRequests
{
    private const int Order = 3;
    private const int CertificateOffset = 2 * Page.Size;

    private static SharedPages s_pages;

    /// <summary>Shares the pages. While booting.</summary>
    /// <returns>What was lacking.</returns>
    public static MemoryError Initialize() => SharedPages.Allocate(Order, out s_pages);

    /// <summary>Has the host hand a request over.</summary>
    /// <param name="request">A page.</param>
    /// <param name="response">A page: gets the answer, if there is one.</param>
    /// <param name="certificates">Gets certificates; empty: they are not asked for.</param>
    /// <param name="status">The host's word; 0 if it has none.</param>
    /// <returns>False: the host did not do it at all, it says.</returns>
    public static bool TrySend(ReadOnlySpan<byte> request, Span<byte> response, Span<byte> certificates, out ulong status)
    {
        Span<byte> shared = s_pages.Bytes;
        shared.Clear();
        request.CopyTo(shared);
        ulong frame = s_pages.Frame.Value;
        GhcbRequest exit = new() { ExitCode = GhcbExitCode.GuestRequest, Info1 = frame, Info2 = frame + Page.Size };
        if (!certificates.IsEmpty)
        {
            exit.ExitCode = GhcbExitCode.ExtendedGuestRequest;
            exit.Sent = GhcbRegisters.Rax | GhcbRegisters.Rbx;
            exit.Rax = frame + CertificateOffset;
            exit.Rbx = (ulong)certificates.Length / Page.Size;
        }

        bool isAnswered = Host.TryExchange(in exit, out GhcbAnswer answer);
        status = isAnswered ? answer.Info2 : 0;
        if (isAnswered)
        {
            shared.Slice(Page.Size, Page.Size).CopyTo(response);
            shared.Slice(CertificateOffset, certificates.Length).CopyTo(certificates);
        }

        return isAnswered;
    }
}
