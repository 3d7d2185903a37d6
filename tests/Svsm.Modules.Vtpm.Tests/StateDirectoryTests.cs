// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.IO;
using Svsm.Modules.Vtpm.Desk;
using Xunit;

namespace Svsm.Modules.Vtpm.Tests;

public sealed class StateDirectoryTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("svsm-state-").FullName;

    private string State => Path.Combine(_folder, "tpm.state");

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public void Read_NothingWritten_IsAbsent()
    {
        using var directory = new StateDirectory(_folder);
        Assert.Equal(TpmStorageResult.Absent, directory.Read(out byte[] content));
        Assert.Empty(content);
    }

    [Fact]
    public void Write_ThenRead_GivesTheLastBlob()
    {
        using (var directory = new StateDirectory(Path.Combine(_folder, "deeper", "still")))
        {
            Assert.Equal(TpmStorageResult.Done, directory.Write([1, 2, 3]));
            Assert.Equal(TpmStorageResult.Done, directory.Write([4, 5]));
        }

        using var again = new StateDirectory(Path.Combine(_folder, "deeper", "still"));
        Assert.Equal(TpmStorageResult.Done, again.Read(out byte[] content));
        Assert.Equal([4, 5], content);
    }

    // Whoever may write into the folder does not make the program write elsewhere.
    [Fact]
    public void Write_SymbolicLink_IsNotFollowed()
    {
        if (OperatingSystem.IsWindows())
        {
            return;
        }

        string other = Path.Combine(_folder, "other");
        File.WriteAllBytes(other, [9]);
        using var directory = new StateDirectory(Path.Combine(_folder, "state"));
        foreach (string name in (string[])["tpm.state.new", "tpm.state"])
        {
            File.CreateSymbolicLink(Path.Combine(_folder, "state", name), other);
            Assert.Equal(TpmStorageResult.Done, directory.Write([1, 2]));
            Assert.Equal([9], File.ReadAllBytes(other));
            Assert.Equal(TpmStorageResult.Done, directory.Read(out byte[] content));
            Assert.Equal([1, 2], content);
            File.Delete(Path.Combine(_folder, "state", "tpm.state"));
        }
    }

    [Fact]
    public void Read_EveryByteChangedOrCutOff_Fails()
    {
        using var directory = new StateDirectory(_folder);
        directory.Write([1, 2, 3, 4]);
        byte[] file = File.ReadAllBytes(State);
        for (int i = 0; i < file.Length; i++)
        {
            byte[] damaged = (byte[])file.Clone();
            damaged[i] ^= 0x10;
            File.WriteAllBytes(State, damaged);
            Assert.Equal(TpmStorageResult.Failed, directory.Read(out byte[] content));
            Assert.Empty(content);
            File.WriteAllBytes(State, file[..i]);
            Assert.Equal(TpmStorageResult.Failed, directory.Read(out _));
        }

        File.WriteAllBytes(State, new byte[(1 << 20) + 1]);
        Assert.Equal(TpmStorageResult.Failed, directory.Read(out _));
    }

    [Fact]
    public void Read_HalfWrittenSuccessor_GivesTheOldBlob()
    {
        using var directory = new StateDirectory(_folder);
        directory.Write([1, 2, 3, 4]);
        File.WriteAllBytes(State + ".new", [0x53, 0x56]);
        Assert.Equal(TpmStorageResult.Done, directory.Read(out byte[] content));
        Assert.Equal([1, 2, 3, 4], content);
        Assert.Equal(TpmStorageResult.Done, directory.Write([5]));
        Assert.False(File.Exists(State + ".new"));
    }

    [Fact]
    public void Write_FolderGone_Fails()
    {
        string folder = Path.Combine(_folder, "gone");
        using var directory = new StateDirectory(folder);
        Directory.Delete(folder, recursive: true);
        Assert.Equal(TpmStorageResult.Failed, directory.Write([1]));
    }

    [Fact]
    public void Constructor_SecondProcess_IsRefused()
    {
        using var directory = new StateDirectory(_folder);
        Assert.ThrowsAny<IOException>(() => new StateDirectory(_folder));
    }

    [Fact]
    public void TryOpen_DamagedState_MakesNoSeeds()
    {
        var desk = new DeskPlatform();
        using var directory = new StateDirectory(_folder);
        var platform = new TpmPlatform(desk, desk, directory);
        Assert.Equal(TpmOpenResult.NotManufactured, Tpm.TryOpen(platform, out _));
        Assert.Equal(TpmOpenResult.Done, Tpm.TryManufacture(platform, out _));
        Assert.Equal(TpmOpenResult.AlreadyManufactured, Tpm.TryManufacture(platform, out _));
        byte[] file = File.ReadAllBytes(State);
        file[^1] ^= 1;
        File.WriteAllBytes(State, file);
        Assert.Equal(TpmOpenResult.StorageFailed, Tpm.TryOpen(platform, out _));
        Assert.Equal(TpmOpenResult.StorageFailed, Tpm.TryManufacture(platform, out _));
        Assert.Equal(file, File.ReadAllBytes(State));
    }
}
