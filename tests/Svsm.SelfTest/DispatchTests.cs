// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Runtime.CompilerServices;

namespace Svsm.SelfTest;

internal static unsafe class DispatchTests
{
    private abstract class Animal
    {
        internal abstract int Id { get; }

        internal virtual int Legs => 4;
    }

    private sealed class Dog : Animal
    {
        internal override int Id => 1;
    }

    private sealed class Bird : Animal
    {
        internal override int Id => 2;

        internal override int Legs => 2;
    }

    private interface IShape
    {
        int Area();

        int Twice() => Area() * 2;
    }

    private sealed class Square : IShape
    {
        internal int Side;

        public int Area() => Side * Side;
    }

    private sealed class Rectangle : IShape
    {
        internal int Width;
        internal int Height;

        public int Area() => Width * Height;
    }

    private struct Point : IShape
    {
        internal int Value;

        public int Area() => Value;
    }

    private class First : IShape
    {
        public int Area() => 1;
    }

    // Its slot is virtual in a base class, and overridden below.
    private class Third : IShape
    {
        public virtual int Area() => 9;
    }

    private sealed class Fourth : Third, IShape
    {
        public override int Area() => 44;

        public int Twice() => 4;
    }

    private sealed class Inherits : First
    {
    }

    private interface IConvert<T>
    {
        T Convert(T value);
    }

    private sealed class Both : IConvert<int>, IConvert<string>
    {
        public int Convert(int value) => value + 1;

        public string Convert(string value) => value;
    }

    private sealed class Plus2 : IConvert<int>
    {
        public int Convert(int value) => value + 2;
    }

    private sealed class Plus3 : IConvert<int>
    {
        public int Convert(int value) => value + 3;
    }

    private sealed class Plus4 : IConvert<int>
    {
        public int Convert(int value) => value + 4;
    }

    private sealed class Plus5 : IConvert<int>
    {
        public int Convert(int value) => value + 5;
    }

    private class Box<T>
    {
        internal T? Value;

        internal virtual string Name => "box";
    }

    private sealed class StringBox : Box<string>
    {
        internal override string Name => "string box";
    }

    private interface IManyArguments
    {
        double Mix(int a, int b, int c, int d, int e, double x, float y);
    }

    private sealed class Mix1 : IManyArguments
    {
        public double Mix(int a, int b, int c, int d, int e, double x, float y) => a + b + c + d + e + x + y;
    }

    private sealed class Mix2 : IManyArguments
    {
        public double Mix(int a, int b, int c, int d, int e, double x, float y) => 2;
    }

    private sealed class Mix3 : IManyArguments
    {
        public double Mix(int a, int b, int c, int d, int e, double x, float y) => 3;
    }

    private sealed class Mix4 : IManyArguments
    {
        public double Mix(int a, int b, int c, int d, int e, double x, float y) => 4;
    }

    private enum Level : ushort
    {
        Low,
        High = 7,
    }

    private struct WithReference
    {
        internal string Name;
        internal int Number;
        internal object? Other;
    }

    internal static void Run()
    {
        Animal[] animals = [new Dog(), new Bird()];
        Check.That("virtual calls"u8, animals[Check.Opaque(0)].Legs * 10 + animals[Check.Opaque(1)].Legs + animals[0].Id == 43);
        Check.That("interface call, two implementers"u8, AreaOf(Choose(0)) == 16 && AreaOf(Choose(1)) == 2);

        IShape[] shapes = [new First(), new Third(), new Fourth(), new Inherits(), new Square { Side = 2 }, new Rectangle { Width = 3, Height = 3 }, new Point { Value = 5 }];
        long digits = 0;
        foreach (IShape shape in shapes)
        {
            digits = (digits * 100) + AreaOf(shape);
        }

        Check.That("interface call, many implementers"u8, digits == 1_09_44_01_04_09_05);
        Check.That("default interface method"u8, TwiceOf(shapes[Check.Opaque(1)]) == 18 && TwiceOf(shapes[Check.Opaque(6)]) == 10);
        Check.That("default interface method replaced"u8, TwiceOf(shapes[Check.Opaque(2)]) == 4);

        IConvert<int>[] converters = [new Both(), new Plus2(), new Plus3(), new Plus4(), new Plus5()];
        int sum = 0;
        for (int i = 0; i < converters.Length; i++)
        {
            sum += ConvertWith(converters[i], i);
        }

        Check.That("generic interface call"u8, sum == 25 && ((IConvert<string>)converters[Check.Opaque(0)]).Convert("ab").Length == 2);

        IManyArguments[] mixers = [new Mix1(), new Mix2(), new Mix3(), new Mix4()];
        Check.That("arguments survive interface dispatch"u8, Mixed(mixers[Check.Opaque(0)]) is > 16.2 and < 16.3 && Mixed(mixers[Check.Opaque(3)]) is 4.0);

        object boxed = Check.Opaque(77);
        Check.That("boxing and unboxing"u8, (int)boxed == 77 && boxed is int && boxed is not long);
        boxed = (Level)Check.Opaque(7);
        Check.That("unboxing an enumeration"u8, (Level)boxed == Level.High && (ushort)boxed == 7);
        object? boxedNullable = MaybeNumber(Check.Opaque(3));
        Check.That("boxing a nullable"u8, boxedNullable is 3 && (object?)MaybeNumber(Check.Opaque(-1)) is null);
        Check.That("unboxing to a nullable"u8, (int?)boxedNullable == 3 && (int?)Unbox(null) is null && (long?)Unbox(5L) == 5);
        boxed = new WithReference { Name = "name", Number = Check.Opaque(6), Other = animals };
        var copy = (WithReference)boxed;
        Check.That("boxing a struct with references"u8, copy.Name == "name" && copy.Number == 6 && ReferenceEquals(copy.Other, animals));
        IShape point = new Point { Value = Check.Opaque(9) };
        Check.That("boxed struct through an interface"u8, AreaOf(point) == 9);

        object something = Check.Opaque(0) == 0 ? new Dog() : new Bird();
        Check.That("type tests of classes"u8, something is Dog and Animal && something is not Bird && ((Animal)something).Legs == 4);
        Check.That("type tests of interfaces"u8, shapes[Check.Opaque(3)] is First and IShape && something is not IShape && (object)shapes[0] is not IConvert<int>);
        object array = Check.Opaque(0) == 0 ? animals : shapes;
        Check.That("type tests of arrays"u8, array is Animal[] and object[] and Array && array is not IShape[] and not Dog[] && (object)new int[1] is Array and not object[]);
        Check.That("type tests of shared generics"u8, Is<string>("text") && !Is<string>(something) && Is<Animal>(something) && Is<IShape>(point));
        Check.That("casts of shared generics"u8, ReferenceEquals(As<Animal>(something), something) && As<IShape>(something) is null);

        object[] covariant = Check.Opaque(0) == 0 ? new Animal[1] : new object[1];
        covariant[0] = something;
        Check.That("covariant array store"u8, ReferenceEquals(covariant[0], something));
        object[] plain = Check.Opaque(0) == 0 ? new object[2] : new string[2];
        ref object element = ref plain[Check.Opaque(1)];
        element = something;
        Check.That("reference to an array element"u8, ReferenceEquals(element, something));

        Box<string> box = Check.Opaque(0) == 0 ? new StringBox { Value = "v" } : new Box<string>();
        Check.That("generic class with virtual members"u8, box.Name == "string box" && box.Value == "v" && new Box<int>().Name.Length == 3);

        Func<int, int> function = Increment;
        Check.That("delegate to a static method"u8, function(Check.Opaque(4)) == 5);
        int captured = Check.Opaque(10);
        function = value => value + captured;
        Check.That("delegate with captured variables"u8, function(Check.Opaque(4)) == 14);
        Func<int> bound = new Square { Side = Check.Opaque(3) }.Area;
        Check.That("delegate to an instance method"u8, bound() == 9);
        Func<int> virtualBound = shapes[Check.Opaque(2)].Area;
        Check.That("delegate to an interface method"u8, virtualBound() == 44);
        Check.That("generic delegate"u8, Apply(Check.Opaque(3), static value => value * 2) == 6 && Apply("abc", static text => text.Length) == 3);

        Check.That("object equality and hash"u8, something.Equals(something) && !something.Equals(box) && something.GetHashCode() == something.GetHashCode());
        Check.That("overridden equality"u8, ((object)"ab").Equals("ab") && ((object)5).Equals(Check.Opaque(5)) && !((object)5).Equals(6L));
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static IShape Choose(int which) => Check.Opaque(which) == 0 ? new Square { Side = 4 } : new Rectangle { Width = 1, Height = 2 };

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static int AreaOf(IShape shape) => shape.Area();

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static int TwiceOf(IShape shape) => shape.Twice();

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static int ConvertWith(IConvert<int> converter, int value) => converter.Convert(value);

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static double Mixed(IManyArguments mixer) => mixer.Mix(1, 2, 3, 4, 5, 1.0, 0.25f);

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static int? MaybeNumber(int value) => value > 0 ? value : null;

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static object? Unbox(object? value) => value;

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static bool Is<T>(object value) => value is T;

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static T? As<T>(object value)
        where T : class => value as T;

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static int Increment(int value) => value + 1;

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static int Apply<T>(T value, Func<T, int> function) => function(value);
}
