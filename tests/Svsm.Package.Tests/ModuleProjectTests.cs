// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.IO;
using System.Linq;
using System.Threading.Tasks;
using Xunit;

namespace Svsm.Package.Tests;

/// <summary>An author's module with the package of the library: the one of docs/write-a-module.md, as written there.</summary>
public sealed class ModuleProjectTests(Workspace workspace)
{
    [Fact]
    public async Task Module_OfTheGuide_IsBuiltAndTestedInProcessAndAsAProcess()
    {
        string folder = Path.Combine(workspace.Root, "Acme.Echo");
        Directory.CreateDirectory(folder);
        await File.WriteAllTextAsync(Path.Combine(folder, "Acme.Echo.csproj"), $"""
            <Project Sdk="Microsoft.NET.Sdk">
              <PropertyGroup>
                <TargetFramework>net10.0</TargetFramework>
                <OutputType>Exe</OutputType>
                <ImplicitUsings>enable</ImplicitUsings>
                <TreatWarningsAsErrors>true</TreatWarningsAsErrors>
              </PropertyGroup>
              <ItemGroup>
                <PackageReference Include="Svsm.Core" Version="{workspace.Version}" />
              </ItemGroup>
            </Project>
            """, TestContext.Current.CancellationToken);
        await File.WriteAllTextAsync(Path.Combine(folder, "EchoModule.cs"), ModuleOfTheGuide(), TestContext.Current.CancellationToken);
        await File.WriteAllTextAsync(Path.Combine(folder, "Program.cs"), """
            using Acme.Echo;
            using Svsm.Core;
            using Svsm.Core.Testing;
            using Svsm.Wire;

            if (args is ["module"])
            {
                return ModuleHost.Run(() => new EchoModule());
            }

            using (var test = new ModuleTest(new EchoModule()))
            {
                test.Memory.GuestWrite(new(0x1000), "hello"u8);
                SvsmAnswer answer = test.Call(call: 0, rcx: 0x1000, rdx: 5, r8: 0x2000);
                Console.WriteLine($"in process: {answer.Code} {answer.Rcx} {System.Text.Encoding.ASCII.GetString(test.Memory.GuestRead(new(0x2000), 5))}");
                Console.WriteLine($"too long: {test.Call(call: 0, rdx: 4097).Code}");
                Console.WriteLine($"nowhere: {test.Call(call: 0, rcx: ulong.MaxValue, rdx: 1).Code}");
            }

            await using (ModuleProcess module = ModuleProcess.Start([Environment.ProcessPath!, "module"], 0x100000, TimeSpan.FromMinutes(2)))
            {
                module.GuestWrite(new(0x1000), "there"u8);
                SvsmAnswer answer = await module.CallAsync(call: 0, rcx: 0x1000, rdx: 5, r8: 0x2000);
                Console.WriteLine($"as a process: {answer.Code} {answer.Rcx} {System.Text.Encoding.ASCII.GetString(module.GuestRead(new(0x2000), 5))}");
                return await module.EndAsync();
            }
            """, TestContext.Current.CancellationToken);

        CommandResult run = (await workspace.RunAsync(folder, "run")).MustSucceed();

        Assert.Equal(
            ["in process: Success 5 hello", "too long: InvalidParameter", "nowhere: InvalidAddress", "as a process: Success 5 there"],
            run.Output.Split('\n', StringSplitOptions.RemoveEmptyEntries));
    }

    // The code of the page, from its first using to its last brace.
    internal static string ModuleOfTheGuide()
    {
        string[] lines = [.. File.ReadLines(Path.Combine(Workspace.Repository, "docs/write-a-module.md"))];
        int first = Array.IndexOf(lines, "    using Svsm.Core;");
        int last = Array.IndexOf(lines, "    }", first);
        return string.Join('\n', lines[first..(last + 1)].Select(line => line.Length < 4 ? "" : line[4..]));
    }
}
