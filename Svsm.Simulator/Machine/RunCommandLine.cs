// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The command `run` as users type it: its options, once, for svsm-simulator and for svsm. docs/simulated-machine.md is its manual.

using System;
using System.Collections.Generic;
using System.CommandLine;
using System.Linq;
using System.Threading;
using Svsm.Simulator.Shared;

namespace Svsm.Simulator;

/// <summary>Makes the command line of <see cref="RunCommand"/>.</summary>
public static class RunCommandLine
{
    private static readonly Dictionary<string, TraceKinds> s_traces = new(StringComparer.Ordinal)
    {
        ["exits"] = TraceKinds.Exits,
        ["rmp"] = TraceKinds.Rmp,
        ["ghcb"] = TraceKinds.Ghcb,
    };

    /// <summary>Makes the command.</summary>
    /// <returns>A command called <c>run</c>, which writes to the output and error writers of the invocation.</returns>
    public static Command Create()
    {
        var image = new Argument<string?>("FILE") { Description = "the IGVM file", Arity = ArgumentArity.ZeroOrOne };
        var kernel = new Option<string?>("--guest-kernel") { Description = "in place of an image: a Linux kernel, run as a plain SNP guest", HelpName = "FILE" };
        var initrd = new Option<string?>("--initrd") { Description = "its initial RAM disk", HelpName = "FILE" };
        var append = new Option<string>("--append") { Description = "its command line", HelpName = "TEXT", DefaultValueFactory = _ => "" };
        var digest = new Option<string?>("--digest") { Description = "the launch digest that the image must have: 96 hexadecimal digits, or its .digest.json file", HelpName = "HEX|FILE" };
        var vcpus = new Option<int>("--vcpus") { Description = "number of vCPUs", HelpName = "NUMBER", DefaultValueFactory = _ => 1 };
        var memory = new Option<int>("--memory") { Description = "guest RAM in MiB", HelpName = "MIB", DefaultValueFactory = _ => 256 };
        var timeout = new Option<double?>("--timeout") { Description = "stop the run after so many seconds", HelpName = "SECONDS" };
        var icount = new Option<bool>("--icount") { Description = "count instructions: statistics repeat exactly from run to run" };
        var turns = new Option<ulong?>("--turns") { Description = "draw from this number when a vCPU's turn ends and whose is next", HelpName = "SEED" };
        var threads = new Option<bool>("--threads") { Description = "run the vCPUs at the same time instead of in turns; nothing repeats" };
        var singleVmpl = new Option<bool>("--single-vmpl") { Description = "the host offers VMPL0 only, as a stock Linux host does" };
        var hostData = new Option<string?>("--host-data") { Description = "HOST_DATA of the launch, which reports have: 64 hexadecimal digits", HelpName = "HEX" };
        var type = new Option<string[]>("--type") { Description = "type this line at the guest's serial port before it starts; can be given several times", HelpName = "TEXT", DefaultValueFactory = _ => [] };
        var expectViolation = new Option<ViolationKind>("--expect-violation") { Description = "succeed if and only if the run ends with this violation", HelpName = "KIND" };
        var disk = new Option<string[]>("--disk") { Description = "a disk of the guest; can be given several times", HelpName = "FILE[,readonly]", DefaultValueFactory = _ => [] };
        var svsmDisk = new Option<string[]>("--svsm-disk") { Description = "a disk of the SVSM; can be given several times", HelpName = "FILE[,readonly]", DefaultValueFactory = _ => [] };
        var svsmChannel = new Option<string?>("--svsm-channel") { Description = "the channel of the SVSM: a Unix socket that svsm keys proxy listens on", HelpName = "SOCKET" };
        var source = new Option<string?>("--migration-source") { Description = "the guest may be moved away: make this Unix socket for svsm migrate", HelpName = "SOCKET" };
        var target = new Option<string?>("--migration-target") { Description = "a guest may be moved here: make this Unix socket for svsm migrate", HelpName = "SOCKET" };
        var net = new Option<string?>("--net") { Description = "a network card on a network of its own; connections to PORT of this PC go to the guest's GUESTPORT", HelpName = "user[:[ADDRESS:]PORT:GUESTPORT]" };
        var attack = new Option<string[]>("--attack") { Description = "a hostile host does this; can be given several times. docs/hostile-host.md lists the names", HelpName = "NAME[:SEED]", DefaultValueFactory = _ => [] };
        var trace = new Option<string[]>("--trace") { Description = "a line per event: exits, rmp or ghcb; can be given several times", HelpName = "WHAT", DefaultValueFactory = _ => [] };
        trace.AcceptOnlyFromAmong([.. s_traces.Keys]);
        var gdb = new Option<int?>("--gdb") { Description = "serve gdb at this TCP port, and wait for it", HelpName = "PORT" };
        var json = new Option<bool>("--json") { Description = "print the outcome as one JSON object; console lines go to the error output" };
        var command = new Command("run", "Boots an image on the simulated SEV-SNP machine.") { image, kernel, initrd, append, digest, vcpus, memory, timeout, icount, turns, threads, singleVmpl, hostData, disk, net, svsmDisk, svsmChannel, source, target, type, expectViolation, attack, trace, gdb, json };
        command.SetAction((parsed, cancellationToken) => new RunCommand
        {
            Machine = new MachineOptions
            {
                ImagePath = parsed.GetValue(image),
                GuestKernelPath = parsed.GetValue(kernel),
                InitialRamDiskPath = parsed.GetValue(initrd),
                KernelCommandLine = parsed.GetRequiredValue(append),
                VcpuCount = parsed.GetValue(vcpus),
                MemoryMiB = parsed.GetValue(memory),
                Timeout = parsed.GetValue(timeout) is double seconds ? RunCommand.ParseTimeout(seconds) : Timeout.InfiniteTimeSpan,
                CountInstructions = parsed.GetValue(icount),
                TurnSeed = parsed.GetValue(turns),
                Threads = parsed.GetValue(threads),
                SingleVmpl = parsed.GetValue(singleVmpl),
                SvsmChannel = parsed.GetValue(svsmChannel),
                GdbPort = parsed.GetValue(gdb),
                Typed = string.Concat(parsed.GetValue(type)!.Select(line => line + "\n")),
                Trace = parsed.GetValue(trace)!.Aggregate(TraceKinds.None, (all, name) => all | s_traces[name]),
            },
            HostData = parsed.GetValue(hostData),
            Disks = parsed.GetValue(disk)!,
            Network = parsed.GetValue(net),
            SvsmDisks = parsed.GetValue(svsmDisk)!,
            MigrationSource = parsed.GetValue(source),
            MigrationTarget = parsed.GetValue(target),
            Attacks = parsed.GetValue(attack)!,
            Digest = parsed.GetValue(digest),
            ExpectedViolation = parsed.GetValue(expectViolation),
            Json = parsed.GetValue(json),
        }.RunAsync(parsed.InvocationConfiguration.Output, parsed.InvocationConfiguration.Error, cancellationToken));
        return command;
    }
}
