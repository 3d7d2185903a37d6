// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using Svsm.Platform;

namespace Svsm.SelfTest;

/// <summary>The first serial port, as the firmware or the reset left it.</summary>
internal struct Com1 : ITextSink
{
    private const ushort Data = 0x3F8;
    private const ushort LineStatus = 0x3FD;
    private const byte TransmitterEmpty = 0x20;

    public static void Write(byte value)
    {
        while ((X64.In8(LineStatus) & TransmitterEmpty) == 0)
        {
        }

        X64.Out8(Data, value);
    }
}
