// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.IO;
using System.Linq;
using System.Threading.Tasks;
using System.Xml.Linq;
using Xunit;

namespace Svsm.Package.Tests;

/// <summary>An integrator's own test project, with the package of the simulated machine and xunit.</summary>
public sealed class MachineTestTests(Workspace workspace)
{
    [Fact]
    public async Task TestProject_WithThePackage_StartsWaitsAttacksAndAsserts()
    {
        string image = Path.Combine(workspace.Project, "bin/Debug/net10.0/Acme.Svsm.igvm");
        string folder = Path.Combine(workspace.Root, "Acme.Svsm.Tests");
        Directory.CreateDirectory(folder);
        await File.WriteAllTextAsync(Path.Combine(folder, "Acme.Svsm.Tests.csproj"), $"""
            <Project Sdk="Microsoft.NET.Sdk">
              <PropertyGroup>
                <TargetFramework>net10.0</TargetFramework>
                <OutputType>Exe</OutputType>
                <ImplicitUsings>enable</ImplicitUsings>
                <TreatWarningsAsErrors>true</TreatWarningsAsErrors>
              </PropertyGroup>
              <ItemGroup>
                <PackageReference Include="Svsm.Simulator" Version="{workspace.Version}" />
                <PackageReference Include="xunit.v3" Version="{VersionOfXunit()}" />
              </ItemGroup>
            </Project>
            """, TestContext.Current.CancellationToken);
        await File.WriteAllTextAsync(Path.Combine(folder, "GuestTests.cs"), $$"""
            using Svsm.Simulator;
            using Svsm.Simulator.Shared;
            using Xunit;

            public sealed class GuestTests
            {
                [Fact]
                public async Task Guest_Starts_AndCannotReachTheSvsm()
                {
                    await using MachineTest machine = await MachineTest.StartAsync("{{image}}", TestContext.Current.CancellationToken);
                    await machine.WaitForLineAsync("probe: guest at VMPL2", vmpl: 2);
                    MachineResult result = await machine.WaitForEndAsync();
                    RmpMap memory = await machine.ReadRmpAsync();

                    Assert.Equal(0, result.ExitStatus);
                    Assert.True(memory.Count(entry => entry.IsValidated && entry.Rights(2) == "----") > 2000);
                }

                [Fact]
                public async Task Svsm_WhenTheHostTakesAPage_Stops()
                {
                    var options = new MachineOptions { ImagePath = "{{image}}", Attacks = [Attack.FlipValidatedPage(AttackTime.AtValidation(6))] };
                    await using MachineTest machine = await MachineTest.StartAsync(options, TestContext.Current.CancellationToken);
                    MachineResult result = await machine.WaitForEndAsync();

                    Assert.Equal(AttackOutcome.Done, Assert.Single(result.Attacks).Outcome);
                    Assert.Equal(MachineStop.Terminate, result.Stop);
                }
            }
            """, TestContext.Current.CancellationToken);

        CommandResult run = (await workspace.RunAsync(folder, "run")).MustSucceed();

        Assert.Matches("Total: 2, Errors: 0, Failed: 0", run.Output);
    }

    // The one that this repository is tested with.
    private static string VersionOfXunit() =>
        XDocument.Load(Path.Combine(Workspace.Repository, "Directory.Packages.props"))
            .Descendants("PackageVersion")
            .Single(element => (string?)element.Attribute("Include") == "xunit.v3")
            .Attribute("Version")!.Value;
}
