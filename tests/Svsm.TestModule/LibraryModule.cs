// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Generic;
using System.Diagnostics;
using System.Diagnostics.CodeAnalysis;
using System.Globalization;
using System.IO;
using System.Linq;
using System.Runtime.CompilerServices;
using System.Security.Cryptography;
using System.Text;
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
        ["file"] = () => File.ReadAllText("/no/such/file"),
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

    private static string WriteLine()
    {
        Console.WriteLine("to the log");
        return "written";
    }
}
