// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System.Security.Cryptography;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.State;

/// <summary>A key or sealed data with its secret part.</summary>
internal sealed class KeyObject : TransientObject
{
    internal KeyObject(PublicArea publicArea)
    {
        Public = publicArea;
        Policy = new AuthPolicy(publicArea.NameHash, publicArea.Policy);
        IsNoDictionaryAttack = publicArea.Has(ObjectAttributes.NoDictionaryAttack);
        IsUserWithAuth = publicArea.Has(ObjectAttributes.UserWithAuth);
        IsAdminWithPolicy = publicArea.Has(ObjectAttributes.AdminWithPolicy);
    }

    internal PublicArea Public { get; }

    /// <summary>The Name of the parent's chain and this object's: what it is and under whom.</summary>
    internal byte[] QualifiedName { get; init; } = [];

    /// <summary>TPMT_SENSITIVE.sensitive: the key or the data.</summary>
    internal byte[] Secret { get; init; } = [];

    /// <summary>TPMT_SENSITIVE.seedValue: obfuscates the public part; the seed of children for a parent.</summary>
    internal byte[] SeedValue { get; init; } = [];

    internal override void Clear()
    {
        base.Clear();
        CryptographicOperations.ZeroMemory(Secret);
        CryptographicOperations.ZeroMemory(SeedValue);
    }
}
