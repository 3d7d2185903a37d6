// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using Svsm.Modules.Vtpm.Crypto;
using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.State;

// Command audit: a digest over all successful commands of a list that the privacy administrator has made.
//
// Source: TCG TPM 2.0 Library, Part 1, "Command Audit"; Part 3, TPM2_SetCommandCodeAuditStatus and TPM2_GetCommandAuditDigest.
internal sealed class CommandAudit(Tpm tpm)
{
    /// <summary>Whether a command is audited.</summary>
    internal bool IsAudited(CommandCode code) => code == CommandCode.SetCommandCodeAuditStatus || Array.IndexOf(tpm.Persistent.AuditedCommands, (uint)code) >= 0;

    /// <summary>The audited commands, ascending.</summary>
    internal CommandCode[] List()
    {
        var list = new System.Collections.Generic.List<CommandCode>();
        foreach (CommandDescriptor command in CommandTable.All)
        {
            if (IsAudited(command.Code))
            {
                list.Add(command.Code);
            }
        }

        return [.. list];
    }

    /// <summary>Puts a command on the list or takes it off. What is not served is never on it, nor is Shutdown; the command that makes the list always is.</summary>
    internal void Set(CommandCode code, bool isAudited)
    {
        uint number = (uint)code;
        if (CommandTable.Find(number) is null || code is CommandCode.Shutdown or CommandCode.SetCommandCodeAuditStatus || IsAudited(code) == isAudited)
        {
            return;
        }

        uint[] old = tpm.Persistent.AuditedCommands;
        tpm.Persistent.AuditedCommands = isAudited ? [.. old, number] : Array.FindAll(old, c => c != number);
        tpm.MarkDirty();
    }

    /// <summary>The digest of the list.</summary>
    internal byte[] ListDigest()
    {
        IHashState state = tpm.Cryptography.StartHash(tpm.Persistent.AuditHash);
        foreach (CommandCode code in List())
        {
            state.UpdateUInt32((uint)code);
        }

        return state.Finish();
    }

    /// <summary>What an audited command needs before it is done: its cpHash.</summary>
    /// <param name="context">The command.</param>
    /// <param name="parameters">Its parameters as sent.</param>
    internal void Begin(CommandContext context, ReadOnlySpan<byte> parameters)
    {
        if (IsAudited(context.Command.Code))
        {
            context.CommandAuditHash = SessionArea.CommandHash(context, tpm.Persistent.AuditHash, parameters);
        }
    }

    /// <summary>What an audited command that succeeded needs before the state is committed: a new log has a number of its own.</summary>
    internal void Count(CommandContext context)
    {
        if (context.CommandAuditHash.Length != 0 && tpm.ResetState.CommandAuditDigest.Length == 0)
        {
            tpm.ResetState.CommandAuditDigest = new byte[Algorithms.DigestSize(tpm.Persistent.AuditHash)];
            tpm.Persistent.AuditCounter++;
            tpm.MarkDirty();
        }
    }

    /// <summary>Takes an audited command that succeeded into the digest.</summary>
    /// <param name="context">The command.</param>
    /// <param name="parameters">The response's parameters as sent.</param>
    internal void Extend(CommandContext context, ReadOnlySpan<byte> parameters)
    {
        if (context.CommandAuditHash.Length == 0)
        {
            return;
        }

        AlgorithmId hash = tpm.Persistent.AuditHash;
        IHashState state = tpm.Cryptography.StartHash(hash);
        state.Update(tpm.ResetState.CommandAuditDigest);
        state.Update(context.CommandAuditHash);
        state.Update(SessionArea.ResponseHash(context, hash, parameters));
        tpm.ResetState.CommandAuditDigest = state.Finish();
    }
}
