// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System.Diagnostics.CodeAnalysis;
using System.Runtime.CompilerServices;

namespace System.Diagnostics;

public static class Debug
{
    [Conditional("DEBUG")]
    public static void Assert([DoesNotReturnIf(false)] bool condition)
    {
        if (!condition)
        {
            Environment.FailFast("Debug.Assert");
        }
    }

    [Conditional("DEBUG")]
    public static void Assert([DoesNotReturnIf(false)] bool condition, [CallerArgumentExpression(nameof(condition))] string? message = null)
    {
        if (!condition)
        {
            Environment.FailFast(message);
        }
    }
}

public sealed class UnreachableException : Exception
{
    public UnreachableException()
    {
    }

    public UnreachableException(string? message)
        : base(message)
    {
    }

    internal override string TypeName => "UnreachableException";
}
