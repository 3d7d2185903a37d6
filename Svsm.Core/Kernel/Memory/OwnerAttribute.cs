// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;

namespace Svsm.Kernel.Memory;

/// <summary>
/// Marks a type whose values own something that somebody has to give back: the analyzer reports a local of such a type that is neither disposed
/// nor handed on (SVSM5002).
/// </summary>
[AttributeUsage(AttributeTargets.Struct)]
internal sealed class OwnerAttribute : Attribute;
