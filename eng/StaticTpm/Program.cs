// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The TPM as one static executable, for the figures of eng/bench:
//
//   static-tpm serve DIRECTORY PORT      what `svsm tpm serve` does, on one port; makes the TPM if the directory has none
//   static-tpm keys COUNT FILE           makes RSA-2048 keys, writes them for `count`, and prints what a key took
//   static-tpm count OPERATION [FILE]    does an operation with many secrets, for a debugger that counts instructions (Counting.cs)
//   static-tpm operations                the names of operations
//
// A line on the standard output says that it listens, and where. It serves until a client stops it.

using System;
using System.Diagnostics;
using System.Globalization;
using System.IO;
using System.Net;
using Svsm.Modules.Vtpm;
using Svsm.Modules.Vtpm.Crypto;
using Svsm.Modules.Vtpm.Desk;
using Svsm.StaticTpm;

switch (args)
{
    case ["serve", string directory, string port]:
        return Serve(directory, int.Parse(port, CultureInfo.InvariantCulture));
    case ["keys", string count, string file]:
        MakeKeys(int.Parse(count, CultureInfo.InvariantCulture), file);
        return 0;
    case ["count", string operation, .. string[] file]:
        Counting.Run(operation, file.Length == 0 ? [] : File.ReadAllBytes(file[0]));
        return 0;
    case ["operations"]:
        Console.Out.WriteLine(string.Join('\n', Counting.Operations));
        return 0;
    default:
        Console.Error.WriteLine("usage: static-tpm serve DIRECTORY PORT | keys COUNT FILE | count OPERATION [FILE] | operations");
        return 64;
}

static int Serve(string directory, int port)
{
    using var storage = new StateDirectory(directory);
    var desk = new DeskPlatform();
    var platform = new TpmPlatform(desk, desk, storage);
    TpmOpenResult result = Tpm.TryOpen(platform, out Tpm? tpm);
    if (result == TpmOpenResult.NotManufactured)
    {
        result = Tpm.TryManufacture(platform, out tpm);
    }

    if (result != TpmOpenResult.Done)
    {
        Console.Error.WriteLine($"'{directory}': {result}");
        return 1;
    }

    using var server = new TpmServer(tpm!, null);
    EndPoint endPoint = server.ListenForData(new IPEndPoint(IPAddress.Loopback, port));
    Console.Out.WriteLine(endPoint);
    server.Stopped.WaitHandle.WaitOne();
    return 0;
}

// The same keys each time: their seed is a constant.
static void MakeKeys(int count, string path)
{
    CounterDrbg random = CounterDrbg.Create(new BouncyCastleCryptography(), ["keys"u8.ToArray()]);
    int exponentiations = 0;
    using FileStream file = File.Create(path);
    for (int i = 0; i < count; i++)
    {
        var generation = new RsaKeyGeneration(random, Counting.KeyBits, RsaPublicKey.DefaultExponent);
        while (!generation.Step())
        {
        }

        exponentiations += generation.Exponentiations;
        file.Write(generation.Product);
        file.Write(generation.Prime);
    }

    double milliseconds = Process.GetCurrentProcess().TotalProcessorTime.TotalMilliseconds;
    Console.Out.WriteLine(string.Create(
        CultureInfo.InvariantCulture, $"{(double)exponentiations / count:0.0} exponentiations and {milliseconds / count:0.0} ms of processor time per key"));
}
