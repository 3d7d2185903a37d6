// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The battery-backed memory with its clock, as a firmware finds it behind ports 0x70 (index) and 0x71 (data).
//
//   0x00 to 0x09, 0x32   the time in BCD, 24 hours: guest time since 2000-01-01, so that it tells nothing of the outer machine
//   0x0A to 0x0D         status: 32.768 kHz, 24 hours in BCD, no interrupts, battery good
//   others               what the machine's host side gave at launch
//
// Nothing is kept of what the guest writes, the time included. Source: Motorola MC146818A data sheet; the century at 0x32 is custom.

using System;

namespace Svsm.Hypervisor;

/// <summary>The real-time clock and its memory.</summary>
internal sealed class RealTimeClock
{
    /// <summary>Bytes of memory.</summary>
    public const int Length = 128;

    private const byte IndexMask = Length - 1;
    private const byte StatusA = 0x26;
    private const byte StatusB = 0x02;
    private const byte StatusD = 0x80;
    private const uint FirstYear = 2000;
    private const uint FirstWeekday = 6;
    private const uint SecondsPerDay = 24 * 60 * 60;

    private readonly byte[] _memory = new byte[Length];
    private byte _index;

    /// <summary>The memory.</summary>
    public Span<byte> Memory => _memory;

    /// <summary>Chooses a byte.</summary>
    /// <param name="index">Its number; bit 7 masks NMIs on other machines.</param>
    public void Select(byte index) => _index = (byte)(index & IndexMask);

    /// <summary>Passes the index (HostState.cs). Time is that of the guest, and memory is what the launch gave.</summary>
    public void Pass(ref StateStream stream) => _index = stream.Byte(_index, IndexMask);

    /// <summary>Reads the byte that was chosen.</summary>
    /// <param name="seconds">Seconds of guest time.</param>
    public byte Read(ulong seconds)
    {
        var inDay = (uint)(seconds % SecondsPerDay);
        var days = (uint)(seconds / SecondsPerDay);
        switch (_index)
        {
            case 0x00:
                return Decimal(inDay % 60);
            case 0x02:
                return Decimal(inDay / 60 % 60);
            case 0x04:
                return Decimal(inDay / 3600);
            case 0x06:
                return Decimal(((days + FirstWeekday) % 7) + 1);
            case 0x07:
                return Decimal(Date(days).Day);
            case 0x08:
                return Decimal(Date(days).Month);
            case 0x09:
                return Decimal(Date(days).Year % 100);
            case 0x32:
                return Decimal(Date(days).Year / 100);
            case 0x0A:
                return StatusA;
            case 0x0B:
                return StatusB;
            case 0x0D:
                return StatusD;
            default:
                return _memory[_index];
        }
    }

    private static byte Decimal(uint value) => (byte)((value / 10 << 4) | (value % 10));

    private static (uint Year, uint Month, uint Day) Date(uint days)
    {
        uint year = FirstYear;
        uint month = 1;
        while (days >= DaysOf(year, month))
        {
            days -= DaysOf(year, month);
            year += month / 12;
            month = (month % 12) + 1;
        }

        return (year, month, days + 1);
    }

    private static uint DaysOf(uint year, uint month)
    {
        bool isLeap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        return month == 2 ? (isLeap ? 29u : 28u) : month is 4 or 6 or 9 or 11 ? 30u : 31u;
    }
}
