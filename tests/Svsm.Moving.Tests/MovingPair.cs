// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Two machines with the same image: one whose guest runs, and one that waits for it; and a folder with everything that they need. The image is signed, and
// its policy of migration allows whoever its author has signed, on chips of the simulated root. The target can be thrown away for another one; and one that has the
// guest can be the next source.

using System;
using System.Collections.Generic;
using System.Globalization;
using System.IO;
using System.Linq;
using System.Reflection;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Threading.Tasks;
using Svsm.Boot;
using Svsm.Builder;
using Svsm.EndToEnd.Tests;
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
    private SvsmImageOptions? _image;
    private Func<MachineOptions, MachineOptions> _machine = options => options;
    private bool _hasDisks;
    private int _machines;

    public MachineTest Source => _source!;

    public MachineTest Target => _target!;

    /// <summary>The kernel, as it is.</summary>
    public static string KernelPath => ArtifactOf("Kernel");

    public string SourceSocket { get; private set; } = "";

    public string TargetSocket { get; private set; } = "";

    /// <summary>Builds the image, and starts both machines.</summary>
    /// <param name="command">What the probe guest does; of Linux: commands of a shell.</param>
    /// <param name="vcpuCount">vCPUs.</param>
    /// <param name="linux">The guest is this; null: the probe guest.</param>
    /// <param name="modules">Modules besides attestation and migration.</param>
    /// <param name="alterKernel">Changes the ELF file of the SVSM's kernel.</param>
    /// <param name="countInstructions">Ticks of the machines are instructions.</param>
    /// <param name="hasDisks">Each machine has a new disk of the SVSM, prepared for a store: the file of <see cref="DiskOf"/>.</param>
    public static async Task<MovingPair> StartAsync(
        string command, int vcpuCount, LinuxGuest? linux = null, ModuleOptions[]? modules = null, Action<byte[]>? alterKernel = null, bool countInstructions = false,
        bool hasDisks = false)
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

        var pair = new MovingPair { _machine = machine => machine with { VcpuCount = vcpuCount, CountInstructions = countInstructions }, _hasDisks = hasDisks };
        try
        {
            pair.Build(options);
            await pair.StartTargetAsync();
            await pair.StartSourceAsync();
            return pair;
        }
        catch
        {
            await pair.DisposeAsync();
            throw;
        }
    }

    /// <summary>Throws the target away, if there is one, and starts another one.</summary>
    /// <param name="image">Its image: <c>image</c>, or one that <see cref="BuildOther"/> has made.</param>
    /// <param name="alter">Changes the machine.</param>
    public async Task StartTargetAsync(string image = "image", Func<MachineOptions, MachineOptions>? alter = null)
    {
        if (_target is not null)
        {
            await _target.DisposeAsync();
        }

        (_target, TargetSocket) = await StartMachineAsync(MigrationRole.Target, image, alter);
    }

    /// <summary>Throws the source away, if there is one, and starts another one with a new guest.</summary>
    /// <param name="image">Its image, likewise.</param>
    public async Task StartSourceAsync(string image = "image")
    {
        if (_source is not null)
        {
            await _source.DisposeAsync();
        }

        (_source, SourceSocket) = await StartMachineAsync(MigrationRole.Source, image);
    }

    /// <summary>The target has the guest: it is the source from here on, the source is thrown away, and there is another target.</summary>
    public async Task AdvanceAsync()
    {
        await _source!.DisposeAsync();
        (_source, SourceSocket, _target) = (_target, TargetSocket, null);
        await StartTargetAsync();
    }

    /// <summary>Makes another image with the same guest.</summary>
    /// <param name="name">Its name.</param>
    /// <param name="alter">Changes what it is.</param>
    public void BuildOther(string name, Func<SvsmImageOptions, SvsmImageOptions> alter) =>
        SvsmImageWriter.WriteFiles(alter(_image!), _folder.FullName, name, [HostFlavour.Qemu]);

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

    /// <summary>Starts a machine, which whoever calls disposes of.</summary>
    /// <param name="role">Source or target.</param>
    /// <param name="image">Its image, likewise.</param>
    /// <param name="alter">Changes the machine.</param>
    /// <returns>The machine, and the socket of its channel.</returns>
    public async Task<(MachineTest Machine, string Socket)> StartMachineAsync(MigrationRole role, string image = "image", Func<MachineOptions, MachineOptions>? alter = null)
    {
        string name = string.Create(CultureInfo.InvariantCulture, $"machine{++_machines}");
        MachineOptions options = _machine(new MachineOptions
        {
            ImagePath = PathOf(image + ".igvm"),
            HypervisorPath = ArtifactOf("Hypervisor"),
            ChipFolder = PathOf("chip"),
            MemoryMiB = MemoryMiB,
            Timeout = s_hang,
            Migration = new(role, PathOf(name)),
            Output = Environment.GetEnvironmentVariable("SVSM_TEST_OUTPUT") is null ? null : new NamedLines(name),
        });
        if (_hasDisks)
        {
            string disk = DiskOf(options.Migration!.SocketPath);
            TestStoreDisk.Prepare(disk);
            options = options with { SvsmDisks = [new SvsmDisk(disk)] };
        }

        return (await MachineTest.StartAsync(alter is null ? options : alter(options), TestContext.Current.CancellationToken), options.Migration!.SocketPath);
    }

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
        _image = options;
        SvsmImageWriter.WriteFiles(options, _folder.FullName, "image", [HostFlavour.Qemu]);
    }

    /// <summary>The disk of a machine.</summary>
    /// <param name="socket">The socket of its channel.</param>
    public static string DiskOf(string socket) => socket + ".disk";

    /// <summary>A path in its folder.</summary>
    public string PathOf(string name) => Path.Combine(_folder.FullName, name);

    // For whoever looks at a failing test.
    private sealed class NamedLines(string name) : StringWriter
    {
        public override void WriteLine(string? value) => Console.WriteLine($"{name}: {value}");

        public override Task WriteLineAsync(string? value)
        {
            WriteLine(value);
            return Task.CompletedTask;
        }
    }

    /// <summary>Makes a key for signing an image.</summary>
    public static string NewKey()
    {
        using var key = ECDsa.Create(ECCurve.NamedCurves.nistP384);
        return key.ExportECPrivateKeyPem();
    }

    private static string ArtifactOf(string key) =>
        typeof(MovingPair).Assembly.GetCustomAttributes<AssemblyMetadataAttribute>().Single(attribute => attribute.Key == key).Value!;
}
