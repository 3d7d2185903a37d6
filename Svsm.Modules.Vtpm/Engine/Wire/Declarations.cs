// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;

namespace Svsm.Modules.Vtpm.Wire;

// The vocabulary in which structures and commands are declared. The source generator (Svsm.Modules.Vtpm/Generator) reads it; nothing
// reads it at run time.

/// <summary>A structure whose fields are read and written in the order of their declaration.</summary>
[AttributeUsage(AttributeTargets.Struct | AttributeTargets.Class)]
internal sealed class TpmStructureAttribute : Attribute;

/// <summary>A command: nested Request and Response declare its handles and parameters, Execute does it.</summary>
[AttributeUsage(AttributeTargets.Class)]
internal sealed class TpmCommandAttribute(CommandCode code) : Attribute
{
    internal CommandCode Code { get; } = code;

    public CommandTraits Traits { get; set; }
}

/// <summary>The largest size of a TPM2B, in bytes; more is TPM_RC_SIZE.</summary>
[AttributeUsage(AttributeTargets.Parameter | AttributeTargets.Field)]
internal sealed class SizeAttribute(int limit) : Attribute
{
    internal int Limit { get; } = limit;
}

/// <summary>The largest and smallest count of a TPML; more or less is TPM_RC_SIZE.</summary>
[AttributeUsage(AttributeTargets.Parameter | AttributeTargets.Field)]
internal sealed class CountAttribute(int limit, int minimum = 0) : Attribute
{
    internal int Limit { get; } = limit;

    internal int Minimum { get; } = minimum;
}

/// <summary>A structure inside a TPM2B.</summary>
[AttributeUsage(AttributeTargets.Parameter | AttributeTargets.Field)]
internal sealed class SizedAttribute : Attribute;

/// <summary>TPM_ALG_NULL or TPM_RH_NULL is allowed too (the "+" of the specification's tables).</summary>
[AttributeUsage(AttributeTargets.Parameter | AttributeTargets.Field)]
internal sealed class OrNullAttribute : Attribute;

/// <summary>An algorithm identifier that has to be good for the given use.</summary>
[AttributeUsage(AttributeTargets.Parameter | AttributeTargets.Field)]
internal sealed class AlgorithmAttribute(AlgorithmUse use) : Attribute
{
    internal AlgorithmUse Use { get; } = use;
}

/// <summary>A handle in the handle area.</summary>
[AttributeUsage(AttributeTargets.Parameter)]
internal sealed class HandleAttribute(HandleKind kind) : Attribute
{
    internal HandleKind Kind { get; } = kind;

    /// <summary>The authorisation that the handle needs.</summary>
    public AuthorizationRole Role { get; set; }
}

/// <summary>A handle among the parameters.</summary>
[AttributeUsage(AttributeTargets.Parameter | AttributeTargets.Field)]
internal sealed class HandleParameterAttribute(HandleKind kind) : Attribute
{
    internal HandleKind Kind { get; } = kind;
}

/// <summary>The error for a value that the enum does not have; without it TPM_RC_VALUE, or TPM_RC_RESERVED_BITS for flags.</summary>
[AttributeUsage(AttributeTargets.Enum)]
internal sealed class WireErrorAttribute(TpmResponseCode code) : Attribute
{
    internal TpmResponseCode Code { get; } = code;
}

/// <summary>Every value is read; who uses it looks it up.</summary>
[AttributeUsage(AttributeTargets.Enum)]
internal sealed class OpenEnumAttribute : Attribute;

/// <summary>Who has to authorise the use of a handle.</summary>
internal enum AuthorizationRole
{
    /// <summary>Nobody.</summary>
    None,

    /// <summary>authValue or policy.</summary>
    User,

    /// <summary>Policy; for objects that say so, authValue.</summary>
    Admin,

    /// <summary>Policy for duplication.</summary>
    Duplicate,
}

/// <summary>What the dispatcher and GetCapability have to know about a command and cannot derive from its parameters.</summary>
[Flags]
internal enum CommandTraits
{
    None = 0,

    /// <summary>TPMA_CC.nv: may write NV.</summary>
    Nv = 1,

    /// <summary>TPMA_CC.extensive: may flush any number of loaded contexts.</summary>
    Extensive = 2,

    /// <summary>TPMA_CC.flushed: the first handle's context is gone afterwards.</summary>
    Flushed = 4,

    /// <summary>Takes no sessions at all, not even for audit.</summary>
    NoSessions = 8,

    /// <summary>The platform may ask for physical presence (TPM2_PP_Commands).</summary>
    PhysicalPresence = 16,

    /// <summary>Is served in failure mode.</summary>
    FailureMode = 32,

    /// <summary>Reads NV: an NV index authorises it if it says so of reading.</summary>
    NvRead = 64,

    /// <summary>Writes NV: an NV index authorises it if it says so of writing.</summary>
    NvWrite = 128,

    /// <summary>Is refused while the TPM is read-only (TPM2_ReadOnlyControl).</summary>
    NotReadOnly = 256,

    /// <summary>While the TPM is read-only, takes only NV indices whose data every startup ends.</summary>
    TemporaryIndexOnly = 512,

    /// <summary>While the TPM is read-only, takes no PIN index: using it counts.</summary>
    NoPinReadOnly = 1024,
}
