// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// A guest that is moved with what its virtual TPM and its UEFI variables have on a disk: it is on the target's own disk then, and survives a restart there. The
// source's disk is of no use any more; after a migration that failed the target's is of no use, and the source's is as before.

using System;
using System.Linq;
using System.Threading.Tasks;
using Svsm.Boot;
using Svsm.EndToEnd.Tests;
using Svsm.Simulator;
using Svsm.Wire;
using Xunit;

namespace Svsm.Moving.Tests;

public sealed class StoreTests
{

    private static readonly byte[] s_data = [.. Enumerable.Range(0, 512).Select(i => (byte)(i * 5))];

    [Fact]
    public async Task Store_IsOnTheTargetsDisk_AndTheSourcesIsClosed()
    {
        await using MovingPair pair = await StartAsync();
        int number = await FillAsync(pair);
        (string source, string target) = (MovingPair.DiskOf(pair.SourceSocket), MovingPair.DiskOf(pair.TargetSocket));
        using (var relay = new TestRelay(pair))
        {
            await relay.BeginAsync();
            Notice notice = await relay.WaitForAsync(ofSource: true, MigrationState.Ended, TestContext.Current.CancellationToken);
            Assert.Equal((MigrationState.Ended, MigrationReason.None), (notice.State, notice.Reason));
        }

        var there = new StorageSession();
        there.ReadNv(512, s_data);
        there.GetVariable("A", [1, 2, 3]);
        there.SetVariable("B", [4, 5]);
        await new TypedGuest(pair.Target, number).DoAsync(there);
        await pair.Target.TypeAsync("end\n");
        Assert.Equal(0, (await pair.Target.WaitForEndAsync()).ExitStatus);

        await RestartsAsync(pair, target);
        await pair.Source.StopAsync();
        await StaysClosedAsync(pair, source);
    }

    [Fact]
    public async Task MigrationThatFails_LeavesTheSourcesStore()
    {
        await using MovingPair pair = await StartAsync();
        int number = await FillAsync(pair);
        (string source, string target) = (MovingPair.DiskOf(pair.SourceSocket), MovingPair.DiskOf(pair.TargetSocket));
        using (var relay = new TestRelay(pair) { FromTarget = frame => frame.RecordType == RecordType.Held ? [] : [frame] })
        {
            await relay.BeginAsync();
            await relay.WaitForAsync(ofSource: false, MigrationState.HandedOver, TestContext.Current.CancellationToken);
            await relay.CancelAsync(ofSource: true);
            Assert.Equal(MigrationState.Aborted, (await relay.WaitForAsync(ofSource: true, MigrationState.Aborted, TestContext.Current.CancellationToken)).State);
        }

        var here = new StorageSession();
        here.ReadNv(512, s_data);
        here.SetVariable("B", [4, 5]);
        await new TypedGuest(pair.Source, number).DoAsync(here);
        await pair.Source.TypeAsync("end\n");
        Assert.Equal(0, (await pair.Source.WaitForEndAsync()).ExitStatus);

        await RestartsAsync(pair, source);
        await pair.Target.StopAsync();
        await StaysClosedAsync(pair, target);
    }

    private static Task<MovingPair> StartAsync() =>
        MovingPair.StartAsync("typed", 1, modules: [PackagedModules.Storage, PackagedModules.VarStore, PackagedModules.Vtpm], hasDisks: true);

    // Returns the number of the guest's next command.
    private static async Task<int> FillAsync(MovingPair pair)
    {
        var session = new StorageSession();
        session.Startup();
        session.DefineNv(512);
        session.WriteNv(s_data);
        session.SetVariable("A", [1, 2, 3]);
        var guest = new TypedGuest(pair.Source);
        await guest.DoAsync(session);
        return guest.Number;
    }

    // Another start of the VM, without any migration.
    private static async Task RestartsAsync(MovingPair pair, string disk)
    {
        var session = new StorageSession();
        session.Startup();
        session.ReadNv(512, s_data);
        session.GetVariable("A", [1, 2, 3]);
        session.GetVariable("B", [4, 5]);
        (MachineTest machine, _) = await pair.StartMachineAsync(MigrationRole.Source, alter: options => options with { SvsmDisks = [new SvsmDisk(disk)] });
        await using (machine)
        {
            await new TypedGuest(machine).DoAsync(session);
        }
    }

    // It says that it was moved, and nobody who has a part of it has anything.
    private static async Task StaysClosedAsync(MovingPair pair, string disk)
    {
        (MachineTest machine, _) = await pair.StartMachineAsync(MigrationRole.Source, alter: options => options with { SvsmDisks = [new SvsmDisk(disk)] });
        await using (machine)
        {
            await machine.WaitForLineAsync("the store is not open: Moved", (int)Vmpl.Vmpl0);
            await machine.WaitForLineAsync("the TPM's state cannot be had: NotOpen", (int)Vmpl.Vmpl0);
        }
    }
}
