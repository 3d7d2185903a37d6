// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// One call of the guest, in private memory: taken from the guest's VMSA once, answered, written back once.
//
// A call that defines no output leaves a register as it was. Source: the register convention in Svsm.Wire.SvsmCall.

using Svsm.Wire;

namespace Svsm.Kernel.Protocols;

/// <summary>A call and, later, its answer.</summary>
internal struct SvsmRequest
{
    /// <summary>RAX: protocol in bits 63:32, call in bits 31:0. The answer's result code is returned apart.</summary>
    public ulong Selector;

    /// <summary>RCX.</summary>
    public ulong Rcx;

    /// <summary>RDX.</summary>
    public ulong Rdx;

    /// <summary>R8.</summary>
    public ulong R8;

    /// <summary>R9.</summary>
    public ulong R9;

    /// <summary>Protocol number. Untrusted.</summary>
    public readonly SvsmProtocol Protocol => (SvsmProtocol)(uint)(Selector >> 32);

    /// <summary>Call number. Untrusted.</summary>
    public readonly uint Call => (uint)Selector;
}

/// <summary>How a call ended, for the request loop.</summary>
internal enum CallOutcome : byte
{
    /// <summary>There is a result code for the guest.</summary>
    Answered,

    /// <summary>The host interfered: no answer could be true, the VM must end.</summary>
    HostViolation,
}
