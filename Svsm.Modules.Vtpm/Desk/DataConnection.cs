// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Buffers.Binary;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Desk;

/// <summary>Commands: raw, or framed as mssim has them.</summary>
internal static class DataConnection
{
    private const int HeaderSize = 10;

    // What the server can do beyond the simulator's first version: nothing.
    private const uint ServerVersion = 1;

    internal static bool TryServe(Connection connection)
    {
        if (!connection.TryPeek(sizeof(uint), out ReadOnlySpan<byte> head))
        {
            return false;
        }

        // A tag of a command is in the first two bytes; codes of the other protocol are small numbers.
        if (head[0] != 0)
        {
            return TryServeRaw(connection);
        }

        uint code = BinaryPrimitives.ReadUInt32BigEndian(head);
        connection.Skip(sizeof(uint));
        switch ((MssimCode)code)
        {
            case MssimCode.SendCommand:
                return TryServeFramed(connection);
            case MssimCode.HashStart:
                connection.Device.HashStart();
                break;
            case MssimCode.HashData:
                if (!connection.TryReadHashData())
                {
                    return false;
                }

                break;
            case MssimCode.HashEnd:
                connection.Device.HashEnd();
                break;
            case MssimCode.RemoteHandshake:
                if (!connection.TryReadUInt32(out _))
                {
                    return false;
                }

                // Version; flags: platform signals are served.
                connection.Send(ServerVersion, 1, 0);
                return true;
            case MssimCode.SessionEnd:
                return false;
            case MssimCode.Stop:
                connection.StopServer();
                return false;
            default:
                return false;
        }

        connection.Send(0u);
        return true;
    }

    private static bool TryServeFramed(Connection connection)
    {
        if (!connection.TryRead(1 + sizeof(uint), out ReadOnlySpan<byte> head))
        {
            return false;
        }

        byte locality = head[0];
        uint size = BinaryPrimitives.ReadUInt32BigEndian(head[1..]);

        // What cannot be a command ends the connection: where the next message begins is not known.
        if (size > (uint)Connection.MaxMessage || !TpmDevice.IsLocality(locality) || !connection.TryRead((int)size, out ReadOnlySpan<byte> command))
        {
            return false;
        }

        Span<byte> output = connection.Output;
        int answered = connection.Device.Execute(command, locality, output[sizeof(uint)..]);
        BinaryPrimitives.WriteUInt32BigEndian(output, (uint)answered);
        BinaryPrimitives.WriteUInt32BigEndian(output[(sizeof(uint) + answered)..], 0);
        connection.Send(answered + (2 * sizeof(uint)));
        return true;
    }

    private static bool TryServeRaw(Connection connection)
    {
        if (!connection.TryPeek(HeaderSize, out ReadOnlySpan<byte> head))
        {
            return false;
        }

        uint size = BinaryPrimitives.ReadUInt32BigEndian(head[2..]);
        if (size < HeaderSize || size > (uint)Connection.MaxMessage)
        {
            connection.Send(TpmDevice.WriteFailure(connection.Output, TpmResponseCode.CommandSize));
            return false;
        }

        if (!connection.TryRead((int)size, out ReadOnlySpan<byte> command))
        {
            return false;
        }

        int answered = connection.Device.Execute(command, null, connection.Output);
        connection.Send(answered != 0 ? answered : TpmDevice.WriteFailure(connection.Output, TpmResponseCode.Failure));
        return true;
    }
}

/// <summary>The codes of the mssim protocol that are served.</summary>
internal enum MssimCode : uint
{
    PowerOn = 1,
    PowerOff = 2,
    PhysicalPresenceOn = 3,
    PhysicalPresenceOff = 4,
    HashStart = 5,
    HashData = 6,
    HashEnd = 7,
    SendCommand = 8,
    CancelOn = 9,
    CancelOff = 10,
    NvOn = 11,
    NvOff = 12,
    RemoteHandshake = 15,
    Reset = 17,
    Restart = 18,
    SessionEnd = 20,
    Stop = 21,
}
