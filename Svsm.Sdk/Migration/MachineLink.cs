// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The relay's connection to its machine: the Unix socket behind which the SVSM's channel and the hypervisor's state are. The machine listens. What it says is
// as untrusted as what comes over the network.

using System;
using System.IO;
using System.Net.Sockets;
using System.Threading;
using System.Threading.Tasks;
using Svsm.Diagnostics;

namespace Svsm.Migration.Relay;

/// <summary>A connection to a machine. One reader, any number of writers.</summary>
internal sealed class MachineLink : IDisposable
{
    private readonly string _path;
    private readonly NetworkStream _stream;
    private readonly FrameReader _reader;
    private readonly SemaphoreSlim _writing = new(1);
    private readonly TimeProvider _time;
    private readonly TimeSpan _patience;

    private MachineLink(string path, Socket socket, TimeProvider time, TimeSpan patience)
    {
        _path = path;
        _stream = new NetworkStream(socket, ownsSocket: true);
        _reader = new FrameReader(_stream);
        (_time, _patience) = (time, patience);
    }

    /// <summary>Connects.</summary>
    /// <param name="path">Path of the socket.</param>
    /// <param name="time">The clock.</param>
    /// <param name="patience">How long the machine may take for a frame.</param>
    /// <param name="cancellationToken">Gives up.</param>
    /// <exception cref="SvsmDiagnosticException">SVSM7101: nobody listens there.</exception>
    public static async Task<MachineLink> ConnectAsync(string path, TimeProvider time, TimeSpan patience, CancellationToken cancellationToken)
    {
        var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        try
        {
            await socket.ConnectAsync(new UnixDomainSocketEndPoint(path), cancellationToken).ConfigureAwait(false);
            return new MachineLink(path, socket, time, patience);
        }
        catch (Exception e) when (e is SocketException or ArgumentException or UnauthorizedAccessException)
        {
            socket.Dispose();
            throw SvsmDiagnostics.MigrationMachineUnreachable.Error($"'{path}': {e.Message}", "a Unix socket on which the machine listens", e);
        }
        catch
        {
            socket.Dispose();
            throw;
        }
    }

    /// <summary>Reads a frame.</summary>
    /// <exception cref="SvsmDiagnosticException">SVSM7102: the machine has gone. SVSM7103: something that is no frame.</exception>
    public async ValueTask<RelayFrame> ReadAsync(CancellationToken cancellationToken)
    {
        try
        {
            return await _reader.ReadAsync(cancellationToken).ConfigureAwait(false) ?? throw Gone("it has closed the connection");
        }
        catch (InvalidDataException e)
        {
            throw Malformed(e.Message);
        }
        catch (Exception e) when (e is IOException or ObjectDisposedException)
        {
            throw Gone(e.Message, e);
        }
    }

    /// <summary>Writes a frame. Waits as long as the machine takes nothing, and not for ever.</summary>
    /// <exception cref="SvsmDiagnosticException">SVSM7102: the machine has gone, or takes nothing.</exception>
    public async Task WriteAsync(RelayFrame frame, CancellationToken cancellationToken)
    {
        using var patience = new CancellationTokenSource(_patience, _time);
        using var both = CancellationTokenSource.CreateLinkedTokenSource(patience.Token, cancellationToken);
        bool isHeld = false;
        try
        {
            await _writing.WaitAsync(both.Token).ConfigureAwait(false);
            isHeld = true;
            await _stream.WriteAsync(frame.Bytes, both.Token).ConfigureAwait(false);
        }
        catch (OperationCanceledException e) when (!cancellationToken.IsCancellationRequested)
        {
            // Half of a frame may have gone: the connection is of no more use.
            _stream.Dispose();
            throw Gone($"it has taken nothing for {_patience.TotalSeconds:0} s", e);
        }
        catch (Exception e) when (e is IOException or ObjectDisposedException)
        {
            throw Gone(e.Message, e);
        }
        finally
        {
            if (isHeld)
            {
                _writing.Release();
            }
        }
    }

    /// <summary>What to throw for a frame that the machine may not send.</summary>
    public SvsmDiagnosticException Malformed(string seen) =>
        SvsmDiagnostics.MigrationMachineMalformed.Error($"'{_path}': {seen}", "frames of docs/migration-protocol.md");

    /// <inheritdoc/>
    public void Dispose()
    {
        _stream.Dispose();
        _writing.Dispose();
    }

    private SvsmDiagnosticException Gone(string seen, Exception? cause = null) =>
        SvsmDiagnostics.MigrationMachineGone.Error($"'{_path}': {seen}", "a machine that is there until the migration is over", cause);
}
