// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// svsm module run: the program that an image has, as a Linux process, and kernel and guest played by whoever types (or by a script):
//
//   call CALL [RCX [RDX [R8 [R9]]]]     prints the result code and the registers
//   vcpu NUMBER                         who calls from here on
//   write ADDRESS BYTES                 guest memory: 0x and hexadecimal digits, or the rest of the line as text
//   read ADDRESS LENGTH                 prints hexadecimal digits
//   reset                               the guest starts anew
//   manifest VERSION                    prints hexadecimal digits, or that there is none
//
// One on a line; what is behind # does not count, and neither do empty lines. The module's log goes to the error output.

extern alias core;

using System;
using System.Collections.Generic;
using System.ComponentModel;
using System.Globalization;
using System.IO;
using System.Linq;
using System.Text;
using System.Threading;
using System.Threading.Tasks;
using core::Svsm.Core;
using core::Svsm.Core.Testing;
using Svsm.Builder;
using Svsm.Diagnostics;

namespace Svsm.Tool.Commands;

/// <summary><c>svsm module</c>: a module's program on the desk.</summary>
internal static class ModuleCommand
{
    // The addresses of the probe guest's memory are in it: the same lines work there (Svsm.Simulator/ProbeGuest/TypedCommands.cs).
    private const long MemorySize = 0x400_0000;
    private const int MaxRead = 0x1_0000;

    // Long enough for a debugger.
    private static readonly TimeSpan s_limit = TimeSpan.FromHours(8);

    /// <summary>Runs a program until the input ends.</summary>
    /// <param name="console">Where commands come from and results go.</param>
    /// <param name="program">The program.</param>
    /// <param name="module">The module's class.</param>
    /// <param name="cancellationToken">Ends the process.</param>
    /// <returns>The exit status.</returns>
    /// <exception cref="SvsmDiagnosticException">SVSM2015: there is no such program. SVSM6022: the process failed.</exception>
    public static async Task<int> RunAsync(ToolConsole console, string program, string module, CancellationToken cancellationToken)
    {
        if (!File.Exists(program))
        {
            throw SvsmDiagnostics.ImageFileFailed.Error($"'{program}' is not there", "the program of modules, which the build of an image leaves as obj/.../modules/modules.elf");
        }

        // The limits that a module has without others.
        Dictionary<string, string> environment = ModuleArchiveWriter.GetEnvironment(ModuleOptions.DefaultHeapLimit)
            .Select(variable => variable.Split('=', 2)).ToDictionary(pair => pair[0], pair => pair[1]);
        await using ModuleProcess process = ModuleProcess.Start([Path.GetFullPath(program), module], MemorySize, s_limit, environment);
        using CancellationTokenRegistration _ = cancellationToken.Register(process.Kill);
        await console.Error.WriteLineAsync($"process {process.ProcessId}, 64 MiB of guest memory from address 0").ConfigureAwait(false);
        try
        {
            var session = new Session(process, console);
            int number = 0;
            while (await console.Input.ReadLineAsync(cancellationToken).ConfigureAwait(false) is string line)
            {
                number++;
                try
                {
                    await session.DoAsync(line).ConfigureAwait(false);
                }
                catch (FormatException exception)
                {
                    await console.Error.WriteLineAsync($"error: line {number}: {exception.Message}").ConfigureAwait(false);
                    return ExitStatus.Usage;
                }

                await session.WriteLogAsync().ConfigureAwait(false);
            }

            int status = await process.EndAsync().ConfigureAwait(false);
            await session.WriteLogAsync().ConfigureAwait(false);
            return status == ModuleHost.Ended ? ExitStatus.Success : throw Failed($"exit status {status}", null);
        }
        catch (Exception exception) when (exception is ModuleProcessException or TimeoutException or Win32Exception or IOException)
        {
            throw Failed(exception.Message, exception);
        }
    }

    private static SvsmDiagnosticException Failed(string what, Exception? cause) =>
        SvsmDiagnostics.ModuleProcessFailed.Error(what, "answers until the input ends, and exit status 0", cause);

    private sealed class Session(ModuleProcess process, ToolConsole console)
    {
        private int _vcpu;
        private int _logged;

        public async Task DoAsync(string line)
        {
            string[] words = line.Split('#')[0].Split(' ', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries);
            switch (words)
            {
                case []:
                    break;

                case ["call", var call, .. { Length: <= 4 } rest]:
                    ulong[] registers = [.. rest.Select(word => Number(word, ulong.MaxValue)), 0, 0, 0, 0];
                    SvsmAnswer answer = await process.CallAsync((uint)Number(call, uint.MaxValue), registers[0], registers[1], registers[2], registers[3], _vcpu).ConfigureAwait(false);
                    await console.Output.WriteLineAsync(string.Create(
                        CultureInfo.InvariantCulture, $"{answer.Code} RCX=0x{answer.Rcx:x} RDX=0x{answer.Rdx:x} R8=0x{answer.R8:x} R9=0x{answer.R9:x}")).ConfigureAwait(false);
                    break;

                case ["vcpu", var number]:
                    _vcpu = (int)Number(number, int.MaxValue);
                    break;

                case ["write", var address, var first, ..]:
                    process.GuestWrite(Address(address), Bytes(line.Split(' ', 3, StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries)[2], first));
                    break;

                case ["read", var address, var length]:
                    await console.Output.WriteLineAsync(Convert.ToHexStringLower(process.GuestRead(Address(address), (int)Number(length, MaxRead)))).ConfigureAwait(false);
                    break;

                case ["reset"]:
                    await process.ResetAsync().ConfigureAwait(false);
                    break;

                case ["manifest", var version]:
                    byte[]? manifest = await process.GetManifestAsync((uint)Number(version, uint.MaxValue)).ConfigureAwait(false);
                    await console.Output.WriteLineAsync(manifest is null ? "none" : Convert.ToHexStringLower(manifest)).ConfigureAwait(false);
                    break;

                default:
                    throw new FormatException($"'{line.Trim()}' is no command; these are: call, vcpu, write, read, reset, manifest (docs/svsm-tool.md)");
            }
        }

        public async Task WriteLogAsync()
        {
            IReadOnlyList<string> lines = process.Log;
            for (; _logged < lines.Count; _logged++)
            {
                await console.Error.WriteLineAsync(lines[_logged]).ConfigureAwait(false);
            }
        }

        private static byte[] Bytes(string text, string first)
        {
            if (!first.StartsWith("0x", StringComparison.OrdinalIgnoreCase))
            {
                return Encoding.UTF8.GetBytes(text);
            }

            byte[] bytes = new byte[(first.Length - 2) / 2];
            return first.Length % 2 == 0 && Convert.FromHexString(first.AsSpan(2), bytes, out _, out _) == System.Buffers.OperationStatus.Done
                ? bytes
                : throw new FormatException($"'{first}' is no bytes; wanted are 0x and an even number of hexadecimal digits, or text");
        }

        private static PhysicalAddress Address(string word) => new(Number(word, MemorySize - 1));

        private static ulong Number(string word, ulong most) =>
            (word.StartsWith("0x", StringComparison.OrdinalIgnoreCase)
                ? ulong.TryParse(word.AsSpan(2), NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out ulong value)
                : ulong.TryParse(word, NumberStyles.None, CultureInfo.InvariantCulture, out value)) && value <= most
                ? value
                : throw new FormatException(string.Create(CultureInfo.InvariantCulture, $"'{word}' is no number from 0 to 0x{most:x}"));
    }
}
