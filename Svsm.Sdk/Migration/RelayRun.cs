// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// What both relays do: two loops carry, one from the machine to the other relay and one back; a third keeps the other relay connected; and one place (Judge)
// decides from what all of them have seen whether the SVSM is to be asked to cancel, and when it is over. Each stage but the work itself has a time limit. The
// relays are the host's: nothing that they are told is believed further than for what to show, and nothing that they do can run a guest twice.

using System;
using System.Collections.Generic;
using System.Globalization;
using System.Text;
using System.Threading;
using System.Threading.Channels;
using System.Threading.Tasks;
using Svsm.Diagnostics;

namespace Svsm.Migration.Relay;

/// <summary>One run of a relay.</summary>
internal abstract class RelayRun : IDisposable
{
    private const int MaxWords = 512;

    private readonly RelayOptions _options;
    private readonly ProgressMeter _meter;
    private readonly Lock _telling = new();
    private readonly Signal _changed = new();
    private readonly CancellationTokenSource _stop = new();
    private MachineLink? _machine;
    private long _start;
    private long? _restAt;
    private long? _runAt;
    private bool _isRefusalTold;
    private bool _hasSaidLast;
    private volatile bool _hasFailed;
    private bool _hasBegun;

    private protected RelayRun(RelayOptions options, MigrationRole role)
    {
        _options = options;
        Role = role;
        Session = new PeerSession(options.Limits, options.Time);
        _meter = new ProgressMeter(options.Time);
    }

    private protected MigrationRole Role { get; }

    private protected PeerSession Session { get; }

    private protected MachineLink Machine => _machine!;

    private protected RelayLimits Limits => _options.Limits;

    private protected TimeProvider Time => _options.Time;

    /// <summary>Ends all loops.</summary>
    private protected CancellationToken Stop => _stop.Token;

    /// <summary>What the own SVSM has said last.</summary>
    private protected Notice Own { get; private set; } = Notice.None;

    /// <summary>What the other SVSM has said last, if its relay tells the truth.</summary>
    private protected Notice Peer { get; private set; } = Notice.None;

    /// <summary>What this relay has found wrong first.</summary>
    private protected SvsmDiagnosticException? Failure { get; private set; }

    /// <summary>Nothing more is taken from the machine.</summary>
    private protected bool IsMachineOver { get; private set; }

    /// <summary>Nothing more is taken from the other relay: it has said that it ends, cannot be reached, or was not understood.</summary>
    private protected bool IsPeerOver { get; private set; }

    /// <summary>Its last words.</summary>
    private protected string PeerWords { get; private set; } = "";

    /// <summary>
    /// The guest runs at the target. The own SVSM says so: that of a source has checked RUNNING. The other relay's word for it is none.
    /// </summary>
    private protected bool IsRunning => Own.State == MigrationState.Ended;

    private protected bool IsCancelWished => _options.Cancel.IsCancellationRequested;

    /// <summary>Where the release is, if it is in a file.</summary>
    private protected string? ReleasePath { get; set; }

    /// <summary>Carries until it is over.</summary>
    /// <exception cref="SvsmDiagnosticException">It could not begin; nothing was asked of the SVSM.</exception>
    public async Task<RelayOutcome> RunAsync()
    {
        _start = Time.GetTimestamp();
        using var early = CancellationTokenSource.CreateLinkedTokenSource(_options.Cancel, _options.End);
        List<Task> loops = [];
        try
        {
            _machine = await MachineLink.ConnectAsync(_options.Machine, Time, Limits.MachineWrite, early.Token).ConfigureAwait(false);
            Prepare();
            loops.Add(GuardAsync(MachineLoopAsync()));
            Task linked = GuardAsync(LinkAsync());
            loops.Add(linked);
            await WaitForPeerAsync(linked, early.Token).ConfigureAwait(false);
            loops.Add(GuardAsync(PeerLoopAsync()));
            if (!IsMachineOver)
            {
                loops.Add(GuardAsync(TellMachineAsync(LocalVerb.Begin, (byte)Role)));
            }

            _hasBegun = true;
            await WatchAsync(loops).ConfigureAwait(false);
            await SayEndAsync().ConfigureAwait(false);
        }
        catch (OperationCanceledException) when (!_hasBegun && early.IsCancellationRequested)
        {
            // Nothing was asked of anybody.
        }
        finally
        {
            await _stop.CancelAsync().ConfigureAwait(false);
            Session.Finish();
            await Task.WhenAll(loops).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }

        return Outcome();
    }

    /// <inheritdoc/>
    public virtual void Dispose()
    {
        _machine?.Dispose();
        _stop.Dispose();
    }

    /// <summary>What must be so before anything begins.</summary>
    private protected abstract void Prepare();

    /// <summary>Keeps the other relay connected. Throws what ends that.</summary>
    private protected abstract Task ConnectAsync();

    /// <summary>Waits for what must be there before the SVSM is asked to begin.</summary>
    /// <param name="linked">Keeps the other relay connected; completes when that has failed.</param>
    /// <param name="cancellationToken">Gives up.</param>
    private protected abstract Task WaitForPeerAsync(Task linked, CancellationToken cancellationToken);

    /// <summary>Takes a frame of kind 1, 2 or 4 of the machine.</summary>
    private protected abstract Task OnMachineFrameAsync(RelayFrame frame);

    /// <summary>Takes a frame of kind 1, 2 or 4 of the other relay.</summary>
    private protected abstract Task OnPeerFrameAsync(RelayFrame frame);

    /// <summary>Where it is, and how long that may last: <see cref="Timeout.InfiniteTimeSpan"/> if it may.</summary>
    private protected abstract (RelayStage Stage, TimeSpan Limit) Judge();

    /// <summary>The source has given up for good, as far as this relay knows.</summary>
    private protected abstract bool IsGone { get; }

    /// <summary>The source may have given up without this relay having heard of it.</summary>
    private protected virtual bool MayBeGone => false;

    /// <summary>There is nothing more to be had of the machine.</summary>
    private protected virtual bool MayMachineGo => Own.State is MigrationState.Ended or MigrationState.Aborted;

    /// <summary>Takes frames of the other relay, one after the other.</summary>
    private protected virtual async Task TakePeerFramesAsync()
    {
        while (true)
        {
            RelayFrame frame;
            try
            {
                frame = await Session.ReceiveAsync(Stop).ConfigureAwait(false);
            }
            catch (ChannelClosedException)
            {
                return;
            }

            if (frame.Kind != FrameKind.Relay)
            {
                await OnPeerFrameAsync(frame).ConfigureAwait(false);
                continue;
            }

            switch (frame.Verb)
            {
                case RelayVerb.Notice when Notice.TryRead(frame.Contents[1..], out Notice notice):
                    Take(notice, isOwn: false);
                    break;
                case RelayVerb.End when frame.Contents.Length <= 1 + MaxWords:
                    PeerWords = Printable(frame.Contents[1..]);
                    return;
                default:
                    throw PeerMalformed($"a frame of kind 5, 0x{frame.Verb:X2} with {frame.Contents.Length} bytes");
            }
        }
    }

    private protected static SvsmDiagnosticException PeerMalformed(string seen) =>
        SvsmDiagnostics.MigrationPeerMalformed.Error(seen, "what docs/migration-relays.md says");

    /// <summary>What a hostile program has written for people, as text that does nothing to a terminal.</summary>
    private protected static string Printable(ReadOnlySpan<byte> bytes)
    {
        char[] text = Encoding.UTF8.GetString(bytes[..Math.Min(bytes.Length, MaxWords)]).ToCharArray();
        for (int i = 0; i < text.Length; i++)
        {
            text[i] = char.IsControl(text[i]) || char.IsSurrogate(text[i]) || char.GetUnicodeCategory(text[i]) == UnicodeCategory.Format ? '?' : text[i];
        }

        return new string(text).Trim();
    }

    private protected void Log(string line)
    {
        lock (_telling)
        {
            _options.Log(line);
        }
    }

    /// <summary>Something was found wrong.</summary>
    private protected void Fail(SvsmDiagnosticException failure)
    {
        Failure ??= failure;
        _changed.Set();
    }

    private protected void Change() => _changed.Set();

    /// <summary>Completes when something has changed: see <see cref="Signal"/>.</summary>
    private protected Task Changed => _changed.Changed;

    private protected void Take(Notice notice, bool isOwn)
    {
        lock (_telling)
        {
            if (isOwn)
            {
                Own = notice;
            }
            else
            {
                Peer = notice;
            }

            Notice source = Role == MigrationRole.Source ? Own : Peer;
            Notice target = Role == MigrationRole.Source ? Peer : Own;
            if (source.State is MigrationState.Rest or MigrationState.HandedOver)
            {
                _restAt ??= Time.GetTimestamp();
            }

            if (IsRunning)
            {
                _runAt ??= Time.GetTimestamp();
            }

            _options.Progress(_meter.Take(source, target.State, Role == MigrationRole.Source ? Session.BytesSent : Session.BytesReceived));
        }

        _changed.Set();
    }

    private async Task MachineLoopAsync()
    {
        try
        {
            while (true)
            {
                await TakeFromMachineAsync(await Machine.ReadAsync(Stop).ConfigureAwait(false)).ConfigureAwait(false);
            }
        }
        catch (SvsmDiagnosticException e)
        {
            // In this order: who sees that it is over, sees why.
            if (!MayMachineGo)
            {
                Fail(e);
            }

            IsMachineOver = true;
            Change();
        }
        catch (OperationCanceledException)
        {
            // It is over.
        }
    }

    private protected async Task TakeFromMachineAsync(RelayFrame frame)
    {
        switch (frame.Kind)
        {
            case FrameKind.Local when Notice.TryRead(frame.Contents, out Notice notice):
                // In this order: with the last notice taken the relay may end, and its last words go behind the notice.
                await Session.SendAsync(RelayFrame.Make(FrameKind.Relay, [RelayVerb.Notice], frame.Contents), Stop).ConfigureAwait(false);
                Take(notice, isOwn: true);
                break;
            case FrameKind.Clear or FrameKind.Record or FrameKind.Machine:
                await OnMachineFrameAsync(frame).ConfigureAwait(false);
                if (frame.RecordType is RecordType.Running or RecordType.SourceAbort or RecordType.TargetAbort)
                {
                    _hasSaidLast = true;
                    Change();
                }

                break;
            default:
                throw Machine.Malformed($"a frame of kind {(byte)frame.Kind}, 0x{frame.Verb:X2} with {frame.Contents.Length} bytes");
        }
    }

    // A loop that fails for a reason that nobody has thought of ends the relay, which says where the guest is all the same.
    private async Task GuardAsync(Task loop)
    {
        try
        {
            await loop.ConfigureAwait(false);
        }
        catch (OperationCanceledException) when (Stop.IsCancellationRequested)
        {
            // It is over.
        }
        catch (Exception e)
        {
            _hasFailed = true;
            Fail(e as SvsmDiagnosticException ?? SvsmDiagnostics.MigrationRelayFailed.Error($"{e.GetType().Name}: {e.Message}", "a relay that carries until it is over", e));
        }
    }

    private async Task PeerLoopAsync()
    {
        try
        {
            await TakePeerFramesAsync().ConfigureAwait(false);
        }
        catch (SvsmDiagnosticException e)
        {
            Fail(e);
        }
        catch (OperationCanceledException)
        {
            return;
        }

        IsPeerOver = true;
        Change();
        if (Failure?.Diagnostic == SvsmDiagnostics.MigrationPeerMalformed)
        {
            Session.Finish();
        }

        // So that acknowledgements come through, and the other relay gets the last words.
        try
        {
            while (true)
            {
                await Session.ReceiveAsync(Stop).ConfigureAwait(false);
            }
        }
        catch (Exception e) when (e is OperationCanceledException or ChannelClosedException)
        {
            // It is over.
        }
    }

    // What has come before the connection was lost is still taken.
    private async Task LinkAsync()
    {
        try
        {
            await ConnectAsync().ConfigureAwait(false);
        }
        catch (SvsmDiagnosticException e)
        {
            if (!IsPeerOver)
            {
                Fail(e);
            }
        }
        finally
        {
            Session.Finish();
            Change();
        }
    }

    private async Task WatchAsync(List<Task> loops)
    {
        using CancellationTokenRegistration cancelled = _options.Cancel.Register(_changed.Set);
        using CancellationTokenRegistration ended = _options.End.Register(_changed.Set);
        RelayStage stage = RelayStage.Beginning;
        long since = Time.GetTimestamp();
        bool isCancelSent = false;
        bool waitsNever = false;
        while (true)
        {
            Task changed = _changed.Changed;
            (RelayStage next, TimeSpan limit) = _options.End.IsCancellationRequested || _hasFailed ? (RelayStage.Over, TimeSpan.Zero) : Judge();
            if (!isCancelSent && MayCancel && (next == RelayStage.Cancelling || IsCancelWished || _hasFailed))
            {
                // Not waited for: the machine may take nothing.
                isCancelSent = true;
                loops.Add(GuardAsync(TellMachineAsync(LocalVerb.Cancel)));
            }

            if (next == RelayStage.Over)
            {
                return;
            }

            if (next != stage)
            {
                (stage, since) = (next, Time.GetTimestamp());
            }

            TimeSpan left = limit == Timeout.InfiniteTimeSpan ? limit : limit - Time.GetElapsedTime(since);
            if (limit != Timeout.InfiniteTimeSpan && left <= TimeSpan.Zero)
            {
                if (stage == RelayStage.Cancelling && !waitsNever)
                {
                    // Its answer may be behind records that the other relay does not take.
                    Session.WaitNever();
                    (waitsNever, since) = (true, Time.GetTimestamp());
                    continue;
                }

                OnLimit(stage, limit);
                return;
            }

            if (isCancelSent && IsCancelWished && IsGone && !_isRefusalTold)
            {
                _isRefusalTold = true;
                Log($"it is too late to cancel: {TooLate}");
            }

            try
            {
                await changed.WaitAsync(left, Time, CancellationToken.None).ConfigureAwait(false);
            }
            catch (TimeoutException)
            {
                // Looked at above.
            }
        }
    }

    /// <summary>Why the wish to cancel is refused.</summary>
    private protected virtual string TooLate => "the source has given up, and the guest can run at the target only";

    /// <summary>
    /// What is left when the own SVSM says how it ended. Its module tells its state first, and gives the record that says the same to the other SVSM behind it:
    /// RUNNING of a target, and ABORT if it has keys and the other one has not aborted before. The relay's last words go behind that record.
    /// </summary>
    private protected (RelayStage Stage, TimeSpan Limit) JudgeEnd()
    {
        bool isDue = IsRunning ? Role == MigrationRole.Target : Peer.State != MigrationState.Aborted;
        return !isDue || _hasSaidLast || IsMachineOver || IsPeerOver || Session.Connections == 0
            ? (RelayStage.Over, default)
            : (RelayStage.Settling, IsRunning ? Limits.Answer : Limits.Close);
    }

    /// <summary>The SVSM may be asked to cancel.</summary>
    private protected virtual bool MayCancel => true;

    private void OnLimit(RelayStage stage, TimeSpan limit)
    {
        if (stage is RelayStage.Beginning or RelayStage.Cancelling)
        {
            Fail(SvsmDiagnostics.MigrationSvsmSilent.Error(
                $"'{_options.Machine}': no word of the SVSM for {limit.TotalSeconds:0} s",
                $"the channel of an SVSM that {(Role == MigrationRole.Source ? "has a guest" : "waits for one")}"));
        }
    }

    private async Task TellMachineAsync(params byte[] contents)
    {
        try
        {
            await Machine.WriteAsync(RelayFrame.Make(FrameKind.Local, contents), Stop).ConfigureAwait(false);
        }
        catch (SvsmDiagnosticException e)
        {
            Fail(e);
            IsMachineOver = true;
            Change();
        }
    }

    // The other relay hears of it if it is still there.
    private async Task SayEndAsync()
    {
        if (Session.Connections == 0)
        {
            return;
        }

        RelayOutcome outcome = Outcome();
        string words = outcome.Ending == RelayEnding.Running ? ""
            : outcome.Failure is not null ? $"{outcome.Failure.Diagnostic.Code}: {outcome.Failure.Diagnostic.Title}"
            : outcome.Reason != MigrationReason.None ? $"aborted: {outcome.Reason}"
            : "the relay was ended";
        using var limit = new CancellationTokenSource(_options.End.IsCancellationRequested ? Limits.Close : _options.Retry + Limits.Close, Time);
        using CancellationTokenRegistration ended = _options.End.Register(() => limit.CancelAfter(Limits.Close));
        try
        {
            await Session.SendAsync(RelayFrame.Make(FrameKind.Relay, [RelayVerb.End], Encoding.UTF8.GetBytes(words)), limit.Token).ConfigureAwait(false);
            await Session.DrainAsync(limit.Token).ConfigureAwait(false);
        }
        catch (OperationCanceledException)
        {
            // It does not hear of it.
        }
    }

    private RelayOutcome Outcome()
    {
        Notice source = Role == MigrationRole.Source ? Own : Peer;
        Notice target = Role == MigrationRole.Source ? Peer : Own;
        RelayEnding ending = IsRunning ? RelayEnding.Running : IsGone || MayBeGone ? RelayEnding.Unreleased : RelayEnding.Aborted;

        // Who was told to cancel is not who has found the reason.
        MigrationReason reason = Own.Reason is not (MigrationReason.None or MigrationReason.Cancelled) ? Own.Reason
            : Peer.Reason is not (MigrationReason.None or MigrationReason.Cancelled) ? Peer.Reason
            : Own.Reason != MigrationReason.None ? Own.Reason : Peer.Reason;
        return new RelayOutcome
        {
            Ending = ending,
            // The own SVSM's word, and a release, say more than the last notices, which may be behind them.
            Source = IsRunning ? MigrationState.Ended : Role == MigrationRole.Source && IsGone ? MigrationState.HandedOver : source.State,
            Target = IsRunning ? MigrationState.Ended : target.State,
            Reason = ending == RelayEnding.Aborted ? (!_hasBegun ? MigrationReason.Cancelled : reason) : MigrationReason.None,
            Failure = ending == RelayEnding.Running ? null : Failure,
            PeerWords = ending == RelayEnding.Running ? "" : PeerWords,
            Pages = source.Pages,
            Rounds = source.Round,
            PagesOfRest = source.PagesOfRest,
            BytesSent = Session.BytesSent,
            BytesReceived = Session.BytesReceived,
            Elapsed = Time.GetElapsedTime(_start),
            Downtime = _restAt is long rest && _runAt is long run && run >= rest ? Time.GetElapsedTime(rest, run) : null,
            Reconnections = Math.Max(0, Session.Connections - 1),
            ReleaseFile = ReleasePath,
        };
    }
}
