// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Immutable;
using Microsoft.CodeAnalysis;
using Microsoft.CodeAnalysis.Diagnostics;
using Microsoft.CodeAnalysis.Operations;

namespace Svsm.Core.Analyzers;

/// <summary>
/// SVSM5001: a call as a statement of its own, whose result says whether it worked: an enumeration, or the bool of a method that is named Try...
/// </summary>
[DiagnosticAnalyzer(LanguageNames.CSharp)]
public sealed class ResultAnalyzer : DiagnosticAnalyzer
{
    /// <inheritdoc/>
    public override ImmutableArray<DiagnosticDescriptor> SupportedDiagnostics => [Rules.IgnoredResult];

    /// <inheritdoc/>
    public override void Initialize(AnalysisContext context)
    {
        context.ConfigureGeneratedCodeAnalysis(GeneratedCodeAnalysisFlags.None);
        context.EnableConcurrentExecution();
        context.RegisterOperationAction(Analyze, OperationKind.ExpressionStatement);
    }

    private static void Analyze(OperationAnalysisContext context)
    {
        IOperation operation = ((IExpressionStatementOperation)context.Operation).Operation;
        if (operation is IConditionalAccessOperation access)
        {
            operation = access.WhenNotNull;
        }

        if (operation is IInvocationOperation { TargetMethod: IMethodSymbol method } call && SaysWhetherItWorked(method))
        {
            context.ReportDiagnostic(Diagnostic.Create(
                Rules.IgnoredResult, call.Syntax.GetLocation(), method.Name, method.ReturnType.ToDisplayString(SymbolDisplayFormat.MinimallyQualifiedFormat)));
        }
    }

    private static bool SaysWhetherItWorked(IMethodSymbol method) =>
        method.ReturnType.TypeKind == TypeKind.Enum ||
        (method.ReturnType.SpecialType == SpecialType.System_Boolean && method.Name.StartsWith("Try", StringComparison.Ordinal));
}
