// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// A process: one program of the archive at CPL 3, with memory of its own, and nothing else of the machine than the descriptors of
// Wire/ModuleChannel.cs and the files of the archive that it may read.
//
// A process has one thread. It has no stack in the kernel and no place in the scheduler: whoever wants something of it (Modules/ModuleService.cs)
// runs it on its own CPU, for a turn, like a function that returns in the middle and goes on where it was, on this CPU or another one:
//
//   Run        -> Answered      the answer to the request is complete. It has not gone on since
//              -> Idle          it waits for a request, and has none
//              -> Sleeps        it waits for a time
//              -> Waits         it waits for another module
//              -> TurnOver      its turn is over: a tick of the timer, or work of its own in the kernel
//              -> Ended         it is over: see Reason and ExitStatus. Its memory is still there
//
// System calls never wait in the kernel: one that cannot go on is begun anew when the process is run again.

using System;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Svsm.Kernel.Arch;
using Svsm.Kernel.Memory;
using Svsm.Kernel.Modules;
using Svsm.Kernel.Snp;
using Svsm.Wire;

namespace Svsm.Kernel.Processes;

/// <summary>Why a turn of a process ended.</summary>
internal enum TurnResult : byte
{
    /// <summary>The answer is there.</summary>
    Answered,

    /// <summary>It wants a request.</summary>
    Idle,

    /// <summary>It waits for a time.</summary>
    Sleeps,

    /// <summary>It waits for another module.</summary>
    Waits,

    /// <summary>It can go on, in another turn.</summary>
    TurnOver,

    /// <summary>It is over.</summary>
    Ended,
}

/// <summary>Why a process is over.</summary>
internal enum ProcessEnd : byte
{
    /// <summary>It is not.</summary>
    None,

    /// <summary>It called exit.</summary>
    Exited,

    /// <summary>A fault that it has no handler for.</summary>
    Fault,

    /// <summary>It gave up (abort).</summary>
    Aborted,

    /// <summary>No memory is left for it, or it is at its limit.</summary>
    OutOfMemory,

    /// <summary>It wrote something that is no answer.</summary>
    BadChannel,

    /// <summary>It waits for another thread, and has none.</summary>
    Deadlock,

    /// <summary>It asked for the time of day, which nobody trustworthy knows.</summary>
    TimeOfDay,

    /// <summary>It used more time than it may.</summary>
    Watchdog,
}

/// <summary>Why a program could not be loaded.</summary>
internal enum LoadError : byte
{
    /// <summary>It could.</summary>
    None,

    /// <summary>Its file is not a program: <see cref="ElfError"/>.</summary>
    BadProgram,

    /// <summary>No memory, or its limit is too low for what it needs at once.</summary>
    OutOfMemory,

    /// <summary>The processor has no random numbers.</summary>
    NoRandomNumbers,
}

/// <summary>A process. Does not move while it exists; all zero before <see cref="TryLoad"/>.</summary>
internal unsafe struct Process
{
    // SAFETY (whole class): Context is set when the process is made, to a page that exists as long as it does.

    /// <summary>Bytes of a stack.</summary>
    public const ulong StackLength = 0x4_0000;

    /// <summary>Most files that are open at a time.</summary>
    public const int MaxOpenFiles = 8;

    private const ulong StackTop = ProcessMemory.HeapHigh;
    private const uint CpuidFeatures = 1;

    [InlineArray(MaxOpenFiles)]
    internal struct Files
    {
        private OpenFile _element0;
    }

    /// <summary>A file that is open.</summary>
    internal struct OpenFile
    {
        /// <summary>Its index in the archive, and 1; 0: not open.</summary>
        public uint Number;

        /// <summary>Where the next read begins.</summary>
        public ulong Position;
    }

    /// <summary>Its memory.</summary>
    public ProcessMemory Memory;

    /// <summary>Its registers.</summary>
    public UserContext* Context;

    /// <summary>What it wants done on faults.</summary>
    public SignalActions Signals;

    /// <summary>Files that it has open.</summary>
    public Files Open;

    /// <summary>The request that it has, or is to read.</summary>
    public ModuleMessage Request;

    /// <summary>Its answer, as far as it is there.</summary>
    public ModuleMessage Answer;

    /// <summary>Bytes of <see cref="Request"/>, and what follows it, that it has read.</summary>
    public int RequestOffset;

    /// <summary>Bytes of <see cref="Answer"/> that are there.</summary>
    public int AnswerOffset;

    /// <summary>What follows the request: as many bytes as that says.</summary>
    public byte* RequestPayload;

    /// <summary>Where what follows an answer goes; null: its head is not there yet, or nothing follows it.</summary>
    public byte* Payload;

    /// <summary>Most bytes that may follow the answer; 0: none.</summary>
    public int PayloadRoom;

    /// <summary>Bytes of it that are there.</summary>
    public int PayloadOffset;

    /// <summary>There is no memory for what follows the answer: it is taken, and kept nowhere.</summary>
    public bool DropsPayload;

    /// <summary>There is a request that is not answered.</summary>
    public bool HasRequest;

    /// <summary>It has made the one thread that the runtime insists on, and that never runs.</summary>
    public bool HasThread;

    /// <summary>Index of its module.</summary>
    public int Module;

    /// <summary>What it may do.</summary>
    public ModulePermissions Permissions;

    /// <summary>Time until which it waits; 0: it does not.</summary>
    public ulong Deadline;

    /// <summary>What the system call returns that waits.</summary>
    public long DeadlineResult;

    /// <summary>Why it is over.</summary>
    public ProcessEnd Reason;

    /// <summary>Argument of exit, or the signal of the fault.</summary>
    public uint ExitStatus;

    /// <summary>System calls that this kernel does not have.</summary>
    public ulong UnknownCalls;

    /// <summary>Loads the program of a module.</summary>
    /// <param name="platform">The machine.</param>
    /// <param name="archive">The archive.</param>
    /// <param name="archiveBase">Its guest-physical address.</param>
    /// <param name="module">Index of the module.</param>
    /// <param name="encryptionMask">The C-bit.</param>
    /// <param name="error">What is wrong with the program.</param>
    /// <returns>Unless it is <see cref="LoadError.None"/>: <see cref="Unload"/> is still to be called.</returns>
    public LoadError TryLoad<TPlatform>(ref TPlatform platform, in ArchiveReader archive, ulong archiveBase, int module, ulong encryptionMask, out ElfError error)
        where TPlatform : IProcessPlatform
    {
        error = ElfError.None;
        ArchiveModule entry = archive.Module(module);
        ArchiveFile file = archive.File((int)entry.Program);
        Module = module;
        Permissions = entry.Permissions;
        RequestOffset = ModuleMessage.Length;
        if (!Memory.TryCreate(ref platform, encryptionMask, archiveBase, entry.MemoryLimit / Page.Size))
        {
            return LoadError.OutOfMemory;
        }

        Span<ElfSegment> segments = stackalloc ElfSegment[ElfImage.MaxSegments];
        error = ElfImage.Open(archive.ContentsOf((int)entry.Program), segments, out int count, out ElfImage image);
        if (error != ElfError.None)
        {
            return LoadError.BadProgram;
        }

        for (int i = 0; i < count; i++)
        {
            if (!Memory.TryAddSegment(in segments[i], file.Offset))
            {
                return LoadError.OutOfMemory;
            }
        }

        // The gaps that are found for other memory leave a page below it: its guard page.
        if (!Memory.TryMap(StackLength, AccessRights.Read | AccessRights.Write, out ulong bottom))
        {
            return LoadError.OutOfMemory;
        }

        Span<byte> random = stackalloc byte[InitialStack.RandomLength];
        if (!platform.TryDraw(random))
        {
            return LoadError.NoRandomNumbers;
        }

        Span<byte> page = stackalloc byte[Page.Size];
        page.Clear();
        ulong top = bottom + StackLength;
        ulong stack = InitialStack.Build(
            page, top, archive.TextOf(in entry), (int)entry.ArgumentCount, (int)entry.EnvironmentCount, in image, platform.Cpuid(CpuidFeatures, 0).Edx, random);
        AccessResult copied = Memory.TryCopyOut(ref platform, archive.Bytes, top - Page.Size, page);
        page.Clear();
        random.Clear();
        if (copied != AccessResult.Success)
        {
            return LoadError.OutOfMemory;
        }

        UserContext.Initialize(Context, image.Entry, stack);
        return LoadError.None;
    }

    /// <summary>Frees the memory. It runs on no CPU.</summary>
    public void Unload<TPlatform>(ref TPlatform platform)
        where TPlatform : IProcessPlatform => Memory.Destroy(ref platform);

    /// <summary>Gives it a request that nothing follows, nor its answer. It has none.</summary>
    public void Give(in ModuleMessage request) => Give(in request, null, 0);

    /// <summary>Bytes of the request, and what follows it.</summary>
    public readonly int WholeRequest => ModuleMessage.Length + (int)Request.PayloadSize;

    /// <summary>Gives it a request. It has none.</summary>
    /// <param name="request">The request.</param>
    /// <param name="requestPayload">What follows it, as many bytes as it says, until the answer is there or the process is over.</param>
    /// <param name="payloadRoom">Most bytes that may follow the answer.</param>
    public void Give(in ModuleMessage request, byte* requestPayload, int payloadRoom)
    {
        RequestPayload = requestPayload;
        Payload = null;
        DropsPayload = false;
        PayloadRoom = payloadRoom;
        PayloadOffset = 0;
        Request = request;
        RequestOffset = 0;
        AnswerOffset = 0;
        HasRequest = true;
    }

    /// <summary>Deals with an exception, before the process goes on.</summary>
    /// <param name="platform">The machine.</param>
    /// <returns>False: the process is over.</returns>
    public bool TryHandleException<TPlatform>(ref TPlatform platform)
        where TPlatform : IProcessPlatform
    {
        const ulong Write = 1 << 1;
        const ulong Fetch = 1 << 4;
        const uint NotMapped = 1;
        const uint NoAccess = 2;
        const uint DivideByZero = 1;
        ulong vector = Context->Vector;
        if (vector == Vector.PageFault)
        {
            AccessRights wanted = (Context->ErrorCode & Write) != 0 ? AccessRights.Write : (Context->ErrorCode & Fetch) != 0 ? AccessRights.Execute : AccessRights.Read;
            switch (Memory.Touch(ref platform, platform.Archive, Context->FaultAddress, wanted, out _))
            {
                case AccessResult.Success:
                    return true;
                case AccessResult.NoMemory:
                    return End(ProcessEnd.OutOfMemory, 0);
                default:
                    return TrySignal(ref platform, Signal.Segment, Memory.Regions.TryFind(Context->FaultAddress, out _) ? NoAccess : NotMapped);
            }
        }

        if (vector == Vector.VmmCommunication && TryEmulateCpuid(ref platform))
        {
            return true;
        }

        return vector switch
        {
            Vector.DivideError => TrySignal(ref platform, Signal.Arithmetic, DivideByZero),
            Vector.FloatingPoint or Vector.SimdFloatingPoint => TrySignal(ref platform, Signal.Arithmetic, 0),
            Vector.InvalidOpcode => TrySignal(ref platform, Signal.IllegalInstruction, 0),
            Vector.Debug or Vector.Breakpoint => TrySignal(ref platform, Signal.Trap, 0),
            Vector.AlignmentCheck or Vector.StackFault => TrySignal(ref platform, Signal.Bus, 0),
            _ => TrySignal(ref platform, Signal.Segment, 0),
        };
    }

    /// <summary>Says that the process is over.</summary>
    /// <returns>False.</returns>
    public bool End(ProcessEnd reason, uint status)
    {
        Reason = reason;
        ExitStatus = status;
        return false;
    }

    /// <summary>Goes on behind a signal handler.</summary>
    /// <returns>False: the process is over.</returns>
    public bool TryReturnFromSignal<TPlatform>(ref TPlatform platform)
        where TPlatform : IProcessPlatform
    {
        // The handler's return has taken the return address off.
        SignalFrame frame = default;
        Span<byte> extended = stackalloc byte[SignalFrame.ExtendedLength];
        bool isThere = Memory.TryCopyIn(ref platform, platform.Archive, Context->Rsp - sizeof(ulong), MemoryMarshal.AsBytes(new Span<SignalFrame>(ref frame))) == AccessResult.Success;
        isThere = isThere && frame.Rip < ProcessMemory.UserEnd && frame.Rsp < ProcessMemory.UserEnd;
        if (isThere && frame.Extended != 0)
        {
            isThere = Memory.TryCopyIn(ref platform, platform.Archive, frame.Extended, extended) == AccessResult.Success;
            if (isThere)
            {
                // Bits of MXCSR that do not exist would be a fault of the kernel.
                ref uint mxcsr = ref Unsafe.As<byte, uint>(ref extended[SignalFrame.MxcsrOffset]);
                mxcsr &= SignalFrame.MxcsrMask;
                UserContext.SetLegacyState(Context, extended);
            }
        }

        if (!isThere)
        {
            return End(ProcessEnd.Fault, (uint)Signal.Segment);
        }

        frame.Restore(ref *Context);
        return true;
    }

    private bool TrySignal<TPlatform>(ref TPlatform platform, Signal signal, uint code)
        where TPlatform : IProcessPlatform
    {
        SignalAction action = Signals.Of((uint)signal);
        bool isHandled = action.Handler > SignalAction.LastNumber && action.Handler < ProcessMemory.UserEnd && (action.Flags & SignalAction.Restorer) != 0;
        if (isHandled)
        {
            ulong address = SignalFrame.Make(in *Context, signal, code, in action, out SignalFrame frame);
            isHandled =
                Memory.TryCopyOut(ref platform, platform.Archive, frame.Extended, UserContext.LegacyState(Context)) == AccessResult.Success &&
                Memory.TryCopyOut(ref platform, platform.Archive, address, MemoryMarshal.AsBytes(new Span<SignalFrame>(ref frame))) == AccessResult.Success;
            if (isHandled)
            {
                SignalFrame.Enter(ref *Context, signal, in action, address);
            }
        }

        return isHandled || End(ProcessEnd.Fault, (uint)signal);
    }

    // The host says when there is #VC: the bytes at RIP have the last word.
    private bool TryEmulateCpuid<TPlatform>(ref TPlatform platform)
        where TPlatform : IProcessPlatform
    {
        const int Length = 2;
        Span<byte> code = stackalloc byte[Length];
        if (Context->ErrorCode != (ulong)GhcbExitCode.Cpuid ||
            Memory.TryCopyIn(ref platform, platform.Archive, Context->Rip, code) != AccessResult.Success || code[0] != 0x0F || code[1] != 0xA2)
        {
            return false;
        }

        CpuidValues values = platform.Cpuid((uint)Context->Rax, (uint)Context->Rcx);
        Context->Rax = values.Eax;
        Context->Rbx = values.Ebx;
        Context->Rcx = values.Ecx;
        Context->Rdx = values.Edx;
        Context->Rip += Length;
        return true;
    }
}
