// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm;

/// <summary>Where a TPM lives: what it needs from outside. One object per TPM; the engine calls it from the thread that calls the engine.</summary>
/// <param name="Clock">Time.</param>
/// <param name="Entropy">Entropy.</param>
/// <param name="Storage">Storage of the permanent state; null for a TPM whose seeds end with the object.</param>
public sealed record TpmPlatform(ITpmClock Clock, ITpmEntropy Entropy, ITpmStorage? Storage)
{
    /// <summary>The largest command and response in bytes: 4096 on the desk, less where the guest's buffer has no room for it.</summary>
    public int MessageSize { get; init; } = TpmLimits.MaxCommandSize;

    /// <summary>How many milliseconds a command works at all, then its answer is TPM_RC_RETRY: 4900, for callers that give up after five seconds.</summary>
    public int CommandMilliseconds { get; init; } = 4900;
}

/// <summary>A clock that never goes back while the object lives.</summary>
public interface ITpmClock
{
    /// <summary>Milliseconds since any fixed moment.</summary>
    long Milliseconds { get; }
}

/// <summary>A source of entropy.</summary>
public interface ITpmEntropy
{
    /// <summary>Fills the buffer with full-entropy bytes.</summary>
    /// <returns>False when there is no entropy; the TPM then goes into failure mode.</returns>
    bool TryFill(Span<byte> buffer);
}

/// <summary>Storage for one blob, replaced as a whole.</summary>
public interface ITpmStorage
{
    /// <summary>Reads the blob that was written last.</summary>
    /// <param name="content">The blob when the result is <see cref="TpmStorageResult.Done"/>, else empty.</param>
    TpmStorageResult Read(out byte[] content);

    /// <summary>Replaces the blob. After a crash at any moment the storage has the old blob or the new one, whole.</summary>
    /// <returns><see cref="TpmStorageResult.Done"/> only when the new blob is durable.</returns>
    TpmStorageResult Write(ReadOnlySpan<byte> content);
}

/// <summary>What came of a storage operation.</summary>
public enum TpmStorageResult
{
    /// <summary>It was done.</summary>
    Done,

    /// <summary>Nothing was ever written.</summary>
    Absent,

    /// <summary>The storage failed, or what it has does not authenticate.</summary>
    Failed,
}
