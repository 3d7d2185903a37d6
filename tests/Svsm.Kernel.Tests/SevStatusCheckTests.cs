// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using Svsm.Kernel.Snp;
using Svsm.Wire;
using Xunit;

namespace Svsm.Kernel.Tests;

public sealed class SevStatusCheckTests
{
    [Theory]
    [InlineData(0x07ul, SevFeatures.SnpActive, TerminationReason.None)]
    [InlineData(0x27ul, SevFeatures.SnpActive | SevFeatures.RestrictedInjection, TerminationReason.None)]
    [InlineData(0xA7ul, SevFeatures.SnpActive | SevFeatures.RestrictedInjection | SevFeatures.DebugSwap, TerminationReason.None)]
    [InlineData(0x07ul, SevFeatures.SnpActive | SevFeatures.RestrictedInjection, TerminationReason.SevStatusMismatch)]
    [InlineData(0x27ul, SevFeatures.SnpActive, TerminationReason.SevStatusMismatch)]
    [InlineData(0x0Ful, SevFeatures.SnpActive, TerminationReason.SevStatusUnknownBits)]
    [InlineData(0x0Ful, SevFeatures.SnpActive | SevFeatures.VirtualTom, TerminationReason.SevStatusUnknownBits)]
    [InlineData(0x17ul, SevFeatures.SnpActive, TerminationReason.SevStatusMismatch)]
    [InlineData(0x03ul, SevFeatures.SnpActive, TerminationReason.SevStatusMismatch)]
    [InlineData(0x06ul, SevFeatures.SnpActive, TerminationReason.SevStatusMismatch)]
    [InlineData(0x05ul, SevFeatures.SnpActive, TerminationReason.SevStatusMismatch)]
    [InlineData(0x00ul, SevFeatures.SnpActive, TerminationReason.SevStatusMismatch)]
    [InlineData(0x03ul, SevFeatures.None, TerminationReason.SevStatusMismatch)]
    [InlineData(0x8007ul, SevFeatures.SnpActive, TerminationReason.SevStatusUnknownBits)]
    [InlineData(0x8000_0000_0000_0007ul, SevFeatures.SnpActive, TerminationReason.SevStatusUnknownBits)]
    [InlineData(0x80_0007ul, SevFeatures.SnpActive, TerminationReason.SevStatusUnknownBits)]
    [InlineData(ulong.MaxValue, SevFeatures.SnpActive, TerminationReason.SevStatusUnknownBits)]
    public void Check_Status_MustBeTheMeasuredOne(ulong status, SevFeatures measured, TerminationReason expected) =>
        Assert.Equal(expected, SevStatusCheck.Check(status, measured));
}
