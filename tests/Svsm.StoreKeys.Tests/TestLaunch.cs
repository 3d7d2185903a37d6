// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Launches of images on one simulated chip, as far as their keys go: the attesting module with the security processor behind it.

extern alias simulator;

using System;
using System.IO;
using System.Linq;
using simulator::Svsm.Igvm;
using simulator::Svsm.Simulator;
using Svsm.Core;
using Svsm.Core.Testing;
using Svsm.Modules.Attestation;
using Svsm.Modules.Attestation.Tests;
using Svsm.Store;
using Svsm.Wire;
using Xunit;

namespace Svsm.StoreKeys.Tests;

/// <summary>The chip of all tests: its keys take seconds to make.</summary>
public sealed class ChipFixture : IDisposable
{
    private readonly DirectoryInfo _folder = Directory.CreateTempSubdirectory("svsm-keys-");

    public ChipFixture()
    {
        Chip = SimulatedChip.Open(Path.Combine(_folder.FullName, "chip"));
        Other = SimulatedChip.Open(Path.Combine(_folder.FullName, "other"));
    }

    internal SimulatedChip Chip { get; }

    internal SimulatedChip Other { get; }

    public void Dispose()
    {
        Chip.Dispose();
        Other.Dispose();
        _folder.Delete(recursive: true);
    }
}

[CollectionDefinition(Name)]
public sealed class ChipGroup : ICollectionFixture<ChipFixture>
{
    public const string Name = "chip";
}

/// <summary>A launch of an image.</summary>
internal sealed class TestLaunch : ModulePeers, IDisposable
{
    private readonly ModuleTest _module;

    /// <param name="author">What stands for its author's key, or null; then there is an ID key, or not.</param>
    public TestLaunch(SimulatedChip chip, string image = "image", ulong policy = 0x3_0000, byte? idKey = null, byte? author = null, uint svn = 0, byte family = 0, byte[]? hostData = null,
        int reportVersion = 2)
    {
        IgvmSnpIdBlock? block = idKey is null && author is null ? null : new IgvmSnpIdBlock
        {
            CompatibilityMask = 1,
            LaunchDigest = new byte[48],
            FamilyId = Enumerable.Repeat(family, 16).ToArray(),
            ImageId = new byte[16],
            GuestSvn = svn,
            IdKeySignature = new IgvmSnpSignature(new byte[72], new byte[72]),
            IdPublicKey = NewKey(idKey ?? 1),
        };
        if (author is byte number)
        {
            block = block! with { AuthorPublicKey = NewKey(number), AuthorKeySignature = new IgvmSnpSignature(new byte[72], new byte[72]) };
        }

        Kernel = new TestKernel(chip, reportVersion, image: image, policy: policy, idBlock: block, hostData: hostData);
        _module = new ModuleTest(new AttestationModule(), 0x1000, Kernel, new TestServices());
        Peer = new AttestingPeer(this);
        PatientPeer = new AttestingPeer(this, TimeSpan.FromMinutes(1));
    }

    public TestKernel Kernel { get; }

    public AttestingPeer Peer { get; }

    /// <summary>Of a module that waits for a busy host.</summary>
    public AttestingPeer PatientPeer { get; }

    public LaunchIdentity Identity()
    {
        Assert.Equal(AttestingResult.Done, LaunchIdentity.TryGet(Peer, out LaunchIdentity? identity));
        return identity!;
    }

    public byte[] KeyOf(StoreKeyOrigin origin, byte[]? secret = null)
    {
        byte[] key = new byte[StoreKey.Length];
        Assert.Equal(AttestingResult.Done, StoreKey.Derive(Peer, Identity(), origin, secret, key));
        Assert.Contains(key, value => value != 0);
        return key;
    }

    public byte[] NewKey() => KeyOf(Identity().NewOrigin);

    public override PeerResult Ask(ModuleMessageKind kind, ReadOnlySpan<byte> request, out byte[] answer)
    {
        answer = _module.Ask(kind, protocol: 0x8000_0002, request.ToArray()) ?? [];
        return PeerResult.Answered;
    }

    public void Dispose() => _module.Dispose();

    private static IgvmSnpPublicKey NewKey(byte number) => new(IgvmSnpPublicKey.P384, Enumerable.Repeat(number, 72).ToArray(), new byte[72]);
}
