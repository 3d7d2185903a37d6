// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Brokers and proxies in the process of a test. Shared with the tests of the module that keeps the store, of the tool, and of the machine.

using System;
using System.Net;
using System.Net.Sockets;
using System.Threading.Tasks;

namespace Svsm.StoreKeys.Tests;

internal static class Serving
{
    /// <summary>An address at which nobody listens yet.</summary>
    public static string FreeUrl()
    {
        using var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        return $"http://127.0.0.1:{((IPEndPoint)listener.LocalEndpoint).Port}/";
    }

    /// <summary>Starts something, and waits until it says that it serves.</summary>
    /// <param name="serve">Gets what it calls then.</param>
    /// <returns>It, until it ends.</returns>
    public static async Task<Task> StartAsync(Func<Action, Task> serve)
    {
        var started = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        Task serving = Task.Run(() => serve(started.SetResult));
        await await Task.WhenAny(started.Task, serving);
        return started.Task.IsCompleted ? serving : throw new InvalidOperationException("It has ended, and never served.");
    }
}
