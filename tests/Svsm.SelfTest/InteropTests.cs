// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System.Runtime;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace Svsm.SelfTest;

internal static unsafe class InteropTests
{
    private struct References
    {
        internal object First;
        internal ulong Number;
        internal object Second;
    }

    private sealed class Holder
    {
        internal object? Object;
        internal References References;
    }

    internal static void Run()
    {
        delegate*<int, int> managed = &Increment;
        Check.That("managed function pointer"u8, managed(Check.Opaque(1)) == 2);
        delegate* unmanaged<int, int, int> unmanaged = &AddFromAssembly;
        Check.That("unmanaged function pointer"u8, unmanaged(Check.Opaque(1), 2) == 3);
        Check.That("assembly calls UnmanagedCallersOnly"u8, Call2(unmanaged, 20, Check.Opaque(22)) == 42);
        Check.That("assembly calls RuntimeExport"u8, CallExport(Check.Opaque(4)) == 8);
        Check.That("RuntimeImport"u8, Add3(1, Check.Opaque(2), 3) == 6);
        Check.That("DllImport"u8, Add3Transition(1, Check.Opaque(2), 4) == 7);
        Check.That("DllImport without transition"u8, Add3Suppressed(1, Check.Opaque(2), 5) == 8);

        object value = new Holder();
        nint slot = 0;
        Check.That("reference store helpers"u8, AssignRef(&slot, Unsafe.As<object, nint>(ref value)) == 0);
        nint source = 0x1234_5678;
        Check.That("reference copy helper"u8, ByRefAssignRef(&slot, &source) == 0 && slot == source);
        var from = new Holder { References = { First = value, Number = Check.Opaque(7UL), Second = "second" } };
        var to = new Holder();
        Copy(from, to);
        Check.That("struct with references copied in the heap"u8,
            ReferenceEquals(to.References.First, value) && to.References.Number == 7 && ReferenceEquals(to.References.Second, "second"));
        Store(ref to.Object, value);
        Check.That("reference stored through a ref"u8, ReferenceEquals(to.Object, value));

        Vector128<byte> vector = Sse2.Xor(Vector128.Create((byte)Check.Opaque(0x5A)), Vector128.Create((byte)0xFF));
        byte* bytes = stackalloc byte[16];
        Sse2.Store(bytes, vector);
        Check.That("SSE2 vectors"u8, bytes[0] == 0xA5 && bytes[15] == 0xA5);
        X86Base.Pause();
        Sse.StoreFence();
        Sse2.LoadFence();
        Sse2.MemoryFence();
        Check.That("pause and fences"u8, X86Base.IsSupported && Sse2.IsSupported);
        Check.That("division of double width"u8,
            X86Base.DivRem((uint)Check.Opaque(100), 0, 7) == (14u, 2u) && X86Base.X64.DivRem(Check.Opaque(0UL), 1, 2) == (0x8000_0000_0000_0000, 0ul));
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static void Copy(Holder from, Holder to) => to.References = from.References;

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static void Store(ref object? destination, object value) => destination = value;

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static int Increment(int value) => value + 1;

    [UnmanagedCallersOnly]
    private static int AddFromAssembly(int left, int right) => left + right;

    [RuntimeExport("selftest_exported")]
    private static int Doubled(int value) => value * 2;

    [RuntimeImport("*", "selftest_add3")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    private static extern int Add3(int a, int b, int c);

    [DllImport("*", EntryPoint = "selftest_add3")]
    private static extern int Add3Transition(int a, int b, int c);

    [DllImport("*", EntryPoint = "selftest_add3")]
    [SuppressGCTransition]
    private static extern int Add3Suppressed(int a, int b, int c);

    [RuntimeImport("*", "selftest_call2")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    private static extern int Call2(void* function, int a, int b);

    [RuntimeImport("*", "selftest_call_export")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    private static extern int CallExport(int value);

    [RuntimeImport("*", "selftest_assign_ref")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    private static extern int AssignRef(nint* destination, nint value);

    [RuntimeImport("*", "selftest_byref_assign_ref")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    private static extern int ByRefAssignRef(nint* destination, nint* source);
}
