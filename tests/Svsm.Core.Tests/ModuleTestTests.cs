// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using Svsm.Core.Testing;
using Svsm.TestModule;
using Svsm.Wire;
using Xunit;
using Module = Svsm.TestModule.TestModule;

namespace Svsm.Core.Tests;

/// <summary>A module under test in this process: calls, memory, log.</summary>
public sealed class ModuleTestTests
{
    [Fact]
    public void Module_FromStartToEnd_GetsItsStepsInOrder()
    {
        var module = new Module();
        using (var test = new ModuleTest(module))
        {
            Assert.Equal(new SvsmAnswer(SvsmResultCode.Success, 5, 4, 3, 2), test.Call(Module.Reverse, 1, 2, 3, 4, vcpu: 7));
            test.Reset();
        }

        Assert.Equal(["start", "call 1 of vCPU 7", "reset", "end"], module.Steps);
    }

    [Fact]
    public void Call_WithoutOutput_LeavesTheRegisters()
    {
        using var test = new ModuleTest(new Module());

        Assert.Equal(new SvsmAnswer(SvsmResultCode.UnsupportedCall, 1, 2, 3, 4), test.Call(99, 1, 2, 3, 4));
    }

    [Fact]
    public void Constructor_ModuleThatWasStarted_Throws()
    {
        var module = new Module();
        using var test = new ModuleTest(module);

        Assert.Throws<InvalidOperationException>(() => new ModuleTest(module));
    }

    [Theory]
    [InlineData(0)]
    [InlineData(-4096)]
    [InlineData(4097)]
    public void Constructor_SizeThatIsNoNumberOfPages_Throws(int size) =>
        Assert.Throws<ArgumentOutOfRangeException>(() => new ModuleTest(new Module(), size));

    [Fact]
    public void Services_BeforeTheStart_Throw() => Assert.Throws<InvalidOperationException>(() => new EarlyModule());

    [Fact]
    public void Module_ThatThrows_ThrowsIntoTheTest()
    {
        using var test = new ModuleTest(new Module());

        Assert.Throws<NotSupportedException>(() => test.Call(Module.Throw));
    }

    [Theory]
    [InlineData(0x0)]
    [InlineData(0xFFC)]
    [InlineData(0xFFD)]
    [InlineData(ModuleTest.DefaultMemorySize - 4)]
    public void Memory_OfTheGuest_IsReadAndWritten(ulong address)
    {
        using var test = new ModuleTest(new Module());
        test.Memory.GuestWrite(new(address), [41, 0, 0, 0]);

        Assert.Equal(SvsmResultCode.Success, test.Call(Module.Increment, address).Code);
        Assert.Equal([42, 0, 0, 0], test.Memory.GuestRead(new(address), 4));
    }

    [Theory]
    [InlineData(ModuleTest.DefaultMemorySize - 3)]
    [InlineData(ModuleTest.DefaultMemorySize)]
    [InlineData(1UL << 47)]
    [InlineData((1UL << 52) - 4)]
    [InlineData((1UL << 52) - 3)]
    [InlineData(ulong.MaxValue - 3)]
    [InlineData(ulong.MaxValue)]
    public void Memory_OfNobody_IsInvalid(ulong address)
    {
        using var test = new ModuleTest(new Module());

        Assert.Equal(SvsmResultCode.InvalidAddress, test.Call(Module.Increment, address).Code);
    }

    [Theory]
    [InlineData(GuestPageAccess.None, 0x2FFC, SvsmResultCode.Success)]
    [InlineData(GuestPageAccess.None, 0x2FFD, SvsmResultCode.InvalidAddress)]
    [InlineData(GuestPageAccess.None, 0x3FFF, SvsmResultCode.InvalidAddress)]
    [InlineData(GuestPageAccess.None, 0x4000, SvsmResultCode.Success)]
    [InlineData(GuestPageAccess.Read, 0x3000, SvsmResultCode.InvalidAddress)]
    [InlineData(GuestPageAccess.Read, 0x2FFF, SvsmResultCode.InvalidAddress)]
    public void Memory_OnAPageWithoutTheRight_IsInvalid(GuestPageAccess access, ulong address, SvsmResultCode expected)
    {
        using var test = new ModuleTest(new Module());
        test.Memory.SetAccess(new(0x3000), 1, access);
        byte[] before = test.Memory.GuestRead(default, ModuleTest.DefaultMemorySize);

        Assert.Equal(expected, test.Call(Module.Increment, address).Code);
        if (expected != SvsmResultCode.Success)
        {
            Assert.Equal(before, test.Memory.GuestRead(default, ModuleTest.DefaultMemorySize));
        }
    }

    [Fact]
    public void Memory_ReadThatIsRefused_ClearsTheDestination()
    {
        using var test = new ModuleTest(new Module());
        byte[] bytes = [1, 2, 3, 4];

        Assert.False(test.Memory.TryRead(new(ModuleTest.DefaultMemorySize - 2), bytes));
        Assert.Equal(new byte[4], bytes);
    }

    [Fact]
    public void Memory_ThatTheGuestTakesBetweenTwoAccesses_IsInvalid()
    {
        using var test = new ModuleTest(new Module());
        test.Memory.BeforeAccess = access =>
        {
            if (access.IsWrite)
            {
                test.Memory.SetAccess(new(0x1000), 1, GuestPageAccess.None);
            }
        };

        Assert.Equal(SvsmResultCode.InvalidAddress, test.Call(Module.Increment, 0x1000).Code);
    }

    [Fact]
    public void Memory_EachAccess_IsSeenBeforeItHappens()
    {
        using var test = new ModuleTest(new Module());
        var accesses = new System.Collections.Generic.List<GuestMemoryAccess>();
        test.Memory.BeforeAccess = accesses.Add;

        test.Call(Module.Copy, 0x1000, 5000, 0x4000);

        Assert.Equal([new(new(0x1000), 5000, false), new(new(0x4000), 5000, true)], accesses);
    }

    [Theory]
    [InlineData(1, 1)]
    [InlineData(0, 0x1001)]
    [InlineData(0x1000, -1)]
    [InlineData(ulong.MaxValue - 0xFFF, 1)]
    public void SetAccess_OfWhatAreNoPages_Throws(ulong first, int count)
    {
        using var test = new ModuleTest(new Module());

        Assert.Throws<ArgumentOutOfRangeException>(() => test.Memory.SetAccess(new(first), count, GuestPageAccess.None));
    }

    [Fact]
    public void Manifest_OfAVersion_IsGivenOrNot()
    {
        using var test = new ModuleTest(new Module());

        Assert.Null(test.GetManifest(0));
        Assert.Equal(new byte[3], test.GetManifest(3));
        Assert.Equal(new byte[ModuleMessage.MaxPayload], test.GetManifest(ModuleMessage.MaxPayload));
        Assert.Throws<InvalidOperationException>(() => test.GetManifest(ModuleMessage.MaxPayload + 1));
    }

    [Fact]
    public void Ask_ModuleThatServesOthers_Answers()
    {
        using var test = new ModuleTest(new KeepingModule(), peers: new KeyPeer());

        Assert.Equal([11, 12], test.Ask(ModuleMessageKind.Store, 0x8000_0005, new byte[] { 1, 2 }, KeepingModule.Quota)!);
        Assert.Equal([], test.Ask(ModuleMessageKind.Store, 0x8000_0005, default, KeepingModule.Quota)!);
        Assert.Null(test.Ask(ModuleMessageKind.Store, 0x8000_0009, default, KeepingModule.Quota));
        Assert.Null(test.Ask(ModuleMessageKind.Store, 0x8000_0005, default, KeepingModule.Quota + 1));
        Assert.Null(test.Ask(ModuleMessageKind.Key, 0x8000_0005, default));
        Assert.Throws<NotSupportedException>(() => test.Ask(ModuleMessageKind.Store, 0x8000_0005, new[] { KeepingModule.Fail }, KeepingModule.Quota));
    }

    [Fact]
    public void Ask_ModuleThatServesNoOthers_IsNotAnswered()
    {
        using var test = new ModuleTest(new Module());

        Assert.Null(test.Ask(ModuleMessageKind.Store, 1, new byte[3]));
        Assert.Throws<InvalidOperationException>(() => test.Ask(ModuleMessageKind.Manifest, 1, new byte[3]));
    }

    [Fact]
    public void Peers_WithoutOthers_AreNotThere()
    {
        using var test = new ModuleTest(new AskingModule());

        Assert.Equal(SvsmResultCode.InvalidRequest, test.Call(AskingModule.Ask, 3, 1).Code);
    }

    [Theory]
    [InlineData("plain text, {0}", "plain text, {0}")]
    [InlineData("two\nlines\r", "two\\u000Alines\\u000D")]
    [InlineData("\u001B[2J", "\\u001B[2J")]
    [InlineData("back\\slash", "back\\u005Cslash")]
    [InlineData("\u00E9", "\\u00E9")]
    [InlineData("", "")]
    public void Log_Text_IsEscaped(string text, string expected)
    {
        using var test = new ModuleTest(new Module());
        test.Memory.GuestWrite(new(0x1000), System.Text.Encoding.Latin1.GetBytes(text));

        test.Call(Module.Say, 0x1000, (ulong)text.Length);

        Assert.Equal([new(ModuleLogLevel.Information, expected)], test.Log);
    }

    [Theory]
    [InlineData(ModuleLog.MaxLength, 'x', false)]
    [InlineData(ModuleLog.MaxLength + 1, 'x', true)]
    [InlineData(ModuleLog.MaxLength / 6, '\n', false)]
    [InlineData((ModuleLog.MaxLength / 6) + 1, '\n', true)]
    public void Log_LongText_IsCut(int length, char character, bool isCut)
    {
        using var test = new ModuleTest(new Module());
        byte[] text = new byte[length];
        Array.Fill(text, (byte)character);
        test.Memory.GuestWrite(new(0x1000), text);

        test.Call(Module.Say, 0x1000, (ulong)length);

        string line = Assert.Single(test.Log).Line;
        Assert.Equal(ModuleLog.MaxLength, line.Length);
        Assert.Equal(isCut, line.EndsWith("...", StringComparison.Ordinal));
    }

    private sealed class KeyPeer : ModulePeers
    {
        public override PeerResult Ask(ModuleMessageKind kind, ReadOnlySpan<byte> request, out byte[] answer)
        {
            answer = [10];
            return kind == ModuleMessageKind.Key ? PeerResult.Answered : PeerResult.NotThere;
        }
    }

    private sealed class EarlyModule : SvsmModule
    {
        public EarlyModule() => Log.Information("too early");

        protected override SvsmResult Handle(in SvsmRequest request) => SvsmResultCode.Success;
    }
}
