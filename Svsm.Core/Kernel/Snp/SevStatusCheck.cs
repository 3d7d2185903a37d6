// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// SEV_STATUS against the measured configuration. The register is the processor's, set from the VMSA that the vCPU runs on:
// a VMSA with other features than the measured one (no SNP, no restricted injection, a virtual top of memory) shows here.

using Svsm.Wire;

namespace Svsm.Kernel.Snp;

/// <summary>Checks SEV_STATUS.</summary>
internal static class SevStatusCheck
{
    private const SevFeatures KnownFeatures =
        SevFeatures.SnpActive | SevFeatures.ReflectVc | SevFeatures.RestrictedInjection | SevFeatures.AlternateInjection |
        SevFeatures.DebugSwap | SevFeatures.PreventHostIbs | SevFeatures.BtbIsolation | SevFeatures.VmplSss | SevFeatures.SecureTsc |
        SevFeatures.VmgexitParameter | SevFeatures.VmsaRegisterProtection | SevFeatures.SmtProtection;

    /// <summary>Compares the register with what the launch VMSA was measured with.</summary>
    /// <param name="status">SEV_STATUS.</param>
    /// <param name="measured">SEV_FEATURES of the launch VMSA.</param>
    /// <returns>
    /// <see cref="TerminationReason.None"/>; <see cref="TerminationReason.SevStatusUnknownBits"/> for a bit without a name;
    /// <see cref="TerminationReason.SevStatusMismatch"/> when a named one differs, or SEV, SEV-ES or SNP is off.
    /// </returns>
    public static TerminationReason Check(ulong status, SevFeatures measured)
    {
        ulong known = SevStatus.Sev | SevStatus.SevEs | ((ulong)KnownFeatures << SevStatus.FeaturesShift);
        if ((status & ~known) != 0)
        {
            return TerminationReason.SevStatusUnknownBits;
        }

        ulong wanted = SevStatus.Sev | SevStatus.SevEs | ((ulong)measured << SevStatus.FeaturesShift);
        return status == wanted && (measured & SevFeatures.SnpActive) != 0 ? TerminationReason.None : TerminationReason.SevStatusMismatch;
    }
}
