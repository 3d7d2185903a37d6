// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Requests by GHCB page (non-automatic exits). The page is shared, so its fields are read once, before anything is done.
//
// Every request must mark SW_EXITCODE, SW_EXITINFO1 and SW_EXITINFO2 and the inputs of its event in the valid bitmap. The answer clears
// the bitmap and marks what it returns. A malformed request is answered with GhcbCompletion.BadRequest and a GhcbError; a page that is not
// registered or not shared is what no host survives to answer, and stops the run.
//
// Source of the inputs: KVM, arch/x86/kvm/svm/sev.c, sev_es_validate_vmgexit.

using System;
using Svsm.Simulator.Shared;
using Svsm.Wire;

namespace Svsm.Hypervisor;

/// <summary>The host's side of GHCB pages.</summary>
internal static unsafe class GhcbRequests
{
    private const ushort HighestVersion = 2;
    private const int BitmapOffset = 0x3F0;
    private const int BitmapLength = 16;
    private const ulong UnknownHypercall = unchecked((ulong)-1000);

    private const int CplOffset = 0x0CB;
    private const int RaxOffset = 0x1F8;
    private const int RcxOffset = 0x308;
    private const int RdxOffset = 0x310;
    private const int RbxOffset = 0x318;
    private const int ExitCodeOffset = 0x390;
    private const int ExitInfo1Offset = 0x398;
    private const int ExitInfo2Offset = 0x3A0;
    private const int ScratchOffset = 0x3A8;

    /// <summary>Handles a request.</summary>
    /// <param name="machine">The machine.</param>
    /// <param name="cpu">Who asks.</param>
    /// <param name="gpa">GPA of the GHCB page.</param>
    /// <returns>False when the run must stop, which has been asked for.</returns>
    public static bool Handle(VirtualMachine machine, VirtualCpu cpu, ulong gpa)
    {
        GuestPage* page = machine.Memory.Find(gpa);
        if (gpa != cpu.Current.RegisteredGhcb || page == null || page->Assigned)
        {
            return cpu.Stop(ViolationKind.Ghcb, gpa);
        }

        var request = new Request
        {
            Machine = machine,
            Cpu = cpu,
            Gpa = gpa,
            Bytes = machine.Memory.SharedBytes(page),
        };
        return request.Handle();
    }

    private ref struct Request
    {
        public VirtualMachine Machine;
        public VirtualCpu Cpu;
        public ulong Gpa;
        public byte* Bytes;

        private ulong _validLow;
        private ulong _validHigh;
        private ulong _info1;
        private ulong _info2;
        private ulong _scratch;

        private readonly GhcbPage* Ghcb => (GhcbPage*)Bytes;

        public bool Handle()
        {
            // SAFETY: Bytes is a whole page; the bitmap and the fields below lie in it.
            _validLow = *(ulong*)(Bytes + BitmapOffset);
            _validHigh = *(ulong*)(Bytes + BitmapOffset + sizeof(ulong));
            new Span<byte>(Bytes + BitmapOffset, BitmapLength).Clear();
            ulong exitCode = Ghcb->SwExitCode;
            _info1 = Ghcb->SwExitInfo1;
            _info2 = Ghcb->SwExitInfo2;
            _scratch = Ghcb->SwScratch;
            ushort version = Ghcb->ProtocolVersion;
            Machine.Events.PageRequest(Cpu, exitCode, _info1, _info2);
            if (Ghcb->Usage != 0)
            {
                return Refuse(GhcbError.InvalidUsage);
            }

            if (!IsValid(ExitCodeOffset) || !IsValid(ExitInfo1Offset) || !IsValid(ExitInfo2Offset))
            {
                return Refuse(GhcbError.MissingInput);
            }

            if (version > HighestVersion)
            {
                return Refuse(GhcbError.InvalidInput);
            }

            switch ((GhcbExitCode)exitCode)
            {
                case GhcbExitCode.Ioio:
                    return PortAccess();
                case GhcbExitCode.Msr:
                    return MsrAccess();
                case GhcbExitCode.Cpuid:
                    return Cpuid();
                case GhcbExitCode.Rdtsc:
                case GhcbExitCode.Rdtscp:
                    return TimeStampCounter((GhcbExitCode)exitCode == GhcbExitCode.Rdtscp);
                case GhcbExitCode.Rdpmc:
                    return IsValid(RcxOffset) ? Complete64(0) : Refuse(GhcbError.MissingInput);
                case GhcbExitCode.Vmmcall:
                    return Hypercall();
                case GhcbExitCode.Dr7Write:
                    return IsValid(RaxOffset) ? Complete() : Refuse(GhcbError.MissingInput);
                case GhcbExitCode.Monitor:
                    return IsValid(RaxOffset) && IsValid(RcxOffset) && IsValid(RdxOffset) ? Complete() : Refuse(GhcbError.MissingInput);
                case GhcbExitCode.Mwait:
                    return IsValid(RaxOffset) && IsValid(RcxOffset) ? Complete() : Refuse(GhcbError.MissingInput);
                case GhcbExitCode.Invd:
                case GhcbExitCode.Wbinvd:
                    return Complete();
                case GhcbExitCode.NmiComplete:
                    Cpu.Current.Apic.NmiMasked = false;
                    return Complete();
                case GhcbExitCode.ApResetHold:
                    Complete();
                    return Machine.Wait(Cpu, ExitCode.VmgExit, length: 0);
                case GhcbExitCode.MmioRead:
                case GhcbExitCode.MmioWrite:
                    return DeviceAccess((GhcbExitCode)exitCode == GhcbExitCode.MmioWrite);
                case GhcbExitCode.PageStateChange:
                    return PageStateChange();
                case GhcbExitCode.GuestRequest:
                case GhcbExitCode.ExtendedGuestRequest:
                    return GuestRequest((GhcbExitCode)exitCode == GhcbExitCode.ExtendedGuestRequest);
                case GhcbExitCode.ApCreation:
                    return ApCreation();
                case GhcbExitCode.HvDoorbellPage when (Cpu.Features & SevFeatures.RestrictedInjection) != 0:
                    return SetDoorbell();
                case GhcbExitCode.HvIpi:
                    return Machine.Interrupts.TrySend(Cpu, new InterruptCommand(_info1)) ? Complete() : Refuse(GhcbError.InvalidInput);
                case GhcbExitCode.ApicIdList:
                    return ApicIds();
                case GhcbExitCode.RunVmpl:
                    return RunVmpl();
                case GhcbExitCode.HypervisorFeatures:
                    return Complete(info2: (ulong)VmgExit.Features(Machine));
                case GhcbExitCode.Terminate:
                    return Cpu.Stop(StopReason.Terminate, VmgExit.TerminationDetail(_info1 & 0xF, (_info1 >> 4) & 0xFF));
                case GhcbExitCode.UnsupportedEvent:
                    return Cpu.Stop(ViolationKind.Unsupported, 0);
                default:
                    return Refuse(GhcbError.InvalidEvent);
            }
        }

        private readonly bool IsValid(int offset)
        {
            int bit = offset / sizeof(ulong);
            return ((bit < 64 ? _validLow >> bit : _validHigh >> (bit - 64)) & 1) != 0;
        }

        private readonly void Return(int offset, ulong value)
        {
            *(ulong*)(Bytes + offset) = value;
            int bit = offset / sizeof(ulong);
            Bytes[BitmapOffset + (bit / 8)] |= (byte)(1 << (bit % 8));
        }

        private readonly bool Complete(GhcbCompletion completion = GhcbCompletion.Success, ulong info2 = 0)
        {
            Return(ExitInfo1Offset, (uint)completion);
            Return(ExitInfo2Offset, info2);
            return true;
        }

        private readonly bool Refuse(GhcbError error) => Complete(GhcbCompletion.BadRequest, (ulong)error);

        private readonly bool RaiseGeneralProtection()
        {
            const ulong Event = Amd64.VectorGeneralProtection | (3ul << 8) | (1ul << 11) | (1ul << 31);
            return Complete(GhcbCompletion.RaiseEvent, Event);
        }

        private readonly bool Complete64(ulong value)
        {
            Return(RaxOffset, (uint)value);
            Return(RdxOffset, value >> 32);
            return Complete();
        }

        private readonly bool Cpuid()
        {
            if (!IsValid(RaxOffset) || !IsValid(RcxOffset))
            {
                return Refuse(GhcbError.MissingInput);
            }

            Platform.CpuidResult result = Machine.Cpuid(Cpu, (uint)Ghcb->Rax, (uint)Ghcb->Rcx);
            Return(RaxOffset, result.Eax);
            Return(RbxOffset, result.Ebx);
            Return(RcxOffset, result.Ecx);
            Return(RdxOffset, result.Edx);
            return Complete();
        }

        private readonly bool TimeStampCounter(bool withAux)
        {
            Complete64(Machine.Processor.ReadTimeStampCounter() + Cpu.TimeStampOffset);
            if (withAux)
            {
                Return(RcxOffset, (uint)Cpu.Id);
            }

            return true;
        }

        private readonly bool Hypercall()
        {
            if (!IsValid(RaxOffset) || !IsValid(CplOffset))
            {
                return Refuse(GhcbError.MissingInput);
            }

            Return(RaxOffset, UnknownHypercall);
            return Complete();
        }

        private readonly bool MsrAccess()
        {
            bool write = (_info1 & 1) != 0;
            if (!IsValid(RcxOffset) || (write && !(IsValid(RaxOffset) && IsValid(RdxOffset))))
            {
                return Refuse(GhcbError.MissingInput);
            }

            var msr = (uint)Ghcb->Rcx;
            if (write)
            {
                ulong value = (uint)Ghcb->Rax | (Ghcb->Rdx << 32);
                if (!MsrModel.TryWrite(Machine, Cpu, msr, value))
                {
                    return RaiseGeneralProtection();
                }

                return Complete();
            }

            return MsrModel.TryRead(Machine, Cpu, msr, out ulong result) ? Complete64(result) : RaiseGeneralProtection();
        }

        private readonly bool PortAccess()
        {
            var info = (IoioInfo)(uint)_info1;
            var port = (ushort)(_info1 >> 16);
            int size = (info & IoioInfo.Size8) != 0 ? 1 : (info & IoioInfo.Size16) != 0 ? 2 : (info & IoioInfo.Size32) != 0 ? 4 : 0;
            bool input = (info & IoioInfo.In) != 0;
            if (size == 0)
            {
                return Refuse(GhcbError.InvalidInput);
            }

            if ((info & IoioInfo.String) != 0)
            {
                return PortString(port, size, input, (info & IoioInfo.Rep) != 0 ? _info2 : 1);
            }

            if (input)
            {
                uint value = Machine.Ports.Read(port, size);
                Return(RaxOffset, value);
                return Complete();
            }

            if (!IsValid(RaxOffset))
            {
                return Refuse(GhcbError.MissingInput);
            }

            uint mask = size == 4 ? uint.MaxValue : (1u << (size * 8)) - 1;
            bool resume = Machine.Ports.Write(Cpu, port, size, (uint)Ghcb->Rax & mask);
            return Complete() && resume;
        }

        private readonly bool PortString(ushort port, int size, bool input, ulong count)
        {
            if (!TryScratch(count, (ulong)size, out byte* buffer, out GhcbError error))
            {
                return Refuse(error);
            }

            bool resume = true;
            for (ulong i = 0; i < count && resume; i++)
            {
                byte* at = buffer + (i * (ulong)size);
                uint value = 0;
                if (input)
                {
                    value = Machine.Ports.Read(port, size);
                }

                for (int n = 0; n < size; n++)
                {
                    if (input)
                    {
                        at[n] = (byte)(value >> (n * 8));
                    }
                    else
                    {
                        value |= (uint)at[n] << (n * 8);
                    }
                }

                resume = input || Machine.Ports.Write(Cpu, port, size, value);
            }

            return Complete() && resume;
        }

        private readonly bool DeviceAccess(bool write)
        {
            // Both ends: a request that begins in device space may not end in RAM or nowhere.
            if (_info2 == 0 || _info2 - 1 > ulong.MaxValue - _info1 || !IsDevice(_info1) || !IsDevice(_info1 + _info2 - 1))
            {
                return Refuse(GhcbError.InvalidInput);
            }

            if (!TryScratch(_info2, 1, out byte* buffer, out GhcbError error))
            {
                return Refuse(error);
            }

            bool resume = true;
            if (write)
            {
                resume = Machine.Devices.Write(Cpu, _info1, new ReadOnlySpan<byte>(buffer, (int)_info2));
            }
            else
            {
                Machine.Devices.Read(_info1, new Span<byte>(buffer, (int)_info2));
                resume = !Machine.Cpus[0].StopRequest.IsSet;
            }

            return Complete() && resume;
        }

        private readonly bool IsDevice(ulong gpa) => Machine.Memory.Find(gpa) == null && Machine.Devices.Contains(gpa);

        // The scratch area: in the GHCB's own buffer, or in one other shared page.
        private readonly bool TryScratch(ulong count, ulong size, out byte* buffer, out GhcbError error)
        {
            buffer = null;
            error = GhcbError.MissingInput;
            if (!IsValid(ScratchOffset))
            {
                return false;
            }

            error = GhcbError.InvalidScratch;
            ulong offset = _scratch & (Amd64.PageSize - 1);
            ulong end = Amd64.PageSize;
            if (Amd64.PageOf(_scratch) == Gpa)
            {
                end = GhcbPage.SharedBufferOffset + GhcbPage.SharedBufferSize;
                if (offset < GhcbPage.SharedBufferOffset || offset > end)
                {
                    return false;
                }
            }

            GuestPage* page = Machine.Memory.Find(_scratch);
            if (count > (end - offset) / size || page == null || page->Assigned)
            {
                return false;
            }

            buffer = Machine.Memory.SharedBytes(page) + offset;
            return true;
        }

        private readonly bool PageStateChange()
        {
            const ulong EntryLength = sizeof(ulong);
            const ulong FrameMask = 0x000F_FFFF_FFFF_F000;
            const ulong PagesPerLargePage = 512;
            const ulong ErrorInvalidHeader = (1ul << 32) | 1;
            const ulong ErrorInvalidEntry = (1ul << 32) | 2;
            const ulong ErrorGeneric = 0x100ul << 32;

            if (!TryScratch(PageStateChangeBuffer.EntriesOffset / EntryLength, EntryLength, out byte* buffer, out GhcbError error))
            {
                return Refuse(error);
            }

            int current = *(ushort*)(buffer + PageStateChangeBuffer.CurrentOffset);
            int last = *(ushort*)(buffer + PageStateChangeBuffer.EndOffset);
            if (current > last || last >= PageStateChangeBuffer.MaxEntries
                || !TryScratchEntries(buffer, last, EntryLength))
            {
                return Complete(info2: ErrorInvalidHeader);
            }

            for (; current <= last; current++)
            {
                ulong* slot = (ulong*)(buffer + PageStateChangeBuffer.EntriesOffset) + current;
                ulong entry = *slot;
                var operation = (PageStateOperation)((entry >> PageStateChangeBuffer.OperationShift) & 0xF);
                bool large = (entry & PageStateChangeBuffer.Large) != 0;
                ulong gpa = entry & FrameMask;
                ulong done = entry & 0xFFF;
                ulong count = large ? PagesPerLargePage : 1;
                if (done > count || (large && (gpa & (Amd64.LargePageSize - 1)) != 0))
                {
                    return Complete(info2: ErrorInvalidEntry);
                }

                if (operation is PageStateOperation.Psmash or PageStateOperation.Unsmash)
                {
                    // Hints: the host may split or join its entries whenever it likes.
                    if (operation == PageStateOperation.Psmash)
                    {
                        Machine.Memory.Split(gpa);
                    }

                    done = count;
                }

                bool asLarge = large && operation == PageStateOperation.Private && IsWhollyShared(gpa);
                for (; done < count; done++)
                {
                    ulong page = gpa + (done * Amd64.PageSize);
                    if (page == Gpa || page == Amd64.PageOf(_scratch))
                    {
                        // The host reads the list there, and answers there: they stay what they are.
                        return Complete(info2: ErrorInvalidEntry);
                    }

                    if (!VmgExit.ChangePageState(Machine, Cpu, page, operation, asLarge, out bool changed))
                    {
                        return false;
                    }

                    if (!changed)
                    {
                        return Complete(info2: Machine.Memory.Find(gpa) == null ? ErrorInvalidEntry : ErrorGeneric);
                    }
                }

                *slot = (entry & ~0xFFFul) | done;
                *(ushort*)(buffer + PageStateChangeBuffer.CurrentOffset) = (ushort)(current + 1);
            }

            return Complete();
        }

        private readonly bool TryScratchEntries(byte* buffer, int last, ulong entryLength)
        {
            ulong offset = (ulong)buffer & (Amd64.PageSize - 1);
            bool own = Amd64.PageOf((ulong)buffer) == (ulong)Bytes;
            ulong end = own ? (ulong)(GhcbPage.SharedBufferOffset + GhcbPage.SharedBufferSize) : Amd64.PageSize;
            return PageStateChangeBuffer.EntriesOffset + (((ulong)last + 1) * entryLength) <= end - offset;
        }

        private readonly bool IsWhollyShared(ulong gpa)
        {
            for (ulong offset = 0; offset < Amd64.LargePageSize; offset += Amd64.PageSize)
            {
                GuestPage* page = Machine.Memory.Find(gpa + offset);
                if (page == null || page->Assigned)
                {
                    return false;
                }
            }

            return true;
        }

        private readonly bool GuestRequest(bool extended)
        {
            if (((_info1 | _info2) & (Amd64.PageSize - 1)) != 0 || _info1 == _info2 || !IsShared(_info1) || !IsShared(_info2))
            {
                return Refuse(GhcbError.InvalidInput);
            }

            var request = new GuestRequest
            {
                Request = Machine.Memory.SharedBytes(Machine.Memory.Find(_info1)),
                Response = Machine.Memory.SharedBytes(Machine.Memory.Find(_info2)),
                CertificatePages = Link.NoCertificates,
            };
            if (extended && GuestRequests.IsReportRequest(request.Request))
            {
                if (!IsValid(RaxOffset) || !IsValid(RbxOffset))
                {
                    return Refuse(GhcbError.MissingInput);
                }

                request.CertificatesGpa = Ghcb->Rax;
                request.CertificatePages = (uint)System.Math.Min(Ghcb->Rbx, Link.MaxCertificatePages);
                for (uint i = 0; i < request.CertificatePages; i++)
                {
                    if ((request.CertificatesGpa & (Amd64.PageSize - 1)) != 0 || !IsShared(request.CertificatesGpa + (i * Amd64.PageSize)))
                    {
                        return Refuse(GhcbError.InvalidInput);
                    }
                }
            }

            if (!GuestRequests.TryHandle(Machine, Cpu, in request, out ulong info2, out uint pagesNeeded))
            {
                Machine.Link.Log("the machine's answer to a guest request is broken"u8).EndLog();
                return Cpu.Stop(StopReason.HypervisorFault, 0);
            }

            if (pagesNeeded != 0)
            {
                Return(RbxOffset, pagesNeeded);
            }

            return Complete(info2: info2);
        }

        private readonly bool IsShared(ulong gpa)
        {
            GuestPage* page = Machine.Memory.Find(gpa);
            return page != null && !page->Assigned;
        }

        private readonly bool ApCreation()
        {
            const ulong OnInit = 0;
            const ulong Now = 1;
            const ulong Destroy = 2;
            ulong operation = _info1 & 0xFFFF;
            ulong vmpl = (_info1 >> 16) & 0xF;
            ulong apicId = _info1 >> 32;
            if (operation != Destroy && !IsValid(RaxOffset))
            {
                return Refuse(GhcbError.MissingInput);
            }

            bool single = (Machine.Options & LaunchOptions.SingleVmpl) != 0;
            if (operation > Destroy || apicId >= (ulong)Machine.Cpus.Length || vmpl >= NestedPageTables.VmplCount || (single && vmpl != 0)
                || vmpl < (ulong)Cpu.Vmpl)
            {
                // Nobody decides what a more privileged VMPL runs.
                return Refuse(GhcbError.InvalidInput);
            }

            VirtualCpu target = Machine.Cpus[(int)apicId];
            VmplContext context = target.Contexts[(int)vmpl];
            if (target.IsRunning && (int)vmpl == target.Vmpl)
            {
                return Refuse(GhcbError.InvalidInput);
            }

            if (operation == Destroy)
            {
                context.VmsaGpa = 0;
                context.VmsaPage = null;
                context.LaunchVmsa = null;
                return Complete();
            }

            // Some parts mishandle a VMSA on a 2-MiB boundary, so hosts refuse it.
            bool acceptable = (_info2 & (Amd64.PageSize - 1)) == 0 && (_info2 & (Amd64.LargePageSize - 1)) != 0
                && ((SevFeatures)Ghcb->Rax & SevFeatures.SnpActive) != 0
                && (operation is OnInit or Now)
                && Machine.TrySetVmsa(context, _info2);
            if (!acceptable)
            {
                return Refuse(GhcbError.InvalidInput);
            }

            if (!context.IsTaken)
            {
                context.GhcbMsr = VmgExit.SevInfo;
                context.RegisteredGhcb = ulong.MaxValue;
                context.Doorbell = Doorbell.None;
                context.HaltsOn = false;
                context.InterruptedEvent = 0;
            }

            context.IsTaken = false;
            Complete();

            // A vCPU that runs another VMPL goes on with it; one that waits starts with this one.
            return operation == OnInit || target.IsRunning || Machine.Start(target, (int)vmpl);
        }

        private readonly bool SetDoorbell()
        {
            VmplContext context = Cpu.Current;
            switch ((HvDoorbellOperation)_info1)
            {
                case HvDoorbellOperation.GetPreferred:
                    return Complete(info2: Doorbell.None);
                case HvDoorbellOperation.Set when !Doorbell.TrySet(Machine.Memory, context, _info2):
                    return Refuse(GhcbError.InvalidInput);
                case HvDoorbellOperation.Set:
                case HvDoorbellOperation.Query:
                    return Complete(info2: context.Doorbell);
                case HvDoorbellOperation.Clear:
                    context.Doorbell = Doorbell.None;
                    return Complete();
                default:
                    context.Doorbell = Doorbell.None;
                    return Refuse(GhcbError.InvalidInput);
            }
        }

        // The number of vCPUs and the id of each, 32 bits, in a shared page: all of them fit. Without a page, how many it takes.
        private readonly bool ApicIds()
        {
            if (!IsValid(RaxOffset))
            {
                return Refuse(GhcbError.MissingInput);
            }

            if (Ghcb->Rax != 0)
            {
                GuestPage* page = Machine.Memory.Find(_info1);
                if ((_info1 & (Amd64.PageSize - 1)) != 0 || page == null || page->Assigned)
                {
                    return Refuse(GhcbError.InvalidInput);
                }

                uint* list = (uint*)Machine.Memory.SharedBytes(page);
                list[0] = (uint)Machine.Cpus.Length;
                for (int i = 0; i < Machine.Cpus.Length; i++)
                {
                    list[i + 1] = (uint)i;
                }
            }

            Return(RaxOffset, 1);
            return Complete();
        }

        private readonly bool RunVmpl()
        {
            // The answer is written first: once another VMPL runs, the page is nobody's business until the caller is back.
            Complete();
            if (!VmgExit.SwitchVmpl(Machine, Cpu, _info1, out bool refused))
            {
                return false;
            }

            return !refused || Refuse(GhcbError.InvalidInput);
        }
    }
}
