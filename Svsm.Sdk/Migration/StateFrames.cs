// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using System.IO;
using System.Security.Cryptography;

namespace Svsm.Migration.Relay;

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
