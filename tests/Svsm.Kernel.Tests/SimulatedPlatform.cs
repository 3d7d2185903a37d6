// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// A simulated reverse map with pages of contents, for the kernel's decisions. It records every operation in order, can be told
// to answer one of them differently, and complains where a real processor or host would stop: operations without an open page,
// access to pages that are not validated.

using System;
using System.Collections.Generic;
using System.Linq;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Svsm.Kernel.Arch;
using Svsm.Kernel.Memory;
using Svsm.Wire;
using Xunit;

namespace Svsm.Kernel.Tests;

/// <summary>One recorded operation.</summary>
internal sealed record Operation(string Name, ulong Page, PageSize Size, Vmpl Target = 0, RmpPermissions Permissions = 0);

/// <summary>A 4-KiB page.</summary>
internal sealed class SimulatedPage
{
    public bool IsValidated { get; set; }

    /// <summary>Part of a 2-MiB entry of the reverse map.</summary>
    public bool IsLarge { get; set; }

    /// <summary>A VMSA that runs.</summary>
    public bool IsRunning { get; set; }

    public RmpPermissions[] Permissions { get; } = new RmpPermissions[4];

    public byte[] Contents { get; } = GC.AllocateArray<byte>(Page.Size, pinned: true);

    /// <summary>The host took it: accesses fault, and the processor refuses it.</summary>
    public bool IsGone { get; private set; }

    public void TakeAway()
    {
        IsGone = true;
        IsValidated = false;
        GuestAccess.Fault(Contents);
    }
}

internal sealed class SimulatedPlatform : IGuestPlatform
{
    private readonly Dictionary<ulong, SimulatedPage> _pages = [];
    private PhysicalAddress _open;
    private PageSize _openSize;
    private bool _isOpen;
    private int _mapped;

    public List<Operation> Operations { get; } = [];

    /// <summary>Index of the operation whose answer is replaced; -1 = none.</summary>
    public int FailAt { get; set; } = -1;

    /// <summary>The replacement.</summary>
    public RmpResult FailWith { get; set; } = RmpResult.FailInput;

    /// <summary>The operation at <see cref="FailAt"/> reports "no change" instead of a result.</summary>
    public bool FailUnchanged { get; set; }

    public int Flushes { get; private set; }

    /// <summary>Number of operations before the last flush.</summary>
    public int OperationsBeforeFlush { get; private set; }

    /// <summary>Nothing is open or mapped.</summary>
    public bool IsIdle => !_isOpen && _mapped == 0;

    public SimulatedPage this[ulong address]
    {
        get
        {
            ulong number = address >> Page.Shift;
            if (!_pages.TryGetValue(number, out SimulatedPage? page))
            {
                _pages.Add(number, page = new SimulatedPage());
            }

            return page;
        }
    }

    /// <summary>Makes the 512 pages at an address one entry of the reverse map.</summary>
    public void MakeLarge(ulong address)
    {
        for (ulong i = 0; i < Page.PerLarge; i++)
        {
            this[address + (i * Page.Size)].IsLarge = true;
        }
    }

    public void Open(PhysicalAddress page, PageSize size)
    {
        Assert.False(_isOpen, "a page is open already");
        Assert.True(page.IsAlignedTo(size));
        _isOpen = true;
        _open = page;
        _openSize = size;
    }

    public void Close()
    {
        Assert.True(_isOpen);
        _isOpen = false;
    }

    public RmpResult PValidate(bool validate, out bool unchanged)
    {
        RmpResult? replaced = Record(new Operation(validate ? "validate" : "rescind", _open.Value, _openSize), out unchanged);
        if (replaced is RmpResult result)
        {
            return result;
        }

        if (IsSizeMismatch())
        {
            return RmpResult.FailSizeMismatch;
        }

        unchanged = true;
        foreach (SimulatedPage page in OpenPages())
        {
            unchanged &= page.IsValidated == validate;
            page.IsValidated = validate;
        }

        return RmpResult.Success;
    }

    public RmpResult RmpAdjust(Vmpl target, RmpPermissions permissions)
    {
        RmpResult? replaced = Record(new Operation("adjust", _open.Value, _openSize, target, permissions), out _);
        if (replaced is RmpResult result)
        {
            return result;
        }

        if (IsSizeMismatch())
        {
            return RmpResult.FailSizeMismatch;
        }

        if (this[_open.Value].IsRunning)
        {
            return RmpResult.FailInUse;
        }

        if (OpenPages().Any(page => page.IsGone))
        {
            return RmpResult.FailInput;
        }

        foreach (SimulatedPage page in OpenPages())
        {
            Assert.True(page.IsValidated, "RMPADJUST of a page that is not validated");
            page.Permissions[(int)target] = permissions;
        }

        return RmpResult.Success;
    }

    public bool TryZero()
    {
        if (Record(new Operation("zero", _open.Value, _openSize), out _) is not null)
        {
            return false;
        }

        if (OpenPages().Any(page => page.IsGone))
        {
            return false;
        }

        foreach (SimulatedPage page in OpenPages())
        {
            Assert.True(page.IsValidated, "write to a page that is not validated");
            page.Contents.AsSpan().Clear();
        }

        return true;
    }

    public GuestWindow Map(PhysicalAddress page)
    {
        Assert.True(page.IsAlignedTo(PageSize.Small));
        Assert.True(this[page.Value].IsValidated || this[page.Value].IsGone, "mapping of a page that is not validated");
        _mapped++;
        return new GuestWindow(ref MemoryMarshal.GetArrayDataReference(this[page.Value].Contents), page.PageNumber);
    }

    public void Unmap(GuestWindow window)
    {
        Assert.False(Unsafe.IsNullRef(ref window.Start));
        _mapped--;
    }

    /// <summary>Called at each flush.</summary>
    public Action? OnFlush { get; set; }

    public void FlushGuestTranslations()
    {
        Flushes++;
        OperationsBeforeFlush = Operations.Count;
        OnFlush?.Invoke();
    }

    public Stack<PhysicalAddress> SpareFrames { get; } = [];

    public bool HasSpareFrames => SpareFrames.Count != 0;

    public bool TryAddSpareFrame(PhysicalAddress frame)
    {
        OnAddSpareFrame?.Invoke(frame);
        if (this[frame.Value].IsGone)
        {
            return false;
        }

        SpareFrames.Push(frame);
        return true;
    }

    /// <summary>Called for each page that is about to become a spare frame.</summary>
    public Action<PhysicalAddress>? OnAddSpareFrame { get; set; }

    public bool TryTakeSpareFrame(out PhysicalAddress frame) => SpareFrames.TryPop(out frame);

    private RmpResult? Record(Operation operation, out bool unchanged)
    {
        Assert.True(_isOpen, "no page is open");
        bool fails = Operations.Count == FailAt;
        Operations.Add(operation);
        unchanged = fails && FailUnchanged;
        return !fails ? null : FailUnchanged ? RmpResult.Success : FailWith;
    }

    private bool IsSizeMismatch() => _openSize == PageSize.Large && !this[_open.Value].IsLarge;

    private IEnumerable<SimulatedPage> OpenPages()
    {
        for (int i = 0; i < PhysicalAddress.PagesOf(_openSize); i++)
        {
            yield return this[_open.Value + ((ulong)i * Page.Size)];
        }
    }
}
