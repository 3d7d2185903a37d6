// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;

namespace Svsm.Kernel;

/// <summary>The kernel's version, as its first line says it.</summary>
internal static class KernelVersion
{
    /// <summary>Follows VersionPrefix of Directory.Build.props.</summary>
    public static ReadOnlySpan<byte> Text => "0.1.0"u8;
}
