// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// A task of the kernel: a stack with guard pages, and what is needed to go on with it. A task stays on the CPU that made it.
//
//   Ready      in the ready list of its CPU, or about to be moved there (RunQueue.cs)
//   Running    on its CPU now
//   Waiting    until somebody wakes it, or its deadline passes
//   Finished   will not run again; whoever joins it frees it
//
// A CPU's first task is what it ran before there were tasks: the request loop, on the CPU's own stack.

namespace Svsm.Kernel.Tasks;

/// <summary>What a task does at the moment.</summary>
internal enum TaskState : uint
{
    /// <summary>Can run.</summary>
    Ready,

    /// <summary>Runs.</summary>
    Running,

    /// <summary>Waits.</summary>
    Waiting,

    /// <summary>Has ended.</summary>
    Finished,
}

/// <summary>A task. Does not move while it exists.</summary>
internal unsafe struct KernelTask
{
    /// <summary>No deadline.</summary>
    public const ulong Forever = ulong.MaxValue;

    /// <summary>Next one in a list of its CPU.</summary>
    public KernelTask* Next;

    /// <summary>Next one that waits for the same thing.</summary>
    public KernelTask* NextWaiter;

    /// <summary>Time-stamp counter at which a wait ends; <see cref="Forever"/>: not by time.</summary>
    public ulong Deadline;

    /// <summary>RSP while it does not run.</summary>
    public ulong StackPointer;

    /// <summary>First byte of its stack; 0 for the CPU's own.</summary>
    public ulong StackBottom;

    /// <summary>First byte after its stack.</summary>
    public ulong StackEnd;

    /// <summary>Number of its CPU.</summary>
    public uint Cpu;

    /// <summary>What it does at the moment. Another CPU may change it from waiting to ready.</summary>
    public TaskState State;

    /// <summary>A CPU uses its stack: also for a moment after it has finished.</summary>
    public bool IsOnStack;

    /// <summary>What it runs.</summary>
    public delegate*<ulong, void> Entry;

    /// <summary>Given to <see cref="Entry"/>.</summary>
    public ulong Argument;

    /// <summary>Who waits for its end.</summary>
    public WaitQueue Joiners;
}
