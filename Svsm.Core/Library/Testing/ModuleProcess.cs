// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Runs a module's program as an ordinary Linux process with the descriptors that it has in an image (Wire/ModuleChannel.cs), and plays the
// kernel and the guest for it. For tests of the very program that an image has, and for debugging it.
//
// Requests and answers are pipes, guest memory is a file of this user's in memory (/dev/shm) that is gone when the process is. A shell puts
// them at their numbers and becomes the program. Whatever goes wrong (the process ends, sends what is no answer, or nothing in time) the
// process is ended and the call throws.

using System;
using System.Buffers;
using System.Collections.Generic;
using System.Diagnostics;
using System.IO;
using System.IO.Pipes;
using System.Runtime.InteropServices;
using System.Threading;
using System.Threading.Tasks;
using Microsoft.Win32.SafeHandles;
using Svsm.Wire;

namespace Svsm.Core.Testing;

/// <summary>A module's process broke the rules of its channel, or ended.</summary>
public sealed class ModuleProcessException : Exception
{
    /// <summary>Makes one.</summary>
    /// <param name="message">What happened.</param>
    public ModuleProcessException(string message)
        : base(message)
    {
    }
}

/// <summary>A module in a process of its own, and the guest that calls it. Not for use by two threads at once.</summary>
public sealed class ModuleProcess : IAsyncDisposable
{
    private const string Redirection =
        "exec 3<\"/proc/self/fd/$1\" 4>\"/proc/self/fd/$2\" 5<>\"$3\" || exit 126; rm -f \"$3\"; shift 3; exec \"$@\"";

    private readonly Process _process;
    private readonly AnonymousPipeServerStream _requests;
    private readonly AnonymousPipeServerStream _answers;
    private readonly SafeFileHandle _memory;
    private readonly Task _logs;
    private readonly List<string> _log = [];
    private readonly TimeSpan _limit;
    private ulong _sequence;

    private ModuleProcess(
        Process process, AnonymousPipeServerStream requests, AnonymousPipeServerStream answers, SafeFileHandle memory, TimeSpan limit)
    {
        _process = process;
        _requests = requests;
        _answers = answers;
        _memory = memory;
        _limit = limit;
        _logs = Task.WhenAll(ReadLogAsync(process.StandardOutput), ReadLogAsync(process.StandardError));
    }

    /// <summary>Number of the process, for a debugger.</summary>
    public int ProcessId => _process.Id;

    /// <summary>What the module logged so far; lines of <see cref="ModuleLog"/> begin with their level in angle brackets.</summary>
    public IReadOnlyList<string> Log
    {
        get
        {
            lock (_log)
            {
                return [.. _log];
            }
        }
    }

    /// <summary>Starts a program.</summary>
    /// <param name="program">The program and its arguments.</param>
    /// <param name="memorySize">Bytes of guest memory, from address 0.</param>
    /// <param name="limit">How long a call may take.</param>
    /// <param name="environment">Variables that it has besides those of this process; null: none.</param>
    /// <exception cref="ArgumentException">There is no program.</exception>
    /// <exception cref="IOException">There is no memory for the guest.</exception>
    /// <remarks>That the program cannot be started shows at the first call.</remarks>
    public static ModuleProcess Start(IReadOnlyList<string> program, long memorySize, TimeSpan limit, IReadOnlyDictionary<string, string>? environment = null)
    {
        ArgumentNullException.ThrowIfNull(program);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(memorySize);
        if (program.Count == 0)
        {
            throw new ArgumentException("no program; wanted is its path, and arguments", nameof(program));
        }

        string file = Path.Combine(Directory.Exists("/dev/shm") ? "/dev/shm" : Path.GetTempPath(), $"svsm-module-{Environment.ProcessId}-{Guid.NewGuid():N}");
        AnonymousPipeServerStream? requests = null;
        AnonymousPipeServerStream? answers = null;
        SafeFileHandle? memory = null;
        try
        {
            memory = File.OpenHandle(file, FileMode.CreateNew, FileAccess.ReadWrite, FileShare.ReadWrite);
            RandomAccess.SetLength(memory, memorySize);
            requests = new AnonymousPipeServerStream(PipeDirection.Out, HandleInheritability.Inheritable);
            answers = new AnonymousPipeServerStream(PipeDirection.In, HandleInheritability.Inheritable);
            var start = new ProcessStartInfo("/bin/sh")
            {
                ArgumentList = { "-c", Redirection, "sh", requests.GetClientHandleAsString(), answers.GetClientHandleAsString(), file },
                RedirectStandardInput = true,
                RedirectStandardOutput = true,
                RedirectStandardError = true,
            };
            foreach (string argument in program)
            {
                start.ArgumentList.Add(argument);
            }

            foreach ((string name, string value) in environment ?? new Dictionary<string, string>())
            {
                start.Environment[name] = value;
            }

            Process process = Process.Start(start) ?? throw new IOException("/bin/sh was not started");
            process.StandardInput.Close();
            requests.DisposeLocalCopyOfClientHandle();
            answers.DisposeLocalCopyOfClientHandle();
            return new ModuleProcess(process, requests, answers, memory, limit);
        }
        catch
        {
            memory?.Dispose();
            requests?.Dispose();
            answers?.Dispose();
            File.Delete(file);
            throw;
        }
    }

    /// <summary>Writes to the guest's memory.</summary>
    /// <param name="address">The first byte.</param>
    /// <param name="source">What to write.</param>
    public void GuestWrite(PhysicalAddress address, ReadOnlySpan<byte> source) => RandomAccess.Write(_memory, source, (long)address.Value);

    /// <summary>Reads the guest's memory.</summary>
    /// <param name="address">The first byte.</param>
    /// <param name="length">Bytes.</param>
    /// <returns>A copy; shorter at the memory's end.</returns>
    public byte[] GuestRead(PhysicalAddress address, int length)
    {
        byte[] bytes = new byte[length];
        int count = RandomAccess.Read(_memory, bytes, (long)address.Value);
        return bytes[..count];
    }

    /// <summary>Calls the module as a guest does.</summary>
    /// <param name="call">The number of the call.</param>
    /// <param name="rcx">RCX.</param>
    /// <param name="rdx">RDX.</param>
    /// <param name="r8">R8.</param>
    /// <param name="r9">R9.</param>
    /// <param name="vcpu">The calling vCPU.</param>
    /// <returns>The registers afterwards.</returns>
    /// <exception cref="ModuleProcessException">The process ended, or what it sent is no answer.</exception>
    /// <exception cref="TimeoutException">It took too long.</exception>
    public async Task<SvsmAnswer> CallAsync(uint call, ulong rcx = 0, ulong rdx = 0, ulong r8 = 0, ulong r9 = 0, int vcpu = 0)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(vcpu);
        (ModuleMessage answer, _) = await SendAsync(
            new() { Kind = ModuleMessageKind.Call, Vcpu = (uint)vcpu, Call = call, Rcx = rcx, Rdx = rdx, R8 = r8, R9 = r9 }).ConfigureAwait(false);
        return new((SvsmResultCode)answer.Result, answer.Rcx, answer.Rdx, answer.R8, answer.R9);
    }

    /// <summary>Asks for the manifest.</summary>
    /// <param name="version">Its version.</param>
    /// <returns>The manifest, or null: there is none of that version.</returns>
    /// <exception cref="ModuleProcessException">The process ended, or what it sent is no answer.</exception>
    /// <exception cref="TimeoutException">It took too long.</exception>
    public async Task<byte[]?> GetManifestAsync(uint version)
    {
        (ModuleMessage answer, byte[] payload) = await SendAsync(new() { Kind = ModuleMessageKind.Manifest, Call = version }).ConfigureAwait(false);
        return (SvsmResultCode)answer.Result == SvsmResultCode.Success ? payload : null;
    }

    /// <summary>Has the guest start anew.</summary>
    /// <exception cref="ModuleProcessException">The process ended, or what it sent is no answer.</exception>
    /// <exception cref="TimeoutException">It took too long.</exception>
    public Task ResetAsync() => SendAsync(new() { Kind = ModuleMessageKind.Reset });

    /// <summary>Asks for the version of the state, as the SVSM does before the guest begins to move.</summary>
    /// <returns>The version; 0: the module cannot move.</returns>
    /// <exception cref="ModuleProcessException">The process ended, or what it sent is no answer.</exception>
    /// <exception cref="TimeoutException">It took too long.</exception>
    public async Task<uint> GetStateVersionAsync()
    {
        (ModuleMessage answer, _) = await SendAsync(new() { Kind = ModuleMessageKind.Save, Rcx = ModuleMessage.VersionOnly }).ConfigureAwait(false);
        return answer.Call;
    }

    /// <summary>Asks for the state, part by part, as the SVSM does when the guest moves.</summary>
    /// <returns>The state, or null: the module cannot move.</returns>
    /// <exception cref="ModuleProcessException">The process ended, or what it sent is no answer.</exception>
    /// <exception cref="TimeoutException">It took too long.</exception>
    public async Task<ModuleState?> SaveAsync()
    {
        var state = new ArrayBufferWriter<byte>();
        ModuleMessage answer;
        do
        {
            (answer, byte[] part) = await SendAsync(new() { Kind = ModuleMessageKind.Save, Rcx = (ulong)state.WrittenCount }).ConfigureAwait(false);
            if ((SvsmResultCode)answer.Result != SvsmResultCode.Success)
            {
                return null;
            }

            state.Write(part);
            if (answer.Rdx > ModuleMessage.MaxState || (ulong)state.WrittenCount > answer.Rdx || (part.Length == 0 && answer.Rdx != 0))
            {
                throw Failed(
                    $"a state of {answer.Rdx} bytes, of which {state.WrittenCount} came; wanted are at most {ModuleMessage.MaxState}, and bytes in each part");
            }
        }
        while ((ulong)state.WrittenCount != answer.Rdx);

        return new(answer.Call, state.WrittenMemory);
    }

    /// <summary>Gives a state to the module, part by part, as the SVSM does that a guest moves to.</summary>
    /// <param name="state">The state.</param>
    /// <returns>False: it does not take it, or it had a call or a state already.</returns>
    /// <exception cref="ModuleProcessException">The process ended, or what it sent is no answer.</exception>
    /// <exception cref="TimeoutException">It took too long.</exception>
    public async Task<bool> RestoreAsync(ModuleState state)
    {
        int length = 0;
        ModuleMessage answer;
        do
        {
            ReadOnlyMemory<byte> part = state.Bytes.Slice(length, Math.Min(state.Bytes.Length - length, ModuleMessage.MaxPayload));
            (answer, _) = await SendAsync(
                new() { Kind = ModuleMessageKind.Restore, Call = state.Version, Rcx = (ulong)length, Rdx = (ulong)state.Bytes.Length },
                part).ConfigureAwait(false);
            length += part.Length;
        }
        while (length < state.Bytes.Length && (SvsmResultCode)answer.Result == SvsmResultCode.Success);

        return (SvsmResultCode)answer.Result == SvsmResultCode.Success;
    }

    /// <summary>Says that the guest is not here: it is at another SVSM, or about to come from there.</summary>
    /// <returns>False: the module cannot let it go.</returns>
    /// <exception cref="ModuleProcessException">The process ended, or what it sent is no answer.</exception>
    /// <exception cref="TimeoutException">It took too long.</exception>
    public Task<bool> LeaveAsync() => IsDoneAsync(ModuleMessageKind.Leave);

    /// <summary>Says that the guest is here, and runs next.</summary>
    /// <returns>False: the module cannot go on with what it keeps elsewhere.</returns>
    /// <exception cref="ModuleProcessException">The process ended, or what it sent is no answer.</exception>
    /// <exception cref="TimeoutException">It took too long.</exception>
    public Task<bool> ArriveAsync() => IsDoneAsync(ModuleMessageKind.Arrive);

    /// <summary>Sends bytes that need not be a request. For tests of the program.</summary>
    /// <param name="bytes">The bytes.</param>
    public async Task SendRawAsync(ReadOnlyMemory<byte> bytes)
    {
        await _requests.WriteAsync(bytes).ConfigureAwait(false);
        await _requests.FlushAsync().ConfigureAwait(false);
    }

    /// <summary>Ends the requests and waits for the process.</summary>
    /// <returns>Its exit status; <see cref="ModuleHost.Ended"/> when all is well.</returns>
    /// <exception cref="TimeoutException">It did not end in time.</exception>
    public async Task<int> EndAsync()
    {
        await _requests.DisposeAsync().ConfigureAwait(false);
        using var late = new CancellationTokenSource(_limit);
        try
        {
            await _process.WaitForExitAsync(late.Token).ConfigureAwait(false);
        }
        catch (OperationCanceledException)
        {
            Kill();
            throw new TimeoutException($"the module's process went on for {_limit} after its requests had ended");
        }

        await _logs.ConfigureAwait(false);
        return _process.ExitCode;
    }

    /// <summary>Ends the process if it still runs.</summary>
    public async ValueTask DisposeAsync()
    {
        Kill();
        await _process.WaitForExitAsync().ConfigureAwait(false);
        await _requests.DisposeAsync().ConfigureAwait(false);
        await _answers.DisposeAsync().ConfigureAwait(false);
        _memory.Dispose();
        _process.Dispose();
    }

    private async Task<bool> IsDoneAsync(ModuleMessageKind kind)
    {
        (ModuleMessage answer, _) = await SendAsync(new() { Kind = kind }).ConfigureAwait(false);
        return (SvsmResultCode)answer.Result == SvsmResultCode.Success;
    }

    private async Task<(ModuleMessage Answer, byte[] Payload)> SendAsync(ModuleMessage request, ReadOnlyMemory<byte> contents = default)
    {
        request.Sequence = ++_sequence;
        request.PayloadSize = (uint)contents.Length;
        byte[] bytes = new byte[ModuleMessage.Length];
        MemoryMarshal.Write(bytes, in request);
        using var late = new CancellationTokenSource(_limit);
        try
        {
            // A process that reads nothing keeps a long message waiting, and a pipe's write does not end by its token.
            await SendRawAsync(bytes).WaitAsync(late.Token).ConfigureAwait(false);
            await SendRawAsync(contents).WaitAsync(late.Token).ConfigureAwait(false);
            await _answers.ReadExactlyAsync(bytes, late.Token).ConfigureAwait(false);
            ModuleMessage answer = MemoryMarshal.Read<ModuleMessage>(bytes);
            if (answer.Kind != request.Kind || answer.Sequence != request.Sequence || answer.PayloadSize > ModuleMessage.MaxPayload ||
                (answer.Kind is not (ModuleMessageKind.Manifest or ModuleMessageKind.Save) && answer.PayloadSize != 0))
            {
                throw Failed(
                    $"what the module's process sent is no answer to request {request.Sequence} ({request.Kind}): kind {answer.Kind}, number {answer.Sequence}, {answer.PayloadSize} bytes of payload");
            }

            byte[] payload = new byte[answer.PayloadSize];
            await _answers.ReadExactlyAsync(payload, late.Token).ConfigureAwait(false);
            return (answer, payload);
        }
        catch (IOException)
        {
            // A closed pipe, or its end in the middle of a message.
            throw Failed("the module's process has ended or closed its channel");
        }
        catch (OperationCanceledException)
        {
            Kill();
            throw new TimeoutException($"no answer of the module's process within {_limit}");
        }
    }

    private ModuleProcessException Failed(string what)
    {
        Kill();
        _process.WaitForExit();
        string log = string.Join('\n', Log);
        return new ModuleProcessException($"{what}; exit status {_process.ExitCode}{(log.Length == 0 ? "" : ", log:\n" + log)}");
    }

    /// <summary>Ends the process at once, if it still runs.</summary>
    public void Kill()
    {
        try
        {
            _process.Kill(entireProcessTree: true);
        }
        catch (InvalidOperationException)
        {
            // It has ended.
        }
    }

    private async Task ReadLogAsync(StreamReader reader)
    {
        while (await reader.ReadLineAsync().ConfigureAwait(false) is string line)
        {
            lock (_log)
            {
                _log.Add(line);
            }
        }
    }
}
