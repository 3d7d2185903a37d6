// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using Svsm.Kernel.Memory;
using Svsm.Wire;

namespace Svsm.Kernel.Protocols;

/// <summary>What the protocols know of the vCPU that calls.</summary>
internal struct GuestContext
{
    /// <summary>Its calling area.</summary>
    public PhysicalAddress CallingArea;

    /// <summary>VMPL of the guest.</summary>
    public Vmpl Vmpl;
}
