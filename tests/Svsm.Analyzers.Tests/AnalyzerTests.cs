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
    [InlineData("static void M(Worker w) { w?.TryWork(); w?.Count(); } sealed class Worker { public bool TryWork() => true; public int Count() => 1; }", "SVSM5001@1")]
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

    // Early returns, branches, loops: each path counts.
    [Theory]
    [InlineData("static Result M() { Result r = Thing.Create(out Thing a); if (r != Result.Fine) return r; a.Dispose(); return r; }", "")]
    [InlineData("static Result M() { Result r = Thing.Create(out Thing a); if (r == Result.Fine) { a.Dispose(); } return r; }", "")]
    [InlineData("static Result M() { if (Thing.Create(out Thing a) != Result.Fine) return Result.Bad; a.Dispose(); return Result.Fine; }", "")]
    [InlineData("static Result M() { if (Thing.Create(out Thing a) is Result.Bad) return Result.Bad; a.Dispose(); return Result.Fine; }", "")]
    [InlineData("static bool M() { if (!Thing.TryCreate(out Thing a)) return false; a.Dispose(); return true; }", "")]
    [InlineData("static bool M() { bool ok = Thing.TryCreate(out Thing a); if (!ok) return false; a.Dispose(); return true; }", "")]
    [InlineData("static Result M(bool b) { Result r = Thing.Create(out Thing a); if (r != Result.Fine) return r; if (b) return r; a.Dispose(); return r; }", "SVSM5002@1")]
    [InlineData("static void M(bool b) { Thing a = Thing.Make(); if (b) { a.Dispose(); } }", "SVSM5002@1")]
    [InlineData("static void M(bool b) { Thing a = Thing.Make(); if (b) { return; } a.Dispose(); }", "SVSM5002@1")]
    [InlineData("static void M(bool b) { Thing a = Thing.Make(); if (b) { a.Dispose(); } else { Take(a); } }", "")]
    [InlineData("static void M(bool b) { Thing a = Thing.Make(); if (b) { throw new InvalidOperationException(); } a.Dispose(); }", "")]
    [InlineData("static Result M() { Result r = Thing.Create(out Thing a); if (r == Result.Bad) { a.Dispose(); } return r; }", "SVSM5002@1")]
    [InlineData("static Result M() { Result r = Thing.Create(out Thing a); if (r != Result.Fine) return r; r = Thing.Create(out Thing b); if (r != Result.Fine) { a.Dispose(); return r; } a.Dispose(); b.Dispose(); return r; }", "")]
    [InlineData("static Result M() { Result r = Thing.Create(out Thing a); if (r != Result.Fine) return r; r = Thing.Create(out Thing b); if (r != Result.Fine) { return r; } a.Dispose(); b.Dispose(); return r; }", "SVSM5002@1")]
    [InlineData("static Result M() { Result r = Thing.Create(out Thing a); r = Result.Fine; if (r != Result.Fine) return r; a.Dispose(); return r; }", "SVSM5002@1")]
    [InlineData("static void M(int n) { for (int i = 0; i < n; i++) { Thing a = Thing.Make(); a.Dispose(); } }", "")]
    [InlineData("static void M(int n) { for (int i = 0; i < n; i++) { Thing a = Thing.Make(); if (i == 3) { continue; } a.Dispose(); } }", "SVSM5002@1")]
    [InlineData("static void M(int n) { Thing a = default; for (int i = 0; i < n; i++) { a = Thing.Make(); } a.Dispose(); }", "SVSM5002@1")]
    [InlineData("static void M(bool b) { Thing a = default; if (b) { a = Thing.Make(); } a.Dispose(); }", "")]
    [InlineData("static void M() { Thing a = Thing.Make(); a = default; }", "SVSM5002@1")]
    [InlineData("static void M() { Thing a = Thing.Make(); if (!a.IsEmpty) { a.Dispose(); } }", "")]
    [InlineData("static void M() { Thing a = Thing.Make(); if (a.IsEmpty) { a.Dispose(); } }", "SVSM5002@1")]
    [InlineData("static void M(bool b) { Thing a = Thing.Make(); try { if (b) return; } finally { a.Dispose(); } }", "")]
    [InlineData("static Thing M(bool b) { Thing a = Thing.Make(); return b ? a : a.Move(); }", "")]
    [InlineData("static Thing M(bool b) { Thing a = Thing.Make(); return b ? a : default; }", "SVSM5002@1")]
    [InlineData("static void M(int x) { Thing a = Thing.Make(); switch (x) { case 1: a.Dispose(); break; case 2: Take(a); break; } }", "SVSM5002@1")]
    [InlineData("static void M() { _ = Thing.Make(); }", "SVSM5002@1")]
    public async Task OwnerAnalyzer_Paths(string code, string expected) =>
        Assert.Equal(expected, await Snippet.AnalyzeAsync<OwnerAnalyzer>(code + "\nstatic void Take(Thing thing) { }"));

    [Theory]
    [InlineData("static object M() => new object();", "SVSM5003@1")]
    [InlineData("static byte[] M() => new byte[3];", "SVSM5003@1")]
    [InlineData("static object M() => 3;", "SVSM5003@1")]
    [InlineData("static object M() => new { A = 1 };", "SVSM5003@1")]
    [InlineData("static Func<int> M(int value) => () => value;", "SVSM5003@1")]
    [InlineData("static IDisposable M() => default(Thing);", "SVSM5003@1")]
    [InlineData("static int[] M(int x) => [x, 2];", "SVSM5003@1")]
    [InlineData("static string M(string x) => x + \"a\";", "SVSM5003@1")]
    [InlineData("static string M(string x) { x += \"a\"; return x; }", "SVSM5003@1")]
    [InlineData("static string M(int x) => $\"{x}\";", "SVSM5003@1")]
    [InlineData("static Func<string> M(string x) => x.ToString;", "SVSM5003@1")]
    [InlineData("static Func<string> M() => N; static string N() => \"a\" + \"b\";", "")]
    [InlineData("static Span<int> M(Span<int> x) { Span<int> y = [1, 2]; y.CopyTo(x); return x; }", "")]
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
    [InlineData("static int M(delegate*<int> f) => f();", "SVSM5004@1")]
    [InlineData("static int M(Func<int> f) => f();", "")]
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
    [InlineData("[Secret] static ulong s_key; static bool M() => s_key is 3;", "SVSM5005@1")]
    [InlineData("[Secret] static ulong s_key; static bool M(ulong x) => s_key < x;", "SVSM5005@1")]
    [InlineData("[Secret] static ulong s_key; static int M() { switch (s_key) { case 3: return 1; default: return 0; } }", "SVSM5005@1")]
    [InlineData("[Secret] static ulong s_key; static int M() => s_key switch { 3 => 1, _ => 0 };", "SVSM5005@1")]
    [InlineData("[Secret] static byte[] s_key = []; static bool M(ReadOnlySpan<byte> x) => s_key.AsSpan().StartsWith(x);", "SVSM5005@1")]
    [InlineData("[Secret] static byte[] s_key = []; static bool M() => s_key.Length == 32;", "")]
    [InlineData("[Secret] static ulong s_key; static ulong M(ulong x) => s_key ^ x;", "")]
    [InlineData("static ulong s_key; static bool M(ulong x) => s_key == x;", "")]
    public async Task SecretAnalyzer_Comparisons(string code, string expected) => Assert.Equal(expected, await Snippet.AnalyzeAsync<SecretAnalyzer>(code));

    private const string Module = "namespace Svsm.Core { public abstract class SvsmModule { } public abstract class Middle : SvsmModule { } }\nsealed class Mine : Svsm.Core.Middle { }\n";

    [Theory]
    [InlineData("static void M() { new System.Threading.Thread(() => { }).Start(); }", "SVSM5006@1")]
    [InlineData("static int M() => System.Threading.Tasks.Task.Run(() => 1).Result;", "SVSM5006@1")]
    [InlineData("static object M() => System.Threading.Tasks.Task.Factory.StartNew(() => 1);", "SVSM5006@1")]
    [InlineData("static object M() => System.Threading.Tasks.Task.Delay(1);", "SVSM5006@1")]
    [InlineData("static object M() => new System.Threading.Timer(_ => { });", "SVSM5006@1")]
    [InlineData("static void M() { System.Threading.Tasks.Parallel.For(0, 1, _ => { }); }", "SVSM5006@1")]
    [InlineData("static object M() => System.Linq.ParallelEnumerable.AsParallel(new[] { 1 });", "SVSM5006@1")]
    [InlineData("static void M() { System.Threading.ThreadPool.QueueUserWorkItem(_ => { }); }", "SVSM5006@1")]
    [InlineData("static long M() => DateTime.UtcNow.Ticks\n+ DateTimeOffset.Now.Ticks;", "SVSM5006@1 SVSM5006@2")]
    [InlineData("static void M() => System.IO.File.WriteAllText(\"/x\", \"y\");", "SVSM5006@1")]
    [InlineData("static object M() => System.IO.File.ReadAllBytesAsync(\"/x\");", "SVSM5006@1")]
    [InlineData("static object M() => System.IO.Directory.GetFiles(\"/\");", "SVSM5006@1")]
    [InlineData("static string M() => System.IO.File.ReadAllText(\"/x\") + System.IO.File.Exists(\"/x\");", "")]
    [InlineData("static object M() => new System.IO.FileStream(\"/x\", System.IO.FileMode.Open);", "")]
    [InlineData("static object M() => new System.Net.Sockets.TcpClient();", "SVSM5006@1")]
    [InlineData("static object M() => System.Diagnostics.Process.Start(\"/x\");", "SVSM5006@1")]
    [InlineData("static void M() { Console.WriteLine(1);\nConsole.ReadLine(); }", "SVSM5006@1 SVSM5006@2")]
    [InlineData("static byte[] M(byte[] x) => System.Security.Cryptography.SHA256.HashData(x);", "SVSM5006@1")]
    [InlineData("static object M() => System.Security.Cryptography.Aes.Create();", "SVSM5006@1")]
    [InlineData("static object M() => new System.Security.Cryptography.X509Certificates.X509Certificate2(\"/x\");", "SVSM5006@1")]
    [InlineData("static object M(System.IO.Stream s) => new System.IO.Compression.GZipStream(s, System.IO.Compression.CompressionMode.Compress);", "SVSM5006@1")]
    [InlineData("sealed class C { ~C() { } }", "SVSM5006@1")]
    [InlineData("static void M() { GC.WaitForPendingFinalizers(); }", "SVSM5006@1")]
    [InlineData("static void M() { System.Security.Cryptography.RandomNumberGenerator.Fill(new byte[3]); }", "")]
    [InlineData("static long M() => Environment.TickCount64 + System.Diagnostics.Stopwatch.GetTimestamp() + System.Threading.Thread.CurrentThread.ManagedThreadId;", "")]
    [InlineData("static DateTime M() => new DateTime(2026, 1, 1).AddDays(1);", "")]
    [InlineData("static object M() => System.Threading.Tasks.Task.FromResult(1);", "")]
    [InlineData("static bool M(byte[] x) => System.Security.Cryptography.CryptographicOperations.FixedTimeEquals(x, x);", "")]
    public async Task ModuleLibraryAnalyzer_Uses(string code, string expected)
    {
        Assert.Equal(expected, await Snippet.AnalyzeAsync<ModuleLibraryAnalyzer>(code, types: Module));

        // Another project is no business of it.
        Assert.Equal("", await Snippet.AnalyzeAsync<ModuleLibraryAnalyzer>(code));
    }
}
