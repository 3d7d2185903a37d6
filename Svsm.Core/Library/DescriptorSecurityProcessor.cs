// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The security processor, the services and the other modules as a process has them: by descriptors. Outside of an image the descriptors are not open, and the kernel
// gives them to modules with the permission only.

using System;
using System.Collections.Generic;
using System.IO;
using System.Runtime.InteropServices;
using System.Security.Cryptography;
using Svsm.Wire;

namespace Svsm.Core;

internal sealed class DescriptorSecurityProcessor : SecurityProcessor
{
    public override bool TryGetState(out SecurityProcessorState state)
    {
        state = default;
        return Read(MemoryMarshal.AsBytes(new Span<SecurityProcessorState>(ref state)), SecurityProcessorOffset.State);
    }

    public override SecurityProcessorResult Send(ReadOnlySpan<byte> request, bool withCertificates)
    {
        if (request.Length != PageLength)
        {
            throw new ArgumentException($"a request of {request.Length} bytes; wanted are {PageLength}", nameof(request));
        }

        long offset = withCertificates ? SecurityProcessorOffset.ExtendedRequest : SecurityProcessorOffset.Request;
        return Descriptor.WriteAt(ModuleDescriptor.SecurityProcessor, request, offset) == PageLength
            ? SecurityProcessorResult.Answered
            : Descriptor.LastError switch
            {
                Descriptor.TryAgain => SecurityProcessorResult.Busy,
                Descriptor.InputOutput => SecurityProcessorResult.Refused,
                Descriptor.Invalid => SecurityProcessorResult.NotSent,
                Descriptor.NoKey => SecurityProcessorResult.NoKey,
                _ => SecurityProcessorResult.NotPermitted,
            };
    }

    public override void ReadRequest(Span<byte> page) => ReadPage(page, SecurityProcessorOffset.Request);

    public override void ReadResponse(Span<byte> page) => ReadPage(page, SecurityProcessorOffset.Response);

    public override byte[] ReadCertificates()
    {
        if (!TryGetState(out SecurityProcessorState state) || state.CertificateLength > SecurityProcessorOffset.MaxCertificates)
        {
            return [];
        }

        state.Key = default;
        byte[] certificates = new byte[state.CertificateLength];
        return Read(certificates, SecurityProcessorOffset.Certificates) ? certificates : [];
    }

    public override void WipeKey() => Descriptor.WriteAt(ModuleDescriptor.SecurityProcessor, [0], SecurityProcessorOffset.Wipe);

    private static void ReadPage(Span<byte> page, long offset)
    {
        if (page.Length != PageLength)
        {
            throw new ArgumentException($"a page of {page.Length} bytes; wanted are {PageLength}", nameof(page));
        }

        if (!Read(page, offset))
        {
            page.Clear();
        }
    }

    private static bool Read(Span<byte> destination, long offset) =>
        Descriptor.ReadAt(ModuleDescriptor.SecurityProcessor, destination, offset) == destination.Length;
}

internal sealed class DescriptorPeers : ModulePeers
{
    public override PeerResult Ask(ModuleMessageKind kind, ReadOnlySpan<byte> request, out byte[] answer)
    {
        answer = [];
        int descriptor = kind switch
        {
            ModuleMessageKind.Store => ModuleDescriptor.Store,
            ModuleMessageKind.Key => ModuleDescriptor.Keys,
            _ => throw new ArgumentOutOfRangeException(nameof(kind), kind, "no kind of request to another module"),
        };
        ArgumentOutOfRangeException.ThrowIfGreaterThan(request.Length, ModuleMessage.MaxPayload);
        if (Descriptor.WriteAt(descriptor, request, 0) < 0)
        {
            return Descriptor.LastError switch
            {
                Descriptor.NoEntry => PeerResult.NotThere,
                Descriptor.NoMemory => PeerResult.Failed,
                _ => PeerResult.NotPermitted,
            };
        }

        byte[] buffer = new byte[ModuleMessage.MaxPayload];
        nint length = Descriptor.ReadAt(descriptor, buffer, 0);
        if (length < 0)
        {
            return PeerResult.Failed;
        }

        answer = buffer.AsSpan(0, (int)length).ToArray();
        CryptographicOperations.ZeroMemory(buffer);
        return PeerResult.Answered;
    }
}

internal sealed class DescriptorManifests : ServiceManifests
{
    private const int MostServices = 32;

    public override IReadOnlyList<Guid> List()
    {
        var services = new List<Guid>();
        foreach (ServiceEntry entry in ReadList())
        {
            services.Add(GuidOf(in entry));
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
