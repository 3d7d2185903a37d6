// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using Svsm.Wire;

namespace Svsm.Builder;

/// <summary>What an image is built from.</summary>
public sealed record SvsmImageOptions
{
    /// <summary>The kernel: an ELF64 x86-64 executable as docs/image-layout.md describes it. Untrusted.</summary>
    public required ReadOnlyMemory<byte> Kernel { get; init; }

    /// <summary>The guest: an ELF64 x86-64 executable that starts in 32-bit protected mode; empty = an image without a guest. Untrusted.</summary>
    public ReadOnlyMemory<byte> GuestPayload { get; init; }

    /// <summary>The host that the image is for.</summary>
    public HostFlavour Flavour { get; init; } = HostFlavour.Qemu;

    /// <summary>Privilege level of the guest, 1 to 3.</summary>
    public Vmpl GuestVmpl { get; init; } = Vmpl.Vmpl2;

    /// <summary>Guest policy (SNP form); bit 17 is set, bits above 25 are not. Default: SMT allowed, no debugging, no migration agent.</summary>
    public ulong Policy { get; init; } = 0x3_0000;

    /// <summary>SEV_FEATURES that the image wants. A host may drop injection modes or add the virtual top of memory.</summary>
    public SevFeatures SevFeatures { get; init; } = SevFeatures.SnpActive | SevFeatures.RestrictedInjection;
}

/// <summary>Names of the host flavours, as command lines, file names and reports have them.</summary>
public static class HostFlavourNames
{
    /// <summary>The names, in the order of <see cref="HostFlavour"/>.</summary>
    public static ReadOnlySpan<string> All => s_names;

    private static readonly string[] s_names = ["qemu", "stock-qemu", "hyperv", "vanadium"];

    /// <summary>The name of a flavour.</summary>
    /// <param name="flavour">The flavour.</param>
    /// <returns>One of <see cref="All"/>.</returns>
    /// <exception cref="ArgumentOutOfRangeException">The flavour is unknown.</exception>
    public static string ToName(HostFlavour flavour)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual((uint)flavour, (uint)s_names.Length, nameof(flavour));
        return s_names[(int)flavour];
    }

    /// <summary>Looks up a name.</summary>
    /// <param name="name">The name; letter case does not matter.</param>
    /// <param name="flavour">The flavour; without meaning when the result is false.</param>
    /// <returns>True when the name is known.</returns>
    public static bool TryParse(string? name, out HostFlavour flavour)
    {
        int index = Array.FindIndex(s_names, known => known.Equals(name, StringComparison.OrdinalIgnoreCase));
        flavour = (HostFlavour)Math.Max(index, 0);
        return index >= 0;
    }
}
