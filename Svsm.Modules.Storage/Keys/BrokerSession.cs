// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The SVSM's side of a broker: gets the secret of its store, and keeps the last version of the store with the broker. docs/keys.md says who believes whom, and why.
//
//   TryOpen        HELLO, ATTEST: a fresh key, a report about it, the secret encrypted for it; nothing is taken that the pinned key has not signed
//   GetAnchor      the last version
//   MoveAnchor     from one version to another
//
// Messages of a session are numbered. Whatever is not in order ends the session: nobody knows then what the broker has done, and a new session asks.
// The key pair is used for one session.

using System;
using System.Buffers.Binary;
using System.Numerics;
using System.Security.Cryptography;
using System.Text;
using Org.BouncyCastle.Crypto;
using Org.BouncyCastle.Crypto.Digests;
using Org.BouncyCastle.Crypto.Engines;
using Org.BouncyCastle.Crypto.Generators;
using Org.BouncyCastle.Crypto.Modes;
using Org.BouncyCastle.Crypto.Parameters;
using Svsm.Core;
using Svsm.Cryptography;
using Svsm.Store;

namespace Svsm.StoreKeys;

/// <summary>The way to the proxy on the host.</summary>
public interface IBrokerChannel
{
    /// <summary>Most bytes of a request and of an answer.</summary>
    const int MaxLength = BrokerFormat.MaxFrame;

    /// <summary>Bytes in front of each on a stream: u32 bytes, u32 number of the request.</summary>
    const int HeadLength = BrokerFormat.FrameHeadLength;

    /// <summary>Sends a request, and waits for its answer.</summary>
    /// <param name="request">The request, at most <see cref="MaxLength"/> bytes.</param>
    /// <param name="answer">The answer, at most <see cref="MaxLength"/> bytes. Untrusted.</param>
    /// <returns>False: there is none.</returns>
    bool TryExchange(ReadOnlySpan<byte> request, out byte[] answer);
}

/// <summary>What became of a wish to the broker.</summary>
public enum BrokerResult
{
    /// <summary>It is granted.</summary>
    Done,

    /// <summary>The host is busy with the report: the same wish later.</summary>
    Busy,

    /// <summary>There is no report: the security processor is lost until the VM is launched again, or no module attests.</summary>
    NoReport,

    /// <summary>The channel, the proxy or the broker does not answer, or with nonsense; or the session is over. A new session may be had.</summary>
    Unreachable,

    /// <summary>The proxy says that the broker does not believe this SVSM, or has no such secret. That is the host's word.</summary>
    Refused,

    /// <summary>An answer is not the broker's: somebody else made it, or changed it.</summary>
    NotTheBroker,

    /// <summary>The broker has another version than the one that was to be replaced: nothing was changed.</summary>
    OtherVersion,

    /// <summary>The broker could not write the version, or not read its own, or refuses a lower generation: nothing was changed.</summary>
    NotWritten,

    /// <summary>The broker keeps no versions.</summary>
    NoAnchors,
}

/// <summary>A session with the broker. Not for use by two threads at once.</summary>
public sealed class BrokerSession : IDisposable
{
    private const int HeadLength = sizeof(uint);

    private readonly IBrokerChannel _channel;
    private readonly byte[] _secret;
    private readonly byte[]? _keys;
    private ulong _number;
    private bool _isOver;

    private BrokerSession(IBrokerChannel channel, byte[] secret, bool isMovable, byte[]? keys)
    {
        _channel = channel;
        _secret = secret;
        IsMovable = isMovable;
        _keys = keys;
    }

    /// <summary>The secret, 32 bytes: zero when the session is disposed.</summary>
    public ReadOnlySpan<byte> Secret => _secret;

    /// <summary>The owner wants the store to go from chip to chip: its key is of the secret alone (<see cref="StoreKey.FromBroker"/>).</summary>
    public bool IsMovable { get; }

    /// <summary>The broker keeps the last version of the store.</summary>
    public bool HasAnchor => _keys is not null;

    /// <summary>Opens a session, and gets the secret.</summary>
    /// <param name="channel">The way to the proxy.</param>
    /// <param name="peer">The module that attests.</param>
    /// <param name="pin">The broker that the image trusts.</param>
    /// <param name="session">The session; null if there is none.</param>
    /// <returns>What became of it.</returns>
    /// <exception cref="CryptographicException">There are no random bytes.</exception>
    public static BrokerResult TryOpen(IBrokerChannel channel, AttestingPeer peer, BrokerPin pin, out BrokerSession? session)
    {
        ArgumentNullException.ThrowIfNull(channel);
        ArgumentNullException.ThrowIfNull(peer);
        ArgumentNullException.ThrowIfNull(pin);
        session = null;
        BrokerResult result = TryHello(channel, out string nonce);
        if (result != BrokerResult.Done)
        {
            return result;
        }

        NistCurve curve = NistCurve.P521();
        BigInteger privateKey = curve.NewPrivateKey();
        byte[] publicKey = curve.ToBytes(curve.Multiply(curve.Generator, privateKey));
        AttestingResult attested = peer.GetReport(BrokerPin.Sha384(BrokerFormat.RuntimeData(nonce, publicKey)), out byte[] report, out byte[] certificates);
        if (attested != AttestingResult.Done)
        {
            return attested == AttestingResult.Busy ? BrokerResult.Busy : BrokerResult.NoReport;
        }

        if (certificates.Length > BrokerFormat.MaxCertificates)
        {
            certificates = [];
        }

        byte[] head = new byte[2 * sizeof(uint)];
        BinaryPrimitives.WriteUInt32LittleEndian(head, (uint)BrokerRequest.Attest);
        BinaryPrimitives.WriteInt32LittleEndian(head.AsSpan(sizeof(uint)), certificates.Length);
        result = TryAsk(channel, [.. head, .. publicKey, .. report, .. certificates], out byte[] contents);
        if (result != BrokerResult.Done)
        {
            return result;
        }

        return BrokerAnswer.TryRead(contents) is BrokerAnswer answer
            ? TryTake(channel, pin, curve, privateKey, report, answer, out session)
            : BrokerResult.Unreachable;
    }

    /// <summary>Asks for the last version of the store.</summary>
    /// <param name="version">The version; null: there is none yet.</param>
    /// <returns>
    /// <see cref="BrokerResult.Done"/>, <see cref="BrokerResult.NotWritten"/>, <see cref="BrokerResult.Unreachable"/>, <see cref="BrokerResult.NotTheBroker"/> or
    /// <see cref="BrokerResult.NoAnchors"/>.
    /// </returns>
    public BrokerResult GetAnchor(out StoreVersion? version) => Exchange(new AnchorRequest(AnchorOperation.Get, null, default), out version);

    /// <summary>Replaces the last version of the store, if it is the one that this SVSM knows.</summary>
    /// <param name="from">The version that the broker has, as far as is known; null: none.</param>
    /// <param name="to">The version that it is to have; its generation is higher.</param>
    /// <param name="current">The version that it has now; null: none, or unknown.</param>
    /// <returns>
    /// Besides those of <see cref="GetAnchor"/>: <see cref="BrokerResult.OtherVersion"/>. After
    /// <see cref="BrokerResult.Unreachable"/> it may be replaced or not.
    /// </returns>
    public BrokerResult MoveAnchor(StoreVersion? from, StoreVersion to, out StoreVersion? current)
    {
        AnchorVersion? old = from is StoreVersion known ? ToAnchor(known) : null;
        BrokerResult result = Exchange(new AnchorRequest(AnchorOperation.Replace, old, ToAnchor(to)), out current);

        // A broker that has done it has it.
        return result == BrokerResult.Done && current != to ? Over(BrokerResult.NotTheBroker) : result;
    }

    /// <summary>Ends the session, and clears the secret.</summary>
    public void Dispose()
    {
        _isOver = true;
        CryptographicOperations.ZeroMemory(_secret);
        CryptographicOperations.ZeroMemory(_keys);
    }

    private static BrokerResult TryHello(IBrokerChannel channel, out string nonce)
    {
        nonce = "";
        byte[] hello = new byte[2 * sizeof(uint)];
        BinaryPrimitives.WriteUInt32LittleEndian(hello, (uint)BrokerRequest.Hello);
        BinaryPrimitives.WriteUInt32LittleEndian(hello.AsSpan(sizeof(uint)), BrokerFormat.Version);
        BrokerResult result = TryAsk(channel, hello, out byte[] contents);
        if (result != BrokerResult.Done)
        {
            return result;
        }

        if (contents.Length < HeadLength || BinaryPrimitives.ReadUInt32LittleEndian(contents) != (uint)(contents.Length - HeadLength) || !BrokerFormat.IsNonce(contents.AsSpan(HeadLength)))
        {
            return BrokerResult.Unreachable;
        }

        nonce = Encoding.ASCII.GetString(contents.AsSpan(HeadLength));
        return BrokerResult.Done;
    }

    // Contents follow if it is done.
    private static BrokerResult TryAsk(IBrokerChannel channel, ReadOnlySpan<byte> request, out byte[] contents)
    {
        contents = [];
        if (!channel.TryExchange(request, out byte[] answer) || answer.Length < HeadLength || answer.Length > IBrokerChannel.MaxLength)
        {
            return BrokerResult.Unreachable;
        }

        switch ((BrokerStatus)BinaryPrimitives.ReadUInt32LittleEndian(answer))
        {
            case BrokerStatus.Done:
                contents = answer[HeadLength..];
                return BrokerResult.Done;
            case BrokerStatus.Refused or BrokerStatus.NoResource:
                return BrokerResult.Refused;
            default:
                return BrokerResult.Unreachable;
        }
    }

    private static BrokerResult TryTake(
        IBrokerChannel channel, BrokerPin pin, NistCurve curve, BigInteger privateKey, byte[] report, BrokerAnswer answer, out BrokerSession? session)
    {
        session = null;
        byte[] signed = answer.Signed(report);
        if ((pin.Kind == BrokerKind.Svsm && !pin.Verifies(signed, answer.Signature)) || curve.TryReadPoint(answer.SenderKey) is not CurvePoint sender)
        {
            return BrokerResult.NotTheBroker;
        }

        byte[] agreed = curve.XOf(curve.Multiply(sender, privateKey));
        byte[]? secret = null;
        try
        {
            secret = TryDecrypt(agreed, answer);
            if (secret is null || secret.Length != BrokerFormat.SecretLength || !secret.AsSpan().StartsWith(BrokerFormat.SecretMagic)
                || !pin.Verifies(BrokerFormat.SignedSecret(secret), secret.AsSpan(BrokerFormat.SecretSignatureOffset)))
            {
                return BrokerResult.NotTheBroker;
            }

            // What the owner has signed and this version does not know, it must not do half of.
            uint flags = BinaryPrimitives.ReadUInt32LittleEndian(secret.AsSpan(BrokerFormat.SecretFlagsOffset));
            if ((flags & ~BrokerFormat.MovableFlag) != 0 || BinaryPrimitives.ReadUInt32LittleEndian(secret.AsSpan(BrokerFormat.SecretFlagsOffset + sizeof(uint))) != 0)
            {
                return BrokerResult.NotTheBroker;
            }

            byte[]? keys = null;
            if (pin.Kind == BrokerKind.Svsm)
            {
                keys = new byte[BrokerFormat.SessionKeysLength];
                var hkdf = new HkdfBytesGenerator(new Sha256Digest());
                hkdf.Init(new HkdfParameters(agreed, BrokerPin.Sha384(signed), BrokerFormat.SessionLabel.ToArray()));
                hkdf.GenerateBytes(keys);
            }

            session = new(channel, secret.AsSpan(BrokerFormat.SecretOffset, BrokerFormat.SecretSize).ToArray(), (flags & BrokerFormat.MovableFlag) != 0, keys);
            return BrokerResult.Done;
        }
        finally
        {
            CryptographicOperations.ZeroMemory(agreed);
            CryptographicOperations.ZeroMemory(secret);
        }
    }

    // ECDH-ES+A256KW, A256GCM. Null: it was not encrypted for this key, or was changed.
    private static byte[]? TryDecrypt(ReadOnlySpan<byte> agreed, BrokerAnswer answer)
    {
        byte[] input = BrokerFormat.ConcatKdfInput(agreed);
        byte[] wrapping = new byte[BrokerFormat.SessionKeyLength];
        byte[]? key = null;
        try
        {
            var sha256 = new Sha256Digest();
            sha256.BlockUpdate(input);
            sha256.DoFinal(wrapping);
            if (answer.EncryptedKey.Length != BrokerFormat.WrappedKeyLength)
            {
                return null;
            }

            var wrap = new AesWrapEngine();
            wrap.Init(false, new KeyParameter(wrapping));
            key = wrap.Unwrap(answer.EncryptedKey, 0, answer.EncryptedKey.Length);
            return TryOpenGcm(key, answer.Iv, answer.Protected, [.. answer.Ciphertext, .. answer.Tag]);
        }
        catch (InvalidCipherTextException)
        {
            return null;
        }
        finally
        {
            CryptographicOperations.ZeroMemory(input);
            CryptographicOperations.ZeroMemory(wrapping);
            CryptographicOperations.ZeroMemory(key);
        }
    }

    private BrokerResult Exchange(in AnchorRequest request, out StoreVersion? version)
    {
        version = null;
        if (_keys is null)
        {
            return BrokerResult.NoAnchors;
        }

        if (_isOver)
        {
            return BrokerResult.Unreachable;
        }

        // Over, unless everything is in order: then the number is used up, and no other message has it.
        _isOver = true;
        byte[] head = new byte[sizeof(uint)];
        BinaryPrimitives.WriteUInt32LittleEndian(head, (uint)BrokerRequest.Anchor);
        byte[] nonce = BrokerFormat.SealNonce(_number++);
        byte[] sealedRequest = SealGcm(_keys.AsSpan(0, BrokerFormat.SessionKeyLength), nonce, request.ToBytes());
        if (TryAsk(_channel, [.. head, .. sealedRequest], out byte[] contents) != BrokerResult.Done)
        {
            return BrokerResult.Unreachable;
        }

        if (TryOpenGcm(_keys.AsSpan(BrokerFormat.SessionKeyLength), nonce, [], contents) is not byte[] opened || !AnchorAnswer.TryRead(opened, out AnchorAnswer answer))
        {
            return BrokerResult.NotTheBroker;
        }

        _isOver = false;
        version = answer.Version is AnchorVersion known ? FromAnchor(known) : null;
        return answer.Status switch
        {
            AnchorStatus.Done => BrokerResult.Done,
            AnchorStatus.OtherVersion => BrokerResult.OtherVersion,
            _ => BrokerResult.NotWritten,
        };
    }

    private BrokerResult Over(BrokerResult result)
    {
        _isOver = true;
        return result;
    }

    private static byte[] SealGcm(ReadOnlySpan<byte> key, byte[] nonce, byte[] text)
    {
        GcmBlockCipher cipher = Gcm(forEncryption: true, key, nonce, []);
        byte[] output = new byte[text.Length + BrokerFormat.TagLength];
        int length = cipher.ProcessBytes(text, output);
        cipher.DoFinal(output.AsSpan(length));
        return output;
    }

    private static byte[]? TryOpenGcm(ReadOnlySpan<byte> key, byte[] nonce, byte[] associated, byte[] textAndTag)
    {
        if (textAndTag.Length < BrokerFormat.TagLength)
        {
            return null;
        }

        byte[] text = new byte[textAndTag.Length - BrokerFormat.TagLength];
        try
        {
            GcmBlockCipher cipher = Gcm(forEncryption: false, key, nonce, associated);
            int length = cipher.ProcessBytes(textAndTag, text);
            cipher.DoFinal(text.AsSpan(length));
            return text;
        }
        catch (InvalidCipherTextException)
        {
            CryptographicOperations.ZeroMemory(text);
            return null;
        }
    }

    private static GcmBlockCipher Gcm(bool forEncryption, ReadOnlySpan<byte> key, byte[] nonce, byte[] associated)
    {
        const int BitsPerByte = 8;
        var cipher = new GcmBlockCipher(AesUtilities.CreateEngine());
        cipher.Init(forEncryption, new AeadParameters(new KeyParameter(key), BrokerFormat.TagLength * BitsPerByte, nonce, associated));
        return cipher;
    }

    private static AnchorVersion ToAnchor(StoreVersion version) => AnchorVersion.FromRoot(version.Generation, Convert.FromHexString(version.Root));

    private static StoreVersion FromAnchor(AnchorVersion version)
    {
        byte[] root = new byte[AnchorVersion.RootLength];
        version.WriteRoot(root);
        return new StoreVersion(version.Generation, Convert.ToHexStringLower(root));
    }
}
