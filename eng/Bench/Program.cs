// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The figures of eng/bench. Everything measured is a process that users run, too: the image writer, the simulator, dotnet build.
// Arguments: the repository, and what is measured: "image" (with the simulator), "modules" (of that, the modules alone), "all" (also build times), "tpm" (the
// virtual TPM), "counts" (instructions of operations with secrets; the status is 1 if they are not the same for all secrets), "linux" (that alone). Further
// arguments: a part of the names of what is measured, or for "linux" other QEMUs to boot it with.
//
// A figure with a limit behind it may not be above that; if one is, or if what was to be measured was not done, the exit status is 1.
//
// Instructions come from runs of one image that differ in what the probe guest does: it ends at once, or does one thing 1000 times first
// (Svsm.Simulator/ProbeGuest/Commands.cs). What all do is start-up; the difference is what is measured.

using System;
using System.Collections.Generic;
using System.Diagnostics;
using System.Globalization;
using System.IO;
using System.Linq;
using System.Text.Json;
using System.Text.RegularExpressions;
using System.Threading.Tasks;
using Svsm.Bench;
using Svsm.Linux.Tests;

const int BenchCalls = 1000;
const int Repetitions = 5;
const double ValidatedPages = 510;
const double ValidatedLargePages = 4;
const double PageBytes = 4096;
const double LargePageBytes = 0x20_0000;
const double WordBytes = 8;

string repository = args[0];
string folder = Path.Combine(repository, "artifacts", "bench");
string boot = Path.Combine(repository, "artifacts", "bin", "Svsm.Boot", "release");
string staticTpm = Path.Combine(repository, "artifacts", "publish", "Svsm.StaticTpm", "release_linux-x64", "static-tpm");

if (args[1] == "counts")
{
    return InstructionCounts.AreEqual(Path.Combine(repository, "artifacts", "bin", "Svsm.StaticTpm", "release_linux-x64", "native", "static-tpm.names"), args.Length > 2 ? args[2] : "") ? 0 : 1;
}

if (args[1] == "tpm")
{
    return TpmFigures.Print(staticTpm, args.Length > 2 ? args[2] : "") == 0 ? 0 : 1;
}

int exceeded = 0;

if (args[1] == "linux")
{
    await PrintLinuxAsync(args[2..]);
    return exceeded == 0 ? 0 : 1;
}

Counters idle = RunImage("exit:0");
if (args[1] == "modules")
{
    Attempt(PrintModuleFigures);
    Attempt(PrintStorageFigures);
    return exceeded == 0 ? 0 : 1;
}

Counters large = RunImage("exit:0", "--memory", "2048");
Counters bench = RunImage("bench");
Counters validate = RunImage("validate");
Counters validateLarge = RunImage("validate-large");
Counters nullExits = RunExits("null-exits");
Counters vmgExits = RunExits("null-vmgexits");
Counters vcExits = RunExits("vc-exits");
Counters vmplTrips = RunExits("vmpl-trips");

PrintSizes();
Console.WriteLine();
Console.WriteLine("Instructions (counted by QEMU; the same in every run)");
Print("first SVSM instruction to guest entry", idle.Vmpl0Ticks);
Print("  with 2 GiB", large.Vmpl0Ticks, limit: 30_000_000);
Console.WriteLine("    (1 vCPU; with the zeroing of what the SVSM itself takes)");
Print("  host calls of the SVSM until then", idle.Vmpl0VmgExits);
Print("  pages validated until then", idle.PValidates);
Print("SVSM, per QUERY_PROTOCOL call", PerCall(bench.Vmpl0Ticks - idle.Vmpl0Ticks), limit: 1500);
Print("SVSM, per page of 510 4-KiB pages validated", ((validate.Vmpl0Ticks - idle.Vmpl0Ticks) / ValidatedPages) - (PageBytes / WordBytes), limit: 400);
Print("SVSM, per page of 4 2-MiB pages validated", ((validateLarge.Vmpl0Ticks - idle.Vmpl0Ticks) / ValidatedLargePages) - (LargePageBytes / WordBytes), limit: 2000);
Console.WriteLine("    (one call; without the zeroing, which is one step for 8 bytes)");
Print("guest, per QUERY_PROTOCOL call", PerCall(bench.Vmpl2Ticks - idle.Vmpl2Ticks));
Print("simulated processor, per QUERY_PROTOCOL call", PerCall(bench.HypervisorTicks - idle.HypervisorTicks));
Print("  exits per call", PerCall(bench.Exits - idle.Exits));

// What the simulated processor itself needs, from the exit to the next entry.
double nullExit = PerCall(nullExits.HypervisorTicks - idle.HypervisorTicks);
Print("hypervisor instructions per null exit", nullExit, limit: 600);
Console.WriteLine("    (RDMSR of the GHCB MSR: one exit, which only reads a register of the processor)");
Print("hypervisor instructions per null VMGEXIT", PerCall(vmgExits.HypervisorTicks - idle.HypervisorTicks) - nullExit, limit: 600);
Console.WriteLine("    (SEV information by the GHCB MSR; without the WRMSR of the request, which is an exit like the one above)");
Print("hypervisor instructions per #VC", PerCall(vcExits.HypervisorTicks - idle.HypervisorTicks));
Console.WriteLine("    (CPUID: one exit, and the delivery to the guest's handler, which does not exit)");
Print("hypervisor instructions per VMPL round trip", PerCall(vmplTrips.HypervisorTicks - idle.HypervisorTicks));
Console.WriteLine("    (VMPL2 to VMPL0 and back without a call, with every exit that guest and SVSM make for it)");
Print("  exits per VMPL round trip", PerCall(vmplTrips.Exits - idle.Exits));

Attempt(PrintModuleFigures);
Attempt(PrintStorageFigures);
await PrintLinuxAsync([]);

if (args[1] == "all")
{
    PrintBuildTimes();
}

if (exceeded != 0)
{
    Console.WriteLine();
    Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{exceeded} above the limit, or not to be had"));
}

return exceeded == 0 ? 0 : 1;

static double PerCall(double value) => value / BenchCalls;

void Print(string what, double value, double limit = double.PositiveInfinity)
{
    string text = double.IsFinite(limit) ? string.Create(CultureInfo.InvariantCulture, $"   at most {limit:#,0}{(value > limit ? ": EXCEEDED" : "")}") : "";
    exceeded += value > limit ? 1 : 0;
    Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"  {what,-46} {value,12:#,0.##}{text}"));
}

// What is not done has no figure; the others have.
void Attempt(Action print)
{
    try
    {
        print();
    }
    catch (InvalidOperationException exception)
    {
        exceeded++;
        Console.WriteLine(exception.Message);
    }
}

// The test module: one process, no cryptography. And the virtual TPM, alone in an image, so with the runtime.
void PrintModuleFigures()
{
    const double MaxIdleFrames = 1024;
    const double MaxStartTicks = 25_000_000;
    Counters started = RunModules("exit:0");
    Counters calls = RunModules("module-bench");
    Console.WriteLine();
    Console.WriteLine("Modules (the test module, compiled as those of an image are)");
    Print("guest entry to guest resume, per null request", PerCall(calls.Vmpl0Ticks - started.Vmpl0Ticks), limit: 12_000);
    Print("  with exits to the simulated processor", PerCall(calls.HypervisorTicks - started.HypervisorTicks));
    Print("process start to its first read", started.Vmpl0Ticks - idle.Vmpl0Ticks, limit: MaxStartTicks);
    Print("frames of an idle module beyond shared text", started.Frames - idle.Frames, limit: MaxIdleFrames);

    RunImage("exit:0");
    double without = ImageBytes();
    Counters tpm = RunProgramOf("Svsm.TestTpm", "--vtpm", "exit:0");
    Print("virtual TPM: growth of the image, bytes", ImageBytes() - without, limit: 4_200_000);
    Print("  process start to its first read", tpm.Vmpl0Ticks - idle.Vmpl0Ticks, limit: MaxStartTicks);
    Print("  frames when idle beyond shared text", tpm.Frames - idle.Frames, limit: MaxIdleFrames);
}

// What persists: the store with its disk, the virtual TPM, the UEFI variables, in one image. The guest types its calls, so the image, and with it the key
// of the store, is the same in all runs; each figure is the difference between two of them.
void PrintStorageFigures()
{
    const double MaxWriteInstructions = 40_000;
    const double MaxOpening = 100_000_000;
    const double MaxMemoryFrames = 2048;
    const double MaxGrowth = 500_000;
    const int Records = 10_000;
    const int Few = 2;
    const int Many = 6;

    // The virtual TPM answers, so its store is open.
    const string Started = "call 2 0 # Success";
    string disk = Path.Combine(folder, "store.img");
    string storage = Path.Combine(repository, "artifacts", "obj", "Svsm.TestStorage", "release", "modules", "modules.elf");

    Counters tpm = RunProgramOf("Svsm.TestTpm", "--vtpm", "exit:0");
    double without = ImageBytes();
    WriteImage(["", "--storage", storage]);
    Console.WriteLine();
    Console.WriteLine("Persistence (store, virtual TPM, UEFI variables)");
    Print("growth beyond the image with virtual TPM, bytes", ImageBytes() - without, limit: MaxGrowth);
    Console.WriteLine("    (attestation, which the key comes through, included)");

    Prepare();
    Counters made = Boot(Started);
    Counters empty = Boot(Started);
    Print("first start: the store is made, TPM and all", made.Vmpl0Ticks - empty.Vmpl0Ticks);
    Boot(TypedStorage.Startup + TypedStorage.DefineNv);
    Counters few = Boot(TypedStorage.Startup + TypedStorage.WriteNv(Few));
    Counters many = Boot(TypedStorage.Startup + TypedStorage.WriteNv(Many));
    Print("committed NV write of 512 bytes", (many.Vmpl0Ticks - few.Vmpl0Ticks) / (Many - Few), limit: MaxWriteInstructions);
    Console.WriteLine("    (two writes of the disk and two flushes: StoredTpmTests)");
    few = Boot(TypedStorage.SetVariable(Few));
    many = Boot(TypedStorage.SetVariable(Many));
    Print("variable of 64 KiB, set", (many.Vmpl0Ticks - few.Vmpl0Ticks) / (Many - Few));
    few = Boot(TypedStorage.GetVariable(Few, Many));
    many = Boot(TypedStorage.GetVariable(Many, Many));
    Print("variable of 64 KiB, get", (many.Vmpl0Ticks - few.Vmpl0Ticks) / (Many - Few));

    Prepare();
    Boot(Started);
    empty = Boot(Started);
    Boot(string.Create(CultureInfo.InvariantCulture, $"call 0x80000010 1 {Records} # Success\ncall 0x80000010 2 # Success RCX=0x0 RDX=0x0 R8=0x0 R9=0x{Records:x}"));
    Counters full = Boot(Started);
    Print("opening a store of 10,000 records, more than an empty one", full.Vmpl0Ticks - empty.Vmpl0Ticks, limit: MaxOpening);
    Print("  frames of its module then", full.StorageFrames, limit: MaxMemoryFrames);

    void Prepare()
    {
        File.Delete(disk);
        byte[] contents = new byte[16 << 20];
        "SVSMPREP"u8.CopyTo(contents);
        File.WriteAllBytes(disk, contents);
    }

    // Behind # is what the guest's line must begin with.
    Counters Boot(string typed)
    {
        string[] lines = typed.Split('\n', StringSplitOptions.RemoveEmptyEntries);
        string[] wanted = [.. lines.Where(line => line.Contains('#', StringComparison.Ordinal)).Select(line => line[(line.IndexOf('#', StringComparison.Ordinal) + 2)..])];
        Counters counters = RunFile(["--svsm-disk", disk, .. lines.SelectMany(line => (string[])["--type", line])]);
        string[] answers = counters.Guest.TakeLast(wanted.Length).ToArray();
        return answers.Length == wanted.Length && answers.Zip(wanted).All(pair => pair.First.StartsWith(pair.Second, StringComparison.Ordinal))
            ? counters
            : throw new InvalidOperationException($"The guest typed\n{typed}\nand was answered\n{string.Join('\n', answers)}");
    }
}

double ImageBytes() => new FileInfo(Path.Combine(folder, "images", "boot.igvm")).Length;

Counters RunModules(string command) => RunProgramOf("Svsm.TestModules", "--test-module", command);

Counters RunProgramOf(string project, string option, string command)
{
    Counters counters = RunBuilt([command, option, Path.Combine(repository, "artifacts", "obj", project, "release", "modules", "modules.elf")], []);
    return counters.Serving != 0 ? counters : throw new InvalidOperationException($"The module of {project} does not serve.");
}

Counters RunImage(string command, params ReadOnlySpan<string> options) => RunBuilt([command], options);

Counters RunBuilt(ReadOnlySpan<string> image, ReadOnlySpan<string> options)
{
    WriteImage(image);
    return RunFile(options);
}

void WriteImage(ReadOnlySpan<string> image) => Run(folder, null, [Path.Combine(boot, "Svsm.Boot.dll"), Path.Combine(folder, "images"), .. image]);

Counters RunFile(ReadOnlySpan<string> options)
{
    string target = Path.Combine(folder, "images");
    string output = Run(
        folder, null, [Path.Combine(boot, "svsm-simulator.dll"), "run", Path.Combine(target, "boot.igvm"), "--icount", "--json", "--timeout", "300", .. options]);
    using JsonDocument json = JsonDocument.Parse(output);
    var counters = default(Counters);
    foreach (JsonElement entry in json.RootElement.GetProperty("statistics").EnumerateArray())
    {
        bool guest = entry.GetProperty("vmpl").GetInt32() == 2;
        counters = counters with
        {
            Vmpl0Ticks = counters.Vmpl0Ticks + (guest ? 0 : entry.GetProperty("ticks").GetDouble()),
            Vmpl2Ticks = counters.Vmpl2Ticks + (guest ? entry.GetProperty("ticks").GetDouble() : 0),
            Vmpl0VmgExits = counters.Vmpl0VmgExits + (guest ? 0 : entry.GetProperty("vmgExits").GetDouble()),
            PValidates = counters.PValidates + entry.GetProperty("pValidates").GetDouble(),
            Exits = counters.Exits + entry.GetProperty("exits").GetDouble(),
            HypervisorTicks = counters.HypervisorTicks + entry.GetProperty("hypervisorTicks").GetDouble(),
        };
    }

    Match storage = Regex.Match(output, "StorageModule: serves protocol 0x[0-9a-f]+, ([0-9]+) frames");
    return counters with
    {
        Guest = [.. json.RootElement.GetProperty("console").EnumerateArray().Where(IsOfGuest).Select(line => line.GetProperty("text").GetString()!)],
        Frames = json.RootElement.GetProperty("svsm").GetProperty("framesInUse").GetDouble(),
        Serving = Regex.Count(output, "Module: serves protocol 0x"),

        // Above any limit where the module does not say it.
        StorageFrames = storage.Success ? double.Parse(storage.Groups[1].ValueSpan, CultureInfo.InvariantCulture) : double.PositiveInfinity,
    };

    static bool IsOfGuest(JsonElement line) => line.TryGetProperty("vmpl", out JsonElement vmpl) && vmpl.GetInt32() == 2;
}

// A run that makes 1000 exits at least.
Counters RunExits(string command)
{
    Counters counters = RunImage(command);
    return counters.Exits - idle.Exits >= BenchCalls
        ? counters
        : throw new InvalidOperationException($"The guest that makes {BenchCalls} exits ({command}) made {counters.Exits - idle.Exits} more than the one that makes none.");
}

// The parts stand in the map of the image: "# FIRST LAST VIRTUAL RIGHTS KIND NAME".
void PrintSizes()
{
    const double MaxKernelBytes = 400 << 10;
    const double MaxHypervisorBytes = 128 << 10;
    string images = Path.Combine(folder, "images");
    Console.WriteLine("Image");
    Print("file, bytes", new FileInfo(Path.Combine(images, "boot.igvm")).Length);
    double launched = 0;
    double kernel = 0;
    foreach (string line in File.ReadLines(Path.Combine(images, "boot.map")))
    {
        if (Regex.Match(line, "^# 0x([0-9a-f]+) 0x([0-9a-f]+) [^ ]+ [^ ]+ ([a-z]+) +(.+)$") is { Success: true } part && part.Groups[3].Value != "reserved")
        {
            double bytes = Address(part.Groups[2]) - Address(part.Groups[1]) + 1;
            launched += bytes;
            kernel += part.Groups[4].Value is "kernel.text" or "kernel.rodata" or "kernel.data" or "kernel.data.zero" ? bytes : 0;
            Print($"  {part.Groups[4].Value}", bytes);
        }
    }

    Print("launched, bytes", launched);
    Print("kernel: text and data, bytes", kernel, limit: MaxKernelBytes);
    Print("hypervisor of the simulator: file, bytes", new FileInfo(Path.Combine(boot, "hypervisor.elf")).Length, limit: MaxHypervisorBytes);

    static ulong Address(Group digits) => ulong.Parse(digits.ValueSpan, NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture);
}

// Debian's kernel with BusyBox, from the start of QEMU to user space and off again: as an SNP guest, and as it is on the same QEMU. In turns, and in
// processor time of QEMU: what else the PC does disturbs both alike.
async Task PrintLinuxAsync(string[] others)
{
    const int Rounds = 3;
    string kernel = Path.Combine(folder, "vmlinuz");
    string disk = Path.Combine(folder, "initrd");
    byte[][] files = [(await DebianPackage.Kernel.ReadAsync($"./boot/vmlinuz-{DebianPackage.KernelRelease}"))[0], (await DebianPackage.BusyBox.ReadAsync("./bin/busybox"))[0]];
    Directory.CreateDirectory(folder);
    await File.WriteAllBytesAsync(kernel, files[0]);
    var archive = new CpioArchive();
    archive.AddDirectory("bin");
    archive.AddDirectory("dev");
    archive.AddDevice("dev/console", 5, 1);
    archive.AddFile("bin/busybox", files[1]);
    archive.AddFile("init", "#!/bin/busybox sh\necho init: user space\n/bin/busybox poweroff -f\n"u8.ToArray());
    await File.WriteAllBytesAsync(disk, archive.Finish());

    // In place of QEMU: runs it, and writes down the processor time of what it waited for.
    string timed = Path.Combine(repository, "eng", "Bench", "timed-qemu");
    string times = Path.Combine(folder, "times");

    Console.WriteLine();
    Console.WriteLine("Debian's Linux to user space (median of {0}, seconds of QEMU's processor time; 1 vCPU, 512 MiB, console on ttyS0)", Rounds);
    foreach (string qemu in (string[])["qemu-system-x86_64", .. others])
    {
        double[] plain = new double[Rounds];
        double[] guest = new double[Rounds];
        for (int i = 0; i < Rounds; i++)
        {
            // Without CMPXCHG16B, as in the machine: with QEMU 7.2's, Linux crashes now and then.
            plain[i] = Boot(qemu, timed,
                "-accel", "tcg", "-M", "q35", "-cpu", "EPYC,-cx16", "-m", "512", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-serial", "stdio",
                "-kernel", kernel, "-initrd", disk, "-append", "console=ttyS0 panic=-1");
            guest[i] = Boot(qemu, "dotnet",
                Path.Combine(boot, "svsm-simulator.dll"), "run", "--guest-kernel", kernel, "--initrd", disk, "--append", "console=ttyS0 panic=-1", "--memory", "512", "--timeout", "1000");
        }

        Array.Sort(plain);
        Array.Sort(guest);
        Console.WriteLine("  " + RunProgram(qemu, folder, null, "--version").Split('\n')[0]);
        Print("  without SNP, on QEMU alone", plain[Rounds / 2]);
        Print("  SNP guest at VMPL0", guest[Rounds / 2]);
        Print("  ratio", guest[Rounds / 2] / plain[Rounds / 2], qemu == "qemu-system-x86_64" ? 3 : double.PositiveInfinity);
    }

    double Boot(string qemu, string program, params ReadOnlySpan<string> arguments)
    {
        string output = RunProgram(program, folder, new Dictionary<string, string> { ["SVSM_QEMU"] = timed, ["BENCH_QEMU"] = qemu, ["BENCH_TIMES"] = times }, arguments);
        if (!output.Contains("init: user space", StringComparison.Ordinal))
        {
            throw new InvalidOperationException($"Linux did not get to user space.\n{output}");
        }

        // Shell, then its children: minutes, seconds, of user and system.
        MatchCollection matches = Regex.Matches(File.ReadAllLines(times)[1], "([0-9]+)m([0-9.]+)s");
        return matches.Sum(match => (double.Parse(match.Groups[1].ValueSpan, CultureInfo.InvariantCulture) * 60) + double.Parse(match.Groups[2].ValueSpan, CultureInfo.InvariantCulture));
    }
}

void PrintBuildTimes()
{
    string feed = Path.Combine(repository, "artifacts", "packages");
    string version = Directory.GetFiles(feed, "Svsm.Sdk.*.nupkg").Select(path => Path.GetFileNameWithoutExtension(path)["Svsm.Sdk.".Length..]).Single();

    // Outside of the repository: its Directory.Build.props are not those of an integrator.
    DirectoryInfo work = Directory.CreateTempSubdirectory("svsm-bench-");
    try
    {
        var environment = new Dictionary<string, string> { ["NUGET_PACKAGES"] = Path.Combine(work.FullName, "packages"), ["UseSharedCompilation"] = "false" };
        File.WriteAllText(Path.Combine(work.FullName, "nuget.config"), $"<configuration><packageSources><add key=\"svsm\" value=\"{feed}\" /></packageSources></configuration>");
        File.WriteAllText(Path.Combine(work.FullName, "global.json"), $$"""{ "msbuild-sdks": { "Svsm.Sdk": "{{version}}" } }""");
        string image = NewProject(work, "Image", "<Project Sdk=\"Svsm.Sdk\"><PropertyGroup><TargetFramework>net10.0</TargetFramework></PropertyGroup></Project>");
        string console = NewProject(
            work, "Empty", "<Project Sdk=\"Microsoft.NET.Sdk\"><PropertyGroup><TargetFramework>net10.0</TargetFramework><OutputType>Exe</OutputType></PropertyGroup></Project>");
        File.WriteAllText(Path.Combine(console, "Program.cs"), "System.Console.WriteLine();");

        // What was downloaded before does not count: packages are there after the first build.
        Build(image, environment);
        Build(console, environment);
        Console.WriteLine();
        Console.WriteLine("Build times (median of {0}, seconds; packages are there already)", Repetitions);
        Print("image, clean", Median(() => Clean(image), () => Build(image, environment)));
        Print("image, another guest policy", Median(() => Build(image, environment), () => Build(image, environment, "-p:SvsmGuestPolicy=0x30001")));
        Build(image, environment);
        double imageNothing = Median(() => { }, () => Build(image, environment));
        double consoleNothing = Median(() => { }, () => Build(console, environment));
        Print("image, nothing to do", imageNothing);
        Print("empty console project, nothing to do", consoleNothing);
        Print("  ratio", imageNothing / consoleNothing);
    }
    finally
    {
        work.Delete(recursive: true);
    }
}

static string NewProject(DirectoryInfo work, string name, string text)
{
    string project = Path.Combine(work.FullName, name);
    Directory.CreateDirectory(project);
    File.WriteAllText(Path.Combine(project, name + ".csproj"), text);
    return project;
}

static void Clean(string project)
{
    foreach (string name in (ReadOnlySpan<string>)["bin", "obj"])
    {
        if (Directory.Exists(Path.Combine(project, name)))
        {
            Directory.Delete(Path.Combine(project, name), recursive: true);
        }
    }
}

static string Build(string project, Dictionary<string, string> environment, params ReadOnlySpan<string> more) =>
    Run(project, environment, ["build", "--nologo", "--verbosity", "quiet", .. more]);

static double Median(Action prepare, Action measured)
{
    double[] seconds = new double[Repetitions];
    for (int i = 0; i < Repetitions; i++)
    {
        prepare();
        var watch = Stopwatch.StartNew();
        measured();
        seconds[i] = watch.Elapsed.TotalSeconds;
    }

    Array.Sort(seconds);
    return seconds[Repetitions / 2];
}

static string Run(string folder, Dictionary<string, string>? environment, params ReadOnlySpan<string> arguments) => RunProgram("dotnet", folder, environment, arguments);

static string RunProgram(string program, string folder, Dictionary<string, string>? environment, params ReadOnlySpan<string> arguments)
{
    Directory.CreateDirectory(folder);
    var start = new ProcessStartInfo(program, arguments.ToArray()) { WorkingDirectory = folder, RedirectStandardOutput = true, RedirectStandardError = true };
    foreach ((string name, string value) in environment ?? [])
    {
        start.Environment[name] = value;
    }

    using Process process = Process.Start(start)!;
    System.Threading.Tasks.Task<string> error = process.StandardError.ReadToEndAsync();
    string output = process.StandardOutput.ReadToEnd();
    process.WaitForExit();
    return process.ExitCode == 0
        ? output
        : throw new InvalidOperationException($"{program} {string.Join(' ', start.ArgumentList)} ended with status {process.ExitCode}.\n{output}{error.Result}");
}

/// <summary>Of a run: sums over all vCPUs, how many modules serve, and lines of the guest's console.</summary>
internal readonly record struct Counters(double Vmpl0Ticks, double Vmpl2Ticks, double Vmpl0VmgExits, double PValidates, double Exits, double HypervisorTicks, double Frames, double StorageFrames, int Serving, string[] Guest);
