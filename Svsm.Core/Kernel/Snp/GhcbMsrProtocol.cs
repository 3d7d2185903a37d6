// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The register form of the guest-host protocol: what is asked, and what counts as an answer.
//
// The answer is one 64-bit number that the caller has read once. Every bit that the protocol defines is checked; a wrong
// function code, a set reserved bit or an echo that differs makes the answer none.
// Source: GhcbMsr in Svsm.Wire, and the files named there.

using Svsm.Kernel.Memory;
using Svsm.Wire;

namespace Svsm.Kernel.Snp;

/// <summary>Requests and answers in the GHCB MSR.</summary>
internal static class GhcbMsrProtocol
{
    /// <summary>Protocol version that the kernel speaks.</summary>
    public const uint Version = 2;

    private const ulong SevInfoReservedMask = 0xFF_F000;

    /// <summary>Checks the answer to <see cref="GhcbMsr.SevInfoRequest"/>.</summary>
    /// <param name="answer">The register. Untrusted.</param>
    /// <param name="encryptionBit">C-bit position that the CPUID page names.</param>
    public static TerminationReason CheckSevInfo(ulong answer, int encryptionBit)
    {
        if ((answer & (SevInfoReservedMask | GhcbMsr.CodeMask)) != GhcbMsr.SevInfoResponse)
        {
            return TerminationReason.GhcbAnswer;
        }

        uint highest = (uint)(answer >> 48) & 0xFFFF;
        uint lowest = (uint)(answer >> 32) & 0xFFFF;
        if (lowest > Version || highest < Version)
        {
            return TerminationReason.GhcbVersion;
        }

        return ((answer >> 24) & 0xFF) == (ulong)encryptionBit ? TerminationReason.None : TerminationReason.EncryptionBitMismatch;
    }

    /// <summary>Checks the answer to <see cref="GhcbMsr.FeaturesRequest"/>.</summary>
    /// <param name="answer">The register. Untrusted.</param>
    public static TerminationReason CheckFeatures(ulong answer)
    {
        if ((answer & GhcbMsr.CodeMask) != GhcbMsr.FeaturesResponse)
        {
            return TerminationReason.GhcbAnswer;
        }

        HypervisorFeatures features = FeaturesOf(answer);
        if ((features & (HypervisorFeatures.Snp | HypervisorFeatures.ApCreation)) != (HypervisorFeatures.Snp | HypervisorFeatures.ApCreation))
        {
            return TerminationReason.HypervisorFeatures;
        }

        return (features & HypervisorFeatures.MultiVmpl) != 0 ? TerminationReason.None : TerminationReason.SingleVmpl;
    }

    /// <summary>The features in such an answer.</summary>
    public static HypervisorFeatures FeaturesOf(ulong answer) => (HypervisorFeatures)(answer >> 12);

    /// <summary>The request that registers a GHCB page.</summary>
    public static ulong RegisterRequest(PhysicalAddress page) => page.PageBase.Value | GhcbMsr.RegisterGhcbRequest;

    /// <summary>Whether the host took the GHCB page: it repeats the frame number.</summary>
    public static bool IsRegistered(ulong answer, PhysicalAddress page) => answer == (page.PageBase.Value | GhcbMsr.RegisterGhcbResponse);

    /// <summary>The request that changes the state of one 4-KiB page.</summary>
    public static ulong PageStateRequest(PhysicalAddress page, PageStateOperation operation) =>
        ((ulong)operation << PageStateChangeBuffer.OperationShift) | page.PageBase.Value | GhcbMsr.PageStateChangeRequest;

    /// <summary>Whether the host made the change: no error, no reserved bit.</summary>
    public static bool IsPageStateChanged(ulong answer) => answer == GhcbMsr.PageStateChangeResponse;

    /// <summary>The request that runs another VMPL of this vCPU.</summary>
    public static ulong RunVmplRequest(Vmpl vmpl) => ((ulong)vmpl << 32) | GhcbMsr.RunVmplRequest;

    /// <summary>Whether the VMPL ran: no error, no reserved bit.</summary>
    public static bool HasRun(ulong answer) => answer == GhcbMsr.RunVmplResponse;

    /// <summary>The request that ends the VM.</summary>
    public static ulong TerminateRequest(TerminationReason reason) =>
        GhcbMsr.TerminateRequest | ((ulong)TerminationReasonSet.Svsm << 12) | ((ulong)reason << 16);
}
