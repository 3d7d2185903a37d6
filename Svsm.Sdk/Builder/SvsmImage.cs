// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Immutable;
using Svsm.Diagnostics;
using Svsm.Igvm;
using Svsm.Igvm.Imaging;
using Svsm.Wire;

namespace Svsm.Builder;

/// <summary>Rights of the kernel's mapping of a part.</summary>
[Flags]
public enum PageRights
{
    /// <summary>Not mapped.</summary>
    None = 0,

    /// <summary>Read.</summary>
    Read = 1,

    /// <summary>Written.</summary>
    Write = 2,

    /// <summary>Executed.</summary>
    Execute = 4,
}

/// <summary>How a part comes into the guest's memory.</summary>
public enum ImagePartKind
{
    /// <summary>Launched with measured contents.</summary>
    Data,

    /// <summary>Launched as measured zeroes.</summary>
    Zero,

    /// <summary>Written by the host; the address is measured.</summary>
    Parameter,

    /// <summary>The secrets page, written by the security processor.</summary>
    Secrets,

    /// <summary>The CPUID page, written by the host and checked by the security processor.</summary>
    Cpuid,

    /// <summary>Not launched: the kernel validates it at run time.</summary>
    Reserved,
}

/// <summary>What a part counts as in <see cref="ImageSizes"/>.</summary>
public enum ImagePartGroup
{
    /// <summary>The boot stub, its parameters and page tables, the CPUID page.</summary>
    Boot,

    /// <summary>Executable kernel segments.</summary>
    KernelText,

    /// <summary>Read-only kernel segments.</summary>
    KernelReadOnlyData,

    /// <summary>Writable kernel segments: what the file has.</summary>
    KernelData,

    /// <summary>Writable kernel segments: zeroes that the file does not have.</summary>
    KernelZeroData,

    /// <summary>Configuration, parameter and secrets pages.</summary>
    HandOver,

    /// <summary>The kernel's page tables.</summary>
    PageTables,

    /// <summary>The archive of modules.</summary>
    Modules,

    /// <summary>The guest's launched contents.</summary>
    Guest,

    /// <summary>What is not launched: the kernel's heap, guest memory that it validates.</summary>
    Reserved,
}

/// <summary>A contiguous part of the image.</summary>
/// <param name="Name">What it is, unique in the image: <c>kernel.text</c>, <c>boot.parameters</c>.</param>
/// <param name="Group">What its size counts as.</param>
/// <param name="Kind">How it comes into memory.</param>
/// <param name="Gpa">First guest-physical address, page-aligned.</param>
/// <param name="VirtualAddress">Where the kernel's tables (boot tables, for the low area) map it; 0 = nowhere.</param>
/// <param name="Length">Length in bytes, whole pages.</param>
/// <param name="Rights">Rights of that mapping.</param>
public sealed record ImagePart(string Name, ImagePartGroup Group, ImagePartKind Kind, ulong Gpa, ulong VirtualAddress, ulong Length, PageRights Rights)
{
    /// <summary>True when the contents are part of the launch digest. Addresses of launched pages always are.</summary>
    public bool IsMeasured => Kind is ImagePartKind.Data or ImagePartKind.Zero;
}

/// <summary>Sizes of an image in bytes, whole pages.</summary>
/// <param name="Boot">See <see cref="ImagePartGroup.Boot"/>.</param>
/// <param name="KernelText">See <see cref="ImagePartGroup.KernelText"/>.</param>
/// <param name="KernelReadOnlyData">See <see cref="ImagePartGroup.KernelReadOnlyData"/>.</param>
/// <param name="KernelData">See <see cref="ImagePartGroup.KernelData"/>.</param>
/// <param name="KernelZeroData">See <see cref="ImagePartGroup.KernelZeroData"/>.</param>
/// <param name="HandOver">See <see cref="ImagePartGroup.HandOver"/>.</param>
/// <param name="PageTables">See <see cref="ImagePartGroup.PageTables"/>.</param>
/// <param name="Modules">See <see cref="ImagePartGroup.Modules"/>.</param>
/// <param name="Guest">See <see cref="ImagePartGroup.Guest"/>.</param>
public sealed record ImageSizes(
    ulong Boot, ulong KernelText, ulong KernelReadOnlyData, ulong KernelData, ulong KernelZeroData, ulong HandOver, ulong PageTables, ulong Modules, ulong Guest)
{
    /// <summary>All launched pages but the VMSA.</summary>
    public ulong Launched => Boot + KernelText + KernelReadOnlyData + KernelData + KernelZeroData + HandOver + PageTables + Modules + Guest;
}

/// <summary>An image for one host, and the facts of its layout.</summary>
public sealed class SvsmImage
{
    internal SvsmImage(LaunchImage launch, ImageConfiguration configuration, ImmutableArray<ImagePart> parts, ImmutableArray<ElfSymbol> symbols, ModuleArchive modules)
    {
        Modules = modules;
        Launch = launch;
        Configuration = configuration;
        Parts = parts;
        Symbols = symbols;
        Sizes = new ImageSizes(
            Sum(ImagePartGroup.Boot), Sum(ImagePartGroup.KernelText), Sum(ImagePartGroup.KernelReadOnlyData), Sum(ImagePartGroup.KernelData),
            Sum(ImagePartGroup.KernelZeroData), Sum(ImagePartGroup.HandOver), Sum(ImagePartGroup.PageTables), Sum(ImagePartGroup.Modules), Sum(ImagePartGroup.Guest));
    }

    /// <summary>The host that the image is for.</summary>
    public HostFlavour Flavour => Configuration.Flavour;

    /// <summary>Pages and registers.</summary>
    public LaunchImage Launch { get; }

    /// <summary>The measured configuration page.</summary>
    public ImageConfiguration Configuration { get; }

    /// <summary>The parts, sorted by address. They do not overlap.</summary>
    public ImmutableArray<ImagePart> Parts { get; }

    /// <summary>Symbols that are addresses in the kernel's segments, sorted by address, then name.</summary>
    public ImmutableArray<ElfSymbol> Symbols { get; }

    /// <summary>The modules, and the files that they have.</summary>
    public ModuleArchive Modules { get; }

    /// <summary>Sizes by part.</summary>
    public ImageSizes Sizes { get; }

    /// <summary>The IGVM file for the host.</summary>
    /// <returns>The file; the same image gives the same file.</returns>
    /// <exception cref="SvsmDiagnosticException">SVSM2014: the host does not accept the image.</exception>
    public IgvmFile ToIgvm()
    {
        try
        {
            return LaunchImageWriter.Write(Launch, Flavour);
        }
        catch (LaunchImageException e)
        {
            throw SvsmDiagnostics.HostRefusesImage.Error(e.Message, $"what host {HostFlavourNames.ToName(Flavour)} accepts", e);
        }
    }

    private ulong Sum(ImagePartGroup group)
    {
        ulong sum = 0;
        foreach (ImagePart part in Parts)
        {
            sum += part.Group == group ? part.Length : 0;
        }

        return sum;
    }
}
