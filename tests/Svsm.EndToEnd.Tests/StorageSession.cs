// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Text;
using Svsm.Modules.VarStore.Tests;
using Svsm.Modules.Vtpm.Tests;
using Svsm.Store;
using Svsm.Store.Tests;
using Xunit;

namespace Svsm.EndToEnd.Tests;

/// <summary>A disk for the SVSM's store, in a folder that goes with it.</summary>
internal sealed class TestStoreDisk : IDisposable
{
    private const int Length = 8 << 20;

    private readonly string _folder = Directory.CreateTempSubdirectory("svsm-store-").FullName;

    /// <summary>Makes an empty one.</summary>
    public TestStoreDisk() => File.WriteAllBytes(Path, new byte[Length]);

    public string Path => System.IO.Path.Combine(_folder, "disk");

    /// <summary>Makes it an empty one on which a store may be made.</summary>
    public void Prepare(int length = Length) => Prepare(Path, length);

    /// <summary>Makes such a disk.</summary>
    public static void Prepare(string path, int length = Length)
    {
        var device = new SimulatedDevice(length);
        Assert.Equal(StoreState.Fresh, PreparedDevice.Prepare(device));
        File.WriteAllBytes(path, device.Bytes);
    }

    public void Dispose() => Directory.Delete(_folder, recursive: true);
}

/// <summary>What a guest types to a virtual TPM and to UEFI variables, and what it must be answered.</summary>
internal sealed class StorageSession
{
    private const ulong Message = 0x200_0000;
    private const ulong Buffer = 0x208_0000;
    private const uint Index = 0x0150_0000;

    private readonly StringBuilder _typed = new();
    private readonly List<string> _answers = [];

    public string Typed => _typed.ToString();

    public void Startup() => Run(NvCommands.Startup);

    public void DefineNv(ushort size) => Run(NvCommands.Define(Index, 0x0206_0006, size));

    public void WriteNv(byte[] data) => Run(NvCommands.Write(Index, data));

    public void ReadNv(ushort size, byte[] wanted) => Run(NvCommands.Read(Index, size), (NvCommands.DataOffset, wanted));

    public void SetVariable(string name, byte[] data) => Send(VariableMessage.Access(3, name, 7, data));

    public void GetVariable(string name, byte[] wanted) => Send(VariableMessage.Access(1, name, 0, new byte[wanted.Length]), (VariableMessage.DataOffset(name), wanted));

    /// <summary>Calls a module, which must answer so.</summary>
    public void Call(string line, string answer)
    {
        _typed.Append(line).Append('\n');
        _answers.Add(answer);
    }

    /// <summary>Compares the last lines of the guest's console with what they should be.</summary>
    public void Check(string console)
    {
        string[] lines = console.Split('\n', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries);
        Assert.Equal(_answers, lines[^_answers.Count..]);
    }

    // A TPM command, which must succeed, and bytes of the buffer afterwards.
    private void Run(byte[] request, (int Offset, byte[] Wanted)? then = null)
    {
        Write(Buffer, request);
        _typed.Append(null, $"call 2 1 0x{Buffer:X}\n");
        _answers.Add($"Success RCX=0x{Buffer:X} RDX=0x0 R8=0x0 R9=0x0");
        Expect(Buffer + NvCommands.CodeOffset, [0, 0, 0, 0]);
        if (then is (int offset, byte[] wanted))
        {
            Expect(Buffer + (ulong)offset, wanted);
        }
    }

    // A message of the variable driver, which must succeed, and bytes of the message afterwards.
    private void Send(byte[] message, (int Offset, byte[] Wanted)? then = null)
    {
        Write(Message, message);
        _typed.Append(null, $"call 4 1 0x{Message:X} 0x10000\n");
        _answers.Add($"Success RCX=0x{Message:X} RDX=0x10000 R8=0x0 R9=0x0");
        Expect(Message + VariableMessage.StatusOffset, new byte[8]);
        if (then is (int offset, byte[] wanted))
        {
            Expect(Message + (ulong)offset, wanted);
        }
    }

    private void Write(ulong address, byte[] bytes)
    {
        const int Line = 64;
        for (int at = 0; at < bytes.Length; at += Line)
        {
            _typed.Append(null, $"write 0x{address + (ulong)at:X} 0x{Convert.ToHexStringLower(bytes.AsSpan(at, Math.Min(Line, bytes.Length - at)))}\n");
        }
    }

    private void Expect(ulong address, byte[] wanted)
    {
        const int Line = 32;
        for (int at = 0; at < wanted.Length; at += Line)
        {
            byte[] part = wanted[at..Math.Min(at + Line, wanted.Length)];
            _typed.Append(null, $"read 0x{address + (ulong)at:X} {part.Length}\n");
            _answers.Add(Convert.ToHexStringLower(part));
        }
    }
}
