// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System.Runtime;
using System.Runtime.CompilerServices;
using Svsm.Kernel.Memory;
using Svsm.Platform;
using Svsm.Wire;

namespace Svsm.Kernel.Arch;

/// <summary>Instructions that may fault, and where the kernel goes on when they do.</summary>
internal static unsafe class Fixups
{
    private const ulong VcPageNotValidated = 0x404;

    /// <summary>Whether an exception is one that its instruction expects; if so, the frame continues behind it.</summary>
    /// <param name="frame">The exception.</param>
    public static bool TryApply(ref TrapFrame frame)
    {
        // A page fault outside of the windows is a pointer of the kernel that is wrong, whichever instruction has it.
        bool expected = frame.Vector switch
        {
            Vector.PageFault => IsWindow(X64.ReadCr2()),
            Vector.VmmCommunication => frame.ErrorCode == VcPageNotValidated,
            Vector.GeneralProtection => true,
            _ => false,
        };

        // SAFETY: the linker script puts the table between the two symbols, pairs of words.
        for (ulong* fixup = Start(); expected && fixup < End(); fixup += 2)
        {
            if (fixup[0] == frame.Rip)
            {
                frame.Rip = fixup[1];
                return true;
            }
        }

        return false;
    }

    private static bool IsWindow(ulong address)
    {
#if SVSM_SELF_CHECK
        // Diagnostics/SelfCheck.cs looks whether pages are gone.
        if (address - KernelLayout.KernelPages < (ulong)KernelLayout.KernelPagesCount * Page.Size)
        {
            return true;
        }
#endif
        return address - KernelAddressSpace.WindowBase < KernelLayout.WindowsLength;
    }

    [RuntimeImport("*", "svsm_fixups_start_address")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    private static extern ulong* Start();

    [RuntimeImport("*", "svsm_fixups_end_address")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    private static extern ulong* End();
}
