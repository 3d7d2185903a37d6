// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.State;

// The hierarchies as one sees them by their handles: where each keeps its authValue, policy, proof, seed and enable bit. The countdown timer
// has a handle of this kind too, with a policy of its own and the platform's authValue.
internal sealed class Hierarchies(Tpm tpm)
{
    internal bool IsEnabled(TpmHandle handle)
    {
        ClearState state = tpm.ClearState;
        return handle == TpmHandle.Owner ? state.IsOwnerEnabled
            : handle == TpmHandle.Endorsement ? state.IsEndorsementEnabled
            : handle == TpmHandle.Platform ? state.IsPlatformEnabled
            : handle != TpmHandle.PlatformNv || state.IsPlatformNvEnabled;
    }

    internal byte[] Auth(TpmHandle handle)
        => handle == TpmHandle.Owner ? tpm.Persistent.OwnerAuth
            : handle == TpmHandle.Endorsement ? tpm.Persistent.EndorsementAuth
            : handle == TpmHandle.Platform || handle == TpmHandle.CountdownTimer ? tpm.ClearState.PlatformAuth
            : handle == TpmHandle.Lockout ? tpm.Persistent.LockoutAuth
            : [];

    internal void SetAuth(TpmHandle handle, byte[] auth)
    {
        tpm.ClearAfterCommand(Auth(handle));
        if (handle == TpmHandle.Platform)
        {
            tpm.ClearState.PlatformAuth = auth;
            return;
        }

        if (handle == TpmHandle.Owner)
        {
            tpm.Persistent.OwnerAuth = auth;
        }
        else if (handle == TpmHandle.Endorsement)
        {
            tpm.Persistent.EndorsementAuth = auth;
        }
        else
        {
            tpm.Persistent.LockoutAuth = auth;
        }

        tpm.MarkDirty();
    }

    internal AuthPolicy Policy(TpmHandle handle)
        => handle == TpmHandle.Owner ? tpm.Persistent.OwnerPolicy
            : handle == TpmHandle.Endorsement ? tpm.Persistent.EndorsementPolicy
            : handle == TpmHandle.Platform ? tpm.ClearState.PlatformPolicy
            : handle == TpmHandle.Lockout ? tpm.Persistent.LockoutPolicy
            : handle == TpmHandle.CountdownTimer ? tpm.ClearState.CountdownPolicy
            : AuthPolicy.None;

    internal void SetPolicy(TpmHandle handle, AuthPolicy policy)
    {
        if (handle == TpmHandle.Platform)
        {
            tpm.ClearState.PlatformPolicy = policy;
            return;
        }

        if (handle == TpmHandle.CountdownTimer)
        {
            tpm.ClearState.CountdownPolicy = policy;
            return;
        }

        if (handle == TpmHandle.Owner)
        {
            tpm.Persistent.OwnerPolicy = policy;
        }
        else if (handle == TpmHandle.Endorsement)
        {
            tpm.Persistent.EndorsementPolicy = policy;
        }
        else
        {
            tpm.Persistent.LockoutPolicy = policy;
        }

        tpm.MarkDirty();
    }

    internal byte[] Proof(TpmHandle handle)
        => handle == TpmHandle.Owner ? tpm.Persistent.OwnerProof
            : handle == TpmHandle.Endorsement ? tpm.Persistent.EndorsementProof
            : handle == TpmHandle.Platform ? tpm.Persistent.PlatformProof
            : tpm.ResetState.NullProof;

    internal byte[] Seed(TpmHandle handle)
        => handle == TpmHandle.Owner ? tpm.Persistent.OwnerSeed
            : handle == TpmHandle.Endorsement ? tpm.Persistent.EndorsementSeed
            : handle == TpmHandle.Platform ? tpm.Persistent.PlatformSeed
            : tpm.ResetState.NullSeed;
}
