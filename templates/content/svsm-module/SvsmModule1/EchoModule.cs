using Svsm.Core;
using Svsm.Wire;

namespace SvsmModule1;

/// <summary>Protocol 0x8000_0001: copies the guest's bytes.</summary>
[SvsmProtocol(0x8000_0001)]
public sealed class EchoModule : SvsmModule
{
    private const uint EchoCall = 0;
    private const int MaxLength = 4096;

    // It keeps nothing of the guest, so the guest can move to another machine: there is nothing to take along.
    protected override uint StateVersion => 1;

    // RCX: address of the bytes, RDX: how many, R8: where to. RCX afterwards: how many were copied.
    protected override SvsmResult Handle(in SvsmRequest request)
    {
        if (request.Call != EchoCall)
        {
            return SvsmResultCode.UnsupportedCall;
        }

        if (request.Rdx > MaxLength)
        {
            return SvsmResultCode.InvalidParameter;
        }

        Span<byte> bytes = stackalloc byte[(int)request.Rdx];
        if (!Guest.TryRead(new PhysicalAddress(request.Rcx), bytes) || !Guest.TryWrite(new PhysicalAddress(request.R8), bytes))
        {
            return SvsmResultCode.InvalidAddress;
        }

        return new SvsmResult(SvsmResultCode.Success) { Rcx = request.Rdx };
    }
}
