// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The state of the hypervisor, as frames of kind 4 carry it, and the file that the sending relay keeps of it and of RELEASE, for the operator who brings both
// to the target by hand. The file is frames, one behind the other, as they go over the wire (docs/migration-relays.md):
//
//   kind 4, 81 and up to 64 KiB of the state: any number of them
//   kind 4, 82, u64 bytes of the state, SHA-256 of the state
//   kind 2, the record RELEASE
//
// Without the first two if the machine has not given its state. None of it is secret, and only the one target can use the release; but whoever has lost it has
// lost the guest.

using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using System.IO;
using System.Security.Cryptography;
using System.Threading;
using System.Threading.Tasks;
using Svsm.Diagnostics;
using Svsm.Files;

namespace Svsm.Migration.Relay;

/// <summary>First bytes of frames of kind 4.</summary>
internal static class MachineVerb
{
    /// <summary>To the source's machine: give your state.</summary>
    public const byte Give = 0x01;

    /// <summary>A part of the state.</summary>
    public const byte Part = 0x81;

    /// <summary>The state is complete: its bytes, its SHA-256.</summary>
    public const byte End = 0x82;

    /// <summary>From the target's machine: taken.</summary>
    public const byte Taken = 0x83;

    /// <summary>From the target's machine: refused, and why.</summary>
    public const byte Refused = 0x84;

    /// <summary>From the source's machine: there is no state to be had, and why.</summary>
    public const byte Unavailable = 0x85;

    /// <summary>Most bytes of the state in a frame.</summary>
    public const int PartLength = 0x1_0000;

    /// <summary>Contents of the last frame.</summary>
    public const int EndLength = 1 + sizeof(ulong) + SHA256.HashSizeInBytes;
}

/// <summary>Collects the frames of a state, and checks them.</summary>
/// <param name="limit">Most bytes of it.</param>
internal sealed class StateFrames(int limit) : IDisposable
{
    private readonly IncrementalHash _hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);

    /// <summary>The frames, in their order.</summary>
    public List<RelayFrame> Frames { get; } = [];

    /// <summary>Bytes of the state.</summary>
    public long Length { get; private set; }

    /// <summary>All of it is there.</summary>
    public bool IsComplete { get; private set; }

    /// <summary>Takes a frame.</summary>
    /// <param name="frame">A frame of kind 4. Untrusted.</param>
    /// <exception cref="InvalidDataException">It is not the next one of a state, or the state is not what its end says.</exception>
    public void Take(RelayFrame frame)
    {
        ReadOnlySpan<byte> contents = frame.Contents;
        switch (frame.Verb)
        {
            case MachineVerb.Part when !IsComplete && contents.Length is > 1 and <= 1 + MachineVerb.PartLength:
                if (contents.Length - 1 > limit - Length)
                {
                    throw new InvalidDataException($"a state of more than {limit} bytes");
                }

                Length += contents.Length - 1;
                _hash.AppendData(contents[1..]);
                break;
            case MachineVerb.End when !IsComplete && contents.Length == MachineVerb.EndLength:
                ulong length = BinaryPrimitives.ReadUInt64LittleEndian(contents[1..]);
                if (length != (ulong)Length || !contents[(1 + sizeof(ulong))..].SequenceEqual(_hash.GetHashAndReset()))
                {
                    throw new InvalidDataException($"a state of {Length} bytes that is not the one of {length} bytes at its end");
                }

                IsComplete = true;
                break;
            default:
                throw new InvalidDataException($"a frame 0x{frame.Verb:X2} of {contents.Length} bytes where a part of the state is due");
        }

        Frames.Add(frame);
    }

    /// <inheritdoc/>
    public void Dispose() => _hash.Dispose();
}

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
            var options = new FileStreamOptions { Mode = FileMode.CreateNew, Access = FileAccess.Write, Options = FileOptions.DeleteOnClose };
            using var probe = new FileStream(path, options);
        }
        catch (Exception e) when (IsOfFiles(e))
        {
            throw NotWritten(path, e);
        }
    }

    /// <summary>Writes a file. When it returns, a crash does not undo it.</summary>
    /// <exception cref="SvsmDiagnosticException">SVSM7108: it cannot be written, or something is there.</exception>
    public static void Write(string path, IReadOnlyCollection<RelayFrame> state, RelayFrame release)
    {
        using var content = new MemoryStream();
        foreach (RelayFrame frame in state)
        {
            content.Write(frame.Bytes);
        }

        content.Write(release.Bytes);
        try
        {
            DurableFile.Create(path, content.GetBuffer().AsSpan(0, (int)content.Length));
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
