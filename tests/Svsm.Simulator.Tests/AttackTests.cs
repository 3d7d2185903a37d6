// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Linq;
using Svsm.Diagnostics;
using Svsm.Simulator.Shared;
using Xunit;

namespace Svsm.Simulator.Tests;

public sealed class AttackTests
{
    private static readonly LaunchPlan s_plan = HostLoader.Load(TestImage.File.Write(), new GuestRam(256 << 20), 1);

    public static TheoryData<string> Names() => [.. Attack.Named.Select(named => named.Name)];

    [Theory]
    [InlineData("")]
    [InlineData("Remap")]
    [InlineData("remap:")]
    [InlineData("remap:-1")]
    [InlineData("remap:18446744073709551616")]
    [InlineData("remap: 1")]
    public void Parse_Unknown_IsAnErrorThatListsTheNames(string text)
    {
        var exception = Assert.Throws<SvsmDiagnosticException>(() => Attack.Parse(text));

        Assert.Same(SvsmDiagnostics.AttackUnknown, exception.Diagnostic);
        Assert.Contains("message-repeat", exception.Message, StringComparison.Ordinal);
    }

    [Theory]
    [MemberData(nameof(Names))]
    public void Parse_SameSeed_IsTheSameAttack(string name)
    {
        for (ulong seed = 0; seed < 50; seed++)
        {
            Attack first = Make($"{name}:{seed}");
            Attack second = Make($"{name}:{seed}");

            Assert.Equal($"{name}:{seed}", first.ToString());
            Assert.Equal(first.Description, second.Description);
            Assert.Equal(
                (first.ParameterSeed, first.CpuidSeed, first.MessageNumber, first.MessageTear),
                (second.ParameterSeed, second.CpuidSeed, second.MessageNumber, second.MessageTear));
            Assert.True(first.Description is { Repeat: > 0, First: > 0 } || first.ParameterSeed != 0 || first.CpuidSeed != 0 || first.MessageNumber > 0);
        }

        Assert.True(Enumerable.Range(0, 50).Select(seed => Make($"{name}:{seed}")).Select(made => (made.Description, made.ParameterSeed, made.CpuidSeed, made.MessageNumber, made.MessageTear)).Distinct().Count() > 1);
    }

    [Fact]
    public void Parse_WithoutSeed_IsSeedOne() => Assert.Equal(Make("swap:1").Description, Make("swap").Description);

    [Fact]
    public void RemapPage_TimeOfAnExit_IsDescribedForTheHypervisor()
    {
        LaunchAttack attack = Attack.RemapPage(0x5000, AttackTime.AtExit(7, vmpl: 2, code: 0x72) with { Repeat = 3, Instructions = 11 }).Description!.Value;

        Assert.Equal((AttackAction.Remap, AttackTrigger.Exit, 0x5000ul), (attack.Action, attack.Trigger, attack.Gpa));
        Assert.Equal((7ul, 3u, 11u, 2u, 0x72ul), (attack.First, attack.Repeat, attack.Instructions, attack.Vmpl, attack.Code));
        LaunchAttack any = Attack.FlipValidatedPage(AttackTime.AtValidation(1)).Description!.Value;
        Assert.Equal((LaunchAttack.AnyVmpl, LaunchAttack.AnyCode, 0ul), (any.Vmpl, any.Code, any.Gpa));
    }

    [Fact]
    public void InjectException_ErrorCode_IsInTheEvent()
    {
        Assert.Equal(0x0000_0072_0000_0B1Dul, Attack.InjectException(29, AttackTime.AtExit(1), 0x72).Description!.Value.Value);
        Assert.Equal(0x306ul, Attack.InjectException(6, AttackTime.AtExit(1)).Description!.Value.Value);
        Assert.Equal(0x202ul, Attack.InjectNmi(AttackTime.AtExit(1)).Description!.Value.Value);
        Assert.Equal(0xFFul, Attack.InjectInterrupt(255, AttackTime.AtExit(1)).Description!.Value.Value);
        Assert.Throws<ArgumentOutOfRangeException>(() => Attack.InjectException(32, AttackTime.AtExit(1)));
    }

    [Fact]
    public void Attack_ImpossibleTime_IsRefused()
    {
        Assert.Throws<ArgumentOutOfRangeException>(() => Attack.Ignore(AttackTime.AtRequest(0)));
        Assert.Throws<ArgumentOutOfRangeException>(() => Attack.Ignore(AttackTime.AtRequest(1) with { Repeat = 0 }));
        Assert.Throws<ArgumentOutOfRangeException>(() => Attack.Ignore(AttackTime.AtRequest(1) with { Instructions = -1 }));
        Assert.Throws<ArgumentOutOfRangeException>(() => Attack.Ignore(default));
    }

    [Fact]
    public void Corrupt_Parameters_ChangesOnlyWhatIsNotMeasured()
    {
        LaunchPlan first = new HostileHost([Attack.CorruptParameters(5)], s_plan).Corrupt(s_plan);
        LaunchPlan second = new HostileHost([Attack.CorruptParameters(5)], s_plan).Corrupt(s_plan);

        for (int i = 0; i < s_plan.Updates.Count; i++)
        {
            bool same = s_plan.Updates[i].Contents.Span.SequenceEqual(first.Updates[i].Contents.Span);
            Assert.Equal(s_plan.Updates[i].Type != LaunchPageType.Unmeasured, same);
            Assert.True(first.Updates[i].Contents.Span.SequenceEqual(second.Updates[i].Contents.Span));
        }

        Assert.Equal(s_plan.Digest, first.Digest);
    }

    [Fact]
    public void CorruptCpuid_ChangesBitsOfRegistersOnly()
    {
        byte[] page = TestImage.MakeCpuidPage(3);
        for (ulong seed = 0; seed < 200; seed++)
        {
            byte[] changed = [.. page];
            new HostileHost([Attack.CorruptCpuid(seed)], s_plan).CorruptCpuid(changed);
            int[] offsets = [.. Enumerable.Range(0, page.Length).Where(i => page[i] != changed[i])];
            Assert.InRange(offsets.Length, 0, 3);
            Assert.All(offsets, offset => Assert.True(offset >= 16 && offset < 16 + (3 * 48) && (offset - 16) % 48 is >= 24 and < 40, $"{offset}"));
        }

        var host = new HostileHost([Attack.CorruptCpuid(7)], s_plan);
        byte[] once = [.. page];
        host.CorruptCpuid(once);
        byte[] again = [.. page];
        new HostileHost([Attack.CorruptCpuid(7)], s_plan).CorruptCpuid(again);
        Assert.Equal(once, again);
        Assert.NotEqual(page, once);
        Assert.Equal([new AttackEvent("cpuid", AttackOutcome.Done, 0)], host.Events);
        byte[] empty = new byte[4096];
        host.CorruptCpuid(empty);
        Assert.Equal((AttackOutcome.NoTarget, 0), (host.Events[1].Outcome, empty.Count(value => value != 0)));
    }

    [Fact]
    public void Answer_TornMessage_DiffersInOneByteOfTheMessage()
    {
        var host = new HostileHost([Attack.TearMessage(2, 0x1234_5678_9ABC)], s_plan);
        byte[] answer = Answer(7, 200);

        Assert.Equal(answer, host.Answer(answer));
        byte[] torn = host.Answer(answer);

        int changed = Assert.Single(Enumerable.Range(0, answer.Length), i => answer[i] != torn[i]);
        Assert.True(changed >= answer.Length - 200);
        Assert.Equal([new AttackEvent("message-tear", AttackOutcome.Done, 2)], host.Events);
        Assert.Equal(answer, host.Answer(answer));
    }

    [Fact]
    public void Answer_RepeatedMessage_IsTheOneBefore()
    {
        var host = new HostileHost([Attack.RepeatMessage(2)], s_plan);
        byte[] certificates = Frames.Frame(LinkFrame.Certificates, new byte[4096]);

        host.Answer(Answer(1, 100));

        Assert.Equal([.. certificates, .. Answer(1, 100)], host.Answer([.. certificates, .. Answer(2, 150)]));
    }

    [Fact]
    public void Request_TornMessage_DiffersInOneByteOfTheMessage()
    {
        var host = new HostileHost([Attack.TearRequest(2, 0x1234_5678_9ABC)], s_plan);
        byte[] request = Frames.GuestRequest(Link.NoCertificates, TestMessage.Seal(17, 1, new byte[128]))[Link.HeaderLength..];

        Assert.Equal(request, host.Request(request));
        host.Answer(Answer(1, 100));
        byte[] torn = host.Request(request);

        int changed = Assert.Single(Enumerable.Range(0, request.Length), i => request[i] != torn[i]);
        Assert.InRange(changed, Link.GuestRequestHeaderLength, Link.GuestRequestHeaderLength + 0x60 + 127);
        Assert.Equal([new AttackEvent("request-tear", AttackOutcome.Done, 2)], host.Events);
    }

    // The firmware's view of it: the first is answered, the same once more is not.
    [Fact]
    public void Request_RepeatedMessage_IsTheOneBeforeAndRefused()
    {
        var host = new HostileHost([Attack.RepeatRequest(1), Attack.RepeatRequest(2)], s_plan);
        var processor = new GuestMessages(TestMessage.Guest(), () => TestChip.Instance, 2);
        byte[] first = new byte[Link.GuestRequestHeaderLength + 4096];
        TestMessage.Seal(17, 1, new byte[128]).CopyTo(first, Link.GuestRequestHeaderLength);
        byte[] second = [.. first];
        TestMessage.Seal(17, 3, new byte[128]).CopyTo(second, Link.GuestRequestHeaderLength);

        Assert.Equal(FirmwareStatus.Success, processor.Handle(host.Request(first).AsSpan(Link.GuestRequestHeaderLength), out _));
        host.Answer(Answer(1, 100));
        Assert.Equal(FirmwareStatus.AeadOverflow, processor.Handle(host.Request(second).AsSpan(Link.GuestRequestHeaderLength), out _));

        Assert.Equal([new AttackEvent("request-repeat", AttackOutcome.NoTarget, 1), new AttackEvent("request-repeat", AttackOutcome.Done, 2)], host.Events);
    }

    [Fact]
    public void Answer_NothingToTearOrRepeat_IsTold()
    {
        var host = new HostileHost([Attack.TearMessage(1, 0), Attack.RepeatMessage(1)], s_plan);
        byte[] refusal = Answer(0, 0);

        Assert.Equal(refusal, host.Answer(refusal));
        Assert.All(host.Events, attack => Assert.Equal(AttackOutcome.NoTarget, attack.Outcome));
    }

    private static Attack Make(string text) => Attack.Parse(text).Maker!(s_plan);

    private static byte[] Answer(byte fill, int length)
    {
        byte[] payload = new byte[Link.GuestResponseHeaderLength + length];
        payload.AsSpan(Link.GuestResponseHeaderLength).Fill(fill);
        return Frames.Frame(LinkFrame.GuestResponse, payload);
    }
}
