// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Buffers.Binary;
using System.Threading;

namespace Svsm.Modules.Vtpm.Desk;

/// <summary>A TPM with its power switch: what all connections of a server share. One command at a time.</summary>
internal sealed class TpmDevice(Tpm tpm, TpmTrace? trace)
{
    private readonly Lock _lock = new();
    private bool _isPowered = true;
    private byte _locality;

    /// <summary>Does a command.</summary>
    /// <param name="command">Any bytes.</param>
    /// <param name="locality">Where it comes from; null: where the control channel said that commands come from.</param>
    /// <param name="response">Room for the largest response.</param>
    /// <returns>The size of the response; 0 when the TPM has no power.</returns>
    internal int Execute(ReadOnlySpan<byte> command, byte? locality, Span<byte> response)
    {
        lock (_lock)
        {
            if (!_isPowered)
            {
                return 0;
            }

            byte from = locality ?? _locality;
            trace?.Command(command, from);
            int size = tpm.Execute(command, from, response);
            trace?.Response(command, response[..size]);
            return size;
        }
    }

    internal static bool IsLocality(byte value) => value is < 5 or > 31;

    internal void SetLocality(byte locality)
    {
        lock (_lock)
        {
            _locality = locality;
        }
    }

    /// <summary>Switches the power on; nothing happens if it is on.</summary>
    internal void PowerOn()
    {
        lock (_lock)
        {
            if (!_isPowered)
            {
                trace?.Event("power on");
                tpm.PowerOn();
                _isPowered = true;
            }
        }
    }

    internal void PowerOff()
    {
        lock (_lock)
        {
            trace?.Event("power off");
            _isPowered = false;
        }
    }

    /// <summary>_TPM_Init, with power.</summary>
    internal void Reset()
    {
        lock (_lock)
        {
            trace?.Event("reset");
            tpm.PowerOn();
            _isPowered = true;
        }
    }

    internal void SetPhysicalPresence(bool isPresent)
    {
        lock (_lock)
        {
            tpm.IsPhysicallyPresent = isPresent;
        }
    }

    internal void HashStart()
    {
        lock (_lock)
        {
            if (_isPowered)
            {
                trace?.Event("hash start");
                tpm.HashStart();
            }
        }
    }

    internal void HashData(ReadOnlySpan<byte> data)
    {
        lock (_lock)
        {
            if (_isPowered)
            {
                tpm.HashData(data);
            }
        }
    }

    internal void HashEnd()
    {
        lock (_lock)
        {
            if (_isPowered)
            {
                trace?.Event("hash end");
                tpm.HashEnd();
            }
        }
    }

    /// <summary>The response of a TPM that cannot be asked.</summary>
    internal static int WriteFailure(Span<byte> response, Wire.TpmResponseCode code)
    {
        BinaryPrimitives.WriteUInt16BigEndian(response, (ushort)Wire.StructureTag.NoSessions);
        BinaryPrimitives.WriteUInt32BigEndian(response[2..], 10);
        BinaryPrimitives.WriteUInt32BigEndian(response[6..], (uint)code);
        return 10;
    }
}
