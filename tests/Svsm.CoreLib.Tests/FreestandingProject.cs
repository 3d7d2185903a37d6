// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Threading.Tasks;
using Xunit;

namespace Svsm.CoreLib.Tests;

/// <summary>A freestanding executable in a folder of its own, outside of the repository, on prebuilt libraries as a package would bring them.</summary>
internal sealed class FreestandingProject : IDisposable
{
    internal FreestandingProject(string name)
    {
        Folder = Path.Combine(Path.GetTempPath(), $"svsm-{name}-{Guid.NewGuid():N}");
        Directory.CreateDirectory(Folder);
        string targets = Path.Combine(Repository.Root, "Svsm.Sdk", "targets");
        Write("App.csproj", $"""
            <Project Sdk="Microsoft.NET.Sdk">
              <Import Project="{targets}/Svsm.Freestanding.props" />
              <PropertyGroup>
                <TargetFramework>net10.0</TargetFramework>
                <Nullable>enable</Nullable>
                <Deterministic>true</Deterministic>
                <DebugType>embedded</DebugType>
                <PathMap>$(MSBuildProjectDirectory)=/_/</PathMap>
                <EnableDefaultCompileItems>false</EnableDefaultCompileItems>
                <SvsmFreestandingImage>true</SvsmFreestandingImage>
                <SvsmLinkerScript>App.ld</SvsmLinkerScript>
              </PropertyGroup>
              <ItemGroup>
                <Compile Include="Program.cs" />
                <Reference Include="{LibraryPath("Svsm.CoreLib")}" />
                <Reference Include="{LibraryPath("Svsm.Platform")}" />
                <SvsmAssemblySource Include="First.S;Second.S;$(ExtraAssembly)" />
                <SvsmAssemblyInclude Include="App.Shared.inc" />
              </ItemGroup>
            </Project>
            """);
        Write("Program.cs", """
            using System;
            using System.Runtime;
            using System.Runtime.CompilerServices;

            internal static unsafe class Program
            {
                [RuntimeExport("app_main")]
                private static void Main()
                {
            #if GENERIC_VIRTUAL
                    new Generic().Call<int>();
                    new Derived().Call<long>();
            #elif UNDEFINED
                    Missing();
            #endif
                }

                [RuntimeExport("svsm_fail_fast")]
                private static void FailFast(char* text, int length)
                {
                    while (true)
                    {
                    }
                }

            #if GENERIC_VIRTUAL
                private class Generic
                {
                    [MethodImpl(MethodImplOptions.NoInlining)]
                    internal virtual object? Call<T>() => null;
                }

                private class Derived : Generic
                {
                    [MethodImpl(MethodImplOptions.NoInlining)]
                    internal override object? Call<T>() => new T[1];
                }
            #elif UNDEFINED
                [RuntimeImport("*", "app_missing")]
                [MethodImpl(MethodImplOptions.InternalCall)]
                private static extern void Missing();
            #endif
            }
            """);
        Write("App.Shared.inc", """
                    .set    ANSWER, 42
            """);
        Write("First.S", """
                    .include "Svsm.CoreLib.Macros.inc"
                    .include "App.Shared.inc"
                    function app_start
                    mov     $ANSWER, %eax
                    call    app_main
                    call    app_second
                    ud2
                    end_function app_start
            """);
        Write("Second.S", """
                    .include "Svsm.CoreLib.Macros.inc"
                    function app_second
                    ret
                    end_function app_second
            """);
        Write("Broken.S", """
                    not_an_instruction
            """);
        Write("App.ld", """
            ENTRY(app_start)
            SECTIONS
            {
              . = 0x100000;
              .text : { *(.text .text.* __managedcode __unbox) }
              . = ALIGN(0x1000);
              .rodata : { *(.rodata .rodata.*) }
              . = ALIGN(0x1000);
              .data : { *(.data .data.*) KEEP(*(__modules)) }
              .bss : { *(.bss .bss.*) }
              .got : { *(.got .got.plt .igot .igot.plt .plt .iplt .rela.*) }
              /DISCARD/ : { *(.eh_frame .dotnet_eh_table .comment .note.GNU-stack) }
            }
            """);
    }

    internal string Folder { get; }

    internal string Elf => Path.Combine(Folder, "bin", "Debug", "net10.0", "App.elf");

    internal string Map => Path.ChangeExtension(Elf, ".map");

    internal static string LibraryPath(string name) => Path.Combine(Repository.Output(name), $"{name}.dll");

    internal void Write(string file, string text) => File.WriteAllText(Path.Combine(Folder, file), text + "\n");

    internal void Append(string file, string text) => File.AppendAllText(Path.Combine(Folder, file), text + "\n");

    internal string NativeFile(string name) => Path.Combine(Folder, "obj", "Debug", "net10.0", "native", "App", name);

    /// <summary>Runs <c>dotnet build</c>, or another verb, without leaving build servers behind.</summary>
    internal Task<(int ExitCode, string Output)> RunAsync(string verb, params IEnumerable<string> arguments) => Command.RunAsync(
        "dotnet", Folder, ["msbuild", $"-t:{verb}", "-nologo", "-nodeReuse:false", "-v:minimal", "-p:UseSharedCompilation=false", .. arguments]);

    internal async Task BuildAsync(params IEnumerable<string> arguments)
    {
        (int exitCode, string output) = await RunAsync("Build", arguments);
        Assert.True(exitCode == 0, output);
    }

    /// <summary>Builds, and says which of the outputs were written.</summary>
    internal async Task<string[]> RebuiltAsync()
    {
        string[] files = [NativeFile("App.ilc.o"), NativeFile("First.o"), NativeFile("Second.o"), NativeFile("Svsm.CoreLib.Runtime.o"), Elf];
        DateTime[] before = [.. files.Select(File.GetLastWriteTimeUtc)];
        await BuildAsync();
        return [.. files.Where((file, i) => File.GetLastWriteTimeUtc(file) != before[i]).Select(file => Path.GetFileName(file))];
    }

    public void Dispose() => Directory.Delete(Folder, recursive: true);
}
