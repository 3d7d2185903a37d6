// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Exceptions exist so that code may throw. Nothing catches: a throw is a panic that prints the type and the message.

namespace System;

public class Exception
{
    private readonly string? _message;

    public Exception()
    {
    }

    public Exception(string? message) => _message = message;

    public virtual string Message => _message ?? "";

    // The name that the panic prints: images carry no type names. A type of another assembly prints its nearest base type in this one.
    internal virtual string TypeName => "Exception";
}

public class SystemException : Exception
{
    public SystemException()
    {
    }

    public SystemException(string? message)
        : base(message)
    {
    }

    internal override string TypeName => "SystemException";
}

public class ArgumentException : SystemException
{
    public ArgumentException()
    {
    }

    public ArgumentException(string? message)
        : base(message)
    {
    }

    public ArgumentException(string? message, string? paramName)
        : base(message) => ParamName = paramName;

    public virtual string? ParamName { get; }

    internal override string TypeName => "ArgumentException";
}

public class ArgumentNullException : ArgumentException
{
    public ArgumentNullException()
    {
    }

    // The parameter's name is all there is to say: joining it with a text would allocate.
    public ArgumentNullException(string? paramName)
        : base(paramName)
    {
    }

    public ArgumentNullException(string? paramName, string? message)
        : base(message, paramName)
    {
    }

    internal override string TypeName => "ArgumentNullException";
}

public class ArgumentOutOfRangeException : ArgumentException
{
    public ArgumentOutOfRangeException()
    {
    }

    // The parameter's name is all there is to say: joining it with a text would allocate.
    public ArgumentOutOfRangeException(string? paramName)
        : base(paramName)
    {
    }

    public ArgumentOutOfRangeException(string? paramName, string? message)
        : base(message, paramName)
    {
    }

    internal override string TypeName => "ArgumentOutOfRangeException";
}

public class ArithmeticException : SystemException
{
    public ArithmeticException()
    {
    }

    public ArithmeticException(string? message)
        : base(message)
    {
    }

    internal override string TypeName => "ArithmeticException";
}

public class DivideByZeroException : ArithmeticException
{
    public DivideByZeroException()
    {
    }

    public DivideByZeroException(string? message)
        : base(message)
    {
    }

    internal override string TypeName => "DivideByZeroException";
}

public class OverflowException : ArithmeticException
{
    public OverflowException()
    {
    }

    public OverflowException(string? message)
        : base(message)
    {
    }

    internal override string TypeName => "OverflowException";
}

public class ArrayTypeMismatchException : SystemException
{
    public ArrayTypeMismatchException()
    {
    }

    public ArrayTypeMismatchException(string? message)
        : base(message)
    {
    }

    internal override string TypeName => "ArrayTypeMismatchException";
}

public sealed class IndexOutOfRangeException : SystemException
{
    public IndexOutOfRangeException()
    {
    }

    public IndexOutOfRangeException(string? message)
        : base(message)
    {
    }

    internal override string TypeName => "IndexOutOfRangeException";
}

public class InvalidCastException : SystemException
{
    public InvalidCastException()
    {
    }

    public InvalidCastException(string? message)
        : base(message)
    {
    }

    internal override string TypeName => "InvalidCastException";
}

public class InvalidOperationException : SystemException
{
    public InvalidOperationException()
    {
    }

    public InvalidOperationException(string? message)
        : base(message)
    {
    }

    internal override string TypeName => "InvalidOperationException";
}

public class NotImplementedException : SystemException
{
    public NotImplementedException()
    {
    }

    public NotImplementedException(string? message)
        : base(message)
    {
    }

    internal override string TypeName => "NotImplementedException";
}

public class NotSupportedException : SystemException
{
    public NotSupportedException()
    {
    }

    public NotSupportedException(string? message)
        : base(message)
    {
    }

    internal override string TypeName => "NotSupportedException";
}

public class NullReferenceException : SystemException
{
    public NullReferenceException()
    {
    }

    public NullReferenceException(string? message)
        : base(message)
    {
    }

    internal override string TypeName => "NullReferenceException";
}

public class OutOfMemoryException : SystemException
{
    public OutOfMemoryException()
    {
    }

    public OutOfMemoryException(string? message)
        : base(message)
    {
    }

    internal override string TypeName => "OutOfMemoryException";
}

public class PlatformNotSupportedException : NotSupportedException
{
    public PlatformNotSupportedException()
    {
    }

    public PlatformNotSupportedException(string? message)
        : base(message)
    {
    }

    internal override string TypeName => "PlatformNotSupportedException";
}
