// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The security version numbers of a chip's firmware, in the form of Milan and Genoa:
//   byte 0 boot loader | 1 trusted operating system | 2 to 5 zero | 6 SNP firmware | 7 microcode
// Source: virtee/sev (firmware/host), AMD SEV-SNP ABI specification (56860).

namespace Svsm.Simulator;

internal readonly record struct TcbVersion(ulong Value)
{
    // The simulated chip's. Invented, but in the range of real Milan parts.
    public static TcbVersion Current { get; } = new(4ul | (24ul << SnpShift) | (219ul << MicrocodeShift));

    private const int SnpShift = 48;
    private const int MicrocodeShift = 56;
    private const ulong Reserved = 0x0000_FFFF_FFFF_0000;

    public byte BootLoader => (byte)Value;

    public byte OperatingSystem => (byte)(Value >> 8);

    public byte Snp => (byte)(Value >> SnpShift);

    public byte Microcode => (byte)(Value >> MicrocodeShift);

    // Whether no part is newer than the other's. The parts count one by one: the number as a whole has no order.
    public bool IsAtMost(TcbVersion other) => (Value & Reserved) == 0 && BootLoader <= other.BootLoader
        && OperatingSystem <= other.OperatingSystem && Snp <= other.Snp && Microcode <= other.Microcode;
}
