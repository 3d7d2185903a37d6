// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System.Runtime.CompilerServices;
using Svsm.Platform;

namespace Svsm.SelfTest;

internal static unsafe class PlatformTests
{
    private const uint EferRegister = 0xC000_0080;
    private const uint KernelGSBaseRegister = 0xC000_0102;
    private const ulong LongModeActive = 1 << 10;
    private const ushort PitChannel2 = 0x42;
    private const int MxcsrOffset = 24;
    private const uint MxcsrControlBits = 0xFFC0;

    internal static void Run()
    {
        CpuidResult vendor = X64.Cpuid(0);
        Check.That("cpuid"u8, vendor.Eax != 0 && vendor.Ebx != 0 && X64.Cpuid(0x8000_0000).Eax >= 0x8000_0001);
        Check.That("rdmsr"u8, (X64.ReadMsr(EferRegister) & LongModeActive) != 0);
        X64.WriteMsr(KernelGSBaseRegister, Check.Opaque(0x1234_5678_9ABC));
        Check.That("wrmsr"u8, X64.ReadMsr(KernelGSBaseRegister) == 0x1234_5678_9ABC);
        Check.That("control registers"u8, (X64.ReadCr0() & 1) != 0 && (X64.ReadCr3() & 0xFFF) == 0 && (X64.ReadCr4() & 0x200) != 0);
        X64.WriteCr2(Check.Opaque(0x5000UL));
        X64.WriteCr3(X64.ReadCr3());
        X64.WriteCr4(X64.ReadCr4());
        X64.WriteCr0(X64.ReadCr0());
        Check.That("writing control registers"u8, X64.ReadCr2() == 0x5000);
        Check.That("flags"u8, (X64.ReadFlags() & 0x202) == 2);
        ulong before = X64.ReadTimeStampCounter();
        X64.Pause();
        Check.That("time-stamp counter"u8, X64.ReadTimeStampCounterOrdered() > before);
        bool random = false;
        for (int i = 0; i < 10 && !random; i++)
        {
            random = X64.TryReadRandom(out ulong first) && X64.TryReadSeed(out ulong second) && first != second;
        }

        Check.That("random numbers"u8, random);
        X64.Out8(0x80, 0);
        X64.Out16(0x80, 0);
        X64.Out32(0xCF8, 0x8000_0000);
        Check.That("port input and output"u8, X64.In32(0xCF8) == 0x8000_0000 && X64.In16(0xCFC) != 0 && X64.In8(PitChannel2) <= 0xFF);
        X64.MemoryFence();
        X64.WriteBackInvalidateCaches();
        X64.InvalidatePage(0);

        byte* memory = stackalloc byte[512 + 16];
        byte* area = (byte*)(((ulong)memory + 15) & ~15UL);
        X64.SaveExtendedState(area);
        X64.RestoreExtendedState(area);
        Check.That("extended state"u8, (*(uint*)(area + MxcsrOffset) & MxcsrControlBits) == 0x1F80);

        SpinLock spinLock = default;
        bool free = !spinLock.IsHeld;
        spinLock.Acquire();
        bool held = spinLock.IsHeld && !spinLock.TryAcquire();
        spinLock.Release();
        Check.That("spin lock"u8, free && held && spinLock.TryAcquire() && spinLock.IsHeld);

        nuint used = BootHeap.Used;
        object allocated = new int[Check.Opaque(3)];
        Check.That("boot heap"u8, BootHeap.Used == used + 32 && ((ulong)Unsafe.As<object, nint>(ref allocated) & 15) == 0 && BootHeap.Free > 0);
    }
}
