// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// What persists, in the machine: the store (Svsm.Modules.Storage), its key from the simulated security processor, and in it the virtual TPM and UEFI
// variables, compiled as an image's program is, with the limits of their packages. The machine is started, told to write, ended, and started again.

using System;
using System.IO;
using System.Linq;
using System.Threading.Tasks;
using Svsm.Simulator;
using Svsm.Wire;
using Xunit;

namespace Svsm.EndToEnd.Tests;

public sealed class StorageTests : IDisposable
{
    private readonly TestStoreDisk _disk = new();

    public void Dispose() => _disk.Dispose();

    [Theory]
    [InlineData(1)]
    [InlineData(4)]
    public async Task TpmAndVariables_SurviveARestart(int vcpuCount)
    {
        using ImageUnderTest image = ImageUnderTest.BuildWithStore();
        _disk.Prepare();
        byte[] data = [.. Enumerable.Range(0, 512).Select(i => (byte)(i * 3))];
        var writing = new StorageSession();
        writing.Startup();
        writing.DefineNv(512);
        writing.WriteNv(data);
        writing.SetVariable("A", [1, 2, 3]);
        MachineResult first = await RunAsync(image, writing, vcpuCount);
        Assert.Contains("StorageModule: store ", first.ConsoleText((int)Vmpl.Vmpl0), StringComparison.Ordinal);
        Assert.Contains("made: generation 0", first.ConsoleText((int)Vmpl.Vmpl0), StringComparison.Ordinal);

        var reading = new StorageSession();
        reading.Startup();
        reading.ReadNv(512, data);
        reading.GetVariable("A", [1, 2, 3]);
        MachineResult second = await RunAsync(image, reading, vcpuCount);
        string log = second.ConsoleText((int)Vmpl.Vmpl0);
        Assert.Contains("open: generation ", log, StringComparison.Ordinal);
        Assert.Contains("VtpmModule: the stored TPM; an older state of it cannot be told", log, StringComparison.Ordinal);
        Assert.Contains("UEFI variables: stored, secure boot off", log, StringComparison.Ordinal);
    }

    // A module with a large quota fills it with small records, twice, and once more after a restart; the store has the heap of its package. Others are not disturbed.
    [Fact]
    public async Task TenThousandRecords_OfOneModule_LeaveTheOthersTheirStore()
    {
        using ImageUnderTest image = ImageUnderTest.BuildWithStore(isFilled: true);
        _disk.Prepare(16 << 20);
        foreach (string time in (string[])["first", "second"])
        {
            var session = new StorageSession();
            session.Startup();
            session.Call("call 0x80000010 1 10000", "Success RCX=0x2710 RDX=0x0 R8=0x0 R9=0x0");
            session.Call("call 0x80000010 1 10000", "Success RCX=0x2710 RDX=0x0 R8=0x0 R9=0x0");
            session.Call("call 0x80000010 2", "Success RCX=0x0 RDX=0x0 R8=0x0 R9=0x2710");
            session.SetVariable("A", System.Text.Encoding.ASCII.GetBytes(time));
            session.GetVariable("A", System.Text.Encoding.ASCII.GetBytes(time));
            MachineResult result = await RunAsync(image, session, 1);
            Assert.DoesNotContain("OutOfMemory", result.ConsoleText((int)Vmpl.Vmpl0), StringComparison.Ordinal);
        }
    }

    // The boot options that firmware makes and an operating system adds to, by the messages of EDK2's variable driver (ProbeGuest/FirmwareCalls.cs).
    [Fact]
    public async Task BootOptions_OfFirmwareAndSystem_SurviveARestart()
    {
        using ImageUnderTest image = ImageUnderTest.BuildWithStore(command: "firmware");
        _disk.Prepare();
        string[] visible =
        [
            "SetupMode", "AuditMode", "DeployedMode", "SecureBoot", "VendorKeys", "SignatureSupport", "OsIndicationsSupported", "BootOptionSupport",
            "PlatformLangCodes", "BootCurrent", "Timeout", "PlatformLang", "Boot0000", "BootOrder",
        ];
        string[] first = await BootAsync(image);
        Assert.Equal(["no BootOrder", .. visible.Select(name => "visible " + name)], first);
        string[] second = await BootAsync(image);
        Assert.Equal(["BootOrder 0001 0000", "Boot0001 Linux", "Boot0000 UEFI disk", .. visible.Append("Boot0001").Select(name => "visible " + name)], second);
    }

    // Without a disk, or with an empty one: no TPM and no variables, and the log says why.
    [Theory]
    [InlineData(false, "the store is not open: the host gives the SVSM no virtio disk of version 2")]
    [InlineData(true, "the store is not open: Fresh, the device has no store")]
    public async Task DiskWithoutAStore_IsNoTpmAndNoVariables(bool hasDisk, string line)
    {
        using ImageUnderTest image = ImageUnderTest.BuildWithStore();
        MachineResult result = await ImageUnderTest.RunAsync(Options(image, 1) with
        {
            SvsmDisks = hasDisk ? [new SvsmDisk(_disk.Path)] : [],
            Typed = "call 2 0\ncall 4 1 0x2000000 0x10000\ncall 0 6 0x0000000200000001\ncall 0 6 0x0000000400000001\n",
        });
        string log = result.ConsoleText((int)Vmpl.Vmpl0);
        Assert.Contains(line, log, StringComparison.Ordinal);
        Assert.Contains("the TPM's state cannot be had: NotOpen", log, StringComparison.Ordinal);
        Assert.Contains("the stored variables cannot be had: NotOpen", log, StringComparison.Ordinal);
        string[] lines = result.ConsoleText((int)Vmpl.Vmpl2).Split('\n', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries);
        Assert.StartsWith("UnsupportedProtocol", lines[^4], StringComparison.Ordinal);
        Assert.StartsWith("UnsupportedProtocol", lines[^3], StringComparison.Ordinal);
        Assert.StartsWith("Success RCX=0x0 ", lines[^2], StringComparison.Ordinal);
        Assert.StartsWith("Success RCX=0x0 ", lines[^1], StringComparison.Ordinal);
    }

    // Another image has another key, and cannot read what this one has written; what it finds stays as it is.
    [Fact]
    public async Task StoreOfAnotherImage_StaysClosed()
    {
        using ImageUnderTest image = ImageUnderTest.BuildWithStore();
        using ImageUnderTest other = ImageUnderTest.BuildWithStore(watchdog: 50_000);
        _disk.Prepare();
        var session = new StorageSession();
        session.Startup();
        await RunAsync(image, session, 1);
        byte[] before = await File.ReadAllBytesAsync(_disk.Path, TestContext.Current.CancellationToken);
        MachineResult result = await ImageUnderTest.RunAsync(Options(other, 1) with { SvsmDisks = [new SvsmDisk(_disk.Path)], Typed = "call 2 0\n" });
        Assert.Contains("the store is not open: WrongKey", result.ConsoleText((int)Vmpl.Vmpl0), StringComparison.Ordinal);
        Assert.Equal(before, await File.ReadAllBytesAsync(_disk.Path, TestContext.Current.CancellationToken));
        await RunAsync(image, session, 1);
    }

    // What firmware tells.
    private async Task<string[]> BootAsync(ImageUnderTest image)
    {
        const string Line = "firmware: ";
        MachineResult result = await ImageUnderTest.RunAsync(Options(image, 1) with { SvsmDisks = [new SvsmDisk(_disk.Path)] });
        string console = result.ConsoleText((int)Vmpl.Vmpl2);
        Assert.True(result.ExitStatus == 0, result + "\n" + console + "\n" + result.ConsoleText((int)Vmpl.Vmpl0));
        return [.. console.Split('\n', StringSplitOptions.TrimEntries).Where(line => line.StartsWith(Line, StringComparison.Ordinal)).Select(line => line[Line.Length..])];
    }

    private async Task<MachineResult> RunAsync(ImageUnderTest image, StorageSession session, int vcpuCount)
    {
        MachineResult result = await ImageUnderTest.RunAsync(Options(image, vcpuCount) with { SvsmDisks = [new SvsmDisk(_disk.Path)], Typed = session.Typed });
        Assert.True(result.ExitStatus == 0, result + "\n" + result.ConsoleText((int)Vmpl.Vmpl2) + "\n" + result.ConsoleText((int)Vmpl.Vmpl0));
        session.Check(result.ConsoleText((int)Vmpl.Vmpl2));
        return result;
    }

    private static MachineOptions Options(ImageUnderTest image, int vcpuCount) => image.Options() with { VcpuCount = vcpuCount };
}
