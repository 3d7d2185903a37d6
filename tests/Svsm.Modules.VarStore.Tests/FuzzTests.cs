// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using System.Linq;
using Svsm.Core.Testing;
using Svsm.Wire;
using Xunit;

namespace Svsm.Modules.VarStore.Tests;

/// <summary>Messages and authenticated writes of a hostile guest, drawn from a seed: everything has an answer, and nothing else happens.</summary>
public sealed class FuzzTests
{
    private const int MemorySize = 0x8_0000;
    private const ulong Address = 0x1000;

    private static readonly ulong[] s_edges =
    [
        0, 1, 2, 3, 7, 8, 15, 16, 20, 23, 24, 36, 44, 0x7F, 0x80, 0xFF, 0x100, 0x1000, 0xFFFF, 0x1_0000, 0x3_FFFF, 0x4_0000, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF,
        0x7FFF_FFFF_FFFF_FFFF, 0x8000_0000_0000_0000, 0xFFFF_FFFF_FFFF_FFF0, ulong.MaxValue,
    ];

    private static readonly string[] s_names = ["A", "B", "PK", "KEK", "db", "dbx", "AuditMode", "DeployedMode", "SecureBoot", "CustomMode", "SecureBootEnable", "BootOrder", "Boot0001", ""];

    private static readonly Guid[] s_vendors =
    [
        TestFirmware.Vendor, KnownVariables.Global, KnownVariables.ImageSecurity, KnownVariables.CustomMode.Vendor, KnownVariables.SecureBootEnable.Vendor, Guid.Empty,
    ];

    private static readonly HashSet<EfiStatus> s_statuses = [.. Enum.GetValues<EfiStatus>()];

    [Fact]
    public void Messages_HaveAnAnswer() => FuzzMessages(1, 300_000);

    [Fact]
    [Trait("Run", "all")]
    public void Messages_AMillion_HaveAnAnswer() => FuzzMessages(2, 1_000_000);

    [Fact]
    public void WellKnownVariables_WithAnyProperty_HaveAnAnswer() => FuzzWellKnown(1, 2_000);

    [Fact]
    [Trait("Run", "all")]
    public void WellKnownVariables_WithAMillionProperties_HaveAnAnswer() => FuzzWellKnown(2, 250_000);

    [Fact]
    public void SignedWrites_Changed_AreRefused() => FuzzSignedWrites(1, 25_000);

    [Fact]
    [Trait("Run", "all")]
    public void SignedWrites_AMillionTimesChanged_AreRefused() => FuzzSignedWrites(2, 1_000_000);

    private static void FuzzMessages(int seed, int rounds)
    {
        var random = new Random(seed);
        var storage = new TestStorage();
        using var test = new ModuleTest(new VarStoreModule(storage, null), MemorySize);
        var seen = new HashSet<EfiStatus>();
        int good = 0;
        for (int round = 0; round < rounds; round++)
        {
            if (random.Next(500) == 0)
            {
                test.Reset();
            }

            byte[] message = NewMessage(random);
            for (int i = random.Next(4); i > 0; i--)
            {
                Mutate(random, message);
            }

            storage.Fails = random.Next(50) == 0;
            ulong length = random.Next(20) == 0 ? s_edges[random.Next(s_edges.Length)] : (ulong)random.Next(24, 0x4_0001);
            test.Memory.GuestWrite(new(Address), message);
            byte[] guard = test.Memory.GuestRead(new(Address + (ulong)message.Length), 64);
            SvsmResultCode code = test.Call(1, Address, length).Code;
            Assert.True(code is SvsmResultCode.Success or SvsmResultCode.InvalidParameter or SvsmResultCode.InvalidAddress, $"round {round}: {code}");
            byte[] answer = test.Memory.GuestRead(new(Address), message.Length);
            Assert.Equal(message[..24], answer[..24]);
            if (code != SvsmResultCode.Success)
            {
                Assert.Equal(message, answer);
                continue;
            }

            good++;

            // Behind what it said about its length nothing has changed.
            Assert.True(BinaryPrimitives.ReadUInt64LittleEndian(message.AsSpan(16)) > (ulong)(message.Length - 24)
                || test.Memory.GuestRead(new(Address + (ulong)message.Length), 64).AsSpan().SequenceEqual(guard));
            if (new Guid(message.AsSpan(0, 16)) == TestFirmware.Variables)
            {
                var status = (EfiStatus)BinaryPrimitives.ReadUInt64LittleEndian(answer.AsSpan(32));
                Assert.Contains(status, s_statuses);
                seen.Add(status);
            }
        }

        // Otherwise it is the errors only that are tested.
        Assert.True(good > rounds / 4, $"{good} of {rounds}");
        Assert.True(seen.Count > 8, string.Join(", ", seen));
        storage.Fails = false;
        Assert.Equal(VariableStoreResult.Done, VariableStore.TryOpen(storage, null, out _));
    }

    internal static byte[] NewMessage(Random random)
    {
        Guid receiver = random.Next(10) switch
        {
            < 6 => TestFirmware.Variables,
            < 9 => TestFirmware.Policies,
            _ => random.Next(8) == 0 ? TestFirmware.ExitBootServices : random.Next(4) == 0 ? TestFirmware.EndOfDxe : Guid.Empty,
        };
        var id = new VariableId(s_vendors[random.Next(s_vendors.Length)], s_names[random.Next(s_names.Length)]);
        byte[] data = new byte[random.Next(3) == 0 ? random.Next(3000) : random.Next(8)];
        random.NextBytes(data);
        byte[] payload;
        if (receiver == TestFirmware.Policies)
        {
            byte[] body = random.Next(3) == 0 ? new byte[0x4000 - 44] : TestFirmware.PolicyEntry(id.Name, (byte)random.Next(4), vendor: id.Vendor, state: random.Next(2) == 0 ? [.. new byte[20]] : null);
            payload = [.. "VCPC"u8, 1, 0, 0, 0, (byte)random.Next(9), 0, 0, 0, .. new byte[8], .. body];
        }
        else
        {
            VariableAttributes attributes = random.Next(4) switch
            {
                0 => (VariableAttributes)random.Next(256),
                1 => TestFirmware.Authenticated,
                2 => TestFirmware.Volatile,
                _ => TestFirmware.NonVolatile,
            };
            if (attributes == TestFirmware.Authenticated && random.Next(2) == 0)
            {
                data = TestSigner.Descriptor(new(2024, 1, 1), data, SignatureLists.OfCertificate(id.Vendor, TestSigner.Named("Owner").Der));
            }

            byte[] body = random.Next(4) == 0
                ? [.. id.Vendor.ToByteArray(), .. BitConverter.GetBytes(100L), .. TestFirmware.Name(id.Name), .. new byte[200]]
                : TestFirmware.Access(id, attributes, data.Length, data);
            payload = [(byte)random.Next(16), .. new byte[15], .. body];
        }

        return [.. TestFirmware.Header(receiver, payload.Length), .. payload];
    }

    internal static void Mutate(Random random, byte[] message)
    {
        int at = random.Next(message.Length);
        switch (random.Next(3))
        {
            case 0:
                message[at] ^= (byte)(1 << random.Next(8));
                break;
            case 1:
                message[at] = (byte)random.Next(256);
                break;
            default:
                // Where numbers are.
                at = (at & ~3) % 80;
                if (at + 8 <= message.Length)
                {
                    BinaryPrimitives.WriteUInt64LittleEndian(message.AsSpan(at), s_edges[random.Next(s_edges.Length)]);
                }

                break;
        }
    }

    // Guests that lay down properties of variables that UEFI names, and write them short, in every shape that the checks of contents look for.
    private static void FuzzWellKnown(int seed, int rounds)
    {
        string[] names =
        [
            "Boot0001", "Driver00Af", "SysPrepFFFF", "PlatformRecovery0000", "Key0001", "BootOrder", "DriverOrder", "Lang", "ConIn", "ConOutDev", "OsIndications", "BootXXXX", "Other",
        ];
        byte[][] shapes =
        [
            [], [0x7F, 0xFF, 4, 0], [1, 0, 0, 0, 4, 0, 0x4F, 0, 0, 0, 0x7F, 0xFF, 4, 0], [1, 0, 0, 0, 8, 0, 0, 0, 1, 1, 4, 0, 0x7F, 0xFF, 4, 0], [0x65, 0x6E, 0], new byte[10], new byte[22],
        ];
        ulong[] sizes = [0, 1, 2, 6, 22, ulong.MaxValue];
        var random = new Random(seed);
        var firmware = new TestFirmware();
        var seen = new HashSet<EfiStatus>();
        for (int round = 0; round < rounds; round++)
        {
            firmware.Store.Reset();
            var ids = new VariableId[4];
            for (int i = 0; i < ids.Length; i++)
            {
                ids[i] = new(random.Next(8) == 0 ? KnownVariables.ImageSecurity : KnownVariables.Global, names[random.Next(names.Length)]);
                if (random.Next(4) != 0)
                {
                    Assert.Equal(EfiStatus.Success, firmware.Store.Service.Properties.Set(ids[i], new(
                        random.Next(10) == 0,
                        random.Next(2) == 0 ? VariableAttributes.None : TestFirmware.NonVolatile,
                        sizes[random.Next(sizes.Length)],
                        sizes[random.Next(sizes.Length)])));
                }
            }

            firmware.Notify(random.Next(4) == 0 ? TestFirmware.ExitBootServices : TestFirmware.EndOfDxe);
            for (int i = 0; i < 20; i++)
            {
                byte[] data = [.. shapes[random.Next(shapes.Length)]];
                data = random.Next(3) switch
                {
                    0 => data,
                    1 => data[..random.Next(data.Length + 1)],
                    _ => [.. data, .. new byte[random.Next(6)]],
                };
                if (data.Length != 0 && random.Next(2) == 0)
                {
                    data[random.Next(data.Length)] = (byte)s_edges[random.Next(s_edges.Length)];
                }

                VariableAttributes attributes = random.Next(4) == 0 ? TestFirmware.Volatile : TestFirmware.NonVolatile;
                seen.Add(firmware.Set(ids[random.Next(ids.Length)], random.Next(4) == 0 ? attributes | TestFirmware.Append : attributes, data));
            }
        }

        Assert.Subset(s_statuses, seen);
        Assert.Superset(new HashSet<EfiStatus> { EfiStatus.Success, EfiStatus.InvalidParameter, EfiStatus.WriteProtected, EfiStatus.NotFound }, seen);
    }

    private static void FuzzSignedWrites(int seed, int rounds)
    {
        var random = new Random(seed);
        TestSigner vendor = TestSigner.Named("Vendor");
        TestSigner other = TestSigner.Named("Other");
        var keys = new SecureBootKeys(TestSigner.Named("Owner").Der, vendor.Der, default, default);
        var firmware = new TestFirmware(keys: keys);
        byte[] lists = other.List();
        byte[][] good =
        [
            .. new[] { new MessageShape(), new() { HasAttributes = true }, new() { IsWrapped = true, Chain = [other] }, new() { Hash = new("SHA512"), HasAttributes = true } }
                .Select(shape => vendor.Write(KnownVariables.Allowed, TestFirmware.Authenticated, new(2024, 1, 1), lists, shape)),
        ];
        int taken = 0;
        for (int round = 0; round < rounds; round++)
        {
            byte[] data = [.. good[random.Next(good.Length)]];

            // What is not changed is taken at any time: so it is the changes that are refused.
            if (round % 100 == 0)
            {
                Assert.Equal(EfiStatus.Success, firmware.Set(KnownVariables.Allowed, TestFirmware.Authenticated, data));
                firmware = new(keys: keys);
            }

            for (int i = 1 + random.Next(3); i > 0; i--)
            {
                int at = random.Next(4) == 0 ? random.Next(100) : random.Next(data.Length);
                switch (random.Next(4))
                {
                    case 0:
                        data[at] ^= (byte)(1 << random.Next(8));
                        break;
                    case 1:
                        data[at] = (byte)random.Next(256);
                        break;
                    case 2:
                        data = [.. data[..at], .. data[Math.Min(data.Length, at + random.Next(300))..]];
                        break;
                    default:
                        data = [.. data[..at], .. data.AsSpan(at, Math.Min(data.Length - at, random.Next(50))), .. data[at..]];
                        break;
                }

                if (data.Length < 100)
                {
                    break;
                }
            }

            EfiStatus status = firmware.Set(KnownVariables.Allowed, TestFirmware.Authenticated, data);
            Assert.Contains(status, s_statuses);
            if (status == EfiStatus.Success)
            {
                // What was changed did not count: what is written is what was signed.
                taken++;
                Assert.Equal(lists, firmware.Get(KnownVariables.Allowed));
                firmware = new(keys: keys);
            }
        }

        Assert.True(taken < rounds / 10, $"{taken} of {rounds}");
    }
}
