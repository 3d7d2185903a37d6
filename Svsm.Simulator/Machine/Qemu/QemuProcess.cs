// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// A running QEMU: its output as a stream, its messages, and a sure end. Whoever disposes of it leaves no process behind, and whoever is killed
// before that does not either: a shell waits at a pipe whose other end only this process has. When the pipe ends without the word that all is
// well, the shell kills QEMU and removes its working folder. (A parent-death signal would come when the thread ends that started QEMU.)

using System;
using System.Collections.Generic;
using System.Diagnostics;
using System.IO;
using System.IO.Pipes;
using System.Text;
using System.Threading;
using System.Threading.Tasks;

namespace Svsm.Simulator;

internal sealed class QemuProcess : IAsyncDisposable
{
    private const int MessageLimit = 16 * 1024;

    // After a kill only the kernel is in the way; it may be busy freeing memory.
    private static readonly TimeSpan s_killTimeout = TimeSpan.FromSeconds(10);

    // QEMU takes the place of the shell that starts the guard, so the guard knows its number. $1 is the pipe, $2 the folder.
    private const string GuardScript =
        "guard=$1 folder=$2; shift 2; " +
        "{ read -r word < \"/dev/fd/$guard\" || { kill -KILL $$; rm -rf \"$folder\"; }; } </dev/null >/dev/null 2>&1 & " +
        "exec \"$@\"";

    private readonly Process _process;
    private readonly Task<string> _messages;
    private readonly AnonymousPipeServerStream? _guard;

    private QemuProcess(Process process, AnonymousPipeServerStream? guard)
    {
        _process = process;
        _guard = guard;
        _messages = DrainMessagesAsync(process.StandardError);
    }

    public Stream Output => _process.StandardOutput.BaseStream;

    // A pipe: the caller's terminal stays the caller's.
    private Stream Input => _process.StandardInput.BaseStream;

    // With a guard: the working folder is removed when this process is killed.
    public static QemuProcess StartGuarded(string file, IEnumerable<string> arguments, string workingDirectory)
    {
        var guard = new AnonymousPipeServerStream(PipeDirection.Out, HandleInheritability.Inheritable);
        try
        {
            return Start("/bin/sh", ["-c", GuardScript, "svsm-guard", guard.GetClientHandleAsString(), workingDirectory, file, .. arguments], workingDirectory, guard);
        }
        catch
        {
            guard.Dispose();
            throw;
        }
        finally
        {
            guard.DisposeLocalCopyOfClientHandle();
        }
    }

    // Throws Win32Exception when the file is no program.
    public static QemuProcess Start(string file, IEnumerable<string> arguments, string workingDirectory) => Start(file, arguments, workingDirectory, guard: null);

    private static QemuProcess Start(string file, IEnumerable<string> arguments, string workingDirectory, AnonymousPipeServerStream? guard)
    {
        var process = new Process
        {
            StartInfo = new ProcessStartInfo(file, arguments)
            {
                RedirectStandardInput = true,
                RedirectStandardOutput = true,
                RedirectStandardError = true,
                UseShellExecute = false,
                WorkingDirectory = workingDirectory,
            },
        };
        try
        {
            process.Start();
        }
        catch
        {
            process.Dispose();
            throw;
        }

        return new QemuProcess(process, guard);
    }

    // Waits for the end; the status, or null when it has not come by then.
    public async Task<int?> WaitAsync(TimeSpan timeout)
    {
        using var stop = new CancellationTokenSource(timeout);
        try
        {
            await _process.WaitForExitAsync(stop.Token).ConfigureAwait(false);
            return _process.ExitCode;
        }
        catch (OperationCanceledException)
        {
            return null;
        }
    }

    // Messages up to the end of the process; what is known of them when they do not end with it.
    public async Task<string> ReadMessagesAsync()
    {
        try
        {
            return await _messages.WaitAsync(s_killTimeout).ConfigureAwait(false);
        }
        catch (TimeoutException)
        {
            return "";
        }
    }

    // All output, for a process that ends by itself.
    public async Task<string> ReadAllAsync(CancellationToken cancellationToken)
    {
        byte[] buffer = new byte[MessageLimit];
        int length = 0;
        while (length < buffer.Length)
        {
            int count = await ReadAsync(buffer.AsMemory(length), cancellationToken).ConfigureAwait(false);
            if (count == 0)
            {
                break;
            }

            length += count;
        }

        return Encoding.UTF8.GetString(buffer, 0, length);
    }

    // Bytes of the output; 0 at its end. After a cancellation the buffer may still be written to.
    public Task<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken) =>
        Output.ReadAsync(buffer, CancellationToken.None).AsTask().WaitAsync(cancellationToken);

    // Sends bytes to its input. When the process is gone they are lost: its output says so better.
    public async Task WriteAsync(ReadOnlyMemory<byte> bytes, CancellationToken cancellationToken)
    {
        try
        {
            await Input.WriteAsync(bytes, cancellationToken).ConfigureAwait(false);
            await Input.FlushAsync(cancellationToken).ConfigureAwait(false);
        }
        catch (IOException)
        {
            // The process ended.
        }
    }

    // With its children. The guard, which is one, ends as well; its folder is the caller's then.
    public async Task KillAsync()
    {
        try
        {
            _process.Kill(entireProcessTree: true);
        }
        catch (InvalidOperationException)
        {
            // It has ended.
        }

        await WaitAsync(s_killTimeout).ConfigureAwait(false);
    }

    public async ValueTask DisposeAsync()
    {
        await KillAsync().ConfigureAwait(false);
        DismissGuard();
        _process.Dispose();
    }

    private void DismissGuard()
    {
        try
        {
            _guard?.Write("end\n"u8);
        }
        catch (IOException)
        {
            // It was killed together with QEMU.
        }

        _guard?.Dispose();
    }

    private static async Task<string> DrainMessagesAsync(StreamReader reader)
    {
        var text = new StringBuilder();
        char[] buffer = new char[1024];
        try
        {
            while (await reader.ReadAsync(buffer.AsMemory(), CancellationToken.None).ConfigureAwait(false) is int count and not 0)
            {
                text.Append(buffer, 0, Math.Min(count, MessageLimit - text.Length));
            }
        }
        catch (Exception exception) when (exception is IOException or ObjectDisposedException)
        {
            // The process was killed, and its end of the pipe with it.
        }

        return text.ToString();
    }
}
