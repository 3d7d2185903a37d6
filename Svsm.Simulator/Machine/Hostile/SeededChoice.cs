// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Numbers from a seed, the same on every PC and with every version of .NET: what an attack by name does is told by its seed alone.
// Source: SplitMix64 (Steele, Lea, Flood 2014), public domain.

namespace Svsm.Simulator;

internal class SeededChoice(ulong seed)
{
    private ulong _state = seed;

    public ulong Word()
    {
        _state += 0x9E37_79B9_7F4A_7C15;
        ulong value = _state;
        value = (value ^ (value >> 30)) * 0xBF58_476D_1CE4_E5B9;
        value = (value ^ (value >> 27)) * 0x94D0_49BB_1331_11EB;
        return value ^ (value >> 31);
    }

    public ulong Below(ulong limit) => Word() % limit;
}
