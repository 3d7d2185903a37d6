// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System.Linq;
using System.Text.Json;
using Spectre.Console;
using Svsm.Builder;
using Svsm.Diagnostics;
using Svsm.Igvm.Imaging;
using Svsm.Measurement;
using Svsm.Wire;

namespace Svsm.Tool.Commands;

internal static class MeasureCommand
{
    public static int Run(ToolConsole console, ImageFile image, HostFlavour? asked, int vcpus, uint cpu, bool json)
    {
        HostFlavour flavour = image.Flavour(asked);
        MeasurementResult result = console.Work("Measuring", () => Measure(image, flavour, vcpus, cpu));
        Write(console, image.Name, HostFlavourNames.ToName(flavour), vcpus, HostProfile.For(flavour).MeasuresEveryVcpu ? cpu : null, result, json);
        return ExitStatus.Success;
    }

    public static int RunOvmf(ToolConsole console, string path, int vcpus, uint cpu, bool json)
    {
        MeasurementResult result = console.Work("Measuring", () =>
        {
            try
            {
                return OvmfMeasurement.Measure(OvmfImage.Parse(ImageFile.Read(path)), vcpus, cpuSignature: cpu);
            }
            catch (MeasurementException e)
            {
                throw SvsmDiagnostics.MeasurementFailed.Error($"'{path}': {e.Message}", "an OVMF firmware with SEV metadata", e);
            }
        });
        Write(console, System.IO.Path.GetFileName(path), HostFlavourNames.ToName(HostFlavour.StockQemu), vcpus, cpu, result, json);
        return ExitStatus.Success;
    }

    /// <summary>Measures an image for a processor model.</summary>
    public static MeasurementResult Measure(ImageFile image, HostFlavour flavour, int vcpus, uint cpu)
    {
        try
        {
            return LaunchMeasurement.Measure(image.File, flavour, vcpus, cpu);
        }
        catch (MeasurementException e)
        {
            throw SvsmDiagnostics.MeasurementFailed.Error(
                $"'{image.Path}': {e.Message}", $"a file that host {HostFlavourNames.ToName(flavour)} launches with {Units.Number(vcpus)} vCPUs", e);
        }
    }

    private static void Write(ToolConsole console, string name, string host, int vcpus, uint? cpu, MeasurementResult result, bool json)
    {
        if (json)
        {
            console.WriteJson(writer => WriteJson(writer, name, host, vcpus, cpu, result));
            return;
        }

        console.Write(terminal =>
        {
            Table table = ToolConsole.NewTable("", "").HideHeaders();
            ToolConsole.AddRow(table, "file", name);
            ToolConsole.AddRow(table, "host", host);
            ToolConsole.AddRow(table, "vCPUs", Units.Number(vcpus) + (cpu is uint signature ? $", CPUID signature {Units.Hex(signature)}" : ""));
            ToolConsole.AddRow(table, "pages", string.Join(", ", result.Pages.GroupBy(page => page.Type).Select(
                group => $"{Units.Number(group.Count())} {SvsmImageWriter.TypeName(group.Key)}")));
            terminal.Write(table);
        });

        // On a line of its own, whatever the width: it is made to be copied.
        console.Output.Write($"launch digest\n{result.Digest}\n");
    }

    private static void WriteJson(Utf8JsonWriter writer, string name, string host, int vcpus, uint? cpu, MeasurementResult result)
    {
        writer.WriteString("file", name);
        writer.WriteString("host", host);
        writer.WriteNumber("vcpus", vcpus);
        if (cpu is uint signature)
        {
            writer.WriteString("cpuSignature", Units.Hex(signature));
        }

        writer.WriteString("launchDigest", result.Digest.ToString());
        writer.WriteStartArray("pages");
        foreach (MeasuredPage page in result.Pages)
        {
            writer.WriteStartObject();
            writer.WriteString("gpa", Units.Hex(page.Gpa));
            writer.WriteString("type", SvsmImageWriter.TypeName(page.Type));
            if (page.Contents != default)
            {
                writer.WriteString("contents", page.Contents.ToString());
            }

            writer.WriteString("digestAfter", page.DigestAfter.ToString());
            writer.WriteEndObject();
        }

        writer.WriteEndArray();
    }
}
