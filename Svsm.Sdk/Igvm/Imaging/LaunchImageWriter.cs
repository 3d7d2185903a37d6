// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Writes a launch image as an IGVM file for one host.
//
// Order of the directives, and why:
//   required memory                  so that every later address exists
//   parameter areas, usages, inserts QEMU queues an insert before the page run that precedes it; first of all, there is none
//   pages sorted by address          hosts on Hyper-V import in this order whatever the file says
//   VMSA, then ID block              KVM measures the VMSA last
// Zero pages carry data: without, QEMU measures NORMAL and Cloud Hypervisor and Vanadium ZERO. Each parameter area is one page with its
// parameters where the image wants them: some hosts import just the first page of an area. The SNP platform header is first (and only):
// Cloud Hypervisor takes the mask of the first one.

using System;
using System.Collections.Generic;
using System.Collections.Immutable;
using System.Globalization;
using Svsm.Wire;

namespace Svsm.Igvm.Imaging;

/// <summary>Writes launch images.</summary>
public static class LaunchImageWriter
{
    /// <summary>The compatibility mask of the SNP platform in files that this class writes.</summary>
    public const uint SnpMask = 1;

    private const ulong EferSvme = 0x1000;
    private const ulong PolicyReservedOne = 1ul << 17;

    private static readonly byte[] s_zeroes = new byte[LaunchImage.PageSize];

    /// <summary>Makes the file for a host.</summary>
    /// <param name="image">The content.</param>
    /// <param name="flavour">The host.</param>
    /// <returns>The file. The same image and host give the same file.</returns>
    /// <exception cref="LaunchImageException">The image is incomplete, or the host would refuse it.</exception>
    /// <exception cref="ArgumentOutOfRangeException">The flavour is unknown.</exception>
    public static IgvmFile Write(LaunchImage image, HostFlavour flavour)
    {
        ArgumentNullException.ThrowIfNull(image);
        HostProfile host = HostProfile.For(flavour);
        if ((image.GuestPolicy & PolicyReservedOne) == 0)
        {
            throw new LaunchImageException(LaunchImageError.BadPolicy, string.Create(CultureInfo.InvariantCulture, $"The guest policy is 0x{image.GuestPolicy:X}; bit 17 must be set, for example 0x30000."));
        }

        if (image.Pages.Count == 0)
        {
            throw new LaunchImageException(LaunchImageError.Incomplete, "The image has no page.");
        }

        var directives = ImmutableArray.CreateBuilder<IgvmDirective>();
        foreach (LaunchMemoryRange range in image.RequiredMemory)
        {
            directives.Add(new IgvmRequiredMemory { Gpa = range.Gpa, CompatibilityMask = SnpMask, ByteLength = range.ByteLength });
        }

        AddParameters(image, directives);
        AddPages(image, directives);
        Vmsa vmsa = CreateVmsa(image, host);
        directives.Add(new IgvmVpContext
        {
            Gpa = CreateVmsaGpa(image, host),
            CompatibilityMask = SnpMask,
            Data = VmsaPage.ToArray(in vmsa),
        });
        if (image.IdBlock is IgvmSnpIdBlock idBlock)
        {
            directives.Add(idBlock with { CompatibilityMask = SnpMask });
        }

        var file = new IgvmFile
        {
            Platforms =
            [
                new IgvmPlatform
                {
                    CompatibilityMask = SnpMask,
                    HighestVtl = (byte)(image.HasGuest ? 2 : 0),
                    PlatformType = IgvmPlatformType.SevSnp,
                    SharedGpaBoundary = host.VirtualTom,
                },
            ],
            Initializations = [new IgvmGuestPolicy { CompatibilityMask = SnpMask, Policy = image.GuestPolicy }],
            Directives = directives.DrainToImmutable(),
        };
        foreach (IgvmFinding finding in IgvmValidator.Validate(file, flavour))
        {
            if (finding.Severity == IgvmFindingSeverity.Error)
            {
                throw new LaunchImageException(LaunchImageError.Refused, $"Host {flavour} would refuse the file: {finding.Reason}.");
            }
        }

        return file;
    }

    /// <summary>The launch VMSA that the file for a host contains.</summary>
    /// <param name="image">The content.</param>
    /// <param name="flavour">The host.</param>
    /// <returns>The registers with the host's values filled in.</returns>
    /// <exception cref="LaunchImageException">The host would refuse it.</exception>
    public static Vmsa CreateVmsa(LaunchImage image, HostFlavour flavour)
    {
        ArgumentNullException.ThrowIfNull(image);
        return CreateVmsa(image, HostProfile.For(flavour));
    }

    private static Vmsa CreateVmsa(LaunchImage image, HostProfile host)
    {
        Vmsa vmsa = image.Vmsa;
        vmsa.SevFeatures = (ulong)host.EffectiveFeatures(image.SevFeatures);
        vmsa.VirtualTom = host.VirtualTom;
        vmsa.Pat = host.Pat;
        vmsa.Dr6 = host.Dr6;
        vmsa.Dr7 = host.Dr7;
        if (host.VmsaAtKvmGpa)
        {
            foreach (string violation in KvmVmsaRules.FindViolations(vmsa))
            {
                throw new LaunchImageException(LaunchImageError.BadVmsa, $"Host {host.Flavour}: {violation}.");
            }
        }
        else if ((vmsa.Efer & EferSvme) == 0)
        {
            throw new LaunchImageException(LaunchImageError.BadVmsa, string.Create(CultureInfo.InvariantCulture, $"EFER of the launch VMSA is 0x{vmsa.Efer:X}; wanted is bit 12 (SVME) set."));
        }

        return vmsa;
    }

    private static ulong CreateVmsaGpa(LaunchImage image, HostProfile host)
    {
        if (!host.VmsaAtKvmGpa &&
            (image.RegionLength < LaunchImage.PageSize || image.RegionBase % LaunchImage.PageSize != 0 || image.RegionLength % LaunchImage.PageSize != 0 ||
            image.RegionBase > ulong.MaxValue - image.RegionLength))
        {
            throw new LaunchImageException(
                LaunchImageError.Incomplete,
                string.Create(CultureInfo.InvariantCulture, $"Host {host.Flavour} puts the VMSA on the last page of the SVSM's region, which is 0x{image.RegionBase:X}, 0x{image.RegionLength:X} bytes; set a page-aligned region."));
        }

        ulong gpa = host.VmsaGpa(image.RegionBase, image.RegionLength);
        return image.IsFree(gpa)
            ? gpa
            : throw new LaunchImageException(LaunchImageError.Overlap, string.Create(CultureInfo.InvariantCulture, $"The page at 0x{gpa:X} is where host {host.Flavour} puts the VMSA. Move it elsewhere."));
    }

    private static void AddParameters(LaunchImage image, ImmutableArray<IgvmDirective>.Builder directives)
    {
        uint index = 0;
        foreach (ulong _ in image.ParameterPages.Keys)
        {
            directives.Add(new IgvmParameterArea { ByteLength = LaunchImage.PageSize, Index = index++ });
        }

        index = 0;
        foreach (IReadOnlyList<LaunchParameter> parameters in image.ParameterPages.Values)
        {
            foreach (LaunchParameter parameter in parameters)
            {
                directives.Add(new IgvmParameterUsage { Kind = parameter.Kind, AreaIndex = index, ByteOffset = parameter.ByteOffset });
            }

            index++;
        }

        index = 0;
        foreach (ulong gpa in image.ParameterPages.Keys)
        {
            directives.Add(new IgvmParameterInsert { Gpa = gpa, CompatibilityMask = SnpMask, AreaIndex = index++ });
        }
    }

    private static void AddPages(LaunchImage image, ImmutableArray<IgvmDirective>.Builder directives)
    {
        foreach (LaunchPage page in image.Pages)
        {
            directives.Add(new IgvmPageData
            {
                Gpa = page.Gpa,
                CompatibilityMask = SnpMask,
                Flags = page.Type == LaunchPageType.Unmeasured ? IgvmPageDataFlags.Unmeasured : IgvmPageDataFlags.None,
                DataType = page.Type switch
                {
                    LaunchPageType.Secrets => IgvmPageDataType.Secrets,
                    LaunchPageType.Cpuid => IgvmPageDataType.CpuidData,
                    _ => IgvmPageDataType.Normal,
                },
                Data = page.Type switch
                {
                    LaunchPageType.Zero => s_zeroes,
                    LaunchPageType.Unmeasured when page.Data.IsEmpty => s_zeroes,
                    _ => page.Data,
                },
            });
        }
    }
}
