// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

extern alias core;

using System;
using System.Diagnostics.CodeAnalysis;
using System.IO;
using core::Svsm.Core;
using Svsm.Diagnostics;
using Xunit;

namespace Svsm.Builder.Tests;

public sealed class ModuleClassTests
{
    private const string Here = "Svsm.Builder.Tests";
    private static readonly string[] s_assemblies = [typeof(ModuleClassTests).Assembly.Location, typeof(SvsmModule).Assembly.Location];

    [Theory]
    [InlineData(typeof(GoodModule), 0x8000_0007, 1, 1, null)]
    [InlineData(typeof(VersionedModule), 5, 2, 9, "0b8a1d9e-5b6f-4d0e-8d4a-1f2e3d4c5b6a")]
    [InlineData(typeof(DerivedModule), 6, 1, 1, null)]
    [InlineData(typeof(GenericallyDerivedModule), 8, 1, 3, null)]
    public void Read_Module_HasWhatItsAttributeSays(Type type, uint protocol, uint min, uint max, string? service) =>
        Assert.Equal(new ModuleClass(type.FullName!, Here, protocol, min, max, service is null ? null : Guid.Parse(service)), ModuleClass.Read(Here, type.FullName!, s_assemblies));

    [Theory]
    [InlineData("", "has no Type")]
    [InlineData("Svsm.Builder.Tests.Nowhere", "Namespace.Name")]
    [InlineData("GoodModule", "Namespace.Name")]
    [InlineData("Svsm.Builder.Tests.Outer+NestedModule", "Namespace.Name")]
    [InlineData("Svsm.Builder.Tests.InternalModule", "not public")]
    [InlineData("Svsm.Builder.Tests.AbstractModule", "not public, or abstract")]
    [InlineData("Svsm.Builder.Tests.GenericModule`1", "or generic")]
    [InlineData("Svsm.Builder.Tests.NoModule", "does not derive from Svsm.Core.SvsmModule")]
    [InlineData("Svsm.Builder.Tests.ModuleOfAnother", "does not derive from Svsm.Core.SvsmModule")]
    [InlineData("Svsm.Builder.Tests.ArgumentModule", "no public constructor without parameters")]
    [InlineData("Svsm.Builder.Tests.SecretModule", "no public constructor without parameters")]
    [InlineData("Svsm.Builder.Tests.NamelessModule", "no [SvsmProtocol]")]
    [InlineData("Svsm.Builder.Tests.UnreadableServiceModule", "names the service 'vTPM'")]
    [InlineData("Svsm.Builder.Tests.ZeroServiceModule", "names the service '00000000-")]
    public void Read_ClassThatCannotBeAModule_Fails(string type, string text)
    {
        var exception = Assert.Throws<SvsmDiagnosticException>(() => ModuleClass.Read(Here, type, s_assemblies));
        Assert.Same(SvsmDiagnostics.ModuleClassUnusable, exception.Diagnostic);
        Assert.Contains(text, exception.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Read_AssemblyThatIsNotThere_NamesThoseThatAre()
    {
        var exception = Assert.Throws<SvsmDiagnosticException>(() => ModuleClass.Read("Acme.Echo", "Acme.Echo.EchoModule", s_assemblies));
        Assert.Same(SvsmDiagnostics.ModuleAssemblyMissing, exception.Diagnostic);
        Assert.Contains("'Acme.Echo' and the assemblies Svsm.Builder.Tests, Svsm.Core", exception.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Read_BaseClassInAnAssemblyThatIsNotThere_IsNoModule()
    {
        var exception = Assert.Throws<SvsmDiagnosticException>(() => ModuleClass.Read(Here, typeof(ModuleClassTests).FullName!, [s_assemblies[0]]));
        Assert.Same(SvsmDiagnostics.ModuleClassUnusable, exception.Diagnostic);
    }

    [Fact]
    public void Read_DamagedAssembly_IsAnErrorOfItsOwn()
    {
        DirectoryInfo folder = Directory.CreateTempSubdirectory("svsm-class-");
        try
        {
            byte[] good = File.ReadAllBytes(s_assemblies[0]);
            string path = Path.Combine(folder.FullName, Here + ".dll");
            var random = new Random(1);
            for (int i = 0; i < 2000; i++)
            {
                byte[] bad = (byte[])good.Clone();
                for (int j = 0; j < 200; j++)
                {
                    bad[random.Next(bad.Length)] = (byte)random.Next();
                }

                File.WriteAllBytes(path, i == 0 ? [1, 2, 3] : bad);
                try
                {
                    ModuleClass.Read(Here, typeof(GenericallyDerivedModule).FullName!, [path, s_assemblies[1]]);
                }
                catch (SvsmDiagnosticException)
                {
                }
            }
        }
        finally
        {
            folder.Delete(recursive: true);
        }
    }

    [Fact]
    public void HostProgram_NamesEachModule_InOneOrder()
    {
        string text = ModuleHostProgram.Write(["B.event.Two", "A.One"]);
        Assert.Equal(text, ModuleHostProgram.Write(["A.One", "B.event.Two"]));
        Assert.Contains("\"A.One\" => global::Svsm.Core.ModuleHost.Run(static () => new global::@A.@One())", text, StringComparison.Ordinal);
        Assert.Contains("new global::@B.@event.@Two()", text, StringComparison.Ordinal);
    }
}

[SvsmProtocol(0x8000_0007)]
public class GoodModule : ModuleBase;

[SvsmProtocol(5, MinVersion = 2, MaxVersion = 9, Service = "0b8a1d9e-5b6f-4d0e-8d4a-1f2e3d4c5b6a")]
public sealed class VersionedModule : ModuleBase;

[SvsmProtocol(9, Service = "vTPM")]
public sealed class UnreadableServiceModule : ModuleBase;

[SvsmProtocol(9, Service = "00000000-0000-0000-0000-000000000000")]
public sealed class ZeroServiceModule : ModuleBase;

[SvsmProtocol(6)]
public sealed class DerivedModule : GoodModule;

[SvsmProtocol(8, MaxVersion = 3)]
public sealed class GenericallyDerivedModule : GenericModule<int>;

[SvsmProtocol(9)]
public class GenericModule<T> : ModuleBase
{
    public T? Value { get; }
}

public abstract class ModuleBase : SvsmModule
{
    protected override core::Svsm.Core.SvsmResult Handle(in SvsmRequest request) => core::Svsm.Wire.SvsmResultCode.UnsupportedCall;
}

[SvsmProtocol(9)]
public abstract class AbstractModule : ModuleBase;

[SuppressMessage("Performance", "CA1812", Justification = "read from metadata")]
[SvsmProtocol(9)]
internal sealed class InternalModule : ModuleBase;

[SvsmProtocol(9)]
public sealed class NoModule;

[SvsmProtocol(9)]
public sealed class ArgumentModule(int number) : ModuleBase
{
    public int Number { get; } = number;
}

[SvsmProtocol(9)]
public sealed class SecretModule : ModuleBase
{
    internal SecretModule()
    {
    }
}

public sealed class NamelessModule : ModuleBase;

[SvsmProtocol(9)]
public sealed class ModuleOfAnother : Another.SvsmModule;

[SuppressMessage("Design", "CA1052", Justification = "a place")]
[SuppressMessage("Design", "CA1034", Justification = "what is tested")]
public class Outer
{
    [SvsmProtocol(9)]
    public sealed class NestedModule : ModuleBase;
}

public static class Another
{
    [SuppressMessage("Design", "CA1034", Justification = "what is tested")]
    public class SvsmModule;
}
