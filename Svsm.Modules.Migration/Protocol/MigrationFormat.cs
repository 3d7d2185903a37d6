// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Numbers and sizes of the protocol, for both ends; docs/migration-protocol.md has them in tables, and says why.

using System;

namespace Svsm.Migration;

/// <summary>Which end an SVSM is.</summary>
public enum MigrationRole
{
    /// <summary>Has the guest.</summary>
    Source = 1,

    /// <summary>Gets it.</summary>
    Target = 2,
}

/// <summary>How far an end is, as it tells its relay.</summary>
public enum MigrationState
{
    /// <summary>Nothing has been said.</summary>
    Idle = 0,

    /// <summary>HELLO goes or is waited for.</summary>
    Greeting = 1,

    /// <summary>EVIDENCE goes or is waited for.</summary>
    Proof = 2,

    /// <summary>OFFER or ACCEPT goes or is waited for.</summary>
    Offer = 3,

    /// <summary>Memory goes while the guest runs.</summary>
    Copying = 4,

    /// <summary>The guest is stopped; what is left goes. Of a target: as copying, for it cannot tell.</summary>
    Rest = 5,

    /// <summary>Source: it has given up, for good. Target: it holds everything, and waits for the release.</summary>
    HandedOver = 6,

    /// <summary>The guest runs at the target.</summary>
    Ended = 7,

    /// <summary>There will be no migration. The guest is at the source, as before.</summary>
    Aborted = 8,
}

/// <summary>Why a migration was aborted.</summary>
public enum MigrationReason
{
    /// <summary>It was not.</summary>
    None = 0,

    /// <summary>The relay has asked for it.</summary>
    Cancelled = 1,

    /// <summary>No message in time.</summary>
    Silence = 2,

    /// <summary>A message that is none, or not the one that is due.</summary>
    Malformed = 3,

    /// <summary>A record was changed, lost, repeated, or is of another migration.</summary>
    NotAuthentic = 4,

    /// <summary>The other end speaks another version.</summary>
    VersionUnknown = 5,

    /// <summary>The report of the other end is not good.</summary>
    NotTrusted = 6,

    /// <summary>The other end's VM has another policy or other host data.</summary>
    NotThisGuest = 7,

    /// <summary>The target has not what the guest needs.</summary>
    NotSuitable = 8,

    /// <summary>A module of the source says that its state cannot go.</summary>
    CannotMove = 9,

    /// <summary>The source has finished, and something is missing.</summary>
    Incomplete = 10,

    /// <summary>An end failed by itself: memory, random numbers, the security processor.</summary>
    Failed = 11,
}

/// <summary>What is in a frame.</summary>
public enum FrameKind : byte
{
    /// <summary>None.</summary>
    None = 0,

    /// <summary>HELLO or EVIDENCE.</summary>
    Clear = 1,

    /// <summary>A record.</summary>
    Record = 2,

    /// <summary>Between an SVSM and its own relay.</summary>
    Local = 3,

    /// <summary>Between a relay and its machine; from relay to relay as well. Comes to no SVSM.</summary>
    Machine = 4,

    /// <summary>Between two relays. Comes to no SVSM.</summary>
    Relay = 5,
}

/// <summary>A frame, as it goes to the relay.</summary>
/// <param name="Kind">What it is.</param>
/// <param name="Contents">The contents, without the frame's head.</param>
public readonly record struct MigrationFrame(FrameKind Kind, byte[] Contents);

/// <summary>What is in a record.</summary>
public enum RecordType : byte
{
    /// <summary>None.</summary>
    None = 0,

    /// <summary>What the guest is.</summary>
    Offer = 0x01,

    /// <summary>A page.</summary>
    Page = 0x02,

    /// <summary>Pages that hold zeroes.</summary>
    Zeroes = 0x03,

    /// <summary>States of pages.</summary>
    States = 0x04,

    /// <summary>A part of a module's state.</summary>
    Module = 0x05,

    /// <summary>A vCPU.</summary>
    Vcpu = 0x06,

    /// <summary>There is no more.</summary>
    Finish = 0x07,

    /// <summary>The target may run.</summary>
    Release = 0x08,

    /// <summary>The source gives the migration up, not the guest.</summary>
    SourceAbort = 0x09,

    /// <summary>The target has what the offer needs.</summary>
    Accept = 0x41,

    /// <summary>How far the target is.</summary>
    Progress = 0x42,

    /// <summary>The target holds everything.</summary>
    Held = 0x43,

    /// <summary>The guest runs at the target.</summary>
    Running = 0x44,

    /// <summary>The target gives up.</summary>
    TargetAbort = 0x49,
}

internal static class MigrationFormat
{
    public const uint Version = 1;
    public const int PageLength = 4096;

    // Of a frame.
    public const int MaxContents = 0x1_1000;

    public const int RoleOffset = 0x08;
    public const int VersionOffset = 0x0C;
    public const int RandomOffset = 0x10;
    public const int RandomLength = 32;
    public const int KeyOffset = 0x30;
    public const int NumberLength = 48;
    public const int HelloLength = KeyOffset + (2 * NumberLength);

    public const int ReportOffset = 0x008;
    public const int ReportLength = 0x4A0;
    public const int CertificatesOffset = ReportOffset + ReportLength;
    public const int MaxCertificates = 0x4000;

    public const int DigestLength = 48;
    public const int SecretLength = 48;
    public const int TagLength = 16;

    public const int HeadLength = 0x18;
    public const int TypeOffset = 0x04;
    public const int EpochOffset = 0x06;
    public const int RecordNumberOffset = 0x08;
    public const int AddressOffset = 0x10;
    public const int MaxText = 0x1_0000;
    public const int RecordsOfAnEpoch = 0x1_0000;

    public const int FinishLength = (2 * sizeof(ulong)) + DigestLength;

    // Records that the source sends beyond what the target has dealt with, and after how many the target says so at the latest.
    public const ulong Window = 4096;
    public const ulong ProgressEvery = 1024;

    public static ReadOnlySpan<byte> HelloMagic => "SVSMMIG1"u8;

    public static ReadOnlySpan<byte> SourceReportLabel => "svsm migration 1 source report\0"u8;

    public static ReadOnlySpan<byte> TargetReportLabel => "svsm migration 1 target report\0"u8;

    public static ReadOnlySpan<byte> SecretsLabel => "svsm migration 1 secrets"u8;

    public static ReadOnlySpan<byte> KeyLabel => "svsm migration 1 key"u8;

    public static ReadOnlySpan<byte> NextLabel => "svsm migration 1 next"u8;
}
