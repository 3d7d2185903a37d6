// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Linq;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using Xunit;

namespace Svsm.Modules.VarStore.Tests;

/// <summary>Secure boot: modes, who may write which key, keys of the image.</summary>
public sealed class SecureBootTests
{
    private const VariableAttributes Keys = TestFirmware.Authenticated;
    private const VariableAttributes Hidden = VariableAttributes.NonVolatile | VariableAttributes.BootServiceAccess;

    private static readonly DateTime s_time = new(2024, 1, 1, 0, 0, 0);

    private readonly TestStorage _storage = new();
    private readonly TestSigner _owner = TestSigner.Named("Owner");
    private readonly TestSigner _vendor = TestSigner.Named("Vendor");
    private readonly TestSigner _other = TestSigner.Named("Other");
    private TestFirmware _firmware;
    private int _seconds;

    public SecureBootTests() => _firmware = new(_storage);

    private EfiStatus Write(VariableId id, TestSigner signer, byte[] lists, VariableAttributes more = 0, MessageShape? shape = null, int? seconds = null) =>
        _firmware.Set(id, Keys | more, signer.Write(id, Keys | more, s_time.AddSeconds(seconds ?? ++_seconds), lists, shape));

    private EfiStatus WriteUnsigned(VariableId id, byte[] lists, VariableAttributes more = 0) =>
        _firmware.Set(id, Keys | more, TestSigner.Descriptor(s_time.AddSeconds(++_seconds), [], lists));

    private void AssertMode(int setup, int audit, int deployed, int secureBoot)
    {
        Assert.Equal(
            [(byte)setup, (byte)audit, (byte)deployed, (byte)secureBoot],
            [
                _firmware.Flag(KnownVariables.SetupMode), _firmware.Flag(KnownVariables.AuditMode), _firmware.Flag(KnownVariables.DeployedMode),
                _firmware.Flag(KnownVariables.SecureBoot),
            ]);
        Assert.Equal(secureBoot == 1, _firmware.Store.IsSecureBootOn);
    }

    private void EnterUserMode()
    {
        Assert.Equal(EfiStatus.Success, WriteUnsigned(KnownVariables.KeyExchangeKeys, _vendor.List()));
        Assert.Equal(EfiStatus.Success, Write(KnownVariables.PlatformKey, _owner, _owner.List()));
        AssertMode(0, 0, 0, 1);
    }

    private static byte[] Hashes(params byte[] fills)
    {
        byte[] entries = [.. fills.SelectMany(fill => (byte[])[.. TestFirmware.Vendor.ToByteArray(), .. Enumerable.Repeat(fill, 32)])];
        return
        [
            .. new Guid("c1c41626-504c-4092-aca9-41f936934328").ToByteArray(), .. BitConverter.GetBytes(28 + entries.Length), 0, 0, 0, 0, 48, 0, 0, 0, .. entries,
        ];
    }

    [Fact]
    public void Start_NoKeys_IsSetupMode()
    {
        AssertMode(1, 0, 0, 0);
        Assert.Equal(0, _firmware.Flag(KnownVariables.CustomMode));
        Assert.Equal(1, _firmware.Flag(KnownVariables.VendorKeys));
        Assert.Equal(SignatureLists.Supported, _firmware.Get(KnownVariables.SignatureSupport));
        Assert.True(_firmware.Store.AreDatabaseUpdatesAllowed);
        Assert.Empty(_storage.Records);
    }

    [Fact]
    public void OwnVariables_AreReadOnly_AlsoBeforeTheEndOfDxe()
    {
        foreach (VariableId id in (VariableId[])[KnownVariables.SetupMode, KnownVariables.SecureBoot, KnownVariables.SignatureSupport, KnownVariables.VendorKeys])
        {
            Assert.Equal(EfiStatus.WriteProtected, _firmware.Set(id, TestFirmware.Volatile, 0));
            Assert.Equal(EfiStatus.WriteProtected, _firmware.Set(id, TestFirmware.Volatile));
            Assert.Equal(EfiStatus.WriteProtected, _firmware.Set(id, VariableAttributes.None));
        }

        Assert.Equal(EfiStatus.WriteProtected, _firmware.Set(KnownVariables.VendorKeysNv, VariableAttributes.None));
    }

    [Fact]
    public void Setup_EverythingButPk_NeedsNoSignature()
    {
        foreach (VariableId id in (VariableId[])[KnownVariables.KeyExchangeKeys, KnownVariables.Allowed, KnownVariables.Forbidden, KnownVariables.Timestamps])
        {
            Assert.Equal(EfiStatus.Success, WriteUnsigned(id, _vendor.List()));
            Assert.Equal(_vendor.List(), _firmware.Get(id));
            Assert.Equal(EfiStatus.Success, WriteUnsigned(id, []));
            Assert.Null(_firmware.Get(id));
            Assert.Equal(EfiStatus.InvalidParameter, _firmware.Set(id, TestFirmware.NonVolatile, _vendor.List()));
            Assert.Equal(EfiStatus.InvalidParameter, _firmware.Set(id, Keys & ~VariableAttributes.NonVolatile, TestSigner.Descriptor(s_time, [], _vendor.List())));
        }

        AssertMode(1, 0, 0, 0);
    }

    [Fact]
    public void Setup_Pk_HasToSignItself()
    {
        Assert.Equal(EfiStatus.SecurityViolation, WriteUnsigned(KnownVariables.PlatformKey, _owner.List()));
        Assert.Equal(EfiStatus.SecurityViolation, Write(KnownVariables.PlatformKey, _other, _owner.List()));
        Assert.Equal(EfiStatus.SecurityViolation, Write(KnownVariables.PlatformKey, _owner, []));
        Assert.Equal(EfiStatus.InvalidParameter, Write(KnownVariables.PlatformKey, _owner, _owner.List(_other)));
        Assert.Equal(EfiStatus.InvalidParameter, Write(KnownVariables.PlatformKey, _owner, [.. _owner.List(), 0]));
        AssertMode(1, 0, 0, 0);
        Assert.Equal(EfiStatus.Success, Write(KnownVariables.PlatformKey, _owner, _owner.List()));
        AssertMode(0, 0, 0, 1);
        Assert.Equal(1, _firmware.Flag(KnownVariables.SecureBootEnable));
    }

    [Fact]
    public void User_Pk_IsWrittenByItsOwnerOnly()
    {
        EnterUserMode();
        Assert.Equal(EfiStatus.SecurityViolation, Write(KnownVariables.PlatformKey, _other, _other.List()));
        Assert.Equal(EfiStatus.SecurityViolation, Write(KnownVariables.PlatformKey, _vendor, _vendor.List()));
        Assert.Equal(EfiStatus.SecurityViolation, WriteUnsigned(KnownVariables.PlatformKey, []));
        Assert.Equal(EfiStatus.InvalidParameter, Write(KnownVariables.PlatformKey, _owner, _other.List(), TestFirmware.Append));

        // Somebody whose certificate the owner issued is not the owner.
        using TestSigner issued = TestSigner.Make("Issued", _owner);
        Assert.Equal(EfiStatus.SecurityViolation, Write(KnownVariables.PlatformKey, issued, _other.List()));
        Assert.Equal(EfiStatus.Success, Write(KnownVariables.PlatformKey, _owner, _other.List()));
        Assert.Equal(EfiStatus.SecurityViolation, Write(KnownVariables.PlatformKey, _owner, _owner.List()));
        AssertMode(0, 0, 0, 1);
    }

    [Fact]
    public void User_Keks_AreWrittenByThePlatformKeyOnly()
    {
        EnterUserMode();
        Assert.Equal(EfiStatus.SecurityViolation, Write(KnownVariables.KeyExchangeKeys, _vendor, _other.List()));
        Assert.Equal(EfiStatus.SecurityViolation, WriteUnsigned(KnownVariables.KeyExchangeKeys, _other.List()));
        Assert.Equal(EfiStatus.Success, Write(KnownVariables.KeyExchangeKeys, _owner, _other.List(), TestFirmware.Append));
        Assert.Equal([.. _vendor.List(), .. _other.List()], _firmware.Get(KnownVariables.KeyExchangeKeys)!);
        Assert.Equal(EfiStatus.Success, Write(KnownVariables.KeyExchangeKeys, _owner, _other.List(_vendor), TestFirmware.Append));
        Assert.Equal([.. _vendor.List(), .. _other.List()], _firmware.Get(KnownVariables.KeyExchangeKeys)!);
        Assert.Equal(EfiStatus.Success, Write(KnownVariables.KeyExchangeKeys, _owner, []));
        Assert.Null(_firmware.Get(KnownVariables.KeyExchangeKeys));
        AssertMode(0, 0, 0, 1);
    }

    [Fact]
    public void User_Databases_AreWrittenByPkAndKeks()
    {
        EnterUserMode();
        foreach (VariableId id in (VariableId[])[KnownVariables.Allowed, KnownVariables.Forbidden, KnownVariables.Timestamps])
        {
            Assert.Equal(EfiStatus.SecurityViolation, Write(id, _other, Hashes(1)));
            Assert.Equal(EfiStatus.SecurityViolation, WriteUnsigned(id, Hashes(1)));
            Assert.Equal(EfiStatus.Success, Write(id, _vendor, Hashes(1)));
            Assert.Equal(EfiStatus.Success, Write(id, _owner, Hashes(2, 1), TestFirmware.Append));
            Assert.Equal([.. Hashes(1), .. Hashes(2)], _firmware.Get(id)!);
            Assert.Equal(EfiStatus.SecurityViolation, Write(id, _vendor, Hashes(3), seconds: 0));
            Assert.Equal(EfiStatus.Success, Write(id, _vendor, Hashes(3), TestFirmware.Append, seconds: 0));
            Assert.Equal([.. Hashes(1), .. Hashes(2), .. Hashes(3)], _firmware.Get(id)!);
            Assert.Equal(EfiStatus.InvalidParameter, Write(id, _vendor, [1, 2, 3]));
            Assert.Equal(EfiStatus.Success, Write(id, _vendor, []));
            Assert.Null(_firmware.Get(id));
        }

        // Not any more when it is no KEK any more.
        Assert.Equal(EfiStatus.Success, Write(KnownVariables.KeyExchangeKeys, _owner, _other.List()));
        Assert.Equal(EfiStatus.SecurityViolation, Write(KnownVariables.Allowed, _vendor, Hashes(1)));
        Assert.Equal(EfiStatus.Success, Write(KnownVariables.Allowed, _other, Hashes(1)));
    }

    [Fact]
    public void User_Runtime_SignedWritesAreTaken_AndSecureBootStays()
    {
        EnterUserMode();
        _firmware.Notify(TestFirmware.ExitBootServices);
        Assert.Equal(EfiStatus.Success, Write(KnownVariables.Forbidden, _vendor, Hashes(1)));
        Assert.Equal(EfiStatus.Success, Write(KnownVariables.PlatformKey, _owner, []));
        AssertMode(1, 0, 0, 1);
        _firmware.Store.Reset();
        AssertMode(1, 0, 0, 0);
        Assert.Equal(Hashes(1), _firmware.Get(KnownVariables.Forbidden));
    }

    [Fact]
    public void User_PkIsDeleted_IsSetupMode()
    {
        EnterUserMode();
        Assert.Equal(EfiStatus.Success, Write(KnownVariables.PlatformKey, _owner, []));
        AssertMode(1, 0, 0, 0);
        Assert.Null(_firmware.Get(KnownVariables.SecureBootEnable));
        Assert.Equal(EfiStatus.Success, Write(KnownVariables.PlatformKey, _other, _other.List()));
        AssertMode(0, 0, 0, 1);
    }

    [Fact]
    public void User_StorageFails_IsTheModeBefore()
    {
        _storage.Fails = true;
        Assert.Equal(EfiStatus.DeviceError, Write(KnownVariables.PlatformKey, _owner, _owner.List()));
        AssertMode(1, 0, 0, 0);
        _storage.Fails = false;
        EnterUserMode();
        _storage.Fails = true;
        Assert.Equal(EfiStatus.DeviceError, Write(KnownVariables.PlatformKey, _owner, []));
        AssertMode(0, 0, 0, 1);
        Assert.Equal(EfiStatus.DeviceError, _firmware.Set(KnownVariables.DeployedMode, TestFirmware.Volatile, 1));
        AssertMode(0, 0, 0, 1);
    }

    [Fact]
    public void SecureBootEnable_CountsFromTheNextStart()
    {
        EnterUserMode();
        Assert.Equal(EfiStatus.Success, _firmware.Set(KnownVariables.SecureBootEnable, Hidden, 0));
        AssertMode(0, 0, 0, 1);
        _firmware = new(_storage);
        AssertMode(0, 0, 0, 0);
        Assert.Equal(EfiStatus.Success, _firmware.Set(KnownVariables.SecureBootEnable, Hidden, 1));
        _firmware.Store.Reset();
        AssertMode(0, 0, 0, 1);
        _firmware.Notify(TestFirmware.ExitBootServices);
        Assert.Equal(EfiStatus.WriteProtected, _firmware.Set(KnownVariables.SecureBootEnable, Hidden, 0));
        Assert.Equal(EfiStatus.WriteProtected, _firmware.Set(KnownVariables.CustomMode, Hidden, 1));
    }

    [Fact]
    public void Custom_NeedsNoSignature_AndEndsWithTheStart()
    {
        EnterUserMode();
        Assert.Equal(EfiStatus.Success, _firmware.Set(KnownVariables.CustomMode, Hidden, 1));
        Assert.Equal(EfiStatus.Success, WriteUnsigned(KnownVariables.Allowed, _other.List()));
        Assert.Equal(0, _firmware.Flag(KnownVariables.VendorKeys));
        Assert.Equal(EfiStatus.Success, WriteUnsigned(KnownVariables.PlatformKey, _other.List()));
        AssertMode(0, 0, 0, 1);
        Assert.Equal(EfiStatus.InvalidParameter, WriteUnsigned(KnownVariables.PlatformKey, _other.List(_owner)));
        Assert.Equal(EfiStatus.Success, WriteUnsigned(KnownVariables.PlatformKey, []));
        AssertMode(1, 0, 0, 0);
        Assert.Equal(EfiStatus.Success, WriteUnsigned(KnownVariables.PlatformKey, _owner.List()));
        AssertMode(0, 0, 0, 1);
        _firmware.Store.Reset();
        Assert.Equal(0, _firmware.Flag(KnownVariables.CustomMode));
        Assert.Equal(0, _firmware.Flag(KnownVariables.VendorKeys));
        Assert.Equal(EfiStatus.SecurityViolation, WriteUnsigned(KnownVariables.Allowed, _other.List()));
        Assert.Equal(0, new TestFirmware(_storage).Flag(KnownVariables.VendorKeys));
    }

    [Fact]
    public void Custom_AfterExitBootServices_CountsForNothing()
    {
        EnterUserMode();
        Assert.Equal(EfiStatus.Success, _firmware.Set(KnownVariables.CustomMode, Hidden, 1));
        _firmware.Notify(TestFirmware.ExitBootServices);
        Assert.Equal(EfiStatus.SecurityViolation, WriteUnsigned(KnownVariables.Allowed, _other.List()));
        Assert.Equal(EfiStatus.SecurityViolation, WriteUnsigned(KnownVariables.KeyExchangeKeys, _other.List()));
        Assert.Equal(EfiStatus.SecurityViolation, WriteUnsigned(KnownVariables.PlatformKey, []));
        Assert.Equal(EfiStatus.Success, Write(KnownVariables.Allowed, _vendor, Hashes(1)));
        AssertMode(0, 0, 0, 1);
    }

    [Fact]
    public void Audit_FromSetup_AndAPkDeploys()
    {
        Assert.Equal(EfiStatus.InvalidParameter, _firmware.Set(KnownVariables.AuditMode, TestFirmware.Volatile, 2));
        Assert.Equal(EfiStatus.InvalidParameter, _firmware.Set(KnownVariables.AuditMode, TestFirmware.Volatile, 1, 1));
        Assert.Equal(EfiStatus.InvalidParameter, _firmware.Set(KnownVariables.AuditMode, TestFirmware.Volatile | TestFirmware.Append, 1));
        Assert.Equal(EfiStatus.WriteProtected, _firmware.Set(KnownVariables.AuditMode, TestFirmware.Volatile));
        Assert.Equal(EfiStatus.WriteProtected, _firmware.Set(KnownVariables.AuditMode, VariableAttributes.None));
        Assert.Equal(EfiStatus.InvalidParameter, _firmware.Set(KnownVariables.DeployedMode, TestFirmware.Volatile, 1));
        Assert.Equal(EfiStatus.Success, _firmware.Set(KnownVariables.DeployedMode, TestFirmware.Volatile, 0));
        Assert.Equal(EfiStatus.Success, _firmware.Set(KnownVariables.AuditMode, TestFirmware.Volatile, 1));
        AssertMode(1, 1, 0, 0);
        Assert.Equal(EfiStatus.Success, _firmware.Set(KnownVariables.AuditMode, TestFirmware.Volatile, 1));
        Assert.Equal(EfiStatus.WriteProtected, _firmware.Set(KnownVariables.AuditMode, TestFirmware.Volatile, 0));
        Assert.Equal(EfiStatus.InvalidParameter, _firmware.Set(KnownVariables.DeployedMode, TestFirmware.Volatile, 1));
        Assert.Equal(EfiStatus.SecurityViolation, Write(KnownVariables.PlatformKey, _other, _owner.List()));
        Assert.Equal(EfiStatus.Success, Write(KnownVariables.PlatformKey, _owner, _owner.List()));
        AssertMode(0, 0, 1, 1);
    }

    [Fact]
    public void Audit_FromUser_DeletesThePk()
    {
        EnterUserMode();
        Assert.Equal(EfiStatus.Success, _firmware.Set(KnownVariables.AuditMode, TestFirmware.Volatile, 1));
        AssertMode(1, 1, 0, 0);
        Assert.Null(_firmware.Get(KnownVariables.PlatformKey));
        _firmware.Store.Reset();
        AssertMode(1, 0, 0, 0);
    }

    [Fact]
    public void Deployed_HasNoCustomMode_AndStays()
    {
        EnterUserMode();
        Assert.Equal(EfiStatus.Success, _firmware.Set(KnownVariables.SecureBootEnable, Hidden, 0));
        Assert.Equal(EfiStatus.Success, _firmware.Set(KnownVariables.CustomMode, Hidden, 1));
        Assert.Equal(EfiStatus.Success, _firmware.Set(KnownVariables.DeployedMode, TestFirmware.Volatile, 1));
        AssertMode(0, 0, 1, 1);

        // Custom mode that was on before counts for nothing.
        Assert.Equal(EfiStatus.SecurityViolation, WriteUnsigned(KnownVariables.Allowed, _other.List()));
        foreach (TestFirmware firmware in (TestFirmware[])[_firmware, new(_storage)])
        {
            _firmware = firmware;
            Assert.Equal(EfiStatus.SecurityViolation, _firmware.Set(KnownVariables.CustomMode, Hidden, 1));
            Assert.Equal(EfiStatus.SecurityViolation, _firmware.Set(KnownVariables.SecureBootEnable, Hidden, 0));
            Assert.Equal(EfiStatus.SecurityViolation, _firmware.Set(KnownVariables.SecureBootEnable, Hidden));
            Assert.Equal(EfiStatus.WriteProtected, _firmware.Set(KnownVariables.AuditMode, TestFirmware.Volatile, 1));
            Assert.Equal(EfiStatus.WriteProtected, _firmware.Set(KnownVariables.DeployedMode, TestFirmware.Volatile, 0));
            AssertMode(0, 0, 1, 1);
        }

        Assert.True(_firmware.Store.AreDatabaseUpdatesAllowed);
        Assert.Equal(EfiStatus.Success, Write(KnownVariables.PlatformKey, _owner, []));
        AssertMode(1, 0, 0, 0);
        Assert.Equal(EfiStatus.Success, Write(KnownVariables.PlatformKey, _other, _other.List()));
        AssertMode(0, 0, 0, 1);
    }

    [Fact]
    public void Modes_AfterExitBootServices_AreReadOnly()
    {
        EnterUserMode();
        _firmware.Notify(TestFirmware.ExitBootServices);
        Assert.Equal(EfiStatus.WriteProtected, _firmware.Set(KnownVariables.AuditMode, TestFirmware.Volatile, 1));
        Assert.Equal(EfiStatus.WriteProtected, _firmware.Set(KnownVariables.DeployedMode, TestFirmware.Volatile, 1));
    }

    [Fact]
    public void Chain_RulesOfCertificates_AreKept()
    {
        EnterUserMode();
        X509Extension authority = new X509BasicConstraintsExtension(true, false, 0, true);
        using TestSigner between = TestSigner.Make("Between", _vendor);
        using TestSigner leaf = TestSigner.Make("Leaf", between, change: _ => { });
        Assert.Equal(EfiStatus.Success, Write(KnownVariables.Allowed, between, Hashes(1)));
        Assert.Equal(EfiStatus.Success, Write(KnownVariables.Allowed, leaf, Hashes(1), 0, new() { Chain = [between] }));
        Assert.Equal(EfiStatus.Success, Write(KnownVariables.Allowed, leaf, Hashes(1), 0, new() { Chain = [_other, _vendor, between] }));
        Assert.Equal(EfiStatus.SecurityViolation, Write(KnownVariables.Allowed, leaf, Hashes(1)));
        Assert.Equal(EfiStatus.SecurityViolation, Write(KnownVariables.Allowed, leaf, Hashes(1), 0, new() { Chain = [_vendor] }));

        // Of an issuer that is none.
        using TestSigner underLeaf = TestSigner.Make("Under", leaf);
        Assert.Equal(EfiStatus.SecurityViolation, Write(KnownVariables.Allowed, underLeaf, Hashes(1), 0, new() { Chain = [leaf, between] }));

        EfiStatus Under(Action<CertificateRequest> change, Action<CertificateRequest>? leafChange = null, HashAlgorithmName? hash = null)
        {
            using TestSigner issuer = TestSigner.Make("Issuer", _vendor, change: change, hash: hash);
            using TestSigner signer = TestSigner.Make("Signer", issuer, change: leafChange ?? (_ => { }));
            return Write(KnownVariables.Allowed, signer, Hashes(1), 0, new() { Chain = [issuer] });
        }

        Assert.Equal(EfiStatus.Success, Under(request => request.CertificateExtensions.Add(authority)));
        Assert.Equal(EfiStatus.SecurityViolation, Under(request => request.CertificateExtensions.Add(new X509BasicConstraintsExtension(false, false, 0, true))));
        Assert.Equal(EfiStatus.SecurityViolation, Under(_ => { }));
        Assert.Equal(EfiStatus.Success, Under(request => request.CertificateExtensions.Add(new X509KeyUsageExtension(X509KeyUsageFlags.KeyCertSign, true))));
        Assert.Equal(EfiStatus.SecurityViolation, Under(request =>
        {
            request.CertificateExtensions.Add(authority);
            request.CertificateExtensions.Add(new X509KeyUsageExtension(X509KeyUsageFlags.DigitalSignature, true));
        }));
        Assert.Equal(EfiStatus.SecurityViolation, Under(request => request.CertificateExtensions.Add(authority), hash: HashAlgorithmName.SHA1));

        // Extensions: unknown ones only if they need not be understood, name constraints never.
        Assert.Equal(EfiStatus.Success, Under(request => request.CertificateExtensions.Add(authority), request => request.CertificateExtensions.Add(new("1.2.3.4", [5, 0], false))));
        Assert.Equal(EfiStatus.SecurityViolation, Under(request => request.CertificateExtensions.Add(authority), request => request.CertificateExtensions.Add(new("1.2.3.4", [5, 0], true))));
        Assert.Equal(EfiStatus.SecurityViolation, Under(request =>
        {
            request.CertificateExtensions.Add(authority);
            request.CertificateExtensions.Add(new("1.2.3.4", [5, 0], true));
        }));
        Assert.Equal(EfiStatus.SecurityViolation, Under(request =>
        {
            request.CertificateExtensions.Add(authority);
            request.CertificateExtensions.Add(new("2.5.29.30", [0x30, 0], false));
        }));
        Assert.Equal(EfiStatus.Success, Under(request => request.CertificateExtensions.Add(authority), request =>
            request.CertificateExtensions.Add(new X509EnhancedKeyUsageExtension([new("1.3.6.1.5.5.7.3.1")], true))));
    }

    [Fact]
    public void Chain_PathLimit_IsKept()
    {
        using TestSigner root = TestSigner.Make("Root", change: request => request.CertificateExtensions.Add(new X509BasicConstraintsExtension(true, true, 1, true)));
        using TestSigner one = TestSigner.Make("One", root);
        using TestSigner two = TestSigner.Make("Two", one);
        using TestSigner three = TestSigner.Make("Three", two);
        WriteUnsigned(KnownVariables.KeyExchangeKeys, root.List());
        Write(KnownVariables.PlatformKey, _owner, _owner.List());
        Assert.Equal(EfiStatus.Success, Write(KnownVariables.Allowed, one, Hashes(1)));
        Assert.Equal(EfiStatus.Success, Write(KnownVariables.Allowed, two, Hashes(1), 0, new() { Chain = [one] }));
        Assert.Equal(EfiStatus.SecurityViolation, Write(KnownVariables.Allowed, three, Hashes(1), 0, new() { Chain = [one, two] }));
    }

    [Fact]
    public void Chain_TrustedIntermediate_IsEnough()
    {
        using TestSigner between = TestSigner.Make("Between", _other);
        using TestSigner leaf = TestSigner.Make("Leaf", between);
        WriteUnsigned(KnownVariables.KeyExchangeKeys, between.List());
        Write(KnownVariables.PlatformKey, _owner, _owner.List());
        Assert.Equal(EfiStatus.Success, Write(KnownVariables.Allowed, leaf, Hashes(1)));
        Assert.Equal(EfiStatus.Success, Write(KnownVariables.Allowed, between, Hashes(1)));
        Assert.Equal(EfiStatus.SecurityViolation, Write(KnownVariables.Allowed, _other, Hashes(1)));
    }

    [Fact]
    public void Message_ABitAnywhereInWhatCounts_IsRefused()
    {
        EnterUserMode();
        byte[] lists = Hashes(1);
        byte[] good = _vendor.Write(KnownVariables.Allowed, Keys, s_time.AddSeconds(100), lists, new() { HasAttributes = true });
        int ignored = 0;
        for (int at = 0; at < good.Length; at++)
        {
            byte[] data = [.. good];
            data[at] ^= 0x10;
            EfiStatus status = _firmware.Set(KnownVariables.Allowed, Keys, data);
            if (status == EfiStatus.Success)
            {
                // Versions, the type of the content that is ignored, parameters of algorithms, the revision.
                ignored++;
                Assert.True(at is > 19 and < 22 || (at > 40 && at < good.Length - lists.Length - 256), $"byte {at}");
                Assert.Equal(EfiStatus.Success, Write(KnownVariables.Allowed, _owner, [], seconds: 200));
            }
        }

        Assert.InRange(ignored, 1, 40);
    }

    [Fact]
    public void Image_Keys_AreDeployedMode()
    {
        var keys = new SecureBootKeys(_owner.Der, _vendor.List(), Hashes(1), Hashes(2));
        _firmware = new(_storage, keys);
        AssertMode(0, 0, 1, 1);
        Assert.Equal(SignatureLists.OfCertificate(new("a4453a59-9e1b-4787-a033-1986d6adbe55"), _owner.Der), _firmware.Get(KnownVariables.PlatformKey));
        Assert.Equal(_vendor.List(), _firmware.Get(KnownVariables.KeyExchangeKeys));
        Assert.Equal(Hashes(1), _firmware.Get(KnownVariables.Allowed));
        Assert.Equal(Hashes(2), _firmware.Get(KnownVariables.Forbidden));
        Assert.Equal(EfiStatus.Success, Write(KnownVariables.Allowed, _vendor, Hashes(3)));

        // What was signed stays; what the image forbids is added.
        int commits = _storage.Commits;
        _firmware = new(_storage, keys);
        Assert.Equal(commits, _storage.Commits);
        Assert.Equal(Hashes(3), _firmware.Get(KnownVariables.Allowed));
        _firmware = new(_storage, keys with { Forbidden = Hashes(2, 4) });
        Assert.Equal([.. Hashes(2), .. Hashes(4)], _firmware.Get(KnownVariables.Forbidden)!);
        Assert.Equal(Hashes(3), _firmware.Get(KnownVariables.Allowed));
        AssertMode(0, 0, 1, 1);

        // Other keys of the image replace them, also those that were signed.
        _firmware = new(_storage, keys with { Allowed = Hashes(5) });
        Assert.Equal(Hashes(5), _firmware.Get(KnownVariables.Allowed));
        _firmware = new(_storage, keys);
        Assert.Equal(Hashes(1), _firmware.Get(KnownVariables.Allowed));
        Assert.Equal(EfiStatus.Success, Write(KnownVariables.Allowed, _vendor, Hashes(3)));

        // An owner who took the platform key away gets it again with the image.
        Assert.Equal(EfiStatus.Success, Write(KnownVariables.PlatformKey, _owner, []));
        AssertMode(1, 0, 0, 0);
        _firmware = new(_storage, keys);
        AssertMode(0, 0, 1, 1);

        // Also when the guest took one of its own meanwhile.
        Assert.Equal(EfiStatus.Success, Write(KnownVariables.PlatformKey, _owner, []));
        Assert.Equal(EfiStatus.Success, Write(KnownVariables.PlatformKey, _other, _other.List()));
        Assert.Equal(EfiStatus.Success, _firmware.Set(KnownVariables.DeployedMode, TestFirmware.Volatile, 1));
        _firmware = new(_storage, keys);
        AssertMode(0, 0, 1, 1);
        Assert.NotEqual(_other.List(), _firmware.Get(KnownVariables.PlatformKey));
        Assert.Equal(Hashes(1), _firmware.Get(KnownVariables.Allowed));
        Assert.Equal([.. Hashes(2), .. Hashes(4)], _firmware.Get(KnownVariables.Forbidden)!);
    }

    [Fact]
    public void Image_Keys_ReplaceThoseOfAGuest()
    {
        Assert.Equal(EfiStatus.Success, WriteUnsigned(KnownVariables.Allowed, _other.List()));
        Assert.Equal(EfiStatus.Success, WriteUnsigned(KnownVariables.KeyExchangeKeys, _other.List()));
        Assert.Equal(EfiStatus.Success, Write(KnownVariables.PlatformKey, _other, _other.List()));
        Assert.Equal(EfiStatus.Success, _firmware.Set(KnownVariables.DeployedMode, TestFirmware.Volatile, 1));
        _firmware = new(_storage, new SecureBootKeys(_owner.List(), default, Hashes(1), default));
        AssertMode(0, 0, 1, 1);
        Assert.Equal(_owner.List(), _firmware.Get(KnownVariables.PlatformKey));
        Assert.Null(_firmware.Get(KnownVariables.KeyExchangeKeys));
        Assert.Equal(Hashes(1), _firmware.Get(KnownVariables.Allowed));
    }

    [Fact]
    public void Image_Keys_AreTaken_WhenTheGuestHasFilledItsQuota()
    {
        int count = 0;
        while (_firmware.Set($"{count}", TestFirmware.NonVolatile, new byte[0x1000]) == EfiStatus.Success)
        {
            count++;
        }

        while (_firmware.Set($"{count}", TestFirmware.NonVolatile, 1) == EfiStatus.Success)
        {
            count++;
        }

        _firmware = new(_storage, new SecureBootKeys(_owner.Der, _vendor.List(), Hashes(1), Hashes(2)));
        AssertMode(0, 0, 1, 1);
        Assert.Equal(Hashes(1), _firmware.Get(KnownVariables.Allowed));
        Assert.Equal(EfiStatus.OutOfResources, _firmware.Set("more", TestFirmware.NonVolatile, 1));
        Assert.Equal(EfiStatus.OutOfResources, Write(KnownVariables.Forbidden, _vendor, Hashes(3), TestFirmware.Append));

        // The image's next version may have more of them.
        _firmware = new(_storage, new SecureBootKeys(_owner.Der, _vendor.List(_other), Hashes(1, 2), Hashes(2, 3)));
        Assert.Equal([.. Hashes(2), .. Hashes(3)], _firmware.Get(KnownVariables.Forbidden)!);
        Assert.Equal(EfiStatus.Success, _firmware.Set("0", TestFirmware.NonVolatile));
        Assert.Equal(EfiStatus.Success, _firmware.Set("1", TestFirmware.NonVolatile));
        Assert.Equal(EfiStatus.Success, _firmware.Set("more", TestFirmware.NonVolatile, 1));
    }

    [Fact]
    public void Image_Forbidden_WithoutRoomInTheGuests_ReplacesThem()
    {
        byte[] many = Entries(1300);
        Assert.Equal(EfiStatus.Success, WriteUnsigned(KnownVariables.Forbidden, many));
        var keys = new SecureBootKeys(_owner.Der, _vendor.List(), default, Entries(100, 7));
        _firmware = new(_storage, keys);
        AssertMode(0, 0, 1, 1);
        Assert.Equal(Entries(100, 7), _firmware.Get(KnownVariables.Forbidden));

        // What was signed under the image's keys is not given up.
        Assert.Equal(EfiStatus.Success, Write(KnownVariables.Forbidden, _vendor, many));
        Assert.Equal(VariableStoreResult.BadKeys, VariableStore.TryOpen(_storage, keys, out _));

        static byte[] Entries(int count, byte fill = 1) =>
        [
            .. Hashes()[..16], .. BitConverter.GetBytes(28 + (count * 48)), 0, 0, 0, 0, 48, 0, 0, 0,
            .. Enumerable.Range(0, count).SelectMany(i => (byte[])[.. TestFirmware.Vendor.ToByteArray(), .. BitConverter.GetBytes(i), .. Enumerable.Repeat(fill, 28)]),
        ];
    }

    [Fact]
    public void Image_BadKeys_AreRefused()
    {
        VariableStoreResult Open(SecureBootKeys keys) => VariableStore.TryOpen(_storage, keys, out _);
        Assert.Equal(VariableStoreResult.BadKeys, Open(new(default, _vendor.List(), default, default)));
        Assert.Equal(VariableStoreResult.BadKeys, Open(new(_owner.List(_vendor), default, default, default)));
        Assert.Equal(VariableStoreResult.BadKeys, Open(new(Hashes(1), default, default, default)));
        Assert.Equal(VariableStoreResult.BadKeys, Open(new(_owner.Der.AsMemory(0, _owner.Der.Length - 1), default, default, default)));
        Assert.Equal(VariableStoreResult.BadKeys, Open(new(_owner.List(), new byte[] { 1 }, default, default)));
        Assert.Equal(VariableStoreResult.BadKeys, Open(new(_owner.List(), default, _owner.List().AsMemory(1), default)));
        Assert.Equal(VariableStoreResult.BadKeys, Open(new(_owner.List(), default, default, "-----BEGIN CERTIFICATE-----"u8.ToArray())));
        Assert.Empty(_storage.Records);
        _storage.Fails = true;
        Assert.Equal(VariableStoreResult.Damaged, Open(new(_owner.List(), default, default, default)));
    }

    [Fact]
    public void Lists_Form_IsChecked()
    {
        byte[] good = Hashes(1, 2);
        Assert.Equal(EfiStatus.Success, WriteUnsigned(KnownVariables.Allowed, [.. good, .. _owner.List()]));
        foreach (int length in Enumerable.Range(1, good.Length - 1))
        {
            Assert.Equal(EfiStatus.InvalidParameter, WriteUnsigned(KnownVariables.Allowed, good[..length]));
        }

        foreach ((int at, byte value) in ((int, byte)[])[(0, 0), (16, 0), (16, 27), (16, (byte)(good.Length - 1)), (17, 1), (19, 0x80), (20, 1), (24, 0), (24, 15), (24, 16), (24, 47), (24, 96), (27, 0x80)])
        {
            byte[] bad = [.. good];
            bad[at] = value;
            Assert.Equal(EfiStatus.InvalidParameter, WriteUnsigned(KnownVariables.Allowed, bad));
        }

        byte[] notACertificate = SignatureLists.OfCertificate(TestFirmware.Vendor, _owner.Der.AsSpan(0, _owner.Der.Length - 1));
        Assert.Equal(EfiStatus.InvalidParameter, WriteUnsigned(KnownVariables.Allowed, notACertificate));
        using ECDsa curve = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        using X509Certificate2 onCurve = new CertificateRequest("CN=Curve", curve, HashAlgorithmName.SHA256).CreateSelfSigned(DateTimeOffset.UnixEpoch, DateTimeOffset.UnixEpoch.AddDays(1));
        Assert.Equal(EfiStatus.InvalidParameter, WriteUnsigned(KnownVariables.Allowed, SignatureLists.OfCertificate(TestFirmware.Vendor, onCurve.RawData)));
        Assert.Equal([.. good, .. _owner.List()], _firmware.Get(KnownVariables.Allowed)!);
    }
}
