// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The scenarios. Numbers are known to tests/Svsm.Hypervisor.Tests.

using System;
using System.Runtime;
using System.Runtime.Intrinsics.X86;
using System.Threading;
using Svsm.Platform;
using Svsm.Wire;

namespace Svsm.HypervisorProbe;

/// <summary>What to try.</summary>
internal enum Scenario : ulong
{
    /// <summary>Everything that the processor does without stopping.</summary>
    Processor = 0,

    /// <summary>A second VMPL.</summary>
    Vmpl = 1,

    /// <summary>A known number of instructions.</summary>
    Counting = 2,

    /// <summary>Requests to the host.</summary>
    Host = 3,

    /// <summary>A second vCPU.</summary>
    SecondVcpu = 4,

    /// <summary>A message for the security processor, made by the test.</summary>
    GuestMessage = 5,

    /// <summary>The interrupt controller.</summary>
    Interrupts = 6,

    /// <summary>Interrupts between vCPUs, and the end of a turn.</summary>
    InterruptedVcpus = 7,

    /// <summary>The PCI bus, with a device.</summary>
    Pci = 8,

    /// <summary>DMA and the interrupt of a PCI device, a random-number generator.</summary>
    Dma = 9,

    /// <summary>Restricted injection: the #HV doorbell page. VMPL0 has the feature.</summary>
    Doorbell = 12,

    /// <summary>Rescinds and losses of rights, each followed by the flush that it needs.</summary>
    Flushes = 10,

    /// <summary>PVALIDATE and RMPADJUST for every state of a page.</summary>
    RmpTable = 11,

    /// <summary>RDTSC and RDTSCP, which the host intercepts from the first exit on.</summary>
    TimeStampCounter = 13,

    /// <summary>Writes of VMPL2 without the right to, of which VMPL0 is told.</summary>
    WriteFaults = 14,

    /// <summary>What the hypervisor knows of VMPL2, for another machine.</summary>
    MoveSource = 15,

    PrivateAccessToSharedPage = 16,
    SharedAccessToPrivatePage = 17,
    VmplPermission = 18,
    NoMemory = 19,
    VmsaPage = 20,
    VcNotDelivered = 21,
    GhcbUnknownCode = 22,
    GhcbNotRegistered = 23,
    GhcbPrivate = 24,
    HaltForever = 25,
    InvalidVmsa = 26,
    SharedFetch = 27,
    Terminate = 28,
    TripleFault = 29,
    ValidateUnassigned = 30,
    ValidateSharedMapping = 31,
    AdjustUnassigned = 33,
    Reset = 32,
    WriteWithoutRight = 34,
    FetchWithoutRight = 35,
    UnsupportedEvent = 36,
    SvmeCleared = 37,
    VmsaBitMissing = 38,
    OuterMemoryExhausted = 39,
    AllVcpusHalted = 40,

    /// <summary>The same, from another machine.</summary>
    MoveTarget = 41,

    /// <summary>The machine has a word for VMPL0, which has restricted injection.</summary>
    Notified = 42,

    /// <summary>RDMSR and WRMSR of every MSR but EFER, with garbage.</summary>
    MsrGarbage = 43,

    /// <summary>WRMSR of EFER with garbage.</summary>
    EferGarbage = 44,

    /// <summary>And the same without one of the flushes: this number and those that follow, see <c>Translations.cs</c>.</summary>
    FirstMissingFlush = 64,
}

internal static unsafe partial class Probe
{
    private const ulong VectorUd = 6;
    private const ulong VectorGp = 13;
    private const ulong VectorPf = 14;
    private const ulong VectorVc = 29;
    private const ulong NotValidated = 0x404;
    private const ulong Ciphertext = 0xA5C3_A5C3_A5C3_A5C3;
    private const uint Success = 0;
    private const uint FailInput = 1;
    private const uint FailPermission = 2;
    private const uint FailSizeMismatch = 6;
    private const ulong LargePage = 0x20_0000;
    private const ulong AccessedBit = 1 << 5;
    private const ulong Vmpl2 = 2;

    private static Scenario s_scenario;

    // The VMPL below, and its meeting points with VMPL0.
    private static ulong s_lowerVmpl = Vmpl2;
    private static ulong s_lowerTask;
    private static ulong s_lowerAddress;
    private static ulong s_lowerResult;
    private static ulong s_lowerOperand;
    private static ulong s_lowerRuns;

    // Meeting points of vCPU 0 and vCPU 1.
    private static ulong s_firstTurn;
    private static ulong s_secondTurn;
    private static ulong s_secondApicId;

    private static void Run(Scenario scenario)
    {
        s_scenario = scenario;
        switch (scenario)
        {
            case Scenario.Processor:
                Identity();
                Exceptions();
                DeviceSpace();
                Validation();
                LargePages();
                Adjustment();
                Views();
                FaultAddresses();
                Paging();
                break;
            case Scenario.Vmpl:
                LowerVmpl();
                break;
            case Scenario.Counting:
                Count(100_000);
                break;
            case Scenario.SecondVcpu:
                SecondVcpu();
                break;
            case Scenario.GuestMessage:
                GuestMessage();
                break;
            case Scenario.Interrupts:
                LocalInterrupts();
                break;
            case Scenario.InterruptedVcpus:
                InterruptedVcpus();
                break;
            case Scenario.Pci:
                PciChecks();
                break;
            case Scenario.Dma:
                DmaChecks();
                break;
            case Scenario.Doorbell:
                DoorbellPage();
                DoorbellVmpls();
                break;
            case Scenario.Notified:
                Notified();
                break;
            case Scenario.TimeStampCounter:
                InterceptedTimeStampCounter();
                break;
            case Scenario.MoveSource or Scenario.MoveTarget:
                Move(isSource: scenario == Scenario.MoveSource);
                break;
            case Scenario.WriteFaults:
                WriteFaults();
                break;
            case Scenario.MsrGarbage:
                MsrGarbage();
                break;
            case Scenario.RmpTable:
                RmpTable();
                break;
            case Scenario.Flushes:
                Flushes(omitted: -1);
                break;
            case >= Scenario.FirstMissingFlush:
                Flushes((int)(scenario - Scenario.FirstMissingFlush));
                Check(false, "the run should have stopped"u8);
                break;
            case Scenario.Host:
                RegisterProtocol();
                GhcbRequests();
                break;
            default:
                Violate(scenario);
                Check(false, "the run should have stopped"u8);
                break;
        }
    }

    private static void Identity()
    {
        Check(X64.ReadMsr(SevMsr.SevStatus) == 7, "SEV_STATUS"u8);
        CpuidResult result = X64.Cpuid(0x8000_001F);
        Check(s_vector == VectorVc && s_error == 0x72, "CPUID raises #VC"u8);
        Check((result.Eax & 0x1A) == 0x1A && (result.Ebx & 0x3F) == 47, "encryption capabilities"u8);
        Check((X64.Cpuid(0x8000_0001).Ecx & ((1u << 2) | (1u << 11) | (1u << 16))) == 0, "SVM, XOP and FMA4 are hidden"u8);

        // Whatever the emulator has: what would need state that nobody keeps, or an account that nobody keeps.
        CpuidResult features = X64.Cpuid(1);
        CpuidResult more = X64.Cpuid(7);
        Check((features.Ecx & ((1u << 26) | (1u << 27) | (1u << 28) | (1u << 12) | (1u << 29))) == 0, "XSAVE, OSXSAVE, AVX, FMA and F16C are hidden"u8);
        Check((more.Ebx & ((1u << 5) | (1u << 16))) == 0 && (more.Ecx & ((1u << 9) | (1u << 10))) == 0, "AVX2, AVX-512, VAES and VPCLMULQDQ are hidden"u8);
        Check(X64.Cpuid(0).Eax < 0xD && (X64.Cpuid(0xD).Eax | X64.Cpuid(0xD).Ebx) == 0, "there is no function of XSAVE"u8);
        Check((features.Ecx & (1u << 17)) == 0 && (more.Ebx & (1u << 10)) == 0, "PCID and INVPCID are hidden"u8);
        Check((features.Ecx & (1u << 3)) == 0 && (X64.Cpuid(5).Eax | X64.Cpuid(5).Ecx) == 0, "MONITOR is hidden"u8);
        Check((features.Ecx & (1u << 24)) == 0 && (more.Ebx & (1u << 1)) == 0, "TSC deadline and TSC adjust are hidden"u8);
        Check((features.Ecx & (1u << 21)) != 0 && (features.Ecx & (1u << 31)) != 0, "x2APIC is there, and a hypervisor"u8);
        Check((features.Ecx & (1u << 30)) != 0 && (features.Ecx & (1u << 25)) != 0, "RDRAND and AES are there"u8);

        // Carry and sign are what comparing 1 with 0xFF8C00 gives; the exchange of zeroes succeeds.
        const uint CompareExchange16 = 1u << 13;
        Check((X64.Cpuid(1).Ecx & CompareExchange16) == 0 || CompareExchange() == 0xC3, "CMPXCHG16B, if it is shown, leaves other flags alone"u8);
    }

    private static void Exceptions()
    {
        Expect(skip: 2);
        X64.ReadMsr(0x1B);
        Check(Got(VectorVc, 0x7C), "RDMSR raises #VC"u8);
        Expect(skip: 2);
        X64.WriteMsr(0x1B, 0);
        Check(Got(VectorVc, 0x7C), "WRMSR raises #VC"u8);
        Expect(skip: 1);
        X64.In8(0x80);
        Check(Got(VectorVc, 0x7B), "IN raises #VC"u8);
        Expect(skip: 1);
        X64.Out32(0x80, 0);
        Check(Got(VectorVc, 0x7B), "OUT raises #VC"u8);
        Expect(skip: 2);
        Wbinvd();
        Check(Got(VectorVc, 0x89), "WBINVD raises #VC"u8);
        Expect(skip: 3);
        Vmmcall();
        Check(Got(VectorVc, 0x81), "VMMCALL raises #VC"u8);
        Expect(skip: 2);
        Rdpmc();
        Check(Got(VectorVc, 0x6F), "RDPMC raises #VC"u8);
        Expect(skip: 3);
        ReadDr7();
        Check(Got(VectorVc, 0x27), "reading DR7 raises #VC"u8);
        Expect(skip: 2);
        Invd();
        Check(Got(VectorVc, 0x76), "INVD raises #VC"u8);
        Expect(skip: 3);
        WriteDr7(0x400);
        Check(Got(VectorVc, 0x37), "writing DR7 raises #VC"u8);
        Expect(skip: 3);
        Monitor(TestArea);
        Check(Got(VectorVc, 0x8A), "MONITOR raises #VC"u8);
        Expect(skip: 3);
        Mwait();
        Check(Got(VectorVc, 0x8B), "MWAIT raises #VC"u8);
        Expect(skip: 2);
        OutString();
        Check(Got(VectorVc, 0x7B), "REP OUTSB raises #VC"u8);
        Expect(skip: 1);
        InString();
        Check(Got(VectorVc, 0x7B), "INSD raises #VC"u8);
        Expect(skip: 2);
        InBytes();
        Check(Got(VectorVc, 0x7B), "REP INSB raises #VC"u8);
        Expect(skip: 2);
        OutWord();
        Check(Got(VectorVc, 0x7B), "OUTSW raises #VC"u8);
        Expect(skip: 3);
        X64.ReadTimeStampCounter();
        ReadTscAux();
        Check(GotNothing(), "RDTSC and RDTSCP are the guest's own"u8);
        Expect(skip: 2);
        Ud2();
        Check(Got(VectorUd, 0), "UD2 raises #UD"u8);
        Expect(skip: 4);
        Psmash(TestArea);
        Check(Got(VectorUd, 0), "PSMASH raises #UD in a guest"u8);
        Expect(skip: 3);
        Vmrun(TestArea);
        Check(Got(VectorUd, 0), "VMRUN raises #UD in a guest"u8);
        Expect(skip: 3);
        Invlpgb(TestArea | 1, 7);
        TlbSync();
        Check(GotNothing(), "INVLPGB and TLBSYNC"u8);
        Expect(skip: 3);
        Invlpgb(TestArea | 1, 8);
        Check(Got(VectorGp, 0), "INVLPGB with too many pages raises #GP"u8);
        Expect(skip: 3);
        Invlpgb(TestArea | 0x41, 0);
        Check(Got(VectorGp, 0), "INVLPGB with reserved bits raises #GP"u8);
        Expect(skip: 2);
        X64.WriteMsr(SevMsr.SevStatus, 7);
        Check(Got(VectorGp, 0), "SEV_STATUS is read-only"u8);

        // From CPL 3: on the stack of CPL 0, with the old code selector in the frame.
        ulong* addresses = stackalloc ulong[7];
        Addresses(addresses);
        s_count = 0;
        Check((RunUser() & 0x3F) == 47, "CPUID at CPL 3"u8);
        Check(s_count == 2 && s_codeSelector == 0x23, "#VC from CPL 3 keeps CS"u8);
        Check(addresses[3] - s_handlerStack < PageSize, "#VC from CPL 3 uses RSP0"u8);
        SetGate(29, addresses[0] + (29 * 16), interruptStack: 1);
        X64.Cpuid(0x8000_001F);
        Check(s_vector == VectorVc && addresses[2] - s_handlerStack < PageSize, "#VC through an interrupt stack"u8);
        SetGate(29, addresses[0] + (29 * 16), interruptStack: 0);
    }

    // Shared accesses to device space are #VC, and the host answers the request that the guest makes of them.
    private static void DeviceSpace()
    {
        const ulong IoApic = 0xFEC0_0000;
        const ulong Nothing = 0xD000_0000;
        const ulong Version = 0x17_0011;
        ulong* table = (ulong*)WindowTable;
        table[0] = IoApic | 3;
        table[1] = Nothing | 3;
        X64.InvalidatePage(Window);
        X64.InvalidatePage(Window + PageSize);
        Expect(skip: 3);
        Read(Window);
        Check(Got(VectorVc, 0x400), "reading a device raises #VC"u8);
        Expect(skip: 3);
        Write(Window + 0x10, 1);
        Check(Got(VectorVc, 0x400), "writing a device raises #VC"u8);
        Expect(skip: 3);
        Read(Window + PageSize + 8);
        Check(Got(VectorVc, 0x400), "reading where no device is raises #VC"u8);
        table[0] = 0;
        table[1] = 0;

        BeginDevice(GhcbExitCode.MmioWrite, IoApic);
        *Scratch = 1;
        Check(Call() == GhcbCompletion.Success, "writing a device's register"u8);
        BeginDevice(GhcbExitCode.MmioRead, IoApic + 0x10);
        Check(Call() == GhcbCompletion.Success && *Scratch == Version, "reading a device's register"u8);
        BeginDevice(GhcbExitCode.MmioRead, Nothing);
        Check(Call() == GhcbCompletion.Success && *Scratch == uint.MaxValue, "where no device is reads float"u8);
        BeginDevice(GhcbExitCode.MmioRead, TestArea);
        Check(CallRefused(GhcbError.InvalidInput), "RAM is no device"u8);
    }

    private static uint* Scratch => (uint*)((byte*)Ghcb + GhcbPage.SharedBufferOffset);

    private static void BeginDevice(GhcbExitCode code, ulong gpa)
    {
        Begin(code, gpa, sizeof(uint));
        SetScratch(GhcbGpa + GhcbPage.SharedBufferOffset);
    }

    private static void InterceptedTimeStampCounter()
    {
        Expect(skip: 2);
        ReadTsc();
        Check(Got(VectorVc, (ulong)GhcbExitCode.Rdtsc), "RDTSC raises #VC"u8);
        Expect(skip: 3);
        ReadTscAux();
        Check(Got(VectorVc, (ulong)GhcbExitCode.Rdtscp), "RDTSCP raises #VC"u8);
        ulong first = AskTime(GhcbExitCode.Rdtsc);
        Check(IsMarked(0x1F8) && IsMarked(0x310) && !IsMarked(0x308), "what RDTSC returns"u8);
        ulong second = AskTime(GhcbExitCode.Rdtscp);
        Check(IsMarked(0x308) && Ghcb->Rcx == 0 && second > first, "what RDTSCP returns"u8);
    }

    private static ulong AskTime(GhcbExitCode code)
    {
        Begin(code, 0, 0);
        Check(Call() == GhcbCompletion.Success, "the host tells the time"u8);
        return (uint)Ghcb->Rax | (Ghcb->Rdx << 32);
    }

    private static void Validation()
    {
        ulong page = NewPage();
        Check(*Shared(page) == 0, "a page never written reads as zero"u8);
        *Shared(page) = 0x1111;
        Check(ChangePageState(page, PageStateOperation.Private) == 0, "page state change to private"u8);
        Expect(skip: 3);
        Read(page);
        Check(Got(VectorVc, NotValidated) && s_faultAddress == page, "an unvalidated page raises #VC"u8);
        Expect(skip: 3);
        Write(page + 0x128, 1);
        Check(Got(VectorVc, NotValidated) && s_faultAddress == page + 0x128, "CR2 has the address of the access"u8);

        Check(X64.PValidate(page, X64.PageSize4K, true, out bool unchanged) == Success && !unchanged, "PVALIDATE"u8);
        Check(Read(page) == Ciphertext, "what was shared is ciphertext now"u8);
        Check(X64.PValidate(page, X64.PageSize4K, true, out unchanged) == Success && unchanged, "PVALIDATE twice sets CF"u8);
        Write(page, 0x2222);
        Check(Read(page) == 0x2222, "private memory keeps what is written"u8);
        Check(X64.PValidate(page, X64.PageSize4K, false, out unchanged) == Success && !unchanged, "rescind"u8);
        Check(X64.PValidate(page, X64.PageSize4K, false, out unchanged) == Success && unchanged, "rescind twice sets CF"u8);
        X64.InvalidatePage(page);
        Expect(skip: 3);
        Read(page);
        Check(Got(VectorVc, NotValidated), "a rescinded page raises #VC"u8);
        Check(X64.PValidate(page, X64.PageSize4K, true, out unchanged) == Success && !unchanged && Read(page) == 0x2222, "contents survive a rescind"u8);
        Check(X64.PValidate(page + 0x10, X64.PageSize4K, true, out unchanged) == Success && unchanged, "PVALIDATE takes any address of the page"u8);

        Check(ChangePageState(page, PageStateOperation.Shared) == 0, "page state change to shared"u8);
        Check(*Shared(page) == Ciphertext, "what was private is ciphertext now"u8);
        Check(ChangePageState(page, PageStateOperation.Private) == 0, "and private again"u8);
        Expect(skip: 3);
        Read(page);
        Check(Got(VectorVc, NotValidated), "validation does not survive a change to shared"u8);
        Check(ChangePageState(0x800_0000, PageStateOperation.Private) != 0, "no page state change beyond RAM"u8);

        Check(X64.PValidate(page, X64.PageSize2M, true, out _) == FailSizeMismatch || (page & (LargePage - 1)) != 0, "size mismatch"u8);
        Check(X64.PValidate(TestArea + PageSize, X64.PageSize2M, true, out _) == FailInput, "2 MiB must be aligned"u8);
        Expect(skip: 4);
        X64.PValidate(Window + 0x1000, X64.PageSize4K, true, out _);
        Check(Got(VectorPf, 0) && s_faultAddress == Window + 0x1000, "PVALIDATE of an unmapped page raises #PF"u8);
        Expect(skip: 4);
        X64.PValidate(0x8000_0000_0000, X64.PageSize4K, true, out _);
        Check(Got(VectorGp, 0), "PVALIDATE of a non-canonical address raises #GP"u8);
    }

    private static void LargePages()
    {
        s_nextPage = (s_nextPage + LargePage - 1) & ~(LargePage - 1);
        ulong start = s_nextPage;
        s_nextPage += LargePage;
        Begin(GhcbExitCode.PageStateChange, 0, 0);
        ulong buffer = GhcbGpa + GhcbPage.SharedBufferOffset;
        *Shared(buffer) = 0;
        *Shared(buffer + 8) = start | ((ulong)PageStateOperation.Private << PageStateChangeBuffer.OperationShift) | PageStateChangeBuffer.Large;
        SetScratch(buffer);
        Check(Call() == GhcbCompletion.Success && Ghcb->SwExitInfo2 == 0, "page state change of 2 MiB"u8);
        Check((*Shared(buffer) & 0xFFFF) == 1, "the entry was consumed"u8);
        Check(X64.PValidate(start, X64.PageSize2M, true, out bool unchanged) == Success && !unchanged, "PVALIDATE of 2 MiB"u8);
        Write(start + LargePage - 8, 5);
        Check(X64.PValidate(start, X64.PageSize2M, true, out unchanged) == Success && unchanged, "PVALIDATE of 2 MiB twice"u8);
        Check(X64.RmpAdjust(start, X64.PageSize2M, 1 | (uint)RmpPermissions.Read) == Success, "RMPADJUST of 2 MiB"u8);
        Check(X64.PValidate(start + PageSize, X64.PageSize4K, false, out unchanged) == Success && !unchanged, "4 KiB of a 2-MiB entry"u8);
        Check(X64.PValidate(start, X64.PageSize2M, true, out _) == FailSizeMismatch, "the entry was split"u8);
        Check(X64.RmpAdjust(start, X64.PageSize2M, 1) == FailSizeMismatch, "RMPADJUST of a split entry"u8);
        Check(Read(start + LargePage - 8) == 5, "contents survive the split"u8);
    }

    private static void Adjustment()
    {
        ulong page = NewPrivatePage();
        Check(X64.RmpAdjust(page, X64.PageSize4K, 1 | (uint)RmpPermissions.All) == Success, "RMPADJUST"u8);
        Check(X64.RmpAdjust(page, X64.PageSize4K, 0) == FailPermission, "RMPADJUST of the own VMPL"u8);
        Check(X64.RmpAdjust(page, X64.PageSize4K, 4) == FailInput, "RMPADJUST of VMPL 4"u8);
        Check(X64.RmpAdjust(page, X64.PageSize4K, 1 | (1ul << 17)) == FailInput, "reserved bits of RDX"u8);
        Check(X64.RmpAdjust(page, X64.PageSize2M, 1) == ((page & (LargePage - 1)) == 0 ? FailSizeMismatch : FailInput), "RMPADJUST and page size"u8);
        ulong fresh = NewPage();
        ChangePageState(fresh, PageStateOperation.Private);
        Expect(skip: 4);
        X64.RmpAdjust(fresh, X64.PageSize4K, 1);
        Check(Got(VectorVc, NotValidated) && s_faultAddress == fresh, "RMPADJUST of an unvalidated page"u8);
    }

    private static void Views()
    {
        // Two addresses, one page each: nothing written through one view shows in the other, before or after a change.
        ulong page = NewPage();
        for (ulong offset = 0; offset < PageSize; offset += 8)
        {
            *Shared(page + offset) = 0x3333;
        }

        ChangePageState(page, PageStateOperation.Private);
        X64.PValidate(page, X64.PageSize4K, true, out _);
        for (ulong offset = 0; offset < PageSize; offset += 8)
        {
            Check(Read(page + offset) != 0x3333, "shared contents in private memory"u8);
        }

        Write(page, 0x4444);
        ChangePageState(page, PageStateOperation.Shared);
        Check(*Shared(page) != 0x4444, "private contents in shared memory"u8);

        // A host that gives a page which the guest has already changes nothing.
        ulong kept = NewPrivatePage();
        Write(kept, 7);
        Check(ChangePageState(kept, PageStateOperation.Private) == 0 && Read(kept) == 7, "private again is no change"u8);
    }

    private static void FaultAddresses()
    {
        ulong page = NewPage();
        ChangePageState(page, PageStateOperation.Private);
        Expect(skip: 5);
        ReadIndexed(page, 4);
        Check(Got(VectorVc, NotValidated) && s_faultAddress == page + 0x30, "base, index and displacement"u8);
        Expect(ReturnToCaller);
        CallAt(page + 0x40);
        Check(Got(VectorVc, NotValidated) && s_faultAddress == page + 0x40, "a fetch"u8);
        *(ulong*)WindowTable = page | CBit | 3;
        Expect(skip: 3);
        Read(Window + 8);
        Check(Got(VectorVc, NotValidated) && s_faultAddress == Window + 8, "through another mapping"u8);
        *(ulong*)WindowTable = 0;
        X64.InvalidatePage(Window);
    }

    private static void Paging()
    {
        Check(PagingOff() == 0x1001, "memory is private while paging is off"u8);

        // A page table behind an entry without the C-bit is private all the same.
        ulong table = NewPrivatePage();
        ulong page = NewPrivatePage();
        new Span<byte>((void*)table, PageSize).Clear();
        Write(page, 0x5555);
        *(ulong*)table = page | CBit | 3;
        ulong* directory = (ulong*)0x10_5000;
        directory[1] = table | 3;
        Check(Read(Window + LargePage) == 0x5555, "a page table without the C-bit"u8);
        Check((directory[1] & ~AccessedBit) == (table | 3), "the pointer to it stays as it is"u8);
        Check((*(ulong*)table & AccessedBit) != 0, "the walk is one of the private page"u8);
        directory[1] = 0;
        X64.InvalidatePage(Window + LargePage);
    }

    private static void RegisterProtocol()
    {
        Check(Msr(GhcbMsr.SevInfoRequest) == ((2ul << 48) | (1ul << 32) | (47ul << 24) | GhcbMsr.SevInfoResponse), "SEV information"u8);
        Check(Msr(GhcbMsr.PreferredGhcbRequest) == (~0xFFFul | GhcbMsr.PreferredGhcbResponse), "no preferred GHCB"u8);
        Check(Msr(GhcbMsr.FeaturesRequest) == (0x37_000 | GhcbMsr.FeaturesResponse), "features"u8);
        Check(RunVmpl(2) == 1, "no VMSA for VMPL2"u8);
        Check(RunVmpl(9) == 1, "no VMPL9"u8);
        Check(ChangePageState(NewPage(), (PageStateOperation)7) != 0, "unknown page state operation"u8);
    }

    private static void GhcbRequests()
    {
        Begin((GhcbExitCode)0x8000_1234, 0, 0);
        Check(CallRefused(GhcbError.InvalidEvent), "unknown event"u8);
        Begin(GhcbExitCode.Cpuid, 0, 0);
        Check(CallRefused(GhcbError.MissingInput), "CPUID without RAX"u8);
        Begin(GhcbExitCode.Cpuid, 0, 0);
        SetRax(0x8000_001F);
        SetRcx(0);
        Check(Call() == GhcbCompletion.Success && (Ghcb->Rbx & 0x3F) == 47 && IsMarked(0x318), "CPUID"u8);
        Begin(GhcbExitCode.Cpuid, 0, 0);
        Ghcb->Usage = 1;
        Check(CallRefused(GhcbError.InvalidUsage), "usage"u8);
        Begin(GhcbExitCode.Cpuid, 0, 0);
        Ghcb->ProtocolVersion = 3;
        Check(CallRefused(GhcbError.InvalidInput), "protocol version"u8);
        Begin(GhcbExitCode.Msr, 0, 0);
        SetRcx(0x802);
        Check(Call() == GhcbCompletion.Success && Ghcb->Rax == 0, "APIC id"u8);
        Begin(GhcbExitCode.Msr, 0, 0);
        SetRcx(0x1234);
        Check(Call() == GhcbCompletion.RaiseEvent && Ghcb->SwExitInfo2 == 0x8000_0B0D, "unknown MSR"u8);
        Begin(GhcbExitCode.Ioio, (0x3FDul << 16) | (ulong)(IoioInfo.In | IoioInfo.Size8), 0);
        Check(Call() == GhcbCompletion.Success && Ghcb->Rax == 0x60, "line status"u8);
        Begin(GhcbExitCode.Ioio, (0xCF4ul << 16) | (ulong)(IoioInfo.In | IoioInfo.Size32), 0);
        Check(Call() == GhcbCompletion.Success && Ghcb->Rax == uint.MaxValue, "unused ports float"u8);
        Begin(GhcbExitCode.HypervisorFeatures, 0, 0);
        Check(Call() == GhcbCompletion.Success && Ghcb->SwExitInfo2 == 0x37, "features"u8);
        Begin(GhcbExitCode.PageStateChange, 0, 0);
        SetScratch(GhcbGpa);
        Check(CallRefused(GhcbError.InvalidScratch), "scratch area outside the buffer"u8);
        Begin(GhcbExitCode.GuestRequest, NewPage(), NewPage());
        Check(Call() == GhcbCompletion.Success && Ghcb->SwExitInfo2 == 0xFFFF_FFFF_0000_0000, "guest request without firmware"u8);
        Begin(GhcbExitCode.RunVmpl, 3, 0);
        Check(CallRefused(GhcbError.InvalidInput), "VMPL3 has no VMSA"u8);
        Begin(GhcbExitCode.ApCreation, 1ul << 32, NewPage());
        SetRax(1);
        Check(CallRefused(GhcbError.InvalidInput), "no vCPU 1"u8);

        // A string to the console: two lines in one request.
        ReadOnlySpan<byte> text = "one\ntwo\n"u8;
        Begin(GhcbExitCode.Ioio, (0x3F8ul << 16) | (ulong)(IoioInfo.String | IoioInfo.Rep | IoioInfo.Size8), (ulong)text.Length);
        text.CopyTo(new Span<byte>((byte*)Ghcb + GhcbPage.SharedBufferOffset, text.Length));
        SetScratch(GhcbGpa + GhcbPage.SharedBufferOffset);
        Check(Call() == GhcbCompletion.Success, "OUTS"u8);
    }

    // The test has the key; here a ready message is sent, and what comes back is printed.
    private static void GuestMessage()
    {
        RegisterGhcb();
        ulong request = NewPage();
        ulong response = NewPage();
        ulong certificates = NewPage();
        new ReadOnlySpan<byte>((void*)MessageGpa, PageSize).CopyTo(new Span<byte>(Shared(request), PageSize));

        ulong before = X64.ReadTimeStampCounter();
        Begin(GhcbExitCode.GuestRequest, request, response);
        Check(Call() == GhcbCompletion.Success && Ghcb->SwExitInfo2 == 0 && !IsMarked(0x318), "guest request"u8);
        Check(X64.ReadTimeStampCounter() > before, "time does not run backwards"u8);
        Print(response);

        Begin(GhcbExitCode.ExtendedGuestRequest, request, response);
        SetRax(certificates);
        SetRbx(0);
        Check(Call() == GhcbCompletion.Success && Ghcb->SwExitInfo2 == 1ul << 32 && IsMarked(0x318) && Ghcb->Rbx == 1, "no room for certificates"u8);
        Begin(GhcbExitCode.ExtendedGuestRequest, request, response);
        SetRax(certificates);
        SetRbx(1);
        Check(Call() == GhcbCompletion.Success && Ghcb->SwExitInfo2 == 0x16 && !IsMarked(0x318), "extended guest request, refused by the firmware"u8);
        Print(response);
        Print(certificates);

        Begin(GhcbExitCode.GuestRequest, request, request);
        Check(CallRefused(GhcbError.InvalidInput), "one page for both"u8);
        Begin(GhcbExitCode.GuestRequest, request + 8, response);
        Check(CallRefused(GhcbError.InvalidInput), "request not at a page"u8);
        Begin(GhcbExitCode.GuestRequest, request, response + 8);
        Check(CallRefused(GhcbError.InvalidInput), "response not at a page"u8);
        Begin(GhcbExitCode.GuestRequest, request, MessageGpa);
        Check(CallRefused(GhcbError.InvalidInput), "private response page"u8);
        Begin(GhcbExitCode.GuestRequest, 0x7FFF_F000_0000, response);
        Check(CallRefused(GhcbError.InvalidInput), "request page outside RAM"u8);
        Begin(GhcbExitCode.ExtendedGuestRequest, request, response);
        SetRax(certificates);
        Check(CallRefused(GhcbError.MissingInput), "extended guest request without room"u8);
        Begin(GhcbExitCode.ExtendedGuestRequest, request, response);
        SetRax(certificates + 8);
        SetRbx(1);
        Check(CallRefused(GhcbError.InvalidInput), "certificates not at a page"u8);
        Begin(GhcbExitCode.ExtendedGuestRequest, request, response);
        SetRax(MessageGpa);
        SetRbx(1);
        Check(CallRefused(GhcbError.InvalidInput), "certificates to a private page"u8);
    }

    private static void Print(ulong page)
    {
        var bytes = (byte*)Shared(page);
        for (ulong i = 0; i < PageSize; i++)
        {
            Console.Write("0123456789abcdef"u8[bytes[i] >> 4]);
            Console.Write("0123456789abcdef"u8[bytes[i] & 0xF]);
        }

        Console.Write((byte)'\n');
    }

    // ---- a second VMPL

    private static Vmsa* MakeLower(ulong vmsaPage)
    {
        ulong* addresses = stackalloc ulong[7];
        Addresses(addresses);
        for (ulong gpa = 0x10_0000; gpa < 0x10_7000; gpa += PageSize)
        {
            Grant(gpa, RmpPermissions.Read | RmpPermissions.Write);
        }

        for (ulong gpa = 0x20_0000; gpa < addresses[5]; gpa += PageSize)
        {
            Grant(gpa, RmpPermissions.All);
        }

        return MakeVmsa(vmsaPage, (byte)s_lowerVmpl, addresses[1]);
    }

    private static Vmsa* MakeVmsa(ulong vmsaPage, byte vmpl, ulong entry)
    {
        ulong* addresses = stackalloc ulong[7];
        Addresses(addresses);
        new Span<byte>((void*)vmsaPage, PageSize).Clear();
        var vmsa = (Vmsa*)vmsaPage;
        fixed (GateTable* gates = &s_gates)
        {
            vmsa->Idtr = new SegmentRegister { Limit = (80 * 16) - 1, Base = (ulong)gates };
        }

        vmsa->Cs = new SegmentRegister { Selector = 0x08, Attributes = 0xA9B, Limit = uint.MaxValue };
        vmsa->Ss = new SegmentRegister { Selector = 0x10, Attributes = 0xC93, Limit = uint.MaxValue };
        vmsa->Ds = vmsa->Es = vmsa->Fs = vmsa->Gs = vmsa->Ss;
        vmsa->Tr = new SegmentRegister { Attributes = 0x8B, Limit = 0x67 };
        vmsa->Ldtr = new SegmentRegister { Attributes = 0x82 };
        vmsa->Gdtr = GdtOfCaller();
        // Long mode, without SVME: not runnable yet.
        vmsa->Efer = 0x0D01;
        vmsa->Cr0 = 0x8000_0033;
        vmsa->Cr4 = X64.ReadCr4();
        vmsa->Cr3 = X64.ReadCr3();
        vmsa->Dr6 = 0xFFFF_0FF0;
        vmsa->Dr7 = 0x400;
        vmsa->Rflags = 2;
        vmsa->Rip = entry;
        vmsa->Rsp = addresses[4];
        vmsa->Rdi = 0x77;
        vmsa->Pat = 0x0007_0406_0007_0406;
        vmsa->Xcr0 = 1;
        vmsa->Mxcsr = 0x1F80;
        vmsa->X87ControlWord = 0x37F;
        vmsa->Vmpl = vmpl;
        vmsa->SevFeatures = (ulong)SevFeatures.SnpActive;
        return vmsa;
    }

    private static SegmentRegister GdtOfCaller()
    {
        ulong limitAndBase = 0;
        ulong address = StoreGdt(&limitAndBase);
        return new SegmentRegister { Limit = (ushort)limitAndBase, Base = address };
    }

    private static void Grant(ulong gpa, RmpPermissions permissions)
    {
        Check(X64.RmpAdjust(gpa, X64.PageSize4K, s_lowerVmpl | (uint)permissions) == Success, "grant"u8);
    }

    private static ulong NewVmsaPage()
    {
        if ((s_nextPage & (LargePage - 1)) == 0)
        {
            NewPage();
        }

        return NewPrivatePage();
    }

    private static ulong CreateLower(out Vmsa* vmsa)
    {
        ulong page = NewVmsaPage();
        vmsa = MakeLower(page);
        Check(X64.RmpAdjust(page, X64.PageSize4K, s_lowerVmpl | (uint)(RmpPermissions.Read | RmpPermissions.VmsaPage)) == Success, "make a VMSA page"u8);
        Begin(GhcbExitCode.ApCreation, s_lowerVmpl << 16, page);
        SetRax((ulong)SevFeatures.SnpActive);
        Check(Call() == GhcbCompletion.Success, "AP creation"u8);
        return page;
    }

    private static ulong Lower(ulong task, ulong address)
    {
        s_lowerTask = task;
        s_lowerAddress = address;
        Check(RunVmpl(s_lowerVmpl) == 0, "run the VMPL below"u8);
        return s_lowerResult;
    }

    [RuntimeExport("probe_lower_main")]
    private static void LowerMain(ulong argument)
    {
        // The same image at the VMPL below: statics are shared with VMPL0, which waits.
        s_lowerResult = argument;
        while (true)
        {
            s_lowerRuns++;
            Msr(GhcbMsr.RunVmplRequest);
            switch (s_lowerTask)
            {
                case 1:
                    s_lowerResult = Read(s_lowerAddress);
                    break;
                case 2:
                    Write(s_lowerAddress, 0x6666);
                    break;
                case 3:
                    CallAt(s_lowerAddress);
                    break;
                case 4:
                    s_lowerResult = X64.RmpAdjust(s_lowerAddress, X64.PageSize4K, 1);
                    break;
                case 5:
                    s_lowerResult = X64.RmpAdjust(s_lowerAddress, X64.PageSize4K, 3 | (uint)RmpPermissions.All);
                    break;
                case 6:
                    Expect(skip: 4);
                    X64.PValidate(s_lowerAddress, X64.PageSize4K, true, out _);
                    s_lowerResult = Got(VectorGp, 0) ? 1ul : 0;
                    break;
                case 9:
                    s_lowerResult = TryValidate(s_lowerAddress, (uint)s_lowerOperand, validate: true);
                    break;
                case 10:
                    s_lowerResult = TryValidate(s_lowerAddress, (uint)s_lowerOperand, validate: false);
                    break;
                case 11:
                    s_lowerResult = TryAdjust(s_lowerAddress, (uint)s_lowerOperand, s_lowerOperand >> 32);
                    break;
                case 7:
                    s_lowerResult = X64.Cpuid(0x8000_001F).Ebx;
                    break;
                case 8:
                    s_lowerResult = X64.ReadMsr(SevMsr.Ghcb);
                    break;
                case 17:
                    LeaveState();
                    break;
                case 18:
                    s_lowerResult = FindState();
                    break;
                case 16:
                    Expect(skip: 2);
                    Ud2();
                    s_lowerResult = Got(VectorUd, 0) ? 1ul : 0;
                    break;
                case 12:
                    fixed (ulong* turn = &s_firstTurn)
                    {
                        SpinUntil(turn, 1);
                    }

                    break;
                case 13:
                    X64.EnableInterrupts();
                    HaltMarked();
                    X64.DisableInterrupts();
                    break;
                case 14:
                    // VMPL0 waits meanwhile, and leaves the GHCB page alone.
                    RegisterGhcb();
                    WriteApic(0x80F, 0x1FF);
                    WriteApic(0x83E, 0xB);
                    WriteApic(0x832, 0x47);
                    WriteApic(0x838, 1_000_000);
                    break;
                case 15:
                    X64.EnableInterrupts();
                    X64.ReadMsr(SevMsr.SevStatus);
                    X64.DisableInterrupts();
                    s_lowerResult = Interrupts();
                    break;
            }
        }
    }

    private static void LowerVmpl()
    {
        CreateLower(out Vmsa* vmsa);

        // Not runnable: refused, and the caller goes on.
        Check(RunVmpl(Vmpl2) == 1, "EFER.SVME clear is refused"u8);
        vmsa->Efer |= 1 << 12;
        Check(Lower(0, 0) == 0x77, "VMPL2 runs with the registers of its VMSA"u8);
        Check(vmsa->ExitCode == 0x403 && vmsa->Vmpl == Vmpl2 && s_lowerRuns == 1, "its VMSA tells of the VMGEXIT"u8);
        Check(vmsa->Rip > 0x20_0000 && vmsa->Rcx == SevMsr.Ghcb, "and has its registers"u8);
        Check((Lower(7, 0) & 0x3F) == 47, "VMPL2 gets #VC as well"u8);
        Check((Lower(8, 0) & 0xFFF) == GhcbMsr.RunVmplResponse, "VMPL2 has a GHCB MSR of its own"u8);

        ulong page = NewPrivatePage();
        Write(page, 0x7777);
        Grant(page, RmpPermissions.Read);
        Check(Lower(1, page) == 0x7777, "a right to read"u8);
        Grant(page, RmpPermissions.Read | RmpPermissions.Write);
        Lower(2, page);
        Check(Read(page) == 0x6666, "a right to write"u8);
        Check(Lower(4, page) == FailPermission, "VMPL2 cannot change VMPL1"u8);
        Check(Lower(5, page) == FailPermission, "VMPL2 cannot give what it has not"u8);
        Grant(page, RmpPermissions.All);
        Check(Lower(5, page) == Success, "VMPL2 can give what it has"u8);
        Check(Lower(6, page) == 1, "PVALIDATE raises #GP at VMPL2"u8);
    }

    private static ulong StartSecond(out Vmsa* vmsa)
    {
        ulong* addresses = stackalloc ulong[7];
        Addresses(addresses);
        ulong page = NewVmsaPage();
        vmsa = MakeVmsa(page, 0, addresses[6]);
        // Half of the lower VMPL's stack, which may be in use on vCPU 0.
        vmsa->Rsp -= PageSize;
        vmsa->Efer |= 1 << 12;
        Check(X64.RmpAdjust(page, X64.PageSize4K, 1 | (uint)RmpPermissions.VmsaPage) == Success, "make a VMSA page"u8);
        Begin(GhcbExitCode.ApCreation, 1 | (1ul << 32), page);
        SetRax((ulong)SevFeatures.SnpActive);
        Check(Call() == GhcbCompletion.Success, "start vCPU 1"u8);
        return page;
    }

    private static void SecondVcpu()
    {
        const uint FailInUse = 3;
        ulong page = StartSecond(out Vmsa* vmsa);
        Check(X64.RmpAdjust(page, X64.PageSize4K, 1) == FailInUse, "the VMSA of a vCPU that runs is in use"u8);
        for (ulong turn = 1; turn <= 100; turn++)
        {
            s_firstTurn = turn;
            while (Volatile.Read(ref s_secondTurn) != turn)
            {
                X86Base.Pause();
            }
        }

        s_firstTurn = ulong.MaxValue;
        for (int i = 0; i < 4; i++)
        {
            X86Base.Pause();
        }

        Check(s_secondApicId == 1, "APIC id of vCPU 1"u8);
        Check(vmsa->ExitCode == 0x78 && vmsa->Rax == 0x5353, "a halted vCPU has its registers in its VMSA"u8);
        Check(X64.RmpAdjust(page, X64.PageSize4K, 1) == Success, "which is no longer in use"u8);
    }

    private static void SpinningSecond()
    {
        // vCPU 0 waits for the first turn meanwhile, and leaves the GHCB page alone.
        RegisterGhcb();
        WriteApic(0x80F, 0x1FF);
        X64.EnableInterrupts();
        fixed (ulong* first = &s_firstTurn)
        {
            for (ulong turn = 1; turn <= 10; turn++)
            {
                SpinUntil(first, turn);
                s_secondTurn = turn;
            }

            SpinUntil(first, ulong.MaxValue);
        }

        X64.DisableInterrupts();
        HaltMarked();
    }

    [RuntimeExport("probe_second_main")]
    private static void SecondMain()
    {
        s_secondApicId = X64.Cpuid(1).Ebx >> 24;
        if (s_scenario == Scenario.InterruptedVcpus)
        {
            SpinningSecond();
        }

        while (true)
        {
            ulong turn = Volatile.Read(ref s_firstTurn);
            if (turn == ulong.MaxValue)
            {
                HaltMarked();
            }

            s_secondTurn = turn;
            X86Base.Pause();
        }
    }

    private static bool TryWriteMsr(uint msr, ulong value)
    {
        Begin(GhcbExitCode.Msr, 1, 0);
        SetRcx(msr);
        SetRax((uint)value);
        Ghcb->Rdx = value >> 32;
        MarkValid(0x310);
        return Call() == GhcbCompletion.Success;
    }

    private static void WriteApic(uint msr, ulong value) => Check(TryWriteMsr(msr, value), "write an APIC register"u8);

    private static ulong ReadApic(uint msr)
    {
        Begin(GhcbExitCode.Msr, 0, 0);
        SetRcx(msr);
        Check(Call() == GhcbCompletion.Success, "read an APIC register"u8);
        return Ghcb->Rax;
    }

    private static ulong Taken(ulong before)
    {
        X64.EnableInterrupts();
        X64.ReadMsr(SevMsr.SevStatus);
        X64.DisableInterrupts();
        return Interrupts() - before;
    }

    private static void LocalInterrupts()
    {
        const ulong Millisecond = 1_000_000;
        const ulong Periodic = 1 << 17;
        const ulong Deadline = 1 << 18;
        ulong before = Interrupts();
        WriteApic(0x83F, 0x41);
        Check(Taken(before) == 0 && ReadApic(0x822) == 0, "an APIC that is off takes nothing"u8);
        WriteApic(0x80F, 0x1FF);
        WriteApic(0x83F, 0x41);
        Check(Interrupts() == before && ReadApic(0x822) == 2, "an interrupt waits for RFLAGS.IF"u8);
        Check(Taken(before) == 1 && ReadApic(0x822) == 0 && ReadApic(0x812) == 2 && ReadApic(0x80A) == 0x40, "and is in service then"u8);
        WriteApic(0x83F, 0x42);
        Check(Taken(before) == 1, "one of the same priority has to wait"u8);
        WriteApic(0x80B, 0);
        Check(Taken(before) == 2, "for the end of interrupt"u8);
        WriteApic(0x80B, 0);
        WriteApic(0x808, 0x40);
        WriteApic(0x830, 0x41);
        Check(Taken(before) == 2, "a task priority holds interrupts back"u8);
        WriteApic(0x808, 0);
        Check(Taken(before) == 3, "until it is lowered"u8);
        WriteApic(0x80B, 0);

        WriteApic(0x83E, 0xB);
        WriteApic(0x832, 0x43);
        WriteApic(0x838, Millisecond);
        ulong start = X64.ReadTimeStampCounter();
        WaitForInterrupt();
        Check(Interrupts() == before + 4 && ReadApic(0x839) == 0, "the timer ends a HLT"u8);
        WriteApic(0x80B, 0);
        ulong ticks = X64.ReadTimeStampCounter() - start;
        WriteApic(0x832, Periodic | 0x43);
        WriteApic(0x838, Millisecond / 10);
        for (ulong i = 5; i < 8; i++)
        {
            X64.EnableInterrupts();
            SpinForInterrupts(before + i);
            X64.DisableInterrupts();
            WriteApic(0x80B, 0);
        }

        WriteApic(0x838, 0);
        Taken(before);
        WriteApic(0x80B, 0);
        before = Interrupts();
        WriteApic(0x832, Deadline | 0x44);
        WriteApic(0x6E0, X64.ReadTimeStampCounter() + ticks);
        WaitForInterrupt();
        Check(Interrupts() == before + 1 && ReadApic(0x6E0) == 0, "a deadline"u8);
        WriteApic(0x80B, 0);
        WriteApic(0x832, 0x1_0043);

        Check(!TryWriteMsr(0x830, 0x500) && !TryWriteMsr(0x830, 0x610), "INIT and start-up are refused"u8);
        Check(!TryWriteMsr(0x802, 1) && !TryWriteMsr(0x8F0, 0), "what cannot be written is refused"u8);
    }

    private static void InterruptedVcpus()
    {
        WriteApic(0x80F, 0x1FF);
        StartSecond(out _);

        // Neither executes PAUSE: without the end of a turn one of them would wait for ever.
        for (ulong turn = 1; turn <= 10; turn++)
        {
            s_firstTurn = turn;
            fixed (ulong* second = &s_secondTurn)
            {
                SpinUntil(second, turn);
            }
        }

        ulong before = Interrupts();
        WriteApic(0x830, (1ul << 32) | 0x45);
        X64.EnableInterrupts();
        SpinForInterrupts(before + 1);
        X64.DisableInterrupts();
        Check(Interrupts() == before + 1, "an interrupt to another vCPU"u8);
        s_firstTurn = ulong.MaxValue;
        WriteApic(0x832, 0x46);
        WriteApic(0x838, 1_000_000);
        WaitForInterrupt();
        Check(Interrupts() == before + 2, "the timer of one vCPU while the other halts for good"u8);
    }

    private static void Violate(Scenario scenario)
    {
        ulong page = NewPage();
        switch (scenario)
        {
            case Scenario.PrivateAccessToSharedPage:
                Read(page + 8);
                break;
            case Scenario.SharedAccessToPrivatePage:
                Read(SharedView + NewPrivatePage());
                break;
            case Scenario.NoMemory:
                Read(0x1000_0000);
                break;
            case Scenario.VmplPermission:
                CreateRunning();
                Lower(1, NewPrivatePage());
                break;
            case Scenario.WriteWithoutRight:
                CreateRunning();
                page = NewPrivatePage();
                Grant(page, RmpPermissions.Read);

                // VMPL0 is told, does nothing about it, and is told again.
                for (int i = 0; i < 200_000; i++)
                {
                    Lower(2, page);
                }

                break;
            case Scenario.FetchWithoutRight:
                CreateRunning();
                page = NewPrivatePage();
                Grant(page, RmpPermissions.Read | RmpPermissions.Write);
                Lower(3, page);
                break;
            case Scenario.VmsaPage:
                Lower(1, CreateRunning());
                break;
            case Scenario.VcNotDelivered:
                LoadTable(null, 0);
                X64.Cpuid(0);
                break;
            case Scenario.GhcbUnknownCode:
                Msr(0x00A);
                break;
            case Scenario.GhcbNotRegistered:
                Msr(GhcbGpa);
                break;
            case Scenario.GhcbPrivate:
                ChangePageState(GhcbGpa, PageStateOperation.Private);
                Msr(GhcbGpa);
                break;
            case Scenario.HaltForever:
                X64.Halt();
                break;
            case Scenario.InvalidVmsa:
                CreateLower(out Vmsa* vmsa);
                vmsa->Efer |= 1 << 12;
                vmsa->Vmpl = 3;
                RunVmpl(Vmpl2);
                break;
            case Scenario.VmsaBitMissing:
                page = CreateLower(out vmsa);
                vmsa->Efer |= 1 << 12;
                Check(X64.RmpAdjust(page, X64.PageSize4K, 3) == Success, "take the VMSA bit away"u8);
                RunVmpl(Vmpl2);
                break;
            case Scenario.SharedFetch:
                CallAt(SharedView + page);
                break;
            case Scenario.Terminate:
                Msr(GhcbMsr.TerminateRequest | (5ul << 12) | (0x42ul << 16));
                break;
            case Scenario.TripleFault:
                LoadTable(null, 0);
                Ud2();
                break;
            case Scenario.ValidateUnassigned:
                X64.PValidate(page, X64.PageSize4K, true, out _);
                break;
            case Scenario.AdjustUnassigned:
                X64.RmpAdjust(page, X64.PageSize4K, 1);
                break;
            case Scenario.ValidateSharedMapping:
                X64.PValidate(SharedView + NewPrivatePage(), X64.PageSize4K, true, out _);
                break;
            case Scenario.Reset:
                PortOut(0xCF9, 0x06);
                break;
            case Scenario.UnsupportedEvent:
                Begin(GhcbExitCode.UnsupportedEvent, 0x72, 0);
                Call();
                break;
            case Scenario.OuterMemoryExhausted:
                for (ulong gpa = TestArea; gpa < TestArea + (40ul << 20); gpa += PageSize)
                {
                    *Shared(gpa) = 1;
                }

                break;
            case Scenario.AllVcpusHalted:
                StartSecond(out _);
                s_firstTurn = ulong.MaxValue;
                X64.Halt();
                break;
            case Scenario.EferGarbage:
                EferGarbage();
                break;
            case Scenario.SvmeCleared:
                X64.WriteMsr(0xC000_0080, X64.ReadMsr(0xC000_0080) & ~(1ul << 12));
                Msr(GhcbMsr.SevInfoRequest);
                break;
        }
    }

    private static ulong CreateRunning()
    {
        ulong page = CreateLower(out Vmsa* vmsa);
        vmsa->Efer |= 1 << 12;
        Lower(0, 0);
        return page;
    }

    [RuntimeImport("*", "probe_halt_marked")]
    [System.Runtime.CompilerServices.MethodImpl(System.Runtime.CompilerServices.MethodImplOptions.InternalCall)]
    private static extern void HaltMarked();

    [RuntimeImport("*", "probe_store_gdt")]
    [System.Runtime.CompilerServices.MethodImpl(System.Runtime.CompilerServices.MethodImplOptions.InternalCall)]
    private static extern ulong StoreGdt(ulong* limit);
}
