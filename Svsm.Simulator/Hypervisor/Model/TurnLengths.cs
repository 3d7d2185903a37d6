// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// When a vCPU's turn ends and whose is next, drawn from a seed: a turn ends after one instruction as likely as after a thousand, so that some
// turn ends in any window, however short. The same seed gives the same turns, and under -icount the same run.
//
// Numbers: splitmix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).

namespace Svsm.Hypervisor;

/// <summary>Draws turns.</summary>
internal sealed class TurnLengths
{
    /// <summary>Turns are shorter than this power of two, in nanoseconds: a millisecond.</summary>
    public const int Bits = 20;

    private ulong _state;

    /// <summary>Makes the draws of a seed.</summary>
    public TurnLengths(ulong seed)
    {
        _state = seed;
    }

    /// <summary>Length of the next turn in nanoseconds: 1 to 2^20 - 1, each power of two as likely as the others.</summary>
    public ulong NextLength()
    {
        ulong power = 1ul << (int)NextBelow(Bits);
        return power + NextBelow(power);
    }

    /// <summary>A number below a limit, which is not 0.</summary>
    public ulong NextBelow(ulong limit)
    {
        _state += 0x9E37_79B9_7F4A_7C15;
        ulong mixed = (_state ^ (_state >> 30)) * 0xBF58_476D_1CE4_E5B9;
        mixed = (mixed ^ (mixed >> 27)) * 0x94D0_49BB_1331_11EB;
        return (mixed ^ (mixed >> 31)) % limit;
    }
}
