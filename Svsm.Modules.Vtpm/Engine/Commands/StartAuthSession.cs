// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using Svsm.Modules.Vtpm.Crypto;
using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_StartAuthSession: begins an HMAC, policy or trial session. Salted sessions need a key and come with asymmetric keys.</summary>
[TpmCommand(CommandCode.StartAuthSession)]
internal static partial class StartAuthSession
{
    private const int SmallestNonce = 16;

    internal readonly record struct Request(
        [Handle(HandleKind.Object), OrNull] TpmHandle TpmKey,
        [Handle(HandleKind.Entity), OrNull] TpmHandle Bind,
        [Size(TpmLimits.MaxDigest)] ReadOnlyMemory<byte> NonceCaller,
        [Size(TpmLimits.MaxEncryptedSecret)] ReadOnlyMemory<byte> EncryptedSalt,
        SessionType SessionType,
        [OrNull] SymmetricDefinition Symmetric,
        [Algorithm(AlgorithmUse.Hash)] AlgorithmId AuthHash);

    internal readonly record struct Response(
        [Handle(HandleKind.Context)] TpmHandle SessionHandle,
        [Size(TpmLimits.MaxDigest)] ReadOnlyMemory<byte> NonceTpm);

    internal static TpmResponseCode Execute(CommandContext context, in Request request, out Response response)
    {
        Tpm tpm = context.Tpm;
        response = default;
        int digestSize = Algorithms.DigestSize(request.AuthHash);
        if (request.NonceCaller.Length < SmallestNonce || request.NonceCaller.Length > digestSize)
        {
            return TpmResponseCode.Size.At(At.NonceCaller);
        }

        byte[] salt = [];
        if (request.TpmKey == TpmHandle.Null)
        {
            if (request.EncryptedSalt.Length != 0)
            {
                return TpmResponseCode.Value.At(At.EncryptedSalt);
            }
        }
        else
        {
            if (tpm.Objects.Find(request.TpmKey) is not KeyObject { IsPublicOnly: false } key || !key.Public.Has(ObjectAttributes.Decrypt))
            {
                return TpmResponseCode.Key.At(At.TpmKey);
            }

            if (request.EncryptedSalt.Length == 0
                || SecretExchange.Decrypt(tpm, key, SecretExchange.Salt, request.EncryptedSalt, request.NonceCaller.Span, out salt) != TpmResponseCode.Success)
            {
                return TpmResponseCode.Value.At(At.EncryptedSalt);
            }

            tpm.ClearAfterCommand(salt);
        }

        if (tpm.Objects.Find(request.Bind) is SequenceObject)
        {
            return TpmResponseCode.Handle.At(At.Bind);
        }

        if (request.Symmetric.Algorithm is not (AlgorithmId.Null or AlgorithmId.Xor) && request.Symmetric.Mode != AlgorithmId.CipherFeedback)
        {
            return TpmResponseCode.Mode.At(At.Symmetric);
        }

        TpmResponseCode code = tpm.Sessions.Reserve(request.SessionType, out TpmHandle handle);
        if (code != TpmResponseCode.Success)
        {
            return code;
        }

        bool isBound = request.Bind != TpmHandle.Null;
        byte[] bindAuth = isBound ? Entities.Auth(tpm, request.Bind) : [];
        byte[] authAndSalt = [.. bindAuth, .. salt];
        tpm.ClearAfterCommand(authAndSalt);
        byte[] nonce = tpm.Random.Generate(request.NonceCaller.Length);
        var session = new Session
        {
            Handle = handle,
            Type = request.SessionType,
            Hash = request.AuthHash,
            Symmetric = request.Symmetric,
            NonceTpm = nonce,
            StartTime = tpm.Time,
            TimeEpoch = tpm.TimeEpoch,
            Policy = PolicyState.Create(request.AuthHash),

            // Neither bound nor salted: there is no key.
            Key = isBound || request.TpmKey != TpmHandle.Null
                ? tpm.Cryptography.DeriveKey(request.AuthHash, authAndSalt, "ATH", nonce, request.NonceCaller.Span, digestSize * 8)
                : [],
            BoundEntity = isBound && request.SessionType == SessionType.Hmac ? Entities.Binding(tpm, request.Bind) : [],
            IsAttackBound = isBound && request.SessionType == SessionType.Hmac && !Entities.IsExemptFromAttackProtection(tpm, request.Bind),
            IsLockoutBound = isBound && request.SessionType == SessionType.Hmac && request.Bind == TpmHandle.Lockout,
        };
        response = new Response(handle, nonce);
        return tpm.Sessions.Add(session);
    }
}
