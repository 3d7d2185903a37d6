// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using Svsm.Core;
using Svsm.Store;
using Svsm.StoreKeys;

namespace Svsm.Modules.Storage;

/// <summary>The key of the store of an image that trusts a broker: from the chip and the broker's secret, or from that alone.</summary>
/// <param name="disks">The SVSM's devices: the channel is one of them.</param>
/// <param name="pin">The file of the image.</param>
/// <param name="log">The log.</param>
internal sealed class BrokerKeys(SvsmDisks disks, byte[] pin, ModuleLog log)
{
    /// <summary>The file of an image that trusts a broker, as <c>svsm keys pin</c> makes it.</summary>
    public const string PinPath = "/broker.pin";

    // Of an exchange: the proxy answers in 10 seconds, whatever the broker does. A new session with its anchor is four exchanges, and the module is not to be
    // ended for waiting (Watchdog).
    private const int TimeoutMilliseconds = 12_000;

    // As with the chip's key: hosts limit how often guests ask for a report.
    private static readonly TimeSpan s_patience = TimeSpan.FromSeconds(10);

    /// <summary>Gets the key: a <see cref="StoreKeySource"/>.</summary>
    public KeyOfStore? TryGet(ModulePeers peers, StoreKeyOrigin? origin, out string why)
    {
        if (BrokerPin.TryRead(pin) is not BrokerPin trusted)
        {
            why = $"{PinPath} of the image is no file of svsm keys pin";
            return null;
        }

        if (!VirtioDriver.TryFind(disks, VirtioChannel.Kind, out int slot))
        {
            why = "the image trusts a broker, and the host gives the SVSM no channel to one";
            return null;
        }

        var channel = new VirtioChannel(disks, slot, TimeoutMilliseconds);
        var peer = new AttestingPeer(peers, s_patience);
        if (TryOpen(channel, peer, trusted, out why) is not BrokerSession session)
        {
            return null;
        }

        StoreAnchor? anchor = null;
        if (session.HasAnchor)
        {
            BrokerResult asked = session.GetAnchor(out StoreVersion? last);
            if (asked != BrokerResult.Done)
            {
                why = $"the broker does not tell the last version of the store: {Describe(asked, channel)}";
                session.Dispose();
                return null;
            }

            anchor = new BrokerAnchor(() => TryOpen(channel, peer, trusted, out _), session, last, log);
        }

        KeyOfStore? key = session.IsMovable ? FromBroker(session) : ChipKey.TryGet(peers, origin, session.Secret, out why);
        if (anchor is null || key is null)
        {
            session.Dispose();
        }

        return key is KeyOfStore made ? made with { Anchor = anchor } : null;
    }

    private static KeyOfStore FromBroker(BrokerSession session)
    {
        byte[] key = new byte[StoreKey.Length];
        StoreKey.FromBroker(session.Secret, key);
        return new KeyOfStore(key, default);
    }

    private static BrokerSession? TryOpen(VirtioChannel channel, AttestingPeer peer, BrokerPin trusted, out string why)
    {
        BrokerResult result = BrokerSession.TryOpen(channel, peer, trusted, out BrokerSession? session);
        why = result == BrokerResult.Done ? "" : Describe(result, channel);
        return session;
    }

    private static string Describe(BrokerResult result, VirtioChannel channel) => result switch
    {
        BrokerResult.Busy => $"the host says that the security processor is busy, for {s_patience.TotalSeconds} s",
        BrokerResult.NoReport => "there is no report for the broker: no module attests, or the key of VMPL0 is lost",
        BrokerResult.Refused => "the broker refuses, says the host: it does not believe this image, or has no such secret; its log has the reason",
        BrokerResult.NotTheBroker => "an answer is not from the broker that the image trusts",
        BrokerResult.NotWritten => "what it keeps is damaged",
        _ => $"the broker is not reached{(channel.Failure.Length == 0 ? "" : $"; the channel: {channel.Failure}")}",
    };
}
