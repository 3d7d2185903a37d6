// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Linq;
using Svsm.SelfTest;
using Xunit;

namespace Svsm.CoreLib.Tests;

/// <summary>The image's own tests, compiled against the real class library: the same source must mean the same in both worlds.</summary>
public class SharedSourceTests
{
    [Fact]
    public void Run_AgainstRealClassLibrary_EveryTestPasses()
    {
        LanguageTests.Run();
        DispatchTests.Run();
        StaticsTests.Run();
        MemoryTests.Run();
        CoreLibTests.Run();

        Assert.NotEmpty(Check.Results);
        Assert.Empty(Check.Results.Where(result => !result.Passed).Select(result => result.Name));
    }
}
