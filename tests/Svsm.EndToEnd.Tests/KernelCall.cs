// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// A call in the kernel's code, found in its ELF file, for tests that take one out and show that it is missed. Shared with tests/Svsm.Moving.Tests.

using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using Svsm.Boot;
using Svsm.Builder;

namespace Svsm.EndToEnd.Tests;

/// <summary>A call.</summary>
/// <param name="Function">The function that it is in.</param>
/// <param name="Address">Where it is.</param>
internal sealed record KernelCall(string Function, ulong Address)
{
    private const int Length = 5;
    private const byte CallInstruction = 0xE8;
    private const byte NoOperation = 0x90;

    /// <summary>It drops translations of pages that the kernel unmaps for itself.</summary>
    public bool IsOfOwnPages => Function.Contains("DropEverywhere", StringComparison.Ordinal) || Function.Contains("KernelPages", StringComparison.Ordinal);

    /// <summary>Finds all calls of a function.</summary>
    /// <param name="kernel">Path of the kernel.</param>
    /// <param name="callee">The function.</param>
    public static List<KernelCall> Find(string kernel, string callee)
    {
        ElfFile file = ElfFile.Parse(File.ReadAllBytes(kernel), "kernel");
        ulong target = file.Symbols.Single(symbol => symbol.Name == callee).Value;
        ElfSegment text = file.Segments.Single(segment => target - segment.VirtualAddress < segment.Length);
        byte[] code = text.Data.ToArray();
        var calls = new List<KernelCall>();
        for (int i = 0; i + Length <= code.Length; i++)
        {
            ulong address = text.VirtualAddress + (ulong)i;
            if (code[i] == CallInstruction && address + Length + (ulong)BitConverter.ToInt32(code, i + 1) == target)
            {
                calls.Add(new KernelCall(file.Symbols.Where(symbol => symbol.Value <= address && symbol.Value >= text.VirtualAddress).MaxBy(symbol => symbol.Value)!.Name, address));
            }
        }

        return calls;
    }

    /// <summary>Takes it out.</summary>
    /// <param name="kernel">The file's bytes.</param>
    public void Remove(byte[] kernel) => ProbeCommand.BytesAt(kernel, Address)[..Length].Fill(NoOperation);
}
