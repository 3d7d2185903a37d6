// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;

namespace Svsm.Measurement;

/// <summary>Why something cannot be measured or signed.</summary>
public enum MeasurementError
{
    /// <summary>The file has no SEV-SNP platform.</summary>
    NoSnpPlatform,

    /// <summary>The file has no processor context, two for one processor, or one for a processor that does not exist.</summary>
    BadVpContext,

    /// <summary>The number of vCPUs is not 1 to 65536.</summary>
    BadVcpuCount,

    /// <summary>A page is too large or too many to be measured.</summary>
    BadPage,

    /// <summary>The firmware file is not an OVMF image, or its tables are damaged.</summary>
    BadFirmware,

    /// <summary>A key is not an ECDSA key on curve P-384, or has no private part.</summary>
    BadKey,

    /// <summary>An ID block or ID authentication has a field outside the values that the format defines.</summary>
    BadIdBlock,
}

/// <summary>Something cannot be measured or signed.</summary>
public sealed class MeasurementException : Exception
{
    /// <summary>Creates an exception without details.</summary>
    public MeasurementException()
        : this("The launch cannot be measured.")
    {
    }

    /// <summary>Creates an exception with a message only.</summary>
    /// <param name="message">What happened.</param>
    public MeasurementException(string message)
        : base(message)
    {
    }

    /// <summary>Creates an exception with a message and its cause.</summary>
    /// <param name="message">What happened.</param>
    /// <param name="innerException">The cause.</param>
    public MeasurementException(string message, Exception innerException)
        : base(message, innerException)
    {
    }

    /// <summary>Creates an exception.</summary>
    /// <param name="error">The reason.</param>
    /// <param name="message">Value seen, value wanted, what to do.</param>
    /// <param name="cause">What led to it, if that was an exception.</param>
    public MeasurementException(MeasurementError error, string message, Exception? cause = null)
        : base(message, cause)
    {
        Error = error;
    }

    /// <summary>The reason.</summary>
    public MeasurementError Error { get; }
}
