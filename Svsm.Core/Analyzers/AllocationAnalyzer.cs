// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System.Collections.Immutable;
using Microsoft.CodeAnalysis;
using Microsoft.CodeAnalysis.Diagnostics;
using Microsoft.CodeAnalysis.Operations;

namespace Svsm.Core.Analyzers;

/// <summary>
/// SVSM5003: a class, an array, a box, a string that is put together, a capturing lambda or the delegate of an instance's method outside of methods
/// marked [Boot]. An exception that is thrown is none: it has a store of its own. Neither is the initializer of a static field: the native
/// compiler computes it.
/// </summary>
[DiagnosticAnalyzer(LanguageNames.CSharp)]
public sealed class AllocationAnalyzer : DiagnosticAnalyzer
{
    /// <inheritdoc/>
    public override ImmutableArray<DiagnosticDescriptor> SupportedDiagnostics => [Rules.ClassAllocation];

    /// <inheritdoc/>
    public override void Initialize(AnalysisContext context)
    {
        context.ConfigureGeneratedCodeAnalysis(GeneratedCodeAnalysisFlags.None);
        context.EnableConcurrentExecution();
        context.RegisterCompilationStartAction(start =>
        {
            // Modules get these rules with the library that they reference; they have a garbage collector.
            if (start.Compilation.GetTypeByMetadataName("Svsm.Core.SvsmModule") is null)
            {
                start.RegisterOperationAction(
                    Analyze, OperationKind.ObjectCreation, OperationKind.ArrayCreation, OperationKind.Conversion, OperationKind.DelegateCreation, OperationKind.AnonymousObjectCreation,
                    OperationKind.CollectionExpression, OperationKind.Binary, OperationKind.CompoundAssignment, OperationKind.InterpolatedString);
            }
        });
    }

    private static void Analyze(OperationAnalysisContext context)
    {
        string? what = context.Operation switch
        {
            IObjectCreationOperation { Type: { IsReferenceType: true } type } creation when !IsThrown(creation) && creation.Parent is not IAttributeOperation => "an object of class " + type.Name,
            IAnonymousObjectCreationOperation => "an object",
            IArrayCreationOperation array when !IsConstantData(array) => "an array",
            ICollectionExpressionOperation { Type: { IsReferenceType: true } type } => type is IArrayTypeSymbol ? "an array" : "an object of class " + type.Name,
            IBinaryOperation { OperatorKind: BinaryOperatorKind.Add, Type.SpecialType: SpecialType.System_String, ConstantValue.HasValue: false } => "a string",
            ICompoundAssignmentOperation { OperatorKind: BinaryOperatorKind.Add, Type.SpecialType: SpecialType.System_String } => "a string",
            IInterpolatedStringOperation { ConstantValue.HasValue: false } => "a string",
            IConversionOperation { IsImplicit: _ } conversion when IsBoxing(conversion) => "a box around " + conversion.Operand.Type!.Name,
            IDelegateCreationOperation { Target: IAnonymousFunctionOperation { Symbol.IsStatic: false } lambda } when Captures(lambda) => "the locals of a lambda",
            IDelegateCreationOperation { Target: IMethodReferenceOperation { Instance: not null } } => "a delegate",
            _ => null,
        };
        if (what is not null && !IsBoot(context.ContainingSymbol))
        {
            context.ReportDiagnostic(Diagnostic.Create(Rules.ClassAllocation, context.Operation.Syntax.GetLocation(), what));
        }
    }

    private static bool IsThrown(IOperation creation)
    {
        IOperation? parent = creation.Parent;
        while (parent is IConversionOperation)
        {
            parent = parent.Parent;
        }

        return parent is IThrowOperation;
    }

    // new byte[] { 1, 2 } as a ReadOnlySpan is data of the image.
    private static bool IsConstantData(IArrayCreationOperation array) =>
        array.Parent is IConversionOperation { Type.Name: "ReadOnlySpan" } && array.Initializer is not null;

    private static bool IsBoxing(IConversionOperation conversion) =>
        conversion.OperatorMethod is null && conversion.Operand.Type is { IsValueType: true, IsRefLikeType: false } && conversion.Type is { IsReferenceType: true };

    private static bool Captures(IAnonymousFunctionOperation lambda)
    {
        foreach (IOperation operation in lambda.Body.Descendants())
        {
            ISymbol? used = operation switch
            {
                ILocalReferenceOperation local => local.Local,
                IParameterReferenceOperation parameter => parameter.Parameter,
                IInstanceReferenceOperation => lambda.Symbol.ContainingSymbol,
                _ => null,
            };
            if (used is not null && !SymbolEqualityComparer.Default.Equals(used.ContainingSymbol, lambda.Symbol))
            {
                return true;
            }
        }

        return false;
    }

    private static bool IsBoot(ISymbol? symbol)
    {
        for (; symbol is not null; symbol = symbol.ContainingSymbol)
        {
            if (symbol is IFieldSymbol { IsStatic: true } || symbol is IMethodSymbol { MethodKind: MethodKind.StaticConstructor })
            {
                return true;
            }

            foreach (AttributeData attribute in symbol.GetAttributes())
            {
                if (attribute.AttributeClass?.Name == "BootAttribute")
                {
                    return true;
                }
            }
        }

        return false;
    }
}
