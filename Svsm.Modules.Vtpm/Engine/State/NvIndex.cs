// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Buffers.Binary;
using System.Security.Cryptography;
using Svsm.Modules.Vtpm.Crypto;
using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.State;

// NV indices: data with a handle, a Name and an authorisation of its own. All of them are durable at once. Those that say ORDERLY may lose
// what was not followed by TPM2_Shutdown; here they lose it at the next startup, so that clients see the same as with other TPMs.
//
// Source: TCG TPM 2.0 Library, Part 1, "NV Memory"; Part 2, "NV Storage Structures".

/// <summary>TPM_NT: what an index is.</summary>
internal enum NvType
{
    Ordinary = 0,
    Counter = 1,
    Bits = 2,
    Extend = 4,
    PinFail = 8,
    PinPass = 9,
}

/// <summary>TPMA_NV.</summary>
[Flags]
internal enum NvAttributes : uint
{
    None = 0,
    PlatformWrite = 1u << 0,
    OwnerWrite = 1u << 1,
    AuthWrite = 1u << 2,
    PolicyWrite = 1u << 3,

    /// <summary>TPM_NT.</summary>
    TypeMask = 0xF0,
    PolicyDelete = 1u << 10,
    WriteLocked = 1u << 11,
    WriteAll = 1u << 12,
    WriteDefine = 1u << 13,
    WriteStClear = 1u << 14,
    GlobalLock = 1u << 15,
    PlatformRead = 1u << 16,
    OwnerRead = 1u << 17,
    AuthRead = 1u << 18,
    PolicyRead = 1u << 19,
    NoDictionaryAttack = 1u << 25,
    Orderly = 1u << 26,
    ClearStClear = 1u << 27,
    ReadLocked = 1u << 28,
    Written = 1u << 29,
    PlatformCreate = 1u << 30,
    ReadStClear = 1u << 31,
}

/// <summary>TPMS_NV_PUBLIC.</summary>
[TpmStructure]
internal readonly partial record struct NvPublic(
    [HandleParameter(HandleKind.NvIndex)] TpmHandle Index,
    [Algorithm(AlgorithmUse.Hash)] AlgorithmId NameHash,
    NvAttributes Attributes,
    [Size(TpmLimits.MaxDigest)] byte[] Policy,
    ushort DataSize)
{
    internal bool Has(NvAttributes attribute) => (Attributes & attribute) != 0;

    internal NvType Type => (NvType)((uint)(Attributes & NvAttributes.TypeMask) >> 4);
}

/// <summary>An NV index.</summary>
[TpmStructure]
internal sealed partial class NvIndex
{
    internal NvPublic Public;
    [Size(TpmLimits.MaxDigest)]
    internal byte[] Auth = [];
    [Size(TpmLimits.MaxNvIndex)]
    internal byte[] Data = [];

    internal NvType Type => Public.Type;

    internal NvAttributes Attributes
    {
        get => Public.Attributes;
        set => Public = Public with { Attributes = value };
    }

    /// <summary>Of counters, bits and PINs.</summary>
    internal ulong Value
    {
        get => BinaryPrimitives.ReadUInt64BigEndian(Data);
        set => BinaryPrimitives.WriteUInt64BigEndian(Data, value);
    }

    internal bool IsPin => Type is NvType.PinFail or NvType.PinPass;

    /// <summary>Whether a PIN authorises nothing: it was never set, or was used as often as it may be.</summary>
    internal bool IsPinUsedUp => IsPin && (!Has(NvAttributes.Written) || PinCount >= PinLimit);

    /// <summary>How often a PIN was wrong, or right.</summary>
    internal uint PinCount
    {
        get => (uint)(Value >> 32);
        set => Value = ((ulong)value << 32) | (uint)Value;
    }

    /// <summary>How often a PIN may be wrong, or right.</summary>
    internal uint PinLimit => (uint)Value;

    internal bool Has(NvAttributes attribute) => Public.Has(attribute);

    internal byte[] Name(ICryptography cryptography)
    {
        var writer = new TpmWriter(new byte[128]);
        Public.Write(ref writer);
        byte[] digest = cryptography.Hash(Public.NameHash, writer.Written);
        return [(byte)((ushort)Public.NameHash >> 8), (byte)Public.NameHash, .. digest];
    }

    /// <summary>Whether the index may be read with the authorisation of a handle.</summary>
    /// <returns>TPM_RC_NV_LOCKED, TPM_RC_NV_AUTHORIZATION, TPM_RC_NV_UNINITIALIZED.</returns>
    internal TpmResponseCode CheckRead(TpmHandle auth)
        => Has(NvAttributes.ReadLocked) ? TpmResponseCode.NvLocked
            : !IsAuthorized(auth, NvAttributes.OwnerRead, NvAttributes.PlatformRead) ? TpmResponseCode.NvAuthorization
            : !Has(NvAttributes.Written) ? TpmResponseCode.NvUninitialized
            : TpmResponseCode.Success;

    /// <summary>Whether the index may be written with the authorisation of a handle.</summary>
    /// <returns>TPM_RC_NV_LOCKED, TPM_RC_NV_AUTHORIZATION.</returns>
    internal TpmResponseCode CheckWrite(TpmHandle auth)
        => Has(NvAttributes.WriteLocked) ? TpmResponseCode.NvLocked
            : !IsAuthorized(auth, NvAttributes.OwnerWrite, NvAttributes.PlatformWrite) ? TpmResponseCode.NvAuthorization
            : TpmResponseCode.Success;

    // With the index's own authorisation the right was checked when that was.
    private bool IsAuthorized(TpmHandle auth, NvAttributes owner, NvAttributes platform)
        => auth == TpmHandle.Owner ? Has(owner)
            : auth == TpmHandle.Platform ? Has(platform)
            : auth == Public.Index;
}

/// <summary>The NV indices of a TPM.</summary>
internal sealed class NvIndices(Tpm tpm)
{
    // An orderly counter that was not shut down goes on after the end of the interval that it was in (TPM_PT_ORDERLY_COUNT).
    internal const ulong OrderlyCount = 0xFF;

    internal NvIndex? Find(TpmHandle handle)
    {
        if (handle.Type != HandleType.NvIndex)
        {
            return null;
        }

        foreach (NvIndex index in tpm.Persistent.NvIndices)
        {
            if (index.Public.Index == handle)
            {
                return index;
            }
        }

        return null;
    }

    /// <summary>Whether the hierarchy of the index's creator is on.</summary>
    internal bool IsAccessible(NvIndex index)
        => index.Has(NvAttributes.PlatformCreate) ? tpm.ClearState.IsPlatformNvEnabled : tpm.ClearState.IsOwnerEnabled;

    /// <summary>Defines an index; its attributes were checked.</summary>
    /// <returns>TPM_RC_NV_DEFINED when the handle is taken, TPM_RC_NV_SPACE when there is no room.</returns>
    internal TpmResponseCode Add(in NvPublic area, byte[] auth)
    {
        if (Find(area.Index) is not null)
        {
            return TpmResponseCode.NvDefined;
        }

        if (!NvStorage.HasRoom(tpm, area.DataSize))
        {
            return TpmResponseCode.NvSpace;
        }

        NvIndex[] indices = [.. tpm.Persistent.NvIndices, new NvIndex { Public = area, Auth = auth, Data = new byte[area.DataSize] }];
        Array.Sort(indices, static (a, b) => a.Public.Index.Value.CompareTo(b.Public.Index.Value));
        tpm.Persistent.NvIndices = indices;
        tpm.MarkDirty();
        return TpmResponseCode.Success;
    }

    internal void Remove(Predicate<NvIndex> match)
    {
        foreach (NvIndex index in Array.FindAll(tpm.Persistent.NvIndices, match))
        {
            if (index.Type == NvType.Counter && index.Has(NvAttributes.Written))
            {
                tpm.Persistent.NvMaxCount = Math.Max(tpm.Persistent.NvMaxCount, index.Value);
            }

            CryptographicOperations.ZeroMemory(index.Auth);
            CryptographicOperations.ZeroMemory(index.Data);
            tpm.Persistent.NvIndices = Array.FindAll(tpm.Persistent.NvIndices, i => i != index);
            tpm.MarkDirty();
        }
    }

    /// <summary>The index has another value.</summary>
    internal void MarkWritten(NvIndex index)
    {
        index.Attributes |= NvAttributes.Written;
        tpm.MarkDirty();
    }

    /// <summary>What a startup does; a TPM Resume leaves everything as it is.</summary>
    internal void Startup(bool isResume, bool wasOrderly)
    {
        foreach (NvIndex index in tpm.Persistent.NvIndices)
        {
            if (!wasOrderly && index.Has(NvAttributes.Orderly) && index.Has(NvAttributes.Written))
            {
                if (index.Type == NvType.Counter)
                {
                    index.Value |= OrderlyCount;
                }
                else
                {
                    index.Attributes &= ~NvAttributes.Written;
                    index.Data.AsSpan().Clear();
                }
            }

            if (isResume)
            {
                continue;
            }

            index.Attributes &= ~NvAttributes.ReadLocked;
            if (index.Has(NvAttributes.ClearStClear))
            {
                index.Attributes &= ~NvAttributes.Written;
            }

            if (!index.Has(NvAttributes.WriteDefine) || !index.Has(NvAttributes.Written))
            {
                index.Attributes &= ~NvAttributes.WriteLocked;
            }
        }
    }
}
