// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using Svsm.Wire;

namespace Svsm.Measurement.Tests;

internal static class TestPages
{
    /// <summary>Byte i is i modulo 256.</summary>
    public static byte[] Pattern { get; } = CreatePattern();

    /// <summary>The launch VMSA of an SVSM on QEMU.</summary>
    public static Vmsa SvsmVmsa
    {
        get
        {
            var data = new SegmentRegister { Selector = 0x10, Attributes = 0xA93, Limit = uint.MaxValue };
            return new Vmsa
            {
                Ds = data,
                Ss = data,
                Es = data,
                Fs = data,
                Gs = data,
                Cs = new SegmentRegister { Selector = 8, Attributes = 0xC9B, Limit = uint.MaxValue },
                Cr0 = 0x31,
                Cr4 = 0x60,
                Efer = 0x1800,
                Rflags = 2,
                Rip = 0x1_0002,
                Rsp = 0x2_0000,
                Pat = 0x0007_0406_0007_0406,
                Xcr0 = 1,
                Rax = 1,
                SevFeatures = 0x29,
            };
        }
    }

    private static byte[] CreatePattern()
    {
        byte[] page = new byte[4096];
        for (int i = 0; i < page.Length; i++)
        {
            page[i] = (byte)i;
        }

        return page;
    }
}
