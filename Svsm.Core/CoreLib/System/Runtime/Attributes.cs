// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// What the C# compiler and ilc recognise by name.

namespace System.Runtime
{
    /// <summary>Gives a method a symbol that assembly and other assemblies can call.</summary>
    public sealed class RuntimeExportAttribute(string entry) : Attribute
    {
        public string EntryPoint { get; } = entry;
    }

    /// <summary>Binds an <c>extern</c> method (<c>InternalCall</c>) to a symbol: a plain call, System V convention.</summary>
    /// <remarks>The library name is <c>"*"</c>: this executable.</remarks>
    public sealed class RuntimeImportAttribute : Attribute
    {
        public RuntimeImportAttribute(string entry)
            : this("*", entry)
        {
        }

        public RuntimeImportAttribute(string dllName, string entry)
        {
            DllName = dllName;
            EntryPoint = entry;
        }

        public string DllName { get; }

        public string EntryPoint { get; }
    }
}

namespace System.Runtime.InteropServices
{
    public enum CallingConvention
    {
        Winapi = 1,
        Cdecl = 2,
        StdCall = 3,
        ThisCall = 4,
        FastCall = 5,
    }

    public enum CharSet
    {
        None = 1,
        Ansi = 2,
        Unicode = 3,
        Auto = 4,
    }

    public enum LayoutKind
    {
        Sequential = 0,
        Explicit = 2,
        Auto = 3,
    }

    public enum UnmanagedType
    {
        Bool = 0x2,
        I1 = 0x3,
        U1 = 0x4,
    }

    [AttributeUsage(AttributeTargets.Method)]
    public sealed class DllImportAttribute(string dllName) : Attribute
    {
        public CallingConvention CallingConvention;
        public CharSet CharSet;
        public string? EntryPoint;
        public bool ExactSpelling;
        public bool PreserveSig;
        public bool SetLastError;

        public string Value { get; } = dllName;
    }

    [AttributeUsage(AttributeTargets.Field)]
    public sealed class FieldOffsetAttribute(int offset) : Attribute
    {
        public int Value { get; } = offset;
    }

    public sealed class InAttribute : Attribute
    {
    }

    public sealed class OutAttribute : Attribute
    {
    }

    public sealed class MarshalAsAttribute(UnmanagedType unmanagedType) : Attribute
    {
        public UnmanagedType Value { get; } = unmanagedType;
    }

    [AttributeUsage(AttributeTargets.Class | AttributeTargets.Struct)]
    public sealed class StructLayoutAttribute(LayoutKind layoutKind) : Attribute
    {
        public CharSet CharSet;
        public int Pack;
        public int Size;

        public LayoutKind Value { get; } = layoutKind;
    }

    [AttributeUsage(AttributeTargets.Method)]
    public sealed class SuppressGCTransitionAttribute : Attribute
    {
    }

    [AttributeUsage(AttributeTargets.Method)]
    public sealed class UnmanagedCallersOnlyAttribute : Attribute
    {
        public Type[]? CallConvs;
        public string? EntryPoint;
    }

    /// <remarks>Nothing implements it here; the compiler asks for it in the code of interface calls.</remarks>
    public unsafe interface IDynamicInterfaceCastable
    {
        RuntimeTypeHandle GetInterfaceImplementation(RuntimeTypeHandle interfaceType);

        bool IsInterfaceImplemented(RuntimeTypeHandle interfaceType, bool throwIfNotImplemented);

        internal static nint GetDynamicInterfaceImplementation(object instance, void* interfaceType, ushort slot) => 0;
    }
}

namespace System.Runtime.CompilerServices
{
    public sealed class CallConvCdecl
    {
    }

    public sealed class CallConvSuppressGCTransition
    {
    }

    [AttributeUsage(AttributeTargets.Parameter)]
    public sealed class CallerArgumentExpressionAttribute(string parameterName) : Attribute
    {
        public string ParameterName { get; } = parameterName;
    }

    [AttributeUsage(AttributeTargets.Parameter)]
    public sealed class CallerFilePathAttribute : Attribute
    {
    }

    [AttributeUsage(AttributeTargets.Parameter)]
    public sealed class CallerLineNumberAttribute : Attribute
    {
    }

    [AttributeUsage(AttributeTargets.Parameter)]
    public sealed class CallerMemberNameAttribute : Attribute
    {
    }

    public sealed class CompilerGeneratedAttribute : Attribute
    {
    }

    [AttributeUsage(AttributeTargets.All, AllowMultiple = true)]
    public sealed class CompilerFeatureRequiredAttribute(string featureName) : Attribute
    {
        public string FeatureName { get; } = featureName;

        public bool IsOptional { get; set; }
    }

    public sealed class ExtensionAttribute : Attribute
    {
    }

    public sealed class FixedBufferAttribute(Type elementType, int length) : Attribute
    {
        public Type ElementType { get; } = elementType;

        public int Length { get; } = length;
    }

    [AttributeUsage(AttributeTargets.Property)]
    public sealed class IndexerNameAttribute : Attribute
    {
        public IndexerNameAttribute(string indexerName)
        {
        }
    }

    [AttributeUsage(AttributeTargets.Struct)]
    public sealed class InlineArrayAttribute(int length) : Attribute
    {
        public int Length { get; } = length;
    }

    [AttributeUsage(AttributeTargets.Assembly, AllowMultiple = true)]
    public sealed class InternalsVisibleToAttribute(string assemblyName) : Attribute
    {
        public string AssemblyName { get; } = assemblyName;
    }

    internal sealed class IntrinsicAttribute : Attribute
    {
    }

    public sealed class IsByRefLikeAttribute : Attribute
    {
    }

    public static class IsExternalInit
    {
    }

    public sealed class IsReadOnlyAttribute : Attribute
    {
    }

    public sealed class IsUnmanagedAttribute : Attribute
    {
    }

    public static class IsVolatile
    {
    }

    [AttributeUsage(AttributeTargets.Constructor | AttributeTargets.Method)]
    public sealed class MethodImplAttribute(MethodImplOptions methodImplOptions) : Attribute
    {
        public MethodImplOptions Value { get; } = methodImplOptions;
    }

    [Flags]
    public enum MethodImplOptions
    {
        NoInlining = 0x0008,
        NoOptimization = 0x0040,
        AggressiveInlining = 0x0100,
        AggressiveOptimization = 0x0200,
        InternalCall = 0x1000,
    }

    public sealed class NullableAttribute : Attribute
    {
        public readonly byte[] NullableFlags;

        public NullableAttribute(byte value) => NullableFlags = [value];

        public NullableAttribute(byte[] value) => NullableFlags = value;
    }

    public sealed class NullableContextAttribute(byte value) : Attribute
    {
        public readonly byte Flag = value;
    }

    [AttributeUsage(AttributeTargets.Method | AttributeTargets.Constructor | AttributeTargets.Property)]
    public sealed class OverloadResolutionPriorityAttribute(int priority) : Attribute
    {
        public int Priority { get; } = priority;
    }

    public sealed class RefSafetyRulesAttribute(int version) : Attribute
    {
        public int Version { get; } = version;
    }

    [AttributeUsage(AttributeTargets.Class | AttributeTargets.Struct | AttributeTargets.Field | AttributeTargets.Property)]
    public sealed class RequiredMemberAttribute : Attribute
    {
    }

    public sealed class RequiresLocationAttribute : Attribute
    {
    }

    public static class RuntimeFeature
    {
        public const string ByRefFields = nameof(ByRefFields);
        public const string ByRefLikeGenerics = nameof(ByRefLikeGenerics);
        public const string CovariantReturnsOfClasses = nameof(CovariantReturnsOfClasses);
        public const string DefaultImplementationsOfInterfaces = nameof(DefaultImplementationsOfInterfaces);
        public const string NumericIntPtr = nameof(NumericIntPtr);
        public const string UnmanagedSignatureCallingConvention = nameof(UnmanagedSignatureCallingConvention);
        public const string VirtualStaticsInInterfaces = nameof(VirtualStaticsInInterfaces);
    }

    public sealed class ScopedRefAttribute : Attribute
    {
    }

    [AttributeUsage(AttributeTargets.Module | AttributeTargets.Class | AttributeTargets.Struct | AttributeTargets.Constructor | AttributeTargets.Method | AttributeTargets.Property)]
    public sealed class SkipLocalsInitAttribute : Attribute
    {
    }

    public sealed class TupleElementNamesAttribute(string?[] transformNames) : Attribute
    {
        public string?[] TransformNames { get; } = transformNames;
    }

    public sealed class UnsafeValueTypeAttribute : Attribute
    {
    }
}
