// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The TPM as one static executable, for the figures of eng/bench:
//
//   static-tpm serve DIRECTORY PORT      what `svsm tpm serve` does, on one port; makes the TPM if the directory has none; port 0 is any
//
// A line on the standard output says that it listens, and where. It serves until a client stops it.

using System;
using System.Globalization;
using System.Net;
using Svsm.Modules.Vtpm;
using Svsm.Modules.Vtpm.Desk;

if (args is ["serve", string directory, string port])
{
    return Serve(directory, int.Parse(port, CultureInfo.InvariantCulture));
}

Console.Error.WriteLine("usage: static-tpm serve DIRECTORY PORT");
return 64;

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
