// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// What somebody types at COM1 before the guest looks: it does that instead of its checks. For authors of modules, who want to see a guest call one:
//
//   call PROTOCOL CALL [RCX [RDX [R8 [R9]]]]     prints the result code and the registers
//   write ADDRESS BYTES                          memory of the guest: 0x and hexadecimal digits, or the rest of the line as text
//   read ADDRESS LENGTH                          prints hexadecimal digits
//
// One on a line; what is behind # does not count. The lines of `svsm module run`, but for the protocol, and its answers
// (Svsm.Sdk/Tool/Commands/ModuleCommand.cs). Addresses are those of Memory. At the end of what was typed the VM ends, with exit status 0; at a line
// that is no command with another. With the command "typed" (Commands.cs) it waits for more instead, until a line that says end.
//
// SAFETY (whole type): memory is accessed where it was validated, and that is checked.

using System;
using Svsm.Platform;
using Svsm.Wire;

namespace Svsm.ProbeGuest;

internal static unsafe class TypedCommands
{
    private const int LineLength = 1024;
    private const ulong Memory = TestMemory.Base;
    private const ulong MemoryLength = 0x10_0000;
    private const int Page = 0x1000;

    private static bool s_waits;

    /// <summary>Does what was typed, and ends the VM.</summary>
    /// <returns>False: nothing was.</returns>
    public static bool TryRun()
    {
        if (!TryType(out byte next))
        {
            return false;
        }

        if (!TestMemory.TryTake(Memory, (int)(MemoryLength / Page)))
        {
            Machine.Terminate(ProbeTermination.SvsmCall);
        }

        Span<byte> line = stackalloc byte[LineLength];
        bool isMore = true;
        for (uint number = 1; isMore; number++)
        {
            int length = 0;
            while (isMore && next != (byte)'\n')
            {
                if (length < LineLength)
                {
                    line[length] = next;
                }

                length++;
                isMore = TryType(out next);
            }

            if (s_waits && length <= LineLength && line.Slice(0, length).SequenceEqual("end"u8))
            {
                break;
            }

            if (length > LineLength || !TryDo(line.Slice(0, length)))
            {
                Text<Com1>.Write("error: line "u8);
                Text<Com1>.WriteDecimal(number);
                Text<Com1>.WriteLine(": wanted is 'call PROTOCOL CALL [RCX [RDX [R8 [R9]]]]', 'write ADDRESS BYTES' or 'read ADDRESS LENGTH', in at most 1024 characters"u8);
                Text<Com1>.WriteLine("error: numbers are decimal or with 0x, addresses are from 0x2000000 to 0x20fffff"u8);
                Machine.Exit(ExitStatus.UnknownCommand);
            }

            isMore = isMore && TryType(out next);
        }

        Machine.Exit(ExitStatus.Passed);
        return true;
    }

    /// <summary>Does what is typed until it is told to end, and ends the VM.</summary>
    public static void Wait()
    {
        s_waits = true;
        TryRun();
    }

    private static bool TryType(out byte value)
    {
        bool isThere = Com1.TryRead(out value);
        while (s_waits && !isThere)
        {
            X64.Pause();
            isThere = Com1.TryRead(out value);
        }

        return isThere;
    }

    private static bool TryDo(ReadOnlySpan<byte> line)
    {
        int comment = line.IndexOf((byte)'#');
        ReadOnlySpan<byte> rest = comment < 0 ? line : line.Slice(0, comment);
        ReadOnlySpan<byte> command = TakeWord(ref rest);
        if (command.SequenceEqual("write"u8))
        {
            // Text may have a '#' in it.
            rest = line;
            TakeWord(ref rest);
            return TryWrite(rest);
        }

        return command.Length == 0 || (command.SequenceEqual("call"u8) ? TryCall(rest) : command.SequenceEqual("read"u8) && TryRead(rest));
    }

    private static bool TryCall(ReadOnlySpan<byte> rest)
    {
        SvsmCall registers = default;
        bool isRight = TryTakeNumber(ref rest, uint.MaxValue, out ulong protocol) & TryTakeNumber(ref rest, uint.MaxValue, out ulong call);
        isRight &= IsAtEnd(rest) || TryTakeNumber(ref rest, ulong.MaxValue, out registers.Rcx);
        isRight &= IsAtEnd(rest) || TryTakeNumber(ref rest, ulong.MaxValue, out registers.Rdx);
        isRight &= IsAtEnd(rest) || TryTakeNumber(ref rest, ulong.MaxValue, out registers.R8);
        isRight &= IsAtEnd(rest) || TryTakeNumber(ref rest, ulong.MaxValue, out registers.R9);
        if (!isRight || !IsAtEnd(rest))
        {
            return false;
        }

        WriteResult(Calls.Call((SvsmProtocol)protocol, (uint)call, ref registers));
        WriteRegister(" RCX=0x"u8, registers.Rcx);
        WriteRegister(" RDX=0x"u8, registers.Rdx);
        WriteRegister(" R8=0x"u8, registers.R8);
        WriteRegister(" R9=0x"u8, registers.R9);
        Text<Com1>.WriteLine();
        return true;
    }

    private static bool TryWrite(ReadOnlySpan<byte> rest)
    {
        if (!TryTakeNumber(ref rest, ulong.MaxValue, out ulong address))
        {
            return false;
        }

        ReadOnlySpan<byte> bytes = Trim(rest);
        ReadOnlySpan<byte> digits = TakeWord(ref rest);
        if (!digits.StartsWith("0x"u8))
        {
            return bytes.Length != 0 && TryLocate(address, (ulong)bytes.Length, out Span<byte> text) && bytes.TryCopyTo(text);
        }

        digits = digits.Slice(2);
        if (digits.Length % 2 != 0 || !TryLocate(address, (ulong)(digits.Length / 2), out Span<byte> memory))
        {
            return false;
        }

        for (int i = 0; i < digits.Length; i++)
        {
            if (!TryDigit(digits[i], out uint digit))
            {
                return false;
            }

            memory[i / 2] = (byte)((memory[i / 2] << 4) | (int)digit);
        }

        return true;
    }

    private static bool TryRead(ReadOnlySpan<byte> rest)
    {
        if (!(TryTakeNumber(ref rest, ulong.MaxValue, out ulong address) & TryTakeNumber(ref rest, MemoryLength, out ulong length)) ||
            !IsAtEnd(rest) || !TryLocate(address, length, out Span<byte> memory))
        {
            return false;
        }

        for (int i = 0; i < memory.Length; i++)
        {
            Text<Com1>.WriteHex(memory[i], 2);
        }

        Text<Com1>.WriteLine();
        return true;
    }

    private static bool TryLocate(ulong address, ulong length, out Span<byte> memory)
    {
        memory = default;
        if (address < Memory || length > MemoryLength || address - Memory > MemoryLength - length)
        {
            return false;
        }

        memory = new Span<byte>((void*)address, (int)length);
        return true;
    }

    private static void WriteResult(SvsmResultCode code)
    {
        ReadOnlySpan<byte> name = code switch
        {
            SvsmResultCode.Success => "Success"u8,
            SvsmResultCode.UnsupportedProtocol => "UnsupportedProtocol"u8,
            SvsmResultCode.UnsupportedCall => "UnsupportedCall"u8,
            SvsmResultCode.InvalidAddress => "InvalidAddress"u8,
            SvsmResultCode.InvalidFormat => "InvalidFormat"u8,
            SvsmResultCode.InvalidParameter => "InvalidParameter"u8,
            SvsmResultCode.InvalidRequest => "InvalidRequest"u8,
            _ => default,
        };
        if (name.Length != 0)
        {
            Text<Com1>.Write(name);
        }
        else
        {
            // As an enumeration of .NET writes a value without a name.
            Text<Com1>.WriteDecimal((ulong)code);
        }
    }

    private static void WriteRegister(ReadOnlySpan<byte> name, ulong value)
    {
        Text<Com1>.Write(name);
        Text<Com1>.WriteHex(value);
    }

    private static bool IsAtEnd(ReadOnlySpan<byte> rest) => Trim(rest).Length == 0;

    private static bool TryTakeNumber(ref ReadOnlySpan<byte> rest, ulong most, out ulong value)
    {
        ReadOnlySpan<byte> word = TakeWord(ref rest);
        bool isHexadecimal = word.StartsWith("0x"u8);
        uint radix = isHexadecimal ? 16u : 10;
        ReadOnlySpan<byte> digits = isHexadecimal ? word.Slice(2) : word;
        value = 0;
        for (int i = 0; i < digits.Length; i++)
        {
            if (!TryDigit(digits[i], out uint digit) || digit >= radix || value > (ulong.MaxValue - digit) / radix)
            {
                return false;
            }

            value = (value * radix) + digit;
        }

        return digits.Length != 0 && value <= most;
    }

    private static bool TryDigit(byte character, out uint digit)
    {
        uint letter = (uint)(character | 0x20) - 'a';
        digit = letter <= 5 ? letter + 10 : (uint)character - '0';
        return digit < 10 || letter <= 5;
    }

    private static ReadOnlySpan<byte> TakeWord(ref ReadOnlySpan<byte> rest)
    {
        ReadOnlySpan<byte> text = Trim(rest);
        int length = 0;
        while (length < text.Length && !IsSpace(text[length]))
        {
            length++;
        }

        rest = text.Slice(length);
        return text.Slice(0, length);
    }

    private static ReadOnlySpan<byte> Trim(ReadOnlySpan<byte> text)
    {
        int first = 0;
        while (first < text.Length && IsSpace(text[first]))
        {
            first++;
        }

        int end = text.Length;
        while (end > first && IsSpace(text[end - 1]))
        {
            end--;
        }

        return text.Slice(first, end - first);
    }

    private static bool IsSpace(byte character) => character is (byte)' ' or (byte)'\t' or (byte)'\r';
}
