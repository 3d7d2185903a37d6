// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The page form of the guest-host protocol. The page is shared: the host may change any byte at any time, so a request is
// written field by field, and the answer is read field by field, each field once, into a private structure that is checked.
//
// A request marks the fields that it sets in the valid bitmap. The bitmap is all zero before, so a register that is marked
// afterwards was not set by the kernel: the host wrote it. An answer without a needed mark is none.
// Source: GhcbPage in Svsm.Wire, and the files named there.

using System.Runtime.CompilerServices;
using System.Threading;
using Svsm.Wire;

namespace Svsm.Kernel.Snp;

/// <summary>How the page gets to the host.</summary>
internal interface IGhcbPort
{
    /// <summary>Writes the page's address to the GHCB MSR and exits to the host; returns when the host has answered.</summary>
    void Exit();
}

/// <summary>A request. Registers that are not marked are not sent.</summary>
internal struct GhcbRequest
{
    /// <summary>SW_EXITCODE.</summary>
    public GhcbExitCode ExitCode;

    /// <summary>SW_EXITINFO1.</summary>
    public ulong Info1;

    /// <summary>SW_EXITINFO2.</summary>
    public ulong Info2;

    /// <summary>Which of the registers below go out.</summary>
    public GhcbRegisters Sent;

    /// <summary>Which registers the answer must have.</summary>
    public GhcbRegisters Wanted;

    /// <summary>RAX.</summary>
    public ulong Rax;

    /// <summary>RCX.</summary>
    public ulong Rcx;

    /// <summary>RDX.</summary>
    public ulong Rdx;

    /// <summary>RBX.</summary>
    public ulong Rbx;

    /// <summary>SW_SCRATCH: GPA of the buffer that belongs to the request.</summary>
    public ulong Scratch;
}

/// <summary>Registers of a GHCB page that the kernel uses.</summary>
[System.Flags]
internal enum GhcbRegisters : byte
{
    /// <summary>None.</summary>
    None = 0,

    /// <summary>RAX.</summary>
    Rax = 1,

    /// <summary>RCX.</summary>
    Rcx = 2,

    /// <summary>RDX.</summary>
    Rdx = 4,

    /// <summary>SW_SCRATCH.</summary>
    Scratch = 8,

    /// <summary>RBX.</summary>
    Rbx = 16,
}

/// <summary>A checked answer, private.</summary>
internal struct GhcbAnswer
{
    /// <summary>SW_EXITINFO2.</summary>
    public ulong Info2;

    /// <summary>RAX, if it was wanted.</summary>
    public ulong Rax;

    /// <summary>RDX, if it was wanted.</summary>
    public ulong Rdx;
}

/// <summary>Requests through a GHCB page.</summary>
internal static class GhcbExchange
{
    private const int RaxOffset = 0x1F8;
    private const int RcxOffset = 0x308;
    private const int RdxOffset = 0x310;
    private const int RbxOffset = 0x318;
    private const int ExitCodeOffset = 0x390;
    private const int Info1Offset = 0x398;
    private const int Info2Offset = 0x3A0;
    private const int ScratchOffset = 0x3A8;

    /// <summary>Makes a request and checks the answer.</summary>
    /// <param name="page">The GHCB page.</param>
    /// <param name="port">The way to the host.</param>
    /// <param name="request">What is asked.</param>
    /// <param name="answer">The answer, when the result is true.</param>
    /// <returns>False: the host refused, asks for an exception, or left out a wanted register.</returns>
    public static bool TryExchange<TPort>(ref GhcbPage page, ref TPort port, in GhcbRequest request, out GhcbAnswer answer)
        where TPort : IGhcbPort
    {
        Write(ref page, in request);
        port.Exit();
        return TryRead(ref page, in request, out answer);
    }

    /// <summary>Writes a request into the page, and leaves it there.</summary>
    /// <param name="page">The GHCB page.</param>
    /// <param name="request">What whoever executes VMGEXIT asks.</param>
    public static void Write(ref GhcbPage page, in GhcbRequest request)
    {
        ref ulong bitmapLow = ref Unsafe.As<Bytes16, ulong>(ref page.ValidBitmap);
        ref ulong bitmapHigh = ref Unsafe.Add(ref bitmapLow, 1);
        ulong low = 0;
        ulong high = Bit(ExitCodeOffset) | Bit(Info1Offset) | Bit(Info2Offset);

        Volatile.Write(ref page.SwExitCode, (ulong)request.ExitCode);
        Volatile.Write(ref page.SwExitInfo1, request.Info1);
        Volatile.Write(ref page.SwExitInfo2, request.Info2);
        if ((request.Sent & GhcbRegisters.Rax) != 0)
        {
            Volatile.Write(ref page.Rax, request.Rax);
            low |= Bit(RaxOffset);
        }

        if ((request.Sent & GhcbRegisters.Rcx) != 0)
        {
            Volatile.Write(ref page.Rcx, request.Rcx);
            high |= Bit(RcxOffset);
        }

        if ((request.Sent & GhcbRegisters.Rdx) != 0)
        {
            Volatile.Write(ref page.Rdx, request.Rdx);
            high |= Bit(RdxOffset);
        }

        if ((request.Sent & GhcbRegisters.Rbx) != 0)
        {
            Volatile.Write(ref page.Rbx, request.Rbx);
            high |= Bit(RbxOffset);
        }

        if ((request.Sent & GhcbRegisters.Scratch) != 0)
        {
            Volatile.Write(ref page.SwScratch, request.Scratch);
            high |= Bit(ScratchOffset);
        }

        Volatile.Write(ref bitmapLow, low);
        Volatile.Write(ref bitmapHigh, high);
        Volatile.Write(ref page.ProtocolVersion, (ushort)GhcbMsrProtocol.Version);
        Volatile.Write(ref page.Usage, 0u);
    }

    private static bool TryRead(ref GhcbPage page, in GhcbRequest request, out GhcbAnswer answer)
    {
        ref ulong bitmapLow = ref Unsafe.As<Bytes16, ulong>(ref page.ValidBitmap);
        ulong info1 = Volatile.Read(ref page.SwExitInfo1);
        ulong low = Volatile.Read(ref bitmapLow);
        ulong high = Volatile.Read(ref Unsafe.Add(ref bitmapLow, 1));
        answer = default;
        if ((GhcbCompletion)(uint)info1 != GhcbCompletion.Success)
        {
            return false;
        }

        answer.Info2 = Volatile.Read(ref page.SwExitInfo2);
        if ((request.Wanted & GhcbRegisters.Rax) != 0)
        {
            if ((low & Bit(RaxOffset)) == 0)
            {
                return false;
            }

            answer.Rax = Volatile.Read(ref page.Rax);
        }

        if ((request.Wanted & GhcbRegisters.Rdx) != 0)
        {
            if ((high & Bit(RdxOffset)) == 0)
            {
                answer = default;
                return false;
            }

            answer.Rdx = Volatile.Read(ref page.Rdx);
        }

        return true;
    }

    private static ulong Bit(int offset) => 1ul << ((offset / sizeof(ulong)) & 63);
}
