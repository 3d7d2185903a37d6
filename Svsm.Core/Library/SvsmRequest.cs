// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// A call of the guest and the answer to it, as a module sees them: the registers of the SVSM calling convention.
// Source: the register convention in Svsm.Wire.SvsmCall.

using Svsm.Wire;

namespace Svsm.Core;

/// <summary>A call of the guest, in the module's own memory. All of it is untrusted.</summary>
/// <param name="Vcpu">The calling vCPU, from 0. The kernel's word, not the guest's.</param>
/// <param name="Call">The number of the call within the protocol.</param>
/// <param name="Rcx">RCX.</param>
/// <param name="Rdx">RDX.</param>
/// <param name="R8">R8.</param>
/// <param name="R9">R9.</param>
public readonly record struct SvsmRequest(int Vcpu, uint Call, ulong Rcx, ulong Rdx, ulong R8, ulong R9);

/// <summary>The answer to a call. Registers that are null keep what the guest had in them.</summary>
/// <param name="Code">RAX.</param>
public readonly record struct SvsmResult(SvsmResultCode Code)
{
    /// <summary>RCX for the guest.</summary>
    public ulong? Rcx { get; init; }

    /// <summary>RDX for the guest.</summary>
    public ulong? Rdx { get; init; }

    /// <summary>R8 for the guest.</summary>
    public ulong? R8 { get; init; }

    /// <summary>R9 for the guest.</summary>
    public ulong? R9 { get; init; }

    /// <summary>A result code alone.</summary>
    /// <param name="code">RAX.</param>
    public static implicit operator SvsmResult(SvsmResultCode code) => new(code);
}
