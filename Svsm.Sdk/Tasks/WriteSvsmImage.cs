// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Generic;
using System.Collections.Immutable;
using System.Globalization;
using System.IO;
using System.Linq;
using System.Text;
using Microsoft.Build.Framework;
using Svsm.Builder;
using Svsm.Diagnostics;
using Svsm.Wire;

namespace Svsm.Sdk.Tasks;

/// <summary>Writes the files of an image: the properties of the project in, <see cref="SvsmImageWriter"/> does the rest.</summary>
public sealed class WriteSvsmImage : SvsmTask
{
    /// <summary>What <see cref="TryParseId"/> takes, for messages.</summary>
    internal const string WantedId = "32 hexadecimal digits";

    private const int IdLength = 16;

    /// <summary>The kernel's ELF file.</summary>
    [Required]
    public string Kernel { get; set; } = "";

    /// <summary>The guest's ELF file, or nothing: a Linux guest (property SvsmGuest).</summary>
    public string Guest { get; set; } = "";

    /// <summary>The bzImage of a Linux guest, or nothing (property SvsmGuestKernel).</summary>
    public string GuestKernel { get; set; } = "";

    /// <summary>The initial RAM disk of a Linux guest, or nothing (property SvsmGuestInitrd).</summary>
    public string GuestInitrd { get; set; } = "";

    /// <summary>The command line of a Linux guest (property SvsmGuestCommandLine).</summary>
    public string GuestCommandLine { get; set; } = "";

    /// <summary>The file of a UEFI firmware, or nothing; more than one is refused (items SvsmFirmware).</summary>
    public string[] Firmware { get; set; } = [];

    /// <summary>Names of the host flavours (property SvsmHostFlavours).</summary>
    [Required]
    public string[] HostFlavours { get; set; } = [];

    /// <summary>SEV-SNP guest policy, 64 bits, decimal or with 0x (property SvsmGuestPolicy).</summary>
    [Required]
    public string GuestPolicy { get; set; } = "";

    /// <summary>Level of the console, or nothing: what the policy allows (property SvsmConsoleLevel).</summary>
    public string ConsoleLevel { get; set; } = "";

    /// <summary>Folder for the files.</summary>
    [Required]
    public string OutputDirectory { get; set; } = "";

    /// <summary>Name of the files of the first flavour, without extension.</summary>
    [Required]
    public string ImageName { get; set; } = "";

    /// <summary>PEM file of the key that signs the ID block, or nothing: no ID block (property SvsmIdKeyFile).</summary>
    public string IdKeyFile { get; set; } = "";

    /// <summary>PEM file of the key that signs the ID key, or nothing (property SvsmAuthorKeyFile).</summary>
    public string AuthorKeyFile { get; set; } = "";

    /// <summary>16 bytes as hexadecimal digits, or nothing: zeroes (property SvsmFamilyId).</summary>
    public string FamilyId { get; set; } = "";

    /// <summary>16 bytes as hexadecimal digits, or nothing: zeroes (property SvsmImageId).</summary>
    public string ImageId { get; set; } = "";

    /// <summary>Security version number, decimal, 32 bits, or nothing: 0 (property SvsmGuestSvn).</summary>
    public string GuestSvn { get; set; } = "";

    /// <summary>The modules, with the metadata that <see cref="ModuleItems"/> tells (items SvsmModule).</summary>
    public ITaskItem[] Modules { get; set; } = [];

    /// <summary>The assemblies that the program of the modules is compiled from.</summary>
    public string[] ModuleAssemblies { get; set; } = [];

    /// <summary>The program of the modules, or nothing: an image without modules.</summary>
    public string ModuleProgram { get; set; } = "";

    /// <summary>Files that modules may open, with the metadata that <see cref="FileItems"/> tells (items SvsmFile).</summary>
    public ITaskItem[] Files { get; set; } = [];

    /// <summary>Keys for secure boot, with the metadata that <see cref="SecureBootKeyItems"/> tells (items SvsmSecureBootKey).</summary>
    public ITaskItem[] SecureBootKeys { get; set; } = [];

    /// <summary>Who may be the other end of a migration, with the metadata that <see cref="MigrationItems"/> tells (items SvsmMigrationPeer).</summary>
    public ITaskItem[] MigrationPeers { get; set; } = [];

    /// <summary>The root of the chips that may be there, likewise; one with peers (items SvsmMigrationRoot).</summary>
    public ITaskItem[] MigrationRoots { get; set; } = [];

    /// <summary>The launch digests, in the order of <see cref="HostFlavours"/>.</summary>
    [Output]
    public string[] LaunchDigests { get; private set; } = [];

    /// <inheritdoc/>
    protected override void Run()
    {
        HostFlavour[] flavours = [.. HostFlavours.Select(ParseFlavour)];
        CheckGuest();
        ImmutableArray<ModuleOptions> modules = ModuleItems.Read(Modules, ModuleAssemblies);
        var options = new SvsmImageOptions
        {
            Policy = ParseNumber(nameof(GuestPolicy), GuestPolicy, ulong.MaxValue),
            ConsoleLevel = ParseLevel(),
            Identity = ReadIdentity(),
            Kernel = Read(nameof(Kernel), Kernel),
            GuestPayload = Guest.Length == 0 ? default : Read(nameof(Guest), Guest),
            Linux = GuestKernel.Length == 0 ? null : new LinuxGuestOptions
            {
                Kernel = Read(nameof(GuestKernel), GuestKernel),
                InitialRamDisk = GuestInitrd.Length == 0 ? default : Read(nameof(GuestInitrd), GuestInitrd),
                CommandLine = GuestCommandLine,
            },
            Firmware = Firmware.Length == 0 ? default : Read(nameof(Firmware), Firmware[0]),
            Modules = modules,
            Files =
            [
                .. ReadModuleProgram(), .. FileItems.Read(Files, Modules, modules),
                .. SecureBootKeyFiles.Write(SecureBootKeyItems.Read(SecureBootKeys), modules),
                .. MigrationPolicyFile.Write(MigrationItems.ReadPeers(MigrationPeers), MigrationItems.ReadRoots(MigrationRoots), modules),
            ],
        };
        ImmutableArray<WrittenSvsmImage> written = SvsmImageWriter.WriteFiles(options, OutputDirectory, ImageName, flavours);
        foreach (HostFlavour flavour in flavours.Where(flavour => flavour is HostFlavour.HyperV or HostFlavour.Vanadium))
        {
            Warn(SvsmDiagnostics.HostNeverSeen, $"SvsmHostFlavours has '{HostFlavourNames.ToName(flavour)}'", "qemu or stock-qemu");
        }

        if (MigrationPolicyFile.FindProblemAsPeer(options) is (string seen, string wanted))
        {
            Warn(SvsmDiagnostics.MigrationPeerImpossible, seen, wanted);
        }

        LaunchDigests = [.. written.Select(image => image.Files.LaunchDigest.ToString())];
    }

    private static HostFlavour ParseFlavour(string name) =>
        HostFlavourNames.TryParse(name, out HostFlavour flavour)
            ? flavour
            : throw Invalid(nameof(HostFlavours), name, $"one or several of {string.Join(", ", HostFlavourNames.All)}, with semicolons between them");

    private LogLevel? ParseLevel() =>
        ConsoleLevel.Length == 0 ? null
        : Enum.TryParse(ConsoleLevel, ignoreCase: true, out LogLevel level) && Enum.IsDefined(level) && !char.IsAsciiDigit(ConsoleLevel[0]) ? level
        : throw Invalid(nameof(ConsoleLevel), ConsoleLevel, string.Join(", ", Enum.GetNames<LogLevel>()).ToLowerInvariant());

    // Names of properties are those of the parameters with Svsm before them.
    private static SvsmDiagnosticException Invalid(string parameter, string seen, string wanted) =>
        SvsmDiagnostics.PropertyInvalid.Error($"Svsm{parameter} is '{seen}'", wanted);

    private static ulong ParseNumber(string parameter, string text, ulong most)
    {
        return TryParseNumber(text, most, out ulong value) ? value : throw Invalid(parameter, text, NumberUpTo(most));
    }

    /// <summary>Reads a number as properties and items have it.</summary>
    /// <param name="text">Decimal, or hexadecimal with 0x.</param>
    /// <param name="most">The largest one.</param>
    /// <param name="value">The number; without meaning if the result is false.</param>
    internal static bool TryParseNumber(string text, ulong most, out ulong value)
    {
        bool hexadecimal = text.StartsWith("0x", StringComparison.OrdinalIgnoreCase);
        bool parsed = hexadecimal
            ? ulong.TryParse(text.AsSpan(2), NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out value)
            : ulong.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out value);
        return parsed && value <= most;
    }

    /// <summary>What <see cref="TryParseNumber"/> takes, for messages.</summary>
    internal static string NumberUpTo(ulong most) => string.Create(CultureInfo.InvariantCulture, $"a number from 0 to 0x{most:X}, decimal or with 0x");

    private static ReadOnlyMemory<byte> ParseId(string parameter, string text) => TryParseId(text) ?? throw Invalid(parameter, text, WantedId);

    /// <summary>Reads a family id or image id: zeroes if there is no text; null if it is none.</summary>
    internal static byte[]? TryParseId(string text)
    {
        byte[] id = new byte[IdLength];
        bool isDigits = text.Length == 2 * IdLength && Convert.FromHexString(text, id, out _, out _) == System.Buffers.OperationStatus.Done;
        return isDigits || text.Length == 0 ? id : null;
    }

    /// <summary>Reads a file that a property or an item names.</summary>
    /// <param name="parameter">Its name without "Svsm".</param>
    /// <param name="path">The file.</param>
    /// <exception cref="SvsmDiagnosticException">SVSM2015: it cannot be read.</exception>
    internal static byte[] Read(string parameter, string path)
    {
        try
        {
            return File.ReadAllBytes(path);
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException or ArgumentException or NotSupportedException)
        {
            throw SvsmDiagnostics.ImageFileFailed.Error($"Svsm{parameter} is '{path}': {exception.Message}", "the path of a file that can be read", exception);
        }
    }

    private ImmutableArray<ModuleFile> ReadModuleProgram()
    {
        if (ModuleProgram.Length == 0)
        {
            return [];
        }

        byte[] program = Read(nameof(ModuleProgram), ModuleProgram);
        Builder.ModuleProgram.Check(program);
        return [new ModuleFile(ModuleOptions.DefaultProgram, program)];
    }

    private void CheckGuest()
    {
        string[] guests = [
            .. ((IEnumerable<(string Name, string Value)>)[
                (nameof(Guest), Guest), (nameof(GuestKernel), GuestKernel), .. Firmware.Select(file => (nameof(Firmware), file))])
                .Where(guest => guest.Value.Length != 0)
                .Select(guest => $"Svsm{guest.Name} is '{guest.Value}'")];
        if (guests.Length > 1)
        {
            throw SvsmDiagnostics.GuestPropertiesContradict.Error(string.Join(" and ", guests), "one guest");
        }

        foreach ((string parameter, string value) in (IEnumerable<(string, string)>)[(nameof(GuestInitrd), GuestInitrd), (nameof(GuestCommandLine), GuestCommandLine)])
        {
            if (value.Length != 0 && GuestKernel.Length == 0)
            {
                throw SvsmDiagnostics.GuestPropertiesContradict.Error($"Svsm{parameter} is '{value}' and SvsmGuestKernel is not set", "a kernel that it belongs to");
            }
        }
    }

    private ImageIdentity? ReadIdentity()
    {
        if (IdKeyFile.Length != 0)
        {
            return new ImageIdentity
            {
                IdKeyPem = Encoding.UTF8.GetString(Read(nameof(IdKeyFile), IdKeyFile)),
                AuthorKeyPem = AuthorKeyFile.Length == 0 ? null : Encoding.UTF8.GetString(Read(nameof(AuthorKeyFile), AuthorKeyFile)),
                FamilyId = ParseId(nameof(FamilyId), FamilyId),
                ImageId = ParseId(nameof(ImageId), ImageId),
                GuestSvn = GuestSvn.Length == 0 ? 0 : (uint)ParseNumber(nameof(GuestSvn), GuestSvn, uint.MaxValue),
            };
        }

        // Without a key there is no ID block to put the others into; to drop them silently would leave the owner with an image that does not say who he is.
        foreach ((string parameter, string value) in (IEnumerable<(string, string)>)[
            (nameof(AuthorKeyFile), AuthorKeyFile), (nameof(FamilyId), FamilyId), (nameof(ImageId), ImageId), (nameof(GuestSvn), GuestSvn)])
        {
            if (value.Length != 0)
            {
                throw Invalid(parameter, value, "nothing while SvsmIdKeyFile is not set: only a signed ID block can hold it");
            }
        }

        return null;
    }
}
