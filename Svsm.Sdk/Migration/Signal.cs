// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System.Threading;
using System.Threading.Tasks;

namespace Svsm.Migration.Relay;

/// <summary>
/// Says that something has changed. Whoever waits takes <see cref="Changed"/> first, then looks whether what he waits for is so, and then awaits it: so nothing
/// is missed.
/// </summary>
internal sealed class Signal
{
    private TaskCompletionSource _next = new(TaskCreationOptions.RunContinuationsAsynchronously);

    /// <summary>Completes at the next change.</summary>
    public Task Changed => Volatile.Read(ref _next).Task;

    /// <summary>Something has changed.</summary>
    public void Set() => Interlocked.Exchange(ref _next, new(TaskCreationOptions.RunContinuationsAsynchronously)).SetResult();
}
