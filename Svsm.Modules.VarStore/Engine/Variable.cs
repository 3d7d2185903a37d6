// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// A variable, and what names it. Neither changes: a write makes another one, so that what is not committed leaves no trace.

using System;

namespace Svsm.Modules.VarStore;

/// <summary>What names a variable: the vendor's GUID and a name, compared bit by bit.</summary>
/// <param name="Vendor">GUID of the vendor.</param>
/// <param name="Name">The name without its NUL: any 16-bit units but 0.</param>
internal sealed record VariableId(Guid Vendor, string Name)
{
    /// <summary>Where there is none.</summary>
    public static readonly VariableId None = new(Guid.Empty, "");
}

/// <summary>A variable.</summary>
internal sealed record Variable(VariableId Id, VariableAttributes Attributes, byte[] Data)
{
    // What a variable is counted with beside name and data. EDK2 counts 60 bytes; objects of it in tables take more, and many small ones shall not end the heap.
    private const int HeaderLength = 128;

    /// <summary>Time of the last authenticated write; zero for other variables.</summary>
    public EfiTime Time { get; init; }

    /// <summary>SHA-256 of who signed it first, for authenticated variables other than those of secure boot; else empty.</summary>
    public byte[] Signer { get; init; } = [];

    /// <summary>Its place in the order of names; of a non-volatile one the number of its record as well. 0: none yet.</summary>
    public uint Number { get; init; }

    /// <summary>Whether the storage has it. A non-volatile one that the engine makes itself when the guest starts is not there until it is written.</summary>
    public bool IsStored { get; init; }

    public bool IsNonVolatile => (Attributes & VariableAttributes.NonVolatile) != 0;

    public bool IsAuthenticated => (Attributes & VariableAttributes.TimeBasedAuthenticatedWriteAccess) != 0;

    /// <summary>What it takes of a quota, in bytes.</summary>
    public int Size => Align(HeaderLength + Align(NameLength(Id.Name)) + Align(Data.Length + Signer.Length));

    /// <summary>Whether a variable with these attributes is one for a storage.</summary>
    public static bool CanBeStored(VariableAttributes attributes)
    {
        const VariableAttributes Needed = VariableAttributes.NonVolatile | VariableAttributes.BootServiceAccess;
        const VariableAttributes Allowed = Needed | VariableAttributes.RuntimeAccess | VariableAttributes.TimeBasedAuthenticatedWriteAccess;
        return (attributes & ~Allowed) == 0 && (attributes & Needed) == Needed;
    }

    /// <summary>Bytes of a name with its NUL.</summary>
    public static int NameLength(string name) => (name.Length + 1) * sizeof(char);

    private static int Align(int length) => (length + 3) & ~3;
}
