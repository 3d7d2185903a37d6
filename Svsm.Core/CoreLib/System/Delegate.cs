// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Delegates to one method each. There is no Combine: "+=" on a delegate is a build error.

using Internal.Runtime;

namespace System;

public abstract class Delegate
{
    // Names, order and the Initialize methods are the compiler's.
    internal object _firstParameter = null!;
    internal object _helperObject = null!;
    internal nint _extraFunctionPointerOrData;
    internal nint _functionPointer;

    private void InitializeClosedInstance(object firstParameter, nint functionPointer)
    {
        _functionPointer = functionPointer;
        _firstParameter = firstParameter;
    }

    private unsafe void InitializeClosedInstanceToInterface(object firstParameter, nint dispatchCell)
    {
        _functionPointer = (nint)InterfaceDispatch.Resolve(firstParameter, dispatchCell);
        _firstParameter = firstParameter;
    }

    private void InitializeClosedStaticThunk(object firstParameter, nint functionPointer, nint functionPointerThunk)
    {
        _extraFunctionPointerOrData = functionPointer;
        _helperObject = firstParameter;
        _functionPointer = functionPointerThunk;
        _firstParameter = this;
    }

    private void InitializeOpenStaticThunk(object firstParameter, nint functionPointer, nint functionPointerThunk)
    {
        _firstParameter = this;
        _functionPointer = functionPointerThunk;
        _extraFunctionPointerOrData = functionPointer;
    }
}

public abstract class MulticastDelegate : Delegate
{
}

public delegate void Action();

public delegate void Action<in T>(T obj);

public delegate void Action<in T1, in T2>(T1 arg1, T2 arg2);

public delegate TResult Func<out TResult>();

public delegate TResult Func<in T, out TResult>(T arg);

public delegate TResult Func<in T1, in T2, out TResult>(T1 arg1, T2 arg2);

public delegate bool Predicate<in T>(T obj);
