// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Writes a launch plan in the form that the hypervisor reads: Shared/LaunchDescription.cs.

using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Svsm.Simulator.Shared;

namespace Svsm.Simulator;

internal static class LaunchBlob
{
    private const ulong PageSize = SecurityProcessor.PageSize;

    public static void Write(LaunchPlan plan, LaunchOptions options, IReadOnlyList<LaunchAttack> attacks, Stream stream, ulong turnSeed = 0, uint hostDevices = 0)
    {
        (LaunchPageType Type, LaunchRam Range)[] ranges =
        [
            .. plan.Required.Select(range => (LaunchPageType.Required, range)),
            .. plan.Validated.Select(range => (LaunchPageType.Validated, range)),
        ];
        var pages = new LaunchPage[plan.Updates.Count + ranges.Length];
        ulong blockCount = 0;
        for (int i = 0; i < plan.Updates.Count; i++)
        {
            LaunchUpdate update = plan.Updates[i];
            pages[i] = new LaunchPage
            {
                Gpa = update.Gpa,
                PageCount = 1,
                Type = update.Type,
                Index = update.Index,
                DataBlock = update.Contents.IsEmpty ? LaunchPage.NoData : blockCount++,
            };
        }

        for (int i = 0; i < ranges.Length; i++)
        {
            pages[plan.Updates.Count + i] = new LaunchPage
            {
                Gpa = ranges[i].Range.Base,
                PageCount = ranges[i].Range.Length / PageSize,
                Type = ranges[i].Type,
                DataBlock = LaunchPage.NoData,
            };
        }

        var items = new LaunchItem[plan.Items.Count];
        for (int i = 0; i < items.Length; i++)
        {
            ulong length = (ulong)plan.Items[i].Contents.Length;
            items[i] = new LaunchItem { Key = plan.Items[i].Key, Length = length, DataBlock = blockCount };
            blockCount += (length + PageSize - 1) / PageSize;
        }

        ulong tablesEnd = (ulong)(Unsafe.SizeOf<LaunchHeader>() + (plan.Ram.Count * Unsafe.SizeOf<LaunchRam>()) + (pages.Length * Unsafe.SizeOf<LaunchPage>())
            + (attacks.Count * Unsafe.SizeOf<LaunchAttack>()) + (items.Length * Unsafe.SizeOf<LaunchItem>()));
        ulong dataOffset = (tablesEnd + PageSize - 1) / PageSize * PageSize;
        var header = new LaunchHeader
        {
            Magic = LaunchHeader.MagicValue,
            Version = LaunchHeader.CurrentVersion,
            VcpuCount = (uint)plan.VcpuCount,
            RamCount = (uint)plan.Ram.Count,
            PageCount = (uint)pages.Length,
            AttackCount = (uint)attacks.Count,
            ItemCount = (uint)items.Length,
            Options = LaunchOptions.Statistics | plan.Options | options,
            DataOffset = dataOffset,
            TotalLength = dataOffset + (blockCount * PageSize),
            Policy = plan.Policy,
            TurnSeed = turnSeed,
            HostDevices = hostDevices,
        };
        stream.Write(MemoryMarshal.AsBytes(new ReadOnlySpan<LaunchHeader>(in header)));
        stream.Write(MemoryMarshal.AsBytes(plan.Ram.ToArray().AsSpan()));
        stream.Write(MemoryMarshal.AsBytes(pages.AsSpan()));
        stream.Write(MemoryMarshal.AsBytes(attacks.ToArray().AsSpan()));
        stream.Write(MemoryMarshal.AsBytes(items.AsSpan()));
        stream.Write(new byte[dataOffset - tablesEnd]);
        foreach (LaunchUpdate update in plan.Updates)
        {
            stream.Write(update.Contents.Span);
        }

        foreach (LaunchItemData item in plan.Items)
        {
            stream.Write(item.Contents.Span);
            stream.Write(new byte[(PageSize - ((ulong)item.Contents.Length % PageSize)) % PageSize]);
        }
    }
}
