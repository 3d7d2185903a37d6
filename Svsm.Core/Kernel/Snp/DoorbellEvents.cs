// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using Svsm.Wire;

namespace Svsm.Kernel.Snp;

/// <summary>What was in a #HV doorbell page when it was read and cleared at once. Everything in it is the host's word.</summary>
internal readonly struct DoorbellEvents
{
    /// <summary>Vector of the timer.</summary>
    public const byte Timer = 0xE0;

    /// <summary>Vector of another CPU of the SVSM that has something for this one.</summary>
    public const byte Wake = 0xE1;

    /// <summary>Vector of the host, on the boot CPU: the channel of migrations has something for the SVSM.</summary>
    public const byte Channel = 0xE2;

    private const int FlagsShift = 8;
    private const int NoEoiShift = 16;

    private readonly uint _events;

    /// <summary>Takes the first four bytes of the page.</summary>
    public DoorbellEvents(uint events) => _events = events;

    /// <summary>A machine check is pending: memory or processor cannot be trusted any more.</summary>
    public bool IsMachineCheck => (Flags & HvDoorbellFlags.MachineCheck) != 0;

    /// <summary>The turn of whoever runs is over. Wake-ups, NMIs, events of other VMPLs and vectors that nobody asked for mean nothing.</summary>
    public bool IsTick => (byte)_events == Timer;

    /// <summary>The channel of migrations has something.</summary>
    public bool IsChannel => (byte)_events == Channel;

    /// <summary>The host wants an EOI. Else clearing the page was it.</summary>
    public bool NeedsEoi => (byte)_events != 0 && ((byte)(_events >> NoEoiShift) & HvDoorbellPage.NoEoi) == 0;

    private HvDoorbellFlags Flags => (HvDoorbellFlags)(byte)(_events >> FlagsShift);
}
