// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using Svsm.Kernel.Guest;
using Svsm.Wire;

namespace Svsm.Kernel.Protocols;

/// <summary>What the protocols know of the vCPU that calls, and of the others.</summary>
internal readonly ref struct GuestContext
{
    /// <summary>Makes a context.</summary>
    /// <param name="vcpus">The guest's vCPUs.</param>
    /// <param name="index">Which one calls. Its lock is held while a call is answered.</param>
    /// <param name="vmpl">VMPL of the guest.</param>
    public GuestContext(Span<GuestVcpu> vcpus, int index, Vmpl vmpl)
    {
        Vcpus = vcpus;
        Index = index;
        Vmpl = vmpl;
    }

    /// <summary>The guest's vCPUs.</summary>
    public Span<GuestVcpu> Vcpus { get; }

    /// <summary>Which one calls.</summary>
    public int Index { get; }

    /// <summary>VMPL of the guest.</summary>
    public Vmpl Vmpl { get; }

    /// <summary>The one that calls.</summary>
    public ref GuestVcpu Current => ref Vcpus[Index];
}
