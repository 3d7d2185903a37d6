// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Generic;
using System.Numerics;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.State;

// Reads the permanent state that swtpm with libtpms 0.9 writes (tpm2-00.permall), not encrypted. Numbers are big-endian.
//
//   file        version 2, lowest version 1, UINT16 header size 10, UINT16 flags 0, UINT32 file size; UINT16 1, UINT32 size, state
//   state       header; constants; persistent data; orderly data; indices in RAM; user NVRAM; block; UINT32 magic of the header
//   header      UINT16 version, UINT32 magic, UINT16 lowest version that can read it
//   block       YES, UINT16 size, so many bytes that an older reader goes over
//
// What a TPM that was shut down with TPM2_Shutdown(CLEAR) has, without persistent objects, is taken; anything else is refused with its name.
//
// Source: the files themselves, and the order of fields in libtpms' description of them.
internal static class SwtpmState
{
    private const uint StateMagic = 0xAB36_4723;
    private const uint ConstantsMagic = 0xC9EA_6431;
    private const uint DataMagic = 0x1221_3443;
    private const uint OrderlyMagic = 0x5665_7887;
    private const uint DrbgMagic = 0x6FE8_3EA1;
    private const uint RamIndicesMagic = 0x5346_FEAB;
    private const uint NvramMagic = 0x094F_22C3;
    private const uint NvIndexMagic = 0x2547_265A;

    // A list of commands in the state is a map of this many bytes at most.
    private const int MaxMap = 64;

    // Before the data of an index in RAM: size, handle, attributes.
    private const int RamHeaderSize = 12;

    /// <summary>Reads a file.</summary>
    /// <param name="file">The file.</param>
    /// <param name="problem">What cannot be taken, when the result is null.</param>
    internal static PersistentState? Read(ReadOnlyMemory<byte> file, out string problem)
    {
        var reader = new Cursor(file);
        var state = new PersistentState();
        bool isRead = ReadFileHead(ref reader, file.Length)
            && reader.Header(StateMagic)
            && ReadConstants(ref reader)
            && ReadData(ref reader, state)
            && ReadOrderly(ref reader, state)
            && ReadIndices(ref reader, state)
            && reader.UInt32(out uint magic) && magic == StateMagic
            && reader.IsAtEnd;
        problem = isRead ? "" : reader.Problem ?? "it is not the permanent state of an swtpm with libtpms 0.9, or it is damaged";
        return isRead ? state : null;
    }

    private static bool ReadFileHead(ref Cursor reader, int size)
        => reader.UInt16(out ushort versions) && versions == 0x0201
            && reader.UInt16(out ushort head) && head == 10
            && reader.UInt16(out ushort flags) && (flags == 0 || reader.Refuse("it is encrypted"))
            && reader.UInt32(out uint total) && total == (uint)size
            && reader.UInt16(out ushort tag) && tag == 1
            && reader.UInt32(out uint data) && data == (uint)size - 16;

    private static bool ReadConstants(ref Cursor reader)
    {
        if (!reader.Header(ConstantsMagic) || !reader.UInt32(out uint count) || count > 1024)
        {
            return false;
        }

        // They say for what sizes libtpms was compiled; what follows says its sizes itself.
        return reader.Skip((int)count * sizeof(uint)) && reader.Block();
    }

    private static bool ReadData(ref Cursor reader, PersistentState state)
    {
        if (!reader.Header(DataMagic)
            || !reader.Flag(out state.IsClearDisabled)
            || !reader.UInt16(out ushort ownerHash) || !reader.UInt16(out ushort endorsementHash) || !reader.UInt16(out ushort lockoutHash)
            || !reader.Sized(out byte[] ownerPolicy) || !reader.Sized(out byte[] endorsementPolicy) || !reader.Sized(out byte[] lockoutPolicy)
            || !reader.Sized(out state.OwnerAuth) || !reader.Sized(out state.EndorsementAuth) || !reader.Sized(out state.LockoutAuth)
            || !reader.Sized(out state.EndorsementSeed) || !reader.Sized(out state.OwnerSeed) || !reader.Sized(out state.PlatformSeed)
            || !reader.Sized(out state.PlatformProof) || !reader.Sized(out state.OwnerProof) || !reader.Sized(out state.EndorsementProof)
            || !reader.UInt64(out state.TotalResetCount) || !reader.UInt32(out state.ResetCount)
            || !reader.Block()
            || !ReadAllocation(ref reader, state)
            || !ReadMap(ref reader, "commands that need physical presence")
            || !reader.UInt32(out state.FailedTries) || !reader.UInt32(out state.MaxTries)
            || !reader.UInt32(out state.RecoveryTime) || !reader.UInt32(out state.LockoutRecovery)
            || !reader.Flag(out state.IsLockoutAuthEnabled)
            || !reader.UInt16(out ushort orderly))
        {
            return false;
        }

        foreach (byte[] secret in (byte[][])[state.EndorsementSeed, state.OwnerSeed, state.PlatformSeed, state.PlatformProof, state.OwnerProof, state.EndorsementProof])
        {
            if (secret.Length != PersistentState.SecretSize)
            {
                return false;
            }
        }

        state.OwnerPolicy = new AuthPolicy((AlgorithmId)ownerHash, ownerPolicy);
        state.EndorsementPolicy = new AuthPolicy((AlgorithmId)endorsementHash, endorsementPolicy);
        state.LockoutPolicy = new AuthPolicy((AlgorithmId)lockoutHash, lockoutPolicy);
        state.Orderly = OrderlyState.Clear;

        // Firmware versions and the epoch of its time are its own.
        return (orderly == (ushort)StartupType.Clear || reader.Refuse("the TPM was not shut down with TPM2_Shutdown(CLEAR)"))
            && ReadMap(ref reader, "audited commands")
            && reader.UInt16(out _) && reader.UInt64(out _)
            && reader.UInt32(out state.AlgorithmSet)
            && reader.Skip(2 * sizeof(uint))
            && reader.Byte(out byte epochSize) && reader.Skip(epochSize)
            && reader.Block();
    }

    private static bool ReadAllocation(ref Cursor reader, PersistentState state)
    {
        if (!reader.UInt32(out uint count) || count > TpmLimits.HashCount)
        {
            return false;
        }

        PcrSelection[] allocation = PcrBanks.DefaultAllocation();
        for (int i = 0; i < allocation.Length; i++)
        {
            allocation[i] = allocation[i] with { Map = 0 };
        }

        for (uint i = 0; i < count; i++)
        {
            if (!reader.UInt16(out ushort hash) || !reader.Byte(out byte size) || size != TpmLimits.PcrSelectSize)
            {
                return false;
            }

            uint map = 0;
            for (int part = 0; part < size; part++)
            {
                if (!reader.Byte(out byte bits))
                {
                    return false;
                }

                map |= (uint)bits << (8 * part);
            }

            int bank = Array.FindIndex(allocation, s => s.Hash == (AlgorithmId)hash);
            if (bank < 0)
            {
                return reader.Refuse($"PCRs of the hash algorithm 0x{hash:X4}");
            }

            allocation[bank] = allocation[bank] with { Map = map };
        }

        state.PcrAllocation = allocation;
        return true;
    }

    // Bits by the place of a command in a table of libtpms: of a TPM on that nobody changed them there is one.
    private static bool ReadMap(ref Cursor reader, string what)
    {
        if (!reader.UInt16(out ushort size) || size > MaxMap)
        {
            return false;
        }

        int set = 0;
        for (int i = 0; i < size; i++)
        {
            if (!reader.Byte(out byte bits))
            {
                return false;
            }

            set += BitOperations.PopCount(bits);
        }

        return set <= 1 || reader.Refuse($"the list of {what} was changed");
    }

    private static bool ReadOrderly(ref Cursor reader, PersistentState state)
        => reader.Header(OrderlyMagic)
            && reader.UInt64(out state.Clock) && reader.Flag(out state.IsClockSafe)
            && reader.Header(DrbgMagic) && reader.Skip(sizeof(ulong) + sizeof(uint))
            && reader.UInt16(out ushort seed) && reader.Skip(seed)
            && reader.UInt16(out ushort words) && reader.Skip(words * sizeof(uint))
            && reader.Block()
            && reader.Block() && reader.Block();

    private static bool ReadIndices(ref Cursor reader, PersistentState state)
    {
        var inRam = new Dictionary<uint, (uint Attributes, byte[] Data)>();
        if (!reader.Header(RamIndicesMagic) || !reader.UInt32(out _))
        {
            return false;
        }

        while (true)
        {
            if (!reader.UInt32(out uint size))
            {
                return false;
            }

            if (size == 0)
            {
                break;
            }

            if (size < RamHeaderSize || !reader.UInt32(out uint handle) || !reader.UInt32(out uint attributes) || !reader.Sized(out byte[] data))
            {
                return false;
            }

            inRam[handle] = (attributes, data);
        }

        if (!reader.Block() || !reader.Header(NvramMagic) || !reader.UInt64(out _))
        {
            return false;
        }

        var indices = new List<NvIndex>();
        while (true)
        {
            if (!reader.UInt32(out uint size))
            {
                return false;
            }

            if (size == 0)
            {
                break;
            }

            if (!reader.UInt32(out uint handle))
            {
                return false;
            }

            if (new TpmHandle(handle).Type == HandleType.Persistent)
            {
                return reader.Refuse($"the persistent object 0x{handle:X8}; remove it with TPM2_EvictControl first");
            }

            if (!ReadIndex(ref reader, inRam, out NvIndex index))
            {
                return false;
            }

            indices.Add(index);
        }

        indices.Sort(static (a, b) => a.Public.Index.Value.CompareTo(b.Public.Index.Value));
        state.NvIndices = [.. indices];
        return reader.UInt64(out state.NvMaxCount) && reader.Block() && reader.Block();
    }

    private static bool ReadIndex(ref Cursor reader, Dictionary<uint, (uint Attributes, byte[] Data)> inRam, out NvIndex index)
    {
        index = new NvIndex();
        if (!reader.Header(NvIndexMagic) || !reader.NvPublic(out index.Public) || !reader.Sized(out index.Auth) || !reader.Block()
            || !reader.UInt32(out uint size) || size > TpmLimits.MaxNvIndex || !reader.Bytes((int)size, out index.Data))
        {
            return false;
        }

        // What is orderly has its state and data in RAM.
        if (inRam.TryGetValue(index.Public.Index.Value, out (uint Attributes, byte[] Data) live))
        {
            index.Attributes = (NvAttributes)live.Attributes;
            index.Data = live.Data;
        }

        return index.Data.Length == index.Public.DataSize;
    }

    // A reader that remembers why it does not go on.
    private ref struct Cursor(ReadOnlyMemory<byte> bytes)
    {
        private TpmReader _reader = new(bytes);

        internal string? Problem { get; private set; }

        internal readonly bool IsAtEnd => _reader.Remaining == 0;

        internal bool Refuse(string problem)
        {
            Problem = problem;
            return false;
        }

        internal bool Byte(out byte value) => _reader.ReadByte(out value) == TpmResponseCode.Success;

        internal bool UInt16(out ushort value) => _reader.ReadUInt16(out value) == TpmResponseCode.Success;

        internal bool UInt32(out uint value) => _reader.ReadUInt32(out value) == TpmResponseCode.Success;

        internal bool UInt64(out ulong value) => _reader.ReadUInt64(out value) == TpmResponseCode.Success;

        internal bool Flag(out bool value) => _reader.ReadYesNo(out value) == TpmResponseCode.Success;

        internal bool Sized(out byte[] value) => _reader.ReadSizedCopy(TpmLimits.MaxNvIndex, out value) == TpmResponseCode.Success;

        internal bool NvPublic(out NvPublic value) => State.NvPublic.Read(ref _reader, out value) == TpmResponseCode.Success;

        internal bool Skip(int count) => _reader.ReadBytes(count, out _) == TpmResponseCode.Success;

        internal bool Bytes(int count, out byte[] value)
        {
            bool read = _reader.ReadBytes(count, out ReadOnlyMemory<byte> slice) == TpmResponseCode.Success;
            value = slice.ToArray();
            return read;
        }

        internal bool Header(uint magic) => UInt16(out _) && UInt32(out uint seen) && seen == magic && UInt16(out _);

        internal bool Block() => Flag(out _) && UInt16(out ushort size) && Skip(size);
    }
}
