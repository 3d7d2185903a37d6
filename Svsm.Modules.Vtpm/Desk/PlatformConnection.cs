// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

namespace Svsm.Modules.Vtpm.Desk;

/// <summary>Signals of the platform, as mssim has them.</summary>
internal static class PlatformConnection
{
    internal static bool TryServe(Connection connection)
    {
        if (!connection.TryReadUInt32(out uint code))
        {
            return false;
        }

        TpmDevice device = connection.Device;
        switch ((MssimCode)code)
        {
            case MssimCode.PowerOn:
                device.PowerOn();
                break;
            case MssimCode.PowerOff:
                device.PowerOff();
                break;
            case MssimCode.PhysicalPresenceOn:
                device.SetPhysicalPresence(true);
                break;
            case MssimCode.PhysicalPresenceOff:
                device.SetPhysicalPresence(false);
                break;
            case MssimCode.HashStart:
                device.HashStart();
                break;
            case MssimCode.HashData:
                if (!connection.TryReadHashData())
                {
                    return false;
                }

                break;
            case MssimCode.HashEnd:
                device.HashEnd();
                break;
            case MssimCode.Reset or MssimCode.Restart:
                device.Reset();
                break;
            case MssimCode.CancelOn or MssimCode.CancelOff or MssimCode.NvOn or MssimCode.NvOff:
                // A command is done before the next message is read, so there is none to cancel; the state is always there.
                break;
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
}
