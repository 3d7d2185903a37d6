// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;
using Xunit;

namespace Svsm.Modules.Vtpm.Tests;

// Seeded commands made out of the declarations of commands (CommandGenerator), a share of them mutated. After each case the TPM is looked at
// from inside. SVSM_TEST_ALL=1 runs a million.
public sealed class FuzzTests
{
    // About half a minute of processor time.
    private const int Cases = 300_000;
    private const int AllCases = 1_000_000;

    private readonly Random _random = new(20261123);
    private readonly byte[] _response = new byte[Tpm.MaxCommandSize];
    private readonly HurriedPlatform _platform = new();

    [Fact]
    public void Execute_StructuredCommands_KeepTheInvariants()
    {
        int cases = Environment.GetEnvironmentVariable("SVSM_TEST_ALL") == "1" ? AllCases : Cases;
        var platform = new TpmPlatform(_platform, _platform, _platform);
        Assert.Equal(TpmOpenResult.Done, Tpm.TryManufacture(platform, out Tpm? made));
        Tpm tpm = made!;
        int successes = 0;
        var succeeded = new HashSet<CommandCode>();
        var generator = new CommandGenerator(_random);
        generator.Forget();
        for (int i = 0; i < cases; i++)
        {
            if (!tpm.IsStarted || _random.Next(2000) == 0)
            {
                tpm.PowerOn();
                Assert.Equal(0u, Run(tpm, TestTpm.Command(0x144, [], [0, 0]), 0));
            }

            (CommandDescriptor descriptor, byte[] command) = generator.Next(tpm);
            if (Run(tpm, command, (byte)(_random.Next(20) == 0 ? _random.Next(5) : 0)) == 0)
            {
                successes++;
                succeeded.Add(descriptor.Code);
                generator.Learn(descriptor, command, _response[..BinaryPrimitives.ReadInt32BigEndian(_response.AsSpan(2))]);
            }

            Check(tpm, command);
            if (i % 1000 == 0)
            {
                // What is stored can be read; then a new one, because sooner or later no authorisation of a TPM is known any more.
                Assert.Equal(TpmOpenResult.Done, Tpm.TryOpen(platform, out _));
                _platform.Stored = [];
                Assert.Equal(TpmOpenResult.Done, Tpm.TryManufacture(platform, out Tpm? next));
                tpm = next!;
                generator.Forget();
            }
        }

        // Otherwise it is the errors only that are tested.
        TestContext.Current.TestOutputHelper?.WriteLine($"{successes} of {cases} commands succeeded, {succeeded.Count} codes of {CommandTable.All.Length}");
        Assert.True(successes > cases / 6, $"{successes} of {cases}, {succeeded.Count} commands");
        Assert.True(succeeded.Count > CommandTable.All.Length * 2 / 3, $"{succeeded.Count} commands of {CommandTable.All.Length}");
    }

    private uint Run(Tpm tpm, byte[] command, byte locality)
    {
        int size = tpm.Execute(command, locality, _response);
        Assert.InRange(size, 10, Tpm.MaxCommandSize);
        Assert.Equal((uint)size, BinaryPrimitives.ReadUInt32BigEndian(_response.AsSpan(2)));
        uint code = TestTpm.Code(_response);
        Assert.True(code == 0 || size == 10);
        return code;
    }

    private static void Check(Tpm tpm, byte[] command)
    {
        string text = Convert.ToHexString(command);
        Assert.False(tpm.IsFailed, text);
        Assert.True(tpm.Objects.LoadedCount <= TpmLimits.LoadedObjects, text);
        Assert.True(tpm.Sessions.LoadedCount <= TpmLimits.LoadedSessions, text);
        Assert.True(tpm.Sessions.ActiveCount <= TpmLimits.ActiveSessions, text);
        Assert.True(NvStorage.Used(tpm) <= TpmLimits.NvCapacity, text);
        Assert.Equal(PersistentState.SecretSize, tpm.Persistent.OwnerSeed.Length);
        Assert.Equal(PersistentState.SecretSize, tpm.Persistent.EndorsementSeed.Length);
        Assert.Equal(PersistentState.SecretSize, tpm.Persistent.PlatformSeed.Length);
        for (int i = 0; i < tpm.Persistent.NvIndices.Length; i++)
        {
            NvIndex index = tpm.Persistent.NvIndices[i];
            Assert.True(index.Data.Length == index.Public.DataSize, text);
            Assert.True(i == 0 || tpm.Persistent.NvIndices[i - 1].Public.Index.Value < index.Public.Index.Value, text);
        }
    }
}
