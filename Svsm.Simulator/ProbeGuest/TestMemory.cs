// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using Svsm.Wire;

namespace Svsm.ProbeGuest;

/// <summary>RAM that no part of the image uses, for checks. A VM needs 64 MiB for it.</summary>
internal static class TestMemory
{
    /// <summary>First GPA, 2-MiB aligned.</summary>
    public const ulong Base = 0x0200_0000;

    /// <summary>Length in bytes.</summary>
    public const ulong Length = 0x0080_0000;

    /// <summary>A 2-MiB page of it that is assigned in 4-KiB pages.</summary>
    public const ulong Split = Base + 0x40_0000;

    /// <summary>A 2-MiB page of it that is assigned as a whole.</summary>
    public const ulong Large = Base + 0x60_0000;

    /// <summary>A page of it.</summary>
    public static ulong PageAt(int number) => Base + ((ulong)number * 0x1000);

    /// <summary>Makes pages private and has the SVSM validate them: memory to work with.</summary>
    public static bool TryTake(ulong first, int pageCount)
    {
        bool isTaken = MakePrivate(first, pageCount);
        for (int i = 0; isTaken && i < pageCount; i++)
        {
            isTaken = Calls.PValidateOne(first + ((ulong)i * 0x1000), true, false, false) == SvsmResultCode.Success;
        }

        return isTaken;
    }

    /// <summary>Makes pages private, as a guest has to before they are validated.</summary>
    public static bool MakePrivate(ulong first, int pageCount)
    {
        for (int i = 0; i < pageCount; i++)
        {
            if (!Machine.ChangePageState(first + ((ulong)i * 0x1000), PageStateOperation.Private))
            {
                return false;
            }
        }

        return true;
    }
}
