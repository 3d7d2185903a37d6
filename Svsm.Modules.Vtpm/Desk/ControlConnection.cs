// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Buffers.Binary;

namespace Svsm.Modules.Vtpm.Desk;

/// <summary>The control channel of swtpm. What a state blob or a file descriptor is needed for is answered with an error.</summary>
internal static class ControlConnection
{
    private const uint Success = 0;

    // TPM_BAD_ORDINAL and TPM_BAD_PARAMETER of TPM 1.2, as swtpm answers.
    private const uint Unknown = 0x0A;
    private const uint BadParameter = 0x03;

    // The bits of PTM_GET_CAPABILITY for what is served below.
    private const uint Capabilities = 0x0001 | 0x0002 | 0x0004 | 0x0008 | 0x0010 | 0x0020 | 0x0080 | 0x0400 | 0x0800 | 0x2000;

    internal static bool TryServe(Connection connection)
    {
        if (!connection.TryReadUInt32(out uint code))
        {
            return false;
        }

        TpmDevice device = connection.Device;
        switch ((ControlCode)code)
        {
            case ControlCode.GetCapability:
                // A 64-bit mask.
                connection.Send(Success, 0, Capabilities);
                return true;
            case ControlCode.Initialize:
                // The flag says what becomes of a volatile state file; there is none.
                if (!connection.TryReadUInt32(out _))
                {
                    return false;
                }

                device.Reset();
                break;
            case ControlCode.Stop:
                device.PowerOff();
                break;
            case ControlCode.Shutdown:
                device.PowerOff();
                connection.Send(Success);
                connection.StopServer();
                return false;
            case ControlCode.GetEstablished:
                // One byte after the result: no dynamic launch was measured since the bit was reset.
                connection.Output[..5].Clear();
                connection.Send(5);
                return true;
            case ControlCode.ResetEstablished:
                if (!connection.TryRead(1, out ReadOnlySpan<byte> by))
                {
                    return false;
                }

                connection.Send(by[0] is 3 or 4 ? Success : BadParameter);
                return true;
            case ControlCode.SetLocality:
                if (!connection.TryRead(1, out ReadOnlySpan<byte> locality))
                {
                    return false;
                }

                if (locality[0] > 4)
                {
                    connection.Send(BadParameter);
                    return true;
                }

                device.SetLocality(locality[0]);
                break;
            case ControlCode.HashStart:
                device.HashStart();
                break;
            case ControlCode.HashData:
                if (!connection.TryReadHashData())
                {
                    return false;
                }

                break;
            case ControlCode.HashEnd:
                device.HashEnd();
                break;
            case ControlCode.Cancel:
                // A command is done before the next message is read.
                break;
            case ControlCode.GetConfig:
                // No keys protect the state.
                connection.Send(Success, 0);
                return true;
            case ControlCode.SetBufferSize:
                if (!connection.TryReadUInt32(out _))
                {
                    return false;
                }

                // In use, smallest, largest: it cannot be changed.
                uint size = (uint)Tpm.MaxCommandSize;
                connection.Send(Success, size, size, size);
                return true;
            default:
                // What belongs to the code is not known, so neither is where the next one begins.
                connection.Send(Unknown);
                return false;
        }

        connection.Send(Success);
        return true;
    }

    private enum ControlCode : uint
    {
        GetCapability = 1,
        Initialize = 2,
        Shutdown = 3,
        GetEstablished = 4,
        SetLocality = 5,
        HashStart = 6,
        HashData = 7,
        HashEnd = 8,
        Cancel = 9,
        ResetEstablished = 11,
        Stop = 14,
        GetConfig = 15,
        SetBufferSize = 17,
    }
}
