// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Generic;
using System.Linq;
using System.Threading.Tasks;

namespace Svsm.Simulator.Tests;

/// <summary>Shared memory of a guest, from 0 on.</summary>
internal sealed class DeviceMemory : IDeviceMemory
{
    public const int Length = 0x1_0000;

    public byte[] Bytes { get; } = new byte[Length];

    /// <summary>How often a device has asked for anything: in a machine, each is a command to the hypervisor.</summary>
    public int Uses { get; private set; }

    public Task<bool> ReadAsync(IReadOnlyList<DevicePart> parts) => CopyAsync(parts, part => Bytes.AsSpan((int)part.Gpa, part.Bytes.Count).CopyTo(part.Bytes));

    public Task<bool> WriteAsync(IReadOnlyList<DevicePart> parts) => CopyAsync(parts, part => part.Bytes.AsSpan().CopyTo(Bytes.AsSpan((int)part.Gpa)));

    private Task<bool> CopyAsync(IReadOnlyList<DevicePart> parts, Action<DevicePart> copy)
    {
        Uses++;
        bool reached = parts.All(part => part.Gpa <= Length && (ulong)part.Bytes.Count <= Length - part.Gpa);
        foreach (DevicePart part in reached ? parts : [])
        {
            copy(part);
        }

        return Task.FromResult(reached);
    }
}
