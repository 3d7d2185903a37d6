// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Generic;
using System.Collections.Immutable;
using System.IO;
using System.Linq;
using System.Text.Json;
using Spectre.Console;
using Svsm.Attestation;
using Svsm.Builder;
using Svsm.Diagnostics;
using Svsm.Igvm;
using Svsm.Measurement;

namespace Svsm.Tool.Commands;

/// <summary>What <c>svsm attest verify</c> is asked.</summary>
/// <param name="Report">The report, a file.</param>
/// <param name="Certificates">Files with certificates.</param>
/// <param name="Ark">The trusted root: a file, or the fingerprint.</param>
/// <param name="Image">The image, a file; null: <paramref name="Reference"/>.</param>
/// <param name="Reference">Reference values, a file; null: <paramref name="Image"/>.</param>
/// <param name="Vcpus">vCPUs of the guest, for <paramref name="Image"/>.</param>
/// <param name="Nonce">The nonce: hexadecimal digits, or a file; null with <paramref name="Manifest"/>.</param>
/// <param name="Manifest">The manifest, a file.</param>
/// <param name="Service">The manifest is that of this service alone.</param>
internal sealed record AttestQuestion(
    string Report, IReadOnlyList<string> Certificates, string Ark, string? Image, string? Reference, int Vcpus, string? Nonce, string? Manifest, Guid? Service);

internal static class AttestCommand
{
    public static int Verify(ToolConsole console, AttestQuestion question, bool json)
    {
        var report = AttestationReport.Parse(ImageFile.Read(question.Report), question.Report);
        byte[] manifest = question.Manifest is null ? [] : ImageFile.Read(question.Manifest);
        ImmutableArray<ServiceManifest> services = question.Manifest is null ? []
            : question.Service is Guid service ? [new ServiceManifest(service, manifest)]
            : ServicesManifest.Parse(manifest, question.Manifest);
        var evidence = new AttestationEvidence
        {
            Report = report,
            Certificates = [.. question.Certificates.SelectMany(path => CertificateFile.Read(ImageFile.Read(path), path))],
            Binding = question.Manifest is null ? null : (ReadNonce(question.Nonce!), manifest),
        };
        ReferenceValues reference = question.Image is string image
            ? ReadImage(ImageFile.Load(image), question.Vcpus)
            : ReferenceValues.Parse(ImageFile.Read(question.Reference!), question.Reference!);
        ImmutableArray<AttestationCheck> checks = AttestationVerifier.Verify(evidence, ReadRoot(question.Ark), reference, DateTimeOffset.UtcNow);
        if (question.Service is not null)
        {
            checks = checks.Add(new("service", AttestationOutcome.Note, "the report does not say which service this manifest is of; the manifest of all services does"));
        }

        bool failed = checks.Any(check => check.Outcome == AttestationOutcome.Fail);
        if (json)
        {
            console.WriteJson(writer => WriteJson(writer, question, report, checks, services, failed));
        }
        else
        {
            console.Write(terminal => WriteText(terminal, question, report, checks, services, failed));
        }

        return failed ? ExitStatus.Difference : ExitStatus.Success;
    }

    /// <summary>The trusted root: a certificate's file, or its fingerprint.</summary>
    public static TrustedRoot ReadRoot(string ark)
    {
        byte[] fingerprint = new byte[TrustedRoot.FingerprintLength];
        if (Units.TryReadHex(ark, fingerprint))
        {
            return TrustedRoot.FromFingerprint(fingerprint);
        }

        IReadOnlyList<byte[]> certificates = CertificateFile.Read(ImageFile.Read(ark), ark);
        return certificates.Count == 1
            ? TrustedRoot.FromCertificate(certificates[0])
            : throw SvsmDiagnostics.CertificatesUnusable.Error($"'{ark}' with {certificates.Count} certificates", "one, the root that is trusted");
    }

    private static byte[] ReadNonce(string nonce)
    {
        byte[] bytes = new byte[AttestationEvidence.NonceLength];
        if (Units.TryReadHex(nonce, bytes))
        {
            return bytes;
        }

        bytes = ImageFile.Read(nonce);
        return bytes.Length == AttestationEvidence.NonceLength
            ? bytes
            : throw SvsmDiagnostics.ImageOptionInvalid.Error($"a nonce of {bytes.Length} bytes in '{nonce}'", $"{AttestationEvidence.NonceLength}");
    }

    // What the build writes into the reference values, from the image as it is now: it may have been signed since.
    private static ReferenceValues ReadImage(ImageFile image, int vcpus)
    {
        LaunchDigest digest = ImageSigner.Measure(image.File, image.Flavour(null), vcpus).Digest;
        uint mask = image.File.FindPlatform(IgvmPlatformType.SevSnp)?.CompatibilityMask ?? 0;
        ulong policy = image.File.FindGuestPolicy(mask) ?? throw SvsmDiagnostics.MeasurementFailed.Error($"'{image.Path}' without a guest policy", "an image that says what its host may do");
        var values = new ReferenceValues { LaunchDigests = [digest], Policy = new GuestPolicy(policy) };
        if (image.File.Directives.OfType<IgvmSnpIdBlock>().FirstOrDefault() is not IgvmSnpIdBlock directive)
        {
            return values;
        }

        try
        {
            (IdBlock block, IdAuthentication authentication) = IdAuthentication.FromIgvm(directive, policy);
            return values with
            {
                GuestSvn = block.GuestSvn,
                FamilyId = block.FamilyId,
                ImageId = block.ImageId,
                IdKeyDigest = authentication.IdKey.Digest,
                AuthorKeyDigest = authentication.AuthorKey?.Digest ?? default,
            };
        }
        catch (MeasurementException e)
        {
            throw SvsmDiagnostics.MeasurementFailed.Error($"'{image.Path}': {e.Message.TrimEnd('.')}", "an ID block in order", e);
        }
    }

    private static void WriteText(
        IAnsiConsole terminal, AttestQuestion question, AttestationReport report, ImmutableArray<AttestationCheck> checks, ImmutableArray<ServiceManifest> services, bool failed)
    {
        Checks.Write(terminal, checks);
        terminal.WriteLine($"{Path.GetFileName(question.Report)}: {(failed ? "NOT verified" : "verified")}");
        Checks.WriteWaysOut(terminal, checks.Select(check => check.Diagnostic));

        // What a report that is not good says, nobody should read.
        if (failed)
        {
            return;
        }

        terminal.WriteLine();
        Table facts = ToolConsole.NewTable("", "").HideHeaders();
        ToolConsole.AddRow(facts, "report", $"version {report.Version}, VMPL{report.Vmpl}, SVN {report.GuestSvn}");
        ToolConsole.AddRow(facts, "TCB", $"current {report.CurrentTcb}, reported {report.ReportedTcb}");
        ToolConsole.AddRow(facts, "platform", $"0x{report.PlatformInfo:x}");
        ToolConsole.AddRow(facts, "host data", Convert.ToHexStringLower(report.HostData.Span));
        foreach (ServiceManifest service in services)
        {
            ToolConsole.AddRow(facts, "service", $"{service.Name ?? service.Id.ToString()}, {Units.Number(service.Manifest.Length)} bytes");
            if (KeyOf(service) is EndorsementKey key)
            {
                ToolConsole.AddRow(facts, "", $"endorsement key {key.Kind}, name {Convert.ToHexStringLower(key.Name.Span)}");
            }
        }

        terminal.Write(facts);
    }

    private static EndorsementKey? KeyOf(ServiceManifest service) => service.Id == ServiceManifest.Vtpm ? EndorsementKey.TryRead(service.Manifest.Span) : null;

    private static void WriteJson(
        Utf8JsonWriter writer, AttestQuestion question, AttestationReport report, ImmutableArray<AttestationCheck> checks, ImmutableArray<ServiceManifest> services, bool failed)
    {
        writer.WriteString("file", Path.GetFileName(question.Report));
        writer.WriteBoolean("verified", !failed);
        Checks.WriteJson(writer, checks);
        if (failed)
        {
            return;
        }

        writer.WriteStartObject("report");
        writer.WriteNumber("version", report.Version);
        writer.WriteNumber("vmpl", report.Vmpl);
        writer.WriteNumber("guestSvn", report.GuestSvn);
        writer.WriteString("policy", report.Policy.ToString());
        writer.WriteString("launchDigest", report.LaunchDigest.ToString());
        writer.WriteString("currentTcb", report.CurrentTcb.ToString());
        writer.WriteString("reportedTcb", report.ReportedTcb.ToString());
        writer.WriteString("platformInfo", Units.Hex(report.PlatformInfo));
        writer.WriteString("hostData", Convert.ToHexStringLower(report.HostData.Span));
        writer.WriteString("chipId", Convert.ToHexStringLower(report.ChipId.Span));
        writer.WriteEndObject();
        writer.WriteStartArray("services");
        foreach (ServiceManifest service in services)
        {
            writer.WriteStartObject();
            writer.WriteString("service", service.Id.ToString());
            if (service.Name is not null)
            {
                writer.WriteString("name", service.Name);
            }

            writer.WriteString("manifest", Convert.ToHexStringLower(service.Manifest.Span));
            if (KeyOf(service) is EndorsementKey key)
            {
                writer.WriteString("endorsementKey", key.Kind);
                writer.WriteString("endorsementKeyName", Convert.ToHexStringLower(key.Name.Span));
            }

            writer.WriteEndObject();
        }

        writer.WriteEndArray();
    }
}
