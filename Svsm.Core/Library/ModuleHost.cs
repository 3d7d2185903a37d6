// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The loop of a module's process: requests in, answers out, on the descriptors that Wire/ModuleChannel.cs tells. The program that the build
// generates for an image calls Run with the module that its process is for.
//
// The loop trusts the other end, which is the kernel, but not blindly: a message that is none ends the process, because nothing sensible
// can follow it. The exit status tells the kernel's log what happened; the kernel counts any of them as a failure of the module but 0.

using System;
using System.Diagnostics.CodeAnalysis;
using System.Runtime.InteropServices;
using System.Security.Cryptography;
using Svsm.Wire;

namespace Svsm.Core;

/// <summary>Runs a module in the current process.</summary>
public static class ModuleHost
{
    /// <summary>Exit status: the requests have ended, in order.</summary>
    public const int Ended = 0;

    /// <summary>Exit status: the module threw an exception; the log has its type and message.</summary>
    public const int Failed = 1;

    /// <summary>Exit status: what came on the channel was no request, or an answer could not be written.</summary>
    public const int BadChannel = 2;

    /// <summary>Serves requests until there are no more.</summary>
    /// <param name="create">Makes the module.</param>
    /// <returns>The exit status of the process.</returns>
    [SuppressMessage("Design", "CA1031", Justification = "whatever a module throws ends it, and is told in the log")]
    public static int Run(Func<SvsmModule> create)
    {
        ArgumentNullException.ThrowIfNull(create);
        var channel = new DescriptorChannel();
        try
        {
            using SvsmModule module = create();
            module.Attach(channel.Guest, channel.Log, new DescriptorSecurityProcessor(), new DescriptorManifests(), new DescriptorPeers(), new DescriptorDisks(), new DescriptorMove());
            module.Start();
            var requests = new ModuleRequests(module);
            while (channel.TryReceive(out ModuleMessage request, out byte[] contents))
            {
                if (!requests.TryAnswer(in request, contents, out ModuleMessage answer, out ReadOnlyMemory<byte> payload))
                {
                    channel.Log.Error("a message on the channel is no request");
                    return BadChannel;
                }

                DescriptorChannel.Send(in answer, payload.Span);
                requests.Answered();
                if (request.Kind == ModuleMessageKind.Restore)
                {
                    CryptographicOperations.ZeroMemory(contents);
                }
            }

            return channel.IsBroken ? BadChannel : Ended;
        }
        catch (Exception exception)
        {
            channel.Log.Error($"{exception.GetType()}: {exception.Message}");
            return Failed;
        }
    }
}
