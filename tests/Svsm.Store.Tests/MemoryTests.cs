// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using Xunit;

namespace Svsm.Store.Tests;

/// <summary>What a store takes of the heap. With no other test beside it: the heap is the process's.</summary>
[Collection(Alone)]
public sealed class MemoryTests : StoreTest
{
    internal const string Alone = "alone";

    // Quotas bound what the store takes of its module's heap: so no namespace can be filled with what would end all of them.
    [Theory]
    [InlineData(2, 0)]
    [InlineData(8, 64)]
    [InlineData(200, 0)]
    public void Records_OneInACommit_TakeNoMoreMemoryThanIsCharged(int nameLength, int valueLength)
    {
        const int Records = 1000;
        var device = new SimulatedDevice(16 * MiB);
        PersistentStore store = Make(device, (A, 2 * MiB));
        long before = GC.GetTotalMemory(forceFullCollection: true);
        for (int i = 0; i < Records; i++)
        {
            byte[] name = new byte[nameLength];
            BitConverter.TryWriteBytes(name, (ushort)i);
            Assert.Equal(StoreResult.Done, Put(store, A, name, Bytes(valueLength, i)));
        }

        long most = GC.GetTotalMemory(forceFullCollection: true) - before;
        NamespaceUsage usage = Assert.Single(store.Namespaces);
        Assert.Equal(Records, usage.Records);
        Assert.InRange(most, Records * 100, usage.Used + 20_000);
    }
}

[CollectionDefinition(MemoryTests.Alone, DisableParallelization = true)]
public sealed class AloneGroup;
