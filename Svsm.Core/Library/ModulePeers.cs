// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Requests of a module to another one of the image, as far as its permissions go: to the one that keeps the store (ModulePermissions.Store), and from that
// to the one that attests, for keys (ModulePermissions.KeepStore). The kernel carries them, and says who asks.

using System;
using System.Security.Cryptography;
using Svsm.Wire;

namespace Svsm.Core;

/// <summary>What became of a request to another module.</summary>
public enum PeerResult
{
    /// <summary>There is an answer.</summary>
    Answered,

    /// <summary>The image has no such module.</summary>
    NotThere,

    /// <summary>The other module failed over it, cannot do it, or does not run; or there was no memory for it. What it was to do may be done or not.</summary>
    Failed,

    /// <summary>Nothing was asked: the module has no permission to, or is not in an image.</summary>
    NotPermitted,
}

/// <summary>A request of another module.</summary>
/// <param name="Kind"><see cref="ModuleMessageKind.Store"/> or <see cref="ModuleMessageKind.Key"/>.</param>
/// <param name="Protocol">Protocol of the module that asks. The kernel's word, not that module's.</param>
/// <param name="StoreQuota">Bytes that the module may have in the store, as the image says. The kernel's word as well.</param>
/// <param name="Contents">The request itself, at most 64 KiB: untrusted, as far as one module does not trust the other.</param>
public readonly record struct PeerRequest(ModuleMessageKind Kind, uint Protocol, long StoreQuota, ReadOnlyMemory<byte> Contents);

/// <summary>The other modules of the image.</summary>
public abstract class ModulePeers
{
    /// <summary>Asks another module, and waits for its answer.</summary>
    /// <param name="kind"><see cref="ModuleMessageKind.Store"/> or <see cref="ModuleMessageKind.Key"/>: which one.</param>
    /// <param name="request">The request, at most 64 KiB.</param>
    /// <param name="answer">The answer, at most 64 KiB; empty if there is none.</param>
    /// <returns>What became of it.</returns>
    /// <exception cref="ArgumentOutOfRangeException">It is another kind, or the request is longer.</exception>
    public abstract PeerResult Ask(ModuleMessageKind kind, ReadOnlySpan<byte> request, out byte[] answer);
}

// Outside of an image the descriptor is not open, and the kernel gives it to modules with the permission only.
internal sealed class DescriptorPeers : ModulePeers
{
    // One for all answers: every allocation brings the next collection nearer. Most modules ask nobody.
    private byte[]? _buffer;

    public override PeerResult Ask(ModuleMessageKind kind, ReadOnlySpan<byte> request, out byte[] answer)
    {
        answer = [];
        int descriptor = kind switch
        {
            ModuleMessageKind.Store => ModuleDescriptor.Store,
            ModuleMessageKind.Key => ModuleDescriptor.Keys,
            _ => throw new ArgumentOutOfRangeException(nameof(kind), kind, "no kind of request to another module"),
        };
        ArgumentOutOfRangeException.ThrowIfGreaterThan(request.Length, ModuleMessage.MaxPayload);
        if (Descriptor.WriteAt(descriptor, request, 0) < 0)
        {
            return Descriptor.LastError switch
            {
                Descriptor.NoEntry => PeerResult.NotThere,
                Descriptor.NoMemory or Descriptor.InputOutput => PeerResult.Failed,
                _ => PeerResult.NotPermitted,
            };
        }

        _buffer ??= new byte[ModuleMessage.MaxPayload];
        nint length = Descriptor.ReadAt(descriptor, _buffer, 0);
        if (length < 0)
        {
            return PeerResult.Failed;
        }

        Span<byte> there = _buffer.AsSpan(0, (int)length);
        answer = there.ToArray();
        CryptographicOperations.ZeroMemory(there);
        return PeerResult.Answered;
    }
}
