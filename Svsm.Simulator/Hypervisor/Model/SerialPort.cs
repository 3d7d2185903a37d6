// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// A 16550. What is sent becomes console output of the vCPU and VMPL that sent it, at once: the transmitter is always empty, and its interrupt is
// pending from the time it is enabled, or a byte was sent, until the identification is read. What the machine types is received by whoever
// reads first, and interrupts until it was read.

using System;
using Svsm.Simulator.Shared;

namespace Svsm.Hypervisor;

/// <summary>The serial port.</summary>
internal sealed class SerialPort
{
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
    private const byte TransmitterEmptyPending = 0x02;
    private const byte TransmitterEmptyEnable = 0x02;
    private const byte DataReadyPending = 0x04;
    private const byte DataReadyEnable = 0x01;
    private const byte DataReady = 0x01;
    private const byte FifosEnabled = 0xC0;
    private const byte TransmitterIdle = 0x60;
    private const byte CarrierClearSetReady = 0xB0;
    private const byte Output2 = 0x08;
    private const byte Loopback = 0x10;

    /// <summary>Most bytes that wait to be read.</summary>
    public const int InputCapacity = LaunchItem.MaxConsoleInput;

    private readonly LinkWriter _link;
    private readonly IoApic _ioApic;
    private readonly byte[] _typed = new byte[InputCapacity];
    private int _typedFirst;
    private int _typedCount;
    private ushort _divisor = 12;
    private byte _interruptEnable;
    private byte _fifoControl;
    private byte _lineControl = 3;
    private byte _modemControl;
    private byte _scratch;
    private bool _emptied;

    /// <summary>Makes a port.</summary>
    public SerialPort(LinkWriter link, IoApic ioApic)
    {
        _link = link;
        _ioApic = ioApic;
    }

    private bool ReceiverPending => _typedCount != 0 && (_interruptEnable & DataReadyEnable) != 0;

    private bool TransmitterPending => _emptied && (_interruptEnable & TransmitterEmptyEnable) != 0;

    /// <summary>Adds console input.</summary>
    /// <returns>False when there is no room for all of it; then nothing was added.</returns>
    public bool TryType(ReadOnlySpan<byte> bytes)
    {
        if (bytes.Length > InputCapacity - _typedCount)
        {
            return false;
        }

        for (int i = 0; i < bytes.Length; i++)
        {
            _typed[(_typedFirst + _typedCount++) % InputCapacity] = bytes[i];
        }

        SetLine();
        return true;
    }

    /// <summary>Reads a register, 0 to 7.</summary>
    public byte Read(int register)
    {
        bool divisor = (_lineControl & DivisorLatchAccess) != 0;
        return register switch
        {
            DataRegister => divisor ? (byte)_divisor : TakeTyped(),
            InterruptEnableRegister => divisor ? (byte)(_divisor >> 8) : _interruptEnable,
            InterruptIdentificationRegister => Identify(),
            LineControlRegister => _lineControl,
            ModemControlRegister => _modemControl,
            LineStatusRegister => (byte)(TransmitterIdle | (_typedCount != 0 ? DataReady : 0)),
            ModemStatusRegister => (_modemControl & Loopback) != 0 ? ReadLoopback() : CarrierClearSetReady,
            _ => _scratch,
        };
    }

    /// <summary>Writes a register, 0 to 7.</summary>
    public void Write(VirtualCpu cpu, int register, byte value)
    {
        bool divisor = (_lineControl & DivisorLatchAccess) != 0;
        switch (register)
        {
            case DataRegister when divisor:
                _divisor = (ushort)((_divisor & 0xFF00) | value);
                break;
            case DataRegister:
                if ((_modemControl & Loopback) == 0)
                {
                    _link.WriteConsole(cpu.Id, cpu.Vmpl, value);
                }

                // The line falls while the byte is in the transmitter.
                _emptied = false;
                SetLine();
                _emptied = true;
                SetLine();
                break;
            case InterruptEnableRegister when divisor:
                _divisor = (ushort)((_divisor & 0x00FF) | (value << 8));
                break;
            case InterruptEnableRegister:
                _emptied |= (value & ~_interruptEnable & TransmitterEmptyEnable) != 0;
                _interruptEnable = (byte)(value & 0x0F);
                SetLine();
                break;
            case InterruptIdentificationRegister:
                _fifoControl = value;
                break;
            case LineControlRegister:
                _lineControl = value;
                break;
            case ModemControlRegister:
                _modemControl = (byte)(value & 0x1F);
                SetLine();
                break;
            case ScratchRegister:
                _scratch = value;
                break;
        }
    }

    /// <summary>Passes registers and input (HostState.cs). The line is the I/O APIC's.</summary>
    public void Pass(ref StateStream stream)
    {
        _divisor = stream.Half(_divisor);
        _interruptEnable = (byte)(stream.Byte(_interruptEnable) & 0x0F);
        _fifoControl = stream.Byte(_fifoControl);
        _lineControl = stream.Byte(_lineControl);
        _modemControl = (byte)(stream.Byte(_modemControl) & 0x1F);
        _scratch = stream.Byte(_scratch);
        _emptied = stream.Flag(_emptied);
        ulong count = stream.Told((ulong)_typedCount);
        stream.Damage(count > InputCapacity);
        for (int i = 0; i < (int)count && !stream.IsBad; i++)
        {
            ref byte slot = ref _typed[(_typedFirst + i) % InputCapacity];
            slot = stream.Byte(slot);
        }

        _typedCount = stream.Mode == StateMode.Take && !stream.IsBad ? (int)count : _typedCount;
    }

    private byte Identify()
    {
        byte identification = ReceiverPending ? DataReadyPending : TransmitterPending ? TransmitterEmptyPending : NoInterruptPending;
        if (identification == TransmitterEmptyPending)
        {
            _emptied = false;
            SetLine();
        }

        return (byte)(identification | ((_fifoControl & FifoEnable) != 0 ? FifosEnabled : 0));
    }

    // On a PC the interrupt passes through OUT2.
    private void SetLine() => _ioApic.SetLine(
        MachinePorts.Com1Interrupt, (ReceiverPending || TransmitterPending) && (_modemControl & (Output2 | Loopback)) == Output2);

    private byte TakeTyped()
    {
        if (_typedCount == 0)
        {
            return 0;
        }

        byte value = _typed[_typedFirst];
        _typedFirst = (_typedFirst + 1) % InputCapacity;
        _typedCount--;
        SetLine();
        return value;
    }

    // Loopback: DTR, RTS, OUT1, OUT2 appear as DSR, CTS, RI, DCD. Drivers look for a 16550 this way.
    private byte ReadLoopback()
    {
        int control = _modemControl;
        return (byte)(((control & 1) << 5) | ((control & 2) << 3) | ((control & 4) << 4) | ((control & 8) << 4));
    }
}
