// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// A reader of Linux kernel files (bzImage), for the image builder.
//
//   boot sector | setup header at 0x1F1 | real-mode part ... | protected-mode part | signature, if any
//
// Only the protected-mode part goes into the image: it is entered at its 64-bit entry, 0x200 bytes from its start. The setup header is
// copied into the boot parameters, with what a boot loader has to say filled in. Nothing in the file is trusted; every offset is checked
// against its length, in subtraction form.
//
// Source: Linux Documentation/arch/x86/boot.rst ("The Linux/x86 Boot Protocol", "64-bit Boot Protocol").

using System;
using System.Buffers.Binary;
using Svsm.Diagnostics;
using Svsm.Wire;

namespace Svsm.Builder;

/// <summary>A Linux kernel with a 64-bit entry.</summary>
internal sealed class LinuxKernel
{
    /// <summary>Oldest protocol: the first one with the address of the ACPI root pointer.</summary>
    public const ushort MinimumVersion = 0x20E;

    private const uint MagicValue = 0x5372_6448;
    private const ushort BootFlagValue = 0xAA55;
    private const int SectorLength = 512;
    private const int DefaultSetupSectors = 4;
    private const int ParagraphLength = 16;
    private const int EntryOffset = 0x200;
    private const byte LoadedHigh = 1;
    private const ushort HasEntry64 = 1;
    private const byte OtherLoader = 0xFF;
    private const ushort NormalVideo = 0xFFFF;
    private const int PageSize = 4096;

    private readonly ReadOnlyMemory<byte> _file;

    private LinuxKernel(ReadOnlyMemory<byte> file, ReadOnlyMemory<byte> protectedMode)
    {
        _file = file;
        ProtectedMode = protectedMode;
    }

    /// <summary>What is loaded at <see cref="PreferredAddress"/>.</summary>
    public ReadOnlyMemory<byte> ProtectedMode { get; }

    /// <summary>Where the kernel is loaded; page-aligned, below 4 GiB.</summary>
    public ulong PreferredAddress => U64(LinuxBootParameters.PreferredAddress);

    /// <summary>Memory from <see cref="PreferredAddress"/> on that the kernel uses before it has read its memory map; as long as <see cref="ProtectedMode"/> at least.</summary>
    public uint InitialLength => U32(LinuxBootParameters.InitialLength);

    /// <summary>GPA of the 64-bit entry.</summary>
    public ulong Entry => PreferredAddress + EntryOffset;

    /// <summary>Highest address that the initial RAM disk may have.</summary>
    public uint InitialRamDiskLimit => U32(LinuxBootParameters.InitialRamDiskLimit);

    /// <summary>Reads a file.</summary>
    /// <param name="file">The whole file; not to be changed afterwards. Untrusted.</param>
    /// <returns>The kernel.</returns>
    /// <exception cref="SvsmDiagnosticException">SVSM2018: it is damaged, or no kernel. SVSM2019: it is of another kind.</exception>
    public static LinuxKernel Parse(ReadOnlyMemory<byte> file)
    {
        ReadOnlySpan<byte> bytes = file.Span;
        if (bytes.Length < LinuxBootParameters.EndOfHeader)
        {
            throw Damaged($"a file of {bytes.Length} bytes", $"at least {LinuxBootParameters.EndOfHeader}");
        }

        ushort flag = BinaryPrimitives.ReadUInt16LittleEndian(bytes[LinuxBootParameters.BootFlag..]);
        uint magic = BinaryPrimitives.ReadUInt32LittleEndian(bytes[LinuxBootParameters.Magic..]);
        if (flag != BootFlagValue || magic != MagicValue)
        {
            throw Damaged($"0x{flag:X4} at 0x{LinuxBootParameters.BootFlag:X} and 0x{magic:X8} at 0x{LinuxBootParameters.Magic:X}", $"0x{BootFlagValue:X4} and 0x{MagicValue:X8}, which a bzImage has");
        }

        ushort version = BinaryPrimitives.ReadUInt16LittleEndian(bytes[LinuxBootParameters.Version..]);
        if (version < MinimumVersion)
        {
            throw Unsupported($"boot protocol {version >> 8}.{version & 0xFF:D2}", $"{MinimumVersion >> 8}.{MinimumVersion & 0xFF:D2} or later");
        }

        int headerEnd = LinuxBootParameters.Magic + bytes[LinuxBootParameters.HeaderEnd];
        if (headerEnd < LinuxBootParameters.EndOfHeader || headerEnd > LinuxBootParameters.MemoryMap)
        {
            throw Damaged($"a setup header that ends at 0x{headerEnd:X}", $"an end from 0x{LinuxBootParameters.EndOfHeader:X} to 0x{LinuxBootParameters.MemoryMap:X}");
        }

        int sectors = bytes[LinuxBootParameters.SetupSectors] == 0 ? DefaultSetupSectors : bytes[LinuxBootParameters.SetupSectors];
        int start = (sectors + 1) * SectorLength;
        ulong length = BinaryPrimitives.ReadUInt32LittleEndian(bytes[LinuxBootParameters.ProtectedModeLength..]) * (ulong)ParagraphLength;
        int left = Math.Max(0, bytes.Length - start);

        // The length is rounded up; files are not always filled up to it.
        if (headerEnd > bytes.Length || length <= EntryOffset || (ulong)left + ParagraphLength - 1 < length)
        {
            throw Damaged($"a file of 0x{bytes.Length:X} bytes", $"0x{(ulong)start + length:X}, of which the protected-mode part takes 0x{length:X} and must have more than 0x{EntryOffset:X}");
        }

        var kernel = new LinuxKernel(file, file.Slice(start, (int)Math.Min((ulong)left, length)));
        kernel.CheckKind();
        return kernel;
    }

    /// <summary>Makes the page of boot parameters, but for the memory map.</summary>
    /// <param name="diskBase">GPA of the initial RAM disk; 0 = none.</param>
    /// <param name="diskLength">Its length in bytes; 0 = none.</param>
    /// <returns>4096 bytes.</returns>
    public byte[] MakeBootParameters(ulong diskBase, uint diskLength)
    {
        byte[] page = new byte[PageSize];
        int headerEnd = LinuxBootParameters.Magic + _file.Span[LinuxBootParameters.HeaderEnd];
        _file.Span[LinuxBootParameters.SetupHeader..headerEnd].CopyTo(page.AsSpan(LinuxBootParameters.SetupHeader));
        BinaryPrimitives.WriteUInt64LittleEndian(page.AsSpan(LinuxBootParameters.AcpiRootPointer), LinuxGuest.AcpiTables);
        BinaryPrimitives.WriteUInt16LittleEndian(page.AsSpan(LinuxBootParameters.VideoMode), NormalVideo);
        page[LinuxBootParameters.LoaderType] = OtherLoader;
        BinaryPrimitives.WriteUInt32LittleEndian(page.AsSpan(LinuxBootParameters.ProtectedModeStart), (uint)PreferredAddress);
        BinaryPrimitives.WriteUInt32LittleEndian(page.AsSpan(LinuxBootParameters.InitialRamDisk), (uint)diskBase);
        BinaryPrimitives.WriteUInt32LittleEndian(page.AsSpan(LinuxBootParameters.InitialRamDiskLength), diskLength);
        BinaryPrimitives.WriteUInt32LittleEndian(page.AsSpan(LinuxBootParameters.CommandLine), (uint)LinuxGuest.CommandLine);
        BinaryPrimitives.WriteUInt64LittleEndian(page.AsSpan(LinuxBootParameters.SetupData), LinuxGuest.SetupData);
        return page;
    }

    /// <summary>Makes the page of the command line.</summary>
    /// <param name="text">The command line.</param>
    /// <returns>4096 bytes.</returns>
    /// <exception cref="SvsmDiagnosticException">SVSM2021: too long for the kernel or a page, or not printable ASCII.</exception>
    public byte[] EncodeCommandLine(string text)
    {
        int limit = (int)Math.Min(U32(LinuxBootParameters.CommandLineLimit), PageSize - 1);
        if (text.Length > limit)
        {
            throw SvsmDiagnostics.LinuxCommandLineInvalid.Error($"{text.Length} characters", $"at most {limit}");
        }

        byte[] page = new byte[PageSize];
        for (int i = 0; i < text.Length; i++)
        {
            if (text[i] is < ' ' or > '~')
            {
                throw SvsmDiagnostics.LinuxCommandLineInvalid.Error($"character U+{(int)text[i]:X4} at position {i}", "characters from U+0020 to U+007E");
            }

            page[i] = (byte)text[i];
        }

        return page;
    }

    private static SvsmDiagnosticException Damaged(string seen, string wanted) => SvsmDiagnostics.LinuxKernelDamaged.Error(seen, wanted);

    private static SvsmDiagnosticException Unsupported(string seen, string wanted) => SvsmDiagnostics.LinuxKernelUnsupported.Error(seen, wanted);

    private void CheckKind()
    {
        byte loadFlags = _file.Span[LinuxBootParameters.LoadFlags];
        ushort extendedFlags = BinaryPrimitives.ReadUInt16LittleEndian(_file.Span[LinuxBootParameters.ExtendedLoadFlags..]);
        if ((loadFlags & LoadedHigh) == 0 || (extendedFlags & HasEntry64) == 0)
        {
            throw Unsupported($"load flags 0x{loadFlags:X2} and 0x{extendedFlags:X4}", "bit 0 of both set: loaded above 1 MiB, with a 64-bit entry");
        }

        // It is not moved. But a kernel that is not relocatable is one without a random address, which an image does not want.
        if (_file.Span[LinuxBootParameters.IsRelocatable] == 0)
        {
            throw Unsupported("a kernel that is not relocatable", "one that is (CONFIG_RELOCATABLE)");
        }

        if (PreferredAddress % PageSize != 0 || PreferredAddress > uint.MaxValue)
        {
            throw Unsupported($"preferred address 0x{PreferredAddress:X}", "a multiple of 4096 below 4 GiB");
        }

        if (InitialLength < ProtectedMode.Length)
        {
            throw Damaged($"0x{InitialLength:X} bytes of memory for a protected-mode part of 0x{ProtectedMode.Length:X}", "as many at least");
        }
    }

    private uint U32(int offset) => BinaryPrimitives.ReadUInt32LittleEndian(_file.Span[offset..]);

    private ulong U64(int offset) => BinaryPrimitives.ReadUInt64LittleEndian(_file.Span[offset..]);
}
