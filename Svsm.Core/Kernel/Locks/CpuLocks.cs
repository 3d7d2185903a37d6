// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using Svsm.Kernel.Arch;

namespace Svsm.Kernel.Locks;

/// <summary>The locks of the current CPU. The tests have another one, for their threads.</summary>
internal static class CpuLocks
{
    /// <summary>Which locks the current CPU holds. Kept up to date by debug builds only.</summary>
    public static ref LockOrder Current => ref PerCpu.Current.Locks;
}
