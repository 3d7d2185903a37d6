// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

namespace Svsm.TestModule;

/// <summary>Rows of LibraryModule, and what each answers: what the table of docs/write-a-module.md promises of every program of modules.</summary>
public static class LibraryRows
{
    /// <summary>A file of the archive for the module.</summary>
    public const string SharedFile = "/keys/shared";

    /// <summary>A file of the archive for another module.</summary>
    public const string UnsharedFile = "/keys/unshared";

    /// <summary>Those that do not depend on who runs the program.</summary>
    public static (string Row, string Outcome)[] OfEveryProgram { get; } =
    [
        ("null", "NullReferenceException"),
        ("divide", "DivideByZeroException"),
        ("cast", "InvalidCastException"),
        ("memory", "OutOfMemoryException"),
        ("linq", "1.5,4.5,7.5"),
        ("regex", "a-b-c"),
        ("random", "random"),
        ("culture", "CultureNotFoundException"),
        ("zone", "00:00:00"),
        ("ticks", "grow"),
        ("complete", "complete"),
        ("collect", "collected"),
        ("text", "GRÜN 1.50 00ab"),
        ("collections", "a1 b23 2 soon"),
        ("equal", "True"),
        ("members", "Name,Size"),
        ("emit", "PlatformNotSupportedException"),
        ("json", """{"Name":"x","Size":3}"""),
        ("message", "Arg_NullReferenceException"),
        ("trace", "no names"),
        ("libc", "True"),
    ];
}
