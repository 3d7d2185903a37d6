// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Generic;
using System.Text;

namespace Svsm.SelfTest;

/// <summary>The image's test primitive, on .NET: remembers instead of printing.</summary>
internal static class Check
{
    internal static List<(string Name, bool Passed)> Results { get; } = [];

    internal static void That(ReadOnlySpan<byte> name, bool condition) => Results.Add((Encoding.UTF8.GetString(name), condition));

    internal static int Opaque(int value) => value;

    internal static ulong Opaque(ulong value) => value;
}
