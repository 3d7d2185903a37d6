// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

namespace Svsm.Kernel.Memory;

/// <summary>Where owners get their memory from: a type parameter of <see cref="Owned{T, TAllocator}"/> and its kin.</summary>
internal interface IAllocator
{
    /// <summary>Hands out memory full of zeroes, aligned to 32 bytes.</summary>
    /// <param name="bytes">At least 1.</param>
    /// <param name="address">Its first byte.</param>
    /// <returns>What was lacking: nothing was taken then.</returns>
    static abstract MemoryError Allocate(int bytes, out ulong address);

    /// <summary>Takes memory back.</summary>
    /// <param name="address">What <see cref="Allocate"/> handed out; anything else is a fault of the kernel.</param>
    /// <param name="bytes">As it was asked for.</param>
    static abstract void Free(ulong address, int bytes);
}
