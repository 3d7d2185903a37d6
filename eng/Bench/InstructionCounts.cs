// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Shows that operations with secrets execute the same number of instructions for every secret: valgrind's callgrind counts them, for a thousand
// secrets of each operation of the static executable (eng/StaticTpm/Counting.cs), extremes included.

using System;
using System.Collections.Generic;
using System.Diagnostics;
using System.Globalization;
using System.IO;
using System.Linq;

namespace Svsm.Bench;

/// <summary>Counts of instructions.</summary>
internal static class InstructionCounts
{
    private const int Secrets = 1000;
    private const string Measured = "*Counting__Measure";

    /// <summary>Counts and prints.</summary>
    /// <param name="program">The static executable, with the names of its functions.</param>
    /// <param name="only">Part of the names of the only operations that are done; empty for all.</param>
    /// <returns>Whether every operation took the same for all secrets.</returns>
    internal static bool AreEqual(string program, string only)
    {
        DirectoryInfo work = Directory.CreateTempSubdirectory("svsm-bench-");
        try
        {
            string[] operations = Run(program, "operations").Split('\n', StringSplitOptions.RemoveEmptyEntries);
            operations = [.. operations.Where(operation => operation.Contains(only, StringComparison.Ordinal))];
            string keys = Path.Combine(work.FullName, "keys");
            if (operations.Any(operation => operation.StartsWith("rsa", StringComparison.Ordinal)))
            {
                Console.WriteLine($"RSA-2048 keys: {Run(program, "keys", Secrets.ToString(CultureInfo.InvariantCulture), keys).Trim()}");
            }
            else
            {
                File.WriteAllBytes(keys, []);
            }

            Console.WriteLine($"Instructions of one operation, for {Secrets} secrets each (counted by callgrind)");
            bool areEqual = operations.Length != 0;
            foreach (string operation in operations)
            {
                long[] counts = Count(program, operation, keys, work.CreateSubdirectory(operation));
                bool isEqual = counts[0] == counts[^1];
                areEqual &= isEqual;
                string text = isEqual ? "the same for all" : string.Create(CultureInfo.InvariantCulture, $"DIFFERENT: up to {counts[^1]:#,0}, {counts.Distinct().Count()} counts");
                Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"  {operation,-20} {counts[0],14:#,0}  {text}"));
            }

            return areEqual;
        }
        finally
        {
            work.Delete(recursive: true);
        }
    }

    // Callgrind writes a file each time that the function is left, with the sum in the line "totals"; and one at the end, for what came after.
    private static long[] Count(string program, string operation, string keys, DirectoryInfo folder)
    {
        string output = Path.Combine(folder.FullName, "counts");
        Run("valgrind", "--tool=callgrind", "--callgrind-out-file=" + output, "--collect-atstart=no", "--toggle-collect=" + Measured, "--dump-after=" + Measured, program, "count", operation, keys);
        var counts = new List<long>();
        foreach (FileInfo file in folder.GetFiles("counts.*"))
        {
            string total = File.ReadLines(file.FullName).Single(line => line.StartsWith("totals:", StringComparison.Ordinal));
            counts.Add(long.Parse(total.AsSpan("totals:".Length), NumberStyles.AllowLeadingWhite, CultureInfo.InvariantCulture));
        }

        counts.Remove(0);
        return counts.Count == Secrets && counts.Min() > 0
            ? [.. counts.Order()]
            : throw new InvalidOperationException($"{operation}: {counts.Count} counts, {Secrets} are wanted, none of them 0");
    }

    private static string Run(string program, params ReadOnlySpan<string> arguments)
    {
        using Process process = Process.Start(new ProcessStartInfo(program, arguments.ToArray()) { RedirectStandardOutput = true, RedirectStandardError = true })!;
        System.Threading.Tasks.Task<string> error = process.StandardError.ReadToEndAsync();
        string output = process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        return process.ExitCode == 0 ? output : throw new InvalidOperationException($"{program} ended with status {process.ExitCode}.\n{error.Result}");
    }
}
