// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// What UEFI says about the variables that it names itself, enforced from the end of DXE on: attributes, sizes, contents; and that its own GUIDs have no
// other variables. Firmware may add properties before (functions 9 and 10), of others, or of these, which then have to keep to both: whatever reads contents
// below can rely on the size that UEFI says.
//
// Source: EDK2 MdeModulePkg/Library/VarCheckUefiLib (the table, the checks of contents) and VarCheckLib (the order of checks).

using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using System.Runtime.InteropServices;

namespace Svsm.Modules.VarStore;

/// <summary>A property: <c>VAR_CHECK_VARIABLE_PROPERTY</c>.</summary>
/// <param name="IsReadOnly">The guest may not write.</param>
/// <param name="Attributes">The attributes that it has to have; 0: any.</param>
/// <param name="MinSize">Fewest bytes.</param>
/// <param name="MaxSize">Most bytes.</param>
internal sealed record VariableProperty(bool IsReadOnly, VariableAttributes Attributes, ulong MinSize, ulong MaxSize);

internal sealed class VariableProperties
{
    private const VariableAttributes Volatile = VariableAttributes.Access;
    private const VariableAttributes NonVolatile = VariableAttributes.Access | VariableAttributes.NonVolatile;
    private const VariableAttributes Authenticated = NonVolatile | VariableAttributes.TimeBasedAuthenticatedWriteAccess;

    // Of a load option: u32 attributes, u16 bytes of the device paths, description.
    private const int LoadOptionHeader = 6;

    // Of a key option: u32 key data, u32 CRC, u16 boot option; then 4 bytes for each key.
    private const int KeyOptionHeader = 10;
    private const int KeyLength = 4;

    private const int DevicePathHeader = 4;
    private const byte EndOfDevicePath = 0x7F;
    private const byte EndOfWholeDevicePath = 0xFF;

    private static readonly Dictionary<VariableId, Definition> s_named = new()
    {
        [Global("LangCodes")] = new(new(false, Volatile, 1, ulong.MaxValue), Contents.Text),
        [Global("Lang")] = new(new(false, NonVolatile, 1, ulong.MaxValue), Contents.Text),
        [Global("Timeout")] = new(new(false, NonVolatile, 2, 2), Contents.Any),
        [Global("PlatformLangCodes")] = new(new(false, Volatile, 1, ulong.MaxValue), Contents.Text),
        [Global("PlatformLang")] = new(new(false, NonVolatile, 1, ulong.MaxValue), Contents.Text),
        [Global("ConIn")] = new(new(false, NonVolatile, DevicePathHeader, ulong.MaxValue), Contents.DevicePath),
        [Global("ConOut")] = new(new(false, NonVolatile, DevicePathHeader, ulong.MaxValue), Contents.DevicePath),
        [Global("ErrOut")] = new(new(false, NonVolatile, DevicePathHeader, ulong.MaxValue), Contents.DevicePath),
        [Global("ConInDev")] = new(new(false, Volatile, DevicePathHeader, ulong.MaxValue), Contents.DevicePath),
        [Global("ConOutDev")] = new(new(false, Volatile, DevicePathHeader, ulong.MaxValue), Contents.DevicePath),
        [Global("ErrOutDev")] = new(new(false, Volatile, DevicePathHeader, ulong.MaxValue), Contents.DevicePath),
        [Global("BootOrder")] = new(new(false, NonVolatile, 2, ulong.MaxValue), Contents.Units),
        [Global("BootNext")] = new(new(false, NonVolatile, 2, 2), Contents.Any),
        [Global("BootCurrent")] = new(new(false, Volatile, 2, 2), Contents.Any),
        [Global("BootOptionSupport")] = new(new(false, Volatile, 4, 4), Contents.Any),
        [Global("DriverOrder")] = new(new(false, NonVolatile, 2, ulong.MaxValue), Contents.Units),
        [Global("SysPrepOrder")] = new(new(false, NonVolatile, 2, ulong.MaxValue), Contents.Units),
        [Global("HwErrRecSupport")] = new(new(false, NonVolatile, 2, 2), Contents.Any),
        [KnownVariables.SetupMode] = new(new(true, Volatile, 1, 1), Contents.Any),
        [KnownVariables.AuditMode] = new(new(false, Volatile, 1, 1), Contents.Any),
        [KnownVariables.DeployedMode] = new(new(false, Volatile, 1, 1), Contents.Any),
        [KnownVariables.KeyExchangeKeys] = new(new(false, Authenticated, 1, ulong.MaxValue), Contents.Any),
        [KnownVariables.PlatformKey] = new(new(false, Authenticated, 1, ulong.MaxValue), Contents.Any),
        [KnownVariables.SignatureSupport] = new(new(true, Volatile, 16, ulong.MaxValue), Contents.Units),
        [KnownVariables.SecureBoot] = new(new(true, Volatile, 1, 1), Contents.Any),
        [Global("KEKDefault")] = new(new(true, Volatile, 1, ulong.MaxValue), Contents.Any),
        [Global("PKDefault")] = new(new(true, Volatile, 1, ulong.MaxValue), Contents.Any),
        [Global("dbDefault")] = new(new(true, Volatile, 1, ulong.MaxValue), Contents.Any),
        [Global("dbxDefault")] = new(new(true, Volatile, 1, ulong.MaxValue), Contents.Any),
        [Global("dbtDefault")] = new(new(true, Volatile, 1, ulong.MaxValue), Contents.Any),
        [Global("OsIndicationsSupported")] = new(new(false, Volatile, 8, 8), Contents.Any),
        [Global("OsIndications")] = new(new(false, NonVolatile, 8, 8), Contents.Any),
        [KnownVariables.VendorKeys] = new(new(true, Volatile, 1, 1), Contents.Any),
        [KnownVariables.Allowed] = new(new(false, Authenticated, 1, ulong.MaxValue), Contents.Any),
        [KnownVariables.Forbidden] = new(new(false, Authenticated, 1, ulong.MaxValue), Contents.Any),
        [KnownVariables.Timestamps] = new(new(false, Authenticated, 1, ulong.MaxValue), Contents.Any),
        [KnownVariables.SecureBootEnable] = new(new(false, VariableAttributes.NonVolatile | VariableAttributes.BootServiceAccess, 1, 1), Contents.Any),
        [KnownVariables.CustomMode] = new(new(false, VariableAttributes.NonVolatile | VariableAttributes.BootServiceAccess, 1, 1), Contents.Any),
        [KnownVariables.VendorKeysNv] = new(new(true, Authenticated & ~VariableAttributes.RuntimeAccess, 1, 1), Contents.Any),
    };

    // Followed by four hexadecimal digits.
    private static readonly Dictionary<string, Definition> s_numbered = new()
    {
        ["Boot"] = new(new(false, NonVolatile, LoadOptionHeader, ulong.MaxValue), Contents.LoadOption),
        ["Driver"] = new(new(false, NonVolatile, LoadOptionHeader, ulong.MaxValue), Contents.LoadOption),
        ["SysPrep"] = new(new(false, NonVolatile, LoadOptionHeader, ulong.MaxValue), Contents.LoadOption),
        ["Key"] = new(new(false, NonVolatile, KeyOptionHeader, KeyOptionHeader + (3 * KeyLength)), Contents.KeyOption),
        ["PlatformRecovery"] = new(new(false, Volatile, LoadOptionHeader, ulong.MaxValue), Contents.LoadOption),
    };

    private readonly Dictionary<VariableId, VariableProperty> _added = [];

    private enum Contents
    {
        Any,
        Text,
        Units,
        DevicePath,
        LoadOption,
        KeyOption,
    }

    /// <summary>The properties that were given.</summary>
    public IReadOnlyDictionary<VariableId, VariableProperty> Added => _added;

    public void Clear() => _added.Clear();

    /// <summary>Gives a variable a property, or another one.</summary>
    /// <returns><see cref="EfiStatus.OutOfResources"/>: too many have one.</returns>
    public EfiStatus Set(VariableId id, VariableProperty property)
    {
        if (_added.Count == VariableLimits.MaxProperties && !_added.ContainsKey(id))
        {
            return EfiStatus.OutOfResources;
        }

        _added[id] = property;
        return EfiStatus.Success;
    }

    /// <summary>The property that a variable was given, or what UEFI says; null: neither.</summary>
    public VariableProperty? Find(VariableId id) => _added.TryGetValue(id, out VariableProperty? added) ? added : FindDefined(id)?.Property;

    /// <summary>The attributes that a variable has to have because UEFI says so; null: any.</summary>
    public static VariableAttributes? FindDefinedAttributes(VariableId id) => FindDefined(id)?.Property.Attributes;

    /// <summary>The vendor of a variable that UEFI or EDK2 names so; null: they name none.</summary>
    public static Guid? FindDefinedVendor(string name)
    {
        if (FindDefined(Global(name)) is not null)
        {
            return KnownVariables.Global;
        }

        foreach (VariableId id in s_named.Keys)
        {
            if (id.Name == name)
            {
                return id.Vendor;
            }
        }

        return null;
    }

    /// <summary>Whether UEFI says nothing about a variable, or that it may hold this.</summary>
    /// <param name="id">The variable.</param>
    /// <param name="data">What it is to hold, at least one byte. Untrusted.</param>
    public static bool IsGood(VariableId id, ReadOnlySpan<byte> data) =>
        IsGood(FindDefined(id), data);

    /// <summary>Checks a write.</summary>
    /// <param name="id">The variable.</param>
    /// <param name="attributes">Attributes of the write.</param>
    /// <param name="data">What is written, without what authenticates it.</param>
    /// <returns><see cref="EfiStatus.WriteProtected"/>: read-only; <see cref="EfiStatus.InvalidParameter"/>: attributes, size, contents, or a name that UEFI
    /// does not have.</returns>
    public EfiStatus Check(VariableId id, VariableAttributes attributes, ReadOnlySpan<byte> data)
    {
        Definition? defined = FindDefined(id);
        VariableProperty? property = _added.TryGetValue(id, out VariableProperty? added) ? added : defined?.Property;
        if (property is { IsReadOnly: true } || defined is { Property.IsReadOnly: true })
        {
            return EfiStatus.WriteProtected;
        }

        bool isAppend = (attributes & VariableAttributes.AppendWrite) != 0;
        if ((data.IsEmpty && !isAppend) || attributes == VariableAttributes.None)
        {
            return EfiStatus.Success;
        }

        if (property is null && (id.Vendor == KnownVariables.Global || id.Vendor == KnownVariables.ImageSecurity || id.Vendor == KnownVariables.HardwareError))
        {
            return EfiStatus.InvalidParameter;
        }

        return HasAttributes(property, attributes) && HasAttributes(defined?.Property, attributes) && (data.IsEmpty || (HasSize(property, data.Length) && IsGood(defined, data)))
            ? EfiStatus.Success
            : EfiStatus.InvalidParameter;
    }

    private static bool IsGood(Definition? defined, ReadOnlySpan<byte> data) =>
        defined is null || (HasSize(defined.Property, data.Length) && IsGood(defined.Contents, defined.Property, data));

    private static bool HasAttributes(VariableProperty? property, VariableAttributes attributes) =>
        property is not { Attributes: not VariableAttributes.None } wanted || (attributes & ~VariableAttributes.AppendWrite) == wanted.Attributes;

    private static bool HasSize(VariableProperty? property, int length) =>
        property is not VariableProperty wanted || ((ulong)length >= wanted.MinSize && (ulong)length <= wanted.MaxSize);

    private static VariableId Global(string name) => new(KnownVariables.Global, name);

    private static Definition? FindDefined(VariableId id)
    {
        if (s_named.TryGetValue(id, out Definition? named))
        {
            return named;
        }

        const int Digits = 4;
        if (id.Vendor == KnownVariables.Global && id.Name.Length > Digits)
        {
            foreach (char digit in id.Name.AsSpan(id.Name.Length - Digits))
            {
                if (!char.IsAsciiHexDigit(digit))
                {
                    return null;
                }
            }

            return s_numbered.TryGetValue(id.Name[..^Digits], out Definition? numbered) ? numbered : null;
        }

        return null;
    }

    // Of data that has the size.
    private static bool IsGood(Contents contents, VariableProperty property, ReadOnlySpan<byte> data) => contents switch
    {
        Contents.Text => data.Contains((byte)0),
        Contents.Units => (ulong)data.Length % property.MinSize == 0,
        Contents.DevicePath => IsDevicePath(data),
        Contents.LoadOption => IsLoadOption(data),
        Contents.KeyOption => (data.Length - KeyOptionHeader) % KeyLength == 0,
        _ => true,
    };

    private static bool IsLoadOption(ReadOnlySpan<byte> data)
    {
        int length = BinaryPrimitives.ReadUInt16LittleEndian(data[4..]);
        ReadOnlySpan<byte> rest = data[LoadOptionHeader..];
        int end = MemoryMarshal.Cast<byte, char>(rest).IndexOf('\0');
        if (end < 0)
        {
            return false;
        }

        rest = rest[((end + 1) * sizeof(char))..];
        return length >= DevicePathHeader && length <= rest.Length && IsDevicePath(rest[..length]);
    }

    // Nodes one behind the other, up to one that ends the whole path; what follows it is not looked at.
    private static bool IsDevicePath(ReadOnlySpan<byte> path)
    {
        while (path.Length >= DevicePathHeader)
        {
            int length = BinaryPrimitives.ReadUInt16LittleEndian(path[2..]);
            if (length < DevicePathHeader || length > path.Length)
            {
                return false;
            }

            if (path[0] == EndOfDevicePath && path[1] == EndOfWholeDevicePath)
            {
                return length == DevicePathHeader;
            }

            path = path[length..];
        }

        return false;
    }

    private sealed record Definition(VariableProperty Property, Contents Contents);
}
