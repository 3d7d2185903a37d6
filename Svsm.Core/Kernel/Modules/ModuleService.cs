// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// From a call of the guest to a module's answer.
//
//   vCPU calls     its call (PendingCall, one for each vCPU) is put behind the others that the module has
//   and, unless    the CPU runs the module's process, with the first call of the queue, for a turn: until the caller's own answer is there,
//   another CPU    the timer ticks, or there is nothing to run. So whoever is at VMPL0 pushes the work on, also that of a vCPU which
//   runs it        never asks again
//   answer there   the guest gets it
//   else           INCOMPLETE: the guest asks again with the same registers, and gets its interrupts in between if it wants
//
// A call that is asked again is the same one if vCPU, protocol, call and registers are. Anything else that the vCPU calls drops it, and its
// answer: so there is at most one for each vCPU, whatever the guest does. A call that the process works on already is worked on to its end.
//
// A process that is over fails the call that it worked on with INVALID_REQUEST, is started anew as often as its configuration says, and is retired
// after that: its protocol is not there any more, for the calls that wait as well. Time is counted in ticks of the timer, a millisecond each, for
// one request and for the start: a host that holds ticks back gives a module more time, and its own guest nothing else.
//
// While a guest from another machine is awaited, a module that is over is not started anew: it may have had a part of what the guest relies on.
//
// Locks: a record's lock guards its queue and the calls in it. IsRunning is who may touch the process; it is set and cleared under the lock, and the
// process runs without it. The vCPU's own lock (rank GuestVcpu) is held by the request loop all the while.

using System;
using Svsm.Kernel.Arch;
using Svsm.Kernel.Diagnostics;
using Svsm.Kernel.Guest;
using Svsm.Kernel.Locks;
using Svsm.Kernel.Memory;
using Svsm.Kernel.Processes;
using Svsm.Kernel.Protocols;
using Svsm.Kernel.Snp;
using Svsm.Wire;

namespace Svsm.Kernel.Modules;

/// <summary>Where a call of the guest is.</summary>
internal enum PendingState : byte
{
    /// <summary>There is none.</summary>
    None,

    /// <summary>In the queue.</summary>
    Queued,

    /// <summary>The process has it.</summary>
    Working,

    /// <summary>The answer is here.</summary>
    Answered,
}

/// <summary>A call of the guest to a module. One for each vCPU.</summary>
internal struct PendingCall
{
    /// <summary>Where it is.</summary>
    public PendingState State;

    /// <summary>Index of the module.</summary>
    public int Module;

    /// <summary>The vCPU behind it in the queue, or <see cref="ModuleRecord.NoCall"/>.</summary>
    public int Next;

    /// <summary>Which vCPU of this number it was: <see cref="Guest.GuestVcpu.Generation"/>.</summary>
    public ulong Generation;

    /// <summary>The registers.</summary>
    public SvsmRequest Request;

    /// <summary>The registers of the answer.</summary>
    public SvsmRequest Answer;

    /// <summary>Call number of the answer: <see cref="ModuleMessage.Call"/>.</summary>
    public uint AnswerCall;

    /// <summary>Its result code.</summary>
    public SvsmResultCode Result;
}

/// <summary>A module.</summary>
internal unsafe struct ModuleRecord
{
    /// <summary>No call.</summary>
    public const int NoCall = -1;

    /// <summary>The process works on a call that nobody wants any more.</summary>
    public const int DroppedCall = -2;

    /// <summary>Guards the rest. Rank <see cref="LockRank.Modules"/>.</summary>
    public KernelLock Lock;

    /// <summary>Its entry in the archive.</summary>
    public ArchiveModule Entry;

    /// <summary>Its index.</summary>
    public int Index;

    /// <summary>A CPU has the process.</summary>
    public bool IsRunning;

    /// <summary>It has been started, while booting.</summary>
    public bool IsStarted;

    /// <summary>It is not started again.</summary>
    public bool IsRetired;

    /// <summary>How many times it was started anew.</summary>
    public uint Restarts;

    /// <summary>The vCPU whose call the process has, <see cref="NoCall"/> or <see cref="DroppedCall"/>.</summary>
    public int Current;

    /// <summary>The first vCPU in the queue, or <see cref="NoCall"/>.</summary>
    public int First;

    /// <summary>The last one, if there is a first.</summary>
    public int Last;

    /// <summary>Number of the last request.</summary>
    public ulong Sequence;

    /// <summary>Ticks that the current request has taken.</summary>
    public uint Ticks;

    /// <summary>Address of the pages for what follows the answer of the process; 0: there are none.</summary>
    public ulong Payload;

    /// <summary>Bytes that they are for.</summary>
    public int PayloadLength;

    /// <summary>Address of the pages of what follows the request that the process has; 0: there are none.</summary>
    public ulong RequestPayload;

    /// <summary>Bytes that they are for.</summary>
    public int RequestLength;

    /// <summary>The process; null: there is none.</summary>
    public Process* Process;
}

/// <summary>Has modules answer calls.</summary>
internal static unsafe class ModuleService
{
    // SAFETY (whole class): a process and its registers lie in pages of their own from TryLoad to Unload; both happen, as everything else with
    // a process, on the CPU that has set IsRunning, or while booting.

    // Registers and FPU state, then the process.
    private static int ProcessPages => 1 + ((sizeof(Process) + Page.Size - 1) / Page.Size);

    private const ulong NanosecondsPerMillisecond = 1_000_000;

    /// <summary>Starts a module, up to its first wish for a request. While booting.</summary>
    public static void Start(ref ModuleRecord record)
    {
        int frames = FrameAllocator.Used;
        if (!TryLoad(ref record))
        {
            Retire(ref record);
            return;
        }

        // The watchdog counts the processor's time. Here a module that only waits counts as well: it holds up the start of the guest.
        TurnResult result;
        ulong end = KernelClock.Now + (record.Entry.Watchdog * NanosecondsPerMillisecond);
        do
        {
            result = RunTurn(ref record);
            if (result == TurnResult.Waits)
            {
                _ = InternalCalls.Advance(record.Index);
            }

            if (result == TurnResult.Sleeps && KernelClock.Now > end)
            {
                record.Process->End(ProcessEnd.Watchdog, 0);
                result = TurnResult.Ended;
            }

            if (result == TurnResult.Ended)
            {
                if (!TryRestart(ref record))
                {
                    return;
                }

                end = KernelClock.Now + (record.Entry.Watchdog * NanosecondsPerMillisecond);
            }
        }
        while (result != TurnResult.Idle);

        record.IsStarted = true;
        ModuleTable.LogName(record.Index);
        Log.Text("serves protocol "u8);
        Log.Hex((ulong)record.Entry.Protocol);
        Log.Text(", "u8);
        Log.Decimal((ulong)(FrameAllocator.Used - frames));
        Log.End(" frames"u8);
    }

    /// <summary>Serves a call of the guest.</summary>
    /// <param name="request">The call; gets the registers of the answer.</param>
    /// <param name="context">The vCPU that calls.</param>
    /// <param name="module">Index of the module.</param>
    /// <returns>The result code.</returns>
    public static SvsmResultCode Handle(ref SvsmRequest request, in GuestContext context, int module)
    {
        ref ModuleRecord record = ref ModuleTable.Modules[module];
        ref PendingCall call = ref ModuleTable.Calls[context.Index];
        if (call.State != PendingState.None && !IsSame(in call, in request, in context, module))
        {
            Drop(ref ModuleTable.Modules[call.Module], context.Index);
        }

        record.Lock.Acquire(LockRank.Modules);
        if (call.State == PendingState.None)
        {
            if (record.IsRetired)
            {
                record.Lock.Release(LockRank.Modules);
                return SvsmResultCode.UnsupportedProtocol;
            }

            call = new PendingCall
            {
                State = PendingState.Queued,
                Module = module,
                Next = ModuleRecord.NoCall,
                Generation = context.Current.Generation,
                Request = request,
            };
            Append(ref record, context.Index);
        }

        record.Lock.Release(LockRank.Modules);
        Push(ref record, context.Index);
        SvsmResultCode result = SvsmResultCode.Incomplete;
        record.Lock.Acquire(LockRank.Modules);
        if (call.State == PendingState.Answered)
        {
            result = call.Result;
            request = call.Answer;
            call.State = PendingState.None;
        }

        record.Lock.Release(LockRank.Modules);
        return result;
    }

    private static bool IsSame(in PendingCall call, in SvsmRequest request, in GuestContext context, int module) =>
        call.Module == module && call.Generation == context.Current.Generation && call.Request.Selector == request.Selector &&
        call.Request.Rcx == request.Rcx && call.Request.Rdx == request.Rdx && call.Request.R8 == request.R8 && call.Request.R9 == request.R9;

    /// <summary>Has no module work for a vCPU any more, which has stopped: what the process of a module has is pushed on, what waits is forgotten, for it is asked again.</summary>
    /// <param name="vcpu">The vCPU.</param>
    /// <returns>None does. An answer may be there.</returns>
    public static bool TryFinish(int vcpu)
    {
        if (!ModuleTable.IsUsed)
        {
            return true;
        }

        ref PendingCall call = ref ModuleTable.Calls[vcpu];
        if (call.State == PendingState.None)
        {
            return true;
        }

        ref ModuleRecord record = ref ModuleTable.Modules[call.Module];
        record.Lock.Acquire(LockRank.Modules);
        PendingState state = call.State;
        record.Lock.Release(LockRank.Modules);
        if (state == PendingState.Queued)
        {
            Drop(ref record, vcpu);
        }
        else if (state == PendingState.Working)
        {
            Push(ref record, vcpu);
        }

        return call.State != PendingState.Working;
    }

    /// <summary>Forgets a call, which nobody asks for again.</summary>
    /// <param name="record">The module that has it.</param>
    /// <param name="vcpu">Number of the call: that of its vCPU, or one of <see cref="InternalCalls"/>.</param>
    public static void Drop(ref ModuleRecord record, int vcpu)
    {
        Span<PendingCall> calls = ModuleTable.Calls;
        record.Lock.Acquire(LockRank.Modules);
        if (calls[vcpu].State == PendingState.Working)
        {
            record.Current = ModuleRecord.DroppedCall;
        }
        else if (calls[vcpu].State == PendingState.Queued)
        {
            int previous = ModuleRecord.NoCall;
            for (int next = record.First; next != vcpu; next = calls[next].Next)
            {
                previous = next;
            }

            if (previous == ModuleRecord.NoCall)
            {
                record.First = calls[vcpu].Next;
            }
            else
            {
                calls[previous].Next = calls[vcpu].Next;
            }

            record.Last = record.Last == vcpu ? previous : record.Last;
        }

        calls[vcpu].State = PendingState.None;
        record.Lock.Release(LockRank.Modules);
    }

    /// <summary>Puts a call at the end of a module's queue. The lock of the record is held.</summary>
    /// <param name="record">The module.</param>
    /// <param name="vcpu">Number of the call.</param>
    public static void Append(ref ModuleRecord record, int vcpu)
    {
        if (record.First == ModuleRecord.NoCall)
        {
            record.First = vcpu;
        }
        else
        {
            ModuleTable.Calls[record.Last].Next = vcpu;
        }

        record.Last = vcpu;
    }

    /// <summary>Pushes a call on: runs the process for a turn, unless another CPU does, or there is an answer.</summary>
    /// <param name="record">The module that has the call.</param>
    /// <param name="vcpu">Number of the call. With its answer the turn ends.</param>
    public static void Push(ref ModuleRecord record, int vcpu)
    {
        record.Lock.Acquire(LockRank.Modules);
        bool runs = ModuleTable.Calls[vcpu].State != PendingState.Answered && !record.IsRunning && !record.IsRetired;
        record.IsRunning |= runs;
        record.Lock.Release(LockRank.Modules);
        if (runs)
        {
            Advance(ref record, vcpu);
        }
    }

    // Runs the process for a turn. IsRunning is set, for this CPU.
    private static void Advance(ref ModuleRecord record, int vcpu)
    {
        bool goesOn = true;
        while (goesOn)
        {
            if (!record.Process->HasRequest && !TryGive(ref record))
            {
                break;
            }

            switch (RunTurn(ref record))
            {
                case TurnResult.Answered:
                    goesOn = Complete(ref record) != vcpu;
                    break;
                case TurnResult.Idle:
                    // Without a request it is given the next one. With one, it wants another before it has answered.
                    if (record.Process->HasRequest)
                    {
                        record.Process->End(ProcessEnd.BadChannel, 0);
                        goesOn = TryRestart(ref record);
                    }

                    break;
                case TurnResult.Ended:
                    goesOn = TryRestart(ref record);
                    break;
                case TurnResult.Waits:
                    goesOn = InternalCalls.Advance(record.Index);
                    break;
                default:
                    goesOn = false;
                    break;
            }
        }

        record.Lock.Acquire(LockRank.Modules);
        record.IsRunning = false;
        record.Lock.Release(LockRank.Modules);
    }

    // Gives the first call of the queue to the process, which has none.
    private static bool TryGive(ref ModuleRecord record)
    {
        record.Lock.Acquire(LockRank.Modules);
        int vcpu = record.First;
        if (vcpu == ModuleRecord.NoCall)
        {
            record.Lock.Release(LockRank.Modules);
            return false;
        }

        ref PendingCall call = ref ModuleTable.Calls[vcpu];
        record.First = call.Next;
        record.Current = vcpu;
        call.State = PendingState.Working;
        SvsmRequest request = call.Request;
        record.Lock.Release(LockRank.Modules);

        record.Ticks = 0;
        if (InternalCalls.IsInternal(vcpu))
        {
            InternalCalls.Give(ref record, vcpu, (uint)request.Rcx);
            return true;
        }

        if (vcpu == InternalCalls.WorkCall)
        {
            ModuleMessage work = new() { Kind = ModuleMessageKind.Work, Sequence = ++record.Sequence };
            record.Process->Give(in work);
            return true;
        }

        ModuleMessage message = new()
        {
            Kind = ModuleMessageKind.Call,
            Sequence = ++record.Sequence,
            Vcpu = (uint)vcpu,
            Call = request.Call,
            Rcx = request.Rcx,
            Rdx = request.Rdx,
            R8 = request.R8,
            R9 = request.R9,
        };
        record.Process->Give(in message);
        return true;
    }

    // Returns the vCPU whose call it was.
    private static int Complete(ref ModuleRecord record)
    {
        ref ModuleMessage answer = ref record.Process->Answer;
        record.Lock.Acquire(LockRank.Modules);
        int vcpu = record.Current;
        record.Current = ModuleRecord.NoCall;
        if (vcpu >= 0)
        {
            ref PendingCall call = ref ModuleTable.Calls[vcpu];
            call.Result = (SvsmResultCode)answer.Result;
            call.Answer = call.Request;
            call.Answer.Rcx = answer.Rcx;
            call.Answer.Rdx = answer.Rdx;
            call.Answer.R8 = answer.R8;
            call.Answer.R9 = answer.R9;
            call.AnswerCall = answer.Call;
            if (InternalCalls.IsInternal(vcpu))
            {
                InternalCalls.Complete(ref record, vcpu, (int)answer.PayloadSize);
            }

            call.State = PendingState.Answered;
        }

        record.Lock.Release(LockRank.Modules);
        FreePayload(ref record);
        return vcpu;
    }

    private static void FailCurrent(ref ModuleRecord record)
    {
        record.Lock.Acquire(LockRank.Modules);
        if (record.Current >= 0)
        {
            Fail(ref ModuleTable.Calls[record.Current], SvsmResultCode.InvalidRequest);
        }

        record.Current = ModuleRecord.NoCall;
        record.Lock.Release(LockRank.Modules);
    }

    private static void FreePayload(ref ModuleRecord record)
    {
        InternalCalls.Free(record.Payload, record.PayloadLength);
        InternalCalls.Free(record.RequestPayload, record.RequestLength);
        record.Payload = 0;
        record.RequestPayload = 0;
    }

    // Fails a call with a result code; its registers stay as they were.
    private static void Fail(ref PendingCall call, SvsmResultCode result)
    {
        call.Result = result;
        call.Answer = call.Request;
        call.State = PendingState.Answered;
    }

    // The process is over. Returns whether there is another one.
    private static bool TryRestart(ref ModuleRecord record)
    {
        Report(in record);
        FailCurrent(ref record);
        InternalCalls.End(record.Index);
        Unload(ref record);
        FreePayload(ref record);
        while (GuestGate.State != MoveState.Held && record.Entry.OnFailure == ModuleFailurePolicy.Restart && record.Restarts < record.Entry.RestartLimit)
        {
            record.Restarts++;
            if (TryLoad(ref record))
            {
                return true;
            }
        }

        Retire(ref record);
        return false;
    }

    private static void Retire(ref ModuleRecord record)
    {
        Unload(ref record);
        ProtocolTable.Retire(record.Entry.Protocol);
        record.Lock.Acquire(LockRank.Modules);
        record.IsRetired = true;
        for (int next = record.First; next != ModuleRecord.NoCall; next = ModuleTable.Calls[next].Next)
        {
            Fail(ref ModuleTable.Calls[next], SvsmResultCode.UnsupportedProtocol);
        }

        record.First = ModuleRecord.NoCall;
        record.Lock.Release(LockRank.Modules);
        ModuleTable.LogName(record.Index);
        Log.End("retired"u8, LogLevel.Error);
    }

    /// <summary>Ends the processes of all other modules, for good: the guest that they served is gone. No vCPU calls any more.</summary>
    /// <param name="module">Index of the one that stays.</param>
    /// <returns>False: one works still; to be asked again.</returns>
    public static bool TryEndOthers(int module)
    {
        Span<ModuleRecord> modules = ModuleTable.Modules;
        bool isDone = true;
        for (int i = 0; i < modules.Length; i++)
        {
            ref ModuleRecord record = ref modules[i];
            record.Lock.Acquire(LockRank.Modules);
            bool ends = i != module && !record.IsRetired && !record.IsRunning;
            isDone = isDone && (ends || i == module || record.IsRetired);
            record.IsRunning |= ends;
            record.Lock.Release(LockRank.Modules);
            if (ends)
            {
                InternalCalls.End(i);
                Retire(ref record);
                FreePayload(ref record);
            }
        }

        return isDone;
    }

    private static bool TryLoad(ref ModuleRecord record)
    {
        if (KernelPages.Allocate(ProcessPages, out KernelPages pages) != MemoryError.None)
        {
            ReportLoad(in record, LoadError.OutOfMemory, ElfError.None);
            return false;
        }

        // SAFETY: pages of zeroes, which this record owns from here on: registers in the first one, the process in the others.
        ulong address = pages.Release();
        record.Process = (Process*)(address + Page.Size);
        record.Process->Context = (UserContext*)address;
        record.Ticks = 0;
        ArchiveReader archive = ArchiveReader.OfChecked(ModuleTable.Archive);
        ProcessPlatform platform = default;
        LoadError error = record.Process->TryLoad(ref platform, in archive, ModuleTable.ArchiveBase, record.Index, AddressSpace.EncryptionMask, out ElfError program);
        if (error == LoadError.None)
        {
            return true;
        }

        ReportLoad(in record, error, program);
        Unload(ref record);
        return false;
    }

    private static void Unload(ref ModuleRecord record)
    {
        if (record.Process != null)
        {
            ProcessPlatform platform = default;
            record.Process->Unload(ref platform);
            KernelPages pages = KernelPages.Adopt((ulong)record.Process->Context, ProcessPages);
            record.Process = null;

            // Registers of the process may have been secrets of it.
            pages.Bytes.Clear();
            pages.Dispose();
        }
    }

    // Runs the process until it needs somebody else, or its turn is over.
    private static TurnResult RunTurn(ref ModuleRecord record)
    {
        ref PerCpu cpu = ref PerCpu.Current;
        ref Process process = ref *record.Process;
        ProcessPlatform platform = default;
        if (process.Deadline != 0)
        {
            if (platform.Now < process.Deadline)
            {
                return TurnResult.Sleeps;
            }

            process.Deadline = 0;
            process.Context->Rax = (ulong)process.DeadlineResult;
        }

        CpuLocks.Hold();
        cpu.RanProcess = true;
        CpuTimer.Tick(on: true);
        ProcessTables.Load(ref process.Memory);
        TurnResult? result = null;
        while (result == null)
        {
            Host.LeaveToProcess();
            UserContext.Enter(process.Context);
            result = Serve(ref process, ref platform);
            if (System.Threading.Volatile.Read(ref cpu.Turn.HasEvents) && Doorbell.Attend())
            {
                result = result ?? TurnResult.TurnOver;
                if (result != TurnResult.Ended && record.Ticks++ >= record.Entry.Watchdog)
                {
                    process.End(ProcessEnd.Watchdog, 0);
                    result = TurnResult.Ended;
                }
            }
        }

        ProcessTables.Unload();
        CpuLocks.Release();
        return result.Value;
    }

    // Does what the process left for. Null: it goes on at once.
    private static TurnResult? Serve(ref Process process, ref ProcessPlatform platform)
    {
        switch (process.Context->Vector)
        {
            case UserContext.SystemCall:
                return SystemCalls.Handle(ref process, ref platform) switch
                {
                    CallResult.Done => null,
                    CallResult.Answered => TurnResult.Answered,
                    CallResult.NoRequest => TurnResult.Idle,
                    CallResult.Sleeps => TurnResult.Sleeps,
                    CallResult.Waits => TurnResult.Waits,
                    _ => TurnResult.Ended,
                };
            case Vector.Hypervisor:
                return null;
            case Vector.Nmi or Vector.MachineCheck or Vector.DoubleFault:
                Panic.Stop(TerminationReason.UnexpectedException, "NMI, machine check or double fault in a process"u8, process.Context->Vector);
                return TurnResult.Ended;
            default:
                return process.TryHandleException(ref platform) ? null : TurnResult.Ended;
        }
    }

    private static void Report(in ModuleRecord record)
    {
        ref Process process = ref *record.Process;
        ModuleTable.LogName(record.Index);
        switch (process.Reason)
        {
            case ProcessEnd.Exited:
                Log.Text("exited with status "u8);
                Log.Decimal(process.ExitStatus);
                break;
            case ProcessEnd.Fault:
                Log.Text("signal "u8);
                Log.Decimal(process.ExitStatus);
                Log.Text(" at "u8);
                Log.Hex(process.Context->Rip);
                Log.Text(", address "u8);
                Log.Hex(process.Context->FaultAddress);
                break;
            case ProcessEnd.Aborted:
                // Mostly for want of memory: the runtime does not say so.
                Log.Text("aborted"u8);
                ReportMemory(in process);
                break;
            case ProcessEnd.OutOfMemory:
                Log.Text("out of memory"u8);
                ReportMemory(in process);
                break;
            case ProcessEnd.BadChannel:
                Log.Text("wrote what is no answer, or read on without one"u8);
                break;
            case ProcessEnd.Deadlock:
                Log.Text("waits for another thread, which a module does not have"u8);
                break;
            case ProcessEnd.TimeOfDay:
                Log.Text("asked for the time of day, which a module does not have"u8);
                break;
            default:
                Log.Text("took more than "u8);
                Log.Decimal(record.Entry.Watchdog);
                Log.Text(" ms for a request"u8);
                break;
        }

        Log.End(default, LogLevel.Warning);
    }

    private static void ReportMemory(in Process process)
    {
        Log.Text(", "u8);
        Log.Decimal(process.Memory.PageCount);
        Log.Text(" frames in use and "u8);
        Log.Decimal(process.Memory.Regions.WritablePages);
        Log.Text(" reserved of "u8);
        Log.Decimal(process.Memory.PageLimit);
    }

    private static void ReportLoad(in ModuleRecord record, LoadError error, ElfError program)
    {
        ModuleTable.LogName(record.Index);
        switch (error)
        {
            case LoadError.BadProgram:
                Log.Text("its file is no program, rule "u8);
                Log.Decimal((ulong)program);
                Log.End(default, LogLevel.Error);
                break;
            case LoadError.NoRandomNumbers:
                Log.End("the processor has no random numbers"u8, LogLevel.Error);
                break;
            default:
                Log.End("no memory to start it with"u8, LogLevel.Error);
                break;
        }
    }
}
