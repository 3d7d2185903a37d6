// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The keys of the simulated chip: a root (ARK), a signing authority (ASK), the chip's endorsement key (VCEK), and the secret from which
// guests' keys are derived. For attestation reports and for who verifies them.
//
//   ark.pem   self-signed, RSA-4096, RSASSA-PSS with SHA-384
//   ask.pem   RSA-4096, signed by the ARK likewise
//   vcek.pem  ECDSA P-384, signed by the ASK likewise; extensions 1.3.6.1.4.1.3704.1.* tell product, TCB and chip id
//   vcek.key  the VCEK's private key, PKCS #8
//   secret    32 bytes, hexadecimal
//
// Two RSA-4096 keys take seconds to make, so the chip is made once and kept in a folder; a run that needs no chip makes none. The private keys
// of ARK and ASK are forgotten when they have signed. Nothing here is secret from the host: it is a simulator, and its root is nobody's.
//
// Source: AMD VCEK certificate and KDS interface specification (57230), as virtee/sev and google/go-sev-guest read the extensions.

using System;
using System.Buffers.Binary;
using System.Formats.Asn1;
using System.IO;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using Svsm.Diagnostics;

namespace Svsm.Simulator;

internal sealed class SimulatedChip : IDisposable
{
    public const int ChipIdLength = 64;

    private const int RsaKeySize = 4096;
    private const int SecretLength = 32;
    private const string ArkFile = "ark.pem";
    private const string AskFile = "ask.pem";
    private const string VcekFile = "vcek.pem";
    private const string VcekKeyFile = "vcek.key";
    private const string SecretFile = "secret";

    private const string ExtensionPrefix = "1.3.6.1.4.1.3704.1.";
    private const string ProductName = "Milan-B0";
    private const string Organization = "O=Svsm.Sdk simulated machine (worthless),OU=Engineering,CN=";

    // Fixed, so that no clock is read: the chain is valid whenever a test runs.
    private static readonly DateTimeOffset s_notBefore = new(2020, 1, 1, 0, 0, 0, TimeSpan.Zero);
    private static readonly DateTimeOffset s_notAfter = new(2049, 12, 31, 0, 0, 0, TimeSpan.Zero);

    private readonly ECDsa _vcek;
    private readonly byte[] _secret;

    private SimulatedChip(byte[] ark, byte[] ask, byte[] vcekCertificate, ECDsa vcek, byte[] secret)
    {
        Ark = ark;
        Ask = ask;
        Vcek = vcekCertificate;
        _vcek = vcek;
        _secret = secret;
    }

    // The user's own chip.
    public static string DefaultFolder
    {
        get
        {
            string? cache = Environment.GetEnvironmentVariable("XDG_CACHE_HOME");
            return Path.Combine(
                Path.IsPathFullyQualified(cache ?? "") ? cache! : Path.Combine(Environment.GetFolderPath(Environment.SpecialFolder.UserProfile), ".cache"),
                "svsm-simulator",
                "chip");
        }
    }

    // Certificates, DER.
    public ReadOnlyMemory<byte> Ark { get; }

    public ReadOnlyMemory<byte> Ask { get; }

    public ReadOnlyMemory<byte> Vcek { get; }

    public byte[] ChipId => MakeChipId(_secret);

    // The chip in a folder; makes one if the folder does not exist. Throws SvsmDiagnosticException when it is there but unusable.
    public static SimulatedChip Open(string folder)
    {
        try
        {
            if (!Directory.Exists(folder))
            {
                Make(folder);
            }

            return Read(folder);
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException or CryptographicException or FormatException or ArgumentException)
        {
            throw SvsmDiagnostics.RunFileUnreadable.Error(
                $"the simulated chip in '{folder}': {exception.Message.TrimEnd('.')}", "the files that an earlier run left there, or no such folder; delete it, and the next run makes a new chip", exception);
        }
    }

    // ECDSA with SHA-384: R, then S, big-endian, 48 bytes each.
    public byte[] Sign(ReadOnlySpan<byte> data) => _vcek.SignData(data, HashAlgorithmName.SHA384, DSASignatureFormat.IeeeP1363FixedFieldConcatenation);

    // The secret behind derived keys, of this chip with firmware of a TCB version. 48 bytes.
    public byte[] KeyOf(TcbVersion tcb)
    {
        Span<byte> version = stackalloc byte[sizeof(ulong)];
        BinaryPrimitives.WriteUInt64LittleEndian(version, tcb.Value);
        return HMACSHA384.HashData(_secret, version);
    }

    public void Dispose() => _vcek.Dispose();

    private static byte[] MakeChipId(byte[] secret) => HMACSHA512.HashData(secret, "chip id"u8);

    private static SimulatedChip Read(string folder)
    {
        byte[] secret = Convert.FromHexString(File.ReadAllText(Path.Combine(folder, SecretFile)).Trim());
        if (secret.Length != SecretLength)
        {
            throw new FormatException($"the secret has {secret.Length} bytes, not {SecretLength}");
        }

        var vcek = ECDsa.Create();
        try
        {
            vcek.ImportFromPem(File.ReadAllText(Path.Combine(folder, VcekKeyFile)));
            return new SimulatedChip(ReadCertificate(folder, ArkFile), ReadCertificate(folder, AskFile), ReadCertificate(folder, VcekFile), vcek, secret);
        }
        catch
        {
            vcek.Dispose();
            throw;
        }
    }

    private static byte[] ReadCertificate(string folder, string file)
    {
        using X509Certificate2 certificate = X509Certificate2.CreateFromPem(File.ReadAllText(Path.Combine(folder, file)));
        return certificate.RawData;
    }

    // Beside its place first: other processes see a whole chip or none, and who comes second takes the first one's.
    private static void Make(string folder)
    {
        string parent = Path.GetDirectoryName(Path.GetFullPath(folder)) ?? throw new IOException("a root folder cannot hold a chip");
        Directory.CreateDirectory(parent);
        string temporary = Path.Combine(parent, Path.GetRandomFileName());
        if (OperatingSystem.IsWindows())
        {
            Directory.CreateDirectory(temporary);
        }
        else
        {
            Directory.CreateDirectory(temporary, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
        }

        try
        {
            WriteNew(temporary);
            Directory.Move(temporary, folder);
        }
        catch (IOException) when (Directory.Exists(folder))
        {
            Directory.Delete(temporary, recursive: true);
        }
        catch
        {
            Directory.Delete(temporary, recursive: true);
            throw;
        }
    }

    private static void WriteNew(string folder)
    {
        byte[] secret = RandomNumberGenerator.GetBytes(SecretLength);
        using var arkKey = RSA.Create(RsaKeySize);
        using var askKey = RSA.Create(RsaKeySize);
        using var vcekKey = ECDsa.Create(ECCurve.NamedCurves.nistP384);
        var arkName = new X500DistinguishedName(Organization + "ARK-Milan");
        var askName = new X500DistinguishedName(Organization + "SEV-Milan");

        CertificateRequest ark = Authority(arkName, arkKey);
        CertificateRequest ask = Authority(askName, askKey);
        var vcek = new CertificateRequest(new X500DistinguishedName(Organization + "SEV-VCEK"), vcekKey, HashAlgorithmName.SHA384);
        AddVcekExtensions(vcek, MakeChipId(secret));
        File.WriteAllText(Path.Combine(folder, ArkFile), Sign(ark, arkName, arkKey));
        File.WriteAllText(Path.Combine(folder, AskFile), Sign(ask, arkName, arkKey));
        File.WriteAllText(Path.Combine(folder, VcekFile), Sign(vcek, askName, askKey));
        File.WriteAllText(Path.Combine(folder, VcekKeyFile), vcekKey.ExportPkcs8PrivateKeyPem() + "\n");
        File.WriteAllText(Path.Combine(folder, SecretFile), Convert.ToHexStringLower(secret) + "\n");
    }

    private static CertificateRequest Authority(X500DistinguishedName name, RSA key)
    {
        var request = new CertificateRequest(name, key, HashAlgorithmName.SHA384, RSASignaturePadding.Pss);
        request.CertificateExtensions.Add(new X509BasicConstraintsExtension(true, false, 0, true));
        request.CertificateExtensions.Add(new X509KeyUsageExtension(X509KeyUsageFlags.KeyCertSign | X509KeyUsageFlags.CrlSign, true));
        return request;
    }

    private static string Sign(CertificateRequest request, X500DistinguishedName issuer, RSA key)
    {
        const int SerialLength = 16;
        byte[] serial = RandomNumberGenerator.GetBytes(SerialLength);

        // A positive number without leading zeroes.
        serial[0] = (byte)((serial[0] & 0x3F) | 0x40);
        X509SignatureGenerator generator = X509SignatureGenerator.CreateForRSA(key, RSASignaturePadding.Pss);
        using X509Certificate2 certificate = request.Create(issuer, generator, s_notBefore, s_notAfter, serial);
        return certificate.ExportCertificatePem() + "\n";
    }

    private static void AddVcekExtensions(CertificateRequest request, byte[] chipId)
    {
        TcbVersion tcb = TcbVersion.Current;
        (string Name, int Value)[] numbers =
        [
            ("1", 0), ("3.1", tcb.BootLoader), ("3.2", tcb.OperatingSystem), ("3.3", tcb.Snp),
            ("3.4", 0), ("3.5", 0), ("3.6", 0), ("3.7", 0), ("3.8", tcb.Microcode),
        ];
        foreach ((string name, int value) in numbers)
        {
            Add(name, writer => writer.WriteInteger(value));
        }

        Add("2", writer => writer.WriteCharacterString(UniversalTagNumber.IA5String, ProductName));

        // The chip id stands there as it is, without the head of an OCTET STRING.
        request.CertificateExtensions.Add(new X509Extension(ExtensionPrefix + "4", chipId, critical: false));

        void Add(string name, Action<AsnWriter> write)
        {
            var writer = new AsnWriter(AsnEncodingRules.DER);
            write(writer);
            request.CertificateExtensions.Add(new X509Extension(ExtensionPrefix + name, writer.Encode(), critical: false));
        }
    }
}
