// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.IO;
using System.Net;
using System.Net.Sockets;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using System.Threading;
using Svsm.Diagnostics;
using Svsm.Modules.Vtpm;
using Svsm.Modules.Vtpm.Desk;

namespace Svsm.Tool.Commands;

/// <summary><c>svsm tpm</c>: the virtual TPM as a process of its own.</summary>
internal static class TpmCommand
{
    // Ports come in pairs: data, and after it signals. When any pair will do, another process can be faster with the second.
    private const int PairAttempts = 20;

    /// <summary>Makes a TPM in a directory that has none.</summary>
    /// <param name="console">Where the log goes.</param>
    /// <param name="directory">The state.</param>
    /// <param name="authority">The certificate and key, in PEM, of who certifies the endorsement keys; null for none.</param>
    /// <param name="swtpmState">The permanent state of an swtpm to take over; null for new seeds.</param>
    /// <param name="hasSha1Bank">Whether there are PCRs with SHA-1.</param>
    public static int Manufacture(ToolConsole console, string directory, (string Certificate, string Key)? authority, string? swtpmState, bool hasSha1Bank)
    {
        using X509Certificate2? certificate = authority is null ? null : ReadAuthority(authority.Value.Certificate, authority.Value.Key);
        byte[]? imported = swtpmState is null ? null : ImageFile.Read(swtpmState);
        using StateDirectory storage = Open(directory);
        TpmOpenResult result = console.Work("Manufacturing", () =>
        {
            TpmOpenResult made = TpmFactory.TryManufacture(storage, certificate, imported, out string problem, hasSha1Bank);
            return problem.Length == 0 ? made : throw SvsmDiagnostics.TpmStateUnusable.Error($"'{swtpmState}': {problem}", "a state of which everything can be taken over");
        });
        if (result != TpmOpenResult.Done)
        {
            throw Unusable(directory, result);
        }

        console.Error.WriteLine($"TPM made in {directory}{(certificate is null ? "" : ", endorsement keys certified")}");
        return ExitStatus.Success;
    }

    /// <summary>Serves until it is interrupted or a client stops it.</summary>
    /// <param name="console">Where the log goes.</param>
    /// <param name="directory">The state; null for a TPM that ends with the process.</param>
    /// <param name="port">The port of the mssim protocol; the next one is its platform port. 0 for any.</param>
    /// <param name="swtpmPort">The port of the swtpm protocol; the next one is its control channel. 0 for any, null for none.</param>
    /// <param name="socket">The path of Unix sockets; null for none.</param>
    /// <param name="traces">Every command and response is logged.</param>
    /// <param name="cancellationToken">Ends the server.</param>
    public static int Serve(ToolConsole console, string? directory, int port, int? swtpmPort, string? socket, bool traces, CancellationToken cancellationToken)
    {
        using StateDirectory? storage = directory is null ? null : Open(directory);
        TpmPlatform platform = Platform(storage);
        TpmOpenResult result = storage is null ? Tpm.TryManufacture(platform, out Tpm? tpm) : Tpm.TryOpen(platform, out tpm);
        if (result != TpmOpenResult.Done)
        {
            throw Unusable(directory!, result);
        }

        if (storage is null)
        {
            console.Error.WriteLine("no --state: the TPM is ephemeral and ends with this process");
        }

        using var server = new TpmServer(tpm!, traces ? new TpmTrace(TextWriter.Synchronized(console.Error)) : null);
        try
        {
            int data = ListenPair(port, server.ListenForData, server.ListenForPlatform);
            console.Error.WriteLine($"mssim protocol on port {data}, platform port {data + 1}");
            if (swtpmPort is int wanted)
            {
                data = ListenPair(wanted, server.ListenForData, server.ListenForControl);
                console.Error.WriteLine($"swtpm protocol on port {data}, control channel {data + 1}");
            }

            if (socket is not null)
            {
                server.ListenForData(new UnixDomainSocketEndPoint(socket));
                server.ListenForControl(new UnixDomainSocketEndPoint(socket + ".ctrl"));
                server.ListenForPlatform(new UnixDomainSocketEndPoint(socket + ".platform"));
                console.Error.WriteLine($"both protocols on {socket}, control channel {socket}.ctrl, platform signals {socket}.platform");
            }
        }
        catch (SocketException exception)
        {
            throw SvsmDiagnostics.TpmAddressUnusable.Error(
                $"port {port}{(swtpmPort is null ? "" : $", port {swtpmPort}")}{(socket is null ? "" : $", '{socket}'")}: {exception.Message}", "an address that is free", exception);
        }

        using var ended = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken, server.Stopped);
        ended.Token.WaitHandle.WaitOne();
        return ExitStatus.Success;
    }

    private static int ListenPair(int port, Func<EndPoint, EndPoint> listen, Func<EndPoint, EndPoint> listenNext)
    {
        for (int attempt = 1; ; attempt++)
        {
            int first = ((IPEndPoint)listen(new IPEndPoint(IPAddress.Loopback, port))).Port;
            try
            {
                listenNext(new IPEndPoint(IPAddress.Loopback, first + 1));
                return first;
            }
            catch (Exception exception) when (port == 0 && attempt < PairAttempts && exception is SocketException or ArgumentOutOfRangeException)
            {
                // The first port stays open until the server ends; it is nobody's address.
            }
        }
    }

    private static X509Certificate2 ReadAuthority(string certificate, string key)
    {
        try
        {
            return X509Certificate2.CreateFromPem(Encoding.UTF8.GetString(ImageFile.Read(certificate)), Encoding.UTF8.GetString(ImageFile.Read(key)));
        }
        catch (CryptographicException exception)
        {
            throw SvsmDiagnostics.TpmStateUnusable.Error($"'{certificate}', '{key}': {exception.Message}", "a certificate and its private key in PEM", exception);
        }
    }

    private static TpmPlatform Platform(ITpmStorage? storage)
    {
        var desk = new DeskPlatform();
        return new TpmPlatform(desk, desk, storage);
    }

    private static StateDirectory Open(string directory)
    {
        try
        {
            return new StateDirectory(directory);
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            throw SvsmDiagnostics.TpmStateUnusable.Error($"'{directory}': {exception.Message}", "a folder that this user can write and no other process has open", exception);
        }
    }

    private static SvsmDiagnosticException Unusable(string directory, TpmOpenResult result) => SvsmDiagnostics.TpmStateUnusable.Error(
        $"'{directory}' " + result switch
        {
            TpmOpenResult.NotManufactured => "has no TPM",
            TpmOpenResult.AlreadyManufactured => "has a TPM already",
            TpmOpenResult.StorageFailed => "has a damaged state, or one that cannot be read or written",
            TpmOpenResult.StateInvalid => "has a state that is not one of this version's TPM",
            _ => "cannot be opened: there is no entropy",
        },
        result == TpmOpenResult.AlreadyManufactured ? "a folder without a TPM" : "the state of a TPM");
}
