// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Linq;
using System.Text;
using Svsm.Kernel.Guest;
using Svsm.Kernel.Memory;
using Svsm.Kernel.Processes;
using Svsm.Wire;
using Xunit;

namespace Svsm.Kernel.Tests;

public sealed class SystemCallsTests
{
    private const ulong Read = 0;
    private const ulong Write = 1;
    private const ulong Close = 3;
    private const ulong Seek = 8;
    private const ulong Map = 9;
    private const ulong Protect = 10;
    private const ulong Unmap = 11;
    private const ulong SetAction = 13;
    private const ulong PRead = 17;
    private const ulong PWrite = 18;
    private const ulong Advise = 28;
    private const ulong Clone = 56;
    private const ulong ArchPrctl = 158;
    private const ulong Futex = 202;
    private const ulong GetAffinity = 204;
    private const ulong GetTime = 228;
    private const ulong Sleep = 230;
    private const ulong OpenAt = 257;
    private const ulong Stat = 262;
    private const ulong StatPath = 4;
    private const ulong StatFile = 5;
    private const ulong StatLink = 6;
    private const ulong Limit = 302;
    private const ulong GetRandom = 318;
    private const ulong Barrier = 324;

    private const long NotPermitted = -1;
    private const long NoFile = -2;
    private const long Input = -5;
    private const long BadDescriptor = -9;
    private const long Again = -11;
    private const long NoMemory = -12;
    private const long NotAllowed = -13;
    private const long Fault = -14;
    private const long Invalid = -22;
    private const long TooManyFiles = -24;
    private const long NoSeek = -29;
    private const long ReadOnly = -30;
    private const long NameTooLong = -36;
    private const long NoCall = -38;
    private const long TimedOut = -110;
    private const long NoKey = -126;

    private const ulong Anonymous = 0x22;
    private const ulong Requests = 3;
    private const ulong Answers = 4;
    private const ulong Guest = 5;
    private const ulong SecurityProcessor = 6;
    private const ulong Services = 7;
    private const ulong Store = 8;
    private const ulong Keys = 9;
    private const ulong Disks = 10;
    private const ulong Move = 11;
    private const ulong FirstFile = 12;
    private const ulong DiskMemory = 0x10_0000;
    private const ulong DiskMemoryAddress = 0x20_0000;
    private const ulong Nowhere = 0x40_3000;
    private const ulong Text = 0x40_1000;
    private const ulong CurrentFolder = 0xFFFF_FF9C;

    private readonly TestProcess _process = new();

    private ulong Buffer => _process.Buffer;

    private ulong BufferEnd => Buffer + (2 * Page.Size);

    [Theory]
    [InlineData(2ul)]
    [InlineData(12ul)]
    [InlineData(57ul)]
    [InlineData(59ul)]
    [InlineData(435ul)]
    [InlineData(511ul)]
    [InlineData(0x1_0000_0001ul)]
    [InlineData(ulong.MaxValue)]
    public void Handle_NumberThatIsNone_IsCounted(ulong number)
    {
        Assert.Equal(NoCall, _process.Call(number));
        Assert.Equal(1ul, _process.Process.UnknownCalls);
    }

    [Fact]
    public void Read_Request_InOnePiece()
    {
        Give();
        Assert.Equal(64, _process.Call(Read, Requests, Buffer, 200));
        Assert.Equal(Request, _process.Read<ModuleMessage>(Buffer));
    }

    [Fact]
    public void Read_Request_InPiecesAcrossPages()
    {
        Give();
        ulong at = Buffer + Page.Size - 10;
        foreach (int length in (int[])[1, 9, 30, 24])
        {
            Assert.Equal(length, _process.Call(Read, 0xABCD_0000_0000_0003, at, (ulong)length));
            at += (ulong)length;
        }

        Assert.Equal(Request, _process.Read<ModuleMessage>(Buffer + Page.Size - 10));
        Assert.Equal(0, _process.Call(Read, Requests, Buffer, 0));
    }

    // The call is made again when there is a request: RIP is at SYSCALL, RAX still the number.
    [Fact]
    public void Read_NoRequest_WaitsForOne()
    {
        ulong rip = _process.Registers.Rip;
        Assert.Equal(CallResult.NoRequest, _process.Serve(Read, Requests, Buffer, 64));
        Assert.Equal((rip - 2, Read), (_process.Registers.Rip, _process.Registers.Rax));
        Give();
        Assert.Equal(64, _process.Call(Read, Requests, Buffer, 64));
        Assert.Equal(CallResult.NoRequest, _process.Serve(Read, Requests, Buffer, 1));
    }

    [Theory]
    [InlineData(Nowhere)]
    [InlineData(Text)]
    [InlineData(ulong.MaxValue)]
    public void Read_RequestToABadAddress_IsNotLost(ulong address)
    {
        Give();
        Assert.Equal(Fault, _process.Call(Read, Requests, address, 64));
        Assert.Equal(Fault, _process.Call(Read, Requests, BufferEnd - 63, 64));
        Assert.Equal(64, _process.Call(Read, Requests, Buffer, ulong.MaxValue));
        Assert.Equal(Request, _process.Read<ModuleMessage>(Buffer));
    }

    [Fact]
    public void Write_Answer_InOnePiece()
    {
        Take();
        _process.Write(Buffer, Answer);
        Assert.Equal(CallResult.Answered, _process.Serve(Write, Answers, Buffer, 64));
        Assert.Equal((64ul, false, ProcessEnd.None), (_process.Registers.Rax, _process.Process.HasRequest, _process.Process.Reason));
        Assert.Equal(Answer, _process.Process.Answer);
        Assert.Equal(CallResult.NoRequest, _process.Serve(Read, Requests, Buffer, 64));
    }

    [Fact]
    public void Write_Answer_InPieces()
    {
        Take();
        _process.Write(Buffer, Answer);
        Assert.Equal(0, _process.Call(Write, Answers, Buffer, 0));
        Assert.Equal(63, _process.Call(Write, Answers, Buffer, 63));
        Assert.Equal(0, _process.Call(Write, Answers, 0, 0));
        Assert.Equal(Fault, _process.Call(Write, Answers, Nowhere, 1));
        Assert.Equal(CallResult.Answered, _process.Serve(Write, Answers, Buffer + 63, 1));
        Assert.Equal(Answer, _process.Process.Answer);

        // The next one begins anew.
        Take();
        Assert.Equal(CallResult.Answered, _process.Serve(Write, Answers, Buffer, 64));
    }

    [Theory]
    [InlineData(65ul)]
    [InlineData(0x1_0000_0000ul)]
    [InlineData(ulong.MaxValue)]
    public void Write_AnswerThatIsTooLong_IsTheEnd(ulong length)
    {
        Take();
        Assert.Equal(CallResult.Ended, _process.Serve(Write, Answers, Buffer, length));
        Assert.Equal(ProcessEnd.BadChannel, _process.Process.Reason);
    }

    [Fact]
    public void Write_AnswerWithoutRequest_IsTheEnd()
    {
        Assert.Equal(CallResult.Ended, _process.Serve(Write, Answers, Buffer, 64));
        Assert.Equal(ProcessEnd.BadChannel, _process.Process.Reason);
    }

    [Fact]
    public void Write_AnswerToARequestReadInPart_IsTheEnd()
    {
        Give();
        Assert.Equal(63, _process.Call(Read, Requests, Buffer, 63));
        Assert.Equal(CallResult.Ended, _process.Serve(Write, Answers, Buffer, 64));
        Assert.Equal(ProcessEnd.BadChannel, _process.Process.Reason);
    }

    [Fact]
    public void Write_SecondAnswer_IsTheEnd()
    {
        Take();
        _process.Write(Buffer, Answer);
        Assert.Equal(CallResult.Answered, _process.Serve(Write, Answers, Buffer, 64));
        Assert.Equal(CallResult.Ended, _process.Serve(Write, Answers, Buffer, 64));
        Assert.Equal(ProcessEnd.BadChannel, _process.Process.Reason);
    }

    [Theory]
    [InlineData(ModuleMessageKind.Reset, 7ul, 0u)]
    [InlineData(ModuleMessageKind.Call, 6ul, 0u)]
    [InlineData(ModuleMessageKind.Call, 7ul, 1u)]
    public void Write_AnswerOfAnotherRequest_IsTheEnd(ModuleMessageKind kind, ulong sequence, uint payload)
    {
        Take();
        _process.Write(Buffer, Answer with { Kind = kind, Sequence = sequence, PayloadSize = payload });
        Assert.Equal(CallResult.Ended, _process.Serve(Write, Answers, Buffer, 64));
        Assert.Equal((ProcessEnd.BadChannel, true), (_process.Process.Reason, _process.Process.HasRequest));
    }

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(5000)]
    [InlineData(ModuleMessage.MaxPayload)]
    public void Write_Manifest_InPiecesOfAnyLength(int length)
    {
        byte[] payload = new byte[length];
        new Random(length).NextBytes(payload);
        ulong source = _process.Map(18);
        foreach (int piece in (int[])[1, 63, 64, 65, 4096, 0x1_0040])
        {
            TakeManifest();
            _process.Write(source, ManifestAnswer(length));
            _process.Write(source + 64, payload);
            int whole = 64 + length;
            CallResult result = CallResult.Done;
            for (int at = 0; at < whole; at += piece)
            {
                Assert.Equal(CallResult.Done, result);
                result = _process.Serve(Write, Answers, source + (ulong)at, (ulong)Math.Min(piece, whole - at));
                Assert.Equal((ulong)Math.Min(piece, whole - at), _process.Registers.Rax);
            }

            Assert.Equal((CallResult.Answered, false), (result, _process.Process.HasRequest));
            Assert.Equal(payload, _process.Platform.AnswerRoom);
        }
    }

    [Theory]
    [InlineData(ModuleMessage.MaxPayload + 1, 64)]
    [InlineData(int.MaxValue, 64)]
    [InlineData(-1, 64)]
    [InlineData(10, 75)]
    [InlineData(0, 65)]
    public void Write_ManifestThatIsTooLong_IsTheEnd(int size, ulong length)
    {
        TakeManifest();
        _process.Write(Buffer, ManifestAnswer(size));
        Assert.Equal(CallResult.Ended, _process.Serve(Write, Answers, Buffer, length));
        Assert.Equal(ProcessEnd.BadChannel, _process.Process.Reason);
    }

    [Fact]
    public void Write_ManifestFromABadAddress_IsNotLost()
    {
        TakeManifest();
        _process.Write(BufferEnd - 68, ManifestAnswer(8));
        _process.Write(BufferEnd - 4, [1, 2, 3, 4]);

        // The head is there, what follows is not.
        Assert.Equal(64, _process.Call(Write, Answers, BufferEnd - 68, 72));
        Assert.Equal(Fault, _process.Call(Write, Answers, Nowhere, 4));
        Assert.Equal(4, _process.Call(Write, Answers, BufferEnd - 4, 4));
        Assert.Equal(CallResult.Answered, _process.Serve(Write, Answers, BufferEnd - 4, 4));
        Assert.Equal([1, 2, 3, 4, 1, 2, 3, 4], _process.Platform.AnswerRoom);
    }

    // The answer is taken, and whoever asked is told that there is none.
    [Fact]
    public void Write_ManifestWithoutRoomForIt_HasFailed()
    {
        TakeManifest();
        _process.Platform.HasNoRoom = true;
        _process.Write(Buffer, ManifestAnswer(100));
        Assert.Equal(64, _process.Call(Write, Answers, Buffer, 64));
        Assert.Equal(60, _process.Call(Write, Answers, Nowhere, 60));
        Assert.Equal(CallResult.Answered, _process.Serve(Write, Answers, Buffer, 40));
        Assert.Equal(((ulong)SvsmResultCode.InvalidRequest, 0u, false), (_process.Process.Answer.Result, _process.Process.Answer.PayloadSize, _process.Process.HasRequest));
        _process.Platform.HasNoRoom = false;
        TakeManifest();
        _process.Write(Buffer, ManifestAnswer(3));
        Assert.Equal(CallResult.Answered, _process.Serve(Write, Answers, Buffer, 67));
        Assert.Equal(3u, _process.Process.Answer.PayloadSize);
    }

    [Theory]
    [InlineData(ModulePermissions.None)]
    [InlineData(ModulePermissions.ReadGuest | ModulePermissions.WriteGuest)]
    public void Attest_WithoutPermission_NothingIsThere(ModulePermissions permissions)
    {
        _process.Process.Permissions = permissions;
        foreach (ulong offset in (ulong[])[0, 0x1000, 0x2000, 0x3000, 0x4000, 0x8000, 1ul << 62, 1ul << 32])
        {
            Assert.Equal(NotPermitted, _process.Call(PRead, SecurityProcessor, Buffer, 64, offset));
            Assert.Equal(NotPermitted, _process.Call(PRead, Services, Buffer, 64, offset));
            Assert.Equal(NotPermitted, _process.Call(PWrite, SecurityProcessor, Buffer, 4096, offset));
            Assert.Equal(BadDescriptor, _process.Call(PWrite, Services, Buffer, 4096, offset));
        }

        Assert.Empty(_process.Platform.Sent);
        Assert.True(((ReadOnlySpan<byte>)_process.Platform.Key).IndexOfAnyExcept((byte)0) >= 0);
    }

    [Fact]
    public void SecurityProcessor_Exchange()
    {
        Attest();
        Assert.Equal(64, _process.Call(PRead, SecurityProcessor, Buffer, 100, 0));
        var state = _process.Read<SecurityProcessorState>(Buffer);
        Assert.Equal((1ul, SecurityProcessorFlags.HasKey), (state.Sequence, state.Flags));
        Assert.True(((ReadOnlySpan<byte>)state.Key).IndexOfAnyExcept((byte)0x5A) < 0);

        byte[] request = new byte[4096];
        request[0x20] = 1;
        request[0x60] = 0x77;
        _process.Write(Buffer, request);
        Assert.Equal(4096, _process.Call(PWrite, SecurityProcessor, Buffer, 4096, 0x2000));
        Assert.Equal(4096, _process.Call(PRead, SecurityProcessor, Buffer + 4096, 4096, 0x3000));
        Assert.Equal([.. request.Select(part => (byte)~part)], _process.Read(Buffer + 4096, 4096));
        Assert.Equal(4096, _process.Call(PRead, SecurityProcessor, Buffer + 4096, 5000, 0x1000));
        Assert.Equal(request, _process.Read(Buffer + 4096, 4096));
        Assert.Equal(8000, _process.Call(PRead, SecurityProcessor, Buffer, 8000, 0x8000));
        Assert.Equal(0xCE, _process.Read(Buffer + 7999, 1)[0]);
        Assert.Equal(1, _process.Call(PWrite, SecurityProcessor, Buffer, 1, 0x4000));
        Assert.Equal(NoKey, _process.Call(PWrite, SecurityProcessor, Buffer, 4096, 0x1000));
    }

    [Fact]
    public void SecurityProcessor_BadCalls_SendNothing()
    {
        Attest();
        Assert.Equal(Invalid, _process.Call(PWrite, SecurityProcessor, Buffer, 4095, 0x1000));
        Assert.Equal(Invalid, _process.Call(PWrite, SecurityProcessor, Buffer, 4097, 0x1000));
        Assert.Equal(Invalid, _process.Call(PWrite, SecurityProcessor, Buffer, 4096, 0));
        Assert.Equal(Invalid, _process.Call(PWrite, SecurityProcessor, Buffer, 4096, 0x3000));
        Assert.Equal(Invalid, _process.Call(PWrite, SecurityProcessor, Buffer, 4096, 0x1000));
        Assert.Equal(Fault, _process.Call(PWrite, SecurityProcessor, BufferEnd - 4095, 4096, 0x1000));
        Assert.Equal(Fault, _process.Call(PRead, SecurityProcessor, Nowhere, 64, 0));
        Assert.Equal(0, _process.Call(PRead, SecurityProcessor, Buffer, 64, 0x1001));
        Assert.Equal(0, _process.Call(PRead, SecurityProcessor, Buffer, 64, ulong.MaxValue));
        Assert.Equal(0, _process.Call(PRead, SecurityProcessor, Buffer, 64, 0x8000));
        Assert.Empty(_process.Platform.Sent);
    }

    [Theory]
    [InlineData(2ul << 32, Again)]
    [InlineData(5ul, Input)]
    public void SecurityProcessor_HostThatDoesNot_IsAnError(ulong word, long error)
    {
        Attest();
        _process.Platform.Host = _ => word;
        byte[] request = new byte[4096];
        request[0x20] = 1;
        _process.Write(Buffer, request);
        Assert.Equal(error, _process.Call(PWrite, SecurityProcessor, Buffer, 4096, 0x1000));
    }

    [Fact]
    public void Services_List()
    {
        Attest();
        Assert.Equal(0, _process.Call(PRead, Services, Buffer, 4096, 1ul << 62));
        _process.Platform.Services.Add(new ServiceEntry { Index = 3, Protocol = (SvsmProtocol)2 });
        _process.Platform.Services.Add(new ServiceEntry { Index = 4, Protocol = (SvsmProtocol)4 });
        Assert.Equal(64, _process.Call(PRead, Services, Buffer, 4096, 1ul << 62));
        Assert.Equal(4u, _process.Read<ServiceEntry>(Buffer + 32).Index);
        Assert.Equal(32, _process.Call(PRead, Services, Buffer, 63, 1ul << 62));
        Assert.Equal(Fault, _process.Call(PRead, Services, Nowhere, 64, 1ul << 62));
    }

    [Fact]
    public void Services_Manifest_IsWaitedFor()
    {
        Attest();
        ulong rip = _process.Registers.Rip;
        Assert.Equal(CallResult.Waits, _process.Serve(PRead, Services, Buffer, 4096, (3ul << 32) | 7));
        Assert.Equal((rip - 2, PRead), (_process.Registers.Rip, _process.Registers.Rax));
        Assert.Equal((3u, 7u), _process.Platform.Asked);
        (_process.Platform.Manifest, _process.Platform.ManifestBytes) = (InternalState.Ready, [1, 2, 3]);
        Assert.Equal(3, _process.Call(PRead, Services, Buffer, 4096, (3ul << 32) | 7));
        Assert.Equal([1, 2, 3, 0], _process.Read(Buffer, 4));
        Assert.Null(_process.Platform.Asked);
        Assert.Equal(Invalid, _process.Call(PRead, Services, Buffer, 2, (3ul << 32) | 7));
        Assert.Equal(Fault, _process.Call(PRead, Services, Nowhere, 4096, (3ul << 32) | 7));
        Assert.Null(_process.Platform.Asked);
    }

    [Theory]
    [InlineData(InternalState.NotFound, NoFile)]
    [InlineData(InternalState.Failed, Input)]
    internal void Services_ManifestThatIsNotThere_IsAnError(InternalState state, long error)
    {
        Attest();
        _process.Platform.Manifest = state;
        Assert.Equal(error, _process.Call(PRead, Services, Buffer, 4096, 1ul << 32));
        Assert.Null(_process.Platform.Asked);
        Assert.Equal(NoFile, _process.Call(PRead, Services, Buffer, 4096, 32ul << 32));
        Assert.Equal(NoFile, _process.Call(PRead, Services, Buffer, 4096, ulong.MaxValue));
    }

    [Fact]
    public unsafe void Read_RequestWithContents_InPieces()
    {
        byte[] contents = GC.AllocateArray<byte>(5000, pinned: true);
        new Random(1).NextBytes(contents);
        ModuleMessage request = Request with { Kind = ModuleMessageKind.Store, PayloadSize = 5000 };
        _process.Process.Give(in request, (byte*)System.Runtime.CompilerServices.Unsafe.AsPointer(ref contents[0]), 0);
        Assert.Equal(64, _process.Call(Read, Requests, Buffer, 8192));
        Assert.Equal(request, _process.Read<ModuleMessage>(Buffer));

        // An answer before all of it is read is none.
        Assert.Equal(4999, _process.Call(Read, Requests, Buffer, 4999));
        Assert.Equal(contents[..4999], _process.Read(Buffer, 4999));
        Assert.Equal(Fault, _process.Call(Read, Requests, Nowhere, 1));
        Assert.Equal(1, _process.Call(Read, Requests, Buffer, 100));
        Assert.Equal(contents[4999], _process.Read(Buffer, 1)[0]);
        Assert.Equal(CallResult.NoRequest, _process.Serve(Read, Requests, Buffer, 1));
        _process.Write(Buffer, new ModuleMessage { Kind = ModuleMessageKind.Store, Sequence = 7 });
        Assert.Equal(CallResult.Answered, _process.Serve(Write, Answers, Buffer, 64));
    }

    [Fact]
    public unsafe void Write_AnswerToContentsReadInPart_IsTheEnd()
    {
        byte[] contents = GC.AllocateArray<byte>(10, pinned: true);
        ModuleMessage request = Request with { Kind = ModuleMessageKind.Store, PayloadSize = 10 };
        _process.Process.Give(in request, (byte*)System.Runtime.CompilerServices.Unsafe.AsPointer(ref contents[0]), 0);
        Assert.Equal(64, _process.Call(Read, Requests, Buffer, 64));
        Assert.Equal(9, _process.Call(Read, Requests, Buffer, 9));
        Assert.Equal(CallResult.Ended, _process.Serve(Write, Answers, Buffer, 64));
        Assert.Equal(ProcessEnd.BadChannel, _process.Process.Reason);
    }

    [Theory]
    [InlineData(Store, ModulePermissions.KeepStore)]
    [InlineData(Store, ModulePermissions.Migrate)]
    [InlineData(Store, ModulePermissions.Attest)]
    [InlineData(Keys, ModulePermissions.Store)]
    [InlineData(Keys, ModulePermissions.Attest)]
    public void Peers_WithoutPermission_AreNotAsked(ulong descriptor, ModulePermissions permissions)
    {
        _process.Process.Permissions = permissions;
        Assert.Equal(NotPermitted, _process.Call(PWrite, descriptor, Buffer, 10, 0));
        Assert.Equal(NotPermitted, _process.Call(PRead, descriptor, Buffer, 10, 0));
        Assert.Empty(_process.Platform.Requests);
    }

    [Theory]
    [InlineData(Store, ModulePermissions.Store, ModuleMessageKind.Store)]
    [InlineData(Keys, ModulePermissions.KeepStore, ModuleMessageKind.Key)]
    [InlineData(Keys, ModulePermissions.Migrate, ModuleMessageKind.Key)]
    public void Peers_RequestAndAnswer(ulong descriptor, ModulePermissions permissions, ModuleMessageKind kind)
    {
        _process.Process.Permissions = permissions;
        _process.Write(Buffer, [1, 2, 3]);
        Assert.Equal(Invalid, _process.Call(PRead, descriptor, Buffer, 10, 0));
        Assert.Equal(3, _process.Call(PWrite, descriptor, Buffer, 3, 0));
        Assert.Equal((kind, "010203"), (_process.Platform.Requests[0].Kind, Convert.ToHexString(_process.Platform.Requests[0].Request)));
        ulong rip = _process.Registers.Rip;
        Assert.Equal(CallResult.Waits, _process.Serve(PRead, descriptor, Buffer, 10, 0));
        Assert.Equal((rip - 2, PRead), (_process.Registers.Rip, _process.Registers.Rax));
        (_process.Platform.Peer, _process.Platform.PeerAnswer) = (InternalState.Ready, [9, 8]);
        Assert.Equal(2, _process.Call(PRead, descriptor, Buffer, 10, 0));
        Assert.Equal([9, 8, 3], _process.Read(Buffer, 3));
        Assert.Equal(Invalid, _process.Call(PRead, descriptor, Buffer, 1, 0));
        Assert.Equal(Fault, _process.Call(PRead, descriptor, Nowhere, 10, 0));
        Assert.Equal(Invalid, _process.Call(PRead, descriptor, Buffer, 10, 1));
        _process.Platform.Peer = InternalState.Failed;
        Assert.Equal(Input, _process.Call(PRead, descriptor, Buffer, 10, 0));
    }

    [Fact]
    public void Peers_BadRequests_AreNotSent()
    {
        _process.Process.Permissions = ModulePermissions.Store;
        Assert.Equal(Invalid, _process.Call(PWrite, Store, Buffer, 0x1_0001, 0));
        Assert.Equal(Invalid, _process.Call(PWrite, Store, Buffer, ulong.MaxValue, 0));
        Assert.Equal(Invalid, _process.Call(PWrite, Store, Buffer, 3, 1));
        Assert.Equal(Fault, _process.Call(PWrite, Store, Nowhere, 3, 0));
        Assert.Null(_process.Platform.Begun);
        _process.Platform.Peer = InternalState.NotFound;
        Assert.Equal(NoFile, _process.Call(PWrite, Store, Buffer, 3, 0));
        _process.Platform.Peer = InternalState.Failed;
        Assert.Equal(Input, _process.Call(PWrite, Store, Buffer, 3, 0));
        _process.Platform.HasNoRoom = true;
        Assert.Equal(NoMemory, _process.Call(PWrite, Store, Buffer, 3, 0));
        _process.Platform.HasNoRoom = false;
        Assert.Empty(_process.Platform.Requests);
        _process.Platform.Peer = InternalState.Pending;
        Assert.Equal(0, _process.Call(PWrite, Store, Nowhere, 0, 0));
        Assert.Empty(Assert.Single(_process.Platform.Requests).Request);
    }

    [Theory]
    [InlineData(ModulePermissions.Store)]
    [InlineData(ModulePermissions.Attest | ModulePermissions.ReadGuest | ModulePermissions.WriteGuest)]
    public void Disks_WithoutPermission_AreNotThere(ModulePermissions permissions)
    {
        _process.Process.Permissions = permissions;
        _process.Platform.Registers[0] = 5;
        foreach (ulong offset in (ulong[])[0, DiskMemory, DiskMemoryAddress])
        {
            Assert.Equal(NotPermitted, _process.Call(PRead, Disks, Buffer, 4, offset));
            Assert.Equal(NotPermitted, _process.Call(PWrite, Disks, Buffer, 4, offset));
        }

        Assert.Equal(5u, _process.Platform.Registers[0]);
    }

    [Fact]
    public void Disks_RegistersAndMemory()
    {
        _process.Process.Permissions = ModulePermissions.KeepStore;
        _process.Platform.Registers[0] = 0x7472_6976;
        _process.Platform.Registers[0x3FFC] = 1;
        Assert.Equal(4, _process.Call(PRead, Disks, Buffer, 4, 0));
        Assert.Equal(0x7472_6976u, _process.Read<uint>(Buffer));
        Assert.Equal(4, _process.Call(PWrite, Disks, Buffer, 4, 0x3FFC));
        Assert.Equal(0x7472_6976u, _process.Platform.Registers[0x3FFC]);
        Assert.Equal(8, _process.Call(PRead, Disks, Buffer, 8, DiskMemoryAddress));
        Assert.Equal(0x5_4321_0000ul, _process.Read<ulong>(Buffer));

        _process.Write(Buffer, TestArchive.NoteContents);
        Assert.Equal(5000, _process.Call(PWrite, Disks, Buffer, 5000, DiskMemory + 0x1_0000 - 5000));
        Assert.Equal(TestArchive.NoteContents, _process.Platform.Disk[^5000..]);
        _process.Platform.Disk[100] = 77;
        Assert.Equal(600, _process.Call(PRead, Disks, Buffer, 600, DiskMemory + 50));
        Assert.Equal(77, _process.Read(Buffer + 50, 1)[0]);
        Assert.Equal(0, _process.Call(PRead, Disks, Buffer, 0, DiskMemory + 0x1_0000));
    }

    [Fact]
    public void Disks_BadAccesses_AreErrors()
    {
        _process.Process.Permissions = ModulePermissions.KeepStore;
        _process.Platform.Registers[0] = 9;
        foreach ((ulong offset, ulong length) in ((ulong, ulong)[])[
            (0, 3), (0, 8), (2, 4), (0x4000, 4), (DiskMemory - 4, 4), (DiskMemory, 0x1_0001), (DiskMemory + 0x1_0000, 1), (DiskMemory + 0x1_0004, 4), (DiskMemoryAddress, 4),
            (DiskMemoryAddress, 16), (ulong.MaxValue - 3, 4), (ulong.MaxValue, 1), (DiskMemory, ulong.MaxValue)])
        {
            Assert.Equal(Invalid, _process.Call(PRead, Disks, Buffer, length, offset));
            Assert.Equal(Invalid, _process.Call(PWrite, Disks, Buffer, length, offset));
        }

        Assert.Equal(Invalid, _process.Call(PWrite, Disks, Buffer, 8, DiskMemoryAddress));
        Assert.Equal(Fault, _process.Call(PRead, Disks, Nowhere, 4, 0));
        Assert.Equal(Fault, _process.Call(PWrite, Disks, Nowhere, 4, 0));
        Assert.Equal(Fault, _process.Call(PRead, Disks, Nowhere, 8, DiskMemoryAddress));
        Assert.Equal(Fault, _process.Call(PWrite, Disks, BufferEnd - 8, 16, DiskMemory));
        Assert.Equal(9u, _process.Platform.Registers[0]);

        // What the host left behind does not reach the process.
        _process.Write(Buffer, 0x1234u);
        Assert.Equal(Input, _process.Call(PRead, Disks, Buffer, 4, 4));
        Assert.Equal(Input, _process.Call(PWrite, Disks, Buffer, 4, 4));
        Assert.Equal(0x1234u, _process.Read<uint>(Buffer));
    }

    // The module that moves the guest has its channel in place of disks, and memory of its own.
    [Fact]
    public void Disks_OfTheModuleThatMoves_AreItsChannel()
    {
        _process.Process.Permissions = ModulePermissions.Migrate;
        _process.Platform.Registers[0x4000] = 0x7472_6976;
        _process.Platform.Registers[0x5FFC] = 1;
        _process.Platform.Registers[0] = 9;
        Assert.Equal(4, _process.Call(PRead, Disks, Buffer, 4, 0));
        Assert.Equal(0x7472_6976u, _process.Read<uint>(Buffer));
        Assert.Equal(4, _process.Call(PWrite, Disks, Buffer, 4, 0x1FFC));
        Assert.Equal(0x7472_6976u, _process.Platform.Registers[0x5FFC]);
        Assert.Equal(Invalid, _process.Call(PRead, Disks, Buffer, 4, 0x2000));
        Assert.Equal(8, _process.Call(PRead, Disks, Buffer, 8, DiskMemoryAddress));
        Assert.Equal(0x5_4322_0000ul, _process.Read<ulong>(Buffer));
        _process.Platform.Channel[7] = 7;
        Assert.Equal(8, _process.Call(PRead, Disks, Buffer, 8, DiskMemory));
        Assert.Equal(7, _process.Read(Buffer, 8)[7]);
    }

    [Theory]
    [InlineData(ModulePermissions.KeepStore)]
    [InlineData(ModulePermissions.Attest | ModulePermissions.ReadGuest | ModulePermissions.WriteGuest)]
    [InlineData(ModulePermissions.Store)]
    public void Move_WithoutPermission_IsNotThere(ModulePermissions permissions)
    {
        _process.Process.Permissions = permissions;
        for (MoveArea area = 0; area <= (MoveArea)0x7F; area++)
        {
            Assert.Equal(NotPermitted, _process.Call(PRead, Move, Buffer, 4, (ulong)MoveOffset.Of(area, 0)));
            Assert.Equal(NotPermitted, _process.Call(PWrite, Move, Buffer, 4, (ulong)MoveOffset.Of(area, 0)));
        }

        Assert.Empty(_process.Platform.Moves);
    }

    [Fact]
    public void Move_PagesGoOneByOne_OthersAtOnce()
    {
        _process.Process.Permissions = ModulePermissions.Migrate;
        Assert.Equal(0x2000, _process.Call(PRead, Move, Buffer, 0x2000, (ulong)MoveOffset.Of(MoveArea.Pages, 0x1_2000)));
        Assert.Equal([0x1_2000ul, 0x1_3000], _process.Platform.Moves.Select(move => move.Where));
        Assert.Equal((0x12, 0x13), (_process.Read(Buffer, 1)[0], _process.Read(Buffer + 0x1000, 1)[0]));

        _process.Platform.Moves.Clear();
        _process.Write(Buffer, [1, 2, 3, 4]);
        Assert.Equal(4, _process.Call(PWrite, Move, Buffer, 4, (ulong)MoveOffset.Of(MoveArea.Control, 0)));
        (bool isWrite, MoveArea area, ulong where, byte[] bytes) = Assert.Single(_process.Platform.Moves);
        Assert.Equal((true, MoveArea.Control, 0ul, "01020304"), (isWrite, area, where, Convert.ToHexString(bytes)));

        // What is shorter than asked for is what there is.
        _process.Platform.MoveBytes = 64;
        Assert.Equal(64, _process.Call(PRead, Move, Buffer, 4096, (ulong)MoveOffset.Of(MoveArea.Information, 0)));
    }

    [Fact]
    public void Move_BadAccesses_AreErrors()
    {
        _process.Process.Permissions = ModulePermissions.Migrate;
        Assert.Equal(Invalid, _process.Call(PRead, Move, Buffer, 0x1001, (ulong)MoveOffset.Of(MoveArea.States, 0)));
        Assert.Equal(Invalid, _process.Call(PWrite, Move, Buffer, ModuleDescriptor.MaxTransfer + 1, (ulong)MoveOffset.Of(MoveArea.Pages, 0)));
        Assert.Equal(Invalid, _process.Call(PWrite, Move, Buffer, ulong.MaxValue, (ulong)MoveOffset.Of(MoveArea.Pages, 0)));
        Assert.Empty(_process.Platform.Moves);
        Assert.Equal(Fault, _process.Call(PWrite, Move, Nowhere, 4096, (ulong)MoveOffset.Of(MoveArea.Pages, 0)));
        Assert.Empty(_process.Platform.Moves);
        Assert.Equal(Fault, _process.Call(PRead, Move, Nowhere, 4096, (ulong)MoveOffset.Of(MoveArea.Pages, 0)));
        foreach ((MoveResult result, long error) in ((MoveResult, long)[])[(MoveResult.Again, -11), (MoveResult.Invalid, Invalid), (MoveResult.Fault, Fault), (MoveResult.NoMemory, NoMemory), (MoveResult.NotOffered, -38)])
        {
            _process.Platform.MoveResult = result;
            Assert.Equal(error, _process.Call(PRead, Move, Buffer, 8, 0));
            Assert.Equal(error, _process.Call(PWrite, Move, Buffer, 8, 0));
        }
    }

    [Fact]
    public void Move_RequestToAModule_AndAnswer()
    {
        _process.Process.Permissions = ModulePermissions.Migrate;
        ulong offset = (ulong)MoveOffset.Of(MoveArea.ModuleRequest, ((ulong)ModuleMessageKind.Restore << MoveOffset.KindShift) | 3);
        _process.Write(Buffer, new MoveRequest { Call = 1, Rcx = 2, Rdx = 3 });
        _process.Write(Buffer + MoveRequest.Length, [7, 8]);
        Assert.Equal(MoveRequest.Length + 2, _process.Call(PWrite, Move, Buffer, MoveRequest.Length + 2, offset));
        Assert.Equal((3, 1u, 2ul, 3ul), (_process.Platform.SentTo.Module, _process.Platform.SentTo.Fields.Call, _process.Platform.SentTo.Fields.Rcx, _process.Platform.SentTo.Fields.Rdx));
        Assert.Equal((ModuleMessageKind.Restore, "0708"), (_process.Platform.Requests[0].Kind, Convert.ToHexString(_process.Platform.Requests[0].Request)));
        Assert.Equal(CallResult.Waits, _process.Serve(PRead, Move, Buffer, 100, offset));
        (_process.Platform.Peer, _process.Platform.PeerAnswer, _process.Platform.AnsweredFields) = (InternalState.Ready, [5], new MoveRequest { Result = 9, Rdx = 4 });
        Assert.Equal(MoveRequest.Length + 1, _process.Call(PRead, Move, Buffer, 100, offset));
        Assert.Equal((9ul, 4ul), (_process.Read<MoveRequest>(Buffer).Result, _process.Read<MoveRequest>(Buffer).Rdx));
        Assert.Equal(5, _process.Read(Buffer + MoveRequest.Length, 1)[0]);
        Assert.Equal(Invalid, _process.Call(PRead, Move, Buffer, MoveRequest.Length, offset));
        _process.Platform.Peer = InternalState.Failed;
        Assert.Equal(Input, _process.Call(PRead, Move, Buffer, 100, offset));
        Assert.Equal(Input, _process.Call(PWrite, Move, Buffer, MoveRequest.Length, offset));
        _process.Platform.Peer = InternalState.NotFound;
        Assert.Equal(NoFile, _process.Call(PWrite, Move, Buffer, MoveRequest.Length, offset));
    }

    [Theory]
    [InlineData(ModuleMessageKind.Call, MoveRequest.Length)]
    [InlineData(ModuleMessageKind.Store, MoveRequest.Length)]
    [InlineData(ModuleMessageKind.Work, MoveRequest.Length)]
    [InlineData(ModuleMessageKind.Save, MoveRequest.Length - 1)]
    [InlineData(ModuleMessageKind.Restore, MoveRequest.Length + ModuleMessage.MaxPayload + 1)]
    public void Move_BadRequestToAModule_IsNotSent(ModuleMessageKind kind, int length)
    {
        _process.Process.Permissions = ModulePermissions.Migrate;
        Assert.Equal(Invalid, _process.Call(PWrite, Move, Buffer, (ulong)length, (ulong)MoveOffset.Of(MoveArea.ModuleRequest, (ulong)kind << MoveOffset.KindShift)));
        Assert.Empty(_process.Platform.Requests);
    }

    [Theory]
    [InlineData(1ul, "one", LogLevel.Information, "one")]
    [InlineData(2ul, "<0>a", LogLevel.Error, "a")]
    [InlineData(2ul, "<3>a", LogLevel.Error, "a")]
    [InlineData(2ul, "<4>a", LogLevel.Warning, "a")]
    [InlineData(2ul, "<5>a", LogLevel.Information, "a")]
    [InlineData(2ul, "<6>a", LogLevel.Information, "a")]
    [InlineData(2ul, "<7>a", LogLevel.Debug, "a")]
    [InlineData(2ul, "<8>a", LogLevel.Information, "<8>a")]
    [InlineData(2ul, "</>a", LogLevel.Information, "</>a")]
    [InlineData(2ul, "<3a", LogLevel.Information, "<3a")]
    [InlineData(2ul, "<3", LogLevel.Information, "<3")]
    [InlineData(2ul, "\u001B[2J", LogLevel.Information, "\u001B[2J")]
    public void Write_Line_HasItsLevel(ulong descriptor, string text, LogLevel level, string expected)
    {
        _process.Write(Buffer, text);
        Assert.Equal(text.Length, _process.Call(Write, descriptor, Buffer, (ulong)text.Length));
        Assert.Equal([(0, level, expected)], _process.Platform.Lines);
    }

    [Fact]
    public void Write_Lines_AreApart()
    {
        string text = "a\n\n<3>\n<4>b\n" + new string('x', 239) + "\n" + new string('y', 240) + "\n" + new string('z', 500) + "\nend";
        _process.Write(BufferEnd - (ulong)text.Length, Encoding.ASCII.GetBytes(text));
        Assert.Equal(text.Length, _process.Call(Write, 2, BufferEnd - (ulong)text.Length, (ulong)text.Length));
        Assert.Equal(
            [(0, LogLevel.Information, "a"), (0, LogLevel.Warning, "b"), (0, LogLevel.Information, new string('x', 239)), (0, LogLevel.Information, new string('y', 240)),
                (0, LogLevel.Information, new string('z', 244)), (0, LogLevel.Information, new string('z', 244)), (0, LogLevel.Information, new string('z', 12)), (0, LogLevel.Information, "end")],
            _process.Platform.Lines);
    }

    // A turn is a millisecond, and no call is interrupted: the rest of a long text is another call's, as write allows.
    [Fact]
    public void Write_AnyNumberOfLines_TakesBoundedWork()
    {
        const int Pages = 32;
        ulong start = _process.Map(Pages);
        byte[] text = new byte[Pages * Page.Size];
        Array.Fill(text, (byte)'\n');
        _process.Write(start, text);
        long before = _process.Platform.MapCount;
        Assert.Equal(Page.Size, _process.Call(Write, 2, start, Pages * Page.Size));
        Assert.InRange(_process.Platform.MapCount - before, 1, 30_000);
        Assert.Equal(Page.Size, _process.Call(Write, 2, start + ((Pages - 1) * Page.Size), ulong.MaxValue));
    }

    [Fact]
    public void Write_LogFromABadAddress_IsAFault()
    {
        Assert.Equal(Fault, _process.Call(Write, 2, Nowhere, 1));
        Assert.Equal(Fault, _process.Call(Write, 2, BufferEnd - 1, 2));
        Assert.Equal(Fault, _process.Call(Write, 2, ulong.MaxValue, ulong.MaxValue));
        Assert.Equal(0, _process.Call(Write, 2, Nowhere, 0));
        Assert.Empty(_process.Platform.Lines);
    }

    [Theory]
    [InlineData(Write, 0ul)]
    [InlineData(Write, Requests)]
    [InlineData(Write, Guest)]
    [InlineData(Write, FirstFile)]
    [InlineData(Write, ulong.MaxValue)]
    [InlineData(Read, 0ul)]
    [InlineData(Read, 1ul)]
    [InlineData(Read, Answers)]
    [InlineData(Read, Guest)]
    [InlineData(Read, FirstFile)]
    [InlineData(Read, 20ul)]
    [InlineData(Read, ulong.MaxValue)]
    [InlineData(PRead, Requests)]
    [InlineData(PRead, FirstFile)]
    [InlineData(PWrite, Requests)]
    [InlineData(PWrite, FirstFile)]
    [InlineData(Close, 0ul)]
    [InlineData(Close, FirstFile)]
    [InlineData(Close, 20ul)]
    [InlineData(Close, ulong.MaxValue)]
    [InlineData(Seek, FirstFile)]
    [InlineData(Seek, ulong.MaxValue)]
    public void Handle_DescriptorThatIsNone_IsBad(ulong number, ulong descriptor) => Assert.Equal(BadDescriptor, _process.Call(number, descriptor, Buffer, 1));

    [Fact]
    public void GuestMemory_AcrossPages_IsCopied()
    {
        byte[] first = AddGuest(0x1234);
        byte[] second = AddGuest(0x1235);
        (first[^1], second[0], second[4094]) = (1, 2, 3);
        Assert.Equal(4096, _process.Call(PRead, Guest, Buffer + 5, 4096, 0x1234_FFF));
        byte[] seen = _process.Read(Buffer + 5, 4096);
        Assert.Equal((1, 2, 3), (seen[0], seen[1], seen[4095]));
        _process.Write(Buffer, [7, 8, 9]);
        Assert.Equal(3, _process.Call(PWrite, Guest, Buffer, 3, 0x1234_FFE));
        Assert.Equal((7, 8, 9), (first[^2], first[^1], second[0]));
        Assert.Equal(0, _process.Call(PRead, Guest, Nowhere, 0, ulong.MaxValue));
    }

    [Fact]
    public void GuestMemory_PageThatIsNotTheGuests_IsAFault()
    {
        byte[] page = AddGuest(0x1234);
        Assert.Equal(Fault, _process.Call(PRead, Guest, Buffer, 1, 0x1235_000));
        Assert.Equal(Fault, _process.Call(PRead, Guest, Buffer, 2, 0x1234_FFF));
        Assert.Equal(Fault, _process.Call(PRead, Guest, Buffer, 2, 0x1233_FFF));
        Assert.Equal(Fault, _process.Call(PWrite, Guest, Buffer, 1, 0x1235_000));
        Assert.Equal(Fault, _process.Call(PRead, Guest, Buffer, 0x2000, ulong.MaxValue));
        Assert.Equal(Fault, _process.Call(PWrite, Guest, Buffer, 0x2000, ulong.MaxValue - 0xFFF));

        // The address of the process is the other one that may be bad; the guest's page is not written then.
        Assert.Equal(Fault, _process.Call(PRead, Guest, Nowhere, 1, 0x1234_000));
        Assert.Equal(Fault, _process.Call(PRead, Guest, Text, 1, 0x1234_000));
        page[0] = 9;
        Assert.Equal(Fault, _process.Call(PWrite, Guest, Nowhere, 1, 0x1234_000));
        Assert.Equal(9, page[0]);

        // Nor is the first page, when the second one is not there.
        page[0xFFF] = 7;
        _process.Write(Buffer, [1, 2]);
        Assert.Equal(Fault, _process.Call(PWrite, Guest, Buffer, 2, 0x1234_FFF));
        Assert.Equal(7, page[0xFFF]);
    }

    // What a failed read left in the kernel's buffer does not reach the process.
    [Fact]
    public void GuestMemory_FailedRead_LeavesTheBufferAlone()
    {
        _process.Write(Buffer, [1, 2, 3, 4]);
        Assert.Equal(Fault, _process.Call(PRead, Guest, Buffer, 4, 0x1235_000));
        Assert.Equal([1, 2, 3, 4], _process.Read(Buffer, 4));
    }

    [Theory]
    [InlineData(ModulePermissions.None, NotPermitted, NotPermitted)]
    [InlineData(ModulePermissions.Attest, NotPermitted, NotPermitted)]
    [InlineData(ModulePermissions.ReadGuest, 1, NotPermitted)]
    [InlineData(ModulePermissions.WriteGuest, NotPermitted, 1)]
    public void GuestMemory_Permissions_AreAsked(ModulePermissions permissions, long read, long write)
    {
        AddGuest(0x1234);
        _process.Process.Permissions = permissions;
        _process.Platform.GuestPermissions = permissions;
        Assert.Equal(read, _process.Call(PRead, Guest, Buffer, 1, 0x1234_000));
        Assert.Equal(write, _process.Call(PWrite, Guest, Buffer, 1, 0x1234_000));
    }

    [Fact]
    public void File_OpenReadSeekClose()
    {
        ulong file = Open(TestArchive.NotePath);
        Assert.Equal(FirstFile, file);
        Assert.Equal(100, _process.Call(Read, file, Buffer, 100));
        Assert.Equal(4900, _process.Call(Read, file, Buffer + 100, ulong.MaxValue));
        Assert.Equal(TestArchive.NoteContents, _process.Read(Buffer, 5000));
        Assert.Equal(0, _process.Call(Read, file, Buffer, 1));
        Assert.Equal(4998, _process.Call(Seek, file, unchecked((ulong)-2), 2));
        Assert.Equal(2, _process.Call(Read, file, Buffer, 10));
        Assert.Equal(4990, _process.Call(Seek, file, unchecked((ulong)-10), 1));
        Assert.Equal(0, _process.Call(Seek, file, 0, 0));
        Assert.Equal(3, _process.Call(PRead, file, Buffer, 10, 4997));
        Assert.Equal(0, _process.Call(PRead, file, Buffer, 10, 5000));
        Assert.Equal(0, _process.Call(PRead, file, Buffer, 10, long.MaxValue));
        Assert.Equal(0, _process.Call(Seek, file, 0, 1));
        Assert.Equal(0, _process.Call(Close, file));
        Assert.Equal(BadDescriptor, _process.Call(Read, file, Buffer, 1));
        Assert.Equal(BadDescriptor, _process.Call(Close, file));
    }

    // Nothing sensible can follow.
    [Theory]
    [InlineData(1ul)]
    [InlineData(2ul)]
    [InlineData(Requests)]
    [InlineData(Answers)]
    [InlineData(Guest)]
    [InlineData(SecurityProcessor)]
    [InlineData(Services)]
    [InlineData(Store)]
    [InlineData(Keys)]
    [InlineData(Disks)]
    [InlineData(Move)]
    public void Close_WhatAModuleIsGiven_IsTheEnd(ulong descriptor)
    {
        Assert.Equal(CallResult.Ended, _process.Serve(Close, descriptor));
        Assert.Equal(ProcessEnd.BadChannel, _process.Process.Reason);
    }

    [Fact]
    public void RandomFile_IsDrawnFrom()
    {
        ulong file = Open("/dev/urandom");
        Assert.Equal(FirstFile, file);
        Assert.Equal(300, _process.Call(Read, file, Buffer + 1, 300));
        byte[] bytes = _process.Read(Buffer, 302);
        Assert.Equal(0, bytes[301]);
        Assert.Equal(299, Enumerable.Range(1, 299).Count(i => bytes[i + 1] == (byte)(bytes[i] + 1)));
        Assert.Equal(0, _process.Call(Read, file, Nowhere, 0));
        Assert.Equal(Fault, _process.Call(Read, file, Nowhere, 1));
        _process.Platform.HasRandom = false;
        Assert.Equal(Input, _process.Call(Read, file, Buffer, 1));

        // It is no file of the archive.
        Assert.Equal(BadDescriptor, _process.Call(Seek, file, 0, 0));
        Assert.Equal(BadDescriptor, _process.Call(Stat, file, 0, Buffer, 0x1000));
        _process.Write(Buffer, "/dev/urandom");
        Assert.Equal(NoFile, _process.Call(Stat, CurrentFolder, Buffer, Buffer));
        Assert.Equal(ReadOnly, _process.Call(OpenAt, CurrentFolder, Buffer, 2));
        Assert.Equal(0, _process.Call(Close, file));
        Assert.Equal(BadDescriptor, _process.Call(Read, file, Buffer, 1));
    }

    [Theory]
    [InlineData(ulong.MaxValue)]
    [InlineData(0x8000_0000_0000_0000)]
    [InlineData(0x8000_0000_0000_0001)]
    public void PRead_NegativeOffset_IsInvalidAndLeavesThePosition(ulong offset)
    {
        ulong file = Open(TestArchive.NotePath);
        Assert.Equal(10, _process.Call(Read, file, Buffer, 10));
        Assert.Equal(Invalid, _process.Call(PRead, file, Buffer, 10, offset));
        Assert.Equal(10, _process.Call(Seek, file, 0, 1));
    }

    [Theory]
    [InlineData(5ul, ulong.MaxValue, 0ul)]
    [InlineData(5ul, 0x8000_0000_0000_0000, 0ul)]
    [InlineData(5ul, 0xFFFF_FFFF_FFFF_FFFA, 1ul)]
    [InlineData(5ul, 0x7FFF_FFFF_FFFF_FFFF, 1ul)]
    [InlineData(5ul, 0x7FFF_FFFF_FFFF_FFFF, 2ul)]
    [InlineData(5ul, 0xFFFF_FFFF_FFFF_EC77, 2ul)]
    [InlineData(5ul, 0ul, 3ul)]
    [InlineData(5ul, 0ul, ulong.MaxValue)]
    public void Seek_OutOfRange_LeavesThePosition(ulong start, ulong offset, ulong origin)
    {
        ulong file = Open(TestArchive.NotePath);
        Assert.Equal((long)start, _process.Call(Seek, file, start, 0));
        Assert.Equal(Invalid, _process.Call(Seek, file, offset, origin));
        Assert.Equal((long)start, _process.Call(Seek, file, 0, 1));
    }

    [Fact]
    public void Seek_BehindTheEnd_ReadsNothing()
    {
        ulong file = Open(TestArchive.NotePath);
        Assert.Equal(long.MaxValue, _process.Call(Seek, file, long.MaxValue, 0));
        Assert.Equal(0, _process.Call(Read, file, Buffer, 10));
        Assert.Equal(NoSeek, _process.Call(Seek, Requests, 0, 0));
    }

    [Fact]
    public void Read_FileToABadAddress_LeavesThePosition()
    {
        ulong file = Open(TestArchive.NotePath);
        Assert.Equal(Fault, _process.Call(Read, file, BufferEnd - 1, 2));
        Assert.Equal(0, _process.Call(Seek, file, 0, 1));
    }

    [Theory]
    [InlineData(TestArchive.SecretPath)]
    [InlineData(TestArchive.ProgramPath)]
    [InlineData("/etc/none")]
    [InlineData("/etc/note/")]
    [InlineData("etc/note")]
    [InlineData("")]
    [InlineData("/proc/self/maps")]
    public void OpenAt_NotForThisModule_IsNoFile(string path)
    {
        _process.Write(Buffer, path);
        Assert.Equal(NoFile, _process.Call(OpenAt, CurrentFolder, Buffer));
        Assert.Equal(NoFile, _process.Call(Stat, CurrentFolder, Buffer, Buffer));
        Assert.Equal(NoFile, _process.Call(StatPath, Buffer, Buffer));
        Assert.Equal(NoFile, _process.Call(StatLink, Buffer, Buffer));
    }

    [Theory]
    [InlineData(1ul)]
    [InlineData(2ul)]
    [InlineData(0x42ul)]
    public void OpenAt_ToBeWritten_IsRefused(ulong flags)
    {
        _process.Write(Buffer, TestArchive.NotePath);
        Assert.Equal(ReadOnly, _process.Call(OpenAt, CurrentFolder, Buffer, flags));
        Assert.Equal((long)FirstFile, _process.Call(OpenAt, CurrentFolder, Buffer, 0x8_0000));
    }

    [Fact]
    public void OpenAt_Paths_AreBounded()
    {
        _process.Write(Buffer, "/" + new string('a', 254));
        Assert.Equal(NoFile, _process.Call(OpenAt, CurrentFolder, Buffer));
        _process.Write(Buffer, "/" + new string('a', 255));
        Assert.Equal(NameTooLong, _process.Call(OpenAt, CurrentFolder, Buffer));
        Assert.Equal(Fault, _process.Call(OpenAt, CurrentFolder, Nowhere));
        Assert.Equal(Fault, _process.Call(OpenAt, CurrentFolder, ulong.MaxValue));

        // It ends where memory ends, or does not.
        _process.Write(BufferEnd - 10, TestArchive.NotePath);
        Assert.Equal((long)FirstFile, _process.Call(OpenAt, CurrentFolder, BufferEnd - 10));
        _process.Write(BufferEnd - 9, "/etc/note"u8);
        Assert.Equal(Fault, _process.Call(OpenAt, CurrentFolder, BufferEnd - 9));
    }

    [Fact]
    public void OpenAt_Files_AreBounded()
    {
        for (int i = 0; i < Process.MaxOpenFiles; i++)
        {
            Assert.Equal(FirstFile + (ulong)i, Open(TestArchive.NotePath));
        }

        _process.Write(Buffer, TestArchive.NotePath);
        Assert.Equal(TooManyFiles, _process.Call(OpenAt, CurrentFolder, Buffer));
        Assert.Equal(0, _process.Call(Close, 13));
        Assert.Equal(13ul, Open(TestArchive.NotePath));
    }

    [Fact]
    public void Stat_FileOrPath_IsTheSame()
    {
        const ulong EmptyPath = 0x1000;
        ulong file = Open(TestArchive.NotePath);
        _process.Write(Buffer + 300, new string('x', 100));
        Assert.Equal(0, _process.Call(Stat, CurrentFolder, Buffer, Buffer + 300));
        ulong[] words = [.. Enumerable.Range(0, 18).Select(i => _process.Read<ulong>(Buffer + 300 + ((ulong)i * 8)))];
        Assert.Equal([0, 0, 1, 0x8124, 0, 0, 5000, 4096, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], words);
        Assert.Equal(0, _process.Call(Stat, file, 0, Buffer + 600, EmptyPath));
        Assert.Equal(_process.Read(Buffer + 300, 144), _process.Read(Buffer + 600, 144));
        Assert.Equal(BadDescriptor, _process.Call(Stat, 7, 0, Buffer, EmptyPath));
        Assert.Equal(Fault, _process.Call(Stat, CurrentFolder, Buffer, BufferEnd - 143));
        Assert.Equal(Fault, _process.Call(Stat, CurrentFolder, Nowhere, Buffer));

        // The class library has the older calls.
        foreach (ulong path in new[] { StatPath, StatLink })
        {
            _process.Write(Buffer + 600, new string('y', 144));
            Assert.Equal(0, _process.Call(path, Buffer, Buffer + 600));
            Assert.Equal(_process.Read(Buffer + 300, 144), _process.Read(Buffer + 600, 144));
            Assert.Equal(Fault, _process.Call(path, Buffer, BufferEnd - 143));
            Assert.Equal(Fault, _process.Call(path, Nowhere, Buffer + 600));
        }

        _process.Write(Buffer + 600, new string('z', 144));
        Assert.Equal(0, _process.Call(StatFile, file, Buffer + 600));
        Assert.Equal(_process.Read(Buffer + 300, 144), _process.Read(Buffer + 600, 144));
        Assert.Equal(Fault, _process.Call(StatFile, file, BufferEnd - 143));
        Assert.Equal(BadDescriptor, _process.Call(StatFile, 7, Buffer + 600));
        Assert.Equal(BadDescriptor, _process.Call(StatFile, Requests, Buffer + 600));
    }

    [Fact]
    public void MMap_Anonymous_IsThere()
    {
        long start = _process.Call(Map, 0x1234_5000, 5000, 3, Anonymous);
        Assert.True(start >= (long)ProcessMemory.HeapLow && start % Page.Size == 0);
        Assert.Equal(new byte[8192], _process.Read((ulong)start, 8192));
        long reserved = _process.Call(Map, 0, 1ul << 32, 0, Anonymous | 0x4000);
        Assert.True(reserved >= (long)ProcessMemory.HeapLow);
        Assert.Equal(0, _process.Call(Protect, (ulong)reserved, 1, 3));
        _process.Write((ulong)reserved, [1]);
        Assert.Equal(0, _process.Call(Unmap, (ulong)reserved, 1ul << 32));
        _process.Check();
    }

    [Theory]
    [InlineData(0ul, 3ul, Anonymous, Invalid)]
    [InlineData(4096ul, 3ul, 0x21ul, Invalid)]
    [InlineData(4096ul, 3ul, 0x02ul, Invalid)]
    [InlineData(4096ul, 3ul, 0x32ul, Invalid)]
    [InlineData(4096ul, 3ul, 0ul, Invalid)]
    [InlineData(4096ul, 4ul, Anonymous, NotAllowed)]
    [InlineData(4096ul, 7ul, Anonymous, NotAllowed)]
    [InlineData(4096ul, 8ul, Anonymous, NotAllowed)]
    [InlineData(4096ul, 0x100ul, Anonymous, NotAllowed)]
    [InlineData(4096ul, 1ul << 32, Anonymous, NotAllowed)]
    [InlineData(TestArchive.MemoryLimit, 3ul, Anonymous, NoMemory)]
    [InlineData(ProcessMemory.HeapHigh, 0ul, Anonymous, NoMemory)]
    [InlineData(ProcessMemory.UserEnd, 0ul, Anonymous, NoMemory)]
    [InlineData(ProcessMemory.UserEnd + 1, 0ul, Anonymous, Invalid)]
    [InlineData(ulong.MaxValue, 0ul, Anonymous, Invalid)]
    [InlineData(ulong.MaxValue - 4094, 3ul, Anonymous, Invalid)]
    public void MMap_WhatIsNot_IsRefused(ulong length, ulong rights, ulong flags, long expected)
    {
        Assert.Equal(expected, _process.Call(Map, 0, length, rights, flags));
        _process.Check();
    }

    // PROT_WRITE alone: the processor lets it be read, and so does Linux.
    [Fact]
    public void MMap_WriteAlone_CanBeReadToo()
    {
        long start = _process.Call(Map, 0, 8192, 2, Anonymous);
        Assert.True(start > 0);
        Assert.True(_process.Fault((ulong)start));
        _process.Write((ulong)start, "<3>a"u8);
        Assert.Equal(4, _process.Call(Write, 2, (ulong)start, 4));
        Assert.Equal(0, _process.Call(Protect, (ulong)start, 8192, 0));
        Assert.Equal(0, _process.Call(Protect, (ulong)start, 8192, 2));
        Assert.Equal(4, _process.Call(Write, 2, (ulong)start, 4));
        _process.Check();
    }

    [Theory]
    [InlineData(1ul, 4096ul, 3ul, Invalid)]
    [InlineData(0x40_4001ul, 4096ul, 3ul, Invalid)]
    [InlineData(0x40_4000ul, ulong.MaxValue, 3ul, Invalid)]
    [InlineData(0x40_4000ul, ProcessMemory.UserEnd + 1, 3ul, Invalid)]
    [InlineData(0x40_4000ul, 4096ul, 5ul, NotAllowed)]
    [InlineData(0x40_4000ul, 4096ul, 7ul, NotAllowed)]
    [InlineData(0x40_4000ul, 4096ul, 0x100_0003ul, NotAllowed)]
    [InlineData(Text, 4096ul, 3ul, NotAllowed)]
    [InlineData(Text, 4096ul, 1ul, NotAllowed)]
    [InlineData(Nowhere, 4096ul, 1ul, NotAllowed)]
    [InlineData(0x40_7000ul, 4097ul, 1ul, NotAllowed)]
    [InlineData(0x40_4000ul, ProcessMemory.UserEnd, 3ul, NotAllowed)]
    [InlineData(0xFFFF_FFFF_FFFF_F000ul, 4096ul, 3ul, NotAllowed)]
    [InlineData(0x40_4000ul, 4096ul, 1ul, 0)]
    [InlineData(0x40_0000ul, 1ul, 3ul, 0)]
    [InlineData(0x40_4000ul, 0ul, 1ul, 0)]
    public void MProtect_AnyRange_IsAnsweredAsOnLinux(ulong start, ulong length, ulong rights, long expected)
    {
        Assert.Equal(expected, _process.Call(Protect, start, length, rights));
        _process.Check();
    }

    [Theory]
    [InlineData(1ul, 4096ul, Invalid)]
    [InlineData(0x40_4000ul, 0ul, Invalid)]
    [InlineData(0x40_4000ul, ulong.MaxValue, Invalid)]
    [InlineData(0x40_4000ul, ProcessMemory.UserEnd, Invalid)]
    [InlineData(0xFFFF_FFFF_FFFF_F000ul, 4096ul, Invalid)]
    [InlineData(ProcessMemory.UserEnd, 4096ul, Invalid)]
    [InlineData(Nowhere, 4096ul, 0)]
    [InlineData(0x40_4000ul, 1ul, 0)]
    [InlineData(0ul, ProcessMemory.UserEnd, 0)]
    public void MUnmap_AnyRange_IsAnsweredAsOnLinux(ulong start, ulong length, long expected)
    {
        Assert.Equal(expected, _process.Call(Unmap, start, length));
        _process.Check();
    }

    [Theory]
    [InlineData(4ul)]
    [InlineData(8ul)]
    public void MAdvise_DontNeed_HasZeroes(ulong advice)
    {
        _process.Write(Buffer, [1]);
        Assert.Equal(0, _process.Call(Advise, Buffer, 1, 16));
        Assert.Equal(1, _process.Read(Buffer, 1)[0]);
        Assert.Equal(0, _process.Call(Advise, Buffer, 1, advice));
        Assert.Equal(0, _process.Read(Buffer, 1)[0]);
        Assert.Equal(Invalid, _process.Call(Advise, 0x40_4000, 1, advice));
        Assert.Equal(Invalid, _process.Call(Advise, Buffer + 1, 1, advice));
        Assert.Equal(Invalid, _process.Call(Advise, Buffer, 3 * Page.Size, advice));
        Assert.Equal(Invalid, _process.Call(Advise, Buffer, ulong.MaxValue, advice));
        _process.Check();
    }

    [Fact]
    public void SigAction_Set_IsGivenBack()
    {
        ulong[] action = [0x40_1100, 0x0400_0004, 0x40_1200, 5];
        for (int i = 0; i < action.Length; i++)
        {
            _process.Write(Buffer + ((ulong)i * 8), action[i]);
        }

        Assert.Equal(0, _process.Call(SetAction, 11, Buffer, Buffer + 64, 8));
        Assert.Equal(new byte[32], _process.Read(Buffer + 64, 32));
        Assert.Equal(0, _process.Call(SetAction, 11, 0, Buffer + 64, 8));
        Assert.Equal(_process.Read(Buffer, 32), _process.Read(Buffer + 64, 32));
        Assert.Equal(0, _process.Call(SetAction, 8, 0, Buffer + 64, 8));
        Assert.Equal(new byte[32], _process.Read(Buffer + 64, 32));
        Assert.Equal(0, _process.Call(SetAction, 64, Buffer, 0, 8));
    }

    [Theory]
    [InlineData(0ul, 8ul)]
    [InlineData(65ul, 8ul)]
    [InlineData(0x1_0000_000Bul, 8ul)]
    [InlineData(ulong.MaxValue, 8ul)]
    [InlineData(11ul, 0ul)]
    [InlineData(11ul, 16ul)]
    public void SigAction_OtherSignalOrMask_IsInvalid(ulong signal, ulong maskLength) =>
        Assert.Equal(Invalid, _process.Call(SetAction, signal, Buffer, 0, maskLength));

    [Fact]
    public void SigAction_BadAddress_IsAFault()
    {
        _process.Process.Signals.Of(11).Handler = 0x77;
        Assert.Equal(Fault, _process.Call(SetAction, 11, BufferEnd - 31, 0, 8));
        Assert.Equal(Fault, _process.Call(SetAction, 11, 0, Text, 8));
        Assert.Equal(0x77ul, _process.Process.Signals.Of(11).Handler);
    }

    [Theory]
    [InlineData(14ul, 0)]
    [InlineData(24ul, 0)]
    [InlineData(39ul, 1)]
    [InlineData(186ul, 1)]
    [InlineData(218ul, 1)]
    public void Handle_CallsWithOneAnswer_HaveIt(ulong number, long expected) => Assert.Equal(expected, _process.Call(number, ulong.MaxValue, ulong.MaxValue, ulong.MaxValue, ulong.MaxValue));

    [Fact]
    public void Clone_OneThread_IsAllThereIs()
    {
        Assert.Equal(Again, _process.Call(Clone, 0x11));
        Assert.Equal(2, _process.Call(Clone, 0x003D_0F00, 0, Buffer));
        Assert.Equal(2u, _process.Read<uint>(Buffer));
        Assert.Equal(Again, _process.Call(Clone, 0x003D_0F00, 0, Buffer));
    }

    [Theory]
    [InlineData(0x1002ul, 0x40_4000ul, 0)]
    [InlineData(0x1002ul, ProcessMemory.UserEnd - 1, 0)]
    [InlineData(0x1002ul, ProcessMemory.UserEnd, NotPermitted)]
    [InlineData(0x1002ul, 0x8000_0000_0000ul, NotPermitted)]
    [InlineData(0x1002ul, ulong.MaxValue, NotPermitted)]
    [InlineData(0x1001ul, 0x40_4000ul, Invalid)]
    [InlineData(0x1003ul, 0x40_4000ul, Invalid)]
    [InlineData(0x1_0000_1002ul, 0x40_4000ul, Invalid)]
    public void ArchPrctl_SetFs_TakesAddressesOfAProcess(ulong code, ulong value, long expected)
    {
        Assert.Equal(expected, _process.Call(ArchPrctl, code, value));
        Assert.Equal(expected == 0 ? value : 0, _process.Registers.FsBase);
    }

    [Theory]
    [InlineData(60ul, 5ul, 5u)]
    [InlineData(231ul, 0x1FFul, 0xFFu)]
    [InlineData(231ul, ulong.MaxValue, 0xFFu)]
    public void Exit_Status_IsAByte(ulong number, ulong status, uint expected)
    {
        Assert.Equal(CallResult.Ended, _process.Serve(number, status));
        Assert.Equal((ProcessEnd.Exited, expected), (_process.Process.Reason, _process.Process.ExitStatus));
    }

    [Fact]
    public void ThreadKill_IsAbort()
    {
        Assert.Equal(CallResult.Ended, _process.Serve(234, 1, 1, 6));
        Assert.Equal((ProcessEnd.Aborted, 6u), (_process.Process.Reason, _process.Process.ExitStatus));
    }

    [Theory]
    [InlineData(0x80ul)]
    [InlineData(0x89ul)]
    [InlineData(0x189ul)]
    public void Futex_WaitWithoutTime_IsADeadlock(ulong command)
    {
        _process.Write(Buffer, 5u);
        Assert.Equal(Again, _process.Call(Futex, Buffer, command, 6));
        Assert.Equal(CallResult.Ended, _process.Serve(Futex, Buffer, command, 0xABCD_0000_0005));
        Assert.Equal(ProcessEnd.Deadlock, _process.Process.Reason);
    }

    [Fact]
    public void Futex_Other_IsAnswered()
    {
        Assert.Equal(0, _process.Call(Futex, Nowhere, 0x81, 1));
        Assert.Equal(0, _process.Call(Futex, Nowhere, 10, 1));
        Assert.Equal(Fault, _process.Call(Futex, Nowhere, 0x80, 0));
        Assert.Equal(Fault, _process.Call(Futex, BufferEnd - 3, 0x80, 0));
        Assert.Equal(NoCall, _process.Call(Futex, Buffer, 6));
        Assert.Equal(1ul, _process.Process.UnknownCalls);
    }

    [Fact]
    public void Futex_WaitWithTime_TimesOut()
    {
        SetTime(2, 5);
        Assert.Equal(CallResult.Sleeps, _process.Serve(Futex, Buffer + 512, 0x80, 0, Buffer));
        Assert.Equal((_process.Platform.Now + 2_000_000_005, TimedOut), (_process.Process.Deadline, _process.Process.DeadlineResult));
        Assert.Equal(CallResult.Sleeps, _process.Serve(Futex, Buffer + 512, 0x89, 0, Buffer));
        Assert.Equal(2_000_000_005ul, _process.Process.Deadline);
        Assert.Equal(CallResult.Ended, _process.Serve(Futex, Buffer + 512, 0x189, 0, Buffer));
        Assert.Equal(ProcessEnd.TimeOfDay, _process.Process.Reason);
    }

    [Theory]
    [InlineData(1ul, 0ul)]
    [InlineData(0ul, 0ul)]
    public void Sleep_Relative_IsFromNow(ulong clock, ulong flags)
    {
        SetTime(1, 999_999_999);
        Assert.Equal(CallResult.Sleeps, _process.Serve(Sleep, clock, flags, Buffer));
        Assert.Equal((_process.Platform.Now + 1_999_999_999, 0L), (_process.Process.Deadline, _process.Process.DeadlineResult));
    }

    // 0 is "does not wait".
    [Fact]
    public void Sleep_UntilTheBeginning_IsOver()
    {
        SetTime(0, 0);
        Assert.Equal(CallResult.Sleeps, _process.Serve(Sleep, 1, 1, Buffer));
        Assert.Equal(1ul, _process.Process.Deadline);
    }

    [Fact]
    public void Sleep_Long_DoesNotOverflow()
    {
        SetTime(long.MaxValue, 999_999_999);
        Assert.Equal(CallResult.Sleeps, _process.Serve(Sleep, 1, 0, Buffer));
        Assert.True(_process.Process.Deadline > _process.Platform.Now + (1ul << 61));
    }

    [Theory]
    [InlineData(ulong.MaxValue, 0ul)]
    [InlineData(1ul << 63, 0ul)]
    [InlineData(0ul, 1_000_000_000ul)]
    [InlineData(0ul, ulong.MaxValue)]
    public void Sleep_TimeThatIsNone_IsInvalid(ulong seconds, ulong nanoseconds)
    {
        SetTime(seconds, nanoseconds);
        Assert.Equal(Invalid, _process.Call(Sleep, 1, 0, Buffer));
        Assert.Equal(Fault, _process.Call(Sleep, 1, 0, BufferEnd - 15));
        Assert.Equal(0ul, _process.Process.Deadline);
    }

    [Fact]
    public void Sleep_UntilATimeOfDay_IsTheEnd()
    {
        SetTime(1, 0);
        Assert.Equal(CallResult.Ended, _process.Serve(Sleep, 0, 1, Buffer));
        Assert.Equal(ProcessEnd.TimeOfDay, _process.Process.Reason);
    }

    [Theory]
    [InlineData(1ul)]
    [InlineData(2ul)]
    [InlineData(3ul)]
    [InlineData(4ul)]
    [InlineData(6ul)]
    [InlineData(7ul)]
    public void GetTime_Monotonic_IsNow(ulong clock)
    {
        Assert.Equal(0, _process.Call(GetTime, clock, Buffer));
        Assert.Equal((5ul, 7ul), (_process.Read<ulong>(Buffer), _process.Read<ulong>(Buffer + 8)));
        Assert.Equal(Fault, _process.Call(GetTime, clock, BufferEnd - 8));
    }

    [Theory]
    [InlineData(0ul)]
    [InlineData(5ul)]
    [InlineData(8ul)]
    [InlineData(11ul)]
    [InlineData(ulong.MaxValue)]
    public void GetTime_TimeOfDay_IsTheEnd(ulong clock)
    {
        Assert.Equal(CallResult.Ended, _process.Serve(GetTime, clock, Buffer));
        Assert.Equal(ProcessEnd.TimeOfDay, _process.Process.Reason);
    }

    [Fact]
    public void GetAffinity_IsOneProcessor()
    {
        Assert.Equal(8, _process.Call(GetAffinity, 0, 128, Buffer));
        Assert.Equal(1ul, _process.Read<ulong>(Buffer));
        Assert.Equal(Invalid, _process.Call(GetAffinity, 0, 7, Buffer));
        Assert.Equal(Invalid, _process.Call(GetAffinity, 0, 0, Buffer));
        Assert.Equal(Invalid, _process.Call(GetAffinity, 0, ulong.MaxValue, Buffer));
        Assert.Equal(Fault, _process.Call(GetAffinity, 0, 8, BufferEnd - 7));
    }

    [Fact]
    public void GetLimit_IsThatOfTheStack()
    {
        Assert.Equal(0, _process.Call(Limit, 0, 3, 0, Buffer));
        Assert.Equal((Process.StackLength, Process.StackLength), (_process.Read<ulong>(Buffer), _process.Read<ulong>(Buffer + 8)));
        Assert.Equal(0, _process.Call(Limit, 0, 7, 0, Buffer));
        Assert.Equal(ulong.MaxValue, _process.Read<ulong>(Buffer));
        Assert.Equal(0, _process.Call(Limit, 0, 3, Nowhere, 0));
        Assert.Equal(Fault, _process.Call(Limit, 0, 3, 0, Text));
    }

    [Fact]
    public void GetRandom_AnyLength_IsDrawn()
    {
        Assert.Equal(0, _process.Call(GetRandom, Nowhere, 0));
        Assert.Equal(600, _process.Call(GetRandom, Buffer + 1, 600));
        byte[] bytes = _process.Read(Buffer, 602);
        Assert.Equal((0, 0), (bytes[0], bytes[601]));
        Assert.Equal(599, Enumerable.Range(1, 599).Count(i => bytes[i + 1] == (byte)(bytes[i] + 1)));
        Assert.Equal(Fault, _process.Call(GetRandom, Nowhere, 1));

        // More than a page at a time is for another call.
        Assert.Equal(0x1000, _process.Call(GetRandom, Buffer, 0x1001));
        Assert.Equal(0x1000, _process.Call(GetRandom, Buffer, ulong.MaxValue));
    }

    [Fact]
    public void GetRandom_ProcessorHasNone_IsAnError()
    {
        _process.Platform.HasRandom = false;
        Assert.Equal(Input, _process.Call(GetRandom, Buffer, 16));
        Assert.Equal(new byte[16], _process.Read(Buffer, 16));
    }

    [Fact]
    public void MemoryBarrier_Query_SaysThatItIsThere()
    {
        Assert.Equal(0x18, _process.Call(Barrier));
        Assert.Equal(0, _process.Call(Barrier, 8));
        Assert.Equal(0, _process.Call(Barrier, 16));
    }

    // As if the process had touched the page itself.
    [Fact]
    public void Handle_NoFrameForABuffer_IsTheEnd()
    {
        _process.Platform.Frames.Left = 0;
        Assert.Equal(CallResult.Ended, _process.Serve(GetTime, 1, Buffer + Page.Size));
        Assert.Equal(ProcessEnd.OutOfMemory, _process.Process.Reason);
        _process.Check();
    }

    private static ModuleMessage Request => new() { Kind = ModuleMessageKind.Call, Sequence = 7, Vcpu = 3, Call = 9, Rcx = 1, Rdx = 2, R8 = 3, R9 = 4 };

    private static ModuleMessage Answer => new() { Kind = ModuleMessageKind.Call, Sequence = 7, Result = 0x8000_0000, Rcx = 5, Rdx = 6, R8 = 7, R9 = 8 };

    private void Give() => _process.Process.Give(Request);

    private void Attest() => _process.Process.Permissions = ModulePermissions.Attest;

    private static ModuleMessage ManifestAnswer(int size) => new() { Kind = ModuleMessageKind.Manifest, Sequence = 8, PayloadSize = (uint)size };

    private unsafe void TakeManifest()
    {
        _process.Process.Give(new ModuleMessage { Kind = ModuleMessageKind.Manifest, Sequence = 8 }, null, ModuleMessage.MaxPayload);
        Assert.Equal(64, _process.Call(Read, Requests, Buffer + Page.Size, 64));
    }

    private void Take()
    {
        Give();
        Assert.Equal(64, _process.Call(Read, Requests, Buffer + Page.Size, 64));
    }

    private ulong Open(string path)
    {
        _process.Write(Buffer, path);
        return (ulong)_process.Call(OpenAt, CurrentFolder, Buffer);
    }

    private byte[] AddGuest(ulong page)
    {
        byte[] contents = new byte[Page.Size];
        _process.Platform.Guest.Add(page, contents);
        return contents;
    }

    private void SetTime(ulong seconds, ulong nanoseconds)
    {
        _process.Write(Buffer, seconds);
        _process.Write(Buffer + 8, nanoseconds);
    }
}
