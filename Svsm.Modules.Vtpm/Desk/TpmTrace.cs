// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using System.Diagnostics;
using System.Globalization;
using System.IO;
using System.Text;
using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Desk;

/// <summary>
/// Writes commands and responses by name: handles, sessions, sizes, response codes with their places. No values of parameters: secrets
/// are among them.
/// </summary>
public sealed class TpmTrace
{
    private const int HeaderSize = 10;

    private static readonly Dictionary<uint, string> s_handleNames = new()
    {
        [TpmHandle.Owner.Value] = "owner",
        [TpmHandle.Null.Value] = "null",
        [TpmHandle.Password.Value] = "password",
        [TpmHandle.Lockout.Value] = "lockout",
        [TpmHandle.Endorsement.Value] = "endorsement",
        [TpmHandle.Platform.Value] = "platform",
        [TpmHandle.PlatformNv.Value] = "platform-nv",
    };

    private readonly TextWriter _output;
    private long _started;

    /// <summary>Traces to a text.</summary>
    /// <param name="output">Where the lines go.</param>
    public TpmTrace(TextWriter output) => _output = output;

    internal void Event(string text) => _output.WriteLine("* " + text);

    internal void Command(ReadOnlySpan<byte> command, byte locality)
    {
        var text = new StringBuilder("> ").Append(Name(command));
        if (locality != 0)
        {
            text.Append(CultureInfo.InvariantCulture, $" locality={locality}");
        }

        int offset = HeaderSize;
        CommandDescriptor? descriptor = Find(command);
        for (int i = 0; i < descriptor?.Handles.Length && command.Length - offset >= 4; i++, offset += 4)
        {
            text.Append(' ').Append(Handle(BinaryPrimitives.ReadUInt32BigEndian(command[offset..])));
        }

        if (descriptor is not null && BinaryPrimitives.ReadUInt16BigEndian(command) == (ushort)StructureTag.Sessions && command.Length - offset >= 4)
        {
            uint size = BinaryPrimitives.ReadUInt32BigEndian(command[offset..]);
            offset += 4;
            int end = offset + (int)Math.Min(size, (uint)(command.Length - offset));
            Sessions(text, command[offset..end]);
            offset = end;
        }

        text.Append(CultureInfo.InvariantCulture, $" ({Math.Max(command.Length - offset, 0)} bytes)");
        _output.WriteLine(text);
        _started = Stopwatch.GetTimestamp();
    }

    internal void Response(ReadOnlySpan<byte> command, ReadOnlySpan<byte> response)
    {
        double microseconds = Stopwatch.GetElapsedTime(_started).TotalMicroseconds;
        uint code = BinaryPrimitives.ReadUInt32BigEndian(response[6..]);
        var text = new StringBuilder("< ").Append(Describe((TpmResponseCode)code));
        if (code == 0 && Find(command) is CommandDescriptor { HasResponseHandle: true })
        {
            text.Append(' ').Append(Handle(BinaryPrimitives.ReadUInt32BigEndian(response[HeaderSize..])));
        }

        _output.WriteLine(text.Append(CultureInfo.InvariantCulture, $" ({response.Length} bytes, {microseconds:F0} us)"));
    }

    /// <summary>A response code by name, such as "Size at parameter 2 (0x2D5)".</summary>
    internal static string Describe(TpmResponseCode code)
    {
        uint value = (uint)code;
        if (Enum.IsDefined(code))
        {
            return code.ToString();
        }

        if ((value & 0x80) != 0)
        {
            // Format one: an error with a place.
            uint number = (value >> 8) & 0xF;
            string place = (value & 0x40) != 0 ? $"parameter {number}" : (value & 0x800) != 0 ? $"session {number & 7}" : $"handle {number}";
            return $"{(TpmResponseCode)(value & 0xBF)} at {place} (0x{value:X3})";
        }

        return value is >= 0x910 and <= 0x916 ? $"ReferenceH{value - 0x910}"
            : value is >= 0x918 and <= 0x91E ? $"ReferenceS{value - 0x918}"
            : $"0x{value:X3}";
    }

    private static CommandDescriptor? Find(ReadOnlySpan<byte> command)
        => command.Length < HeaderSize ? null : CommandTable.Find(BinaryPrimitives.ReadUInt32BigEndian(command[6..]));

    private static string Name(ReadOnlySpan<byte> command)
        => command.Length < HeaderSize ? "(no header)"
            : Find(command)?.Code.ToString() ?? $"command 0x{BinaryPrimitives.ReadUInt32BigEndian(command[6..]):X}";

    private static string Handle(uint handle) => s_handleNames.TryGetValue(handle, out string? name) ? name : $"{handle:X8}";

    private static void Sessions(StringBuilder text, ReadOnlySpan<byte> area)
    {
        string separator = " [";
        while (area.Length >= 9)
        {
            text.Append(separator).Append(Handle(BinaryPrimitives.ReadUInt32BigEndian(area)));
            separator = ", ";
            int nonce = BinaryPrimitives.ReadUInt16BigEndian(area[4..]);
            if (area.Length - 6 < nonce + 3)
            {
                break;
            }

            var attributes = (SessionAttributes)area[6 + nonce];
            if ((attributes & ~SessionAttributes.ContinueSession) != 0)
            {
                text.Append(" +").Append(attributes & ~SessionAttributes.ContinueSession);
            }

            int secret = BinaryPrimitives.ReadUInt16BigEndian(area[(7 + nonce)..]);
            if (area.Length - 9 - nonce < secret)
            {
                break;
            }

            area = area[(9 + nonce + secret)..];
        }

        if (separator == ", ")
        {
            text.Append(']');
        }
    }
}
