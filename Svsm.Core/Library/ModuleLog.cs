// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// A module's log. It leaves the VM where the image allows that, so the host may read it: nothing secret belongs into it. What the guest
// chose (a name, a number) may be written: characters that are not printable ASCII leave as escapes, so that no text of the guest can pass
// for another line or act on a terminal.

using System;
using System.Buffers;
using System.Globalization;

namespace Svsm.Core;

/// <summary>How important a line is. The numbers are those of syslog (RFC 5424, table 2).</summary>
public enum ModuleLogLevel
{
    /// <summary>Something failed that should not have.</summary>
    Error = 3,

    /// <summary>Something is odd, and the module goes on.</summary>
    Warning = 4,

    /// <summary>Worth knowing in a good run.</summary>
    Information = 6,

    /// <summary>For those who look for a defect.</summary>
    Debug = 7,
}

/// <summary>Writes lines to the log.</summary>
public abstract class ModuleLog
{
    /// <summary>The longest line in bytes; what is longer is cut and ends with <c>...</c>.</summary>
    public const int MaxLength = 240;

    private static readonly SearchValues<char> s_plain =
        SearchValues.Create(" !\"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[]^_`abcdefghijklmnopqrstuvwxyz{|}~");

    private protected ModuleLog()
    {
    }

    /// <summary>Writes a line that tells of a failure.</summary>
    /// <param name="message">The text.</param>
    public void Error(string message) => Write(ModuleLogLevel.Error, message);

    /// <summary>Writes a line that tells of something odd.</summary>
    /// <param name="message">The text.</param>
    public void Warning(string message) => Write(ModuleLogLevel.Warning, message);

    /// <summary>Writes a line worth knowing in a good run.</summary>
    /// <param name="message">The text.</param>
    public void Information(string message) => Write(ModuleLogLevel.Information, message);

    /// <summary>Writes a line for those who look for a defect.</summary>
    /// <param name="message">The text.</param>
    public void Debug(string message) => Write(ModuleLogLevel.Debug, message);

    internal static string Escape(string message)
    {
        ReadOnlySpan<char> rest = message;
        if (rest.Length <= MaxLength && !rest.ContainsAnyExcept(s_plain))
        {
            return message;
        }

        Span<char> line = stackalloc char[MaxLength];
        Span<char> escape = stackalloc char[6];
        int length = 0;
        foreach (char character in rest)
        {
            escape[0] = character;
            int size = 1;
            if (!s_plain.Contains(character))
            {
                size = escape.TryWrite(CultureInfo.InvariantCulture, $"\\u{(int)character:X4}", out int written) ? written : 0;
            }

            if (length + size > MaxLength)
            {
                "...".CopyTo(line[^3..]);
                length = MaxLength;
                break;
            }

            escape[..size].CopyTo(line[length..]);
            length += size;
        }

        return new string(line[..length]);
    }

    private protected abstract void WriteCore(ModuleLogLevel level, string line);

    private void Write(ModuleLogLevel level, string message)
    {
        ArgumentNullException.ThrowIfNull(message);
        WriteCore(level, Escape(message));
    }
}
