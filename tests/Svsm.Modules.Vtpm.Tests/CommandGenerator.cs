// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Generic;
using System.Linq;
using System.Reflection;
using Svsm.Modules.Vtpm.Commands;
using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Tests;

// Makes commands out of their declarations (the nested Request and Response of each command): handles of what the TPM has, parameters of the
// declared types. What a response brings (a private area, a ticket, a saved context, a signature) is kept under the name and under the type of
// its declaration, together with the parameters of the command that brought it, and goes into later commands: parts of one answer stay
// together more often than not. So many commands succeed, and what fails gets far before it does. A share of the commands is then mutated.
internal sealed class CommandGenerator(Random random)
{
    private const int MaxGroups = 64;

    private static readonly Dictionary<CommandCode, Declaration> s_declarations = typeof(Tpm).Assembly.GetTypes()
        .Select(type => (Type: type, Attribute: type.GetCustomAttribute<TpmCommandAttribute>()))
        .Where(command => command.Attribute is not null)
        .ToDictionary(command => command.Attribute!.Code, command => new Declaration(Parameters(command.Type, "Request"), Parameters(command.Type, "Response")));

    // P-256's generator.
    private static readonly byte[] s_point =
    [
        .. TestTpm.Sized(Convert.FromHexString("6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296")),
        .. TestTpm.Sized(Convert.FromHexString("4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5")),
    ];

    // Attributes: user authorisation, no protection against dictionary attacks, of the TPM's own making; of data that are given; both can be duplicated or not.
    private static readonly byte[][] s_templates =
    [
        [0, 0x23, 0, 0x0B, 0, 3, 4, 0x72, 0, 0, 0, 6, 0, 128, 0, 0x43, 0, 0x10, 0, 3, 0, 0x10, 0, 0, 0, 0],
        [0, 0x23, 0, 0x0B, 0, 3, 4, 0x60, 0, 0, 0, 6, 0, 128, 0, 0x43, 0, 0x10, 0, 3, 0, 0x10, 0, 0, 0, 0],
        [0, 0x23, 0, 0x0B, 0, 4, 4, 0x72, 0, 0, 0, 0x10, 0, 0x10, 0, 3, 0, 0x10, 0, 0, 0, 0],
        [0, 0x23, 0, 0x0B, 0, 4, 4, 0x60, 0, 0, 0, 0x10, 0, 0x18, 0, 0x0B, 0, 3, 0, 0x10, 0, 0, 0, 0],
        [0, 0x23, 0, 0x0B, 0, 5, 4, 0x72, 0, 0, 0, 0x10, 0, 0x18, 0, 0x0B, 0, 3, 0, 0x10, 0, 0, 0, 0],
        [0, 0x23, 0, 0x0B, 0, 4, 4, 0x72, 0, 0, 0, 0x10, 0, 0x1A, 0, 0x0B, 0, 0, 0, 3, 0, 0x10, 0, 0, 0, 0],
        [0, 0x23, 0, 0x0B, 0, 2, 4, 0x72, 0, 0, 0, 0x10, 0, 0x10, 0, 3, 0, 0x10, 0, 0, 0, 0],
        [0, 0x23, 0, 0x0B, 0, 2, 4, 0x60, 0, 0, 0, 0x10, 0, 0x10, 0, 3, 0, 0x21, 0, 0x0B, 0, 0, 0, 0],
        [0, 8, 0, 0x0B, 0, 4, 4, 0x72, 0, 0, 0, 5, 0, 0x0B, 0, 0],
        [0, 8, 0, 0x0B, 0, 0, 4, 0x52, 0, 0, 0, 0x10, 0, 0],
        [0, 8, 0, 0x0B, 0, 0, 4, 0x40, 0, 0, 0, 0x10, 0, 0],
        [0, 8, 0, 0x0B, 0, 3, 4, 0x72, 0, 0, 0, 0x0A, 0, 0x0B, 0, 0x22, 0, 0],
        [0, 0x25, 0, 0x0B, 0, 6, 4, 0x72, 0, 0, 0, 6, 0, 128, 0, 0x43, 0, 0],
        [0, 0x25, 0, 0x0B, 0, 6, 4, 0x60, 0, 0, 0, 6, 1, 0, 0, 0x10, 0, 0],
        [0, 1, 0, 0x0B, 0, 4, 4, 0x72, 0, 0, 0, 0x10, 0, 0x10, 8, 0, 0, 0, 0, 0, 0, 0],
    ];

    // Written and read with the index' own authorisation or the owner's; ordinary, counter, bits, extend, PIN fail, PIN pass.
    private static readonly (uint Attributes, int Size)[] s_nvKinds =
        [(0x0206_0006, 32), (0x0206_0016, 8), (0x0206_0026, 8), (0x0206_0046, 32), (0x0206_0082, 8), (0x0206_0092, 8), (0x0A06_0006, 16), (0x8206_0006, 16)];

    // A key of 2048 bits that protects nothing, for LoadExternal.
    private static readonly byte[] s_rsaPrivate = TestTpm.Sized(
    [
        0, 1, 0, 0, 0, 0,
        .. TestTpm.Sized(Convert.FromHexString(
            "ddd4ba2c1b76f37b46154480599e0a3cfa4d3cdd6ce546087171dea0d3cc8788fca96b688de5e65bba88831be75a90e0015f3a0871b7d41ffa23b0c58bb49583"
            + "9d0b3b41e66cccf08896dd7ff32203ad54ad2cbd65da7856cc0f3f636638536ea8c4a9a05dda019bfd7269c30cef85b08c3266dd9ab612cd6a253d837745974d")),
    ]);

    private static readonly byte[] s_rsaPublic = TestTpm.Sized(
    [
        0, 1, 0, 0x0B, 0, 6, 4, 0x40, 0, 0, 0, 0x10, 0, 0x10, 8, 0, 0, 0, 0, 0,
        .. TestTpm.Sized(Convert.FromHexString(
            "acec480a28376d33ed8d8de6977f608cd697696fe8ed5a3ae34024b5e838645bbce64bdd6af6b03f72cb8fd1360254d6ef06295599fe2c94b784f3acb0cedf16"
            + "95b6b7524b1f9fcccfe04861cddab4ec7131451ac330084c8a32ea5811abebf8f14522261d3673e07195c3443664c4f0f7f5fd6626304b416a9ed6aa2b93b6fe"
            + "411401c28d670cad709b612a5415aa9fb24aced0705c8217c570ad0205d2f7c9d228ea324a1a16108cf8d167a158eb2afc9a6ef655718f0e7c0676fdb6d01dc3"
            + "fcc8108e123c47b9e0bc8f5a6d1b1a5a04ed110cb9029dae4631356b4c22824312e93b1efb83e061deacfac37eb6bf574b362767746e05821f32a271f9fec961")),
    ]);

    private readonly List<Dictionary<string, byte[]>> _groups = [];

    /// <summary>A command and what is known of it before it is done.</summary>
    internal (CommandDescriptor Descriptor, byte[] Bytes) Next(Tpm tpm)
    {
        CommandDescriptor descriptor = Choose(tpm);
        var handles = new uint[descriptor.Handles.Length];
        var sessions = new List<byte>();
        for (int i = 0; i < handles.Length; i++)
        {
            HandleDescriptor handle = descriptor.Handles[i];
            handles[i] = handle.OrNull && random.Next(4) != 0 ? TestTpm.Null : Handle(tpm, handle.Kind, descriptor.Code);
            if (i > 0 && random.Next(2) == 0 && HandleKinds.Check(new TpmHandle(handles[0]), handle.Kind, handle.OrNull) == TpmResponseCode.Success)
            {
                // Commands on NV indices name the index twice.
                handles[i] = handles[0];
            }

            if (handle.Role != AuthorizationRole.None)
            {
                bool isPolicy = handle.Role != AuthorizationRole.User || random.Next(20) == 0;
                sessions.AddRange(isPolicy ? [.. TestTpm.U32(Handle(tpm, HandleKind.PolicySession)), 0, 0, (byte)random.Next(2), 0, 0] : TestTpm.PasswordSession());
            }
        }

        // A group that has what the command takes, if a look at a few finds one.
        Dictionary<string, byte[]>? group = null;
        for (int i = 0; i < 8 && _groups.Count != 0 && (group is null || s_declarations[descriptor.Code].Request.All(parameter => !group.ContainsKey(NameOf(parameter)))); i++)
        {
            group = _groups[random.Next(_groups.Count)];
        }

        byte[] parameters = [.. s_declarations[descriptor.Code].Request.SelectMany(parameter => Value(tpm, parameter, group))];
        byte[] command = TestTpm.Command((uint)descriptor.Code, handles, parameters, sessions.Count == 0 ? null : [.. sessions]);
        return (descriptor, random.Next(5) == 0 ? Mutate(command) : command);
    }

    /// <summary>Keeps what a command that succeeded was given and has answered.</summary>
    internal void Learn(CommandDescriptor descriptor, byte[] command, byte[] response)
    {
        var group = new Dictionary<string, byte[]>();
        bool hasSessions = command[1] == 2;
        int offset = 10 + (4 * descriptor.Handles.Length);
        Walk(s_declarations[descriptor.Code].Request, command, hasSessions ? offset + 4 + Int32(command, offset) : offset, command.Length, group);
        offset = 10 + (descriptor.HasResponseHandle ? 4 : 0);
        int end = hasSessions ? offset + 4 + Int32(response, offset) : response.Length;
        Walk(s_declarations[descriptor.Code].Response, response, hasSessions ? offset + 4 : offset, end, group);
        if (group.Count == 0)
        {
            return;
        }

        if (_groups.Count == MaxGroups)
        {
            _groups.RemoveAt(random.Next(MaxGroups));
        }

        _groups.Add(group);
    }

    /// <summary>Forgets everything: it belongs to another TPM. An RSA key is known: to make one takes too long.</summary>
    internal void Forget()
    {
        _groups.Clear();
        _groups.Add(new Dictionary<string, byte[]> { ["Private"] = s_rsaPrivate, ["Public"] = s_rsaPublic, ["Hierarchy"] = TestTpm.U32(TestTpm.Null) });
    }

    // What is missing, more often than chance would have it: objects, a policy session, NV indices; or room for them.
    private CommandDescriptor Choose(Tpm tpm)
    {
        if (random.Next(4) == 0)
        {
            CommandCode? wanted = tpm.Objects.LoadedCount == TpmLimits.LoadedObjects || tpm.Sessions.LoadedCount == TpmLimits.LoadedSessions ? CommandCode.FlushContext
                : tpm.Objects.LoadedCount < 2 ? Pick([CommandCode.CreatePrimary, CommandCode.CreatePrimary, CommandCode.Load, CommandCode.LoadExternal, CommandCode.HashSequenceStart])
                : tpm.Sessions.LoadedCount < 2 ? CommandCode.StartAuthSession
                : tpm.Persistent.NvIndices.Length < 6 ? CommandCode.NvDefineSpace
                : null;
            if (wanted is CommandCode code)
            {
                return CommandTable.Find((uint)code)!;
            }
        }

        CommandDescriptor descriptor;
        do
        {
            descriptor = CommandTable.All[random.Next(CommandTable.All.Length)];
        }
        while (descriptor.Code == CommandCode.Startup || (IsDrastic(descriptor.Code) && random.Next(20) != 0));
        return descriptor;
    }

    // The type of key that a command wants, where it wants one.
    private static AlgorithmId? KeyType(CommandCode code) => code switch
    {
        CommandCode.RsaEncrypt or CommandCode.RsaDecrypt => AlgorithmId.Rsa,
        CommandCode.EccEncrypt or CommandCode.EccDecrypt or CommandCode.EcdhKeyGen or CommandCode.EcdhZGen or CommandCode.Commit or CommandCode.ZGen2Phase
            or CommandCode.VerifySignature => AlgorithmId.Ecc,
        CommandCode.Hmac or CommandCode.HmacStart or CommandCode.Unseal => AlgorithmId.KeyedHash,
        CommandCode.EncryptDecrypt or CommandCode.EncryptDecrypt2 => AlgorithmId.SymmetricCipher,
        _ => null,
    };

    // After these little is as it was; they are done now and then.
    private static bool IsDrastic(CommandCode code)
        => code is CommandCode.Clear or CommandCode.ChangeEps or CommandCode.ChangePps or CommandCode.HierarchyControl or CommandCode.HierarchyChangeAuth
            or CommandCode.SetPrimaryPolicy or CommandCode.ClearControl or CommandCode.PcrAllocate or CommandCode.Shutdown or CommandCode.FlushContext
            or CommandCode.DictionaryAttackParameters or CommandCode.NvGlobalWriteLock or CommandCode.NvChangeAuth or CommandCode.NvUndefineSpace or CommandCode.ReadOnlyControl;

    private static ParameterInfo[] Parameters(Type command, string name)
        => command.GetNestedType(name, BindingFlags.NonPublic)?.GetConstructors()
            .Single(constructor => constructor.GetParameters().Length != 0).GetParameters().Where(parameter => parameter.GetCustomAttribute<HandleAttribute>() is null).ToArray() ?? [];

    private byte[] Mutate(byte[] command)
    {
        switch (random.Next(5))
        {
            case 0:
                command[random.Next(10, command.Length + 1) % command.Length] ^= (byte)(1 << random.Next(8));
                return command;
            case 1:
                command[random.Next(command.Length)] = (byte)(random.Next(2) * 255);
                return command;
            case 2:
                // Too short, with the right size in its header.
                return WithSize(command[..random.Next(10, command.Length + 1)]);
            case 3:
                return WithSize([.. command, .. Bytes(random.Next(1, 9))]);
            default:
                int from = random.Next(10, command.Length + 1);
                int to = random.Next(from, command.Length + 1);
                return WithSize([.. command[..from], .. command[to..], .. command[from..to]]);
        }
    }

    private static byte[] WithSize(byte[] command)
    {
        byte[] cut = command.Length > Tpm.MaxCommandSize ? command[..Tpm.MaxCommandSize] : command;
        TestTpm.U32((uint)cut.Length).CopyTo(cut, 2);
        return cut;
    }

    private uint Handle(Tpm tpm, HandleKind kind, CommandCode code = default)
    {
        if (random.Next(30) == 0)
        {
            return (uint)random.NextInt64();
        }

        uint[] objects = [.. tpm.Objects.LoadedHandles().Select(handle => handle.Value), .. tpm.Persistent.Objects.Select(stored => stored.Handle.Value)];
        uint[] indices = [.. tpm.Persistent.NvIndices.Select(index => index.Public.Index.Value)];
        uint[] sessions = [.. tpm.Sessions.LoadedHandles().Select(handle => handle.Value)];
        uint[] all = [.. objects, .. indices, .. sessions, TestTpm.Owner, TestTpm.Endorsement, TestTpm.Platform, TestTpm.Lockout, (uint)random.Next(24), 0x8100_0000 + (uint)random.Next(4)];
        uint[] fitting = [.. all.Where(handle => HandleKinds.Check(new TpmHandle(handle), kind, false) == TpmResponseCode.Success)];
        if (random.Next(8) != 0)
        {
            // And of those the ones that the command can do something with.
            uint[] better =
            [
                .. fitting.Where(handle => kind == HandleKind.PolicySession ? sessions.Contains(handle)
                    : kind is not (HandleKind.Object or HandleKind.Parent) || (objects.Contains(handle) && (
                        code is CommandCode.SequenceUpdate or CommandCode.SequenceComplete or CommandCode.EventSequenceComplete ? tpm.Objects.Find(new TpmHandle(handle)) is not KeyObject
                        : tpm.Objects.Find(new TpmHandle(handle)) is KeyObject key
                            && (kind != HandleKind.Parent || key.IsStorageParent)
                            && (KeyType(code) is not AlgorithmId type || key.Public.Type == type)
                            && (code is not (CommandCode.Create or CommandCode.Load or CommandCode.Import or CommandCode.MakeCredential) || key.IsStorageParent))))
            ];
            fitting = better.Length == 0 ? fitting : better;
        }

        return fitting.Length == 0 ? TestTpm.Null : fitting[random.Next(fitting.Length)];
    }

    // The bytes of a parameter: something that was seen, or something new.
    private byte[] Value(Tpm tpm, ParameterInfo parameter, Dictionary<string, byte[]>? group)
    {
        if (group is not null && random.Next(4) != 0 && (group.TryGetValue(NameOf(parameter), out byte[]? seen) || group.TryGetValue(TypeOf(parameter), out seen)))
        {
            return seen;
        }

        byte[] value = Content(tpm, parameter);
        return parameter.GetCustomAttribute<SizedAttribute>() is null ? value : TestTpm.Sized(value);
    }

    private byte[] Content(Tpm tpm, ParameterInfo parameter)
    {
        Type type = parameter.ParameterType;
        bool isNull = parameter.GetCustomAttribute<OrNullAttribute>() is not null && random.Next(2) == 0;
        if (parameter.GetCustomAttribute<SizeAttribute>() is SizeAttribute size)
        {
            return Buffer(parameter, size.Limit);
        }

        if (parameter.GetCustomAttribute<CountAttribute>() is CountAttribute count)
        {
            int items = random.Next(Math.Min(count.Minimum, 2), 3);
            return [.. TestTpm.U32((uint)items), .. Enumerable.Range(0, items).SelectMany(_ => Structure(tpm, type.GetElementType()!, parameter, false))];
        }

        return Structure(tpm, type, parameter, isNull);
    }

    private byte[] Structure(Tpm tpm, Type type, ParameterInfo parameter, bool isNull)
    {
        if (type.IsEnum && type != typeof(AlgorithmId))
        {
            Array members = Enum.GetValues(type);
            ulong member = Convert.ToUInt64(members.GetValue(random.Next(members.Length)), System.Globalization.CultureInfo.InvariantCulture);
            return Integer(member, System.Runtime.InteropServices.Marshal.SizeOf(Enum.GetUnderlyingType(type)));
        }

        return type.Name switch
        {
            nameof(AlgorithmId) => isNull ? [0, 0x10] : Algorithm(parameter.GetCustomAttribute<AlgorithmAttribute>()?.Use),
            nameof(TpmHandle) => TestTpm.U32(Handle(tpm, parameter.GetCustomAttribute<HandleParameterAttribute>()?.Kind ?? HandleKind.Object)),
            nameof(Boolean) => [(byte)random.Next(2)],
            nameof(Byte) => [(byte)random.Next(32)],
            nameof(UInt16) => TestTpm.U16(Number(parameter.Name!)),
            nameof(UInt32) => TestTpm.U32((uint)Number(parameter.Name!)),
            nameof(UInt64) => Integer((ulong)random.Next(), 8),
            nameof(PublicArea) => Pick(s_templates),
            nameof(SensitiveCreate) => [0, 0, .. random.Next(3) == 0 ? TestTpm.Sized(Bytes(16)) : [0, 0]],
            nameof(PublicParameters) => [0, 0x23, .. isNull ? [0, 0x10] : (byte[])[0, 6, 0, 128, 0, 0x43], 0, 0x10, 0, (byte)random.Next(3, 6), 0, 0x10],
            nameof(NvPublic) => NvArea(),
            nameof(NvPublic2) => [1, .. NvArea()],
            nameof(EccPoint) => s_point,
            nameof(PcrSelection) => [0, (byte)(random.Next(4) == 0 ? 4 : 0x0B), 3, (byte)random.Next(256), (byte)random.Next(256), (byte)random.Next(256)],
            nameof(HashValue) => [0, 0x0B, .. Bytes(32)],
            nameof(Digest) => TestTpm.Sized(Bytes(32)),
            nameof(Signature) => [0, 0x18, 0, 0x0B, .. TestTpm.Sized(Bytes(32)), .. TestTpm.Sized(Bytes(32))],
            nameof(Ticket) => [0x80, (byte)Pick([0x21, 0x22, 0x23, 0x24, 0x25]), 0x40, 0, 0, 7, 0, 0],
            nameof(SignatureScheme) => isNull ? [0, 0x10] : Pick<byte[]>([[0, 0x18, 0, 0x0B], [0, 5, 0, 0x0B], [0, 0x1C, 0, 0x0B], [0, 0x1A, 0, 0x0B, 0, (byte)random.Next(4)]]),
            nameof(RsaDecryptScheme) => isNull ? [0, 0x10] : Pick<byte[]>([[0, 0x15], [0, 0x17, 0, 0x0B]]),
            nameof(KeyDerivationScheme) => isNull ? [0, 0x10] : [0, 0x21, 0, 0x0B],
            nameof(ObjectCipher) or nameof(SymmetricDefinition) => isNull ? [0, 0x10] : [0, 6, 0, 128, 0, 0x43],
            nameof(SavedContext) => Bytes(random.Next(64)),
            _ => throw new InvalidOperationException($"the type {type.Name} of parameter {parameter.Name} is not known"),
        };
    }

    private byte[] Buffer(ParameterInfo parameter, int limit)
    {
        switch (parameter.Name)
        {
            case "InPublic":
                return TestTpm.Sized(Pick(s_templates));
            case "EncryptedSalt" when random.Next(4) != 0:
                return [0, 0];
            case "IvIn":
                return TestTpm.Sized(new byte[16]);
            case "NonceCaller":
                return TestTpm.Sized(Bytes(16));
            case "Data":
                return TestTpm.Sized(Bytes(Math.Min(limit, Pick([4, 8, 32]))));
        }

        // Authorisations are empty, so that the next command may use what this one makes.
        return parameter.Name!.Contains("Auth", StringComparison.Ordinal) || random.Next(2) == 0
            ? [0, 0]
            : TestTpm.Sized(Bytes(Math.Min(limit, random.Next(4) == 0 ? random.Next(limit + 1) : 32)));
    }

    private byte[] NvArea()
    {
        (uint attributes, int size) = Pick(s_nvKinds);
        return [.. TestTpm.U32(0x0150_0000u + (uint)random.Next(8)), 0, 0x0B, .. TestTpm.U32(attributes), 0, 0, .. TestTpm.U16(size)];
    }

    private int Number(string name) => name switch
    {
        "Size" => 8,
        "Offset" or "Expiration" or "AlgorithmSet" => random.Next(4) == 0 ? random.Next(64) : 0,
        "Property" => Pick([0, 1, 0x100, 0x200, 0x122, 0x0100_0000, 0x0200_0000]),
        "PropertyCount" or "BytesRequested" => random.Next(70),
        _ => random.Next(8),
    };

    private byte[] Algorithm(AlgorithmUse? use)
    {
        List<AlgorithmId> fitting = [];
        foreach (AlgorithmRow row in Algorithms.Rows)
        {
            if (use is null || row.Uses.HasFlag(use.Value))
            {
                fitting.Add(row.Id);
            }
        }

        return TestTpm.U16((int)fitting[random.Next(fitting.Count)]);
    }

    // Takes parameters apart; stops at one whose end it does not know.
    private static void Walk(ParameterInfo[] parameters, byte[] bytes, int offset, int end, Dictionary<string, byte[]> group)
    {
        for (int i = 0; i < parameters.Length; i++)
        {
            int size = i == parameters.Length - 1 ? end - offset : Measure(parameters[i], bytes, offset);
            if (size < 0 || offset + size > end)
            {
                return;
            }

            // Numbers and flags are as good when they are new.
            if (size > 2 && !parameters[i].ParameterType.IsPrimitive && parameters[i].Name is not ("EncryptedSalt" or "PublicInfo"))
            {
                group[NameOf(parameters[i])] = bytes[offset..(offset + size)];
                group[TypeOf(parameters[i])] = bytes[offset..(offset + size)];
            }

            offset += size;
        }
    }

    private static int Measure(ParameterInfo parameter, byte[] bytes, int offset)
    {
        Type type = parameter.ParameterType;
        return parameter.GetCustomAttribute<SizeAttribute>() is not null || parameter.GetCustomAttribute<SizedAttribute>() is not null
            ? offset + 2 <= bytes.Length ? 2 + ((bytes[offset] << 8) | bytes[offset + 1]) : -1
            : type == typeof(Ticket) ? offset + 8 <= bytes.Length ? 8 + ((bytes[offset + 6] << 8) | bytes[offset + 7]) : -1
            : type == typeof(bool) ? 1
            : type.IsEnum ? System.Runtime.InteropServices.Marshal.SizeOf(Enum.GetUnderlyingType(type))
            : type.IsPrimitive ? System.Runtime.InteropServices.Marshal.SizeOf(type)
            : -1;
    }

    // InPrivate and OutPrivate are one thing.
    private static string NameOf(ParameterInfo parameter)
    {
        string name = parameter.Name!;
        return name.StartsWith("In", StringComparison.Ordinal) ? name[2..] : name.StartsWith("Out", StringComparison.Ordinal) ? name[3..] : name;
    }

    // Bytes are kept by name only.
    private static string TypeOf(ParameterInfo parameter)
        => parameter.GetCustomAttribute<SizeAttribute>() is null && !parameter.ParameterType.IsArray ? "type " + parameter.ParameterType.Name : NameOf(parameter);

    private static int Int32(byte[] bytes, int offset) => System.Buffers.Binary.BinaryPrimitives.ReadInt32BigEndian(bytes.AsSpan(offset));

    private static byte[] Integer(ulong value, int size) => [.. Enumerable.Range(0, size).Select(i => (byte)(value >> (8 * (size - 1 - i))))];

    private byte[] Bytes(int count)
    {
        var bytes = new byte[count];
        random.NextBytes(bytes);
        return bytes;
    }

    private T Pick<T>(T[] from) => from[random.Next(from.Length)];

    private sealed record Declaration(ParameterInfo[] Request, ParameterInfo[] Response);
}
