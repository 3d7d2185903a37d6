// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using Svsm.Modules.Vtpm.Crypto;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.State;

// Platform configuration registers: one bank of 24 per allocated hash algorithm.
//
// What a PCR can do is data: each row is a TPM_PT_PCR property and the map of the PCRs that have it, as GetCapability answers it.
// Source: TCG PC Client Platform TPM Profile, "PCR attributes".

/// <summary>TPM_PT_PCR.</summary>
internal enum PcrProperty : uint
{
    Save = 0,
    ExtendLocality0 = 1,
    ResetLocality0 = 2,
    ExtendLocality1 = 3,
    ResetLocality1 = 4,
    ExtendLocality2 = 5,
    ResetLocality2 = 6,
    ExtendLocality3 = 7,
    ResetLocality3 = 8,
    ExtendLocality4 = 9,
    ResetLocality4 = 10,
    NoIncrement = 0x11,
    DrtmReset = 0x12,
}

internal sealed class PcrBanks
{
    internal const uint AllPcrs = (1u << TpmLimits.PcrCount) - 1;

    /// <summary>PCR 0 takes the start of the platform, PCR 17 the start of a dynamic root of trust: some bank must have both.</summary>
    internal const uint RequiredPcrs = (1u << 0) | (1u << 17);

    private static readonly (PcrProperty Property, uint Map)[] s_properties =
    [
        (PcrProperty.Save, 0x00_FFFF),
        (PcrProperty.ExtendLocality0, 0x81_FFFF),
        (PcrProperty.ResetLocality0, 0x81_0000),
        (PcrProperty.ExtendLocality1, 0x91_FFFF),
        (PcrProperty.ResetLocality1, 0x81_0000),
        (PcrProperty.ExtendLocality2, 0xFF_FFFF),
        (PcrProperty.ResetLocality2, 0xF1_0000),
        (PcrProperty.ExtendLocality3, 0x9F_FFFF),
        (PcrProperty.ResetLocality3, 0x81_0000),
        (PcrProperty.ExtendLocality4, 0x87_FFFF),
        (PcrProperty.ResetLocality4, 0x7E_0000),
        (PcrProperty.NoIncrement, 0xE1_0000),
        (PcrProperty.DrtmReset, 0x7E_0000),
    ];

    private readonly ICryptography _cryptography;
    private Bank[] _banks = [];

    internal PcrBanks(ICryptography cryptography) => _cryptography = cryptography;

    internal static ReadOnlySpan<(PcrProperty Property, uint Map)> Properties => s_properties;

    /// <summary>The allocation of a new TPM: every PCR in every bank.</summary>
    internal static PcrSelection[] DefaultAllocation()
    {
        var selections = new System.Collections.Generic.List<PcrSelection>();
        foreach (AlgorithmRow row in Algorithms.Rows)
        {
            if ((row.Uses & AlgorithmUse.Hash) != 0)
            {
                selections.Add(new PcrSelection(row.Id, AllPcrs));
            }
        }

        return [.. selections];
    }

    internal static bool Has(PcrProperty property, int pcr)
    {
        foreach ((PcrProperty name, uint map) in s_properties)
        {
            if (name == property)
            {
                return (map & (1u << pcr)) != 0;
            }
        }

        return false;
    }

    /// <summary>Whether the PCR has an authValue and a policy: those of a dynamic root of trust that an operating system uses.</summary>
    internal static bool HasAuthorization(TpmHandle pcr) => pcr.Type == HandleType.Pcr && pcr.Index is >= 20 and <= 22;

    internal static bool CanExtend(int pcr, int locality) => locality <= 4 && Has(PcrProperty.ExtendLocality0 + (uint)(2 * locality), pcr);

    internal static bool CanReset(int pcr, int locality) => locality <= 4 && Has(PcrProperty.ResetLocality0 + (uint)(2 * locality), pcr);

    /// <summary>Gives every PCR its first value.</summary>
    /// <param name="allocation">The banks.</param>
    /// <param name="locality">Where the start of the platform was measured from; its number is in PCR 0.</param>
    internal void Initialize(ReadOnlySpan<PcrSelection> allocation, int locality)
    {
        _banks = new Bank[allocation.Length];
        for (int i = 0; i < allocation.Length; i++)
        {
            var bank = new Bank(allocation[i]);
            _banks[i] = bank;
            for (int pcr = 0; pcr < TpmLimits.PcrCount; pcr++)
            {
                bank.Value(pcr).Fill(Has(PcrProperty.DrtmReset, pcr) ? (byte)0xFF : (byte)0);
            }

            bank.Value(0)[^1] = (byte)locality;
        }
    }

    internal bool IsAllocated(AlgorithmId hash, int pcr) => Find(hash) is Bank bank && bank.Has(pcr);

    /// <summary>The allocation in effect, for each bank.</summary>
    internal PcrSelection[] Allocation() => Array.ConvertAll(_banks, b => b.Selection);

    /// <summary>The part of a selection that is allocated.</summary>
    internal PcrSelection Filter(PcrSelection selection)
        => selection with { Map = selection.Map & (Find(selection.Hash)?.Selection.Map ?? 0) };

    /// <summary>The value of an allocated PCR; empty otherwise.</summary>
    internal ReadOnlyMemory<byte> Read(AlgorithmId hash, int pcr) => Find(hash) is Bank bank && bank.Has(pcr) ? bank.Memory(pcr) : default;

    /// <summary>The digest of the selected PCRs' values, one after the other.</summary>
    internal byte[] Digest(ReadOnlySpan<PcrSelection> selections, AlgorithmId hash)
    {
        IHashState state = _cryptography.StartHash(hash);
        foreach (PcrSelection selection in selections)
        {
            for (int pcr = 0; pcr < TpmLimits.PcrCount; pcr++)
            {
                if ((selection.Map & (1u << pcr)) != 0)
                {
                    state.Update(Read(selection.Hash, pcr).Span);
                }
            }
        }

        return state.Finish();
    }

    /// <summary>Extends the PCR of one bank, if it is allocated.</summary>
    /// <returns>Whether it is.</returns>
    internal bool Extend(AlgorithmId hash, int pcr, ReadOnlySpan<byte> digest)
    {
        if (Find(hash) is not Bank bank || !bank.Has(pcr))
        {
            return false;
        }

        IHashState state = _cryptography.StartHash(hash);
        state.Update(bank.Value(pcr));
        state.Update(digest);
        state.Finish(bank.Value(pcr));
        return true;
    }

    /// <summary>Sets a PCR to zero in every bank.</summary>
    internal void Reset(int pcr)
    {
        foreach (Bank bank in _banks)
        {
            bank.Value(pcr).Clear();
        }
    }

    /// <summary>The PCRs that survive TPM2_Shutdown(STATE), or all of them, bank by bank.</summary>
    internal byte[] Save(bool all = false)
    {
        var saved = new System.IO.MemoryStream();
        foreach (Bank bank in _banks)
        {
            for (int pcr = 0; pcr < TpmLimits.PcrCount; pcr++)
            {
                if (all || Has(PcrProperty.Save, pcr))
                {
                    saved.Write(bank.Value(pcr));
                }
            }
        }

        return saved.ToArray();
    }

    /// <summary>Takes back what <see cref="Save"/> gave, into the same banks.</summary>
    /// <returns>False when the size is not that of these banks.</returns>
    internal bool Restore(ReadOnlySpan<byte> saved, bool all = false)
    {
        foreach (Bank bank in _banks)
        {
            for (int pcr = 0; pcr < TpmLimits.PcrCount; pcr++)
            {
                if (!all && !Has(PcrProperty.Save, pcr))
                {
                    continue;
                }

                Span<byte> value = bank.Value(pcr);
                if (saved.Length < value.Length)
                {
                    return false;
                }

                saved[..value.Length].CopyTo(value);
                saved = saved[value.Length..];
            }
        }

        return saved.IsEmpty;
    }

    private Bank? Find(AlgorithmId hash) => Array.Find(_banks, b => b.Selection.Hash == hash);

    private sealed class Bank(PcrSelection selection)
    {
        private readonly int _size = Algorithms.DigestSize(selection.Hash);
        private readonly byte[] _values = new byte[Algorithms.DigestSize(selection.Hash) * TpmLimits.PcrCount];

        internal PcrSelection Selection { get; } = selection;

        internal bool Has(int pcr) => (Selection.Map & (1u << pcr)) != 0;

        internal Span<byte> Value(int pcr) => _values.AsSpan(pcr * _size, _size);

        internal ReadOnlyMemory<byte> Memory(int pcr) => _values.AsMemory(pcr * _size, _size);
    }
}
