// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The relay of the target. The hypervisor's state goes to its machine, and nothing behind it is passed on before the machine has taken it: so the target is not
// released into a machine whose devices are not those of the guest. In place of another relay there can be the file of a release.

using System;
using System.Collections.Generic;
using System.IO;
using System.Threading;
using System.Threading.Tasks;
using Svsm.Diagnostics;

namespace Svsm.Migration.Relay;

/// <summary>Receives a guest, or its release.</summary>
internal sealed class ReceivingRelay : RelayRun
{
    private readonly ReceiveOptions _options;
    private readonly Lock _answering = new();
    private PeerListener? _listener;
    private (IReadOnlyList<RelayFrame> State, RelayFrame Release)? _file;
    private TaskCompletionSource<string>? _answer;
    private bool _isRefused;
    private bool _isPassedOn;
    private bool _hasHeld;

    public ReceivingRelay(ReceiveOptions options)
        : base(options, MigrationRole.Target)
    {
        _options = options;
    }

    private bool IsFromFile => _options.ReleaseFile is not null;

    private bool IsHeld => Own.State == MigrationState.HandedOver;

    // A target that holds everything must be taken for the only one, whatever the other relay says: if the source has aborted, the own SVSM hears of it, and says so.
    private protected override bool IsGone => IsFromFile || IsHeld || IsRunning || IsSaidToBeGone;

    private bool IsSaidToBeGone => Peer.State is MigrationState.HandedOver or MigrationState.Ended;

    // HELD goes by, and the notice of it is lost with the machine.
    private protected override bool MayBeGone => _hasHeld && Own.State != MigrationState.Aborted;

    private protected override string TooLate => IsSaidToBeGone || IsRunning ? base.TooLate : "the target holds the guest, and the source may have given up";

    private protected override bool MayCancel => !IsFromFile;

    public override void Dispose()
    {
        _listener?.Dispose();
        base.Dispose();
    }

    /// <summary>Reads the file, if there is one.</summary>
    public async Task OpenAsync()
    {
        if (_options.ReleaseFile is string path)
        {
            _file = await ReleaseFile.ReadAsync(path, Limits.State, _options.End).ConfigureAwait(false);
            ReleasePath = Path.GetFullPath(path);
        }
    }

    private protected override void Prepare()
    {
        if (!IsFromFile)
        {
            _listener = new PeerListener(_options.Listen!, _options, Session, Log);
            _options.Listening(_listener.Address);
        }
    }

    private protected override Task ConnectAsync() => _listener?.RunAsync(Stop) ?? Task.CompletedTask;

    // The SVSM is there whether somebody has called or not.
    private protected override Task WaitForPeerAsync(Task linked, CancellationToken cancellationToken) => Task.CompletedTask;

    private protected override (RelayStage Stage, TimeSpan Limit) Judge()
    {
        if (Own.State is MigrationState.Ended or MigrationState.Aborted)
        {
            return JudgeEnd();
        }

        if (IsMachineOver || _isRefused)
        {
            return (RelayStage.Over, default);
        }

        if (Own.State == MigrationState.Idle && !IsCancelWished)
        {
            return (RelayStage.Beginning, Limits.Begin);
        }

        if (IsHeld)
        {
            return _isPassedOn ? (RelayStage.Releasing, Limits.Run)
                : IsPeerOver && Peer.State == MigrationState.Aborted ? (RelayStage.Settling, Limits.Answer)
                : IsPeerOver || (IsFromFile && IsCancelWished) ? (RelayStage.Over, default)
                : (RelayStage.Working, Timeout.InfiniteTimeSpan);
        }

        // A target that is not held is none of the file's business.
        return IsFromFile && (IsPeerOver || IsCancelWished) ? (RelayStage.Over, default)
            : IsPeerOver || Peer.State == MigrationState.Aborted || IsCancelWished ? (RelayStage.Cancelling, Limits.Answer)
            : (RelayStage.Working, Timeout.InfiniteTimeSpan);
    }

    private protected override async Task TakePeerFramesAsync()
    {
        if (_file is not { } file)
        {
            await base.TakePeerFramesAsync().ConfigureAwait(false);
            return;
        }

        while (Own.State == MigrationState.Idle)
        {
            Task changed = Changed;
            if (Own.State == MigrationState.Idle)
            {
                await changed.WaitAsync(Stop).ConfigureAwait(false);
            }
        }

        if (Own.State == MigrationState.Ended)
        {
            return;
        }

        if (!IsHeld)
        {
            throw SvsmDiagnostics.MigrationTargetNotHeld.Error(
                $"'{_options.Machine}': the target's state is {(int)Own.State} ({Own.State})", "6: a target that holds its guest");
        }

        foreach (RelayFrame frame in (IEnumerable<RelayFrame>)[.. file.State, file.Release])
        {
            await OnPeerFrameAsync(frame).ConfigureAwait(false);
        }
    }

    private protected override async Task OnMachineFrameAsync(RelayFrame frame)
    {
        if (frame.Kind != FrameKind.Machine)
        {
            // Before it goes: the source may give up as soon as it has it.
            _hasHeld |= frame.RecordType == RecordType.Held;
            await Session.SendAsync(frame, Stop).ConfigureAwait(false);
            return;
        }

        lock (_answering)
        {
            string? answer = frame.Verb switch
            {
                MachineVerb.Taken when frame.Contents.Length == 1 => "",
                MachineVerb.Refused => Printable(frame.Contents[1..]) is { Length: > 0 } reason ? reason : "without a reason",
                _ => null,
            };
            if (answer is null || _answer?.TrySetResult(answer) != true)
            {
                throw Machine.Malformed($"a frame of kind 4, 0x{frame.Verb:X2} with {frame.Contents.Length} bytes, that nobody has asked for");
            }
        }
    }

    private protected override async Task OnPeerFrameAsync(RelayFrame frame)
    {
        if (frame.Kind != FrameKind.Machine)
        {
            bool isRelease = frame.RecordType == RecordType.Release;
            await Machine.WriteAsync(frame, Stop).ConfigureAwait(false);
            if (isRelease)
            {
                _isPassedOn = true;
                Change();
            }

            return;
        }

        bool isLast = frame.Verb == MachineVerb.End;
        if (!isLast && frame.Verb != MachineVerb.Part)
        {
            throw PeerMalformed($"a frame of kind 4, 0x{frame.Verb:X2}, from the sending relay");
        }

        // It may be refused before it is complete.
        TaskCompletionSource<string> answer;
        lock (_answering)
        {
            answer = _answer ??= new(TaskCreationOptions.RunContinuationsAsynchronously);
        }

        await Machine.WriteAsync(frame, Stop).ConfigureAwait(false);
        if (!isLast && !answer.Task.IsCompleted)
        {
            return;
        }

        string why;
        try
        {
            why = await answer.Task.WaitAsync(Limits.MachineState, Time, Stop).ConfigureAwait(false);
        }
        catch (TimeoutException)
        {
            why = $"no answer for {Limits.MachineState.TotalSeconds:0} s";
        }

        lock (_answering)
        {
            _answer = null;
        }

        if (why.Length == 0 && !isLast)
        {
            throw Machine.Malformed("0x83 before the state was complete");
        }

        if (why.Length != 0)
        {
            Fail(SvsmDiagnostics.MigrationStateFailed.Error(
                $"'{_options.Machine}' has not taken it: {why}", "a target's hypervisor that takes the state of the source's"));
            _isRefused = true;
            throw Failure!;
        }
    }
}
