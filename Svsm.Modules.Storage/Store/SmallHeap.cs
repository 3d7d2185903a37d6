// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;

namespace Svsm.Store;

/// <summary>
/// The heap of a module, a few MiB with a hard limit: the collector lets new objects take most of it before it looks, and then has no room to move what is left. So
/// it is told to look in time. Elsewhere nothing happens.
/// </summary>
internal static class SmallHeap
{
    private const long Small = 64 << 20;
    private const long MaxGarbage = 1 << 20;

    private static readonly bool s_isSmall = GC.GetGCMemoryInfo().TotalAvailableMemoryBytes < Small;

    private static long s_collectedAt;

    /// <summary>Collects if enough has been allocated since the last time.</summary>
    public static void Relieve()
    {
        if (s_isSmall && GC.GetTotalAllocatedBytes() - s_collectedAt > MaxGarbage)
        {
            GC.Collect();
            s_collectedAt = GC.GetTotalAllocatedBytes();
        }
    }
}
