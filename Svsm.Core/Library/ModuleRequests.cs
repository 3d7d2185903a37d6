// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// From a request to the module's method and back to an answer. For ModuleHost and for tests of modules, so that both do the same.

using System;
using Svsm.Wire;

namespace Svsm.Core;

internal static class ModuleRequests
{
    /// <summary>Has a module answer a request.</summary>
    /// <param name="module">The module, started.</param>
    /// <param name="request">The request.</param>
    /// <param name="contents">What follows it, as many bytes as it says.</param>
    /// <param name="answer">The answer.</param>
    /// <param name="payload">What follows the answer.</param>
    /// <returns>False: it is no request.</returns>
    /// <exception cref="InvalidOperationException">The module gave a manifest or an answer that is too large.</exception>
    public static bool TryAnswer(SvsmModule module, in ModuleMessage request, ReadOnlyMemory<byte> contents, out ModuleMessage answer, out ReadOnlyMemory<byte> payload)
    {
        answer = request;
        answer.Result = (ulong)SvsmResultCode.Success;
        payload = default;
        answer.PayloadSize = 0;
        bool mayHaveContents = request.Kind is ModuleMessageKind.Store or ModuleMessageKind.Key;
        if (request.PayloadSize != (uint)contents.Length || (contents.Length != 0 && !mayHaveContents) || request.Sequence == 0 || request.Vcpu > int.MaxValue)
        {
            return false;
        }

        switch (request.Kind)
        {
            case ModuleMessageKind.Call:
                SvsmResult result = module.Handle(
                    new SvsmRequest((int)request.Vcpu, request.Call, request.Rcx, request.Rdx, request.R8, request.R9));
                answer.Result = (ulong)result.Code;
                answer.Rcx = result.Rcx ?? request.Rcx;
                answer.Rdx = result.Rdx ?? request.Rdx;
                answer.R8 = result.R8 ?? request.R8;
                answer.R9 = result.R9 ?? request.R9;
                return true;
            case ModuleMessageKind.Manifest:
                if (!module.TryGetManifest(request.Call, out payload))
                {
                    answer.Result = (ulong)SvsmResultCode.InvalidParameter;
                    payload = default;
                }

                SetSize(ref answer, payload.Length, "a manifest");
                return true;
            case ModuleMessageKind.Store or ModuleMessageKind.Key:
                if (!module.TryServe(new PeerRequest(request.Kind, (uint)request.Rcx, (long)request.Rdx, contents), out payload))
                {
                    answer.Result = (ulong)SvsmResultCode.InvalidParameter;
                    payload = default;
                }

                SetSize(ref answer, payload.Length, "an answer");
                return true;
            case ModuleMessageKind.Reset:
                module.Reset();
                return true;
            default:
                return false;
        }
    }

    private static void SetSize(ref ModuleMessage answer, int length, string what)
    {
        if (length > ModuleMessage.MaxPayload)
        {
            throw new InvalidOperationException($"{what} of {length} bytes; wanted are at most {ModuleMessage.MaxPayload}");
        }

        answer.PayloadSize = (uint)length;
    }
}
