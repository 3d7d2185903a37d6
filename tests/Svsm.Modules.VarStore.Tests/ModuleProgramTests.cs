// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using System.Globalization;
using System.IO;
using System.Linq;
using System.Reflection;
using System.Threading.Tasks;
using Svsm.Core.Testing;
using Svsm.Wire;
using Xunit;

namespace Svsm.Modules.VarStore.Tests;

/// <summary>The module as an image has it: compiled, static, with the limits of its package.</summary>
public sealed class ModuleProgramTests
{
    private const ulong Address = 0x1000;
    private const int MemorySize = 0x10_0000;
    private const ulong Buffer = 0x4_0000;

    // Of the package's item: HeapLimit 6 MiB, MemoryLimit 8 MiB. The other two are what the builder gives with them.
    private const int MemoryLimitKilobytes = 8 * 1024;

    private static readonly Dictionary<string, string> s_limits = new()
    {
        ["DOTNET_GCHeapHardLimit"] = "600000",
        ["DOTNET_GCRegionRange"] = "10000000",
        ["DOTNET_GCgen0size"] = "40000",
    };

    private static string Program { get; } =
        typeof(ModuleProgramTests).Assembly.GetCustomAttributes<AssemblyMetadataAttribute>().First(attribute => attribute.Key == "TestStorage").Value!;

    private static ModuleProcess Start() => ModuleProcess.Start([Program, typeof(VarStoreModule).FullName!], MemorySize, TimeSpan.FromMinutes(5), s_limits);

    private static async Task<(EfiStatus Status, byte[] Body)> CallAsync(ModuleProcess module, ulong function, byte[] body)
    {
        byte[] message = [.. TestFirmware.Header(TestFirmware.Variables, 16 + body.Length), .. new byte[16], .. body];
        BinaryPrimitives.WriteUInt64LittleEndian(message.AsSpan(24), function);
        module.GuestWrite(new(Address), message);
        Assert.Equal(SvsmResultCode.Success, (await module.CallAsync(1, Address, Buffer)).Code);
        byte[] answer = module.GuestRead(new(Address), message.Length);
        return ((EfiStatus)BinaryPrimitives.ReadUInt64LittleEndian(answer.AsSpan(32)), answer[40..]);
    }

    private static async Task<EfiStatus> SetAsync(ModuleProcess module, VariableId id, VariableAttributes attributes, params byte[] data) =>
        (await CallAsync(module, 3, TestFirmware.Access(id, attributes, data.Length, data))).Status;

    private static async Task<byte[]?> GetAsync(ModuleProcess module, VariableId id)
    {
        (EfiStatus status, byte[] body) = await CallAsync(module, 1, TestFirmware.Access(id, 0, 0x1_0000, new byte[0x1_0000]));
        return status == EfiStatus.Success ? body.AsSpan(36 + TestFirmware.Name(id.Name).Length, (int)BinaryPrimitives.ReadUInt64LittleEndian(body.AsSpan(16))).ToArray() : null;
    }

    [Fact]
    public async Task SecureBoot_SignedWrites_AreTakenByTheProgram()
    {
        await using ModuleProcess module = Start();
        TestSigner owner = TestSigner.Named("Owner");
        TestSigner other = TestSigner.Named("Other");
        byte[] Write(TestSigner signer, VariableId id, int second, byte[] list) => signer.Write(id, TestFirmware.Authenticated, new(2024, 1, 1, 0, 0, second), list, new() { HasAttributes = true });

        Assert.Equal([0, 0, 0, 0, 4, 0, 0, 0], await module.GetManifestAsync(0));
        Assert.Equal(EfiStatus.SecurityViolation, await SetAsync(module, KnownVariables.PlatformKey, TestFirmware.Authenticated, Write(other, KnownVariables.PlatformKey, 1, owner.List())));
        Assert.Equal(EfiStatus.Success, await SetAsync(module, KnownVariables.PlatformKey, TestFirmware.Authenticated, Write(owner, KnownVariables.PlatformKey, 1, owner.List())));
        Assert.Equal([0, 0, 0, 0, 6, 0, 0, 0], await module.GetManifestAsync(0));
        Assert.Equal(EfiStatus.SecurityViolation, await SetAsync(module, KnownVariables.Allowed, TestFirmware.Authenticated, Write(other, KnownVariables.Allowed, 1, other.List())));
        Assert.Equal(EfiStatus.Success, await SetAsync(module, KnownVariables.Allowed, TestFirmware.Authenticated, Write(owner, KnownVariables.Allowed, 1, other.List())));
        Assert.Equal(other.List(), await GetAsync(module, KnownVariables.Allowed));
        Assert.Equal(0, await module.EndAsync());
    }

    [Fact]
    public async Task Guest_ThatWritesAsMuchAsItCan_EndsNothing()
    {
        await using ModuleProcess module = Start();
        byte[] large = new byte[VariableLimits.MaxData];
        foreach (VariableAttributes attributes in (VariableAttributes[])[TestFirmware.NonVolatile, TestFirmware.Volatile])
        {
            // Small ones to the end of the quota, then large ones instead, several times over.
            int count = 0;
            while (await SetAsync(module, new(TestFirmware.Vendor, $"{attributes:X}{count}"), attributes, 1) == EfiStatus.Success)
            {
                count++;
            }

            Assert.InRange(count, 700, 2000);
            for (int i = 0; i < count; i++)
            {
                Assert.Equal(EfiStatus.Success, await SetAsync(module, new(TestFirmware.Vendor, $"{attributes:X}{i}"), attributes));
            }

            for (int round = 0; round < 40; round++)
            {
                EfiStatus status = await SetAsync(module, new(TestFirmware.Vendor, $"Large{attributes:X}{round % 10}"), attributes, large);
                Assert.True(status is EfiStatus.Success or EfiStatus.OutOfResources, $"{status}");
            }
        }

        // A database that is as large as one may be, and the same entries again; then both quotas full of small ones, and the policies.
        byte[] hashes = [.. Enumerable.Range(0, 1300).SelectMany(i => (byte[])[.. new byte[16], .. BitConverter.GetBytes(i), .. new byte[28]])];
        byte[] lists = [.. new Guid("c1c41626-504c-4092-aca9-41f936934328").ToByteArray(), .. BitConverter.GetBytes(28 + hashes.Length), 0, 0, 0, 0, 48, 0, 0, 0, .. hashes];
        foreach (VariableAttributes append in (VariableAttributes[])[0, TestFirmware.Append, TestFirmware.Append])
        {
            Assert.Equal(EfiStatus.Success, await SetAsync(
                module, KnownVariables.Forbidden, TestFirmware.Authenticated | append, TestSigner.Descriptor(new(2024, 1, 1), [], lists)));
        }

        foreach (VariableAttributes attributes in (VariableAttributes[])[TestFirmware.NonVolatile, TestFirmware.Volatile])
        {
            EfiStatus status;
            for (int i = 0; (status = await SetAsync(module, new(Guid.Empty, $"{i}"), attributes, 1)) != EfiStatus.OutOfResources; i++)
            {
                Assert.True(status is EfiStatus.Success or EfiStatus.InvalidParameter, $"{status}");
            }
        }

        for (int i = 0; i < 2000; i++)
        {
            await CallAsync(module, 8, [.. TestFirmware.Vendor.ToByteArray(), .. BitConverter.GetBytes(10L), .. TestFirmware.Name($"{i:D4}")]);
        }

        // The longest message of nothing sensible, and a message of signatures that is as long.
        byte[] descriptor = TestSigner.Descriptor(new(2024, 1, 1), new byte[0x3_0000], []);
        for (int i = 0; i < 50; i++)
        {
            Assert.Equal(EfiStatus.SecurityViolation, await SetAsync(module, new(TestFirmware.Vendor, "Signed"), TestFirmware.Authenticated, descriptor));
        }

        Assert.Equal(large, await GetAsync(module, new(TestFirmware.Vendor, $"Large{TestFirmware.NonVolatile:X}0")));
        string state = await File.ReadAllTextAsync($"/proc/{module.ProcessId}/status", TestContext.Current.CancellationToken);
        string line = state.Split('\n').First(part => part.StartsWith("RssAnon:", StringComparison.Ordinal));
        int used = int.Parse(line["RssAnon:".Length..].Replace("kB", "", StringComparison.Ordinal), CultureInfo.InvariantCulture);
        TestContext.Current.TestOutputHelper?.WriteLine($"{used} KiB of its own");
        Assert.InRange(used, 1, MemoryLimitKilobytes);
        Assert.Equal(0, await module.EndAsync());
    }
}
