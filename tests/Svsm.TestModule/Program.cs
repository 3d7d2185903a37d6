// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using Svsm.Core;

return ModuleHost.Run(() => new Svsm.TestModule.TestModule());
