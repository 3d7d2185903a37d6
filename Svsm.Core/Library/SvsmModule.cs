// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// What the author of a module derives from. A module serves one SVSM protocol: it gets the guest's calls of that protocol one at a time,
// reads and writes the guest's memory by copies, and answers. It is an ordinary .NET class. In an image it runs in a process of its own,
// isolated from the kernel and from the other modules; on the desk the same class runs under a test (ModuleTest) or as an ordinary process.
//
//   ModuleHost makes it, then    Start     once, before the first call
//                                Handle    for each call; the next one comes when it has returned
//                                Reset     when the guest starts anew
//                                Dispose   at the end, if the process ends in order
//
// A guest that moves to another SVSM takes the states of all modules with it, or does not move: the module that it leaves is asked for
// SaveState, then for TryLeave; the same module of the other SVSM, started and not called yet, gets TryLeave, TryRestoreState, and TryArrive before the
// guest runs. Each of them has an answer that needs no code: see StateVersion.
//
// A module that throws out of any of these ends: what it kept may be half changed. The call that it worked on fails, and the image's
// configuration says whether the module is started again. A bad call is no reason to throw: it is answered by a result code.

using System;
using Svsm.Wire;

namespace Svsm.Core;

/// <summary>A module: the code that serves one SVSM protocol.</summary>
/// <remarks>The class needs <see cref="SvsmProtocolAttribute"/> and a constructor without parameters.</remarks>
public abstract class SvsmModule : IDisposable
{
    private GuestMemory? _guest;
    private ModuleLog? _log;
    private SecurityProcessor? _securityProcessor;
    private ServiceManifests? _services;
    private ModulePeers? _peers;
    private ModuleStore? _store;
    private SvsmDisks? _disks;
    private GuestMove? _move;

    /// <summary>The guest's memory.</summary>
    /// <exception cref="InvalidOperationException">The module was not started: its constructor asks.</exception>
    protected GuestMemory Guest => _guest ?? throw NotStarted();

    /// <summary>The module's log.</summary>
    /// <exception cref="InvalidOperationException">The module was not started: its constructor asks.</exception>
    protected ModuleLog Log => _log ?? throw NotStarted();

    /// <summary>The security processor, for a module with the permission to attest.</summary>
    /// <exception cref="InvalidOperationException">The module was not started: its constructor asks.</exception>
    protected SecurityProcessor SecurityProcessor => _securityProcessor ?? throw NotStarted();

    /// <summary>The manifests of all services, for a module with the permission to attest.</summary>
    /// <exception cref="InvalidOperationException">The module was not started: its constructor asks.</exception>
    protected ServiceManifests Services => _services ?? throw NotStarted();

    /// <summary>The other modules, for a module with the permission to ask them.</summary>
    /// <exception cref="InvalidOperationException">The module was not started: its constructor asks.</exception>
    protected ModulePeers Peers => _peers ?? throw NotStarted();

    /// <summary>The module's part of the store, for a module with the permission to have one.</summary>
    /// <exception cref="InvalidOperationException">The module was not started: its constructor asks.</exception>
    protected ModuleStore Store => _store ??= new ModuleStore(Peers);

    /// <summary>The SVSM's own disks, for the module that keeps the store.</summary>
    /// <exception cref="InvalidOperationException">The module was not started: its constructor asks; or it is a test without disks.</exception>
    protected SvsmDisks Disks => _disks ?? throw NotStarted();

    /// <summary>The guest, for the module with the permission to move it.</summary>
    /// <exception cref="InvalidOperationException">The module was not started: its constructor asks; or it is a test without one.</exception>
    protected GuestMove Move => _move ?? throw NotStarted();

    /// <summary>Gets ready to serve. Called once, before everything else.</summary>
    protected internal virtual void Start()
    {
    }

    /// <summary>Answers a call.</summary>
    /// <param name="request">The call. Everything in it is the guest's, so untrusted; it does not change any more.</param>
    /// <returns>Result code and output registers.</returns>
    /// <remarks>
    /// It may take its time: the guest is told to repeat the call until the answer is there, and goes on meanwhile. While a call is worked
    /// on, calls of other vCPUs to this module wait.
    /// </remarks>
    protected internal abstract SvsmResult Handle(in SvsmRequest request);

    /// <summary>Says what a verifier is to know of this module, for an attestation report.</summary>
    /// <param name="version">The version of the manifest that is asked for. Untrusted.</param>
    /// <param name="manifest">The manifest, at most 64 KiB; its format belongs to the service's GUID.</param>
    /// <returns>False: there is no manifest of that version.</returns>
    /// <remarks>The service's GUID is in <see cref="SvsmProtocolAttribute.Service"/>; without one, nobody asks.</remarks>
    protected internal virtual bool TryGetManifest(uint version, out ReadOnlyMemory<byte> manifest)
    {
        manifest = default;
        return false;
    }

    /// <summary>Answers a request of another module: for the module that keeps the store, and for the one that attests.</summary>
    /// <param name="request">The request, and who asks.</param>
    /// <param name="answer">The answer, at most 64 KiB.</param>
    /// <returns>False: it serves no such requests.</returns>
    protected internal virtual bool TryServe(in PeerRequest request, out ReadOnlyMemory<byte> answer)
    {
        answer = default;
        return false;
    }

    /// <summary>Works for a while: for the module that moves the guest, when its channel has something, or its time has come.</summary>
    /// <returns>After how long it wants to work again: zero is at once, <see cref="System.Threading.Timeout.InfiniteTimeSpan"/> when there is something.</returns>
    protected internal virtual TimeSpan Work() => System.Threading.Timeout.InfiniteTimeSpan;

    /// <summary>The guest starts anew: forgets what was kept for the one before.</summary>
    protected internal virtual void Reset()
    {
    }

    /// <summary>
    /// Version of the state that <see cref="SaveState"/> gives, of the module's own counting from 1; 0, unless a module says otherwise: it cannot
    /// move, and neither can a guest of its image.
    /// </summary>
    /// <remarks>
    /// A module that keeps nothing of the guest says 1, and nothing else. It may be 0 for a time, as long as a state cannot be given. A target may
    /// be of a newer version than a source, never of an older one.
    /// </remarks>
    protected internal virtual uint StateVersion => 0;

    /// <summary>Gives the state: everything that the guest relies on, with what is in the module's part of a store. The guest is stopped.</summary>
    /// <returns>
    /// The state, at most <see cref="ModuleMessage.MaxState"/> bytes, in memory of its own: whoever asks clears it when it is read. It goes nowhere
    /// in the clear.
    /// </returns>
    /// <remarks>
    /// It changes nothing: calls may come again afterwards, if the guest does not move after all, and it may be asked for again. It is asked for
    /// only if <see cref="StateVersion"/> is not 0. What belongs to this machine and not to the guest (numbers of messages to the security
    /// processor, a disk's) is no part of it.
    /// </remarks>
    protected internal virtual ReadOnlyMemory<byte> SaveState() => default;

    /// <summary>
    /// Takes a state over, in a module that is started and has not been called yet. What is to survive this process is in the store when it
    /// returns.
    /// </summary>
    /// <param name="version">Its version, 1 to <see cref="StateVersion"/>: of this module's, or of an older one.</param>
    /// <param name="state">
    /// The state, at most <see cref="ModuleMessage.MaxState"/> bytes; cleared when it returns. From an SVSM that this one trusts, but that may have
    /// defects: check everything.
    /// </param>
    /// <returns>
    /// False: it is not acceptable, or it could not be stored. The guest does not come; the module is not called any more, so it may be half
    /// changed.
    /// </returns>
    /// <remarks>Unless it is overridden: only version 1 without a byte, which is what <see cref="SaveState"/> gives.</remarks>
    protected internal virtual bool TryRestoreState(uint version, ReadOnlyMemory<byte> state) => version == 1 && state.IsEmpty;

    /// <summary>
    /// The guest is not here: everything of it is at another SVSM, which is about to run it; or it is about to come from there, before
    /// <see cref="TryRestoreState"/>. Makes sure that what is kept outside of this process, a store on a disk, is of no use to anybody until
    /// <see cref="TryArrive"/>. For the module that keeps the store; a module with a part of it has nothing to do.
    /// </summary>
    /// <returns>False: it cannot, and has not left. The guest stays where it is.</returns>
    protected internal virtual bool TryLeave() => true;

    /// <summary>
    /// The guest is here now, and runs next: it has come, or it stays after all. Takes <see cref="TryLeave"/> back. May come again, and without a
    /// <see cref="TryLeave"/> before.
    /// </summary>
    /// <returns>False: it cannot now. The guest runs all the same, for there is no other place for it.</returns>
    protected internal virtual bool TryArrive() => true;

    /// <summary>Ends the module.</summary>
    public void Dispose()
    {
        Dispose(true);
        GC.SuppressFinalize(this);
    }

    /// <summary>Ends the module; nothing is called afterwards.</summary>
    /// <param name="disposing">True unless it is a finalizer that calls. Finalizers do not run in an image.</param>
    protected virtual void Dispose(bool disposing)
    {
    }

    internal void Attach(GuestMemory guest, ModuleLog log, SecurityProcessor securityProcessor, ServiceManifests services, ModulePeers peers, SvsmDisks? disks, GuestMove? move)
    {
        if (_guest is not null)
        {
            throw new InvalidOperationException("the module was started before; wanted is a new one");
        }

        _guest = guest;
        _log = log;
        _securityProcessor = securityProcessor;
        _services = services;
        _peers = peers;
        _disks = disks;
        _move = move;
    }

    private static InvalidOperationException NotStarted() =>
        new("the module has not been started; wanted is a use from Start on, not in the constructor");
}
