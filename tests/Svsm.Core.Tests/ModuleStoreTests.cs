// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Generic;
using System.Linq;
using Svsm.Core.Testing;
using Svsm.Wire;
using Xunit;

namespace Svsm.Core.Tests;

/// <summary>A module's part of the store, with the store of tests, and with one that answers anything.</summary>
public sealed class ModuleStoreTests
{
    [Fact]
    public void TestStore_KeepsWhatIsCommitted()
    {
        var store = new TestStore { Quota = 500 };
        ModuleStore part = StorePart.Of(store);
        Assert.Equal(StoreStatus.NotFound, part.TryGet("a"u8, out _));
        Assert.Equal(StoreStatus.Done, part.Commit());
        Assert.Equal(0, store.Commits);
        Assert.Equal(StoreStatus.Done, part.Commit(Put("a", 1, 2), Put("b"), Put("c", 3)));
        Assert.Equal(StoreStatus.Done, part.Commit(StoreChange.Delete("c"u8.ToArray()), StoreChange.Delete("d"u8.ToArray()), Put("b", 9), Put("b", 8)));

        part = StorePart.Of(store);
        Assert.Equal(StoreStatus.Done, part.List(out IReadOnlyList<byte[]> names));
        Assert.Equal(["61", "62"], names.Select(Convert.ToHexString));
        Assert.Equal(StoreStatus.Done, part.TryGet("a"u8, out byte[] value));
        Assert.Equal([1, 2], value);
        Assert.Equal(StoreStatus.Done, part.TryGet("b"u8, out value));
        Assert.Equal([8], value);
        Assert.Equal(StoreStatus.Done, part.TryDescribe(out StoreDescription description));
        Assert.Equal(new StoreDescription(500, 2 * (1 + 160), false), description);
        Assert.Equal(StoreStatus.QuotaExceeded, part.Commit(Put("e", new byte[160])));
        Assert.Equal(2, store.Commits);
    }

    [Fact]
    public void TestStore_FailsAsItIsTold()
    {
        var store = new TestStore();
        ModuleStore part = StorePart.Of(store);
        store.LosesNextAnswer = true;
        Assert.Equal(StoreStatus.Failed, part.Commit(Put("a", 1)));
        Assert.Equal(StoreStatus.Failed, part.Commit(Put("a", 2)));
        Assert.Equal(StoreStatus.Done, part.List(out IReadOnlyList<byte[]> names));
        Assert.Single(names);
        Assert.Equal(StoreStatus.Done, part.Commit(Put("a", 3)));
        store.Failure = StoreStatus.NotOpen;
        Assert.Equal(StoreStatus.NotOpen, part.Commit(Put("a", 4)));
        Assert.Equal(StoreStatus.NotOpen, part.List(out _));
        Assert.Equal(StoreStatus.NotOpen, part.TryGet("a"u8, out _));
        Assert.Equal(StoreStatus.NotOpen, part.TryDescribe(out _));
        Assert.Equal([3], store.Records["61"]);
    }

    [Theory]
    [InlineData(PeerResult.NotThere, StoreStatus.NotThere)]
    [InlineData(PeerResult.NotPermitted, StoreStatus.NotThere)]
    [InlineData(PeerResult.Failed, StoreStatus.Failed)]
    public void NoAnswer_IsSaid(PeerResult result, StoreStatus status)
    {
        ModuleStore part = StorePart.Of(new AnyPeer((_, _) => (result, [])));
        Assert.Equal(status, part.TryDescribe(out _));
        Assert.Equal(status, part.List(out _));
        Assert.Equal(status, part.TryGet("a"u8, out _));
        Assert.Equal(status, part.Commit(Put("a", 1)));
    }

    // Whatever the other module answers, every call ends, with a status.
    [Fact]
    public void AnyAnswer_EndsTheCall()
    {
        var random = new Random(1);
        var good = new TestStore();
        Assert.Equal(StoreStatus.Done, StorePart.Of(good).Commit(Put("a", new byte[100]), Put("bb", new byte[70000 % 65536]), Put("c")));
        int done = 0;
        for (int i = 0; i < 5000; i++)
        {
            int asked = 0;
            ModuleStore part = StorePart.Of(new AnyPeer((kind, request) =>
            {
                Assert.True(++asked < 1000);
                good.Ask(kind, request, out byte[] answer);
                switch (random.Next(4))
                {
                    case 0:
                        answer = answer[..random.Next(answer.Length + 1)];
                        break;
                    case 1:
                        answer[random.Next(answer.Length)] ^= (byte)(1 << random.Next(8));
                        break;
                    case 2:
                        answer = new byte[random.Next(100)];
                        random.NextBytes(answer);
                        break;
                }

                return (PeerResult.Answered, answer);
            }));
            done += part.TryGet("bb"u8, out _) == StoreStatus.Done ? 1 : 0;
            done += part.List(out _) == StoreStatus.Done ? 1 : 0;
            done += part.TryDescribe(out _) == StoreStatus.Done ? 1 : 0;
        }

        Assert.InRange(done, 2000, 12_000);
    }

    private static StoreChange Put(string name, params byte[] value) => StoreChange.Put(System.Text.Encoding.ASCII.GetBytes(name), value);

    private sealed class AnyPeer(Func<ModuleMessageKind, byte[], (PeerResult Result, byte[] Answer)> ask) : ModulePeers
    {
        public override PeerResult Ask(ModuleMessageKind kind, ReadOnlySpan<byte> request, out byte[] answer)
        {
            (PeerResult result, answer) = ask(kind, request.ToArray());
            return result;
        }
    }
}
