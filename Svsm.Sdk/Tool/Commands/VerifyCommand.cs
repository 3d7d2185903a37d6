// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Text.Json;
using Spectre.Console;
using Svsm.Attestation;
using Svsm.Builder;
using Svsm.Diagnostics;
using Svsm.Igvm;
using Svsm.Measurement;
using Svsm.Wire;

namespace Svsm.Tool.Commands;

internal static class VerifyCommand
{
    public static int Run(ToolConsole console, ImageFile image, HostFlavour? asked, int vcpus, string? digest, bool json)
    {
        HostFlavour flavour = image.Flavour(asked);
        var checks = new List<AttestationCheck> { new("format", AttestationOutcome.Pass, $"version {Units.Number((int)image.File.FormatVersion)}, {Units.Number(image.File.Directives.Length)} directives, checksum right") };
        LaunchDigest? measured = null;
        console.Work("Verifying", () =>
        {
            CheckHost(image, flavour, checks);
            measured = CheckDigest(image, flavour, vcpus, digest, checks);
            CheckIdBlocks(image, measured, checks);
            return 0;
        });

        bool failed = checks.Exists(check => check.Outcome == AttestationOutcome.Fail);
        if (json)
        {
            console.WriteJson(writer => WriteJson(writer, image, flavour, vcpus, measured, checks, failed));
        }
        else
        {
            console.Write(terminal => WriteText(terminal, image, flavour, checks, failed));
        }

        return failed ? ExitStatus.Difference : ExitStatus.Success;
    }

    private static void CheckHost(ImageFile image, HostFlavour flavour, List<AttestationCheck> checks)
    {
        string name = HostFlavourNames.ToName(flavour);
        bool any = false;
        foreach (IgvmFinding finding in IgvmValidator.Validate(image.File, flavour))
        {
            any = true;
            checks.Add(new AttestationCheck("host rules", finding.Severity == IgvmFindingSeverity.Error ? AttestationOutcome.Fail : AttestationOutcome.Note, finding.Reason));
        }

        if (!any)
        {
            checks.Add(new AttestationCheck("host rules", AttestationOutcome.Pass, $"{name} starts it as the file says"));
        }
    }

    private static LaunchDigest? CheckDigest(ImageFile image, HostFlavour flavour, int vcpus, string? digest, List<AttestationCheck> checks)
    {
        LaunchDigest measured;
        try
        {
            measured = ImageSigner.Measure(image.File, flavour, vcpus).Digest;
        }
        catch (SvsmDiagnosticException e) when (e.Diagnostic == SvsmDiagnostics.MeasurementFailed)
        {
            checks.Add(new AttestationCheck("launch digest", AttestationOutcome.Fail, (e.InnerException ?? e).Message.TrimEnd('.')));
            return null;
        }

        (LaunchDigest Digest, string Source)? expected = digest is not null && LaunchDigest.TryParse(digest, out LaunchDigest given) ? (given, "the one given")
            : digest is not null ? (ReadDigestFile(digest, vcpus), Path.GetFileName(digest))
            : File.Exists(image.DigestPath) ? (ReadDigestFile(image.DigestPath, vcpus), Path.GetFileName(image.DigestPath))
            : null;
        if (expected is not (LaunchDigest wanted, string source))
        {
            checks.Add(new AttestationCheck("launch digest", AttestationOutcome.Note, $"{measured}, compared with nothing: there is no {Path.GetFileName(image.DigestPath)}, and no --digest was given"));
        }
        else if (measured == wanted)
        {
            checks.Add(new AttestationCheck("launch digest", AttestationOutcome.Pass, $"that of {source}"));
        }
        else
        {
            checks.Add(new AttestationCheck("launch digest", AttestationOutcome.Fail, $"{measured} is not {wanted}, {(source == "the one given" ? source : $"that of {source}")}"));
        }

        return measured;
    }

    private static LaunchDigest ReadDigestFile(string path, int vcpus)
    {
        byte[] bytes = ImageFile.Read(path);
        try
        {
            using JsonDocument document = JsonDocument.Parse(bytes);
            JsonElement root = document.RootElement;
            JsonElement found = root.GetProperty("launchDigest");
            if (root.TryGetProperty("launchDigests", out JsonElement list))
            {
                found = list.EnumerateArray().FirstOrDefault(entry => entry.GetProperty("vcpus").GetInt32() == vcpus) is { ValueKind: JsonValueKind.Object } entry
                    ? entry.GetProperty("launchDigest")
                    : throw SvsmDiagnostics.DigestFileDamaged.Error($"'{path}' without a digest for {Units.Number(vcpus)} vCPUs", "one of the numbers in its list launchDigests, or --digest");
            }

            return LaunchDigest.Parse(found.GetString() ?? "");
        }
        catch (Exception e) when (e is JsonException or KeyNotFoundException or FormatException or InvalidOperationException)
        {
            throw SvsmDiagnostics.DigestFileDamaged.Error($"'{path}': {e.Message}", "96 hexadecimal digits, or a JSON file with the property launchDigest", e);
        }
    }

    private static void CheckIdBlocks(ImageFile image, LaunchDigest? measured, List<AttestationCheck> checks)
    {
        uint mask = image.File.FindPlatform(IgvmPlatformType.SevSnp)?.CompatibilityMask ?? 0;
        foreach (IgvmSnpIdBlock directive in image.File.Directives.OfType<IgvmSnpIdBlock>())
        {
            if (image.File.FindGuestPolicy(mask) is not ulong policy)
            {
                checks.Add(new AttestationCheck("ID block", AttestationOutcome.Fail, "the file has no guest policy, which the signature covers"));
                continue;
            }

            try
            {
                (IdBlock block, IdAuthentication authentication) = IdAuthentication.FromIgvm(directive, policy);
                checks.Add(authentication.Verify(block)
                    ? new AttestationCheck("ID block", AttestationOutcome.Pass, $"signed by the key {authentication.IdKey.Digest}, SVN {Units.Number(block.GuestSvn)}")
                    : new AttestationCheck("ID block", AttestationOutcome.Fail, "a signature is wrong: block, policy or keys were changed after signing"));
                if (measured is LaunchDigest digest && digest != block.LaunchDigest)
                {
                    checks.Add(new AttestationCheck("ID block", AttestationOutcome.Fail, $"it is for the launch digest {block.LaunchDigest}; sign the file again"));
                }
            }
            catch (MeasurementException e)
            {
                checks.Add(new AttestationCheck("ID block", AttestationOutcome.Fail, e.Message.TrimEnd('.')));
            }
        }
    }

    private static void WriteText(IAnsiConsole terminal, ImageFile image, HostFlavour flavour, List<AttestationCheck> checks, bool failed)
    {
        Checks.Write(terminal, checks);
        terminal.WriteLine($"{image.Name} on host {HostFlavourNames.ToName(flavour)}: {(failed ? "NOT verified" : "verified")}");
    }

    private static void WriteJson(
        Utf8JsonWriter writer, ImageFile image, HostFlavour flavour, int vcpus, LaunchDigest? measured, List<AttestationCheck> checks, bool failed)
    {
        writer.WriteString("file", image.Name);
        writer.WriteString("host", HostFlavourNames.ToName(flavour));
        writer.WriteNumber("vcpus", vcpus);
        if (measured is LaunchDigest digest)
        {
            writer.WriteString("launchDigest", digest.ToString());
        }

        writer.WriteBoolean("verified", !failed);
        Checks.WriteJson(writer, checks);
    }
}
