// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

namespace Svsm.Modules.Vtpm.Wire;

// TPM 2.0 response codes, and how an error tells which handle, parameter or session it is about.
//
// Format 0 (bit 7 clear):  0x100 | number, with bit 11 for warnings. Says nothing about a place.
// Format 1 (bit 7 set):    bits 5:0 number, bit 6 set = parameter (bits 11:8 its number),
//                          bit 6 clear = handle (bits 10:8) or, with bit 11, session (bits 10:8).
//
// Source: TCG TPM 2.0 Library, Part 2, "TPM_RC (Response Codes)".

/// <summary>A TPM 2.0 response code (<c>TPM_RC</c>).</summary>
public enum TpmResponseCode : uint
{
    /// <summary>The command did what it was asked to.</summary>
    Success = 0,

    /// <summary>The tag of a command is neither TPM_ST_NO_SESSIONS nor TPM_ST_SESSIONS (the code of TPM 1.2).</summary>
    BadTag = 0x01E,

    /// <summary>TPM2_Startup is required, or came twice.</summary>
    Initialize = 0x100,

    /// <summary>The TPM is in failure mode.</summary>
    Failure = 0x101,

    /// <summary>A command sequence is not as it has to be.</summary>
    Sequence = 0x103,

    /// <summary>The command is disabled.</summary>
    Disabled = 0x120,

    /// <summary>An exclusive audit session is required.</summary>
    Exclusive = 0x121,

    /// <summary>The entity wants another kind of authorisation.</summary>
    AuthType = 0x124,

    /// <summary>A handle requires an authorisation and there is none.</summary>
    AuthMissing = 0x125,

    /// <summary>The policy is not the one that is wanted.</summary>
    Policy = 0x126,

    /// <summary>A PCR check failed.</summary>
    Pcr = 0x127,

    /// <summary>A PCR changed since it was checked.</summary>
    PcrChanged = 0x128,

    /// <summary>A clock update is too large.</summary>
    Upgrade = 0x12D,

    /// <summary>Too many contexts; the oldest has to be loaded.</summary>
    TooManyContexts = 0x12E,

    /// <summary>The authValue or the policy cannot be used.</summary>
    AuthUnavailable = 0x12F,

    /// <summary>The platform has to be restarted.</summary>
    Reboot = 0x130,

    /// <summary>Key sizes of a set of algorithms do not fit together.</summary>
    Unbalanced = 0x131,

    /// <summary>The size field of a command is not the number of its bytes.</summary>
    CommandSize = 0x142,

    /// <summary>The command code is not served.</summary>
    CommandCode = 0x143,

    /// <summary>The size of the authorisation area does not fit.</summary>
    AuthSize = 0x144,

    /// <summary>The command takes no sessions.</summary>
    AuthContext = 0x145,

    /// <summary>An NV access goes beyond the end.</summary>
    NvRange = 0x146,

    /// <summary>An NV access is larger than the TPM allows.</summary>
    NvSize = 0x147,

    /// <summary>The NV index is locked.</summary>
    NvLocked = 0x148,

    /// <summary>The NV index may not be used so.</summary>
    NvAuthorization = 0x149,

    /// <summary>The NV index was never written.</summary>
    NvUninitialized = 0x14A,

    /// <summary>There is no room for the NV index or persistent object.</summary>
    NvSpace = 0x14B,

    /// <summary>The NV index or persistent object exists.</summary>
    NvDefined = 0x14C,

    /// <summary>The context is not valid.</summary>
    BadContext = 0x150,

    /// <summary>The cpHash is another one.</summary>
    CpHash = 0x151,

    /// <summary>The parent is not a valid one.</summary>
    Parent = 0x152,

    /// <summary>The action needs a self test.</summary>
    NeedsTest = 0x153,

    /// <summary>No result: the action has none.</summary>
    NoResult = 0x154,

    /// <summary>Secret data is not of the required kind.</summary>
    Sensitive = 0x155,

    /// <summary>The TPM is read-only.</summary>
    ReadOnly = 0x156,

    /// <summary>Not an asymmetric key that can be used here.</summary>
    Asymmetric = 0x081,

    /// <summary>Attributes are not as required.</summary>
    Attributes = 0x082,

    /// <summary>Not a hash algorithm, or not one that can be used here.</summary>
    Hash = 0x083,

    /// <summary>A value is out of range or not one of those allowed.</summary>
    Value = 0x084,

    /// <summary>The hierarchy is disabled or not the right one.</summary>
    Hierarchy = 0x085,

    /// <summary>The key size is not supported.</summary>
    KeySize = 0x087,

    /// <summary>Not a mask generation function.</summary>
    MaskGeneration = 0x088,

    /// <summary>The mode of operation is not supported.</summary>
    Mode = 0x089,

    /// <summary>The type of the value is not supported.</summary>
    Type = 0x08A,

    /// <summary>The handle cannot be used here.</summary>
    Handle = 0x08B,

    /// <summary>Not a key derivation function.</summary>
    KeyDerivation = 0x08C,

    /// <summary>A value was out of the allowed range.</summary>
    Range = 0x08D,

    /// <summary>The authorisation failed and was counted against dictionary attacks.</summary>
    AuthFail = 0x08E,

    /// <summary>The nonce has the wrong size.</summary>
    Nonce = 0x08F,

    /// <summary>Physical presence is required.</summary>
    PhysicalPresence = 0x090,

    /// <summary>Not a scheme that is supported here.</summary>
    Scheme = 0x092,

    /// <summary>A size is wrong.</summary>
    Size = 0x095,

    /// <summary>Not a symmetric algorithm that is supported.</summary>
    Symmetric = 0x096,

    /// <summary>The structure tag is wrong.</summary>
    Tag = 0x097,

    /// <summary>The selector of a union is wrong.</summary>
    Selector = 0x098,

    /// <summary>The command ended before the value did.</summary>
    Insufficient = 0x09A,

    /// <summary>The signature is not valid.</summary>
    Signature = 0x09B,

    /// <summary>The key cannot be used for this.</summary>
    Key = 0x09C,

    /// <summary>The policy check failed.</summary>
    PolicyFail = 0x09D,

    /// <summary>The integrity check failed.</summary>
    Integrity = 0x09F,

    /// <summary>The ticket is not valid.</summary>
    Ticket = 0x0A0,

    /// <summary>Bits that have to be zero are not.</summary>
    ReservedBits = 0x0A1,

    /// <summary>The authorisation failed; it is not counted against dictionary attacks.</summary>
    BadAuth = 0x0A2,

    /// <summary>The policy has expired.</summary>
    Expired = 0x0A3,

    /// <summary>The policy is for another command.</summary>
    PolicyCommandCode = 0x0A4,

    /// <summary>Public and sensitive parts do not belong together.</summary>
    Binding = 0x0A5,

    /// <summary>The curve is not supported.</summary>
    Curve = 0x0A6,

    /// <summary>The point is not on the curve.</summary>
    EccPoint = 0x0A7,

    /// <summary>The context gap is too large.</summary>
    ContextGap = 0x901,

    /// <summary>No slot for another object.</summary>
    ObjectMemory = 0x902,

    /// <summary>No slot for another session.</summary>
    SessionMemory = 0x903,

    /// <summary>No memory.</summary>
    Memory = 0x904,

    /// <summary>No session handle is free.</summary>
    SessionHandles = 0x905,

    /// <summary>No object handle is free.</summary>
    ObjectHandles = 0x906,

    /// <summary>The locality is not the right one.</summary>
    Locality = 0x907,

    /// <summary>The command was cancelled.</summary>
    Canceled = 0x909,

    /// <summary>Self tests are running.</summary>
    Testing = 0x90A,

    /// <summary>The first handle refers to something that is not loaded; the next ones follow by number.</summary>
    ReferenceH0 = 0x910,

    /// <summary>The first session refers to something that is not loaded; the next ones follow by number.</summary>
    ReferenceS0 = 0x918,

    /// <summary>NV writes come too fast.</summary>
    NvRate = 0x920,

    /// <summary>The TPM is in lockout against dictionary attacks.</summary>
    Lockout = 0x921,

    /// <summary>The command could not be finished; send it again.</summary>
    Retry = 0x922,

    /// <summary>NV cannot be written now.</summary>
    NvUnavailable = 0x923,
}

/// <summary>The handle, parameter or session that an error is about.</summary>
internal readonly struct ErrorPlace
{
    private ErrorPlace(uint bits) => Bits = bits;

    internal uint Bits { get; }

    /// <param name="number">1 to 7.</param>
    internal static ErrorPlace Handle(int number) => new((uint)number << 8);

    /// <param name="number">1 to 15.</param>
    internal static ErrorPlace Parameter(int number) => new(0x40u | ((uint)number << 8));

    /// <param name="number">1 to 7.</param>
    internal static ErrorPlace Session(int number) => new(0x800u | ((uint)number << 8));
}

/// <summary>What can be done with a response code.</summary>
internal static class TpmResponseCodes
{
    /// <summary>Adds the place to an error that can have one and has none yet; warnings and format-0 errors stay as they are.</summary>
    internal static TpmResponseCode At(this TpmResponseCode code, ErrorPlace place)
        => ((uint)code & 0x80) != 0 && ((uint)code & 0xF40) == 0 ? (TpmResponseCode)((uint)code | place.Bits) : code;
}
