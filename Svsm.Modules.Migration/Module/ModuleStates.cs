// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// States of the other modules of the image: asked for at the source, given at the target, in parts; and whether the guest is here (Wire/ModuleChannel.cs, Save,
// Restore, Leave and Arrive).

using System;
using System.Collections.Generic;
using System.Linq;
using Svsm.Core;
using Svsm.Wire;

namespace Svsm.Modules.Migration;

/// <summary>States of the other modules.</summary>
/// <param name="move">The guest.</param>
/// <param name="log">The module's log.</param>
internal sealed class ModuleStates(GuestMove move, ModuleLog log)
{
    // Modules that know that the guest is not here.
    private readonly List<MoveModule> _left = [];

    /// <summary>Asks each module for the version of its state.</summary>
    /// <param name="offered">The modules, in the order of the image.</param>
    /// <returns>False: one cannot move, or does not run; the log says which.</returns>
    public bool TryDescribe(out OfferedModule[] offered)
    {
        var found = new List<OfferedModule>();
        bool canMove = true;
        foreach (MoveModule module in move.ReadModules())
        {
            if (module.Runs == 0)
            {
                // What it had is lost here, too: the guest finds it as it is.
                continue;
            }

            uint version = VersionOf(module);
            if (version == 0)
            {
                log.Warning($"the module of protocol 0x{(uint)module.Protocol:X} cannot move");
                canMove = false;
            }

            found.Add(new((uint)module.Protocol, version));
        }

        offered = [.. found];
        return canMove;
    }

    /// <summary>Whether the modules of this image take these states.</summary>
    public bool CanTake(IEnumerable<OfferedModule> offered)
    {
        MoveModule[] modules = move.ReadModules();
        return offered.All(wanted => modules.Any(module => (uint)module.Protocol == wanted.Protocol && module.Runs != 0 && VersionOf(module) >= wanted.Version && wanted.Version != 0));
    }

    /// <summary>Reads a part of a module's state.</summary>
    /// <param name="protocol">The module.</param>
    /// <param name="offset">Where; 0 makes the state.</param>
    /// <param name="version">Version of the state.</param>
    /// <param name="total">Bytes of all of it.</param>
    /// <param name="part">The part.</param>
    /// <returns>False: it fails.</returns>
    public bool TrySave(uint protocol, ulong offset, out uint version, out ulong total, out byte[] part)
    {
        MoveRequest request = new() { Rcx = offset };
        bool isSaved = TryAsk(protocol, ModuleMessageKind.Save, ref request, [], out part);
        (version, total) = (request.Call, request.Rdx);
        return isSaved && version != 0 && offset <= total && (ulong)part.Length <= total - offset && (part.Length != 0 || offset == total);
    }

    /// <summary>Gives a part of a state to a module.</summary>
    /// <returns>False: it does not take it.</returns>
    public bool TryRestore(uint protocol, uint version, ulong offset, ulong total, ReadOnlySpan<byte> part)
    {
        MoveRequest request = new() { Call = version, Rcx = offset, Rdx = total };
        return TryAsk(protocol, ModuleMessageKind.Restore, ref request, part, out _);
    }

    /// <summary>Tells every module that the guest is not here: what it keeps elsewhere is of no use until <see cref="Arrive"/>.</summary>
    /// <returns>False: one cannot; the log says which. Those before it have left.</returns>
    public bool TryLeave()
    {
        foreach (MoveModule module in move.ReadModules())
        {
            MoveRequest request = default;
            if (module.Runs == 0)
            {
                continue;
            }

            if (!TryAsk((uint)module.Protocol, ModuleMessageKind.Leave, ref request, [], out _))
            {
                log.Error($"the module of protocol 0x{(uint)module.Protocol:X} cannot leave");
                return false;
            }

            _left.Add(module);
        }

        return true;
    }

    /// <summary>Tells those that have left that the guest is here, and runs next. It does in any case: there is no other place for it.</summary>
    public void Arrive()
    {
        // The one that keeps the store, which was the last, first: the others may need it.
        for (int i = _left.Count - 1; i >= 0; i--)
        {
            MoveRequest request = default;
            if (!TryAsk((uint)_left[i].Protocol, ModuleMessageKind.Arrive, ref request, [], out _))
            {
                log.Error($"the module of protocol 0x{(uint)_left[i].Protocol:X} cannot go on yet with what it keeps");
            }
        }

        _left.Clear();
    }

    private uint VersionOf(MoveModule module)
    {
        MoveRequest request = new() { Rcx = ModuleMessage.VersionOnly };
        return move.TryAsk((int)module.Index, ModuleMessageKind.Save, ref request, [], out _) && request.Result == 0 ? request.Call : 0;
    }

    private bool TryAsk(uint protocol, ModuleMessageKind kind, ref MoveRequest request, ReadOnlySpan<byte> contents, out byte[] answer)
    {
        answer = [];
        foreach (MoveModule module in move.ReadModules())
        {
            if ((uint)module.Protocol == protocol)
            {
                return move.TryAsk((int)module.Index, kind, ref request, contents, out answer) && request.Result == (ulong)SvsmResultCode.Success;
            }
        }

        return false;
    }
}
