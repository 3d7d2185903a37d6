// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Reflection;
using System.Text;
using System.Threading.Tasks;
using Svsm.Core.Testing;
using Svsm.TestModule;
using Svsm.Wire;
using Xunit;
using Module = Svsm.TestModule.TestModule;

namespace Svsm.Core.Tests;

/// <summary>A module as a process with the descriptors of an image: as a .NET program, and as the static program that an image has.</summary>
public sealed class ModuleProcessTests
{
    private const long MemorySize = 0x10_0000;
    private static readonly TimeSpan s_limit = TimeSpan.FromMinutes(2);

    private static readonly string s_static = PathOf("TestModules");
    private static readonly string s_library = PathOf("TestLibrary");

    public static TheoryData<string[]> Programs => new(["dotnet", typeof(Module).Assembly.Location], [s_static, typeof(Module).FullName!]);

    [Theory]
    [MemberData(nameof(Programs))]
    public async Task Process_GoodCalls_AreAnswered(string[] program)
    {
        await using ModuleProcess module = Start(program);

        Assert.Equal(new SvsmAnswer(SvsmResultCode.Success, 5, 4, 3, 2), await module.CallAsync(Module.Reverse, 1, 2, 3, 4));
        Assert.Equal(new SvsmAnswer(SvsmResultCode.UnsupportedCall, 1, 2, 3, 4), await module.CallAsync(77, 1, 2, 3, 4));
        await module.ResetAsync();
        Assert.Null(await module.GetManifestAsync(0));
        Assert.Equal(new byte[ModuleMessage.MaxPayload], await module.GetManifestAsync(ModuleMessage.MaxPayload));
        Assert.Equal(ModuleHost.Ended, await module.EndAsync());
    }

    [Theory]
    [MemberData(nameof(Programs))]
    public async Task Process_GuestMemory_IsReadAndWrittenAtItsAddress(string[] program)
    {
        await using ModuleProcess module = Start(program);
        byte[] text = [.. Enumerable.Range(0, 0x8000).Select(i => (byte)i)];
        module.GuestWrite(new(0x1FF1), text);

        Assert.Equal(SvsmResultCode.Success, (await module.CallAsync(Module.Copy, 0x1FF1, 0x8000, 0x2_0003)).Code);
        Assert.Equal(text, module.GuestRead(new(0x2_0003), 0x8000));
        Assert.Equal(SvsmResultCode.InvalidAddress, (await module.CallAsync(Module.Copy, MemorySize - 1, 2, 0)).Code);
        Assert.Equal(SvsmResultCode.InvalidAddress, (await module.CallAsync(Module.Copy, ulong.MaxValue, 2, 0)).Code);
    }

    [Theory]
    [MemberData(nameof(Programs))]
    public async Task Process_State_MovesToAnotherOne(string[] program)
    {
        await using ModuleProcess source = Start(program);
        await using ModuleProcess target = Start(program);
        foreach (uint length in (uint[])[0, 5, ModuleMessage.MaxState])
        {
            await source.CallAsync(Module.Keep, length, 3);
            Assert.Equal(2u, await source.GetStateVersionAsync());

            ModuleState state = Assert.NotNull(await source.SaveAsync());

            Assert.Equal(2u, state.Version);
            Assert.Equal(Enumerable.Repeat((byte)3, (int)length), state.Bytes.ToArray());
        }

        Assert.True(await target.RestoreAsync(Assert.NotNull(await source.SaveAsync())));
        Assert.True(await source.LeaveAsync());
        Assert.True(await source.ArriveAsync());

        Assert.Equal(new SvsmAnswer(SvsmResultCode.Success, ModuleMessage.MaxState, 3 * ModuleMessage.MaxState, 0, 0), await target.CallAsync(Module.Tell));
        Assert.Equal(new SvsmAnswer(SvsmResultCode.Success, ModuleMessage.MaxState, 3 * ModuleMessage.MaxState, 0, 0), await source.CallAsync(Module.Tell));
        Assert.False(await target.RestoreAsync(new(2, new byte[3])));
    }

    [Theory]
    [MemberData(nameof(Programs))]
    public async Task Process_StateThatIsTooLarge_IsTheEnd(string[] program)
    {
        await using ModuleProcess module = Start(program);
        await module.CallAsync(Module.Keep, ModuleMessage.MaxState + 1, 3);

        await Assert.ThrowsAsync<ModuleProcessException>(module.SaveAsync);
    }

    [Theory]
    [MemberData(nameof(Programs))]
    public async Task Process_Log_HasLevelAndEscapes(string[] program)
    {
        await using ModuleProcess module = Start(program);
        module.GuestWrite(default, "one\ntwo"u8);

        await module.CallAsync(Module.Say, 0, 7);
        await module.EndAsync();

        Assert.Equal(["<6>one\\u000Atwo"], module.Log);
    }

    [Theory]
    [MemberData(nameof(Programs))]
    public async Task Process_ThatThrows_EndsWithTheExceptionInTheLog(string[] program)
    {
        await using ModuleProcess module = Start(program);

        ModuleProcessException exception = await Assert.ThrowsAsync<ModuleProcessException>(() => module.CallAsync(Module.Throw));

        Assert.Contains("<3>System.NotSupportedException: as asked\\u000Afor", await LogAsync(module));
        Assert.Contains("ended or closed", exception.Message, StringComparison.Ordinal);
    }

    public static TheoryData<byte[]> NoRequests => new(
        new byte[ModuleMessage.Length],
        Bytes(kind: 11),
        Bytes(kind: 6, payload: 1),
        Bytes(kind: 9, payload: 1),
        Bytes(kind: 10, payload: 1),
        Bytes(kind: 7, payload: ModuleMessage.MaxPayload + 1),
        Bytes(kind: 1, payload: 1),
        [.. Bytes(kind: 1, payload: 1), 0],
        Bytes(kind: 4, payload: ModuleMessage.MaxPayload + 1),
        Bytes(kind: 1, sequence: 0),
        Bytes(kind: 1, vcpu: 0x8000_0000),
        Enumerable.Repeat((byte)0xFF, ModuleMessage.Length).ToArray());

    [Theory]
    [MemberData(nameof(NoRequests))]
    public async Task Process_MessageThatIsNoRequest_EndsIt(byte[] message)
    {
        await using ModuleProcess module = Start([s_static, typeof(Module).FullName!]);

        await module.SendRawAsync(message);

        Assert.Equal(ModuleHost.BadChannel, await module.EndAsync());
    }

    [Theory]
    [MemberData(nameof(Programs))]
    public async Task Process_RequestsThatEndInTheMiddle_EndIt(string[] program)
    {
        await using ModuleProcess module = Start(program);

        await module.SendRawAsync(new byte[ModuleMessage.Length - 1]);

        Assert.Equal(ModuleHost.BadChannel, await module.EndAsync());
    }

    [Theory]
    [InlineData("head -c 64 /dev/zero >&4; cat <&3 >/dev/null", "no answer to request 1")]
    [InlineData("head -c 63 /dev/zero >&4", "ended or closed")]
    [InlineData("exit 7", "ended or closed")]
    public async Task Call_OfAProgramThatBreaksTheRules_Throws(string script, string expected)
    {
        await using ModuleProcess module = Start(["sh", "-c", script]);

        ModuleProcessException exception = await Assert.ThrowsAsync<ModuleProcessException>(() => module.CallAsync(1));

        Assert.Contains(expected, exception.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Call_OfAProgramThatIsSilent_TimesOut()
    {
        await using ModuleProcess module = ModuleProcess.Start(["sleep", "1000"], MemorySize, TimeSpan.FromMilliseconds(1));

        await Assert.ThrowsAsync<TimeoutException>(() => module.CallAsync(1));
    }

    // More than a pipe holds.
    [Fact]
    public async Task Restore_OfAProgramThatReadsNothing_TimesOut()
    {
        await using ModuleProcess module = ModuleProcess.Start(["sleep", "1000"], MemorySize, TimeSpan.FromMilliseconds(1));

        await Assert.ThrowsAsync<TimeoutException>(() => module.RestoreAsync(new(1, new byte[ModuleMessage.MaxState])));
    }

    [Theory]
    [MemberData(nameof(Programs))]
    public async Task Start_GuestMemory_LeavesNoFile(string[] program)
    {
        await using (ModuleProcess module = Start(program))
        {
            // The program answers: so the shell has done its part.
            await module.CallAsync(Module.Reverse);
            Assert.Empty(Directory.GetFiles("/dev/shm", $"svsm-module-{Environment.ProcessId}-*"));
        }
    }

    public static TheoryData<string, string> LibraryRowsOfEveryProgram => new(LibraryRows.OfEveryProgram);

    // What the table of docs/write-a-module.md promises of the program itself; what depends on the kernel is tried on it.
    [Theory]
    [MemberData(nameof(LibraryRowsOfEveryProgram))]
    public async Task StaticProgram_PartOfTheClassLibrary_DoesWhatTheGuideSays(string row, string outcome)
    {
        var limits = new Dictionary<string, string> { ["DOTNET_GCHeapHardLimit"] = "400000", ["DOTNET_GCRegionRange"] = "10000000", ["DOTNET_GCgen0size"] = "40000" };
        await using ModuleProcess module = ModuleProcess.Start([s_library, typeof(LibraryModule).FullName!], MemorySize, s_limit, limits);

        // Twice: what a module caught has left it as it was.
        for (int i = 0; i < 2; i++)
        {
            module.GuestWrite(new(0x1000), Encoding.UTF8.GetBytes(row));
            SvsmAnswer answer = await module.CallAsync(0, 0x1000, (ulong)row.Length, 0x2000);
            Assert.Equal(SvsmResultCode.Success, answer.Code);
            Assert.Equal(outcome, Encoding.UTF8.GetString(module.GuestRead(new(0x2000), (int)answer.Rcx)));
        }

        Assert.Equal(ModuleHost.Ended, await module.EndAsync());
    }

    [Fact]
    public async Task Start_StaticProgram_OfAnUnknownModule_Ends()
    {
        await using ModuleProcess module = Start([s_static, "Svsm.TestModule.NoModule"]);

        Assert.Equal(127, await module.EndAsync());
    }

    private static string PathOf(string key) =>
        typeof(ModuleProcessTests).Assembly.GetCustomAttributes<AssemblyMetadataAttribute>().Single(attribute => attribute.Key == key).Value!;

    private static ModuleProcess Start(IReadOnlyList<string> program) => ModuleProcess.Start(program, MemorySize, s_limit);

    private static async Task<IReadOnlyList<string>> LogAsync(ModuleProcess module)
    {
        await module.EndAsync();
        return module.Log;
    }

    private static byte[] Bytes(uint kind, uint payload = 0, ulong sequence = 1, uint vcpu = 0)
    {
        byte[] bytes = new byte[ModuleMessage.Length];
        BitConverter.TryWriteBytes(bytes, kind);
        BitConverter.TryWriteBytes(bytes.AsSpan(4), payload);
        BitConverter.TryWriteBytes(bytes.AsSpan(8), sequence);
        BitConverter.TryWriteBytes(bytes.AsSpan(16), vcpu);
        return bytes;
    }
}
