// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

namespace Svsm.TestModule;

/// <summary>Rows of LibraryModule, and what each answers: what the table of docs/write-a-module.md promises of every program of modules.</summary>
public static class LibraryRows
{
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
    ];
}
