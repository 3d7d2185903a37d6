using Svsm.Core.Testing;
using Svsm.Wire;
using Xunit;

namespace Acme.Echo.Tests;

public sealed class EchoModuleTests : IDisposable
{
    private readonly ModuleTest _test = new(new EchoModule());

    public void Dispose() => _test.Dispose();

    [Fact]
    public void Echo_GoodCall_CopiesTheBytes()
    {
        _test.Memory.GuestWrite(new(0x1000), "hello"u8);

        SvsmAnswer answer = _test.Call(call: 0, rcx: 0x1000, rdx: 5, r8: 0x2000);

        Assert.Equal((SvsmResultCode.Success, 5ul), (answer.Code, answer.Rcx));
        Assert.Equal("hello"u8, _test.Memory.GuestRead(new(0x2000), 5));
    }

    [Theory]
    [InlineData(1u, 0x1000ul, 5ul, SvsmResultCode.UnsupportedCall)]
    [InlineData(0u, 0x1000ul, 4097ul, SvsmResultCode.InvalidParameter)]
    [InlineData(0u, ulong.MaxValue, 5ul, SvsmResultCode.InvalidAddress)]
    public void Echo_BadCall_IsRefused(uint call, ulong address, ulong length, SvsmResultCode code) =>
        Assert.Equal(code, _test.Call(call, rcx: address, rdx: length, r8: 0x2000).Code);

    [Fact]
    public void State_OfAGuestThatMoves_IsEmpty() => Assert.Equal((1u, 0), (_test.Save()!.Value.Version, _test.Save()!.Value.Bytes.Length));

    // The guest is hostile: it takes the page away between the module's read and its write.
    [Fact]
    public void Echo_PageTakenAwayInTheMiddle_IsAnInvalidAddress()
    {
        _test.Memory.BeforeAccess = access => _test.Memory.SetAccess(new(0x2000), 1, access.IsWrite ? GuestPageAccess.None : GuestPageAccess.ReadWrite);

        Assert.Equal(SvsmResultCode.InvalidAddress, _test.Call(call: 0, rcx: 0x1000, rdx: 5, r8: 0x2000).Code);
    }
}
