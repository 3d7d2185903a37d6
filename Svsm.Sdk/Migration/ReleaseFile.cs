// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The file that the sending relay keeps of the hypervisor's state and of RELEASE, for the operator who brings both to the target by hand: frames, one behind the other, as they go over the wire (docs/migration-relays.md):
//
//   kind 4, 81 and up to 64 KiB of the state: any number of them
//   kind 4, 82, u64 bytes of the state, SHA-256 of the state
//   kind 2, the record RELEASE
//
// Without the first two if the machine has not given its state. None of it is secret, and only the one target can use the release; but whoever has lost it has
// lost the guest.

using System;
using System.Collections.Generic;
using System.IO;
using System.Threading;
using System.Threading.Tasks;
using Svsm.Diagnostics;
using Svsm.Files;

namespace Svsm.Migration.Relay;

/// <summary>Writes and reads files of releases.</summary>
internal static class ReleaseFile
{
    /// <summary>Bytes of the contents of RELEASE: head, digest, tag.</summary>
    public const int ReleaseLength = MigrationFormat.HeadLength + MigrationFormat.DigestLength + MigrationFormat.TagLength;

    /// <summary>Makes sure that a file can be made there, before it matters.</summary>
    /// <exception cref="SvsmDiagnosticException">
    /// SVSM7108: it cannot, or something is there: perhaps the release of a guest that still waits for it.
    /// </exception>
    public static void Try(string path)
    {
        try
        {
            DurableFile.Create(path, []);
            File.Delete(path);
        }
        catch (Exception e) when (IsOfFiles(e))
        {
            throw NotWritten(path, e);
        }
    }

    /// <summary>Writes a file with the release alone. When it returns, a crash does not undo it.</summary>
    /// <exception cref="SvsmDiagnosticException">SVSM7108: it cannot be written, or something is there.</exception>
    public static void Write(string path, RelayFrame release)
    {
        try
        {
            DurableFile.Create(path, release.Bytes);
        }
        catch (Exception e) when (IsOfFiles(e))
        {
            throw NotWritten(path, e);
        }
    }

    /// <summary>Puts a state into a file that <see cref="Write"/> has made. A crash leaves the one or the other.</summary>
    /// <exception cref="SvsmDiagnosticException">SVSM7108: it cannot be written, and is as before.</exception>
    public static void Replace(string path, IReadOnlyCollection<RelayFrame> state, RelayFrame release)
    {
        using var content = new MemoryStream();
        foreach (RelayFrame frame in state)
        {
            content.Write(frame.Bytes);
        }

        content.Write(release.Bytes);
        try
        {
            DurableFile.Replace(path, content.GetBuffer().AsSpan(0, (int)content.Length));
        }
        catch (Exception e) when (IsOfFiles(e))
        {
            throw NotWritten(path, e);
        }
    }

    /// <summary>Reads a file.</summary>
    /// <param name="path">Its path.</param>
    /// <param name="limit">Most bytes of a state.</param>
    /// <param name="cancellationToken">Gives up.</param>
    /// <returns>The frames of the state, or none; and RELEASE.</returns>
    /// <exception cref="SvsmDiagnosticException">SVSM7107: it cannot be read, or is none.</exception>
    public static async Task<(IReadOnlyList<RelayFrame> State, RelayFrame Release)> ReadAsync(string path, int limit, CancellationToken cancellationToken)
    {
        try
        {
            using var file = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.Read, 0, FileOptions.Asynchronous);
            var reader = new FrameReader(file);
            using var state = new StateFrames(limit);
            while (await reader.ReadAsync(cancellationToken).ConfigureAwait(false) is RelayFrame frame)
            {
                if (frame.Kind == FrameKind.Machine)
                {
                    state.Take(frame);
                    continue;
                }

                return frame.RecordType == RecordType.Release && frame.Contents.Length == ReleaseLength
                    && (state.IsComplete || state.Frames.Count == 0) && await reader.ReadAsync(cancellationToken).ConfigureAwait(false) is null
                    ? (state.Frames, frame)
                    : throw new InvalidDataException("frames that are not those of a release");
            }

            throw new InvalidDataException("no RELEASE at its end");
        }
        catch (Exception e) when (IsOfFiles(e) || e is InvalidDataException)
        {
            throw SvsmDiagnostics.MigrationReleaseUnusable.Error($"'{path}': {e.Message}", "a file that 'svsm migrate send' has written", e);
        }
    }

    private static SvsmDiagnosticException NotWritten(string path, Exception cause) =>
        SvsmDiagnostics.MigrationReleaseNotWritten.Error($"'{path}': {cause.Message}", "a path where there is no file, in a folder that can be written", cause);

    private static bool IsOfFiles(Exception e) => e is IOException or UnauthorizedAccessException or ArgumentException or NotSupportedException;
}
