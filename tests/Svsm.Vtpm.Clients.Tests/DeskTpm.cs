// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Generic;
using System.Diagnostics;
using System.IO;
using System.Net;
using System.Net.Sockets;
using System.Security.Cryptography.X509Certificates;
using System.Threading.Tasks;
using Svsm.Modules.Vtpm;
using Svsm.Modules.Vtpm.Desk;
using Xunit;

namespace Svsm.Vtpm.Clients.Tests;

/// <summary>A served TPM in a folder of its own, and programs that use it.</summary>
internal sealed class DeskTpm : IDisposable
{
    private const int TimeoutMilliseconds = 120_000;
    private const int PairAttempts = 50;

    private StateDirectory _state;
    private TpmServer _server = null!;

    /// <summary>Makes a TPM and serves it.</summary>
    /// <param name="authority">Who certifies its endorsement keys, if anybody.</param>
    /// <param name="hasSha1Bank">Whether it has PCRs with SHA-1.</param>
    internal DeskTpm(X509Certificate2? authority = null, bool hasSha1Bank = true)
    {
        Folder = Directory.CreateTempSubdirectory("svsm-vtpm-").FullName;
        _state = new StateDirectory(StateFolder);
        Assert.Equal(TpmOpenResult.Done, TpmFactory.TryManufacture(_state, authority, null, out _, hasSha1Bank));
        Assert.Equal(TpmOpenResult.Done, Tpm.TryOpen(Platform(), out Tpm? tpm));
        Serve(tpm!);
    }

    internal string Folder { get; }

    internal int MssimPort { get; private set; }

    internal int SwtpmPort { get; private set; }

    private string StateFolder => Path.Combine(Folder, "state");

    public void Dispose()
    {
        _server.Dispose();
        _state.Dispose();
        Directory.Delete(Folder, recursive: true);
    }

    /// <summary>Ends the server and starts another one on the same state.</summary>
    internal void Restart()
    {
        _server.Dispose();
        _state.Dispose();
        _state = new StateDirectory(StateFolder);
        Assert.Equal(TpmOpenResult.Done, Tpm.TryOpen(Platform(), out Tpm? tpm));
        Serve(tpm!);
    }

    /// <summary>Runs a shell script in the folder and gives its output; it has to succeed.</summary>
    /// <param name="script">The script's lines, or a path in the environment.</param>
    /// <param name="tcti">mssim, swtpm, or tabrmd for a resource manager over mssim.</param>
    internal async Task<string> RunAsync(string script, string tcti = "mssim")
    {
        string direct = tcti == "swtpm" ? $"swtpm:host=127.0.0.1,port={SwtpmPort}" : $"mssim:host=127.0.0.1,port={MssimPort}";
        string body = tcti == "tabrmd"
            ? "tpm2-abrmd --session --allow-root --tcti=\"$DIRECT_TCTI\" 2> abrmd.log & trap 'kill %1' EXIT\n"
                + "for i in $(seq 100); do gdbus call --session --dest org.freedesktop.DBus --object-path / --method org.freedesktop.DBus.NameHasOwner com.intel.tss2.Tabrmd 2>&1 | grep -q true && break; sleep 0.05; done\n"
            : "";
        var start = new ProcessStartInfo("bash") { WorkingDirectory = Folder, RedirectStandardOutput = true, RedirectStandardError = true, RedirectStandardInput = true };
        string[] command = tcti == "tabrmd" ? ["-c", "exec dbus-run-session -- bash -Eeuo pipefail -c \"$FLOW\""] : ["-Eeuo", "pipefail", "-c", body + Prelude + script];
        foreach (string argument in command)
        {
            start.ArgumentList.Add(argument);
        }

        start.Environment["FLOW"] = body + Prelude + script;
        start.Environment["DIRECT_TCTI"] = direct;
        start.Environment["TPM2TOOLS_TCTI"] = tcti == "tabrmd" ? "tabrmd:bus_type=session" : direct;
        start.Environment["PLATFORM_PORT"] = $"{MssimPort + 1}";
        start.Environment["PATH"] += ":/usr/sbin";
        start.Environment["TSS2_LOG"] = "all+error";
        start.Environment["HOME"] = Folder;
        using Process process = Process.Start(start)!;
        process.StandardInput.Close();
        Task<string> output = process.StandardOutput.ReadToEndAsync();
        Task<string> error = process.StandardError.ReadToEndAsync();
        using var timeout = new System.Threading.CancellationTokenSource(TimeoutMilliseconds);
        try
        {
            await process.WaitForExitAsync(timeout.Token);
        }
        catch (OperationCanceledException)
        {
            process.Kill(entireProcessTree: true);
            Assert.Fail($"not ended after {TimeoutMilliseconds} ms\n{script}");
        }

        Assert.True(process.ExitCode == 0, $"exit status {process.ExitCode}\n{await error}\n{await output}");
        return await output;
    }

    // What scripts may use: a text in the input (to its end: grep -q alone would leave the writer with a broken pipe), a command that has to fail with a text, and the platform's power switch.
    private const string Prelude = """
        trap 'echo "failed: $BASH_COMMAND" >&2' ERR
        has() { local all; all=$(cat); grep -q -- "$1" <<<"$all" || { echo "no '$1' in: $all" >&2; return 1; }; }
        fails() { local text="$1"; shift; if "$@" >failed.log 2>&1; then echo "succeeded: $*" >&2; return 1; fi; grep -q -- "$text" failed.log || { cat failed.log >&2; echo "failed otherwise than '$text': $*" >&2; return 1; }; }
        signal() { exec 3<>/dev/tcp/127.0.0.1/$PLATFORM_PORT; printf "\\x00\\x00\\x00\\x$1" >&3; head -c 4 <&3 >/dev/null; exec 3>&-; }
        power_cycle() { signal 02; signal 01; }
        same() { [ "$1" = "$2" ] || { echo "'$1' is not '$2'" >&2; return 1; }; }
        flush() { tpm2_flushcontext -t; }

        """;

    private TpmPlatform Platform()
    {
        var desk = new DeskPlatform();
        return new TpmPlatform(desk, desk, _state);
    }

    private void Serve(Tpm tpm)
    {
        _server = new TpmServer(tpm, null);
        MssimPort = ListenPair(_server.ListenForPlatform);
        SwtpmPort = ListenPair(_server.ListenForControl);
    }

    private int ListenPair(Func<EndPoint, EndPoint> listenNext)
    {
        for (int attempt = 1; ; attempt++)
        {
            int first = ((IPEndPoint)_server.ListenForData(new IPEndPoint(IPAddress.Loopback, 0))).Port;
            try
            {
                listenNext(new IPEndPoint(IPAddress.Loopback, first + 1));
                return first;
            }
            catch (SocketException) when (attempt < PairAttempts)
            {
                // Somebody has the next port.
            }
        }
    }
}
