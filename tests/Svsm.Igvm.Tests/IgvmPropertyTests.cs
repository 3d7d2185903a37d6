// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Linq;
using CsCheck;
using Xunit;

namespace Svsm.Igvm.Tests;

public sealed class IgvmPropertyTests
{
    [Fact]
    public void Parse_WhatWasWritten_GivesTheSameFileAndBytes() => IgvmModels.Files.Sample(
        file =>
        {
            byte[] bytes = file.Write();
            IgvmFile parsed = IgvmFile.Parse(bytes);
            return file.Equals(parsed) && parsed.GetHashCode() == file.GetHashCode() && bytes.AsSpan().SequenceEqual(parsed.Write());
        },
        iter: 500);

    [Fact]
    public void Write_AnyFile_StoresEachBlockOnce() => IgvmModels.Files.Sample(
        file =>
        {
            int blocks = file.Directives.Select(directive => directive switch
            {
                IgvmPageData page => page.Data,
                IgvmVpContext context => context.Data,
                IgvmParameterArea area => area.InitialData,
                _ => default,
            }).Concat(file.Initializations.Select(header => header switch
            {
                IgvmCorimDocument document => document.Data,
                IgvmCorimSignature signature => signature.Data,
                _ => default,
            })).Where(data => !data.IsEmpty).Select(data => Convert.ToHexString(data.Span)).Distinct().Sum(text => text.Length / 2);
            byte[] bytes = file.Write();
            int headers = BitConverter.ToInt32(bytes, 8) + BitConverter.ToInt32(bytes, 12);
            return bytes.Length == headers + blocks;
        },
        iter: 100);

    [Fact]
    public void Validate_AnyFile_ReportsAndDoesNotThrow() => IgvmModels.Files.Sample(file => IgvmValidator.Validate(file).All(finding => finding.Reason.Length > 0), iter: 200);
}
