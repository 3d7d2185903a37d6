// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Which protocols there are: who serves them, and what QUERY_PROTOCOL says about them. The core protocol is the kernel's, each of the others a
// module's. The table is filled while booting; later a protocol can only go.

using System.Runtime.CompilerServices;
using System.Threading;
using Svsm.Kernel.Memory;
using Svsm.Wire;

namespace Svsm.Kernel.Protocols;

/// <summary>The protocols of this kernel.</summary>
internal static class ProtocolTable
{
    /// <summary>Lowest and highest version of the core protocol.</summary>
    public const uint CoreVersion = 1;

    private struct Entry
    {
        public SvsmProtocol Protocol;
        public uint MinVersion;
        public uint MaxVersion;
        public int Module;
        public bool IsRetired;
    }

    [InlineArray(ArchiveHeader.MaxModules)]
    private struct Entries
    {
        private Entry _element0;
    }

    private static Entries s_entries;
    private static int s_count;

    /// <summary>Adds the protocol of a module. While booting; there is room for as many as an archive has.</summary>
    public static void Add(SvsmProtocol protocol, uint minVersion, uint maxVersion, int module) =>
        s_entries[s_count++] = new Entry { Protocol = protocol, MinVersion = minVersion, MaxVersion = maxVersion, Module = module };

    /// <summary>A protocol is not served any more.</summary>
    public static void Retire(SvsmProtocol protocol)
    {
        if (TryFind(protocol, out int index))
        {
            Volatile.Write(ref s_entries[index].IsRetired, true);
        }
    }

    /// <summary>Finds who serves a protocol.</summary>
    /// <param name="protocol">Protocol number. Untrusted.</param>
    /// <param name="module">Index of the module.</param>
    /// <returns>False: no module does.</returns>
    public static bool TryFindModule(SvsmProtocol protocol, out int module)
    {
        bool found = TryFind(protocol, out int index);
        module = found ? s_entries[index].Module : 0;
        return found;
    }

    /// <summary>Answers a call that is no module's.</summary>
    /// <param name="request">The call; output registers are set in it.</param>
    /// <param name="context">State of the vCPU that calls.</param>
    /// <param name="table">The page states.</param>
    /// <param name="platform">The processor.</param>
    /// <param name="result">The result code for RAX.</param>
    public static CallOutcome Dispatch<TPlatform>(
        ref SvsmRequest request, in GuestContext context, in PageStateTable table, ref TPlatform platform, out SvsmResultCode result)
        where TPlatform : IGuestPlatform
    {
        if (request.Protocol == SvsmProtocol.Core)
        {
            return CoreProtocol.Handle(ref request, in context, table, ref platform, out result);
        }

        result = SvsmResultCode.UnsupportedProtocol;
        return CallOutcome.Answered;
    }

    /// <summary>Answer of QUERY_PROTOCOL.</summary>
    /// <param name="protocol">Protocol number. Untrusted.</param>
    /// <param name="version">Wanted version. Untrusted.</param>
    /// <returns>0 if there is no such protocol or version, else the highest version in bits 63:32, the lowest in bits 31:0.</returns>
    public static ulong Query(SvsmProtocol protocol, uint version)
    {
        if (protocol == SvsmProtocol.Core)
        {
            return version == CoreVersion ? ((ulong)CoreVersion << 32) | CoreVersion : 0;
        }

        if (!TryFind(protocol, out int index))
        {
            return 0;
        }

        ref readonly Entry entry = ref s_entries[index];
        return version >= entry.MinVersion && version <= entry.MaxVersion ? ((ulong)entry.MaxVersion << 32) | entry.MinVersion : 0;
    }

    private static bool TryFind(SvsmProtocol protocol, out int index)
    {
        for (index = 0; index < s_count; index++)
        {
            if (s_entries[index].Protocol == protocol && !Volatile.Read(ref s_entries[index].IsRetired))
            {
                return true;
            }
        }

        return false;
    }
}
