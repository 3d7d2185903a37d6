// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.IO;
using System.Linq;
using System.Threading.Tasks;
using Xunit;

namespace Svsm.Simulator.Tests;

/// <summary>A folder with an image and a script that plays the hypervisor; see fake-qemu.sh.</summary>
internal sealed class FakeQemu : IDisposable
{
    private readonly DirectoryInfo _folder = Directory.CreateTempSubdirectory("svsm-test-");

    /// <summary>Makes the folder.</summary>
    /// <param name="script">What the hypervisor does: lines of shell. The frames are in the file $here/frames.</param>
    /// <param name="frames">The frames.</param>
    public FakeQemu(string script, params byte[][] frames)
    {
        File.WriteAllBytes(Path("image.igvm"), TestImage.File.Write());
        File.WriteAllText(Path("hypervisor.elf"), "pwd > \"$here/folder\"\necho \"$arguments\" > \"$here/arguments\"\n" + script + "\n");
        File.WriteAllBytes(Path("frames"), [.. frames.SelectMany(frame => frame)]);
    }

    public static string Program { get; } = Script("fake-qemu.sh");

    public MachineOptions Options => new()
    {
        ImagePath = Path("image.igvm"),
        HypervisorPath = Path("hypervisor.elf"),
        QemuPath = Program,

        // Against a hang of the test itself; no test waits for it.
        Timeout = TimeSpan.FromMinutes(2),
    };

    /// <summary>The folder that QEMU was started in.</summary>
    public string WorkingFolder => Read("folder");

    public static string Script(string name) => System.IO.Path.Combine(AppContext.BaseDirectory, name);

    public string Path(string name) => System.IO.Path.Combine(_folder.FullName, name);

    public string Read(string name) => File.ReadAllText(Path(name)).Trim();

    /// <summary>Waits until a killed process is gone: a signal takes its time, and a child can remain as a zombie until the system reaps it.</summary>
    /// <param name="pidFile">File with the number of the process.</param>
    /// <returns>Completes when the process is gone; not before the token is cancelled otherwise.</returns>
    public async Task WaitUntilGoneAsync(string pidFile)
    {
        string stat = $"/proc/{Read(pidFile)}/stat";
        while (IsAlive(stat))
        {
            await Task.Delay(10, TestContext.Current.CancellationToken);
        }
    }

    private static bool IsAlive(string stat)
    {
        try
        {
            string text = File.ReadAllText(stat);

            // number (name) state ...
            return text[text.LastIndexOf(')') + 2] is not ('Z' or 'X');
        }
        catch (IOException)
        {
            return false;
        }
    }

    public void Dispose() => _folder.Delete(recursive: true);
}
