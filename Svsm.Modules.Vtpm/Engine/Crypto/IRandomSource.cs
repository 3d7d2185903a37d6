// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;

namespace Svsm.Modules.Vtpm.Crypto;

/// <summary>Where the numbers of a new object come from: chance, the seed of a hierarchy, or a parent for derivation.</summary>
internal interface IRandomSource
{
    void Fill(Span<byte> result);
}

/// <summary>Work of a command that may have to be continued, or be given up at any moment.</summary>
internal interface IUnfinishedWork
{
    /// <summary>Clears the secrets in it.</summary>
    void Clear();
}
