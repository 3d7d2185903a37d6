// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// svsm-simulator: boots an IGVM file on the simulated SEV-SNP machine. docs/simulated-machine.md is its manual.

using System;
using System.CommandLine;
using System.Runtime.InteropServices;
using System.Threading;
using Svsm.Simulator;
using Svsm.Simulator.Shared;

var image = new Argument<string>("image") { Description = "the IGVM file" };
var digest = new Option<string?>("--digest") { Description = "the launch digest that the image must have: 96 hexadecimal digits, or its .digest.json file" };
var vcpus = new Option<int>("--vcpus") { Description = "number of vCPUs", DefaultValueFactory = _ => 1 };
var memory = new Option<int>("--memory") { Description = "guest RAM in MiB", DefaultValueFactory = _ => 256 };
var timeout = new Option<double?>("--timeout") { Description = "stop the run after so many seconds" };
var icount = new Option<bool>("--icount") { Description = "count instructions: statistics repeat exactly from run to run" };
var singleVmpl = new Option<bool>("--single-vmpl") { Description = "the host offers VMPL0 only, as a stock Linux host does" };
var expectViolation = new Option<ViolationKind>("--expect-violation") { HelpName = "kind", Description = "succeed if and only if the run ends with this violation" };
var json = new Option<bool>("--json") { Description = "print the outcome as one JSON object; console lines go to the error output" };

var run = new Command("run", "Boots an image.") { image, digest, vcpus, memory, timeout, icount, singleVmpl, expectViolation, json };
run.SetAction(async (parsed, cancellationToken) =>
{
    var command = new RunCommand
    {
        Machine = new MachineOptions
        {
            ImagePath = parsed.GetRequiredValue(image),
            VcpuCount = parsed.GetValue(vcpus),
            MemoryMiB = parsed.GetValue(memory),
            Timeout = parsed.GetValue(timeout) is double seconds ? RunCommand.ParseTimeout(seconds) : Timeout.InfiniteTimeSpan,
            CountInstructions = parsed.GetValue(icount),
            SingleVmpl = parsed.GetValue(singleVmpl),
        },
        Digest = parsed.GetValue(digest),
        ExpectedViolation = parsed.GetValue(expectViolation),
        Json = parsed.GetValue(json),
    };
    return await command.RunAsync(Console.Out, Console.Error, cancellationToken).ConfigureAwait(false);
});

var root = new RootCommand("Boots IGVM files on a simulated SEV-SNP machine.") { run };
ParseResult result = root.Parse(args);
if (result.Errors.Count != 0)
{
    await result.InvokeAsync().ConfigureAwait(false);
    return RunExitStatus.Usage;
}

// A closed terminal and a polite kill end QEMU as Ctrl-C does.
using var interrupted = new CancellationTokenSource();
using PosixSignalRegistration interrupt = PosixSignalRegistration.Create(PosixSignal.SIGINT, Interrupt);
using PosixSignalRegistration hangUp = PosixSignalRegistration.Create(PosixSignal.SIGHUP, Interrupt);
using PosixSignalRegistration terminate = PosixSignalRegistration.Create(PosixSignal.SIGTERM, Interrupt);
return await result.InvokeAsync(new InvocationConfiguration { ProcessTerminationTimeout = null }, interrupted.Token).ConfigureAwait(false);

void Interrupt(PosixSignalContext context)
{
    context.Cancel = true;
    interrupted.Cancel();
}
