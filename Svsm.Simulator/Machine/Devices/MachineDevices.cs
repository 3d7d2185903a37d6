// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Devices of the guest that QEMU plays, as users name them, and how they are said to QEMU. They are virtio devices without ports and without MSI-X,
// behind QEMU's IOMMU, whose tables the hypervisor keeps.

using System;
using System.Collections.Generic;
using System.Globalization;
using System.IO;
using System.Net;
using System.Net.Sockets;
using System.Text.Json.Nodes;
using Svsm.Diagnostics;
using Svsm.Wire;

namespace Svsm.Simulator;

/// <summary>A disk of the guest.</summary>
/// <param name="Path">A file with its contents, a multiple of 512 bytes long.</param>
public sealed record MachineDisk(string Path)
{
    private const string ReadOnlySuffix = ",readonly";

    /// <summary>Whether the guest cannot write it.</summary>
    public bool ReadOnly { get; init; }

    /// <summary>Reads <c>FILE[,readonly]</c>.</summary>
    /// <param name="text">As the user gave it.</param>
    /// <returns>The disk. Whether the file is there shows when the machine starts.</returns>
    public static MachineDisk Parse(string text)
    {
        ArgumentNullException.ThrowIfNull(text);
        return text.EndsWith(ReadOnlySuffix, StringComparison.Ordinal)
            ? new MachineDisk(text[..^ReadOnlySuffix.Length]) { ReadOnly = true }
            : new MachineDisk(text);
    }
}

/// <summary>
/// A network card of the guest on a network of its own: QEMU's user network, in which the guest is 10.0.2.15, and from which nothing is reached, neither
/// this PC nor what is beyond.
/// </summary>
public sealed record MachineNetwork
{
    private const string Wanted = "user, or user:PORT:GUESTPORT, or user:ADDRESS:PORT:GUESTPORT with an address of this PC";

    /// <summary>Where this PC takes TCP connections for the guest; null = nowhere.</summary>
    public IPEndPoint? Listen { get; init; }

    /// <summary>The port of the guest that they go to.</summary>
    public int GuestPort { get; init; }

    /// <summary>Reads <c>user[:[ADDRESS:]PORT:GUESTPORT]</c>; without address it is 127.0.0.1.</summary>
    /// <param name="text">As the user gave it.</param>
    /// <returns>The network.</returns>
    /// <exception cref="SvsmDiagnosticException">SVSM6007: it is none.</exception>
    public static MachineNetwork Parse(string text)
    {
        ArgumentNullException.ThrowIfNull(text);
        string[] parts = text.Split(':');
        IPAddress? address = IPAddress.Loopback;
        bool valid = parts.Length is 1 or 3 or 4 && parts[0] == "user" && (parts.Length != 4 || (IPAddress.TryParse(parts[1], out address) && address.AddressFamily == AddressFamily.InterNetwork));
        if (valid && parts.Length == 1)
        {
            return new MachineNetwork();
        }

        return valid && TryPort(parts[^2], out int port) && TryPort(parts[^1], out int guestPort)
            ? new MachineNetwork { Listen = new IPEndPoint(address!, port), GuestPort = guestPort }
            : throw SvsmDiagnostics.RunOptionInvalid.Error($"network '{text}'", Wanted);
    }

    private static bool TryPort(string text, out int port) =>
        int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out port) && port is > 0 and <= ushort.MaxValue;
}

internal static class QemuDevices
{
    private const int SectorLength = 512;

    // Throws SvsmDiagnosticException for devices that cannot be had.
    public static void Check(MachineOptions options)
    {
        int count = options.Disks.Count + (options.Network is null ? 0 : 1);
        if (count > MachineOptions.MaxDeviceCount)
        {
            throw SvsmDiagnostics.RunOptionInvalid.Error(
                string.Create(CultureInfo.InvariantCulture, $"{count} disks and network cards"), string.Create(CultureInfo.InvariantCulture, $"at most {MachineOptions.MaxDeviceCount}"));
        }

        if (options.SvsmDeviceCount > MachineOptions.MaxSvsmDiskCount)
        {
            throw SvsmDiagnostics.RunOptionInvalid.Error(
                string.Create(CultureInfo.InvariantCulture, $"{options.SvsmDisks.Count} disks of the SVSM{(options.SvsmChannel is null ? "" : " and its channel")}"), string.Create(CultureInfo.InvariantCulture, $"at most {MachineOptions.MaxSvsmDiskCount}"));
        }

        if (count != 0 && options.CountInstructions)
        {
            throw SvsmDiagnostics.RunOptionInvalid.Error("disks or a network card with --icount", "one of both: when QEMU's devices answer depends on the time of the host");
        }

        foreach (MachineDisk disk in options.Disks)
        {
            long length = Machine.WithFile("the disk, readable, and writable unless it is read-only", disk.Path, path =>
            {
                using FileStream stream = new(path, FileMode.Open, disk.ReadOnly ? FileAccess.Read : FileAccess.ReadWrite, FileShare.ReadWrite);
                return stream.Length;
            });
            if (length == 0 || length % SectorLength != 0)
            {
                throw SvsmDiagnostics.RunOptionInvalid.Error(
                    string.Create(CultureInfo.InvariantCulture, $"disk '{disk.Path}' of {length} bytes"), $"a multiple of {SectorLength} bytes, not 0");
            }
        }

        if (options.Network is { Listen: not null } network && network.GuestPort is < 1 or > ushort.MaxValue)
        {
            throw SvsmDiagnostics.RunOptionInvalid.Error(string.Create(CultureInfo.InvariantCulture, $"port {network.GuestPort} of the guest"), "1 to 65535");
        }
    }

    // Nothing when there are no devices.
    public static IEnumerable<string> Arguments(MachineOptions options)
    {
        if (options.Disks.Count == 0 && options.Network is null)
        {
            yield break;
        }

        // An IOMMU comes before what it is for. Interrupts go to the I/O APIC as they are.
        yield return "-device";
        yield return "intel-iommu,intremap=off";
        int slot = AcpiDefinitions.FirstSlot;
        for (int i = 0; i < options.Disks.Count; i++)
        {
            MachineDisk disk = options.Disks[i];
            string name = string.Create(CultureInfo.InvariantCulture, $"disk{i}");
            yield return "-blockdev";
            yield return new JsonObject
            {
                ["driver"] = "raw",
                ["node-name"] = name,
                ["read-only"] = disk.ReadOnly,
                ["file"] = new JsonObject { ["driver"] = "file", ["filename"] = Path.GetFullPath(disk.Path), ["read-only"] = disk.ReadOnly },
            }.ToJsonString();
            yield return "-device";
            yield return Device("virtio-blk-pci", $"drive={name}", slot++);
        }

        if (options.Network is { } network)
        {
            yield return "-netdev";
            yield return "user,id=net,restrict=on" + (network.Listen is { } listen
                ? string.Create(CultureInfo.InvariantCulture, $",hostfwd=tcp:{listen.Address}:{listen.Port}-:{network.GuestPort}")
                : "");
            yield return "-device";
            yield return Device("virtio-net-pci", "netdev=net,romfile=", slot);
        }
    }

    private static string Device(string kind, string properties, int slot) =>
        string.Create(CultureInfo.InvariantCulture, $"{kind},{properties},addr={slot:X},disable-legacy=on,iommu_platform=on,vectors=0");
}
