// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The CPUID signature (leaf 1 EAX) of a processor model: KVM puts it into RDX of every vCPU after reset, and so it is measured.
//
// Source: QEMU target/i386/cpu.c (models EPYC-*); AMD APM volume 3, CPUID Fn0000_0001_EAX for the form.

using System;

namespace Svsm.Measurement;

/// <summary>CPUID signatures of QEMU's processor models.</summary>
public static class CpuSignature
{
    /// <summary>EPYC-v4 and the other first-generation models: family 0x17, model 1, stepping 2.</summary>
    public const uint EpycV4 = 0x0080_0F12;

    /// <summary>EPYC-Milan: family 0x19, model 1, stepping 1.</summary>
    public const uint EpycMilan = 0x00A0_0F11;

    /// <summary>EPYC-Genoa: family 0x19, model 0x11, stepping 0.</summary>
    public const uint EpycGenoa = 0x00A1_0F10;

    /// <summary>EPYC-Turin: family 0x1A, model 0, stepping 0.</summary>
    public const uint EpycTurin = 0x00B0_0F00;

    /// <summary>The signature of a family, model and stepping.</summary>
    /// <param name="family">Family, 15 to 270.</param>
    /// <param name="model">Model, 0 to 255.</param>
    /// <param name="stepping">Stepping, 0 to 15.</param>
    /// <returns>CPUID leaf 1 EAX.</returns>
    /// <exception cref="ArgumentOutOfRangeException">A number is outside its range.</exception>
    public static uint Create(int family, int model, int stepping)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(family, 15);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(family, 270);
        ArgumentOutOfRangeException.ThrowIfNegative(model);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(model, 255);
        ArgumentOutOfRangeException.ThrowIfNegative(stepping);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(stepping, 15);
        return ((uint)(family - 15) << 20) | ((uint)(model >> 4) << 16) | (0xFu << 8) | ((uint)(model & 15) << 4) | (uint)stepping;
    }
}
