// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Buffers.Binary;
using System.Security.Cryptography;
using Svsm.StoreKeys;

namespace Svsm.Keys;

/// <summary>The key of a store whose owner wants it to go from chip to chip: of the secret alone, so whoever has the secret's file has it. docs/keys.md.</summary>
public static class MovableSecret
{
    /// <summary>Whether a file is a secret of <c>svsm keys secret</c>, movable or not.</summary>
    /// <param name="file">All of it.</param>
    public static bool IsSecret(ReadOnlySpan<byte> file) => file.Length == BrokerFormat.SecretLength && file.StartsWith(BrokerFormat.SecretMagic);

    /// <summary>Makes the key of the store, as the SVSM does (Svsm.Modules.Storage/Keys/StoreKey.cs).</summary>
    /// <param name="file">The secret's file.</param>
    /// <param name="key">Gets the key, 32 bytes.</param>
    /// <returns>False: it is no movable secret. Keys that need the chip are made by the chip's SVSM alone.</returns>
    public static bool TryMakeKey(ReadOnlySpan<byte> file, Span<byte> key)
    {
        if (!IsSecret(file) || BinaryPrimitives.ReadUInt32LittleEndian(file[BrokerFormat.SecretFlagsOffset..]) != BrokerFormat.MovableFlag)
        {
            return false;
        }

        HKDF.DeriveKey(HashAlgorithmName.SHA256, file.Slice(BrokerFormat.SecretOffset, BrokerFormat.SecretSize), key, default, "svsm store key 1: broker"u8);
        return true;
    }
}
