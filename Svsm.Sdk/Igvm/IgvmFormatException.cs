// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Globalization;

namespace Svsm.Igvm;

/// <summary>Which rule of the format a file or a model breaks.</summary>
public enum IgvmErrorKind
{
    /// <summary>The file ends inside its fixed header.</summary>
    FileTooShort,

    /// <summary>The first four bytes are not <c>IGVM</c>.</summary>
    BadMagic,

    /// <summary>The format version is neither 1 nor 2.</summary>
    UnsupportedVersion,

    /// <summary>The architecture is unknown, or version 1 is asked to carry another one than x64.</summary>
    UnsupportedArchitecture,

    /// <summary>The page size of a version-2 file is not 4096.</summary>
    UnsupportedPageSize,

    /// <summary>total_file_size is not the length of the file, or a file to be written exceeds 2 GiB.</summary>
    BadFileSize,

    /// <summary>The variable-header section overlaps the fixed header, is misaligned, or leaves the file.</summary>
    BadHeaderSection,

    /// <summary>The CRC-32 of the headers differs.</summary>
    BadChecksum,

    /// <summary>A variable header, or its padding, ends after the section.</summary>
    TruncatedHeader,

    /// <summary>A variable header has a type that the format does not define.</summary>
    UnknownHeaderType,

    /// <summary>A variable header has another length than its type prescribes.</summary>
    BadHeaderLength,

    /// <summary>A platform or initialization header follows a header of a later section.</summary>
    HeaderOutOfOrder,

    /// <summary>The file has no platform header.</summary>
    NoPlatform,

    /// <summary>Two platform headers name the same platform type or use the same mask.</summary>
    DuplicatePlatform,

    /// <summary>A platform header has a field value that its type does not allow.</summary>
    BadPlatform,

    /// <summary>A compatibility mask is not what the structure needs.</summary>
    BadCompatibilityMask,

    /// <summary>A reserved field is not zero.</summary>
    ReservedNotZero,

    /// <summary>A field has a value outside the values that the format defines.</summary>
    BadValue,

    /// <summary>An address is not a multiple of what it must be a multiple of.</summary>
    MisalignedAddress,

    /// <summary>A size is not a multiple of what it must be a multiple of.</summary>
    MisalignedSize,

    /// <summary>A data reference points into the headers or past the end of the file.</summary>
    DataOutOfFile,

    /// <summary>The data of a structure have another length than the structure prescribes.</summary>
    BadDataLength,

    /// <summary>A parameter area is declared twice.</summary>
    DuplicateParameterArea,

    /// <summary>A directive names a parameter area that is not declared (yet).</summary>
    UnknownParameterArea,

    /// <summary>A directive names a parameter area that was inserted before.</summary>
    ParameterAreaInserted,

    /// <summary>The platform of a VP_CONTEXT has no processor context in this format.</summary>
    UnsupportedVpContext,

    /// <summary>A processor context has contents that the format forbids.</summary>
    BadVpContext,

    /// <summary>A page-table relocation region is duplicated, has no processor, or contains a parameter area.</summary>
    BadPageTableRelocation,

    /// <summary>The file has no data after its headers; the reference library refuses that.</summary>
    NoFileData,
}

/// <summary>An IGVM file, or a model about to be written, breaks the format.</summary>
/// <remarks><see cref="IgvmFile.Parse"/> throws nothing else.</remarks>
public sealed class IgvmFormatException : Exception
{
    /// <summary>Creates an exception without details.</summary>
    public IgvmFormatException()
        : this("The IGVM file breaks the format.")
    {
    }

    /// <summary>Creates an exception with a message only.</summary>
    /// <param name="message">What happened.</param>
    public IgvmFormatException(string message)
        : base(message)
    {
    }

    /// <summary>Creates an exception with a message and its cause.</summary>
    /// <param name="message">What happened.</param>
    /// <param name="innerException">The cause.</param>
    public IgvmFormatException(string message, Exception innerException)
        : base(message, innerException)
    {
    }

    /// <summary>Creates an exception that says what was seen where, and what was wanted.</summary>
    /// <param name="kind">The broken rule.</param>
    /// <param name="offset">Offset in the file, in bytes; null when a model is written.</param>
    /// <param name="subject">The field or structure.</param>
    /// <param name="seen">The value seen.</param>
    /// <param name="wanted">What would be right.</param>
    public IgvmFormatException(IgvmErrorKind kind, long? offset, string subject, string seen, string wanted)
        : base(offset is long at
            ? string.Create(CultureInfo.InvariantCulture, $"IGVM file, offset 0x{at:X}: {subject} is {seen}; wanted {wanted}.")
            : string.Create(CultureInfo.InvariantCulture, $"IGVM model: {subject} is {seen}; wanted {wanted}."))
    {
        Kind = kind;
        Offset = offset;
        Subject = subject;
        Seen = seen;
        Wanted = wanted;
    }

    /// <summary>The broken rule.</summary>
    public IgvmErrorKind Kind { get; }

    /// <summary>Offset in the file where the value stands, in bytes; null when a model is written.</summary>
    public long? Offset { get; }

    /// <summary>The field or structure.</summary>
    public string Subject { get; } = "";

    /// <summary>The value seen, as text.</summary>
    public string Seen { get; } = "";

    /// <summary>What would be right, as text.</summary>
    public string Wanted { get; } = "";
}
