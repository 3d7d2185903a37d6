// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System.Collections.Immutable;
using System.Linq;
using Microsoft.CodeAnalysis;
using Microsoft.CodeAnalysis.Diagnostics;
using Microsoft.CodeAnalysis.Operations;

namespace Svsm.Core.Analyzers;

/// <summary>
/// SVSM5005: what is marked [Secret] (a field, a property, a parameter, or its type) as an operand of a comparison, of a pattern or a switch, or of
/// Equals, SequenceEqual, CompareTo, SequenceCompareTo, StartsWith, EndsWith, IndexOf, Contains.
/// </summary>
[DiagnosticAnalyzer(LanguageNames.CSharp)]
public sealed class SecretAnalyzer : DiagnosticAnalyzer
{
    /// <inheritdoc/>
    public override ImmutableArray<DiagnosticDescriptor> SupportedDiagnostics => [Rules.SecretComparison];

    /// <inheritdoc/>
    public override void Initialize(AnalysisContext context)
    {
        context.ConfigureGeneratedCodeAnalysis(GeneratedCodeAnalysisFlags.None);
        context.EnableConcurrentExecution();
        context.RegisterOperationAction(AnalyzeOperator, OperationKind.Binary);
        context.RegisterOperationAction(AnalyzeCall, OperationKind.Invocation);
        context.RegisterOperationAction(AnalyzePattern, OperationKind.IsPattern, OperationKind.Switch, OperationKind.SwitchExpression);
    }

    private static void AnalyzeOperator(OperationAnalysisContext context)
    {
        var comparison = (IBinaryOperation)context.Operation;
        string? how = comparison.OperatorKind switch
        {
            BinaryOperatorKind.Equals => "==",
            BinaryOperatorKind.NotEquals => "!=",
            BinaryOperatorKind.LessThan => "<",
            BinaryOperatorKind.LessThanOrEqual => "<=",
            BinaryOperatorKind.GreaterThan => ">",
            BinaryOperatorKind.GreaterThanOrEqual => ">=",
            _ => null,
        };
        if (how is not null)
        {
            Report(context, FindSecret(comparison.LeftOperand) ?? FindSecret(comparison.RightOperand), how);
        }
    }

    private static void AnalyzePattern(OperationAnalysisContext context)
    {
        (IOperation value, string how) = context.Operation switch
        {
            IIsPatternOperation pattern => (pattern.Value, "is"),
            ISwitchOperation statement => (statement.Value, "switch"),
            _ => (((ISwitchExpressionOperation)context.Operation).Value, "switch"),
        };
        Report(context, FindSecret(value), how);
    }

    private static void AnalyzeCall(OperationAnalysisContext context)
    {
        var call = (IInvocationOperation)context.Operation;
        if (call.TargetMethod.Name is "Equals" or "SequenceEqual" or "CompareTo" or "SequenceCompareTo" or "StartsWith" or "EndsWith" or "IndexOf" or "Contains")
        {
            Report(context, FindSecret(call.Instance) ?? call.Arguments.Select(argument => FindSecret(argument.Value)).FirstOrDefault(secret => secret is not null), call.TargetMethod.Name);
        }
    }

    // A secret, or a part or a view of one: conversions, elements, slices. What another method makes of it is none.
    private static ISymbol? FindSecret(IOperation? operation) => operation switch
    {
        IConversionOperation conversion => FindSecret(conversion.Operand),
        IFieldReferenceOperation field => IsSecret(field.Field) ?? FindSecret(field.Instance),
        IPropertyReferenceOperation property when property.Property.Name != "Length" => IsSecret(property.Property) ?? FindSecret(property.Instance),
        IParameterReferenceOperation parameter => IsSecret(parameter.Parameter),
        ILocalReferenceOperation local => IsSecretType(local.Local, local.Type),
        IArrayElementReferenceOperation element => FindSecret(element.ArrayReference),
        IInlineArrayAccessOperation element => FindSecret(element.Instance),
        IInvocationOperation { TargetMethod.Name: "Slice" or "AsSpan" or "AsBytes" or "CreateReadOnlySpan" or "CreateSpan" } view =>
            FindSecret(view.Instance) ?? view.Arguments.Select(argument => FindSecret(argument.Value)).FirstOrDefault(secret => secret is not null),
        _ => null,
    };

    private static ISymbol? IsSecret(ISymbol symbol) =>
        IsMarked(symbol) ? symbol : IsSecretType(symbol, (symbol as IFieldSymbol)?.Type ?? (symbol as IPropertySymbol)?.Type ?? (symbol as IParameterSymbol)?.Type);

    private static ISymbol? IsSecretType(ISymbol symbol, ITypeSymbol? type) => type is not null && IsMarked(type) ? symbol : null;

    private static bool IsMarked(ISymbol symbol) => symbol.GetAttributes().Any(attribute => attribute.AttributeClass?.Name == "SecretAttribute");

    private static void Report(OperationAnalysisContext context, ISymbol? secret, string how)
    {
        if (secret is not null)
        {
            context.ReportDiagnostic(Diagnostic.Create(Rules.SecretComparison, context.Operation.Syntax.GetLocation(), secret.Name, how));
        }
    }
}
