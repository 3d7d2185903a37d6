// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// What an image of this project says about itself: BootParameters, which RBX of the launch VMSA points at, the page tables that they name,
// and the ImageConfiguration that these map. A file is untrusted: nothing is read but pages that it launches, and a walk ends after as many
// mappings as an image can have.

using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Runtime.InteropServices;
using Svsm.Builder;
using Svsm.Igvm;
using Svsm.Wire;

namespace Svsm.Tool;

internal sealed class SvsmFacts
{
    // A region has at most 126 MiB, the archive of modules with it, and both roots map it; tables that map more are not this project's.
    private const int MaxMappings = 3 * 0x7E00;

    private readonly Dictionary<ulong, ReadOnlyMemory<byte>> _pages = [];
    private readonly Dictionary<ulong, PageRights> _rights = [];
    private readonly Dictionary<ulong, ulong> _gpas = [];
    private byte[] _archive = [];
    private int _mappings;

    private SvsmFacts()
    {
    }

    public BootParameters Boot { get; private set; }

    public ImageConfiguration Configuration { get; private set; }

    /// <summary>The modules; null: what the configuration names is no archive.</summary>
    public ModuleArchive? Modules { get; private set; } = ModuleArchive.Empty;

    /// <summary>A file for the modules; null: there is none of this path.</summary>
    public ReadOnlyMemory<byte>? ReadFile(string path) => Modules?.Files.FirstOrDefault(file => file.Path == path) is ArchivedFile file
        ? _archive.AsMemory((int)file.Offset, (int)file.Length)
        : (ReadOnlyMemory<byte>?)null;

    /// <summary>Rights that the image's own tables give to a page; none when they do not map it.</summary>
    public PageRights Rights(ulong gpa) => _rights.GetValueOrDefault(gpa);

    /// <summary>The page behind one of the kernel's addresses; null when it is not mapped.</summary>
    public ulong? Translate(ulong virtualAddress) => _gpas.TryGetValue(virtualAddress, out ulong gpa) ? gpa : null;

    public static SvsmFacts? Find(IgvmFile file)
    {
        if (file.FindPlatform(IgvmPlatformType.SevSnp) is not IgvmPlatform platform)
        {
            return null;
        }

        var facts = new SvsmFacts();
        ReadOnlyMemory<byte> vmsa = default;
        foreach (IgvmDirective directive in file.Directives)
        {
            switch (directive)
            {
                case IgvmPageData page when (page.CompatibilityMask & platform.CompatibilityMask) != 0 && page.Data.Length == 4096:
                    facts._pages.TryAdd(page.Gpa, page.Data);
                    break;
                case IgvmVpContext { VpIndex: 0 } context when context.CompatibilityMask == platform.CompatibilityMask && context.Data.Length == 4096:
                    vmsa = context.Data;
                    break;
                default:
                    break;
            }
        }

        return !vmsa.IsEmpty && facts.Read(MemoryMarshal.Read<Vmsa>(vmsa.Span).Rbx) ? facts : null;
    }

    private bool Read(ulong bootParameters)
    {
        if (!_pages.TryGetValue(bootParameters, out ReadOnlyMemory<byte> page))
        {
            return false;
        }

        Boot = MemoryMarshal.Read<BootParameters>(page.Span);
        if (Boot.Magic != BootParameters.MagicValue || !Walk(Boot.KernelRoot, 3, 0, PageRights.Read | PageRights.Write | PageRights.Execute) ||
            !Walk(Boot.BootRoot, 3, 0, PageRights.Read | PageRights.Write | PageRights.Execute) ||
            Translate(KernelAddressSpace.Configuration) is not ulong gpa || !_pages.TryGetValue(gpa, out ReadOnlyMemory<byte> configuration))
        {
            return false;
        }

        Configuration = MemoryMarshal.Read<ImageConfiguration>(configuration.Span);
        if (Configuration.ArchiveLength != 0)
        {
            Modules = ReadModules();
        }

        return Configuration.Magic == ImageConfiguration.MagicValue && Configuration.Version == ImageConfiguration.CurrentVersion &&
            Configuration.GuestRangeCount <= ImageConfiguration.MaxGuestRanges && (uint)Configuration.Flavour < (uint)HostFlavourNames.All.Length;
    }

    // Only what is launched counts, so a false length costs no more memory than the file has.
    private ModuleArchive? ReadModules()
    {
        using var archive = new MemoryStream();
        for (ulong offset = 0; offset < Configuration.ArchiveLength; offset += 4096)
        {
            if (Configuration.ArchiveBase > ulong.MaxValue - offset || !_pages.TryGetValue(Configuration.ArchiveBase + offset, out ReadOnlyMemory<byte> page) || archive.Length > int.MaxValue - 4096)
            {
                return null;
            }

            archive.Write(page.Span);
        }

        _archive = archive.ToArray();
        return ModuleArchive.Read(_archive);
    }

    private bool Walk(ulong table, int level, ulong prefix, PageRights rights)
    {
        if (!_pages.TryGetValue(table, out ReadOnlyMemory<byte> entries) || ++_mappings > MaxMappings)
        {
            return false;
        }

        for (int slot = 0; slot < 512; slot++)
        {
            ulong entry = BinaryPrimitives.ReadUInt64LittleEndian(entries.Span[(slot * 8)..]);
            if ((entry & 1) == 0)
            {
                continue;
            }

            ulong next = entry & 0x000F_FFFF_FFFF_F000;
            PageRights inner = PageRights.Read | (rights & ((entry & 2) != 0 ? PageRights.Write : 0)) | (rights & (entry >> 63 == 0 ? PageRights.Execute : 0));
            ulong address = prefix | ((ulong)slot << (12 + (9 * level)));
            if (level == 3 && slot >= 256)
            {
                address |= 0xFFFF_0000_0000_0000;
            }

            if (level != 0)
            {
                if (!Walk(next, level - 1, address, inner))
                {
                    return false;
                }
            }
            else if (++_mappings > MaxMappings)
            {
                return false;
            }
            else
            {
                // The boot tables are walked last and share the kernel's half: what the kernel's own tables say stays.
                _gpas.TryAdd(address, next);
                _rights.TryAdd(next, inner);
            }
        }

        return true;
    }
}
