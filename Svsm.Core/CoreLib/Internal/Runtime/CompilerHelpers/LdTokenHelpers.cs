// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The compiler loads metadata tokens through these.

using System;

namespace Internal.Runtime.CompilerHelpers;

internal static unsafe class LdTokenHelpers
{
    // SAFETY: a handle is one word, the token itself.

    private static RuntimeTypeHandle GetRuntimeTypeHandle(nint token) => *(RuntimeTypeHandle*)&token;

    private static RuntimeMethodHandle GetRuntimeMethodHandle(nint token) => *(RuntimeMethodHandle*)&token;

    private static RuntimeFieldHandle GetRuntimeFieldHandle(nint token) => *(RuntimeFieldHandle*)&token;
}

// Parameter of helpers that are deliberately absent; the compiler resolves the type all the same.
internal enum ExceptionStringID
{
}

// The compiler looks for its start-up method's class here; images have their own entry.
internal static class StartupCodeHelpers
{
}
