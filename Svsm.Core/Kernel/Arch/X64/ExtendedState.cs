// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System.Runtime;
using System.Runtime.CompilerServices;
using Svsm.Kernel.Snp;

namespace Svsm.Kernel.Arch;

/// <summary>The FPU state of tasks. See <see cref="ExtendedStatePlan"/>.</summary>
internal static class ExtendedState
{
    private static ExtendedStatePlan s_plan;

    /// <summary>Decides for all CPUs.</summary>
    public static void Choose(in CpuidTable cpuid) => Use(ExtendedStatePlan.Choose(in cpuid));

    /// <summary>Turns on what was decided on the current CPU.</summary>
    public static void Enable()
    {
        if (s_plan.Mask != 0)
        {
            EnableXsave(s_plan.Mask);
        }
    }

    /// <summary>Has the code that preempts (Doorbell.S) do what was decided.</summary>
    public static void Use(ExtendedStatePlan plan)
    {
        s_plan = plan;
        Set(plan.Mask, plan.Length);
    }

    [RuntimeImport("*", "svsm_set_extended_state")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    private static extern void Set(ulong mask, ulong length);

    [RuntimeImport("*", "svsm_enable_xsave")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    private static extern void EnableXsave(ulong mask);
}
