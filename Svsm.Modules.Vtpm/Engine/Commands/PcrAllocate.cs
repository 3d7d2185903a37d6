// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_PCR_Allocate: the banks that the TPM has after the next TPM Reset.</summary>
[TpmCommand(CommandCode.PcrAllocate, Traits = CommandTraits.Nv | CommandTraits.PhysicalPresence | CommandTraits.NotReadOnly)]
internal static partial class PcrAllocate
{
    internal readonly record struct Request(
        [Handle(HandleKind.Platform, Role = AuthorizationRole.User)] TpmHandle AuthHandle,
        [Count(TpmLimits.HashCount)] PcrSelection[] PcrAllocation);

    internal readonly record struct Response(bool AllocationSuccess, uint MaxPcr, uint SizeNeeded, uint SizeAvailable);

    internal static TpmResponseCode Execute(CommandContext context, in Request request, out Response response)
    {
        response = default;
        PcrSelection[] allocation = [.. context.Tpm.Persistent.PcrAllocation];
        foreach (PcrSelection selection in request.PcrAllocation)
        {
            // Every hash algorithm has its row; a bank that is not named stays as it is, of two rows for one bank the last counts.
            allocation[Array.FindIndex(allocation, s => s.Hash == selection.Hash)] = selection;
        }

        if (!Array.Exists(allocation, s => (s.Map & PcrBanks.RequiredPcrs) == PcrBanks.RequiredPcrs))
        {
            return TpmResponseCode.Pcr;
        }

        uint needed = 0;
        uint available = 0;
        foreach (PcrSelection selection in allocation)
        {
            uint size = (uint)Algorithms.DigestSize(selection.Hash);
            needed += size * (uint)System.Numerics.BitOperations.PopCount(selection.Map);
            available += size * TpmLimits.PcrCount;
        }

        // There is room for every PCR of every bank, so an allocation never fails.
        context.Tpm.Persistent.PcrAllocation = allocation;
        context.Tpm.IsPcrAllocationPending = true;
        context.Tpm.MarkDirty();
        response = new Response(true, TpmLimits.PcrCount, needed, available);
        return TpmResponseCode.Success;
    }
}
