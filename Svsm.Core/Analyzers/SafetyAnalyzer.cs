// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Immutable;
using System.Linq;
using Microsoft.CodeAnalysis;
using Microsoft.CodeAnalysis.CSharp;
using Microsoft.CodeAnalysis.CSharp.Syntax;
using Microsoft.CodeAnalysis.Diagnostics;

namespace Svsm.Core.Analyzers;

/// <summary>
/// SVSM5004: a member that uses what a pointer points to, calls by one, or makes a pointer out of a number, and has no comment that begins with SAFETY in it or
/// above it. A type may have one for all of its members: "SAFETY (whole class)", "SAFETY (all methods)".
/// </summary>
[DiagnosticAnalyzer(LanguageNames.CSharp)]
public sealed class SafetyAnalyzer : DiagnosticAnalyzer
{
    private const string Comment = "SAFETY:";
    private const string TypeComment = "SAFETY (";

    /// <inheritdoc/>
    public override ImmutableArray<DiagnosticDescriptor> SupportedDiagnostics => [Rules.UnsafeWithoutSafety];

    /// <inheritdoc/>
    public override void Initialize(AnalysisContext context)
    {
        context.ConfigureGeneratedCodeAnalysis(GeneratedCodeAnalysisFlags.None);
        context.EnableConcurrentExecution();
        context.RegisterSyntaxNodeAction(
            Analyze,
            SyntaxKind.MethodDeclaration, SyntaxKind.PropertyDeclaration, SyntaxKind.ConstructorDeclaration, SyntaxKind.IndexerDeclaration, SyntaxKind.OperatorDeclaration,
            SyntaxKind.ConversionOperatorDeclaration, SyntaxKind.FieldDeclaration, SyntaxKind.DestructorDeclaration, SyntaxKind.EventDeclaration);
    }

    private static void Analyze(SyntaxNodeAnalysisContext context)
    {
        SyntaxNode? use = context.Node.DescendantNodes().FirstOrDefault(node => UsesPointer(node, context));
        if (use is null || HasComment(context.Node, Comment) || HasComment(context.Node, TypeComment) || context.Node.Ancestors().OfType<TypeDeclarationSyntax>().Any(IsExplained))
        {
            return;
        }

        context.ReportDiagnostic(Diagnostic.Create(Rules.UnsafeWithoutSafety, use.GetLocation(), Name(context.Node)));
    }

    private static bool UsesPointer(SyntaxNode node, SyntaxNodeAnalysisContext context) => node.Kind() switch
    {
        SyntaxKind.UnsafeStatement or SyntaxKind.PointerIndirectionExpression or SyntaxKind.PointerMemberAccessExpression or SyntaxKind.FixedStatement => true,
        SyntaxKind.InvocationExpression => context.SemanticModel.GetTypeInfo(((InvocationExpressionSyntax)node).Expression, context.CancellationToken).Type is IFunctionPointerTypeSymbol,
        SyntaxKind.ElementAccessExpression => IsPointer(((ElementAccessExpressionSyntax)node).Expression, context),
        SyntaxKind.CastExpression => ((CastExpressionSyntax)node).Type is PointerTypeSyntax && !IsPointer(((CastExpressionSyntax)node).Expression, context),
        _ => false,
    };

    private static bool IsPointer(ExpressionSyntax expression, SyntaxNodeAnalysisContext context) =>
        context.SemanticModel.GetTypeInfo(expression, context.CancellationToken).Type is IPointerTypeSymbol;

    private static bool IsExplained(TypeDeclarationSyntax type) => HasComment(type, TypeComment);

    private static bool HasComment(SyntaxNode node, string text) =>
        node.DescendantTrivia().Any(trivia => trivia.IsKind(SyntaxKind.SingleLineCommentTrivia) && trivia.ToString().IndexOf(text, StringComparison.Ordinal) >= 0);

    private static string Name(SyntaxNode member) => member switch
    {
        MethodDeclarationSyntax method => method.Identifier.Text,
        PropertyDeclarationSyntax property => property.Identifier.Text,
        ConstructorDeclarationSyntax constructor => constructor.Identifier.Text,
        FieldDeclarationSyntax field => field.Declaration.Variables[0].Identifier.Text,
        _ => "this",
    };
}
