// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Generic;
using System.Diagnostics;
using System.Diagnostics.CodeAnalysis;
using System.Globalization;
using System.IO;
using System.Linq;
using System.Net;
using System.Net.Sockets;
using System.Reflection.Emit;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using System.Text.Json.Serialization;
using System.Text.RegularExpressions;
using System.Threading;
using System.Threading.Tasks;
using Svsm.Core;
using Svsm.Wire;

namespace Svsm.TestModule;

/// <summary>
/// Tries a row of the table "The class library" of docs/write-a-module.md: call 0, RCX = address and RDX = length of its name, R8 = where the outcome goes, at
/// most 256 bytes; RCX afterwards is its length. An outcome is a value, or the name of the exception's type.
/// </summary>
[SvsmProtocol(0x8000_0002)]
[SuppressMessage("Design", "CA1031", Justification = "which exception it is, is the outcome")]
public sealed class LibraryModule : SvsmModule
{
    public const int MaxLength = 256;

    private static readonly Dictionary<string, Func<string>> s_rows = new()
    {
        ["null"] = () => Length(null).ToString(CultureInfo.InvariantCulture),
        ["divide"] = () => Divide(1, 0).ToString(CultureInfo.InvariantCulture),
        ["cast"] = () => (string)Box(3),
        ["memory"] = FillMemory,
        ["linq"] = () => string.Join(',', Enumerable.Range(1, 5).Where(i => i % 2 == 1).Select(i => (i * 1.5).ToString(CultureInfo.InvariantCulture))),
        ["regex"] = () => Regex.Replace("a1b22c", "[0-9]+", "-"),
        ["random"] = () => RandomNumberGenerator.GetBytes(32).Distinct().Skip(8).Any() ? "random" : "constant",
        ["culture"] = () => CultureInfo.GetCultureInfo("de-DE").Name,
        ["zone"] = () => TimeZoneInfo.Local.BaseUtcOffset.ToString(),
        ["ticks"] = Ticks,
        ["date"] = () => DateTime.UtcNow.Year > 2000 ? "date" : "1970",
        ["thread"] = StartThread,
        ["task"] = () => Task.Run(() => 7).Result.ToString(CultureInfo.InvariantCulture),
        ["complete"] = () => CompleteAsync().Result,
        ["delay"] = () => Task.Delay(1).Wait(TimeSpan.FromMinutes(1)) ? "delayed" : "late",
        ["finalizers"] = RunFinalizers,
        ["cancel"] = CancelLater,
        ["timer"] = StartTimer,
        ["file"] = () => File.ReadAllText("/no/such/file"),
        ["archive"] = ReadArchive,
        ["unshared"] = () => File.ReadAllText(LibraryRows.UnsharedFile),
        ["unseen"] = () => File.Exists(LibraryRows.UnsharedFile) ? "seen" : "not there",
        ["write"] = () => Write(LibraryRows.SharedFile),
        ["create"] = () => Write("/keys/new"),
        ["directory"] = () => Directory.GetFiles("/keys").Length.ToString(CultureInfo.InvariantCulture),
        ["socket"] = OpenSocket,
        ["name"] = () => Dns.GetHostAddresses("localhost").Length.ToString(CultureInfo.InvariantCulture),
        ["process"] = () => Process.Start("/modules").Id.ToString(CultureInfo.InvariantCulture),
        ["parallel"] = SumInParallel,
        ["plinq"] = () => Enumerable.Range(1, 1000).AsParallel().Sum().ToString(CultureInfo.InvariantCulture),
        ["pool"] = () => ThreadPool.QueueUserWorkItem(_ => { }).ToString(),
        ["await"] = () => YieldAsync().Result,
        ["collect"] = Collect,
        ["unfinalized"] = Abandon,
        ["text"] = () => Encoding.UTF8.GetString(Encoding.UTF8.GetBytes("grün".ToUpperInvariant())) + new StringBuilder().Append(CultureInfo.InvariantCulture, $" {1.5:F2} {0xAB:x4}"),
        ["collections"] = Collections,
        ["equal"] = () => CryptographicOperations.FixedTimeEquals([1, 2], [1, 2]).ToString(),
        ["members"] = () => string.Join(',', typeof(Sample).GetProperties().Select(property => property.Name).Order(StringComparer.Ordinal)),
        ["emit"] = Emit,
        ["json"] = () => JsonSerializer.Serialize(new Sample { Name = "x", Size = 3 }, SampleContext.Default.Sample),
        ["message"] = Message,
        ["trace"] = Trace,
        ["libc"] = () => (getpid() > 0).ToString(),
        ["console"] = WriteLine,
    };


    public static IEnumerable<string> Rows => s_rows.Keys;

    protected override SvsmResult Handle(in SvsmRequest request)
    {
        if (request.Call != 0)
        {
            return SvsmResultCode.UnsupportedCall;
        }

        if (request.Rdx > MaxLength)
        {
            return SvsmResultCode.InvalidParameter;
        }

        Span<byte> name = stackalloc byte[(int)request.Rdx];
        if (!Guest.TryRead(new(request.Rcx), name))
        {
            return SvsmResultCode.InvalidAddress;
        }

        if (!s_rows.TryGetValue(Encoding.UTF8.GetString(name), out Func<string>? row))
        {
            return SvsmResultCode.InvalidParameter;
        }

        string outcome;
        try
        {
            outcome = row();
        }
        catch (Exception exception)
        {
            outcome = (exception is AggregateException { InnerException: Exception inner } ? inner : exception).GetType().Name;
        }

        byte[] bytes = Encoding.UTF8.GetBytes(outcome);
        return bytes.Length <= MaxLength && Guest.TryWrite(new(request.R8), bytes)
            ? new SvsmResult(SvsmResultCode.Success) { Rcx = (ulong)bytes.Length }
            : SvsmResultCode.InvalidAddress;
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static int Length(string? text) => text!.Length;

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static int Divide(int a, int b) => a / b;

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static object Box(int number) => number == 0 ? "" : number;

    // Up to the heap limit; afterwards there is memory again.
    [MethodImpl(MethodImplOptions.NoInlining)]
    private static string FillMemory()
    {
        var blocks = new List<byte[]>();
        string outcome = "all";
        try
        {
            while (blocks.Count < 4096)
            {
                blocks.Add(new byte[0x4_0000]);
            }
        }
        catch (OutOfMemoryException exception)
        {
            outcome = exception.GetType().Name;
        }

        blocks.Clear();
        return new byte[0x8_0000].Length == 0x8_0000 ? outcome : "";
    }

    private static string Ticks()
    {
        (long ticks, long stamp) = (Environment.TickCount64, Stopwatch.GetTimestamp());
        for (int i = 0; i < 2_000_000_000; i++)
        {
            if (Environment.TickCount64 > ticks && Stopwatch.GetTimestamp() > stamp)
            {
                return "grow";
            }
        }

        return "stand still";
    }

    private static string StartThread()
    {
        var thread = new Thread(() => { });
        thread.Start();
        thread.Join();
        return "ran";
    }

    private static async Task<string> CompleteAsync()
    {
        await Task.CompletedTask.ConfigureAwait(false);
        return await Task.FromResult("complete").ConfigureAwait(false);
    }

    private static string RunFinalizers()
    {
        GC.Collect();
        GC.WaitForPendingFinalizers();
        return "ran";
    }

    private static string CancelLater()
    {
        using var source = new CancellationTokenSource();
        source.CancelAfter(1);
        return source.Token.IsCancellationRequested ? "cancelled" : "set";
    }

    private static string StartTimer()
    {
        using var timer = new Timer(_ => { }, null, 1, Timeout.Infinite);
        return "set";
    }

    // In each way that there is: a text, the end of it by its position, and its length.
    private static string ReadArchive()
    {
        using FileStream stream = File.OpenRead(LibraryRows.SharedFile);
        stream.Position = stream.Length - 3;
        byte[] end = new byte[3];
        stream.ReadExactly(end);
        return File.Exists(LibraryRows.SharedFile) + " " + File.ReadAllBytes(LibraryRows.SharedFile).Length.ToString(CultureInfo.InvariantCulture) + " " + Encoding.UTF8.GetString(end) + " " + File.ReadLines(LibraryRows.SharedFile).First();
    }

    private static string Write(string path)
    {
        File.WriteAllText(path, "mine");
        return "written";
    }

    private static string OpenSocket()
    {
        using var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        return "open";
    }

    private static string SumInParallel()
    {
        int sum = 0;
        Parallel.For(0, 100, i => Interlocked.Add(ref sum, i));
        return sum.ToString(CultureInfo.InvariantCulture);
    }

    private static async Task<string> YieldAsync()
    {
        await Task.Yield();
        return "yielded";
    }

    // 64 MiB through a heap of 4.
    private static string Collect()
    {
        int before = GC.CollectionCount(0);
        ulong sum = 0;
        for (int i = 0; i < 1024; i++)
        {
            byte[] block = new byte[0x1_0000];
            block[i] = 1;
            sum += block[i];
        }

        return sum == 1024 && GC.CollectionCount(0) > before ? "collected" : "kept";
    }

    private static string Abandon()
    {
        Finalized.Make();
        GC.Collect();
        GC.Collect();
        return Finalized.HasRun ? "ran" : "did not run";
    }

    private static string Collections()
    {
        var numbers = new SortedDictionary<string, Queue<int>>(StringComparer.Ordinal) { ["b"] = new([2, 3]), ["a"] = new([1]) };
        var set = new HashSet<(int, string)> { (1, "x"), (1, "x"), (2, "y") };
        var order = new PriorityQueue<string, int>([("late", 9), ("soon", 1)]);
        return string.Join(' ', numbers.Select(pair => pair.Key + string.Concat(pair.Value))) + " " + set.Count.ToString(CultureInfo.InvariantCulture) + " " + order.Dequeue();
    }

    // Code that is made at run time.
    [UnconditionalSuppressMessage("AOT", "IL3050", Justification = "that it cannot work is the outcome")]
    private static string Emit()
    {
        var method = new DynamicMethod("Three", typeof(int), []);
        ILGenerator generator = method.GetILGenerator();
        generator.Emit(OpCodes.Ldc_I4_3);
        generator.Emit(OpCodes.Ret);
        return method.CreateDelegate<Func<int>>()().ToString(CultureInfo.InvariantCulture);
    }

    private static string Message()
    {
        try
        {
            return Length(null).ToString(CultureInfo.InvariantCulture);
        }
        catch (NullReferenceException exception)
        {
            return exception.Message;
        }
    }

    private static string Trace()
    {
        try
        {
            return Length(null).ToString(CultureInfo.InvariantCulture);
        }
        catch (NullReferenceException exception)
        {
            return exception.StackTrace!.Contains(nameof(Length), StringComparison.Ordinal) ? "names" : "no names";
        }
    }

    [DllImport("libc")]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static extern int getpid();

    private static string WriteLine()
    {
        Console.WriteLine("to the log");
        return "written";
    }

    private sealed class Finalized
    {
        public static bool HasRun { get; private set; }

        [MethodImpl(MethodImplOptions.NoInlining)]
        public static void Make() => _ = new Finalized();

        ~Finalized() => HasRun = true;
    }
}

/// <summary>What is made JSON of.</summary>
public sealed record Sample
{
    public required string Name { get; init; }

    public int Size { get; init; }
}

[JsonSerializable(typeof(Sample))]
internal sealed partial class SampleContext : JsonSerializerContext;
