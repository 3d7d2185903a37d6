// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Dispatch;

/// <summary>What the dispatcher knows about a command; the generator makes it from the command's declaration.</summary>
internal sealed class CommandDescriptor(
    CommandCode code,
    CommandTraits traits,
    HandleDescriptor[] handles,
    bool hasResponseHandle,
    bool isFirstParameterSized,
    bool isFirstResultSized,
    CommandAction run)
{
    internal CommandCode Code { get; } = code;

    internal CommandTraits Traits { get; } = traits;

    internal HandleDescriptor[] Handles { get; } = handles;

    internal bool HasResponseHandle { get; } = hasResponseHandle;

    /// <summary>A session may decrypt the first parameter.</summary>
    internal bool IsFirstParameterSized { get; } = isFirstParameterSized;

    /// <summary>A session may encrypt the first parameter of the response.</summary>
    internal bool IsFirstResultSized { get; } = isFirstResultSized;

    /// <summary>Reads the parameters, does the command, writes the response's parameters.</summary>
    internal CommandAction Run { get; } = run;

    /// <summary>TPMA_CC, as GetCapability gives it.</summary>
    internal uint Attributes
        => ((uint)Code & 0xFFFF)
            | (Traits.HasFlag(CommandTraits.Nv) ? 1u << 22 : 0)
            | (Traits.HasFlag(CommandTraits.Extensive) ? 1u << 23 : 0)
            | (Traits.HasFlag(CommandTraits.Flushed) ? 1u << 24 : 0)
            | ((uint)Handles.Length << 25)
            | (HasResponseHandle ? 1u << 28 : 0);
}

/// <summary>A handle in a command's handle area.</summary>
internal readonly record struct HandleDescriptor(HandleKind Kind, bool OrNull, AuthorizationRole Role);

internal delegate TpmResponseCode CommandAction(CommandContext context, ref TpmReader parameters, ref TpmWriter results);

/// <summary>All commands that are served, by their codes.</summary>
internal static partial class CommandTable
{
    internal static ReadOnlySpan<CommandDescriptor> All => s_all;

    /// <summary>Null for a code that is not served.</summary>
    internal static CommandDescriptor? Find(uint code)
    {
        int low = 0;
        int high = s_all.Length - 1;
        while (low <= high)
        {
            int middle = (low + high) / 2;
            uint found = (uint)s_all[middle].Code;
            if (found == code)
            {
                return s_all[middle];
            }

            if (found < code)
            {
                low = middle + 1;
            }
            else
            {
                high = middle - 1;
            }
        }

        return null;
    }
}
