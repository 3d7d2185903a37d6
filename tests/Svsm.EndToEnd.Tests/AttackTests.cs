// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The kernel against a hostile host. Whatever the host does, one of these is the end, and never a guest that goes on with wrong memory:
// the SVSM stops with a named reason; the guest passes all its checks; the vCPU cannot go on. What hits VMPL2 itself is the guest's affair.

using System;
using System.Linq;
using System.Threading.Tasks;
using Svsm.Diagnostics;
using Svsm.Simulator;
using Svsm.Simulator.Shared;
using Svsm.Wire;
using Xunit;

namespace Svsm.EndToEnd.Tests;

public sealed class AttackTests
{
    private const ulong KernelReasonSet = 5;
    private const ulong ProbeReasonSet = 6;

    // Exit status of the probe guest when it met an exception, or a page that is not validated.
    private static readonly int[] s_noticedByGuest = [3, 4];

    // There is nothing to attack: no module of this image sends messages to the security processor. AttestationTests and Svsm.Linux.Tests attack some.
    private static readonly string[] s_needModules = ["message-tear", "message-repeat", "request-tear", "request-repeat"];

    public static TheoryData<string> Names() => [.. Attack.Named.Select(named => named.Name)];

    [Theory]
    [MemberData(nameof(Names))]
    public async Task Kernel_UnderEachAttack_RefusesOrIsUnaffected(string name)
    {
        using ImageUnderTest image = ImageUnderTest.Build();

        await CheckActingAsync(image, name, 1);
        await CheckActingAsync(image, name, 2, options => options with { TurnSeed = 2 });
    }

    // What the host does then meets another moment of the other vCPUs in every run; what may come of it is the same. The others in the long run, with more seeds.
    [Theory]
    [MemberData(nameof(Repeated))]
    public async Task Kernel_UnderAttackInThreads_RefusesOrIsUnaffected(string name)
    {
        using ImageUnderTest image = ImageUnderTest.Build();

        await CheckActingAsync(image, name, 1, options => options with { Threads = true });
    }

    [Theory]
    [Trait("Run", "all")]
    [MemberData(nameof(Names))]
    public async Task Kernel_UnderEachAttackWithMoreSeeds_RefusesOrIsUnaffected(string name)
    {
        using ImageUnderTest image = ImageUnderTest.Build();
        bool hasActed = false;
        for (ulong seed = 3; seed < 20; seed++)
        {
            hasActed |= await CheckAsync(image, name, seed);
            hasActed |= await CheckAsync(image, name, seed, options => options with { Threads = true, VcpuCount = 4 });
        }

        Assert.Equal(!s_needModules.Contains(name), hasActed);
    }

    // Of each kind one here, the others in the long run.
    private static readonly string[] s_repeatedInEveryRun =
        ["flip", "replay", "answer-psc", "answer-index", "answer-msr", "inject-nmi", "intercept-tsc", "parameters", "wrong-vmpl"];

    public static TheoryData<string> Repeated() => [.. s_repeatedInEveryRun];

    public static TheoryData<string> RepeatedInTheLongRun() =>
        [.. Attack.Named.Select(named => named.Name).Except(s_repeatedInEveryRun).Except(s_needModules)];

    [Theory]
    [MemberData(nameof(Repeated))]
    public Task Run_SameAttackAndSeed_RepeatsToTheDigit(string name) => CheckRepeatsAsync(name);

    [Theory]
    [Trait("Run", "all")]
    [MemberData(nameof(RepeatedInTheLongRun))]
    public Task Run_SameAttackAndSeedOfTheOthers_RepeatsToTheDigit(string name) => CheckRepeatsAsync(name);

    // Instructions, exits, consoles: everything but how often the link to the host made the hypervisor wait.
    private static async Task CheckRepeatsAsync(string name)
    {
        using ImageUnderTest image = ImageUnderTest.Build();
        MachineOptions options = image.Options() with { CountInstructions = true };

        MachineResult first = await ImageUnderTest.RunAsync(options with { Attacks = [Attack.Parse(name)] });
        MachineResult second = await ImageUnderTest.RunAsync(options with { Attacks = [Attack.Parse(name)] });

        Assert.NotEmpty(first.Attacks);
        Assert.Equal(first.Attacks, second.Attacks);
        Assert.Equal((first.Stop, first.Detail), (second.Stop, second.Detail));
        Assert.Equal(first.Events, second.Events);
        Assert.Equal(first.Statistics.Select(entry => entry.Ticks), second.Statistics.Select(entry => entry.Ticks));
        Assert.Equal(first.Memory.Ranges, second.Memory.Ranges);
        Assert.Equal(first.Console, second.Console);
    }

    [Fact]
    public async Task FlipValidatedPage_OnAPageTheKernelUses_IsVcForAnUnvalidatedPage()
    {
        using ImageUnderTest image = ImageUnderTest.Build();

        MachineResult result = await ImageUnderTest.RunAsync(image.Options() with { Attacks = [Attack.FlipValidatedPage(AttackTime.AtValidation(6))] });

        Assert.Equal([new AttackEvent("flip", AttackOutcome.Done, 6)], result.Attacks);
        AssertTerminated(TerminationReason.VcUnvalidatedPage, result);
    }

    [Fact]
    public async Task AnswerMsr_OnTheFirstRequest_IsRefused()
    {
        using ImageUnderTest image = ImageUnderTest.Build();

        MachineResult result = await ImageUnderTest.RunAsync(image.Options() with { Attacks = [Attack.AnswerMsr(0, AttackTime.AtMsrRequest(1, vmpl: 0))] });

        AssertTerminated(TerminationReason.GhcbAnswer, result);
    }

    [Theory]
    [InlineData(2)]
    [InlineData(14)]
    [InlineData(29)]
    [InlineData(32)]
    [InlineData(255)]
    public async Task Inject_AnyVectorIntoTheKernel_IsRefusedByTheProcessor(int vector)
    {
        using ImageUnderTest image = ImageUnderTest.Build("exit:0");
        AttackTime time = AttackTime.AtExit(200, vmpl: 0) with { Instructions = 37 };
        Attack attack = vector == 2 ? Attack.InjectNmi(time) : vector < 32 ? Attack.InjectException((byte)vector, time, 0) : Attack.InjectInterrupt((byte)vector, time);

        MachineResult result = await ImageUnderTest.RunAsync(image.Options() with { Attacks = [attack] });

        Assert.Equal(AttackOutcome.RefusedByProcessor, Assert.Single(result.Attacks).Outcome);
        Assert.True(result.ExitStatus == 0, result.ToString());
    }

    // Where the host offers no restricted injection, every event reaches the kernel, which takes none. (#HV does nothing there: there is no doorbell.)
    [Theory]
    [InlineData(2)]
    [InlineData(8)]
    [InlineData(13)]
    [InlineData(14)]
    [InlineData(18)]
    [InlineData(29)]
    [InlineData(32)]
    [InlineData(128)]
    [InlineData(255)]
    public async Task Inject_AnyVectorWithoutRestrictedInjection_StopsTheKernel(int vector)
    {
        using ImageUnderTest image = ImageUnderTest.Build("exit:0", alterOptions: options => options with { SevFeatures = SevFeatures.SnpActive });
        AttackTime time = AttackTime.AtExit(200, vmpl: 0) with { Instructions = 37 };
        Attack attack = vector == 2 ? Attack.InjectNmi(time) : vector < 32 ? Attack.InjectException((byte)vector, time, 0) : Attack.InjectInterrupt((byte)vector, time);

        MachineResult quiet = await image.RunAsync();
        MachineResult result = await ImageUnderTest.RunAsync(image.Options() with { Attacks = [attack] });

        Assert.True(quiet.ExitStatus == 0, quiet.ToString());
        Assert.Equal(AttackOutcome.Done, Assert.Single(result.Attacks).Outcome);
        Assert.True(IsRefusal(result), result + "\n" + result.ConsoleText((int)Vmpl.Vmpl0));
    }

    // The one thing that a host can inject under restricted injection.
    [Fact]
    public async Task Inject_HypervisorDoorbellWithoutReason_DoesNotGoUnnoticed()
    {
        using ImageUnderTest image = ImageUnderTest.Build("exit:0");

        MachineResult result = await ImageUnderTest.RunAsync(image.Options() with { Attacks = [Attack.InjectException(28, AttackTime.AtExit(200, vmpl: 0))] });

        Assert.Equal(AttackOutcome.Done, Assert.Single(result.Attacks).Outcome);
        Assert.True(IsRefusal(result) || result.ExitStatus == 0, result.ToString());
    }

    // A run that its attack did not touch says nothing.
    private static async Task CheckActingAsync(ImageUnderTest image, string name, ulong seed, Func<MachineOptions, MachineOptions>? how = null) =>
        Assert.Equal(!s_needModules.Contains(name), await CheckAsync(image, name, seed, how));

    // Whether there was something to attack: other seeds may choose a page that is shared by then, or a vCPU that waits.
    private static async Task<bool> CheckAsync(ImageUnderTest image, string name, ulong seed, Func<MachineOptions, MachineOptions>? how = null)
    {
        MachineOptions options = image.Options() with { VcpuCount = 2, Attacks = [Attack.Parse($"{name}:{seed}")] };
        MachineResult result;
        try
        {
            result = await ImageUnderTest.RunAsync(how is null ? options : how(options));
        }
        catch (SvsmDiagnosticException exception) when (exception.Diagnostic == SvsmDiagnostics.LaunchRefused)
        {
            // By the security processor, before the first instruction.
            Assert.Equal("cpuid", name);
            return true;
        }

        string text = $"{name}:{seed}: {result}\n{result.ToSummary()}\n{result.ConsoleText((int)Vmpl.Vmpl0)}\n{result.ConsoleText((int)Vmpl.Vmpl2)}";
        Assert.True(result.Attacks.IsEmpty == s_needModules.Contains(name), text);
        bool unaffected = result.ExitStatus == 0 && result.ConsoleText((int)Vmpl.Vmpl2).Contains(" passed, 0 failed", StringComparison.Ordinal);
        bool noticedByGuest = (result.ExitStatus is int status && s_noticedByGuest.Contains(status))
            || (result.Stop == MachineStop.Terminate && (result.Detail & 0xF) == ProbeReasonSet)
            || (result.Stop is MachineStop.Shutdown or MachineStop.Violation && result.Report!.Value.Vmpl == (uint)Vmpl.Vmpl2);
        bool cannotGoOn = result.Stop == MachineStop.Violation && result.Violation == ViolationKind.VcNotDelivered;
        bool isOff = name == "power-off" && result.Stop == MachineStop.PowerOff;
        Assert.True(unaffected || isOff || IsRefusal(result) || noticedByGuest || cannotGoOn, text);
        return result.Attacks.Any(attack => attack.Outcome != AttackOutcome.NoTarget);
    }

    private static bool IsRefusal(MachineResult result) =>
        result.Stop == MachineStop.Terminate && (result.Detail & 0xF) == KernelReasonSet && Enum.IsDefined((TerminationReason)(result.Detail >> 4));

    private static void AssertTerminated(TerminationReason reason, MachineResult result)
    {
        Assert.True(result.Stop == MachineStop.Terminate, result.ToString());
        Assert.Equal((KernelReasonSet, reason), (result.Detail & 0xF, (TerminationReason)(result.Detail >> 4)));
    }
}
