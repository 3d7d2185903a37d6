// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Generic;
using System.Linq;
using Xunit;

namespace Svsm.Store.Tests;

/// <summary>The records in memory, against the class library's dictionary.</summary>
public sealed class RecordIndexTests
{
    [Fact]
    public void RandomChanges_AgreeWithADictionary()
    {
        var random = new Random(1);
        var index = new RecordIndex();
        var model = new Dictionary<string, int>();
        for (int step = 0; step < 60_000; step++)
        {
            // Grows, shrinks to nothing, and grows again.
            byte[] name = BitConverter.GetBytes(random.Next(3000));
            string key = Convert.ToHexString(name);
            int place = index.Find(name);
            Assert.Equal(model.ContainsKey(key), place >= 0);
            if (place >= 0)
            {
                Assert.Equal(model[key], index.ValueAt(place).Length);
                Assert.Equal(name, index.NameAt(place));
                index.ValueAt(place).Length = step;
                model[key] = step;
            }

            if (place >= 0 && random.Next(10) < (step / 10_000 % 2 == 0 ? 3 : 9))
            {
                index.Remove(place);
                model.Remove(key);
            }
            else if (place < 0)
            {
                index.Add(name, new StoredValue { Length = step });
                model.Add(key, step);
            }

            Assert.Equal(model.Count, index.Count);
        }

        Assert.Equal(
            model.OrderBy(pair => pair.Key).Select(pair => (pair.Key, pair.Value)),
            Enumerable.Range(0, index.End).Where(index.IsUsed).Select(place => (Convert.ToHexString(index.NameAt(place)), index.ValueAt(place).Length)).OrderBy(pair => pair.Item1));
        Assert.InRange(index.End, index.Count, 3000);
        foreach (int place in Enumerable.Range(0, index.End).Where(index.IsUsed).ToArray())
        {
            index.Remove(place);
        }

        Assert.Equal(0, index.Count);
        Assert.DoesNotContain(Enumerable.Range(0, 3000), i => index.Find(BitConverter.GetBytes(i)) >= 0);
    }
}
