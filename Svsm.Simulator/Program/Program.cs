// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// svsm-simulator: boots an IGVM file on the simulated SEV-SNP machine. docs/simulated-machine.md is its manual.

using System.CommandLine;
using Svsm.Simulator;

ParseResult result = new RootCommand("Boots IGVM files on a simulated SEV-SNP machine.") { RunCommandLine.Create() }.Parse(args);
if (result.Errors.Count != 0)
{
    await result.InvokeAsync().ConfigureAwait(false);
    return RunExitStatus.Usage;
}

using var interruption = new Interruption();
return await result.InvokeAsync(new InvocationConfiguration { ProcessTerminationTimeout = null }, interruption.Token).ConfigureAwait(false);
