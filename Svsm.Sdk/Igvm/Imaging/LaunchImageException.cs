// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;

namespace Svsm.Igvm.Imaging;

/// <summary>Why a launch image cannot be written.</summary>
public enum LaunchImageError
{
    /// <summary>An address or a length is not a multiple of the page size, or leaves the address space.</summary>
    Misaligned,

    /// <summary>Two pages have the same address.</summary>
    Overlap,

    /// <summary>A parameter leaves its page.</summary>
    BadParameter,

    /// <summary>SEV_FEATURES contains what the host does not accept, or lacks SNP.</summary>
    UnsupportedFeature,

    /// <summary>The launch VMSA has a field value that the host refuses.</summary>
    BadVmsa,

    /// <summary>The guest policy is not valid.</summary>
    BadPolicy,

    /// <summary>Something that the image needs is missing.</summary>
    Incomplete,

    /// <summary>The host would refuse the file for another reason (see <see cref="IgvmValidator"/>).</summary>
    Refused,
}

/// <summary>A launch image cannot be written for a host.</summary>
public sealed class LaunchImageException : Exception
{
    /// <summary>Creates an exception without details.</summary>
    public LaunchImageException()
        : this("The launch image cannot be written.")
    {
    }

    /// <summary>Creates an exception with a message only.</summary>
    /// <param name="message">What happened.</param>
    public LaunchImageException(string message)
        : base(message)
    {
    }

    /// <summary>Creates an exception with a message and its cause.</summary>
    /// <param name="message">What happened.</param>
    /// <param name="innerException">The cause.</param>
    public LaunchImageException(string message, Exception innerException)
        : base(message, innerException)
    {
    }

    /// <summary>Creates an exception.</summary>
    /// <param name="error">The reason.</param>
    /// <param name="message">Value seen, value wanted, what to do.</param>
    public LaunchImageException(LaunchImageError error, string message)
        : base(message)
    {
        Error = error;
    }

    /// <summary>The reason.</summary>
    public LaunchImageError Error { get; }
}
