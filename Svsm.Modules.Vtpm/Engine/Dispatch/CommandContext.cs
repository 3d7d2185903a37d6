// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using Svsm.Modules.Vtpm.Crypto;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Dispatch;

/// <summary>One command on its way through the TPM.</summary>
internal sealed class CommandContext(Tpm tpm, CommandDescriptor command, byte locality)
{
    /// <summary>What a command answers that has to be continued: no response code.</summary>
    internal const TpmResponseCode Unfinished = (TpmResponseCode)uint.MaxValue;

    internal Tpm Tpm { get; } = tpm;

    internal CommandDescriptor Command { get; } = command;

    /// <summary>0 to 4, or 32 to 255.</summary>
    internal byte Locality { get; } = locality;

    /// <summary>The handle area, checked.</summary>
    internal TpmHandle[] Handles { get; } = new TpmHandle[command.Handles.Length];

    /// <summary>The Names of the handles, as they were before the command was done.</summary>
    internal byte[][] Names { get; } = new byte[command.Handles.Length][];

    internal TpmHandle ResponseHandle { get; set; }

    /// <summary>An object that goes when the response is made: until then its authValue is a key of the response's HMAC.</summary>
    internal TpmHandle FlushAfterResponse { get; set; } = TpmHandle.Unassigned;

    internal SessionUse[] Sessions { get; set; } = [];

    /// <summary>The command's tag: with or without sessions.</summary>
    internal StructureTag Tag { get; set; }

    /// <summary>The parameters, decrypted.</summary>
    internal ReadOnlyMemory<byte> Parameters { get; set; }

    /// <summary>What Execute has begun and not finished: it is called again with the same request until it does not answer <see cref="Unfinished"/>.</summary>
    internal IUnfinishedWork? Work { get; set; }

    /// <summary>The cpHash in the hash of the audit session, if there is one.</summary>
    internal byte[] AuditCommandHash { get; set; } = [];

    /// <summary>The cpHash for command audit; empty when the command is not audited.</summary>
    internal byte[] CommandAuditHash { get; set; } = [];

    /// <summary>Asks whether long work goes on.</summary>
    /// <returns>Success: yes. <see cref="Unfinished"/>: the slice is over. TPM_RC_RETRY: the command takes too long.</returns>
    internal TpmResponseCode Pause() => Tpm.CheckTime();

    /// <summary>Forgets finished or given up work.</summary>
    internal void EndWork()
    {
        Work?.Clear();
        Work = null;
    }
}

/// <summary>A session in the authorisation area of a command.</summary>
internal sealed class SessionUse(TpmHandle handle, Session? session, ReadOnlyMemory<byte> nonceCaller, SessionAttributes attributes, ReadOnlyMemory<byte> authorization)
{
    internal TpmHandle Handle { get; } = handle;

    /// <summary>Null for the password session.</summary>
    internal Session? Session { get; } = session;

    internal ReadOnlyMemory<byte> NonceCaller { get; } = nonceCaller;

    internal SessionAttributes Attributes { get; set; } = attributes;

    /// <summary>The password or HMAC.</summary>
    internal ReadOnlyMemory<byte> Authorization { get; } = authorization;

    /// <summary>The handle that the session authorises, or <see cref="TpmHandle.Unassigned"/>.</summary>
    internal TpmHandle Entity { get; set; } = TpmHandle.Unassigned;

    /// <summary>The entity's authValue goes into the HMAC key.</summary>
    internal bool IncludesAuth { get; set; }

    internal bool Has(SessionAttributes attribute) => (Attributes & attribute) != 0;
}
