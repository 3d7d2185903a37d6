// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The commands of svsm and their options. What a command does is in Commands/; docs/svsm-tool.md is the manual.

using System;
using System.CommandLine;
using System.CommandLine.Parsing;
using System.Globalization;
using System.Linq;
using System.Net;
using System.Net.Sockets;
using System.Threading;
using System.Threading.Tasks;
using Svsm.Builder;
using Svsm.Diagnostics;
using Svsm.Measurement;
using Svsm.Migration.Relay;
using Svsm.Simulator;
using Svsm.Store;
using Svsm.Tool.Commands;
using Svsm.Wire;

namespace Svsm.Tool;

internal static class SvsmCommandLine
{
    /// <summary>Parses and runs a command line.</summary>
    /// <returns>The exit status.</returns>
    public static async Task<int> RunAsync(string[] args, ToolConsole console, CancellationToken cancellationToken)
    {
        var configuration = new InvocationConfiguration
        {
            Output = console.Output,
            Error = console.Error,
            EnableDefaultExceptionHandler = false,
            ProcessTerminationTimeout = null,
        };
        ParseResult parsed = Create(console).Parse(args);
        if (parsed.Errors.Count != 0)
        {
            foreach (ParseError error in parsed.Errors)
            {
                await console.Error.WriteLineAsync($"error: {error.Message}").ConfigureAwait(false);
            }

            await console.Error.WriteLineAsync($"'{CommandPath(parsed.CommandResult)} --help' lists what there is.").ConfigureAwait(false);
            return ExitStatus.Usage;
        }

        try
        {
            return await parsed.InvokeAsync(configuration, cancellationToken).ConfigureAwait(false);
        }
        catch (SvsmDiagnosticException e)
        {
            await console.Error.WriteLineAsync($"error {e.Diagnostic.Code}: {e.Message}").ConfigureAwait(false);
            return e.Diagnostic == SvsmDiagnostics.ImageOptionInvalid ? ExitStatus.Usage : ExitStatus.BadFile;
        }
    }

    private static string CommandPath(CommandResult command) =>
        command.Parent is CommandResult parent ? $"{CommandPath(parent)} {command.Command.Name}" : "svsm";

    private static RootCommand Create(ToolConsole console) => new("Looks into images of Secure VM Service Modules: IGVM files for AMD SEV-SNP.")
    {
        new Command("igvm", "Looks into IGVM files.") { Inspect(console), Verify(console), Diff(console), Map(console) },
        Measure(console),
        Sign(console),
        new Command("attest", "Attestation of running images.") { AttestVerify(console) },
        RunCommandLine.Create(),
        new Command("tpm", "The virtual TPM as a program of its own.") { TpmServe(console), TpmManufacture(console) },
        new Command("module", "Modules on the desk.") { ModuleRun(console) },
        new Command("store", "The persistent store of an SVSM, in a file.") { StoreCreate(console), StorePrepare(console), StoreInspect(console), StoreVerify(console), StoreResize(console) },
        new Command("vars", "UEFI variables in the store of an SVSM.") { VarsList(console), VarsGet(console), VarsSet(console), VarsDelete(console), VarsExport(console), VarsImport(console) },
        new Command("keys", "Keys of stores from a broker.") { KeysPin(console), KeysSecret(console), KeysServe(console), KeysProxy(console) },
        new Command("migrate", "The relays of a migration, one on each host.") { MigrateSend(console), MigrateReceive(console) },
    };

    private static Command AttestVerify(ToolConsole console)
    {
        var report = new Argument<string>("REPORT") { Description = "the report, as the guest gave it: outblob of Linux" };
        var certificates = new Option<string[]>("--certificates") { Description = "certificates of the chip, PEM, DER or the host's table: auxblob of Linux; can be given several times", HelpName = "FILE", Required = true };
        var ark = new Option<string>("--ark") { Description = "the root that you trust: AMD's certificate, or its SHA-256, 64 hexadecimal digits", HelpName = "FILE|HEX", Required = true };
        var image = new Option<string?>("--image") { Description = "the image that must run", HelpName = "FILE" };
        var reference = new Option<string?>("--reference") { Description = "in its place: NAME.reference-values.json of its build", HelpName = "FILE" };
        Option<int> vcpus = Vcpus();
        var nonce = new Option<string?>("--nonce") { Description = "the nonce that you chose, 64 bytes: 128 hexadecimal digits, or a file", HelpName = "HEX|FILE" };
        var manifest = new Option<string?>("--manifest") { Description = "the manifest that came with the report: manifestblob of Linux", HelpName = "FILE" };
        var service = new Option<Guid?>("--service") { Description = "the manifest is that of this service alone", HelpName = "GUID" };
        Option<bool> json = Json();
        var command = new Command("verify", "Verifies an attestation report of an SVSM: signature, image, policy, services.")
        {
            report, certificates, ark, image, reference, vcpus, nonce, manifest, service, json,
        };
        command.Validators.Add(result =>
        {
            if (result.GetValue(image) is null == result.GetValue(reference) is null)
            {
                result.AddError("Give either --image or --reference.");
            }

            if (result.GetValue(nonce) is null != result.GetValue(manifest) is null)
            {
                result.AddError("Give both --nonce and --manifest, or neither.");
            }

            if (result.GetResult(service) is not null && result.GetValue(manifest) is null)
            {
                result.AddError("Give --manifest with --service.");
            }
        });
        command.SetAction(parsed => AttestCommand.Verify(
            console,
            new AttestQuestion(
                parsed.GetRequiredValue(report),
                parsed.GetRequiredValue(certificates),
                parsed.GetRequiredValue(ark),
                parsed.GetValue(image),
                parsed.GetValue(reference),
                parsed.GetValue(vcpus),
                parsed.GetValue(nonce),
                parsed.GetValue(manifest),
                parsed.GetValue(service)),
            parsed.GetValue(json)));
        return command;
    }

    private static Command ModuleRun(ToolConsole console)
    {
        var program = new Argument<string>("program") { Description = "the program of an image's modules: obj/.../modules/modules.elf", HelpName = "PROGRAM" };
        var type = new Argument<string>("class") { Description = "the module's class, with its namespace", HelpName = "CLASS" };
        var command = new Command("run", "Starts the program that an image has as a Linux process, and does what the input says.") { program, type };
        command.SetAction((parsed, cancellationToken) => ModuleCommand.RunAsync(console, parsed.GetRequiredValue(program), parsed.GetRequiredValue(type), cancellationToken));
        return command;
    }

    private static Command StoreCreate(ToolConsole console)
    {
        Argument<string> file = StoreFile();
        Option<long> size = Size();
        Option<string?> key = RequiredStoreKey();
        Option<bool> json = Json();
        var command = new Command("create", "Makes a file with an empty store.") { file, size, key, json };
        command.SetAction(parsed => StoreCommand.Create(console, parsed.GetRequiredValue(file), parsed.GetRequiredValue(size), parsed.GetRequiredValue(key)!, parsed.GetValue(json)));
        return command;
    }

    private static Command StorePrepare(ToolConsole console)
    {
        Argument<string> file = StoreFile();
        Option<long> size = Size();
        Option<bool> json = Json();
        var command = new Command("prepare", "Makes a file on which an SVSM makes its store, with a key that it alone has.") { file, size, json };
        command.SetAction(parsed => StoreCommand.Prepare(console, parsed.GetRequiredValue(file), parsed.GetRequiredValue(size), parsed.GetValue(json)));
        return command;
    }

    private static Command StoreInspect(ToolConsole console)
    {
        Argument<string> file = StoreFile();
        Option<string?> key = StoreKey();
        Option<bool> json = Json();
        var command = new Command("inspect", "Shows what a store is, and with its key what it has.") { file, key, json };
        command.SetAction(parsed => StoreCommand.Inspect(console, parsed.GetRequiredValue(file), parsed.GetValue(key), parsed.GetValue(json)));
        return command;
    }

    private static Command StoreVerify(ToolConsole console)
    {
        Argument<string> file = StoreFile();
        Option<string?> key = StoreKey();
        var generation = new Option<ulong?>("--generation") { Description = "the generation that the store must have reached", HelpName = "NUMBER" };
        var root = new Option<string?>("--root") { Description = "the root that this generation must have, 64 hexadecimal digits", HelpName = "HEX" };
        Option<bool> json = Json();
        var command = new Command("verify", "Checks the checksums of a store, and with its key everything in it.") { file, key, generation, root, json };
        command.Validators.Add(result =>
        {
            bool hasGeneration = result.GetResult(generation) is not null;
            if (hasGeneration != result.GetValue(root) is not null || (hasGeneration && result.GetValue(key) is null))
            {
                result.AddError("Give --generation, --root and --key together.");
            }

            if (result.GetValue(root) is string text && (text.Length != 64 || !text.All(char.IsAsciiHexDigit)))
            {
                result.AddError($"Option '--root' is '{text}'; it must be 64 hexadecimal digits.");
            }
        });
        command.SetAction(parsed => StoreCommand.Verify(
            console,
            parsed.GetRequiredValue(file),
            parsed.GetValue(key),
            parsed.GetValue(generation) is ulong number ? new StoreVersion(number, parsed.GetRequiredValue(root)!) : null,
            parsed.GetValue(json)));
        return command;
    }

    private static Command StoreResize(ToolConsole console)
    {
        Argument<string> file = StoreFile();
        Option<long> size = Size();
        Option<string?> key = StoreKey();
        Option<bool> json = Json();
        var command = new Command("resize", "Makes the file of a store longer, and with its key the store, too.") { file, size, key, json };
        command.SetAction(parsed => StoreCommand.Resize(console, parsed.GetRequiredValue(file), parsed.GetRequiredValue(size), parsed.GetValue(key), parsed.GetValue(json)));
        return command;
    }

    private static Command VarsList(ToolConsole console)
    {
        Argument<string> file = StoreFile();
        Option<string?> key = RequiredStoreKey();
        Option<bool> json = Json();
        var command = new Command("list", "Lists variables.") { file, key, json };
        command.SetAction(parsed => VarsCommand.List(console, parsed.GetRequiredValue(file), parsed.GetRequiredValue(key)!, parsed.GetValue(json)));
        return command;
    }

    private static Command VarsGet(ToolConsole console)
    {
        Argument<string> file = StoreFile();
        Argument<string> name = VariableName();
        Option<string?> key = RequiredStoreKey();
        Option<Guid?> guid = VariableGuid();
        var output = new Option<string?>("--output", "-o") { Description = "where the data goes", HelpName = "FILE" };
        Option<bool> json = Json();
        var command = new Command("get", "Shows a variable.") { file, name, key, guid, output, json };
        command.SetAction(parsed => VarsCommand.Get(
            console, parsed.GetRequiredValue(file), parsed.GetRequiredValue(key)!, parsed.GetRequiredValue(name), parsed.GetValue(guid), parsed.GetValue(output), parsed.GetValue(json)));
        return command;
    }

    private static Command VarsSet(ToolConsole console)
    {
        Argument<string> file = StoreFile();
        Argument<string> name = VariableName();
        Option<string?> key = RequiredStoreKey();
        Option<Guid?> guid = VariableGuid();
        var data = new Option<string?>("--data") { Description = "file with its data", HelpName = "FILE" };
        var hex = new Option<string?>("--hex") { Description = "its data, two hexadecimal digits for each byte", HelpName = "HEX" };
        var attributes = new Option<uint?>("--attributes") { Description = "its attributes, the number in UEFI; by default those that it has, or that UEFI says, or 7", HelpName = "NUMBER" };
        Option<bool> json = Json();
        var command = new Command("set", "Gives a variable a value.") { file, name, key, guid, data, hex, attributes, json };
        command.Validators.Add(result =>
        {
            if (result.GetValue(data) is null == result.GetValue(hex) is null)
            {
                result.AddError("Give either --data or --hex.");
            }
            else if (result.GetValue(hex) is string digits && !Units.TryReadHex(digits, new byte[digits.Length / 2]))
            {
                result.AddError($"Option '--hex' is '{digits}'; it must be two hexadecimal digits for each byte.");
            }
        });
        command.SetAction(parsed => VarsCommand.Set(
            console,
            parsed.GetRequiredValue(file),
            parsed.GetRequiredValue(key)!,
            parsed.GetRequiredValue(name),
            parsed.GetValue(guid),
            parsed.GetValue(attributes),
            parsed.GetValue(hex) is string digits ? Convert.FromHexString(digits) : ImageFile.Read(parsed.GetValue(data)!),
            parsed.GetValue(json)));
        return command;
    }

    private static Command VarsDelete(ToolConsole console)
    {
        Argument<string> file = StoreFile();
        Argument<string> name = VariableName();
        Option<string?> key = RequiredStoreKey();
        Option<Guid?> guid = VariableGuid();
        Option<bool> json = Json();
        var command = new Command("delete", "Removes a variable.") { file, name, key, guid, json };
        command.SetAction(parsed => VarsCommand.Delete(
            console, parsed.GetRequiredValue(file), parsed.GetRequiredValue(key)!, parsed.GetRequiredValue(name), parsed.GetValue(guid), parsed.GetValue(json)));
        return command;
    }

    private static Command VarsExport(ToolConsole console)
    {
        Argument<string> file = StoreFile();
        Option<string?> key = RequiredStoreKey();
        var output = new Option<string>("--output", "-o") { Description = "where the variables go", HelpName = "JSON", Required = true };
        Option<bool> json = Json();
        var command = new Command("export", "Writes all variables to a JSON file of virt-firmware and QEMU.") { file, key, output, json };
        command.SetAction(parsed => VarsCommand.Export(console, parsed.GetRequiredValue(file), parsed.GetRequiredValue(key)!, parsed.GetRequiredValue(output), parsed.GetValue(json)));
        return command;
    }

    private static Command VarsImport(ToolConsole console)
    {
        Argument<string> file = StoreFile();
        var input = new Argument<string>("JSON") { Description = "a JSON file of virt-firmware, QEMU or svsm vars export" };
        Option<string?> key = RequiredStoreKey();
        Option<bool> json = Json();
        var command = new Command("import", "Replaces all variables by those of a JSON file.") { file, input, key, json };
        command.SetAction(parsed => VarsCommand.Import(console, parsed.GetRequiredValue(file), parsed.GetRequiredValue(key)!, parsed.GetRequiredValue(input), parsed.GetValue(json)));
        return command;
    }

    private static Argument<string> VariableName() => new("NAME") { Description = "name of the variable, as UEFI or svsm vars list has it" };

    private static Option<Guid?> VariableGuid() => new("--guid") { Description = "GUID of the variable's vendor; needed if several have one of this name", HelpName = "GUID" };

    private static Option<string?> RequiredStoreKey()
    {
        Option<string?> key = StoreKey();
        key.Required = true;
        return key;
    }

    private static Command KeysPin(ToolConsole console)
    {
        Option<string> key = BrokerKey();
        var trustee = new Option<bool>("--trustee") { Description = "the broker is Trustee: the key signs secrets, not answers, and nobody keeps versions" };
        Option<string> output = Output("where the file goes");
        var command = new Command("pin", "Makes the file of an image that trusts a broker.") { key, trustee, output };
        command.SetAction(parsed => KeysCommand.Pin(console, parsed.GetRequiredValue(key), parsed.GetValue(trustee), parsed.GetRequiredValue(output)));
        return command;
    }

    private static Command KeysSecret(ToolConsole console)
    {
        Option<string> key = BrokerKey();
        var movable = new Option<bool>("--movable") { Description = "the key of the store is of this secret alone, so that the store goes from chip to chip" };
        Option<string> output = Output("where the secret goes: REPOSITORY.TYPE.TAG.secret in the broker's folder");
        var command = new Command("secret", "Makes a secret for the store of a VM.") { key, movable, output };
        command.SetAction(parsed => KeysCommand.Secret(console, parsed.GetRequiredValue(key), parsed.GetValue(movable), parsed.GetRequiredValue(output)));
        return command;
    }

    private static Command KeysServe(ToolConsole console)
    {
        Option<string> key = BrokerKey();
        var state = new Option<string>("--state") { Description = "folder with secrets, and the last versions of stores", HelpName = "DIR", Required = true };
        var ark = new Option<string>("--ark") { Description = "the root that you trust: AMD's certificate, or its SHA-256, 64 hexadecimal digits", HelpName = "FILE|HEX", Required = true };
        var reference = new Option<string[]>("--reference") { Description = "an image that gets secrets: NAME.reference-values.json of its build; can be given several times", HelpName = "FILE", Required = true };
        var certificates = new Option<string[]>("--certificates") { Description = "certificates of chips whose hosts give none; can be given several times", HelpName = "FILE" };
        var minimumTcb = new Option<ulong>("--minimum-tcb")
        {
            Description = "TCB that chips must have at least, in each byte: 16 hexadecimal digits, as in svsm attest verify",
            HelpName = "HEX",
            CustomParser = result =>
            {
                string text = result.Tokens[0].Value;
                const int Digits = 16;
                if (text.StartsWith("0x", StringComparison.Ordinal) && text.Length == Digits + 2 && ulong.TryParse(text.AsSpan(2), NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out ulong tcb))
                {
                    return tcb;
                }

                result.AddError($"Option '--minimum-tcb' is '{text}'; it must be 0x and 16 hexadecimal digits.");
                return 0;
            },
        };
        var listen = new Option<string>("--listen") { Description = "the URL to listen on", HelpName = "URL", DefaultValueFactory = _ => "http://127.0.0.1:8080/" };
        var command = new Command("serve", "Gives secrets to images that prove what they are, and keeps the last version of each store.") { key, state, ark, reference, certificates, minimumTcb, listen };
        command.SetAction((parsed, cancellationToken) => KeysCommand.ServeAsync(
            console,
            new BrokerPlan(
                parsed.GetRequiredValue(key),
                parsed.GetRequiredValue(state),
                parsed.GetRequiredValue(ark),
                parsed.GetRequiredValue(reference),
                parsed.GetValue(certificates) ?? [],
                parsed.GetValue(minimumTcb),
                parsed.GetRequiredValue(listen)),
            cancellationToken));
        return command;
    }

    private static Command KeysProxy(ToolConsole console)
    {
        var socket = new Option<string>("--unix") { Description = "Unix socket for the channel of an SVSM", HelpName = "PATH", Required = true };
        var broker = new Option<Uri>("--broker")
        {
            Description = "URL of the broker: svsm keys serve, or Trustee",
            HelpName = "URL",
            Required = true,
            CustomParser = result =>
            {
                // A path without a slash at its end would lose its last part.
                string text = result.Tokens[0].Value;
                if (Uri.TryCreate(text.EndsWith('/') ? text : text + "/", UriKind.Absolute, out Uri? uri) && (uri.Scheme == Uri.UriSchemeHttp || uri.Scheme == Uri.UriSchemeHttps))
                {
                    return uri;
                }

                result.AddError($"Option '--broker' is '{text}'; it must be a URL such as http://broker.example:8080/.");
                return null!;
            },
        };
        var resource = new Option<string>("--resource") { Description = "the secret of this VM: REPOSITORY/TYPE/TAG", HelpName = "NAME", Required = true };
        resource.Validators.Add(result =>
        {
            if (result.Tokens is [var token] && !Svsm.Keys.BrokerState.IsResource(token.Value))
            {
                result.AddError($"Option '--resource' is '{token.Value}'; it must be three names with slashes between, of letters, digits, '-' and '_'.");
            }
        });
        var command = new Command("proxy", "Carries messages between an SVSM of this host and a broker.") { socket, broker, resource };
        command.SetAction((parsed, cancellationToken) => KeysCommand.ProxyAsync(
            console, parsed.GetRequiredValue(socket), parsed.GetRequiredValue(broker), parsed.GetRequiredValue(resource), cancellationToken));
        return command;
    }

    private static Command MigrateSend(ToolConsole console)
    {
        Option<string> machine = MigrationMachine("--migration-source");
        var to = new Option<(string Host, int Port)>("--to")
        {
            Description = "the other relay: svsm migrate receive",
            HelpName = "HOST:PORT",
            Required = true,
            CustomParser = result =>
            {
                string text = result.Tokens[0].Value;
                int colon = text.LastIndexOf(':');
                string host = colon < 0 ? "" : text[..colon];
                host = host.StartsWith('[') && host.EndsWith(']') ? host[1..^1] : host.Contains(':', StringComparison.Ordinal) ? "" : host;
                if (host.Length != 0 && ushort.TryParse(text.AsSpan(colon + 1), NumberStyles.None, CultureInfo.InvariantCulture, out ushort port) && port != 0)
                {
                    return (host, port);
                }

                result.AddError($"Option '--to' is '{text}'; it must be HOST:PORT, such as host-b.example:4711 or [::1]:4711.");
                return default;
            },
        };
        var release = new Option<string?>("--release") { Description = "where the release goes, without which the guest runs nowhere; by default migration-NUMBER.release in the current folder", HelpName = "FILE" };
        Option<TimeSpan> retry = Retry();
        Option<bool> json = Json();
        var command = new Command("send", "Sends the guest of a source to the relay of a target.") { machine, to, release, retry, json };
        command.SetAction((parsed, cancellationToken) => MigrateCommand.SendAsync(
            console, parsed.GetRequiredValue(machine), parsed.GetRequiredValue(to), parsed.GetValue(release), parsed.GetValue(retry), parsed.GetValue(json), cancellationToken));
        return command;
    }

    private static Command MigrateReceive(ToolConsole console)
    {
        Option<string> machine = MigrationMachine("--migration-target");
        var listen = new Option<IPEndPoint?>("--listen")
        {
            Description = "where to listen for svsm migrate send; port 0 for any; all addresses of this host if there is only a port",
            HelpName = "[ADDRESS:]PORT",
            CustomParser = result =>
            {
                string text = result.Tokens[0].Value;
                if (ushort.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out ushort port))
                {
                    return new IPEndPoint(Socket.OSSupportsIPv6 ? IPAddress.IPv6Any : IPAddress.Any, port);
                }

                // Without a port it would be any.
                if (IPEndPoint.TryParse(text, out IPEndPoint? address) && text.EndsWith($":{address.Port}", StringComparison.Ordinal) && !IPAddress.TryParse(text, out _))
                {
                    return address;
                }

                result.AddError($"Option '--listen' is '{text}'; it must be [ADDRESS:]PORT, such as 4711, 192.0.2.1:4711 or [::1]:4711.");
                return null;
            },
        };
        var release = new Option<string?>("--release") { Description = "in its place: the file that svsm migrate send has written, for a target that holds its guest", HelpName = "FILE" };
        Option<TimeSpan> retry = Retry();
        Option<bool> json = Json();
        var command = new Command("receive", "Receives a guest for a target, or brings a target the release of its guest.") { machine, listen, release, retry, json };
        command.Validators.Add(result =>
        {
            if (result.GetResult(listen) is null == result.GetValue(release) is null)
            {
                result.AddError("Give either --listen or --release.");
            }
        });
        command.SetAction((parsed, cancellationToken) => MigrateCommand.ReceiveAsync(
            console, parsed.GetRequiredValue(machine), parsed.GetValue(listen), parsed.GetValue(release), parsed.GetValue(retry), parsed.GetValue(json), cancellationToken));
        return command;
    }

    private static Option<string> MigrationMachine(string option) => new("--machine") { Description = $"Unix socket of the machine: {option} of svsm run", HelpName = "SOCKET", Required = true };

    private static Option<TimeSpan> Retry()
    {
        var option = new Option<TimeSpan>("--retry")
        {
            Description = "for how long a broken connection to the other relay is tried again, 0 to 86400",
            HelpName = "SECONDS",
            DefaultValueFactory = _ => RelayOptions.DefaultRetry,
            CustomParser = result =>
            {
                string text = result.Tokens[0].Value;
                if (int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out int seconds) && seconds <= 86400)
                {
                    return TimeSpan.FromSeconds(seconds);
                }

                result.AddError($"Option '--retry' is '{text}'; it must be 0 to 86400.");
                return default;
            },
        };
        return option;
    }

    private static Option<string> BrokerKey() => new("--key") { Description = "EC private key on curve P-384 of the broker", HelpName = "PEM", Required = true };

    private static Option<string> Output(string description) => new("--output", "-o") { Description = description, HelpName = "FILE", Required = true };

    private static Argument<string> StoreFile() => new("FILE") { Description = "the file of the store: the raw disk of a machine's SVSM" };

    private static Option<string?> StoreKey() => new("--key") { Description = "file with the store's key: 32 bytes, 64 hexadecimal digits, or a movable secret of svsm keys secret", HelpName = "FILE" };

    private static Option<long> Size() => new("--size")
    {
        Description = "bytes of the file, also with KiB, MiB or GiB behind the number",
        HelpName = "SIZE",
        Required = true,
        CustomParser = result =>
        {
            string text = result.Tokens[0].Value;
            string digits = text.TrimEnd("BGKMi".ToCharArray());
            int shift = text[digits.Length..] switch { "" => 0, "KiB" => 10, "MiB" => 20, "GiB" => 30, _ => -1 };
            if (shift < 0 || !long.TryParse(digits, NumberStyles.None, CultureInfo.InvariantCulture, out long value) || value > long.MaxValue >> shift)
            {
                result.AddError($"Option '--size' is '{text}'; it must be a number of bytes, KiB, MiB or GiB, such as 16MiB.");
                return 0;
            }

            return value << shift;
        },
    };

    private static Command TpmServe(ToolConsole console)
    {
        var state = new Option<string?>("--state") { Description = "folder with the state of a TPM; without it the TPM ends with the program", HelpName = "DIR" };
        Option<int> port = Port<int>("--port", "port of the mssim protocol, and the next one for the platform's signals; 0 for any");
        port.DefaultValueFactory = _ => 2321;
        Option<int?> swtpmPort = Port<int?>("--swtpm-port", "port of the swtpm protocol, and the next one for its control channel; 0 for any");
        var socket = new Option<string?>("--unix") { Description = "Unix socket for commands of both protocols; PATH.ctrl is swtpm's control channel, PATH.platform the platform's signals", HelpName = "PATH" };
        var trace = new Option<bool>("--trace") { Description = "log commands and responses by name" };
        var command = new Command("serve", "Serves a TPM to clients of TPM simulators, on this machine.") { state, port, swtpmPort, socket, trace };
        command.SetAction((parsed, cancellationToken) => Task.Run(
            () => TpmCommand.Serve(
                console, parsed.GetValue(state), parsed.GetValue(port), parsed.GetValue(swtpmPort), parsed.GetValue(socket), parsed.GetValue(trace), cancellationToken),
            CancellationToken.None));
        return command;
    }

    private static Command TpmManufacture(ToolConsole console)
    {
        var state = new Option<string>("--state") { Description = "folder for the state; it must not have a TPM", HelpName = "DIR", Required = true };
        var caCertificate = new Option<string?>("--ca-cert") { Description = "certificate of the authority that certifies the endorsement keys", HelpName = "PEM" };
        var caKey = new Option<string?>("--ca-key") { Description = "its private key, RSA or EC", HelpName = "PEM" };
        var fromSwtpm = new Option<string?>("--from-swtpm") { Description = "take over an swtpm: its file tpm2-00.permall, after TPM2_Shutdown(CLEAR)", HelpName = "FILE" };
        var withoutSha1 = new Option<bool>("--no-sha1") { Description = "switch the SHA-1 bank of PCRs off; TPM2_PCR_Allocate can switch it on" };
        var command = new Command("manufacture", "Makes a TPM: new seeds in a folder that has none.") { state, caCertificate, caKey, fromSwtpm, withoutSha1 };
        command.Validators.Add(result =>
        {
            if (result.GetValue(caCertificate) is null != result.GetValue(caKey) is null)
            {
                result.AddError("Give both --ca-cert and --ca-key, or neither.");
            }
        });
        command.SetAction(parsed => TpmCommand.Manufacture(
            console,
            parsed.GetRequiredValue(state),
            parsed.GetValue(caCertificate) is string certificate ? (certificate, parsed.GetValue(caKey)!) : null,
            parsed.GetValue(fromSwtpm),
            !parsed.GetValue(withoutSha1)));
        return command;
    }

    private static Option<T> Port<T>(string name, string description)
    {
        var option = new Option<T>(name) { Description = description, HelpName = "PORT" };
        option.Validators.Add(result =>
        {
            // The next port is needed too.
            if (result.Tokens is [var token] && int.TryParse(token.Value, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out int value) && value is < 0 or > 65534)
            {
                result.AddError($"Option '{name}' is {token.Value}; it must be 0 to 65534.");
            }
        });
        return option;
    }

    private static Command Inspect(ToolConsole console)
    {
        Argument<string> file = File();
        Option<bool> json = Json();
        var command = new Command("inspect", "Shows the headers of a file.") { file, json };
        command.SetAction(parsed => InspectCommand.Run(console, ImageFile.Load(parsed.GetRequiredValue(file)), parsed.GetValue(json)));
        return command;
    }

    private static Command Verify(ToolConsole console)
    {
        Argument<string> file = File();
        Option<HostFlavour?> host = Host();
        Option<int> vcpus = Vcpus();
        var digest = new Option<string?>("--digest") { Description = "the launch digest that the file must have: 96 hexadecimal digits, or a .digest.json file; by default the one beside the file", HelpName = "HEX|FILE" };
        Option<bool> json = Json();
        var command = new Command("verify", "Checks a file against the format, its host's rules, its signatures and its launch digest.") { file, host, vcpus, digest, json };
        command.SetAction(parsed => VerifyCommand.Run(
            console, ImageFile.Load(parsed.GetRequiredValue(file)), parsed.GetValue(host), parsed.GetValue(vcpus), parsed.GetValue(digest), parsed.GetValue(json)));
        return command;
    }

    private static Command Diff(ToolConsole console)
    {
        var first = new Argument<string>("A") { Description = "an IGVM file" };
        var second = new Argument<string>("B") { Description = "another one" };
        Option<bool> json = Json();
        var command = new Command("diff", "Shows what differs between two files: headers, pages, contents, registers.") { first, second, json };
        command.SetAction(parsed => DiffCommand.Run(
            console, ImageFile.Load(parsed.GetRequiredValue(first)), ImageFile.Load(parsed.GetRequiredValue(second)), parsed.GetValue(json)));
        return command;
    }

    private static Command Map(ToolConsole console)
    {
        Argument<string> file = File();
        var svg = new Option<string?>("--svg") { Description = "draw it into this file", HelpName = "FILE" };
        Option<bool> json = Json();
        var command = new Command("map", "Shows what lies where in guest-physical memory, measured or not, with which rights.") { file, svg, json };
        command.SetAction(parsed => MapCommand.Run(console, ImageFile.Load(parsed.GetRequiredValue(file)), parsed.GetValue(svg), parsed.GetValue(json)));
        return command;
    }

    private static Command Measure(ToolConsole console)
    {
        var file = new Argument<string?>("FILE") { Description = "the IGVM file", Arity = ArgumentArity.ZeroOrOne };
        var ovmf = new Option<string?>("--ovmf") { Description = "measure a plain OVMF firmware on stock QEMU instead of an IGVM file", HelpName = "FILE" };
        Option<HostFlavour?> host = Host();
        Option<int> vcpus = Vcpus();
        var cpu = new Option<uint>("--cpu")
        {
            Description = "processor model: milan, genoa, turin, epyc-v4, or a CPUID signature such as 0x800f12; changes the digest on stock-qemu with several vCPUs, and that of OVMF",
            HelpName = "MODEL",
            DefaultValueFactory = _ => CpuSignature.EpycV4,
            CustomParser = ParseCpu,
        };
        Option<bool> json = Json();
        var command = new Command("measure", "Computes the launch digest.") { file, ovmf, host, vcpus, cpu, json };
        command.Validators.Add(result =>
        {
            if (result.GetValue(file) is null == result.GetValue(ovmf) is null)
            {
                result.AddError("Give either an IGVM file or --ovmf with a firmware file.");
            }
        });
        command.SetAction(parsed => parsed.GetValue(ovmf) is string firmware
            ? MeasureCommand.RunOvmf(console, firmware, parsed.GetValue(vcpus), parsed.GetValue(cpu), parsed.GetValue(json))
            : MeasureCommand.Run(
                console, ImageFile.Load(parsed.GetRequiredValue(file)!), parsed.GetValue(host), parsed.GetValue(vcpus), parsed.GetValue(cpu), parsed.GetValue(json)));
        return command;
    }

    private static Command Sign(ToolConsole console)
    {
        Argument<string> file = File();
        var idKey = new Option<string>("--id-key") { Description = "EC private key on curve P-384 that signs the ID block", HelpName = "PEM", Required = true };
        var authorKey = new Option<string?>("--author-key") { Description = "EC private key on curve P-384 that signs the ID key", HelpName = "PEM" };
        Option<byte[]> familyId = Id("--family-id");
        Option<byte[]> imageId = Id("--image-id");
        var svn = new Option<uint>("--svn") { Description = "security version of the guest", HelpName = "NUMBER" };
        Option<HostFlavour?> host = Host();
        Option<int> vcpus = Vcpus();
        var output = new Option<string>("--output", "-o") { Description = "where the signed file goes", HelpName = "OUT", Required = true };
        Option<bool> json = Json();
        var command = new Command("sign", "Adds an ID block, or replaces the one that is there.") { file, idKey, authorKey, familyId, imageId, svn, host, vcpus, output, json };
        command.SetAction(parsed => SignCommand.Run(
            console,
            ImageFile.Load(parsed.GetRequiredValue(file)),
            parsed.GetValue(host),
            SignCommand.ReadIdentity(
                parsed.GetRequiredValue(idKey), parsed.GetValue(authorKey), parsed.GetValue(familyId), parsed.GetValue(imageId), parsed.GetValue(svn), parsed.GetValue(vcpus)),
            parsed.GetRequiredValue(output),
            parsed.GetValue(json)));
        return command;
    }

    private static Argument<string> File() => new("FILE") { Description = "the IGVM file" };

    private static Option<bool> Json() => new("--json") { Description = "print one JSON object" };

    private static Option<int> Vcpus()
    {
        var option = new Option<int>("--vcpus") { Description = "number of vCPUs, 1 to 65536", HelpName = "NUMBER", DefaultValueFactory = _ => 1 };
        option.Validators.Add(result =>
        {
            if (result.Tokens is [var token] && int.TryParse(token.Value, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out int value) && value is < 1 or > 65536)
            {
                result.AddError($"Option '--vcpus' is {token.Value}; it must be 1 to 65536.");
            }
        });
        return option;
    }

    private static Option<HostFlavour?> Host() => new("--host", "--flavour")
    {
        Description = $"the host that launches the file: {string.Join(", ", HostFlavourNames.All)}; by default the one that it was built for, or qemu",
        HelpName = "FLAVOUR",
        CustomParser = result =>
        {
            if (HostFlavourNames.TryParse(result.Tokens[0].Value, out HostFlavour flavour))
            {
                return flavour;
            }

            result.AddError($"Host flavour '{result.Tokens[0].Value}' is unknown; known are {string.Join(", ", HostFlavourNames.All)}.");
            return null;
        },
    };

    private static Option<byte[]> Id(string name) => new(name)
    {
        Description = "16 bytes, as 32 hexadecimal digits; zeroes if not given",
        HelpName = "HEX",
        DefaultValueFactory = _ => new byte[IdBlock.IdLength],
        CustomParser = result =>
        {
            byte[] id = new byte[IdBlock.IdLength];
            if (result.Tokens[0].Value.Length != 2 * IdBlock.IdLength ||
                Convert.FromHexString(result.Tokens[0].Value, id, out _, out _) != System.Buffers.OperationStatus.Done)
            {
                result.AddError($"{name} is '{result.Tokens[0].Value}'; it must be 32 hexadecimal digits.");
            }

            return id;
        },
    };

    private static uint ParseCpu(ArgumentResult result)
    {
        string text = result.Tokens[0].Value;
        uint? signature = text.ToUpperInvariant() switch
        {
            "EPYC-V4" => CpuSignature.EpycV4,
            "MILAN" => CpuSignature.EpycMilan,
            "GENOA" => CpuSignature.EpycGenoa,
            "TURIN" => CpuSignature.EpycTurin,
            _ when text.StartsWith("0x", StringComparison.OrdinalIgnoreCase) &&
                uint.TryParse(text.AsSpan(2), NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out uint value) => value,
            _ => null,
        };
        if (signature is null)
        {
            result.AddError($"Processor model '{text}' is unknown; known are epyc-v4, milan, genoa, turin, and CPUID signatures such as 0x800f12.");
        }

        return signature ?? 0;
    }
}
