// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The relay of the source. What it does beyond carrying is at the hand-over: when RELEASE comes from the SVSM, the guest can run nowhere without it. So the
// relay writes it to a file, and that to the disk, before anything else; then it asks its machine for the hypervisor's state, puts that into the file as well, and
// passes both on, the state first.

using System;
using System.Collections.Generic;
using System.IO;
using System.Security.Cryptography;
using System.Threading;
using System.Threading.Tasks;
using Svsm.Diagnostics;

namespace Svsm.Migration.Relay;

/// <summary>Sends a guest.</summary>
internal sealed class SendingRelay : RelayRun
{
    private readonly SendOptions _options;
    private readonly byte[] _id = RandomNumberGenerator.GetBytes(Preamble.IdLength);
    private readonly PeerCaller _caller;
    private readonly string _path;
    private bool _hasHeld;
    private bool _hasRunning;
    private bool _hasRelease;
    private bool _isKeptBack;
    private bool _isPassedOn;

    public SendingRelay(SendOptions options)
        : base(options, MigrationRole.Source)
    {
        _options = options;
        _caller = new PeerCaller(options, _id, Session, Log);
        _path = options.ReleaseFile ?? $"migration-{Convert.ToHexStringLower(_id)}.release";
    }

    private protected override bool IsGone => _hasRelease || Own.State is MigrationState.HandedOver or MigrationState.Ended;

    // On HELD it gives up before it says so.
    private protected override bool MayBeGone => _hasHeld && Own.State != MigrationState.Aborted;

    private protected override bool MayMachineGo => _hasRelease || base.MayMachineGo;

    private protected override void Prepare() => ReleaseFile.Try(_path);

    private protected override Task ConnectAsync() => _caller.RunAsync(Stop);

    private protected override async Task WaitForPeerAsync(Task linked, CancellationToken cancellationToken)
    {
        while (!_caller.Connected.IsCompleted)
        {
            Task changed = Changed;
            if (Failure is not null)
            {
                throw Failure;
            }

            await Task.WhenAny(_caller.Connected, linked, changed).WaitAsync(cancellationToken).ConfigureAwait(false);
        }
    }

    private protected override (RelayStage Stage, TimeSpan Limit) Judge()
    {
        if (Own.State is MigrationState.Ended or MigrationState.Aborted)
        {
            return JudgeEnd();
        }

        if (IsGone)
        {
            // The own SVSM is to check what the other side says; without it, it stays unknown.
            bool isSaidToRun = _isPassedOn && (_hasRunning || Peer.State == MigrationState.Ended);
            return _isKeptBack || (IsMachineOver && (!_hasRelease || (_isPassedOn && Peer.State == MigrationState.Ended))) ? (RelayStage.Over, default)
                : isSaidToRun && !IsMachineOver ? (RelayStage.Settling, Limits.Answer)
                : IsPeerOver && (_isPassedOn || IsMachineOver) ? (RelayStage.Over, default)
                : (RelayStage.Releasing, Limits.MachineState + Limits.Run + _options.Retry + Limits.MachineWrite);
        }

        return IsMachineOver ? (RelayStage.Over, default)
            : IsPeerOver || Peer.State == MigrationState.Aborted || IsCancelWished ? (RelayStage.Cancelling, Limits.Answer)
            : Own.State == MigrationState.Idle ? (RelayStage.Beginning, Limits.Begin)
            : (RelayStage.Working, Timeout.InfiniteTimeSpan);
    }

    private protected override async Task OnMachineFrameAsync(RelayFrame frame)
    {
        switch (frame.Kind)
        {
            case FrameKind.Machine:
                throw Machine.Malformed($"a frame of kind 4, 0x{frame.Verb:X2}, that nobody has asked for");
            case FrameKind.Record when frame.RecordType == RecordType.Release && frame.Contents.Length == ReleaseFile.ReleaseLength:
                // Repeated for a relay that begins anew; this one has it.
                if (!_hasRelease)
                {
                    await TakeReleaseAsync(frame).ConfigureAwait(false);
                }

                break;
            default:
                await Session.SendAsync(frame, Stop).ConfigureAwait(false);
                break;
        }
    }

    private protected override async Task OnPeerFrameAsync(RelayFrame frame)
    {
        if (frame.Kind == FrameKind.Machine)
        {
            throw PeerMalformed($"a frame of kind 4, 0x{frame.Verb:X2}, from the receiving relay");
        }

        _hasHeld |= frame.RecordType == RecordType.Held;
        _hasRunning |= frame.RecordType == RecordType.Running;
        if (!IsMachineOver)
        {
            try
            {
                await Machine.WriteAsync(frame, Stop).ConfigureAwait(false);
            }
            catch (SvsmDiagnosticException) when (IsGone)
            {
                // A source that has given up may go. What the target says is heard all the same.
            }
        }

        Change();
    }

    private async Task TakeReleaseAsync(RelayFrame release)
    {
        _hasRelease = true;
        WriteFile(release);
        Change();
        IReadOnlyList<RelayFrame> state = [];
        string why = "";
        SvsmDiagnosticException? end = null;
        try
        {
            state = await AskForStateAsync().ConfigureAwait(false);
        }
        catch (InvalidDataException e)
        {
            why = e.Message;
        }
        catch (SvsmDiagnosticException e)
        {
            // The machine has gone, or is not understood: RELEASE is here, and that is what counts.
            (why, end) = (e.Message, e);
        }
        catch (OperationCanceledException)
        {
            why = "the relay was ended";
        }

        if (ReleasePath is not null && state.Count != 0)
        {
            AddToFile(state, release);
        }

        if (why.Length != 0)
        {
            Fail(SvsmDiagnostics.MigrationStateFailed.Error(
                $"'{_options.Machine}' has not given it: {why}", "the state of a source's hypervisor, with its length and SHA-256"));
            _isKeptBack = true;
            Change();
        }
        else
        {
            foreach (RelayFrame frame in state)
            {
                await Session.SendAsync(frame, Stop).ConfigureAwait(false);
            }

            await Session.SendAsync(release, Stop).ConfigureAwait(false);
            _isPassedOn = true;
            Change();
        }

        if (end is not null)
        {
            throw end;
        }
    }

    private void WriteFile(RelayFrame release)
    {
        try
        {
            ReleaseFile.Write(_path, release);
            ReleasePath = Path.GetFullPath(_path);
            Log($"the source has given up; its release is in {_path}");
        }
        catch (SvsmDiagnosticException e)
        {
            // Kept back, it would help nobody: the source says it again to the next relay, as long as its VM is there.
            Log($"{e.Diagnostic.Code}: {e.Message} The release goes on without a file; leave the source's VM alone until the guest runs at the target.");
        }
    }

    private void AddToFile(IReadOnlyList<RelayFrame> state, RelayFrame release)
    {
        try
        {
            ReleaseFile.Replace(_path, state, release);
        }
        catch (SvsmDiagnosticException e)
        {
            // The file is as before.
            Log($"{e.Diagnostic.Code}: {e.Message} The file has the release without the hypervisor's state; leave the source's VM alone until the guest runs at the target.");
        }
    }

    private async Task<IReadOnlyList<RelayFrame>> AskForStateAsync()
    {
        using var patience = new CancellationTokenSource(Limits.MachineState, Time);
        using var both = CancellationTokenSource.CreateLinkedTokenSource(patience.Token, Stop);
        using var state = new StateFrames(Limits.State);
        try
        {
            await Machine.WriteAsync(RelayFrame.Make(FrameKind.Machine, MachineVerb.Give), both.Token).ConfigureAwait(false);
            while (!state.IsComplete)
            {
                RelayFrame frame = await Machine.ReadAsync(both.Token).ConfigureAwait(false);
                switch (frame.Kind)
                {
                    case FrameKind.Machine when frame.Verb == MachineVerb.Unavailable:
                        throw new InvalidDataException(Printable(frame.Contents[1..]) is { Length: > 0 } reason ? reason : "without a reason");
                    case FrameKind.Machine:
                        state.Take(frame);
                        break;
                    case FrameKind.Local:
                        await TakeFromMachineAsync(frame).ConfigureAwait(false);
                        break;
                    default:
                        // A source that has given up has nothing more to say than its release once more.
                        break;
                }
            }

            return state.Frames;
        }
        catch (OperationCanceledException) when (!Stop.IsCancellationRequested)
        {
            throw new InvalidDataException($"no answer for {Limits.MachineState.TotalSeconds:0} s");
        }
    }
}
