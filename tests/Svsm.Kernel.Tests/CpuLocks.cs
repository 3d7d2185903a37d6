// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;

namespace Svsm.Kernel.Locks;

/// <summary>In place of the kernel's: a test's thread is a CPU.</summary>
internal static class CpuLocks
{
    [ThreadStatic]
    private static LockOrder s_current;

    public static ref LockOrder Current => ref s_current;
}
