// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System.Threading.Tasks;
using Svsm.Core.Analyzers;
using Xunit;

namespace Svsm.Analyzers.Tests;

public sealed class AnalyzerTests
{
    [Theory]
    [InlineData("static void M() { TryIt(); }", "SVSM5001@1")]
    [InlineData("static void M() { Do(); }", "SVSM5001@1")]
    [InlineData("static void M()\n{\n    if (TryIt()) { Do(); }\n}", "SVSM5001@3")]
    [InlineData("static void M() { _ = TryIt(); _ = Do(); }", "")]
    [InlineData("static bool M() => TryIt() && Do() == Result.Fine;", "")]
    [InlineData("static void M() { Count(); Flag(); }", "")]
    [InlineData("static void M() => Do();", "SVSM5001@1")]
    public async Task ResultAnalyzer_Calls(string code, string expected) =>
        Assert.Equal(expected, await Snippet.AnalyzeAsync<ResultAnalyzer>(
            code + "\nstatic bool TryIt() => true; static Result Do() => Result.Bad; static int Count() => 1; static bool Flag() => true;"));

    [Theory]
    [InlineData("static void M() { _ = Thing.Create(out Thing thing); }", "SVSM5002@1")]
    [InlineData("static void M() { _ = Thing.Create(out var thing); int value = thing.Value; }", "SVSM5002@1")]
    [InlineData("static void M() { Thing thing = Thing.Make(); }", "SVSM5002@1")]
    [InlineData("static void M() { Thing.Make(); }", "SVSM5002@1")]
    [InlineData("static void M() { _ = Thing.Create(out _); }", "SVSM5002@1")]
    [InlineData("static void M() { Thing thing = Thing.Make(); Look(in thing); }", "SVSM5002@1")]
    [InlineData("static void M() { using Thing thing = Thing.Make(); }", "")]
    [InlineData("static void M() { using (Thing thing = Thing.Make()) { } }", "")]
    [InlineData("static void M() { _ = Thing.Create(out Thing thing); thing.Dispose(); }", "")]
    [InlineData("static Thing M() { Thing thing = Thing.Make(); return thing; }", "")]
    [InlineData("static Thing M() { Thing thing = Thing.Make(); return thing.Move(); }", "")]
    [InlineData("static Thing M() => Thing.Make();", "")]
    [InlineData("static Thing s_thing; static void M() { Thing thing = Thing.Make(); s_thing = thing; }", "")]
    [InlineData("static void M() { Thing thing = Thing.Make(); Take(thing); }", "")]
    [InlineData("static void M() { Thing thing = Thing.Make(); Keep(ref thing); }", "")]
    [InlineData("static Thing s_thing; static void M() { ref Thing thing = ref s_thing; }", "")]
    [InlineData("static Result M(out Thing thing) => Thing.Create(out thing);", "")]
    public async Task OwnerAnalyzer_Locals(string code, string expected) =>
        Assert.Equal(expected, await Snippet.AnalyzeAsync<OwnerAnalyzer>(
            code + "\nstatic void Look(in Thing thing) { } static void Take(Thing thing) { } static void Keep(ref Thing thing) { }"));

    [Theory]
    [InlineData("static object M() => new object();", "SVSM5003@1")]
    [InlineData("static byte[] M() => new byte[3];", "SVSM5003@1")]
    [InlineData("static object M() => 3;", "SVSM5003@1")]
    [InlineData("static object M() => new { A = 1 };", "SVSM5003@1")]
    [InlineData("static Func<int> M(int value) => () => value;", "SVSM5003@1")]
    [InlineData("static IDisposable M() => default(Thing);", "SVSM5003@1")]
    [InlineData("[Boot] static object M() => new object();", "")]
    [InlineData("static readonly object s_field = new object();", "")]
    [InlineData("static void M() => throw new InvalidOperationException(\"no\");", "")]
    [InlineData("static int M(int x) => x > 0 ? x : throw new ArgumentException(\"no\");", "")]
    [InlineData("static ReadOnlySpan<byte> M() => new byte[] { 1, 2 };", "")]
    [InlineData("static ReadOnlySpan<byte> M() => [1, 2];", "")]
    [InlineData("static int M() { Span<int> numbers = stackalloc int[3]; Thing thing = new(); return numbers[0] + thing.Value; }", "")]
    [InlineData("static Func<int> M() => static () => 3;", "")]
    [InlineData("[Obsolete(\"no\")] static void M() { }", "")]
    public async Task AllocationAnalyzer_Expressions(string code, string expected) => Assert.Equal(expected, await Snippet.AnalyzeAsync<AllocationAnalyzer>(code));

    [Theory]
    [InlineData("static int M(int* p) => *p;", "SVSM5004@1")]
    [InlineData("static int M(int* p) => p[1];", "SVSM5004@1")]
    [InlineData("static int M(Thing* p) => p->Value;", "SVSM5004@1")]
    [InlineData("static void* M(ulong address) => (void*)address;", "SVSM5004@1")]
    [InlineData("static int M() { unsafe { return 1; } }", "SVSM5004@1")]
    [InlineData("static int P => *(int*)4;", "SVSM5004@1")]
    [InlineData("static int M(int[] a) { fixed (int* p = a) { return 1; } }", "SVSM5004@1")]
    [InlineData("// SAFETY: it is not null.\nstatic int M(int* p) => *p;", "")]
    [InlineData("static int M(int* p)\n{\n    // SAFETY: it is not null.\n    return *p;\n}", "")]
    [InlineData("// It is not null.\nstatic int M(int* p) => *p;", "SVSM5004@2")]
    [InlineData("static int M(int[] a) => a[1];", "")]
    [InlineData("static byte* M(int* p) => (byte*)p;", "")]
    public async Task SafetyAnalyzer_Members(string code, string expected) => Assert.Equal(expected, await Snippet.AnalyzeAsync<SafetyAnalyzer>(code));

    [Fact]
    public async Task SafetyAnalyzer_CommentForTheType_IsEnough() =>
        Assert.Equal("", await Snippet.AnalyzeAsync<SafetyAnalyzer>("static int M(int* p) => *p;", "// SAFETY (whole class): nobody passes null."));

    [Theory]
    [InlineData("[Secret] static ulong s_key; static bool M(ulong x) => s_key == x;", "SVSM5005@1")]
    [InlineData("[Secret] static ulong s_key; static bool M(ulong x) => x != s_key;", "SVSM5005@1")]
    [InlineData("[Secret] static byte[] s_key = []; static bool M(ReadOnlySpan<byte> x) => x.SequenceEqual(s_key);", "SVSM5005@1")]
    [InlineData("[Secret] static byte[] s_key = []; static bool M(ReadOnlySpan<byte> x) => s_key.AsSpan().Slice(1).SequenceEqual(x);", "SVSM5005@1")]
    [InlineData("static bool M([Secret] byte[] key, int i) => key[i] == 3;", "SVSM5005@1")]
    [InlineData("[Secret] static string Key => \"a\"; static bool M(string x) => x.Equals(Key);", "SVSM5005@1")]
    [InlineData("[Secret] static byte[] s_key = []; static bool M() => s_key.Length == 32;", "")]
    [InlineData("[Secret] static ulong s_key; static ulong M(ulong x) => s_key ^ x;", "")]
    [InlineData("static ulong s_key; static bool M(ulong x) => s_key == x;", "")]
    public async Task SecretAnalyzer_Comparisons(string code, string expected) => Assert.Equal(expected, await Snippet.AnalyzeAsync<SecretAnalyzer>(code));
}
