// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The modules of the image: which there are, and their start. Who serves what is in Protocols/ProtocolTable.cs, how a call becomes an answer in
// ModuleService.cs.

using System;
using Svsm.Kernel.Arch;
using Svsm.Kernel.Diagnostics;
using Svsm.Kernel.Memory;
using Svsm.Kernel.Processes;
using Svsm.Kernel.Protocols;
using Svsm.Kernel.Snp;
using Svsm.Wire;

namespace Svsm.Kernel.Modules;

/// <summary>The modules of the image.</summary>
internal static unsafe class ModuleTable
{
    private static OwnedArray<ModuleRecord, KernelHeap> s_modules;
    private static OwnedArray<PendingCall, KernelHeap> s_calls;
    private static ulong s_archiveBase;
    private static ulong s_archiveLength;
    private static GuestMessages s_messages;

    /// <summary>There are modules, so CPUs run processes.</summary>
    public static bool IsUsed => s_archiveLength != 0;

    /// <summary>The archive; empty without modules.</summary>
    // SAFETY: the builder maps it there, read-only, for as long as the VM exists.
    public static ReadOnlySpan<byte> Archive => new((void*)KernelAddressSpace.Archive, (int)s_archiveLength);

    /// <summary>The archive, a guest-physical address.</summary>
    public static ulong ArchiveBase => s_archiveBase;

    /// <summary>The records, one for each module of the archive.</summary>
    public static Span<ModuleRecord> Modules => s_modules.Items;

    /// <summary>The calls of the guest, one for each vCPU; behind them those of modules: <see cref="InternalCalls"/>, and that of <see cref="MoveTask"/>.</summary>
    public static Span<PendingCall> Calls => s_calls.Items;

    /// <summary>Messages to the security processor.</summary>
    public static ref GuestMessages Messages => ref s_messages;

    /// <summary>Reads the archive, and starts all modules; ends the VM if the archive is not one of this kernel's, or memory is lacking.</summary>
    /// <param name="configuration">The measured configuration.</param>
    /// <param name="cpuCount">Number of CPUs.</param>
    public static void Start(in ImageConfiguration configuration, int cpuCount)
    {
        if (configuration.ArchiveLength == 0)
        {
            return;
        }

        bool fits =
            configuration.ArchiveLength <= KernelAddressSpace.ArchiveMaxLength && configuration.ArchiveBase >= configuration.RegionBase &&
            configuration.ArchiveBase <= configuration.HeapBase && configuration.ArchiveLength <= configuration.HeapBase - configuration.ArchiveBase;
        s_archiveBase = configuration.ArchiveBase;
        s_archiveLength = fits ? configuration.ArchiveLength : 0;
        if (!fits || !ArchiveReader.TryOpen(Archive, out ArchiveReader archive))
        {
            Panic.Stop(TerminationReason.Configuration, "the archive of modules is not one of this kernel's"u8);
            return;
        }

        if (OwnedArray<ModuleRecord, KernelHeap>.Create(archive.ModuleCount, out s_modules) != MemoryError.None ||
            OwnedArray<PendingCall, KernelHeap>.Create(cpuCount + archive.ModuleCount + 1, out s_calls) != MemoryError.None ||
            InternalCalls.Create(cpuCount, archive.ModuleCount) != MemoryError.None)
        {
            Panic.Stop(TerminationReason.OutOfMemory, "no memory for what there is once per module"u8);
        }

        PrepareDevices(in archive);
        KernelClock.Measure();
        UserContext.PrepareCpu();
        for (int i = 0; i < archive.ModuleCount; i++)
        {
            ref ModuleRecord record = ref Modules[i];
            record.Entry = archive.Module(i);
            record.Index = i;
            record.Current = ModuleRecord.NoCall;
            record.First = ModuleRecord.NoCall;
        }

        // Who is asked is started before those who ask.
        StartThose(ModulePermissions.Attest, ModulePermissions.Attest);
        StartThose(ModulePermissions.KeepStore, ModulePermissions.KeepStore);
        StartThose(ModulePermissions.Attest | ModulePermissions.KeepStore | ModulePermissions.Migrate, ModulePermissions.None);
        StartThose(ModulePermissions.Migrate, ModulePermissions.Migrate);
    }

    // Starts the modules that have some permissions and not others. The one that keeps the store serves no guest, nor does the one that moves it.
    private static void StartThose(ModulePermissions mask, ModulePermissions wanted)
    {
        for (int i = 0; i < Modules.Length; i++)
        {
            ref ModuleRecord record = ref Modules[i];
            if ((record.Entry.Permissions & mask) == wanted)
            {
                if ((record.Entry.Permissions & (ModulePermissions.KeepStore | ModulePermissions.Migrate)) == 0)
                {
                    ProtocolTable.Add(record.Entry.Protocol, record.Entry.MinVersion, record.Entry.MaxVersion, i);
                }

                ModuleService.Start(ref record);
                if ((record.Entry.Permissions & ModulePermissions.Migrate) != 0 && !record.IsRetired && MoveTask.Start(i) != MemoryError.None)
                {
                    Panic.Stop(TerminationReason.OutOfMemory, "no memory for the task that moves the guest"u8);
                }
            }
        }
    }

    // What is shared with the host for a module. Without one that attests there are no messages, and nobody needs the key.
    private static void PrepareDevices(in ArchiveReader archive)
    {
        // SAFETY: the builder maps the secrets page there, writable.
        Bytes32* key = &((SecretsPage*)KernelAddressSpace.Secrets)->Vmpck0;
        ModulePermissions given = ModulePermissions.None;
        for (int i = 0; i < archive.ModuleCount; i++)
        {
            given |= archive.Module(i).Permissions;
        }

        if (((given & ModulePermissions.KeepStore) != 0 && SvsmDevices.Initialize(ModulePermissions.KeepStore) != MemoryError.None) ||
            ((given & ModulePermissions.Migrate) != 0 && SvsmDevices.Initialize(ModulePermissions.Migrate) != MemoryError.None))
        {
            Panic.Stop(TerminationReason.OutOfMemory, "no memory for the SVSM's devices"u8);
        }

        if ((given & ModulePermissions.Attest) == 0)
        {
            ((Span<byte>)(*key)).Clear();
            return;
        }

        if (KernelPages.Allocate(GuestMessages.MemoryLength / Page.Size, out KernelPages memory) != MemoryError.None || GuestRequests.Initialize() != MemoryError.None)
        {
            Panic.Stop(TerminationReason.OutOfMemory, "no memory for messages to the security processor"u8);
        }

        // SAFETY: kept for good, as the messages are.
        s_messages = new GuestMessages((byte*)memory.Release(), key);
    }

    /// <summary>Begins a line of the log with the name of a module.</summary>
    public static void LogName(int module)
    {
        ArchiveReader archive = ArchiveReader.OfChecked(Archive);
        Log.Text(archive.NameOf(archive.Module(module)));
        Log.Text(": "u8);
    }
}
