// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// A newer kernel of Debian's, which can call an SVSM's virtual TPM, and the driver for it that Debian does not build, compiled with the headers of the kernel's
// package. In the initial RAM disk: the driver in /modules, and TPM commands in /tpm, with gaps where the guest puts eight digits.

using System;
using System.Diagnostics;
using System.IO;
using System.Linq;
using System.Reflection;
using System.Threading.Tasks;
using Svsm.Linux.Tests;
using static Svsm.Vtpm.Clients.Tests.Messages;

namespace Svsm.Moving.Tests;

/// <summary>Linux with <c>/dev/tpm0</c>, once the driver is loaded.</summary>
public sealed class TpmLinuxGuest : LinuxGuest
{
    /// <summary>Length of what the guest puts into a command.</summary>
    public const int GapBytes = 8;

    private const string Release = "7.3.4+deb13";
    private const string Version = "7.3.4-1~bpo13+1";
    private const string Suite = "trixie-backports";

    private static readonly DebianPackage s_kernel = new(
        $"linux-binary-{Release}-cloud-amd64", Version, "c4fbc8e404958693b28825474c20742d70594d65ca58aea7be6a279c81eb6fa0", Suite);

    private static readonly DebianPackage[] s_headers =
    [
        new($"linux-headers-{Release}-cloud-amd64", Version, "7cd1d71ea5c0dd03f1288767a9d489a02324cedcce17549971604f50450ccb3c", Suite),
        new($"linux-headers-{Release}-common", Version, "886647d4a7b05d2aedd22f8e16917c5b75e97e8946966d6bac48962c40b19a06", Suite),
    ];

    // As the kernel is compiled, as far as it matters to a module: code that may run in the kernel's half of the addresses and in its interrupts, without
    // vector registers; and what kbuild defines.
    private const string CompilerOptions =
        "-c -O2 -Wall -Werror -std=gnu11 -fms-extensions -nostdinc -ffreestanding -fno-strict-aliasing -fno-pie -mcmodel=kernel -mno-red-zone -mno-sse -mno-mmx -mno-80387 "
        + "-mpreferred-stack-boundary=3 -fno-stack-protector -fno-asynchronous-unwind-tables -fcf-protection=branch "
        + "-include linux/compiler-version.h -include linux/kconfig.h -include linux/compiler_types.h "
        + "-D__KERNEL__ -DMODULE -DKBUILD_MODNAME=\"svsm_tpm\" -DKBUILD_BASENAME=\"svsm_tpm\" -DKBUILD_MODFILE=\"svsm_tpm\" -D__KBUILD_MODNAME=svsm_tpm";

    /// <inheritdoc/>
    protected override async Task<(byte[] Kernel, (string Path, byte[] Contents)[] Files)> ReadKernelAsync()
    {
        byte[] gap = new byte[GapBytes];
        byte[] quote = Quotes.Quote(gap);
        int at = quote.AsSpan().IndexOf(gap);
        byte[] extend = Command(0x13C, [Quotes.Pcr], Sized(gap), Auth());
        return (
            (await s_kernel.ReadAsync($"./usr/lib/modules/{Release}-cloud-amd64/vmlinuz"))[0],
            [
                ("modules/svsm-tpm.ko", await CompileDriverAsync()), ("tpm/create", Quotes.CreateKey()), ("tpm/extend", extend[..^GapBytes]),
                ("tpm/quote", quote[..at]), ("tpm/quote.end", quote[(at + GapBytes)..]),
            ]);
    }

    private async Task<byte[]> CompileDriverAsync()
    {
        string headers = Path.Combine(Folder, "headers");
        foreach (DebianPackage package in s_headers)
        {
            await package.UnpackAsync(headers);
        }

        string driver = Path.Combine(Folder, "svsm-tpm.ko");
        string source = typeof(TpmLinuxGuest).Assembly.GetCustomAttributes<AssemblyMetadataAttribute>().Single(metadata => metadata.Key == "TpmDriver").Value!;
        string common = $"{headers}/usr/src/linux-headers-{Release}-common";
        string flavour = $"{headers}/usr/src/linux-headers-{Release}-cloud-amd64";
        string[] folders =
        [
            $"{common}/arch/x86/include", $"{flavour}/arch/x86/include/generated", $"{common}/include", $"{flavour}/include",
            $"{common}/arch/x86/include/uapi", $"{flavour}/arch/x86/include/generated/uapi", $"{common}/include/uapi", $"{flavour}/include/generated/uapi",
        ];
        using Process compiler = Process.Start(new ProcessStartInfo(
            "gcc", [.. CompilerOptions.Split(' '), .. folders.SelectMany(folder => (string[])["-isystem", folder]), source, "-o", driver]) { RedirectStandardError = true })!;
        string errors = await compiler.StandardError.ReadToEndAsync();
        await compiler.WaitForExitAsync();
        Directory.Delete(headers, recursive: true);
        return compiler.ExitCode == 0 ? await File.ReadAllBytesAsync(driver) : throw new InvalidOperationException($"Cannot compile the driver: {errors}");
    }
}
