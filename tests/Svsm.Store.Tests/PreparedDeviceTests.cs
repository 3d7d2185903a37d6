// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using Xunit;

namespace Svsm.Store.Tests;

/// <summary>Devices that are marked for a new store.</summary>
public sealed class PreparedDeviceTests : StoreTest
{
    private readonly SimulatedDevice _device = new(1 << 20);

    [Fact]
    public void Prepare_ZeroDevice_IsOneForAStore()
    {
        Assert.False(PreparedDevice.IsPrepared(_device));
        Assert.Equal(StoreState.Fresh, PreparedDevice.Prepare(_device));
        Assert.True(PreparedDevice.IsPrepared(_device));
        Assert.Equal(StoreState.Fresh, PersistentStore.Open(_device, new byte[32]).State);
        Assert.Equal(StoreState.Fresh, StoreSurvey.Read(_device).State);
        Assert.Equal(StoreState.Opened, PersistentStore.Create(_device, new byte[32]).State);
        Assert.False(PreparedDevice.IsPrepared(_device));
        Assert.Equal(StoreState.Opened, PersistentStore.Open(_device, new byte[32]).State);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(4095)]
    [InlineData(4096)]
    [InlineData(3 * 4096 - 1)]
    public void Prepare_SomethingThere_ChangesNothing(int offset)
    {
        _device.Bytes[offset] = 1;
        byte[] before = _device.Bytes.ToArray();
        Assert.Equal(StoreState.NotFresh, PreparedDevice.Prepare(_device));
        Assert.Equal(before, _device.Bytes);
    }

    [Fact]
    public void Prepare_DeviceThatFailsOrIsTooSmall_IsSaid()
    {
        Assert.Equal(StoreState.DeviceUnusable, PreparedDevice.Prepare(new SimulatedDevice((1 << 20) - 4096)));
        Assert.Equal(StoreState.DeviceUnusable, PreparedDevice.Prepare(new SimulatedDevice(1 << 20, sectorSize: 1024)));
        _device.ReadsFail = true;
        Assert.Equal(StoreState.DeviceFailed, PreparedDevice.Prepare(_device));
        Assert.False(PreparedDevice.IsPrepared(_device));
        _device.ReadsFail = false;
        _device.StepsLeft = 1;
        Assert.Equal(StoreState.DeviceFailed, PreparedDevice.Prepare(_device));
    }

    // The mark and something else is not the mark.
    [Fact]
    public void IsPrepared_BlockWithMore_IsNot()
    {
        Assert.Equal(StoreState.Fresh, PreparedDevice.Prepare(_device));
        _device.Bytes[100] = 1;
        Assert.False(PreparedDevice.IsPrepared(_device));
    }
}
