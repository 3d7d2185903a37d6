// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// In place of what the freestanding class library and the scheduler have, so that types with processor instructions in them are compiled here for
// the sake of their data. The instructions themselves have no body: a test that reached one would end in an exception.

using System;

namespace System.Runtime
{
    [AttributeUsage(AttributeTargets.Method)]
    internal sealed class RuntimeImportAttribute(string libraryName, string entryPoint) : Attribute
    {
        public string LibraryName { get; } = libraryName;

        public string EntryPoint { get; } = entryPoint;
    }
}

namespace Svsm.Kernel.Tasks
{
    /// <summary>The last field of PerCpu: nothing lies behind it.</summary>
    internal struct CpuTasks
    {
        public ulong Current;
    }
}
