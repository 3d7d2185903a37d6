// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using System.Linq;
using System.Reflection;
using System.Runtime.CompilerServices;
using Svsm.Modules.Vtpm.Crypto;
using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.Wire;
using Xunit;

namespace Svsm.Modules.Vtpm.Tests;

// No allocation survives a command except state: thousands of commands of all kinds, good and bad, then the state of before, and what can be
// reached from the TPM and from the engine's static fields is as much as before.
public sealed class RetentionTests
{
    private const int Rounds = 4;
    private const int Commands = 1000;

    private readonly byte[] _response = new byte[Tpm.MaxCommandSize];
    private readonly HurriedPlatform _platform = new();

    [Fact]
    public void Execute_ManyCommands_LeavesNothingBehind()
    {
        Assert.Equal(TpmOpenResult.Done, Tpm.TryManufacture(new TpmPlatform(_platform, _platform, _platform), out Tpm? made));
        Tpm tpm = made!;
        byte[] blob = _platform.Stored;

        // Tables of curves are made once.
        foreach (EccCurve id in Enum.GetValues<EccCurve>())
        {
            EllipticCurve curve = tpm.Cryptography.Curve(id);
            ulong[] one = [1, .. new ulong[curve.Limbs - 1]];
            curve.SumOfMultiples(one, one, curve.MultiplyGenerator(one));
        }

        // So is the table of persistent objects, as large as it gets.
        Assert.Equal(0u, Send(tpm, TestTpm.Command(0x144, [], [0, 0])));
        byte[] template = [0, 8, 0, 0x0B, .. TestTpm.U32(0x4_0072), 0, 0, 0, 5, 0, 0x0B, 0, 0];
        Assert.Equal(0u, Send(tpm, TestTpm.Command(0x131, [TestTpm.Owner], [0, 4, 0, 0, 0, 0, .. TestTpm.Sized(template), 0, 0, 0, 0, 0, 0], TestTpm.PasswordSession())));
        for (uint i = 0; Send(tpm, TestTpm.Command(0x120, [TestTpm.Owner, 0x8000_0000], TestTpm.U32(0x8100_0000 + i), TestTpm.PasswordSession())) == 0; i++)
        {
            Send(tpm, TestTpm.Command(0x173, [0x8100_0000 + i], []));
        }

        // The first pass is for everything else that is made once; each one does other commands.
        var codes = new HashSet<CommandCode>();
        Run(tpm, blob, new Random(1), codes);
        (long Objects, long Bytes) before = Reachable(tpm);
        for (int pass = 2; pass < 5; pass++)
        {
            Run(tpm, blob, new Random(pass), codes);
            Assert.Equal(before, Reachable(tpm));
        }

        // Otherwise it is the errors only that leave nothing.
        Assert.True(codes.Count > CommandTable.All.Length / 2, $"{codes.Count} commands of {CommandTable.All.Length}");

        // And what is left would be seen.
        tpm.ClearAfterCommand(new byte[24]);
        Assert.NotEqual(before, Reachable(tpm));
    }

    private void Run(Tpm tpm, byte[] blob, Random random, HashSet<CommandCode> succeeded)
    {
        for (int round = 0; round < Rounds; round++)
        {
            Reset(tpm, blob);
            Assert.Equal(0u, Send(tpm, TestTpm.Command(0x144, [], [0, 0])));
            var generator = new CommandGenerator(random);
            for (int i = 0; i < Commands; i++)
            {
                (CommandDescriptor descriptor, byte[] command) = generator.Next(tpm);
                if (Send(tpm, command) == 0)
                {
                    succeeded.Add(descriptor.Code);
                    generator.Learn(descriptor, command, _response[..BinaryPrimitives.ReadInt32BigEndian(_response.AsSpan(2))]);
                }
            }
        }

        Reset(tpm, blob);
    }

    // A TPM in failure mode takes what is stored when it is powered on.
    private void Reset(Tpm tpm, byte[] blob)
    {
        _platform.Stored = blob;
        tpm.Fail();
        tpm.PowerOn();
        Assert.False(tpm.IsFailed);
    }

    private uint Send(Tpm tpm, byte[] command)
    {
        tpm.Execute(command, 0, _response);
        return TestTpm.Code(_response);
    }

    // Objects, and bytes of their arrays and strings.
    private static (long Objects, long Bytes) Reachable(Tpm tpm)
    {
        var seen = new HashSet<object>(ReferenceEqualityComparer.Instance);
        var pending = new Stack<object?>([tpm]);
        foreach (FieldInfo field in typeof(Tpm).Assembly.GetTypes().Where(type => !type.ContainsGenericParameters).SelectMany(FieldsOf).Where(field => field.IsStatic && !field.IsLiteral))
        {
            pending.Push(field.GetValue(null));
        }

        long bytes = 0;
        while (pending.TryPop(out object? item))
        {
            // What belongs to the test, and to the runtime, is not counted.
            if (item is null or Pointer or Delegate or MemberInfo || item.GetType() is { IsPrimitive: true } or { IsEnum: true }
                || item.GetType().Assembly == typeof(RetentionTests).Assembly || (!item.GetType().IsValueType && !seen.Add(item)))
            {
                continue;
            }

            if (item is Array array)
            {
                Type element = array.GetType().GetElementType()!;
                bytes += array.Length * (element.IsValueType ? SizeOf(element) : IntPtr.Size);
                if (element.IsPrimitive || element.IsEnum)
                {
                    continue;
                }

                foreach (object? value in array)
                {
                    pending.Push(value);
                }

                continue;
            }

            bytes += item is string text ? text.Length * sizeof(char) : 0;
            for (Type? type = item.GetType(); type is not null; type = type.BaseType)
            {
                foreach (FieldInfo field in FieldsOf(type).Where(field => !field.IsStatic && !field.FieldType.IsPointer && !field.FieldType.IsByRefLike))
                {
                    pending.Push(field.GetValue(item));
                }
            }
        }

        return (seen.Count, bytes);
    }

    private static FieldInfo[] FieldsOf(Type type)
        => type.GetFields(BindingFlags.Static | BindingFlags.Instance | BindingFlags.Public | BindingFlags.NonPublic | BindingFlags.DeclaredOnly);

    private static int SizeOf(Type type)
        => (int)typeof(Unsafe).GetMethod(nameof(Unsafe.SizeOf))!.MakeGenericMethod(type).Invoke(null, null)!;
}
