// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Generic;
using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_GetCapability: what the TPM is and has. Every answer is read off the tables and the state that the other commands use.</summary>
[TpmCommand(CommandCode.GetCapability, Traits = CommandTraits.FailureMode)]
internal static partial class GetCapability
{
    internal readonly record struct Request(Capability Capability, uint Property, uint PropertyCount);

    internal readonly record struct Response(bool MoreData, CapabilityData CapabilityData);

    internal static TpmResponseCode Execute(CommandContext context, in Request request, out Response response)
    {
        Tpm tpm = context.Tpm;
        List<CapabilityItem>? all = List(tpm, request.Capability, request.Property);
        if (all is null)
        {
            response = default;
            return (request.Capability == Capability.Handles ? TpmResponseCode.Handle : TpmResponseCode.Value).At(At.Property);
        }

        // PCR banks come all at once, whatever the count.
        int limit = request.Capability == Capability.Pcrs
            ? all.Count
            : (int)Math.Min(request.PropertyCount, (uint)(TpmLimits.MaxCapabilityData / ItemSize(request.Capability)));
        bool more = all.Count > limit;
        response = new Response(more, new CapabilityData(request.Capability, more ? all[..limit] : all));
        return TpmResponseCode.Success;
    }

    /// <summary>The bytes of one item of a list; null when there is no such item.</summary>
    internal static byte[]? Item(Tpm tpm, Capability capability, uint property)
        => capability != Capability.Pcrs && List(tpm, capability, property) is [CapabilityItem first, ..] && first.Property == property ? first.ToBytes() : null;

    // The size of the largest item.
    private static int ItemSize(Capability capability) => capability switch
    {
        Capability.Algorithms => 6,
        Capability.EccCurves => 2,
        Capability.TpmProperties => 8,
        Capability.PcrProperties => 5 + TpmLimits.PcrSelectSize,
        Capability.AuthPolicies => 4 + 2 + TpmLimits.MaxDigest,
        Capability.CountdownTimers => 4 + 4 + 4,
        _ => 4,
    };

    // What there is from the given property on; null when the property is not one that can be asked for.
    private static List<CapabilityItem>? List(Tpm tpm, Capability capability, uint first)
    {
        var items = new List<CapabilityItem>(TpmProperties.Rows.Length);
        switch (capability)
        {
            case Capability.Algorithms:
                foreach (AlgorithmRow row in Algorithms.Rows)
                {
                    if ((uint)row.Id >= first)
                    {
                        items.Add(new CapabilityItem((ulong)row.Id, 2, (ulong)row.Attributes, 4));
                    }
                }

                return items;
            case Capability.Handles:
                return Handles(tpm, new TpmHandle(first));
            case Capability.Commands:
                foreach (CommandDescriptor command in CommandTable.All)
                {
                    if ((uint)command.Code >= first)
                    {
                        items.Add(new CapabilityItem(command.Attributes, 4) { Property = (uint)command.Code });
                    }
                }

                return items;
            case Capability.Pcrs:
                foreach (PcrSelection selection in tpm.Pcrs.Allocation())
                {
                    items.Add(new CapabilityItem(selection));
                }

                return items;
            case Capability.TpmProperties:
                foreach ((uint tag, Func<Tpm, uint> value) in TpmProperties.Rows)
                {
                    if (tag >= first)
                    {
                        items.Add(new CapabilityItem(tag, 4, value(tpm), 4));
                    }
                }

                return items;
            case Capability.PcrProperties:
                foreach ((PcrProperty property, uint map) in PcrBanks.Properties)
                {
                    if ((uint)property >= first)
                    {
                        items.Add(new CapabilityItem(property, map));
                    }
                }

                return items;
            case Capability.AuthPolicies:
                return AuthPolicies(tpm, new TpmHandle(first));
            case Capability.CountdownTimers:
                if (first < TpmHandle.CountdownTimer.Value || first > TpmHandle.LastCountdownTimer.Value)
                {
                    return null;
                }

                if (first == TpmHandle.CountdownTimer.Value)
                {
                    items.Add(tpm.Countdown.ToCapability());
                }

                return items;
            case Capability.PpCommands:
                foreach (uint code in tpm.Persistent.PresenceCommands)
                {
                    if (code >= first)
                    {
                        items.Add(new CapabilityItem(code, 4));
                    }
                }

                return items;
            case Capability.AuditCommands:
                foreach (CommandCode code in tpm.CommandAudit.List())
                {
                    if ((uint)code >= first)
                    {
                        items.Add(new CapabilityItem((uint)code, 4));
                    }
                }

                return items;
            case Capability.EccCurves:
                foreach (EccCurve curve in Algorithms.Curves)
                {
                    if ((uint)curve >= first)
                    {
                        items.Add(new CapabilityItem((ulong)curve, 2));
                    }
                }

                return items;
            default:
                throw new InvalidOperationException($"capability {capability} is declared and not answered");
        }
    }

    private static List<CapabilityItem>? Handles(Tpm tpm, TpmHandle first)
    {
        TpmHandle[] handles;
        switch (first.Type)
        {
            case HandleType.Transient:
                handles = tpm.Objects.LoadedHandles();
                break;
            case HandleType.Permanent:
                handles =
                [
                    TpmHandle.Owner, TpmHandle.Null, TpmHandle.Password, TpmHandle.Lockout, TpmHandle.Endorsement, TpmHandle.Platform, TpmHandle.PlatformNv,
                    TpmHandle.CountdownTimer,
                ];
                break;
            case HandleType.Pcr:
                handles = new TpmHandle[TpmLimits.PcrCount];
                for (int i = 0; i < handles.Length; i++)
                {
                    handles[i] = TpmHandle.Of(HandleType.Pcr, i);
                }

                break;
            case HandleType.HmacSession:
                // TPM_HT_LOADED_SESSION: with the type that each session has.
                handles = tpm.Sessions.LoadedHandles();
                return ToItems(handles, h => h.Index >= first.Index);
            case HandleType.PolicySession:
                // TPM_HT_SAVED_SESSION: as HMAC sessions, whatever type they have.
                handles = tpm.Sessions.SavedHandles();
                return ToItems(handles, h => h.Index >= first.Index);
            case HandleType.Persistent:
                handles = Array.ConvertAll(tpm.Persistent.Objects, o => o.Handle);
                break;
            case HandleType.NvIndex:
                handles = Array.ConvertAll(tpm.Persistent.NvIndices, i => i.Public.Index);
                break;
            default:
                return null;
        }

        return ToItems(handles, h => h.Value >= first.Value);
    }

    private static List<CapabilityItem>? AuthPolicies(Tpm tpm, TpmHandle first)
    {
        if (first.Type != HandleType.Permanent)
        {
            return null;
        }

        var items = new List<CapabilityItem>();
        foreach (TpmHandle handle in (TpmHandle[])[TpmHandle.Owner, TpmHandle.Lockout, TpmHandle.Endorsement, TpmHandle.Platform, TpmHandle.CountdownTimer])
        {
            if (handle.Value >= first.Value)
            {
                AuthPolicy policy = tpm.Hierarchies.Policy(handle);
                items.Add(new CapabilityItem(handle, new HashValue(policy.Algorithm, policy.Digest)));
            }
        }

        return items;
    }

    private static List<CapabilityItem> ToItems(TpmHandle[] handles, Predicate<TpmHandle> match)
        => Array.FindAll(handles, match).ConvertAll(h => new CapabilityItem(h.Value, 4));

    private static List<CapabilityItem> ConvertAll(this TpmHandle[] handles, Converter<TpmHandle, CapabilityItem> convert) => [.. Array.ConvertAll(handles, convert)];
}

/// <summary>TPMS_CAPABILITY_DATA: the capability, then a list of its items.</summary>
internal readonly record struct CapabilityData(Capability Capability, List<CapabilityItem> Items)
{
    internal void Write(ref TpmWriter writer)
    {
        writer.WriteUInt32((uint)Capability);
        writer.WriteUInt32((uint)Items.Count);
        foreach (CapabilityItem item in Items)
        {
            item.Write(ref writer);
        }
    }
}

/// <summary>One element of a capability list, as it is written: most are one or two integers of at most eight bytes, and those are not allocated.</summary>
internal readonly struct CapabilityItem
{
    private readonly byte[]? _bytes;
    private readonly ulong _value;
    private readonly int _width;

    internal CapabilityItem(ulong value, int width)
    {
        _value = value;
        _width = width;
        Property = (uint)value;
    }

    internal CapabilityItem(ulong first, int firstWidth, ulong second, int secondWidth)
    {
        _value = (first << (8 * secondWidth)) | second;
        _width = firstWidth + secondWidth;
        Property = (uint)first;
    }

    /// <summary>TPMS_PCR_SELECTION.</summary>
    internal CapabilityItem(PcrSelection selection)
    {
        var writer = new TpmWriter(new byte[3 + TpmLimits.PcrSelectSize]);
        selection.Write(ref writer);
        _bytes = writer.Written.ToArray();
    }

    /// <summary>TPMS_TAGGED_PCR_SELECT.</summary>
    internal CapabilityItem(PcrProperty property, uint map)
    {
        var writer = new TpmWriter(new byte[5 + TpmLimits.PcrSelectSize]);
        Property = (uint)property;
        writer.WriteUInt32((uint)property);
        writer.WriteByte(TpmLimits.PcrSelectSize);
        for (int i = 0; i < TpmLimits.PcrSelectSize; i++)
        {
            writer.WriteByte((byte)(map >> (8 * i)));
        }

        _bytes = writer.Written.ToArray();
    }

    /// <summary>TPMS_ACT_DATA.</summary>
    internal CapabilityItem(TpmHandle timer, uint seconds, uint attributes)
    {
        var writer = new TpmWriter(new byte[12]);
        Property = timer.Value;
        timer.Write(ref writer);
        writer.WriteUInt32(seconds);
        writer.WriteUInt32(attributes);
        _bytes = writer.Written.ToArray();
    }

    /// <summary>TPMS_TAGGED_POLICY.</summary>
    internal CapabilityItem(TpmHandle handle, HashValue policy)
    {
        var writer = new TpmWriter(new byte[6 + TpmLimits.MaxDigest]);
        Property = handle.Value;
        handle.Write(ref writer);
        policy.Write(ref writer);
        _bytes = writer.Written.ToArray();
    }

    /// <summary>What the item is about: the code of a command without its attributes, an algorithm, a property, a handle.</summary>
    internal uint Property { get; init; }

    internal byte[] ToBytes()
    {
        var writer = new TpmWriter(new byte[_bytes?.Length ?? _width]);
        Write(ref writer);
        return writer.Written.ToArray();
    }

    internal void Write(ref TpmWriter writer)
    {
        if (_bytes is null)
        {
            writer.WriteInteger(_value, _width);
        }
        else
        {
            writer.WriteBytes(_bytes);
        }
    }
}
