// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// A store in memory, for tests of modules that have a part of one: what a module commits is there when the test makes a new module with the same store.
//
//   var store = new TestStore { Quota = 4096 };
//   using (var test = new ModuleTest(new CounterModule(), peers: store)) { test.Call(CounterModule.Increment); }
//   using (var test = new ModuleTest(new CounterModule(), peers: store)) { Assert.Equal(1u, test.Call(CounterModule.Read).Rcx); }

using System;
using System.Collections.Generic;
using System.Linq;
using Svsm.Wire;

namespace Svsm.Core.Testing;

/// <summary>The module that keeps the store, as a module sees it that has a part of it.</summary>
public sealed class TestStore : ModulePeers
{
    // As Svsm.Modules.Storage/Store/StoreFormat.cs has it.
    private const int LeastCharge = 160;
    private const int HeadCharge = 32;
    private const int Alignment = 16;

    private readonly Dictionary<string, byte[]> _records = [];
    private readonly Server _server;
    private bool _isUnsure;

    /// <summary>Makes an empty store.</summary>
    public TestStore() => _server = new Server(this);

    /// <summary>Bytes that the module may have: each record takes its name, and 32 and its value rounded up to 16, or 160 if that is more.</summary>
    public long Quota { get; set; } = 0x4_0000;

    /// <summary>What every call comes to from now on, without being done; <see cref="StoreStatus.Done"/>: what it should.</summary>
    public StoreStatus Failure { get; set; }

    /// <summary>The next commit happens, and its answer is that it failed.</summary>
    public bool LosesNextAnswer { get; set; }

    /// <summary>An older copy of it would be refused, says the store: it has a broker.</summary>
    public bool IsRollbackDetected { get; set; }

    /// <summary>How many commits were done.</summary>
    public int Commits { get; private set; }

    /// <summary>The records: name in hexadecimal digits, and value.</summary>
    public IReadOnlyDictionary<string, byte[]> Records => _records;

    /// <inheritdoc/>
    public override PeerResult Ask(ModuleMessageKind kind, ReadOnlySpan<byte> request, out byte[] answer)
    {
        answer = [];
        if (kind != ModuleMessageKind.Store)
        {
            return PeerResult.NotPermitted;
        }

        answer = _server.Answer(new PeerRequest(kind, 0, Quota, request.ToArray()));
        return PeerResult.Answered;
    }

    private sealed class Server(TestStore store) : StoreServer
    {
        protected override StoreStatus Get(in PeerRequest request, ReadOnlySpan<byte> name, out byte[] value)
        {
            value = store._records.TryGetValue(Convert.ToHexString(name), out byte[]? found) ? [.. found] : [];
            return store.Failure != StoreStatus.Done ? store.Failure : found is null ? StoreStatus.NotFound : StoreStatus.Done;
        }

        protected override StoreStatus List(in PeerRequest request, out IReadOnlyList<byte[]> names)
        {
            names = [.. store._records.Keys.Order(StringComparer.Ordinal).Select(Convert.FromHexString)];
            store._isUnsure = false;
            return store.Failure;
        }

        protected override StoreStatus Commit(in PeerRequest request, IReadOnlyList<StoreChange> changes)
        {
            if (store.Failure != StoreStatus.Done || store._isUnsure)
            {
                return store.Failure != StoreStatus.Done ? store.Failure : StoreStatus.Failed;
            }

            var after = new Dictionary<string, byte[]>(store._records);
            var names = new HashSet<string>();
            foreach (StoreChange change in changes)
            {
                string name = Convert.ToHexString(change.Name.Span);
                names.Add(name);
                if (change.Value is ReadOnlyMemory<byte> value)
                {
                    after[name] = value.ToArray();
                }
                else
                {
                    after.Remove(name);
                }
            }

            if (Used(after) > store.Quota && Used(after) > Used(store._records))
            {
                return StoreStatus.QuotaExceeded;
            }

            foreach (string name in names)
            {
                store._records.Remove(name);
                if (after.TryGetValue(name, out byte[]? value))
                {
                    store._records.Add(name, value);
                }
            }

            store.Commits++;
            store._isUnsure = store.LosesNextAnswer;
            store.LosesNextAnswer = false;
            return store._isUnsure ? StoreStatus.Failed : StoreStatus.Done;
        }

        protected override StoreStatus Describe(in PeerRequest request, out StoreDescription description)
        {
            description = new(store.Quota, Used(store._records), store.IsRollbackDetected);
            return store.Failure;
        }

        private static long Used(Dictionary<string, byte[]> records) =>
            records.Sum(record => (record.Key.Length / 2) + Math.Max(LeastCharge, HeadCharge + ((record.Value.Length + Alignment - 1L) / Alignment * Alignment)));
    }
}
