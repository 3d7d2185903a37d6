// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Calls to the SVSM, from the guest's side: the register convention and the calling area of Svsm.Wire.SvsmCall.

using System;
using System.Runtime;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Svsm.Platform;
using Svsm.Wire;

namespace Svsm.ProbeGuest;

/// <summary>Registers of a call, and of its answer. Boot.S has the offsets.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct SvsmCall
{
    public ulong Rax;
    public ulong Rcx;
    public ulong Rdx;
    public ulong R8;
    public ulong R9;
}

/// <summary>Makes calls.</summary>
internal static unsafe class Calls
{
    /// <summary>The calling area that this vCPU uses.</summary>
    public static ulong Area => (ulong)Cpus.Current.Area;

    /// <summary>Where argument lists go unless a check wants them elsewhere.</summary>
    public static ulong Buffer => (ulong)(Cpus.Current.Area + CallingArea.BufferOffset);

    /// <summary>Uses a calling area from now on.</summary>
    public static void UseArea(ulong gpa) => Cpus.Current.Area = (byte*)gpa;

    /// <summary>Makes a call; repeats it while the SVSM says INCOMPLETE or BUSY.</summary>
    public static SvsmResultCode Call(SvsmProtocol protocol, uint call, ref SvsmCall registers)
    {
        SvsmCall arguments = registers;
        while (true)
        {
            registers = arguments;
            registers.Rax = ((ulong)protocol << 32) | call;
            CallOnce(ref registers);
            SvsmResultCode result = (SvsmResultCode)registers.Rax;
            if (result is not (SvsmResultCode.Incomplete or SvsmResultCode.Busy))
            {
                return result;
            }
        }
    }

    /// <summary>Makes a call of the core protocol with RCX alone.</summary>
    public static SvsmResultCode Core(CoreCall call, ulong rcx)
    {
        SvsmCall registers = new() { Rcx = rcx };
        return Call(SvsmProtocol.Core, (uint)call, ref registers);
    }

    /// <summary>Exits to the SVSM without a pending call: it has to come back without having done anything.</summary>
    /// <returns>Whether the host made the switch.</returns>
    public static bool ExitWithoutCall()
    {
        ulong saved = X64.ReadMsr(SevMsr.Ghcb);
        X64.WriteMsr(SevMsr.Ghcb, GhcbMsr.RunVmplRequest);
        X64.VmgExit();
        ulong answer = X64.ReadMsr(SevMsr.Ghcb);
        X64.WriteMsr(SevMsr.Ghcb, saved);
        return answer == GhcbMsr.RunVmplResponse;
    }

    /// <summary>Validates or rescinds one page.</summary>
    public static SvsmResultCode PValidateOne(ulong gpa, bool validate, bool ignoreNoChange, bool large) =>
        PValidateEntry(gpa | (validate ? PvalidateList.Validate : 0) | (ignoreNoChange ? PvalidateList.IgnoreNoChange : 0) | (large ? 1u : 0u));

    /// <summary>Makes a PVALIDATE call with a list of one entry.</summary>
    public static SvsmResultCode PValidateEntry(ulong entry)
    {
        WriteHead(Buffer, 1, 0);
        WriteEntry(Buffer, 0, entry);
        return Core(CoreCall.PValidate, Buffer);
    }

    /// <summary>Writes the head of a PVALIDATE list.</summary>
    public static void WriteHead(ulong list, ushort count, ushort next) => *(ulong*)list = count | ((ulong)next << (PvalidateList.NextOffset * 8));

    /// <summary>Writes an entry of a PVALIDATE list.</summary>
    public static void WriteEntry(ulong list, int index, ulong entry) => ((ulong*)(list + PvalidateList.EntriesOffset))[index] = entry;

    /// <summary>Reads the next index of a PVALIDATE list.</summary>
    public static ushort ReadNext(ulong list) => *(ushort*)(list + PvalidateList.NextOffset);

    /// <summary>Makes a call once; ends the VM when the SVSM does not take it.</summary>
    public static void CallOnce(ref SvsmCall registers)
    {
        ulong saved = X64.ReadMsr(SevMsr.Ghcb);
        X64.WriteMsr(SevMsr.Ghcb, GhcbMsr.RunVmplRequest);
        ulong pending = Call((SvsmCall*)Unsafe.AsPointer(ref registers), Cpus.Current.Area);
        ulong answer = X64.ReadMsr(SevMsr.Ghcb);
        X64.WriteMsr(SevMsr.Ghcb, saved);
        if (pending != 0 || answer != GhcbMsr.RunVmplResponse)
        {
            Machine.Terminate(ProbeTermination.SvsmCall);
        }
    }

    [RuntimeImport("*", "probe_call")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    private static extern ulong Call(SvsmCall* registers, byte* area);
}
