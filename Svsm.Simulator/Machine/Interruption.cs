// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Ctrl-C, a closed terminal and a polite kill, as a cancellation: a run that is interrupted leaves no QEMU and no file behind.

using System;
using System.Runtime.InteropServices;
using System.Threading;

namespace Svsm.Simulator;

/// <summary>Turns SIGINT, SIGHUP and SIGTERM of this process into a cancellation, until it is disposed.</summary>
public sealed class Interruption : IDisposable
{
    private readonly CancellationTokenSource _source = new();
    private readonly PosixSignalRegistration[] _registrations;

    /// <summary>Starts listening.</summary>
    public Interruption() => _registrations =
    [
        PosixSignalRegistration.Create(PosixSignal.SIGINT, Interrupt),
        PosixSignalRegistration.Create(PosixSignal.SIGHUP, Interrupt),
        PosixSignalRegistration.Create(PosixSignal.SIGTERM, Interrupt),
    ];

    /// <summary>Cancelled by the first of the signals.</summary>
    public CancellationToken Token => _source.Token;

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (PosixSignalRegistration registration in _registrations)
        {
            registration.Dispose();
        }

        _source.Dispose();
    }

    private void Interrupt(PosixSignalContext context)
    {
        context.Cancel = true;
        _source.Cancel();
    }
}
