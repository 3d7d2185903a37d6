// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Files with secrets and states that a crash must not halve: for the state of `svsm tpm`, and for brokers' secrets and anchors. Compiled into each.
//
// A file is written under another name in the same folder, flushed, and renamed: whoever reads after a crash has the old one or the new one, whole. Which of the
// two, the folder says, which is a file of its own, and flushed as well. The owner alone may read.

using System;
using System.IO;
using System.Runtime.InteropServices;

namespace Svsm.Files;

internal static class DurableFile
{
    /// <summary>Replaces a file, or makes it.</summary>
    /// <param name="path">Its path. A link there is replaced, not followed.</param>
    /// <param name="content">The content.</param>
    /// <returns>False: the file has been replaced, and a crash may still undo it (<see cref="TryFlushFolder"/>).</returns>
    /// <exception cref="IOException">It is as before.</exception>
    /// <exception cref="UnauthorizedAccessException">It is as before.</exception>
    public static bool Replace(string path, ReadOnlySpan<byte> content)
    {
        // One name, so that crashes leave one file behind, and the next write removes it.
        string newPath = path + ".new";
        File.Delete(newPath);
        Write(newPath, content);
        File.Move(newPath, path, overwrite: true);
        return TryFlushFolder(path);
    }

    /// <summary>Makes a file where nothing is.</summary>
    /// <param name="path">Its path.</param>
    /// <param name="content">The content.</param>
    /// <exception cref="IOException">Something is there, or it cannot be written. Nothing of it is left.</exception>
    /// <exception cref="UnauthorizedAccessException">It cannot be written.</exception>
    public static void Create(string path, ReadOnlySpan<byte> content)
    {
        string newPath = $"{path}.{Guid.NewGuid():N}.new";
        try
        {
            Write(newPath, content);
            File.Move(newPath, path, overwrite: false);
        }
        catch
        {
            File.Delete(newPath);
            throw;
        }

        if (!TryFlushFolder(path))
        {
            File.Delete(path);
            throw new IOException("its folder cannot be flushed");
        }
    }

    /// <summary>Makes sure that no crash undoes what was done with a file's name.</summary>
    /// <param name="path">The file.</param>
    /// <returns>It is sure.</returns>
    // .NET opens no folders. Windows has no such call: its file system keeps the order of changes by itself.
    public static bool TryFlushFolder(string path)
    {
        if (OperatingSystem.IsWindows())
        {
            return true;
        }

        int descriptor = Open(Path.GetDirectoryName(Path.GetFullPath(path))!, 0);
        if (descriptor < 0)
        {
            return false;
        }

        bool isFlushed = Flush(descriptor) == 0;
        return Close(descriptor) == 0 && isFlushed;
    }

    private static void Write(string path, ReadOnlySpan<byte> content)
    {
        var options = new FileStreamOptions { Mode = FileMode.CreateNew, Access = FileAccess.Write, BufferSize = 0 };
        if (!OperatingSystem.IsWindows())
        {
            options.UnixCreateMode = UnixFileMode.UserRead | UnixFileMode.UserWrite;
        }

        using var stream = new FileStream(path, options);
        stream.Write(content);
        stream.Flush(flushToDisk: true);
    }

    [DllImport("libc", EntryPoint = "open", SetLastError = true, CharSet = CharSet.Ansi, BestFitMapping = false, ThrowOnUnmappableChar = true)]
    private static extern int Open(string path, int flags);

    [DllImport("libc", EntryPoint = "fsync", SetLastError = true)]
    private static extern int Flush(int descriptor);

    [DllImport("libc", EntryPoint = "close", SetLastError = true)]
    private static extern int Close(int descriptor);
}
