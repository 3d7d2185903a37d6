// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// What typeof and reflection hang on. There is neither: the compiler wants the types for metadata tokens and attributes.

namespace System;

public class Type
{
}

internal class RuntimeType : Type
{
}

public struct RuntimeTypeHandle
{
    private nint _value;
}

public struct RuntimeMethodHandle
{
    private nint _value;
}

public struct RuntimeFieldHandle
{
    private nint _value;
}
