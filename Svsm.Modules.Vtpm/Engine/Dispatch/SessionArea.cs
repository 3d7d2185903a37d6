// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Buffers.Binary;
using System.Security.Cryptography;
using Svsm.Modules.Vtpm.Crypto;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Dispatch;

// The authorisation area of commands and responses.
//
//   command    UINT32 size, then per session: handle, TPM2B nonceCaller, attributes, TPM2B password or HMAC
//   response   per session: TPM2B nonceTPM, attributes, TPM2B HMAC
//   HMAC       HMAC(key, pHash || nonceNewer || nonceOlder || nonceDecrypt || nonceEncrypt || attributes)
//              key = session key || authValue of the authorised entity, unless the session is bound to it
//              the two extra nonces: first session of a command only, of the decrypt and encrypt sessions when they are others
//   cpHash     H(command code || Names of the handles || parameters as sent)
//   rpHash     H(response code || command code || parameters as sent)
//
// Source: TCG TPM 2.0 Library, Part 1, "Authorizations and Acknowledgments", "Session-based encryption", "Audit".
internal static class SessionArea
{
    /// <summary>Reads the area, checks every authorisation, decrypts the first parameter.</summary>
    /// <param name="context">The command, with its handles.</param>
    /// <param name="command">What follows the handles; afterwards the parameters.</param>
    internal static TpmResponseCode Read(CommandContext context, ref Memory<byte> command)
    {
        if (context.Command.Traits.HasFlag(CommandTraits.NoSessions))
        {
            return TpmResponseCode.AuthContext;
        }

        var reader = new TpmReader(command);
        TpmResponseCode code = reader.ReadUInt32(out uint size);
        if (code != TpmResponseCode.Success)
        {
            return code;
        }

        // The smallest session: handle, two empty buffers, attributes.
        if (size < 9 || size > (uint)reader.Remaining)
        {
            return TpmResponseCode.Size;
        }

        var area = new TpmReader(command.Slice(sizeof(uint), (int)size));
        command = command[(sizeof(uint) + (int)size)..];
        if ((code = ReadSessions(context, ref area)) != TpmResponseCode.Success)
        {
            return code;
        }

        if ((code = AssignEntities(context)) != TpmResponseCode.Success)
        {
            return code;
        }

        // Only who authorises with the platform's authValue can be asked to be there.
        if (context.Handles.Length != 0 && context.Handles[0] == TpmHandle.Platform && !context.Tpm.IsPhysicallyPresent
            && Array.IndexOf(context.Tpm.Persistent.PresenceCommands, (uint)context.Command.Code) >= 0)
        {
            return TpmResponseCode.PhysicalPresence;
        }

        for (int i = 0; i < context.Sessions.Length; i++)
        {
            if ((code = CheckSession(context, i, command.Span)) != TpmResponseCode.Success)
            {
                return code.At(ErrorPlace.Session(i + 1));
            }
        }

        // After the checks: they are about the parameters as sent. Audit digests need their hash too.
        BeginAudit(context, command.Span);
        return Decrypt(context, command);
    }

    /// <summary>Encrypts the response's first parameter, makes new nonces and the response's area.</summary>
    /// <param name="context">The command, done.</param>
    /// <param name="parameters">The response's parameters.</param>
    /// <param name="area">Room for the area.</param>
    /// <returns>The size of the area.</returns>
    internal static int Write(CommandContext context, Span<byte> parameters, Span<byte> area)
    {
        Tpm tpm = context.Tpm;
        foreach (SessionUse use in context.Sessions)
        {
            if (use.Session is Session session)
            {
                session.NonceTpm = tpm.Random.Generate(session.NonceTpm.Length);
            }
        }

        Encrypt(context, parameters);
        EndAudit(context, parameters);

        var writer = new TpmWriter(area);
        foreach (SessionUse use in context.Sessions)
        {
            if (use.Session is not Session session)
            {
                writer.WriteSized(default);
                writer.WriteByte((byte)(use.Attributes | SessionAttributes.ContinueSession));
                writer.WriteSized(default);
                continue;
            }

            if (use.Has(SessionAttributes.Audit) && tpm.Sessions.ExclusiveAuditSession == session.Handle)
            {
                use.Attributes |= SessionAttributes.AuditExclusive;
            }
            else
            {
                use.Attributes &= ~SessionAttributes.AuditExclusive;
            }

            writer.WriteSized(session.NonceTpm);
            writer.WriteByte((byte)use.Attributes);
            writer.WriteSized(IsPasswordPolicy(use) ? [] : ResponseHmac(context, use, session, parameters));
        }

        foreach (SessionUse use in context.Sessions)
        {
            if (use.Session is not Session session)
            {
                continue;
            }

            if (!use.Has(SessionAttributes.ContinueSession))
            {
                tpm.Sessions.Remove(session);
            }
            else if (session.Type == SessionType.Policy && use.Entity != TpmHandle.Unassigned)
            {
                // A policy is good once.
                session.Policy = PolicyState.Create(session.Hash);
            }
        }

        return writer.Length;
    }

    private static bool IsPasswordPolicy(SessionUse use)
        => use.Entity != TpmHandle.Unassigned && use.Session!.Type == SessionType.Policy && use.Session.Policy.Demand(PolicyDemands.Password);

    private static TpmResponseCode ReadSessions(CommandContext context, ref TpmReader area)
    {
        var sessions = new SessionUse[TpmLimits.SessionsPerCommand];
        int count = 0;
        for (; area.Remaining != 0; count++)
        {
            ErrorPlace place = ErrorPlace.Session(count + 1);
            if (count == TpmLimits.SessionsPerCommand)
            {
                return TpmResponseCode.Size.At(place);
            }

            TpmResponseCode code;
            if ((code = area.ReadHandle(HandleKind.AuthorizationSession, false, out TpmHandle handle)) != TpmResponseCode.Success
                || (code = area.ReadSized(TpmLimits.MaxDigest, out ReadOnlyMemory<byte> nonce)) != TpmResponseCode.Success
                || (code = area.ReadByte(out byte attributes)) != TpmResponseCode.Success)
            {
                return code.At(place);
            }

            if ((attributes & 0x18) != 0)
            {
                return TpmResponseCode.ReservedBits.At(place);
            }

            if ((code = area.ReadSized(TpmLimits.MaxDigest, out ReadOnlyMemory<byte> authorization)) != TpmResponseCode.Success)
            {
                return code.At(place);
            }

            Session? session = handle == TpmHandle.Password ? null : context.Tpm.Sessions.Find(handle);
            var use = new SessionUse(handle, session, nonce, (SessionAttributes)attributes, authorization);
            code = CheckConsistency(context, use, sessions.AsSpan(0, count));
            if (code != TpmResponseCode.Success)
            {
                return code == TpmResponseCode.ReferenceS0 ? TpmResponseCode.ReferenceS0 + (uint)count : code.At(place);
            }

            sessions[count] = use;
        }

        context.Sessions = sessions[..count];
        return TpmResponseCode.Success;
    }

    // One session against the rest of the command, before any secret is touched.
    private static TpmResponseCode CheckConsistency(CommandContext context, SessionUse use, ReadOnlySpan<SessionUse> earlier)
    {
        if (use.Handle == TpmHandle.Password)
        {
            return (use.Attributes & ~SessionAttributes.ContinueSession) != 0 ? TpmResponseCode.Attributes
                : use.NonceCaller.Length != 0 ? TpmResponseCode.Nonce
                : TpmResponseCode.Success;
        }

        if (use.Session is not Session session)
        {
            return TpmResponseCode.ReferenceS0;
        }

        if (session.Handle != use.Handle)
        {
            return TpmResponseCode.Handle;
        }

        foreach (SessionUse other in earlier)
        {
            if (other.Handle == use.Handle)
            {
                return TpmResponseCode.Handle;
            }
        }

        TpmResponseCode code = CheckEncryption(use, session, earlier, SessionAttributes.Decrypt, context.Command.IsFirstParameterSized);
        if (code == TpmResponseCode.Success)
        {
            code = CheckEncryption(use, session, earlier, SessionAttributes.Encrypt, context.Command.IsFirstResultSized);
        }

        if (code != TpmResponseCode.Success || !use.Has(SessionAttributes.Audit))
        {
            return code;
        }

        if (Any(earlier, SessionAttributes.Audit) || session.Type != SessionType.Hmac)
        {
            return TpmResponseCode.Attributes;
        }

        return session.AuditDigest.Length != 0 && !use.Has(SessionAttributes.AuditReset) && use.Has(SessionAttributes.AuditExclusive)
            && context.Tpm.Sessions.ExclusiveAuditSession != session.Handle
            ? TpmResponseCode.Exclusive
            : TpmResponseCode.Success;
    }

    private static TpmResponseCode CheckEncryption(
        SessionUse use, Session session, ReadOnlySpan<SessionUse> earlier, SessionAttributes attribute, bool isPossible)
        => !use.Has(attribute) ? TpmResponseCode.Success
            : !isPossible || Any(earlier, attribute) ? TpmResponseCode.Attributes
            : session.Symmetric.Algorithm == AlgorithmId.Null ? TpmResponseCode.Symmetric
            : TpmResponseCode.Success;

    private static bool Any(ReadOnlySpan<SessionUse> uses, SessionAttributes attribute)
    {
        foreach (SessionUse use in uses)
        {
            if (use.Has(attribute))
            {
                return true;
            }
        }

        return false;
    }

    private static TpmResponseCode AssignEntities(CommandContext context)
    {
        HandleDescriptor[] handles = context.Command.Handles;
        for (int i = 0; i < handles.Length; i++)
        {
            if (handles[i].Role == AuthorizationRole.None)
            {
                continue;
            }

            if (i >= context.Sessions.Length)
            {
                return TpmResponseCode.AuthMissing;
            }

            context.Sessions[i].Entity = context.Handles[i];
        }

        return TpmResponseCode.Success;
    }

    private static TpmResponseCode CheckSession(CommandContext context, int index, ReadOnlySpan<byte> parameters)
    {
        SessionUse use = context.Sessions[index];
        bool authorizes = use.Entity != TpmHandle.Unassigned;
        if (use.Session is not Session session)
        {
            return authorizes ? CheckAuthorization(context, index, parameters) : TpmResponseCode.Handle;
        }

        if (session.Type == SessionType.Trial)
        {
            return TpmResponseCode.Attributes;
        }

        if (session.IsAttackBound)
        {
            TpmResponseCode code = context.Tpm.DictionaryAttack.CheckAllowed(session.IsLockoutBound);
            if (code != TpmResponseCode.Success)
            {
                return code;
            }
        }

        if (authorizes)
        {
            return CheckAuthorization(context, index, parameters);
        }

        return (use.Attributes & (SessionAttributes.Audit | SessionAttributes.Encrypt | SessionAttributes.Decrypt)) == 0
            ? TpmResponseCode.Attributes
            : CheckHmac(context, index, parameters);
    }

    private static TpmResponseCode CheckAuthorization(CommandContext context, int place, ReadOnlySpan<byte> parameters)
    {
        Tpm tpm = context.Tpm;
        SessionUse use = context.Sessions[place];
        AuthorizationRole role = context.Command.Handles[place].Role;
        bool isPolicy = use.Session?.Type == SessionType.Policy;
        bool takesPassword = use.Session is null;
        if (use.Session is Session session)
        {
            // A policy session takes the authValue when the policy asks for it.
            use.IncludesAuth = isPolicy
                ? session.Policy.Demand(PolicyDemands.AuthValue)
                : !TpmCryptography.AreEqual(session.BoundEntity, Entities.Binding(tpm, use.Entity));
            takesPassword = isPolicy && session.Policy.Demand(PolicyDemands.Password);
        }

        if ((takesPassword || use.IncludesAuth) && !Entities.IsExemptFromAttackProtection(tpm, use.Entity))
        {
            TpmResponseCode code = tpm.DictionaryAttack.CheckAllowed(use.Entity == TpmHandle.Lockout);
            if (code != TpmResponseCode.Success)
            {
                return code;
            }
        }

        if (!isPolicy)
        {
            if (Entities.RequiresPolicy(tpm, use.Entity, role))
            {
                return TpmResponseCode.AuthType;
            }

            if (!Entities.IsAuthAvailable(tpm, use.Entity, role, context.Command.Traits))
            {
                return TpmResponseCode.AuthUnavailable;
            }
        }
        else
        {
            TpmResponseCode code = CheckPolicy(context, use, role, parameters);
            if (code != TpmResponseCode.Success)
            {
                return code;
            }
        }

        NvIndex? index = tpm.Nv.Find(use.Entity);
        bool takesAuth = takesPassword || use.IncludesAuth || !isPolicy;
        TpmResponseCode checkedCode = takesPassword ? CheckPassword(tpm, use) : CheckHmac(context, place, parameters);
        if (checkedCode == TpmResponseCode.Success && takesAuth && index is { IsPin: true })
        {
            CountPin(tpm, index, isRight: true);
        }

        return checkedCode;
    }

    // Everything that the policy commands have put into the session has to hold now.
    private static TpmResponseCode CheckPolicy(CommandContext context, SessionUse use, AuthorizationRole role, ReadOnlySpan<byte> parameters)
    {
        Tpm tpm = context.Tpm;
        Session session = use.Session!;
        PolicyState state = session.Policy;
        AuthPolicy policy = Entities.Policy(tpm, use.Entity);
        if (policy.Digest.Length == 0 || !Entities.IsPolicyAvailable(tpm, use.Entity, context.Command.Traits))
        {
            return TpmResponseCode.AuthUnavailable;
        }

        // Who is to show that they know a secret has to show it.
        if (context.Command.Code == CommandCode.PolicySecret && !state.Demand(PolicyDemands.AuthValue | PolicyDemands.Password))
        {
            return TpmResponseCode.Mode;
        }

        if (state.Demand(PolicyDemands.Pcrs) && state.PcrCounter != tpm.ResetState.PcrCounter)
        {
            return TpmResponseCode.PcrChanged;
        }

        if (policy.Algorithm != session.Hash || !TpmCryptography.AreEqual(policy.Digest, state.Digest))
        {
            return TpmResponseCode.PolicyFail;
        }

        if (state.Timeout != 0 && (state.Timeout < tpm.Time || session.TimeEpoch != tpm.TimeEpoch))
        {
            return TpmResponseCode.Expired;
        }

        if (state.Command != 0 ? state.Command != (uint)context.Command.Code : role != AuthorizationRole.User)
        {
            return state.Command != 0 ? TpmResponseCode.PolicyCommandCode : TpmResponseCode.PolicyFail;
        }

        if (state.Locality != 0 && (state.Locality < 32 ? context.Locality > 4 || (state.Locality & (1 << context.Locality)) == 0 : state.Locality != context.Locality))
        {
            return TpmResponseCode.Locality;
        }

        if (state.Demand(PolicyDemands.PhysicalPresence) && !tpm.IsPhysicallyPresent)
        {
            return TpmResponseCode.PhysicalPresence;
        }

        if (state.Demand(PolicyDemands.NvWrittenState)
            && (tpm.Nv.Find(use.Entity) is not NvIndex index || index.Has(NvAttributes.Written) != state.Demand(PolicyDemands.NvWritten)))
        {
            return TpmResponseCode.PolicyFail;
        }

        return state.Binding == PolicyBinding.None || TpmCryptography.AreEqual(Bound(context, session, parameters), state.BoundDigest)
            ? TpmResponseCode.Success
            : TpmResponseCode.PolicyFail;
    }

    // What the policy is bound to, of this command.
    private static byte[] Bound(CommandContext context, Session session, ReadOnlySpan<byte> parameters)
    {
        if (session.Policy.Binding == PolicyBinding.Command)
        {
            return CommandHash(context, session.Hash, parameters);
        }

        IHashState state = context.Tpm.Cryptography.StartHash(session.Hash);
        switch (session.Policy.Binding)
        {
            case PolicyBinding.Names:
                foreach (byte[] name in context.Names)
                {
                    state.Update(name);
                }

                return state.Finish();
            case PolicyBinding.Parameters:
                state.Update(parameters);
                return state.Finish();
            default:
                return Template(context.Command.Code, parameters, out ReadOnlySpan<byte> template) ? Digest(state, template) : [];
        }
    }

    private static byte[] Digest(IHashState state, ReadOnlySpan<byte> data)
    {
        state.Update(data);
        return state.Finish();
    }

    // The public area in a command that makes an object: the second parameter, a TPM2B after another one.
    private static bool Template(CommandCode code, ReadOnlySpan<byte> parameters, out ReadOnlySpan<byte> template)
    {
        template = default;
        if (code is not (CommandCode.Create or CommandCode.CreatePrimary or CommandCode.CreateLoaded))
        {
            return false;
        }

        for (int i = 0; i < 2; i++)
        {
            if (parameters.Length < sizeof(ushort))
            {
                return false;
            }

            int size = BinaryPrimitives.ReadUInt16BigEndian(parameters);
            if (size > parameters.Length - sizeof(ushort))
            {
                return false;
            }

            template = parameters.Slice(sizeof(ushort), size);
            parameters = parameters[(sizeof(ushort) + size)..];
        }

        return true;
    }

    private static void CountPin(Tpm tpm, NvIndex pin, bool isRight)
    {
        if (pin.Type == NvType.PinPass ? isRight : !isRight)
        {
            pin.PinCount++;
            tpm.MarkDirty();
        }
        else if (pin.Type == NvType.PinFail && pin.PinCount != 0)
        {
            pin.PinCount = 0;
            tpm.MarkDirty();
        }
    }

    private static TpmResponseCode CheckPassword(Tpm tpm, SessionUse use)
        => TpmCryptography.AreEqual(TpmCryptography.TrimAuth(use.Authorization.Span), Entities.Auth(tpm, use.Entity))
            ? TpmResponseCode.Success
            : Fail(tpm, use);

    private static TpmResponseCode CheckHmac(CommandContext context, int index, ReadOnlySpan<byte> parameters)
    {
        SessionUse use = context.Sessions[index];
        Session session = use.Session!;
        byte[] key = HmacKey(context.Tpm, use, session);
        if (key.Length == 0 && use.Authorization.Length == 0)
        {
            return TpmResponseCode.Success;
        }

        IHashState hmac = context.Tpm.Cryptography.StartHmac(session.Hash, key);
        ClearJoined(key, session);
        hmac.Update(CommandHash(context, session.Hash, parameters));
        hmac.Update(use.NonceCaller.Span);
        hmac.Update(session.NonceTpm);
        if (index == 0 && use.Entity != TpmHandle.Unassigned)
        {
            SessionUse? decrypt = Array.Find(context.Sessions, s => s.Has(SessionAttributes.Decrypt));
            SessionUse? encrypt = Array.Find(context.Sessions, s => s.Has(SessionAttributes.Encrypt));
            if (decrypt is not null && decrypt != use)
            {
                hmac.Update(decrypt.Session!.NonceTpm);
            }

            if (encrypt is not null && encrypt != use && encrypt != decrypt)
            {
                hmac.Update(encrypt.Session!.NonceTpm);
            }
        }

        hmac.Update([(byte)use.Attributes]);
        return TpmCryptography.AreEqual(hmac.Finish(), use.Authorization.Span) ? TpmResponseCode.Success : Fail(context.Tpm, use);
    }

    // A key that was put together from two values; the session's own stays.
    private static void ClearJoined(byte[] key, Session session)
    {
        if (key != session.Key)
        {
            CryptographicOperations.ZeroMemory(key);
        }
    }

    private static byte[] HmacKey(Tpm tpm, SessionUse use, Session session)
        => use.IncludesAuth ? [.. session.Key, .. Entities.Auth(tpm, use.Entity)] : session.Key;

    // The failure is committed before the error is answered.
    private static TpmResponseCode Fail(Tpm tpm, SessionUse use)
    {
        bool isCounted = false;
        if (tpm.Nv.Find(use.Entity) is NvIndex { Type: NvType.PinFail, IsPinUsedUp: false } pin)
        {
            CountPin(tpm, pin, isRight: false);
            isCounted = true;
        }

        bool isLockout = use.Entity == TpmHandle.Lockout || use.Session is { IsLockoutBound: true };
        bool counts = isLockout
            || use.Session is { IsAttackBound: true }
            || (use.Entity != TpmHandle.Unassigned && !Entities.IsExemptFromAttackProtection(tpm, use.Entity) && (use.Session is null || use.IncludesAuth || use.Session.Policy.Demand(PolicyDemands.Password)));
        if (!counts)
        {
            return !isCounted || tpm.EndCommand() ? TpmResponseCode.BadAuth : TpmResponseCode.Failure;
        }

        tpm.DictionaryAttack.Register(isLockout);
        return tpm.EndCommand() ? TpmResponseCode.AuthFail : TpmResponseCode.Failure;
    }

    internal static byte[] CommandHash(CommandContext context, AlgorithmId hash, ReadOnlySpan<byte> parameters)
    {
        IHashState state = context.Tpm.Cryptography.StartHash(hash);
        state.UpdateUInt32((uint)context.Command.Code);
        foreach (byte[] name in context.Names)
        {
            state.Update(name);
        }

        state.Update(parameters);
        return state.Finish();
    }

    internal static byte[] ResponseHash(CommandContext context, AlgorithmId hash, ReadOnlySpan<byte> parameters)
    {
        IHashState state = context.Tpm.Cryptography.StartHash(hash);
        state.UpdateUInt32((uint)TpmResponseCode.Success);
        state.UpdateUInt32((uint)context.Command.Code);
        state.Update(parameters);
        return state.Finish();
    }

    private static byte[] ResponseHmac(CommandContext context, SessionUse use, Session session, ReadOnlySpan<byte> parameters)
    {
        byte[] key = HmacKey(context.Tpm, use, session);
        if (key.Length == 0 && use.Authorization.Length == 0)
        {
            return [];
        }

        IHashState hmac = context.Tpm.Cryptography.StartHmac(session.Hash, key);
        ClearJoined(key, session);
        hmac.Update(ResponseHash(context, session.Hash, parameters));
        hmac.Update(session.NonceTpm);
        hmac.Update(use.NonceCaller.Span);
        hmac.Update([(byte)use.Attributes]);
        return hmac.Finish();
    }

    private static TpmResponseCode Decrypt(CommandContext context, Memory<byte> parameters)
    {
        int index = Array.FindIndex(context.Sessions, s => s.Has(SessionAttributes.Decrypt));
        if (index < 0)
        {
            return TpmResponseCode.Success;
        }

        ErrorPlace place = ErrorPlace.Session(index + 1);
        if (parameters.Length < sizeof(ushort))
        {
            return TpmResponseCode.Insufficient.At(place);
        }

        int size = BinaryPrimitives.ReadUInt16BigEndian(parameters.Span);
        if (size > parameters.Length - sizeof(ushort))
        {
            return TpmResponseCode.Size.At(place);
        }

        SessionUse use = context.Sessions[index];
        Transform(context.Tpm, use, use.NonceCaller.Span, use.Session!.NonceTpm, parameters.Span.Slice(sizeof(ushort), size), encrypt: false);
        return TpmResponseCode.Success;
    }

    private static void Encrypt(CommandContext context, Span<byte> parameters)
    {
        if (Array.Find(context.Sessions, s => s.Has(SessionAttributes.Encrypt)) is SessionUse use)
        {
            int size = BinaryPrimitives.ReadUInt16BigEndian(parameters);
            Transform(context.Tpm, use, use.Session!.NonceTpm, use.NonceCaller.Span, parameters.Slice(sizeof(ushort), size), encrypt: true);
        }
    }

    private static void Transform(Tpm tpm, SessionUse use, ReadOnlySpan<byte> nonceNewer, ReadOnlySpan<byte> nonceOlder, Span<byte> data, bool encrypt)
    {
        Session session = use.Session!;

        // Also when the session is bound to the entity.
        byte[] key = use.Entity == TpmHandle.Unassigned ? session.Key : [.. session.Key, .. Entities.Auth(tpm, use.Entity)];
        ICryptography cryptography = tpm.Cryptography;
        if (session.Symmetric.Algorithm == AlgorithmId.Xor)
        {
            byte[] mask = cryptography.DeriveKey(session.Symmetric.Hash, key, "XOR", nonceNewer, nonceOlder, data.Length * 8);
            for (int i = 0; i < data.Length; i++)
            {
                data[i] ^= mask[i];
            }

            CryptographicOperations.ZeroMemory(mask);
            ClearJoined(key, session);
            return;
        }

        int keyBytes = session.Symmetric.KeyBits / 8;
        byte[] material = cryptography.DeriveKey(session.Hash, key, "CFB", nonceNewer, nonceOlder, (keyBytes + 16) * 8);
        cryptography.TransformCfb(material.AsSpan(0, keyBytes), material.AsSpan(keyBytes), data, encrypt);
        CryptographicOperations.ZeroMemory(material);
        ClearJoined(key, session);
    }

    private static void BeginAudit(CommandContext context, ReadOnlySpan<byte> parameters)
    {
        context.Tpm.CommandAudit.Begin(context, parameters);
        if (Array.Find(context.Sessions, s => s.Has(SessionAttributes.Audit)) is SessionUse use)
        {
            context.AuditCommandHash = CommandHash(context, use.Session!.Hash, parameters);
        }
    }

    // The audited command becomes part of the session's digest. Whoever audits alone stays or becomes exclusive; any other command ends
    // the exclusiveness (the dispatcher does that for commands without sessions).
    private static void EndAudit(CommandContext context, ReadOnlySpan<byte> parameters)
    {
        SessionTable sessions = context.Tpm.Sessions;
        if (Array.Find(context.Sessions, s => s.Has(SessionAttributes.Audit)) is not SessionUse use)
        {
            sessions.ExclusiveAuditSession = TpmHandle.Unassigned;
            return;
        }

        Session session = use.Session!;
        if (session.AuditDigest.Length == 0 || use.Has(SessionAttributes.AuditReset))
        {
            session.AuditDigest = new byte[Algorithms.DigestSize(session.Hash)];
            session.BoundEntity = [];
            sessions.ExclusiveAuditSession = session.Handle;
        }
        else if (sessions.ExclusiveAuditSession != session.Handle)
        {
            sessions.ExclusiveAuditSession = TpmHandle.Unassigned;
        }

        IHashState state = context.Tpm.Cryptography.StartHash(session.Hash);
        state.Update(session.AuditDigest);
        state.Update(context.AuditCommandHash);
        state.Update(ResponseHash(context, session.Hash, parameters));
        session.AuditDigest = state.Finish();
    }
}
