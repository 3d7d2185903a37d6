// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Owners of memory, instead of classes: who holds one gives the memory back by Dispose, or hands the owner on by Move. The type says which
// allocator it is from. There is no copy: two owners of one memory would free it twice. The zeroed state owns nothing.

using System;
using System.Threading;

namespace Svsm.Kernel.Memory;

/// <summary>Owner of one value.</summary>
[Owner]
internal unsafe struct Owned<T, TAllocator> : IDisposable
    where T : unmanaged
    where TAllocator : IAllocator
{
    private ulong _address;

    /// <summary>Whether it owns nothing.</summary>
    public readonly bool IsEmpty => _address == 0;

    /// <summary>The value; a null reference when it owns nothing.</summary>
    // SAFETY: the memory is as large as the type, and the owner's until Dispose.
    public readonly ref T Value => ref *(T*)_address;

    /// <summary>Allocates a value of zeroes.</summary>
    /// <param name="owner">Its owner; when there is an error, of nothing.</param>
    public static MemoryError Create(out Owned<T, TAllocator> owner)
    {
        owner = default;
        return TAllocator.Allocate(sizeof(T), out owner._address);
    }

    /// <summary>Hands the value on: this one owns nothing afterwards.</summary>
    public Owned<T, TAllocator> Move()
    {
        Owned<T, TAllocator> moved = this;
        this = default;
        return moved;
    }

    /// <summary>Frees the value. Nothing happens the second time.</summary>
    public void Dispose()
    {
        if (_address != 0)
        {
            TAllocator.Free(_address, sizeof(T));
            _address = 0;
        }
    }
}

/// <summary>Owner of an array.</summary>
[Owner]
internal unsafe struct OwnedArray<T, TAllocator> : IDisposable
    where T : unmanaged
    where TAllocator : IAllocator
{
    private ulong _address;
    private int _length;

    /// <summary>The elements; none when it owns nothing.</summary>
    // SAFETY: the memory has room for as many, and is the owner's until Dispose.
    public readonly Span<T> Items => new((void*)_address, _length);

    /// <summary>Allocates elements of zeroes.</summary>
    /// <param name="length">How many, at least 1.</param>
    /// <param name="owner">Their owner; when there is an error, of nothing.</param>
    public static MemoryError Create(int length, out OwnedArray<T, TAllocator> owner)
    {
        owner = default;
        if (length < 1 || length > int.MaxValue / sizeof(T))
        {
            return MemoryError.InvalidSize;
        }

        MemoryError error = TAllocator.Allocate(length * sizeof(T), out owner._address);
        owner._length = error == MemoryError.None ? length : 0;
        return error;
    }

    /// <summary>Hands the elements on: this one owns nothing afterwards.</summary>
    public OwnedArray<T, TAllocator> Move()
    {
        OwnedArray<T, TAllocator> moved = this;
        this = default;
        return moved;
    }

    /// <summary>Frees the elements. Nothing happens the second time.</summary>
    public void Dispose()
    {
        if (_address != 0)
        {
            TAllocator.Free(_address, _length * sizeof(T));
            this = default;
        }
    }
}

/// <summary>One of several owners of a value, which lives as long as one of them does. Owners may be on different CPUs; the value has no lock.</summary>
[Owner]
internal unsafe struct Shared<T, TAllocator> : IDisposable
    where T : unmanaged
    where TAllocator : IAllocator
{
    private struct Block
    {
        public int Owners;
        public T Value;
    }

    private ulong _address;

    /// <summary>Whether it owns nothing.</summary>
    public readonly bool IsEmpty => _address == 0;

    /// <summary>The value; a null reference when it owns nothing.</summary>
    public readonly ref T Value => ref Content.Value;

    // SAFETY: the memory is as large as the type, and there is an owner: this one.
    private readonly ref Block Content => ref *(Block*)_address;

    /// <summary>Allocates a value of zeroes.</summary>
    /// <param name="owner">Its first owner; when there is an error, of nothing.</param>
    public static MemoryError Create(out Shared<T, TAllocator> owner)
    {
        owner = default;
        MemoryError error = TAllocator.Allocate(sizeof(Block), out owner._address);
        if (error == MemoryError.None)
        {
            owner.Content.Owners = 1;
        }

        return error;
    }

    /// <summary>Makes another owner of the same value.</summary>
    public readonly Shared<T, TAllocator> Share()
    {
        // An owner too many would end in the value's being freed under another.
        if (Interlocked.Increment(ref Content.Owners) <= 1)
        {
            throw new InvalidOperationException("a shared value has no owner, or too many");
        }

        return this;
    }

    /// <summary>Ends this ownership, and frees the value if it was the last one. Nothing happens the second time.</summary>
    public void Dispose()
    {
        if (_address != 0)
        {
            if (Interlocked.Decrement(ref Content.Owners) == 0)
            {
                TAllocator.Free(_address, sizeof(Block));
            }

            _address = 0;
        }
    }
}
