// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The broker's key pair, and the two files that it makes: the one of the image, and a secret. docs/keys.md has their bytes.

using System;
using System.Buffers.Binary;
using System.Security.Cryptography;
using System.Text;
using Svsm.Diagnostics;
using Svsm.StoreKeys;

namespace Svsm.Keys;

/// <summary>The private key of a broker, or of who signs secrets for one.</summary>
public sealed class BrokerKey : IDisposable
{
    private const string P384 = "1.3.132.0.34";

    private readonly ECDsa _key;

    private BrokerKey(ECDsa key) => _key = key;

    /// <summary>Reads a key.</summary>
    /// <param name="pem">A private key on curve P-384, PEM.</param>
    /// <param name="name">What it is called in messages.</param>
    /// <returns>The key.</returns>
    /// <exception cref="SvsmDiagnosticException">SVSM7050: it is none.</exception>
    public static BrokerKey Read(ReadOnlySpan<byte> pem, string name)
    {
        var key = ECDsa.Create();
        try
        {
            key.ImportFromPem(Encoding.Latin1.GetString(pem));
            ECParameters parameters = key.ExportParameters(includePrivateParameters: true);
            CryptographicOperations.ZeroMemory(parameters.D);
            if (parameters.Curve.Oid?.Value == P384)
            {
                return new BrokerKey(key);
            }

            throw new CryptographicException("a key on another curve");
        }
        catch (Exception e) when (e is CryptographicException or ArgumentException)
        {
            key.Dispose();
            throw SvsmDiagnostics.BrokerKeyUnusable.Error($"'{name}': {e.Message.TrimEnd('.')}", "an EC private key on curve P-384, PEM, without a password", e);
        }
    }

    /// <summary>Makes the file of an image that trusts this broker.</summary>
    /// <param name="isTrustee">The broker is Trustee, and this key signs secrets only.</param>
    /// <returns>The file.</returns>
    public byte[] MakePin(bool isTrustee)
    {
        byte[] pin = new byte[BrokerFormat.PinLength];
        BrokerFormat.PinMagic.CopyTo(pin);
        BinaryPrimitives.WriteUInt32LittleEndian(pin.AsSpan(BrokerFormat.PinKindOffset), isTrustee ? 2u : 1u);
        ECParameters parameters = _key.ExportParameters(includePrivateParameters: false);
        parameters.Q.X!.CopyTo(pin, BrokerFormat.PinKeyOffset);
        parameters.Q.Y!.CopyTo(pin, BrokerFormat.PinKeyOffset + BrokerFormat.BrokerNumberLength);
        return pin;
    }

    /// <summary>Makes a new secret, signed.</summary>
    /// <param name="isMovable">The key of the store is to be of the secret alone, so that the store goes from chip to chip.</param>
    /// <returns>The file. Whoever has it has the secret.</returns>
    public byte[] MakeSecret(bool isMovable)
    {
        byte[] secret = new byte[BrokerFormat.SecretLength];
        BrokerFormat.SecretMagic.CopyTo(secret);
        BinaryPrimitives.WriteUInt32LittleEndian(secret.AsSpan(BrokerFormat.SecretFlagsOffset), isMovable ? BrokerFormat.MovableFlag : 0);
        RandomNumberGenerator.Fill(secret.AsSpan(BrokerFormat.SecretOffset, BrokerFormat.SecretSize));
        Sign(BrokerFormat.SignedSecret(secret)).CopyTo(secret, BrokerFormat.SecretSignatureOffset);
        return secret;
    }

    /// <summary>Whether a file is a secret that this key has signed.</summary>
    internal bool HasSigned(ReadOnlySpan<byte> secret) =>
        secret.Length == BrokerFormat.SecretLength && secret.StartsWith(BrokerFormat.SecretMagic)
        && _key.VerifyData(BrokerFormat.SignedSecret(secret), secret[BrokerFormat.SecretSignatureOffset..], HashAlgorithmName.SHA384, DSASignatureFormat.IeeeP1363FixedFieldConcatenation);

    internal byte[] Sign(byte[] data) => _key.SignData(data, HashAlgorithmName.SHA384, DSASignatureFormat.IeeeP1363FixedFieldConcatenation);

    /// <summary>Forgets the key.</summary>
    public void Dispose() => _key.Dispose();
}
