// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using Svsm.Core;
using Svsm.Wire;

namespace Svsm.TestFilling;

/// <summary>Fills its part of the store: for what a store of many records costs.</summary>
[SvsmProtocol(0x8000_0010)]
public sealed class FillingModule : SvsmModule
{
    /// <summary>Makes RCX records of 64 bytes. InvalidRequest: they are not all there.</summary>
    public const uint Fill = 1;

    /// <summary>R9: how many there are.</summary>
    public const uint Count = 2;

    private const int PerCommit = 500;
    private const int ValueLength = 64;

    protected override SvsmResult Handle(in SvsmRequest request) => request.Call switch
    {
        Fill => Make((int)request.Rcx),
        Count when Store.List(out IReadOnlyList<byte[]> names) == StoreStatus.Done => new SvsmResult(SvsmResultCode.Success) { R9 = (ulong)names.Count },
        Count => SvsmResultCode.InvalidRequest,
        _ => SvsmResultCode.UnsupportedCall,
    };

    private SvsmResultCode Make(int count)
    {
        for (int first = 0; first < count; first += PerCommit)
        {
            var changes = new StoreChange[Math.Min(PerCommit, count - first)];
            for (int i = 0; i < changes.Length; i++)
            {
                byte[] name = new byte[sizeof(int)];
                BinaryPrimitives.WriteInt32BigEndian(name, first + i);
                changes[i] = StoreChange.Put(name, new byte[ValueLength]);
            }

            StoreStatus status = Store.Commit(changes);
            if (status != StoreStatus.Done)
            {
                Log.Error($"{first} records are there, and no more: {status}");
                return SvsmResultCode.InvalidRequest;
            }
        }

        return SvsmResultCode.Success;
    }
}
