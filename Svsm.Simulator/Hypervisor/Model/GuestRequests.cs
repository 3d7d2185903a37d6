// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Guest requests: the guest's message goes to the machine, which plays the security processor, and its answer into the guest's pages.
//
// The guest's time stands still meanwhile. How long the machine takes is no property of the guest's run: the time-stamp counters of all
// vCPUs are set back by it, so that runs repeat under -icount.
//
// Source: GHCB specification (56421), SNP Guest Request and SNP Extended Guest Request; Linux arch/x86/kvm/svm/sev.c.

using System;
using System.Runtime.InteropServices;
using Svsm.Simulator.Shared;

namespace Svsm.Hypervisor;

/// <summary>What a guest request is about.</summary>
internal unsafe struct GuestRequest
{
    /// <summary>The request page, which the guest can change at any time.</summary>
    public byte* Request;

    /// <summary>The page for the response.</summary>
    public byte* Response;

    /// <summary>First GPA of the pages for certificates, page-aligned; all of them are shared RAM.</summary>
    public ulong CertificatesGpa;

    /// <summary>Number of these pages, or <see cref="Link.NoCertificates"/>.</summary>
    public uint CertificatePages;
}

/// <summary>Carries guest requests.</summary>
internal static unsafe class GuestRequests
{
    // SAFETY (whole type): request and response are whole shared pages, which the caller has looked up.

    /// <summary>Whether the message in a request page asks for an attestation report. The type is not encrypted.</summary>
    public static bool IsReportRequest(byte* request)
    {
        const int TypeOffset = 0x34;
        const byte ReportRequest = 5;
        return request[TypeOffset] == ReportRequest;
    }

    /// <summary>Has the machine answer a request.</summary>
    /// <param name="machine">The machine.</param>
    /// <param name="cpu">Who asks.</param>
    /// <param name="request">The request.</param>
    /// <param name="exitInfo2">SW_EXITINFO2 for the guest.</param>
    /// <param name="pagesNeeded">Pages that certificates need, if there was too little room; else 0.</param>
    /// <returns>False when the machine sent something else.</returns>
    public static bool TryHandle(VirtualMachine machine, VirtualCpu cpu, in GuestRequest request, out ulong exitInfo2, out uint pagesNeeded)
    {
        ulong start = machine.Processor.ReadTimeStampCounter();
        Span<byte> payload = stackalloc byte[Link.MaxPayload];
        MemoryMarshal.Write(payload, in request.CertificatePages);
        payload.Slice(sizeof(uint), Link.GuestRequestHeaderLength - sizeof(uint)).Clear();
        new ReadOnlySpan<byte>(request.Request, (int)Amd64.PageSize).CopyTo(payload[Link.GuestRequestHeaderLength..]);
        machine.Link.FlushConsole();
        machine.Link.SendRequest(LinkFrame.GuestRequest, payload[..(Link.GuestRequestHeaderLength + (int)Amd64.PageSize)]);
        bool answered = TryReceive(machine, cpu, in request, payload, out exitInfo2, out pagesNeeded);
        machine.HoldTimeSince(start);
        return answered && machine.Commands.AwaitRelease(cpu);
    }

    private static bool TryReceive(VirtualMachine machine, VirtualCpu cpu, in GuestRequest request, Span<byte> payload, out ulong exitInfo2, out uint pagesNeeded)
    {
        const int PagesOffset = 8;
        exitInfo2 = 0;
        pagesNeeded = 0;
        for (uint page = 0; ; page++)
        {
            int length = machine.Link.Receive(payload, out LinkFrame type);
            while (type == LinkFrame.Command)
            {
                machine.Commands.Execute(cpu, payload[..length]);
                length = machine.Link.Receive(payload, out type);
            }

            if (type == LinkFrame.Certificates && length == (int)Amd64.PageSize && request.CertificatePages != Link.NoCertificates && page < request.CertificatePages)
            {
                GuestPage* certificates = machine.Memory.Find(request.CertificatesGpa + (page * Amd64.PageSize));
                payload[..length].CopyTo(new Span<byte>(machine.Memory.SharedBytes(certificates), length));
                continue;
            }

            if (type != LinkFrame.GuestResponse || length < Link.GuestResponseHeaderLength || length > Link.GuestResponseHeaderLength + (int)Amd64.PageSize)
            {
                return false;
            }

            exitInfo2 = MemoryMarshal.Read<ulong>(payload);
            pagesNeeded = MemoryMarshal.Read<uint>(payload[PagesOffset..]);
            payload[Link.GuestResponseHeaderLength..length].CopyTo(new Span<byte>(request.Response, (int)Amd64.PageSize));
            return true;
        }
    }
}
