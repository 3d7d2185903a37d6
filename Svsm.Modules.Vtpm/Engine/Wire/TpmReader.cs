// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Buffers.Binary;

namespace Svsm.Modules.Vtpm.Wire;

// Reads TPM structures from the engine's private copy of a command. Every method has the response code that the library specification
// gives to a value that is cut off (TPM_RC_INSUFFICIENT), too long (TPM_RC_SIZE) or not allowed; none throws. Sized buffers are slices of
// the command, so a secret in a parameter lives in that one buffer and is gone when the buffer is cleared.
internal ref struct TpmReader
{
    private ReadOnlyMemory<byte> _rest;

    internal TpmReader(ReadOnlyMemory<byte> bytes) => _rest = bytes;

    internal delegate TpmResponseCode ReadElement<T>(ref TpmReader reader, out T value);

    /// <summary>Bytes not read yet.</summary>
    internal readonly int Remaining => _rest.Length;

    internal readonly ReadOnlyMemory<byte> Rest => _rest;

    internal TpmResponseCode ReadByte(out byte value)
    {
        value = 0;
        if (_rest.Length < 1)
        {
            return TpmResponseCode.Insufficient;
        }

        value = _rest.Span[0];
        _rest = _rest[1..];
        return TpmResponseCode.Success;
    }

    internal TpmResponseCode ReadUInt16(out ushort value)
    {
        value = 0;
        if (_rest.Length < 2)
        {
            return TpmResponseCode.Insufficient;
        }

        value = BinaryPrimitives.ReadUInt16BigEndian(_rest.Span);
        _rest = _rest[2..];
        return TpmResponseCode.Success;
    }

    internal TpmResponseCode ReadUInt32(out uint value)
    {
        value = 0;
        if (_rest.Length < 4)
        {
            return TpmResponseCode.Insufficient;
        }

        value = BinaryPrimitives.ReadUInt32BigEndian(_rest.Span);
        _rest = _rest[4..];
        return TpmResponseCode.Success;
    }

    internal TpmResponseCode ReadUInt64(out ulong value)
    {
        value = 0;
        if (_rest.Length < 8)
        {
            return TpmResponseCode.Insufficient;
        }

        value = BinaryPrimitives.ReadUInt64BigEndian(_rest.Span);
        _rest = _rest[8..];
        return TpmResponseCode.Success;
    }

    /// <summary>TPMI_YES_NO.</summary>
    internal TpmResponseCode ReadYesNo(out bool value)
    {
        TpmResponseCode code = ReadByte(out byte number);
        value = number == 1;
        return code != TpmResponseCode.Success ? code : number <= 1 ? TpmResponseCode.Success : TpmResponseCode.Value;
    }

    /// <summary>Bytes without a length of their own.</summary>
    internal TpmResponseCode ReadBytes(int count, out ReadOnlyMemory<byte> value)
    {
        value = default;
        if (count > _rest.Length)
        {
            return TpmResponseCode.Insufficient;
        }

        value = _rest[..count];
        _rest = _rest[count..];
        return TpmResponseCode.Success;
    }

    /// <summary>A TPM2B: a slice of the command.</summary>
    internal TpmResponseCode ReadSized(int limit, out ReadOnlyMemory<byte> value)
    {
        value = default;
        TpmResponseCode code = ReadUInt16(out ushort size);
        if (code != TpmResponseCode.Success)
        {
            return code;
        }

        return size > limit ? TpmResponseCode.Size : ReadBytes(size, out value);
    }

    /// <summary>A TPM2B that outlives the command.</summary>
    internal TpmResponseCode ReadSizedCopy(int limit, out byte[] value)
    {
        TpmResponseCode code = ReadSized(limit, out ReadOnlyMemory<byte> slice);
        value = slice.ToArray();
        return code;
    }

    /// <summary>A TPM2B around a structure, which has to fill it.</summary>
    internal TpmResponseCode ReadSizedStructure<T>(ReadElement<T> read, out T value)
    {
        value = default!;
        TpmResponseCode code = ReadUInt16(out ushort size);
        if (code != TpmResponseCode.Success)
        {
            return code;
        }

        if (size == 0)
        {
            return TpmResponseCode.Size;
        }

        // The structure decides what it needs; a size that differs from that is the error, also when the command is cut off.
        int before = _rest.Length;
        code = read(ref this, out value);
        return code != TpmResponseCode.Success ? code : before - _rest.Length == size ? TpmResponseCode.Success : TpmResponseCode.Size;
    }

    /// <summary>A TPML: the count is checked before anything is allocated.</summary>
    internal TpmResponseCode ReadList<T>(int limit, int minimum, ReadElement<T> read, out T[] value)
    {
        value = [];
        TpmResponseCode code = ReadUInt32(out uint count);
        if (code != TpmResponseCode.Success)
        {
            return code;
        }

        if (count > (uint)limit || count < (uint)minimum)
        {
            return TpmResponseCode.Size;
        }

        var list = new T[count];
        for (int i = 0; i < list.Length; i++)
        {
            code = read(ref this, out list[i]);
            if (code != TpmResponseCode.Success)
            {
                return code;
            }
        }

        value = list;
        return TpmResponseCode.Success;
    }

    internal TpmResponseCode ReadEnum<T>(int width, Func<ulong, bool> isAllowed, TpmResponseCode error, Func<ulong, T> convert, out T value)
    {
        value = default!;
        if (_rest.Length < width)
        {
            return TpmResponseCode.Insufficient;
        }

        ulong number = 0;
        foreach (byte part in _rest.Span[..width])
        {
            number = (number << 8) | part;
        }

        _rest = _rest[width..];
        if (!isAllowed(number))
        {
            return error;
        }

        value = convert(number);
        return TpmResponseCode.Success;
    }

    internal TpmResponseCode ReadAlgorithm(AlgorithmUse use, bool orNull, out AlgorithmId value)
    {
        TpmResponseCode code = ReadUInt16(out ushort number);
        value = (AlgorithmId)number;
        return code != TpmResponseCode.Success ? code : Algorithms.Check(value, use, orNull);
    }

    internal TpmResponseCode ReadHandle(HandleKind kind, bool orNull, out TpmHandle value)
    {
        TpmResponseCode code = ReadUInt32(out uint number);
        value = new TpmHandle(number);
        return code != TpmResponseCode.Success ? code : HandleKinds.Check(value, kind, orNull);
    }
}
