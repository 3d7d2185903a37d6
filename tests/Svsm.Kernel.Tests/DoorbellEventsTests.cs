// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using Svsm.Kernel.Snp;
using Xunit;

namespace Svsm.Kernel.Tests;

public sealed class DoorbellEventsTests
{
    // Vector, flags, no EOI required, events of other VMPLs.
    [Theory]
    [InlineData(0x00_00_00_00u, false, false, false)]
    [InlineData(0x00_01_80_E0u, true, false, false)]
    [InlineData(0x00_00_80_E0u, true, true, false)]
    [InlineData(0x00_01_80_E1u, false, false, false)]
    [InlineData(0x00_00_00_E1u, false, true, false)]
    [InlineData(0x07_00_81_00u, false, false, false)]
    [InlineData(0x00_FE_80_41u, false, true, false)]
    [InlineData(0x00_00_02_00u, false, false, true)]
    [InlineData(0xFF_FF_FF_FFu, false, false, true)]
    public void Events_AnyWord_MeanLittle(uint events, bool isTick, bool needsEoi, bool isMachineCheck)
    {
        var taken = new DoorbellEvents(events);
        Assert.Equal((isTick, needsEoi, isMachineCheck), (taken.IsTick, taken.NeedsEoi, taken.IsMachineCheck));
    }
}
