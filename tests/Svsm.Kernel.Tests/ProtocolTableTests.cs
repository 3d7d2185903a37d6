// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The table is one for the whole test run, and nothing is ever taken out of it: so there is one test, with protocol numbers that no other one uses.

using Svsm.Kernel.Protocols;
using Svsm.Wire;
using Xunit;

namespace Svsm.Kernel.Tests;

public sealed class ProtocolTableTests
{
    private const uint First = 0xABCD_0000;

    [Fact]
    public void Table_AsManyAsAnArchiveHas_AreFoundUntilTheyRetire()
    {
        for (int i = 0; i < ArchiveHeader.MaxModules; i++)
        {
            Assert.False(ProtocolTable.TryFindModule(Protocol(i), out int none));
            Assert.Equal((0, 0ul), (none, ProtocolTable.Query(Protocol(i), 1)));
            ProtocolTable.Add(Protocol(i), 2, (uint)i + 2, i);
        }

        for (int i = 0; i < ArchiveHeader.MaxModules; i++)
        {
            Assert.True(ProtocolTable.TryFindModule(Protocol(i), out int module));
            Assert.Equal(i, module);
            ulong versions = ((ulong)i + 2 << 32) | 2;
            Assert.Equal(versions, ProtocolTable.Query(Protocol(i), 2));
            Assert.Equal(versions, ProtocolTable.Query(Protocol(i), (uint)i + 2));
            Assert.Equal(0ul, ProtocolTable.Query(Protocol(i), 0));
            Assert.Equal(0ul, ProtocolTable.Query(Protocol(i), 1));
            Assert.Equal(0ul, ProtocolTable.Query(Protocol(i), (uint)i + 3));
            Assert.Equal(0ul, ProtocolTable.Query(Protocol(i), uint.MaxValue));
        }

        // QUERY_PROTOCOL itself says so too.
        var vm = new TestVm();
        Assert.Equal((9ul << 32) | 2, vm.Call(0, (uint)CoreCall.QueryProtocol, ((ulong)Protocol(7) << 32) | 5).Registers.Rcx);

        ProtocolTable.Retire(Protocol(7));
        ProtocolTable.Retire(Protocol(7));
        ProtocolTable.Retire((SvsmProtocol)(First - 1));
        ProtocolTable.Retire(SvsmProtocol.Core);
        Assert.False(ProtocolTable.TryFindModule(Protocol(7), out int retired));
        Assert.Equal((0, 0ul), (retired, ProtocolTable.Query(Protocol(7), 2)));
        Assert.Equal(0ul, vm.Call(0, (uint)CoreCall.QueryProtocol, ((ulong)Protocol(7) << 32) | 5).Registers.Rcx);
        Assert.True(ProtocolTable.TryFindModule(Protocol(6), out _));
        Assert.True(ProtocolTable.TryFindModule(Protocol(8), out _));
        Assert.Equal((1ul << 32) | 1, ProtocolTable.Query(SvsmProtocol.Core, 1));
        Assert.False(ProtocolTable.TryFindModule(SvsmProtocol.Core, out _));

        // Dispatch is for calls that no module serves; what a module serves does not come here.
        (CallOutcome outcome, SvsmResultCode result, SvsmRequest registers) = vm.Call((uint)Protocol(7), 0, 0x1234, 5);
        Assert.Equal((CallOutcome.Answered, SvsmResultCode.UnsupportedProtocol, 0x1234ul, 5ul), (outcome, result, registers.Rcx, registers.Rdx));
    }

    private static SvsmProtocol Protocol(int index) => (SvsmProtocol)(First + (uint)index);
}
