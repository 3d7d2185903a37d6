// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Attestation in the machine: its module and the virtual TPM (Svsm.Modules.Attestation, Svsm.Modules.Vtpm), compiled as an image's program is, as processes of
// the real kernel, the simulated security processor behind them, and the verifier of svsm attest verify. What the guest asks is in
// Svsm.Simulator/ProbeGuest/AttestCalls.cs.

using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using System.Collections.Immutable;
using System.IO;
using System.Linq;
using System.Security.Cryptography;
using System.Text.RegularExpressions;
using System.Threading.Tasks;
using Svsm.Attestation;
using Svsm.Boot;
using Svsm.Builder;
using Svsm.Simulator;
using Svsm.Simulator.Shared;
using Svsm.Wire;
using Xunit;

namespace Svsm.EndToEnd.Tests;

/// <summary>The chip of these tests: its keys take seconds to make.</summary>
public sealed class ChipFolder : IDisposable
{
    private readonly DirectoryInfo _folder = Directory.CreateTempSubdirectory("svsm-e2e-chip-");

    public string Path => System.IO.Path.Combine(_folder.FullName, "chip");

    public TrustedRoot Root => TrustedRoot.FromCertificate(CertificateFile.Read(File.ReadAllBytes(System.IO.Path.Combine(Path, "ark.pem")), "ark.pem")[0]);

    public void Dispose() => _folder.Delete(recursive: true);
}

public sealed partial class AttestationTests(ChipFolder chip) : IClassFixture<ChipFolder>
{
    // SW_EXITINFO1 and SW_EXITINFO2 in the GHCB page, and what a host says in the second one that is busy with a guest request.
    private const ulong Info1Offset = 0x398;
    private const ulong Info2Offset = 0x3A0;
    private const ulong Busy = 2ul << 32;

    // Certificate pages in the GHCB page, and what a host says when they are too few.
    private const ulong RbxOffset = 0x318;
    private const ulong BadLength = 1ul << 32;

    [Theory]
    [InlineData(1, 2)]
    [InlineData(1, 3)]
    [InlineData(4, 5)]
    public async Task Reports_OfAllVcpus_Verify(int vcpuCount, int version)
    {
        using ImageUnderTest image = Build("attest:3");
        byte[] data = RandomNumberGenerator.GetBytes(MachineOptions.HostDataLength);
        MachineResult result = await RunAsync(image, options => options with { VcpuCount = vcpuCount, CountInstructions = true, ReportVersion = version, HostData = data });

        AssertPassed(result);
        AssertVerifies(image, result, vcpuCount, version, data);
    }

    [Fact]
    public async Task Reports_OfVcpusInThreads_Verify()
    {
        using ImageUnderTest image = Build("attest:3");
        MachineResult result = await RunAsync(image, options => options with { VcpuCount = 2, Threads = true });

        AssertPassed(result);
        AssertVerifies(image, result, 2);
    }

    // The security processor has not seen the request: the very bytes come again, in the next call of the guest at last.
    [Fact]
    public async Task HostIsBusy_ReportVerifies()
    {
        using ImageUnderTest image = Build("attest:2");
        MachineResult result = await RunAsync(image, options => options with { CountInstructions = true, Attacks = [.. Enumerable.Range(1, 5).SelectMany(BusyAt)] });

        Assert.All(result.Attacks, attack => Assert.Equal(AttackOutcome.Done, attack.Outcome));
        AssertPassed(result);
        AssertVerifies(image, result, 1);
    }

    // A number of certificate pages that is wrong, with the answer: it is not looked at, for the room is the SVSM's own.
    [Theory]
    [InlineData(0)]
    [InlineData(5)]
    [InlineData(ulong.MaxValue)]
    public async Task HostReturnsAnotherCertificateLength_ReportVerifies(ulong pages)
    {
        AttackTime request = AttackTime.AtRequest(1, (ulong)GhcbExitCode.ExtendedGuestRequest);
        using ImageUnderTest image = Build("attest:2");
        MachineResult result = await RunAsync(image, options => options with { CountInstructions = true, Attacks = [Attack.Answer(RbxOffset, pages, request)] });

        Assert.Equal(AttackOutcome.Done, Assert.Single(result.Attacks).Outcome);
        AssertPassed(result);
        AssertVerifies(image, result, 1);
    }

    // Without having looked at the request: the report comes without certificates, which the guest counts as one wrong answer. The next has them again.
    [Theory]
    [InlineData(0)]
    [InlineData(5)]
    [InlineData(ulong.MaxValue)]
    public async Task HostWantsMoreRoom_ReportComesWithoutCertificates(ulong pages)
    {
        AttackTime request = AttackTime.AtRequest(1, (ulong)GhcbExitCode.ExtendedGuestRequest);
        using ImageUnderTest image = Build("attest:2");
        MachineResult result = await RunAsync(
            image,
            options => options with
            {
                CountInstructions = true,
                Attacks = [Attack.Ignore(request), Attack.Answer(Info1Offset, 0, request), Attack.Answer(Info2Offset, BadLength, request), Attack.Answer(RbxOffset, pages, request)],
            });

        Assert.Equal(4, result.Attacks.Length);
        string guest = result.ConsoleText((int)Vmpl.Vmpl2);
        Assert.True(result.ExitStatus == 1, result + "\n" + guest);
        Assert.Contains("attest: wrong answers", Assert.Single(guest.Split('\n'), line => line.StartsWith("probe: FAIL ", StringComparison.Ordinal)), StringComparison.Ordinal);
        Assert.Empty(Lines(result, "no reports and no keys: "));
        AssertVerifies(image, result, 1);
    }

    public static TheoryData<string> Lies => ["tear", "repeat", "error", "lost", "length"];

    // The guest is told, the key is given up, and no report comes any more.
    [Theory]
    [MemberData(nameof(Lies))]
    public async Task HostLies_ThereAreNoReports(string lie)
    {
        AttackTime request = AttackTime.AtRequest(1, (ulong)GhcbExitCode.ExtendedGuestRequest);
        Attack[] attacks = lie switch
        {
            "tear" => [Attack.TearMessage(1, 5)],
            "repeat" => [Attack.TearRequest(1, 5)],
            "error" => [Attack.Answer(Info2Offset, 0x16, request)],

            // The security processor had it, and the host says that it is busy, or wants more room than there is memory.
            "lost" => [Attack.Answer(Info2Offset, Busy, request)],
            _ => [Attack.Answer(Info2Offset, BadLength, request), Attack.Answer(RbxOffset, ulong.MaxValue, request)],
        };
        using ImageUnderTest image = Build("attest-none:3");
        MachineResult result = await RunAsync(image, options => options with { CountInstructions = true, Attacks = attacks });

        Assert.Equal(attacks.Length, result.Attacks.Length);
        Assert.All(result.Attacks, attack => Assert.Equal(AttackOutcome.Done, attack.Outcome));
        AssertPassed(result);
        Assert.Single(Lines(result, "no reports and no keys: "));
    }

    // Not even once: the module ends before or after each of its calls of the kernel, and another process goes on. The security processor refuses
    // a number that comes twice. The fourth step is after the request was sent: once with an answer, once with a host that is busy.
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task ModuleEnds_AtEachStep_NextOneGoesOn(bool busy)
    {
        const int Steps = 8;
        var module = new ModuleOptions
        {
            TypeName = "Svsm.TestAttestation.FailingAttestationModule",
            Protocol = 0x8000_0001,
            Permissions = ModulePermissions.Attest,
            RestartLimit = Steps,
        };
        using ImageUnderTest image = ImageUnderTest.Build($"attest-fail:{Steps}", modules: [module], program: File.ReadAllBytes(ImageUnderTest.PathOf("TestAttestation")));
        MachineResult result = await RunAsync(image, options => options with { CountInstructions = true, Attacks = busy ? [.. BusyAt(4)] : [] });

        AssertPassed(result);
        Assert.Equal(Steps, Lines(result, "exited with status 1").Count());
        Assert.Empty(Lines(result, "no reports and no keys: "));
    }

    // A host that looks at nothing and says that it is busy.
    private static Attack[] BusyAt(int number)
    {
        AttackTime time = AttackTime.AtRequest((ulong)number, (ulong)GhcbExitCode.ExtendedGuestRequest);
        return [Attack.Ignore(time), Attack.Answer(Info1Offset, 0, time), Attack.Answer(Info2Offset, Busy, time)];
    }

    private static ImageUnderTest Build(string command) =>
        ImageUnderTest.Build(command, modules: [PackagedModules.Attestation, PackagedModules.Vtpm], program: File.ReadAllBytes(ImageUnderTest.PathOf("TestAttestation")));

    private Task<MachineResult> RunAsync(ImageUnderTest image, Func<MachineOptions, MachineOptions> how) => ImageUnderTest.RunAsync(how(image.Options() with { ChipFolder = chip.Path, Timeout = TimeSpan.FromMinutes(15) }));

    private void AssertVerifies(ImageUnderTest image, MachineResult result, int vcpuCount, int version = 2, byte[]? hostData = null)
    {
        var reference = ReferenceValues.Parse(image.Written.Files.ReferenceValuesJson, "reference values");
        Dictionary<string, byte[]> answers = result.ConsoleText((int)Vmpl.Vmpl2).Split('\n').Select(line => Answer().Match(line)).Where(match => match.Success)
            .GroupBy(match => match.Groups[1].Value, match => match.Groups[2].Value)
            .ToDictionary(group => group.Key, group => Convert.FromHexString(string.Concat(group)));
        Assert.Equal(4 * vcpuCount, answers.Count);
        for (int cpu = 0; cpu < vcpuCount; cpu++)
        {
            byte[] manifest = answers[$"{cpu} manifest"];
            Assert.Equal((uint)version, BinaryPrimitives.ReadUInt32LittleEndian(answers[$"{cpu} report"]));
            var evidence = new AttestationEvidence
            {
                Report = AttestationReport.Parse(answers[$"{cpu} report"], "report"),
                Certificates = CertificateFile.Read(answers[$"{cpu} certificates"], "certificates"),
                Binding = (answers[$"{cpu} nonce"], manifest),
            };
            Assert.Equal(hostData ?? new byte[MachineOptions.HostDataLength], evidence.Report.HostData.ToArray());
            ImmutableArray<AttestationCheck> checks = AttestationVerifier.Verify(evidence, chip.Root, reference, DateTimeOffset.UtcNow);
            Assert.All(checks, check => Assert.True(check.Outcome == AttestationOutcome.Pass, check.ToString()));

            // The endorsement key of a vTPM: RSA-2048 with a name by SHA-256, restricted decryption.
            ServiceManifest service = Assert.Single(ServicesManifest.Parse(manifest, "manifest"));
            Assert.Equal(ServiceManifest.Vtpm, service.Id);
            Assert.Equal([0x00, 0x01, 0x00, 0x0B], service.Manifest.Span[..4].ToArray());
            Assert.Equal("RSA", EndorsementKey.TryRead(service.Manifest.Span)!.Kind);
            Assert.Equal(answers["0 manifest"], manifest);
        }
    }

    private static IEnumerable<string> Lines(MachineResult result, string part) =>
        result.ConsoleText((int)Vmpl.Vmpl0).Split('\n').Where(line => line.Contains(part, StringComparison.Ordinal));

    private static void AssertPassed(MachineResult result) =>
        Assert.True(result.ExitStatus == 0, result + "\n" + result.ConsoleText((int)Vmpl.Vmpl2) + "\n" + result.ConsoleText((int)Vmpl.Vmpl0));

    [GeneratedRegex("^attest: ([0-9]+ [a-z]+) ([0-9A-Fa-f]+)")]
    private static partial Regex Answer();
}
