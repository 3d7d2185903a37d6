// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The table "The class library" of docs/write-a-module.md, row by row, in a module of the real kernel (tests/Svsm.TestModule/LibraryModule.cs).

using System;
using System.IO;
using System.Threading.Tasks;
using Svsm.Builder;
using Svsm.Simulator;
using Svsm.TestModule;
using Svsm.Wire;
using Xunit;

namespace Svsm.EndToEnd.Tests;

public sealed class LibraryTests
{
    private const string TypeName = "Svsm.TestModule.LibraryModule";

    public static TheoryData<string, string> LibraryRowsOfEveryProgram => new(LibraryRows.OfEveryProgram);

    [Theory]
    [MemberData(nameof(LibraryRowsOfEveryProgram))]
    [InlineData("console", "IOException")]
    [InlineData("thread", "OutOfMemoryException")]
    [InlineData("task", "TaskSchedulerException")]
    [InlineData("file", "DirectoryNotFoundException")]
    [InlineData("archive", "True 8 red 1 shared")]
    [InlineData("unshared", "DirectoryNotFoundException")]
    [InlineData("unseen", "not there")]
    [InlineData("write", "IOException")]
    [InlineData("create", "DirectoryNotFoundException")]
    [InlineData("directory", "DirectoryNotFoundException")]
    [InlineData("socket", "TypeInitializationException")]
    [InlineData("name", "SocketException")]
    [InlineData("process", "Win32Exception")]
    [InlineData("parallel", "TaskSchedulerException")]
    [InlineData("plinq", "500500")]
    [InlineData("pool", "OutOfMemoryException")]
    [InlineData("unfinalized", "did not run")]
    public async Task Library_Row_DoesWhatTheGuideSays(string row, string outcome)
    {
        using ImageUnderTest image = Build(row);
        MachineResult result = await ImageUnderTest.RunAsync(image.Options());

        string guest = result.ConsoleText((int)Vmpl.Vmpl2);
        Assert.True(result.ExitStatus == 0, result + "\n" + guest);
        Assert.True(guest.Contains($"library: {outcome}\n", StringComparison.Ordinal), guest + result.ConsoleText((int)Vmpl.Vmpl0));
    }

    [Theory]
    [InlineData("date", "asked for the time of day")]
    [InlineData("delay", "asked for the time of day")]
    [InlineData("cancel", "asked for the time of day")]
    [InlineData("timer", "asked for the time of day")]
    [InlineData("await", "Unhandled exception")]
    [InlineData("finalizers", "waits for another thread")]
    public async Task Library_RowThatCannotGoOn_EndsTheProcess(string row, string log)
    {
        using ImageUnderTest image = Build(row);
        MachineResult result = await ImageUnderTest.RunAsync(image.Options());

        string guest = result.ConsoleText((int)Vmpl.Vmpl2);
        Assert.True(result.ExitStatus == 0, result + "\n" + guest);
        Assert.Contains("library: no answer\n", guest, StringComparison.Ordinal);
        Assert.Contains($"{TypeName}: {log}", result.ConsoleText((int)Vmpl.Vmpl0), StringComparison.Ordinal);
    }

    // Two processes of the module: the guest calls the first one, which may read one of the two files.
    private static ImageUnderTest Build(string row)
    {
        var module = new ModuleOptions { TypeName = TypeName, Protocol = 0x8000_0002 };
        ModuleOptions other = module with { Protocol = 0x8000_0003 };
        return ImageUnderTest.Build("lib:" + row, alterOptions: options => options with
        {
            Modules = [module, other],
            Files =
            [
                new ModuleFile(ModuleOptions.DefaultProgram, File.ReadAllBytes(ImageUnderTest.PathOf("TestLibrary"))),
                new ModuleFile(LibraryRows.SharedFile, "1 shared"u8.ToArray()) { Readers = [module.Protocol] },
                new ModuleFile(LibraryRows.UnsharedFile, "2 not shared"u8.ToArray()) { Readers = [other.Protocol] },
            ],
        });
    }
}
