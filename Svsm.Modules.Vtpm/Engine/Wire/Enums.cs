// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;

namespace Svsm.Modules.Vtpm.Wire;

// Constants of TCG TPM 2.0 Library, Part 2. The generator checks a parameter of an enum type against the enum's members.

/// <summary>TPM_ST: tags of commands, responses, tickets and attestations.</summary>
[WireError(TpmResponseCode.Tag)]
internal enum StructureTag : ushort
{
    ResponseCommand = 0x00C4,
    NoSessions = 0x8001,
    Sessions = 0x8002,
    AttestNv = 0x8014,
    AttestCommandAudit = 0x8015,
    AttestSessionAudit = 0x8016,
    AttestCertify = 0x8017,
    AttestQuote = 0x8018,
    AttestTime = 0x8019,
    AttestCreation = 0x801A,
    AttestNvDigest = 0x801C,
    Creation = 0x8021,
    Verified = 0x8022,
    AuthSecret = 0x8023,
    HashCheck = 0x8024,
    AuthSigned = 0x8025,
}

/// <summary>TPM_CC: the commands that this TPM serves.</summary>
[OpenEnum]
internal enum CommandCode : uint
{
    NvUndefineSpaceSpecial = 0x11F,
    EvictControl = 0x120,
    HierarchyControl = 0x121,
    NvUndefineSpace = 0x122,
    ChangeEps = 0x124,
    ChangePps = 0x125,
    Clear = 0x126,
    ClearControl = 0x127,
    ClockSet = 0x128,
    HierarchyChangeAuth = 0x129,
    NvDefineSpace = 0x12A,
    PcrAllocate = 0x12B,
    PcrSetAuthPolicy = 0x12C,
    PpCommands = 0x12D,
    SetPrimaryPolicy = 0x12E,
    ClockRateAdjust = 0x130,
    CreatePrimary = 0x131,
    NvGlobalWriteLock = 0x132,
    GetCommandAuditDigest = 0x133,
    NvIncrement = 0x134,
    NvSetBits = 0x135,
    NvExtend = 0x136,
    NvWrite = 0x137,
    NvWriteLock = 0x138,
    DictionaryAttackLockReset = 0x139,
    DictionaryAttackParameters = 0x13A,
    NvChangeAuth = 0x13B,
    PcrEvent = 0x13C,
    PcrReset = 0x13D,
    SequenceComplete = 0x13E,
    SetAlgorithmSet = 0x13F,
    SetCommandCodeAuditStatus = 0x140,
    IncrementalSelfTest = 0x142,
    SelfTest = 0x143,
    Startup = 0x144,
    Shutdown = 0x145,
    StirRandom = 0x146,
    ActivateCredential = 0x147,
    Certify = 0x148,
    PolicyNv = 0x149,
    CertifyCreation = 0x14A,
    Duplicate = 0x14B,
    GetTime = 0x14C,
    GetSessionAuditDigest = 0x14D,
    NvRead = 0x14E,
    NvReadLock = 0x14F,
    ObjectChangeAuth = 0x150,
    PolicySecret = 0x151,
    Rewrap = 0x152,
    Create = 0x153,
    EcdhZGen = 0x154,
    Hmac = 0x155,
    Import = 0x156,
    Load = 0x157,
    Quote = 0x158,
    RsaDecrypt = 0x159,
    HmacStart = 0x15B,
    SequenceUpdate = 0x15C,
    Sign = 0x15D,
    Unseal = 0x15E,
    PolicySigned = 0x160,
    ContextLoad = 0x161,
    ContextSave = 0x162,
    EcdhKeyGen = 0x163,
    EncryptDecrypt = 0x164,
    FlushContext = 0x165,
    LoadExternal = 0x167,
    MakeCredential = 0x168,
    NvReadPublic = 0x169,
    PolicyAuthorize = 0x16A,
    PolicyAuthValue = 0x16B,
    PolicyCommandCode = 0x16C,
    PolicyCounterTimer = 0x16D,
    PolicyCpHash = 0x16E,
    PolicyLocality = 0x16F,
    PolicyNameHash = 0x170,
    PolicyOr = 0x171,
    PolicyTicket = 0x172,
    ReadPublic = 0x173,
    RsaEncrypt = 0x174,
    StartAuthSession = 0x176,
    VerifySignature = 0x177,
    EccParameters = 0x178,
    GetCapability = 0x17A,
    GetRandom = 0x17B,
    GetTestResult = 0x17C,
    Hash = 0x17D,
    PcrRead = 0x17E,
    PolicyPcr = 0x17F,
    PolicyRestart = 0x180,
    ReadClock = 0x181,
    PcrExtend = 0x182,
    PcrSetAuthValue = 0x183,
    NvCertify = 0x184,
    EventSequenceComplete = 0x185,
    HashSequenceStart = 0x186,
    PolicyPhysicalPresence = 0x187,
    PolicyDuplicationSelect = 0x188,
    PolicyGetDigest = 0x189,
    TestParms = 0x18A,
    Commit = 0x18B,
    PolicyPassword = 0x18C,
    ZGen2Phase = 0x18D,
    EcEphemeral = 0x18E,
    PolicyNvWritten = 0x18F,
    PolicyTemplate = 0x190,
    CreateLoaded = 0x191,
    PolicyAuthorizeNv = 0x192,
    EncryptDecrypt2 = 0x193,
    CertifyX509 = 0x197,
    ActSetTimeout = 0x198,
    EccEncrypt = 0x199,
    EccDecrypt = 0x19A,
    PolicyCapability = 0x19B,
    PolicyParameters = 0x19C,
    NvDefineSpace2 = 0x19D,
    NvReadPublic2 = 0x19E,
    SetCapability = 0x19F,
    ReadOnlyControl = 0x1A0,
}

/// <summary>TPM_ECC_CURVE: the curves that this TPM has.</summary>
[WireError(TpmResponseCode.Curve)]
internal enum EccCurve : ushort
{
    NistP256 = 0x0003,
    NistP384 = 0x0004,
    NistP521 = 0x0005,
    BnP256 = 0x0010,
}

/// <summary>TPM_SU.</summary>
internal enum StartupType : ushort
{
    Clear = 0,
    State = 1,
}

/// <summary>TPM_SE.</summary>
internal enum SessionType : byte
{
    Hmac = 0,
    Policy = 1,
    Trial = 3,
}

/// <summary>TPM_CAP.</summary>
internal enum Capability : uint
{
    Algorithms = 0,
    Handles = 1,
    Commands = 2,
    PpCommands = 3,
    AuditCommands = 4,
    Pcrs = 5,
    TpmProperties = 6,
    PcrProperties = 7,
    EccCurves = 8,
    AuthPolicies = 9,
    CountdownTimers = 10,
}

/// <summary>TPMA_SESSION.</summary>
[Flags]
internal enum SessionAttributes : byte
{
    None = 0,
    ContinueSession = 1,
    AuditExclusive = 2,
    AuditReset = 4,
    Decrypt = 0x20,
    Encrypt = 0x40,
    Audit = 0x80,
}

/// <summary>TPMA_OBJECT.</summary>
[Flags]
internal enum ObjectAttributes : uint
{
    None = 0,
    FixedTpm = 1u << 1,
    StClear = 1u << 2,
    FixedParent = 1u << 4,
    SensitiveDataOrigin = 1u << 5,
    UserWithAuth = 1u << 6,
    AdminWithPolicy = 1u << 7,
    NoDictionaryAttack = 1u << 10,
    EncryptedDuplication = 1u << 11,
    Restricted = 1u << 16,
    Decrypt = 1u << 17,
    Sign = 1u << 18,
    X509Sign = 1u << 19,
}
