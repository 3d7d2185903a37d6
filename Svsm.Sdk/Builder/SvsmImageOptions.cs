// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Immutable;
using Svsm.Measurement;
using Svsm.Wire;

namespace Svsm.Builder;

/// <summary>What an image is built from.</summary>
public sealed record SvsmImageOptions
{
    /// <summary>The kernel: an ELF64 x86-64 executable as docs/image-layout.md describes it. Untrusted.</summary>
    public required ReadOnlyMemory<byte> Kernel { get; init; }

    /// <summary>The guest: an ELF64 x86-64 executable that starts in 32-bit protected mode; empty = an image without a guest. Untrusted.</summary>
    public ReadOnlyMemory<byte> GuestPayload { get; init; }

    /// <summary>The guest: a Linux kernel that is started without firmware; null = none. Not together with another guest.</summary>
    public LinuxGuestOptions? Linux { get; init; }

    /// <summary>The guest: a UEFI firmware (OVMF); empty = none. Not together with another guest. Untrusted.</summary>
    public ReadOnlyMemory<byte> Firmware { get; init; }

    /// <summary>The modules; none: the kernel serves the core protocol only.</summary>
    public ImmutableArray<ModuleOptions> Modules { get; init; } = [];

    /// <summary>The programs of <see cref="Modules"/>, and files that these may open.</summary>
    public ImmutableArray<ModuleFile> Files { get; init; } = [];

    /// <summary>The host that the image is for.</summary>
    public HostFlavour Flavour { get; init; } = HostFlavour.Qemu;

    /// <summary>Privilege level of the guest, 1 to 3.</summary>
    public Vmpl GuestVmpl { get; init; } = Vmpl.Vmpl2;

    /// <summary>Guest policy (SNP form); bit 17 is set, bits above 25 are not. Default: SMT allowed, no debugging, no migration agent.</summary>
    public ulong Policy { get; init; } = 0x3_0000;

    /// <summary>SEV_FEATURES that the image wants. A host may drop injection modes or add the virtual top of memory.</summary>
    public SevFeatures SevFeatures { get; init; } = SevFeatures.SnpActive | SevFeatures.RestrictedInjection;

    /// <summary>
    /// What of its log the SVSM writes to its console, which the host reads: lines of this level and the more important ones. <see cref="LogLevel.Debug"/> needs
    /// a policy that allows debugging. Null: <see cref="LogLevel.Debug"/> with such a policy, else <see cref="LogLevel.Information"/>.
    /// </summary>
    public LogLevel? ConsoleLevel { get; init; }

    /// <summary>Identity for an ID block; null = none.</summary>
    public ImageIdentity? Identity { get; init; }
}

/// <summary>A Linux guest.</summary>
public sealed record LinuxGuestOptions
{
    /// <summary>The kernel: a bzImage for x86-64, protocol 2.14 or later. Linux knows SVSMs from version 6.11 on. Untrusted.</summary>
    public required ReadOnlyMemory<byte> Kernel { get; init; }

    /// <summary>The initial RAM disk; empty = none. Opaque: the kernel unpacks it.</summary>
    public ReadOnlyMemory<byte> InitialRamDisk { get; init; }

    /// <summary>The command line: printable ASCII, no longer than the kernel's limit.</summary>
    public string CommandLine { get; init; } = "";
}

/// <summary>The owner's identity, which an ID block binds to the launch digest and an attestation report repeats.</summary>
public sealed record ImageIdentity
{
    /// <summary>EC private key on curve P-384 that signs the ID block, PEM, not encrypted.</summary>
    public required string IdKeyPem { get; init; }

    /// <summary>EC private key on curve P-384 that signs the ID key, PEM, not encrypted; null = none.</summary>
    public string? AuthorKeyPem { get; init; }

    /// <summary>16 bytes chosen by the owner.</summary>
    public ReadOnlyMemory<byte> FamilyId { get; init; } = new byte[IdBlock.IdLength];

    /// <summary>16 bytes chosen by the owner.</summary>
    public ReadOnlyMemory<byte> ImageId { get; init; } = new byte[IdBlock.IdLength];

    /// <summary>Security version of the guest.</summary>
    public uint GuestSvn { get; init; }

    /// <summary>Number of vCPUs that the guest is started with. An ID block holds for one launch digest, and on stock QEMU that depends on this number.</summary>
    public int VcpuCount { get; init; } = 1;
}

/// <summary>Names of the host flavours, as command lines, file names and reports have them.</summary>
public static class HostFlavourNames
{
    /// <summary>The names, in the order of <see cref="HostFlavour"/>.</summary>
    public static ImmutableArray<string> All { get; } = ["qemu", "stock-qemu", "hyperv", "vanadium"];

    /// <summary>The name of a flavour.</summary>
    /// <param name="flavour">The flavour.</param>
    /// <returns>One of <see cref="All"/>.</returns>
    /// <exception cref="ArgumentOutOfRangeException">The flavour is unknown.</exception>
    public static string ToName(HostFlavour flavour)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual((uint)flavour, (uint)All.Length, nameof(flavour));
        return All[(int)flavour];
    }

    /// <summary>Looks up a name.</summary>
    /// <param name="name">The name; letter case does not matter.</param>
    /// <param name="flavour">The flavour; without meaning when the result is false.</param>
    /// <returns>True when the name is known.</returns>
    public static bool TryParse(string? name, out HostFlavour flavour)
    {
        int index = name is null ? -1 : All.IndexOf(name, StringComparer.OrdinalIgnoreCase);
        flavour = (HostFlavour)Math.Max(index, 0);
        return index >= 0;
    }
}
