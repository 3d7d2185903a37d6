// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System.Security.Cryptography;
using Svsm.Modules.Vtpm.Crypto;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.State;

/// <summary>A key or sealed data, with its secret part or without.</summary>
internal sealed class KeyObject : TransientObject
{
    private RsaPrivateKey? _rsa;

    internal KeyObject(PublicArea publicArea)
    {
        Public = publicArea;
        Policy = new AuthPolicy(publicArea.Policy.Length == 0 ? AlgorithmId.Null : publicArea.NameHash, publicArea.Policy);
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

    /// <summary>There is no secret part (TPM2_LoadExternal).</summary>
    internal bool IsPublicOnly { get; init; }

    /// <summary>It came by TPM2_LoadExternal: no object of this TPM's, so it has no children.</summary>
    internal bool IsExternal { get; init; }

    /// <summary>It can have children, or is the source of derived objects.</summary>
    internal bool IsParent => Public.IsParent && !IsPublicOnly && !IsExternal;

    /// <summary>It is the source of derived objects.</summary>
    internal bool IsDerivationParent => IsParent && Public.Type == AlgorithmId.KeyedHash;

    /// <summary>It has children that are stored encrypted.</summary>
    internal bool IsStorageParent => IsParent && Public.Type != AlgorithmId.KeyedHash;

    internal Sensitive Sensitive => new(Public.Type, Auth, SeedValue, Secret);

    /// <summary>The private key of an RSA key; null when what is there is none.</summary>
    internal RsaPrivateKey? Rsa => _rsa ??= IsPublicOnly ? null : RsaPrivateKey.Create(Public.Unique, Secret, RsaPublicKey.ExponentOf(Public));

    /// <summary>Whether TPM2_EvictControl takes the object: it outlives startups and belongs to a hierarchy that does.</summary>
    internal bool CanBePersistent => Hierarchy != TpmHandle.Null && !IsPublicOnly && !IsExternal && !Public.Has(ObjectAttributes.StClear);

    /// <summary>Writes the whole object, for saved contexts and persistent objects.</summary>
    internal override void Save(ref TpmWriter writer)
    {
        Public.Write(ref writer);
        Hierarchy.Write(ref writer);
        writer.WriteSized(Auth);
        writer.WriteSized(Name);
        writer.WriteSized(QualifiedName);
        writer.WriteSized(Secret);
        writer.WriteSized(SeedValue);
        writer.WriteYesNo(IsPublicOnly);
        writer.WriteYesNo(IsExternal);
    }

    /// <summary>Reads what <see cref="Save"/> wrote.</summary>
    internal static TpmResponseCode Load(ref TpmReader reader, out TransientObject? loaded)
    {
        loaded = null;
        TpmResponseCode code;
        if ((code = PublicArea.ReadOrNull(ref reader, out PublicArea area)) != TpmResponseCode.Success
            || (code = TpmHandle.Read(ref reader, out TpmHandle hierarchy)) != TpmResponseCode.Success
            || (code = reader.ReadSizedCopy(TpmLimits.MaxDigest, out byte[] auth)) != TpmResponseCode.Success
            || (code = reader.ReadSizedCopy(TpmLimits.MaxData, out byte[] name)) != TpmResponseCode.Success
            || (code = reader.ReadSizedCopy(TpmLimits.MaxData, out byte[] qualifiedName)) != TpmResponseCode.Success
            || (code = reader.ReadSizedCopy(TpmLimits.MaxContext, out byte[] secret)) != TpmResponseCode.Success
            || (code = reader.ReadSizedCopy(TpmLimits.MaxDigest, out byte[] seedValue)) != TpmResponseCode.Success
            || (code = reader.ReadYesNo(out bool isPublicOnly)) != TpmResponseCode.Success
            || (code = reader.ReadYesNo(out bool isExternal)) != TpmResponseCode.Success)
        {
            return code;
        }

        loaded = new KeyObject(area)
        {
            Hierarchy = hierarchy,
            Auth = auth,
            Name = name,
            QualifiedName = qualifiedName,
            Secret = secret,
            SeedValue = seedValue,
            IsPublicOnly = isPublicOnly,
            IsExternal = isExternal,
        };
        return TpmResponseCode.Success;
    }

    internal override void Clear()
    {
        base.Clear();
        CryptographicOperations.ZeroMemory(Secret);
        CryptographicOperations.ZeroMemory(SeedValue);
        _rsa?.Clear();
    }
}
