// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// An image of the real kernel and the probe guest, built into a folder of its own, and booted on the simulated machine.

using System;
using System.Collections.Immutable;
using System.IO;
using System.Linq;
using System.Reflection;
using System.Runtime.InteropServices;
using System.Threading;
using System.Threading.Tasks;
using Svsm.Boot;
using Svsm.Builder;
using Svsm.Igvm;
using Svsm.Simulator;
using Svsm.Wire;
using Xunit;

namespace Svsm.EndToEnd.Tests;

internal sealed class ImageUnderTest : IDisposable
{
    // Far beyond what a run takes on a busy machine; only a hang gets there, and then it fails the test.
    private static readonly TimeSpan s_hang = TimeSpan.FromMinutes(3);

    private readonly DirectoryInfo _folder;

    private ImageUnderTest(DirectoryInfo folder, WrittenSvsmImage written)
    {
        _folder = folder;
        Written = written;
    }

    public WrittenSvsmImage Written { get; }

    public byte[] LaunchDigest => Written.Files.LaunchDigest.ToArray();

    /// <summary>Builds an image.</summary>
    /// <param name="command">What the probe guest is to do instead of its checks; empty: the checks.</param>
    /// <param name="flavour">The host it is for.</param>
    /// <param name="alterKernel">Changes the kernel's ELF file before it is built in.</param>
    /// <param name="selfCheck">The kernel checks itself: tests/Svsm.SelfCheck.</param>
    /// <param name="alterOptions">Changes what the image is built from.</param>
    /// <param name="modules">Modules of the image.</param>
    /// <param name="program">Their program, null: that of tests/Svsm.TestModules.</param>
    public static ImageUnderTest Build(
        string command = "", HostFlavour flavour = HostFlavour.Qemu, Action<byte[]>? alterKernel = null, bool selfCheck = false,
        Func<SvsmImageOptions, SvsmImageOptions>? alterOptions = null, ImmutableArray<ModuleOptions> modules = default, byte[]? program = null)
    {
        byte[] kernel = File.ReadAllBytes(PathOf(selfCheck ? "SelfCheck" : "Kernel"));
        alterKernel?.Invoke(kernel);
        byte[] guest = File.ReadAllBytes(PathOf("ProbeGuest"));
        ProbeCommand.Set(guest, command);
        var options = new SvsmImageOptions { Kernel = kernel, GuestPayload = guest, Modules = modules.IsDefault ? [] : modules };
        if (!options.Modules.IsEmpty)
        {
            options = options with { Files = [new ModuleFile(ModuleOptions.DefaultProgram, program ?? File.ReadAllBytes(PathOf("TestModules")))] };
        }

        options = alterOptions?.Invoke(options) ?? options;
        DirectoryInfo folder = Directory.CreateTempSubdirectory("svsm-e2e-");
        try
        {
            return new ImageUnderTest(folder, SvsmImageWriter.WriteFiles(options, folder.FullName, "image", [flavour]).Single());
        }
        catch
        {
            folder.Delete(recursive: true);
            throw;
        }
    }

    /// <summary>Builds an image whose virtual TPM and UEFI variables are in a store, with the limits of the packages.</summary>
    /// <param name="command">As in <see cref="Build"/>.</param>
    /// <param name="watchdog">Of the module that keeps the store, in milliseconds, null: that of its package; another one makes another image, and another key.</param>
    /// <param name="pin">What it trusts a broker by; null: none.</param>
    public static ImageUnderTest BuildWithStore(string command = "", uint? watchdog = null, byte[]? pin = null, bool isFilled = false)
    {
        ModuleOptions storage = PackagedModules.Storage;
        storage = storage with { Watchdog = watchdog ?? storage.Watchdog };
        return Build(
            command, modules: [PackagedModules.Attestation, storage, PackagedModules.VarStore, PackagedModules.Vtpm, .. isFilled ? [PackagedModules.Filling] : (ModuleOptions[])[]], program: File.ReadAllBytes(PathOf("TestStorage")),
            alterOptions: options => pin is null ? options : options with { Files = [.. options.Files, new ModuleFile("/broker.pin", pin) { Readers = [storage.Protocol] }] });
    }

    public MachineOptions Options() => new()
    {
        ImagePath = Written.ImagePath,
        HypervisorPath = PathOf("Hypervisor"),
        Timeout = s_hang,
    };

    public Task<MachineResult> RunAsync() => RunAsync(Options());

    public static Task<MachineResult> RunAsync(MachineOptions options) => Machine.RunAsync(options, TestContext.Current.CancellationToken);

    /// <summary>Where a part of the image lies.</summary>
    public ulong GpaOf(string part) => Written.Files.Image.Parts.Single(candidate => candidate.Name == part).Gpa;

    /// <summary>Changes the contents of a page in the IGVM file, as a host could. Nothing else, so the launch digest is another one.</summary>
    public void AlterPage(ulong gpa, PageAlteration alteration)
    {
        byte[] file = File.ReadAllBytes(Written.ImagePath);
        IgvmPageData page = IgvmFile.Parse(file).Directives.OfType<IgvmPageData>().Single(directive => directive.Gpa == gpa);
        Assert.True(MemoryMarshal.TryGetArray(page.Data, out ArraySegment<byte> data));
        alteration(data);
        File.WriteAllBytes(Written.ImagePath, file);
    }

    public delegate void PageAlteration(Span<byte> page);

    public void Dispose() => _folder.Delete(recursive: true);

    public static string PathOf(string key) =>
        typeof(ImageUnderTest).Assembly.GetCustomAttributes<AssemblyMetadataAttribute>().Single(attribute => attribute.Key == key).Value!;
}
