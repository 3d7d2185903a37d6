// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System.Collections.Immutable;
using Microsoft.CodeAnalysis;
using Microsoft.CodeAnalysis.Diagnostics;
using Microsoft.CodeAnalysis.Operations;

namespace Svsm.Core.Analyzers;

/// <summary>
/// SVSM5002: a value of a type marked [Owner] that is dropped, or a local of such a type that its method neither disposes of nor hands on. It is
/// enough that the method does so somewhere: paths are not followed.
/// </summary>
[DiagnosticAnalyzer(LanguageNames.CSharp)]
public sealed class OwnerAnalyzer : DiagnosticAnalyzer
{
    /// <inheritdoc/>
    public override ImmutableArray<DiagnosticDescriptor> SupportedDiagnostics => [Rules.OwnerLeaks];

    /// <inheritdoc/>
    public override void Initialize(AnalysisContext context)
    {
        context.ConfigureGeneratedCodeAnalysis(GeneratedCodeAnalysisFlags.None);
        context.EnableConcurrentExecution();
        context.RegisterOperationBlockAction(Analyze);
    }

    private static void Analyze(OperationBlockAnalysisContext context)
    {
        ImmutableDictionary<ILocalSymbol, Location>.Builder open = ImmutableDictionary.CreateBuilder<ILocalSymbol, Location>(SymbolEqualityComparer.Default);
        foreach (IOperation block in context.OperationBlocks)
        {
            foreach (IOperation operation in block.DescendantsAndSelf())
            {
                if (DroppedOwner(operation) is ITypeSymbol type)
                {
                    Report(context, operation.Syntax.GetLocation(), operation.Syntax.ToString(), type);
                }

                if (DeclaredOwner(operation) is ILocalSymbol local)
                {
                    open[local] = operation.Syntax.GetLocation();
                }
            }
        }

        foreach (IOperation block in context.OperationBlocks)
        {
            foreach (IOperation operation in block.DescendantsAndSelf())
            {
                if (operation is ILocalReferenceOperation reference && open.ContainsKey(reference.Local) && HandsOn(reference))
                {
                    open.Remove(reference.Local);
                }
            }
        }

        foreach (var leak in open)
        {
            Report(context, leak.Value, leak.Key.Name, leak.Key.Type);
        }
    }

    // A call or an "out _" whose owner nobody gets.
    private static ITypeSymbol? DroppedOwner(IOperation operation) => operation switch
    {
        IExpressionStatementOperation { Operation: IInvocationOperation call } when IsOwner(call.Type) => call.Type,
        IDiscardOperation discard when IsOwner(discard.Type) => discard.Type,
        _ => null,
    };

    private static ILocalSymbol? DeclaredOwner(IOperation operation) => operation switch
    {
        IVariableDeclaratorOperation declarator when IsOwner(declarator.Symbol.Type) && !IsUsing(declarator) && declarator.Symbol.RefKind == RefKind.None => declarator.Symbol,
        IDeclarationExpressionOperation { Expression: ILocalReferenceOperation reference } when IsOwner(reference.Local.Type) => reference.Local,
        _ => null,
    };

    private static bool IsUsing(IVariableDeclaratorOperation declarator) =>
        declarator.Parent?.Parent is IVariableDeclarationGroupOperation { Parent: IUsingDeclarationOperation or IUsingOperation };

    // Dispose, Move, Release; returned, assigned, passed on. Not: the declaration itself, other members.
    private static bool HandsOn(ILocalReferenceOperation reference) => reference.Parent switch
    {
        IInvocationOperation call => call.Instance == reference && call.TargetMethod.Name is "Dispose" or "Move" or "Release",
        IArgumentOperation argument => argument.Parameter?.RefKind != RefKind.Out && argument.Parameter?.RefKind != RefKind.In,
        IReturnOperation or IVariableInitializerOperation or IFieldInitializerOperation or IUsingOperation => true,
        IAssignmentOperation assignment => assignment.Value == reference,
        IConversionOperation or IConditionalOperation or ITupleOperation => true,
        _ => false,
    };

    private static bool IsOwner(ITypeSymbol? type)
    {
        foreach (AttributeData attribute in type?.OriginalDefinition.GetAttributes() ?? [])
        {
            if (attribute.AttributeClass?.Name == "OwnerAttribute")
            {
                return true;
            }
        }

        return false;
    }

    private static void Report(OperationBlockAnalysisContext context, Location location, string name, ITypeSymbol type) =>
        context.ReportDiagnostic(Diagnostic.Create(Rules.OwnerLeaks, location, name, type.ToDisplayString(SymbolDisplayFormat.MinimallyQualifiedFormat)));
}
