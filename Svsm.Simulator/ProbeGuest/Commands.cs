// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// What the probe guest does instead of its checks. The command is the text in the 16 bytes of the ELF symbol probe_command,
// which a test changes in the file before it builds an image of it:
//
//   (empty)        the checks
//   exit:N         exits with status N, 0 to 255
//   touch-svsm     reads memory of the SVSM                        a VMPL violation; never comes back
//   unvalidated    reads a private page that is not validated      #VC 0x404, exit status 4
//   hlt            halts for ever
//   triple-fault   an exception without an IDT
//   loop           runs for ever
//   bench          1000 QUERY_PROTOCOL calls without a word in between, then exit status 0
//   validate       one PVALIDATE call with a list of 510 4-KiB pages, then exit status 0
//   validate-large one PVALIDATE call with a list of four 2-MiB pages, then exit status 0
//   null-exits     1000 exits that only read a register of the simulated processor, then exit status 0
//   null-vmgexits  1000 requests for SEV information by the GHCB MSR, two exits each, then exit status 0
//   vc-exits       1000 times CPUID, answered in the guest's #VC handler without another exit; then exit status 0
//   vmpl-trips     1000 times to VMPL0 and back without a call, then exit status 0
//   fuzz:N[:SEED]  N random calls on all vCPUs at once, of each vCPU the same ones in every run; exit status 0 if each answer is one that can be right
//   race:N         N times all vCPUs validate or rescind the same page at once; exit status 0 if each time one of them did
//   sum:N          all vCPUs add N times one to a number; exit status 0 if nothing is lost
//   sum-torn:N     the same in two steps, so that something can be lost
//   fxrstor:N      N calls of the first vCPU while the others execute FXRSTOR all the time; exit status 0 if they are answered
//   host-msrs:SEED reads and writes every MSR by requests to the host, then exit status 0
//   host-page:SEED 20000 requests by GHCB page whose fields are garbage; exit status 0 if the host ends the VM at none of them
//   host-reg:SEED  requests by GHCB MSR whose values are garbage
//   disk           drives the disk of the SVSM that the machine plays; exit status 0 if that does what a disk does
//   module:N       N rounds of calls to the test module on all vCPUs at once; exit status 0 if all answers are right
//   abuse:K:N      N times: a call that the test module fails in, in way K, then one that it has to serve
//   one:K:RCX      one call of number K to the test module, with RCX; exit status 0 if that succeeds
//   module-order   calls that are not asked again, or by other registers; exit status 0 if all answers are right
//   spy:N          N times: the test module looks for what its neighbour has in memory; exit status 0 if it never sees it
//   manifests:N    N times on all vCPUs: manifests of the test modules, of all kinds; exit status 0 if all are right
//   peers:N        N times on all vCPUs: calls to a test module that asks another one; exit status 0 if all are right, also after failures
//   messages       messages to the security processor of a host that is busy at first and then refuses; exit status 0 if the module may what it should
//   module-clock   a call of 200 ms by the module's clock; exit status 0 if it takes that by the guest's, which counts nanoseconds
//   module-wait    a call that takes 2 seconds, with the timer's interrupts in between; exit status 0 if that ticked and other vCPUs were served
//   mfuzz:N[:SEED] N random calls to the test module on all vCPUs at once
//   lib:ROW        has the module that tries the class library try ROW, and prints the outcome; exit status 0
//   module-bench   1000 calls to the test module, then exit status 0
//   tpm            calls to the virtual TPM, on all vCPUs at once as well; exit status 0 if all answers are right
//   tpm-rsa        the virtual TPM makes an RSA key; exit status 0 if it does
//   persist:N      tells what the last run has left in the virtual TPM and the UEFI variables, and writes N times; exit status 0 if they are there
//   firmware       a boot of firmware with UEFI variables, which prints the boot options that it finds; exit status 0 if all answers are right
//   attest:N       N times on all vCPUs: reports of the attestation protocol, of which the last ones are printed; exit status 0 if there were all
//   attest-none:N  N times: a report that there is not; exit status 0 if there is none
//   attest-fail:N  the module for tests ends at steps 1 to N of a request; exit status 0 if the next one goes on
//   typed          does what is typed, now and later, until a line says end; exit status 0
//   moving:N       N pages of memory are written on all vCPUs until somebody types q; exit status 0 if what was written was always there
//   touching:N     the same, with a few words of every page in every round: as many pages as fast as can be
//   exception      executes UD2                                    exit status 3
//   terminate      GHCB termination request of reason set 6, reason 7

using System;
using System.Runtime;
using System.Runtime.CompilerServices;
using System.Threading;
using Svsm.Platform;
using Svsm.Wire;

namespace Svsm.ProbeGuest;

internal static unsafe class Commands
{
    private const int Length = 16;
    private const int BenchCalls = 1000;
    private const int BenchExits = 1000;
    private const uint HostRequests = 20_000;
    private const int ValidatedPages = 510;
    private const int ValidatedLargePages = 4;
    private const ulong Page = 0x1000;
    private const ulong LargePage = 0x20_0000;
    private const ProbeTermination RequestedTermination = (ProbeTermination)7;

    /// <summary>Runs the command, if there is one.</summary>
    /// <returns>False: there is none.</returns>
    public static bool TryRun(in ProbeStart start)
    {
        // Through a pointer that the compiler cannot see through: the bytes are changed after it has seen them.
        ReadOnlySpan<byte> text = new((void*)CommandAddress(), Length);
        int length = 0;
        while (length < Length && Volatile.Read(in text[length]) != 0)
        {
            length++;
        }

        text = text.Slice(0, length);
        if (length == 0)
        {
            return false;
        }

        if (text.StartsWith("exit:"u8))
        {
            Machine.Exit((byte)Parse(text.Slice("exit:"u8.Length)));
        }
        else if (text.SequenceEqual("touch-svsm"u8))
        {
            Touch(((SecretsPage*)start.SecretsPage)->SvsmBase);
        }
        else if (text.SequenceEqual("unvalidated"u8))
        {
            Machine.ChangePageState(TestMemory.Base, PageStateOperation.Private);
            Touch(TestMemory.Base);
        }
        else if (text.SequenceEqual("hlt"u8))
        {
            while (true)
            {
                X64.Halt();
            }
        }
        else if (text.SequenceEqual("triple-fault"u8))
        {
            Machine.DropInterruptTable();
            Undefined();
        }
        else if (text.SequenceEqual("loop"u8))
        {
            Text<Com1>.WriteLine("probe: running for ever"u8);
            while (true)
            {
                System.Runtime.Intrinsics.X86.X86Base.Pause();
            }
        }
        else if (text.SequenceEqual("bench"u8))
        {
            Bench();
        }
        else if (text.SequenceEqual("validate"u8))
        {
            ValidateList(TestMemory.Base, Page, ValidatedPages);
        }
        else if (text.SequenceEqual("validate-large"u8))
        {
            ValidateList(TestMemory.Base, LargePage, ValidatedLargePages);
        }
        else if (text.SequenceEqual("null-exits"u8))
        {
            DoNullExits();
        }
        else if (text.SequenceEqual("null-vmgexits"u8))
        {
            DoNullVmgExits();
        }
        else if (text.SequenceEqual("vc-exits"u8))
        {
            DoVcExits();
        }
        else if (text.SequenceEqual("vmpl-trips"u8))
        {
            DoVmplTrips();
        }
        else if (text.StartsWith("host-msrs:"u8))
        {
            FuzzHost.Msrs(Parse(text.Slice("host-msrs:"u8.Length)));
        }
        else if (text.StartsWith("host-page:"u8))
        {
            FuzzHost.Pages(HostRequests, Parse(text.Slice("host-page:"u8.Length)));
        }
        else if (text.StartsWith("host-reg:"u8))
        {
            FuzzHost.Register(Parse(text.Slice("host-reg:"u8.Length)));
        }
        else if (text.StartsWith("fuzz:"u8))
        {
            ReadOnlySpan<byte> numbers = text.Slice("fuzz:"u8.Length);
            int separator = numbers.IndexOf((byte)':');
            FuzzCalls.Run(
                in start,
                Parse(separator < 0 ? numbers : numbers.Slice(0, separator)),
                separator < 0 ? 1 : Parse(numbers.Slice(separator + 1)));
        }
        else if (text.StartsWith("race:"u8))
        {
            RaceCalls.Run(Parse(text.Slice("race:"u8.Length)));
        }
        else if (text.StartsWith("fxrstor:"u8))
        {
            RaceCalls.RestoreState(Parse(text.Slice("fxrstor:"u8.Length)));
        }
        else if (text.StartsWith("sum:"u8))
        {
            RaceCalls.Sum(Parse(text.Slice("sum:"u8.Length)), torn: false);
        }
        else if (text.StartsWith("sum-torn:"u8))
        {
            RaceCalls.Sum(Parse(text.Slice("sum-torn:"u8.Length)), torn: true);
        }
        else if (text.SequenceEqual("typed"u8))
        {
            TypedCommands.Wait();
        }
        else if (text.StartsWith("moving:"u8))
        {
            MovingMemory.Run(Parse(text.Slice("moving:"u8.Length)), isFast: false);
        }
        else if (text.StartsWith("touching:"u8))
        {
            MovingMemory.Run(Parse(text.Slice("touching:"u8.Length)), isFast: true);
        }
        else if (text.SequenceEqual("disk"u8))
        {
            DiskChecks.Run();
        }
        else if (text.StartsWith("module:"u8))
        {
            ModuleCalls.Run(Parse(text.Slice("module:"u8.Length)));
        }
        else if (text.StartsWith("abuse:"u8))
        {
            ReadOnlySpan<byte> numbers = text.Slice("abuse:"u8.Length);
            int separator = numbers.IndexOf((byte)':');
            ModuleCalls.Abuse(Parse(numbers.Slice(0, separator)), Parse(numbers.Slice(separator + 1)));
        }
        else if (text.StartsWith("one:"u8))
        {
            ReadOnlySpan<byte> numbers = text.Slice("one:"u8.Length);
            int separator = numbers.IndexOf((byte)':');
            ModuleCalls.One(Parse(numbers.Slice(0, separator)), Parse(numbers.Slice(separator + 1)));
        }
        else if (text.SequenceEqual("module-order"u8))
        {
            ModuleCalls.Order();
        }
        else if (text.StartsWith("manifests:"u8))
        {
            AttestingCalls.Manifests(Parse(text.Slice("manifests:"u8.Length)));
        }
        else if (text.StartsWith("peers:"u8))
        {
            PeerCalls.Run(Parse(text.Slice("peers:"u8.Length)));
        }
        else if (text.SequenceEqual("messages"u8))
        {
            AttestingCalls.Messages();
        }
        else if (text.StartsWith("spy:"u8))
        {
            ModuleCalls.Spy(Parse(text.Slice("spy:"u8.Length)));
        }
        else if (text.SequenceEqual("module-clock"u8))
        {
            ModuleCalls.Clock();
        }
        else if (text.SequenceEqual("module-wait"u8))
        {
            ModuleCalls.Wait();
        }
        else if (text.StartsWith("mfuzz:"u8))
        {
            ReadOnlySpan<byte> numbers = text.Slice("mfuzz:"u8.Length);
            int separator = numbers.IndexOf((byte)':');
            FuzzModule.Run(
                in start,
                Parse(separator < 0 ? numbers : numbers.Slice(0, separator)),
                separator < 0 ? 1 : Parse(numbers.Slice(separator + 1)));
        }
        else if (text.StartsWith("lib:"u8))
        {
            ModuleCalls.Library(text.Slice("lib:"u8.Length));
        }
        else if (text.SequenceEqual("module-bench"u8))
        {
            ModuleCalls.Bench();
        }
        else if (text.SequenceEqual("tpm"u8))
        {
            TpmCalls.Run(in start);
        }
        else if (text.SequenceEqual("tpm-rsa"u8))
        {
            TpmCalls.RunRsa();
        }
        else if (text.StartsWith("persist:"u8))
        {
            PersistCalls.Run(Parse(text.Slice("persist:"u8.Length)));
        }
        else if (text.SequenceEqual("firmware"u8))
        {
            FirmwareCalls.Run();
        }
        else if (text.StartsWith("attest:"u8))
        {
            AttestCalls.Run(Parse(text.Slice("attest:"u8.Length)));
        }
        else if (text.StartsWith("attest-none:"u8))
        {
            AttestCalls.ExpectNone(Parse(text.Slice("attest-none:"u8.Length)));
        }
        else if (text.StartsWith("attest-fail:"u8))
        {
            AttestCalls.Fail(Parse(text.Slice("attest-fail:"u8.Length)));
        }
        else if (text.SequenceEqual("exception"u8))
        {
            Undefined();
        }
        else if (text.SequenceEqual("terminate"u8))
        {
            Machine.Terminate(RequestedTermination);
        }
        else
        {
            Text<Com1>.Write("probe: unknown command "u8);
            Text<Com1>.WriteLine(text);
            Machine.Exit(ExitStatus.UnknownCommand);
        }

        return true;
    }

    private static void Touch(ulong address)
    {
        Text<Com1>.Write("probe: reads 0x"u8);
        Text<Com1>.WriteHex(address);
        Text<Com1>.WriteLine();
        byte value = Volatile.Read(ref *(byte*)address);
        Text<Com1>.Write("probe: read 0x"u8);
        Text<Com1>.WriteHex(value);
        Text<Com1>.WriteLine();
        Machine.Exit(ExitStatus.StillHere);
    }

    private static void Bench()
    {
        Text<Com1>.WriteLine("probe: bench starts"u8);
        for (int i = 0; i < BenchCalls; i++)
        {
            SvsmCall call = new() { Rax = (uint)CoreCall.QueryProtocol, Rcx = 1 };
            Calls.CallOnce(ref call);
        }

        Text<Com1>.WriteLine("probe: bench ends"u8);
        Machine.Exit(ExitStatus.Passed);
    }

    private static void ValidateList(ulong first, ulong pageBytes, int count)
    {
        bool large = pageBytes == LargePage;
        Calls.WriteHead(Calls.Buffer, (ushort)count, 0);
        for (int i = 0; i < count; i++)
        {
            ulong page = first + ((ulong)i * pageBytes);
            if (!(large ? Machine.MakeLargePagePrivate(page) : Machine.ChangePageState(page, PageStateOperation.Private)))
            {
                Machine.Terminate(ProbeTermination.SvsmCall);
            }

            Calls.WriteEntry(Calls.Buffer, i, page | PvalidateList.Validate | (large ? 1u : 0u));
        }

        Machine.Exit(Calls.Core(CoreCall.PValidate, Calls.Buffer) == SvsmResultCode.Success ? ExitStatus.Passed : ExitStatus.Failed);
    }

    private static void DoNullExits()
    {
        for (int i = 0; i < BenchExits; i++)
        {
            X64.ReadMsr(SevMsr.Ghcb);
        }

        Machine.Exit(ExitStatus.Passed);
    }

    private static void DoNullVmgExits()
    {
        for (int i = 0; i < BenchExits; i++)
        {
            X64.WriteMsr(SevMsr.Ghcb, GhcbMsr.SevInfoRequest);
            X64.VmgExit();
        }

        Machine.Exit(ExitStatus.Passed);
    }

    private static void DoVcExits()
    {
        for (int i = 0; i < BenchExits; i++)
        {
            X64.Cpuid(0);
        }

        Machine.Exit(ExitStatus.Passed);
    }

    private static void DoVmplTrips()
    {
        for (int i = 0; i < BenchExits; i++)
        {
            if (!Calls.ExitWithoutCall())
            {
                Machine.Terminate(ProbeTermination.SvsmCall);
            }
        }

        Machine.Exit(ExitStatus.Passed);
    }

    private static uint Parse(ReadOnlySpan<byte> digits)
    {
        uint value = 0;
        for (int i = 0; i < digits.Length; i++)
        {
            value = (value * 10) + (uint)(digits[i] - '0');
        }

        return value;
    }

    [RuntimeImport("*", "probe_command_address")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    private static extern ulong CommandAddress();

    [RuntimeImport("*", "probe_undefined")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    private static extern void Undefined();
}
