// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Globalization;
using System.Linq;
using System.Security.Cryptography;
using Svsm.Diagnostics;
using Svsm.Igvm;
using Svsm.Measurement;
using Svsm.Wire;

namespace Svsm.Builder;

/// <summary>Puts ID blocks into IGVM files.</summary>
public static class ImageSigner
{
    /// <summary>Signs a file: measures it as the host does, and adds an ID block for that digest as the last directive, in the place of one it may have.</summary>
    /// <param name="file">The file; needs an SEV-SNP platform and a guest policy for it.</param>
    /// <param name="flavour">The host that launches it.</param>
    /// <param name="identity">Keys and identity.</param>
    /// <returns>The signed file; the same file and keys give the same bytes.</returns>
    /// <exception cref="SvsmDiagnosticException">SVSM3001: a key or an id cannot be used. SVSM3002: the file has no launch digest on this host.</exception>
    public static IgvmFile Sign(IgvmFile file, HostFlavour flavour, ImageIdentity identity)
    {
        ArgumentNullException.ThrowIfNull(file);
        ArgumentNullException.ThrowIfNull(identity);
        LaunchDigest digest = Measure(file, flavour, identity.VcpuCount).Digest;
        uint mask = file.FindPlatform(IgvmPlatformType.SevSnp)!.CompatibilityMask;
        ulong policy = file.FindGuestPolicy(mask) ??
            throw SvsmDiagnostics.IdBlockFailed.Error("a file without a guest policy for SEV-SNP", "a GUEST_POLICY header, for the signature covers the policy");
        CheckId("family id", identity.FamilyId);
        CheckId("image id", identity.ImageId);
        var block = new IdBlock
        {
            LaunchDigest = digest,
            FamilyId = identity.FamilyId,
            ImageId = identity.ImageId,
            GuestSvn = identity.GuestSvn,
            Policy = policy,
        };
        try
        {
            using ECDsa idKey = IdKey.LoadPrivateKey(identity.IdKeyPem);
            using ECDsa? authorKey = identity.AuthorKeyPem is null ? null : IdKey.LoadPrivateKey(identity.AuthorKeyPem);
            IdAuthentication authentication = IdAuthentication.Sign(block, idKey, authorKey);
            IgvmDirective[] others = [.. file.Directives.Where(directive => directive is not IgvmSnpIdBlock)];
            return file with { Directives = [.. others, authentication.ToIgvm(block, mask)] };
        }
        catch (MeasurementException e)
        {
            throw SvsmDiagnostics.IdBlockFailed.Error(e.Message, "EC private keys on curve P-384", e);
        }
    }

    /// <summary>Measures a file.</summary>
    /// <param name="file">The file.</param>
    /// <param name="flavour">The host that launches it.</param>
    /// <param name="vcpuCount">Number of vCPUs.</param>
    /// <returns>The launch digest and every page that went into it.</returns>
    /// <exception cref="SvsmDiagnosticException">SVSM3002: the file has no launch digest on this host.</exception>
    public static MeasurementResult Measure(IgvmFile file, HostFlavour flavour, int vcpuCount = 1)
    {
        try
        {
            return LaunchMeasurement.Measure(file, flavour, vcpuCount);
        }
        catch (MeasurementException e)
        {
            throw SvsmDiagnostics.MeasurementFailed.Error(
                e.Message, string.Create(CultureInfo.InvariantCulture, $"a file that host {HostFlavourNames.ToName(flavour)} launches with {vcpuCount} vCPUs"), e);
        }
    }

    private static void CheckId(string name, ReadOnlyMemory<byte> id)
    {
        if (id.Length != IdBlock.IdLength)
        {
            throw SvsmDiagnostics.IdBlockFailed.Error($"{name} of {id.Length} bytes", $"{IdBlock.IdLength} bytes");
        }
    }
}
