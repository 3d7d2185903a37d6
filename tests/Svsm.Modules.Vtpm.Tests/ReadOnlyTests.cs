// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System.Linq;
using Svsm.Modules.Vtpm.Dispatch;
using Xunit;

namespace Svsm.Modules.Vtpm.Tests;

// TPM2_ReadOnlyControl. Which commands it stops: TCG TPM 2.0 Library 1.84, Part 3, the table of TPM2_ReadOnlyControl.
public sealed class ReadOnlyTests
{
    private const uint Index = 0x0150_0000;
    private const uint ReadOnlyCode = 0x156;

    private static readonly uint[] s_refused =
    [
        0x11F, 0x120, 0x121, 0x122, 0x124, 0x125, 0x126, 0x127, 0x128, 0x129, 0x12A, 0x12B, 0x12C, 0x12D, 0x12E, 0x130, 0x131, 0x132, 0x134, 0x13A, 0x13B,
        0x13F, 0x140, 0x150, 0x153, 0x183, 0x191, 0x19D, 0x19F,
    ];

    private static readonly uint[] s_temporaryIndices = [0x135, 0x136, 0x137, 0x138, 0x14F];

    [Fact]
    public void Commands_Refused_AreThoseOfTheTable()
    {
        Assert.Equal(s_refused, CommandTable.All.ToArray().Where(c => c.Traits.HasFlag(Wire.CommandTraits.NotReadOnly)).Select(c => (uint)c.Code));
        Assert.Equal(s_temporaryIndices, CommandTable.All.ToArray().Where(c => c.Traits.HasFlag(Wire.CommandTraits.TemporaryIndexOnly)).Select(c => (uint)c.Code));
    }

    [Fact]
    public void ReadOnly_Set_RefusesBeforeAuthorizationAndChangesNothing()
    {
        var tpm = new TestTpm();
        Set(tpm, true);
        byte[] before = tpm.Stored!;

        // Also with a wrong authorisation.
        Assert.Equal(ReadOnlyCode, tpm.Try(0x126, [TestTpm.Lockout], [], TestTpm.PasswordSession(1)));
        Assert.Equal(ReadOnlyCode, tpm.Try(0x129, [TestTpm.Owner], TestTpm.Sized(1), TestTpm.PasswordSession()));
        Assert.Equal(ReadOnlyCode, tpm.Try(0x12A, [TestTpm.Owner], [0, 0, .. TestTpm.Sized(Public(Index, 0x2_0002))], TestTpm.PasswordSession()));
        Assert.Equal(before, tpm.Stored);
        Assert.Equal(1u, (tpm.Property(0x201) >> 4) & 1);

        // What changes nothing that is kept goes on.
        tpm.Do(0x17B, [], TestTpm.U16(8));
        tpm.Do(0x182, [16], [0, 0, 0, 1, 0, 0x0B, .. new byte[32]], TestTpm.PasswordSession());
        Set(tpm, false);
        Assert.Equal(0u, (tpm.Property(0x201) >> 4) & 1);
        tpm.Do(0x129, [TestTpm.Owner], TestTpm.Sized(1), TestTpm.PasswordSession());
    }

    [Fact]
    public void ReadOnly_NvIndices_OnlyTemporaryOnesAreWritten()
    {
        var tpm = new TestTpm();
        Define(tpm, Index, 0x2_0002);
        Define(tpm, Index + 1, 0x0C02_0002);
        Define(tpm, Index + 2, 0x0402_0002);
        Set(tpm, true);
        byte[] data = [0, 1, 5, 0, 0];
        Assert.Equal(ReadOnlyCode, tpm.Try(0x137, [TestTpm.Owner, Index], data, TestTpm.PasswordSession()));
        Assert.Equal(0u, tpm.Try(0x137, [TestTpm.Owner, Index + 1], data, TestTpm.PasswordSession()));
        Assert.Equal(ReadOnlyCode, tpm.Try(0x137, [TestTpm.Owner, Index + 2], data, TestTpm.PasswordSession()));
        tpm.Do(0x14E, [TestTpm.Owner, Index + 1], [0, 1, 0, 0], TestTpm.PasswordSession());
    }

    [Fact]
    public void ReadOnly_PinIndex_AuthorizesNoPolicy()
    {
        var tpm = new TestTpm();
        tpm.Do(0x12A, [TestTpm.Owner], [.. TestTpm.Sized(7), .. TestTpm.Sized([.. TestTpm.U32(Index), 0, 0x0B, .. TestTpm.U32(0x0204_0092 | 0x2_0000), 0, 0, 0, 8])], TestTpm.PasswordSession());
        tpm.Do(0x137, [TestTpm.Owner, Index], [.. TestTpm.Sized(0, 0, 0, 0, 0, 0, 0, 5), 0, 0], TestTpm.PasswordSession());
        byte[] session = tpm.Do(0x176, [TestTpm.Null, TestTpm.Null], [.. TestTpm.Sized(new byte[16]), 0, 0, 1, 0, 0x10, 0, 0x0B])[..4];
        uint handle = System.Buffers.Binary.BinaryPrimitives.ReadUInt32BigEndian(session);
        byte[] secret = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        Assert.Equal(0u, tpm.Try(0x151, [Index, handle], secret, TestTpm.PasswordSession(7)));
        Set(tpm, true);
        Assert.Equal(ReadOnlyCode, tpm.Try(0x151, [Index, handle], secret, TestTpm.PasswordSession(7)));
        Assert.Equal(0u, tpm.Try(0x151, [TestTpm.Endorsement, handle], secret, TestTpm.PasswordSession()));
    }

    [Theory]
    [InlineData(1, 1, ReadOnlyCode)]
    [InlineData(1, 0, 0u)]
    [InlineData(0, 0, 0u)]
    public void ReadOnly_AcrossStartups_LivesThroughResumeOnly(int shutdown, int startup, uint code)
    {
        var tpm = new TestTpm();
        Set(tpm, true);
        tpm.Do(0x145, [], TestTpm.U16(shutdown));
        tpm.PowerCycle();
        tpm.Startup(startup);
        Assert.Equal(code, tpm.Try(0x129, [TestTpm.Owner], TestTpm.Sized(1), TestTpm.PasswordSession()));
    }

    [Fact]
    public void ReadOnlyControl_ParameterAndHandle_HaveToFit()
    {
        var tpm = new TestTpm();
        Assert.Equal(0x184u, tpm.Try(0x1A0, [TestTpm.Owner], [1], TestTpm.PasswordSession()));
        Assert.Equal(0x1C4u, tpm.Try(0x1A0, [TestTpm.Platform], [2], TestTpm.PasswordSession()));
        Assert.Equal(0x125u, tpm.Try(0x1A0, [TestTpm.Platform], [1]));
    }

    private static void Set(TestTpm tpm, bool state) => tpm.Do(0x1A0, [TestTpm.Platform], [(byte)(state ? 1 : 0)], TestTpm.PasswordSession());

    private static byte[] Public(uint index, uint attributes) => [.. TestTpm.U32(index), 0, 0x0B, .. TestTpm.U32(attributes), 0, 0, 0, 1];

    private static void Define(TestTpm tpm, uint index, uint attributes)
        => tpm.Do(0x12A, [TestTpm.Owner], [0, 0, .. TestTpm.Sized(Public(index, attributes))], TestTpm.PasswordSession());
}
