// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// A 16550 that only sends: what is sent becomes console output of the vCPU and VMPL that sent it, at once. So the transmitter is always
// empty, and the only interrupt is that it is: pending from the time it is enabled, or a byte was sent, until the identification is read.

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
    private const byte FifosEnabled = 0xC0;
    private const byte TransmitterIdle = 0x60;
    private const byte CarrierClearSetReady = 0xB0;
    private const byte Output2 = 0x08;
    private const byte Loopback = 0x10;

    private readonly LinkWriter _link;
    private readonly IoApic _ioApic;
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

    private bool Pending => _emptied && (_interruptEnable & TransmitterEmptyEnable) != 0;

    /// <summary>Reads a register, 0 to 7.</summary>
    public byte Read(int register)
    {
        bool divisor = (_lineControl & DivisorLatchAccess) != 0;
        return register switch
        {
            DataRegister => divisor ? (byte)_divisor : (byte)0,
            InterruptEnableRegister => divisor ? (byte)(_divisor >> 8) : _interruptEnable,
            InterruptIdentificationRegister => Identify(),
            LineControlRegister => _lineControl,
            ModemControlRegister => _modemControl,
            LineStatusRegister => TransmitterIdle,
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

    private byte Identify()
    {
        byte identification = Pending ? TransmitterEmptyPending : NoInterruptPending;
        if (Pending)
        {
            _emptied = false;
            SetLine();
        }

        return (byte)(identification | ((_fifoControl & FifoEnable) != 0 ? FifosEnabled : 0));
    }

    // On a PC the interrupt passes through OUT2.
    private void SetLine() => _ioApic.SetLine(MachinePorts.Com1Interrupt, Pending && (_modemControl & (Output2 | Loopback)) == Output2);

    // Loopback: DTR, RTS, OUT1, OUT2 appear as DSR, CTS, RI, DCD. Drivers look for a 16550 this way.
    private byte ReadLoopback()
    {
        int control = _modemControl;
        return (byte)(((control & 1) << 5) | ((control & 2) << 3) | ((control & 4) << 4) | ((control & 8) << 4));
    }
}
