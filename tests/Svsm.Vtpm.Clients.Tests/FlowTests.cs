// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Threading.Tasks;
using Xunit;

namespace Svsm.Vtpm.Clients.Tests;

// Each file of Flows is a shell script against a new TPM after Startup(CLEAR). Its line "# tcti: " says over what.
public sealed class FlowTests
{
    private static readonly string s_folder = Path.Combine(AppContext.BaseDirectory, "Flows");

    public static IEnumerable<TheoryDataRow<string>> Flows => Directory.EnumerateFiles(s_folder, "*.sh").Order(StringComparer.Ordinal).Select(f => new TheoryDataRow<string>(Path.GetFileName(f)));

    [Theory]
    [MemberData(nameof(Flows))]
    public async Task Flow_RealClients_Succeeds(string name)
    {
        string script = await File.ReadAllTextAsync(Path.Combine(s_folder, name), TestContext.Current.CancellationToken);
        string tcti = script.Split('\n').First(line => line.StartsWith("# tcti: ", StringComparison.Ordinal))["# tcti: ".Length..];
        using var tpm = new DeskTpm();
        await tpm.RunAsync("tpm2_startup -c\n" + script, tcti);
    }
}
