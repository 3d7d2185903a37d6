// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// What compiled code calls when a check fails, and what "throw" becomes. All of it ends in the image's panic path.
//
// Deliberately absent: ThrowInvalidProgramException, ThrowTypeLoadException and their kin. The compiler turns a method it cannot compile into a call
// of those; without them it stops the build instead.

using System;
using System.Diagnostics.CodeAnalysis;
using System.Runtime;

namespace Internal.Runtime.CompilerHelpers;

internal static class ThrowHelpers
{
    private const int PanicTextLength = 256;

    [DoesNotReturn]
    internal static void ThrowIndexOutOfRangeException() => Environment.FailFast("IndexOutOfRangeException");

    [DoesNotReturn]
    internal static void ThrowOverflowException() => Environment.FailFast("OverflowException");

    [DoesNotReturn]
    internal static void ThrowNullReferenceException() => Environment.FailFast("NullReferenceException");

    [DoesNotReturn]
    internal static void ThrowDivideByZeroException() => Environment.FailFast("DivideByZeroException");

    [DoesNotReturn]
    internal static void ThrowArgumentOutOfRangeException() => Environment.FailFast("ArgumentOutOfRangeException");

    [DoesNotReturn]
    internal static void ThrowArgumentException() => Environment.FailFast("ArgumentException");

    [DoesNotReturn]
    internal static void ThrowNotSupportedException() => Environment.FailFast("NotSupportedException");

    [DoesNotReturn]
    internal static void ThrowPlatformNotSupportedException() => Environment.FailFast("PlatformNotSupportedException");

    [DoesNotReturn]
    internal static void ThrowNotImplementedException() => Environment.FailFast("NotImplementedException");

    [DoesNotReturn]
    internal static void ThrowInvalidCastException() => Environment.FailFast("InvalidCastException");

    [DoesNotReturn]
    internal static void ThrowArrayTypeMismatchException() => Environment.FailFast("ArrayTypeMismatchException");

    // Methods that the compiler removed because it proved them unreachable.

    [DoesNotReturn]
    internal static void ThrowFeatureBodyRemoved() => Environment.FailFast("the body of this method was removed: feature not in the image");

    [DoesNotReturn]
    internal static void ThrowInstanceBodyRemoved() => Environment.FailFast("the body of this method was removed: no instance of its type exists");

    [DoesNotReturn]
    internal static void ThrowUnavailableType() => Environment.FailFast("a type that the image does not contain was used");

    [RuntimeExport("RhpThrowEx")]
    [DoesNotReturn]
    private static void ThrowEx(Exception? exception)
    {
        if (exception is null)
        {
            ThrowNullReferenceException();
        }

        Span<char> text = stackalloc char[PanicTextLength];
        int length = 0;
        Append(text, ref length, exception.TypeName);
        if (exception.Message.Length != 0)
        {
            Append(text, ref length, ": ");
            Append(text, ref length, exception.Message);
        }

        Environment.FailFast(text.Slice(0, length));
    }

    [RuntimeExport("RhpRethrow")]
    [DoesNotReturn]
    private static void Rethrow() => Environment.FailFast("rethrow");

    // A stack buffer was overrun, or an unmanaged caller came in where none may.
    [RuntimeExport("RhpFallbackFailFast")]
    [DoesNotReturn]
    private static void FallbackFailFast() => Environment.FailFast("stack buffer overrun");

    private static void Append(Span<char> destination, ref int length, ReadOnlySpan<char> text)
    {
        int count = Math.Min(text.Length, destination.Length - length);
        text.Slice(0, count).CopyTo(destination.Slice(length));
        length += count;
    }
}
