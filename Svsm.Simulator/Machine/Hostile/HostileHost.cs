// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// What attacks do in this process: to the launch, and to the messages between guest and security processor, which pass through the host.

using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using System.Linq;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Svsm.Simulator.Shared;
using Svsm.Wire;

namespace Svsm.Simulator;

internal sealed class HostileHost
{
    private readonly List<Attack> _attacks;
    private readonly List<AttackEvent> _events = [];
    private byte[] _lastRequest = [];
    private byte[] _lastAnswer = [];

    // Of the next message, or the one that is being answered.
    private int _number = 1;

    // Attacks by name choose among the pages of the launch.
    public HostileHost(IEnumerable<Attack> attacks, LaunchPlan plan) => _attacks = [.. attacks.Select(attack => attack.Maker?.Invoke(plan) ?? attack)];

    // For the hypervisor, and their names in the same order.
    public IEnumerable<(string Name, LaunchAttack Description)> Descriptions =>
        _attacks.Where(attack => attack.Description is not null).Select(attack => (attack.Name, attack.Description!.Value));

    public IReadOnlyList<AttackEvent> Events => _events;

    // Pages that are not measured can hold what the host likes; and so can those that it alone fills.
    public LaunchPlan Corrupt(LaunchPlan plan)
    {
        foreach (Attack attack in _attacks.Where(attack => attack.ParameterSeed != 0))
        {
            ulong state = attack.ParameterSeed;
            LaunchUpdate[] updates = [.. plan.Updates];
            AttackOutcome outcome = AttackOutcome.NoTarget;
            for (int i = 0; i < updates.Length; i++)
            {
                if (updates[i].Type != LaunchPageType.Unmeasured)
                {
                    continue;
                }

                byte[] page = new byte[SecurityProcessor.PageSize];
                updates[i].Contents.Span.CopyTo(page);

                // The beginning is where parameters are; the rest is mostly unused.
                const int Used = 256;
                for (int change = 0; change < 8; change++)
                {
                    state = (state * 6364136223846793005) + 1442695040888963407;
                    page[(int)((state >> 33) % Used)] = (byte)(state >> 56);
                }

                updates[i] = updates[i] with { Contents = page };
                outcome = AttackOutcome.Done;
            }

            _events.Add(new AttackEvent(attack.Name, outcome, 0));
            plan = plan with { Updates = updates };
        }

        return plan;
    }

    // The CPUID page as the host fills it: one bit of some registers is another one.
    public void CorruptCpuid(Span<byte> page)
    {
        const int RegistersOffset = 24;
        const int RegisterBits = 4 * 32;
        uint count = MemoryMarshal.Read<CpuidPageHeader>(page).Count;
        foreach (Attack attack in _attacks.Where(attack => attack.CpuidSeed != 0))
        {
            var random = new SeededChoice(attack.CpuidSeed);
            for (ulong change = random.Below(3) + 1; change != 0 && count != 0; change--)
            {
                int entry = CpuidPageHeader.EntriesOffset + ((int)random.Below(count) * Unsafe.SizeOf<CpuidEntry>());
                int bit = (int)random.Below(RegisterBits);
                page[entry + RegistersOffset + (bit / 8)] ^= (byte)(1 << (bit % 8));
            }

            _events.Add(new AttackEvent(attack.Name, count == 0 ? AttackOutcome.NoTarget : AttackOutcome.Done, 0));
        }
    }

    // The payload of a guest request, on its way to the security processor.
    public byte[] Request(byte[] payload)
    {
        const int SizeOffset = 0x36;
        byte[] honest = payload;
        foreach (Attack attack in Due(isRequest: true))
        {
            int start = Link.GuestRequestHeaderLength;
            int length = GuestMessages.HeaderLength + BinaryPrimitives.ReadUInt16LittleEndian(payload.AsSpan(start + SizeOffset));
            payload = Change(attack, payload, start..Math.Min(start + length, payload.Length), _lastRequest);
        }

        _lastRequest = honest;
        return payload;
    }

    // The frames that answer a guest request; the last one has the message.
    public byte[] Answer(byte[] frames)
    {
        byte[] honest = frames;
        foreach (Attack attack in Due(isRequest: false))
        {
            int last = LastFrame(frames);
            byte[] repeated = _lastAnswer.Length == 0 ? [] : [.. frames.AsSpan(0, last), .. _lastAnswer.AsSpan(LastFrame(_lastAnswer))];
            frames = Change(attack, frames, (last + Link.HeaderLength + Link.GuestResponseHeaderLength)..frames.Length, repeated);
        }

        _lastAnswer = honest;
        _number++;
        return frames;
    }

    private IEnumerable<Attack> Due(bool isRequest) => _attacks.Where(attack => attack.MessageNumber == _number && attack.IsRequest == isRequest);

    // One byte of the message is another one, or all of it is the one before; empty: there is none.
    private byte[] Change(Attack attack, byte[] bytes, Range message, byte[] before)
    {
        int length = message.End.Value - message.Start.Value;
        bool possible = attack.MessageTear is null ? before.Length != 0 : length > 0;
        if (possible && attack.MessageTear is ulong seed)
        {
            bytes = [.. bytes];
            bytes[message.Start.Value + (int)(seed % (ulong)length)] ^= (byte)(((seed >> 32) & 0xFF) | 1);
        }
        else if (possible)
        {
            bytes = before;
        }

        _events.Add(new AttackEvent(attack.Name, possible ? AttackOutcome.Done : AttackOutcome.NoTarget, (ulong)_number));
        return bytes;
    }

    private static int LastFrame(byte[] frames)
    {
        int start = 0;
        while (true)
        {
            int next = start + Link.HeaderLength + BinaryPrimitives.ReadUInt16LittleEndian(frames.AsSpan(start + 2));
            if (next >= frames.Length)
            {
                return start;
            }

            start = next;
        }
    }
}
