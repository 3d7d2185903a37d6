// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// What a module should not do, and what must be an exception in it when it happens: for tests of those who run it.

using System;
using System.Collections.Generic;
using System.Diagnostics;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Threading.Tasks;
using Svsm.Wire;

namespace Svsm.TestModule;

/// <summary>A way to fail.</summary>
public enum Misdeed : ulong
{
    /// <summary>An exception that nobody catches.</summary>
    Throw = 0,

    /// <summary>Ends the process with status 3.</summary>
    Exit = 1,

    /// <summary>Runs for ever.</summary>
    Loop = 2,

    /// <summary>Calls itself until there is no stack.</summary>
    Recurse = 3,

    /// <summary>Writes what is no answer.</summary>
    WriteGarbage = 4,

    /// <summary>Closes the channel.</summary>
    CloseChannel = 5,

    /// <summary>Waits for another thread.</summary>
    WaitForTask = 6,

    /// <summary>Asks for the time of day.</summary>
    AskForTime = 7,

    /// <summary>Reads memory of the kernel.</summary>
    ReadKernel = 8,

    /// <summary>Executes an instruction of the kernel.</summary>
    Halt = 9,

    /// <summary>Fails fast.</summary>
    FailFast = 10,

    /// <summary>Answers twice.</summary>
    AnswerTwice = 11,

    /// <summary>Reads the next request instead of answering.</summary>
    ReadOn = 12,

    /// <summary>Takes memory that it has no right to, behind the garbage collector's back, and uses it all.</summary>
    TakeMemory = 13,
}

internal static unsafe partial class Misdeeds
{
    private const ulong KernelText = 0xFFFF_FF80_0020_0000;

    private static int s_depth;

    public static void Commit(Misdeed misdeed)
    {
        switch (misdeed)
        {
            case Misdeed.Throw:
                throw new NotSupportedException("as asked");
            case Misdeed.Exit:
                _exit(3);
                break;
            case Misdeed.Loop:
                while (true)
                {
                    s_depth++;
                }

            case Misdeed.Recurse:
                s_depth = Recurse(1);
                break;
            case Misdeed.WriteGarbage:
                byte[] garbage = new byte[ModuleMessage.Length];
                Array.Fill(garbage, (byte)0xA5);
                Write(garbage);
                break;
            case Misdeed.CloseChannel:
                _ = close(ModuleDescriptor.Answers);
                break;
            case Misdeed.WaitForTask:
                s_depth = Task.Run(() => s_depth + 1).Result;
                break;
            case Misdeed.AskForTime:
                s_depth = DateTime.UtcNow.Year;
                break;
            case Misdeed.ReadKernel:
                s_depth = (int)Peek(KernelText);
                break;
            case Misdeed.Halt:
                Execute(0xF4);
                break;
            case Misdeed.FailFast:
                Environment.FailFast("as asked");
                break;
            case Misdeed.AnswerTwice:
                Write(new byte[2 * ModuleMessage.Length]);
                break;
            case Misdeed.ReadOn:
                fixed (byte* buffer = new byte[ModuleMessage.Length])
                {
                    _ = read(ModuleDescriptor.Requests, buffer, ModuleMessage.Length);
                }

                break;
            case Misdeed.TakeMemory:
                while (true)
                {
                    byte* memory = (byte*)mmap(0, 0x1_0000, 3, 0x22, -1, 0);
                    if ((nint)memory == -1)
                    {
                        throw new NotSupportedException("no more memory");
                    }

                    new Span<byte>(memory, 0x1_0000).Fill(1);
                }

            default:
                throw new ArgumentOutOfRangeException(nameof(misdeed));
        }
    }

    public static bool ThrowsOnFaults()
    {
        int caught = 0;
        try
        {
            s_depth = Length(null);
        }
        catch (NullReferenceException)
        {
            caught++;
        }

        try
        {
            s_depth = Divide(1, 0);
        }
        catch (DivideByZeroException)
        {
            caught++;
        }

        return caught == 2;
    }

    public static bool ThrowsWhenOutOfMemory()
    {
        var pieces = new List<byte[]>();
        try
        {
            while (true)
            {
                pieces.Add(new byte[0x1_0000]);
            }
        }
        catch (OutOfMemoryException)
        {
            pieces.Clear();
            return true;
        }
    }

    public static bool DrawsDifferentNumbers()
    {
        var numbers = new HashSet<ulong>();
        bool isGood = true;
        Span<byte> bytes = stackalloc byte[sizeof(ulong)];
        for (int i = 0; i < 16; i++)
        {
            isGood &= numbers.Add(MemoryMarshal.Read<ulong>(Guid.NewGuid().ToByteArray()));
            isGood &= numbers.Add((ulong)Random.Shared.NextInt64());
            fixed (byte* buffer = bytes)
            {
                isGood &= getrandom(buffer, sizeof(ulong), 0) == sizeof(ulong);
            }

            isGood &= numbers.Add(MemoryMarshal.Read<ulong>(bytes));
        }

        return isGood;
    }

    /// <summary>Puts a number into a page of its own.</summary>
    public static ulong Keep(ulong number)
    {
        ulong* page = (ulong*)mmap(0, 0x1000, 3, 0x22, -1, 0);
        if ((nint)page == -1)
        {
            throw new NotSupportedException("no more memory");
        }

        *page = number;
        return (ulong)page;
    }

    public static ulong Peek(ulong address) => *(ulong*)address;

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static int Length(string? text) => text!.Length;

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static int Divide(int dividend, int divisor) => dividend / divisor;

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static int Recurse(int depth) => Recurse(depth + 1) + depth;

    // A page of its own with one instruction: it is not executable, which is a failure as well.
    private static void Execute(byte instruction)
    {
        byte* page = (byte*)mmap(0, 0x1000, 3, 0x22, -1, 0);
        page[0] = instruction;
        ((delegate* unmanaged<void>)page)();
    }

    private static void Write(byte[] bytes)
    {
        fixed (byte* buffer = bytes)
        {
            _ = write(ModuleDescriptor.Answers, buffer, (nuint)bytes.Length);
        }
    }

    [LibraryImport("libc")]
    private static partial void _exit(int status);

    [LibraryImport("libc")]
    private static partial int close(int descriptor);

    [LibraryImport("libc")]
    private static partial nint read(int descriptor, byte* buffer, nuint length);

    [LibraryImport("libc")]
    private static partial nint write(int descriptor, byte* buffer, nuint length);

    [LibraryImport("libc")]
    private static partial nint getrandom(byte* buffer, nuint length, uint flags);

    [LibraryImport("libc")]
    private static partial nint mmap(nint address, nuint length, int rights, int flags, int descriptor, nint offset);
}
