// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Generic;
using System.IO;
using System.Security.Cryptography;
using System.Text.Json;
using System.Threading.Tasks;
using Svsm.Builder;
using Svsm.Builder.Tests;
using Svsm.Igvm;
using Svsm.Wire;
using Xunit;

namespace Svsm.Tool.Tests;

/// <summary>A folder with an image, and the tool run in it.</summary>
public abstract class ToolTest : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("svsm-tool-tests-").FullName;

    internal sealed record Outcome(int Status, string Output, string Error)
    {
        public JsonElement Json => JsonDocument.Parse(Output).RootElement;
    }

    public void Dispose()
    {
        Directory.Delete(_folder, recursive: true);
        GC.SuppressFinalize(this);
    }

    protected string At(string name) => Path.Combine(_folder, name);

    protected string WriteImage(string name = "Test", HostFlavour flavour = HostFlavour.Qemu, bool guest = true, Action<TestElf>? change = null, bool modules = false, params ModuleFile[] files)
    {
        TestElf kernel = TestElf.Kernel();
        change?.Invoke(kernel);
        var options = new SvsmImageOptions { Kernel = kernel.ToArray(), GuestPayload = guest ? TestElf.Payload().ToArray() : default };
        if (modules)
        {
            options = options with
            {
                Modules = [new ModuleOptions { TypeName = "Acme.EchoModule", Protocol = 0x8000_0001, MaxVersion = 2 }],
                Files = [new ModuleFile(ModuleOptions.DefaultProgram, TestElf.Pattern(0x50_0000, 3)), .. files],
            };
        }

        return SvsmImageWriter.WriteFiles(options, _folder, name, [flavour])[0].ImagePath;
    }

    protected string WriteChanged(string name, string from, Func<IgvmFile, IgvmFile> change)
    {
        string path = At(name);
        File.WriteAllBytes(path, change(IgvmFile.Parse(File.ReadAllBytes(from))).Write());
        return path;
    }

    protected string WriteKey(string name)
    {
        using var key = ECDsa.Create(ECCurve.NamedCurves.nistP384);
        File.WriteAllText(At(name), key.ExportECPrivateKeyPem());
        return At(name);
    }

    internal static Task<Outcome> Run(params string[] args) => RunWithInput("", args);

    internal static async Task<Outcome> RunWithInput(string input, params string[] args)
    {
        var output = new StringWriter();
        var error = new StringWriter();
        int status = await SvsmCommandLine.RunAsync(args, new ToolConsole(output, error, input: new StringReader(input)), TestContext.Current.CancellationToken);
        return new Outcome(status, output.ToString(), error.ToString());
    }

    // What is redirected has no escape sequences, no trailing spaces and no line wider than a terminal, digests and their like apart.
    internal static void AssertPlain(string text)
    {
        Assert.DoesNotContain('\u001b', text);
        Assert.DoesNotContain('\r', text);
        foreach (string line in text.Split('\n'))
        {
            Assert.Equal(line.TrimEnd(), line);
            Assert.True(line.Length <= 80 || !line.Contains(' ', StringComparison.Ordinal), line);
        }
    }

    internal static List<string> Names(JsonElement element)
    {
        var names = new List<string>();
        foreach (JsonProperty property in element.EnumerateObject())
        {
            names.Add(property.Name);
        }

        return names;
    }
}
