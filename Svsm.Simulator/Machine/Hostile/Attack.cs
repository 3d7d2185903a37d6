// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The hostile host as a library. An attack is made in two ways: by a factory method, with page, time and values of the test's choice; or by a
// name and a seed (Attack.Parse), which choose them. docs/hostile-host.md says what each one does and what SNP hardware guarantees.
//
// Everything is decided here, before the start; the hypervisor only counts and acts (Shared/LaunchAttack.cs). Guest messages and launch
// parameters pass through this process, so what concerns them is done here.

using System;
using System.Collections.Generic;
using System.Globalization;
using System.Linq;
using Svsm.Diagnostics;
using Svsm.Simulator.Shared;

namespace Svsm.Simulator;

/// <summary>What an attack did.</summary>
/// <param name="Name">The attack's <see cref="Attack.Name"/>.</param>
/// <param name="Outcome">What came of it on the host's side.</param>
/// <param name="Number">Number of the event that it acted on.</param>
public sealed record AttackEvent(string Name, AttackOutcome Outcome, ulong Number);

/// <summary>Something that a hostile host does to a running guest.</summary>
public sealed class Attack
{
    private const ulong InterruptType = 0ul << 8;
    private const ulong NmiType = 2ul << 8;
    private const ulong ExceptionType = 3ul << 8;
    private const ulong ErrorCodeValid = 1ul << 11;
    private const ulong RunVmplRequest = 0x016;
    private const ulong PageStateChangeCode = 0x8000_0010;
    private const ulong ApCreationCode = 0x8000_0013;
    private const ulong SwExitInfo1 = 0x398;
    private const ulong SwExitInfo2 = 0x3A0;
    private const ulong ValidBitmap = 0x3F0;
    private const ulong PageStateChangeHead = 0x800;

    private static readonly Dictionary<string, (string Text, Func<Choice, Attack> Make)> s_named = new(StringComparer.Ordinal)
    {
        ["remap"] = ("puts another frame behind a page of the SVSM", choice => RemapPage(choice.Page(), choice.Exit())),
        ["replay"] = ("puts an old state of a page of the SVSM back", choice => ReplayPage(choice.Page(), choice.Exit(), choice.Below(40) + 1)),
        ["swap"] = ("exchanges two pages of the SVSM", choice => SwapPages(choice.Page(), choice.Page(), choice.Exit())),
        ["flip"] = ("takes a page away and gives it back between PVALIDATE and use", choice => FlipValidatedPage(AttackTime.AtValidation(choice.Below(60) + 1))),
        ["flip-page"] = ("takes a page of the SVSM away and gives it back", choice => FlipPage(choice.Page(), choice.Exit())),
        ["answer-error"] = ("answers a GHCB request with an error", choice => Answer(SwExitInfo1, choice.Below(3) + 1, choice.Request())),
        ["answer-value"] = ("answers a GHCB request with another SW_EXITINFO2", choice => AnswerXor(SwExitInfo2, choice.Word() | 1, choice.Request())),
        ["answer-length"] = ("answers a GHCB request without marking its fields valid", choice => Answer(ValidBitmap + 8, 0, choice.Request())),
        ["answer-psc"] = ("claims that a page state change was done", choice => Ignore(AttackTime.AtRequest(choice.Below(5) + 1, PageStateChangeCode, vmpl: 0))),
        ["answer-index"] = ("moves the current or last index in the list of a page state change", choice => AnswerXor(PageStateChangeHead, (choice.Word() & 0x03FF_03FF) | 1, AttackTime.AtRequest(choice.Below(3) + 1, PageStateChangeCode, vmpl: 0))),
        ["answer-msr"] = ("answers a request by GHCB MSR with another value", choice => AnswerMsrXor(choice.Word() | 1, AttackTime.AtMsrRequest(choice.Below(8) + 1, vmpl: 0))),
        ["answer-never"] = ("resumes the guest without an answer", choice => Ignore(choice.Request())),
        ["inject-interrupt"] = ("injects an external interrupt at an instruction boundary", choice => InjectInterrupt((byte)(32 + choice.Below(224)), choice.Boundary())),
        ["inject-nmi"] = ("injects an NMI at an instruction boundary", choice => InjectNmi(choice.Boundary())),
        ["inject-exception"] = ("injects an exception at an instruction boundary", choice => InjectException(choice.Exception(), choice.Boundary())),
        ["inject-vc"] = ("injects #VC at an instruction boundary", choice => InjectException(29, choice.Boundary(), (uint)choice.VcCode())),
        ["hv-forge"] = ("injects #HV without a reason at an instruction boundary", choice => InjectException(28, choice.Exit() with { Instructions = (int)choice.Below(200) })),
        ["hv-storm"] = ("injects #HV after each of 300 exits of the SVSM", choice => InjectException(28, choice.Exit() with { Repeat = 300 })),
        ["hv-garbage"] = ("writes any vector and flags into the #HV doorbell page and rings", choice => RingDoorbell((uint)choice.Word(), choice.Exit() with { Repeat = 100 })),
        ["hv-withhold"] = ("never tells the SVSM of an event", choice => WithholdEvents(choice.Exit())),
        ["intercept-tsc"] = ("intercepts RDTSC and RDTSCP", choice => InterceptTimeStampCounter(choice.Exit())),
        ["power-off"] = ("cuts the power after an exit of the SVSM", choice => CutPower(choice.Exit())),
        ["parameters"] = ("corrupts the parameter pages of the launch", choice => CorruptParameters(choice.Word())),
        ["cpuid"] = ("fills the CPUID page with other values", choice => CorruptCpuid(choice.Word())),
        ["start-twice"] = ("runs the VMSA of a vCPU on a second one as well", choice => StartTwice(1, choice.Exit())),
        ["wrong-vmpl"] = ("runs another VMPL than it was asked to", choice => RunVmpl((int)choice.Below(4), AttackTime.AtMsrRequest(choice.Below(10) + 1, RunVmplRequest, vmpl: 0))),
        ["wrong-vmpl-any"] = ("runs another VMPL unasked, after an exit of the SVSM", choice => RunVmpl((int)choice.Below(3) + 1, choice.Exit())),
        ["message-tear"] = ("changes a byte of an answer of the security processor", choice => TearMessage((int)choice.Below(4) + 1, choice.Word())),
        ["message-repeat"] = ("answers a guest message with the answer to an older one", choice => RepeatMessage((int)choice.Below(4) + 2)),
        ["request-tear"] = ("changes a byte of a message to the security processor", choice => TearRequest((int)choice.Below(4) + 1, choice.Word())),
        ["request-repeat"] = ("gives the security processor an older message", choice => RepeatRequest((int)choice.Below(4) + 2)),
    };

    private readonly LaunchAttack _description;

    private Attack(string name, in LaunchAttack description)
    {
        Name = name;
        _description = description;
    }

    /// <summary>Names that <see cref="Parse"/> knows, each with what it does.</summary>
    public static IEnumerable<(string Name, string Text)> Named => s_named.Select(pair => (pair.Key, pair.Value.Text));

    /// <summary>The name, for reports.</summary>
    public string Name { get; private init; }

    internal LaunchAttack? Description => _description.Action == 0 ? null : _description;

    // What is done in this process: to the parameter pages, the CPUID page, or to messages. 0 = nothing.
    internal ulong ParameterSeed { get; private init; }

    internal ulong CpuidSeed { get; private init; }

    internal int MessageNumber { get; private init; }

    internal ulong? MessageTear { get; private init; }

    // Whether the message is the guest's, and not the answer to it.
    internal bool IsRequest { get; private init; }

    // Attacks by name are made once the launch is known: they choose among its pages.
    internal Func<LaunchPlan, Attack>? Maker { get; private init; }

    /// <summary>An attack with its default schedule.</summary>
    /// <param name="text">A name of <see cref="Named"/>, or a name, a colon and a seed: <c>remap:7</c>. Without a seed: 1.</param>
    /// <returns>The attack. Pages and times are chosen when the launch is known.</returns>
    /// <exception cref="SvsmDiagnosticException">SVSM6020: there is no such attack, or the seed is no number from 0 to 2^64 - 1.</exception>
    public static Attack Parse(string text)
    {
        ArgumentNullException.ThrowIfNull(text);
        string[] parts = text.Split(':', 2);
        ulong seed = 1;
        if (!s_named.TryGetValue(parts[0], out (string Text, Func<Choice, Attack> Make) named)
            || (parts.Length == 2 && !ulong.TryParse(parts[1], NumberStyles.None, CultureInfo.InvariantCulture, out seed)))
        {
            throw SvsmDiagnostics.AttackUnknown.Error($"'{text}'", $"NAME or NAME:SEED, with a name of {string.Join(", ", s_named.Keys)}");
        }

        string name = string.Create(CultureInfo.InvariantCulture, $"{parts[0]}:{seed}");
        return new Attack(name, default) { Maker = plan => named.Make(new Choice(plan, seed)).Rename(name) };
    }

    /// <summary>Puts another frame behind a private page.</summary>
    /// <param name="gpa">The page.</param>
    /// <param name="time">When.</param>
    /// <returns>The attack.</returns>
    public static Attack RemapPage(ulong gpa, AttackTime time) => Make("remap", AttackAction.Remap, time, gpa);

    /// <summary>Keeps the contents of a private page and puts them back later.</summary>
    /// <param name="gpa">The page.</param>
    /// <param name="time">When they are kept.</param>
    /// <param name="events">So many events later they are put back.</param>
    /// <returns>The attack.</returns>
    public static Attack ReplayPage(ulong gpa, AttackTime time, ulong events) => Make("replay", AttackAction.Replay, time, gpa, events);

    /// <summary>Exchanges two private pages.</summary>
    /// <param name="gpa">One.</param>
    /// <param name="other">The other.</param>
    /// <param name="time">When.</param>
    /// <returns>The attack.</returns>
    public static Attack SwapPages(ulong gpa, ulong other, AttackTime time) => Make("swap", AttackAction.Swap, time, gpa, other);

    /// <summary>Makes a private page shared and private again.</summary>
    /// <param name="gpa">The page.</param>
    /// <param name="time">When.</param>
    /// <returns>The attack.</returns>
    public static Attack FlipPage(ulong gpa, AttackTime time) => Make("flip-page", AttackAction.Flip, time, gpa);

    /// <summary>Makes the page shared and private again that the guest has just validated.</summary>
    /// <param name="time">Of <see cref="AttackTime.AtValidation"/>.</param>
    /// <returns>The attack.</returns>
    public static Attack FlipValidatedPage(AttackTime time) => Make("flip", AttackAction.Flip, time);

    /// <summary>Changes a field of the GHCB page after the host has answered a request.</summary>
    /// <param name="offset">Byte offset of the field, which has 8 bytes.</param>
    /// <param name="value">What is in it then.</param>
    /// <param name="time">Of <see cref="AttackTime.AtRequest"/>.</param>
    /// <returns>The attack.</returns>
    public static Attack Answer(ulong offset, ulong value, AttackTime time) => Make("answer", AttackAction.Answer, time, offset, value);

    /// <summary>Changes bits of a field of the GHCB page after the host has answered a request.</summary>
    /// <param name="offset">Byte offset of the field, which has 8 bytes.</param>
    /// <param name="bits">The bits.</param>
    /// <param name="time">Of <see cref="AttackTime.AtRequest"/>.</param>
    /// <returns>The attack.</returns>
    public static Attack AnswerXor(ulong offset, ulong bits, AttackTime time) => Make("answer", AttackAction.Answer, time, offset, bits, combine: true);

    /// <summary>Answers a request by GHCB MSR with a value.</summary>
    /// <param name="value">The value.</param>
    /// <param name="time">Of <see cref="AttackTime.AtMsrRequest"/>.</param>
    /// <returns>The attack.</returns>
    public static Attack AnswerMsr(ulong value, AttackTime time) => Make("answer-msr", AttackAction.Answer, time, 0, value);

    /// <summary>Changes bits of the answer to a request by GHCB MSR.</summary>
    /// <param name="bits">The bits.</param>
    /// <param name="time">Of <see cref="AttackTime.AtMsrRequest"/>.</param>
    /// <returns>The attack.</returns>
    public static Attack AnswerMsrXor(ulong bits, AttackTime time) => Make("answer-msr", AttackAction.Answer, time, 0, bits, combine: true);

    /// <summary>Resumes the guest without having looked at its request.</summary>
    /// <param name="time">Of <see cref="AttackTime.AtRequest"/> or <see cref="AttackTime.AtMsrRequest"/>.</param>
    /// <returns>The attack.</returns>
    public static Attack Ignore(AttackTime time) => Make("answer-never", AttackAction.Ignore, time);

    /// <summary>Injects an external interrupt, whatever the guest has masked.</summary>
    /// <param name="vector">Its vector.</param>
    /// <param name="time">When.</param>
    /// <returns>The attack.</returns>
    public static Attack InjectInterrupt(byte vector, AttackTime time) => Make("inject-interrupt", AttackAction.Inject, time, 0, InterruptType | vector);

    /// <summary>Injects an NMI.</summary>
    /// <param name="time">When.</param>
    /// <returns>The attack.</returns>
    public static Attack InjectNmi(AttackTime time) => Make("inject-nmi", AttackAction.Inject, time, 0, NmiType | 2);

    /// <summary>Injects an exception that nothing caused.</summary>
    /// <param name="vector">0 to 31.</param>
    /// <param name="time">When.</param>
    /// <param name="errorCode">Its error code, or null when it has none.</param>
    /// <returns>The attack.</returns>
    public static Attack InjectException(byte vector, AttackTime time, uint? errorCode = null)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThan(vector, 31);
        ulong error = errorCode is uint code ? ErrorCodeValid | ((ulong)code << 32) : 0;
        return Make("inject-exception", AttackAction.Inject, time, 0, ExceptionType | vector | error);
    }

    /// <summary>Writes into the #HV doorbell page of the VMPL that runs, and injects #HV.</summary>
    /// <param name="events">First four bytes of the page: vector, flags, no EOI required, VMPL events.</param>
    /// <param name="time">When.</param>
    /// <returns>The attack.</returns>
    public static Attack RingDoorbell(uint events, AttackTime time) => Make("hv-garbage", AttackAction.Ring, time, 0, events);

    /// <summary>From then on no VMPL with restricted injection learns of an event.</summary>
    /// <param name="time">When.</param>
    /// <returns>The attack.</returns>
    public static Attack WithholdEvents(AttackTime time) => Make("hv-withhold", AttackAction.Withhold, time);

    /// <summary>Intercepts RDTSC and RDTSCP from a time on: they are #VC, and the guest has to ask the host what time it is.</summary>
    /// <param name="time">When.</param>
    /// <returns>The attack.</returns>
    public static Attack InterceptTimeStampCounter(AttackTime time) => Make("intercept-tsc", AttackAction.InterceptTimeStampCounter, time);

    /// <summary>Cuts the power: the run ends with <see cref="MachineStop.PowerOff"/>, and what was not on a disk is gone.</summary>
    /// <param name="time">When.</param>
    /// <returns>The attack.</returns>
    public static Attack CutPower(AttackTime time) => Make("power-off", AttackAction.PowerOff, time);

    /// <summary>Runs a VMPL of the vCPU in place of the one that exited.</summary>
    /// <param name="vmpl">VMPL, 0 to 3. The one that exited: it is resumed, as if the other had run.</param>
    /// <param name="time">When. At a run-VMPL request the host does this instead of what it was asked.</param>
    /// <returns>The attack.</returns>
    public static Attack RunVmpl(int vmpl, AttackTime time) => Make("wrong-vmpl", AttackAction.RunVmpl, time, 0, (ulong)vmpl);

    /// <summary>Runs the VMSA of the vCPU that exited on a second vCPU as well.</summary>
    /// <param name="vcpu">The second one.</param>
    /// <param name="time">When.</param>
    /// <returns>The attack.</returns>
    public static Attack StartTwice(int vcpu, AttackTime time) => Make("start-twice", AttackAction.StartTwice, time, 0, (ulong)vcpu);

    /// <summary>Changes bytes of the parameter pages, which are not measured, before the launch.</summary>
    /// <param name="seed">Chooses which.</param>
    /// <returns>The attack.</returns>
    public static Attack CorruptParameters(ulong seed) => new("parameters", default) { ParameterSeed = seed | 1 };

    /// <summary>Changes registers of functions in the CPUID page, which the host fills and nobody measures, before the security processor checks it.</summary>
    /// <param name="seed">Chooses which.</param>
    /// <returns>The attack. If the security processor refuses the page, the run ends with SVSM6005.</returns>
    public static Attack CorruptCpuid(ulong seed) => new("cpuid", default) { CpuidSeed = seed | 1 };

    /// <summary>Changes a byte of an answer of the security processor.</summary>
    /// <param name="number">Which answer, from 1.</param>
    /// <param name="seed">Chooses the byte.</param>
    /// <returns>The attack.</returns>
    public static Attack TearMessage(int number, ulong seed) => new("message-tear", default) { MessageNumber = number, MessageTear = seed };

    /// <summary>Answers a guest message with the answer to the one before.</summary>
    /// <param name="number">Which answer, from 2.</param>
    /// <returns>The attack.</returns>
    public static Attack RepeatMessage(int number) => new("message-repeat", default) { MessageNumber = number };

    /// <summary>Changes a byte of a guest's message before the security processor gets it.</summary>
    /// <param name="number">Which message, from 1.</param>
    /// <param name="seed">Chooses the byte, of header and payload.</param>
    /// <returns>The attack.</returns>
    public static Attack TearRequest(int number, ulong seed) => new("request-tear", default) { MessageNumber = number, MessageTear = seed, IsRequest = true };

    /// <summary>Gives the security processor the message before once more.</summary>
    /// <param name="number">In place of which message, from 2.</param>
    /// <returns>The attack.</returns>
    public static Attack RepeatRequest(int number) => new("request-repeat", default) { MessageNumber = number, IsRequest = true };

    /// <inheritdoc/>
    public override string ToString() => Name;

    private static Attack Make(string name, AttackAction action, AttackTime time, ulong gpa = 0, ulong value = 0, bool combine = false)
    {
        ArgumentOutOfRangeException.ThrowIfZero(time.First, nameof(time));
        ArgumentOutOfRangeException.ThrowIfLessThan(time.Repeat, 1, nameof(time));
        ArgumentOutOfRangeException.ThrowIfNegative(time.Instructions, nameof(time));
        return new Attack(name, new LaunchAttack
        {
            Action = action,
            Trigger = time.Trigger,
            Vmpl = time.Vmpl is int vmpl ? (uint)vmpl : LaunchAttack.AnyVmpl,
            Repeat = (uint)time.Repeat,
            Code = time.Code ?? LaunchAttack.AnyCode,
            First = time.First,
            Instructions = (uint)time.Instructions,
            Gpa = gpa,
            Value = value,
            Combine = combine ? 1u : 0,
        });
    }

    private Attack Rename(string name) => new(name, in _description)
    {
        ParameterSeed = ParameterSeed,
        CpuidSeed = CpuidSeed,
        MessageNumber = MessageNumber,
        MessageTear = MessageTear,
        IsRequest = IsRequest,
    };

    // Choices of a default schedule. SplitMix64, so that a seed means the same for ever.
    private sealed class Choice(LaunchPlan plan, ulong seed) : SeededChoice(seed)
    {
        private static readonly ulong[] s_vcCodes = [0x72, 0x7B, 0x7C, 0x81, 0x6E, 0x400, 0x404, 0xFFFF];

        private readonly ulong[] _pages =
            [.. plan.Updates.Where(update => update.Type is LaunchPageType.Normal or LaunchPageType.Secrets or LaunchPageType.Cpuid).Select(update => update.Gpa)];

        public ulong Page() => _pages[(int)Below((ulong)_pages.Length)];

        public AttackTime Exit() => AttackTime.AtExit(Below(500) + 1, vmpl: 0);

        // At VMPL0, or in the guest.
        public AttackTime Boundary()
        {
            int vmpl = Below(2) == 0 ? 0 : 2;
            return AttackTime.AtExit(Below(vmpl == 0 ? 500ul : 40ul) + 1, vmpl) with { Instructions = (int)Below(200) };
        }

        // Of those on which something depends; the others are console output.
        public AttackTime Request() =>
            Below(3) == 0 ? AttackTime.AtRequest(1, ApCreationCode, vmpl: 0) : AttackTime.AtRequest(Below(4) + 1, PageStateChangeCode, vmpl: 0);

        // Without #BP and #OF, which software raises, and those that are reserved.
        public byte Exception()
        {
            ReadOnlySpan<byte> vectors = [0, 1, 2, 5, 6, 7, 8, 10, 11, 12, 13, 14, 16, 17, 18, 19, 21, 28, 30];
            return vectors[(int)Below((ulong)vectors.Length)];
        }

        public ulong VcCode() => s_vcCodes[Below((ulong)s_vcCodes.Length)];
    }
}
