// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The module that moves the guest: between the kernel (GuestMove), the other SVSM (MigrationSource, MigrationTarget) and the relay (MigrationChannel). The kernel
// has it work when the channel has something, and as long as there is something to do, for a while each time: the guest runs in between.
//
// A VM whose host has the channel of a target waits for a guest; one that has the channel of a source has its own, and may be asked to move it, as one may whose guest
// has come. Without either, or without a policy in the image, nothing is ever moved.
//
// Frames of kind 3 are between this module and its relay (docs/migration-protocol.md). They are the host's, so what they can do the host could: begin, cancel, and
// decide when the guest is stopped.

using System;
using System.Buffers.Binary;
using System.Diagnostics;
using System.IO;
using System.Security.Cryptography;
using System.Threading;
using Svsm.Core;
using Svsm.Migration;
using Svsm.Modules.Storage;
using Svsm.Wire;

namespace Svsm.Modules.Migration;

/// <summary>Moves the guest.</summary>
[SvsmProtocol(ProtocolNumber)]
public sealed class MigrationModule : SvsmModule
{
    /// <summary>The protocol that is its name: of the range that the specification leaves to vendors, and no guest can call it.</summary>
    public const uint ProtocolNumber = 0x8000_5303;

    private const int SourceSlot = 0;
    private const int TargetSlot = 1;
    private const int StateLength = 32;
    private const byte BeginWish = 0x01;
    private const byte CancelWish = 0x02;
    private const byte StopWish = 0x03;
    private const byte StateNotice = 0x81;

    // For so long at a time: the kernel counts what a request takes, and other work waits.
    private static readonly TimeSpan s_slice = TimeSpan.FromMilliseconds(20);
    private static readonly TimeSpan s_noticeEvery = TimeSpan.FromMilliseconds(250);

    private readonly TimeSpan _patience = TimeSpan.FromSeconds(30);
    private readonly MigrationPolicy? _policy;
    private MigrationChannel? _channel;
    private MigrationEnd? _end;
    private TargetGuest? _target;
    private bool _isTarget;
    private (MigrationState State, ulong Pages, long Time) _noticed;
    private MigrationState _logged;
    private string _failure = "";

    /// <summary>Makes the module of an image.</summary>
    public MigrationModule()
    {
        if (File.Exists(MigrationPolicy.Path))
        {
            _policy = MigrationPolicy.TryRead(File.ReadAllBytes(MigrationPolicy.Path));
        }
    }

    internal MigrationModule(MigrationPolicy policy, TimeSpan patience) => (_policy, _patience) = (policy, patience);

    /// <inheritdoc/>
    protected override void Start()
    {
        _isTarget = VirtioDriver.IsThere(Disks, TargetSlot, MigrationChannel.Kind);
        bool isSource = !_isTarget && VirtioDriver.IsThere(Disks, SourceSlot, MigrationChannel.Kind);
        if (_policy is null)
        {
            Log.Warning($"the image has no policy in {MigrationPolicy.Path}, or none that is one: nothing is moved");
            return;
        }

        if (!_isTarget && !isSource)
        {
            return;
        }

        int slot = _isTarget ? TargetSlot : SourceSlot;
        if (_isTarget)
        {
            MoveControlResult held = Move.Control(MoveControl.Hold);
            if (held == MoveControlResult.Refused)
            {
                // The module was started anew, behind one that has moved a guest here: that may go on to another machine.
                Log.Warning("a guest has run in this VM: no other one is taken");
                _isTarget = false;
            }
            else if (held != MoveControlResult.Done)
            {
                Log.Error("the guest of the image cannot be held: no other one is taken");
                return;
            }
        }

        _channel = new MigrationChannel(Disks, slot);
        if (_isTarget)
        {
            _target = new TargetGuest(Move, Log);
            _end = new MigrationTarget(_target, new AttestingPeer(Peers), _policy, TimeProvider.System, _patience);
        }
    }

    /// <inheritdoc/>
    protected override SvsmResult Handle(in SvsmRequest request) => SvsmResultCode.UnsupportedCall;

    /// <inheritdoc/>
    protected override TimeSpan Work()
    {
        if (_channel is null)
        {
            return Timeout.InfiniteTimeSpan;
        }

        long start = Stopwatch.GetTimestamp();
        bool hasWorked;
        do
        {
            hasWorked = WorkOnce();
        }
        while (hasWorked && Stopwatch.GetElapsedTime(start) < s_slice);

        bool isUnderWay = _end is { IsIdle: false, IsOver: false };
        return hasWorked ? TimeSpan.Zero
            : isUnderWay || !_channel.IsEmpty ? TimeSpan.FromMilliseconds(_channel.IsEmpty ? 10 : 1)
            : _target is { IsCleared: true } ? EndOfVm()
            : Timeout.InfiniteTimeSpan;
    }

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        _end?.Dispose();
        base.Dispose(disposing);
    }

    private bool WorkOnce()
    {
        bool hasWorked = _channel!.Send();
        if (_channel.TryReceive(out MigrationFrame frame))
        {
            hasWorked = true;
            Receive(frame);
        }

        if (_channel.Failure != _failure)
        {
            _failure = _channel.Failure;
            Log.Warning($"the channel to the relay: {_failure}");
        }

        if (_end is not null)
        {
            // First: behind it there is seldom room.
            Notice(_end);
            hasWorked |= Advance(_end);
            LogState(_end);
        }

        return hasWorked;
    }

    // What is said goes before anything new is made: so little is ever in hand.
    private bool Advance(MigrationEnd end)
    {
        bool hasWorked = false;
        MigrationState before = end.State;
        end.CheckTime();
        (end as MigrationTarget)?.Work();
        while (_channel!.HasRoom)
        {
            if (end.TryTake(out MigrationFrame frame))
            {
                _channel.Put(in frame);
                hasWorked = true;
            }
            else if (!(end is MigrationSource source && TryWork(source)))
            {
                break;
            }
        }

        return hasWorked || end.State != before;
    }

    private static bool TryWork(MigrationSource source)
    {
        try
        {
            return source.Work();
        }
        catch (IOException exception)
        {
            source.Fail(exception.Message);
            return false;
        }
    }

    private void Receive(MigrationFrame frame)
    {
        if (frame.Kind != FrameKind.Local)
        {
            _end?.Receive(frame);
            if (frame.Kind == FrameKind.Record)
            {
                CryptographicOperations.ZeroMemory(frame.Contents);
            }

            return;
        }

        switch (frame.Contents)
        {
            case [BeginWish, (byte)MigrationRole.Source] when !_isTarget || _end is { State: MigrationState.Ended }:
                BeginAsSource();
                break;
            case [BeginWish, (byte)MigrationRole.Target] when _isTarget:
                RepeatHandOver();
                break;
            case [CancelWish]:
                _end?.TryCancel();
                break;
            case [StopWish]:
                (_end as MigrationSource)?.WantStop();
                break;
            default:
                Log.Warning("the relay wants something that there is not");
                break;
        }

        _noticed = default;
    }

    // What the other one may not have heard, if there is such a thing.
    private bool RepeatHandOver()
    {
        bool isHandedOver = _end is { IsHandedOver: true };
        if (isHandedOver)
        {
            _end!.Repeat();
        }

        return isHandedOver;
    }

    private void BeginAsSource()
    {
        if (!_isTarget && RepeatHandOver())
        {
            return;
        }

        // A relay that begins anew has lost the other one; a guest that has come runs here.
        _end?.Dispose();
        (_isTarget, _target) = (false, null);
        Log.Information("the guest is to be moved");
        var source = new MigrationSource(new SourceGuest(Move, Log), new AttestingPeer(Peers), _policy!, TimeProvider.System, _patience);
        (_end, _logged) = (source, MigrationState.Idle);
        source.Begin();
    }

    private void Notice(MigrationEnd end)
    {
        bool isSource = end is MigrationSource;
        ulong pages = isSource ? ((MigrationSource)end).PagesSent : _target!.Pages;
        long now = Stopwatch.GetTimestamp();
        bool isDue = end.State != _noticed.State || _noticed.Time == 0 || (pages != _noticed.Pages && Stopwatch.GetElapsedTime(_noticed.Time, now) > s_noticeEvery);

        // That it is over, behind its last frame: whoever hears it waits for nothing more.
        if (!isDue || !_channel!.HasRoom || (end.IsOver && end.HasFrames))
        {
            return;
        }

        byte[] contents = new byte[StateLength];
        contents[0] = StateNotice;
        contents[1] = (byte)end.State;
        contents[2] = (byte)end.Reason;
        BinaryPrimitives.WriteUInt64LittleEndian(contents.AsSpan(0x04), pages);
        BinaryPrimitives.WriteUInt64LittleEndian(contents.AsSpan(0x0C), isSource ? ((MigrationSource)end).PagesLeft : 0);
        BinaryPrimitives.WriteUInt32LittleEndian(contents.AsSpan(0x14), isSource ? ((MigrationSource)end).Rounds : 0);
        BinaryPrimitives.WriteUInt64LittleEndian(contents.AsSpan(0x18), isSource ? ((MigrationSource)end).PagesOfRest : 0);
        _channel.Put(new MigrationFrame(FrameKind.Local, contents));
        _noticed = (end.State, pages, now);
    }

    private void LogState(MigrationEnd end)
    {
        if (end.State == _logged)
        {
            return;
        }

        _logged = end.State;
        switch (end.State)
        {
            case MigrationState.HandedOver:
                Log.Information(end.Role == MigrationRole.Source ? "the guest is given up" : "the guest is here, and waits for its release");
                break;
            case MigrationState.Ended:
                Log.Information("the guest runs at the target");
                break;
            case MigrationState.Aborted:
                Log.Warning($"the migration has failed: {end.Reason}, {end.Detail}");
                break;
        }
    }

    // The relay has been told. What is here of the guest goes with the VM.
    private TimeSpan EndOfVm()
    {
        Log.Error("no guest has come: the VM ends");
        Move.Control(MoveControl.End);
        return Timeout.InfiniteTimeSpan;
    }
}
