// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// What the module that moves the guest reads and writes at descriptor 11 (Wire/MoveChannel.cs has what is where, and in which order). Called for the
// process of that module, which one CPU runs at a time. The other end of a migration is an SVSM that this module trusts; all the same nothing that it sends makes
// a page of the SVSM one of the guest, or a vCPU one with other rights: what is not as the image of this VM would have it is refused.

using System;
using System.Numerics;
using System.Runtime.InteropServices;
using System.Threading;
using Svsm.Kernel.Arch;
using Svsm.Kernel.Diagnostics;
using Svsm.Kernel.Locks;
using Svsm.Kernel.Memory;
using Svsm.Kernel.Modules;
using Svsm.Kernel.Protocols;
using Svsm.Kernel.Snp;
using Svsm.Platform;
using Svsm.Wire;

namespace Svsm.Kernel.Guest;

/// <summary>Moves the guest.</summary>
internal static unsafe class GuestMove
{
    // Pages of bits that are asked for: 128 GiB of guest memory.
    private const int MaxBitPages = 1024;
    private const int BitsPerByte = 8;

    private static Vmpl s_guest;
    private static SevFeatures s_features;
    private static bool s_isShared;
    private static MoveVcpu s_next;

    /// <summary>Makes the list of the guest's memory. While booting.</summary>
    /// <param name="configuration">The measured configuration.</param>
    /// <param name="isShared">Memory that was not launched has to be made private first.</param>
    public static void Initialize(in ImageConfiguration configuration, bool isShared)
    {
        s_isShared = isShared;
        s_guest = configuration.GuestVmpl;
        s_features = GuestHandover.FeaturesFor(configuration.SevFeatures);
        ReadOnlySpan<PageRange> ram = KernelMemory.GuestRanges;
        for (int i = 0; i < ram.Length; i++)
        {
            DirtyPages.Add(ram[i]);
        }

        ReadOnlySpan<GuestRange> launched = ((ReadOnlySpan<GuestRange>)configuration.Ranges).Slice(0, (int)configuration.GuestRangeCount);
        for (int i = 0; i < launched.Length; i++)
        {
            if (launched[i].Kind == GuestRangeKind.Rom)
            {
                DirtyPages.Add(new PageRange(launched[i].Base >> Page.Shift, launched[i].Length >> Page.Shift));
            }
        }
    }

    /// <summary>Reads a part of what is at an offset.</summary>
    /// <param name="area">What.</param>
    /// <param name="where">Where.</param>
    /// <param name="bytes">Gets it: at most a page.</param>
    /// <param name="count">How many bytes there are.</param>
    public static MoveResult Read(MoveArea area, ulong where, Span<byte> bytes, out int count)
    {
        count = bytes.Length;
        switch (area)
        {
            case MoveArea.Information when where == 0:
                MoveInformation information = Describe();
                count = CopyTo(MemoryMarshal.AsBytes(new ReadOnlySpan<MoveInformation>(in information)), bytes);
                return MoveResult.Done;
            case MoveArea.Ranges when where == 0:
                count = ReadRanges(MemoryMarshal.Cast<byte, MoveRange>(bytes)) * MoveRange.Length;
                return MoveResult.Done;
            case MoveArea.Dirty when DirtyPages.IsTracking:
                ReadDirty(where, bytes);
                return MoveResult.Done;
            case MoveArea.States:
                ReadStates(where, bytes);
                return MoveResult.Done;
            case MoveArea.Pages when where % Page.Size == 0 && bytes.Length == Page.Size:
                return CopyPage(where, bytes, isWrite: false);
            case MoveArea.Vcpus when GuestGate.State == MoveState.Stopped:
                return ReadVcpu(where, bytes, out count);
            case MoveArea.Modules when where == 0:
                count = ReadModules(MemoryMarshal.Cast<byte, MoveModule>(bytes)) * MoveModule.Length;
                return MoveResult.Done;
            default:
                return MoveResult.Invalid;
        }
    }

    /// <summary>Writes a part of what is at an offset.</summary>
    /// <param name="area">What.</param>
    /// <param name="where">Where.</param>
    /// <param name="bytes">The bytes: at most a page.</param>
    /// <param name="asking">Index of the module that writes.</param>
    public static MoveResult Write(MoveArea area, ulong where, ReadOnlySpan<byte> bytes, int asking)
    {
        switch (area)
        {
            case MoveArea.Control when where == 0 && bytes.Length == sizeof(uint):
                return Control(MemoryMarshal.Read<MoveControl>(bytes), asking);
            case MoveArea.Take when where == 0 && bytes.Length % sizeof(ulong) == 0:
                Take(MemoryMarshal.Cast<byte, ulong>(bytes));
                return MoveResult.Done;
            case MoveArea.States when GuestGate.State == MoveState.Held:
                return WriteStates(where, bytes);
            case MoveArea.Pages when GuestGate.State == MoveState.Held && where % Page.Size == 0 && bytes.Length == Page.Size:
                // Reading and writing are one piece of code: the bytes are not changed.
                return CopyPage(where, MemoryMarshal.CreateSpan(ref MemoryMarshal.GetReference(bytes), bytes.Length), isWrite: true);
            case MoveArea.Vcpus when GuestGate.State == MoveState.Held:
                return WriteVcpu(where, bytes);
            default:
                return MoveResult.Invalid;
        }
    }

    private static MoveInformation Describe() => new()
    {
        Vcpus = (uint)GuestVcpus.All.Length,
        EncryptionBit = (uint)BitOperations.TrailingZeroCount(AddressSpace.EncryptionMask),
        Features = (ulong)s_features,
        TimeStampCounter = X64.ReadTimeStampCounter(),
    };

    private static int ReadRanges(Span<MoveRange> to)
    {
        ReadOnlySpan<PageRange> ranges = DirtyPages.Ranges;
        int count = Math.Min(ranges.Length, to.Length);
        for (int i = 0; i < count; i++)
        {
            to[i] = new MoveRange { Address = ranges[i].First << Page.Shift, Bytes = ranges[i].Count << Page.Shift };
        }

        return count;
    }

    // The one that keeps the store is the last: when it has let go of the store, nobody asks it for anything.
    private static int ReadModules(Span<MoveModule> to)
    {
        int count = 0;
        AddModules(to, ref count, ModulePermissions.None);
        AddModules(to, ref count, ModulePermissions.KeepStore);
        return count;
    }

    private static void AddModules(Span<MoveModule> to, ref int count, ModulePermissions wanted)
    {
        const ModulePermissions Mask = ModulePermissions.Migrate | ModulePermissions.KeepStore;
        Span<ModuleRecord> modules = ModuleTable.Modules;
        for (int i = 0; i < modules.Length && count < to.Length; i++)
        {
            if ((modules[i].Entry.Permissions & Mask) == wanted)
            {
                to[count++] = new MoveModule { Protocol = modules[i].Entry.Protocol, Index = (uint)i, Runs = modules[i].IsRetired ? 0u : 1u };
            }
        }
    }

    private static void ReadDirty(ulong firstByte, Span<byte> bits)
    {
        for (int i = 0; i < bits.Length; i++)
        {
            byte eight = 0;
            for (int bit = 0; bit < BitsPerByte; bit++)
            {
                eight |= DirtyPages.IsDirty(((firstByte + (ulong)i) * BitsPerByte) + (ulong)bit) ? (byte)(1 << bit) : (byte)0;
            }

            bits[i] = eight;
        }
    }

    private static void ReadStates(ulong first, Span<byte> states)
    {
        PageStateTable table = KernelMemory.PageStates;
        for (int i = 0; i < states.Length; i++)
        {
            states[i] = (byte)StateOf(table, first + (ulong)i);
        }
    }

    private static MovePageState StateOf(in PageStateTable table, ulong page)
    {
        if (!DirtyPages.Contains(page))
        {
            return MovePageState.None;
        }

        return table.Get(page) switch
        {
            PageState.Unvalidated => MovePageState.NotValidated,
            PageState.Svsm => MovePageState.Deposited,
            PageState.Lost or PageState.Changing => MovePageState.Lost,
            PageState.Vmsa when OldVmsas.Contains(page, GuestVcpus.All, table) => MovePageState.Vmsa,

            // Absent is ROM. The VMSA of a vCPU becomes one with it.
            _ => MovePageState.Private,
        };
    }

    // A VMSA is the guest's page, too, but not one to copy: its contents go with its vCPU. Only one that no vCPU has is read as a page, when the guest is stopped:
    // then nobody changes it, and stopping has marked it.
    private static MoveResult CopyPage(ulong address, Span<byte> bytes, bool isWrite)
    {
        PhysicalAddress page = new(address);
        PageStateTable table = KernelMemory.PageStates;
        bool isRom = table.Get(page.PageNumber) == PageState.Absent;
        bool isOldVmsa = !isWrite && GuestGate.State == MoveState.Stopped && OldVmsas.Contains(page.PageNumber, GuestVcpus.All, table);
        bool isPinned = !isRom && !isOldVmsa;
        if (!DirtyPages.Contains(page.PageNumber) || (isPinned && table.Pin(page.PageNumber) != PageResult.Success))
        {
            return MoveResult.Fault;
        }

        SnpPlatform platform = default;
        GuestWindow window = platform.Map(page);
        bool isCopied = isWrite ? window.TryWrite(0, bytes) : window.TryRead(0, bytes);
        platform.Unmap(window);
        if (isPinned)
        {
            table.Unpin(page.PageNumber);
        }

        return isCopied ? MoveResult.Done : MoveResult.Fault;
    }

    private static void Take(ReadOnlySpan<ulong> pages)
    {
        SnpPlatform platform = default;
        PageStateTable table = KernelMemory.PageStates;
        for (int i = 0; i < pages.Length; i++)
        {
            DirtyPages.Take(table, ref platform, pages[i], s_guest);
        }

        platform.FlushGuestTranslations();
    }

    private static MoveResult Control(MoveControl control, int asking)
    {
        switch (control)
        {
            case MoveControl.Track:
                return Track();
            case MoveControl.Stop when GuestGate.State is MoveState.Running or MoveState.Stopped:
                return TryStop() ? MoveResult.Done : MoveResult.Again;
            case MoveControl.Run:
                DirtyPages.Pace(false);
                return GuestGate.TryRun(GuestVcpus.All) ? MoveResult.Done : MoveResult.Invalid;
            case MoveControl.Pace:
                DirtyPages.Pace(true);
                return MoveResult.Done;
            case MoveControl.GiveUp:
                return GiveUp(asking);
            case MoveControl.End when GuestGate.State == MoveState.Held:
                Panic.Stop(TerminationReason.NoGuestCame, "no guest has come from another machine"u8);
                return MoveResult.Invalid;
            case MoveControl.Hold:
                return Hold();
            default:
                return MoveResult.Invalid;
        }
    }

    // The boot vCPU of this image's guest, which has not run, is none from here on: what comes brings its own.
    private static MoveResult Hold()
    {
        if (!GuestGate.TryHold())
        {
            return MoveResult.Invalid;
        }

        ref GuestVcpu vcpu = ref GuestVcpus.All[0];
        vcpu.Lock.Acquire(LockRank.GuestVcpu);
        PageResult released = vcpu.Exists ? GuestPages.ReleaseCallingArea(KernelMemory.PageStates, vcpu.CallingArea) : PageResult.Success;
        vcpu.Exists = vcpu.Exists && released != PageResult.Success;
        vcpu.Lock.Release(LockRank.GuestVcpu);
        return released == PageResult.Success ? MoveResult.Done : MoveResult.Again;
    }

    private static MoveResult Track()
    {
        if (!PerCpu.Current.HasDoorbell)
        {
            // Nobody could get a CPU out of the guest.
            return MoveResult.NotOffered;
        }

        if (DirtyPages.IsTracking)
        {
            DirtyPages.Pace(false);
            DirtyPages.MarkAll();
            return MoveResult.Done;
        }

        ulong count = (DirtyPages.BytesOfBits + Page.Size - 1) / Page.Size;
        if (count > MaxBitPages || KernelPages.Allocate((int)count, out KernelPages pages) != MemoryError.None)
        {
            return MoveResult.NoMemory;
        }

        // Kept for the next time. SAFETY: as many bytes as were asked for, mapped for good.
        DirtyPages.Begin((void*)pages.Release());
        return MoveResult.Done;
    }

    private static bool TryStop()
    {
        SnpPlatform platform = default;
        return GuestGate.TryStop(GuestVcpus.All) && OldVmsas.TryClose(FirstVcpu.Frame, s_guest, GuestVcpus.All, KernelMemory.PageStates, ref platform);
    }

    // In this order: when the modules end, no vCPU can ask them any more.
    private static MoveResult GiveUp(int asking)
    {
        if (GuestGate.State == MoveState.Gone)
        {
            return ModuleService.TryEndOthers(asking) ? MoveResult.Done : MoveResult.Again;
        }

        if (GuestGate.State != MoveState.Stopped)
        {
            return MoveResult.Invalid;
        }

        if (!TryStop())
        {
            return MoveResult.Again;
        }

        GuestGate.GiveUp();
        Span<GuestVcpu> vcpus = GuestVcpus.All;
        SnpPlatform platform = default;
        Span<byte> zeroes = stackalloc byte[Page.Size];
        zeroes.Clear();
        for (int i = 0; i < vcpus.Length; i++)
        {
            ref GuestVcpu vcpu = ref vcpus[i];
            vcpu.Lock.Acquire(LockRank.GuestVcpu);
            if (vcpu.Exists)
            {
                // Without EFER.SVME no processor runs it, whatever the host does; without its registers nobody knows where it was.
                GuestWindow window = platform.Map(vcpu.Vmsa);
                _ = window.TryWrite(0, zeroes);
                platform.Unmap(window);
                vcpu.Exists = false;
            }

            vcpu.Lock.Release(LockRank.GuestVcpu);
        }

        Log.End("svsm: the guest was given up: it runs on another machine, or nowhere"u8);
        return ModuleService.TryEndOthers(asking) ? MoveResult.Done : MoveResult.Again;
    }

    private static MoveResult ReadVcpu(ulong where, Span<byte> bytes, out int count)
    {
        count = 0;
        Span<GuestVcpu> vcpus = GuestVcpus.All;
        ulong number = where / MoveVcpu.Stride;
        if (number >= (ulong)vcpus.Length)
        {
            return MoveResult.Invalid;
        }

        ref GuestVcpu vcpu = ref vcpus[(int)number];
        vcpu.Lock.Acquire(LockRank.GuestVcpu);
        MoveResult result = !vcpu.IsQuiet ? MoveResult.Again : MoveResult.Invalid;
        if (vcpu.IsQuiet && where % MoveVcpu.Stride == 0)
        {
            MoveVcpu head = HeadOf(in vcpu, (int)number);
            count = CopyTo(MemoryMarshal.AsBytes(new ReadOnlySpan<MoveVcpu>(in head)), bytes);
            result = MoveResult.Done;
        }
        else if (vcpu.IsQuiet && vcpu.Exists && where % MoveVcpu.Stride == MoveVcpu.VmsaOffset && bytes.Length == Page.Size)
        {
            SnpPlatform platform = default;
            GuestWindow window = platform.Map(vcpu.Vmsa);
            result = window.TryRead(0, bytes) ? MoveResult.Done : MoveResult.Fault;
            platform.Unmap(window);
            count = bytes.Length;
        }

        vcpu.Lock.Release(LockRank.GuestVcpu);
        return result;
    }

    private static MoveVcpu HeadOf(in GuestVcpu vcpu, int number)
    {
        MoveVcpu head = new()
        {
            Number = (uint)number,
            State = vcpu.Exists ? MoveVcpuState.Runs : MoveVcpuState.Waits,
            TimeStampCounter = X64.ReadTimeStampCounter(),
        };
        if (vcpu.Exists)
        {
            head.CallingArea = vcpu.CallingArea.Value;
            head.Vmsa = vcpu.IsFirst ? 0 : vcpu.Vmsa.Value;
            ref PendingCall call = ref ModuleTable.Calls[number];
            if (call.State == PendingState.Answered && call.Generation == vcpu.Generation)
            {
                head.Call = new MoveCall
                {
                    IsThere = 1,
                    Selector = call.Request.Selector,
                    Rcx = call.Request.Rcx,
                    Rdx = call.Request.Rdx,
                    R8 = call.Request.R8,
                    R9 = call.Request.R9,
                    Result = (ulong)call.Result,
                    AnswerRcx = call.Answer.Rcx,
                    AnswerRdx = call.Answer.Rdx,
                    AnswerR8 = call.Answer.R8,
                    AnswerR9 = call.Answer.R9,
                };
            }
        }

        return head;
    }

    private static MoveResult WriteStates(ulong first, ReadOnlySpan<byte> states)
    {
        PageStateTable table = KernelMemory.PageStates;
        SnpPlatform platform = default;
        MoveResult result = MoveResult.Done;
        MakePrivate(first, states);
        int done = 0;
        for (; done < states.Length && result == MoveResult.Done; done++)
        {
            result = BeginState(table, ref platform, first + (ulong)done, (MovePageState)states[done]);
        }

        // The guest of this image has never run: no processor remembers a translation of it that would have to be dropped.
        for (int i = 0; i < done; i++)
        {
            PhysicalAddress page = PhysicalAddress.OfPage(first + (ulong)i);
            if (table.Get(page.PageNumber) == PageState.Changing)
            {
                result = EndState(table, ref platform, page, (MovePageState)states[i]) ? result : MoveResult.Fault;
            }
        }

        return result;
    }

    // The host acts on a request whatever the page is: it is asked for pages alone that are to be validated.
    private static void MakePrivate(ulong first, ReadOnlySpan<byte> states)
    {
        PageStateTable table = KernelMemory.PageStates;
        ulong start = first;
        for (ulong page = first; s_isShared && page <= first + (ulong)states.Length; page++)
        {
            bool isOne = page < first + (ulong)states.Length && states[(int)(page - first)] is ((byte)MovePageState.Private or (byte)MovePageState.Deposited) &&
                StateOf(table, page) == MovePageState.NotValidated;
            if (isOne)
            {
                continue;
            }

            if (page > start)
            {
                Host.MakePrivate(PhysicalAddress.OfPage(start), page - start);
            }

            start = page + 1;
        }
    }

    private static MoveResult BeginState(in PageStateTable table, ref SnpPlatform platform, ulong number, MovePageState wanted)
    {
        PhysicalAddress page = PhysicalAddress.OfPage(number);
        MovePageState state = StateOf(table, number);
        if (state == wanted)
        {
            return MoveResult.Done;
        }

        // The contents of a VMSA come before it becomes one.
        bool isPossible = wanted switch
        {
            MovePageState.Vmsa => state == MovePageState.Private,
            MovePageState.Private or MovePageState.NotValidated or MovePageState.Deposited or MovePageState.Lost =>
                state is MovePageState.Private or MovePageState.NotValidated,
            _ => false,
        };
        if (!isPossible)
        {
            return MoveResult.Invalid;
        }

        // ROM, calling areas and VMSAs of vCPUs that have come cannot change: the transitions refuse them.
        PageResult changed = PageResult.Success;
        if (state == MovePageState.NotValidated && wanted != MovePageState.Lost)
        {
            changed = GuestPages.Validate(table, ref platform, page, PageSize.Small, s_guest);
        }

        if (changed == PageResult.Success && wanted != MovePageState.Private)
        {
            changed = wanted == MovePageState.Deposited ? GuestPages.Take(table, ref platform, page, s_guest, PageState.Svsm)
                : wanted == MovePageState.Vmsa ? GuestPages.Take(table, ref platform, page, s_guest, PageState.Vmsa)
                : state == MovePageState.Private ? GuestPages.Rescind(table, ref platform, page, PageSize.Small, s_guest)
                : table.Begin(page, PageSize.Small, PageState.Unvalidated, PageState.Lost);
        }

        if (changed == PageResult.HostViolation)
        {
            Panic.Stop(TerminationReason.PageStateViolation, "a page of the guest is not in the state that the SVSM gave it"u8, page.Value);
        }

        return changed == PageResult.Success ? MoveResult.Done : MoveResult.Fault;
    }

    private static bool EndState(in PageStateTable table, ref SnpPlatform platform, PhysicalAddress page, MovePageState wanted)
    {
        if (wanted == MovePageState.Vmsa)
        {
            return OldVmsas.TryMake(page, s_guest, table, ref platform);
        }

        if (wanted != MovePageState.Deposited)
        {
            table.End(page, PageSize.Small, wanted == MovePageState.Lost ? PageState.Lost : PageState.Unvalidated);
            return true;
        }

        platform.Open(page, PageSize.Small);
        bool isZero = platform.TryZero();
        platform.Close();
        table.End(page, PageSize.Small, isZero ? PageState.Svsm : PageState.Lost);
        return isZero && platform.TryAddSpareFrame(page);
    }

    private static MoveResult WriteVcpu(ulong where, ReadOnlySpan<byte> bytes)
    {
        Span<GuestVcpu> vcpus = GuestVcpus.All;
        ulong number = where / MoveVcpu.Stride;
        if (number >= (ulong)vcpus.Length)
        {
            return MoveResult.Invalid;
        }

        if (where % MoveVcpu.Stride == 0 && bytes.Length == MoveVcpu.Length)
        {
            s_next = MemoryMarshal.Read<MoveVcpu>(bytes);
            bool isGood = s_next.Number == number && s_next.State is MoveVcpuState.Waits or MoveVcpuState.Runs && !vcpus[(int)number].Exists;
            return isGood ? MoveResult.Done : MoveResult.Invalid;
        }

        return where % MoveVcpu.Stride == MoveVcpu.VmsaOffset && bytes.Length == Page.Size && s_next.Number == number && s_next.State == MoveVcpuState.Runs
            ? PutVcpu((int)number, bytes)
            : MoveResult.Invalid;
    }

    private static MoveResult PutVcpu(int number, ReadOnlySpan<byte> contents)
    {
        SvsmRequest request = new()
        {
            Selector = s_next.Call.Selector, Rcx = s_next.Call.Rcx, Rdx = s_next.Call.Rdx, R8 = s_next.Call.R8, R9 = s_next.Call.R9,
        };
        int module = 0;
        SnpPlatform platform = default;
        GuestContext context = new(GuestVcpus.All, number, s_guest);
        if ((s_next.Call.IsThere != 0 && !ProtocolTable.TryFindModule(request.Protocol, out module)) ||
            !VcpuCalls.TryRestore(in s_next, contents, FirstVcpu.Frame, s_features, in context, KernelMemory.PageStates, ref platform))
        {
            return MoveResult.Invalid;
        }

        ref GuestVcpu vcpu = ref context.Current;
        if (s_next.Call.IsThere != 0)
        {
            PutCall(ref ModuleTable.Calls[number], in request, module, vcpu.Generation);
        }

        // The host knows the first one's VMSA.
        return vcpu.IsFirst || Host.TryCreateVcpu((uint)number, s_guest, vcpu.Vmsa, s_features) ? MoveResult.Done : MoveResult.Fault;
    }

    // An answer of a module that the vCPU has not taken yet: it gets it when it asks again.
    private static void PutCall(ref PendingCall call, in SvsmRequest request, int module, ulong generation)
    {
        call = new PendingCall
        {
            State = PendingState.Answered,
            Module = module,
            Next = ModuleRecord.NoCall,
            Generation = generation,
            Request = request,
            Answer = request,
            Result = (SvsmResultCode)s_next.Call.Result,
        };
        call.Answer.Rcx = s_next.Call.AnswerRcx;
        call.Answer.Rdx = s_next.Call.AnswerRdx;
        call.Answer.R8 = s_next.Call.AnswerR8;
        call.Answer.R9 = s_next.Call.AnswerR9;
    }

    private static int CopyTo(ReadOnlySpan<byte> from, Span<byte> to)
    {
        int count = Math.Min(from.Length, to.Length);
        from.Slice(0, count).CopyTo(to);
        return count;
    }
}
