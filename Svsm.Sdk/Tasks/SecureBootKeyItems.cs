// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Immutable;
using System.Linq;
using Microsoft.Build.Framework;
using Svsm.Builder;
using Svsm.Diagnostics;

namespace Svsm.Sdk.Tasks;

/// <summary>
/// Reads SvsmSecureBootKey items: keys for secure boot. An item is the file's path on the PC; metadata: Variable, the one that it is for; Owner, the GUID that
/// its certificates get in it.
/// </summary>
internal static class SecureBootKeyItems
{
    /// <summary>Reads items and their files.</summary>
    /// <param name="items">The items.</param>
    /// <returns>What they say, in their order.</returns>
    /// <exception cref="SvsmDiagnosticException">SVSM2015: a file cannot be read. SVSM4009: an owner is no GUID. (The rest is checked with the modules.)</exception>
    public static ImmutableArray<SecureBootKeyFile> Read(ITaskItem[] items) => [.. items.Select(item =>
        new SecureBootKeyFile(item.ItemSpec, WriteSvsmImage.Read("SecureBootKey", item.ItemSpec), item.GetMetadata("Variable").Trim(), ReadOwner(item)))];

    private static Guid? ReadOwner(ITaskItem item)
    {
        string text = item.GetMetadata("Owner").Trim();
        return text.Length == 0 ? null
            : Guid.TryParseExact(text, "D", out Guid owner) ? owner
            : throw SvsmDiagnostics.SecureBootKeyInvalid.Error($"SvsmSecureBootKey '{item.ItemSpec}' has Owner '{text}'", "a GUID such as 01234567-89ab-cdef-0123-456789abcdef, or none");
    }
}
