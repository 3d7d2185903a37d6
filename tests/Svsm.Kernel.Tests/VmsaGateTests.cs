// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System.Threading;
using System.Threading.Tasks;
using Svsm.Kernel.Guest;
using Svsm.Wire;
using Xunit;

namespace Svsm.Kernel.Tests;

public sealed class VmsaGateTests
{
    private const ulong Svme = 0x1000;
    private const ulong OtherBits = 0x0D01;
    private const ulong Vmgexit = 0x403;
    private const ulong Busy = 0xFFFF_FFFF_FFFF_FFFE;

    private sealed class Page
    {
        public Vmsa Vmsa;
    }

    [Fact]
    public void Open_Any_SetsSvmeOnly()
    {
        Vmsa vmsa = new() { Efer = OtherBits };
        VmsaGate.Open(ref vmsa);
        Assert.Equal(OtherBits | Svme, vmsa.Efer);
    }

    [Theory]
    [InlineData(Vmgexit)]
    [InlineData(0x60ul)]
    [InlineData(0ul)]
    [InlineData(ulong.MaxValue)]
    public void TryClose_GuestThatHasExited_ClearsSvmeOnly(ulong exitCode)
    {
        Vmsa vmsa = new() { Efer = OtherBits | Svme, ExitCode = exitCode };
        Assert.True(VmsaGate.TryClose(ref vmsa));
        Assert.Equal(OtherBits, vmsa.Efer);
    }

    [Fact]
    public void TryClose_GuestThatRunsElsewhere_IsRefused()
    {
        Vmsa vmsa = new() { Efer = OtherBits | Svme, ExitCode = Busy };
        Assert.False(VmsaGate.TryClose(ref vmsa));
    }

    // A processor that enters and exits a guest all the time, as VMRUN and #VMEXIT do: it needs SVME to enter, and stores it when it exits.
    [Fact]
    public async Task TryClose_ProcessorThatRunsTheGuestMeanwhile_NeverEndsWithAGuestThatCanRun()
    {
        var page = new Page { Vmsa = new Vmsa { ExitCode = Vmgexit } };
        bool done = false;
        var host = Task.Run(
            () =>
            {
                while (!Volatile.Read(ref done))
                {
                    ulong efer = Volatile.Read(ref page.Vmsa.Efer);
                    if ((efer & Svme) == 0)
                    {
                        continue;
                    }

                    Volatile.Write(ref page.Vmsa.ExitCode, Busy);
                    Interlocked.MemoryBarrier();
                    if ((Volatile.Read(ref page.Vmsa.Efer) & Svme) != 0)
                    {
                        Interlocked.Exchange(ref page.Vmsa.Efer, efer);
                    }

                    Volatile.Write(ref page.Vmsa.ExitCode, Vmgexit);
                }
            },
            TestContext.Current.CancellationToken);

        for (int i = 0; i < 100_000; i++)
        {
            VmsaGate.Open(ref page.Vmsa);
            if (VmsaGate.TryClose(ref page.Vmsa))
            {
                Assert.Equal(0ul, Volatile.Read(ref page.Vmsa.Efer) & Svme);
            }
        }

        Volatile.Write(ref done, true);
        await host;
    }
}
