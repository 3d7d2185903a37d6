// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;

namespace Svsm.Kernel.Locks
{
    /// <summary>In place of the kernel's: a test's thread is a CPU.</summary>
    internal static class CpuLocks
    {
        [ThreadStatic]
        private static LockOrder s_current;

        [ThreadStatic]
        private static int s_holds;

        public static ref LockOrder Current => ref s_current;

        /// <summary>Reasons not to preempt the thread.</summary>
        public static int Holds => s_holds;

        public static void Hold() => s_holds++;

        public static void Release() => s_holds--;
    }
}

namespace Svsm.Kernel.Tasks
{
    /// <summary>In place of the kernel's: notes whom it would tell or interrupt.</summary>
    internal static class Wakeups
    {
        [ThreadStatic]
        private static uint s_last;

        /// <summary>The last CPU that was told or interrupted.</summary>
        public static uint Last => s_last;

        public static void Tell(uint cpu) => s_last = cpu;

        public static void Interrupt(uint cpu) => s_last = cpu;
    }
}
