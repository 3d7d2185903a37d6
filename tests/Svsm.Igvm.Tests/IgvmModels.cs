// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Generic;
using System.Collections.Immutable;
using System.Linq;
using CsCheck;

namespace Svsm.Igvm.Tests;

/// <summary>Generators of random valid files.</summary>
internal static class IgvmModels
{
    private static readonly Gen<ulong> s_gpa = Gen.ULong[0, 1ul << 36].Select(page => page << 12);

    private static readonly Gen<byte[]> s_page = Gen.Int[0, 5].Select(TestFiles.Page);

    private static readonly Gen<ReadOnlyMemory<byte>> s_optionalPage = Gen.OneOf(Gen.Const(default(ReadOnlyMemory<byte>)), s_page.Select(page => (ReadOnlyMemory<byte>)page));

    private static readonly Gen<uint> s_mask = Gen.UInt[0, 15];

    private static readonly Gen<IgvmDirective> s_directive = Gen.OneOf<IgvmDirective>(
        Gen.Select(s_gpa, s_mask, Gen.Int[0, 3], Gen.Int[0, 3], s_optionalPage).Select((gpa, mask, flags, type, data) =>
            (IgvmDirective)new IgvmPageData { Gpa = gpa, CompatibilityMask = mask, Flags = (IgvmPageDataFlags)(flags * 2), DataType = (IgvmPageDataType)type, Data = data }),
        Gen.Select(Gen.ULong[0, 1ul << 30], s_mask, s_optionalPage).Select((page, mask, data) =>
            (IgvmDirective)new IgvmPageData { Gpa = page << 21, CompatibilityMask = mask, Flags = IgvmPageDataFlags.Is2MBPage, Data = data }),
        Gen.Select(s_gpa, s_mask, Gen.UInt[0, 0xFFFFF], Gen.Bool).Select((gpa, mask, pages, flag) =>
            (IgvmDirective)new IgvmRequiredMemory { Gpa = gpa, CompatibilityMask = mask, ByteLength = pages << 12, Flags = flag ? IgvmRequiredMemoryFlags.Vtl2Protectable : 0 }),
        Gen.Select(s_gpa, s_mask, Gen.UInt[0, 0xFFFFF]).Select((gpa, mask, pages) =>
            (IgvmDirective)new IgvmErrorRange { Gpa = gpa, CompatibilityMask = mask, ByteLength = pages << 12 }),
        Gen.Select(s_gpa, Gen.UShort, s_page).Select((gpa, index, data) =>
            (IgvmDirective)new IgvmVpContext { Gpa = gpa, CompatibilityMask = TestFiles.Snp, VpIndex = index, Data = data }),
        Gen.Select(Gen.ULong.Array[16], Gen.ULong, Gen.UShort).Select((registers, rip, index) =>
            (IgvmDirective)new IgvmVpContext
            {
                Gpa = 0,
                CompatibilityMask = TestFiles.Native,
                VpIndex = index,
                Data = new IgvmNativeVpContext { GeneralRegisters = [.. registers], Rip = rip }.ToPage(),
            }),
        Gen.Select(Gen.Byte[0, 2], Gen.Select(Gen.UInt, Gen.ULong).Array[1, 20]).Select((vtl, registers) =>
            (IgvmDirective)new IgvmVpContext
            {
                Gpa = 0,
                CompatibilityMask = TestFiles.Vsm,
                Data = IgvmVbsRegister.WriteList([.. registers.Select(register => new IgvmVbsRegister(vtl, register.Item1, register.Item2))]),
            }),
        Gen.Select(Gen.Byte.Array[48], Gen.UInt, Gen.Byte.Array[72], Gen.Bool).Select((digest, svn, number, author) =>
            (IgvmDirective)(TestFiles.IdBlock with
            {
                LaunchDigest = digest,
                GuestSvn = svn,
                IdKeySignature = new IgvmSnpSignature(number, number),
                AuthorKeyEnabled = (byte)(author ? 1 : 0),
            })));

    private static readonly Gen<IgvmInitialization> s_initialization = Gen.OneOf<IgvmInitialization>(
        Gen.Select(Gen.ULong, s_mask).Select((policy, mask) => (IgvmInitialization)new IgvmGuestPolicy { CompatibilityMask = mask, Policy = policy }),
        Gen.Select(Gen.Byte.Array[1, 50], s_mask).Select((data, mask) => (IgvmInitialization)new IgvmCorimDocument { CompatibilityMask = mask, Data = data }),
        Gen.Select(Gen.Byte.Array[0, 50], s_mask).Select((data, mask) => (IgvmInitialization)new IgvmCorimSignature { CompatibilityMask = mask, Data = data }));

    private static readonly Gen<IgvmDirective[]> s_parameters = Gen.Select(Gen.Int[0, 5], Gen.Int[0, 9].Array[0, 8], s_gpa, Gen.Bool).Select((areas, kinds, gpa, insert) =>
    {
        IgvmParameterKind[] all = Enum.GetValues<IgvmParameterKind>();
        List<IgvmDirective> directives = [];
        for (uint i = 0; i < areas; i++)
        {
            directives.Add(new IgvmParameterArea { ByteLength = 0x1000 * (i % 3), Index = i * 1000, InitialData = i % 3 == 1 ? TestFiles.Page((int)i) : default(ReadOnlyMemory<byte>) });
            directives.AddRange(kinds.Select(kind => new IgvmParameterUsage { Kind = all[kind], AreaIndex = i * 1000, ByteOffset = (uint)kind * 64 }));
            if (insert)
            {
                directives.Add(new IgvmParameterInsert { Gpa = gpa + (i << 12), CompatibilityMask = 1, AreaIndex = i * 1000 });
            }
        }

        return directives.ToArray();
    });

    public static Gen<IgvmFile> Files { get; } = Gen.Select(Gen.Bool, s_initialization.Array[0, 4], s_parameters, s_directive.Array[0, 20]).Select((v2, initializations, parameters, directives) => new IgvmFile
    {
        FormatVersion = v2 ? IgvmFormatVersion.V2 : IgvmFormatVersion.V1,
        Platforms = TestFiles.Everything.Platforms,
        Initializations = [.. initializations],

        // A page with data at the end: a file without any is not allowed.
        Directives = [.. parameters, .. directives, new IgvmPageData { Gpa = 0x1000, CompatibilityMask = 1, Data = TestFiles.Page(77) }],
    });
}
