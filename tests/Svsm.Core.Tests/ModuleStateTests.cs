// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Linq;
using Svsm.Core.Testing;
using Svsm.Wire;
using Xunit;
using Module = Svsm.TestModule.TestModule;

namespace Svsm.Core.Tests;

/// <summary>States of modules: what a module says of itself, and the messages that carry states.</summary>
public sealed class ModuleStateTests
{
    private const int Part = ModuleMessage.MaxPayload;

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(Part)]
    [InlineData(Part + 1)]
    [InlineData(ModuleMessage.MaxState)]
    public void Save_Restore_IsTheSameState(int length)
    {
        var module = new Module();
        using var source = new ModuleTest(module);
        source.Call(Module.Keep, (ulong)length, 7);

        Assert.Equal(2u, source.GetStateVersion());
        ModuleState state = Assert.NotNull(source.Save());
        var next = new Module();
        using var target = new ModuleTest(next);

        Assert.Equal(2u, state.Version);
        Assert.True(target.Restore(state));
        Assert.True(source.Leave());
        Assert.Equal((ulong)length, target.Call(Module.Tell).Rcx);
        Assert.Equal((ulong)length * 7, target.Call(Module.Tell).Rdx);
        Assert.Equal(["start", "call 14 of vCPU 0", "save", "leave"], module.Steps);
        Assert.Equal(["start", $"restore {length} bytes of version 2", "call 15 of vCPU 0", "call 15 of vCPU 0"], next.Steps);
    }

    [Fact]
    public void Save_GuestThatStaysAfterAll_GoesOn()
    {
        using var test = new ModuleTest(new Module());
        test.Call(Module.Keep, 100_000, 1);
        Assert.NotNull(test.Save());
        Assert.True(test.Leave());
        Assert.True(test.Arrive());

        Assert.Equal(100_000u, test.Call(Module.Tell).Rdx);
        test.Call(Module.Keep, 13, 1);
        Assert.Equal(13, Assert.NotNull(test.Save()).Bytes.Length);
        Assert.False(test.Leave());
        test.Call(Module.Keep, 14, 1);
        Assert.False(test.Arrive());
    }

    [Fact]
    public void Leave_BeforeAStateComes_IsNoGuestThatWasHere()
    {
        var module = new Module();
        using var target = new ModuleTest(module);

        Assert.True(target.Leave());
        Assert.True(target.Restore(new(2, new byte[] { 5, 5 })));
        Assert.True(target.Arrive());

        Assert.Equal(10u, target.Call(Module.Tell).Rdx);
        Assert.Equal(["start", "leave", "restore 2 bytes of version 2", "arrive", "call 15 of vCPU 0"], module.Steps);
    }

    [Fact]
    public void Module_ThatSaysNothing_CannotMove()
    {
        using var test = new ModuleTest(new SilentModule(0));

        Assert.Equal(0u, test.GetStateVersion());

        // Nor has it anything to do without a request.
        Assert.Equal(ulong.MaxValue, test.Work());
        Assert.Null(test.Save());
        Assert.False(test.Restore(new(0, default)));
        Assert.False(test.Restore(new(1, default)));
        Assert.True(test.Leave());
        Assert.True(test.Arrive());
    }

    [Fact]
    public void Module_WithoutAState_MovesWithNothing()
    {
        using var source = new ModuleTest(new SilentModule(1));

        ModuleState saved = Assert.NotNull(source.Save());
        Assert.Equal((1u, 0), (saved.Version, saved.Bytes.Length));
        foreach ((ModuleState state, bool isTaken) in ((ModuleState, bool)[])[(new(1, default), true), (new(1, new byte[1]), false), (new(0, default), false), (new(2, default), false)])
        {
            using var target = new ModuleTest(new SilentModule(1));
            Assert.Equal(isTaken, target.Restore(state));
        }
    }

    [Theory]
    [InlineData(1u, 1, true)]
    [InlineData(1u, 0, false)]
    [InlineData(2u, 0, true)]
    [InlineData(3u, 1, false)]
    [InlineData(uint.MaxValue, 1, false)]
    public void Restore_OfAVersion_IsTheModulesChoiceUpToItsOwn(uint version, byte value, bool isTaken)
    {
        var module = new Module();
        using var test = new ModuleTest(module);

        Assert.Equal(isTaken, test.Restore(new(version, new byte[] { value, value })));
        Assert.Equal(version <= 2 ? 2 : 1, module.Steps.Count);
    }

    [Fact]
    public void Save_Parts_AreThereInAnyOrderUntilTheLastByte()
    {
        using var test = new Channel(length: (2 * Part) + 5);

        Assert.Equal(new(SvsmResultCode.InvalidParameter, 0, 0, 0), test.Save(Part));
        Assert.Equal(new(SvsmResultCode.Success, 2, (2 * Part) + 5, Part), test.Save(0));
        Assert.Equal(new(SvsmResultCode.Success, 2, (2 * Part) + 5, Part), test.Save(Part));
        Assert.Equal(new(SvsmResultCode.Success, 2, (2 * Part) + 5, Part), test.Save(7));
        Assert.Equal(new(SvsmResultCode.InvalidParameter, 0, 0, 0), test.Save((2 * Part) + 5));
        Assert.Equal(new(SvsmResultCode.InvalidParameter, 0, 0, 0), test.Save(ulong.MaxValue - 1));
        Assert.Equal(new(SvsmResultCode.Success, 2, 0, 0), test.Save(ModuleMessage.VersionOnly));
        Assert.Equal(new(SvsmResultCode.Success, 2, (2 * Part) + 5, 5), test.Save(2 * Part));
        Assert.Equal(new(SvsmResultCode.InvalidParameter, 0, 0, 0), test.Save(Part));
        Assert.Equal(["start", "call 14 of vCPU 0", "save"], test.Module.Steps);
    }

    [Theory]
    [InlineData(ModuleMessageKind.Call)]
    [InlineData(ModuleMessageKind.Reset)]
    [InlineData(ModuleMessageKind.Leave)]
    [InlineData(ModuleMessageKind.Arrive)]
    public void Save_GuestThatRunsMeanwhile_IsOver(ModuleMessageKind kind)
    {
        using var test = new Channel(length: 2 * Part);
        test.Save(0);

        test.Send(new() { Kind = kind, Call = Module.Reverse }, default, out _);

        Assert.Equal(SvsmResultCode.InvalidParameter, test.Save(Part).Code);
        Assert.Equal(SvsmResultCode.Success, test.Save(0).Code);
    }

    [Fact]
    public void Save_QuestionOfAnotherModule_DoesNotDisturb()
    {
        using var test = new Channel(length: 2 * Part);
        test.Save(0);

        Assert.Equal((ulong)SvsmResultCode.InvalidParameter, test.Send(new() { Kind = ModuleMessageKind.Store, Rcx = 9, Rdx = 9 }, default, out _).Result);
        Assert.Equal((ulong)SvsmResultCode.Success, test.Send(new() { Kind = ModuleMessageKind.Manifest, Call = 3 }, default, out _).Result);

        Assert.Equal(SvsmResultCode.Success, test.Save(Part).Code);
    }

    [Fact]
    public void Save_BytesOfTheModule_AreClearedWhenTheyAreRead()
    {
        var module = new OpenModule(new byte[Part + 1]);
        module.Bytes.AsSpan().Fill(9);
        using var test = new Channel(module);

        test.Save(0);
        Assert.DoesNotContain((byte)0, module.Bytes);
        test.Save(Part);
        Assert.DoesNotContain((byte)9, module.Bytes);

        module.Bytes.AsSpan().Fill(9);
        test.Save(0);
        test.Send(new() { Kind = ModuleMessageKind.Leave }, default, out _);
        Assert.DoesNotContain((byte)9, module.Bytes);
    }

    [Fact]
    public void Save_OfMoreThanAState_Throws()
    {
        using var test = new Channel(length: ModuleMessage.MaxState + 1);

        Assert.Throws<InvalidOperationException>(() => test.Save(0));
    }

    [Fact]
    public void Restore_Parts_MayHaveAnyLengths()
    {
        using var test = new Channel();
        int[] parts = [1, Part, 17, Part - 1];
        int total = parts.Sum();

        int at = 0;
        foreach (int part in parts)
        {
            Assert.Equal(SvsmResultCode.Success, test.Restore(2, at, total, part));
            at += part;
        }

        Assert.Equal(["start", $"restore {total} bytes of version 2"], test.Module.Steps);
        Assert.Equal(SvsmResultCode.InvalidRequest, test.Restore(2, 0, 1, 1));
    }

    [Fact]
    public void Restore_StateThatTheModuleGot_IsClearedAfterwards()
    {
        var module = new OpenModule([]);
        using var test = new Channel(module);

        Assert.Equal((ulong)SvsmResultCode.Success, test.Send(new() { Kind = ModuleMessageKind.Restore, Call = 2, Rdx = 3 }, new byte[] { 1, 2, 3 }, out _).Result);

        Assert.Equal(6, module.Sum);
        Assert.Equal(new byte[3], module.Restored.ToArray());
    }

    public static TheoryData<string, (uint Version, ulong Offset, ulong Total, int Length)[]> BadParts => new()
    {
        { "the second one first", [(2, 5, 10, 5)] },
        { "one twice", [(2, 0, 10, 5), (2, 0, 10, 5), (2, 10, 10, 5)] },
        { "a gap", [(2, 0, 10, 5), (2, 6, 10, 4)] },
        { "an overlap", [(2, 0, 10, 5), (2, 4, 10, 6)] },
        { "more than there is to be", [(2, 0, 10, 5), (2, 5, 10, 6)] },
        { "more than there is to be, at once", [(2, 0, 4, 5)] },
        { "another total", [(2, 0, 10, 5), (2, 5, 11, 6)] },
        { "another version", [(2, 0, 10, 5), (1, 5, 10, 5)] },
        { "a part without bytes", [(2, 0, 10, 5), (2, 5, 10, 0)] },
        { "a first part without bytes", [(2, 0, 10, 0)] },
        { "a state without bytes at an offset", [(2, 1, 0, 0)] },
        { "a total that is too large", [(2, 0, ModuleMessage.MaxState + 1, Part)] },
        { "a total that is far too large", [(2, 0, ulong.MaxValue, Part)] },
        { "an offset that is far too large", [(2, 0, 10, 5), (2, ulong.MaxValue, 10, 5)] },
        { "an offset that is none of 32 bits", [(2, 0, 10, 5), (2, 0x1_0000_0005, 10, 5)] },
        { "a version that is none", [(0, 0, 10, 10)] },
        { "a version that is newer", [(3, 0, 10, 10)] },
    };

    [Theory]
    [MemberData(nameof(BadParts))]
    public void Restore_PartThatIsNotDue_EndsIt(string what, (uint Version, ulong Offset, ulong Total, int Length)[] parts)
    {
        using var test = new Channel();
        SvsmResultCode last = SvsmResultCode.Success;
        foreach ((uint version, ulong offset, ulong total, int length) in parts)
        {
            last = test.Restore(version, offset, total, length);
        }

        Assert.True(last == SvsmResultCode.InvalidParameter, what);
        Assert.Equal(SvsmResultCode.InvalidParameter, test.Restore(2, 5, 10, 5));
        Assert.Equal(["start"], test.Module.Steps);
        Assert.Equal(SvsmResultCode.Success, test.Restore(2, 0, 10, 10));
    }

    [Theory]
    [InlineData(ModuleMessageKind.Call)]
    [InlineData(ModuleMessageKind.Reset)]
    [InlineData(ModuleMessageKind.Arrive)]
    public void Restore_ModuleThatServedAGuest_IsRefused(ModuleMessageKind kind)
    {
        using var test = new Channel();
        Assert.Equal(SvsmResultCode.Success, test.Restore(2, 0, 10, 5));

        test.Send(new() { Kind = kind, Call = Module.Reverse }, default, out _);

        Assert.Equal(SvsmResultCode.InvalidRequest, test.Restore(2, 5, 10, 5));
        Assert.Equal(SvsmResultCode.InvalidRequest, test.Restore(2, 0, 10, 10));
        Assert.Equal(2, test.Module.Steps.Count);
    }

    [Fact]
    public void Restore_StateThatTheModuleRefused_IsNotFollowedByAnother()
    {
        using var test = new Channel();

        Assert.Equal((ulong)SvsmResultCode.InvalidParameter, test.Send(new() { Kind = ModuleMessageKind.Restore, Call = 2, Rdx = 2 }, new byte[] { 1, 2 }, out _).Result);
        Assert.Equal(SvsmResultCode.InvalidRequest, test.Restore(2, 0, 10, 10));
    }

    [Theory]
    [InlineData(ModuleMessageKind.Save)]
    [InlineData(ModuleMessageKind.Leave)]
    [InlineData(ModuleMessageKind.Arrive)]
    public void Request_WithContentsThatItCannotHave_IsNone(ModuleMessageKind kind)
    {
        using var test = new ModuleTest(new Module());

        Assert.Throws<InvalidOperationException>(() => test.Send(new() { Kind = kind }, new byte[1], out _));
    }

    private readonly record struct Saved(SvsmResultCode Code, uint Version, ulong Total, int Length);

    // A module and its requests, as a process has them.
    private sealed class Channel : IDisposable
    {
        private readonly SvsmModule _module;
        private readonly ModuleTest _test;

        public Channel(SvsmModule module)
        {
            _module = module;
            _test = new ModuleTest(module);
        }

        public Channel(int? length = null)
            : this(new Module())
        {
            if (length is int bytes)
            {
                Send(new() { Kind = ModuleMessageKind.Call, Call = Module.Keep, Rcx = (ulong)bytes, Rdx = 3 }, default, out _);
            }
        }

        public Module Module => (Module)_module;

        public Saved Save(ulong offset)
        {
            ModuleMessage answer = Send(new() { Kind = ModuleMessageKind.Save, Rcx = offset }, default, out byte[] part);
            Assert.Equal(answer.PayloadSize, (uint)part.Length);
            return new((SvsmResultCode)answer.Result, answer.Call, answer.Rdx, part.Length);
        }

        public SvsmResultCode Restore(uint version, int offset, int total, int length) => Restore(version, (ulong)offset, (ulong)total, length);

        public SvsmResultCode Restore(uint version, ulong offset, ulong total, int length) =>
            (SvsmResultCode)Send(new() { Kind = ModuleMessageKind.Restore, Call = version, Rcx = offset, Rdx = total }, new byte[length], out _).Result;

        public ModuleMessage Send(ModuleMessage request, ReadOnlyMemory<byte> contents, out byte[] payload) => _test.Send(request, contents, out payload);

        public void Dispose() => _test.Dispose();
    }

    private sealed class SilentModule(uint version) : SvsmModule
    {
        protected override uint StateVersion => version;

        protected override SvsmResult Handle(in SvsmRequest request) => SvsmResultCode.Success;
    }

    private sealed class OpenModule(byte[] bytes) : SvsmModule
    {
        public byte[] Bytes => bytes;

        public ReadOnlyMemory<byte> Restored { get; private set; }

        public int Sum { get; private set; }

        protected override uint StateVersion => 2;

        protected override SvsmResult Handle(in SvsmRequest request) => SvsmResultCode.Success;

        protected override ReadOnlyMemory<byte> SaveState() => bytes;

        protected override bool TryRestoreState(uint version, ReadOnlyMemory<byte> state)
        {
            Restored = state;
            foreach (byte value in state.Span)
            {
                Sum += value;
            }

            return true;
        }
    }
}
