// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Two machines with the same image: one whose guest runs, and one that waits for it; and a folder with everything that they need. The image is signed, and
// its policy of migration allows whoever its author has signed, on chips of the simulated root.

using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Reflection;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Threading.Tasks;
using Svsm.Boot;
using Svsm.Builder;
using Svsm.Linux.Tests;
using Svsm.Measurement;
using Svsm.Migration;
using Svsm.Simulator;
using Svsm.Wire;
using Xunit;
using MigrationRole = Svsm.Simulator.MigrationRole;

namespace Svsm.Moving.Tests;

/// <summary>A guest, the machine that it runs on, and the one that it is to run on.</summary>
internal sealed class MovingPair : IAsyncDisposable
{
    // Far beyond what a run takes on a busy machine; only a hang gets there, and then it fails the test.
    private static readonly TimeSpan s_hang = TimeSpan.FromMinutes(30);

    // The SVSM's region ends at 156 MiB.
    private const int MemoryMiB = 160;

    private readonly DirectoryInfo _folder = Directory.CreateTempSubdirectory("svsm-moving-");
    private MachineTest? _source;
    private MachineTest? _target;

    public MachineTest Source => _source!;

    public MachineTest Target => _target!;

    /// <summary>The kernel, as it is.</summary>
    public static string KernelPath => ArtifactOf("Kernel");

    public string SourceSocket => PathOf("source.socket");

    public string TargetSocket => PathOf("target.socket");

    private string ImagePath => PathOf("image.igvm");

    /// <summary>Builds the image, and starts both machines.</summary>
    /// <param name="command">What the probe guest does; of Linux: commands of a shell.</param>
    /// <param name="vcpuCount">vCPUs.</param>
    /// <param name="linux">The guest is this; null: the probe guest.</param>
    /// <param name="modules">Modules besides attestation and migration.</param>
    /// <param name="alterKernel">Changes the ELF file of the SVSM's kernel.</param>
    /// <param name="countInstructions">Ticks of the machines are instructions.</param>
    public static async Task<MovingPair> StartAsync(
        string command, int vcpuCount, LinuxGuest? linux = null, ModuleOptions[]? modules = null, Action<byte[]>? alterKernel = null, bool countInstructions = false)
    {
        byte[] kernel = File.ReadAllBytes(KernelPath);
        alterKernel?.Invoke(kernel);
        var options = new SvsmImageOptions { Kernel = kernel, Modules = [.. modules ?? []] };
        if (linux is not null)
        {
            options = options with
            {
                Linux = new LinuxGuestOptions
                {
                    Kernel = await File.ReadAllBytesAsync(linux.KernelPath, TestContext.Current.CancellationToken),
                    InitialRamDisk = linux.Pack(command),
                    CommandLine = "console=ttyS0 panic=-1 reboot=acpi",
                },
            };
        }
        else
        {
            byte[] guest = File.ReadAllBytes(ArtifactOf("ProbeGuest"));
            ProbeCommand.Set(guest, command);
            options = options with { GuestPayload = guest };
        }

        var pair = new MovingPair();
        try
        {
            pair.Build(options);
            pair._target = await MachineTest.StartAsync(pair.Options(vcpuCount, MigrationRole.Target) with { CountInstructions = countInstructions }, TestContext.Current.CancellationToken);
            pair._source = await MachineTest.StartAsync(pair.Options(vcpuCount, MigrationRole.Source) with { CountInstructions = countInstructions }, TestContext.Current.CancellationToken);
            return pair;
        }
        catch
        {
            await pair.DisposeAsync();
            throw;
        }
    }

    public async ValueTask DisposeAsync()
    {
        if (_source is not null)
        {
            await _source.DisposeAsync();
        }

        if (_target is not null)
        {
            await _target.DisposeAsync();
        }

        _folder.Delete(recursive: true);
    }

    private MachineOptions Options(int vcpuCount, MigrationRole role) => new()
    {
        ImagePath = ImagePath,
        HypervisorPath = ArtifactOf("Hypervisor"),
        VcpuCount = vcpuCount,
        ChipFolder = PathOf("chip"),
        MemoryMiB = MemoryMiB,
        Timeout = s_hang,
        Migration = new(role, role == MigrationRole.Source ? SourceSocket : TargetSocket),
        Output = Environment.GetEnvironmentVariable("SVSM_TEST_OUTPUT") is null ? null : new NamedLines(role),
    };

    private void Build(SvsmImageOptions options)
    {
        using SimulatedChip chip = SimulatedChip.Open(PathOf("chip"));
        using X509Certificate2 ark = X509CertificateLoader.LoadCertificate(chip.Ark.Span);
        byte[] family = [.. Enumerable.Range(1, 16).Select(i => (byte)i)];
        string author = NewKey();
        byte[] policy = MigrationPolicy.Make(
            SHA384.HashData(ark.PublicKey.ExportSubjectPublicKeyInfo()), 0,
            [new MigrationRule(Convert.FromHexString(IdKey.FromPem(author).Digest.ToString()), family, 3)]);
        ModuleOptions migration = PackagedModules.Migration;
        options = options with
        {
            Modules = [PackagedModules.Attestation, migration, .. options.Modules],
            Files =
            [
                new ModuleFile(ModuleOptions.DefaultProgram, File.ReadAllBytes(ArtifactOf("Modules"))),
                new ModuleFile(MigrationPolicy.Path, policy) { Readers = [migration.Protocol] },
            ],
            Identity = new ImageIdentity { IdKeyPem = NewKey(), AuthorKeyPem = author, FamilyId = family, GuestSvn = 3 },
        };
        SvsmImageWriter.WriteFiles(options, _folder.FullName, "image", [HostFlavour.Qemu]);
    }

    /// <summary>A path in its folder.</summary>
    public string PathOf(string name) => Path.Combine(_folder.FullName, name);

    // For whoever looks at a failing test.
    private sealed class NamedLines(MigrationRole role) : StringWriter
    {
        public override void WriteLine(string? value) => Console.WriteLine($"{role}: {value}");

        public override Task WriteLineAsync(string? value)
        {
            WriteLine(value);
            return Task.CompletedTask;
        }
    }

    private static string NewKey()
    {
        using var key = ECDsa.Create(ECCurve.NamedCurves.nistP384);
        return key.ExportECPrivateKeyPem();
    }

    private static string ArtifactOf(string key) =>
        typeof(MovingPair).Assembly.GetCustomAttributes<AssemblyMetadataAttribute>().Single(attribute => attribute.Key == key).Value!;
}
