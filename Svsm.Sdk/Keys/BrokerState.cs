// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// What a broker keeps in a folder. The resource repository/type/tag is
//
//   repository.type.tag.secret   its secret, as svsm keys secret makes it
//   repository.type.tag.anchor   the last version of its store: generation, a space, the root in hexadecimal digits, a newline. Removed: there is none yet
//   svsm-keys.lock               held by the broker that has the folder
//
// An anchor is on the disk before anybody is told (Svsm.Sdk/Files): after a crash there is the old one or the new one. Names have no other
// characters than letters, digits, '-' and '_', so they cannot lead out of the folder, or to each other.

using System;
using System.Globalization;
using System.IO;
using System.Linq;
using System.Threading;
using Svsm.Diagnostics;
using Svsm.Files;
using Svsm.StoreKeys;

namespace Svsm.Keys;

/// <summary>Secrets, and the last versions of stores.</summary>
public sealed class BrokerState : IDisposable
{
    private const int MaxPartLength = 64;
    private const int PartCount = 3;
    private const int RootDigits = 2 * AnchorVersion.RootLength;

    private readonly string _folder;
    private readonly FileStream _lock;
    private readonly Lock _anchors = new();

    // What the files say, they say after a crash, too.
    private bool _isCertain = true;

    private BrokerState(string folder, FileStream @lock)
    {
        _folder = folder;
        _lock = @lock;
    }

    /// <summary>Opens a folder.</summary>
    /// <param name="folder">Its path.</param>
    /// <returns>What is in it.</returns>
    /// <exception cref="SvsmDiagnosticException">SVSM7051: it is not there, or another broker has it.</exception>
    public static BrokerState Open(string folder)
    {
        ArgumentNullException.ThrowIfNull(folder);
        try
        {
            string path = Path.GetFullPath(folder);
            return new BrokerState(path, new FileStream(Path.Combine(path, "svsm-keys.lock"), FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None));
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or ArgumentException or NotSupportedException)
        {
            throw SvsmDiagnostics.BrokerStateUnusable.Error($"'{folder}': {e.Message.TrimEnd('.')}", "a folder with secrets that no other broker has", e);
        }
    }

    /// <summary>Whether a resource has a name that a broker can have.</summary>
    /// <param name="resource"><c>repository/type/tag</c>.</param>
    public static bool IsResource(string resource)
    {
        ArgumentNullException.ThrowIfNull(resource);
        string[] parts = resource.Split('/');
        return parts.Length == PartCount && parts.All(part => part.Length is > 0 and <= MaxPartLength && part.All(character => char.IsAsciiLetterOrDigit(character) || character is '-' or '_'));
    }

    /// <summary>Reads the secret of a resource.</summary>
    /// <returns>Null: there is none, or it cannot be read.</returns>
    internal byte[]? ReadSecret(string resource)
    {
        try
        {
            return File.ReadAllBytes(PathOf(resource, ".secret"));
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return null;
        }
    }

    /// <summary>Answers a request about the last version, one at a time.</summary>
    internal AnchorAnswer Answer(string resource, in AnchorRequest request)
    {
        lock (_anchors)
        {
            // What cannot be read must not pass for none, and what a crash may undo must not pass for the last one.
            _isCertain = _isCertain || DurableFile.TryFlushFolder(PathOf(resource, ".anchor"));
            if (!_isCertain || !TryReadAnchor(resource, out AnchorVersion? current))
            {
                return new(AnchorStatus.NotWritten, null);
            }

            if (request.Operation == AnchorOperation.Get)
            {
                return new(AnchorStatus.Done, current);
            }

            if (request.Old != current)
            {
                return new(AnchorStatus.OtherVersion, current);
            }

            return request.New.Generation > current.GetValueOrDefault().Generation || current is null
                ? TryWriteAnchor(resource, request.New) ? new(AnchorStatus.Done, request.New) : new(AnchorStatus.NotWritten, null)
                : new(AnchorStatus.NotWritten, current);
        }
    }

    /// <summary>Gives the folder back.</summary>
    public void Dispose() => _lock.Dispose();

    private bool TryReadAnchor(string resource, out AnchorVersion? version)
    {
        version = null;
        try
        {
            string[] parts = File.ReadAllText(PathOf(resource, ".anchor")).TrimEnd('\n').Split(' ');
            byte[] root = new byte[AnchorVersion.RootLength];
            if (parts is not [string generation, { Length: RootDigits } digits] || !ulong.TryParse(generation, NumberStyles.None, CultureInfo.InvariantCulture, out ulong number)
                || Convert.FromHexString(digits, root, out _, out _) != System.Buffers.OperationStatus.Done)
            {
                return false;
            }

            version = AnchorVersion.FromRoot(number, root);
            return true;
        }
        catch (FileNotFoundException)
        {
            return true;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return false;
        }
    }

    private bool TryWriteAnchor(string resource, in AnchorVersion version)
    {
        byte[] root = new byte[AnchorVersion.RootLength];
        version.WriteRoot(root);
        try
        {
            _isCertain = DurableFile.Replace(
                PathOf(resource, ".anchor"),
                System.Text.Encoding.ASCII.GetBytes(string.Create(CultureInfo.InvariantCulture, $"{version.Generation} {Convert.ToHexStringLower(root)}\n")));
            return _isCertain;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return false;
        }
    }

    private string PathOf(string resource, string extension) => Path.Combine(_folder, resource.Replace('/', '.') + extension);
}
