// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Threading.Tasks;

namespace Svsm.Simulator.Tests;

/// <summary>Shared memory of a guest, from 0 on.</summary>
internal sealed class DeviceMemory : IDeviceMemory
{
    public const int Length = 0x1_0000;

    public byte[] Bytes { get; } = new byte[Length];

    public Task<byte[]?> ReadAsync(ulong gpa, int length) =>
        Task.FromResult(gpa <= Length && (ulong)length <= Length - gpa ? Bytes.AsSpan((int)gpa, length).ToArray() : null);

    public Task<bool> WriteAsync(ulong gpa, ReadOnlyMemory<byte> bytes)
    {
        bool reached = gpa <= Length && (ulong)bytes.Length <= Length - gpa;
        if (reached)
        {
            bytes.CopyTo(Bytes.AsMemory((int)gpa));
        }

        return Task.FromResult(reached);
    }
}
