// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The logical content of a launch image, before any host's rules are applied. For whoever builds images; LaunchImageWriter turns it into files.
//
// Things are added in any order: the writer sorts. Addresses are guest-physical.

using System;
using System.Collections.Generic;
using System.Globalization;
using Svsm.Wire;

namespace Svsm.Igvm.Imaging;

/// <summary>What is in the guest's memory, and in its first processor, when it starts.</summary>
public sealed class LaunchImage
{
    /// <summary>Bytes of a page.</summary>
    public const int PageSize = 4096;

    private readonly SortedDictionary<ulong, LaunchPage> _pages = [];
    private readonly SortedDictionary<ulong, IReadOnlyList<LaunchParameter>> _parameterPages = [];
    private readonly List<LaunchMemoryRange> _requiredMemory = [];
    private Vmsa _vmsa;

    /// <summary>The guest policy (SNP form). Default: SMT allowed, no debugging, no migration agent.</summary>
    public ulong GuestPolicy { get; set; } = 0x3_0000;

    /// <summary>SEV_FEATURES that the image wants; see <see cref="HostProfile.EffectiveFeatures"/>.</summary>
    public SevFeatures SevFeatures { get; set; } = SevFeatures.SnpActive | SevFeatures.RestrictedInjection;

    /// <summary>First address of the SVSM's region, page-aligned.</summary>
    public ulong RegionBase { get; set; }

    /// <summary>Length of the SVSM's region, bytes, page-aligned.</summary>
    public ulong RegionLength { get; set; }

    /// <summary>True when the image carries firmware or a guest for a lower privilege level.</summary>
    public bool HasGuest { get; set; }

    /// <summary>
    /// Registers of the first processor. SEV_FEATURES, virtual TOM, PAT, DR6 and DR7 are the writer's: it sets them as the host wants them.
    /// </summary>
    public ref Vmsa Vmsa => ref _vmsa;

    /// <summary>Signed identity, or null. Its launch digest must be the measured one of the file for the same host.</summary>
    public IgvmSnpIdBlock? IdBlock { get; set; }

    /// <summary>All pages but the parameter pages, sorted by address.</summary>
    public IReadOnlyCollection<LaunchPage> Pages => _pages.Values;

    /// <summary>Parameter pages by address, each with what the host writes into it.</summary>
    public IReadOnlyDictionary<ulong, IReadOnlyList<LaunchParameter>> ParameterPages => _parameterPages;

    /// <summary>Memory that must exist.</summary>
    public IReadOnlyList<LaunchMemoryRange> RequiredMemory => _requiredMemory;

    /// <summary>Adds measured contents.</summary>
    /// <param name="gpa">Start, page-aligned.</param>
    /// <param name="data">The contents; the last page is filled up with zeroes. Not copied, except for a last page that is filled up.</param>
    /// <exception cref="LaunchImageException">Misaligned, outside the address space, or a page is there already.</exception>
    public void AddData(ulong gpa, ReadOnlyMemory<byte> data)
    {
        for (int at = 0; at < data.Length; at += PageSize)
        {
            ReadOnlyMemory<byte> page = data[at..Math.Min(data.Length, at + PageSize)];
            if (page.Length < PageSize)
            {
                byte[] filled = new byte[PageSize];
                page.CopyTo(filled);
                page = filled;
            }

            Add(new LaunchPage(gpa + (ulong)at, LaunchPageType.Normal, page));
        }
    }

    /// <summary>Adds measured pages of zeroes.</summary>
    /// <param name="gpa">Start, page-aligned.</param>
    /// <param name="pageCount">Number of pages.</param>
    /// <exception cref="LaunchImageException">Misaligned, outside the address space, or a page is there already.</exception>
    /// <exception cref="ArgumentOutOfRangeException">The number is negative.</exception>
    public void AddZeroes(ulong gpa, int pageCount)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(pageCount);
        for (int i = 0; i < pageCount; i++)
        {
            Add(new LaunchPage(gpa + ((ulong)i * PageSize), LaunchPageType.Zero, default));
        }
    }

    /// <summary>Adds a page whose contents the host may change without changing the launch digest.</summary>
    /// <param name="gpa">Address, page-aligned.</param>
    /// <param name="data">4096 bytes, or empty for zeroes.</param>
    /// <exception cref="LaunchImageException">Misaligned, of another length, or a page is there already.</exception>
    public void AddUnmeasured(ulong gpa, ReadOnlyMemory<byte> data = default) => Add(new LaunchPage(gpa, LaunchPageType.Unmeasured, data));

    /// <summary>Adds the secrets page.</summary>
    /// <param name="gpa">Address, page-aligned.</param>
    /// <exception cref="LaunchImageException">Misaligned, or a page is there already.</exception>
    public void AddSecrets(ulong gpa) => Add(new LaunchPage(gpa, LaunchPageType.Secrets, default));

    /// <summary>Adds the CPUID page.</summary>
    /// <param name="gpa">Address, page-aligned.</param>
    /// <param name="table">4096 bytes: the table of wanted leaves (see <see cref="CpuidPage"/>). The host overwrites it.</param>
    /// <exception cref="LaunchImageException">Misaligned, of another length, or a page is there already.</exception>
    public void AddCpuid(ulong gpa, ReadOnlyMemory<byte> table) => Add(new LaunchPage(gpa, LaunchPageType.Cpuid, table));

    /// <summary>Adds a page that the host fills with parameters. Its address is measured, its contents are not.</summary>
    /// <param name="gpa">Address, page-aligned.</param>
    /// <param name="parameters">What the host writes into it.</param>
    /// <exception cref="LaunchImageException">Misaligned, a page is there already, or a parameter does not fit.</exception>
    public void AddParameterPage(ulong gpa, params ReadOnlySpan<LaunchParameter> parameters)
    {
        RequireFree(gpa);
        foreach (LaunchParameter parameter in parameters)
        {
            if (parameter.ByteOffset > PageSize - 4)
            {
                throw new LaunchImageException(
                    LaunchImageError.BadParameter,
                    string.Create(CultureInfo.InvariantCulture, $"Parameter {parameter.Kind} is at offset 0x{parameter.ByteOffset:X} of its page at 0x{gpa:X}; it must leave room for at least 4 bytes of the 4096."));
            }
        }

        _parameterPages.Add(gpa, parameters.ToArray());
    }

    /// <summary>Adds memory that must exist.</summary>
    /// <param name="gpa">Start, page-aligned.</param>
    /// <param name="byteLength">Length, page-aligned.</param>
    /// <exception cref="LaunchImageException">Misaligned or outside the address space.</exception>
    public void AddRequiredMemory(ulong gpa, uint byteLength)
    {
        if (gpa % PageSize != 0 || byteLength % PageSize != 0 || byteLength == 0 || gpa > ulong.MaxValue - byteLength)
        {
            throw new LaunchImageException(
                LaunchImageError.Misaligned,
                string.Create(CultureInfo.InvariantCulture, $"Required memory is 0x{gpa:X}, 0x{byteLength:X} bytes; address and length must be multiples of 4096, the length not 0."));
        }

        _requiredMemory.Add(new LaunchMemoryRange(gpa, byteLength));
    }

    internal bool IsFree(ulong gpa) => !_pages.ContainsKey(gpa) && !_parameterPages.ContainsKey(gpa);

    private void Add(LaunchPage page)
    {
        RequireFree(page.Gpa);
        bool fits = page.Type switch
        {
            LaunchPageType.Normal or LaunchPageType.Cpuid => page.Data.Length == PageSize,
            LaunchPageType.Unmeasured => page.Data.Length is PageSize or 0,
            _ => page.Data.IsEmpty,
        };
        if (!fits)
        {
            throw new LaunchImageException(
                LaunchImageError.Misaligned,
                string.Create(CultureInfo.InvariantCulture, $"The {page.Type} page at 0x{page.Gpa:X} has {page.Data.Length} bytes of data; it must have 4096."));
        }

        _pages.Add(page.Gpa, page);
    }

    private void RequireFree(ulong gpa)
    {
        if (gpa % PageSize != 0 || gpa > HostProfile.KvmVmsaGpa)
        {
            throw new LaunchImageException(
                LaunchImageError.Misaligned,
                string.Create(CultureInfo.InvariantCulture, $"Page address 0x{gpa:X}: it must be a multiple of 4096 below 2^48."));
        }

        if (!IsFree(gpa))
        {
            throw new LaunchImageException(
                LaunchImageError.Overlap,
                string.Create(CultureInfo.InvariantCulture, $"Two pages of the image are at 0x{gpa:X}. Move one of them."));
        }
    }
}
