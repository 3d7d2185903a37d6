// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Generic;
using System.Collections.Immutable;
using System.Globalization;
using System.IO;
using System.Linq;
using System.Security.Cryptography;
using System.Text.RegularExpressions;
using System.Threading.Tasks;
using Svsm.Attestation;
using Svsm.Boot;
using Svsm.Builder;
using Svsm.Simulator;
using Xunit;

namespace Svsm.Linux.Tests;

/// <summary>Debian's Linux, unmodified, at VMPL2 asks the SVSM for a report (samples/attest-guest), and the host verifies it.</summary>
public sealed partial class AttestationTests(LinuxGuest guest) : IClassFixture<LinuxGuest>
{
    [Theory]
    [InlineData(1, null)]
    [InlineData(2, "c476f1eb-0123-45a5-9641-b4e7dde5bfe3")]
    public async Task Report_ByConfigfs_Verifies(int vcpuCount, string? service)
    {
        byte[] nonce = RandomNumberGenerator.GetBytes(64);
        string octal = string.Concat(nonce.Select(value => $"\\{Convert.ToString(value, 8).PadLeft(3, '0')}"));
        MachineOptions options = await guest.PrepareWithSvsmAsync(
            $"""
            for module in configfs gf128mul ghash-generic crypto_null gcm tsm sev-guest; do insmod /modules/$module.ko.xz; done
            printf '{octal}' > /nonce
            mkdir /answer
            sh /attest.sh /nonce /answer {service} && echo "attest: done"
            for file in report certificates manifest; do od -An -v -tx1 /answer/$file | tr -d ' ' | sed "s/^/$file: /"; done
            """,
            vcpuCount,
            TestContext.Current.CancellationToken,
            modules: [PackagedModules.Attestation, PackagedModules.Vtpm]);
        MachineResult result = await Machine.RunAsync(options, TestContext.Current.CancellationToken);

        string console = LinuxGuest.ConsoleOf(result, vmpl: 2);
        Assert.True(console.Contains("attest: done\n", StringComparison.Ordinal), console + result.ConsoleText(0));
        Dictionary<string, byte[]> answer = Answer().Matches(console).GroupBy(match => match.Groups[1].Value, match => match.Groups[2].Value)
            .ToDictionary(group => group.Key, group => Convert.FromHexString(string.Concat(group)));

        var evidence = new AttestationEvidence
        {
            Report = AttestationReport.Parse(answer["report"], "report"),
            Certificates = CertificateFile.Read(answer["certificates"], "certificates"),
            Binding = (nonce, answer["manifest"]),
        };
        var root = TrustedRoot.FromCertificate(CertificateFile.Read(await File.ReadAllBytesAsync(Path.Combine(guest.ChipFolder, "ark.pem"), TestContext.Current.CancellationToken), "ark.pem")[0]);
        byte[] values = await File.ReadAllBytesAsync(Path.ChangeExtension(options.ImagePath!, ".reference-values.json"), TestContext.Current.CancellationToken);
        ImmutableArray<AttestationCheck> checks = AttestationVerifier.Verify(evidence, root, ReferenceValues.Parse(values, "reference values"), DateTimeOffset.UtcNow);
        Assert.All(checks, check => Assert.True(check.Outcome == AttestationOutcome.Pass, check.ToString()));

        byte[] manifest = service is null ? Assert.Single(ServicesManifest.Parse(answer["manifest"], "manifest")).Manifest.ToArray() : answer["manifest"];
        Assert.Equal("RSA", EndorsementKey.TryRead(manifest)!.Kind);
    }

    // Linux repeats a call that is not answered yet with interrupts off. So the vCPU that asks hears nothing for two seconds; the others go on.
    [Fact]
    public async Task Call_ThatTakesTwoSeconds_LeavesTheOtherVcpusAlone()
    {
        MachineOptions options = await guest.PrepareWithSvsmAsync(
            """
            for module in configfs gf128mul ghash-generic crypto_null gcm tsm sev-guest; do insmod /modules/$module.ko.xz; done
            mount -t configfs none /sys/kernel/config
            mkdir /sys/kernel/config/tsm/report/slow
            cd /sys/kernel/config/tsm/report/slow
            echo svsm > service_provider
            printf %064d 0 > inblob
            echo 'i=0; while [ ! -e /answered ]; do i=$((i + 1)); echo $i > $1; done' > /count.sh
            # A file that is just being written is empty.
            read_count() { n=; while [ -z "$n" ]; do n=$(cat $1 2> /dev/null); done; echo $n; }
            taskset 2 sh /count.sh /count.1 &
            taskset 4 sh /count.sh /count.2 &
            sleep 0.2
            echo "before: $(read_count /count.1) $(read_count /count.2)"
            taskset 1 sh -c "cat outblob > /dev/null || echo refused"
            echo "after: $(read_count /count.1) $(read_count /count.2)"
            touch /answered
            wait
            """,
            3,
            TestContext.Current.CancellationToken,
            "TestModules",
            new ModuleOptions { TypeName = "Svsm.TestModule.SlowAttestingModule", Protocol = 1 });
        MachineResult result = await Machine.RunAsync(options, TestContext.Current.CancellationToken);

        string console = LinuxGuest.ConsoleOf(result, vmpl: 2);
        Assert.Contains("refused\n", console, StringComparison.Ordinal);
        Assert.Contains("SlowAttestingModule: refused, at last", result.ConsoleText(0), StringComparison.Ordinal);
        Match[] counts = [.. Counts().Matches(console).Cast<Match>()];
        Assert.Equal(["before", "after"], counts.Select(match => match.Groups[1].Value));
        for (int vcpu = 2; vcpu <= 3; vcpu++)
        {
            int before = int.Parse(counts[0].Groups[vcpu].Value, CultureInfo.InvariantCulture);
            int after = int.Parse(counts[1].Groups[vcpu].Value, CultureInfo.InvariantCulture);

            // Two seconds of its own: it had done something in a fifth of one.
            Assert.True(before > 0 && after > 2 * before, console);
        }

        Assert.DoesNotContain("lockup", console, StringComparison.OrdinalIgnoreCase);
        Assert.DoesNotContain("stall", console, StringComparison.OrdinalIgnoreCase);
    }

    [GeneratedRegex("^(before|after): ([0-9]+) ([0-9]+)$", RegexOptions.Multiline)]
    private static partial Regex Counts();

    [GeneratedRegex("^(report|certificates|manifest): ([0-9a-f]+)$", RegexOptions.Multiline)]
    private static partial Regex Answer();
}
