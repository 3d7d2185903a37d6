// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Requests of modules to each other: manifests, for the one that attests; the store, for those that have a part of it; keys, for the one that keeps the
// store. A module has at most one at a time. Its system call begins anew until the answer is there, and in between the other module works: the request is
// a call like those of the guest, in the same queue, that no vCPU has made.
//
//   AskManifest   puts a request for a manifest into the other module's queue, and says how far it is
//   TryBegin      gives room for a request with contents; Send puts it into the queue
//   Await         says how far it is
//   Advance       has the other module work on it, for a turn, on the CPU of whoever runs the one that asks
//   End           forgets it, and frees the answer
//
// Nobody waits in a circle: the store asks for keys, modules with a part of it ask the store, and the one that attests asks for manifests, which need
// neither (Wire/ModuleArchive.cs has who may be what). Request and answer lie in pages that belong to the call until the other module has it, to that
// module while it works, and to the call again when there is an answer: whoever of the two fails, the other one's pages are still there.

using System;
using Svsm.Kernel.Locks;
using Svsm.Kernel.Memory;
using Svsm.Kernel.Processes;
using Svsm.Kernel.Protocols;
using Svsm.Wire;

namespace Svsm.Kernel.Modules;

/// <summary>A request of a module to another one. One for each module.</summary>
internal struct InternalCall
{
    /// <summary>What it wants.</summary>
    public ModuleMessageKind Kind;

    /// <summary>Address of the pages of the request; 0: it has no contents, or the other module has them.</summary>
    public ulong Request;

    /// <summary>Bytes of the request.</summary>
    public int RequestLength;

    /// <summary>Address of the pages of the answer; 0: there is none.</summary>
    public ulong Answer;

    /// <summary>Bytes of the answer.</summary>
    public int AnswerLength;

    /// <summary>Call, RCX and RDX of a request of the module that moves the guest.</summary>
    public MoveRequest Move;
}

/// <summary>Requests of modules to each other.</summary>
internal static unsafe class InternalCalls
{
    // SAFETY (whole class): pages of requests and answers are mapped from KernelPages.Allocate to Free.

    private static OwnedArray<InternalCall, KernelHeap> s_calls;
    private static int s_first;
    private static int s_count;

    /// <summary>Makes room for the calls. While booting.</summary>
    /// <param name="cpuCount">Number of CPUs: the calls of modules are behind theirs.</param>
    /// <param name="moduleCount">Number of modules.</param>
    public static MemoryError Create(int cpuCount, int moduleCount)
    {
        s_first = cpuCount;
        s_count = moduleCount;
        return OwnedArray<InternalCall, KernelHeap>.Create(moduleCount, out s_calls);
    }

    /// <summary>Whether a call is one of a module, and not of a vCPU.</summary>
    public static bool IsInternal(int call) => call >= s_first && call < s_first + s_count;

    /// <summary>The call that has the module which moves the guest work: <see cref="MoveTask"/>.</summary>
    public static int WorkCall => s_first + s_count;

    /// <summary>Lists the services whose modules run.</summary>
    /// <param name="asking">Index of the module that asks, which is not listed.</param>
    /// <param name="entries">Gets them.</param>
    /// <returns>How many there are.</returns>
    public static int ListServices(int asking, Span<ServiceEntry> entries)
    {
        int count = 0;
        Span<ModuleRecord> modules = ModuleTable.Modules;
        for (int i = 0; i < modules.Length && count < entries.Length; i++)
        {
            ref ModuleRecord record = ref modules[i];
            if (i != asking && IsServing(in record) && ArchiveReader.HasService(in record.Entry))
            {
                entries[count++] = new ServiceEntry { Service = record.Entry.Service, Index = (uint)i, Protocol = record.Entry.Protocol };
            }
        }

        return count;
    }

    /// <summary>Asks for a manifest: see <see cref="IProcessPlatform.AskManifest"/>.</summary>
    public static InternalState AskManifest(int asking, uint module, uint version, out ReadOnlySpan<byte> manifest)
    {
        manifest = default;
        ref PendingCall call = ref ModuleTable.Calls[s_first + asking];
        if (call.State != PendingState.None && (s_calls.Items[asking].Kind != ModuleMessageKind.Manifest || (uint)call.Module != module || call.Request.Rcx != version))
        {
            End(asking);
        }

        if (call.State == PendingState.None)
        {
            if (module >= (uint)ModuleTable.Modules.Length || module == (uint)asking || !ArchiveReader.HasService(in ModuleTable.Modules[(int)module].Entry))
            {
                return InternalState.NotFound;
            }

            s_calls.Items[asking] = new InternalCall { Kind = ModuleMessageKind.Manifest };
            if (!TryQueue(asking, (int)module, version))
            {
                return InternalState.NotFound;
            }
        }

        return Await(asking, ModuleMessageKind.Manifest, out manifest);
    }

    /// <summary>Gives room for a request: see <see cref="IProcessPlatform.TryBeginRequest"/>.</summary>
    public static bool TryBegin(int asking, ModuleMessageKind kind, int length, out Span<byte> room)
    {
        room = default;
        End(asking);
        if (KernelPages.Allocate(PagesOf(length), out KernelPages pages) != MemoryError.None)
        {
            return false;
        }

        s_calls.Items[asking] = new InternalCall { Kind = kind, Request = pages.Release(), RequestLength = length };
        room = new Span<byte>((void*)s_calls.Items[asking].Request, length);
        return true;
    }

    /// <summary>Sends the request that <see cref="TryBegin"/> gave room for.</summary>
    /// <returns>Pending: it is sent. NotFound: the image has nobody to answer it. Failed: that module does not run.</returns>
    public static InternalState Send(int asking)
    {
        ModulePermissions wanted = s_calls.Items[asking].Kind == ModuleMessageKind.Key ? ModulePermissions.Attest : ModulePermissions.KeepStore;
        Span<ModuleRecord> modules = ModuleTable.Modules;
        for (int i = 0; i < modules.Length; i++)
        {
            // At most one module has it, and not the one that asks.
            if ((modules[i].Entry.Permissions & wanted) != 0)
            {
                return TryQueue(asking, i, 0) ? InternalState.Pending : InternalState.Failed;
            }
        }

        return InternalState.NotFound;
    }

    /// <summary>Sends it to one module: for the one that moves the guest.</summary>
    /// <param name="asking">Index of the module that asks.</param>
    /// <param name="module">Index of the other one. Untrusted.</param>
    /// <param name="request">Fields of the message.</param>
    /// <returns>As <see cref="Send"/>.</returns>
    public static InternalState SendTo(int asking, int module, in MoveRequest request)
    {
        if (module >= ModuleTable.Modules.Length || module == asking)
        {
            return InternalState.NotFound;
        }

        s_calls.Items[asking].Move = request;
        return TryQueue(asking, module, 0) ? InternalState.Pending : InternalState.Failed;
    }

    /// <summary>Fields of an answer that is ready.</summary>
    public static MoveRequest FieldsOf(int asking)
    {
        ref PendingCall call = ref ModuleTable.Calls[s_first + asking];
        return new MoveRequest { Call = call.AnswerCall, Result = (ulong)call.Result, Rcx = call.Answer.Rcx, Rdx = call.Answer.Rdx };
    }

    /// <summary>Says how far the request of a module is.</summary>
    /// <param name="asking">Index of the module.</param>
    /// <param name="kind">What it wanted.</param>
    /// <param name="answer">The answer, if it is ready; until <see cref="End"/>.</param>
    public static InternalState Await(int asking, ModuleMessageKind kind, out ReadOnlySpan<byte> answer)
    {
        answer = default;
        ref InternalCall mine = ref s_calls.Items[asking];
        ref PendingCall call = ref ModuleTable.Calls[s_first + asking];
        if (call.State == PendingState.None || mine.Kind != kind)
        {
            return InternalState.NotFound;
        }

        ref ModuleRecord record = ref ModuleTable.Modules[call.Module];
        record.Lock.Acquire(LockRank.Modules);
        PendingState state = call.State;
        SvsmResultCode result = call.Result;
        record.Lock.Release(LockRank.Modules);
        if (state != PendingState.Answered)
        {
            return InternalState.Pending;
        }

        answer = new ReadOnlySpan<byte>((void*)mine.Answer, mine.AnswerLength);
        return result switch
        {
            SvsmResultCode.Success => InternalState.Ready,
            SvsmResultCode.InvalidRequest => InternalState.Failed,
            _ => kind == ModuleMessageKind.Manifest ? InternalState.NotFound
                : MoveRequest.Precedes(kind) ? InternalState.Ready
                : InternalState.Failed,
        };
    }

    /// <summary>Has the module that was asked work.</summary>
    /// <param name="asking">Index of the module that waits.</param>
    /// <returns>The one that asks can go on.</returns>
    public static bool Advance(int asking)
    {
        ref PendingCall call = ref ModuleTable.Calls[s_first + asking];
        if (call.State == PendingState.None)
        {
            return true;
        }

        ref ModuleRecord record = ref ModuleTable.Modules[call.Module];
        ModuleService.Push(ref record, s_first + asking);
        record.Lock.Acquire(LockRank.Modules);
        bool isAnswered = call.State == PendingState.Answered;
        record.Lock.Release(LockRank.Modules);
        return isAnswered;
    }

    /// <summary>Forgets the request of a module, and the answer.</summary>
    public static void End(int asking)
    {
        ref PendingCall call = ref ModuleTable.Calls[s_first + asking];
        if (call.State != PendingState.None)
        {
            ModuleService.Drop(ref ModuleTable.Modules[call.Module], s_first + asking);
        }

        ref InternalCall mine = ref s_calls.Items[asking];
        Free(mine.Request, mine.RequestLength);
        Free(mine.Answer, mine.AnswerLength);
        mine = default;
    }

    /// <summary>Gives a call to the process of the module that was asked. The call is taken from the queue; no lock is held.</summary>
    /// <param name="record">The module that was asked.</param>
    /// <param name="number">Number of the call.</param>
    /// <param name="version">Version of the manifest, if it is one that is wanted.</param>
    public static void Give(ref ModuleRecord record, int number, uint version)
    {
        // From here on the request is the other module's, whatever becomes of the one that asks. Unless that is gone already.
        int asking = number - s_first;
        InternalCall call = default;
        record.Lock.Acquire(LockRank.Modules);
        bool isWanted = record.Current == number;
        if (isWanted)
        {
            call = s_calls.Items[asking];
            s_calls.Items[asking].Request = 0;
        }
        else
        {
            record.Current = ModuleRecord.NoCall;
        }

        record.Lock.Release(LockRank.Modules);
        if (!isWanted)
        {
            return;
        }

        record.RequestPayload = call.Request;
        record.RequestLength = call.RequestLength;
        ModuleMessage message = new()
        {
            Kind = call.Kind,
            PayloadSize = (uint)call.RequestLength,
            Sequence = ++record.Sequence,
            Call = version,
            Rcx = (ulong)ModuleTable.Modules[asking].Entry.Protocol,
            Rdx = ModuleTable.Modules[asking].Entry.StoreQuota,
        };
        if (MoveRequest.Precedes(call.Kind))
        {
            message.Call = call.Move.Call;
            message.Rcx = call.Move.Rcx;
            message.Rdx = call.Move.Rdx;
        }

        record.Process->Give(in message, (byte*)call.Request, ModuleMessage.MaxPayload);
    }

    /// <summary>Gives room for what follows the answer of a module: see <see cref="IProcessPlatform.TryBeginAnswer"/>.</summary>
    public static bool TryBeginAnswer(int module, int length, out byte* room)
    {
        ref ModuleRecord record = ref ModuleTable.Modules[module];
        room = null;
        if (KernelPages.Allocate(PagesOf(length), out KernelPages pages) != MemoryError.None)
        {
            return false;
        }

        record.Payload = pages.Release();
        record.PayloadLength = length;
        room = (byte*)record.Payload;
        return true;
    }

    /// <summary>Takes an answer. The lock of the module that has answered is held.</summary>
    /// <param name="record">That module.</param>
    /// <param name="number">Number of the call.</param>
    /// <param name="length">Bytes of the answer.</param>
    public static void Complete(ref ModuleRecord record, int number, int length)
    {
        ref InternalCall call = ref s_calls.Items[number - s_first];
        call.Answer = record.Payload;
        call.AnswerLength = length;
        record.Payload = 0;
    }

    /// <summary>Frees pages of a request or an answer; they may have had secrets in them.</summary>
    /// <param name="address">Their address; 0: there are none.</param>
    /// <param name="length">Bytes that they were allocated for.</param>
    public static void Free(ulong address, int length)
    {
        if (address != 0)
        {
            KernelPages pages = KernelPages.Adopt(address, PagesOf(length));
            pages.Bytes.Slice(0, length).Clear();
            pages.Dispose();
        }
    }

    private static int PagesOf(int length) => length <= Page.Size ? 1 : (length + Page.Size - 1) / Page.Size;

    private static bool TryQueue(int asking, int server, uint version)
    {
        ref ModuleRecord record = ref ModuleTable.Modules[server];
        record.Lock.Acquire(LockRank.Modules);
        bool isServing = IsServing(in record);
        if (isServing)
        {
            ModuleTable.Calls[s_first + asking] = new PendingCall
            {
                State = PendingState.Queued,
                Module = server,
                Next = ModuleRecord.NoCall,
                Request = new SvsmRequest { Rcx = version },
            };
            ModuleService.Append(ref record, s_first + asking);
        }

        record.Lock.Release(LockRank.Modules);
        return isServing;
    }

    private static bool IsServing(in ModuleRecord record) => record.IsStarted && !record.IsRetired;
}
