// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Generic;
using System.Runtime.InteropServices;
using Svsm.Kernel.Memory;
using Xunit;

namespace Svsm.Kernel.Tests;

public sealed class OwnedTests : IDisposable
{
    public OwnedTests() => TestAllocator.Error = MemoryError.None;

    public void Dispose() => Assert.Equal(0, TestAllocator.Count);

    [Fact]
    public void Owned_Value_LivesUntilDispose()
    {
        Assert.Equal(MemoryError.None, Owned<long, TestAllocator>.Create(out Owned<long, TestAllocator> owner));
        Assert.False(owner.IsEmpty);
        Assert.Equal(0, owner.Value);
        owner.Value = 5;
        Assert.Equal(5, owner.Value);
        Assert.Equal(1, TestAllocator.Count);
        owner.Dispose();
        Assert.True(owner.IsEmpty);
        owner.Dispose();
    }

    [Fact]
    public void Owned_Moved_IsEmptyAndDisposesNothing()
    {
        Assert.Equal(MemoryError.None, Owned<long, TestAllocator>.Create(out Owned<long, TestAllocator> first));
        first.Value = 7;
        Owned<long, TestAllocator> second = first.Move();
        Assert.True(first.IsEmpty);
        first.Dispose();
        Assert.Equal(7, second.Value);
        second.Dispose();
    }

    [Theory]
    [InlineData(MemoryError.NoFrames)]
    [InlineData(MemoryError.NoAddresses)]
    public void Create_WithoutMemory_OwnsNothing(object reason)
    {
        TestAllocator.Error = (MemoryError)reason;
        Assert.Equal((MemoryError)reason, Owned<long, TestAllocator>.Create(out Owned<long, TestAllocator> one));
        Assert.Equal((MemoryError)reason, OwnedArray<long, TestAllocator>.Create(3, out OwnedArray<long, TestAllocator> many));
        Assert.Equal((MemoryError)reason, Shared<long, TestAllocator>.Create(out Shared<long, TestAllocator> shared));
        Assert.True(one.IsEmpty && many.Items.IsEmpty && shared.IsEmpty);
        one.Dispose();
        many.Dispose();
        shared.Dispose();
    }

    [Theory]
    [InlineData(0)]
    [InlineData(-1)]
    [InlineData(int.MaxValue)]
    [InlineData((int.MaxValue / 8) + 1)]
    public void OwnedArray_LengthThatCannotBe_IsRefused(int length)
    {
        Assert.Equal(MemoryError.InvalidSize, OwnedArray<long, TestAllocator>.Create(length, out OwnedArray<long, TestAllocator> owner));
        owner.Dispose();
    }

    [Fact]
    public void OwnedArray_Items_AreThereUntilDispose()
    {
        Assert.Equal(MemoryError.None, OwnedArray<long, TestAllocator>.Create(3, out OwnedArray<long, TestAllocator> first));
        Assert.Equal([0, 0, 0], first.Items.ToArray());
        first.Items[2] = 9;
        OwnedArray<long, TestAllocator> second = first.Move();
        Assert.Equal(0, first.Items.Length);
        first.Dispose();
        Assert.Equal(9, second.Items[2]);
        second.Dispose();
        Assert.Equal(0, second.Items.Length);
        second.Dispose();
    }

    [Fact]
    public void Shared_Value_LivesAsLongAsItsLastOwner()
    {
        Assert.Equal(MemoryError.None, Shared<long, TestAllocator>.Create(out Shared<long, TestAllocator> first));
        first.Value = 3;
        Shared<long, TestAllocator> second = first.Share();
        first.Dispose();
        first.Dispose();
        Assert.Equal(1, TestAllocator.Count);
        second.Value++;
        Assert.Equal(4, second.Value);
        second.Dispose();
        Assert.Equal(0, TestAllocator.Count);
    }

    private sealed unsafe class TestAllocator : IAllocator
    {
        [ThreadStatic]
        private static Dictionary<ulong, int>? s_blocks;

        [ThreadStatic]
        private static MemoryError s_error;

        public static int Count => s_blocks?.Count ?? 0;

        public static MemoryError Error
        {
            get => s_error;
            set => s_error = value;
        }

        public static MemoryError Allocate(int bytes, out ulong address)
        {
            address = 0;
            if (s_error == MemoryError.None)
            {
                address = (ulong)NativeMemory.AllocZeroed((nuint)bytes);
                (s_blocks ??= []).Add(address, bytes);
            }

            return s_error;
        }

        public static void Free(ulong address, int bytes)
        {
            Assert.True(s_blocks!.Remove(address, out int length));
            Assert.Equal(length, bytes);
            NativeMemory.Free((void*)address);
        }
    }
}
