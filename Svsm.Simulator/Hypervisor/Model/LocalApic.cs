// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The x2APIC that a vCPU has at each VMPL: requests, priorities, the timer. Always enabled and in x2APIC mode; there is no MMIO page.
//
// State is kept whether the VMPL runs or not: an interrupt for one that does not run waits in IRR.
// The timer counts nanoseconds of guest time, divided as the guest wants; its deadline is kept in time-stamp ticks.
// INIT and start-up IPIs are refused: what starts a vCPU of an SNP guest is AP creation.
//
// Source: AMD64 Architecture Programmer's Manual, volume 2, chapter 16 (registers; x2APIC MSR 0x800 + offset / 16); Intel SDM volume 3,
// chapter 11 (TSC deadline, self IPI).

using System.Numerics;

namespace Svsm.Hypervisor;

/// <summary>How ICR chooses its targets, and what it sends.</summary>
internal readonly struct InterruptCommand
{
    private const int ModeShift = 8;
    private const int ShorthandShift = 18;

    private readonly ulong _value;

    /// <summary>Takes a value of ICR.</summary>
    public InterruptCommand(ulong value)
    {
        _value = value;
    }

    /// <summary>Vector.</summary>
    public int Vector => (byte)_value;

    /// <summary>Delivery mode, see <see cref="DeliveryMode"/>.</summary>
    public int Mode => (int)(_value >> ModeShift) & 7;

    /// <summary>Whether the destination is a set of logical ids.</summary>
    public bool IsLogical => (_value & (1 << 11)) != 0;

    /// <summary>0 destination, 1 self, 2 all, 3 all but self.</summary>
    public int Shorthand => (int)(_value >> ShorthandShift) & 3;

    /// <summary>Destination.</summary>
    public uint Destination => (uint)(_value >> 32);
}

/// <summary>Delivery modes of ICR, LVT and I/O APIC entries.</summary>
internal static class DeliveryMode
{
    /// <summary>The vector.</summary>
    public const int Fixed = 0;

    /// <summary>The vector, to one of the destinations.</summary>
    public const int LowestPriority = 1;

    /// <summary>NMI.</summary>
    public const int Nmi = 4;

    /// <summary>INIT.</summary>
    public const int Init = 5;

    /// <summary>Start-up.</summary>
    public const int StartUp = 6;
}

/// <summary>Destinations of interrupts.</summary>
internal static class Destinations
{
    private const int IdsPerCluster = 16;

    /// <summary>The logical id of an APIC, which x2APIC derives from its id.</summary>
    public static uint LogicalId(uint apicId) => ((apicId / IdsPerCluster) << 16) | (1u << (int)(apicId % IdsPerCluster));

    /// <summary>Whether a destination means an APIC.</summary>
    public static bool Matches(uint apicId, uint destination, bool logical)
    {
        if (destination == uint.MaxValue)
        {
            return true;
        }

        uint own = LogicalId(apicId);
        return logical ? own >> 16 == destination >> 16 && (own & destination & 0xFFFF) != 0 : destination == apicId;
    }
}

/// <summary>A bit per vector.</summary>
internal struct VectorSet
{
    private ulong _bits0;
    private ulong _bits1;
    private ulong _bits2;
    private ulong _bits3;

    /// <summary>The highest vector in the set, or -1.</summary>
    public readonly int Highest =>
        _bits3 != 0 ? 192 + BitOperations.Log2(_bits3)
        : _bits2 != 0 ? 128 + BitOperations.Log2(_bits2)
        : _bits1 != 0 ? 64 + BitOperations.Log2(_bits1)
        : _bits0 != 0 ? BitOperations.Log2(_bits0)
        : -1;

    /// <summary>32 vectors, the lowest in bit 0.</summary>
    /// <param name="index">0 for vectors 0 to 31, up to 7.</param>
    public readonly uint Word(int index) => (uint)(Bits(index / 2) >> ((index & 1) * 32));

    /// <summary>Whether a vector is in the set.</summary>
    public readonly bool Contains(int vector) => ((Bits(vector / 64) >> (vector % 64)) & 1) != 0;

    /// <summary>Puts a vector in or takes it out.</summary>
    public void Set(int vector, bool value)
    {
        ulong bit = 1ul << (vector % 64);
        switch (vector / 64)
        {
            case 0:
                _bits0 = value ? _bits0 | bit : _bits0 & ~bit;
                break;
            case 1:
                _bits1 = value ? _bits1 | bit : _bits1 & ~bit;
                break;
            case 2:
                _bits2 = value ? _bits2 | bit : _bits2 & ~bit;
                break;
            default:
                _bits3 = value ? _bits3 | bit : _bits3 & ~bit;
                break;
        }
    }

    /// <summary>Passes the set (HostState.cs).</summary>
    public void Pass(ref StateStream stream)
    {
        _bits0 = stream.Quad(_bits0);
        _bits1 = stream.Quad(_bits1);
        _bits2 = stream.Quad(_bits2);
        _bits3 = stream.Quad(_bits3);
    }

    private readonly ulong Bits(int index) => index switch
    {
        0 => _bits0,
        1 => _bits1,
        2 => _bits2,
        _ => _bits3,
    };
}

/// <summary>A local APIC.</summary>
internal sealed class LocalApic
{
    /// <summary>First MSR.</summary>
    public const uint FirstMsr = 0x800;

    /// <summary>Last MSR.</summary>
    public const uint LastMsr = 0x8FF;

    /// <summary>ICR.</summary>
    public const uint CommandMsr = 0x830;

    /// <summary>EOI.</summary>
    public const uint EndOfInterruptMsr = 0x80B;

    /// <summary>Self IPI.</summary>
    public const uint SelfMsr = 0x83F;

    /// <summary>TSC deadline, outside the range of the others.</summary>
    public const uint DeadlineMsr = 0x6E0;

    /// <summary>Vectors below are exceptions: an APIC does not deliver them.</summary>
    public const int FirstVector = 16;

    private const uint IdMsr = 0x802;
    private const uint VersionMsr = 0x803;
    private const uint TaskPriorityMsr = 0x808;
    private const uint ProcessorPriorityMsr = 0x80A;
    private const uint LogicalIdMsr = 0x80D;
    private const uint SpuriousMsr = 0x80F;
    private const uint InServiceMsr = 0x810;
    private const uint TriggerModeMsr = 0x818;
    private const uint RequestMsr = 0x820;
    private const uint ErrorStatusMsr = 0x828;
    private const uint TimerMsr = 0x832;
    private const uint ThermalMsr = 0x833;
    private const uint ErrorMsr = 0x837;
    private const uint InitialCountMsr = 0x838;
    private const uint CurrentCountMsr = 0x839;
    private const uint DivideMsr = 0x83E;

    private const uint VersionIntegratedSixEntries = 0x0005_0014;
    private const uint Masked = 1u << 16;
    private const uint SoftwareEnabled = 1u << 8;
    private const uint SpuriousValid = 0x1FF;
    private const int TimerModeShift = 17;
    private const uint TimerModeMask = 3;
    private const uint Periodic = 1;
    private const uint TscDeadline = 2;
    private const uint TimerValid = 0x7_00FF;
    private const uint LocalValid = 0x1_A7FF;
    private const uint DivideValid = 0xB;
    private const uint IllegalVectorReceived = 1u << 6;

    private readonly uint _apicId;
    private readonly uint[] _local = [Masked, Masked, Masked, Masked, Masked];
    private VectorSet _requests;
    private VectorSet _inService;
    private VectorSet _levels;
    private uint _spurious = 0xFF;
    private uint _errors;
    private uint _latchedErrors;
    private uint _timer = Masked;
    private uint _initialCount;
    private uint _divide;

    /// <summary>Makes an APIC in the state of a reset.</summary>
    public LocalApic(uint apicId)
    {
        _apicId = apicId;
    }

    /// <summary>Whether anything may have to be delivered: a request or an NMI.</summary>
    public bool HasRequests { get; private set; }

    /// <summary>The interrupt in service ends when the guest clears a bit of its doorbell page (Doorbell.cs), not by EOI.</summary>
    public bool EndsByDoorbell { get; set; }

    /// <summary>Whether it takes interrupts.</summary>
    public bool IsEnabled => (_spurious & SoftwareEnabled) != 0;

    /// <summary>Whether an interrupt is in service.</summary>
    public bool IsAnyInService => _inService.Highest >= 0;

    /// <summary>Whether the I/O APIC wants to know the end of an interrupt.</summary>
    public bool IsLevel(int vector) => _levels.Contains(vector);

    /// <summary>The task priority register, 8 bits.</summary>
    public byte TaskPriority { get; set; }

    /// <summary>An NMI waits.</summary>
    public bool NmiPending { get; private set; }

    /// <summary>An NMI was delivered, and its handler has not said that it is done.</summary>
    public bool NmiMasked { get; set; }

    /// <summary>When the timer expires, in time-stamp ticks of the guest; <see cref="ulong.MaxValue"/> = never.</summary>
    public ulong Deadline { get; private set; } = ulong.MaxValue;

    /// <summary>The vector that is to be delivered next, or -1.</summary>
    public int Pending
    {
        get
        {
            int vector = _requests.Highest;
            return vector >= 0 && vector >> 4 > ProcessorPriority >> 4 ? vector : -1;
        }
    }

    private byte ProcessorPriority
    {
        get
        {
            int service = _inService.Highest;
            return service >> 4 > TaskPriority >> 4 ? (byte)(service & 0xF0) : TaskPriority;
        }
    }

    private uint TimerMode => (_timer >> TimerModeShift) & TimerModeMask;

    private int DivideShift => (int)(((_divide & 3) | ((_divide >> 1) & 4)) + 1) & 7;

    /// <summary>Takes an interrupt.</summary>
    /// <param name="vector">Its vector.</param>
    /// <param name="level">Whether its end is to be told to the I/O APIC.</param>
    public void Request(int vector, bool level = false)
    {
        if (vector < FirstVector)
        {
            _errors |= IllegalVectorReceived;
        }
        else if (IsEnabled)
        {
            _requests.Set(vector, true);
            _levels.Set(vector, level);
            HasRequests = true;
        }
    }

    /// <summary>Takes an NMI.</summary>
    public void RequestNmi()
    {
        NmiPending = true;
        HasRequests = true;
    }

    /// <summary>The processor took an NMI.</summary>
    /// <param name="masked">Whether there is no other until its handler is done.</param>
    public void AcceptNmi(bool masked = true)
    {
        NmiPending = false;
        NmiMasked = masked;
        HasRequests = _requests.Highest >= 0;
    }

    /// <summary>The processor took an interrupt.</summary>
    /// <param name="vector">Its vector.</param>
    public void Accept(int vector)
    {
        _requests.Set(vector, false);
        _inService.Set(vector, true);
        HasRequests = NmiPending || _requests.Highest >= 0;
    }

    /// <summary>The handler of the highest interrupt in service is done.</summary>
    /// <returns>Its vector if the I/O APIC wants to know, else -1.</returns>
    public int EndInterrupt()
    {
        int vector = _inService.Highest;
        if (vector < 0)
        {
            return -1;
        }

        _inService.Set(vector, false);
        return _levels.Contains(vector) ? vector : -1;
    }

    /// <summary>Looks at the timer, and requests its interrupt if it has expired.</summary>
    /// <param name="clock">Guest time.</param>
    /// <param name="now">Now, in time-stamp ticks of the guest.</param>
    /// <returns>Whether it had expired.</returns>
    public bool Expire(GuestClock clock, ulong now)
    {
        if (Deadline > now)
        {
            return false;
        }

        ulong period = clock.ToTicks((ulong)_initialCount << DivideShift);
        Deadline = TimerMode != Periodic || period == 0 ? ulong.MaxValue : Deadline + (period * (((now - Deadline) / period) + 1));
        if ((_timer & Masked) == 0)
        {
            Request((byte)_timer);
        }

        return true;
    }

    /// <summary>The guest's time goes on from later on: the timer has as long to go as before.</summary>
    public void Shift(ulong ticks)
    {
        if (Deadline != ulong.MaxValue && TimerMode != TscDeadline)
        {
            Deadline += ticks;
        }
    }

    /// <summary>Passes all of it (HostState.cs). The timer: how long it has to go, or when it expires if the guest has said so in time-stamp ticks.</summary>
    /// <param name="stream">Where from or to.</param>
    /// <param name="now">Now, in time-stamp ticks of the guest.</param>
    public void Pass(ref StateStream stream, ulong now)
    {
        _requests.Pass(ref stream);
        _inService.Pass(ref stream);
        _levels.Pass(ref stream);
        for (int i = 0; i < _local.Length; i++)
        {
            _local[i] = stream.Word(_local[i]) & LocalValid;
        }

        _spurious = stream.Word(_spurious) & SpuriousValid;
        _errors = stream.Word(_errors);
        _latchedErrors = stream.Word(_latchedErrors);
        _timer = stream.Word(_timer) & TimerValid;
        _initialCount = stream.Word(_initialCount);
        _divide = stream.Word(_divide) & DivideValid;
        TaskPriority = stream.Byte(TaskPriority);
        EndsByDoorbell = stream.Flag(EndsByDoorbell);
        NmiPending = stream.Flag(NmiPending);
        NmiMasked = stream.Flag(NmiMasked);
        HasRequests = NmiPending || _requests.Highest >= 0;

        bool isTime = TimerMode == TscDeadline;
        ulong own = Deadline == ulong.MaxValue || isTime ? Deadline : Deadline > now ? Deadline - now : 0;
        ulong told = stream.Told(own);
        if (stream.Mode == StateMode.Take)
        {
            Deadline = isTime || told >= ulong.MaxValue - now ? told : now + told;
        }
    }

    /// <summary>Whether the timer will interrupt some day.</summary>
    public bool TimerArmed => Deadline != ulong.MaxValue && (_timer & Masked) == 0;

    /// <summary>Reads an MSR of the APIC.</summary>
    /// <returns>False when there is none, or it cannot be read.</returns>
    public bool TryRead(uint msr, GuestClock clock, ulong now, out ulong value)
    {
        value = 0;
        switch (msr)
        {
            case IdMsr:
                value = _apicId;
                return true;
            case VersionMsr:
                value = VersionIntegratedSixEntries;
                return true;
            case TaskPriorityMsr:
                value = TaskPriority;
                return true;
            case ProcessorPriorityMsr:
                value = ProcessorPriority;
                return true;
            case LogicalIdMsr:
                value = Destinations.LogicalId(_apicId);
                return true;
            case SpuriousMsr:
                value = _spurious;
                return true;
            case >= InServiceMsr and < TriggerModeMsr:
                value = _inService.Word((int)(msr - InServiceMsr));
                return true;
            case >= TriggerModeMsr and < RequestMsr:
                value = _levels.Word((int)(msr - TriggerModeMsr));
                return true;
            case >= RequestMsr and < ErrorStatusMsr:
                value = _requests.Word((int)(msr - RequestMsr));
                return true;
            case ErrorStatusMsr:
                value = _latchedErrors;
                return true;
            case CommandMsr:
                // What was sent is not kept: nobody needs it, and nothing is ever pending.
                return true;
            case TimerMsr:
                value = _timer;
                return true;
            case >= ThermalMsr and <= ErrorMsr:
                value = _local[msr - ThermalMsr];
                return true;
            case InitialCountMsr:
                value = _initialCount;
                return true;
            case CurrentCountMsr:
                value = TimerMode == TscDeadline || Deadline <= now || Deadline == ulong.MaxValue ? 0 : (uint)(clock.ToNanoseconds(Deadline - now) >> DivideShift);
                return true;
            case DivideMsr:
                value = _divide;
                return true;
            case DeadlineMsr:
                value = TimerMode == TscDeadline && Deadline != ulong.MaxValue ? Deadline : 0;
                return true;
            default:
                return false;
        }
    }

    /// <summary>Writes an MSR that concerns nobody but this APIC: all but ICR, EOI and self IPI.</summary>
    /// <returns>False when there is none, it cannot be written, or the value has reserved bits.</returns>
    public bool TryWrite(uint msr, ulong value, GuestClock clock, ulong now)
    {
        var low = (uint)value;
        if (msr == DeadlineMsr)
        {
            if (TimerMode == TscDeadline)
            {
                Deadline = value == 0 ? ulong.MaxValue : value;
            }

            return true;
        }

        if (value >> 32 != 0)
        {
            return false;
        }

        switch (msr)
        {
            case TaskPriorityMsr:
                TaskPriority = (byte)value;
                return value <= byte.MaxValue;
            case SpuriousMsr:
                _spurious = low & SpuriousValid;
                if ((low & SoftwareEnabled) == 0)
                {
                    // Local entries are masked as long as the APIC is off.
                    _timer |= Masked;
                    for (int i = 0; i < _local.Length; i++)
                    {
                        _local[i] |= Masked;
                    }
                }

                return true;
            case ErrorStatusMsr:
                _latchedErrors = _errors;
                _errors = 0;
                return value == 0;
            case TimerMsr:
                if ((low & ~(TimerValid | (1u << 12))) != 0)
                {
                    return false;
                }

                bool sameMode = ((low >> TimerModeShift) & TimerModeMask) == TimerMode;
                _timer = low & TimerValid;
                Deadline = sameMode ? Deadline : ulong.MaxValue;
                return true;
            case >= ThermalMsr and <= ErrorMsr:
                _local[msr - ThermalMsr] = low & LocalValid;
                return true;
            case InitialCountMsr:
                if (TimerMode != TscDeadline)
                {
                    _initialCount = low;
                    Deadline = low == 0 ? ulong.MaxValue : now + clock.ToTicks((ulong)low << DivideShift);
                }

                return true;
            case DivideMsr:
                _divide = low & DivideValid;
                return true;
            default:
                return false;
        }
    }
}
