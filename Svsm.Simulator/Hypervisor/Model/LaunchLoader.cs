// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Reads the launch blob and makes the machine that it describes. The blob comes from the machine's host side; everything in it is checked,
// because a mistake there would look like one of the guest.

using System;
using Svsm.Simulator.Shared;
using Svsm.Wire;

namespace Svsm.Hypervisor;

/// <summary>The launch.</summary>
internal unsafe ref struct LaunchLoader
{
    // SAFETY (whole type): every offset into the blob is checked against its length first.

    private readonly VirtualMachine _machine;
    private readonly byte* _blob;
    private readonly ulong _length;
    private LaunchHeader _header;

    /// <summary>Makes a loader.</summary>
    /// <param name="machine">A machine without memory and vCPUs.</param>
    /// <param name="blob">The blob.</param>
    /// <param name="length">Its length in bytes.</param>
    public LaunchLoader(VirtualMachine machine, byte* blob, ulong length)
    {
        _machine = machine;
        _blob = blob;
        _length = length;
        Error = default;
        BadIndex = 0;
    }

    /// <summary>What is wrong, after <see cref="TryLoad"/> returned false.</summary>
    public ReadOnlySpan<byte> Error { get; private set; }

    /// <summary>Index of the range or page that is wrong.</summary>
    public ulong BadIndex { get; private set; }

    /// <summary>Loads the blob: memory, pages, vCPUs; vCPU 0 is ready to run.</summary>
    /// <returns>False when the blob is refused.</returns>
    public bool TryLoad()
    {
        if (_length < (ulong)sizeof(LaunchHeader))
        {
            return Fail("launch blob: shorter than its header"u8, _length);
        }

        _header = *(LaunchHeader*)_blob;
        if (_header.Magic != LaunchHeader.MagicValue)
        {
            return Fail("launch blob: bad magic number"u8, _header.Magic);
        }

        if (_header.Version != LaunchHeader.CurrentVersion)
        {
            return Fail("launch blob: made for another version of the hypervisor; version"u8, _header.Version);
        }

        if (_header.TotalLength > _length || _header.DataOffset > _header.TotalLength || (_header.DataOffset & (Amd64.PageSize - 1)) != 0)
        {
            return Fail("launch blob: longer than the file, or page data misplaced; length"u8, _header.TotalLength);
        }

        if (_header.VcpuCount is 0 or > VirtualMachine.MaxCpus)
        {
            return Fail("launch blob: 1 to 64 vCPUs can run; wanted"u8, _header.VcpuCount);
        }

        ulong tables = (ulong)sizeof(LaunchHeader) + ((ulong)_header.RamCount * (ulong)sizeof(LaunchRam))
            + ((ulong)_header.PageCount * (ulong)sizeof(LaunchPage)) + ((ulong)_header.AttackCount * (ulong)sizeof(LaunchAttack))
            + ((ulong)_header.ItemCount * (ulong)sizeof(LaunchItem));
        if (tables > _header.DataOffset)
        {
            return Fail("launch blob: its tables overlap the page data; length of the tables"u8, tables);
        }

        if (_header.HostDevices >> MachinePorts.HostDeviceSlots != 0 || (_header.HostDevices != 0 && _machine.Window == null))
        {
            return Fail("launch blob: unknown devices of the machine, or no window to it; devices"u8, _header.HostDevices);
        }

        for (int i = 0; i < MachinePorts.HostDeviceSlots; i++)
        {
            if ((_header.HostDevices & (1u << i)) != 0)
            {
                _machine.Devices.TryAdd(new HostDevice(_machine, i));
            }
        }

        _machine.IsNotified = _header.HostDevices >> MachinePorts.MigrationSource != 0;

        _machine.Options = _header.Options;
        var cpus = new VirtualCpu[_header.VcpuCount];
        for (int i = 0; i < cpus.Length; i++)
        {
            cpus[i] = new VirtualCpu(_machine.Pool, i);
        }

        _machine.Cpus = cpus;
        _machine.Threads.Enabled = (_header.Options & LaunchOptions.Threads) != 0;
        if ((_header.Options & LaunchOptions.DrawTurns) != 0)
        {
            _machine.Interrupts.DrawTurns(_header.TurnSeed);
        }

        return TryAddRam() && TryAddPages() && TryAddAttacks() && TryAddItems() && TryStart();
    }

    private bool TryAddRam()
    {
        // SAFETY: the tables were found to lie inside the blob.
        var ranges = (LaunchRam*)(_blob + sizeof(LaunchHeader));
        for (uint i = 0; i < _header.RamCount; i++)
        {
            if (!_machine.Memory.TryAddRam(ranges[i]))
            {
                return Fail("launch blob: RAM range malformed, overlapping, or one of too many; index"u8, i);
            }
        }

        _machine.Memory.Seal();
        return true;
    }

    private bool TryAddPages()
    {
        var pages = (LaunchPage*)(_blob + sizeof(LaunchHeader) + (_header.RamCount * (uint)sizeof(LaunchRam)));
        for (uint i = 0; i < _header.PageCount; i++)
        {
            if (!TryAddPage(pages[i]))
            {
                return Fail("launch blob: page malformed, outside RAM, or launched twice; index"u8, i);
            }
        }

        return true;
    }

    private bool TryAddAttacks()
    {
        var attacks = (LaunchAttack*)(_blob + sizeof(LaunchHeader) + (_header.RamCount * (uint)sizeof(LaunchRam)) + (_header.PageCount * (uint)sizeof(LaunchPage)));
        for (uint i = 0; i < _header.AttackCount; i++)
        {
            if (!_machine.Attacks.TryAdd(attacks[i]))
            {
                return Fail("launch blob: attack malformed, or one of too many; index"u8, i);
            }
        }

        return true;
    }

    private bool TryAddItems()
    {
        var items = (LaunchItem*)(_blob + sizeof(LaunchHeader) + (_header.RamCount * (uint)sizeof(LaunchRam)) + (_header.PageCount * (uint)sizeof(LaunchPage))
            + (_header.AttackCount * (uint)sizeof(LaunchAttack)));
        for (uint i = 0; i < _header.ItemCount; i++)
        {
            if (!TryAddItem(in items[i]))
            {
                return Fail("launch blob: item malformed, or one of too many; index"u8, i);
            }
        }

        return true;
    }

    private readonly bool TryAddItem(in LaunchItem item)
    {
        ulong room = _header.TotalLength - _header.DataOffset;
        if (item.DataBlock > room / Amd64.PageSize || item.Length > room - (item.DataBlock * Amd64.PageSize) || item.Reserved != 0)
        {
            return false;
        }

        byte* data = _blob + _header.DataOffset + (item.DataBlock * Amd64.PageSize);
        return item.Key switch
        {
            LaunchItem.BatteryMemory => item.Length == RealTimeClock.Length && new ReadOnlySpan<byte>(data, RealTimeClock.Length).TryCopyTo(_machine.Ports.Clock.Memory),
            LaunchItem.ConsoleInput => item.Length <= SerialPort.InputCapacity && _machine.Ports.TryType(new ReadOnlySpan<byte>(data, (int)item.Length)),
            _ => item.Key < LaunchItem.BatteryMemory && _machine.Ports.Firmware.TryAdd(item.Key, data, item.Length),
        };
    }

    private bool TryAddPage(LaunchPage description)
    {
        if ((description.Gpa & (Amd64.PageSize - 1)) != 0 || !TryData(description.DataBlock, out byte* data))
        {
            return false;
        }

        if (description.Type == LaunchPageType.Vmsa)
        {
            return description.PageCount == 1 && data != null && TryAddVmsa(description, data);
        }

        bool single = description.Type is not (LaunchPageType.Required or LaunchPageType.Validated);
        if (single && description.PageCount != 1)
        {
            return false;
        }

        for (ulong i = 0; i < description.PageCount; i++)
        {
            ulong gpa = description.Gpa + (i * Amd64.PageSize);
            GuestPage* page = _machine.Memory.Find(gpa);
            if (page == null || page->Assigned)
            {
                return false;
            }

            _machine.Memory.Assign(page, gpa, !single && IsLarge(in description, gpa));
            page->Validated = description.Type != LaunchPageType.Required;
            if (single)
            {
                CopyPage(_machine.Memory.PrivateBytes(page), data);
            }
        }

        return description.Type switch
        {
            LaunchPageType.Cpuid => TryFillCpuid(_machine.Memory.PrivateBytes(_machine.Memory.Find(description.Gpa))),
            LaunchPageType.Zero => data == null,
            LaunchPageType.Normal or LaunchPageType.Unmeasured or LaunchPageType.Secrets or LaunchPageType.Required or LaunchPageType.Validated => true,
            _ => false,
        };
    }

    // A host backs required memory by 2-MiB RMP entries where it can: where all of one lies in the range.
    private static bool IsLarge(in LaunchPage range, ulong gpa)
    {
        ulong start = gpa & ~(Amd64.LargePageSize - 1);
        return start >= range.Gpa && ((start - range.Gpa + Amd64.LargePageSize) / Amd64.PageSize) <= range.PageCount;
    }

    private bool TryAddVmsa(LaunchPage description, byte* data)
    {
        byte vmpl = ((Vmsa*)data)->Vmpl;
        if (description.Index >= _header.VcpuCount || vmpl >= NestedPageTables.VmplCount)
        {
            return false;
        }

        VirtualCpu cpu = _machine.Cpus[(int)description.Index];
        VmplContext context = cpu.Contexts[vmpl];
        if (context.VmsaGpa != 0)
        {
            return false;
        }

        cpu.Vmpl = vmpl;
        context.GhcbMsr = VmgExit.SevInfo;
        context.VmsaGpa = description.Gpa;
        GuestPage* page = _machine.Memory.Find(description.Gpa);
        if (page == null)
        {
            byte* frame = _machine.Pool.Allocate();
            CopyPage(frame, data);
            context.LaunchVmsa = (Vmsa*)frame;
            return true;
        }

        if (page->Assigned)
        {
            return false;
        }

        _machine.Memory.Assign(page, description.Gpa, large: false);
        page->Validated = true;
        page->IsVmsa = true;
        CopyPage(_machine.Memory.PrivateBytes(page), data);
        context.VmsaPage = page;
        return true;
    }

    private bool TryFillCpuid(byte* page)
    {
        uint count = ((CpuidPageHeader*)page)->Count;
        if (count > CpuidPageHeader.MaxEntries)
        {
            return false;
        }

        // Functions that say nothing are left out, as a host does that fills in what it has. To guests it matters for function 0xD: an entry
        // without XSAVEC and XSAVES is none of an SNP processor to Linux, while a missing one is a processor whose XSAVE is hidden.
        var entries = (CpuidEntry*)(page + CpuidPageHeader.EntriesOffset);
        uint kept = 0;
        for (uint i = 0; i < count; i++)
        {
            CpuidEntry entry = entries[i];
            Platform.CpuidResult result = _machine.Cpuid(_machine.Cpus[0], entry.Function, entry.Index);
            entries[i] = default;
            if ((result.Eax | result.Ebx | result.Ecx | result.Edx) != 0)
            {
                entry.Eax = result.Eax;
                entry.Ebx = result.Ebx;
                entry.Ecx = result.Ecx;
                entry.Edx = result.Edx;
                entries[kept++] = entry;
            }
        }

        ((CpuidPageHeader*)page)->Count = kept;
        return TryCheckCpuid(page);
    }

    // LAUNCH_UPDATE: the security processor looks at the page before it becomes the guest's. The machine's host side plays it.
    private bool TryCheckCpuid(byte* page)
    {
        // SAFETY: the page is a frame.
        var bytes = new Span<byte>(page, (int)Amd64.PageSize);
        ulong start = _machine.Processor.ReadTimeStampCounter();
        _machine.Link.SendRequest(LinkFrame.CpuidPage, bytes);
        Span<byte> answer = stackalloc byte[Link.MaxPayload];
        if (_machine.Link.Receive(answer, out LinkFrame type) != bytes.Length || type != LinkFrame.CpuidPage)
        {
            return false;
        }

        _machine.HoldTimeSince(start);
        answer.Slice(0, bytes.Length).CopyTo(bytes);
        return true;
    }

    // vCPU 0 must have a VMSA; the others may be launched with one, or are created by the guest.
    private bool TryStart()
    {
        for (int i = 0; i < _machine.Cpus.Length; i++)
        {
            VirtualCpu cpu = _machine.Cpus[i];
            if (cpu.Current.VmsaGpa == 0)
            {
                if (i == 0)
                {
                    return Fail("launch blob: no VMSA for vCPU"u8, 0);
                }
            }
            else if (!_machine.Enter(cpu, cpu.Vmpl))
            {
                return Fail("launch blob: VMRUN refuses the VMSA (SEV_FEATURES, EFER.SVME, CR0, CR4 or VMPL); its GPA"u8, cpu.Current.VmsaGpa);
            }
        }

        _machine.Schedule(_machine.Cpus[0]);
        if ((_header.Options & LaunchOptions.StartPaused) != 0)
        {
            _machine.Commands.AskForPause();
        }

        return true;
    }

    private readonly bool TryData(ulong block, out byte* data)
    {
        data = null;
        if (block == LaunchPage.NoData)
        {
            return true;
        }

        if (block >= (_header.TotalLength - _header.DataOffset) / Amd64.PageSize)
        {
            return false;
        }

        data = _blob + _header.DataOffset + (block * Amd64.PageSize);
        return true;
    }

    private static void CopyPage(byte* destination, byte* data)
    {
        if (data == null)
        {
            FramePool.Fill(destination, 1, 0);
            return;
        }

        // SAFETY: TryData checked that a whole block lies inside the blob; the destination is a frame.
        new ReadOnlySpan<byte>(data, Amd64.PageSize).CopyTo(new Span<byte>(destination, Amd64.PageSize));
    }

    private bool Fail(ReadOnlySpan<byte> error, ulong value)
    {
        Error = error;
        BadIndex = value;
        return false;
    }
}
