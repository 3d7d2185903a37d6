// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System.Collections.Generic;
using System.Linq;
using System.Text;
using Microsoft.CodeAnalysis;

namespace Svsm.Modules.Vtpm.Generator;

// One field of a structure, or one parameter of a command: how it is read from the wire and written to it.
//
// The rules, in the order in which they are tried:
//   bool                              TPMI_YES_NO
//   byte, ushort, uint, ulong         itself, big-endian
//   ReadOnlyMemory<byte>, byte[]      TPM2B, at most [Size] bytes
//   T[]                               TPML, at most [Count] elements
//   [Sized] T                         UINT16 length, then T
//   [Algorithm] AlgorithmId           checked against the table of algorithms
//   [Handle], [HandleParameter]       checked against the table of handle kinds
//   enum                              only its own values; with [Flags] only its own bits
//   T                                 T.Read and T.Write, made by this generator or by hand
internal sealed class Member
{
    private const string Wire = "global::Svsm.Modules.Vtpm.Wire.";

    private readonly string _type;
    private readonly string? _element;
    private readonly string? _handleKind;
    private readonly string? _algorithmUse;
    private readonly string? _size;
    private readonly string? _count;
    private readonly bool _orNull;
    private readonly bool _sized;
    private readonly bool _isMemory;
    private readonly bool _isByteArray;
    private readonly EnumShape? _enumShape;
    private readonly EnumShape? _elementEnum;

    internal Member(ISymbol symbol, ITypeSymbol type)
    {
        Name = symbol.Name;
        _type = Full(type);
        foreach (AttributeData attribute in symbol.GetAttributes())
        {
            switch (attribute.AttributeClass?.Name)
            {
                case "SizeAttribute":
                    _size = Argument(attribute, 0);
                    break;
                case "CountAttribute":
                    _count = Argument(attribute, 0) + ", " + Argument(attribute, 1);
                    break;
                case "SizedAttribute":
                    _sized = true;
                    break;
                case "OrNullAttribute":
                    _orNull = true;
                    break;
                case "AlgorithmAttribute":
                    _algorithmUse = "(" + Wire + "AlgorithmUse)(" + Argument(attribute, 0) + ")";
                    break;
                case "HandleAttribute":
                    IsHandle = true;
                    _handleKind = "(" + Wire + "HandleKind)(" + Argument(attribute, 0) + ")";
                    Role = attribute.NamedArguments.Where(a => a.Key == "Role").Select(a => a.Value.Value?.ToString()).FirstOrDefault() ?? "0";
                    break;
                case "HandleParameterAttribute":
                    _handleKind = "(" + Wire + "HandleKind)(" + Argument(attribute, 0) + ")";
                    break;
            }
        }

        if (type is IArrayTypeSymbol array)
        {
            _isByteArray = array.ElementType.SpecialType == SpecialType.System_Byte;
            _element = Full(array.ElementType);
            _elementEnum = EnumShape.Of(array.ElementType);
        }

        _isMemory = _type == "global::System.ReadOnlyMemory<byte>";
        _enumShape = EnumShape.Of(type);
    }

    internal string Name { get; }

    internal string Local => "v" + Name;

    internal bool IsHandle { get; }

    internal string Role { get; } = "0";

    internal string HandleKind => _handleKind!;

    internal bool HandleOrNull => _orNull;

    /// <summary>Whether the value begins with a UINT16 length, so that a session may encrypt it.</summary>
    internal bool IsSizedBuffer => _isMemory || _isByteArray || _sized;

    internal string TypeName => _type;

    /// <summary>An expression that reads the value into a new local and has a response code.</summary>
    internal string ReadExpression(string reader)
    {
        string result = "out " + _type + " " + Local;
        if (_isMemory)
        {
            return reader + ".ReadSized(" + _size + ", " + result + ")";
        }

        if (_isByteArray)
        {
            return reader + ".ReadSizedCopy(" + _size + ", " + result + ")";
        }

        if (_element is not null)
        {
            return reader + ".ReadList(" + _count + ", static (ref " + Wire + "TpmReader r, out " + _element + " e) => "
                + ElementRead(_element, _elementEnum) + ", " + result + ")";
        }

        if (_sized)
        {
            return reader + ".ReadSizedStructure(static (ref " + Wire + "TpmReader r, out " + _type + " e) => " + _type
                + (_orNull ? ".ReadOrNull" : ".Read") + "(ref r, out e), " + result + ")";
        }

        if (_handleKind is not null)
        {
            return reader + ".ReadHandle(" + _handleKind + ", " + (_orNull ? "true" : "false") + ", " + result + ")";
        }

        if (_algorithmUse is not null)
        {
            return reader + ".ReadAlgorithm(" + _algorithmUse + ", " + (_orNull ? "true" : "false") + ", " + result + ")";
        }

        return ScalarRead(reader, _type, _enumShape, result) ?? _type + (_orNull ? ".ReadOrNull" : ".Read") + "(ref " + reader + ", " + result + ")";
    }

    internal string WriteStatement(string writer, string value)
    {
        if (_isMemory)
        {
            return writer + ".WriteSized(" + value + ".Span);";
        }

        if (_isByteArray)
        {
            return writer + ".WriteSized(" + value + ");";
        }

        if (_element is not null)
        {
            return writer + ".WriteUInt32((uint)" + value + ".Length); foreach (" + _element + " e in " + value + ") { "
                + ScalarWrite(writer, _element, _elementEnum, "e") + " }";
        }

        if (_sized)
        {
            return "{ int mark = " + writer + ".BeginSized(); " + value + ".Write(ref " + writer + "); " + writer + ".EndSized(mark); }";
        }

        return ScalarWrite(writer, _type, _enumShape, value);
    }

    private static string ElementRead(string type, EnumShape? shape)
        => ScalarRead("r", type, shape, "out e") ?? type + ".Read(ref r, out e)";

    private static string? ScalarRead(string reader, string type, EnumShape? shape, string result)
    {
        if (shape is not null)
        {
            string check = shape.IsFlags
                ? "static n => (n & ~" + shape.Mask + "UL) == 0"
                : shape.IsOpen ? "static n => true" : "static n => n is " + string.Join(" or ", shape.Values.Select(v => v + "UL"));
            return reader + ".ReadEnum(" + shape.Width + ", " + check + ", (" + Wire + "TpmResponseCode)" + shape.Error + ", static n => ("
                + type + ")n, " + result + ")";
        }

        return Primitive(type) is string name ? reader + ".Read" + name + "(" + result + ")" : null;
    }

    private static string ScalarWrite(string writer, string type, EnumShape? shape, string value)
    {
        if (shape is not null)
        {
            return writer + ".WriteInteger((ulong)" + value + ", " + shape.Width + ");";
        }

        return Primitive(type) is string name ? writer + ".Write" + name + "(" + value + ");" : value + ".Write(ref " + writer + ");";
    }

    private static string? Primitive(string type) => type switch
    {
        "bool" => "YesNo",
        "byte" => "Byte",
        "ushort" => "UInt16",
        "uint" => "UInt32",
        "ulong" => "UInt64",
        _ => null,
    };

    private static string Argument(AttributeData attribute, int index) => attribute.ConstructorArguments[index].Value?.ToString() ?? "0";

    private static string Full(ITypeSymbol type) => type.ToDisplayString(SymbolDisplayFormat.FullyQualifiedFormat);

    // What the declaration of an enum says about its values on the wire.
    private sealed class EnumShape
    {
        internal int Width { get; private set; }

        internal bool IsFlags { get; private set; }

        // An enum that says [OpenEnum] lets every value through: its users look it up in a table of their own.
        internal bool IsOpen { get; private set; }

        internal ulong Mask { get; private set; }

        internal List<ulong> Values { get; } = new List<ulong>();

        internal string Error { get; private set; } = "0";

        internal static EnumShape? Of(ITypeSymbol type)
        {
            if (type.TypeKind != TypeKind.Enum || type is not INamedTypeSymbol { EnumUnderlyingType: { } underlying })
            {
                return null;
            }

            var shape = new EnumShape
            {
                Width = underlying.SpecialType switch
                {
                    SpecialType.System_Byte => 1,
                    SpecialType.System_UInt16 => 2,
                    SpecialType.System_UInt32 => 4,
                    _ => 8,
                },
                Error = "0x84",
            };
            foreach (AttributeData attribute in type.GetAttributes())
            {
                switch (attribute.AttributeClass?.Name)
                {
                    case "FlagsAttribute":
                        shape.IsFlags = true;
                        shape.Error = "0xA1";
                        break;
                    case "OpenEnumAttribute":
                        shape.IsOpen = true;
                        break;
                    case "WireErrorAttribute":
                        shape.Error = Argument(attribute, 0);
                        break;
                }
            }

            foreach (IFieldSymbol field in type.GetMembers().OfType<IFieldSymbol>().Where(f => f.HasConstantValue))
            {
                ulong value = System.Convert.ToUInt64(field.ConstantValue, System.Globalization.CultureInfo.InvariantCulture);
                shape.Mask |= value;
                if (!shape.Values.Contains(value))
                {
                    shape.Values.Add(value);
                }
            }

            return shape;
        }
    }
}
