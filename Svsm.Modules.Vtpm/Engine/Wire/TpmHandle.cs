// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;

namespace Svsm.Modules.Vtpm.Wire;

// Handles: what the TPM calls the things that commands are about. The top byte is the type. Which handles a command's handle parameter
// takes is data: a kind is a list of ranges and the error for what is outside of them.
//
// Source: TCG TPM 2.0 Library, Part 2, "Handles" and "Interface Types" (TPMI_DH_*, TPMI_RH_*, TPMI_SH_*).

/// <summary>A TPM handle.</summary>
internal readonly record struct TpmHandle(uint Value)
{
    internal static TpmHandle Owner => new(0x4000_0001);

    internal static TpmHandle Null => new(0x4000_0007);

    /// <summary>What is in the place of a session or handle that there is none of.</summary>
    internal static TpmHandle Unassigned => new(0x4000_0008);

    internal static TpmHandle Password => new(0x4000_0009);

    internal static TpmHandle Lockout => new(0x4000_000A);

    internal static TpmHandle Endorsement => new(0x4000_000B);

    internal static TpmHandle Platform => new(0x4000_000C);

    internal static TpmHandle PlatformNv => new(0x4000_000D);

    /// <summary>TPM_RH_ACT_0: the countdown timer.</summary>
    internal static TpmHandle CountdownTimer => new(0x4000_0110);

    /// <summary>TPM_RH_ACT_F: the last one that a TPM can have.</summary>
    internal static TpmHandle LastCountdownTimer => new(0x4000_011F);

    internal HandleType Type => (HandleType)(Value >> 24);

    internal int Index => (int)(Value & 0x00FF_FFFF);

    internal static TpmHandle Of(HandleType type, int index) => new(((uint)type << 24) | (uint)index);

    internal static TpmResponseCode Read(ref TpmReader reader, out TpmHandle value)
    {
        TpmResponseCode code = reader.ReadUInt32(out uint number);
        value = new TpmHandle(number);
        return code;
    }

    internal void Write(ref TpmWriter writer) => writer.WriteUInt32(Value);
}

/// <summary>TPM_HT: the type in a handle's top byte.</summary>
internal enum HandleType : byte
{
    Pcr = 0x00,
    NvIndex = 0x01,
    HmacSession = 0x02,
    PolicySession = 0x03,
    Permanent = 0x40,
    Transient = 0x80,
    Persistent = 0x81,
}

/// <summary>The sets of handles that parameters take.</summary>
internal enum HandleKind
{
    /// <summary>TPMI_DH_OBJECT.</summary>
    Object,

    /// <summary>TPMI_DH_PCR.</summary>
    Pcr,

    /// <summary>TPMI_DH_CONTEXT.</summary>
    Context,

    /// <summary>TPMI_DH_ENTITY.</summary>
    Entity,

    /// <summary>TPMI_SH_AUTH_SESSION, with the password session.</summary>
    AuthorizationSession,

    /// <summary>TPMI_RH_HIERARCHY.</summary>
    Hierarchy,

    /// <summary>TPMI_RH_ENABLES.</summary>
    Enables,

    /// <summary>TPMI_RH_HIERARCHY_AUTH.</summary>
    HierarchyAuth,

    /// <summary>TPMI_RH_HIERARCHY_POLICY.</summary>
    HierarchyPolicy,

    /// <summary>TPMI_RH_PLATFORM.</summary>
    Platform,

    /// <summary>TPMI_RH_PROVISION.</summary>
    Provision,

    /// <summary>TPMI_RH_CLEAR.</summary>
    Clear,

    /// <summary>TPMI_RH_LOCKOUT.</summary>
    Lockout,

    /// <summary>TPMI_DH_PARENT.</summary>
    Parent,

    /// <summary>TPMI_DH_PERSISTENT.</summary>
    Persistent,

    /// <summary>TPMI_SH_POLICY.</summary>
    PolicySession,

    /// <summary>TPMI_RH_NV_INDEX.</summary>
    NvIndex,

    /// <summary>TPMI_RH_NV_AUTH.</summary>
    NvAuth,

    /// <summary>TPMI_RH_ENDORSEMENT.</summary>
    Endorsement,

    /// <summary>TPMI_SH_HMAC.</summary>
    HmacSession,

    /// <summary>TPMI_RH_ACT.</summary>
    CountdownTimer,
}

/// <summary>The data behind <see cref="HandleKind"/>.</summary>
internal static class HandleKinds
{
    private static readonly Range s_transient = new(0x8000_0000, 0x80FF_FFFE);
    private static readonly Range s_persistent = new(0x8100_0000, 0x81FF_FFFF);
    private static readonly Range s_pcr = new(0, TpmLimits.PcrCount - 1);
    private static readonly Range s_nv = new(0x0100_0000, 0x01FF_FFFF);
    private static readonly Range s_hmacSession = new(0x0200_0000, 0x0200_0000 + TpmLimits.ActiveSessions - 1);
    private static readonly Range s_policySession = new(0x0300_0000, 0x0300_0000 + TpmLimits.ActiveSessions - 1);
    private static readonly Range s_owner = One(TpmHandle.Owner);
    private static readonly Range s_endorsement = One(TpmHandle.Endorsement);
    private static readonly Range s_platform = One(TpmHandle.Platform);
    private static readonly Range s_platformNv = One(TpmHandle.PlatformNv);
    private static readonly Range s_lockout = One(TpmHandle.Lockout);
    private static readonly Range s_countdownTimer = One(TpmHandle.CountdownTimer);

    // Indexed by HandleKind.
    private static readonly Range[][] s_ranges =
    [
        [s_transient, s_persistent],
        [s_pcr],
        [s_hmacSession, s_policySession, s_transient],
        [s_owner, s_endorsement, s_platform, s_lockout, s_transient, s_persistent, s_nv, s_pcr],
        [s_hmacSession, s_policySession, One(TpmHandle.Password)],
        [s_owner, s_endorsement, s_platform],
        [s_owner, s_endorsement, s_platform, s_platformNv],
        [s_owner, s_endorsement, s_platform, s_lockout],
        [s_owner, s_endorsement, s_platform, s_lockout, s_countdownTimer],
        [s_platform],
        [s_owner, s_platform],
        [s_lockout, s_platform],
        [s_lockout],
        [s_owner, s_endorsement, s_platform, s_transient, s_persistent],
        [s_persistent],
        [s_policySession],
        [s_nv],
        [s_platform, s_owner, s_nv],
        [s_endorsement],
        [s_hmacSession],
        [s_countdownTimer],
    ];

    /// <summary>TPM_RC_VALUE for a handle that is not of the kind.</summary>
    internal static TpmResponseCode Check(TpmHandle handle, HandleKind kind, bool orNull)
    {
        if (orNull && handle == TpmHandle.Null)
        {
            return TpmResponseCode.Success;
        }

        foreach (Range range in s_ranges[(int)kind])
        {
            if (handle.Value >= range.First && handle.Value <= range.Last)
            {
                return TpmResponseCode.Success;
            }
        }

        return TpmResponseCode.Value;
    }

    private static Range One(TpmHandle handle) => new(handle.Value, handle.Value);

    private readonly record struct Range(uint First, uint Last);
}
