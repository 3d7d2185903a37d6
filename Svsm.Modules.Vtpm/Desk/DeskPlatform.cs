// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Diagnostics;
using System.IO;
using System.Security.Cryptography;
using Microsoft.Win32.SafeHandles;

namespace Svsm.Modules.Vtpm.Desk;

/// <summary>Clock and entropy of the machine that the server runs on.</summary>
public sealed class DeskPlatform : ITpmClock, ITpmEntropy
{
    private readonly Stopwatch _clock = Stopwatch.StartNew();

    /// <inheritdoc/>
    public long Milliseconds => _clock.ElapsedMilliseconds;

    /// <inheritdoc/>
    public bool TryFill(Span<byte> buffer)
    {
        // Linux' own generator: the runtime's is that of a library, which a static executable has not.
        if (OperatingSystem.IsLinux())
        {
            return TryFillFromDevice(buffer);
        }

        RandomNumberGenerator.Fill(buffer);
        return true;
    }

    private static bool TryFillFromDevice(Span<byte> buffer)
    {
        try
        {
            using SafeFileHandle device = File.OpenHandle("/dev/urandom");
            for (Span<byte> rest = buffer; !rest.IsEmpty;)
            {
                int count = RandomAccess.Read(device, rest, 0);
                if (count == 0)
                {
                    return false;
                }

                rest = rest[count..];
            }

            return true;
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            return false;
        }
    }
}
