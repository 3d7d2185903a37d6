// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.IO;
using System.Linq;
using System.Text;
using System.Xml;
using System.Xml.Linq;
using Svsm.Diagnostics;
using Xunit;

namespace Svsm.Builder.Tests;

public sealed class ModuleProgramTests
{
    private static readonly string[] s_modules = [typeof(ModuleProgramTests).Assembly.Location];

    // Headers of this file take less than a page; with padding its segments lie where their addresses say.
    private static byte[] Program(ulong address = 0x40_0000, uint flags = TestElf.RX, ulong entry = 0x40_0000, ulong second = 0x40_2000)
    {
        int headers = 64 + (2 * 56);
        var elf = new TestElf { Entry = entry + (ulong)headers };
        elf.Add(address + (ulong)headers, flags, new byte[0x1000 - headers]);
        elf.Add(second, TestElf.RW, new byte[0x800], 0x2000);
        return elf.ToArray();
    }

    [Fact]
    public void Check_StaticExecutable_Passes() => ModuleProgram.Check(Program());

    [Fact]
    public void Check_WritableCode_Fails() => Fails("written and executed", Program(flags: 7));

    [Fact]
    public void Check_EntryOutsideOfCode_Fails() => Fails("entry point", Program(entry: 0x40_2000));

    [Fact]
    public void Check_SegmentThatLiesElsewhereInItsPage_Fails() => Fails("same place in a page", Program(second: 0x40_2010));

    [Fact]
    public void Check_SegmentsThatShareAPage_Fails()
    {
        var elf = new TestElf { Entry = 0x40_0000 + 176 };
        elf.Add(0x40_0000 + 176, TestElf.RX, new byte[0x100]);
        elf.Add(0x40_0000 + 176 + 0x100, TestElf.RW, new byte[0x100]);
        Fails("a page in common", elf.ToArray());
    }

    [Fact]
    public void Check_NoExecutable_IsTheElfReadersError() =>
        Assert.Same(SvsmDiagnostics.ElfDamaged, Assert.Throws<SvsmDiagnosticException>(() => ModuleProgram.Check(new byte[100])).Diagnostic);

    [Fact]
    public void Check_Interpreter_IsTheElfReadersError()
    {
        var elf = new TestElf { Entry = 0x40_0000 };
        elf.Segments.Add(new TestElf.Segment(0x40_0000, TestElf.RX, new byte[16], 16, ".interp") { Type = 3 });
        Assert.Same(SvsmDiagnostics.ElfUnsupported, Assert.Throws<SvsmDiagnosticException>(() => ModuleProgram.Check(elf.ToArray())).Diagnostic);
    }

    [Fact]
    public void Measure_MethodsOfAssemblies_CountAsTheirs()
    {
        ModuleProgramPart[] parts = [.. ModuleProgram.Measure(1000, Map(
            """
            <MethodCode Name="Svsm_Builder_Tests_Svsm_Builder_Tests_X__M" Length="100" />
            <GCInfo Name="Svsm_Builder_Tests_Svsm_Builder_Tests_X__M" Length="7" />
            <MethodCode Name="Svsm_Builder_Tests_Svsm_Builder_Tests_X__N" Length="20" />
            <MethodCode Name="Svsm_Builder_Svsm_Builder_Y__N" Length="300" />
            <MethodCode Name="S_P_CoreLib_System_String__Concat" Length="500" />
            """), [.. s_modules, "/x/Svsm.Builder.dll", "/x/Unused.dll"])];

        Assert.Equal([new ModuleProgramPart("Svsm.Builder", 300), new ModuleProgramPart("Svsm.Builder.Tests", 120), new ModuleProgramPart("", 580)], parts);
    }

    [Fact]
    public void Find_NativeCalls_NamesAssemblyLibraryAndFunction()
    {
        ModuleNativeCall[] calls = [.. ModuleNativeCalls.Find(Map(
            """
            <MethodCode Name="x" Length="1" />
            <PInvokeMethodFixup Name="__pinvoke_System_Security_Cryptography__Module__libSystem_Security_Cryptography_Native_OpenSsl_2050__CryptoNative_EvpSha1" Length="28" />
            <PInvokeMethodFixup Name="__pinvoke_Acme_Echo__Module__acme__foo" Length="28" />
            <PInvokeModuleFixup Name="__nativemodule_Acme_Echo__Module__acme" Length="28" />
            """), ["/a/System.Security.Cryptography.dll", "/b/Acme.Echo.dll"])];

        Assert.Equal(
            [("Acme.Echo", "acme", "foo"), ("System.Security.Cryptography", "libSystem_Security_Cryptography_Native_OpenSsl", "CryptoNative_EvpSha1")],
            calls.Select(call => (call.Assembly, call.Library, call.Function)));
    }

    [Fact]
    public void Find_DamagedMap_Throws()
    {
        Assert.Throws<XmlException>(() => ModuleNativeCalls.Find(new MemoryStream("<a><b"u8.ToArray()), []));
        Assert.Throws<XmlException>(() => ModuleNativeCalls.Find(Map("<PInvokeMethodFixup Name=\"other\" />"), []));
    }

    [Fact]
    public void Explain_Call_IsFollowedToTheNearestMethodOfAModule()
    {
        var call = new ModuleNativeCall("__pinvoke_x__Module__y__z", "x", "y", "z");
        XDocument graph = XDocument.Parse(
            """
            <DirectedGraph xmlns="http://schemas.microsoft.com/vs/2009/dgml">
              <Nodes>
                <Node Id="0" Label="__pinvoke_x__Module__y__z" />
                <Node Id="1" Label="x_Ns_Native__z" />
                <Node Id="2" Label="Svsm_Builder_Tests_Svsm_Builder_Tests_ModuleProgramTests__Program_0" />
                <Node Id="3" Label="unrelated" />
                <Node Id="4" Label="root" />
              </Nodes>
              <Links>
                <Link Source="1" Target="0" /><Link Source="2" Target="1" /><Link Source="0" Target="3" /><Link Source="4" Target="2" /><Link Source="9" Target="0" />
              </Links>
            </DirectedGraph>
            """);

        Assert.Equal(("Svsm.Builder.Tests.ModuleProgramTests.Program", null), ModuleNativeCalls.Explain(graph, call, s_modules, s_modules));
        Assert.Equal((null, null), ModuleNativeCalls.Explain(graph, call with { Symbol = "other" }, s_modules, s_modules));
        Assert.Equal((null, null), ModuleNativeCalls.Explain(graph, call, ["/x/Other.dll"], s_modules));

        // A module's own declaration, which another of its methods calls, or none.
        XDocument own = XDocument.Parse(graph.ToString().Replace("x_Ns_Native__z", "Svsm_Builder_Tests_Svsm_Builder_Tests_ModuleProgramTests__Fails", StringComparison.Ordinal));
        Assert.Equal(
            ("Svsm.Builder.Tests.ModuleProgramTests.Program", "Svsm.Builder.Tests.ModuleProgramTests.Fails"), ModuleNativeCalls.Explain(own, call, s_modules, s_modules));
        XDocument tentative = XDocument.Parse(own.ToString().Replace("Label=\"Svsm_Builder_Tests_Svsm_Builder_Tests_ModuleProgramTests__Fails", "Label=\"Tentative instance method: Svsm_Builder_Tests_Svsm_Builder_Tests_ModuleProgramTests__Fails", StringComparison.Ordinal));
        Assert.Equal(
            ("Svsm.Builder.Tests.ModuleProgramTests.Program", "Svsm.Builder.Tests.ModuleProgramTests.Fails"), ModuleNativeCalls.Explain(tentative, call, s_modules, s_modules));
        XDocument alone = XDocument.Parse(own.ToString().Replace("Source=\"2\"", "Source=\"7\"", StringComparison.Ordinal));
        Assert.Equal(("Svsm.Builder.Tests.ModuleProgramTests.Fails", null), ModuleNativeCalls.Explain(alone, call, s_modules, s_modules));
    }

    private static MemoryStream Map(string nodes) => new(Encoding.UTF8.GetBytes($"<ObjectNodes>{nodes}</ObjectNodes>"));

    private static void Fails(string text, byte[] program)
    {
        var exception = Assert.Throws<SvsmDiagnosticException>(() => ModuleProgram.Check(program));
        Assert.Same(SvsmDiagnostics.ModuleProgramUnusable, exception.Diagnostic);
        Assert.Contains(text, exception.Message, StringComparison.Ordinal);
    }
}
