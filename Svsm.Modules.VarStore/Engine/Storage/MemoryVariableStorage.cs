// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// A storage that ends with its process: for images without one. Nobody opens it again, so it keeps nothing.

using System;
using System.Collections.Generic;

namespace Svsm.Modules.VarStore;

/// <summary>Keeps non-volatile variables in the memory of the engine alone.</summary>
public sealed class MemoryVariableStorage : IVariableStorage
{
    /// <inheritdoc/>
    public bool IsPersistent => false;

    /// <inheritdoc/>
    public bool TryLoad(out IReadOnlyList<StorageRecord> records)
    {
        records = [];
        return true;
    }

    /// <inheritdoc/>
    public bool TryCommit(ReadOnlySpan<StorageRecord> changes) => true;
}
