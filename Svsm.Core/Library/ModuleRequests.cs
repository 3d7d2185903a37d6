// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// From a request to the module's method and back to an answer. For ModuleHost and for tests of modules, so that both do the same.
//
// States go in parts (Wire/ModuleChannel.cs), so of a state that is on its way there is a buffer here: one that was saved and is not read to its end, or one
// that is to be restored and is not whole. Both have secrets of the guest, and are cleared as soon as they are of no use.

using System;
using System.Runtime.InteropServices;
using System.Security.Cryptography;
using Svsm.Wire;

namespace Svsm.Core;

/// <summary>The requests of a module's life.</summary>
/// <param name="module">The module, started.</param>
internal sealed class ModuleRequests(SvsmModule module)
{
    // What is read of a saved state; default: there is none. It is cleared after its last part was sent.
    private ReadOnlyMemory<byte> _saved;
    private uint _savedVersion;
    private bool _isReadToItsEnd;

    // The parts that have come of a state, in an array for all of it; null: none.
    private byte[]? _coming;
    private uint _comingVersion;
    private int _came;

    // Whether the module may get a state: it had no call, and no state yet.
    private bool _isFresh = true;

    /// <summary>Has the module answer a request.</summary>
    /// <param name="request">The request.</param>
    /// <param name="contents">What follows it, as many bytes as it says.</param>
    /// <param name="answer">The answer.</param>
    /// <param name="payload">What follows the answer, until <see cref="Answered"/>.</param>
    /// <returns>False: it is no request.</returns>
    /// <exception cref="InvalidOperationException">The module gave a manifest, an answer or a state that is too large.</exception>
    public bool TryAnswer(in ModuleMessage request, ReadOnlyMemory<byte> contents, out ModuleMessage answer, out ReadOnlyMemory<byte> payload)
    {
        answer = request;
        answer.Result = (ulong)SvsmResultCode.Success;
        payload = default;
        answer.PayloadSize = 0;
        bool mayHaveContents = request.Kind is ModuleMessageKind.Store or ModuleMessageKind.Key or ModuleMessageKind.Restore;
        if (request.PayloadSize != (uint)contents.Length || (contents.Length != 0 && !mayHaveContents) || request.Sequence == 0 || request.Vcpu > int.MaxValue)
        {
            return false;
        }

        // The guest runs, or is about to: what was saved of it is old, and nothing can be restored any more. Other modules may ask while a state is on its way.
        if (request.Kind is ModuleMessageKind.Call or ModuleMessageKind.Reset or ModuleMessageKind.Arrive)
        {
            _isFresh = false;
            DropSaved();
            DropComing();
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

                SetSize(ref answer, payload.Length, ModuleMessage.MaxPayload, "a manifest");
                return true;
            case ModuleMessageKind.Store or ModuleMessageKind.Key:
                if (!module.TryServe(new PeerRequest(request.Kind, (uint)request.Rcx, (long)request.Rdx, contents), out payload))
                {
                    answer.Result = (ulong)SvsmResultCode.InvalidParameter;
                    payload = default;
                }

                SetSize(ref answer, payload.Length, ModuleMessage.MaxPayload, "an answer");
                return true;
            case ModuleMessageKind.Work:
                TimeSpan wait = module.Work();
                answer.Rcx = wait < TimeSpan.Zero ? ulong.MaxValue : (ulong)Math.Ceiling(wait.TotalMilliseconds);
                return true;
            case ModuleMessageKind.Reset:
                module.Reset();
                return true;
            case ModuleMessageKind.Save:
                answer.Result = (ulong)Save(request.Rcx, ref answer, out payload);
                return true;
            case ModuleMessageKind.Restore:
                answer.Result = (ulong)Restore(request.Call, request.Rcx, request.Rdx, contents.Span);
                return true;
            case ModuleMessageKind.Leave:
                DropSaved();
                answer.Result = (ulong)(module.TryLeave() ? SvsmResultCode.Success : SvsmResultCode.InvalidRequest);
                return true;
            case ModuleMessageKind.Arrive:
                answer.Result = (ulong)(module.TryArrive() ? SvsmResultCode.Success : SvsmResultCode.InvalidRequest);
                return true;
            default:
                return false;
        }
    }

    /// <summary>The answer was sent: its payload is of no more use.</summary>
    public void Answered()
    {
        if (_isReadToItsEnd)
        {
            DropSaved();
        }
    }

    private SvsmResultCode Save(ulong offset, ref ModuleMessage answer, out ReadOnlyMemory<byte> part)
    {
        part = default;
        answer.Call = 0;
        answer.Rdx = 0;
        uint version = module.StateVersion;
        if (offset == ModuleMessage.VersionOnly)
        {
            answer.Call = version;
            return SvsmResultCode.Success;
        }

        if (offset == 0)
        {
            DropSaved();
            if (version == 0)
            {
                return SvsmResultCode.InvalidParameter;
            }

            _saved = module.SaveState();
            _savedVersion = version;
            SetSize(ref answer, _saved.Length, ModuleMessage.MaxState, "a state");
        }
        else if (offset >= (ulong)_saved.Length)
        {
            return SvsmResultCode.InvalidParameter;
        }

        part = _saved[(int)offset..];
        part = part[..Math.Min(part.Length, ModuleMessage.MaxPayload)];
        answer.Call = _savedVersion;
        answer.Rdx = (ulong)_saved.Length;
        answer.PayloadSize = (uint)part.Length;
        _isReadToItsEnd = (int)offset + part.Length == _saved.Length;
        return SvsmResultCode.Success;
    }

    private SvsmResultCode Restore(uint version, ulong offset, ulong total, ReadOnlySpan<byte> part)
    {
        if (!_isFresh)
        {
            return SvsmResultCode.InvalidRequest;
        }

        if (offset == 0)
        {
            DropComing();
            if (version != 0 && version <= module.StateVersion && total <= ModuleMessage.MaxState)
            {
                _coming = new byte[total];
                _comingVersion = version;
            }
        }

        if (_coming is not byte[] state || version != _comingVersion || total != (ulong)state.Length || offset != (ulong)_came
            || part.Length > state.Length - _came || (part.IsEmpty && total != 0))
        {
            DropComing();
            return SvsmResultCode.InvalidParameter;
        }

        part.CopyTo(state.AsSpan(_came));
        _came += part.Length;
        if (_came != state.Length)
        {
            return SvsmResultCode.Success;
        }

        _isFresh = false;
        try
        {
            return module.TryRestoreState(version, state) ? SvsmResultCode.Success : SvsmResultCode.InvalidParameter;
        }
        finally
        {
            DropComing();
        }
    }

    // The module's memory, which is ours since it gave it.
    private void DropSaved()
    {
        CryptographicOperations.ZeroMemory(MemoryMarshal.AsMemory(_saved).Span);
        _saved = default;
        _isReadToItsEnd = false;
    }

    private void DropComing()
    {
        CryptographicOperations.ZeroMemory(_coming);
        _coming = null;
        _came = 0;
    }

    private static void SetSize(ref ModuleMessage answer, int length, int most, string what)
    {
        if (length > most)
        {
            throw new InvalidOperationException($"{what} of {length} bytes; wanted are at most {most}");
        }

        answer.PayloadSize = (uint)length;
    }
}
