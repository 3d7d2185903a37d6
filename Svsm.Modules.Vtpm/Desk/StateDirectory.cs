// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The state of a TPM in a directory, for `svsm tpm`.
//
//   tpm.state       "SVTF", SHA-256 of the blob, the blob (docs/vtpm.md, "State")
//   tpm.state.new   the next one while it is being written; without a meaning after a crash
//   tpm.lock        held by the process that has the TPM open
//
// The digest finds damage, not an attacker: the files are as secret and as trusted as the user's own.

using System;
using System.IO;
using System.Runtime.InteropServices;
using System.Security.Cryptography;
using Svsm.Files;
using Svsm.Modules.Vtpm.Crypto;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Desk;

/// <summary>A TPM's storage in a directory.</summary>
public sealed class StateDirectory : ITpmStorage, IDisposable
{
    // Far more than any state has: a larger file is not one of ours.
    private const int MaxFileSize = 1 << 20;

    private const int DigestSize = 32;

    private readonly string _path;
    private readonly FileStream _lock;

    /// <summary>Opens the directory, which is made if it is not there.</summary>
    /// <param name="directory">Its path.</param>
    /// <exception cref="IOException">It cannot be used, or another process has it open.</exception>
    /// <exception cref="UnauthorizedAccessException">The user may not use it.</exception>
    public StateDirectory(string directory)
    {
        if (OperatingSystem.IsWindows())
        {
            Directory.CreateDirectory(directory);
        }
        else
        {
            // The seeds are in it.
            Directory.CreateDirectory(directory, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
        }

        _path = Path.Combine(Path.GetFullPath(directory), "tpm.state");
        _lock = new FileStream(Path.Combine(directory, "tpm.lock"), FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None);
    }

    private static ReadOnlySpan<byte> Magic => "SVTF"u8;

    /// <inheritdoc/>
    public TpmStorageResult Read(out byte[] content)
    {
        content = [];
        byte[] file;
        try
        {
            var information = new FileInfo(_path);
            if (!information.Exists)
            {
                return TpmStorageResult.Absent;
            }

            if (information.Length > MaxFileSize)
            {
                return TpmStorageResult.Failed;
            }

            file = File.ReadAllBytes(_path);
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            return TpmStorageResult.Failed;
        }

        int head = Magic.Length + DigestSize;
        if (file.Length < head || !file.AsSpan(0, Magic.Length).SequenceEqual(Magic)
            || !Digest(file.AsSpan(head)).AsSpan().SequenceEqual(file.AsSpan(Magic.Length, DigestSize)))
        {
            return TpmStorageResult.Failed;
        }

        content = file[head..];
        CryptographicOperations.ZeroMemory(file);
        return TpmStorageResult.Done;
    }

    /// <inheritdoc/>
    public TpmStorageResult Write(ReadOnlySpan<byte> content)
    {
        byte[] file = new byte[Magic.Length + DigestSize + content.Length];
        Magic.CopyTo(file);
        Digest(content).CopyTo(file, Magic.Length);
        content.CopyTo(file.AsSpan(Magic.Length + DigestSize));
        try
        {
            return DurableFile.Replace(_path, file) ? TpmStorageResult.Done : TpmStorageResult.Failed;
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException or ExternalException)
        {
            return TpmStorageResult.Failed;
        }
        finally
        {
            CryptographicOperations.ZeroMemory(file);
        }
    }

    /// <inheritdoc/>
    public void Dispose() => _lock.Dispose();

    // SHA-256 of the engine: that of the runtime is the operating system's library.
    private static byte[] Digest(ReadOnlySpan<byte> content)
    {
        var digest = new byte[DigestSize];
        var hash = Sha.Create(AlgorithmId.Sha256);
        hash.Update(content);
        hash.Finish(digest);
        return digest;
    }
}
