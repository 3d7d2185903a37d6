// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Modules in the machine: the test module (tests/Svsm.TestModule), compiled as an image's program is, as a process of the real kernel.

using System;
using System.IO;
using System.Linq;
using System.Threading.Tasks;
using Svsm.Builder;
using Svsm.Builder.Tests;
using Svsm.Simulator;
using Svsm.Wire;
using Xunit;

namespace Svsm.EndToEnd.Tests;

public sealed class ModuleTests
{
    private const string TypeName = "Svsm.TestModule.TestModule";
    private const uint Protocol = 0x8000_0001;

    // SW_EXITINFO2 in the GHCB page, and what a host says in it that is busy with a guest request.
    private const ulong Info2Offset = 0x3A0;
    private const ulong Busy = 2ul << 32;

    // Behind the headers of a file with one segment, at the same place of a page.
    private const ulong Code = 0x40_0000 + 64 + 56;

    [Theory]
    [InlineData(1)]
    [InlineData(4)]
    public async Task Module_CallsOfAllVcpus_AreAnswered(int vcpuCount)
    {
        using ImageUnderTest image = Build("module:50");
        MachineResult result = await ImageUnderTest.RunAsync(image.Options() with { VcpuCount = vcpuCount });

        AssertPassed(result);
        Assert.Contains(TypeName + ": hello", result.ConsoleText((int)Vmpl.Vmpl0), StringComparison.Ordinal);
    }

    // By number: tests/Svsm.TestModule/Misdeeds.cs. With the line of the log.
    public static TheoryData<int, string> WaysToFail => new()
    {
        { 0, "exited with status 1" },
        { 1, "exited with status 3" },
        { 2, "took more than 20 ms" },
        { 3, "signal 11" },
        { 4, "wrote what is no answer" },
        { 5, "wrote what is no answer" },
        { 6, "exited with status 1" },
        { 7, "asked for the time of day" },
        { 8, "aborted" },
        { 9, "signal 11" },
        { 10, "aborted" },
        { 11, "wrote what is no answer" },
        { 12, "wrote what is no answer" },
        { 13, "aborted" },
    };

    [Theory]
    [MemberData(nameof(WaysToFail))]
    public Task Module_FailsAgainAndAgain_IsStartedAnewAndNothingLeaks(int misdeed, string line) => AbuseAsync(misdeed, line, rounds: 20);

    [Theory]
    [Trait("Run", "all")]
    [MemberData(nameof(WaysToFail))]
    public Task Module_FailsAThousandTimes_IsStartedAnewAndNothingLeaks(int misdeed, string line) => AbuseAsync(misdeed, line, rounds: 1000);

    private static async Task AbuseAsync(int misdeed, string line, int rounds)
    {
        using ImageUnderTest image = Build($"abuse:{misdeed}:{rounds}", module => module with { RestartLimit = (uint)rounds, Watchdog = 20 });
        MachineResult result = await ImageUnderTest.RunAsync(image.Options() with { CountInstructions = true, Timeout = TimeSpan.FromHours(1) });

        AssertPassed(result);
        string log = result.ConsoleText((int)Vmpl.Vmpl0);
        Assert.True(log.Split('\n').Count(candidate => candidate.Contains(TypeName + ": " + line, StringComparison.Ordinal)) == rounds, log);

        // As much memory is in use as after one failure.
        using ImageUnderTest once = Build($"abuse:{misdeed}:1", module => module with { RestartLimit = (uint)rounds, Watchdog = 20 });
        MachineResult wanted = await ImageUnderTest.RunAsync(once.Options() with { CountInstructions = true });
        Assert.Equal(wanted.Kernel!.FramesInUse, result.Kernel!.FramesInUse);
    }

    [Theory]
    [InlineData("one:6:0")]
    [InlineData("one:7:0")]
    [InlineData("one:9:50")]
    [InlineData("one:10:20")]
    [InlineData("one:11:0")]
    public async Task Module_DoesWhatOrdinaryProgramsDo_Works(string command)
    {
        using ImageUnderTest image = Build(command);
        AssertPassed(await ImageUnderTest.RunAsync(image.Options() with { CountInstructions = true }));
    }

    [Theory]
    [InlineData(2)]
    [InlineData(4)]
    public async Task Module_GuestDoesNotAskAgain_OthersAreServed(int vcpuCount)
    {
        using ImageUnderTest image = Build("module-order");
        AssertPassed(await ImageUnderTest.RunAsync(image.Options() with { VcpuCount = vcpuCount, CountInstructions = true }));
    }

    [Fact]
    public async Task Module_TakesLong_GuestHasItsTimerAndItsOtherVcpus()
    {
        using ImageUnderTest image = Build("module-wait");
        MachineResult result = await ImageUnderTest.RunAsync(image.Options() with { VcpuCount = 3, CountInstructions = true, Timeout = TimeSpan.FromMinutes(15) });

        AssertPassed(result);
    }

    [Fact]
    public async Task Module_LooksForWhatAnotherOneHas_DoesNotSeeIt()
    {
        using ImageUnderTest image = Build("spy:10", module => module with { RestartLimit = 10 }, Neighbour with { OnFailure = ModuleFailurePolicy.Retire });
        MachineResult result = await ImageUnderTest.RunAsync(image.Options());

        AssertPassed(result);
        Assert.Contains(TypeName + ": aborted", result.ConsoleText((int)Vmpl.Vmpl0), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Module_Clock_KeepsTime()
    {
        using ImageUnderTest image = Build("module-clock");
        MachineResult result = await ImageUnderTest.RunAsync(image.Options() with { CountInstructions = true });

        AssertPassed(result);
        Assert.DoesNotContain("do not fit", result.ConsoleText((int)Vmpl.Vmpl0), StringComparison.Ordinal);
    }

    // It uses no processor time, but the guest would never start.
    [Fact]
    public async Task Module_SleepsInItsStart_DoesNotHoldUpTheGuest()
    {
        var sleeping = new ModuleOptions { TypeName = "Svsm.TestModule.SleepingModule", Protocol = 0x8000_0003, Watchdog = 20, RestartLimit = 1 };
        using ImageUnderTest image = Build("module:1", others: sleeping);
        MachineResult result = await ImageUnderTest.RunAsync(image.Options() with { CountInstructions = true });

        AssertPassed(result);
        Assert.Equal(2, result.ConsoleText((int)Vmpl.Vmpl0).Split("SleepingModule: took more than 20 ms").Length - 1);
        Assert.Contains("SleepingModule: retired", result.ConsoleText((int)Vmpl.Vmpl0), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(4)]
    public async Task Module_ThatAttests_HasTheManifestsOfTheOthers(int vcpuCount)
    {
        using ImageUnderTest image = BuildAttesting("manifests:10", Neighbour with { RestartLimit = 2 });
        using ImageUnderTest once = BuildAttesting("manifests:1", Neighbour with { RestartLimit = 2 });
        MachineResult result = await ImageUnderTest.RunAsync(image.Options() with { VcpuCount = vcpuCount, CountInstructions = true });
        MachineResult wanted = await ImageUnderTest.RunAsync(once.Options() with { VcpuCount = vcpuCount, CountInstructions = true });

        AssertPassed(result);
        AssertPassed(wanted);
        Assert.Equal(wanted.Kernel!.FramesInUse, result.Kernel!.FramesInUse);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(4)]
    public async Task Module_AsksAnotherOne_HasItsAnswer(int vcpuCount)
    {
        using ImageUnderTest image = ImageUnderTest.Build("peers:5", modules:
        [
            new ModuleOptions { TypeName = "Svsm.TestModule.AskingModule", Protocol = 0x8000_0005, Permissions = ModulePermissions.Store, StoreQuota = 0x1234 },
            new ModuleOptions { TypeName = "Svsm.TestModule.KeepingModule", Protocol = 0x8000_0006, Permissions = ModulePermissions.KeepStore },
            new ModuleOptions { TypeName = "Svsm.TestModule.KeyModule", Protocol = 0x8000_0007, Permissions = ModulePermissions.Attest },
        ]);
        AssertPassed(await ImageUnderTest.RunAsync(image.Options() with { VcpuCount = vcpuCount, CountInstructions = true }));
    }

    [Fact]
    public async Task Module_ThatKeepsTheStore_ReachesTheDisks()
    {
        string folder = Directory.CreateTempSubdirectory("svsm-disk-").FullName;
        try
        {
            string disk = Path.Combine(folder, "disk");
            await File.WriteAllBytesAsync(disk, new byte[48 * 512], TestContext.Current.CancellationToken);
            using ImageUnderTest image = ImageUnderTest.Build(
                "exit:0", modules: [new ModuleOptions { TypeName = "Svsm.TestModule.DiskModule", Protocol = 0x8000_0008, Permissions = ModulePermissions.KeepStore }]);
            MachineResult result = await ImageUnderTest.RunAsync(image.Options() with { SvsmDisks = [new SvsmDisk(disk)] });

            AssertPassed(result);
            string log = result.ConsoleText((int)Vmpl.Vmpl0);
            Assert.Contains("DiskModule: disk 0: version 2, kind 2, status 3, 48 sectors", log, StringComparison.Ordinal);
            Assert.Contains("DiskModule: disk 3: none, 0xFFFFFFFF", log, StringComparison.Ordinal);
            Assert.Contains("DiskModule: memory: page aligned True, the same True", log, StringComparison.Ordinal);
            Assert.Contains("DiskModule: 2 bytes at 0x10FFFF of the disks: error 22", log, StringComparison.Ordinal);
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    // The host is busy once, and says then what the security processor says to a message that it cannot decrypt.
    [Fact]
    public async Task Module_ThatAttests_FindsItsMessagesAfterAFailure()
    {
        using ImageUnderTest image = BuildAttesting("messages", Neighbour);
        MachineResult result = await ImageUnderTest.RunAsync(image.Options() with { CountInstructions = true, Attacks = [Attack.Answer(Info2Offset, Busy, AttackTime.AtRequest(1, (ulong)GhcbExitCode.GuestRequest))] });

        AssertPassed(result);
    }

    // Programs of a few instructions, which no compiler would make: each asks the host, or the processor, for what only the kernel may, and then exits
    // with status 9 (mov eax, 231; mov edi, 9; syscall). "signal 11" is a general-protection fault.
    [Theory]
    [InlineData(new byte[] { 0xF3, 0x0F, 0x01, 0xD9, 0xF3, 0x0F, 0x01, 0xD9 }, "exited with status 9")] // vmgexit, twice
    [InlineData(new byte[] { 0xF4 }, "signal 11")] // hlt
    [InlineData(new byte[] { 0x0F, 0x32 }, "signal 11")] // rdmsr
    [InlineData(new byte[] { 0x0F, 0x20, 0xD8 }, "signal 11")] // mov rax, cr3
    [InlineData(new byte[] { 0xEC }, "signal 11")] // in al, dx
    [InlineData(new byte[] { 0xCD, 0x1D }, "signal 11")] // int 29, the vector of #VC
    [InlineData(new byte[] { 0xCD, 0x1C }, "signal 11")] // int 28, the vector of #HV
    [InlineData(new byte[] { 0x0F, 0x0B }, "signal 4")] // ud2
    [InlineData(new byte[] { 0x0F, 0xA2 }, "exited with status 9")] // cpuid
    [InlineData(new byte[] { 0x9C, 0x81, 0x0C, 0x24, 0x00, 0x00, 0x04, 0x00, 0x9D, 0x0F, 0xA2 }, "exited with status 9")] // AC set, and an exception
    [InlineData(new byte[] { 0x9C, 0x81, 0x0C, 0x24, 0x00, 0x01, 0x00, 0x00, 0x9D, 0x90 }, "signal 5")] // TF set
    [InlineData(new byte[] { 0x9C, 0x81, 0x0C, 0x24, 0x00, 0x41, 0x04, 0x00, 0x9D, 0x0F, 0x05 }, "signal 5")] // TF, NT and AC set, and a system call
    [InlineData(new byte[] { 0x48, 0xBC, 0x00, 0xF0, 0x01, 0x00, 0x00, 0xFF, 0xFF, 0xFF, 0x0F, 0xA2 }, "exited with status 9")] // RSP in the stack of #HV, and an exception
    [InlineData(new byte[] { 0x48, 0xBC, 0, 0, 0, 0, 0, 0, 0, 0x80, 0xB8, 39, 0, 0, 0, 0x0F, 0x05 }, "exited with status 9")] // RSP not canonical, and a system call
    public async Task Module_ExecutesWhatItMayNot_FailsAlone(byte[] code, string line)
    {
        using ImageUnderTest image = ImageUnderTest.Build("exit:0", modules: [new ModuleOptions { TypeName = TypeName, Protocol = Protocol, OnFailure = ModuleFailurePolicy.Retire }],
            program: new TestElf { Entry = Code }.Add(Code, TestElf.RX, [.. code, 0xB8, 231, 0, 0, 0, 0xBF, 9, 0, 0, 0, 0x0F, 0x05]).ToArray());
        MachineResult result = await image.RunAsync();

        AssertPassed(result);
        Assert.Contains(TypeName + ": " + line, result.ConsoleText((int)Vmpl.Vmpl0), StringComparison.Ordinal);
    }

    // What a module may not do: the guest sees the code that the module answers with.
    [Theory]
    [InlineData("one:2:33554432", ModulePermissions.None)]
    [InlineData("one:2:33554432", ModulePermissions.ReadGuest)]
    [InlineData("one:2:33554432", ModulePermissions.WriteGuest)]
    public async Task Module_LacksAPermission_CannotReachTheGuest(string command, ModulePermissions permissions)
    {
        using ImageUnderTest image = Build(command, module => module with { Permissions = permissions });
        MachineResult result = await ImageUnderTest.RunAsync(image.Options());

        Assert.Contains("got 0x80000003", result.ConsoleText((int)Vmpl.Vmpl2), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(ModuleFailurePolicy.Retire, 5u)]
    [InlineData(ModuleFailurePolicy.Restart, 0u)]
    public async Task Module_FailsOnceTooOften_IsRetired(ModuleFailurePolicy policy, uint limit)
    {
        using ImageUnderTest image = Build("abuse:0:1", module => module with { OnFailure = policy, RestartLimit = limit });
        MachineResult result = await ImageUnderTest.RunAsync(image.Options());

        // The call that it failed in has its answer; the next one finds no such protocol.
        Assert.Equal(1, result.ExitStatus);
        Assert.Contains("module: wrong answers got 0x1 ", result.ConsoleText((int)Vmpl.Vmpl2), StringComparison.Ordinal);
        Assert.Contains(TypeName + ": retired", result.ConsoleText((int)Vmpl.Vmpl0), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Fuzz_CallsToAModuleInDrawnTurns_AreAnswered() =>
        AssertPassed(await FuzzAsync("mfuzz:2000:1", options => options with { VcpuCount = 4, CountInstructions = true, TurnSeed = 3 }));

    [Fact]
    public async Task Fuzz_CallsToAModuleInThreads_AreAnswered() =>
        AssertPassed(await FuzzAsync("mfuzz:2000:2", options => options with { VcpuCount = 4, Threads = true }));

    [Theory]
    [Trait("Run", "all")]
    [InlineData("mfuzz:100000:3", 4)]
    [InlineData("mfuzz:100000:4", 2)]
    public async Task Fuzz_ManyCallsToAModule_AreAnswered(string command, int vcpuCount) =>
        AssertPassed(await FuzzAsync(command, options => options with { VcpuCount = vcpuCount, CountInstructions = true, TurnSeed = 4, Timeout = TimeSpan.FromHours(2) }));

    private static async Task<MachineResult> FuzzAsync(string command, Func<MachineOptions, MachineOptions> how)
    {
        using ImageUnderTest image = Build(command);
        return await ImageUnderTest.RunAsync(how(image.Options() with { Timeout = TimeSpan.FromMinutes(15) }));
    }

    private static ModuleOptions Neighbour => new()
    {
        TypeName = "Svsm.TestModule.NeighbourModule",
        Protocol = 0x8000_0002,
        Service = new("5d1f3a52-7b0c-4c8e-9a8b-0f6c2d1e4b7a"),
    };

    private static ImageUnderTest BuildAttesting(string command, ModuleOptions neighbour) => ImageUnderTest.Build(
        command, modules: [new ModuleOptions { TypeName = "Svsm.TestModule.AttestingModule", Protocol = 1, Permissions = ModulePermissions.Attest }, neighbour]);

    internal static ImageUnderTest Build(string command, Func<ModuleOptions, ModuleOptions>? alter = null, params ModuleOptions[] others)
    {
        var module = new ModuleOptions { TypeName = TypeName, Protocol = Protocol };
        return ImageUnderTest.Build(command, alterOptions: options => options with
        {
            Modules = [alter?.Invoke(module) ?? module, .. others],
            Files = [new ModuleFile(ModuleOptions.DefaultProgram, File.ReadAllBytes(ImageUnderTest.PathOf("TestModules")))],
        });
    }

    private static void AssertPassed(MachineResult result) =>
        Assert.True(result.ExitStatus == 0, result + "\n" + result.ConsoleText((int)Vmpl.Vmpl2) + "\n" + result.ConsoleText((int)Vmpl.Vmpl0));
}
