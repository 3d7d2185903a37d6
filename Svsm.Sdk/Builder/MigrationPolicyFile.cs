// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The migration policy of an image: from the keys and the root certificate that its owner has to the file of the archive that the module of migration reads
// when it starts. For the tasks of the SDK.
//
//   peer    an EC key on P-384 in PEM form, public or private, whose digest is that of an author key in a report; with a family id and the least SVN
//   root    AMD's root certificate (ARK) of the chips, PEM or DER, also among others: the one that has issued itself; with the least TCB
//
// What the module would refuse is refused here, and so is what no report can ever meet: an image cannot be mended where it runs.
//
// Source: docs/migration-protocol.md, "Policy". The format is the module's own source, which is part of this assembly.

using System;
using System.Collections.Generic;
using System.Collections.Immutable;
using System.Globalization;
using System.Linq;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using Svsm.Diagnostics;
using Svsm.Measurement;
using Svsm.Migration;

namespace Svsm.Builder;

/// <summary>An author whose images may be the other end of a migration.</summary>
/// <param name="Path">How messages name it.</param>
/// <param name="Contents">The file with the key, PEM.</param>
/// <param name="FamilyId">Family id of those images, 16 bytes.</param>
/// <param name="MinimumSvn">Their least security version.</param>
public sealed record MigrationPeer(string Path, ReadOnlyMemory<byte> Contents, ReadOnlyMemory<byte> FamilyId, uint MinimumSvn);

/// <summary>The root of the chips on which the other end may run.</summary>
/// <param name="Path">How messages name it.</param>
/// <param name="Contents">The file with the certificate, PEM or DER.</param>
/// <param name="MinimumTcb">What the reported TCB must reach in each byte.</param>
public sealed record MigrationRoot(string Path, ReadOnlyMemory<byte> Contents, ulong MinimumTcb);

/// <summary>Puts a migration policy into an image.</summary>
public static class MigrationPolicyFile
{
    // The module of migration: MigrationModule.ProtocolNumber.
    private const uint Protocol = 0x8000_5303;
    private const int RsaKeyBits = 4096;
    private const ulong PolicyMigrationAgent = 1ul << 18;
    private const ulong PolicyDebug = 1ul << 19;

    private const string WantedItems = "at least one SvsmMigrationPeer and one SvsmMigrationRoot";
    private const string WantedRoot = "the root certificate of the chips (ARK), PEM or DER, with an RSA key of 4096 bits";

    /// <summary>Makes the file of the archive.</summary>
    /// <param name="peers">Who may be the other end.</param>
    /// <param name="roots">The root; one with peers.</param>
    /// <param name="modules">The modules of the image.</param>
    /// <returns>The file, for the module of migration; none without that module.</returns>
    /// <exception cref="SvsmDiagnosticException">
    /// SVSM4010: peers or a root without the module, or one without the other; more than one root; more peers than a policy holds, or two of one author and
    /// family; a file that is no key or no root. SVSM4011: the module, and nothing else.
    /// </exception>
    public static ImmutableArray<ModuleFile> Write(
        ImmutableArray<MigrationPeer> peers, ImmutableArray<MigrationRoot> roots, ImmutableArray<ModuleOptions> modules)
    {
        bool isThere = IsThere(modules);
        if (peers.IsEmpty && roots.IsEmpty)
        {
            return isThere ? throw SvsmDiagnostics.MigrationPolicyMissing.Error("neither SvsmMigrationPeer nor SvsmMigrationRoot", WantedItems) : [];
        }

        if (!isThere)
        {
            throw Invalid(
                (peers.IsEmpty ? $"SvsmMigrationRoot '{roots[0].Path}'" : $"SvsmMigrationPeer '{peers[0].Path}'") + " in an image without migration",
                "a reference to the package Svsm.Modules.Migration");
        }

        if (peers.IsEmpty || roots.Length != 1)
        {
            throw Invalid(string.Create(CultureInfo.InvariantCulture, $"{peers.Length} SvsmMigrationPeer and {roots.Length} SvsmMigrationRoot"), WantedItems);
        }

        if (peers.Length > MigrationPolicy.MaxRules)
        {
            throw Invalid(
                string.Create(CultureInfo.InvariantCulture, $"{peers.Length} SvsmMigrationPeer"),
                string.Create(CultureInfo.InvariantCulture, $"at most {MigrationPolicy.MaxRules}"));
        }

        var rules = new List<MigrationRule>();
        foreach (MigrationPeer peer in peers)
        {
            byte[] digest = ReadAuthor(peer);

            // Either would do, so the higher number would say nothing.
            int other = rules.FindIndex(rule => rule.AuthorKeyDigest.Span.SequenceEqual(digest) && rule.FamilyId.Span.SequenceEqual(peer.FamilyId.Span));
            if (other >= 0)
            {
                throw Invalid(
                    $"SvsmMigrationPeer '{peers[other].Path}' and '{peer.Path}' with the same key and the same FamilyId",
                    "one item for an author and a family");
            }

            rules.Add(new MigrationRule(digest, peer.FamilyId, peer.MinimumSvn));
        }

        return [new ModuleFile(MigrationPolicy.Path, MigrationPolicy.Make(ReadRoot(roots[0]), roots[0].MinimumTcb, rules)) { Readers = [Protocol] }];
    }

    /// <summary>Says why no other image accepts an image with migration as the other end, whatever its policy is.</summary>
    /// <param name="options">The image.</param>
    /// <returns>What is seen and what is wanted; null: it can be accepted, or has no migration.</returns>
    public static (string Seen, string Wanted)? FindProblemAsPeer(SvsmImageOptions options)
    {
        ArgumentNullException.ThrowIfNull(options);
        if (!IsThere(options.Modules))
        {
            return null;
        }

        if (options.Identity?.AuthorKeyPem is null)
        {
            string seen = options.Identity is null ? "an image without an ID block" : "an ID block without an author key";
            return (seen, "one with an author key, by which others know the image");
        }

        return (options.Policy & (PolicyDebug | PolicyMigrationAgent)) == 0 ? null
            : (string.Create(CultureInfo.InvariantCulture, $"guest policy 0x{options.Policy:x}"), "neither debugging (bit 19) nor a migration agent (bit 18)");
    }

    private static bool IsThere(ImmutableArray<ModuleOptions> modules) => modules.Any(module => module.Protocol == Protocol);

    private static byte[] ReadAuthor(MigrationPeer peer)
    {
        try
        {
            return Convert.FromHexString(IdKey.FromPem(Encoding.UTF8.GetString(peer.Contents.Span)).Digest.ToString());
        }
        catch (MeasurementException exception)
        {
            throw Invalid($"SvsmMigrationPeer '{peer.Path}': {exception.Message}", "the key that signs its author's ID keys, public or private", exception);
        }
    }

    private static byte[] ReadRoot(MigrationRoot root)
    {
        var certificates = new X509Certificate2Collection();
        try
        {
            if (root.Contents.Span.IndexOf("-----BEGIN "u8) >= 0)
            {
                certificates.ImportFromPem(Encoding.UTF8.GetString(root.Contents.Span));
            }
            else
            {
                certificates.Add(X509CertificateLoader.LoadCertificate(root.Contents.Span));
            }

            // AMD's file for a generation of chips has the signing authority as well.
            X509Certificate2[] own =
                [.. certificates.Where(certificate => certificate.SubjectName.RawData.AsSpan().SequenceEqual(certificate.IssuerName.RawData))];
            if (own.Length != 1)
            {
                string seen = string.Create(CultureInfo.InvariantCulture, $"has {certificates.Count} certificates, {own.Length} of which have issued themselves");
                throw Invalid(root, seen);
            }

            using RSA? key = own[0].GetRSAPublicKey();
            return key?.KeySize == RsaKeyBits
                ? SHA384.HashData(own[0].PublicKey.ExportSubjectPublicKeyInfo())
                : throw Invalid(root, "has another key");
        }
        catch (CryptographicException exception)
        {
            throw Invalid(root, "is no certificate", exception);
        }
        finally
        {
            foreach (X509Certificate2 certificate in certificates)
            {
                certificate.Dispose();
            }
        }
    }

    private static SvsmDiagnosticException Invalid(MigrationRoot root, string seen, Exception? cause = null) =>
        Invalid($"SvsmMigrationRoot '{root.Path}' {seen}", WantedRoot, cause);

    private static SvsmDiagnosticException Invalid(string seen, string wanted, Exception? cause = null) =>
        SvsmDiagnostics.MigrationPolicyInvalid.Error(seen, wanted, cause);
}
