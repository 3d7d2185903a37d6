// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// A set of pages of the guest's memory, which lies in some ranges: a bit for each page. For both ends.

using System;
using System.Buffers.Binary;
using System.Numerics;
using System.Runtime.InteropServices;
using Svsm.Core;
using Svsm.Wire;

namespace Svsm.Modules.Migration;

/// <summary>A set of pages.</summary>
internal sealed class PageSet
{
    private const int BitsPerByte = 8;

    private readonly MoveRange[] _ranges;
    private readonly byte[][] _bits;

    /// <summary>Makes a set.</summary>
    /// <param name="ranges">The guest's memory, whole pages.</param>
    /// <param name="isFull">All pages are in it; otherwise none.</param>
    public PageSet(MoveRange[] ranges, bool isFull = false)
    {
        _ranges = ranges;
        _bits = new byte[ranges.Length][];
        for (int i = 0; i < ranges.Length; i++)
        {
            // From a multiple of 8 pages on, so that bits are read as they are; and in whole words, to be counted.
            ulong pages = FirstOf(i) % BitsPerByte + (ranges[i].Bytes / GuestMove.PageLength);
            _bits[i] = new byte[(pages + 63) / 64 * sizeof(ulong)];
            if (isFull)
            {
                _bits[i].AsSpan(0, LengthOf(i)).Fill(0xFF);
                ClearOutside(i);
            }
        }
    }

    /// <summary>Pages in it.</summary>
    public ulong Count
    {
        get
        {
            ulong count = 0;
            foreach (byte[] bits in _bits)
            {
                foreach (ulong word in MemoryMarshal.Cast<byte, ulong>(bits))
                {
                    count += (ulong)BitOperations.PopCount(word);
                }
            }

            return count;
        }
    }

    /// <summary>Makes it the pages that are dirty.</summary>
    public void ReadDirty(GuestMove move)
    {
        const int MaxBytes = GuestMove.PageLength;
        for (int i = 0; i < _ranges.Length; i++)
        {
            int length = LengthOf(i);
            for (int at = 0; at < length; at += MaxBytes)
            {
                move.ReadDirty(FirstOf(i) / BitsPerByte * BitsPerByte + ((ulong)at * BitsPerByte), _bits[i].AsSpan(at, Math.Min(MaxBytes, length - at)));
            }

            // Pages of a neighbour in the same byte.
            ClearOutside(i);
        }
    }

    /// <summary>Puts a page in.</summary>
    /// <param name="page">Number of the page.</param>
    /// <returns>False: it is no memory of the guest, or was in it.</returns>
    public bool Add(ulong page)
    {
        byte mask = (byte)(1 << (int)(page % BitsPerByte));
        if (!TryFind(page, out byte[] bits, out ulong bit) || (bits[bit / BitsPerByte] & mask) != 0)
        {
            return false;
        }

        bits[bit / BitsPerByte] |= mask;
        return true;
    }

    /// <summary>Whether a page is memory of the guest.</summary>
    public bool IsMemory(ulong page) => TryFind(page, out _, out _);

    /// <summary>Whether a page is in it.</summary>
    public bool Contains(ulong page) => TryFind(page, out byte[] bits, out ulong bit) && (bits[bit / BitsPerByte] & (1 << (int)(bit % BitsPerByte))) != 0;

    /// <summary>Takes a page out.</summary>
    public void Remove(ulong page)
    {
        if (TryFind(page, out byte[] bits, out ulong bit))
        {
            bits[bit / BitsPerByte] &= (byte)~(1 << (int)(bit % BitsPerByte));
        }
    }

    /// <summary>Finds the first page from one on.</summary>
    /// <param name="from">Number of that page.</param>
    /// <param name="page">Number of the page.</param>
    /// <returns>False: there is none.</returns>
    public bool TryNext(ulong from, out ulong page)
    {
        for (int i = 0; i < _ranges.Length; i++)
        {
            ulong first = FirstOf(i) / BitsPerByte * BitsPerByte;
            ulong bit = from > first ? from - first : 0;
            byte[] bits = _bits[i];
            while (bit < (ulong)bits.Length * BitsPerByte)
            {
                // From this bit on, of this word.
                ulong word = BinaryPrimitives.ReadUInt64LittleEndian(bits.AsSpan((int)(bit / 64 * sizeof(ulong)))) >> (int)(bit % 64);
                if (word != 0)
                {
                    page = first + bit + (ulong)BitOperations.TrailingZeroCount(word);
                    return true;
                }

                bit = (bit / 64 * 64) + 64;
            }
        }

        page = 0;
        return false;
    }

    private ulong FirstOf(int range) => _ranges[range].Address / GuestMove.PageLength;

    private int LengthOf(int range) => (int)(((FirstOf(range) % BitsPerByte) + (_ranges[range].Bytes / GuestMove.PageLength) + BitsPerByte - 1) / BitsPerByte);

    private void ClearOutside(int range)
    {
        ulong lead = FirstOf(range) % BitsPerByte;
        _bits[range][0] &= (byte)(0xFF << (int)lead);
        ulong end = lead + (_ranges[range].Bytes / GuestMove.PageLength);
        if (end % BitsPerByte != 0)
        {
            _bits[range][end / BitsPerByte] &= (byte)((1 << (int)(end % BitsPerByte)) - 1);
        }
    }

    private bool TryFind(ulong page, out byte[] bits, out ulong bit)
    {
        for (int i = 0; i < _ranges.Length; i++)
        {
            ulong first = FirstOf(i);
            if (page - first < _ranges[i].Bytes / GuestMove.PageLength)
            {
                (bits, bit) = (_bits[i], page - (first / BitsPerByte * BitsPerByte));
                return true;
            }
        }

        (bits, bit) = ([], 0);
        return false;
    }
}
