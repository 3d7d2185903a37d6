// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.IO;
using System.Threading;
using System.Threading.Tasks;

namespace Svsm.Migration.Relay;

/// <summary>Reads frames of a stream, one after the other. Not for use by two threads at once.</summary>
/// <param name="stream">The stream. Untrusted.</param>
internal sealed class FrameReader(Stream stream)
{
    private readonly byte[] _buffer = new byte[RelayFrame.HeadLength + MigrationFormat.MaxContents];
    private int _at;
    private int _end;

    /// <summary>Reads the next frame.</summary>
    /// <param name="cancellationToken">Gives up. The next call goes on where this one was.</param>
    /// <returns>The frame, or null: the stream has ended behind a frame.</returns>
    /// <exception cref="InvalidDataException">Something that is no frame.</exception>
    /// <exception cref="EndOfStreamException">The stream has ended inside of a frame.</exception>
    /// <exception cref="IOException">It is broken.</exception>
    public async ValueTask<RelayFrame?> ReadAsync(CancellationToken cancellationToken)
    {
        while (true)
        {
            int there = _end - _at;
            if (there >= RelayFrame.HeadLength)
            {
                int length = RelayFrame.LengthOf(_buffer.AsSpan(_at));
                if (there >= length)
                {
                    byte[] frame = _buffer[_at..(_at + length)];
                    _at += length;
                    return new(frame);
                }
            }

            _buffer.AsSpan(_at, there).CopyTo(_buffer);
            (_at, _end) = (0, there);
            int count = await stream.ReadAsync(_buffer.AsMemory(_end), cancellationToken).ConfigureAwait(false);
            if (count == 0)
            {
                return there == 0 ? null : throw new EndOfStreamException("it has ended inside of a frame");
            }

            _end += count;
        }
    }
}
