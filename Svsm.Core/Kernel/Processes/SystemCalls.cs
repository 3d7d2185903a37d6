// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The system calls of a process: numbers and meaning are those of Linux on x86-64, as far as a static .NET program needs them, so that the very
// program runs on Linux too. docs/modules.md has the list with what differs. Every other number is ENOSYS, and counted.
//
// One thread: the runtime makes a second one for finalizers, which never runs; a third one is refused. So nobody ever wakes a thread that waits
// without a time: such a process is over at once (Deadlock), it does not hang. A time of day does not exist here, since nobody trustworthy knows it:
// a process that asks for it is over too, rather than told 1970.
//
// Every address and length is the process's choice: memory is reached through ProcessMemory alone, numbers are checked before they are used. What is
// copied goes through a buffer on the stack of the kernel, piece by piece.

using System;
using System.Runtime.InteropServices;
using Svsm.Kernel.Guest;
using Svsm.Kernel.Memory;
using Svsm.Kernel.Modules;
using Svsm.Wire;

namespace Svsm.Kernel.Processes;

/// <summary>What happens after a system call.</summary>
internal enum CallResult : byte
{
    /// <summary>The process goes on; RAX is set.</summary>
    Done,

    /// <summary>As that, and the answer to its request is complete.</summary>
    Answered,

    /// <summary>The call is to be made again when there is a request.</summary>
    NoRequest,

    /// <summary>The process goes on when its time has come.</summary>
    Sleeps,

    /// <summary>The call is to be made again when another module has worked.</summary>
    Waits,

    /// <summary>The process is over.</summary>
    Ended,
}

/// <summary>Serves system calls.</summary>
internal static unsafe class SystemCalls
{
    // SAFETY (whole class): the registers lie in a page that exists as long as the process does.

    /// <summary>Bytes that are copied at a time.</summary>
    private const int PieceLength = 2048;

    // The longest line of ModuleLog, its level and its end.
    private const int MaxLine = 244;
    private const int MaxLogText = 0x1000;
    private const int MaxTransfer = ModuleDescriptor.MaxTransfer;
    private const int MaxRandom = 0x1000;
    private const ulong ThreadId = 1;
    private const ulong FinalizerThreadId = 2;
    private const ulong NanosecondsPerSecond = 1_000_000_000;
    private const ulong SyscallLength = 2;

    // AT_EMPTY_PATH: of the open file.
    private const ulong EmptyPath = 0x1000;

    /// <summary>Serves the call that a process has made.</summary>
    /// <param name="process">The process; its registers are those of the call.</param>
    /// <param name="platform">The machine.</param>
    public static CallResult Handle<TPlatform>(ref Process process, ref TPlatform platform)
        where TPlatform : IProcessPlatform
    {
        ref UserContext registers = ref *process.Context;
        ulong first = registers.Rdi;
        ulong second = registers.Rsi;
        ulong third = registers.Rdx;
        long result;
        switch ((SystemCall)registers.Rax)
        {
            case SystemCall.Read:
                if ((uint)first == ModuleDescriptor.Requests)
                {
                    return ReadRequest(ref process, ref platform, second, third);
                }

                result = ReadOpenFile(ref process, ref platform, (uint)first, second, third, PositionOfFile);
                break;
            case SystemCall.Write:
                return Write(ref process, ref platform, (uint)first, second, third);
            case SystemCall.PRead or SystemCall.PWrite when (uint)first is >= ModuleDescriptor.SecurityProcessor and < FirstFile:
                return UseGiven(ref process, ref platform, (uint)first, second, third, registers.R10, (SystemCall)registers.Rax == SystemCall.PWrite);
            case SystemCall.PRead:
                result = (uint)first == ModuleDescriptor.GuestMemory
                    ? CopyGuest(ref process, ref platform, second, third, registers.R10, isWrite: false)
                    : (long)registers.R10 < 0 ? Errno.Invalid
                    : ReadOpenFile(ref process, ref platform, (uint)first, second, third, registers.R10);
                break;
            case SystemCall.PWrite:
                result = (uint)first == ModuleDescriptor.GuestMemory ? CopyGuest(ref process, ref platform, second, third, registers.R10, isWrite: true) : Errno.BadDescriptor;
                break;
            case SystemCall.OpenAt:
                result = OpenFile(ref process, ref platform, second, third);
                break;
            case SystemCall.Close:
                result = Close(ref process, (uint)first);
                break;
            case SystemCall.Seek:
                result = Seek(ref process, ref platform, (uint)first, second, third);
                break;
            case SystemCall.StatPath or SystemCall.StatLink:
                // There are no links.
                result = StatPath(ref process, ref platform, first, second);
                break;
            case SystemCall.StatFile:
                result = StatFile(ref process, ref platform, (uint)first, second);
                break;
            case SystemCall.StatAt:
                result = (registers.R10 & EmptyPath) != 0 ? StatFile(ref process, ref platform, (uint)first, third) : StatPath(ref process, ref platform, second, third);
                break;
            case SystemCall.MMap:
                result = Map(ref process, second, third, registers.R10);
                break;
            case SystemCall.MProtect:
                result = Protect(ref process, ref platform, first, second, third);
                break;
            case SystemCall.MUnmap:
                result = TryRound(first, ref second) ? ErrnoOf(process.Memory.Unmap(ref platform, first, second), Errno.Invalid) : Errno.Invalid;
                break;
            case SystemCall.MAdvise:
                result = Advise(ref process, ref platform, first, second, third);
                break;
            case SystemCall.SignalAction:
                result = SetAction(ref process, ref platform, first, second, third, registers.R10);
                break;
            case SystemCall.SignalReturn:
                return process.TryReturnFromSignal(ref platform) ? CallResult.Done : CallResult.Ended;
            case SystemCall.SignalMask or SystemCall.SchedulerYield:
                result = 0;
                break;
            case SystemCall.GetProcessId or SystemCall.GetThreadId or SystemCall.SetThreadIdAddress:
                result = (long)ThreadId;
                break;
            case SystemCall.Clone:
                result = Clone(ref process, ref platform, first, third);
                break;
            case SystemCall.Exit or SystemCall.ExitGroup:
                process.End(ProcessEnd.Exited, (byte)first);
                return CallResult.Ended;
            case SystemCall.ThreadKill:
                process.End(ProcessEnd.Aborted, (uint)third);
                return CallResult.Ended;
            case SystemCall.ArchPrctl:
                result = SetThreadPointer(ref process, first, second);
                break;
            case SystemCall.Futex:
                return WaitFutex(ref process, ref platform);
            case SystemCall.GetAffinity:
                result = GetAffinity(ref process, ref platform, second, third);
                break;
            case SystemCall.GetTime:
                return GetTime(ref process, ref platform, first, second);
            case SystemCall.Sleep:
                return Sleep(ref process, ref platform, first, second, third);
            case SystemCall.Limit:
                result = GetLimit(ref process, ref platform, second, registers.R10);
                break;
            case SystemCall.GetRandom:
                result = GetRandom(ref process, ref platform, first, second);
                break;
            case SystemCall.MemoryBarrier:
                // One thread: there is nobody to be ordered with.
                result = first == 0 ? PrivateExpedited : 0;
                break;
            default:
                process.UnknownCalls++;
                result = Errno.NoCall;
                break;
        }

        return Return(ref process, result);
    }

    // A failure that nobody could act on has ended the process.
    private static CallResult Return(ref Process process, long result)
    {
        process.Context->Rax = (ulong)result;
        return process.Reason == ProcessEnd.None ? CallResult.Done : CallResult.Ended;
    }

    private static CallResult ReadRequest<TPlatform>(ref Process process, ref TPlatform platform, ulong buffer, ulong length)
        where TPlatform : IProcessPlatform
    {
        if (process.RequestOffset >= process.WholeRequest && length != 0)
        {
            return Again(ref process, CallResult.NoRequest);
        }

        // The head, then what follows it.
        ReadOnlySpan<byte> bytes = process.RequestOffset < ModuleMessage.Length
            ? MemoryMarshal.AsBytes(new ReadOnlySpan<ModuleMessage>(in process.Request)).Slice(process.RequestOffset)
            : new ReadOnlySpan<byte>(process.RequestPayload, (int)process.Request.PayloadSize).Slice(process.RequestOffset - ModuleMessage.Length);
        int count = (int)Math.Min(length, (ulong)bytes.Length);
        bytes = bytes.Slice(0, count);
        long result = CopyOut(ref process, ref platform, buffer, bytes);
        if (result == 0)
        {
            process.RequestOffset += count;
            result = count;
        }

        return Return(ref process, result);
    }

    private static CallResult Write<TPlatform>(ref Process process, ref TPlatform platform, uint descriptor, ulong buffer, ulong length)
        where TPlatform : IProcessPlatform
    {
        switch (descriptor)
        {
            case ModuleDescriptor.Console or ModuleDescriptor.Log:
                return Return(ref process, WriteLog(ref process, ref platform, buffer, length));
            case ModuleDescriptor.Answers:
                return WriteAnswer(ref process, ref platform, buffer, length);
            default:
                return Return(ref process, Errno.BadDescriptor);
        }
    }

    private static CallResult WriteAnswer<TPlatform>(ref Process process, ref TPlatform platform, ulong buffer, ulong length)
        where TPlatform : IProcessPlatform
    {
        if (!process.HasRequest || process.RequestOffset != process.WholeRequest)
        {
            process.End(ProcessEnd.BadChannel, 0);
            return CallResult.Ended;
        }

        // The head, as far as it is in this write; then what follows it.
        int head = (int)Math.Min(length, (ulong)(ModuleMessage.Length - process.AnswerOffset));
        Span<byte> bytes = MemoryMarshal.AsBytes(new Span<ModuleMessage>(ref process.Answer)).Slice(process.AnswerOffset, head);
        long result = CopyIn(ref process, ref platform, buffer, bytes);
        if (result != 0)
        {
            return Return(ref process, result);
        }

        process.AnswerOffset += head;
        ref ModuleMessage answer = ref process.Answer;
        bool hasHead = process.AnswerOffset == ModuleMessage.Length;
        ulong rest = length - (ulong)head;
        if (hasHead && (answer.Kind != process.Request.Kind || answer.Sequence != process.Request.Sequence || answer.PayloadSize > (uint)process.PayloadRoom ||
            rest > answer.PayloadSize - (uint)process.PayloadOffset))
        {
            process.End(ProcessEnd.BadChannel, 0);
            return CallResult.Ended;
        }

        // Room of the size that the head says. Without memory for it the answer is dropped, and the request has failed; the module has done nothing wrong.
        if (hasHead && answer.PayloadSize != 0 && process.Payload == null && !process.DropsPayload)
        {
            process.DropsPayload = !platform.TryBeginAnswer(process.Module, (int)answer.PayloadSize, out process.Payload);
        }

        // SAFETY: the offset and the rest together are not above the bytes that there is room for; nothing is copied where there is none.
        result = rest == 0 || process.DropsPayload ? 0 : CopyIn(ref process, ref platform, buffer + (ulong)head, new Span<byte>(process.Payload + process.PayloadOffset, (int)rest));
        if (result != 0)
        {
            // The head is taken: it is not written again.
            return Return(ref process, head != 0 ? head : result);
        }

        process.PayloadOffset += (int)rest;
        process.Context->Rax = length;
        if (!hasHead || (uint)process.PayloadOffset != answer.PayloadSize)
        {
            return CallResult.Done;
        }

        if (process.DropsPayload)
        {
            answer.Result = (ulong)SvsmResultCode.InvalidRequest;
            answer.PayloadSize = 0;
        }

        process.HasRequest = false;
        return CallResult.Answered;
    }

    // Descriptors that come with a permission: the security processor, other modules, devices, the guest to be moved.
    private static CallResult UseGiven<TPlatform>(
        ref Process process, ref TPlatform platform, uint descriptor, ulong buffer, ulong length, ulong offset, bool isWrite)
        where TPlatform : IProcessPlatform
    {
        ModulePermissions wanted = descriptor switch
        {
            ModuleDescriptor.SecurityProcessor or ModuleDescriptor.Services => ModulePermissions.Attest,
            ModuleDescriptor.Store => ModulePermissions.Store,
            ModuleDescriptor.Move => ModulePermissions.Migrate,
            _ => ModulePermissions.KeepStore | ModulePermissions.Migrate,
        };
        if (descriptor == ModuleDescriptor.Services && isWrite)
        {
            return Return(ref process, Errno.BadDescriptor);
        }

        if ((process.Permissions & wanted) == 0)
        {
            return Return(ref process, Errno.NotPermitted);
        }

        ModuleMessageKind kind = descriptor == ModuleDescriptor.Keys ? ModuleMessageKind.Key : ModuleMessageKind.Store;
        switch (descriptor)
        {
            case ModuleDescriptor.SecurityProcessor:
                return Return(ref process, isWrite
                    ? WriteSecurityProcessor(ref process, ref platform, buffer, length, offset)
                    : ReadSecurityProcessor(ref process, ref platform, buffer, length, offset));
            case ModuleDescriptor.Services:
                return ReadServices(ref process, ref platform, buffer, length, offset);
            case ModuleDescriptor.Disks:
                return Return(ref process, AccessDevices(ref process, ref platform, buffer, length, offset, isWrite));
            case ModuleDescriptor.Move:
                return Move(ref process, ref platform, buffer, length, offset, isWrite);
            default:
                return isWrite
                    ? Return(ref process, SendRequest(ref process, ref platform, kind, buffer, length, offset))
                    : ReadAnswer(ref process, ref platform, kind, buffer, length, offset);
        }
    }

    private static long ReadSecurityProcessor<TPlatform>(ref Process process, ref TPlatform platform, ulong buffer, ulong length, ulong offset)
        where TPlatform : IProcessPlatform
    {
        ref GuestMessages messages = ref platform.Messages;
        messages.CopyState(out SecurityProcessorState state);
        Span<byte> bytes = offset switch
        {
            SecurityProcessorOffset.State => MemoryMarshal.AsBytes(new Span<SecurityProcessorState>(ref state)),
            SecurityProcessorOffset.Request => messages.Request,
            SecurityProcessorOffset.Response => messages.Response,
            SecurityProcessorOffset.Certificates => messages.Certificates,
            _ => default,
        };
        int count = (int)Math.Min(length, (ulong)bytes.Length);
        long result = CopyOut(ref process, ref platform, buffer, bytes.Slice(0, count));
        ((Span<byte>)state.Key).Clear();
        return result == 0 ? count : result;
    }

    private static long WriteSecurityProcessor<TPlatform>(ref Process process, ref TPlatform platform, ulong buffer, ulong length, ulong offset)
        where TPlatform : IProcessPlatform
    {
        ref GuestMessages messages = ref platform.Messages;
        if (offset == SecurityProcessorOffset.Wipe)
        {
            messages.Wipe();
            return (long)Math.Min(length, MaxTransfer);
        }

        if (offset is not (SecurityProcessorOffset.Request or SecurityProcessorOffset.ExtendedRequest) || length != Page.Size)
        {
            return Errno.Invalid;
        }

        Span<byte> request = stackalloc byte[Page.Size];
        long result = CopyIn(ref process, ref platform, buffer, request);
        if (result != 0)
        {
            return result;
        }

        return messages.Send(ref platform, request, offset == SecurityProcessorOffset.ExtendedRequest) switch
        {
            GuestMessageResult.Answered => Page.Size,
            GuestMessageResult.Busy => Errno.Again,
            GuestMessageResult.NotSent => Errno.Invalid,
            GuestMessageResult.NoKey => Errno.NoKey,
            _ => Errno.Input,
        };
    }

    private static CallResult ReadServices<TPlatform>(ref Process process, ref TPlatform platform, ulong buffer, ulong length, ulong offset)
        where TPlatform : IProcessPlatform
    {
        if (offset == (ulong)ServiceOffset.List)
        {
            Span<ServiceEntry> entries = stackalloc ServiceEntry[ArchiveHeader.MaxModules];
            entries.Clear();
            int found = platform.ListServices(process.Module, entries);
            ulong whole = Math.Min(length / ServiceEntry.Length, (ulong)found) * ServiceEntry.Length;
            long listed = CopyOut(ref process, ref platform, buffer, MemoryMarshal.AsBytes(entries).Slice(0, (int)whole));
            return Return(ref process, listed == 0 ? (long)whole : listed);
        }

        if (offset >> 32 >= ArchiveHeader.MaxModules)
        {
            return Return(ref process, Errno.NoFile);
        }

        InternalState state = platform.AskManifest(process.Module, (uint)(offset >> 32), (uint)offset, out ReadOnlySpan<byte> manifest);
        return TakeAnswer(ref process, ref platform, state, manifest, buffer, length, Errno.NoFile);
    }

    private static CallResult ReadAnswer<TPlatform>(ref Process process, ref TPlatform platform, ModuleMessageKind kind, ulong buffer, ulong length, ulong offset)
        where TPlatform : IProcessPlatform
    {
        if (offset != 0)
        {
            return Return(ref process, Errno.Invalid);
        }

        InternalState state = platform.AwaitAnswer(process.Module, kind, out ReadOnlySpan<byte> answer);
        return TakeAnswer(ref process, ref platform, state, answer, buffer, length, Errno.Invalid);
    }

    // Once there is an answer, or none will come, the request is over.
    private static CallResult TakeAnswer<TPlatform>(
        ref Process process, ref TPlatform platform, InternalState state, ReadOnlySpan<byte> answer, ulong buffer, ulong length, long notFound)
        where TPlatform : IProcessPlatform
    {
        long result = Errno.Input;
        switch (state)
        {
            case InternalState.Pending:
                return Again(ref process, CallResult.Waits);
            case InternalState.Ready when (ulong)answer.Length > length:
                result = Errno.Invalid;
                break;
            case InternalState.Ready:
                result = CopyOut(ref process, ref platform, buffer, answer);
                result = result == 0 ? answer.Length : result;
                break;
            case InternalState.NotFound:
                result = notFound;
                break;
            default:
                break;
        }

        platform.EndRequest(process.Module);
        return Return(ref process, result);
    }

    private static long SendRequest<TPlatform>(ref Process process, ref TPlatform platform, ModuleMessageKind kind, ulong buffer, ulong length, ulong offset)
        where TPlatform : IProcessPlatform
    {
        if (offset != 0 || length > ModuleMessage.MaxPayload)
        {
            return Errno.Invalid;
        }

        if (!platform.TryBeginRequest(process.Module, kind, (int)length, out Span<byte> room))
        {
            return Errno.NoMemory;
        }

        long result = CopyIn(ref process, ref platform, buffer, room);
        if (result == 0)
        {
            result = platform.SendRequest(process.Module) switch
            {
                InternalState.Pending => 0,
                InternalState.NotFound => Errno.NoFile,
                _ => Errno.Input,
            };
        }

        if (result != 0)
        {
            platform.EndRequest(process.Module);
            return result;
        }

        return (long)length;
    }

    private static CallResult Move<TPlatform>(ref Process process, ref TPlatform platform, ulong buffer, ulong length, ulong offset, bool isWrite)
        where TPlatform : IProcessPlatform
    {
        MoveArea area = (MoveArea)(offset >> MoveOffset.AreaShift);
        ulong where = offset & ((1ul << MoveOffset.AreaShift) - 1);
        if (area == MoveArea.ModuleRequest)
        {
            return isWrite
                ? Return(ref process, SendModuleRequest(ref process, ref platform, buffer, length, where))
                : ReadModuleAnswer(ref process, ref platform, buffer, length, where);
        }

        // A page at a time, from one copy.
        Span<byte> page = stackalloc byte[Page.Size];
        ulong done = 0;
        long result = length <= MaxTransfer && (length <= Page.Size || area == MoveArea.Pages) ? 0 : Errno.Invalid;
        while (result == 0 && done < length)
        {
            Span<byte> part = page.Slice(0, (int)Math.Min(length - done, Page.Size));
            result = isWrite ? CopyIn(ref process, ref platform, buffer + done, part) : 0;
            int count = part.Length;
            if (result == 0)
            {
                result = ErrorOf(isWrite ? platform.WriteMove(area, where + done, part, process.Module) : platform.ReadMove(area, where + done, part, out count));
            }

            if (result == 0 && !isWrite)
            {
                result = CopyOut(ref process, ref platform, buffer + done, part.Slice(0, count));
            }

            done += (ulong)count;
            if (count != part.Length)
            {
                break;
            }
        }

        page.Clear();
        return Return(ref process, result == 0 ? (long)done : result);
    }

    private static long ErrorOf(MoveResult result) => result switch
    {
        MoveResult.Done => 0,
        MoveResult.Again => Errno.Again,
        MoveResult.Fault => Errno.Fault,
        MoveResult.NoMemory => Errno.NoMemory,
        MoveResult.NotOffered => Errno.NoCall,
        _ => Errno.Invalid,
    };

    private static long SendModuleRequest<TPlatform>(ref Process process, ref TPlatform platform, ulong buffer, ulong length, ulong where)
        where TPlatform : IProcessPlatform
    {
        ModuleMessageKind kind = (ModuleMessageKind)(byte)(where >> MoveOffset.KindShift);
        if (!MoveRequest.Precedes(kind) || length < MoveRequest.Length ||
            length > MoveRequest.Length + ModuleMessage.MaxPayload || where >> MoveOffset.KindShift > byte.MaxValue)
        {
            return Errno.Invalid;
        }

        MoveRequest request = default;
        long result = CopyIn(ref process, ref platform, buffer, MemoryMarshal.AsBytes(new Span<MoveRequest>(ref request)));
        if (result != 0)
        {
            return result;
        }

        if (!platform.TryBeginRequest(process.Module, kind, (int)length - MoveRequest.Length, out Span<byte> room))
        {
            return Errno.NoMemory;
        }

        result = CopyIn(ref process, ref platform, buffer + MoveRequest.Length, room);
        if (result == 0)
        {
            result = platform.SendRequestTo(process.Module, (int)(ushort)where, in request) switch
            {
                InternalState.Pending => 0,
                InternalState.NotFound => Errno.NoFile,
                _ => Errno.Input,
            };
        }

        if (result != 0)
        {
            platform.EndRequest(process.Module);
            return result;
        }

        return (long)length;
    }

    private static CallResult ReadModuleAnswer<TPlatform>(ref Process process, ref TPlatform platform, ulong buffer, ulong length, ulong where)
        where TPlatform : IProcessPlatform
    {
        ModuleMessageKind kind = (ModuleMessageKind)(byte)(where >> MoveOffset.KindShift);
        InternalState state = platform.AwaitAnswer(process.Module, kind, out ReadOnlySpan<byte> answer);
        if (state != InternalState.Ready)
        {
            return TakeAnswer(ref process, ref platform, state, answer, buffer, length, Errno.Invalid);
        }

        long result = Errno.Invalid;
        if (length >= (ulong)answer.Length + MoveRequest.Length)
        {
            MoveRequest fields = platform.AnswerFields(process.Module);
            result = CopyOut(ref process, ref platform, buffer, MemoryMarshal.AsBytes(new ReadOnlySpan<MoveRequest>(in fields)));
            result = result == 0 ? CopyOut(ref process, ref platform, buffer + MoveRequest.Length, answer) : result;
            result = result == 0 ? answer.Length + MoveRequest.Length : result;
        }

        platform.EndRequest(process.Module);
        return Return(ref process, result);
    }

    private static long AccessDevices<TPlatform>(ref Process process, ref TPlatform platform, ulong buffer, ulong length, ulong offset, bool isWrite)
        where TPlatform : IProcessPlatform
    {
        bool isChannel = (process.Permissions & ModulePermissions.Migrate) != 0;
        ulong allRegisters = (ulong)(isChannel ? DiskOffset.MaxChannels : DiskOffset.MaxDisks) * DiskOffset.RegistersLength;
        if (offset == DiskOffset.MemoryAddress && length == sizeof(ulong) && !isWrite)
        {
            ulong address = platform.DeviceMemoryAddress(process.Permissions);
            long copied = CopyOut(ref process, ref platform, buffer, MemoryMarshal.AsBytes(new ReadOnlySpan<ulong>(in address)));
            return copied == 0 ? sizeof(ulong) : copied;
        }

        if (offset - DiskOffset.Memory <= DiskOffset.MemoryLength && length <= DiskOffset.MemoryLength - (offset - DiskOffset.Memory))
        {
            return CopyDeviceMemory(ref process, ref platform, buffer, platform.DeviceMemory(process.Permissions).Slice((int)(offset - DiskOffset.Memory), (int)length), isWrite);
        }

        if (offset >= allRegisters || offset % sizeof(uint) != 0 || length != sizeof(uint))
        {
            return Errno.Invalid;
        }

        uint value = 0;
        Span<byte> bytes = MemoryMarshal.AsBytes(new Span<uint>(ref value));
        long result = isWrite ? CopyIn(ref process, ref platform, buffer, bytes) : 0;
        uint register = (uint)offset + (isChannel ? DiskOffset.SourceChannel * DiskOffset.RegistersLength : 0u);
        if (result == 0 && !platform.TryAccessDevice(register, isWrite, ref value))
        {
            result = Errno.Input;
        }

        if (result == 0 && !isWrite)
        {
            result = CopyOut(ref process, ref platform, buffer, bytes);
        }

        return result == 0 ? sizeof(uint) : result;
    }

    // Bytes that the kernel does not look at: whatever the host does to them meanwhile, the process has one copy.
    private static long CopyDeviceMemory<TPlatform>(ref Process process, ref TPlatform platform, ulong buffer, Span<byte> shared, bool isWrite)
        where TPlatform : IProcessPlatform
    {
        long result = isWrite ? CopyIn(ref process, ref platform, buffer, shared) : CopyOut(ref process, ref platform, buffer, shared);
        return result == 0 ? shared.Length : result;
    }

    // The call is made anew when the process goes on: RIP is behind SYSCALL, and RAX still the number.
    private static CallResult Again(ref Process process, CallResult why)
    {
        process.Context->Rip -= SyscallLength;
        return why;
    }

    // A line each; what is too long becomes several. At most so much at a time, since each line is work and a process may write a million empty ones.
    private static long WriteLog<TPlatform>(ref Process process, ref TPlatform platform, ulong buffer, ulong length)
        where TPlatform : IProcessPlatform
    {
        Span<byte> piece = stackalloc byte[MaxLine];
        ulong taken = Math.Min(length, MaxLogText);
        ulong done = 0;
        while (done < taken)
        {
            Span<byte> line = piece.Slice(0, (int)Math.Min(taken - done, MaxLine));
            long result = CopyIn(ref process, ref platform, buffer + done, line);
            if (result != 0)
            {
                return result;
            }

            int end = ((ReadOnlySpan<byte>)line).IndexOf((byte)'\n');
            done += (ulong)(end < 0 ? line.Length : end + 1);
            line = end < 0 ? line : line.Slice(0, end);
            LogLevel level = LevelOf(ref line);
            if (!line.IsEmpty)
            {
                platform.Log(process.Module, level, line);
            }
        }

        return (long)taken;
    }

    // "<n>" in front of a line is its level, of syslog.
    private static LogLevel LevelOf(ref Span<byte> line)
    {
        const int Length = 3;
        if (line.Length < Length || line[0] != (byte)'<' || line[2] != (byte)'>' || line[1] is < (byte)'0' or > (byte)'7')
        {
            return LogLevel.Information;
        }

        int level = line[1] - '0';
        line = line.Slice(Length);
        return level switch
        {
            <= 3 => LogLevel.Error,
            4 => LogLevel.Warning,
            <= 6 => LogLevel.Information,
            _ => LogLevel.Debug,
        };
    }

    private static long CopyGuest<TPlatform>(ref Process process, ref TPlatform platform, ulong buffer, ulong length, ulong address, bool isWrite)
        where TPlatform : IProcessPlatform
    {
        if ((process.Permissions & (isWrite ? ModulePermissions.WriteGuest : ModulePermissions.ReadGuest)) == 0)
        {
            return Errno.NotPermitted;
        }

        // A write begins only if all of its pages are there: a module finds out before the guest sees anything.
        ulong taken = Math.Min(length, MaxTransfer);
        for (ulong done = 0; isWrite && done < taken; done += Page.Size - ((address + done) & (Page.Size - 1)))
        {
            if (!platform.TryWriteGuest(address + done, default))
            {
                return Errno.Fault;
            }
        }

        Span<byte> piece = stackalloc byte[PieceLength];
        for (ulong done = 0; done < taken;)
        {
            // A piece lies in one page of the guest.
            ulong inPage = Page.Size - ((address + done) & (Page.Size - 1));
            Span<byte> bytes = piece.Slice(0, (int)Math.Min(Math.Min(taken - done, inPage), PieceLength));
            long result = 0;
            if (isWrite)
            {
                result = CopyIn(ref process, ref platform, buffer + done, bytes);
                result = result == 0 && !platform.TryWriteGuest(address + done, bytes) ? Errno.Fault : result;
            }
            else
            {
                result = platform.TryReadGuest(address + done, bytes) ? CopyOut(ref process, ref platform, buffer + done, bytes) : Errno.Fault;
            }

            if (result != 0)
            {
                return result;
            }

            done += (ulong)bytes.Length;
        }

        return (long)taken;
    }

    private static long OpenFile<TPlatform>(ref Process process, ref TPlatform platform, ulong path, ulong flags)
        where TPlatform : IProcessPlatform
    {
        const ulong AccessMode = 3;
        if (!TryFindFile(ref process, ref platform, path, allowsRandom: true, out int index, out long error))
        {
            return error;
        }

        if ((flags & AccessMode) != 0)
        {
            return Errno.ReadOnly;
        }

        for (int i = 0; i < Process.MaxOpenFiles; i++)
        {
            ref Process.OpenFile file = ref process.Open[i];
            if (file.Number == 0)
            {
                file = new Process.OpenFile { Number = (uint)index + 1 };
                return FirstFile + i;
            }
        }

        return Errno.TooManyFiles;
    }

    private static long Close(ref Process process, uint descriptor)
    {
        if (descriptor is >= ModuleDescriptor.Console and < FirstFile)
        {
            // Nothing sensible can follow.
            process.End(ProcessEnd.BadChannel, 0);
        }

        if (descriptor - FirstFile >= Process.MaxOpenFiles || process.Open[(int)(descriptor - FirstFile)].Number == 0)
        {
            return Errno.BadDescriptor;
        }

        process.Open[(int)(descriptor - FirstFile)] = default;
        return 0;
    }

    private static long ReadOpenFile<TPlatform>(ref Process process, ref TPlatform platform, uint descriptor, ulong buffer, ulong length, ulong offset)
        where TPlatform : IProcessPlatform
    {
        if (descriptor - FirstFile < Process.MaxOpenFiles && process.Open[(int)(descriptor - FirstFile)].Number == RandomFile + 1)
        {
            return GetRandom(ref process, ref platform, buffer, length);
        }

        if (!TryGetFile(ref process, ref platform, descriptor, out ReadOnlySpan<byte> contents))
        {
            return Errno.BadDescriptor;
        }

        ref ulong position = ref process.Open[(int)(descriptor - FirstFile)].Position;
        ulong start = offset == PositionOfFile ? position : offset;
        if (start >= (ulong)contents.Length)
        {
            return 0;
        }

        int count = (int)Math.Min(Math.Min(length, MaxTransfer), (ulong)contents.Length - start);
        long result = CopyOut(ref process, ref platform, buffer, contents.Slice((int)start, count));
        if (result != 0)
        {
            return result;
        }

        position += offset == PositionOfFile ? (ulong)count : 0;
        return count;
    }

    private static long Seek<TPlatform>(ref Process process, ref TPlatform platform, uint descriptor, ulong offset, ulong origin)
        where TPlatform : IProcessPlatform
    {
        if (!TryGetFile(ref process, ref platform, descriptor, out ReadOnlySpan<byte> contents))
        {
            // The other descriptors have no position.
            return descriptor < FirstFile ? Errno.NoSeek : Errno.BadDescriptor;
        }

        ref ulong position = ref process.Open[(int)(descriptor - FirstFile)].Position;
        ulong start = origin switch
        {
            0 => 0,
            1 => position,
            2 => (ulong)contents.Length,
            _ => ulong.MaxValue,
        };
        if (start == ulong.MaxValue || (long)(start + offset) < 0)
        {
            return Errno.Invalid;
        }

        position = start + offset;
        return (long)position;
    }

    private static long StatPath<TPlatform>(ref Process process, ref TPlatform platform, ulong path, ulong buffer)
        where TPlatform : IProcessPlatform =>
        TryFindFile(ref process, ref platform, path, allowsRandom: false, out int index, out long error)
            ? CopyStatus(ref process, ref platform, buffer, ArchiveReader.OfChecked(platform.Archive).File(index).Length)
            : error;

    private static long StatFile<TPlatform>(ref Process process, ref TPlatform platform, uint descriptor, ulong buffer)
        where TPlatform : IProcessPlatform =>
        TryGetFile(ref process, ref platform, descriptor, out ReadOnlySpan<byte> contents)
            ? CopyStatus(ref process, ref platform, buffer, (ulong)contents.Length)
            : Errno.BadDescriptor;

    private static long CopyStatus<TPlatform>(ref Process process, ref TPlatform platform, ulong buffer, ulong length)
        where TPlatform : IProcessPlatform
    {
        const int Words = 18;
        const int ModeWord = 3;
        const int SizeWord = 6;
        const int BlockWord = 7;
        const ulong RegularReadOnly = 0x8124;

        // struct stat: links in word 2, mode in the low half of word 3.
        Span<ulong> words = stackalloc ulong[Words];
        words.Clear();
        words[2] = 1;
        words[ModeWord] = RegularReadOnly;
        words[SizeWord] = length;
        words[BlockWord] = Page.Size;
        return CopyOut(ref process, ref platform, buffer, MemoryMarshal.AsBytes(words));
    }

    private static bool TryFindFile<TPlatform>(ref Process process, ref TPlatform platform, ulong path, bool allowsRandom, out int index, out long error)
        where TPlatform : IProcessPlatform
    {
        Span<byte> text = stackalloc byte[ArchiveFile.MaxPath + 1];
        int length = 0;
        index = 0;
        error = Errno.NameTooLong;
        for (; length < text.Length; length++)
        {
            long result = CopyIn(ref process, ref platform, path + (ulong)length, text.Slice(length, 1));
            if (result != 0)
            {
                error = result;
                return false;
            }

            if (text[length] == 0)
            {
                break;
            }
        }

        if (length == text.Length)
        {
            return false;
        }

        error = Errno.NoFile;
        if (allowsRandom && text.Slice(0, length).SequenceEqual("/dev/urandom"u8))
        {
            index = RandomFile;
            return true;
        }

        return ArchiveReader.OfChecked(platform.Archive).TryFind(text.Slice(0, length), process.Module, out index);
    }

    private static bool TryGetFile<TPlatform>(ref Process process, ref TPlatform platform, uint descriptor, out ReadOnlySpan<byte> contents)
        where TPlatform : IProcessPlatform
    {
        contents = default;
        uint number = descriptor - FirstFile < Process.MaxOpenFiles ? process.Open[(int)(descriptor - FirstFile)].Number : 0;
        if (number is 0 or RandomFile + 1)
        {
            return false;
        }

        contents = ArchiveReader.OfChecked(platform.Archive).ContentsOf((int)number - 1);
        return true;
    }

    private static long Map(ref Process process, ulong length, ulong rights, ulong flags)
    {
        const ulong Private = 0x02;
        const ulong Fixed = 0x10;
        const ulong Anonymous = 0x20;
        if ((flags & (Private | Fixed | Anonymous)) != (Private | Anonymous) || length == 0 || !TryRound(0, ref length))
        {
            return Errno.Invalid;
        }

        if (!TryGetRights(rights, out AccessRights wanted))
        {
            return Errno.NotAllowed;
        }

        return process.Memory.TryMap(length, wanted, out ulong start) ? (long)start : Errno.NoMemory;
    }

    private static long Protect<TPlatform>(ref Process process, ref TPlatform platform, ulong address, ulong length, ulong rights)
        where TPlatform : IProcessPlatform
    {
        return !TryRound(address, ref length) ? Errno.Invalid
            : !TryGetRights(rights, out AccessRights wanted) ? Errno.NotAllowed
            : ErrnoOf(process.Memory.Protect(ref platform, address, length, wanted), Errno.NotAllowed);
    }

    private static long Advise<TPlatform>(ref Process process, ref TPlatform platform, ulong address, ulong length, ulong advice)
        where TPlatform : IProcessPlatform
    {
        const ulong DontNeed = 4;
        const ulong Free = 8;
        return !TryRound(address, ref length) ? Errno.Invalid
            : advice is DontNeed or Free ? ErrnoOf(process.Memory.Discard(ref platform, address, length), Errno.Invalid)
            : 0;
    }

    private static long SetAction<TPlatform>(ref Process process, ref TPlatform platform, ulong signal, ulong action, ulong previous, ulong maskLength)
        where TPlatform : IProcessPlatform
    {
        if (signal is 0 or > SignalActions.MaxSignal || maskLength != sizeof(ulong))
        {
            return Errno.Invalid;
        }

        ref SignalAction current = ref process.Signals.Of((uint)signal);
        SignalAction old = current;
        long result = 0;
        if (action != 0)
        {
            SignalAction wanted = default;
            result = CopyIn(ref process, ref platform, action, MemoryMarshal.AsBytes(new Span<SignalAction>(ref wanted)));
            if (result == 0)
            {
                current = wanted;
            }
        }

        return result == 0 && previous != 0 ? CopyOut(ref process, ref platform, previous, MemoryMarshal.AsBytes(new ReadOnlySpan<SignalAction>(in old))) : result;
    }

    private static long Clone<TPlatform>(ref Process process, ref TPlatform platform, ulong flags, ulong parentThreadId)
        where TPlatform : IProcessPlatform
    {
        const ulong Thread = 0x1_0000;
        const ulong SetParentThreadId = 0x10_0000;
        if ((flags & Thread) == 0 || process.HasThread)
        {
            return Errno.Again;
        }

        uint id = (uint)FinalizerThreadId;
        long result = (flags & SetParentThreadId) != 0 ? CopyOut(ref process, ref platform, parentThreadId, MemoryMarshal.AsBytes(new ReadOnlySpan<uint>(in id))) : 0;
        process.HasThread = result == 0;
        return result == 0 ? (long)FinalizerThreadId : result;
    }

    private static long SetThreadPointer(ref Process process, ulong code, ulong value)
    {
        const ulong SetFs = 0x1002;
        if (code != SetFs)
        {
            return Errno.Invalid;
        }

        if (value >= ProcessMemory.UserEnd)
        {
            return Errno.NotPermitted;
        }

        process.Context->FsBase = value;
        return 0;
    }

    private static CallResult WaitFutex<TPlatform>(ref Process process, ref TPlatform platform)
        where TPlatform : IProcessPlatform
    {
        const ulong Wait = 0;
        const ulong Wake = 1;
        const ulong WaitBits = 9;
        const ulong WakeBits = 10;
        const ulong CommandMask = 0x7F;
        const ulong ClockRealtime = 0x100;
        ref UserContext registers = ref *process.Context;
        ulong command = registers.Rsi & CommandMask;
        if (command is Wake or WakeBits)
        {
            return Return(ref process, 0);
        }

        if (command is not (Wait or WaitBits))
        {
            process.UnknownCalls++;
            return Return(ref process, Errno.NoCall);
        }

        uint value = 0;
        long result = CopyIn(ref process, ref platform, registers.Rdi, MemoryMarshal.AsBytes(new Span<uint>(ref value)));
        if (result != 0 || value != (uint)registers.Rdx)
        {
            return Return(ref process, result != 0 ? result : Errno.Again);
        }

        if (registers.R10 == 0)
        {
            process.End(ProcessEnd.Deadlock, 0);
            return CallResult.Ended;
        }

        if ((registers.Rsi & ClockRealtime) != 0)
        {
            process.End(ProcessEnd.TimeOfDay, 0);
            return CallResult.Ended;
        }

        return SleepUntil(ref process, ref platform, registers.R10, isAbsolute: command == WaitBits, Errno.TimedOut);
    }

    private static CallResult Sleep<TPlatform>(ref Process process, ref TPlatform platform, ulong clock, ulong flags, ulong time)
        where TPlatform : IProcessPlatform
    {
        const ulong Absolute = 1;
        if (!IsMonotonic(clock) && (flags & Absolute) != 0)
        {
            process.End(ProcessEnd.TimeOfDay, 0);
            return CallResult.Ended;
        }

        return SleepUntil(ref process, ref platform, time, (flags & Absolute) != 0, 0);
    }

    private static CallResult SleepUntil<TPlatform>(ref Process process, ref TPlatform platform, ulong time, bool isAbsolute, long result)
        where TPlatform : IProcessPlatform
    {
        Span<ulong> words = stackalloc ulong[2];
        long copied = CopyIn(ref process, ref platform, time, MemoryMarshal.AsBytes(words));
        if (copied != 0 || (long)words[0] < 0 || words[1] >= NanosecondsPerSecond)
        {
            return Return(ref process, copied != 0 ? copied : Errno.Invalid);
        }

        const ulong MaxSeconds = 0x1_0000_0000;
        ulong nanoseconds = (Math.Min(words[0], MaxSeconds) * NanosecondsPerSecond) + words[1];
        process.Deadline = Math.Max(1, isAbsolute ? nanoseconds : platform.Now + nanoseconds);
        process.DeadlineResult = result;
        return CallResult.Sleeps;
    }

    private static CallResult GetTime<TPlatform>(ref Process process, ref TPlatform platform, ulong clock, ulong buffer)
        where TPlatform : IProcessPlatform
    {
        if (!IsMonotonic(clock))
        {
            process.End(ProcessEnd.TimeOfDay, 0);
            return CallResult.Ended;
        }

        ulong now = platform.Now;
        Span<ulong> words = stackalloc ulong[2];
        words[0] = now / NanosecondsPerSecond;
        words[1] = now % NanosecondsPerSecond;
        return Return(ref process, CopyOut(ref process, ref platform, buffer, MemoryMarshal.AsBytes(words)));
    }

    // CLOCK_MONOTONIC and its variants, and processor time, which is no less than what it measures.
    private static bool IsMonotonic(ulong clock) => clock is 1 or 2 or 3 or 4 or 6 or 7;

    private static long GetAffinity<TPlatform>(ref Process process, ref TPlatform platform, ulong length, ulong buffer)
        where TPlatform : IProcessPlatform
    {
        if (length < sizeof(ulong) || length % sizeof(ulong) != 0)
        {
            return Errno.Invalid;
        }

        ulong first = 1;
        long result = CopyOut(ref process, ref platform, buffer, MemoryMarshal.AsBytes(new ReadOnlySpan<ulong>(in first)));
        return result == 0 ? sizeof(ulong) : result;
    }

    private static long GetLimit<TPlatform>(ref Process process, ref TPlatform platform, ulong resource, ulong buffer)
        where TPlatform : IProcessPlatform
    {
        const ulong Stack = 3;
        const ulong Infinite = ulong.MaxValue;
        if (buffer == 0)
        {
            return 0;
        }

        Span<ulong> words = stackalloc ulong[2];
        words.Fill(resource == Stack ? Process.StackLength : Infinite);
        return CopyOut(ref process, ref platform, buffer, MemoryMarshal.AsBytes(words));
    }

    private static long GetRandom<TPlatform>(ref Process process, ref TPlatform platform, ulong buffer, ulong length)
        where TPlatform : IProcessPlatform
    {
        const int Piece = 256;
        Span<byte> piece = stackalloc byte[Piece];
        ulong taken = Math.Min(length, MaxRandom);
        long result = 0;
        for (ulong done = 0; done < taken && result == 0; done += Piece)
        {
            Span<byte> bytes = piece.Slice(0, (int)Math.Min(taken - done, Piece));
            result = platform.TryDraw(bytes) ? CopyOut(ref process, ref platform, buffer + done, bytes) : Errno.Input;
        }

        piece.Clear();
        return result == 0 ? (long)taken : result;
    }

    private static long CopyIn<TPlatform>(ref Process process, ref TPlatform platform, ulong address, Span<byte> destination)
        where TPlatform : IProcessPlatform => Check(ref process, process.Memory.TryCopyIn(ref platform, platform.Archive, address, destination));

    private static long CopyOut<TPlatform>(ref Process process, ref TPlatform platform, ulong address, ReadOnlySpan<byte> source)
        where TPlatform : IProcessPlatform => Check(ref process, process.Memory.TryCopyOut(ref platform, platform.Archive, address, source));

    // A buffer of the process for which there is no frame: as if the process had touched it.
    private static long Check(ref Process process, AccessResult result)
    {
        if (result == AccessResult.NoMemory)
        {
            process.End(ProcessEnd.OutOfMemory, 0);
        }

        return result == AccessResult.Success ? 0 : Errno.Fault;
    }

    private static long ErrnoOf(AccessResult result, long denied) =>
        result switch
        {
            AccessResult.Success => 0,
            AccessResult.Denied => denied,
            _ => Errno.NoMemory,
        };

    // Addresses are whole pages, lengths become so.
    private static bool TryRound(ulong address, ref ulong length)
    {
        const ulong Mask = Page.Size - 1;
        bool isGood = (address & Mask) == 0 && length <= ProcessMemory.UserEnd;
        length = (length + Mask) & ~Mask;
        return isGood;
    }

    // Nothing is executable but the text of the program. What may be written may be read: the processor knows no difference.
    private static bool TryGetRights(ulong rights, out AccessRights wanted)
    {
        wanted = (AccessRights)rights | ((rights & (ulong)AccessRights.Write) != 0 ? AccessRights.Read : 0);
        return (rights & ~(ulong)(AccessRights.Read | AccessRights.Write)) == 0;
    }

    // Offset of a read that goes on where the last one ended.
    private const ulong PositionOfFile = ulong.MaxValue;

    // In place of an index: "/dev/urandom", which the class library draws from for what need not be secret (Guid, Random). It takes a worse source if
    // there is none.
    private const int RandomFile = 0x7FFF_FFFE;

    private const int FirstFile = ModuleDescriptor.Move + 1;

    // membarrier: MEMBARRIER_CMD_PRIVATE_EXPEDITED and the registration for it. The runtime does not start without.
    private const long PrivateExpedited = 0x18;

    private enum SystemCall : ulong
    {
        Read = 0,
        Write = 1,
        Close = 3,
        StatPath = 4,
        StatFile = 5,
        StatLink = 6,
        Seek = 8,
        MMap = 9,
        MProtect = 10,
        MUnmap = 11,
        SignalAction = 13,
        SignalMask = 14,
        SignalReturn = 15,
        PRead = 17,
        PWrite = 18,
        SchedulerYield = 24,
        MAdvise = 28,
        GetProcessId = 39,
        Clone = 56,
        Exit = 60,
        ArchPrctl = 158,
        GetThreadId = 186,
        Futex = 202,
        GetAffinity = 204,
        SetThreadIdAddress = 218,
        GetTime = 228,
        Sleep = 230,
        ExitGroup = 231,
        ThreadKill = 234,
        OpenAt = 257,
        StatAt = 262,
        Limit = 302,
        GetRandom = 318,
        MemoryBarrier = 324,
    }

    // Linux include/uapi/asm-generic/errno-base.h and errno.h.
    private static class Errno
    {
        public const long NotPermitted = -1;
        public const long NoFile = -2;
        public const long Input = -5;
        public const long BadDescriptor = -9;
        public const long Again = -11;
        public const long NoMemory = -12;
        public const long NotAllowed = -13;
        public const long Fault = -14;
        public const long Invalid = -22;
        public const long TooManyFiles = -24;
        public const long NoSeek = -29;
        public const long ReadOnly = -30;
        public const long NameTooLong = -36;
        public const long NoCall = -38;
        public const long TimedOut = -110;
        public const long NoKey = -126;
    }
}
