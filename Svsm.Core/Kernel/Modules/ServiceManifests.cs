// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Manifests of modules, for the one that attests. Its system call begins anew until the manifest is there, and in between the other module works:
// the wish is a call like those of the guest, in the same queue, that no vCPU has made. There is one at a time.
//
//   Ask       puts the wish into the other module's queue, and says how far it is
//   Advance   has the other module work on it, for a turn, on the CPU of whoever runs the one that attests
//   End       forgets it, and frees the manifest

using System;
using Svsm.Kernel.Locks;
using Svsm.Kernel.Memory;
using Svsm.Kernel.Processes;
using Svsm.Kernel.Protocols;
using Svsm.Wire;

namespace Svsm.Kernel.Modules;

/// <summary>The wish for a manifest.</summary>
internal static class ServiceManifests
{
    /// <summary>Pages that a manifest may need.</summary>
    public const int Pages = ModuleMessage.MaxPayload / Page.Size;

    private static ulong s_manifest;
    private static int s_length;

    /// <summary>Number of the wish among the calls: behind those of all vCPUs.</summary>
    public static int Call => ModuleTable.Calls.Length - 1;

    /// <summary>Lists the services whose modules run.</summary>
    /// <param name="asking">Index of the module that asks, which is not listed.</param>
    /// <param name="entries">Gets them.</param>
    /// <returns>How many there are.</returns>
    public static int List(int asking, Span<ServiceEntry> entries)
    {
        int count = 0;
        Span<ModuleRecord> modules = ModuleTable.Modules;
        for (int i = 0; i < modules.Length && count < entries.Length; i++)
        {
            ref ModuleRecord record = ref modules[i];
            if (i != asking && IsServing(in record))
            {
                entries[count++] = new ServiceEntry { Service = record.Entry.Service, Index = (uint)i, Protocol = record.Entry.Protocol };
            }
        }

        return count;
    }

    /// <summary>Asks for a manifest: see <see cref="IProcessPlatform.AskManifest"/>.</summary>
    public static ManifestState Ask(int asking, uint module, uint version, out ReadOnlySpan<byte> manifest)
    {
        manifest = default;
        ref PendingCall call = ref ModuleTable.Calls[Call];
        if (call.State != PendingState.None && ((uint)call.Module != module || call.Request.Rcx != version))
        {
            End();
        }

        if (module >= (uint)ModuleTable.Modules.Length || module == (uint)asking || !IsServing(in ModuleTable.Modules[(int)module]))
        {
            End();
            return ManifestState.NotFound;
        }

        ref ModuleRecord record = ref ModuleTable.Modules[(int)module];
        record.Lock.Acquire(LockRank.Modules);
        if (call.State == PendingState.None && !record.IsRetired)
        {
            call = new PendingCall { State = PendingState.Queued, Module = (int)module, Next = ModuleRecord.NoCall, Request = new SvsmRequest { Rcx = version } };
            ModuleService.Append(ref record, Call);
        }

        PendingState state = call.State;
        SvsmResultCode result = call.Result;
        record.Lock.Release(LockRank.Modules);
        if (state != PendingState.Answered)
        {
            return state == PendingState.None ? ManifestState.NotFound : ManifestState.Pending;
        }

        // SAFETY: the pages exist until End.
        unsafe
        {
            manifest = new ReadOnlySpan<byte>((void*)s_manifest, s_length);
        }

        return result switch
        {
            SvsmResultCode.Success => ManifestState.Ready,
            SvsmResultCode.InvalidRequest => ManifestState.Failed,
            _ => ManifestState.NotFound,
        };
    }

    /// <summary>Has the module that was asked work.</summary>
    /// <returns>The one that asks can go on.</returns>
    public static bool Advance()
    {
        ref PendingCall call = ref ModuleTable.Calls[Call];
        if (call.State == PendingState.None)
        {
            return true;
        }

        ref ModuleRecord record = ref ModuleTable.Modules[call.Module];
        record.Lock.Acquire(LockRank.Modules);
        bool runs = call.State != PendingState.Answered && !record.IsRunning && !record.IsRetired;
        record.IsRunning |= runs;
        record.Lock.Release(LockRank.Modules);
        if (runs)
        {
            ModuleService.Advance(ref record, Call);
        }

        record.Lock.Acquire(LockRank.Modules);
        bool isAnswered = call.State == PendingState.Answered;
        record.Lock.Release(LockRank.Modules);
        return isAnswered;
    }

    /// <summary>Takes the manifest. The lock of the module that answered is held.</summary>
    /// <param name="pages">Address of <see cref="Pages"/> pages: whose this becomes.</param>
    /// <param name="length">Bytes of it.</param>
    public static void Complete(ulong pages, int length)
    {
        s_manifest = pages;
        s_length = length;
    }

    /// <summary>Forgets the wish, and the manifest.</summary>
    public static void End()
    {
        ref PendingCall call = ref ModuleTable.Calls[Call];
        if (call.State != PendingState.None)
        {
            ModuleService.Drop(ref ModuleTable.Modules[call.Module], Call);
        }

        Free(s_manifest);
        Complete(0, 0);
    }

    /// <summary>Frees pages that were for a manifest.</summary>
    /// <param name="pages">Their address; 0: there are none.</param>
    public static void Free(ulong pages)
    {
        if (pages != 0)
        {
            KernelPages.Adopt(pages, Pages).Dispose();
        }
    }

    private static bool IsServing(in ModuleRecord record) => record.IsStarted && !record.IsRetired && ArchiveReader.HasService(in record.Entry);
}
