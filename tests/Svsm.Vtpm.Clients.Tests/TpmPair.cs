// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.IO;
using Svsm.Modules.Vtpm;
using Svsm.Modules.Vtpm.Desk;
using Xunit;
using static Svsm.Vtpm.Clients.Tests.Messages;

namespace Svsm.Vtpm.Clients.Tests;

/// <summary>Debian's swtpm and this TPM with one state: ours imported from swtpm's file. Both powered on, before TPM2_Startup.</summary>
internal sealed class TpmPair : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("svsm-oracle-").FullName;
    private readonly byte[] _response = new byte[Tpm.MaxCommandSize];
    private readonly SwtpmProcess _swtpm;
    private readonly Tpm _tpm;

    internal TpmPair()
    {
        using (var first = new SwtpmProcess(_folder))
        {
            first.Send(Command(0x144, [], U16(0)));
            first.Send(Command(0x145, [], U16(0)));
        }

        var platform = new TpmPlatform(new StoppedClock(), new DeskPlatform(), null);
        byte[] state = File.ReadAllBytes(Path.Combine(_folder, "tpm2-00.permall"));
        Assert.True(Tpm.TryImportSwtpm(platform, state, out Tpm? tpm, out string problem) == TpmOpenResult.Done, problem);
        _tpm = tpm!;
        _swtpm = new SwtpmProcess(_folder);
    }

    internal byte[] Theirs(byte[] command) => _swtpm.Send(command);

    internal byte[] Ours(byte[] command) => _response[.._tpm.Execute(command, 0, _response)];

    /// <summary>_TPM_Init for both.</summary>
    internal void Reset()
    {
        _swtpm.Reset();
        _tpm.PowerOn();
    }

    public void Dispose()
    {
        _swtpm.Dispose();
        Directory.Delete(_folder, recursive: true);
    }

    private sealed class StoppedClock : ITpmClock
    {
        public long Milliseconds => 0;
    }
}
