// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The I/O ports of the simulated machine, as the host answers them in GHCB requests. There is no passage to real ports.
//
//   0x3F8 to 0x3FF  a 16550 without interrupts; what is sent becomes console output of the vCPU and VMPL that sent it, and what the machine
//                   types is received by whoever reads first
//   0xF4            the byte written ends the run as the guest's exit status
//   0x64, 0xCF9     a reset request ends the run
//   others          reads float (all ones), writes are lost

using Svsm.Simulator.Shared;

namespace Svsm.Hypervisor;

/// <summary>The ports.</summary>
internal sealed class PortSpace
{
    private const ushort Com1 = 0x3F8;
    private const ushort Com1Length = 8;
    private const ushort KeyboardCommand = 0x64;
    private const ushort ResetControl = 0xCF9;
    private const byte KeyboardReset = 0xFE;
    private const byte ResetNow = 0x04;

    private const int DataRegister = 0;
    private const int InterruptEnableRegister = 1;
    private const int InterruptIdentificationRegister = 2;
    private const int LineControlRegister = 3;
    private const int ModemControlRegister = 4;
    private const int LineStatusRegister = 5;
    private const int ModemStatusRegister = 6;
    private const int ScratchRegister = 7;
    private const byte DivisorLatchAccess = 0x80;
    private const byte FifoEnable = 0x01;
    private const byte NoInterruptPending = 0x01;
    private const byte FifosEnabled = 0xC0;
    private const byte TransmitterIdle = 0x60;
    private const byte CarrierClearSetReady = 0xB0;
    private const byte Loopback = 0x10;

    private const int TypedCapacity = 256;
    private const byte DataReady = 0x01;

    private readonly LinkWriter _link;
    private readonly byte[] _typed = new byte[TypedCapacity];
    private int _typedFirst;
    private int _typedCount;
    private ushort _divisor = 12;
    private byte _interruptEnable;
    private byte _fifoControl;
    private byte _lineControl = 3;
    private byte _modemControl;
    private byte _scratch;

    /// <summary>Makes the ports of a machine.</summary>
    public PortSpace(LinkWriter link)
    {
        _link = link;
    }

    /// <summary>Adds console input.</summary>
    /// <returns>False when there is no room for all of it; then nothing was added.</returns>
    public bool TryType(System.ReadOnlySpan<byte> bytes)
    {
        if (bytes.Length > TypedCapacity - _typedCount)
        {
            return false;
        }

        for (int i = 0; i < bytes.Length; i++)
        {
            _typed[(_typedFirst + _typedCount++) % TypedCapacity] = bytes[i];
        }

        return true;
    }

    /// <summary>Reads a port.</summary>
    /// <param name="port">Its number.</param>
    /// <param name="size">1, 2 or 4 bytes.</param>
    public uint Read(ushort port, int size)
    {
        uint value = 0;
        for (int i = size - 1; i >= 0; i--)
        {
            value = (value << 8) | ReadByte((ushort)(port + i));
        }

        return value;
    }

    /// <summary>Writes a port.</summary>
    /// <param name="cpu">Who writes.</param>
    /// <param name="port">Its number.</param>
    /// <param name="size">1, 2 or 4 bytes.</param>
    /// <param name="value">The value.</param>
    /// <returns>False when the run must stop, which has been asked for.</returns>
    public bool Write(VirtualCpu cpu, ushort port, int size, uint value)
    {
        if (port == Link.GuestExitPort)
        {
            return cpu.Stop(StopReason.GuestExit, (byte)value);
        }

        if ((port == KeyboardCommand && (byte)value == KeyboardReset) || (port == ResetControl && (value & ResetNow) != 0))
        {
            return cpu.Stop(StopReason.Reset, port);
        }

        for (int i = 0; i < size; i++)
        {
            WriteByte(cpu, (ushort)(port + i), (byte)(value >> (8 * i)));
        }

        return true;
    }

    private byte ReadByte(ushort port)
    {
        if (port is < Com1 or >= Com1 + Com1Length)
        {
            return 0xFF;
        }

        bool divisor = (_lineControl & DivisorLatchAccess) != 0;
        return (port - Com1) switch
        {
            DataRegister => divisor ? (byte)_divisor : TakeTyped(),
            InterruptEnableRegister => divisor ? (byte)(_divisor >> 8) : _interruptEnable,
            InterruptIdentificationRegister => (byte)(NoInterruptPending | ((_fifoControl & FifoEnable) != 0 ? FifosEnabled : 0)),
            LineControlRegister => _lineControl,
            ModemControlRegister => _modemControl,
            LineStatusRegister => (byte)(TransmitterIdle | (_typedCount != 0 ? DataReady : 0)),
            ModemStatusRegister => (_modemControl & Loopback) != 0 ? ReadLoopback() : CarrierClearSetReady,
            _ => _scratch,
        };
    }

    private byte TakeTyped()
    {
        if (_typedCount == 0)
        {
            return 0;
        }

        byte value = _typed[_typedFirst];
        _typedFirst = (_typedFirst + 1) % TypedCapacity;
        _typedCount--;
        return value;
    }

    // Loopback: DTR, RTS, OUT1, OUT2 appear as DSR, CTS, RI, DCD. Drivers look for a 16550 this way.
    private byte ReadLoopback()
    {
        int control = _modemControl;
        return (byte)(((control & 1) << 5) | ((control & 2) << 3) | ((control & 4) << 4) | ((control & 8) << 4));
    }

    private void WriteByte(VirtualCpu cpu, ushort port, byte value)
    {
        if (port is < Com1 or >= Com1 + Com1Length)
        {
            return;
        }

        bool divisor = (_lineControl & DivisorLatchAccess) != 0;
        switch (port - Com1)
        {
            case DataRegister when divisor:
                _divisor = (ushort)((_divisor & 0xFF00) | value);
                break;
            case DataRegister:
                if ((_modemControl & Loopback) == 0)
                {
                    _link.WriteConsole(cpu.Id, cpu.Vmpl, value);
                }

                break;
            case InterruptEnableRegister when divisor:
                _divisor = (ushort)((_divisor & 0x00FF) | (value << 8));
                break;
            case InterruptEnableRegister:
                _interruptEnable = (byte)(value & 0x0F);
                break;
            case InterruptIdentificationRegister:
                _fifoControl = value;
                break;
            case LineControlRegister:
                _lineControl = value;
                break;
            case ModemControlRegister:
                _modemControl = (byte)(value & 0x1F);
                break;
            case ScratchRegister:
                _scratch = value;
                break;
        }
    }
}
