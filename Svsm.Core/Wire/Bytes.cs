// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Bytes without a meaning of their own in wire structures, and the mark of those that are secret. For all that read or write one.

using System;
using System.Runtime.CompilerServices;

namespace Svsm.Wire;

/// <summary>16 bytes.</summary>
[InlineArray(16)]
public struct Bytes16
{
    private byte _element0;
}

/// <summary>32 bytes.</summary>
[InlineArray(32)]
public struct Bytes32
{
    private byte _element0;
}

/// <summary>Marks what must not be compared in a time that depends on it: the analyzer reports it (SVSM5005).</summary>
[AttributeUsage(AttributeTargets.Struct | AttributeTargets.Field | AttributeTargets.Property | AttributeTargets.Parameter)]
public sealed class SecretAttribute : Attribute;
