// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Globalization;

namespace Svsm.Builder;

/// <summary>Why an image cannot be built. The number is that of the diagnostic.</summary>
public enum ImageBuildError
{
    /// <summary>Not used by the builder.</summary>
    None = 0,

    /// <summary>A file is not a well-formed ELF64 file.</summary>
    ElfMalformed = 2001,

    /// <summary>An ELF file is of a kind that an image cannot carry: another processor, a shared object, a dynamic executable.</summary>
    ElfUnsupported = 2002,

    /// <summary>A loadable segment does not start on a page boundary.</summary>
    SegmentMisaligned = 2003,

    /// <summary>A segment is writable and executable.</summary>
    SegmentWritableAndExecutable = 2004,

    /// <summary>A segment lies where the image has no place for it.</summary>
    SegmentMisplaced = 2005,

    /// <summary>Two segments share a page.</summary>
    SegmentsOverlap = 2006,

    /// <summary>The entry point is not in the executable part that it must be in.</summary>
    EntryInvalid = 2007,

    /// <summary>A symbol that the builder needs is missing, or has a value that cannot be right.</summary>
    SymbolInvalid = 2008,

    /// <summary>The boot stub and what belongs to it do not fit below the limit of the low area.</summary>
    LowAreaFull = 2009,

    /// <summary>The kernel does not fit into its region.</summary>
    RegionFull = 2010,

    /// <summary>The guest's contents overlap something else of the image, or lie where a payload cannot.</summary>
    GuestMisplaced = 2011,

    /// <summary>The guest's contents are in too many pieces.</summary>
    TooManyGuestRanges = 2012,

    /// <summary>An option has a value that is not possible.</summary>
    OptionInvalid = 2013,

    /// <summary>The host that the image is for would refuse it.</summary>
    HostRefuses = 2014,
}

/// <summary>An image cannot be built from what was given.</summary>
public sealed class ImageBuildException : Exception
{
    /// <summary>Creates an exception without details.</summary>
    public ImageBuildException()
        : this("The image cannot be built.")
    {
    }

    /// <summary>Creates an exception with a message only.</summary>
    /// <param name="message">What happened.</param>
    public ImageBuildException(string message)
        : base(message)
    {
    }

    /// <summary>Creates an exception with a message and its cause.</summary>
    /// <param name="message">What happened.</param>
    /// <param name="innerException">The cause.</param>
    public ImageBuildException(string message, Exception innerException)
        : base(message, innerException)
    {
    }

    /// <summary>Creates an exception with a code.</summary>
    /// <param name="error">The reason.</param>
    /// <param name="message">Value seen, value wanted, what to do. Formatted with the invariant culture.</param>
    public ImageBuildException(ImageBuildError error, FormattableString message)
        : base(message is null ? "" : message.ToString(CultureInfo.InvariantCulture)) => Error = error;

    /// <summary>Creates an exception with a code and its cause.</summary>
    /// <param name="error">The reason.</param>
    /// <param name="message">Value seen, value wanted, what to do.</param>
    /// <param name="innerException">The cause.</param>
    public ImageBuildException(ImageBuildError error, string message, Exception innerException)
        : base(message, innerException) => Error = error;

    /// <summary>The reason.</summary>
    public ImageBuildError Error { get; }

    /// <summary>The code of the diagnostic.</summary>
    public string Code => string.Create(CultureInfo.InvariantCulture, $"SVSM{(int)Error:D4}");
}
