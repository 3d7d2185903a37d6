// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Threading.Tasks;
using Svsm.Diagnostics;
using Xunit;

namespace Svsm.Simulator.Tests;

public sealed class QemuExecutableTests
{
    [Fact]
    public async Task FindAsync_Path_GivesVersion()
    {
        QemuExecutable qemu = await FindAsync(FakeQemu.Program);

        Assert.Equal(new Version(9, 1, 0), qemu.Version);
        Assert.Equal(FakeQemu.Program, qemu.Path);
    }

    [Theory]
    [InlineData("no-such-program-anywhere")]
    [InlineData("/nowhere/qemu-system-x86_64")]
    public async Task FindAsync_Missing_NamesThePackage(string path)
    {
        var error = await Assert.ThrowsAsync<SvsmDiagnosticException>(() => FindAsync(path));

        Assert.Same(SvsmDiagnostics.QemuMissing, error.Diagnostic);
        Assert.Contains(path, error.Message, StringComparison.Ordinal);
        Assert.Contains("qemu-system-x86,", error.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("old-qemu.sh", "version 5.2.0")]
    [InlineData("no-qemu.sh", "usage: something else")]
    [InlineData("Svsm.Simulator.Machine.dll", "does not start")]
    public async Task FindAsync_Unusable_SaysWhy(string name, string part)
    {
        var error = await Assert.ThrowsAsync<SvsmDiagnosticException>(() => FindAsync(FakeQemu.Script(name)));

        Assert.Same(SvsmDiagnostics.QemuUnusable, error.Diagnostic);
        Assert.Contains(part, error.Message, StringComparison.Ordinal);
    }

    private static Task<QemuExecutable> FindAsync(string path) => QemuExecutable.FindAsync(path, TestContext.Current.CancellationToken);
}
