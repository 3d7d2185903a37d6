// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

namespace Svsm.Igvm;

/// <summary>How bad a finding is.</summary>
public enum IgvmFindingSeverity
{
    /// <summary>The host starts the guest, but not quite as the file says.</summary>
    Warning,

    /// <summary>The host refuses the file, or the guest cannot run.</summary>
    Error,
}

/// <summary>Whose rule a finding is about.</summary>
public enum IgvmHost
{
    /// <summary>The format itself, or every host.</summary>
    Any,

    /// <summary>QEMU 10.1 and later with upstream KVM.</summary>
    StockQemu,

    /// <summary>The coconut-svsm branches of QEMU and KVM.</summary>
    CoconutQemu,

    /// <summary>Cloud Hypervisor.</summary>
    CloudHypervisor,

    /// <summary>OpenVMM on KVM.</summary>
    OpenVmm,

    /// <summary>Hyper-V.</summary>
    HyperV,

    /// <summary>Google's Vanadium.</summary>
    Vanadium,
}

/// <summary>Something that a host refuses or does in its own way.</summary>
/// <param name="Severity">How bad it is.</param>
/// <param name="Host">Whose rule it is.</param>
/// <param name="Reason">Value seen, value wanted, consequence.</param>
/// <param name="Header">The header, or null when it is about the file as a whole.</param>
public sealed record IgvmFinding(IgvmFindingSeverity Severity, IgvmHost Host, string Reason, IgvmHeader? Header = null);
