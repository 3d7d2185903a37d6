// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

namespace Svsm.Modules.Vtpm.Wire;

/// <summary>Sizes and counts of this TPM. Source of the minima: TCG PC Client Platform TPM Profile.</summary>
internal static class TpmLimits
{
    /// <summary>The largest command and response in bytes; a module's host may set less.</summary>
    internal const int MaxCommandSize = 4096;

    /// <summary>The largest digest in bytes.</summary>
    internal const int MaxDigest = 64;

    /// <summary>The largest TPM2B_DATA: a TPMT_HA with the largest digest.</summary>
    internal const int MaxData = MaxDigest + 2;

    /// <summary>The largest piece of data for hashing or ciphering in bytes (TPM2B_MAX_BUFFER, TPM2B_EVENT).</summary>
    internal const int MaxBuffer = 1024;

    /// <summary>The largest secret that starts a session: an RSA-4096 block.</summary>
    internal const int MaxEncryptedSecret = 512;

    /// <summary>The largest sealed data or symmetric key in bytes (TPM2B_SENSITIVE_DATA).</summary>
    internal const int MaxSensitiveData = 128;

    /// <summary>The largest RSA modulus in bytes.</summary>
    internal const int MaxRsaKey = 512;

    /// <summary>The largest coordinate or private key of a curve in bytes: P-521.</summary>
    internal const int MaxEccKey = 66;

    /// <summary>The largest private part of an object (TPM2B_PRIVATE): of an RSA-4096 key, with both wraps of a duplication.</summary>
    internal const int MaxPrivate = 1024;

    /// <summary>The largest credential (TPM2B_ID_OBJECT): a digest and its integrity.</summary>
    internal const int MaxCredential = 2 * (MaxDigest + 2);

    /// <summary>The largest template (TPM2B_TEMPLATE).</summary>
    internal const int MaxTemplate = 1024;

    /// <summary>The largest label of TPM2B_LABEL and TPMS_DERIVE.</summary>
    internal const int MaxLabel = 32;

    /// <summary>The largest saved context in bytes (TPM2B_CONTEXT_DATA).</summary>
    internal const int MaxContext = 3072;

    /// <summary>The largest data of an NV index in bytes.</summary>
    internal const int MaxNvIndex = 8500;

    /// <summary>Bytes for persistent objects and NV indices together.</summary>
    internal const int NvCapacity = 64 * 1024;

    internal const int PcrCount = 24;

    /// <summary>Bytes in a PCR selection.</summary>
    internal const int PcrSelectSize = PcrCount / 8;

    /// <summary>Hash algorithms, hence PCR banks.</summary>
    internal const int HashCount = 4;

    internal const int LoadedObjects = 3;

    internal const int LoadedSessions = 3;

    internal const int ActiveSessions = 64;

    /// <summary>Sessions in one command.</summary>
    internal const int SessionsPerCommand = 3;

    /// <summary>Entries of a TPML_CC.</summary>
    internal const int CommandListCount = 254;

    /// <summary>Entries of a TPML_DIGEST.</summary>
    internal const int DigestListCount = 8;

    /// <summary>Bytes of data in one capability answer.</summary>
    internal const int MaxCapabilityData = MaxBuffer - 4 - 4;
}
