// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.State;

/// <summary>A persistent object: its handle and what <see cref="KeyObject.Save"/> wrote.</summary>
[TpmStructure]
internal readonly partial record struct StoredObject(TpmHandle Handle, [Size(TpmLimits.MaxContext)] byte[] Blob);

// How much room persistent objects and NV indices have together.
internal static class NvStorage
{
    /// <summary>Bytes that an entry takes besides its data.</summary>
    internal const int Overhead = 64;

    /// <summary>Whether an entry of a size still fits.</summary>
    internal static bool HasRoom(Tpm tpm, int size) => size + Overhead <= TpmLimits.NvCapacity - Used(tpm);

    internal static int Used(Tpm tpm)
    {
        int used = 0;
        foreach (StoredObject stored in tpm.Persistent.Objects)
        {
            used += stored.Blob.Length + Overhead;
        }

        foreach (NvIndex index in tpm.Persistent.NvIndices)
        {
            used += index.Data.Length + index.Auth.Length + index.Public.Policy.Length + Overhead;
        }

        return used;
    }
}
