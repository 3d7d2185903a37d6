// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The manifests of the image's services, for the one module that may attest. The kernel asks the modules; what they say is theirs.

using System;
using System.Collections.Generic;
using System.IO;
using System.Runtime.InteropServices;
using Svsm.Wire;

namespace Svsm.Core;

/// <summary>What became of the wish for a manifest.</summary>
public enum ManifestResult
{
    /// <summary>It is there.</summary>
    Success,

    /// <summary>There is no such service, or it has no manifest of that version.</summary>
    NotFound,

    /// <summary>Its module failed while it was asked.</summary>
    Failed,

    /// <summary>The module may not attest, or is not in an image.</summary>
    NotPermitted,
}

/// <summary>The services of the image.</summary>
public abstract class ServiceManifests
{
    /// <summary>The GUIDs of the services whose modules run, in the order of the image: those with <see cref="SvsmProtocolAttribute.Service"/>.</summary>
    /// <returns>Empty: there are none, or the module may not attest, or is not in an image.</returns>
    public abstract IReadOnlyList<Guid> List();

    /// <summary>Asks for a manifest.</summary>
    /// <param name="service">GUID of the service.</param>
    /// <param name="version">Version of the manifest.</param>
    /// <param name="manifest">The manifest, at most 64 KiB; empty if there is none.</param>
    /// <returns>What became of it.</returns>
    /// <remarks>Another module works for it: it may take as long as a call to that one.</remarks>
    public abstract ManifestResult TryRead(Guid service, uint version, out byte[] manifest);
}

// Outside of an image the descriptor is not open, and the kernel gives it to modules with the permission only.
internal sealed class DescriptorManifests : ServiceManifests
{
    private const int MostServices = 32;

    public override IReadOnlyList<Guid> List()
    {
        ServiceEntry[] entries = ReadList();
        var services = new Guid[entries.Length];
        for (int i = 0; i < services.Length; i++)
        {
            services[i] = GuidOf(in entries[i]);
        }

        return services;
    }

    public override ManifestResult TryRead(Guid service, uint version, out byte[] manifest)
    {
        manifest = [];
        foreach (ServiceEntry entry in ReadList())
        {
            if (GuidOf(in entry) == service)
            {
                byte[] buffer = new byte[ModuleMessage.MaxPayload];
                nint length = Descriptor.ReadAt(ModuleDescriptor.Services, buffer, ServiceOffset.Manifest(entry.Index, version));
                if (length < 0)
                {
                    return Descriptor.LastError switch
                    {
                        Descriptor.NoEntry => ManifestResult.NotFound,
                        Descriptor.InputOutput => ManifestResult.Failed,
                        int error => throw new IOException($"a manifest could not be read: error {error}"),
                    };
                }

                manifest = buffer.AsSpan(0, (int)length).ToArray();
                return ManifestResult.Success;
            }
        }

        return ManifestResult.NotFound;
    }

    private static ServiceEntry[] ReadList()
    {
        var entries = new ServiceEntry[MostServices];
        nint length = Descriptor.ReadAt(ModuleDescriptor.Services, MemoryMarshal.AsBytes(entries.AsSpan()), ServiceOffset.List);
        return length > 0 ? entries[..((int)length / ServiceEntry.Length)] : [];
    }

    private static Guid GuidOf(in ServiceEntry entry) => MemoryMarshal.Read<Guid>(entry.Service);
}
