// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Generic;
using System.Diagnostics.CodeAnalysis;
using System.Security.Cryptography;
using Svsm.Modules.Vtpm.Crypto;
using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm;

/// <summary>What came of opening or manufacturing a TPM.</summary>
public enum TpmOpenResult
{
    /// <summary>The TPM is there, powered on, before TPM2_Startup.</summary>
    Done,

    /// <summary>Open: the storage was never written; only <see cref="Tpm.TryManufacture"/> makes seeds.</summary>
    NotManufactured,

    /// <summary>Manufacture: the storage has a TPM already.</summary>
    AlreadyManufactured,

    /// <summary>The storage failed, or its content does not authenticate.</summary>
    StorageFailed,

    /// <summary>The storage's content is not the state of a TPM, or of another version.</summary>
    StateInvalid,

    /// <summary>There is no entropy.</summary>
    NoEntropy,
}

/// <summary>
/// One TPM 2.0. All of its state is in this object and in its storage. Not for use by two threads at once.
/// </summary>
public sealed class Tpm
{
    // Of the clock's milliseconds: how far it may run ahead of what is stored (TPM_PT_CLOCK_UPDATE).
    private const ulong ClockUpdateMask = ClockUpdateInterval - 1;

    private const int DynamicRootPcr = 17;

    // Ticks of a millisecond, and how far TPM2_ClockRateAdjust can move them.
    private const ulong NominalRate = 30_000;
    private const ulong RateLimit = 5_000;

    private readonly TpmPlatform _platform;
    private readonly byte[] _command = new byte[TpmLimits.MaxCommandSize];
    private readonly byte[] _response = new byte[TpmLimits.MaxCommandSize + 1024];
    private readonly byte[] _blob = new byte[PersistentState.MaxBlobSize];
    private readonly List<byte[]> _secretsOfCommand = [];
    private readonly List<MeasuredDigest> _staticMeasurement = [];
    private readonly EndorsementKeys _endorsementKeys;
    private (AlgorithmId Hash, IHashState State)[] _measurement = [];
    private CommandContext? _unfinished;
    private long _commandStart;
    private long _sliceStart;
    private ulong _clockRate = NominalRate;
    private ulong _clockRemainder;
    private long _lastMilliseconds;
    private bool _isDirty;

    private Tpm(TpmPlatform platform, PersistentState persistent, CounterDrbg random)
    {
        _platform = platform;
        Persistent = persistent;
        Random = random;
        Pcrs = new PcrBanks(Cryptography);
        Sessions = new SessionTable(this);
        Objects = new ObjectTable(this);
        Nv = new NvIndices(this);
        Hierarchies = new Hierarchies(this);
        DictionaryAttack = new DictionaryAttack(this);
        SelfTests = new SelfTests(this);
        CommandAudit = new CommandAudit(this);
        Countdown = new CountdownTimer(this);
        _endorsementKeys = new EndorsementKeys(this);
        PowerOn();
    }

    /// <summary>The largest command and response in bytes.</summary>
    public static int MaxCommandSize => TpmLimits.MaxCommandSize;

    /// <summary>The largest command and response of this TPM in bytes.</summary>
    public int MessageSize => _platform.MessageSize;

    /// <summary>How long a command works before it has to be continued. One step of the longest work is a few milliseconds more.</summary>
    public static int SliceMilliseconds => 25;

    /// <summary>How long a command of this TPM works at all.</summary>
    public int CommandMilliseconds => _platform.CommandMilliseconds;

    /// <summary>Whether the TPM is in failure mode: it serves only TPM2_GetTestResult and TPM2_GetCapability until it is powered on anew.</summary>
    public bool IsFailed { get; private set; }

    /// <summary>Whether TPM2_Startup was done.</summary>
    public bool IsStarted { get; internal set; }

    /// <summary>Whether the state has a place to survive in.</summary>
    public bool IsEphemeral => _platform.Storage is null;

    /// <summary>Whether physical presence is asserted.</summary>
    public bool IsPhysicallyPresent { get; set; }

    internal const ulong ClockUpdateInterval = 4096;

    internal ICryptography Cryptography { get; } = new BouncyCastleCryptography();

    internal CounterDrbg Random { get; }

    internal PersistentState Persistent { get; private set; }

    internal ResetState ResetState { get; set; } = new();

    internal ClearState ClearState { get; set; } = new();

    internal PcrBanks Pcrs { get; }

    internal SessionTable Sessions { get; }

    internal ObjectTable Objects { get; }

    internal NvIndices Nv { get; }

    internal Hierarchies Hierarchies { get; }

    internal DictionaryAttack DictionaryAttack { get; }

    internal SelfTests SelfTests { get; }

    internal CommandAudit CommandAudit { get; }

    internal CountdownTimer Countdown { get; }

    /// <summary>Milliseconds since power-on.</summary>
    internal ulong Time { get; private set; }

    /// <summary>Another one each time that <see cref="Time"/> begins anew.</summary>
    internal ulong TimeEpoch { get; private set; }

    /// <summary>TPM2_PCR_Allocate was done since the last TPM Reset.</summary>
    internal bool IsPcrAllocationPending { get; set; }

    /// <summary>How the TPM was started last, for TPM_PT_STARTUP_CLEAR's orderly bit.</summary>
    internal bool WasOrderly { get; set; }

    /// <summary>Opens the TPM that the platform's storage has.</summary>
    /// <param name="platform">Where it lives; its storage is not null.</param>
    /// <param name="tpm">The TPM when the result is <see cref="TpmOpenResult.Done"/>.</param>
    public static TpmOpenResult TryOpen(TpmPlatform platform, out Tpm? tpm)
    {
        ArgumentNullException.ThrowIfNull(platform);
        ArgumentNullException.ThrowIfNull(platform.Storage);
        tpm = null;
        TpmStorageResult read = platform.Storage.Read(out byte[] blob);
        if (read != TpmStorageResult.Done)
        {
            return read == TpmStorageResult.Absent ? TpmOpenResult.NotManufactured : TpmOpenResult.StorageFailed;
        }

        if (!TryReadBlob(blob, out PersistentState? persistent))
        {
            return TpmOpenResult.StateInvalid;
        }

        if (!TrySeedRandom(platform, out CounterDrbg? random))
        {
            return TpmOpenResult.NoEntropy;
        }

        tpm = new Tpm(platform, persistent, random);
        return TpmOpenResult.Done;
    }

    /// <summary>Makes a TPM with new seeds: once per storage, or each time when there is no storage.</summary>
    /// <param name="platform">Where it lives.</param>
    /// <param name="tpm">The TPM when the result is <see cref="TpmOpenResult.Done"/>.</param>
    public static TpmOpenResult TryManufacture(TpmPlatform platform, out Tpm? tpm)
    {
        ArgumentNullException.ThrowIfNull(platform);
        return TryMake(
            platform,
            static random => new PersistentState
            {
                EndorsementSeed = random.Generate(PersistentState.SecretSize),
                OwnerSeed = random.Generate(PersistentState.SecretSize),
                PlatformSeed = random.Generate(PersistentState.SecretSize),
                EndorsementProof = random.Generate(PersistentState.SecretSize),
                OwnerProof = random.Generate(PersistentState.SecretSize),
                PlatformProof = random.Generate(PersistentState.SecretSize),
                PcrAllocation = PcrBanks.DefaultAllocation(),
            },
            out tpm);
    }

    /// <summary>Takes over the TPM of an swtpm: its seeds, authorisations and NV indices. Once per storage, like <see cref="TryManufacture"/>.</summary>
    /// <param name="platform">Where it lives.</param>
    /// <param name="state">The file tpm2-00.permall of an swtpm that was shut down with TPM2_Shutdown(CLEAR).</param>
    /// <param name="tpm">The TPM when the result is <see cref="TpmOpenResult.Done"/>.</param>
    /// <param name="problem">What in the file cannot be taken when the result is <see cref="TpmOpenResult.StateInvalid"/>.</param>
    public static TpmOpenResult TryImportSwtpm(TpmPlatform platform, ReadOnlyMemory<byte> state, out Tpm? tpm, out string problem)
    {
        ArgumentNullException.ThrowIfNull(platform);
        tpm = null;
        PersistentState? persistent = SwtpmState.Read(state, out problem);
        return persistent is null ? TpmOpenResult.StateInvalid : TryMake(platform, _ => persistent, out tpm);
    }

    /// <summary>
    /// Ends this object and gives what is needed to go on elsewhere, besides the storage: sessions, objects, PCRs, time. An unfinished command
    /// is given up. The storage is written first. <see cref="TryResume"/> takes it.
    /// </summary>
    /// <param name="state">The volatile blob, as secret as the storage; empty when the result is false.</param>
    /// <returns>False when the TPM is in failure mode, or the storage failed, which is failure mode too.</returns>
    public bool TrySuspend(out byte[] state)
    {
        GiveUp();
        state = [];
        if (IsFailed)
        {
            return false;
        }

        if (IsStarted)
        {
            Advance();
        }

        if (!Commit(out byte[] digest))
        {
            Fail();
            return false;
        }

        state = Save(digest, withPersistent: _platform.Storage is null);

        // There is one TPM: from here on it is the other one.
        Sessions.Clear();
        Objects.RemoveAll(static _ => true);
        Fail();
        return true;
    }

    /// <summary>Goes on with a TPM that <see cref="TrySuspend"/> has ended.</summary>
    /// <param name="platform">Where it lives now. Its storage is the one that the TPM had, or has the same content; null for an ephemeral TPM.</param>
    /// <param name="state">The volatile blob, authentic.</param>
    /// <param name="tpm">The TPM when the result is <see cref="TpmOpenResult.Done"/>.</param>
    /// <returns>
    /// <see cref="TpmOpenResult.StateInvalid"/> when the blob is not one, or belongs to another content of the storage; the results of <see cref="TryOpen"/>.
    /// </returns>
    public static TpmOpenResult TryResume(TpmPlatform platform, ReadOnlyMemory<byte> state, out Tpm? tpm)
    {
        ArgumentNullException.ThrowIfNull(platform);
        tpm = null;
        if (!TryReadState(state, out VolatileState? saved, out byte[] blob) || (platform.Storage is not null && blob.Length != 0))
        {
            return TpmOpenResult.StateInvalid;
        }

        TpmStorageResult read = platform.Storage?.Read(out blob) ?? TpmStorageResult.Done;
        return read == TpmStorageResult.Done ? TryGoOn(platform, saved, blob, out tpm)
            : read == TpmStorageResult.Absent ? TpmOpenResult.NotManufactured
            : TpmOpenResult.StorageFailed;
    }

    /// <summary>
    /// Gives all of the TPM, what its storage has included, for <see cref="TryRestore"/>. It goes on as if nothing had been: of the two only one is to be
    /// used. An unfinished command is not in it, for it has changed nothing.
    /// </summary>
    /// <param name="state">The state, as secret as the storage; empty when the result is false.</param>
    /// <returns>False when the TPM is in failure mode.</returns>
    public bool TrySave(out byte[] state)
    {
        state = [];
        if (IsFailed)
        {
            return false;
        }

        if (IsStarted)
        {
            Advance();
        }

        var writer = new TpmWriter(_blob);
        WriteBlob(ref writer);
        byte[] digest = SHA256(writer.Written);
        CryptographicOperations.ZeroMemory(writer.Written);
        state = Save(digest, withPersistent: true);
        return true;
    }

    /// <summary>Goes on with a TPM of which <see cref="TrySave"/> has given the state. Its clock has stood since then; random numbers are others.</summary>
    /// <param name="platform">Where it lives now. Its storage gets what is to survive, in the place of what it has; null: it becomes an ephemeral TPM.</param>
    /// <param name="state">The state, authentic.</param>
    /// <param name="tpm">The TPM when the result is <see cref="TpmOpenResult.Done"/>.</param>
    /// <returns>
    /// <see cref="TpmOpenResult.StateInvalid"/>, <see cref="TpmOpenResult.NoEntropy"/>: nothing has happened; <see cref="TpmOpenResult.StorageFailed"/>: the
    /// storage may have it.
    /// </returns>
    public static TpmOpenResult TryRestore(TpmPlatform platform, ReadOnlyMemory<byte> state, out Tpm? tpm)
    {
        ArgumentNullException.ThrowIfNull(platform);
        tpm = null;
        if (!TryReadState(state, out VolatileState? saved, out byte[] blob))
        {
            return TpmOpenResult.StateInvalid;
        }

        TpmOpenResult result = TryGoOn(platform, saved, blob, out Tpm? made);
        CryptographicOperations.ZeroMemory(blob);
        if (result == TpmOpenResult.Done && !made!.Commit())
        {
            result = TpmOpenResult.StorageFailed;
        }

        tpm = result == TpmOpenResult.Done ? made : null;
        return result;
    }

    /// <summary>Power-on (_TPM_Init): everything volatile is gone, TPM2_Startup is next. A TPM in failure mode takes its state from its storage again; without storage it stays failed.</summary>
    public void PowerOn()
    {
        // What a failed TPM has in memory is not trusted: only what was committed is.
        GiveUp();
        IsFailed = IsFailed && !Reload();
        IsStarted = false;
        IsPcrAllocationPending = false;
        _isDirty = false;
        _measurement = [];
        _staticMeasurement.Clear();
        Sessions.Clear();
        Objects.RemoveAll(static _ => true);
        ResetState = new ResetState();
        ClearState = new ClearState();
        SelfTests.Restart();
        Time = 0;
        _clockRate = NominalRate;
        _clockRemainder = 0;
        TimeEpoch = System.Buffers.Binary.BinaryPrimitives.ReadUInt64BigEndian(Random.Generate(sizeof(ulong)));
        _lastMilliseconds = _platform.Clock.Milliseconds;
    }

    /// <summary>Does one command, however long it takes.</summary>
    /// <param name="command">The command: any bytes. It is copied before it is looked at.</param>
    /// <param name="locality">0 to 4, or 32 to 255.</param>
    /// <param name="response">Room for <see cref="MaxCommandSize"/> bytes.</param>
    /// <returns>The size of the response. It is always a well-formed one.</returns>
    /// <exception cref="ArgumentException"><paramref name="response"/> is too small or <paramref name="locality"/> is from 5 to 31.</exception>
    public int Execute(ReadOnlySpan<byte> command, byte locality, Span<byte> response)
    {
        bool isDone = TryExecute(command, locality, response, out int size);
        while (!isDone)
        {
            isDone = TryContinue(response, out size);
        }

        return size;
    }

    /// <summary>Begins a command, and does it unless it takes longer than <see cref="SliceMilliseconds"/>. A command that is unfinished is given up.</summary>
    /// <param name="command">The command: any bytes. It is copied before it is looked at.</param>
    /// <param name="locality">0 to 4, or 32 to 255.</param>
    /// <param name="response">Room for <see cref="MaxCommandSize"/> bytes.</param>
    /// <param name="size">The size of the response. It is always a well-formed one.</param>
    /// <returns>False when the command is not finished: <see cref="TryContinue"/> goes on with it, <see cref="Cancel"/> ends it. It has changed
    /// nothing yet, and it never lasts longer than <see cref="CommandMilliseconds"/>: then the answer is TPM_RC_RETRY.</returns>
    /// <exception cref="ArgumentException"><paramref name="response"/> is too small or <paramref name="locality"/> is from 5 to 31.</exception>
    public bool TryExecute(ReadOnlySpan<byte> command, byte locality, Span<byte> response, out int size)
    {
        CheckRoom(response);
        if (locality is > 4 and < 32)
        {
            throw new ArgumentException($"locality {locality}: 0 to 4 or 32 to 255 is wanted", nameof(locality));
        }

        GiveUp();
        if (command.Length > MessageSize)
        {
            size = Dispatcher.WriteError(response, TpmResponseCode.CommandSize);
            return true;
        }

        Memory<byte> copy = _command.AsMemory(0, command.Length);
        command.CopyTo(copy.Span);
        _commandStart = _sliceStart = _platform.Clock.Milliseconds;
        try
        {
            size = Dispatcher.Run(this, copy, locality, _response, out _unfinished);
        }
        catch (Exception exception) when (exception is not OutOfMemoryException)
        {
            size = FailAndAnswer();
        }

        return TryAnswer(response, size);
    }

    /// <summary>Goes on with an unfinished command for another slice.</summary>
    /// <param name="response">Room for <see cref="MaxCommandSize"/> bytes.</param>
    /// <param name="size">The size of the response.</param>
    /// <returns>False when the command is still not finished.</returns>
    /// <exception cref="InvalidOperationException">There is no unfinished command.</exception>
    public bool TryContinue(Span<byte> response, out int size)
    {
        CheckRoom(response);
        if (_unfinished is null)
        {
            throw new InvalidOperationException("there is no unfinished command");
        }

        _sliceStart = _platform.Clock.Milliseconds;
        try
        {
            size = Dispatcher.Continue(_unfinished, _response);
        }
        catch (Exception exception) when (exception is not OutOfMemoryException)
        {
            size = FailAndAnswer();
        }

        return TryAnswer(response, size);
    }

    /// <summary>Ends an unfinished command without a trace.</summary>
    /// <param name="response">Room for <see cref="MaxCommandSize"/> bytes.</param>
    /// <returns>The size of the response, which is TPM_RC_CANCELED.</returns>
    public int Cancel(Span<byte> response)
    {
        CheckRoom(response);
        GiveUp();
        return Dispatcher.WriteError(response, TpmResponseCode.Canceled);
    }

    /// <summary>Whether long work goes on: see <see cref="CommandContext.Pause"/>.</summary>
    internal TpmResponseCode CheckTime()
    {
        long now = _platform.Clock.Milliseconds;
        return now - _commandStart > CommandMilliseconds ? TpmResponseCode.Retry
            : now - _sliceStart >= SliceMilliseconds ? CommandContext.Unfinished
            : TpmResponseCode.Success;
    }

    /// <summary>
    /// The public area of a default endorsement key, for those who certify it or attest to it. It is made once, also before TPM2_Startup, and
    /// again when TPM2_ChangeEPS has changed it; no transient slot is taken.
    /// </summary>
    /// <param name="kind">Which key.</param>
    /// <param name="area">TPMT_PUBLIC; empty while the result is false.</param>
    /// <returns>False when a slice of work is over and the key is not made yet: the call is to be repeated. An unfinished command stays as it is.</returns>
    /// <exception cref="InvalidOperationException">The TPM is in failure mode.</exception>
    public bool TryGetEndorsementKey(EndorsementKeyKind kind, out byte[] area)
    {
        if (IsFailed)
        {
            throw new InvalidOperationException("the TPM is in failure mode");
        }

        // The time of a command that is unfinished goes on.
        long commandStart = _commandStart;
        _commandStart = _sliceStart = _platform.Clock.Milliseconds;
        bool isDone = _endorsementKeys.TryGet(kind, out area);
        _commandStart = commandStart;
        return isDone;
    }

    /// <summary>
    /// Whether the countdown timer (ACT) has run out and was not set anew: the platform then does what it does about a system that nobody
    /// looks after. Time goes on by the call, so a platform that watches the timer asks about once a second.
    /// </summary>
    public bool CheckCountdown()
    {
        if (!IsStarted || IsFailed)
        {
            return false;
        }

        Advance();
        return ClearState.IsCountdownSignaled;
    }

    /// <summary>
    /// _TPM_Hash_Start: the platform measures what it is about to run, before TPM2_Startup its first code, later a dynamic root of trust,
    /// whose PCRs it sets to zero.
    /// </summary>
    public void HashStart()
    {
        if (IsFailed)
        {
            return;
        }

        if (IsStarted)
        {
            for (int pcr = 0; pcr < TpmLimits.PcrCount; pcr++)
            {
                if (PcrBanks.Has(PcrProperty.DrtmReset, pcr))
                {
                    Pcrs.Reset(pcr);
                }
            }
        }

        _measurement = Algorithms.StartAllHashes(Cryptography);
    }

    /// <summary>_TPM_Hash_Data: a piece of what is measured. Without _TPM_Hash_Start it has no effect.</summary>
    /// <param name="data">The piece, of any size.</param>
    public void HashData(ReadOnlySpan<byte> data)
    {
        foreach ((_, IHashState state) in _measurement)
        {
            state.Update(data);
        }
    }

    /// <summary>_TPM_Hash_End: the end of what is measured; its digest goes into PCR 17, or before TPM2_Startup into PCR 0.</summary>
    public void HashEnd()
    {
        foreach ((AlgorithmId hash, IHashState state) in _measurement)
        {
            byte[] digest = state.Finish();
            if (IsStarted)
            {
                ExtendPcr(hash, DynamicRootPcr, digest);
            }
            else
            {
                _staticMeasurement.Add(new MeasuredDigest(hash, digest));
            }
        }

        _measurement = [];
    }

    /// <summary>What TPM2_Startup does with the measurement of the platform's first code: it is in PCR 0, from locality 4.</summary>
    /// <returns>A digest for each hash algorithm; none when it was not measured.</returns>
    internal MeasuredDigest[] TakeStaticMeasurement()
    {
        MeasuredDigest[] taken = [.. _staticMeasurement];
        _staticMeasurement.Clear();
        return taken;
    }

    /// <summary>Goes into failure mode.</summary>
    internal void Fail() => IsFailed = true;

    /// <summary>The persistent state has changed and is written before the command is answered.</summary>
    internal void MarkDirty() => _isDirty = true;

    /// <summary>What every command does before anything else: time goes on, an earlier shutdown does not count any more.</summary>
    internal void BeginCommand(CommandCode code)
    {
        if (!IsStarted || IsFailed)
        {
            return;
        }

        Advance();
        if (code != CommandCode.Shutdown && Persistent.Orderly is OrderlyState.Clear or OrderlyState.State)
        {
            Persistent.Orderly = OrderlyState.None;
            Persistent.Saved = [];
            MarkDirty();
        }
    }

    /// <summary>Writes what has changed.</summary>
    /// <returns>False when that failed; the TPM is in failure mode then.</returns>
    internal bool EndCommand()
    {
        if (!IsFailed && _isDirty && !Commit())
        {
            Fail();
            return false;
        }

        return true;
    }

    /// <summary>Extends a PCR, if the bank has it.</summary>
    internal void ExtendPcr(AlgorithmId hash, int pcr, ReadOnlySpan<byte> digest)
    {
        if (Pcrs.Extend(hash, pcr, digest))
        {
            CountPcrChange(pcr);
        }
    }

    internal void CountPcrChange(int pcr)
    {
        if (!PcrBanks.Has(PcrProperty.NoIncrement, pcr))
        {
            ResetState.PcrCounter++;
        }
    }

    internal ClockInfo ClockInfo() => new(Persistent.Clock, Persistent.ResetCount, ResetState.RestartCount, Persistent.IsClockSafe);

    internal byte[] NewSecret() => Random.Generate(PersistentState.SecretSize);

    /// <summary>Clears bytes when the command has been answered, however it ends: what it answers, or what it has replaced.</summary>
    /// <param name="secret">Bytes that nothing refers to afterwards.</param>
    internal void ClearAfterCommand(byte[] secret) => _secretsOfCommand.Add(secret);

    /// <summary>Clears a point that was computed when the command has been answered.</summary>
    internal void ClearAfterCommand(in EccPoint point)
    {
        Add(point.X);
        Add(point.Y);

        void Add(ReadOnlyMemory<byte> coordinate)
        {
            if (System.Runtime.InteropServices.MemoryMarshal.TryGetArray(coordinate, out ArraySegment<byte> bytes) && bytes.Array is not null)
            {
                _secretsOfCommand.Add(bytes.Array);
            }
        }
    }

    /// <summary>Moves the clock; it never goes back but by TPM2_Clear.</summary>
    internal void SetClock(ulong milliseconds)
    {
        // What is stored is the end of the interval that the clock is in: after a crash it goes on from there.
        if ((milliseconds | ClockUpdateMask) > (Persistent.Clock | ClockUpdateMask))
        {
            Persistent.IsClockSafe = true;
            MarkDirty();
        }

        Persistent.Clock = milliseconds;
    }

    /// <summary>Makes time and clock slower, or faster when it is negative: in parts of <see cref="NominalRate"/>.</summary>
    internal void AdjustClock(int parts)
        => _clockRate = (ulong)Math.Clamp((long)_clockRate + parts, (long)(NominalRate - RateLimit), (long)(NominalRate + RateLimit));

    /// <summary>The clock after a power-off without TPM2_Shutdown: later than any value that was ever reported.</summary>
    internal void RecoverClock()
    {
        Persistent.Clock |= ClockUpdateMask;
        Persistent.IsClockSafe = false;
    }

    internal static byte[] Serialize(ResetState reset, ClearState clear)
    {
        var writer = new TpmWriter(new byte[PersistentState.MaxSavedSize]);
        reset.Write(ref writer);
        clear.Write(ref writer);
        return writer.Written.ToArray();
    }

    internal static bool TryDeserialize(byte[] saved, [NotNullWhen(true)] out ResetState? reset, [NotNullWhen(true)] out ClearState? clear)
    {
        var reader = new TpmReader(saved);
        clear = null;
        return ResetState.Read(ref reader, out reset) == TpmResponseCode.Success
            && ClearState.Read(ref reader, out clear) == TpmResponseCode.Success
            && reader.Remaining == 0;
    }

    private static void CheckRoom(Span<byte> response)
    {
        if (response.Length < MaxCommandSize)
        {
            throw new ArgumentException($"room for {MaxCommandSize} bytes is needed, there are {response.Length}", nameof(response));
        }
    }

    // A defect of the engine: what state it left is not known, so nothing that depends on it is served any more.
    private int FailAndAnswer()
    {
        Fail();
        return Dispatcher.WriteError(_response, TpmResponseCode.Failure);
    }

    private bool TryAnswer(Span<byte> response, int size)
    {
        if (size == 0)
        {
            return false;
        }

        _response.AsSpan(0, size).CopyTo(response);
        CryptographicOperations.ZeroMemory(_response.AsSpan(0, size));
        GiveUp();
        return true;
    }

    private void GiveUp()
    {
        _unfinished?.EndWork();
        _unfinished = null;
        foreach (byte[] secret in _secretsOfCommand)
        {
            CryptographicOperations.ZeroMemory(secret);
        }

        _secretsOfCommand.Clear();
        CryptographicOperations.ZeroMemory(_command);
    }

    private static TpmOpenResult TryMake(TpmPlatform platform, Func<CounterDrbg, PersistentState> make, out Tpm? tpm)
    {
        tpm = null;
        if (platform.Storage is not null)
        {
            TpmStorageResult read = platform.Storage.Read(out _);
            if (read != TpmStorageResult.Absent)
            {
                return read == TpmStorageResult.Done ? TpmOpenResult.AlreadyManufactured : TpmOpenResult.StorageFailed;
            }
        }

        if (!TrySeedRandom(platform, out CounterDrbg? random))
        {
            return TpmOpenResult.NoEntropy;
        }

        var made = new Tpm(platform, make(random), random);
        if (!made.Commit())
        {
            return TpmOpenResult.StorageFailed;
        }

        tpm = made;
        return TpmOpenResult.Done;
    }

    private static bool TrySeedRandom(TpmPlatform platform, [NotNullWhen(true)] out CounterDrbg? random)
    {
        random = null;
        var entropy = new byte[64];
        if (!platform.Entropy.TryFill(entropy))
        {
            return false;
        }

        random = CounterDrbg.Create(new BouncyCastleCryptography(), entropy);
        CryptographicOperations.ZeroMemory(entropy);
        return true;
    }

    private static bool TryReadBlob(byte[] blob, [NotNullWhen(true)] out PersistentState? persistent)
    {
        var reader = new TpmReader(blob);
        persistent = null;
        return reader.ReadUInt32(out uint magic) == TpmResponseCode.Success && magic == PersistentState.Magic
            && reader.ReadUInt16(out ushort version) == TpmResponseCode.Success && version == PersistentState.Version
            && PersistentState.Read(ref reader, out persistent) == TpmResponseCode.Success
            && reader.Remaining == 0;
    }

    private bool Reload()
    {
        if (_platform.Storage is null || _platform.Storage.Read(out byte[] blob) != TpmStorageResult.Done || !TryReadBlob(blob, out PersistentState? persistent))
        {
            return false;
        }

        Persistent = persistent;
        Objects.Reload();
        return true;
    }

    private static byte[] SHA256(ReadOnlySpan<byte> blob) => new BouncyCastleCryptography().Hash(AlgorithmId.Sha256, blob);

    // The volatile state, and what follows it.
    private static bool TryReadState(ReadOnlyMemory<byte> state, [NotNullWhen(true)] out VolatileState? saved, out byte[] rest)
    {
        var reader = new TpmReader(state);
        saved = null;
        rest = [];
        if (reader.ReadUInt32(out uint magic) != TpmResponseCode.Success || magic != VolatileState.Magic
            || reader.ReadUInt16(out ushort version) != TpmResponseCode.Success || version != VolatileState.Version
            || VolatileState.Read(ref reader, out saved) != TpmResponseCode.Success
            || !saved.HasGoodHandles())
        {
            saved?.Discard();
            return false;
        }

        rest = state[^reader.Remaining..].ToArray();
        return true;
    }

    // What of the saved state is not the TPM's afterwards is cleared.
    private static TpmOpenResult TryGoOn(TpmPlatform platform, VolatileState saved, byte[] blob, out Tpm? tpm)
    {
        TpmOpenResult result = TryTake(platform, saved, blob, out tpm);
        if (result == TpmOpenResult.Done)
        {
            saved.Clean();
        }
        else
        {
            saved.Discard();
        }

        return result;
    }

    private static TpmOpenResult TryTake(TpmPlatform platform, VolatileState saved, byte[] blob, out Tpm? tpm)
    {
        tpm = null;
        if (!CryptographicOperations.FixedTimeEquals(SHA256(blob), saved.PersistentDigest) || !TryReadBlob(blob, out PersistentState? persistent))
        {
            return TpmOpenResult.StateInvalid;
        }

        if (!TrySeedRandom(platform, out CounterDrbg? random))
        {
            return TpmOpenResult.NoEntropy;
        }

        var next = new Tpm(platform, persistent, random);
        if (!next.TryTake(saved))
        {
            next.Objects.RemoveAll(_ => true);
            return TpmOpenResult.StateInvalid;
        }

        tpm = next;
        return TpmOpenResult.Done;
    }

    // Everything but the persistent state, and that as well if it is wanted.
    private byte[] Save(byte[] persistentDigest, bool withPersistent)
    {
        var saved = new VolatileState
        {
            PersistentDigest = persistentDigest,
            IsStarted = IsStarted,
            WasOrderly = WasOrderly,
            IsPcrAllocationPending = IsPcrAllocationPending,
            Time = Time,
            TimeEpoch = TimeEpoch,
            ClockRate = _clockRate,
            ClockRemainder = _clockRemainder,
            SelfHealTime = DictionaryAttack.Times.SelfHeal,
            LockoutTime = DictionaryAttack.Times.Lockout,
            Reset = ResetState,
            Clear = ClearState,
            Pcrs = IsStarted ? Pcrs.Save(all: true) : [],
            Sessions = Sessions.Loaded(),
            ExclusiveAuditSession = Sessions.ExclusiveAuditSession,
            Untested = SelfTests.Untested(),
            Objects = Objects.Save(),
            Measurement = SaveMeasurement(),
            StaticMeasurement = [.. _staticMeasurement],
        };
        var buffer = new byte[VolatileState.MaxSize + PersistentState.MaxBlobSize];
        var writer = new TpmWriter(buffer);
        writer.WriteUInt32(VolatileState.Magic);
        writer.WriteUInt16(VolatileState.Version);
        saved.Write(ref writer);
        if (withPersistent)
        {
            WriteBlob(ref writer);
        }

        byte[] state = writer.Written.ToArray();
        CryptographicOperations.ZeroMemory(buffer);
        saved.Clean();
        return state;
    }

    // Everything but the persistent state; false when it does not fit together.
    private bool TryTake(VolatileState saved)
    {
        IsStarted = saved.IsStarted;
        WasOrderly = saved.WasOrderly;
        IsPcrAllocationPending = saved.IsPcrAllocationPending;
        Time = saved.Time;
        TimeEpoch = saved.TimeEpoch;
        _clockRate = saved.ClockRate;
        _clockRemainder = saved.ClockRemainder;
        DictionaryAttack.Times = (saved.SelfHealTime, saved.LockoutTime);
        ResetState = saved.Reset;
        ClearState = saved.Clear;
        Sessions.Restore(saved.Sessions);
        Sessions.ExclusiveAuditSession = saved.ExclusiveAuditSession;
        _staticMeasurement.AddRange(saved.StaticMeasurement);
        SelfTests.Restore(saved.Untested);
        if (IsStarted)
        {
            Pcrs.Initialize(saved.Reset.PcrAllocation, locality: 0);
        }

        return _clockRate is >= NominalRate - RateLimit and <= NominalRate + RateLimit
            && ResetState.SavedSessions.Length == TpmLimits.ActiveSessions
            && Pcrs.Restore(saved.Pcrs, all: true)
            && Objects.Restore(saved.Objects)
            && TryTakeMeasurement(saved.Measurement);
    }

    private byte[] SaveMeasurement()
    {
        if (_measurement.Length == 0)
        {
            return [];
        }

        var writer = new TpmWriter(new byte[TpmLimits.MaxContext]);
        new SequenceObject(SequenceKind.Event, Array.ConvertAll(_measurement, m => m.State)).Serialize(ref writer);
        return writer.Written.ToArray();
    }

    private bool TryTakeMeasurement(byte[] saved)
    {
        if (saved.Length == 0)
        {
            return true;
        }

        if (TransientObject.Deserialize(Cryptography, saved) is not SequenceObject { Kind: SequenceKind.Event } sequence)
        {
            return false;
        }

        // The states are in the order of the table.
        _measurement = Algorithms.StartAllHashes(Cryptography);
        for (int i = 0; i < _measurement.Length; i++)
        {
            _measurement[i].State = sequence.States[i];
        }

        return true;
    }

    private void WriteBlob(ref TpmWriter writer)
    {
        writer.WriteUInt32(PersistentState.Magic);
        writer.WriteUInt16(PersistentState.Version);
        Persistent.Write(ref writer);
    }

    private bool Commit() => Commit(out _, withDigest: false);

    // Writes the persistent state, where there is a place to.
    private bool Commit(out byte[] digest, bool withDigest = true)
    {
        digest = [];
        if (_platform.Storage is not null || withDigest)
        {
            var writer = new TpmWriter(_blob);
            WriteBlob(ref writer);
            digest = withDigest ? SHA256(writer.Written) : [];
            TpmStorageResult result = _platform.Storage?.Write(writer.Written) ?? TpmStorageResult.Done;
            CryptographicOperations.ZeroMemory(writer.Written);
            if (result != TpmStorageResult.Done)
            {
                return false;
            }
        }

        _isDirty = false;
        return true;
    }

    private void Advance()
    {
        long now = _platform.Clock.Milliseconds;
        ulong elapsed = now > _lastMilliseconds ? (ulong)(now - _lastMilliseconds) : 0;
        _lastMilliseconds = Math.Max(now, _lastMilliseconds);

        // What does not make a whole millisecond is kept for the next time.
        ulong ticks = (elapsed * NominalRate) + _clockRemainder;
        elapsed = ticks / _clockRate;
        _clockRemainder = ticks % _clockRate;
        Time += elapsed;
        SetClock(Persistent.Clock + elapsed);
        DictionaryAttack.Advance();
        Countdown.Advance(elapsed);
    }
}
