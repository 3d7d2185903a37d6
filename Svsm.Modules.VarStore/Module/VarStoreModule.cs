// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// UEFI variables as a module of an image: protocol 4, for OVMF.
//
//   1 REQUEST   in: RCX address of a message, of a page; RDX bytes of the buffer that it is in, 24 to 256 KiB. The answer takes the place of its payload
//
// What a message is, is VariableStore's matter. The message is copied once; what the guest does with its memory meanwhile changes nothing.
//
//   What happens                                                                      RAX
//   the answer is there, whatever EFI_STATUS it has                                   SUCCESS
//   address 0; a buffer that is too small or too large; a payload that is longer      INVALID_PARAMETER
//     than the buffer or too short for its receiver; another receiver
//   an address that is not of a page; memory that is not the guest's                  INVALID_ADDRESS
//   another call                                                                      UNSUPPORTED_CALL
//
// A buffer that the guest may not write is found before anything is done, so a call that ends with an address has had no effect, unless the guest gave the
// page away meanwhile.
//
// The image may bring keys for secure boot: the files /secureboot/PK, KEK, db and dbx, signature lists or a certificate in DER each. Bad ones end the module
// when it starts: better no variables than secure boot that nobody asked for.
//
// With a guest that moves to another SVSM go all variables, policies and phases. Variables that are stored go only to where there is a store as well.
//
//   state, version 1     u32 flags, little-endian: bit 0 variables are stored | MovedVariables
//
// Manifest, version 0: u32 0 | u32 flags: bit 0 variables survive the VM, bit 1 secure boot is on, bit 2 db and dbx can change, bit 3 an older state of
// them would have been refused.
//
// Source: the draft of the UEFI MM protocol as COCONUT-SVSM kernel/src/protocols/uefivars.rs and EDK2 OvmfPkg/VirtMmCommunicationDxe/Svsm.c have it.

using System;
using System.Buffers.Binary;
using System.IO;
using Svsm.Core;
using Svsm.Wire;

namespace Svsm.Modules.VarStore;

/// <summary>UEFI variables.</summary>
[SvsmProtocol(4, Service = "a4453a59-9e1b-4787-a033-1986d6adbe55")]
public sealed class VarStoreModule : SvsmModule
{
    /// <summary>The largest buffer.</summary>
    public const int MaxBufferLength = 0x4_0000;

    private const uint Request = 1;
    private const int ManifestLength = 8;
    private const uint PersistentFlag = 1;
    private const uint SecureBootFlag = 2;
    private const uint UpdatesFlag = 4;
    private const uint RollbackFlag = 8;
    private const uint FirstStateVersion = 1;
    private const uint StoredFlag = 1;
    private const string KeyFolder = "/secureboot/";

    private readonly byte[] _message = new byte[MaxBufferLength];
    private IVariableStorage? _storage;
    private SecureBootKeys? _keys;
    private VariableStore? _store;
    private bool _detectsRollback;

    /// <summary>Makes the module of an image.</summary>
    public VarStoreModule()
        : this(null, null)
    {
    }

    internal VarStoreModule(IVariableStorage? storage, SecureBootKeys? keys)
    {
        _storage = storage;
        _keys = keys;
    }

    /// <inheritdoc/>
    protected override uint StateVersion => FirstStateVersion;

    /// <inheritdoc/>
    protected override void Start()
    {
        _keys ??= ReadKeys();
        _storage ??= FindStorage();
        VariableStoreResult result = VariableStore.TryOpen(_storage, _keys, out _store);
        if (result != VariableStoreResult.Done)
        {
            // Before there are callers: nothing that could be answered. The process ends, and the guest has no variables.
            throw new InvalidOperationException(result switch
            {
                VariableStoreResult.BadKeys => $"the keys in {KeyFolder} are not signature lists or certificates with RSA keys, with one of them in PK",
                VariableStoreResult.Damaged => "the stored variables cannot be read",
                _ => "the variables cannot be stored",
            });
        }

        Log.Information($"UEFI variables: {(_storage.IsPersistent ? "stored" : "they end with the VM")}, secure boot {(_store!.IsSecureBootOn ? "on" : "off")}");
    }

    /// <inheritdoc/>
    protected override SvsmResult Handle(in SvsmRequest request) =>
        request.Call == Request ? Execute(new PhysicalAddress(request.Rcx), request.Rdx) : SvsmResultCode.UnsupportedCall;

    /// <inheritdoc/>
    protected override bool TryGetManifest(uint version, out ReadOnlyMemory<byte> manifest)
    {
        if (version != 0)
        {
            manifest = default;
            return false;
        }

        byte[] bytes = new byte[ManifestLength];
        uint flags = (_storage!.IsPersistent ? PersistentFlag : 0) | (_store!.IsSecureBootOn ? SecureBootFlag : 0) | (_store.AreDatabaseUpdatesAllowed ? UpdatesFlag : 0) | (_detectsRollback ? RollbackFlag : 0);
        BinaryPrimitives.WriteUInt32LittleEndian(bytes.AsSpan(sizeof(uint)), flags);
        manifest = bytes;
        return true;
    }

    /// <inheritdoc/>
    protected override void Reset() => _store!.Reset();

    /// <inheritdoc/>
    protected override ReadOnlyMemory<byte> SaveState()
    {
        byte[] state = _store!.Save(sizeof(uint));
        BinaryPrimitives.WriteUInt32LittleEndian(state, _storage!.IsPersistent ? StoredFlag : 0);
        return state;
    }

    /// <inheritdoc/>
    protected override bool TryRestoreState(uint version, ReadOnlyMemory<byte> state)
    {
        if (version != FirstStateVersion || state.Length < sizeof(uint))
        {
            return false;
        }

        uint flags = BinaryPrimitives.ReadUInt32LittleEndian(state.Span);
        if ((flags & ~StoredFlag) != 0)
        {
            return false;
        }

        if (flags == StoredFlag && !_storage!.IsPersistent)
        {
            Log.Error("the variables of the guest that comes are stored ones, and this image has no store for them");
            return false;
        }

        VariableStoreResult result = _store!.TryRestore(state.Span[sizeof(uint)..], out VariableStore? store);
        if (result != VariableStoreResult.Done)
        {
            Log.Error($"the variables of the guest that comes cannot be {(result == VariableStoreResult.StorageFailed ? "stored" : "read")}");
            return false;
        }

        _store = store;
        Log.Information($"the UEFI variables of the guest that comes{(_storage!.IsPersistent ? ", stored" : "")}");
        return true;
    }

    // Where the image keeps a store that is not open, there are no variables: never none in the place of those that were.
    private IVariableStorage FindStorage()
    {
        StoreStatus status = Store.TryDescribe(out StoreDescription description);
        _detectsRollback = status == StoreStatus.Done && description.IsRollbackDetected;
        return status switch
        {
            StoreStatus.Done => new StoredVariables(Store, Log),
            StoreStatus.NotThere => new MemoryVariableStorage(),
            _ => throw new InvalidOperationException($"the stored variables cannot be had: {status}"),
        };
    }

    private static SecureBootKeys? ReadKeys()
    {
        byte[] platformKey = ReadKey("PK");
        byte[] keyExchangeKeys = ReadKey("KEK");
        byte[] allowed = ReadKey("db");
        byte[] forbidden = ReadKey("dbx");
        return platformKey.Length + keyExchangeKeys.Length + allowed.Length + forbidden.Length == 0 ? null : new(platformKey, keyExchangeKeys, allowed, forbidden);
    }

    private static byte[] ReadKey(string name)
    {
        try
        {
            return File.ReadAllBytes(KeyFolder + name);
        }
        catch (Exception exception) when (exception is FileNotFoundException or DirectoryNotFoundException)
        {
            return [];
        }
    }

    private SvsmResult Execute(PhysicalAddress address, ulong untrustedLength)
    {
        if (address.Value == 0 || untrustedLength is < VariableStore.MessageHeaderLength or > MaxBufferLength)
        {
            return SvsmResultCode.InvalidParameter;
        }

        Span<byte> header = stackalloc byte[VariableStore.MessageHeaderLength];
        if (!address.IsPageAligned || !Guest.TryRead(address, header))
        {
            return SvsmResultCode.InvalidAddress;
        }

        if (!VariableStore.TryReadHeader(header, (int)untrustedLength, out int payloadLength))
        {
            return SvsmResultCode.InvalidParameter;
        }

        Memory<byte> payload = _message.AsMemory(0, payloadLength);
        var place = new PhysicalAddress(address.Value + VariableStore.MessageHeaderLength);
        if (!Guest.TryRead(place, payload.Span) || !Guest.TryWrite(place, payload.Span))
        {
            return SvsmResultCode.InvalidAddress;
        }

        _store!.Execute(header, payload, (int)untrustedLength);
        return Guest.TryWrite(place, payload.Span) ? SvsmResultCode.Success : SvsmResultCode.InvalidAddress;
    }
}
