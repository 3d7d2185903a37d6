// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.IO;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Threading.Tasks;
using Xunit;

namespace Svsm.Vtpm.Clients.Tests;

// What needs more than one run of the server, or a certificate authority.
public sealed class RestartTests
{
    [Fact]
    public async Task Persistent_ObjectAndIndex_OutliveTheServer()
    {
        using var tpm = new DeskTpm();
        await tpm.RunAsync("""
            tpm2_startup -c
            tpm2_createprimary -C o -G ecc -c prim > /dev/null
            tpm2_evictcontrol -C o -c prim 0x81000001 > /dev/null
            flush
            printf 'secret' | tpm2_create -C 0x81000001 -i- -u pub -r priv > /dev/null
            tpm2_nvdefine 0x1500001 -C o -s 8 -a 'ownerread|ownerwrite|nt=counter' > /dev/null
            tpm2_nvincrement 0x1500001 -C o
            """);
        tpm.Restart();
        await tpm.RunAsync("""
            tpm2_startup -c
            tpm2_load -C 0x81000001 -u pub -r priv -c sealed > /dev/null
            same "$(tpm2_unseal -c sealed)" secret
            tpm2_nvincrement 0x1500001 -C o
            same "$(tpm2_nvread 0x1500001 -C o -s 8 | xxd -p)" 0000000000000002
            """, "swtpm");
    }

    [Fact]
    public async Task Shutdown_State_ResumesInAnotherServer()
    {
        using var tpm = new DeskTpm();
        await tpm.RunAsync("""
            tpm2_startup -c
            tpm2_pcrextend 2:sha256=$(printf 'a' | sha256sum | cut -d' ' -f1)
            tpm2_pcrread sha256:2 -o before > /dev/null
            tpm2_startauthsession -S session
            tpm2_shutdown
            """);
        tpm.Restart();
        await tpm.RunAsync("""
            tpm2_startup
            tpm2_pcrread sha256:2 -o after > /dev/null
            cmp before after
            tpm2_policycommandcode -S session TPM2_CC_Unseal > /dev/null
            tpm2_flushcontext session
            """);
    }

    [Fact]
    public async Task Manufacture_WithoutSha1_HasNoSuchBank()
    {
        using var tpm = new DeskTpm(hasSha1Bank: false);
        await tpm.RunAsync("""
            tpm2_startup -c
            tpm2_getcap pcrs > banks
            has 'sha1: \[ \]' < banks
            has 'sha256: \[ 0, 1, ' < banks
            tpm2_pcrallocate -Q sha1:all+sha256:all
            tpm2_shutdown -c
            """);
        tpm.Restart();
        await tpm.RunAsync("""
            tpm2_startup -c
            tpm2_getcap pcrs | has 'sha1: \[ 0, 1, '
            """);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task Manufacture_WithAuthority_CertificatesAreReadAndVerify(bool rsaAuthority)
    {
        using RSA rsa = RSA.Create(2048);
        using ECDsa ec = ECDsa.Create(ECCurve.NamedCurves.nistP384);
        CertificateRequest request = rsaAuthority
            ? new CertificateRequest("CN=Test authority", rsa, HashAlgorithmName.SHA256, RSASignaturePadding.Pkcs1)
            : new CertificateRequest("CN=Test authority", ec, HashAlgorithmName.SHA384);
        request.CertificateExtensions.Add(new X509BasicConstraintsExtension(true, false, 0, true));
        request.CertificateExtensions.Add(new X509SubjectKeyIdentifierExtension(request.PublicKey, false));
        using X509Certificate2 authority = request.CreateSelfSigned(DateTimeOffset.UtcNow.AddDays(-1), DateTimeOffset.UtcNow.AddYears(10));
        using var tpm = new DeskTpm(authority);
        await File.WriteAllTextAsync(Path.Combine(tpm.Folder, "ca.pem"), authority.ExportCertificatePem(), TestContext.Current.CancellationToken);
        await tpm.RunAsync("""
            tpm2_startup -c
            tpm2_getekcertificate -o rsa.der -o ecc.der
            for key in rsa ecc; do
                openssl x509 -inform der -in $key.der -out $key.pem
                openssl verify -ignore_critical -CAfile ca.pem $key.pem
                openssl x509 -in $key.pem -noout -pubkey > $key.certified
            done
            tpm2_createek -G rsa -u rsa.pub -c rsa.ctx
            flush
            tpm2_readpublic -c rsa.ctx -f pem -o rsa.key > /dev/null
            flush
            cmp rsa.key rsa.certified
            tpm2_createek -G ecc -u ecc.pub -c ecc.ctx
            flush
            tpm2_readpublic -c ecc.ctx -f pem -o ecc.key > /dev/null
            flush
            cmp ecc.key ecc.certified
            fails 'locked\|auth' tpm2_nvwrite 0x01c00002 -C p -i rsa.der
            """);
    }
}
