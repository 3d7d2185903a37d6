// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Generic;
using System.Collections.Immutable;
using System.Linq;
using Microsoft.CodeAnalysis;
using Microsoft.CodeAnalysis.Diagnostics;
using Microsoft.CodeAnalysis.FlowAnalysis;
using Microsoft.CodeAnalysis.Operations;

namespace Svsm.Core.Analyzers;

/// <summary>
/// SVSM5002: a value of a type marked [Owner] that is dropped, or a local of such a type that some path of its method neither disposes of nor
/// hands on. Paths are those of the compiler's control flow graph, but for those that end in an exception: the kernel has none that is caught.
/// </summary>
/// <remarks>
/// A local becomes an owner where it is assigned or filled in by "out", and is none any more where it is disposed of, moved, returned, assigned
/// away or passed on. On the way it may be known to own nothing: behind a test of its IsEmpty, and, when a call filled it in by "out", behind a
/// test of that call's result (the bool itself; an enumeration against the member with the value 0), directly or by a local that holds it.
/// A path on which it may own something at the end of the method, or when it is filled in again, is a leak.
/// </remarks>
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
        foreach (IOperation block in context.OperationBlocks)
        {
            var owners = new Dictionary<ILocalSymbol, Location>(SymbolEqualityComparer.Default);
            foreach (IOperation operation in block.DescendantsAndSelf())
            {
                if (DroppedOwner(operation) is ITypeSymbol type)
                {
                    Report(context, operation.Syntax.GetLocation(), operation.Syntax.ToString(), type);
                }

                if (DeclaredOwner(operation) is ILocalSymbol local)
                {
                    owners[local] = operation.Syntax.GetLocation();
                }
            }

            if (owners.Count != 0)
            {
                ControlFlowGraph graph = context.GetControlFlowGraph(block);
                foreach (var owner in owners)
                {
                    if (new Paths(graph, owner.Key).Leaks())
                    {
                        Report(context, owner.Value, owner.Key.Name, owner.Key.Type);
                    }
                }
            }
        }
    }

    // A call or an "out _" whose owner nobody gets.
    private static ITypeSymbol? DroppedOwner(IOperation operation) => operation switch
    {
        IExpressionStatementOperation { Operation: IInvocationOperation call } when IsOwner(call.Type) => call.Type,
        IExpressionStatementOperation { Operation: ISimpleAssignmentOperation { Target: IDiscardOperation discard } } when IsOwner(discard.Type) => discard.Type,
        IDiscardOperation { Parent: IArgumentOperation } discard when IsOwner(discard.Type) => discard.Type,
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

    // What a local may be at a point: a set, so that paths that meet are one.
    [Flags]
    private enum State
    {
        Unreached = 0,
        Empty = 1,
        Owning = 2,

        // A local holds the result of the call that filled it in.
        OwningByResult = 4,
    }

    // All paths of one local.
    private sealed class Paths
    {
        private readonly ControlFlowGraph _graph;
        private readonly ILocalSymbol _owner;
        private readonly State[] _entry;
        private readonly HashSet<ISymbol> _results = new(SymbolEqualityComparer.Default);
        private bool _isLeaking;

        public Paths(ControlFlowGraph graph, ILocalSymbol owner)
        {
            _graph = graph;
            _owner = owner;
            _entry = new State[graph.Blocks.Length];
        }

        public bool Leaks()
        {
            FindResults();
            var open = new Queue<int>();
            _entry[0] = State.Empty;
            open.Enqueue(0);
            while (open.Count != 0)
            {
                BasicBlock block = _graph.Blocks[open.Dequeue()];
                State state = _entry[block.Ordinal];
                foreach (IOperation operation in block.Operations)
                {
                    state = Step(operation, state);
                }

                State whenBranching = state;
                State whenFalling = state;
                if (block.BranchValue is IOperation value)
                {
                    state = Step(value, state);
                    bool branchIsReturn = block.FallThroughSuccessor?.Semantics == ControlFlowBranchSemantics.Return;
                    whenBranching = block.ConditionKind == ControlFlowConditionKind.None ? state : Assume(value, block.ConditionKind == ControlFlowConditionKind.WhenTrue, state);
                    whenFalling = branchIsReturn && IsTheOwner(value) ? State.Empty
                        : block.ConditionKind == ControlFlowConditionKind.None ? state
                        : Assume(value, block.ConditionKind != ControlFlowConditionKind.WhenTrue, state);
                }

                Follow(block.ConditionalSuccessor, whenBranching, open);
                Follow(block.FallThroughSuccessor, whenFalling, open);
            }

            return _isLeaking;
        }

        private void Follow(ControlFlowBranch? branch, State state, Queue<int> open)
        {
            if (branch?.Destination is not BasicBlock next || branch.Semantics is ControlFlowBranchSemantics.Throw or ControlFlowBranchSemantics.Rethrow)
            {
                return;
            }

            // What finally blocks do with it is done on every way out.
            foreach (ControlFlowRegion region in branch.FinallyRegions)
            {
                for (int i = region.FirstBlockOrdinal; i <= region.LastBlockOrdinal; i++)
                {
                    state = _graph.Blocks[i].Operations.Aggregate(state, (current, operation) => Step(operation, current));
                }
            }

            if (next.Kind == BasicBlockKind.Exit)
            {
                _isLeaking |= MayOwn(state);
                return;
            }

            if ((_entry[next.Ordinal] | state) != _entry[next.Ordinal])
            {
                _entry[next.Ordinal] |= state;
                open.Enqueue(next.Ordinal);
            }
        }

        // Uses in the order of evaluation: operands come before what uses them.
        private State Step(IOperation operation, State state)
        {
            foreach (IOperation child in operation.ChildOperations)
            {
                state = Step(child, state);
            }

            if (operation is ISimpleAssignmentOperation { Target: ILocalReferenceOperation target } assignment && _results.Contains(target.Local))
            {
                return !MayOwn(state) ? state : (state & State.Empty) | (IsFilling(assignment.Value) ? State.OwningByResult : State.Owning);
            }

            if (!IsTheOwner(operation))
            {
                return state;
            }

            switch (UseOf(operation))
            {
                case Use.Fill:
                    _isLeaking |= MayOwn(state);
                    return State.Owning;
                case Use.Clear:
                    _isLeaking |= MayOwn(state);
                    return State.Empty;
                case Use.Away:
                    return State.Empty;
                default:
                    return state;
            }
        }

        private enum Use
        {
            Other,
            Fill,
            Clear,
            Away,
        }

        private static Use UseOf(IOperation reference) => reference.Parent switch
        {
            IArgumentOperation { Parameter.RefKind: RefKind.Out } => Use.Fill,
            IArgumentOperation { Parameter.RefKind: RefKind.In or RefKind.RefReadOnlyParameter } => Use.Other,
            IArgumentOperation => Use.Away,
            ISimpleAssignmentOperation assignment when assignment.Target == reference => assignment.Value is IDefaultValueOperation or ILiteralOperation
                || assignment.Value is IConversionOperation { Operand: IDefaultValueOperation or ILiteralOperation } ? Use.Clear : Use.Fill,
            ISimpleAssignmentOperation assignment when !assignment.IsRef => Use.Away,
            IInvocationOperation call when call.Instance == reference && call.TargetMethod.Name is "Dispose" or "Move" or "Release" => Use.Away,
            IReturnOperation or ITupleOperation or IConversionOperation => Use.Away,
            IDeclarationExpressionOperation declaration => UseOf(declaration),

            // A value that waits for others to be evaluated; a conditional expression, for instance.
            IFlowCaptureOperation => Use.Away,
            _ => Use.Other,
        };

        private static bool MayOwn(State state) => (state & (State.Owning | State.OwningByResult)) != 0;

        private bool IsTheOwner(IOperation operation) =>
            operation is ILocalReferenceOperation reference && SymbolEqualityComparer.Default.Equals(reference.Local, _owner);

        // Locals that hold the result of a call that fills the owner in.
        private void FindResults()
        {
            foreach (IOperation operation in _graph.Blocks.SelectMany(block => block.Operations).SelectMany(operation => operation.DescendantsAndSelf()))
            {
                if (operation is ISimpleAssignmentOperation { Target: ILocalReferenceOperation target } assignment && IsFilling(assignment.Value))
                {
                    _results.Add(target.Local);
                }
            }
        }

        private bool IsFilling(IOperation operation) => operation is IInvocationOperation call && call.Arguments.Any(argument =>
            argument.Parameter?.RefKind == RefKind.Out && argument.Value.DescendantsAndSelf().Any(IsTheOwner));

        private bool IsResult(IOperation operation) => IsFilling(operation) || IsResultLocal(operation);

        private bool IsResultLocal(IOperation operation) => operation is ILocalReferenceOperation local && _results.Contains(local.Local);

        // What is known of the owner when a condition has a value.
        private State Assume(IOperation condition, bool value, State state)
        {
            switch (condition)
            {
                case IUnaryOperation { OperatorKind: UnaryOperatorKind.Not } not:
                    return Assume(not.Operand, !value, state);
                case IPropertyReferenceOperation { Property.Name: "IsEmpty", Instance: IOperation instance } when IsTheOwner(instance):
                    return value ? state & State.Empty : state & ~State.Empty;
                case IBinaryOperation { OperatorKind: BinaryOperatorKind.Equals or BinaryOperatorKind.NotEquals } comparison:
                    bool isEqual = value == (comparison.OperatorKind == BinaryOperatorKind.Equals);
                    return IsResult(comparison.LeftOperand) && IsZero(comparison.RightOperand) is bool isZero ? Compare(comparison.LeftOperand, isZero, isEqual, state)
                        : IsResult(comparison.RightOperand) && IsZero(comparison.LeftOperand) is bool isLeftZero ? Compare(comparison.RightOperand, isLeftZero, isEqual, state)
                        : state;
                case IIsPatternOperation { Pattern: IConstantPatternOperation pattern } test when IsResult(test.Value) && IsZero(pattern.Value) is bool isZeroPattern:
                    return Compare(test.Value, isZeroPattern, value, state);
                default:
                    return condition.Type?.SpecialType == SpecialType.System_Boolean && !value && IsResult(condition) ? Fail(condition, state) : state;
            }
        }

        // A result was compared with the member 0, or with another one. Not 0: it failed.
        private State Compare(IOperation result, bool isZero, bool isEqual, State state) => isZero != isEqual ? Fail(result, state) : state;

        // The call said that it failed: the owner owns nothing. A local says so only of the call whose result it still holds.
        private State Fail(IOperation result, State state) =>
            !IsResultLocal(result) ? State.Empty
            : (state & State.OwningByResult) != 0 ? (state & State.Owning) | State.Empty
            : state;

        private static bool? IsZero(IOperation operation) =>
            operation.ConstantValue is { HasValue: true, Value: object value } && value is not (bool or string)
                ? Convert.ToInt64(value, System.Globalization.CultureInfo.InvariantCulture) == 0
                : null;
    }
}
