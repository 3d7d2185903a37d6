// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Attestation reports, 0x4A0 bytes, of which 0x000 to 0x29F are signed. Offsets are in Make.
//
// Versions 2, 3 and 5 differ in fields that were reserved before: 3 adds CPUID family, model and stepping; 5 adds the mitigation vectors.
// Version 2 is what firmware ABI 1.55 makes, the one that the simulated security processor says it implements, so it is the default. (With 3
// and 5, verifiers choose the product by family 0x17 model 1, QEMU's CPU model EPYC: a part without SEV-SNP, which some do not know.)
//
// Source: AMD SEV-SNP ABI specification (56860), ATTESTATION_REPORT, as collected from COCONUT-SVSM and virtee/sev. All bytes one in
// REPORT_ID_MA of a guest without migration agent: as real reports have it.

using System;
using System.Buffers.Binary;
using System.Security.Cryptography;

namespace Svsm.Simulator;

internal static class AttestationReport
{
    public const int Length = 0x4A0;
    public const int SignedLength = 0x2A0;
    public const int ReportDataLength = 64;
    public const int DefaultVersion = 2;

    private const int FieldLength = 72;
    private const int NumberLength = 48;
    private const uint EcdsaP384Sha384 = 1;
    private const uint AuthorKeyPresent = 1;
    private const byte FirmwareBuild = 1;
    private const uint FamilyModelStepping = SecurityProcessor.FamilyModelStepping;

    public static bool IsVersion(int version) => version is 2 or 3 or 5;

    // A signed report of a guest about itself.
    public static byte[] Make(int version, GuestContext guest, SimulatedChip chip, uint vmpl, ReadOnlySpan<byte> reportData)
    {
        byte[] report = new byte[Length];
        Write32(0x000, (uint)version);
        Write32(0x004, guest.GuestSvn);
        Write64(0x008, guest.Policy);
        guest.FamilyId.CopyTo(report.AsSpan(0x010));
        guest.ImageId.CopyTo(report.AsSpan(0x020));
        Write32(0x030, vmpl);
        Write32(0x034, EcdsaP384Sha384);
        reportData[..ReportDataLength].CopyTo(report.AsSpan(0x050));
        guest.Digest.CopyTo(report.AsMemory(0x090));
        guest.HostData.CopyTo(report.AsMemory(0x0C0));
        if (guest.IdBlock is { } block)
        {
            SHA384.HashData(IdBlockVerifier.PublicKeyBytes(block.IdPublicKey), report.AsSpan(0x0E0));
            if (block.AuthorPublicKey.Curve != 0)
            {
                Write32(0x048, AuthorKeyPresent);
                SHA384.HashData(IdBlockVerifier.PublicKeyBytes(block.AuthorPublicKey), report.AsSpan(0x110));
            }
        }

        guest.ReportId.CopyTo(report.AsMemory(0x140));
        report.AsSpan(0x160, 32).Fill(0xFF);
        chip.ChipId.CopyTo(report.AsSpan(0x1A0));

        // Current, reported, committed and launch TCB: nothing was updated while the guest ran.
        foreach (int offset in (ReadOnlySpan<int>)[0x038, 0x180, 0x1E0, 0x1F0])
        {
            Write64(offset, TcbVersion.Current.Value);
        }

        if (version >= 3)
        {
            // In the form of CPUID function 1: extended family 27:20, extended model 19:16, family 11:8, model 7:4, stepping 3:0.
            report[0x188] = (byte)(((FamilyModelStepping >> 20) & 0xFF) + ((FamilyModelStepping >> 8) & 0xF));
            report[0x189] = (byte)(((FamilyModelStepping >> 12) & 0xF0) | ((FamilyModelStepping >> 4) & 0xF));
            report[0x18A] = (byte)(FamilyModelStepping & 0xF);
        }

        // Current and committed version of the firmware. The mitigation vectors of version 5 are zero: there is nothing to mitigate.
        foreach (int offset in (ReadOnlySpan<int>)[0x1E8, 0x1EC])
        {
            report[offset] = FirmwareBuild;
            report[offset + 1] = SecurityProcessor.AbiMinor;
            report[offset + 2] = SecurityProcessor.AbiMajor;
        }

        byte[] signature = chip.Sign(report.AsSpan(0, SignedLength));
        LittleEndian(signature.AsSpan(0, NumberLength), report.AsSpan(SignedLength));
        LittleEndian(signature.AsSpan(NumberLength), report.AsSpan(SignedLength + FieldLength));
        return report;

        void Write32(int offset, uint value) => BinaryPrimitives.WriteUInt32LittleEndian(report.AsSpan(offset), value);
        void Write64(int offset, ulong value) => BinaryPrimitives.WriteUInt64LittleEndian(report.AsSpan(offset), value);
    }

    private static void LittleEndian(ReadOnlySpan<byte> number, Span<byte> field)
    {
        number.CopyTo(field);
        field[..NumberLength].Reverse();
    }
}
