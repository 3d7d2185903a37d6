// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The root of the type system. Objects live where they were allocated and are never freed: nothing collects or moves them.

using System.Diagnostics.CodeAnalysis;
using System.Runtime.CompilerServices;
using Internal.Runtime;

namespace System;

public unsafe class Object
{
    // Written by the allocation helpers; the compiler knows it by this name.
    internal MethodTable* m_pMethodTable;

    public virtual bool Equals(object? obj) => ReferenceEquals(this, obj);

    public virtual int GetHashCode() => RuntimeHelpers.GetHashCode(this);

    public static bool ReferenceEquals(object? objA, object? objB) => objA == objB;
}

public abstract class ValueType
{
    // Comparing fields needs reflection data, which images do not carry. A silent comparison of boxes would be wrong.
    public override bool Equals([NotNullWhen(true)] object? obj)
    {
        Environment.FailFast("ValueType.Equals: the struct does not override Equals(object)");
        return false;
    }

    public override int GetHashCode()
    {
        Environment.FailFast("ValueType.GetHashCode: the struct does not override GetHashCode()");
        return 0;
    }
}

public abstract class Enum : ValueType
{
}
