// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The engine: what a message of the guest's firmware does, and what becomes of a start of the guest. For the module and for tools.
//
// A message is what EDK2 calls an MM communication buffer: 00 GUID of who it is for | 10 u64 bytes of the payload | 18 payload. The answer takes the
// place of the payload, and is as long.
//
//   Receiver                                       Payload
//   ed32d533-99e6-4209-9cc0-2d72cdd998a7           VariableMessages
//   da1b0d11-d1a7-46c4-9dc9-f3714875c6eb           PolicyMessages
//   02ce967a-dd7e-4ffc-9ee7-810cf0470880           DXE ends; anything
//   7ce88fb3-4bd7-4679-87a8-a8d8dee50d2b           ready to boot; anything
//   27abf055-b1b8-4c26-8048-748f37baa2df           ExitBootServices; anything
//
// Source: EDK2 MdePkg/Include/Protocol/MmCommunication2.h, OvmfPkg/VirtMmCommunicationDxe (the notifications are a byte of 0).

using System;
using System.Buffers.Binary;

namespace Svsm.Modules.VarStore;

/// <summary>What became of opening a store.</summary>
public enum VariableStoreResult
{
    /// <summary>It is open.</summary>
    Done,

    /// <summary>The storage cannot be read, or holds what is no store.</summary>
    Damaged,

    /// <summary>The storage did not take a change.</summary>
    StorageFailed,

    /// <summary>The keys for secure boot are none: not signature lists with RSA certificates, not one in PK, or too long; dbx also together with what is stored.</summary>
    BadKeys,
}

/// <summary>UEFI variables.</summary>
public sealed class VariableStore
{
    /// <summary>Bytes before the payload of a message.</summary>
    public const int MessageHeaderLength = 24;

    private const int PayloadLengthOffset = 16;

    private static readonly Guid s_variables = new(0xed32d533, 0x99e6, 0x4209, 0x9c, 0xc0, 0x2d, 0x72, 0xcd, 0xd9, 0x98, 0xa7); // ed32d533-99e6-4209-9cc0-2d72cdd998a7
    private static readonly Guid s_policies = new(0xda1b0d11, 0xd1a7, 0x46c4, 0x9d, 0xc9, 0xf3, 0x71, 0x48, 0x75, 0xc6, 0xeb); // da1b0d11-d1a7-46c4-9dc9-f3714875c6eb
    private static readonly Guid s_endOfDxe = new(0x02ce967a, 0xdd7e, 0x4ffc, 0x9e, 0xe7, 0x81, 0x0c, 0xf0, 0x47, 0x08, 0x80); // 02ce967a-dd7e-4ffc-9ee7-810cf0470880
    private static readonly Guid s_readyToBoot = new(0x7ce88fb3, 0x4bd7, 0x4679, 0x87, 0xa8, 0xa8, 0xd8, 0xde, 0xe5, 0x0d, 0x2b); // 7ce88fb3-4bd7-4679-87a8-a8d8dee50d2b
    private static readonly Guid s_exitBootServices = new(0x27abf055, 0xb1b8, 0x4c26, 0x80, 0x48, 0x74, 0x8f, 0x37, 0xba, 0xa2, 0xdf); // 27abf055-b1b8-4c26-8048-748f37baa2df

    private readonly VariableMessages _variableMessages;
    private readonly PolicyMessages _policyMessages;

    private readonly VariableTable _table;

    private VariableStore(VariableTable table, VariableService service)
    {
        _table = table;
        Service = service;
        _variableMessages = new(service);
        _policyMessages = new(service.Policies);
    }

    /// <summary>Whether secure boot is on: the guest's firmware runs nothing that <c>db</c> does not allow.</summary>
    public bool IsSecureBootOn => Service.SecureBoot.IsOn;

    /// <summary>Whether <c>db</c> or <c>dbx</c> can change: there is somebody whose signature would be taken, or none is asked for.</summary>
    public bool AreDatabaseUpdatesAllowed => Service.SecureBoot.AreUpdatesAllowed;

    internal VariableService Service { get; }

    /// <summary>Opens a store, and has the guest start.</summary>
    /// <param name="storage">Keeps the non-volatile variables.</param>
    /// <param name="keys">Keys that the image brings; null: none.</param>
    /// <param name="store">The store, or null.</param>
    /// <returns>What became of it.</returns>
    public static VariableStoreResult TryOpen(IVariableStorage storage, SecureBootKeys? keys, out VariableStore? store)
    {
        ArgumentNullException.ThrowIfNull(storage);
        store = null;
        var table = new VariableTable(storage);
        if (!table.TryLoad())
        {
            return VariableStoreResult.Damaged;
        }

        var service = new VariableService(table);
        VariableStoreResult result = keys is null ? VariableStoreResult.Done : service.SecureBoot.Enrol(keys);
        if (result == VariableStoreResult.Done)
        {
            service.Start();
            store = new VariableStore(table, service);
        }

        return result;
    }

    /// <summary>Looks at the head of a message.</summary>
    /// <param name="header">Its first <see cref="MessageHeaderLength"/> bytes. Untrusted.</param>
    /// <param name="bufferLength">Bytes of the buffer that it is in, at least <see cref="MessageHeaderLength"/>.</param>
    /// <param name="payloadLength">Bytes of the payload, which is in the buffer.</param>
    /// <returns>False: the payload is longer than the buffer, or too short for its receiver, or there is no such receiver.</returns>
    public static bool TryReadHeader(ReadOnlySpan<byte> header, int bufferLength, out int payloadLength)
    {
        ulong untrustedLength = BinaryPrimitives.ReadUInt64LittleEndian(header[PayloadLengthOffset..]);
        payloadLength = 0;
        if (untrustedLength > (ulong)(bufferLength - MessageHeaderLength))
        {
            return false;
        }

        var receiver = new Guid(header[..PayloadLengthOffset]);
        int shortest = receiver == s_variables ? VariableMessages.HeaderLength
            : receiver == s_policies ? PolicyMessages.HeaderLength
            : receiver == s_endOfDxe || receiver == s_readyToBoot || receiver == s_exitBootServices ? 0
            : int.MaxValue;
        payloadLength = (int)untrustedLength;
        return payloadLength >= shortest;
    }

    /// <summary>Does what a message says, and answers it in place.</summary>
    /// <param name="header">Its head, for which <see cref="TryReadHeader"/> returned true.</param>
    /// <param name="payload">Its payload, which the answer replaces: a copy that nobody else changes.</param>
    /// <param name="bufferLength">Bytes of the guest's buffer: what it may send at once.</param>
    public void Execute(ReadOnlySpan<byte> header, Memory<byte> payload, int bufferLength)
    {
        var receiver = new Guid(header[..PayloadLengthOffset]);
        if (receiver == s_variables)
        {
            _variableMessages.Answer(payload, bufferLength - MessageHeaderLength);
        }
        else if (receiver == s_policies)
        {
            _policyMessages.Answer(payload.Span);
        }
        else if (receiver == s_endOfDxe)
        {
            Service.EndDxe();
        }
        else if (receiver == s_readyToBoot)
        {
            Service.GetReadyToBoot();
        }
        else if (receiver == s_exitBootServices)
        {
            Service.ExitBootServices();
        }
    }

    /// <summary>Gives everything that the guest relies on, for <see cref="TryRestore"/>. It goes on as if nothing had been.</summary>
    /// <param name="before">Bytes of zero in front of the state, for whoever asks.</param>
    /// <returns>The state, at most 980 KiB, behind so many bytes.</returns>
    public byte[] Save(int before = 0)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(before);
        return MovedVariables.Save(before, _table, Service, _policyMessages);
    }

    /// <summary>Makes a store with the state of another one, in the place of this one, which is not to be used any more.</summary>
    /// <param name="state">What <see cref="Save"/> gave. Untrusted: every length, name and number is checked.</param>
    /// <param name="store">The store. It has the storage of this one, which has the other's variables now.</param>
    /// <returns><see cref="VariableStoreResult.Damaged"/>: the state is none, and this store is as it was; <see cref="VariableStoreResult.StorageFailed"/>:
    /// the storage did not take all of it.</returns>
    public VariableStoreResult TryRestore(ReadOnlySpan<byte> state, out VariableStore? store)
    {
        store = null;
        var table = new VariableTable(_table.Storage);
        var restored = new VariableStore(table, new VariableService(table));
        if (!MovedVariables.TryRestore(state, table, restored.Service, restored._policyMessages))
        {
            return VariableStoreResult.Damaged;
        }

        if (!table.TryStoreInsteadOf(_table))
        {
            return VariableStoreResult.StorageFailed;
        }

        store = restored;
        return VariableStoreResult.Done;
    }

    /// <summary>The guest starts anew.</summary>
    public void Reset()
    {
        Service.Start();
        _policyMessages.Clear();
    }
}
