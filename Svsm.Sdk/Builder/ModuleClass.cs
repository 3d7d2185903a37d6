// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// What the build reads of a module's class, from the metadata of its assembly: no code of it runs. For the tasks of the SDK.
//
// A class can be a module's when the host program, which is compiled against the assembly, can write `new TheClass()` and hand that to
// ModuleHost: public, not nested, not generic, not abstract, with a public constructor without parameters, derived from SvsmModule. Its
// [SvsmProtocol] says what it serves. Assemblies come from packages: what is damaged in them is an error of its own, never another exception.

using System;
using System.Collections.Generic;
using System.Diagnostics.CodeAnalysis;
using System.IO;
using System.Linq;
using System.Reflection;
using System.Reflection.Metadata;
using System.Reflection.PortableExecutable;
using Svsm.Diagnostics;

namespace Svsm.Builder;

/// <summary>A module's class.</summary>
/// <param name="TypeName">Its name, with its namespace.</param>
/// <param name="AssemblyName">Simple name of its assembly.</param>
/// <param name="Protocol">Protocol number, as the attribute says.</param>
/// <param name="MinVersion">Lowest version, as the attribute says.</param>
/// <param name="MaxVersion">Highest version, as the attribute says.</param>
/// <param name="Service">GUID of its service, as the attribute says; null: it has none.</param>
public sealed record ModuleClass(string TypeName, string AssemblyName, uint Protocol, uint MinVersion, uint MaxVersion, Guid? Service = null)
{
    private const string CoreAssembly = "Svsm.Core";
    private const string ModuleType = "Svsm.Core.SvsmModule";
    private const string AttributeType = "Svsm.Core.SvsmProtocolAttribute";

    // A base class whose base class is itself is possible in metadata.
    private const int MaxDepth = 32;

    /// <summary>Reads a class.</summary>
    /// <param name="module">Name of the module: the simple name of its assembly.</param>
    /// <param name="typeName">Name of the class, with its namespace.</param>
    /// <param name="assemblies">Paths of the assemblies that the program is compiled from, its own and those of packages. Untrusted.</param>
    /// <returns>The class.</returns>
    /// <exception cref="SvsmDiagnosticException">SVSM4001: there is no such assembly, or it is damaged. SVSM4005: the class cannot be a module's.</exception>
    public static ModuleClass Read(string module, string typeName, IReadOnlyCollection<string> assemblies)
    {
        ArgumentNullException.ThrowIfNull(module);
        ArgumentNullException.ThrowIfNull(typeName);
        using var set = new AssemblySet(assemblies);
        MetadataReader reader = set.Find(module) ?? throw SvsmDiagnostics.ModuleAssemblyMissing.Error(
            $"SvsmModule '{module}' and the assemblies {string.Join(", ", set.Names)}", "one that is called as the item, which the reference to the module's package or project brings");
        if (typeName.Length == 0)
        {
            throw Unusable(module, "no Type", "the name of a class of that assembly, with its namespace");
        }

        try
        {
            return Read(module, typeName, reader, set);
        }
        catch (Exception exception) when (IsDamage(exception))
        {
            throw SvsmDiagnostics.ModuleAssemblyMissing.Error($"the assembly of SvsmModule '{module}' is damaged: {exception.Message}", "a .NET assembly", exception);
        }
    }

    private static ModuleClass Read(string module, string typeName, MetadataReader reader, AssemblySet set)
    {
        TypeDefinition type = FindType(reader, typeName) ?? throw Unusable(module, $"Type '{typeName}'", "a class that its assembly has, as Namespace.Name");
        if ((type.Attributes & TypeAttributes.VisibilityMask) != TypeAttributes.Public || (type.Attributes & (TypeAttributes.Abstract | TypeAttributes.Interface)) != 0 ||
            type.GetGenericParameters().Count != 0)
        {
            throw Unusable(module, $"Type '{typeName}', which is not public, or abstract, or generic", "a class that can be made: public, not abstract, not generic");
        }

        if (!IsModule(reader, type, set))
        {
            throw Unusable(module, $"Type '{typeName}', which does not derive from {ModuleType}", $"a class that does");
        }

        if (!type.GetMethods().Select(reader.GetMethodDefinition).Any(method => IsUsableConstructor(reader, method)))
        {
            throw Unusable(module, $"Type '{typeName}', which has no public constructor without parameters", "one, for the program makes the module with it");
        }

        foreach (CustomAttributeHandle handle in type.GetCustomAttributes())
        {
            CustomAttribute attribute = reader.GetCustomAttribute(handle);
            if (NameOfAttribute(reader, attribute) == AttributeType)
            {
                (uint protocol, uint min, uint max, string? service) = ReadProtocol(reader.GetBlobReader(attribute.Value));
                Guid guid = default;
                if (service is not null && (!Guid.TryParseExact(service, "D", out guid) || guid == Guid.Empty))
                {
                    throw Unusable(module, $"Type '{typeName}', whose [SvsmProtocol] names the service '{service}'", "a GUID, such as 9a4d1c2e-0f35-4b6a-8c1d-6e0f5a7b3c21, and not all zero");
                }

                return new ModuleClass(typeName, module, protocol, min, max, service is null ? null : guid);
            }
        }

        throw Unusable(module, $"Type '{typeName}', which has no [SvsmProtocol]", "the attribute, which names the protocol that it serves");
    }

    private static TypeDefinition? FindType(MetadataReader reader, string name)
    {
        foreach (TypeDefinitionHandle handle in reader.TypeDefinitions)
        {
            TypeDefinition type = reader.GetTypeDefinition(handle);
            if (!type.IsNested && FullName(reader, type.Namespace, type.Name) == name)
            {
                return type;
            }
        }

        return null;
    }

    private static bool IsModule(MetadataReader reader, TypeDefinition type, AssemblySet set)
    {
        for (int depth = 0; depth < MaxDepth; depth++)
        {
            EntityHandle handle = type.BaseType;
            if (!handle.IsNil && handle.Kind == HandleKind.TypeSpecification)
            {
                handle = GenericDefinition(reader, (TypeSpecificationHandle)handle);
            }

            if (handle.IsNil)
            {
                return false;
            }

            if (handle.Kind == HandleKind.TypeDefinition)
            {
                type = reader.GetTypeDefinition((TypeDefinitionHandle)handle);
                if (FullName(reader, type.Namespace, type.Name) == ModuleType)
                {
                    return NameOf(reader) == CoreAssembly;
                }

                continue;
            }

            if (handle.Kind != HandleKind.TypeReference)
            {
                // A signature within a signature: of no compiler, but of a damaged assembly.
                return false;
            }

            TypeReference reference = reader.GetTypeReference((TypeReferenceHandle)handle);
            if (reference.ResolutionScope.Kind != HandleKind.AssemblyReference)
            {
                return false;
            }

            string name = FullName(reader, reference.Namespace, reference.Name);
            string assembly = reader.GetString(reader.GetAssemblyReference((AssemblyReferenceHandle)reference.ResolutionScope).Name);
            if (name == ModuleType)
            {
                return assembly == CoreAssembly;
            }

            if (set.Find(assembly) is not MetadataReader next || FindType(next, name) is not TypeDefinition definition)
            {
                return false;
            }

            (reader, type) = (next, definition);
        }

        return false;
    }

    // GENERICINST CLASS TypeDefOrRef ...; anything else is no base class.
    private static EntityHandle GenericDefinition(MetadataReader reader, TypeSpecificationHandle handle)
    {
        BlobReader blob = reader.GetBlobReader(reader.GetTypeSpecification(handle).Signature);
        return blob.ReadSignatureTypeCode() == SignatureTypeCode.GenericTypeInstance && blob.ReadCompressedInteger() == (int)SignatureTypeKind.Class
            ? blob.ReadTypeHandle()
            : default;
    }

    private static bool IsUsableConstructor(MetadataReader reader, MethodDefinition method)
    {
        if (reader.GetString(method.Name) != ".ctor" || (method.Attributes & MethodAttributes.MemberAccessMask) != MethodAttributes.Public)
        {
            return false;
        }

        BlobReader signature = reader.GetBlobReader(method.Signature);
        _ = signature.ReadSignatureHeader();
        return signature.ReadCompressedInteger() == 0;
    }

    private static string NameOfAttribute(MetadataReader reader, CustomAttribute attribute)
    {
        EntityHandle owner = attribute.Constructor.Kind == HandleKind.MemberReference
            ? reader.GetMemberReference((MemberReferenceHandle)attribute.Constructor).Parent
            : reader.GetMethodDefinition((MethodDefinitionHandle)attribute.Constructor).GetDeclaringType();
        if (owner.Kind == HandleKind.TypeReference)
        {
            TypeReference type = reader.GetTypeReference((TypeReferenceHandle)owner);
            return FullName(reader, type.Namespace, type.Name);
        }

        if (owner.Kind == HandleKind.TypeDefinition)
        {
            TypeDefinition type = reader.GetTypeDefinition((TypeDefinitionHandle)owner);
            return FullName(reader, type.Namespace, type.Name);
        }

        return "";
    }

    // A custom attribute's value: prolog 1, the constructor's argument, then properties by name. Source: ECMA-335, II.23.3.
    private static (uint Protocol, uint MinVersion, uint MaxVersion, string? Service) ReadProtocol(BlobReader value)
    {
        if (value.ReadUInt16() != 1)
        {
            throw new BadImageFormatException("the value of [SvsmProtocol] has no prolog.");
        }

        uint protocol = value.ReadUInt32();
        uint min = 1;
        uint max = 1;
        string? service = null;
        for (ushort left = value.ReadUInt16(); left > 0; left--)
        {
            var kind = (CustomAttributeNamedArgumentKind)value.ReadByte();
            SerializationTypeCode type = value.ReadSerializationTypeCode();
            string? name = value.ReadSerializedString();
            if (kind != CustomAttributeNamedArgumentKind.Property || type is not (SerializationTypeCode.UInt32 or SerializationTypeCode.String))
            {
                throw new BadImageFormatException($"[SvsmProtocol] has no '{name}'.");
            }

            if (type == SerializationTypeCode.String)
            {
                string? text = value.ReadSerializedString();
                service = name == "Service" ? text : service;
                continue;
            }

            uint number = value.ReadUInt32();
            min = name == "MinVersion" ? number : min;
            max = name == "MaxVersion" ? number : max;
        }

        return (protocol, min, max, service);
    }

    // What the class library's reader throws over damaged metadata; the last two where a sum of its fields is too large.
    private static bool IsDamage(Exception exception) =>
        exception is BadImageFormatException or InvalidOperationException or OverflowException or ArgumentOutOfRangeException;

    private static string FullName(MetadataReader reader, StringHandle space, StringHandle name) =>
        space.IsNil ? reader.GetString(name) : reader.GetString(space) + "." + reader.GetString(name);

    private static string NameOf(MetadataReader reader) => reader.GetString(reader.GetAssemblyDefinition().Name);

    private static SvsmDiagnosticException Unusable(string module, string seen, string wanted) =>
        SvsmDiagnostics.ModuleClassUnusable.Error($"SvsmModule '{module}' has {seen}", wanted);

    // Assemblies by their simple names, which are their files' names, opened when they are asked for.
    private sealed class AssemblySet(IReadOnlyCollection<string> paths) : IDisposable
    {
        private readonly Dictionary<string, PEReader> _open = [];

        public IEnumerable<string> Names => paths.Select(Path.GetFileNameWithoutExtension).Order(StringComparer.Ordinal)!;

        [SuppressMessage("Reliability", "CA2000", Justification = "the set owns the reader")]
        public MetadataReader? Find(string name)
        {
            if (!_open.TryGetValue(name, out PEReader? file))
            {
                string? path = paths.FirstOrDefault(path => Path.GetFileNameWithoutExtension(path) == name);
                if (path is null)
                {
                    return null;
                }

                try
                {
                    file = new PEReader(File.OpenRead(path));
                    _open.Add(name, file);
                }
                catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
                {
                    throw SvsmDiagnostics.ModuleAssemblyMissing.Error($"'{path}': {exception.Message}", "a file that can be read", exception);
                }
            }

            try
            {
                return file.GetMetadataReader();
            }
            catch (Exception exception) when (IsDamage(exception))
            {
                throw SvsmDiagnostics.ModuleAssemblyMissing.Error($"the assembly '{name}': {exception.Message}", "a .NET assembly", exception);
            }
        }

        public void Dispose()
        {
            foreach (PEReader file in _open.Values)
            {
                file.Dispose();
            }
        }
    }
}
