// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Linq;
using System.Text;
using Spectre.Console;
using Svsm.Builder;
using Svsm.Igvm;
using Svsm.Measurement;
using Svsm.Wire;

namespace Svsm.Tool.Commands;

internal static class SignCommand
{
    public static ImageIdentity ReadIdentity(string idKeyPath, string? authorKeyPath, byte[]? familyId, byte[]? imageId, uint svn, int vcpus) => new()
    {
        IdKeyPem = Encoding.UTF8.GetString(ImageFile.Read(idKeyPath)),
        AuthorKeyPem = authorKeyPath is null ? null : Encoding.UTF8.GetString(ImageFile.Read(authorKeyPath)),
        FamilyId = familyId,
        ImageId = imageId,
        GuestSvn = svn,
        VcpuCount = vcpus,
    };

    public static int Run(ToolConsole console, ImageFile image, HostFlavour? asked, ImageIdentity identity, string output, bool json)
    {
        HostFlavour flavour = image.Flavour(asked);
        IgvmFile signed = console.Work("Signing", () => ImageSigner.Sign(image.File, flavour, identity));
        ImageFile.Write(output, signed.Write());
        var block = (IgvmSnpIdBlock)signed.Directives[^1];
        string digest = Convert.ToHexStringLower(block.LaunchDigest.Span);
        string idKey = IdKey.FromPem(identity.IdKeyPem).Digest.ToString();
        string? authorKey = identity.AuthorKeyPem is null ? null : IdKey.FromPem(identity.AuthorKeyPem).Digest.ToString();
        bool replaced = image.File.Directives.OfType<IgvmSnpIdBlock>().Any();
        if (json)
        {
            console.WriteJson(writer =>
            {
                writer.WriteString("file", output);
                writer.WriteString("host", HostFlavourNames.ToName(flavour));
                writer.WriteNumber("vcpus", identity.VcpuCount);
                writer.WriteBoolean("replaced", replaced);
                writer.WriteString("launchDigest", digest);
                writer.WriteString("familyId", Convert.ToHexStringLower(block.FamilyId.Span));
                writer.WriteString("imageId", Convert.ToHexStringLower(block.ImageId.Span));
                writer.WriteNumber("guestSvn", block.GuestSvn);
                writer.WriteString("idKeyDigest", idKey);
                if (authorKey is not null)
                {
                    writer.WriteString("authorKeyDigest", authorKey);
                }
            });
            return ExitStatus.Success;
        }

        console.Write(terminal =>
        {
            Table table = ToolConsole.NewTable("", "").HideHeaders();
            ToolConsole.AddRow(table, "file", output);
            ToolConsole.AddRow(table, "host", HostFlavourNames.ToName(flavour));
            ToolConsole.AddRow(table, "family id", Convert.ToHexStringLower(block.FamilyId.Span));
            ToolConsole.AddRow(table, "image id", Convert.ToHexStringLower(block.ImageId.Span));
            ToolConsole.AddRow(table, "guest SVN", Units.Number(block.GuestSvn));
            ToolConsole.AddRow(table, "ID block", replaced ? "replaced" : "added");
            terminal.Write(table);
        });
        console.Output.Write($"launch digest\n{digest}\nID key digest\n{idKey}\n");
        if (authorKey is not null)
        {
            console.Output.Write($"author key digest\n{authorKey}\n");
        }

        return ExitStatus.Success;
    }
}
