// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Static constructors that the compiler could not run at build time run on first use, through here.
// One CPU at a time: an image touches each such class once while booting, or keeps its statics free of constructors.

using System.Runtime.InteropServices;

namespace System.Runtime.CompilerServices;

// Written by the compiler: the constructor's address, null once it has run.
[StructLayout(LayoutKind.Sequential)]
internal struct StaticClassConstructionContext
{
    public nint cctorMethodAddress;
}

internal static unsafe class ClassConstructorRunner
{
    private static nint CheckStaticClassConstructionReturnNonGCStaticBase(ref StaticClassConstructionContext context, nint nonGcStaticBase)
    {
        CheckStaticClassConstruction(ref context);
        return nonGcStaticBase;
    }

    private static object CheckStaticClassConstructionReturnGCStaticBase(ref StaticClassConstructionContext context, object gcStaticBase)
    {
        CheckStaticClassConstruction(ref context);
        return gcStaticBase;
    }

    private static void CheckStaticClassConstruction(ref StaticClassConstructionContext context)
    {
        nint constructor = context.cctorMethodAddress;
        if (constructor == 0)
        {
            return;
        }

        // Before the call, as .NET does for a constructor that reaches its own class again.
        context.cctorMethodAddress = 0;

        // SAFETY: the compiler wrote the address of a parameterless static method.
        ((delegate*<void>)constructor)();
    }
}
