// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using System.Linq;
using System.Security.Cryptography;
using Svsm.Core;
using Svsm.Core.Testing;
using Svsm.Wire;
using Xunit;

namespace Svsm.Modules.Attestation.Tests;

/// <summary>Calls and their answers, with a security processor that is well.</summary>
[Collection(ChipGroup.Name)]
public sealed class AttestationModuleTests(ChipFixture fixture)
{
    private static readonly Guid s_table = new("63849ebb-3d92-4670-a1ff-58f9c94b87bb");
    private static readonly Guid s_vtpm = new("c476f1eb-0123-45a5-9641-b4e7dde5bfe3");
    private static readonly Guid s_other = new("a4453a59-9e1b-4787-a033-1986d6adbe55");

    private AttestationGuest NewGuest(params (Guid Service, byte[]? Manifest, ManifestResult Result)[] services)
    {
        var guest = new AttestationGuest(new TestKernel(fixture.Chip) { HostCertificates = [.. Enumerable.Repeat((byte)0xCE, 0x1000)] });
        guest.Services.Services.AddRange(services);
        return guest;
    }

    // A guest that moves takes nothing of it along, and nothing here ends with that.
    [Fact]
    public void State_IsEmpty_AndChangesNothing()
    {
        using var guest = new AttestationGuest(new TestKernel(fixture.Chip));
        guest.AssertGood(guest.CallAllServices());

        ModuleState state = Assert.NotNull(guest.Test.Save());

        Assert.Equal((1u, 0), (state.Version, state.Bytes.Length));
        Assert.True(guest.Test.Leave());
        guest.AssertGood(guest.CallAllServices());
        guest.Restart();
        Assert.True(guest.Test.Restore(state));
        guest.AssertGood(guest.CallAllServices());
    }

    [Fact]
    public void AllServices_None_GivesAnEmptyTable()
    {
        using AttestationGuest guest = NewGuest();
        SvsmAnswer answer = guest.CallAllServices();

        byte[] manifest = guest.AssertGood(answer);
        Assert.Equal([.. s_table.ToByteArray(), 24, 0, 0, 0, 0, 0, 0, 0], manifest);
        Assert.Equal(0x1000u, answer.Rdx);
        Assert.Equal(guest.Kernel.HostCertificates, guest.Test.Memory.GuestRead(new(AttestationGuest.Certificates), 0x1000));
        Assert.Empty(guest.Test.Log);
    }

    // Bytes by hand: GUIDs as UEFI has them, c476f1eb first as EB F1 76 C4.
    [Fact]
    public void AllServices_Two_GivesTheirManifestsInOrder()
    {
        using AttestationGuest guest = NewGuest((s_vtpm, [1, 2, 3, 4, 5], ManifestResult.Success), (s_other, [], ManifestResult.NotFound));
        byte[] manifest = guest.AssertGood(guest.CallAllServices());

        byte[] wanted =
        [
            0xBB, 0x9E, 0x84, 0x63, 0x92, 0x3D, 0x70, 0x46, 0xA1, 0xFF, 0x58, 0xF9, 0xC9, 0x4B, 0x87, 0xBB, 77, 0, 0, 0, 2, 0, 0, 0,
            0xEB, 0xF1, 0x76, 0xC4, 0x23, 0x01, 0xA5, 0x45, 0x96, 0x41, 0xB4, 0xE7, 0xDD, 0xE5, 0xBF, 0xE3, 72, 0, 0, 0, 5, 0, 0, 0,
            0x59, 0x3A, 0x45, 0xA4, 0x1B, 0x9E, 0x87, 0x47, 0xA0, 0x33, 0x19, 0x86, 0xD6, 0xAD, 0xBE, 0x55, 77, 0, 0, 0, 0, 0, 0, 0,
            1, 2, 3, 4, 5,
        ];
        Assert.Equal(wanted, manifest);
    }

    [Fact]
    public void SingleService_GivesItsManifest()
    {
        using AttestationGuest guest = NewGuest((s_vtpm, [1, 2, 3, 4, 5], ManifestResult.Success), (s_other, [9], ManifestResult.Success));
        SvsmAnswer answer = guest.Call(AttestationGuest.SingleService, AttestationGuest.NewStructure(service: s_vtpm));

        Assert.Equal([1, 2, 3, 4, 5], guest.AssertGood(answer));
    }

    [Theory]
    [InlineData("a4453a59-9e1b-4787-a033-1986d6adbe55", 0u)]
    [InlineData("00000000-0000-0000-0000-000000000000", 0u)]
    [InlineData("c476f1eb-0123-45a5-9641-b4e7dde5bfe3", 1u)]
    [InlineData("c476f1eb-0123-45a5-9641-b4e7dde5bfe3", uint.MaxValue)]
    public void SingleService_UnknownServiceOrVersion_IsAnInvalidParameter(string service, uint version)
    {
        using AttestationGuest guest = NewGuest((s_vtpm, [1], ManifestResult.Success));
        SvsmAnswer answer = guest.Call(AttestationGuest.SingleService, AttestationGuest.NewStructure(service: new Guid(service), version: version));

        AssertRefused(guest, answer, SvsmResultCode.InvalidParameter);
    }

    [Theory]
    [InlineData(2u)]
    [InlineData(uint.MaxValue)]
    public void UnknownCall_IsUnsupported(uint call)
    {
        using AttestationGuest guest = NewGuest();
        AssertRefused(guest, guest.Call(call, AttestationGuest.NewStructure()), SvsmResultCode.UnsupportedCall);
    }

    public static TheoryData<int> Reserved => [.. new[] { 0x0C, 0x0F, 0x1A, 0x1C, 0x1F, 0x2C, 0x2F, 0x3C, 0x3F }];

    [Theory]
    [MemberData(nameof(Reserved))]
    public void ReservedByte_IsAnInvalidParameter(int offset)
    {
        using AttestationGuest guest = NewGuest();
        byte[] structure = AttestationGuest.NewStructure();
        structure[offset] = 0x80;
        AssertRefused(guest, guest.Call(AttestationGuest.AllServices, structure), SvsmResultCode.InvalidParameter);
    }

    [Fact]
    public void ReservedByteOfASingleService_IsAnInvalidParameter()
    {
        using AttestationGuest guest = NewGuest((s_vtpm, [1], ManifestResult.Success));
        byte[] structure = AttestationGuest.NewStructure(service: s_vtpm);
        structure[0x57] = 1;
        AssertRefused(guest, guest.Call(AttestationGuest.SingleService, structure), SvsmResultCode.InvalidParameter);
        guest.AssertGood(guest.Call(AttestationGuest.AllServices, structure));
    }

    [Theory]
    [InlineData(0)]
    [InlineData(32)]
    [InlineData(63)]
    [InlineData(65)]
    [InlineData(128)]
    [InlineData(ushort.MaxValue)]
    public void NonceOfAnotherSize_IsAnInvalidParameter(ushort size)
    {
        using AttestationGuest guest = NewGuest();
        byte[] structure = AttestationGuest.NewStructure();
        BinaryPrimitives.WriteUInt16LittleEndian(structure.AsSpan(0x18), size);
        AssertRefused(guest, guest.Call(AttestationGuest.AllServices, structure), SvsmResultCode.InvalidParameter);
    }

    [Theory]
    [InlineData(0x2FC0ul, true)]
    [InlineData(0x2FC1ul, false)]
    [InlineData(0x2FFFul, false)]
    [InlineData(0x2001ul, true)]
    public void Nonce_CrossesNoPage(ulong address, bool good)
    {
        using AttestationGuest guest = NewGuest();
        byte[] structure = AttestationGuest.NewStructure();
        BinaryPrimitives.WriteUInt64LittleEndian(structure.AsSpan(0x10), address);
        guest.Test.Memory.GuestWrite(new(address), guest.NonceBytes);
        guest.Test.Memory.GuestWrite(new(AttestationGuest.Structure), structure);
        SvsmAnswer answer = guest.Test.Call(AttestationGuest.AllServices, rcx: AttestationGuest.Structure, rdx: ulong.MaxValue, r8: ulong.MaxValue);
        if (good)
        {
            guest.AssertGood(answer);
        }
        else
        {
            AssertRefused(guest, answer, SvsmResultCode.InvalidParameter);
        }
    }

    [Theory]
    [InlineData(0x00)]
    [InlineData(0x20)]
    [InlineData(0x30)]
    public void UnalignedBuffer_IsAnInvalidParameter(int field)
    {
        using AttestationGuest guest = NewGuest();
        byte[] structure = AttestationGuest.NewStructure();
        structure[field] = 8;
        AssertRefused(guest, guest.Call(AttestationGuest.AllServices, structure), SvsmResultCode.InvalidParameter);
    }

    [Theory]
    [InlineData(0x00, AttestationGuest.Manifest)]
    [InlineData(0x00, AttestationGuest.Certificates + 0x3000)]
    [InlineData(0x20, AttestationGuest.Certificates)]
    [InlineData(0x30, AttestationGuest.Report - 0x3000)]
    public void OverlappingBuffers_AreAnInvalidParameter(int field, ulong address)
    {
        using AttestationGuest guest = NewGuest();
        byte[] structure = AttestationGuest.NewStructure();
        BinaryPrimitives.WriteUInt64LittleEndian(structure.AsSpan(field), address);
        AssertRefused(guest, guest.Call(AttestationGuest.AllServices, structure), SvsmResultCode.InvalidParameter);
    }

    // As Linux has them: one behind the other.
    [Fact]
    public void AdjacentBuffers_AreGood()
    {
        using AttestationGuest guest = NewGuest();
        byte[] structure = AttestationGuest.NewStructure();
        BinaryPrimitives.WriteUInt64LittleEndian(structure, AttestationGuest.Manifest - 0x1000);
        BinaryPrimitives.WriteUInt64LittleEndian(structure.AsSpan(0x30), AttestationGuest.Manifest + 0x1000);
        Assert.Equal(SvsmResultCode.Success, guest.Call(AttestationGuest.AllServices, structure).Code);
    }

    [Theory]
    [InlineData(0x00, 0xFFFF_FFFF_FFFF_F000ul)]
    [InlineData(0x20, 0xFFFF_FFFF_FFFF_F000ul)]
    [InlineData(0x30, 0xFFFF_FFFF_FFFF_C000ul)]
    [InlineData(0x10, 0xFFFF_FFFF_FFFF_FFC0ul)]
    [InlineData(0x00, 0x000F_FFFF_FFFF_F000ul)]
    [InlineData(0x20, 0x0010_0000_0000_0000ul)]
    [InlineData(0x30, 0x8000_0000_0000_0000ul)]
    [InlineData(0x10, 0x10_0000ul)]
    public void BufferOutsideOfMemory_IsAnInvalidAddress(int field, ulong address)
    {
        using AttestationGuest guest = NewGuest();
        byte[] structure = AttestationGuest.NewStructure();
        BinaryPrimitives.WriteUInt64LittleEndian(structure.AsSpan(field), address);
        AssertRefused(guest, guest.Call(AttestationGuest.AllServices, structure), SvsmResultCode.InvalidAddress);
    }

    [Theory]
    [InlineData(0x10_0000ul, AttestationGuest.AllServices)]
    [InlineData(0xF_FFC1ul, AttestationGuest.AllServices)]
    [InlineData(0xF_FFC0ul, AttestationGuest.SingleService)]
    [InlineData(ulong.MaxValue, AttestationGuest.AllServices)]
    [InlineData(ulong.MaxValue - 0x57, AttestationGuest.SingleService)]
    public void StructureOutsideOfMemory_IsAnInvalidAddress(ulong address, uint call)
    {
        using AttestationGuest guest = NewGuest();
        Assert.Equal(SvsmResultCode.InvalidAddress, guest.Test.Call(call, rcx: address).Code);
        Assert.Empty(guest.Kernel.Left);
    }

    // No message to the security processor for a guest that cannot take the answer.
    [Theory]
    [InlineData(AttestationGuest.Report, GuestPageAccess.None)]
    [InlineData(AttestationGuest.Report, GuestPageAccess.Read)]
    [InlineData(AttestationGuest.Manifest, GuestPageAccess.Read)]
    [InlineData(AttestationGuest.Certificates, GuestPageAccess.Read)]
    [InlineData(AttestationGuest.Certificates + 0x3000, GuestPageAccess.None)]
    public void BufferThatIsNotTheGuests_IsAnInvalidAddressAndNothingIsWritten(ulong page, GuestPageAccess access)
    {
        using AttestationGuest guest = NewGuest((s_vtpm, [1], ManifestResult.Success));
        guest.Test.Memory.SetAccess(new(page), 1, access);
        AssertRefused(guest, guest.CallAllServices(), SvsmResultCode.InvalidAddress);
    }

    // The structure changes as soon as it was read: the copy counts.
    [Fact]
    public void StructureThatChanges_IsReadOnce()
    {
        using AttestationGuest guest = NewGuest();
        int reads = 0;
        guest.Test.Memory.BeforeAccess = access =>
        {
            if (access is { Address.Value: AttestationGuest.Structure })
            {
                reads++;
            }
            else
            {
                guest.Test.Memory.GuestWrite(new(AttestationGuest.Structure), [.. Enumerable.Repeat((byte)0xFF, 0x58)]);
            }
        };
        guest.AssertGood(guest.CallAllServices());
        Assert.Equal(1, reads);
    }

    // Pages are taken away while the security processor works.
    [Theory]
    [InlineData(AttestationGuest.Report)]
    [InlineData(AttestationGuest.Manifest)]
    [InlineData(AttestationGuest.Certificates)]
    public void BufferThatGoes_IsAnInvalidAddress(ulong page)
    {
        using AttestationGuest guest = NewGuest();
        guest.Kernel.Tamper = _ => guest.Test.Memory.SetAccess(new(page), 1, GuestPageAccess.None);
        Assert.Equal(SvsmResultCode.InvalidAddress, guest.CallAllServices().Code);
        Assert.True(guest.Kernel.HasKey);
    }

    [Theory]
    [InlineData(0x08, 0u, 0x4000u, 0x1000u)]
    [InlineData(0x08, 0x49Fu, 0x4000u, 0x1000u)]
    [InlineData(0x08, 0x49Fu, 0u, 0u)]
    [InlineData(0x28, 0u, 0x4000u, 0x1000u)]
    [InlineData(0x28, 48u, 0x4000u, 0x1000u)]
    [InlineData(0x28, 48u, 0u, 0u)]
    [InlineData(0x38, 1u, 0u, 0x1000u)]
    [InlineData(0x38, 0xFFFu, 0u, 0x1000u)]
    public void BufferTooSmall_GivesTheSizes(int field, uint size, uint certificatesSize, uint wantedCertificates)
    {
        using AttestationGuest guest = NewGuest((s_vtpm, [1], ManifestResult.Success));
        byte[] structure = AttestationGuest.NewStructure(certificatesSize);
        BinaryPrimitives.WriteUInt32LittleEndian(structure.AsSpan(field), size);
        SvsmAnswer answer = guest.Call(AttestationGuest.AllServices, structure);

        Assert.Equal(new SvsmAnswer(SvsmResultCode.InvalidParameter, 49, wantedCertificates, 0x4A0, 0), answer);
        guest.AssertNothingWritten();
    }

    [Fact]
    public void BuffersThatJustFit_AreGood()
    {
        using AttestationGuest guest = NewGuest((s_vtpm, [1], ManifestResult.Success));
        byte[] structure = AttestationGuest.NewStructure(0x1000);
        BinaryPrimitives.WriteUInt32LittleEndian(structure.AsSpan(0x08), 0x4A0);
        BinaryPrimitives.WriteUInt32LittleEndian(structure.AsSpan(0x28), 49);
        guest.AssertGood(guest.Call(AttestationGuest.AllServices, structure));
    }

    // With a size of zero the address means nothing.
    [Fact]
    public void NoCertificatesWanted_HostIsNotAsked()
    {
        using AttestationGuest guest = NewGuest();
        byte[] structure = AttestationGuest.NewStructure(0);
        BinaryPrimitives.WriteUInt64LittleEndian(structure.AsSpan(0x30), ulong.MaxValue);
        SvsmAnswer answer = guest.Call(AttestationGuest.AllServices, structure);

        guest.AssertGood(answer);
        Assert.Equal(0u, answer.Rdx);
        Assert.Equal([false], guest.Kernel.AskedForCertificates);
    }

    [Fact]
    public void CertificatesWanted_HostIsAsked()
    {
        using AttestationGuest guest = NewGuest();
        guest.AssertGood(guest.CallAllServices());
        Assert.Equal([true], guest.Kernel.AskedForCertificates);
    }

    [Fact]
    public void HostHasNoCertificates_ThereAreNone()
    {
        using AttestationGuest guest = NewGuest();
        guest.Kernel.HostCertificates = [];
        SvsmAnswer answer = guest.CallAllServices();

        guest.AssertGood(answer);
        Assert.Equal(0u, answer.Rdx);
    }

    // The host gives whole pages; the guest needs room for the table.
    [Theory]
    [InlineData(48, 100, 148)]
    [InlineData(200, 0, 200)]
    [InlineData(0, 10, 48)]
    [InlineData(0x3FFF, 1, 0x4000)]
    [InlineData(0x4000, 1, 0x4000)]
    [InlineData(48, -1, 0x4000)]
    public void CertificatesOfTheHost_HaveTheLengthOfTheirTable(int offset, int length, uint wanted)
    {
        using AttestationGuest guest = NewGuest();
        byte[] pages = new byte[0x4000];
        pages[0] = 1;
        BinaryPrimitives.WriteInt32LittleEndian(pages.AsSpan(0x10), offset);
        BinaryPrimitives.WriteInt32LittleEndian(pages.AsSpan(0x14), length);
        guest.Kernel.HostCertificates = pages;
        SvsmAnswer answer = guest.Call(AttestationGuest.AllServices, AttestationGuest.NewStructure(wanted));
        guest.AssertGood(answer);
        Assert.Equal(wanted, answer.Rdx);
        Assert.Equal(pages.Take((int)wanted), guest.Test.Memory.GuestRead(new(AttestationGuest.Certificates), (int)wanted));
        Assert.Equal(wanted, guest.Call(AttestationGuest.AllServices, AttestationGuest.NewStructure(wanted - 1)).Rdx);
    }

    [Fact]
    public void CertificatesOfTheHost_EmptyTable_IsNone()
    {
        using AttestationGuest guest = NewGuest();
        guest.Kernel.HostCertificates = new byte[0x4000];
        SvsmAnswer answer = guest.CallAllServices();
        guest.AssertGood(answer);
        Assert.Equal(0u, answer.Rdx);
    }

    [Fact]
    public void LargeManifests_AreWrittenWhole()
    {
        byte[] large = RandomNumberGenerator.GetBytes(0x1_0000);
        using AttestationGuest guest = NewGuest((s_vtpm, large, ManifestResult.Success));
        byte[] structure = AttestationGuest.NewStructure(0);
        BinaryPrimitives.WriteUInt64LittleEndian(structure.AsSpan(0x20), 0x4_0000);
        BinaryPrimitives.WriteUInt32LittleEndian(structure.AsSpan(0x28), 0x2_0000);
        SvsmAnswer answer = guest.Call(AttestationGuest.AllServices, structure);

        Assert.Equal(SvsmResultCode.Success, answer.Code);
        Assert.Equal(large, guest.Test.Memory.GuestRead(new(0x4_0000 + 48), large.Length));
    }

    [Fact]
    public void ManifestsAboveTheBound_AreRefused()
    {
        byte[] large = new byte[0x1_0000];
        var services = Enumerable.Range(0, 5).Select(_ => (Guid.NewGuid(), (byte[]?)large, ManifestResult.Success)).ToList();
        using AttestationGuest guest = NewGuest([.. services.Take(4)]);
        byte[] structure = AttestationGuest.NewStructure(0);
        Assert.Equal(0x4_0000u + (5 * 24), guest.Call(AttestationGuest.AllServices, structure).Rcx);
        guest.Services.Services.Add(services[4]);
        AssertRefused(guest, guest.Call(AttestationGuest.AllServices, structure), SvsmResultCode.InvalidRequest);
    }

    [Theory]
    [InlineData(ManifestResult.Failed)]
    [InlineData(ManifestResult.NotPermitted)]
    public void ServiceFails_TheCallFails(ManifestResult result)
    {
        using AttestationGuest guest = NewGuest((s_vtpm, [1], ManifestResult.Success), (s_other, [], result));
        AssertRefused(guest, guest.CallAllServices(), SvsmResultCode.InvalidRequest);
        AssertRefused(guest, guest.Call(AttestationGuest.SingleService, AttestationGuest.NewStructure(service: s_other)), SvsmResultCode.InvalidRequest);
        guest.AssertGood(guest.Call(AttestationGuest.SingleService, AttestationGuest.NewStructure(service: s_vtpm)));
    }

    [Fact]
    public void ManyCalls_HaveANumberEach()
    {
        using AttestationGuest guest = NewGuest((s_vtpm, [1], ManifestResult.Success));
        for (int i = 0; i < 10; i++)
        {
            guest.NonceBytes = RandomNumberGenerator.GetBytes(64);
            guest.AssertGood(guest.CallAllServices());
        }

        Assert.Equal(Enumerable.Range(0, 10).Select(i => (2ul * (ulong)i) + 1), guest.Kernel.Left.Select(page => BinaryPrimitives.ReadUInt64LittleEndian(page.AsSpan(0x20))));
    }

    [Fact]
    public void GuestStartsAnew_NumbersGoOn()
    {
        using AttestationGuest guest = NewGuest();
        guest.AssertGood(guest.CallAllServices());
        guest.Test.Reset();
        guest.AssertGood(guest.CallAllServices());
    }

    [Fact]
    public void NotInAnImage_IsAnInvalidRequestAndToldOnce()
    {
        using var test = new ModuleTest(new AttestationModule(), 0x10_0000);
        test.Memory.GuestWrite(new(AttestationGuest.Structure), AttestationGuest.NewStructure());
        for (int i = 0; i < 3; i++)
        {
            Assert.Equal(SvsmResultCode.InvalidRequest, test.Call(AttestationGuest.AllServices, rcx: AttestationGuest.Structure).Code);
        }

        Assert.Single(test.Log);
    }

    [Fact]
    public void ItHasNoManifestOfItsOwn()
    {
        using AttestationGuest guest = NewGuest();
        Assert.Null(guest.Test.GetManifest(0));
    }

    private static void AssertRefused(AttestationGuest guest, SvsmAnswer answer, SvsmResultCode code)
    {
        Assert.Equal(new SvsmAnswer(code, AttestationGuest.Structure, ulong.MaxValue, ulong.MaxValue, 0), answer);
        Assert.Empty(guest.Kernel.Left);
        guest.AssertNothingWritten();
    }
}
