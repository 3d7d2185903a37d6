// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Reflection;
using System.Reflection.Metadata;
using System.Reflection.PortableExecutable;
using Xunit;

namespace Svsm.CoreLib.Tests;

/// <summary>Svsm.CoreLib has no public API that the real class library lacks; else freestanding sources would not compile against it.</summary>
public class ClassLibrarySurfaceTests
{
    private const BindingFlags AnyMember = BindingFlags.Public | BindingFlags.NonPublic | BindingFlags.Instance | BindingFlags.Static | BindingFlags.DeclaredOnly;

    // How freestanding code names symbols: only files that need the hardware use them, and those are not compiled for the host.
    private static readonly string[] s_allowed = ["System.Runtime.RuntimeExportAttribute", "System.Runtime.RuntimeImportAttribute"];

    [Fact]
    public void PublicApi_ComparedWithRealClassLibrary_IsSubset()
    {
        using FileStream file = File.OpenRead(Path.Combine(Repository.Output("Svsm.SelfTest"), "Svsm.CoreLib.dll"));
        using var image = new PEReader(file);
        MetadataReader metadata = image.GetMetadataReader();
        var unknown = new List<string>();
        int members = 0;
        foreach (TypeDefinition type in metadata.TypeDefinitions.Select(metadata.GetTypeDefinition))
        {
            string name = FullName(metadata, type);
            if (!IsVisible(metadata, type) || name.StartsWith("Internal.", StringComparison.Ordinal) || s_allowed.Contains(name))
            {
                continue;
            }

            if (typeof(object).Assembly.GetType(name) is not { IsVisible: true } real)
            {
                unknown.Add(name);
                continue;
            }

            foreach (string member in VisibleMembers(metadata, type))
            {
                members++;
                if (!RealMembers(real).Contains(member))
                {
                    unknown.Add($"{name}.{member}");
                }
            }
        }

        Assert.True(members > 500, $"only {members} members were compared");
        Assert.Empty(unknown);
    }

    private static bool IsVisible(MetadataReader metadata, TypeDefinition type) => (type.Attributes & TypeAttributes.VisibilityMask) switch
    {
        TypeAttributes.Public => true,
        TypeAttributes.NestedPublic => IsVisible(metadata, metadata.GetTypeDefinition(type.GetDeclaringType())),
        _ => false,
    };

    private static string FullName(MetadataReader metadata, TypeDefinition type)
    {
        string name = metadata.GetString(type.Name);
        if (!type.GetDeclaringType().IsNil)
        {
            return $"{FullName(metadata, metadata.GetTypeDefinition(type.GetDeclaringType()))}+{name}";
        }

        return type.Namespace.IsNil ? name : $"{metadata.GetString(type.Namespace)}.{name}";
    }

    // Fields by name; methods, with them accessors and constructors, by name, number of type parameters and number of parameters.
    private static IEnumerable<string> VisibleMembers(MetadataReader metadata, TypeDefinition type)
    {
        foreach (FieldDefinition field in type.GetFields().Select(metadata.GetFieldDefinition))
        {
            if ((field.Attributes & FieldAttributes.FieldAccessMask) is FieldAttributes.Public or FieldAttributes.Family)
            {
                yield return metadata.GetString(field.Name);
            }
        }

        foreach (MethodDefinition method in type.GetMethods().Select(metadata.GetMethodDefinition))
        {
            if ((method.Attributes & MethodAttributes.MemberAccessMask) is MethodAttributes.Public or MethodAttributes.Family)
            {
                BlobReader signature = metadata.GetBlobReader(method.Signature);
                signature.ReadSignatureHeader();
                if (method.GetGenericParameters().Count != 0)
                {
                    signature.ReadCompressedInteger();
                }

                yield return Describe(metadata.GetString(method.Name), method.GetGenericParameters().Count, signature.ReadCompressedInteger());
            }
        }
    }

    private static HashSet<string> RealMembers(Type type)
    {
        var members = new HashSet<string>();

        // A member that is inherited there and declared here is the same to who calls it.
        for (Type? current = type; current is not null; current = current.BaseType)
        {
            members.UnionWith(current.GetFields(AnyMember).Where(field => field.IsPublic || field.IsFamily).Select(field => field.Name));
            members.UnionWith(current.GetMethods(AnyMember).Where(IsVisible).Select(method =>
                Describe(method.Name, method.IsGenericMethodDefinition ? method.GetGenericArguments().Length : 0, method.GetParameters().Length)));
            members.UnionWith(current.GetConstructors(AnyMember).Where(IsVisible).Select(method => Describe(method.Name, 0, method.GetParameters().Length)));
        }

        return members;
    }

    private static bool IsVisible(MethodBase method) => method.IsPublic || method.IsFamily || method.IsFamilyOrAssembly;

    private static string Describe(string name, int typeParameters, int parameters) => $"{name}`{typeParameters}({parameters})";
}
