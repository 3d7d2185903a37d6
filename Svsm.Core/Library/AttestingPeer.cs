// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// What the module that keeps the store has of the one that attests: keys and reports of the security processor. Messages: Svsm.Core/Wire/KeyMessages.cs.
//
// Hosts let a guest ask the security processor only so often, and say that they are busy in between. Then the same bytes are asked again, for a while: the one that
// attests goes on with the request that it has, where another wish would cost the security processor another turn.

using System;
using System.Diagnostics;
using System.Runtime.InteropServices;
using System.Security.Cryptography;
using System.Threading;
using Svsm.Wire;

namespace Svsm.Core;

/// <summary>What became of a wish for a key or a report.</summary>
public enum AttestingResult
{
    /// <summary>It is there.</summary>
    Done,

    /// <summary>The host was busy all the time: the same wish later.</summary>
    Busy,

    /// <summary>The security processor does not do it: see <see cref="KeyStatus.Refused"/>.</summary>
    Refused,

    /// <summary>There will be none until the VM is launched again: the key of VMPL0 is lost.</summary>
    NoKey,

    /// <summary>The image has no module that attests.</summary>
    NotThere,

    /// <summary>The other module failed over it or answered something else; or this one may not ask. Another wish may be granted.</summary>
    Failed,
}

/// <summary>The module of the image that attests, for the one that keeps the store.</summary>
/// <param name="peers">The other modules: <see cref="SvsmModule.Peers"/>.</param>
/// <param name="patience">How long a wish is repeated while the host is busy; zero: it is not.</param>
public sealed class AttestingPeer(ModulePeers peers, TimeSpan patience = default)
{
    private const int PauseMilliseconds = 50;

    /// <summary>Has the security processor derive a key for VMPL0 from the chip's key. The same wish gives the same key, after a restart of the VM too.</summary>
    /// <param name="fields">What it depends on; see <see cref="KeyRequest"/> for what it depends on anyway.</param>
    /// <param name="svn">With <see cref="DerivedKeyFields.Svn"/>: the security version, at most the guest's; otherwise 0.</param>
    /// <param name="tcb">With <see cref="DerivedKeyFields.Tcb"/>: the TCB version, each part at most the chip's; otherwise 0.</param>
    /// <param name="key">Gets the key, 32 bytes. The caller clears it. Zero if there is none.</param>
    /// <returns>What became of it.</returns>
    /// <exception cref="ArgumentException"><paramref name="key"/> has another length.</exception>
    public AttestingResult DeriveKey(DerivedKeyFields fields, uint svn, ulong tcb, [Secret] Span<byte> key)
    {
        if (key.Length != KeyAnswer.KeyLength)
        {
            throw new ArgumentException($"{key.Length} bytes for a key; wanted are {KeyAnswer.KeyLength}", nameof(key));
        }

        key.Clear();
        AttestingResult result = Ask(new KeyRequest { Kind = KeyRequestKind.Derive, Fields = fields, Svn = svn, Tcb = tcb }, out byte[] answer);
        try
        {
            if (result == AttestingResult.Done)
            {
                if (answer.Length != KeyAnswer.Length + KeyAnswer.KeyLength)
                {
                    return AttestingResult.Failed;
                }

                answer.AsSpan(KeyAnswer.Length).CopyTo(key);
            }

            return result;
        }
        finally
        {
            CryptographicOperations.ZeroMemory(answer);
        }
    }

    /// <summary>Gets a report about VMPL0.</summary>
    /// <param name="reportData">The first 48 bytes of its REPORT_DATA; 16 zeroes follow.</param>
    /// <param name="report">The report, 1184 bytes: the security processor's. Empty if there is none.</param>
    /// <param name="certificates">What the host gave for certificates, at most 16 KiB: untrusted. Empty: nothing.</param>
    /// <returns>What became of it.</returns>
    /// <exception cref="ArgumentException"><paramref name="reportData"/> has another length.</exception>
    public AttestingResult GetReport(ReadOnlySpan<byte> reportData, out byte[] report, out byte[] certificates)
    {
        if (reportData.Length != KeyAnswer.ReportDataLength)
        {
            throw new ArgumentException($"{reportData.Length} bytes for a report; wanted are {KeyAnswer.ReportDataLength}", nameof(reportData));
        }

        report = [];
        certificates = [];
        var request = new KeyRequest { Kind = KeyRequestKind.Report };
        reportData.CopyTo(request.ReportData);
        AttestingResult result = Ask(request, out byte[] answer);
        if (result == AttestingResult.Done)
        {
            if (answer.Length < KeyAnswer.Length + KeyAnswer.ReportLength)
            {
                return AttestingResult.Failed;
            }

            report = answer[KeyAnswer.Length..(KeyAnswer.Length + KeyAnswer.ReportLength)];
            certificates = answer[(KeyAnswer.Length + KeyAnswer.ReportLength)..];
        }

        return result;
    }

    private AttestingResult Ask(in KeyRequest request, out byte[] answer)
    {
        long start = Stopwatch.GetTimestamp();
        while (true)
        {
            AttestingResult result = AskOnce(in request, out answer);
            if (result != AttestingResult.Busy || Stopwatch.GetElapsedTime(start) >= patience)
            {
                return result;
            }

            Thread.Sleep(PauseMilliseconds);
        }
    }

    private AttestingResult AskOnce(in KeyRequest request, out byte[] answer)
    {
        PeerResult asked = peers.Ask(ModuleMessageKind.Key, MemoryMarshal.AsBytes(new ReadOnlySpan<KeyRequest>(in request)), out answer);
        if (asked != PeerResult.Answered)
        {
            return asked == PeerResult.NotThere ? AttestingResult.NotThere : AttestingResult.Failed;
        }

        return !MemoryMarshal.TryRead(answer, out KeyAnswer head)
            ? AttestingResult.Failed
            : head.Status switch
            {
                KeyStatus.Done => AttestingResult.Done,
                KeyStatus.Busy => AttestingResult.Busy,
                KeyStatus.Refused => AttestingResult.Refused,
                KeyStatus.NoKey => AttestingResult.NoKey,
                _ => AttestingResult.Failed,
            };
    }
}
