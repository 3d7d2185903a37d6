// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// QEMU's firmware configuration device (fw_cfg), by ports: an item is chosen at 0x510 and read byte by byte at 0x511. There is no DMA, and nothing
// can be written. What the items say is the business of the machine's host side; they stay in the launch blob.
//
// Source: QEMU docs/specs/fw_cfg.rst.

using Svsm.Simulator.Shared;

namespace Svsm.Hypervisor;

/// <summary>The items that a firmware asks its host for.</summary>
internal sealed unsafe class FirmwareItems
{
    // SAFETY (whole type): an item's data lie in the launch blob, which the loader has checked and nobody else uses.

    private const int MaxItems = (int)LaunchHeader.MaxItemCount;

    private readonly uint[] _keys = new uint[MaxItems];
    private readonly ulong[] _data = new ulong[MaxItems];
    private readonly ulong[] _lengths = new ulong[MaxItems];
    private int _count;
    private int _selected = -1;
    private ulong _offset;

    /// <summary>Whether there is such a device.</summary>
    public bool Any => _count != 0;

    /// <summary>Adds an item.</summary>
    /// <param name="key">What it is chosen by.</param>
    /// <param name="data">Its bytes.</param>
    /// <param name="length">Their number.</param>
    /// <returns>False when there are too many.</returns>
    public bool TryAdd(uint key, byte* data, ulong length)
    {
        if (_count == MaxItems)
        {
            return false;
        }

        _keys[_count] = key;
        _data[_count] = (ulong)data;
        _lengths[_count++] = length;
        return true;
    }

    /// <summary>Chooses an item, from its first byte on.</summary>
    public void Select(uint key)
    {
        _selected = -1;
        _offset = 0;
        for (int i = 0; i < _count; i++)
        {
            if (_keys[i] == key)
            {
                _selected = i;
            }
        }
    }

    /// <summary>Reads the next byte of the item; 0 behind its end, and when there is no such item.</summary>
    public byte Read()
    {
        return _selected < 0 || _offset >= _lengths[_selected] ? (byte)0 : ((byte*)_data[_selected])[_offset++];
    }
}
