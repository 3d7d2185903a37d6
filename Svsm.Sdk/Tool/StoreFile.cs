// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// A file with a store on it, as the raw disk that a machine gets: a block device for the store, and the key that goes with it.

using System;
using System.Globalization;
using System.IO;
using System.Security.Cryptography;
using Microsoft.Win32.SafeHandles;
using Svsm.Diagnostics;
using Svsm.Keys;
using Svsm.Store;

namespace Svsm.Tool;

internal sealed class StoreFile : IBlockDevice, IDisposable
{
    private readonly SafeFileHandle _file;

    private StoreFile(string path, SafeFileHandle file)
    {
        Path = path;
        _file = file;
    }

    public string Path { get; }

    public int SectorSize => 512;

    public long SectorCount => Length / SectorSize;

    /// <summary>Bytes of the file.</summary>
    public long Length => RandomAccess.GetLength(_file);

    /// <summary>What the operating system said when a call failed last.</summary>
    public string LastError { get; private set; } = "";

    public static StoreFile OpenToRead(string path) => Open(path, FileMode.Open, FileAccess.Read);

    public static StoreFile OpenToWrite(string path) => Open(path, FileMode.Open, FileAccess.ReadWrite);

    public static StoreFile Create(string path) => Open(path, FileMode.CreateNew, FileAccess.ReadWrite);

    /// <summary>Reads the key of a store: 32 bytes, 64 hexadecimal digits, or a movable secret, which the key is made of.</summary>
    public static byte[] ReadKey(string path)
    {
        byte[] bytes = ImageFile.Read(path);
        if (bytes.Length == PersistentStore.KeyLength)
        {
            return bytes;
        }

        ReadOnlySpan<byte> digits = bytes.AsSpan().Trim(" \t\r\n"u8);
        byte[] key = new byte[PersistentStore.KeyLength];
        bool isSecret = MovableSecret.IsSecret(bytes);
        bool isKey = MovableSecret.TryMakeKey(bytes, key)
            || (digits.Length == 2 * key.Length && Convert.FromHexString(digits, key, out _, out _) == System.Buffers.OperationStatus.Done);
        CryptographicOperations.ZeroMemory(bytes);
        return isKey ? key : throw SvsmDiagnostics.StoreKeyUnreadable.Error(
            isSecret ? $"'{path}' is a secret that is not movable: the chip has the other half of the key" : string.Create(CultureInfo.InvariantCulture, $"'{path}' has {bytes.Length} bytes"),
            "32 bytes, 64 hexadecimal digits, or a movable secret");
    }

    /// <summary>Opens the store with the key in a file.</summary>
    /// <param name="keyPath">The file with the key.</param>
    /// <param name="readOnly">Nothing is written.</param>
    /// <param name="takesMoved">Also if the store's guest is at another SVSM.</param>
    public PersistentStore OpenStore(string keyPath, bool readOnly, bool takesMoved = false)
    {
        byte[] key = ReadKey(keyPath);
        try
        {
            StoreOpening opening = PersistentStore.Open(this, key, readOnly: readOnly, takesMoved: takesMoved);
            return opening.Store ?? throw Unusable(opening);
        }
        finally
        {
            CryptographicOperations.ZeroMemory(key);
        }
    }

    /// <summary>The message for what opening or surveying a store came to.</summary>
    public static SvsmDiagnostic DiagnosticOf(StoreState state) => state switch
    {
        StoreState.Damaged => SvsmDiagnostics.StoreDamaged,
        StoreState.Truncated => SvsmDiagnostics.StoreTruncated,
        StoreState.Older or StoreState.Forked => SvsmDiagnostics.StoreNotCurrent,
        StoreState.WrongKey => SvsmDiagnostics.StoreKeyWrong,
        StoreState.Moved => SvsmDiagnostics.StoreMoved,
        StoreState.UnknownVersion => SvsmDiagnostics.StoreVersionUnknown,
        StoreState.Fresh or StoreState.DeviceUnusable => SvsmDiagnostics.StoreMissing,
        _ => SvsmDiagnostics.StoreFileFailed,
    };

    /// <summary>The error that there is no store in the file, or none that can be used.</summary>
    public SvsmDiagnosticException Unusable(StoreOpening opening) => Unusable(opening.State, opening.Detail, opening.Block);

    /// <summary>The error that there is no store in the file, or none that can be used.</summary>
    public SvsmDiagnosticException Unusable(StoreState state, string detail, long? block = null) => DiagnosticOf(state).Error(
        $"'{Path}': {(block is long at ? $"block {Units.Number(at)}: " : "")}{detail}{(state == StoreState.DeviceFailed && LastError.Length != 0 ? $": {LastError}" : "")}",
        state switch
        {
            StoreState.WrongKey => "the key with which the store was made",
            StoreState.UnknownVersion => "a store of version 1",
            StoreState.Moved => "a store whose guest is here",
            StoreState.DeviceFailed or StoreState.NoEntropy => "a file that can be read and written",
            _ => "a whole store",
        });

    /// <summary>Changes the length of the file.</summary>
    public void SetLength(long length)
    {
        try
        {
            RandomAccess.SetLength(_file, length);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or ArgumentException)
        {
            throw SvsmDiagnostics.StoreFileFailed.Error($"'{Path}': {e.Message}", $"room for {length.ToString(CultureInfo.InvariantCulture)} bytes", e);
        }
    }

    public bool TryRead(long sector, Span<byte> destination) => Try(
        destination,
        sector * SectorSize,
        static (file, bytes, offset) =>
        {
            while (!bytes.IsEmpty)
            {
                int count = RandomAccess.Read(file, bytes, offset);
                if (count == 0)
                {
                    throw new EndOfStreamException();
                }

                bytes = bytes[count..];
                offset += count;
            }
        });

    public bool TryWrite(long sector, ReadOnlySpan<byte> source) => Try(source, sector * SectorSize, static (file, bytes, offset) => RandomAccess.Write(file, bytes, offset));

    public bool TryFlush() => Try(default(ReadOnlySpan<byte>), 0, static (file, _, _) => RandomAccess.FlushToDisk(file));

    public void Dispose() => _file.Dispose();

    private static StoreFile Open(string path, FileMode mode, FileAccess access)
    {
        try
        {
            return new StoreFile(path, File.OpenHandle(path, mode, access, access == FileAccess.Read ? FileShare.Read : FileShare.None));
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or ArgumentException or NotSupportedException)
        {
            throw SvsmDiagnostics.StoreFileFailed.Error($"'{path}': {e.Message}", "a file that this user can use, and that no running machine has", e);
        }
    }

    private bool Try<T>(T bytes, long offset, Action<SafeFileHandle, T, long> access)
        where T : allows ref struct
    {
        try
        {
            access(_file, bytes, offset);
            return true;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            LastError = e.Message;
            return false;
        }
    }
}
