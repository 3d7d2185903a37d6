// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Security.Cryptography;
using System.Threading;
using System.Threading.Tasks;
using Svsm.Attestation;
using Svsm.Diagnostics;
using Svsm.Files;
using Svsm.Keys;

namespace Svsm.Tool.Commands;

/// <summary>What <c>svsm keys serve</c> is asked.</summary>
/// <param name="Key">The broker's private key, a file.</param>
/// <param name="State">The folder of secrets.</param>
/// <param name="Ark">The trusted root: a file, or the fingerprint.</param>
/// <param name="References">Reference values, files.</param>
/// <param name="Certificates">Files with certificates of chips, for hosts that give none.</param>
/// <param name="MinimumTcb">What the TCB of chips must reach in each byte.</param>
/// <param name="Listen">The URL.</param>
internal sealed record BrokerPlan(string Key, string State, string Ark, IReadOnlyList<string> References, IReadOnlyList<string> Certificates, ulong MinimumTcb, string Listen);

/// <summary><c>svsm keys</c>: the broker of stores' keys, and what goes with it.</summary>
internal static class KeysCommand
{
    /// <summary>Makes the file of an image that trusts a broker.</summary>
    public static int Pin(ToolConsole console, string keyPath, bool isTrustee, string output)
    {
        using BrokerKey key = ReadKey(keyPath);
        ImageFile.Write(output, key.MakePin(isTrustee));
        console.Error.WriteLine($"{output}: images with it trust {(isTrustee ? "secrets that this key has signed" : "the broker with this key")}");
        return ExitStatus.Success;
    }

    /// <summary>Makes a secret. One that is there is never replaced: a store would be lost with it.</summary>
    public static int Secret(ToolConsole console, string keyPath, bool isMovable, string output)
    {
        using BrokerKey key = ReadKey(keyPath);
        byte[] secret = key.MakeSecret(isMovable);
        try
        {
            DurableFile.Create(output, secret);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or ArgumentException or NotSupportedException)
        {
            throw SvsmDiagnostics.BrokerFileFailed.Error($"'{output}': {e.Message.TrimEnd('.')}", "a path where there is no file", e);
        }
        finally
        {
            CryptographicOperations.ZeroMemory(secret);
        }

        console.Error.WriteLine($"{output}: a new secret{(isMovable ? ", of stores that go from chip to chip" : "")}");
        return ExitStatus.Success;
    }

    /// <summary>Serves until it is interrupted.</summary>
    public static async Task<int> ServeAsync(ToolConsole console, BrokerPlan plan, CancellationToken cancellationToken)
    {
        using BrokerKey key = ReadKey(plan.Key);
        var policy = new BrokerPolicy(
            AttestCommand.ReadRoot(plan.Ark),
            [.. plan.References.Select(path => ReferenceValues.Parse(ImageFile.Read(path), path))],
            [.. plan.Certificates.SelectMany(path => CertificateFile.Read(ImageFile.Read(path), path))],
            new TcbVersion(plan.MinimumTcb));
        using BrokerState state = BrokerState.Open(plan.State);
        TextWriter log = TextWriter.Synchronized(console.Error);
        var broker = new KeyBroker(key, policy, state, TimeProvider.System, log.WriteLine);
        await BrokerServer.ServeAsync(broker, plan.Listen, () => log.WriteLine($"serving secrets of {plan.State} on {plan.Listen}"), cancellationToken).ConfigureAwait(false);
        return ExitStatus.Success;
    }

    /// <summary>Carries messages until it is interrupted.</summary>
    public static async Task<int> ProxyAsync(ToolConsole console, string socket, Uri broker, string resource, CancellationToken cancellationToken)
    {
        TextWriter log = TextWriter.Synchronized(console.Error);
        await ProxyServer.ServeAsync(socket, broker, resource, log.WriteLine, () => log.WriteLine($"{resource} of {broker} on {socket}"), cancellationToken).ConfigureAwait(false);
        return ExitStatus.Success;
    }

    private static BrokerKey ReadKey(string path) => BrokerKey.Read(ImageFile.Read(path), path);
}
