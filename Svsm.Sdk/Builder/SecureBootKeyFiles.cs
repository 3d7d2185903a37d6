// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The keys for secure boot that an image brings: from files that their owner has to files of the archive, which the module of UEFI variables reads when it
// starts. For the tasks of the SDK.
//
//   PEM      certificates; every one of them
//   DER      one certificate
//   .esl     signature lists
//
// All of one variable become signature lists behind each other, /secureboot/PK, KEK, db and dbx. What the module would refuse is refused here, by the module's
// own reader of certificates and lists, whose source is part of this assembly: a VM without variables is a poor place to find out.
//
// Source: docs/uefi-variables.md, "Keys of the image"; RFC 7468 (PEM).

using System;
using System.Collections.Generic;
using System.Collections.Immutable;
using System.Globalization;
using System.Linq;
using System.Security.Cryptography;
using System.Text;
using Svsm.Diagnostics;
using Svsm.Modules.VarStore;
using Svsm.Wire;

namespace Svsm.Builder;

/// <summary>A file with keys for secure boot.</summary>
/// <param name="Path">How messages name it.</param>
/// <param name="Contents">The file.</param>
/// <param name="Variable"><c>PK</c>, <c>KEK</c>, <c>db</c> or <c>dbx</c>.</param>
/// <param name="Owner">Whose certificates they are: GUID of their entries in the signature list; null: the service of UEFI variables.</param>
public sealed record SecureBootKeyFile(string Path, ReadOnlyMemory<byte> Contents, string Variable, Guid? Owner);

/// <summary>Puts keys for secure boot into an image.</summary>
public static class SecureBootKeyFiles
{
    private const string Folder = "/secureboot/";
    private const string Wanted = "certificates with RSA keys, PEM or DER, or signature lists (.esl) with such certificates and hashes";

    private static readonly string[] s_variables = ["PK", "KEK", "db", "dbx"];

    /// <summary>Makes the files of the archive.</summary>
    /// <param name="keys">The keys, in the order in which they are to be in their variable.</param>
    /// <param name="modules">The modules of the image.</param>
    /// <returns>At most one file for each variable; none without keys.</returns>
    /// <exception cref="SvsmDiagnosticException">
    /// SVSM4009: no module serves UEFI variables; another variable; a file that is neither certificates nor signature lists, or lists with an owner; no PK, or not
    /// one certificate in it; more than 64 KiB in a variable.
    /// </exception>
    public static ImmutableArray<ModuleFile> Write(ImmutableArray<SecureBootKeyFile> keys, ImmutableArray<ModuleOptions> modules)
    {
        if (keys.IsEmpty)
        {
            return [];
        }

        const uint Protocol = (uint)SvsmProtocol.UefiMm;
        if (!modules.Any(module => module.Protocol == Protocol))
        {
            throw SvsmDiagnostics.SecureBootKeyInvalid.Error(
                $"SvsmSecureBootKey '{keys[0].Path}' in an image without UEFI variables", "a module that serves protocol 4: a reference to the package Svsm.Modules.VarStore");
        }

        foreach (SecureBootKeyFile key in keys.Where(key => !s_variables.Contains(key.Variable)))
        {
            throw Invalid(key, key.Variable.Length == 0 ? "has no Variable" : $"has Variable '{key.Variable}'", string.Join(", ", s_variables));
        }

        var files = ImmutableArray.CreateBuilder<ModuleFile>();
        foreach (string variable in s_variables)
        {
            SecureBootKeyFile[] own = [.. keys.Where(key => key.Variable == variable)];
            byte[] lists = [.. own.SelectMany(ReadLists)];
            if (variable == "PK" && !SignatureLists.IsOneCertificate(lists))
            {
                throw SvsmDiagnostics.SecureBootKeyInvalid.Error(
                    own.Length == 0 ? $"SvsmSecureBootKey '{keys[0].Path}', and none with Variable 'PK'" : $"SvsmSecureBootKey {Names(own)} for PK", "one certificate for PK, with any other key");
            }

            if (lists.Length > VariableLimits.MaxData)
            {
                throw SvsmDiagnostics.SecureBootKeyInvalid.Error(
                    string.Create(CultureInfo.InvariantCulture, $"{lists.Length} bytes for {variable}, of SvsmSecureBootKey {Names(own)}"), $"at most {VariableLimits.MaxData}");
            }

            if (lists.Length != 0)
            {
                files.Add(new ModuleFile(Folder + variable, lists) { Readers = [Protocol] });
            }
        }

        return files.ToImmutable();
    }

    private static byte[] ReadLists(SecureBootKeyFile key)
    {
        if (Certificate.Read(key.Contents) is not null)
        {
            return ListOf(key, key.Contents);
        }

        if (key.Contents.IsEmpty || !SignatureLists.AreGood(key.Contents, out _))
        {
            return key.Contents.Span.IndexOf("-----BEGIN "u8) >= 0 ? ReadPem(key) : throw Invalid(key, "is neither certificates nor signature lists", Wanted);
        }

        return key.Owner is null ? key.Contents.ToArray() : throw Invalid(key, "has Owner, and is signature lists", "no Owner: the lists say whose their entries are");
    }

    // A file may have text around what counts, but nothing else that counts: a key that signs does not belong beside what an image is made from.
    private static byte[] ReadPem(SecureBootKeyFile key)
    {
        var lists = new List<byte>();
        ReadOnlySpan<char> text = Encoding.UTF8.GetString(key.Contents.Span);
        while (PemEncoding.TryFind(text, out PemFields fields))
        {
            ReadOnlySpan<char> label = text[fields.Label];
            if (label is not "CERTIFICATE")
            {
                throw Invalid(key, $"has a {label}", Wanted);
            }

            lists.AddRange(ListOf(key, Convert.FromBase64String(text[fields.Base64Data].ToString())));
            text = text[fields.Location.End..];
        }

        return lists.Count != 0 ? [.. lists] : throw Invalid(key, "has no certificate that is whole", Wanted);
    }

    private static byte[] ListOf(SecureBootKeyFile key, ReadOnlyMemory<byte> certificate)
    {
        byte[] list = SignatureLists.OfCertificate(key.Owner ?? SignatureLists.ServiceOwner, certificate.Span);
        return SignatureLists.AreGood(list, out _) ? list : throw Invalid(key, "has a certificate that is damaged, or has no RSA key", Wanted);
    }

    private static string Names(IEnumerable<SecureBootKeyFile> keys) => string.Join(", ", keys.Select(key => $"'{key.Path}'"));

    private static SvsmDiagnosticException Invalid(SecureBootKeyFile key, string seen, string wanted) =>
        SvsmDiagnostics.SecureBootKeyInvalid.Error($"SvsmSecureBootKey '{key.Path}' {seen}", wanted);
}
