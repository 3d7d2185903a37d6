// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using Svsm.Simulator;
using Svsm.Tool;

using var interruption = new Interruption();
return await SvsmCommandLine.RunAsync(args, ToolConsole.ForProcess(), interruption.Token).ConfigureAwait(false);
