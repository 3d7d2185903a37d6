// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Buffers.Binary;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Dispatch;

// From the bytes of a command to the bytes of its response. The order of the checks decides which error a bad command gets, so it is the
// specification's:
//
//   header     tag, size, code; failure mode; Startup first                       (TPM_RC_BAD_TAG, _COMMAND_SIZE, _COMMAND_CODE, ...)
//   handles    each of the kind that the command takes, each refers to something  (handle number)
//   sessions   read, consistent, authorise the handles, decrypt                   (session number; SessionArea)
//   parameters each read and checked, nothing left over                           (parameter number; generated Run)
//   action     Execute of the command
//   response   header, handle, parameter size, parameters, sessions
//
// Source: TCG TPM 2.0 Library, Part 3, "Command Processing"; Part 1, "Command/Response Structure".
internal static class Dispatcher
{
    internal const int HeaderSize = 10;

    /// <summary>Does a command.</summary>
    /// <param name="tpm">The TPM.</param>
    /// <param name="command">The engine's own copy; parameters are decrypted in it.</param>
    /// <param name="locality">Where the command comes from.</param>
    /// <param name="response">Room for the largest response.</param>
    /// <param name="context">The command; <see cref="Continue"/> goes on with it.</param>
    /// <returns>The size of the response; 0 when the command has to be continued.</returns>
    internal static int Run(Tpm tpm, Memory<byte> command, byte locality, Span<byte> response, out CommandContext? context)
    {
        context = null;
        TpmResponseCode code = ReadHeader(tpm, command.Span, out StructureTag tag, out CommandDescriptor? descriptor);
        if (code != TpmResponseCode.Success)
        {
            return WriteError(response, code);
        }

        context = new CommandContext(tpm, descriptor!, locality) { Tag = tag };
        tpm.BeginCommand(descriptor!.Code);
        var reader = new TpmReader(command[HeaderSize..]);
        if ((code = ReadHandles(context, ref reader)) != TpmResponseCode.Success)
        {
            return WriteError(response, code);
        }

        Memory<byte> parameters = command[^reader.Remaining..];
        code = tag == StructureTag.Sessions ? SessionArea.Read(context, ref parameters) : CheckNoAuthorization(descriptor);
        if (code != TpmResponseCode.Success)
        {
            return WriteError(response, code);
        }

        if (tag == StructureTag.NoSessions)
        {
            tpm.CommandAudit.Begin(context, parameters.Span);
        }

        context.Parameters = parameters;
        return Continue(context, response);
    }

    /// <summary>A response that is a header only.</summary>
    internal static int WriteError(Span<byte> response, TpmResponseCode code)
    {
        var writer = new TpmWriter(response);
        writer.WriteUInt16((ushort)(code == TpmResponseCode.BadTag ? StructureTag.ResponseCommand : StructureTag.NoSessions));
        writer.WriteUInt32(HeaderSize);
        writer.WriteUInt32((uint)code);
        return writer.Length;
    }

    private static TpmResponseCode ReadHeader(Tpm tpm, ReadOnlySpan<byte> command, out StructureTag tag, out CommandDescriptor? descriptor)
    {
        tag = default;
        descriptor = null;
        if (command.Length < sizeof(ushort))
        {
            return TpmResponseCode.Insufficient;
        }

        tag = (StructureTag)BinaryPrimitives.ReadUInt16BigEndian(command);
        if (tag is not (StructureTag.NoSessions or StructureTag.Sessions))
        {
            return TpmResponseCode.BadTag;
        }

        if (command.Length < HeaderSize)
        {
            return command.Length < 6 ? TpmResponseCode.Insufficient
                : BinaryPrimitives.ReadUInt32BigEndian(command[2..]) != (uint)command.Length ? TpmResponseCode.CommandSize
                : TpmResponseCode.Insufficient;
        }

        if (BinaryPrimitives.ReadUInt32BigEndian(command[2..]) != (uint)command.Length)
        {
            return TpmResponseCode.CommandSize;
        }

        descriptor = CommandTable.Find(BinaryPrimitives.ReadUInt32BigEndian(command[6..]));
        if (tpm.IsFailed)
        {
            return descriptor is not null && descriptor.Traits.HasFlag(CommandTraits.FailureMode) && tag == StructureTag.NoSessions
                ? TpmResponseCode.Success
                : TpmResponseCode.Failure;
        }

        return descriptor is null ? TpmResponseCode.CommandCode
            : tpm.IsStarted || descriptor.Code == CommandCode.Startup ? TpmResponseCode.Success
            : TpmResponseCode.Initialize;
    }

    private static TpmResponseCode ReadHandles(CommandContext context, ref TpmReader reader)
    {
        HandleDescriptor[] handles = context.Command.Handles;
        for (int i = 0; i < handles.Length; i++)
        {
            TpmResponseCode code = reader.ReadHandle(handles[i].Kind, handles[i].OrNull, out context.Handles[i]);
            if (code != TpmResponseCode.Success)
            {
                return code.At(ErrorPlace.Handle(i + 1));
            }
        }

        for (int i = 0; i < handles.Length; i++)
        {
            TpmResponseCode code = Entities.CheckPresent(context.Tpm, context.Handles[i], i);
            if (code != TpmResponseCode.Success)
            {
                return code;
            }

            context.Names[i] = Entities.Name(context.Tpm, context.Handles[i]);
        }

        // Before any authorisation: a failed one would change something too.
        return context.Tpm.ClearState.IsReadOnly && IsRefusedReadOnly(context) ? TpmResponseCode.ReadOnly : TpmResponseCode.Success;
    }

    // Source: TCG TPM 2.0 Library 1.84, Part 3, TPM2_ReadOnlyControl, with its table of commands.
    private static bool IsRefusedReadOnly(CommandContext context)
    {
        CommandTraits traits = context.Command.Traits;
        return traits.HasFlag(CommandTraits.NotReadOnly)
            || (traits.HasFlag(CommandTraits.TemporaryIndexOnly)
                && Array.Exists(context.Handles, h => context.Tpm.Nv.Find(h) is NvIndex index && !(index.Has(NvAttributes.Orderly) && index.Has(NvAttributes.ClearStClear))))
            || (traits.HasFlag(CommandTraits.NoPinReadOnly) && Array.Exists(context.Handles, h => context.Tpm.Nv.Find(h) is { IsPin: true }));
    }

    private static TpmResponseCode CheckNoAuthorization(CommandDescriptor descriptor)
        => Array.Exists(descriptor.Handles, h => h.Role != AuthorizationRole.None) ? TpmResponseCode.AuthMissing : TpmResponseCode.Success;

    /// <summary>Does the action of a command whose handles and sessions are checked, or goes on with it.</summary>
    /// <returns>The size of the response; 0 when the command has to be continued.</returns>
    internal static int Continue(CommandContext context, Span<byte> response)
    {
        CommandDescriptor descriptor = context.Command;
        bool hasSessions = context.Tag == StructureTag.Sessions;
        int start = HeaderSize + (descriptor.HasResponseHandle ? sizeof(uint) : 0) + (hasSessions ? sizeof(uint) : 0);
        var reader = new TpmReader(context.Parameters);
        var writer = new TpmWriter(response[start..]);
        TpmResponseCode code = descriptor.Run(context, ref reader, ref writer);
        if (code == CommandContext.Unfinished)
        {
            return 0;
        }

        context.EndWork();
        if (code == TpmResponseCode.Success)
        {
            context.Tpm.CommandAudit.Count(context);
        }

        if (code == TpmResponseCode.Success && !context.Tpm.EndCommand())
        {
            code = TpmResponseCode.Failure;
        }

        if (code != TpmResponseCode.Success)
        {
            return WriteError(response, code);
        }

        int size = start + writer.Length;
        if (hasSessions)
        {
            size += SessionArea.Write(context, response.Slice(start, writer.Length), response[size..]);
        }
        else
        {
            context.Tpm.Sessions.ExclusiveAuditSession = TpmHandle.Unassigned;
        }

        context.Tpm.CommandAudit.Extend(context, response.Slice(start, writer.Length));
        if (context.FlushAfterResponse != TpmHandle.Unassigned)
        {
            context.Tpm.Objects.Remove(context.FlushAfterResponse);
        }

        var header = new TpmWriter(response);
        header.WriteUInt16((ushort)context.Tag);
        header.WriteUInt32((uint)size);
        header.WriteUInt32((uint)TpmResponseCode.Success);
        if (descriptor.HasResponseHandle)
        {
            context.ResponseHandle.Write(ref header);
        }

        if (hasSessions)
        {
            header.WriteUInt32((uint)writer.Length);
        }

        return size;
    }
}
