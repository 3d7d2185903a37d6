// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The core protocol. Served by the kernel itself, because page states and vCPUs are its business. PvalidateCall.cs, VcpuCalls.cs and
// DepositCalls.cs have the larger calls.
//
// CONFIGURE_VTOM: a query says "not supported", a set is refused.
//
// Order of checks: alignment (INVALID_PARAMETER), then whether the address is the guest's memory (INVALID_ADDRESS). An address with
// the C-bit, or beyond the limit, lies in no range of the page state table and thus is no memory.
// Source: coconut-svsm kernel/src/protocols/core.rs, AMDESE linux-svsm src/protocols/core.rs.

using Svsm.Kernel.Guest;
using Svsm.Kernel.Memory;
using Svsm.Wire;

namespace Svsm.Kernel.Protocols;

/// <summary>Serves the core protocol.</summary>
internal static class CoreProtocol
{
    private const ulong VtomQuery = 1;

    /// <summary>Answers a call of the core protocol; see <see cref="ProtocolTable.Dispatch"/>.</summary>
    public static CallOutcome Handle<TPlatform>(
        ref SvsmRequest request, in GuestContext context, in PageStateTable table, ref TPlatform platform, out SvsmResultCode result)
        where TPlatform : IGuestPlatform
    {
        switch ((CoreCall)request.Call)
        {
            case CoreCall.RemapCallingArea:
                result = RemapCallingArea(new PhysicalAddress(request.Rcx), in context, table, ref platform);
                return CallOutcome.Answered;

            case CoreCall.PValidate:
                return PvalidateCall.Handle(new PhysicalAddress(request.Rcx), context.Vmpl, table, ref platform, out result);

            case CoreCall.CreateVcpu:
                result = VcpuCalls.Create(
                    new PhysicalAddress(request.Rcx), new PhysicalAddress(request.Rdx), (uint)request.R8, in context, table, ref platform);
                return CallOutcome.Answered;

            case CoreCall.DeleteVcpu:
                result = VcpuCalls.Delete(new PhysicalAddress(request.Rcx), in context, table, ref platform);
                return CallOutcome.Answered;

            case CoreCall.DepositMemory:
                result = DepositCalls.Deposit(new PhysicalAddress(request.Rcx), in context, table, ref platform);
                return CallOutcome.Answered;

            case CoreCall.WithdrawMemory:
                result = DepositCalls.Withdraw(new PhysicalAddress(request.Rcx), in context, table, ref platform);
                return CallOutcome.Answered;

            case CoreCall.QueryProtocol:
                request.Rcx = ProtocolTable.Query((SvsmProtocol)(uint)(request.Rcx >> 32), (uint)request.Rcx);
                result = SvsmResultCode.Success;
                return CallOutcome.Answered;

            case CoreCall.ConfigureVtom:
                if ((request.Rcx & VtomQuery) != 0)
                {
                    request.Rcx = 0;
                    result = SvsmResultCode.Success;
                }
                else
                {
                    result = SvsmResultCode.InvalidRequest;
                }

                return CallOutcome.Answered;

            default:
                result = SvsmResultCode.UnsupportedCall;
                return CallOutcome.Answered;
        }
    }

    /// <summary>The code for a page that cannot be worked on.</summary>
    public static SvsmResultCode ToResultCode(PageResult result) => result switch
    {
        PageResult.Busy => SvsmResultCode.Busy,
        PageResult.FailInput => SvsmResultCode.PValidateFailInput,
        _ => SvsmResultCode.InvalidAddress,
    };

    private static SvsmResultCode RemapCallingArea<TPlatform>(
        PhysicalAddress address, in GuestContext context, in PageStateTable table, ref TPlatform platform)
        where TPlatform : IGuestPlatform
    {
        if (!address.IsAlignedTo(PageSize.Small))
        {
            return SvsmResultCode.InvalidParameter;
        }

        ref GuestVcpu vcpu = ref context.Current;
        if (address.Value == vcpu.CallingArea.Value)
        {
            return SvsmResultCode.Success;
        }

        switch (GuestPages.MoveCallingArea(table, ref platform, vcpu.CallingArea, address))
        {
            case PageResult.Success:
                break;
            case PageResult.NoChange:
                // The calling area of another vCPU.
                return SvsmResultCode.InvalidParameter;
            case PageResult.Busy:
                return SvsmResultCode.Busy;
            default:
                return SvsmResultCode.InvalidAddress;
        }

        vcpu.CallingArea = address;
        return SvsmResultCode.Success;
    }
}
