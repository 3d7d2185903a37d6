// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System.Collections.Immutable;
using Svsm.Wire;

namespace Svsm.Measurement;

/// <summary>A page in the order in which it entered the digest.</summary>
/// <param name="Gpa">Guest-physical address.</param>
/// <param name="Type">Page type.</param>
/// <param name="Contents">SHA-384 of the contents; zeroes when the contents are not measured.</param>
/// <param name="DigestAfter">The launch digest after this page.</param>
public readonly record struct MeasuredPage(ulong Gpa, SnpPageType Type, LaunchDigest Contents, LaunchDigest DigestAfter);

/// <summary>A predicted launch digest and how it came about.</summary>
/// <param name="Digest">The launch digest.</param>
/// <param name="Pages">Every page in launch order.</param>
public sealed record MeasurementResult(LaunchDigest Digest, ImmutableArray<MeasuredPage> Pages);
