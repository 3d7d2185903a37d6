// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Random numbers for System.Security.Cryptography.RandomNumberGenerator in the program of modules, from the kernel.
//
// The class library has them from OpenSSL, through functions that it looks for in a shared library. The program is compiled with these in
// their place, so that it loads nothing. No other function of that library is there: the build refuses a module that would call one.

using System.Runtime.InteropServices;

internal static unsafe class OpenSslEntropy
{
    private const int LargestHash = 64;
    private const int MostBytes = 256;

    [UnmanagedCallersOnly(EntryPoint = "CryptoNative_EnsureOpenSslInitialized")]
    private static int Initialize() => 0;

    [UnmanagedCallersOnly(EntryPoint = "CryptoNative_GetMaxMdSize")]
    private static int GetLargestHash() => LargestHash;

    [UnmanagedCallersOnly(EntryPoint = "CryptoNative_ErrGetExceptionError")]
    private static ulong GetError(int* isAllocationFailure)
    {
        // SAFETY: the class library hands over the address of a variable.
        *isAllocationFailure = 0;
        return 1;
    }

    [UnmanagedCallersOnly(EntryPoint = "CryptoNative_ErrErrorStringN")]
    private static void GetErrorText(ulong error, byte* buffer, int length)
    {
        if (length > 0)
        {
            // SAFETY: the class library hands over a buffer of this length.
            *buffer = 0;
        }
    }

    [UnmanagedCallersOnly(EntryPoint = "CryptoNative_GetRandomBytes")]
    private static int GetRandomBytes(byte* buffer, int length)
    {
        while (length > 0)
        {
            // SAFETY: the class library hands over a buffer of this length, and no more than what is left of it is asked for.
            nint got = GetRandom(buffer, (nuint)(length > MostBytes ? MostBytes : length), 0);
            if (got <= 0)
            {
                return 0;
            }

            buffer += got;
            length -= (int)got;
        }

        return 1;
    }

    [DllImport("libc", EntryPoint = "getrandom")]
    private static extern nint GetRandom(byte* buffer, nuint length, uint flags);
}
