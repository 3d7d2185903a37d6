// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// A run from the start of QEMU to its result. One task reads the link; whoever has a question for the hypervisor sends a command and waits for
// its answer, one at a time.

using System;
using System.Buffers;
using System.Buffers.Binary;
using System.Collections.Generic;
using System.ComponentModel;
using System.Globalization;
using System.IO;
using System.Linq;
using System.Runtime.CompilerServices;
using System.Runtime.ExceptionServices;
using System.Runtime.InteropServices;
using System.Threading;
using System.Threading.Tasks;
using Svsm.Diagnostics;
using Svsm.Simulator.Shared;
using Svsm.Wire;

namespace Svsm.Simulator;

internal sealed class MachineSession : IAsyncDisposable
{
    // Relative to QEMU's working folder: commas and spaces in the path of a temporary folder would mean something to -initrd.
    private const string LaunchFileName = "launch";

    // Memory of the level-1 machine beyond the guest's: the hypervisor and SeaBIOS.
    private const ulong HypervisorMemory = 128ul << 20;

    // What QEMU says on SIGINT, and how a process ends that does not handle it yet.
    private const string QemuInterruptedMessage = "terminating on signal 2";
    private const int QemuInterruptedStatus = 128 + 2;

    // After its last frame the hypervisor ends QEMU; and on request it reports and ends, which on a busy PC takes a while.
    private static readonly TimeSpan s_endTimeout = TimeSpan.FromSeconds(3);
    private static readonly TimeSpan s_reportTimeout = TimeSpan.FromSeconds(10);

    private readonly MachineOptions _options;
    private readonly LaunchPlan _plan;
    private readonly SymbolMap _symbols;
    private readonly HostileHost _hostile;
    private readonly GdbServer? _debugger;
    private readonly HostDevices? _devices;
    private readonly DirectoryInfo _folder;
    private readonly QemuProcess _process;
    private readonly ConsoleCollector _console;
    private readonly RunRecorder _recorder;
    private readonly LinkReader _reader;
    private readonly GuestRequestService _guestRequests;
    private readonly SemaphoreSlim _sending = new(1, 1);
    private readonly SemaphoreSlim _commanding = new(1, 1);
    private readonly SemaphoreSlim _holding = new(1, 1);
    private readonly TaskCompletionSource _greeted = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly TaskCompletionSource _ended = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly CancellationTokenSource _stopRequest = new();

    // What must be over before the hypervisor takes commands: its start, and the check of each CPUID page.
    private int _launchSteps;
    private TaskCompletionSource<(bool Done, byte[] Data)>? _answer;
    private SimulatedChip? _chip;
    private Task<KernelObservation?> _kernel = Task.FromResult<KernelObservation?>(null);
    private Task _deviceAccess = Task.CompletedTask;
    private volatile ExceptionDispatchInfo? _deviceFault;

    private MachineSession(
        MachineOptions options, LaunchPlan plan, SymbolMap symbols, HostileHost hostile, GdbServer? debugger, HostDevices? devices, DirectoryInfo folder, QemuProcess process)
    {
        _options = options;
        _plan = plan;
        _symbols = symbols;
        _hostile = hostile;
        _debugger = debugger;
        _devices = devices;
        _folder = folder;
        _process = process;
        _console = new ConsoleCollector(options.Output, symbols, showVcpu: options.VcpuCount > 1, hasSvsm: options.ImagePath is not null);
        if (devices is not null)
        {
            devices.Command = async header => (await CommandAsync(header, default, CancellationToken.None).ConfigureAwait(false)).Done;
        }

        _recorder = new RunRecorder(_console, options.VcpuCount, HostDevices.Places(options))
        {
            Greeted = Greet,
            CommandDone = (_, done, data) => _answer?.TrySetResult((done, data)),
            Paused = OnPaused,
            Traced = record => options.Output?.WriteLine("[trace] " + EventText.Render(in record, symbols)),
        };
        _recorder.AttackNames.AddRange(hostile.Descriptions.Select(attack => attack.Name));
        _reader = new LinkReader(_recorder.Accept);
        _launchSteps = 1 + plan.Updates.Count(update => update.Type == LaunchPageType.Cpuid);
        _guestRequests = new GuestRequestService(new GuestMessages(plan.Guest, OpenChip, options.ReportVersion), OpenChip);
    }

    /// <summary>Called for each console line, on the thread that reads the link. Set before <see cref="RunAsync"/>.</summary>
    public Action<ConsoleLine>? LineCompleted
    {
        get => _console.LineCompleted;
        set => _console.LineCompleted = value;
    }

    /// <summary>Called when the guest stands still, on the thread that reads the link.</summary>
    public Action<uint, PauseReason>? Paused { get; set; }

    /// <summary>Starts QEMU.</summary>
    public static MachineSession Start(MachineOptions options, LaunchPlan plan, SymbolMap symbols, QemuExecutable qemu)
    {
        var hostile = new HostileHost(options.Attacks, plan);
        GdbServer? debugger = options.GdbPort is int port ? new GdbServer(port, options.VcpuCount) : null;
        plan = hostile.Corrupt(plan);

        // Readable by this user only: the launch contains the message keys of the guest.
        DirectoryInfo folder = Machine.WithFile("a folder for a temporary file", Path.GetTempPath(), _ => Directory.CreateTempSubdirectory("svsm-"));
        HostDevices? devices = null;
        try
        {
            devices = HostDevices.Places(options) == 0 ? null : new HostDevices(options, folder.FullName);
            string launchFile = Path.Combine(folder.FullName, LaunchFileName);
            ulong launchLength = Machine.WithFile("a temporary file with the launch, writable", launchFile, file =>
            {
                using FileStream stream = File.Create(file);
                LaunchBlob.Write(plan, BlobOptions(options, symbols), [.. hostile.Descriptions.Select(attack => attack.Description)], stream, options.TurnSeed ?? 0, HostDevices.Places(options));
                return (ulong)stream.Length;
            });
            try
            {
                var process = QemuProcess.StartGuarded(qemu.Path, Arguments(options, plan, launchLength), folder.FullName);
                var session = new MachineSession(options, plan, symbols, hostile, debugger, devices, folder, process);
                session.Progress(string.Create(CultureInfo.InvariantCulture, $"launch: {plan.Updates.Count} pages, digest {Convert.ToHexStringLower(plan.Digest.Span)}"));
                session.Progress(string.Create(CultureInfo.InvariantCulture, $"QEMU {qemu.Version} starts: {options.VcpuCount} vCPU, {options.MemoryMiB} MiB"));
                if (debugger is not null)
                {
                    debugger.Attach(session);
                    session.Progress(string.Create(CultureInfo.InvariantCulture, $"the guest waits for a debugger: target remote 127.0.0.1:{debugger.Port}"));
                }

                return session;
            }
            catch (Win32Exception exception)
            {
                throw SvsmDiagnostics.QemuUnusable.Error($"'{qemu.Path}' does not start: {exception.Message}", "an executable program", exception);
            }
        }
        catch
        {
            devices?.Dispose();
            folder.Delete(recursive: true);
            debugger?.Dispose();
            throw;
        }
    }

    /// <summary>Completes when the run has ended.</summary>
    public Task Ended => _ended.Task;

    /// <summary>Port of the debugger's server, or null.</summary>
    public int? GdbPort => _debugger?.Port;

    /// <summary>Follows the run to its end. Once.</summary>
    /// <param name="cancellationToken">Ends the run at once.</param>
    /// <returns>The result.</returns>
    public async Task<MachineResult> RunAsync(CancellationToken cancellationToken)
    {
        using var timeout = new CancellationTokenSource(_options.Timeout, _options.TimeProvider);
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken, timeout.Token, _stopRequest.Token);
        MachineStop reason;
        string message = "";
        Task pump = PumpAsync();
        _devices?.Start(() => new HostStateExchange(
            () => SaveHostStateAsync(CancellationToken.None),
            blob => RestoreHostStateAsync(blob, CancellationToken.None),
            HostStateBlob.MaxLength(RangeSet.Length(_plan.Ram) / SecurityProcessor.PageSize)));
        using var debugging = CancellationTokenSource.CreateLinkedTokenSource(stop.Token);
        Task debugger = _debugger?.RunAsync(debugging.Token) ?? Task.CompletedTask;
        try
        {
            try
            {
                await pump.WaitAsync(stop.Token).ConfigureAwait(false);
            }
            catch (OperationCanceledException) when (!cancellationToken.IsCancellationRequested && !pump.IsCompleted)
            {
                await ReportAndEndAsync(pump, cancellationToken).ConfigureAwait(false);
            }

            if (_recorder.Finished)
            {
                reason = _recorder.Reason == StopReason.Stopped && !_stopRequest.IsCancellationRequested ? MachineStop.Timeout : (MachineStop)_recorder.Reason;
                await _process.WaitAsync(s_endTimeout).ConfigureAwait(false);
            }
            else if (stop.IsCancellationRequested && !cancellationToken.IsCancellationRequested)
            {
                reason = _stopRequest.IsCancellationRequested ? MachineStop.Stopped : MachineStop.Timeout;
                message = "The hypervisor did not say where the vCPUs were.";
            }
            else
            {
                reason = MachineStop.QemuFailed;
                (message, bool interrupted) = await DescribeEndAsync().ConfigureAwait(false);

                // Ctrl-C at a terminal goes to QEMU as well. It may be faster than this process to notice; then ours is about to come.
                if (interrupted)
                {
                    await Task.Delay(s_endTimeout, _options.TimeProvider, cancellationToken).ConfigureAwait(false);
                }

                cancellationToken.ThrowIfCancellationRequested();
            }
        }
        catch (LinkException exception)
        {
            reason = MachineStop.LinkBroken;
            message = exception.Message;
        }
        finally
        {
            await EndPumpAsync(pump).ConfigureAwait(false);
            _console.Flush();
            _chip?.Dispose();
            _ended.TrySetResult();
            await EndDebuggerAsync(debugger, debugging).ConfigureAwait(false);
        }

        return new MachineResult
        {
            Stop = reason,
            Detail = _recorder.Detail,
            Message = message,
            Reports = [.. _recorder.Reports],
            LaunchDigest = _plan.Digest,
            PagesValidatedAtLaunch = RangeSet.Length(_plan.Validated) / SecurityProcessor.PageSize,
            Console = _console.Lines,
            ConsoleTruncated = _console.Truncated,
            Statistics = [.. _recorder.Statistics],
            Memory = _recorder.TakeMap(),
            Events = [.. _recorder.Events],
            Attacks = [.. _hostile.Events, .. _recorder.Attacks],
            Kernel = await _kernel.ConfigureAwait(false),
            Symbols = _symbols,
        };
    }

    /// <summary>Asks for the end of the run; <see cref="RunAsync"/> gives its result.</summary>
    public void RequestStop() => _stopRequest.Cancel();

    /// <summary>Has the hypervisor do something.</summary>
    /// <returns>Whether it did it, and the data of its answer.</returns>
    /// <exception cref="InvalidOperationException">The run ended before it did it.</exception>
    public async Task<(bool Done, byte[] Data)> CommandAsync(CommandHeader header, ReadOnlyMemory<byte> data, CancellationToken cancellationToken)
    {
        await _commanding.WaitAsync(cancellationToken).ConfigureAwait(false);
        try
        {
            var answer = new TaskCompletionSource<(bool Done, byte[] Data)>(TaskCreationOptions.RunContinuationsAsynchronously);
            _answer = answer;
            await Task.WhenAny(_greeted.Task, _ended.Task).WaitAsync(cancellationToken).ConfigureAwait(false);
            await SendAsync(header, data, cancellationToken).ConfigureAwait(false);
            await Task.WhenAny(answer.Task, _ended.Task).WaitAsync(cancellationToken).ConfigureAwait(false);
            return answer.Task.IsCompleted ? await answer.Task.ConfigureAwait(false) : throw new InvalidOperationException("The run has ended.");
        }
        finally
        {
            _answer = null;
            _commanding.Release();
        }
    }

    /// <summary>What the SVSM's kernel tells of itself; null: nothing, or not yet.</summary>
    /// <exception cref="InvalidOperationException">The run has ended.</exception>
    public async Task<KernelObservation?> ReadKernelAsync(CancellationToken cancellationToken)
    {
        return _symbols.AddressOf(KernelRecord.Symbol) is not ulong address ? null : await KernelObservation.ReadAsync(
            address,
            async (from, length) =>
            {
                var command = new CommandHeader { Kind = CommandKind.ReadMemoryOfVmpl0, Address = from, Value = (ulong)length };
                (bool done, byte[] data) = await CommandAsync(command, default, cancellationToken).ConfigureAwait(false);
                return done ? data : [];
            }).ConfigureAwait(false);
    }

    /// <summary>A line of the SVSM's log as text, with names for addresses.</summary>
    public string Render(KernelLogLine line) => KernelObservation.Render(line, _symbols);

    /// <summary>The state of guest memory now.</summary>
    public async Task<RmpMap> QueryRmpAsync(CancellationToken cancellationToken)
    {
        await CommandAsync(new CommandHeader { Kind = CommandKind.QueryRmp }, default, cancellationToken).ConfigureAwait(false);
        return _recorder.TakeMap();
    }

    /// <summary>What the hypervisor knows of the guest below VMPL0, which does not run now: <see cref="HostStateBlob"/>.</summary>
    /// <exception cref="HostStateException">It cannot be had; the message says why.</exception>
    /// <exception cref="InvalidOperationException">The run has ended.</exception>
    public Task<byte[]> SaveHostStateAsync(CancellationToken cancellationToken) => WhileHeldAsync(
        async devices =>
        {
            byte[] model = await devices.ReadWindowAsync(async () =>
                (await PassStateAsync(new CommandHeader { Kind = CommandKind.SaveModel }, "given", cancellationToken).ConfigureAwait(false)).Length).ConfigureAwait(false);
            var pages = new ArrayBufferWriter<byte>();
            for (ulong next = 0; next != ulong.MaxValue;)
            {
                byte[] records = await devices.ReadWindowAsync(async () =>
                {
                    HostStateAnswer answer = await PassStateAsync(new CommandHeader { Kind = CommandKind.SavePages, Address = next }, "given", cancellationToken).ConfigureAwait(false);
                    next = answer.Next;
                    return answer.Length;
                }).ConfigureAwait(false);
                HostStateBlob.Add(pages, records);
            }

            return HostStateBlob.Make(model, pages.WrittenSpan);
        },
        cancellationToken);

    /// <summary>Has the hypervisor take what another one knew of a guest. All of it is checked first.</summary>
    /// <exception cref="HostStateException">It cannot be taken; the message says why. Nothing has changed.</exception>
    /// <exception cref="InvalidOperationException">The run has ended.</exception>
    public Task RestoreHostStateAsync(ReadOnlyMemory<byte> blob, CancellationToken cancellationToken)
    {
        (ReadOnlyMemory<byte> model, IReadOnlyList<ReadOnlyMemory<byte>> pages) = HostStateBlob.Read(blob);
        return WhileHeldAsync(
            async devices =>
            {
                await TakeAsync(devices, CommandKind.CheckModel, model).ConfigureAwait(false);
                foreach (CommandKind kind in (CommandKind[])[CommandKind.CheckPages, CommandKind.TakePages])
                {
                    foreach (ReadOnlyMemory<byte> piece in pages)
                    {
                        await TakeAsync(devices, kind, piece).ConfigureAwait(false);
                    }
                }

                await TakeAsync(devices, CommandKind.TakeModel, model).ConfigureAwait(false);
                return true;
            },
            cancellationToken);

        Task<HostStateAnswer> TakeAsync(HostDevices devices, CommandKind kind, ReadOnlyMemory<byte> bytes) =>
            devices.WriteWindowAsync(bytes, () => PassStateAsync(new CommandHeader { Kind = kind, Value = (ulong)bytes.Length }, "taken", cancellationToken));
    }

    /// <summary>Adds an attack.</summary>
    public async Task AttackAsync(Attack attack, CancellationToken cancellationToken)
    {
        foreach ((string name, LaunchAttack description) in new HostileHost([attack], _plan).Descriptions)
        {
            _recorder.AttackNames.Add(name);
            LaunchAttack value = description;
            (bool done, _) = await CommandAsync(
                new CommandHeader { Kind = CommandKind.Attack }, MemoryMarshal.AsBytes(new ReadOnlySpan<LaunchAttack>(in value)).ToArray(), cancellationToken).ConfigureAwait(false);
            if (!done)
            {
                throw new InvalidOperationException($"The hypervisor takes at most {LaunchHeader.MaxAttackCount} attacks.");
            }
        }
    }

    public async ValueTask DisposeAsync()
    {
        await _process.DisposeAsync().ConfigureAwait(false);
        _debugger?.Dispose();
        _devices?.Dispose();
        _folder.Delete(recursive: true);
        _sending.Dispose();
        _commanding.Dispose();
        _holding.Dispose();
        _stopRequest.Dispose();
    }

    // The guest stands still, so that all that is asked for is of one moment.
    private async Task<T> WhileHeldAsync<T>(Func<HostDevices, Task<T>> use, CancellationToken cancellationToken)
    {
        HostDevices devices = _devices ?? throw new InvalidOperationException("The machine has no window: it plays no device.");
        await _holding.WaitAsync(cancellationToken).ConfigureAwait(false);
        try
        {
            await CommandAsync(new CommandHeader { Kind = CommandKind.Hold }, default, cancellationToken).ConfigureAwait(false);
            return await use(devices).ConfigureAwait(false);
        }
        finally
        {
            try
            {
                if (!_ended.Task.IsCompleted)
                {
                    await CommandAsync(new CommandHeader { Kind = CommandKind.Release }, default, CancellationToken.None).ConfigureAwait(false);
                }
            }
            finally
            {
                _holding.Release();
            }
        }
    }

    private async Task<HostStateAnswer> PassStateAsync(CommandHeader header, string what, CancellationToken cancellationToken)
    {
        (_, byte[] data) = await CommandAsync(header, default, cancellationToken).ConfigureAwait(false);
        HostStateAnswer answer = data.Length == Unsafe.SizeOf<HostStateAnswer>() ? MemoryMarshal.Read<HostStateAnswer>(data) : new() { Refusal = HostStateRefusal.Damaged };
        string? why = answer.Refusal switch
        {
            HostStateRefusal.None => null,
            HostStateRefusal.GuestRuns => "a VMPL of the guest runs",
            HostStateRefusal.PciDevices => "the guest has disks or a network card, whose state is QEMU's",
            HostStateRefusal.OtherMachine => "it is that of a machine with other vCPUs, memory, options, firmware items or clock",
            HostStateRefusal.PageInUse => "the SVSM uses a page that is to be shared",
            _ => "it is damaged",
        };
        return why is null ? answer : throw new HostStateException($"the state of the hypervisor cannot be {what}: {why}");
    }

    // On the thread that reads the link.
    private void OnPaused(uint vcpu, PauseReason reason)
    {
        if (reason == PauseReason.Ending)
        {
            _kernel = Task.Run(ReadKernelAndEndAsync);
        }
        else
        {
            Paused?.Invoke(vcpu, reason);
        }
    }

    private async Task<KernelObservation?> ReadKernelAndEndAsync()
    {
        KernelObservation? kernel = null;
        try
        {
            kernel = await ReadKernelAsync(CancellationToken.None).ConfigureAwait(false);
            await CommandAsync(new CommandHeader { Kind = CommandKind.Resume }, default, CancellationToken.None).ConfigureAwait(false);
        }
        catch (Exception exception) when (exception is InvalidOperationException or IOException or ObjectDisposedException)
        {
            // The run ended meanwhile: the time was up, or somebody has cancelled it.
        }

        return kernel;
    }

    private SimulatedChip OpenChip() => _chip ??= SimulatedChip.Open(_options.ChipFolder ?? SimulatedChip.DefaultFolder);

    private void Progress(string text) => _options.Progress?.WriteLine("[host] " + text);

    // Reads the link until the last frame or the end of QEMU's output.
    private async Task PumpAsync()
    {
        byte[] buffer = new byte[64 * 1024];
        while (!_recorder.Finished && await _process.ReadAsync(buffer, CancellationToken.None).ConfigureAwait(false) is int count and not 0)
        {
            _reader.Push(buffer.AsSpan(0, count));
            if (_recorder.TakeCpuidPage() is { } page)
            {
                await SendAsync(GuestRequestService.Frame(LinkFrame.CpuidPage, CheckCpuidPage(page)), CancellationToken.None).ConfigureAwait(false);
                EndLaunchStep();
            }

            if (_recorder.TakeGuestRequest() is { } request)
            {
                await SendAsync(_hostile.Answer(_guestRequests.Answer(_hostile.Request(request))), CancellationToken.None).ConfigureAwait(false);
            }

            if (_recorder.TakeDeviceAccess() is { } access)
            {
                // The device asks for memory meanwhile, and this loop brings the answers. The one before is done: it has been answered.
                await _deviceAccess.ConfigureAwait(false);
                _deviceAccess = AnswerAsync(access);
            }
        }

        _deviceFault?.Throw();
    }

    // A device that throws ends the run: QEMU's end is that of the loop above, which throws what the device has thrown.
    private async Task AnswerAsync(DeviceAccess access)
    {
        try
        {
            DeviceAnswer answer = await _devices!.HandleAsync(access).ConfigureAwait(false);
            byte[] frame = new byte[Link.HeaderLength + Unsafe.SizeOf<DeviceAnswer>()];
            frame[0] = Link.Start;
            frame[1] = (byte)LinkFrame.DeviceAnswer;
            BinaryPrimitives.WriteUInt16LittleEndian(frame.AsSpan(2), (ushort)Unsafe.SizeOf<DeviceAnswer>());
            MemoryMarshal.Write(frame.AsSpan(Link.HeaderLength), in answer);
            await SendAsync(frame, CancellationToken.None).ConfigureAwait(false);
        }
        catch (Exception exception)
        {
            _deviceFault = ExceptionDispatchInfo.Capture(exception);
            await _process.KillAsync().ConfigureAwait(false);
        }
    }

    private void Greet()
    {
        // QEMU has read it.
        File.Delete(Path.Combine(_folder.FullName, LaunchFileName));
        Progress("the hypervisor runs; VMPL0 starts");
        EndLaunchStep();
    }

    private void EndLaunchStep()
    {
        if (--_launchSteps == 0)
        {
            _greeted.TrySetResult();
        }
    }

    // LAUNCH_UPDATE of a page that the host has filled.
    private byte[] CheckCpuidPage(byte[] page)
    {
        _hostile.CorruptCpuid(page);
        var corrections = new List<(CpuidEntry Given, CpuidEntry Allowed)>();
        if (CpuidPolicy.CheckPage(page, corrections) == FirmwareStatus.Success)
        {
            return page;
        }

        throw corrections.Count == 0
            ? SvsmDiagnostics.LaunchRefused.Error("a CPUID page whose header is malformed", $"at most {CpuidPageHeader.MaxEntries} functions, and zeroes behind their number")
            : SvsmDiagnostics.LaunchRefused.Error($"a CPUID page with {Text(corrections[0].Given)}", Text(corrections[0].Allowed));

        static string Text(CpuidEntry entry) => string.Create(
            CultureInfo.InvariantCulture,
            $"function 0x{entry.Function:X} index 0x{entry.Index:X}: EAX 0x{entry.Eax:X8}, EBX 0x{entry.Ebx:X8}, ECX 0x{entry.Ecx:X8}, EDX 0x{entry.Edx:X8}{(entry.Reserved == 0 ? "" : ", reserved bytes")}");
    }

    private async Task ReportAndEndAsync(Task pump, CancellationToken cancellationToken)
    {
        using var limit = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        limit.CancelAfter(s_reportTimeout);
        try
        {
            await _greeted.Task.WaitAsync(limit.Token).ConfigureAwait(false);
            await SendAsync(new CommandHeader { Kind = CommandKind.Stop }, default, limit.Token).ConfigureAwait(false);
            await pump.WaitAsync(limit.Token).ConfigureAwait(false);
        }
        catch (OperationCanceledException) when (!cancellationToken.IsCancellationRequested)
        {
            // A hypervisor that does not answer is killed.
        }
    }

    // A debugger that is connected is told first.
    private static async Task EndDebuggerAsync(Task debugger, CancellationTokenSource debugging)
    {
        debugging.CancelAfter(s_endTimeout / 10);
        try
        {
            await debugger.ConfigureAwait(false);
        }
        catch (Exception exception) when (exception is OperationCanceledException or IOException or InvalidOperationException)
        {
            // It waited for something that the end has made impossible.
        }
    }

    // Nothing changes the records once this is over.
    private async Task EndPumpAsync(Task pump)
    {
        await _process.KillAsync().ConfigureAwait(false);
        try
        {
            await pump.WaitAsync(s_reportTimeout).ConfigureAwait(false);
        }
        catch (Exception exception) when (exception is LinkException or TimeoutException or IOException or SvsmDiagnosticException)
        {
            // Told already, or of no interest any more.
        }
    }

    private Task SendAsync(CommandHeader header, ReadOnlyMemory<byte> data, CancellationToken cancellationToken)
    {
        int headerLength = Unsafe.SizeOf<CommandHeader>();
        byte[] frame = new byte[Link.HeaderLength + headerLength + data.Length];
        frame[0] = Link.Start;
        frame[1] = (byte)LinkFrame.Command;
        BinaryPrimitives.WriteUInt16LittleEndian(frame.AsSpan(2), checked((ushort)(headerLength + data.Length)));
        MemoryMarshal.Write(frame.AsSpan(Link.HeaderLength), in header);
        data.Span.CopyTo(frame.AsSpan(Link.HeaderLength + headerLength));
        return SendAsync(frame, cancellationToken);
    }

    // Frames stay whole.
    private async Task SendAsync(ReadOnlyMemory<byte> frames, CancellationToken cancellationToken)
    {
        await _sending.WaitAsync(cancellationToken).ConfigureAwait(false);
        try
        {
            await _process.WriteAsync(frames, cancellationToken).ConfigureAwait(false);
        }
        finally
        {
            _sending.Release();
        }
    }

    private async Task<(string Text, bool Interrupted)> DescribeEndAsync()
    {
        // The output can end before the process does.
        int? status = await _process.WaitAsync(s_endTimeout).ConfigureAwait(false);
        string end = status is int known ? string.Create(CultureInfo.InvariantCulture, $"QEMU ended with status {known}") : "QEMU closed its output";
        string text = end + (_reader.AtFrameBoundary ? " before the hypervisor reported an end." : " in the middle of a frame.");
        if (status is not null && await _process.ReadMessagesAsync().ConfigureAwait(false) is { Length: not 0 } messages)
        {
            text += "\n" + messages.TrimEnd();
        }

        bool interrupted = status == QemuInterruptedStatus || text.Contains(QemuInterruptedMessage, StringComparison.Ordinal);
        return (_reader.Chatter.Length == 0 ? text : $"{text}\nIts output began with:\n{_reader.Chatter.TrimEnd()}", interrupted);
    }

    private static LaunchOptions BlobOptions(MachineOptions options, SymbolMap symbols) =>
        (symbols.AddressOf(KernelRecord.Symbol) is not null ? LaunchOptions.HoldAtEnd : LaunchOptions.None)
        | (options.SingleVmpl ? LaunchOptions.SingleVmpl : LaunchOptions.None)
        | (LaunchOptions)options.Trace
        | (options.GdbPort is not null ? LaunchOptions.StartPaused : LaunchOptions.None)
        | (options.TurnSeed is not null ? LaunchOptions.DrawTurns : LaunchOptions.None)
        | (options.Threads ? LaunchOptions.Threads : LaunchOptions.None);

    private static List<string> Arguments(MachineOptions options, LaunchPlan plan, ulong launchLength)
    {
        ulong memory = HypervisorMemory + launchLength + GuestMemory(plan.Ram);
        List<string> arguments =
        [
            "-nodefaults",
            "-no-user-config",
            "-no-reboot",
            "-display", "none",
            "-monitor", "none",
            "-accel", options.Threads ? "tcg,thread=multi" : "tcg",
            "-M", "q35",

            // The C-bit is bit 47, so addresses need 48 bits; TCG has 40 of its own accord.
            "-cpu", "EPYC,+svm,+npt,phys-bits=48",

            // The hypervisor lets all vCPUs take turns on one, unless they are to run at the same time: then the first runs none (OuterProcessors.cs).
            "-smp", (options.Threads ? options.VcpuCount + 1 : 1).ToString(CultureInfo.InvariantCulture),
            "-m", string.Create(CultureInfo.InvariantCulture, $"{(memory + (1 << 20) - 1) >> 20}M"),
            "-chardev", "stdio,id=link,signal=off",
            "-serial", "chardev:link",
            "-device", "isa-debug-exit,iobase=0x501,iosize=2",
            "-kernel", Path.GetFullPath(options.HypervisorPath),
            "-initrd", LaunchFileName,
            .. QemuDevices.Arguments(options),
            .. HostDevices.Arguments(options),
        ];
        if (options.CountInstructions)
        {
            arguments.AddRange(["-icount", "shift=0,sleep=off", "-seed", "0"]);
        }

        return arguments;
    }

    // What the hypervisor needs for the guest's memory, if the guest uses all of it. QEMU takes from its host what is really used.
    private static ulong GuestMemory(IReadOnlyList<LaunchRam> ram)
    {
        const ulong Views = 2;
        const ulong TableBytesPerPage = 64;
        const ulong DirectoryReach = 2 << 20;
        const ulong DirectoryEntry = 8;
        ulong length = RangeSet.Length(ram);
        LaunchRam last = ram[^1];
        ulong directory = (last.Base + last.Length) / DirectoryReach * DirectoryEntry;
        return (Views * length) + (length / SecurityProcessor.PageSize * TableBytesPerPage) + directory;
    }
}
