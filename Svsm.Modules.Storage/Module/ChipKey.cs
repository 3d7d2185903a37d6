// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using Svsm.Core;
using Svsm.Store;
using Svsm.StoreKeys;

namespace Svsm.Modules.Storage;

/// <summary>The key of a store, where it comes from, and who keeps the store's last version; null: nobody does.</summary>
internal readonly record struct KeyOfStore(byte[] Key, StoreKeyOrigin Origin, StoreAnchor? Anchor = null);

/// <summary>Gets the key of the store.</summary>
/// <param name="peers">The other modules: the one that attests.</param>
/// <param name="origin">Where the key of the store on the disk comes from, as it says; null: there is no store, and a key for a new one is wanted.</param>
/// <param name="why">Why there is none.</param>
/// <returns>The key; null: there is none.</returns>
internal delegate KeyOfStore? StoreKeySource(ModulePeers peers, StoreKeyOrigin? origin, out string why);

/// <summary>Keys that the security processor derives: <see cref="StoreKey"/>.</summary>
internal static class ChipKey
{
    // Of a wish. Nobody waits for the store but the boot. Hosts limit how often guests ask, and mean seconds. There are two wishes, and the watchdog waits longer.
    private static readonly TimeSpan s_patience = TimeSpan.FromSeconds(20);

    /// <summary>Gets the key from the chip alone: a <see cref="StoreKeySource"/>.</summary>
    public static KeyOfStore? TryGet(ModulePeers peers, StoreKeyOrigin? origin, out string why) => TryGet(peers, origin, default, out why);

    /// <summary>Gets the key from the chip, and from a broker's secret if there is one.</summary>
    public static KeyOfStore? TryGet(ModulePeers peers, StoreKeyOrigin? origin, ReadOnlySpan<byte> secret, out string why)
    {
        var peer = new AttestingPeer(peers, s_patience);
        AttestingResult result = LaunchIdentity.TryGet(peer, out LaunchIdentity? identity);
        StoreKeyOrigin used = origin ?? identity?.NewOrigin ?? default;
        byte[] key = new byte[StoreKey.Length];
        if (result == AttestingResult.Done)
        {
            result = StoreKey.Derive(peer, identity!, used, secret, key);
        }

        why = result switch
        {
            AttestingResult.Done => "",
            AttestingResult.NotThere => "the image has no module that attests, which the key comes from",
            AttestingResult.NoKey => "the key of VMPL0 is lost, and with it the way to the security processor",
            AttestingResult.Busy => $"the host says that the security processor is busy, for {s_patience.TotalSeconds} s",
            AttestingResult.Refused => $"the security processor derives none for SVN {used.Svn} and TCB 0x{used.Tcb:X}, with which the store's key was made",
            _ => "the module that attests failed",
        };
        return result == AttestingResult.Done ? new KeyOfStore(key, used) : null;
    }
}
