// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Model-specific registers without effect on the simulated machine, which operating systems expect of any AMD processor.
//
//   MTRRs                    kept, one set for all vCPUs, which must agree anyway: default write-back, nothing else described
//   machine check            no banks
//   NB_CFG                   kept
//   processor configuration  zero, and writes of zero are fine
//
// Source: AMD64 Architecture Programmer's Manual, volume 2, appendix A; what KVM answers for them.

namespace Svsm.Hypervisor;

/// <summary>MSRs that only hold a value.</summary>
internal sealed class MsrStore
{
    private const uint MtrrCapability = 0xFE;
    private const uint VariableFirst = 0x200;
    private const uint VariableLast = 0x20F;
    private const uint FixedFirst = 0x250;
    private const uint FixedLast = 0x26F;
    private const uint MtrrDefault = 0x2FF;
    private const uint NorthBridge = 0xC001_001F;

    // Eight variable ranges, fixed ranges, write combining.
    private const ulong CapabilityValue = 0x508;

    // Enabled, write-back.
    private const ulong DefaultValue = 0x806;

    private readonly ulong[] _variable = new ulong[VariableLast - VariableFirst + 1];
    private readonly ulong[] _fixed = new ulong[FixedLast - FixedFirst + 1];
    private ulong _default = DefaultValue;
    private ulong _northBridge;

    /// <summary>Reads an MSR.</summary>
    /// <returns>False when it is none of these.</returns>
    public bool TryRead(uint msr, out ulong value)
    {
        value = 0;
        switch (msr)
        {
            case MtrrCapability:
                value = CapabilityValue;
                return true;
            case MtrrDefault:
                value = _default;
                return true;
            case NorthBridge:
                value = _northBridge;
                return true;
            case >= VariableFirst and <= VariableLast:
                value = _variable[msr - VariableFirst];
                return true;
            case >= FixedFirst and <= FixedLast when IsFixed(msr):
                value = _fixed[msr - FixedFirst];
                return true;
            default:
                return IsZero(msr);
        }
    }

    /// <summary>Writes an MSR.</summary>
    /// <returns>False when it is none of these, or cannot have this value.</returns>
    public bool TryWrite(uint msr, ulong value)
    {
        switch (msr)
        {
            case MtrrDefault:
                _default = value;
                return true;
            case NorthBridge:
                _northBridge = value;
                return true;
            case >= VariableFirst and <= VariableLast:
                _variable[msr - VariableFirst] = value;
                return true;
            case >= FixedFirst and <= FixedLast when IsFixed(msr):
                _fixed[msr - FixedFirst] = value;
                return true;
            default:
                return value == 0 && IsZero(msr);
        }
    }

    /// <summary>Passes all of them (HostState.cs).</summary>
    public void Pass(ref StateStream stream)
    {
        stream.Quads(_variable);
        stream.Quads(_fixed);
        _default = stream.Quad(_default);
        _northBridge = stream.Quad(_northBridge);
    }

    private static bool IsFixed(uint msr) => msr is 0x250 or 0x258 or 0x259 or >= 0x268;

    // Microcode revision; machine check capability, status, control; debug control; then AMD's: SYSCFG, HWCR, interrupt pending,
    // OS-visible workarounds, DE_CFG, LS_CFG, DC_CFG, BU_CFG2.
    private static bool IsZero(uint msr)
    {
        return msr is 0x8B or >= 0x179 and <= 0x17B or 0x1D9 or 0xC001_0010 or 0xC001_0015 or 0xC001_0055
            or 0xC001_0140 or 0xC001_0141 or 0xC001_1020 or 0xC001_1022 or 0xC001_1029 or 0xC001_102A;
    }
}
