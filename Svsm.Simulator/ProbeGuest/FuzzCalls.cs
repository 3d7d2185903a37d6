// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Random, boundary and mutated calls on all vCPUs at once. Each vCPU draws the same ones in every run; which comes first is the machine's affair.
//
// Memory that calls may name, all of it private:
//
//   own pages      32 of each vCPU. No other vCPU names them, so the vCPU knows their state and what each call must answer; the last ones are
//                  never named and keep a pattern
//   shared pages   512 in 4-KiB entries, and a 2-MiB page. Every vCPU validates, rescinds, lends and creates with them; nobody touches them,
//                  since their state is known to the SVSM alone. Answers must be among those that are possible
//   others         the SVSM's memory, no memory, the edges of the address space: no call may take one
//
// List lengths are drawn log-uniform. The last CPU of the VM runs no vCPU: CREATE_VCPU and DELETE_VCPU work on it.

using System;
using System.Threading;
using Svsm.Platform;
using Svsm.Wire;

namespace Svsm.ProbeGuest;

internal static unsafe class FuzzCalls
{
    private const ulong PageBytes = 0x1000;
    private const int OwnPages = 32;
    private const int NamedPages = 28;
    private const int SpareArea = 28;
    private const int FirstKept = 29;
    private const ulong Shared = TestMemory.Base + 0x20_0000;
    private const int SharedPages = 512;
    private const ulong SharedLarge = TestMemory.Base + 0x40_0000;
    private const int MaxEntries = 510;
    private const int MaxTries = 100_000;

    private enum OwnState : byte
    {
        Unvalidated,
        Guest,
        Vmsa,
    }

    [System.Runtime.CompilerServices.InlineArray(Cpus.MaxCount * OwnPages)]
    private struct States
    {
        private byte _element0;
    }

    private static States s_states;
    private static uint s_perCpu;
    private static uint s_wrong;
    private static uint s_lent;
    private static uint s_calls;
    private static int s_idleCpu;
    private static ulong s_seed;
    private static ulong s_svsmBase;
    private static ulong s_svsmSize;
    private static ulong s_ramEnd;
    private static ulong s_encryptionMask;

    /// <summary>Makes so many calls, and ends the VM.</summary>
    public static void Run(in ProbeStart start, uint count, uint seed)
    {
        ref SecretsPage secrets = ref *(SecretsPage*)start.SecretsPage;
        s_svsmBase = secrets.SvsmBase;
        s_svsmSize = secrets.SvsmSize;
        s_encryptionMask = start.EncryptionMask;
        s_seed = seed;
        for (MemoryMapEntry* entry = (MemoryMapEntry*)start.MemoryMap; entry->PageCount != 0; entry++)
        {
            s_ramEnd = (entry->StartPage + entry->PageCount) << 12;
        }

        int cpus = Cpus.Count;
        s_idleCpu = cpus - 1;
        int busy = Math.Max(1, cpus - 1);
        Probe.True("fuzz: memory made private"u8, Prepare(busy));
        for (int cpu = 1; cpu < busy; cpu++)
        {
            Probe.Result("fuzz: vCPU"u8, Cpus.Start(cpu), SvsmResultCode.Success);
        }

        s_perCpu = (count + (uint)busy - 1) / (uint)busy;
        Cpus.RunOnAll(&Work);
        for (int cpu = 0; cpu < busy; cpu++)
        {
            Probe.True("fuzz: pages that no call named are as they were"u8, IsPattern(cpu));
        }

        Probe.Equal("fuzz: wrong answers"u8, s_wrong, 0);
        Probe.Equal("fuzz: what was lent comes back"u8, WithdrawAll(), s_lent);
        Probe.Equal("fuzz: calls"u8, s_calls >= count ? count : s_calls, count);
        Probe.Result("fuzz: the SVSM still answers"u8, Calls.Core(CoreCall.QueryProtocol, 1), SvsmResultCode.Success);
        Probe.Finish();
    }

    private static ulong OwnPage(int cpu, int index) => TestMemory.Base + (((ulong)cpu * OwnPages) + (ulong)index) * PageBytes;

    private static ref byte StateOf(int cpu, int index) => ref s_states[(cpu * OwnPages) + index];

    private static bool Prepare(int cpus)
    {
        bool done = Machine.MakeLargePagePrivate(TestMemory.Base) && Machine.MakeLargePagePrivate(Shared) && Machine.MakeLargePagePrivate(SharedLarge);
        for (int cpu = 0; cpu < cpus; cpu++)
        {
            for (int i = SpareArea; i < OwnPages; i++)
            {
                done &= Calls.PValidateOne(OwnPage(cpu, i), true, false, false) == SvsmResultCode.Success;
                StateOf(cpu, i) = (byte)OwnState.Guest;
                if (i >= FirstKept)
                {
                    new Span<ulong>((void*)OwnPage(cpu, i), 512).Fill(OwnPage(cpu, i) ^ s_seed);
                }
            }
        }

        return done;
    }

    private static bool IsPattern(int cpu)
    {
        bool isPattern = true;
        for (int i = FirstKept; i < OwnPages; i++)
        {
            ulong* words = (ulong*)OwnPage(cpu, i);
            for (int word = 0; word < 512; word++)
            {
                isPattern &= words[word] == (OwnPage(cpu, i) ^ s_seed);
            }
        }

        return isPattern;
    }

    private static void Work(int cpu)
    {
        Generator random = new((s_seed * 0x9E37_79B9_7F4A_7C15) + ((ulong)cpu * 0xD1B5_4A32_D192_ED03) + 1);
        for (uint i = 0; i < s_perCpu; i++)
        {
            switch (random.Below(16))
            {
                case 0 or 1:
                    Anything(ref random);
                    break;
                case 2 or 3 or 4 or 5:
                    ValidateOwn(cpu, ref random);
                    break;
                case 6 or 7 or 8:
                    ValidateShared(ref random, mutate: false);
                    break;
                case 9:
                    Deposit(ref random);
                    break;
                case 10:
                    Withdraw(ref random);
                    break;
                case 11:
                    Create(cpu, ref random);
                    break;
                case 12:
                    Delete(cpu, ref random);
                    break;
                case 13:
                    Remap(cpu, ref random);
                    break;
                case 14:
                    Query(ref random);
                    break;
                default:
                    ValidateShared(ref random, mutate: true);
                    break;
            }
        }
    }

    // Any protocol, any call, any registers: none of the addresses is memory of this guest that may change.
    private static void Anything(ref Generator random)
    {
        SvsmProtocol protocol = random.Below(4) != 0 ? SvsmProtocol.Core : (SvsmProtocol)random.Below(8);
        uint call = random.Below(2) != 0 ? (uint)random.Below(8) : (uint)random.Next();
        SvsmCall registers = new() { Rcx = Elsewhere(ref random), Rdx = Elsewhere(ref random), R8 = random.Next(), R9 = random.Next() };
        SvsmResultCode result = Call(protocol, call, ref registers);
        bool isPossible = protocol != SvsmProtocol.Core ? result == SvsmResultCode.UnsupportedProtocol : (CoreCall)call switch
        {
            CoreCall.QueryProtocol => result == SvsmResultCode.Success,
            CoreCall.ConfigureVtom => result is SvsmResultCode.Success or SvsmResultCode.InvalidRequest,
            <= CoreCall.ConfigureVtom => result is SvsmResultCode.InvalidAddress or SvsmResultCode.InvalidParameter,
            _ => result == SvsmResultCode.UnsupportedCall,
        };
        Check(isPossible, ((ulong)protocol << 32) | call, result);
    }

    private static void Query(ref Generator random)
    {
        SvsmCall registers = new() { Rcx = (random.Below(4) << 32) | random.Below(3), Rdx = random.Next(), R8 = random.Next(), R9 = random.Next() };
        SvsmCall before = registers;
        SvsmResultCode result = Call(SvsmProtocol.Core, (uint)CoreCall.QueryProtocol, ref registers);
        ulong wanted = before.Rcx == 1 ? (1ul << 32) | 1 : 0;
        bool isKept = registers.Rdx == before.Rdx && registers.R8 == before.R8 && registers.R9 == before.R9;
        Check(result == SvsmResultCode.Success && registers.Rcx == wanted && isKept, (uint)CoreCall.QueryProtocol, result);
    }

    // The state of each page is known: so are the answer, how far it gets, and what is in the pages.
    private static void ValidateOwn(int cpu, ref Generator random)
    {
        int count = random.Length(NamedPages);
        ulong list = Calls.Buffer;
        Calls.WriteHead(list, (ushort)count, 0);
        Span<byte> states = stackalloc byte[NamedPages];
        for (int i = 0; i < NamedPages; i++)
        {
            states[i] = StateOf(cpu, i);
        }

        SvsmResultCode wanted = SvsmResultCode.Success;
        int reached = 0;
        for (int i = 0; i < count; i++)
        {
            int page = (int)random.Below(NamedPages);
            bool validate = random.Below(2) != 0;
            bool ignore = random.Below(4) != 0;
            ulong entry = OwnPage(cpu, page) | (validate ? PvalidateList.Validate : 0) | (ignore ? PvalidateList.IgnoreNoChange : 0);
            entry |= random.Below(64) == 0 ? 1ul << (int)(4 + random.Below(8)) : 0;
            Calls.WriteEntry(list, i, entry);
            if (wanted != SvsmResultCode.Success)
            {
                continue;
            }

            OwnState to = validate ? OwnState.Guest : OwnState.Unvalidated;
            wanted = (entry & PvalidateList.ReservedMask) != 0 ? SvsmResultCode.InvalidParameter
                : states[page] == (byte)OwnState.Vmsa ? SvsmResultCode.InvalidAddress
                : states[page] != (byte)to || ignore ? SvsmResultCode.Success
                : SvsmResultCode.PValidateNoChange;
            if (wanted == SvsmResultCode.Success)
            {
                states[page] = (byte)to;
                reached++;
            }
        }

        SvsmResultCode result = Call(CoreCall.PValidate, list);
        Check(result == wanted && Calls.ReadNext(list) == reached, (uint)CoreCall.PValidate, result);
        for (int i = 0; i < NamedPages; i++)
        {
            // Validated: zero. Guest before and after: what was there.
            bool wasGuest = StateOf(cpu, i) == (byte)OwnState.Guest;
            StateOf(cpu, i) = states[i];
            if (states[i] == (byte)OwnState.Guest)
            {
                ulong word = Volatile.Read(ref *(ulong*)OwnPage(cpu, i));
                Check(word == 0 || (wasGuest && word == OwnPage(cpu, i)), (uint)CoreCall.PValidate, result);
                Volatile.Write(ref *(ulong*)OwnPage(cpu, i), OwnPage(cpu, i));
            }
        }
    }

    private static void ValidateShared(ref Generator random, bool mutate)
    {
        ulong list = Calls.Buffer;
        int count = random.Length(MaxEntries);
        Calls.WriteHead(list, (ushort)count, 0);
        for (int i = 0; i < (mutate ? MaxEntries : count); i++)
        {
            ulong kind = random.Below(64);
            ulong entry = kind == 0 ? SharedLarge | 1 : kind == 1 ? Shared | 1 : kind == 2 ? Elsewhere(ref random) & ~0xFFFul : SharedPage(ref random);
            Calls.WriteEntry(list, i, entry | (random.Next() & PvalidateList.Validate) | PvalidateList.IgnoreNoChange);
        }

        if (mutate)
        {
            // The head: any count, any next.
            ulong head = *(ulong*)list ^ (1ul << (int)random.Below(64));
            *(ulong*)list = head;
        }

        SvsmResultCode result = Call(CoreCall.PValidate, list);
        bool isPossible = result is SvsmResultCode.Success or SvsmResultCode.InvalidAddress or SvsmResultCode.InvalidParameter
            or SvsmResultCode.PValidateSizeMismatch or SvsmResultCode.PValidateNoChange or SvsmResultCode.Busy;
        Check(isPossible && (mutate || Calls.ReadNext(list) <= count), (uint)CoreCall.PValidate, result);
    }

    private static void Deposit(ref Generator random)
    {
        ulong list = Calls.Buffer;
        int count = random.Length(MaxEntries);
        Calls.WriteHead(list, (ushort)count, 0);
        for (int i = 0; i < count; i++)
        {
            Calls.WriteEntry(list, i, random.Below(32) == 0 ? Elsewhere(ref random) & ~0xFFFul : SharedPage(ref random));
        }

        SvsmResultCode result = Call(CoreCall.DepositMemory, list);
        int done = Calls.ReadNext(list);
        Interlocked.Add(ref s_lent, (uint)done);
        bool isPossible = result is SvsmResultCode.InvalidAddress or SvsmResultCode.Busy ? done < count : result == SvsmResultCode.Success && done == count;
        Check(isPossible, (uint)CoreCall.DepositMemory, result);
    }

    private static void Withdraw(ref Generator random)
    {
        ulong list = Calls.Buffer;
        int count = random.Length(MaxEntries);
        Calls.WriteHead(list, (ushort)count, 0);
        SvsmResultCode result = Call(CoreCall.WithdrawMemory, list);
        int done = Calls.ReadNext(list);
        bool isPossible = result == SvsmResultCode.Success && done <= count;
        for (int i = 0; i < done && isPossible; i++)
        {
            ulong page = ((ulong*)(list + PvalidateList.EntriesOffset))[i];
            isPossible = page - Shared < SharedPages * PageBytes && page % PageBytes == 0;
        }

        Interlocked.Add(ref s_lent, 0u - (uint)done);
        Check(isPossible, (uint)CoreCall.WithdrawMemory, result);
    }

    private static ulong WithdrawAll()
    {
        ulong count = 0;
        int done;
        do
        {
            Calls.WriteHead(Calls.Buffer, MaxEntries, 0);
            Call(CoreCall.WithdrawMemory, Calls.Buffer);
            done = Calls.ReadNext(Calls.Buffer);
            count += (ulong)done;
        }
        while (done != 0);

        return count;
    }

    private static void Create(int cpu, ref Generator random)
    {
        int page = (int)random.Below(NamedPages);
        ulong vmsa = OwnPage(cpu, page);
        bool isGuest = StateOf(cpu, page) == (byte)OwnState.Guest;
        uint mutation = (uint)random.Below(8);
        if (isGuest)
        {
            Cpus.FillVmsa(s_idleCpu, vmsa);
            ref Vmsa contents = ref *(Vmsa*)vmsa;
            contents.Vmpl = mutation == 0 ? (byte)random.Below(2) : contents.Vmpl;
            contents.Efer ^= mutation == 1 ? 1ul << 12 : 0;
            contents.SevFeatures ^= mutation == 2 ? 1ul << (int)random.Below(64) : 0;
        }

        ulong apicId = mutation == 3 ? (ulong)Cpus.Index : mutation == 4 ? 512 + random.Below(1ul << 20) : (ulong)s_idleCpu;
        SvsmCall registers = new() { Rcx = vmsa, Rdx = SharedPage(ref random), R8 = apicId };
        SvsmResultCode result = Call(SvsmProtocol.Core, (uint)CoreCall.CreateVcpu, ref registers);
        bool mustFail = !isGuest || mutation <= 4 || s_idleCpu == Cpus.Index;
        bool isPossible = result switch
        {
            SvsmResultCode.Success => !mustFail,
            SvsmResultCode.InvalidAddress or SvsmResultCode.InvalidParameter or SvsmResultCode.Busy => true,
            _ => false,
        };
        if (result == SvsmResultCode.Success)
        {
            StateOf(cpu, page) = (byte)OwnState.Vmsa;
        }
        else if (isGuest)
        {
            // Refused: the page is this vCPU's as before, contents included.
            isPossible &= Volatile.Read(ref ((Vmsa*)vmsa)->Rflags) == 2;
            new Span<byte>((void*)vmsa, (int)PageBytes).Clear();
        }

        Check(isPossible, (uint)CoreCall.CreateVcpu, result);
    }

    private static void Delete(int cpu, ref Generator random)
    {
        int page = (int)random.Below(NamedPages);
        bool isVmsa = StateOf(cpu, page) == (byte)OwnState.Vmsa;
        ulong offset = random.Below(16) == 0 ? 1 + random.Below(PageBytes - 1) : 0;
        SvsmResultCode result = Call(CoreCall.DeleteVcpu, OwnPage(cpu, page) + offset);
        SvsmResultCode wanted = offset != 0 ? SvsmResultCode.InvalidParameter : isVmsa ? SvsmResultCode.Success : SvsmResultCode.InvalidAddress;
        if (isVmsa && result == SvsmResultCode.Success)
        {
            StateOf(cpu, page) = (byte)OwnState.Guest;
            new Span<byte>((void*)OwnPage(cpu, page), (int)PageBytes).Clear();
        }

        Check(result == wanted || (isVmsa && result == SvsmResultCode.Busy), (uint)CoreCall.DeleteVcpu, result);
    }

    private static void Remap(int cpu, ref Generator random)
    {
        ulong own = OwnPage(cpu, SpareArea);
        ulong area = random.Below(3) == 0 ? Elsewhere(ref random) : own;
        SvsmResultCode result = Call(CoreCall.RemapCallingArea, area);
        Check(area == own ? result == SvsmResultCode.Success : result is SvsmResultCode.InvalidAddress or SvsmResultCode.InvalidParameter, (uint)CoreCall.RemapCallingArea, result);
        if (result == SvsmResultCode.Success)
        {
            Calls.UseArea(own);
        }
    }

    private static ulong SharedPage(ref Generator random) => Shared + (random.Below(SharedPages) * PageBytes);

    // Boundaries, the SVSM's memory, none at all. Never what the guest has and may lose.
    private static ulong Elsewhere(ref Generator random)
    {
        ulong value = random.Next() >> 3;
        ulong address = random.Below(8) switch
        {
            0 => value | (1ul << 60),
            1 => s_svsmBase + (value % s_svsmSize),
            2 => (s_svsmBase + (value % s_svsmSize)) & ~0xFFFul,
            3 => s_ramEnd + (value % 0x1000_0000),
            4 => (Shared | s_encryptionMask) + (value % 0x20_0000),
            5 => ulong.MaxValue - (value & 0xFFFF),
            6 => 0xA_0000 + (value % 0x6_0000),
            _ => 1ul << (int)(37 + (value % 27)),
        };
        return address < s_ramEnd && address - s_svsmBase >= s_svsmSize && address - 0xA_0000 >= 0x6_0000 ? s_svsmBase : address;
    }

    private static SvsmResultCode Call(CoreCall call, ulong rcx)
    {
        SvsmCall registers = new() { Rcx = rcx };
        return Call(SvsmProtocol.Core, (uint)call, ref registers);
    }

    // As a guest does: again while the SVSM says INCOMPLETE or BUSY. Two vCPUs that want each other's pages must not do so for ever.
    private static SvsmResultCode Call(SvsmProtocol protocol, uint call, ref SvsmCall registers)
    {
        SvsmCall arguments = registers;
        SvsmResultCode result;
        int tries = 0;
        do
        {
            registers = arguments;
            registers.Rax = ((ulong)protocol << 32) | call;
            Calls.CallOnce(ref registers);
            result = (SvsmResultCode)registers.Rax;
            tries++;
        }
        while (result is SvsmResultCode.Incomplete or SvsmResultCode.Busy && tries < MaxTries);

        Interlocked.Increment(ref s_calls);
        return result;
    }

    private static void Check(bool isPossible, ulong call, SvsmResultCode result)
    {
        if (isPossible)
        {
            return;
        }

        Interlocked.Increment(ref s_wrong);
        Text<Com1>.Write("probe: call 0x"u8);
        Text<Com1>.WriteHex(call);
        Text<Com1>.Write(" answered 0x"u8);
        Text<Com1>.WriteHex((ulong)result);
        Text<Com1>.WriteLine();
    }

    /// <summary>xorshift64*, S. Vigna: good enough to be everywhere, and the same in every run.</summary>
    internal struct Generator
    {
        private ulong _state;

        public Generator(ulong seed) => _state = seed;

        public ulong Next()
        {
            _state ^= _state >> 12;
            _state ^= _state << 25;
            _state ^= _state >> 27;
            return _state * 0x2545_F491_4F6C_DD1D;
        }

        public ulong Below(ulong limit) => (Next() >> 11) % limit;

        /// <summary>1 to a limit; each power of two as likely as the next.</summary>
        public int Length(int limit)
        {
            int bits = 64 - System.Numerics.BitOperations.LeadingZeroCount((ulong)limit);
            ulong top = 1ul << (int)Below((ulong)bits);
            return (int)Math.Min(top + Below(top), (ulong)limit);
        }
    }
}
