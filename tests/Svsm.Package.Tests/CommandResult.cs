// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using Xunit;

namespace Svsm.Package.Tests;

/// <summary>What a program did.</summary>
/// <param name="Command">The command line, for messages.</param>
/// <param name="ExitStatus">Its exit status.</param>
/// <param name="Output">Standard output and standard error as they came.</param>
internal sealed record CommandResult(string Command, int ExitStatus, string Output)
{
    /// <summary>Fails the test, with the output, unless the program succeeded.</summary>
    public CommandResult MustSucceed()
    {
        Assert.True(ExitStatus == 0, $"{Command}\nended with {ExitStatus}:\n{Output}");
        return this;
    }

    /// <summary>Fails the test, with the output, unless the program failed with this SVSM message.</summary>
    public CommandResult MustFailWith(string code, params string[] texts)
    {
        Assert.True(ExitStatus != 0, $"{Command}\nsucceeded:\n{Output}");
        Assert.Contains($"error {code}: ", Output, System.StringComparison.Ordinal);
        Assert.Contains($"docs/errors/{code}.md", Output, System.StringComparison.Ordinal);
        Assert.All(texts, text => Assert.Contains(text, Output, System.StringComparison.Ordinal));
        return this;
    }
}
