// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Generic;
using System.Linq;
using System.Reflection;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Iced.Intel;
using Svsm.Modules.Vtpm.Crypto;
using Xunit;

namespace Svsm.Modules.Vtpm.Tests;

// The machine code of the inner routines, as this process runs it: the conditional jumps in it are those of loops over limbs, and nothing is
// called. A carry that became a jump would be one on an unsigned comparison.
public sealed class ConstantTimeTests
{
    // More than any of the routines has.
    private const int MaxCode = 8192;

    public static TheoryData<string, string, int> Routines => new()
    {
        // The number of loops, FourLimbs' over the limbs of a factor included.
        { nameof(Modulus), nameof(Modulus.MultiplyReduce), 2 },
        { nameof(Modulus), nameof(Modulus.SquareReduce), 3 },
        { nameof(Modulus), nameof(Modulus.SubtractOnce), 2 },
        { nameof(Modulus), nameof(Modulus.AddLimbs), 1 },
        { nameof(Modulus), nameof(Modulus.SubtractLimbs), 1 },
        { nameof(Modulus), nameof(Modulus.AddMasked), 1 },
        { nameof(Modulus), nameof(Modulus.SelectEntry), 3 },
        { nameof(LongNumbers), nameof(LongNumbers.MultiplyDigits), 3 },
        { nameof(LongNumbers), nameof(LongNumbers.SelectEntry), 2 },
        { nameof(LongNumbers), nameof(LongNumbers.SplitPairs), 1 },
        { nameof(LongNumbers), nameof(LongNumbers.JoinPairs), 1 },
        { nameof(FourLimbs), nameof(FourLimbs.Multiply), 1 },
        { nameof(FourLimbs), nameof(FourLimbs.MultiplyP256), 1 },
        { nameof(FourLimbs), nameof(FourLimbs.Add), 0 },
        { nameof(FourLimbs), nameof(FourLimbs.Subtract), 0 },
        { nameof(RsaPadding), nameof(RsaPadding.FindOaepMessage), 2 },
        { nameof(RsaPadding), nameof(RsaPadding.FindEsMessage), 1 },
    };

    [Theory]
    [MemberData(nameof(Routines))]
    public void MachineCode_InnerRoutines_JumpsOnlyInLoops(string type, string name, int loops)
    {
        Type declaring = typeof(Modulus).Assembly.GetType($"{typeof(Modulus).Namespace}.{type}")!;
        List<Instruction> code = Disassemble(declaring.GetMethod(name, BindingFlags.Static | BindingFlags.NonPublic)!);
        Instruction[] jumps = [.. code.Where(i => i.FlowControl == FlowControl.ConditionalBranch)];

        // A loop has a test before the first round and one after each.
        Assert.InRange(jumps.Length, loops, 2 * loops);
        Assert.All(jumps, jump => Assert.True(
            jump.Mnemonic is Mnemonic.Jl or Mnemonic.Jle or Mnemonic.Jg or Mnemonic.Jge or Mnemonic.Jne, $"{name}: {jump} at {jump.IP:X}"));
        Assert.DoesNotContain(code, i => i.FlowControl is FlowControl.Call or FlowControl.IndirectCall);
        Assert.Contains(code, i => i.FlowControl == FlowControl.Return);
    }

    // All that can be reached from the method's first instruction.
    private static List<Instruction> Disassemble(MethodInfo method)
    {
        RuntimeHelpers.PrepareMethod(method.MethodHandle);
        nint start = method.MethodHandle.GetFunctionPointer();
        var code = new SortedDictionary<ulong, Instruction>();
        var pending = new Stack<ulong>([(ulong)start]);
        while (pending.TryPop(out ulong address))
        {
            while (!code.ContainsKey(address))
            {
                Instruction instruction = DecodeAt(address);
                code.Add(address, instruction);
                Assert.True(code.Count < MaxCode);
                if (instruction.FlowControl == FlowControl.ConditionalBranch)
                {
                    pending.Push(instruction.NearBranchTarget);
                }

                if (instruction.FlowControl == FlowControl.Return)
                {
                    break;
                }

                // The entry point that the runtime hands out may be a jump through memory to the code.
                address = instruction.FlowControl switch
                {
                    FlowControl.UnconditionalBranch => instruction.NearBranchTarget,
                    FlowControl.IndirectBranch => (ulong)Marshal.ReadInt64((nint)instruction.IPRelativeMemoryAddress),
                    _ => instruction.NextIP,
                };
            }
        }

        return [.. code.Values];
    }

    private static Instruction DecodeAt(ulong address)
    {
        var bytes = new byte[15];
        Marshal.Copy((nint)address, bytes, 0, bytes.Length);
        var decoder = Decoder.Create(64, bytes);
        decoder.IP = address;
        return decoder.Decode();
    }
}
