// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Generic;
using System.Globalization;
using System.Linq;
using System.Text;
using Xunit;

namespace Svsm.Store.Tests;

/// <summary>A device, a key, and short forms of what tests do with a store.</summary>
public abstract class StoreTest
{
    internal const int MiB = 1 << 20;

    internal static readonly byte[] Key = [.. Enumerable.Range(0, 32).Select(i => (byte)(i * 7))];
    internal static readonly Guid A = new("a0000000-0000-0000-0000-000000000001");
    internal static readonly Guid B = new("b0000000-0000-0000-0000-000000000002");

    internal static PersistentStore Make(SimulatedDevice device, params (Guid Id, long Quota)[] namespaces)
    {
        StoreOpening opening = PersistentStore.Create(device, Key);
        Assert.Equal((StoreState.Opened, ""), (opening.State, opening.Detail));
        foreach ((Guid id, long quota) in namespaces)
        {
            Assert.Equal(StoreResult.Done, opening.Store!.DefineNamespace(id, quota));
        }

        return opening.Store!;
    }

    internal static PersistentStore Open(SimulatedDevice device, StoreVersion? expected = null)
    {
        StoreOpening opening = PersistentStore.Open(device, Key, expected);
        Assert.Equal((StoreState.Opened, ""), (opening.State, opening.Detail));
        return opening.Store!;
    }

    internal static byte[] Name(string text) => Encoding.UTF8.GetBytes(text);

    internal static byte[] Name(int number) => Name("name-" + number.ToString(CultureInfo.InvariantCulture));

    internal static byte[] Bytes(int length, int seed)
    {
        byte[] bytes = new byte[length];
        new Random(seed).NextBytes(bytes);
        return bytes;
    }

    internal static StoreResult Put(PersistentStore store, Guid space, byte[] name, byte[] value)
    {
        StoreTransaction transaction = store.Begin(space)!;
        StoreResult result = transaction.Put(name, value);
        return result == StoreResult.Done ? transaction.Commit() : result;
    }

    internal static StoreResult Delete(PersistentStore store, Guid space, byte[] name)
    {
        StoreTransaction transaction = store.Begin(space)!;
        StoreResult result = transaction.Delete(name);
        return result == StoreResult.Done ? transaction.Commit() : result;
    }

    internal static byte[] Get(PersistentStore store, Guid space, byte[] name)
    {
        Assert.Equal(StoreResult.Done, store.Begin(space)!.TryGet(name, out byte[] value));
        return value;
    }

    /// <summary>All of a store, values read.</summary>
    internal static Dictionary<string, string> Content(PersistentStore store)
    {
        var content = new Dictionary<string, string>();
        foreach (NamespaceUsage usage in store.Namespaces)
        {
            StoreTransaction transaction = store.Begin(usage.Id)!;
            foreach (byte[] name in transaction.Names)
            {
                Assert.Equal(StoreResult.Done, transaction.TryGet(name, out byte[] value));
                content.Add($"{usage.Id}/{Convert.ToHexString(name)}", Convert.ToHexString(value));
            }
        }

        return content;
    }
}
