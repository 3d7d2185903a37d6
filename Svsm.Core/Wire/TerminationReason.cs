// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Why the SVSM ended its VM: the number that it hands to the host in a GHCB termination request.
// For the kernel (ends), the boot stub (the numbers below 0x10; Boot.S repeats them) and the simulator's machine (names them).
// The host may read the number, so it tells nothing that is secret. Explanations and remedies: docs/kernel.md.

namespace Svsm.Wire;

/// <summary>Reasons of the reason set <see cref="TerminationReasonSet.Svsm"/>: bits 23:16 of a GHCB MSR termination request.</summary>
public enum TerminationReason : byte
{
    /// <summary>Never used.</summary>
    None = 0,

    /// <summary>The page at EBX is no boot parameter page: the image and its launch VMSA do not belong together.</summary>
    BootParameters = 0x01,

    /// <summary>The CPUID page has more than 64 entries, or no physical-address size from 32 to 52 bits.</summary>
    CpuidPage = 0x02,

    /// <summary>The CPUID page has no C-bit position, or one outside 32 to 51.</summary>
    EncryptionBit = 0x03,

    /// <summary>The processor has no RDRAND, or it gave no number after many tries.</summary>
    RandomNumbers = 0x04,

    /// <summary>The vCPU runs with a virtual top of memory, which this kernel does not handle.</summary>
    VirtualTom = 0x05,

    /// <summary>SEV_STATUS has a bit that this kernel does not know.</summary>
    SevStatusUnknownBits = 0x10,

    /// <summary>SEV_STATUS differs from the features that the launch VMSA was measured with.</summary>
    SevStatusMismatch = 0x11,

    /// <summary>The kernel does not run at VMPL0.</summary>
    NotVmpl0 = 0x12,

    /// <summary>The measured image configuration is not one that this kernel understands.</summary>
    Configuration = 0x13,

    /// <summary>The CPUID page has no INVLPGB: translations of other processors could not be dropped.</summary>
    NoInvlpgb = 0x14,

    /// <summary>The host does not speak version 2 of the GHCB protocol.</summary>
    GhcbVersion = 0x18,

    /// <summary>The host and the CPUID page name different C-bit positions.</summary>
    EncryptionBitMismatch = 0x19,

    /// <summary>The host lacks SNP or vCPU creation.</summary>
    HypervisorFeatures = 0x1A,

    /// <summary>The host offers one VMPL only, or the image is for such a host (stock QEMU): there would be no place for the guest.</summary>
    SingleVmpl = 0x1B,

    /// <summary>The host did not take the GHCB page.</summary>
    GhcbRegistration = 0x1C,

    /// <summary>The host's answer breaks the GHCB protocol, or refuses what it must not refuse.</summary>
    GhcbAnswer = 0x1D,

    /// <summary>The host names no vCPU, or more than 512.</summary>
    VcpuCount = 0x20,

    /// <summary>The host's memory map is not sorted, disjoint, terminated, below the address limit, or has no RAM.</summary>
    MemoryMap = 0x21,

    /// <summary>A range that the image prepares for its guest is not in the guest's RAM.</summary>
    GuestRange = 0x22,

    /// <summary>The region is too small for the state of every page of this VM.</summary>
    PageStates = 0x23,

    /// <summary>The image has no guest.</summary>
    NoGuest = 0x24,

    /// <summary>A page of the SVSM could not be validated, or was valid already: the host exchanges pages.</summary>
    Validation = 0x30,

    /// <summary>The region has no free frame left while booting.</summary>
    OutOfMemory = 0x31,

    /// <summary>The rights of a page could not be set.</summary>
    RmpAdjust = 0x32,

    /// <summary>A page of the guest has another state than the SVSM gave it: the host exchanges pages.</summary>
    PageStateViolation = 0x33,

    /// <summary>The host refused to create the guest's vCPU.</summary>
    GuestCreation = 0x40,

    /// <summary>The host refused to run the guest's VMPL.</summary>
    RunVmpl = 0x41,

    /// <summary>The host refused to start a CPU of the SVSM.</summary>
    CpuStart = 0x42,

    /// <summary>An exception that the kernel has no use for.</summary>
    UnexpectedException = 0x50,

    /// <summary>A #VC whose exit code does not match the instruction at RIP.</summary>
    VcMismatch = 0x51,

    /// <summary>A #VC for something that the kernel never does.</summary>
    VcUnsupported = 0x52,

    /// <summary>A #VC while a #VC was being handled.</summary>
    VcNested = 0x53,

    /// <summary>The kernel touched a page of its own that is not validated: the host took it away.</summary>
    VcUnvalidatedPage = 0x54,

    /// <summary>The kernel's code failed a check of its own.</summary>
    Internal = 0x55,

    /// <summary>A stack ran into its guard page.</summary>
    StackOverflow = 0x56,

    /// <summary>A panic during a panic.</summary>
    NestedPanic = 0x57,

    /// <summary>Another CPU ended the VM, and the host did not obey.</summary>
    OtherCpu = 0x58,

    /// <summary>A #HV before the kernel has got off the stack of another one.</summary>
    HvNested = 0x59,

    /// <summary>The host tells of a machine check.</summary>
    MachineCheck = 0x5A,

    /// <summary>The VM waited for a guest from another machine, and none has come.</summary>
    NoGuestCame = 0x5B,
}

/// <summary>Reason sets: bits 15:12 of a GHCB MSR termination request.</summary>
public static class TerminationReasonSet
{
    /// <summary>General reasons of the GHCB specification.</summary>
    public const uint General = 0;

    /// <summary>Reasons of Linux.</summary>
    public const uint Linux = 1;

    /// <summary>This project's SVSM; see <see cref="TerminationReason"/>.</summary>
    public const uint Svsm = 5;

    /// <summary>This project's probe guest.</summary>
    public const uint ProbeGuest = 6;
}
