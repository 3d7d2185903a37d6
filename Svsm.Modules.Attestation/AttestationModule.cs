// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Attestation as a module of an image: protocol 1, for stock Linux (configfs-tsm with the service provider "svsm") and whoever else asks.
//
//   0 ATTEST_SERVICES         in: RCX address of AttestServicesRequest        out: RCX bytes of the manifest,
//   1 ATTEST_SINGLE_SERVICE   in: RCX address of AttestSingleServiceRequest        RDX bytes of certificates, R8 bytes of the report
//
// A report of the security processor about VMPL0, whose REPORT_DATA is SHA-512(nonce | manifest): it says which image runs, and that this image has
// the services of the manifest with the keys in it. The order of a call:
//
//   the structure, once; all that can be checked without memory; the nonce
//   the manifest: other modules work for it, and it does not depend on the guest
//   that the guest may write its buffers: a call that ends with an address that is not the guest's costs no message to the security processor
//   the report
//   buffers that are too small: what they should have had, and nothing is written. The size of certificates is known only now
//   report, manifest, certificates
//
//   What happens                                                                  RAX
//   reserved bytes, size or place of the nonce, alignment, buffers that overlap   INVALID_PARAMETER, registers as they were
//   a buffer is too small                                                         INVALID_PARAMETER, the sizes in RCX, RDX, R8
//   no such service, no manifest of that version                                  INVALID_PARAMETER, registers as they were
//   memory that is not the guest's                                                INVALID_ADDRESS
//   the host is busy                                                              BUSY: the same call again
//   there is no report: the key is lost, a module failed that was asked           INVALID_REQUEST
//   another call                                                                  UNSUPPORTED_CALL. COCONUT-SVSM says UNSUPPORTED_PROTOCOL here, and
//                                                                                 UNSUPPORTED_CALL in its other protocols
//
// The module that keeps the store asks for keys of the security processor, and for reports of its own (Svsm.Core/Wire/KeyMessages.cs): the same messages,
// with the same rules. GuestRequests has them.
//
// Source: Secure VM Service Module specification (58019), "Attestation Protocol", as collected from COCONUT-SVSM and Linux.

using System;
using System.Collections.Generic;
using System.Runtime.InteropServices;
using System.Security.Cryptography;
using Org.BouncyCastle.Crypto.Digests;
using Svsm.Core;
using Svsm.Wire;

namespace Svsm.Modules.Attestation;

/// <summary>The attestation protocol: reports about VMPL0, with the manifests of the services.</summary>
[SvsmProtocol(1)]
public sealed class AttestationModule : SvsmModule
{
    /// <summary>Most bytes of the manifest of all services together: 256 KiB. Manifests are keys and hashes; the heap of a module is small.</summary>
    public const int MaxManifestLength = 0x4_0000;

    private const uint AttestServices = 0;
    private const uint AttestSingleService = 1;

    // Of a service in the manifest of all: the only one that there is of the vTPM and of UEFI variables.
    private const uint ServiceManifestVersion = 0;

    private ReportSource? _reports;
    private KeySource? _keys;

    // Nothing here is a guest's: keys, numbers and the request under way are this machine's.

    /// <inheritdoc/>
    protected override uint StateVersion => 1;

    /// <inheritdoc/>
    protected override void Start()
    {
        var requests = new GuestRequests(SecurityProcessor, Log);
        _reports = new ReportSource(requests);
        _keys = new KeySource(requests);
    }

    /// <inheritdoc/>
    protected override bool TryServe(in PeerRequest request, out ReadOnlyMemory<byte> answer)
    {
        answer = default;
        if (request.Kind != ModuleMessageKind.Key)
        {
            return false;
        }

        byte[] contents = [];
        KeyStatus status = request.Contents.Length == KeyRequest.Length && MemoryMarshal.TryRead(request.Contents.Span, out KeyRequest wish) ? Serve(in wish, out contents) : KeyStatus.BadRequest;
        byte[] bytes = new byte[KeyAnswer.Length + contents.Length];
        var head = new KeyAnswer { Status = status };
        MemoryMarshal.Write(bytes, in head);
        contents.CopyTo(bytes, KeyAnswer.Length);
        CryptographicOperations.ZeroMemory(contents);
        answer = bytes;
        return true;
    }

    /// <inheritdoc/>
    protected override SvsmResult Handle(in SvsmRequest request)
    {
        switch (request.Call)
        {
            case AttestServices:
            {
                if (!Guest.TryRead(new PhysicalAddress(request.Rcx), out AttestServicesRequest wish))
                {
                    return SvsmResultCode.InvalidAddress;
                }

                SvsmResultCode check = wish.Check();
                return check == SvsmResultCode.Success ? Attest(in wish, null, 0) : check;
            }

            case AttestSingleService:
            {
                if (!Guest.TryRead(new PhysicalAddress(request.Rcx), out AttestSingleServiceRequest wish))
                {
                    return SvsmResultCode.InvalidAddress;
                }

                SvsmResultCode check = wish.Check();
                return check == SvsmResultCode.Success ? Attest(in wish.Buffers, wish.ServiceId, wish.Version) : check;
            }

            default:
                return SvsmResultCode.UnsupportedCall;
        }
    }

    // For the module that keeps the store.
    private KeyStatus Serve(in KeyRequest wish, out byte[] contents)
    {
        contents = [];
        bool hasReportData = ((ReadOnlySpan<byte>)wish.ReportData).ContainsAnyExcept((byte)0);
        switch (wish.Kind)
        {
            case KeyRequestKind.Derive when !hasReportData && (wish.Fields & ~DerivedKeyFields.All) == 0
                && (wish.Svn == 0 || wish.Fields.HasFlag(DerivedKeyFields.Svn)) && (wish.Tcb == 0 || wish.Fields.HasFlag(DerivedKeyFields.Tcb)):
            {
                byte[] key = new byte[KeyAnswer.KeyLength];
                GuestRequestResult result = _keys!.TryDerive(wish.Fields, wish.Svn, wish.Tcb, key);
                contents = result == GuestRequestResult.Success ? key : [];
                return StatusOf(result);
            }

            case KeyRequestKind.Report when wish is { Svn: 0, Fields: DerivedKeyFields.None, Tcb: 0 }:
            {
                // With zeroes at the end, where the report of a guest's call has the end of a hash: see KeyMessages.
                Span<byte> reportData = stackalloc byte[ReportSource.ReportDataLength];
                reportData.Clear();
                ((ReadOnlySpan<byte>)wish.ReportData).CopyTo(reportData);
                GuestRequestResult result = _reports!.TryGet(reportData, withCertificates: true, out byte[] report, out byte[] certificates);
                contents = [.. report, .. certificates];
                return StatusOf(result);
            }

            default:
                return KeyStatus.BadRequest;
        }

        static KeyStatus StatusOf(GuestRequestResult result) => result switch
        {
            GuestRequestResult.Success => KeyStatus.Done,
            GuestRequestResult.Busy => KeyStatus.Busy,
            GuestRequestResult.Refused => KeyStatus.Refused,
            _ => KeyStatus.NoKey,
        };
    }

    private SvsmResult Attest(in AttestServicesRequest wish, Guid? service, uint version)
    {
        Span<byte> nonce = stackalloc byte[AttestServicesRequest.NonceLength];
        if (!Guest.TryRead(new PhysicalAddress(wish.Nonce), nonce))
        {
            return SvsmResultCode.InvalidAddress;
        }

        byte[] manifest;
        SvsmResultCode found = service is Guid one ? ReadManifest(one, version, out manifest) : CollectManifests(out manifest);
        if (found != SvsmResultCode.Success)
        {
            return found;
        }

        bool fits = wish.ManifestSize >= manifest.Length && wish.ReportSize >= ReportSource.ReportLength;
        if (!fits && !wish.WantsCertificates)
        {
            return Sizes(SvsmResultCode.InvalidParameter, manifest, []);
        }

        if (fits && !(IsWritable(wish.Report, ReportSource.ReportLength) && IsWritable(wish.Manifest, manifest.Length)
            && IsWritable(wish.Certificates, (int)Math.Min(wish.CertificatesSize, SecurityProcessorOffset.MaxCertificates))))
        {
            return SvsmResultCode.InvalidAddress;
        }

        Span<byte> reportData = stackalloc byte[ReportSource.ReportDataLength];
        Hash(nonce, manifest, reportData);
        GuestRequestResult result = _reports!.TryGet(reportData, wish.WantsCertificates, out byte[] report, out byte[] certificates);
        if (result != GuestRequestResult.Success)
        {
            return result == GuestRequestResult.Busy ? SvsmResultCode.Busy : SvsmResultCode.InvalidRequest;
        }

        if (!fits || wish.CertificatesSize < certificates.Length)
        {
            return Sizes(SvsmResultCode.InvalidParameter, manifest, certificates);
        }

        // The guest could write all of it a moment ago. One that gives pages away meanwhile gets a part, and an error.
        return Guest.TryWrite(new PhysicalAddress(wish.Report), report) && Guest.TryWrite(new PhysicalAddress(wish.Manifest), manifest)
            && (certificates.Length == 0 || Guest.TryWrite(new PhysicalAddress(wish.Certificates), certificates))
            ? Sizes(SvsmResultCode.Success, manifest, certificates)
            : SvsmResultCode.InvalidAddress;
    }

    private static SvsmResult Sizes(SvsmResultCode code, byte[] manifest, byte[] certificates) =>
        new(code) { Rcx = (ulong)manifest.Length, Rdx = (ulong)certificates.Length, R8 = ReportSource.ReportLength };

    // Writes what is there: there is no other way to ask.
    private bool IsWritable(ulong address, int length)
    {
        byte[] contents = new byte[length];
        return length == 0 || (Guest.TryRead(new PhysicalAddress(address), contents) && Guest.TryWrite(new PhysicalAddress(address), contents));
    }

    private SvsmResultCode ReadManifest(Guid service, uint version, out byte[] manifest)
    {
        switch (Services.TryRead(service, version, out manifest))
        {
            case ManifestResult.Success:
                return SvsmResultCode.Success;
            case ManifestResult.NotFound:
                return SvsmResultCode.InvalidParameter;
            case ManifestResult.Failed:
                Log.Warning($"no manifest of the service {service}: its module failed");
                return SvsmResultCode.InvalidRequest;
            default:
                return SvsmResultCode.InvalidRequest;
        }
    }

    private SvsmResultCode CollectManifests(out byte[] table)
    {
        table = [];
        int left = MaxManifestLength;
        var services = new List<ServiceManifest>();
        foreach (Guid service in Services.List())
        {
            // A service without a manifest is in the table all the same.
            SvsmResultCode code = ReadManifest(service, ServiceManifestVersion, out byte[] manifest);
            if (code is not (SvsmResultCode.Success or SvsmResultCode.InvalidParameter))
            {
                return code;
            }

            left -= manifest.Length;
            if (left < 0)
            {
                Log.Error($"the manifests of the services have more than {MaxManifestLength} bytes");
                return SvsmResultCode.InvalidRequest;
            }

            services.Add(new(service, manifest));
        }

        table = ServicesManifest.Make(services);
        return SvsmResultCode.Success;
    }

    private static void Hash(ReadOnlySpan<byte> nonce, ReadOnlySpan<byte> manifest, Span<byte> hash)
    {
        var sha512 = new Sha512Digest();
        sha512.BlockUpdate(nonce);
        sha512.BlockUpdate(manifest);
        sha512.DoFinal(hash);
    }
}
