// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// What the hosts that an image can be written for do differently.
//
// Source: coconut-svsm tools/igvmbuilder for the addresses and register values of each host; QEMU target/i386/sev.c (check_vmsa) and KVM's
// KVM_X86_SEV_VMSA_FEATURES for what stock QEMU accepts.

using System;
using Svsm.Wire;

namespace Svsm.Igvm.Imaging;

/// <summary>The properties of a host flavour.</summary>
public sealed record HostProfile
{
    /// <summary>Where KVM puts every launch VMSA: the last page below 2^48.</summary>
    public const ulong KvmVmsaGpa = 0xFFFF_FFFF_F000;

    /// <summary>The page attribute table after reset, which is what QEMU and Hyper-V start with.</summary>
    public const ulong ResetPat = 0x0007_0406_0007_0406;

    private HostProfile()
    {
    }

    /// <summary>The flavour.</summary>
    public required HostFlavour Flavour { get; init; }

    /// <summary>True when the VMSA is at <see cref="KvmVmsaGpa"/>; false when it is the last page of the SVSM's region.</summary>
    public bool VmsaAtKvmGpa { get; init; } = true;

    /// <summary>Virtual top of memory: shared memory is above, and no C-bit is used. 0 = the host uses the C-bit.</summary>
    public ulong VirtualTom { get; init; }

    /// <summary>PAT of the launch VMSA.</summary>
    public ulong Pat { get; init; } = ResetPat;

    /// <summary>DR6 of the launch VMSA.</summary>
    public ulong Dr6 { get; init; }

    /// <summary>DR7 of the launch VMSA.</summary>
    public ulong Dr7 { get; init; }

    /// <summary>SEV_FEATURES that the host accepts.</summary>
    public SevFeatures AcceptedFeatures { get; init; } =
        SevFeatures.SnpActive | SevFeatures.RestrictedInjection | SevFeatures.AlternateInjection | SevFeatures.DebugSwap |
        SevFeatures.PreventHostIbs | SevFeatures.BtbIsolation | SevFeatures.VmplSss | SevFeatures.SecureTsc |
        SevFeatures.VmsaRegisterProtection | SevFeatures.SmtProtection;

    /// <summary>
    /// Features left out, silently, when writing for the host: it cannot give them. On stock QEMU these are restricted and alternate
    /// injection; so such a host can inject any event, and the guest's launch digest and attestation report show it.
    /// </summary>
    public SevFeatures DroppedFeatures { get; init; }

    /// <summary>True when the host measures a page without data as type ZERO and not as a NORMAL page of zeroes.</summary>
    public bool NativeZeroPages { get; init; }

    /// <summary>True when the host measures one VMSA for each vCPU; false when it measures those of the file.</summary>
    public bool MeasuresEveryVcpu { get; init; }

    /// <summary>The properties of a flavour.</summary>
    /// <param name="flavour">The flavour.</param>
    /// <returns>The properties.</returns>
    /// <exception cref="ArgumentOutOfRangeException">The flavour is unknown.</exception>
    public static HostProfile For(HostFlavour flavour) => flavour switch
    {
        HostFlavour.Qemu => new HostProfile { Flavour = flavour },
        HostFlavour.StockQemu => new HostProfile
        {
            Flavour = flavour,
            AcceptedFeatures = SevFeatures.SnpActive | SevFeatures.DebugSwap | SevFeatures.BtbIsolation | SevFeatures.SecureTsc,
            DroppedFeatures = SevFeatures.RestrictedInjection | SevFeatures.AlternateInjection,
            MeasuresEveryVcpu = true,
        },
        HostFlavour.HyperV => new HostProfile
        {
            Flavour = flavour,
            VmsaAtKvmGpa = false,
            VirtualTom = 0x4000_0000_0000,
        },
        HostFlavour.Vanadium => new HostProfile
        {
            Flavour = flavour,
            Pat = 0x7_0106,
            Dr6 = 0xFFFF_0FF0,
            Dr7 = 0x400,
            NativeZeroPages = true,
        },
        _ => throw new ArgumentOutOfRangeException(nameof(flavour), flavour, "Unknown host flavour."),
    };

    /// <summary>The SEV_FEATURES that an image gets on this host.</summary>
    /// <param name="requested">What the image asks for.</param>
    /// <returns>What the launch VMSA contains.</returns>
    /// <exception cref="LaunchImageException">The host does not accept a requested feature, or SNP is missing.</exception>
    public SevFeatures EffectiveFeatures(SevFeatures requested)
    {
        if ((requested & SevFeatures.SnpActive) == 0)
        {
            throw new LaunchImageException(LaunchImageError.UnsupportedFeature, $"SEV_FEATURES is 0x{(ulong)requested:X}; bit 0 (SNP active) must be set.");
        }

        SevFeatures refused = requested & ~(AcceptedFeatures | DroppedFeatures);
        if (refused != 0)
        {
            throw new LaunchImageException(
                LaunchImageError.UnsupportedFeature,
                $"SEV_FEATURES is 0x{(ulong)requested:X}; host {Flavour} does not accept {refused} (0x{(ulong)refused:X}). Leave it out for this host.");
        }

        SevFeatures features = requested & ~DroppedFeatures;
        return VirtualTom == 0 ? features : features | SevFeatures.VirtualTom;
    }

    /// <summary>Where the launch VMSA goes.</summary>
    /// <param name="regionBase">First address of the SVSM's region.</param>
    /// <param name="regionLength">Length of the region, bytes.</param>
    /// <returns>Guest-physical address.</returns>
    public ulong VmsaGpa(ulong regionBase, ulong regionLength) => VmsaAtKvmGpa ? KvmVmsaGpa : regionBase + regionLength - VmsaPage.ByteLength;
}
