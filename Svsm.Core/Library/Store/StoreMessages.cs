// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Requests to the module that keeps the store, and its answers: for ModuleStore, which asks, and StoreServer, which answers. Little-endian.
//
//   request   00 u32 call | 04 u32 argument | 08 contents
//   answer    00 u32 StoreStatus | 04 u32 number | 08 contents
//
//   Call        Argument                     Contents         Number                   Contents of the answer
//   1 Get       offset in the value          name             bytes of the value       the value from the offset on, as much as fits
//   2 List      -                            a name, or none  how many names           names behind that one, in the order of bytes, as many as fit:
//                                                                                      u16 bytes, name
//   3 Commit    flags: 1 begins, 2 ends      changes, a part  -                        -
//   4 Describe  -                            -                -                        StoreDescription
//
// Changes are one behind the other: 00 u8 1 put, 2 delete | 01 zero | 02 u16 bytes of the name | 04 u32 bytes of the value | 08 name, value. They come in
// parts of any size, for they may be longer than a message; the last part makes them all happen, or none of them. A part that begins forgets what was
// collected before: so a module that failed in the middle leaves nothing behind.
//
// An answer to Describe is 00 u32 flags | 04 zero | 08 u64 quota | 10 u64 used.

namespace Svsm.Core;

/// <summary>Calls of the store.</summary>
internal enum StoreCall : uint
{
    Get = 1,
    List = 2,
    Commit = 3,
    Describe = 4,
}

/// <summary>Numbers of the messages.</summary>
internal static class StoreMessages
{
    public const int HeaderLength = 8;

    /// <summary>The part of a commit begins one.</summary>
    public const uint Begins = 1;

    /// <summary>The part of a commit ends it.</summary>
    public const uint Ends = 2;

    public const int ChangeHeaderLength = 8;
    public const byte Put = 1;
    public const byte Delete = 2;

    public const int DescriptionLength = 24;
    public const uint RollbackDetectedFlag = 1;

    /// <summary>Most bytes of the changes of a commit: those of the largest one of a store, and heads.</summary>
    public const int MaxChanges = 0x5_0000;
}
