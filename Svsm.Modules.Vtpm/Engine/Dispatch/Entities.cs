// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Buffers.Binary;
using Svsm.Modules.Vtpm.Crypto;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Dispatch;

// What the dispatcher asks about the things behind handles, whatever they are: is it there, what is its Name, how is it authorised.
internal static class Entities
{
    /// <summary>Whether a handle of the handle area refers to something.</summary>
    /// <param name="tpm">The TPM.</param>
    /// <param name="handle">The handle, of the kind that the command takes.</param>
    /// <param name="index">Its place in the handle area, from 0.</param>
    internal static TpmResponseCode CheckPresent(Tpm tpm, TpmHandle handle, int index) => handle.Type switch
    {
        HandleType.Permanent => tpm.Hierarchies.IsEnabled(handle) ? TpmResponseCode.Success : TpmResponseCode.Hierarchy.At(ErrorPlace.Handle(index + 1)),
        HandleType.Transient => tpm.Objects.Find(handle) is not null ? TpmResponseCode.Success : TpmResponseCode.ReferenceH0 + (uint)index,
        HandleType.HmacSession or HandleType.PolicySession => tpm.Sessions.Find(handle)?.Handle == handle
            ? TpmResponseCode.Success
            : TpmResponseCode.ReferenceH0 + (uint)index,
        HandleType.Pcr => TpmResponseCode.Success,

        HandleType.Persistent => tpm.Objects.Find(handle) is TransientObject found && tpm.Hierarchies.IsEnabled(found.Hierarchy)
            ? TpmResponseCode.Success
            : TpmResponseCode.Handle.At(ErrorPlace.Handle(index + 1)),

        // NV indices: none can be made yet.
        _ => TpmResponseCode.Handle.At(ErrorPlace.Handle(index + 1)),
    };

    /// <summary>The Name; for what has no public area its handle.</summary>
    internal static byte[] Name(Tpm tpm, TpmHandle handle)
    {
        if (tpm.Objects.Find(handle) is TransientObject found)
        {
            return found.Name;
        }

        var name = new byte[sizeof(uint)];
        BinaryPrimitives.WriteUInt32BigEndian(name, handle.Value);
        return name;
    }

    internal static byte[] Auth(Tpm tpm, TpmHandle handle) => tpm.Objects.Find(handle)?.Auth ?? tpm.Hierarchies.Auth(handle);

    internal static AuthPolicy Policy(Tpm tpm, TpmHandle handle) => tpm.Objects.Find(handle)?.Policy ?? tpm.Hierarchies.Policy(handle);

    /// <summary>Name and authValue: what a bound session remembers.</summary>
    internal static byte[] Binding(Tpm tpm, TpmHandle handle) => [.. Name(tpm, handle), .. Auth(tpm, handle)];

    internal static bool IsExemptFromAttackProtection(Tpm tpm, TpmHandle handle)
        => tpm.Objects.Find(handle) is TransientObject found ? found.IsNoDictionaryAttack : handle != TpmHandle.Lockout;

    /// <summary>Whether only a policy can authorise this use.</summary>
    internal static bool RequiresPolicy(Tpm tpm, TpmHandle handle, AuthorizationRole role)
        => role == AuthorizationRole.Duplicate
            || (role == AuthorizationRole.Admin && (tpm.Objects.Find(handle) is not TransientObject found || found.IsAdminWithPolicy));

    /// <summary>Whether the authValue can authorise this use.</summary>
    internal static bool IsAuthAvailable(Tpm tpm, TpmHandle handle, AuthorizationRole role)
        => tpm.Objects.Find(handle) is not TransientObject found || found.IsUserWithAuth || (role == AuthorizationRole.Admin && !found.IsAdminWithPolicy);
}
