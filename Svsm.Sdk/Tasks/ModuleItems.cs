// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Generic;
using System.Collections.Immutable;
using System.Globalization;
using System.Linq;
using Microsoft.Build.Framework;
using Svsm.Builder;
using Svsm.Diagnostics;
using Svsm.Wire;

namespace Svsm.Sdk.Tasks;

/// <summary>
/// Reads SvsmModule items. An item is called as the module's assembly; metadata: Type, the class; HeapLimit and MemoryLimit, bytes, or KiB or MiB with that
/// behind the number; Watchdog, milliseconds; OnFailure, Restart or Retire; RestartLimit; Permissions, of ReadGuest, WriteGuest and one of Attest, Store, KeepStore and Migrate, or None;
/// StoreQuota, bytes as above.
/// </summary>
internal static class ModuleItems
{
    /// <summary>Reads items, and of their assemblies what these say.</summary>
    /// <exception cref="SvsmDiagnosticException">SVSM4001, SVSM4005, SVSM4006, SVSM2025, SVSM2026: the items name no modules.</exception>
    public static ImmutableArray<ModuleOptions> Read(ITaskItem[] items, IReadOnlyCollection<string> assemblies)
    {
        ImmutableArray<ModuleOptions> modules = [.. items.Select(item => Read(item, assemblies))];
        ModuleArchiveWriter.Check(modules);
        return modules;
    }

    private static ModuleOptions Read(ITaskItem item, IReadOnlyCollection<string> assemblies)
    {
        ModuleClass type = ModuleClass.Read(item.ItemSpec, item.GetMetadata("Type").Trim(), assemblies);
        ulong heap = ReadSize(item, "HeapLimit", ModuleOptions.DefaultHeapLimit);
        var module = new ModuleOptions
        {
            TypeName = type.TypeName,
            Protocol = type.Protocol,
            MinVersion = type.MinVersion,
            MaxVersion = type.MaxVersion,
            Service = type.Service,
            HeapLimit = heap,
            MemoryLimit = ReadSize(item, "MemoryLimit", ModuleOptions.DefaultMemoryLimit),
            Watchdog = (uint)ReadNumber(item, "Watchdog", ModuleOptions.DefaultWatchdog, uint.MaxValue),
            RestartLimit = (uint)ReadNumber(item, "RestartLimit", ModuleOptions.DefaultRestartLimit, uint.MaxValue),
        };
        ModulePermissions permissions = ReadNames(item, "Permissions", module.Permissions);
        long quota = (permissions & ModulePermissions.Store) != 0 ? ModuleOptions.DefaultStoreQuota : 0;
        return module with
        {
            OnFailure = ReadNames(item, "OnFailure", module.OnFailure),
            Permissions = permissions,
            StoreQuota = (long)ReadSize(item, "StoreQuota", (ulong)quota),
        };
    }

    private static ulong ReadSize(ITaskItem item, string name, ulong otherwise)
    {
        string text = item.GetMetadata(name).Trim();
        (string number, ulong unit) = text.EndsWith("KiB", StringComparison.OrdinalIgnoreCase) ? (text[..^3].TrimEnd(), 1ul << 10)
            : text.EndsWith("MiB", StringComparison.OrdinalIgnoreCase) ? (text[..^3].TrimEnd(), 1ul << 20)
            : (text, 1ul);
        return text.Length == 0 ? otherwise
            : ulong.TryParse(number, NumberStyles.None, CultureInfo.InvariantCulture, out ulong value) && value <= uint.MaxValue / unit ? value * unit
            : throw Invalid(item, name, "a number of bytes below 4 GiB, such as 6291456, 6144KiB or 6MiB");
    }

    private static ulong ReadNumber(ITaskItem item, string name, ulong otherwise, ulong most)
    {
        string text = item.GetMetadata(name).Trim();
        return text.Length == 0 ? otherwise
            : ulong.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out ulong value) && value <= most ? value
            : throw Invalid(item, name, string.Create(CultureInfo.InvariantCulture, $"a number from 0 to {most}"));
    }

    // Semicolons, as lists have them in MSBuild, or commas.
    private static T ReadNames<T>(ITaskItem item, string name, T otherwise)
        where T : struct, Enum
    {
        string text = item.GetMetadata(name).Trim();
        string[] words = text.Split([';', ','], StringSplitOptions.TrimEntries);
        bool several = typeof(T).IsDefined(typeof(FlagsAttribute), false);
        return text.Length == 0 ? otherwise
            : (several || words.Length == 1) && words.All(word => Enum.GetNames<T>().Contains(word, StringComparer.OrdinalIgnoreCase))
                ? Enum.Parse<T>(string.Join(',', words), ignoreCase: true)
            : throw Invalid(item, name, (several ? "some of " : "one of ") + string.Join(", ", Enum.GetNames<T>()));
    }

    private static SvsmDiagnosticException Invalid(ITaskItem item, string name, string wanted) =>
        SvsmDiagnostics.ModuleMetadataInvalid.Error($"SvsmModule '{item.ItemSpec}' has {name} '{item.GetMetadata(name)}'", wanted);
}
