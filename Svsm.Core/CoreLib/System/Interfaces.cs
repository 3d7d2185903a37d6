// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

namespace System
{
    public interface IDisposable
    {
        void Dispose();
    }

    public interface IEquatable<T>
    {
        bool Equals(T? other);
    }

    public interface IComparable<in T>
    {
        int CompareTo(T? other);
    }
}

namespace System.Collections
{
    // The compiler wants both for loops over arrays, which it then turns into index loops.
    public interface IEnumerable
    {
        IEnumerator GetEnumerator();
    }

    public interface IEnumerator
    {
        object? Current { get; }

        bool MoveNext();

        void Reset();
    }
}
