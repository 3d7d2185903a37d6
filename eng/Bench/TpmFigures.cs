// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The virtual TPM against Debian's swtpm: how long the same commands take on both. The two take turns, command by command, so that whatever
// else the machine does hits both, and which of the two is first changes each time. Client and servers have one processor: on several, a server that
// the scheduler happens to have put on another one than the client takes three times as long for a short command, because that one has to be woken,
// and stays there for a while. Both have the same seeds (ours are taken over from swtpm's state), so primary keys are the same and were
// found with the same steps. Every answer is checked: by the cryptography of the operating system, or against what was sent.

using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using System.Diagnostics;
using System.Globalization;
using System.IO;
using System.Linq;
using System.Numerics;
using System.Security.Cryptography;
using Svsm.Modules.Vtpm;
using Svsm.Modules.Vtpm.Desk;

namespace Svsm.Bench;

/// <summary>The figures of the virtual TPM.</summary>
internal static class TpmFigures
{
    private const uint Owner = 0x4000_0001;
    private const uint Endorsement = 0x4000_000B;
    private const uint NoHierarchy = 0x4000_0007;
    private const uint NvIndex = 0x01C0_BE00;
    private const int PrimaryKeys = 200;
    private const int Rounds = 3;
    private const int WarmUp = 1000;

    // Fixed, its secret of the TPM's own making, user authorisation, no protection against dictionary attacks; then what a key is for.
    private const uint Common = 0x472;
    private const uint SensitiveDataOrigin = 0x20;
    private const uint Storage = 0x3_0000;
    private const uint Decrypt = 0x2_0000;
    private const uint Signing = 0x4_0000;
    private const uint RestrictedSigning = 0x5_0000;

    private static readonly byte[] s_aes = [0, 6, 0, 128, 0, 0x43];
    private static readonly byte[] s_null = [0, 0x10];
    private static readonly byte[] s_rsaSsa = [0, 0x14, 0, 0x0B];
    private static readonly byte[] s_ecdsa = [0, 0x18, 0, 0x0B];
    private static readonly byte[] s_eightPcrs = [0, 0, 0, 1, 0, 0x0B, 3, 0xFF, 0, 0];
    private static readonly byte[] s_noTicket = [0x80, 0x24, 0x40, 0, 0, 7, 0, 0];

    // GetCapability: 64 properties.
    private static readonly byte[] s_properties = TpmClient.Command(0x17A, [], [0, 0, 0, 6, 0, 0, 1, 0, 0, 0, 0, 64]);

    private static readonly Benchmark[] s_benchmarks =
    [
        new("unknown command (round trip)", 2, 300, Floor),
        new("GetRandom, 32 bytes", 2, 300, GetRandom),
        new("GetCapability, 64 properties", 2, 300, GetCapability),
        new("PCR_Extend, SHA-256", 2, 300, PcrExtend),
        new("PCR_Read, 8 PCRs", 2, 300, PcrRead),
        new("ReadClock", 2, 300, (client, count) => Repeat(client, count, TpmClient.Command(0x181, [], []))),
        new("Hash, 1 KiB, SHA-256", 2, 300, Hash),
        new("hash sequence, 64 KiB in 66 commands", 2, 15, HashSequence),
        new("CreatePrimary, ECC P-256", 1, 90, CreatePrimaryEcc),
        new("Create, ECC P-256", 1, 90, (client, count) => Create(client, count, EccTemplate(Signing, s_null, s_null), [0, 4, 0, 0, 0, 0])),
        new("Create, RSA-2048", 1, 60, (client, count) => Create(client, count, RsaTemplate(Signing, s_null, s_null, []), [0, 4, 0, 0, 0, 0])),
        new("Create, 32 sealed bytes", 2, 150, (client, count) => Create(client, count, SealTemplate, [0, 36, 0, 0, 0, 32, .. Random(32)])),
        new("Load, ECC P-256", 2, 150, (client, count) => Load(client, count, EccTemplate(Signing, s_null, s_null))),
        new("Load, RSA-2048", 2, 90, (client, count) => Load(client, count, RsaTemplate(Signing, s_null, s_null, []))),
        new("Sign, RSA-2048 (RSASSA)", 1, 150, SignRsa),
        new("Sign, ECDSA P-256", 1, 150, SignEcdsa),
        new("VerifySignature, RSA-2048", 2, 150, (client, count) => Verify(client, count, isRsa: true)),
        new("VerifySignature, ECDSA P-256", 1, 150, (client, count) => Verify(client, count, isRsa: false)),
        new("Quote, RSA-2048, 8 PCRs", 1, 90, (client, count) => Quote(client, count, isRsa: true)),
        new("Quote, ECDSA P-256, 8 PCRs", 1, 90, (client, count) => Quote(client, count, isRsa: false)),
        new("RSA_Decrypt, RSA-2048 (OAEP)", 1, 90, RsaDecrypt),
        new("ECDH_ZGen, P-256", 1, 150, EcdhZGen),
        new("Unseal, 32 bytes", 2, 300, Unseal),
        new("HMAC, 1 KiB, SHA-256", 2, 300, Hmac),
        new("EncryptDecrypt2, AES-128-CFB, 1 KiB", 2, 300, EncryptDecrypt),
        new("NV_Write, 512 bytes", 2, 150, NvWrite),
        new("NV_Read, 512 bytes", 2, 300, NvRead),
        new("StartAuthSession", 2, 150, StartSession),
        new("StartAuthSession, salted, ECC P-256", 1, 90, StartSaltedEcc),
        new("StartAuthSession, salted, RSA-2048", 1, 90, StartSaltedRsa),
        new("ContextSave, ECC key", 2, 150, ContextSave),
        new("ContextLoad, ECC key", 2, 150, ContextLoad),
        new("PolicyPCR, 8 PCRs", 2, 150, PolicyPcr),
    ];

    // A keyedhash object without scheme that is sealed data.
    private static byte[] SealTemplate => [0, 8, 0, 0x0B, .. U32(Common & ~SensitiveDataOrigin), 0, 0, .. s_null, 0, 0];

    /// <summary>Prints the figures.</summary>
    /// <param name="program">The static executable.</param>
    /// <param name="only">Part of the name of the only commands that are measured; empty for all.</param>
    /// <returns>How many are above their limit.</returns>
    internal static int Print(string program, string only)
    {
        StayOnOneProcessor();
        int exceeded = 0;

        // In memory: what a disk takes to write is no figure of either.
        string root = Directory.Exists("/dev/shm") ? "/dev/shm" : Path.GetTempPath();
        DirectoryInfo work = Directory.CreateDirectory(Path.Combine(root, $"svsm-bench-{Environment.ProcessId}"));
        try
        {
            string reference = work.CreateSubdirectory("swtpm").FullName;
            string ours = work.CreateSubdirectory("ours").FullName;
            TakeOver(reference, ours);
            using TpmClient swtpm = TpmClient.StartSwtpm(reference);
            using TpmClient engine = TpmClient.StartOurs(program, ours);
            Console.WriteLine("Virtual TPM (static executable) against Debian's swtpm, taking turns; microseconds");
            Console.WriteLine($"  {"",-38} {"median on the clock",-30}   {"median of processor time",-30}");
            Console.WriteLine($"  {"",-38} {"swtpm",10} {"ours",10} {"ratio",6}   {"swtpm",10} {"ours",10} {"ratio",6}  at most");
            Benchmark[] chosen = [.. s_benchmarks.Where(benchmark => benchmark.Name.Contains(only, StringComparison.OrdinalIgnoreCase))];
            var samples = Array.ConvertAll(chosen, _ => (Swtpm: (new List<double>(), new List<double>()), Engine: (new List<double>(), new List<double>())));

            // In rounds, so that a bad minute of the machine hits a third of the samples of each command. Before that, what a process does
            // once: it gets its memory.
            for (int i = 0; i < WarmUp; i++)
            {
                swtpm.Send(s_properties);
                engine.Send(s_properties);
            }

            for (int round = 0; round < Rounds; round++)
            {
                for (int i = 0; i < chosen.Length; i++)
                {
                    Measure(chosen[i], swtpm, samples[i].Swtpm, engine, samples[i].Engine);
                }
            }

            for (int i = 0; i < chosen.Length; i++)
            {
                exceeded += Row(chosen[i].Name, chosen[i].Limit, samples[i].Swtpm, samples[i].Engine, Median) ? 0 : 1;
            }

            if ("CreatePrimary, RSA-2048".Contains(only, StringComparison.OrdinalIgnoreCase))
            {
                exceeded += MeasurePrimaryRsa(swtpm, engine) ? 0 : 1;
            }

            Console.WriteLine();
            exceeded += MeasurePieces(engine, only) ? 0 : 1;
            exceeded += MeasureLongest(engine, only);

            Console.WriteLine();
            exceeded += Print("executable, bytes", new FileInfo(program).Length, 5_000_000) ? 0 : 1;
            exceeded += Print("its memory after all this (VmHWM), KiB", engine.PeakMemory, 12 * 1024) ? 0 : 1;
            Print("  swtpm's, KiB", swtpm.PeakMemory, long.MaxValue);
            return exceeded;
        }
        finally
        {
            work.Delete(recursive: true);
        }
    }

    // This thread, and what it starts. The last processor of those that it may have: the first one has most of the interrupts.
    private static void StayOnOneProcessor()
    {
        if (!OperatingSystem.IsLinux())
        {
            throw new PlatformNotSupportedException("swtpm is a program for Linux");
        }

        using Process self = Process.GetCurrentProcess();
        self.ProcessorAffinity = (nint)(1UL << BitOperations.Log2((ulong)self.ProcessorAffinity));
    }

    private static bool Print(string what, long value, long limit)
    {
        string text = limit == long.MaxValue ? "" : string.Create(CultureInfo.InvariantCulture, $"under {limit:#,0}{(value < limit ? "" : ": EXCEEDED")}");
        Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"  {what,-46} {value,12:#,0} {text}"));
        return value < limit;
    }

    // A TPM that swtpm has made, and the same in our form.
    private static void TakeOver(string reference, string ours)
    {
        using (TpmClient client = TpmClient.StartSwtpm(reference))
        {
            client.Do(0x145, [], [0, 0]);
        }

        byte[] state = File.ReadAllBytes(Path.Combine(reference, "tpm2-00.permall"));
        using var storage = new StateDirectory(ours);
        TpmOpenResult result = TpmFactory.TryManufacture(storage, null, state, out string problem);
        if (result != TpmOpenResult.Done)
        {
            throw new InvalidOperationException($"the state of swtpm is not taken over: {result} {problem}");
        }
    }

    private static void Measure(
        Benchmark benchmark,
        TpmClient swtpm,
        (List<double> Elapsed, List<double> ProcessorTime) swtpmSamples,
        TpmClient engine,
        (List<double> Elapsed, List<double> ProcessorTime) engineSamples)
    {
        int count = benchmark.Count / Rounds;
        using IEnumerator<(double, double)> first = benchmark.Measure(swtpm, count).GetEnumerator();
        using IEnumerator<(double, double)> second = benchmark.Measure(engine, count).GetEnumerator();
        for (int i = 0; i < count; i++)
        {
            if (i % 2 == 0)
            {
                Take(first, swtpmSamples);
                Take(second, engineSamples);
            }
            else
            {
                Take(second, engineSamples);
                Take(first, swtpmSamples);
            }
        }

        // What is left is the end of each: it gives back what it took.
        first.MoveNext();
        second.MoveNext();

        void Take(IEnumerator<(double Elapsed, double ProcessorTime)> source, (List<double> Elapsed, List<double> ProcessorTime) samples)
        {
            Require(source.MoveNext(), $"{benchmark.Name} ends too early");
            samples.Elapsed.Add(source.Current.Elapsed);
            samples.ProcessorTime.Add(source.Current.ProcessorTime);
        }
    }

    // The time for a key varies with the number of candidates, so it is the mean of many that counts; the keys are the same on both sides,
    // hence so are the candidates.
    private static bool MeasurePrimaryRsa(TpmClient swtpm, TpmClient engine)
    {
        (List<double> Elapsed, List<double> ProcessorTime) first = ([], []);
        (List<double> Elapsed, List<double> ProcessorTime) second = ([], []);
        for (int i = 0; i < PrimaryKeys; i++)
        {
            byte[] template = RsaTemplate(Storage, s_aes, s_null, Random(256));
            byte[] one = Make(swtpm, template, first);
            if (!one.AsSpan().SequenceEqual(Make(engine, template, second)))
            {
                throw new InvalidOperationException("the two TPMs have the same seed and made different keys");
            }
        }

        bool isWithin = Row($"CreatePrimary, RSA-2048, {PrimaryKeys} keys", 3, first, second, static values => values.Average());
        Console.WriteLine("    (means; the same keys on both, hence the same exponentiations)");
        return isWithin;

        static byte[] Make(TpmClient client, byte[] template, (List<double> Elapsed, List<double> ProcessorTime) samples)
        {
            (uint handle, byte[] area) = Primary(client, Owner, template);
            samples.Elapsed.Add(client.Elapsed);
            samples.ProcessorTime.Add(client.ProcessorTime);
            client.Flush(handle);
            return area;
        }
    }

    // A command whose header comes first against one that comes whole, in turn. A server that lets its system put off the acknowledgement has the
    // client's system hold back the rest for 40 ms: a thousand times as long.
    private static bool MeasurePieces(TpmClient client, string only)
    {
        const string Name = "GetCapability, in two pieces";
        const double Limit = 5;
        if (!Name.Contains(only, StringComparison.OrdinalIgnoreCase))
        {
            return true;
        }

        List<double> whole = [];
        List<double> pieces = [];
        for (int i = 0; i < 300; i++)
        {
            client.Send(s_properties);
            whole.Add(client.Elapsed);
            client.Send(s_properties, inPieces: true);
            pieces.Add(client.Elapsed);
        }

        double ratio = Median(pieces) / Median(whole);
        Console.WriteLine(string.Create(
            CultureInfo.InvariantCulture, $"  {Name,-38} {ratio,10:0.00} times as long as in one, at most {Limit:0}{(ratio > Limit ? " EXCEEDED" : "")}"));
        return ratio <= Limit;
    }

    // Of our commands those that take longest, in processor time: keys, which are made in slices, and what is done at one go, with the largest keys.
    private static int MeasureLongest(TpmClient client, string only)
    {
        const double SliceLimit = 50;
        const double CommandLimit = 5000;
        (string Name, double Limit, int Count, Func<TpmClient, int, IEnumerable<(double, double)>> Measure)[] commands =
        [
            ("Create, RSA-4096 (in slices)", CommandLimit, 12, (c, count) => Create(c, count, RsaTemplate(Signing, s_null, s_null, [], 4096), [0, 4, 0, 0, 0, 0])),
            ("Sign, RSA-4096, the first time", SliceLimit, 10, SignRsa4096),
            ("ECDH_KeyGen, P-521", SliceLimit, 10, EcdhKeyGen521),
            ("ZGen_2Phase, P-521", SliceLimit, 10, TwoPhase521),
            ("SelfTest, all algorithms", SliceLimit, 10, (c, count) => Repeat(c, count, TpmClient.Command(0x143, [], [1]))),
        ];
        int exceeded = 0;
        foreach ((string name, double limit, int count, Func<TpmClient, int, IEnumerable<(double, double)>> measure) in commands.Where(command => command.Name.Contains(only, StringComparison.OrdinalIgnoreCase)))
        {
            double longest = measure(client, count).Max(sample => sample.Item2) / 1000;
            exceeded += longest > limit ? 1 : 0;
            Console.WriteLine(string.Create(
                CultureInfo.InvariantCulture, $"  {name,-38} {longest,10:#,0.0} ms, the longest of {count}, at most {limit:#,0}{(longest > limit ? " EXCEEDED" : "")}"));
        }

        return exceeded;
    }

    // Each time with the key loaded anew, so that its blinding is made, too.
    private static IEnumerable<(double, double)> SignRsa4096(TpmClient client, int count)
    {
        uint parent = StorageKey(client);
        (byte[] privatePart, byte[] area) = CreateChild(client, parent, RsaTemplate(Signing, s_null, s_null, [], 4096), [0, 4, 0, 0, 0, 0]);
        for (int i = 0; i < count; i++)
        {
            (uint handle, _) = client.Do(0x157, [parent], [.. Sized(privatePart), .. Sized(area)], 1, returnsHandle: true);
            client.Do(0x15D, [handle], [.. Sized(Random(32)), .. s_rsaSsa, .. s_noTicket], 1);
            (double, double) sample = Sample(client);
            client.Flush(handle);
            yield return sample;
        }

        client.Flush(parent);
    }

    private static IEnumerable<(double, double)> EcdhKeyGen521(TpmClient client, int count)
    {
        (uint handle, _) = Primary(client, Owner, EccTemplate(Decrypt, s_null, s_null, null, 5));
        foreach ((double, double) sample in Repeat(client, count, TpmClient.Command(0x163, [handle], [])))
        {
            yield return sample;
        }

        client.Flush(handle);
    }

    private static IEnumerable<(double, double)> TwoPhase521(TpmClient client, int count)
    {
        (uint handle, byte[] area) = Primary(client, Owner, EccTemplate(Decrypt, s_null, s_null, null, 5));
        byte[] point = area[^136..];
        for (int i = 0; i < count; i++)
        {
            // The TPM's ephemeral key; the other side has, for once, the TPM's own keys.
            byte[] ephemeral = client.Do(0x18E, [], [0, 5]).Parameters;
            byte[] counter = ephemeral[^2..];
            client.Do(0x18D, [handle], [.. Sized(point), .. Sized(point), 0, 0x19, .. counter], 1);
            yield return Sample(client);
        }

        client.Flush(handle);
    }

    // One of the two ratios has to be within the limit: the clock's is above that of processor time when others have the processor, too.
    private static bool Row(
        string name, double limit, (List<double> Elapsed, List<double> ProcessorTime) first, (List<double> Elapsed, List<double> ProcessorTime) second, Func<List<double>, double> value)
    {
        double elapsed = value(second.Elapsed) / value(first.Elapsed);
        double processor = value(second.ProcessorTime) / value(first.ProcessorTime);
        bool isWithin = elapsed <= limit || processor <= limit;
        Console.WriteLine(string.Create(
            CultureInfo.InvariantCulture,
            $"  {name,-38} {value(first.Elapsed),10:0.0} {value(second.Elapsed),10:0.0} {elapsed,6:0.00}   {value(first.ProcessorTime),10:0.0} {value(second.ProcessorTime),10:0.0} {processor,6:0.00}  {limit:0.0}{(isWithin ? "" : " EXCEEDED")}"));
        return isWithin;
    }

    private static double Median(List<double> values)
    {
        double[] sorted = [.. values.Order()];
        return sorted[sorted.Length / 2];
    }

    private static IEnumerable<(double, double)> Repeat(TpmClient client, int count, byte[] command)
    {
        for (int i = 0; i < count; i++)
        {
            Require(BinaryPrimitives.ReadUInt32BigEndian(client.Send(command)[6..]) == 0, "a command failed");
            yield return Sample(client);
        }
    }

    private static IEnumerable<(double, double)> Floor(TpmClient client, int count)
    {
        byte[] command = TpmClient.Command(0x11E, [], []);
        for (int i = 0; i < count; i++)
        {
            Require(BinaryPrimitives.ReadUInt32BigEndian(client.Send(command)[6..]) == 0x143, "TPM_RC_COMMAND_CODE is wanted");
            yield return Sample(client);
        }
    }

    private static IEnumerable<(double, double)> GetRandom(TpmClient client, int count)
    {
        var seen = new HashSet<string>();
        for (int i = 0; i < count; i++)
        {
            byte[] number = client.Do(0x17B, [], [0, 32]).Parameters;
            Require(number.Length == 34 && seen.Add(Convert.ToHexString(number)), "a new number of 32 bytes is wanted");
            yield return Sample(client);
        }
    }

    private static IEnumerable<(double, double)> GetCapability(TpmClient client, int count)
        => Repeat(client, count, s_properties);

    private static IEnumerable<(double, double)> PcrExtend(TpmClient client, int count)
    {
        for (int i = 0; i < count; i++)
        {
            byte[] old = ReadPcr();
            byte[] digest = Random(32);
            client.Do(0x182, [16], [0, 0, 0, 1, 0, 0x0B, .. digest], 1);
            (double, double) sample = Sample(client);
            Require(ReadPcr().AsSpan().SequenceEqual(SHA256.HashData([.. old, .. digest])), "the PCR is wrong");
            yield return sample;
        }

        byte[] ReadPcr() => client.Do(0x17E, [], [0, 0, 0, 1, 0, 0x0B, 3, 0, 0, 1]).Parameters[^32..];
    }

    private static IEnumerable<(double, double)> PcrRead(TpmClient client, int count) => Repeat(client, count, TpmClient.Command(0x17E, [], s_eightPcrs));

    private static IEnumerable<(double, double)> Hash(TpmClient client, int count)
    {
        for (int i = 0; i < count; i++)
        {
            byte[] message = Random(1024);
            byte[] answer = client.Do(0x17D, [], [.. Sized(message), 0, 0x0B, .. U32(NoHierarchy)]).Parameters;
            Require(Buffer(answer, 0).SequenceEqual(SHA256.HashData(message)), "the digest is wrong");
            yield return Sample(client);
        }
    }

    private static IEnumerable<(double, double)> HashSequence(TpmClient client, int count)
    {
        for (int i = 0; i < count; i++)
        {
            byte[] message = Random(65536);
            (uint handle, _) = client.Do(0x186, [], [0, 0, 0, 0x0B], 0, returnsHandle: true);
            (double elapsed, double processor) = Sample(client);
            for (int offset = 0; offset < message.Length; offset += 1024)
            {
                client.Do(0x15C, [handle], Sized(message.AsSpan(offset, 1024)), 1);
                elapsed += client.Elapsed;
                processor += client.ProcessorTime;
            }

            byte[] answer = client.Do(0x13E, [handle], [0, 0, .. U32(NoHierarchy)], 1).Parameters;
            Require(Buffer(answer, 0).SequenceEqual(SHA256.HashData(message)), "the digest is wrong");
            yield return (elapsed + client.Elapsed, processor + client.ProcessorTime);
        }
    }

    private static IEnumerable<(double, double)> CreatePrimaryEcc(TpmClient client, int count)
    {
        for (int i = 0; i < count; i++)
        {
            (uint handle, byte[] area) = Primary(client, Owner, EccTemplate(Storage, s_aes, s_null, Random(32)));
            (double, double) sample = Sample(client);
            client.Flush(handle);
            using ECDsa key = EccKey(area);
            yield return sample;
        }
    }

    private static IEnumerable<(double, double)> Create(TpmClient client, int count, byte[] template, byte[] sensitive)
    {
        uint parent = StorageKey(client);
        for (int i = 0; i < count; i++)
        {
            CreateChild(client, parent, template, sensitive);
            yield return Sample(client);
        }

        client.Flush(parent);
    }

    private static IEnumerable<(double, double)> Load(TpmClient client, int count, byte[] template)
    {
        uint parent = StorageKey(client);
        (byte[] privatePart, byte[] area) = CreateChild(client, parent, template, [0, 4, 0, 0, 0, 0]);
        for (int i = 0; i < count; i++)
        {
            (uint handle, _) = client.Do(0x157, [parent], [.. Sized(privatePart), .. Sized(area)], 1, returnsHandle: true);
            (double, double) sample = Sample(client);
            client.Flush(handle);
            yield return sample;
        }

        client.Flush(parent);
    }

    private static IEnumerable<(double, double)> SignRsa(TpmClient client, int count)
    {
        (uint handle, byte[] area) = Primary(client, Owner, RsaTemplate(Signing, s_null, s_null, []));
        using RSA key = RsaKey(area);
        for (int i = 0; i < count; i++)
        {
            byte[] digest = Random(32);
            byte[] answer = client.Do(0x15D, [handle], [.. Sized(digest), .. s_rsaSsa, .. s_noTicket], 1).Parameters;
            Require(key.VerifyHash(digest, Buffer(answer, 4).ToArray(), HashAlgorithmName.SHA256, RSASignaturePadding.Pkcs1), "the signature is wrong");
            yield return Sample(client);
        }

        client.Flush(handle);
    }

    private static IEnumerable<(double, double)> SignEcdsa(TpmClient client, int count)
    {
        (uint handle, byte[] area) = Primary(client, Owner, EccTemplate(Signing, s_null, s_null));
        using ECDsa key = EccKey(area);
        for (int i = 0; i < count; i++)
        {
            byte[] digest = Random(32);
            byte[] answer = client.Do(0x15D, [handle], [.. Sized(digest), .. s_ecdsa, .. s_noTicket], 1).Parameters;
            Require(key.VerifyHash(digest, EcdsaSignature(answer)), "the signature is wrong");
            yield return Sample(client);
        }

        client.Flush(handle);
    }

    private static IEnumerable<(double, double)> Verify(TpmClient client, int count, bool isRsa)
    {
        byte[] template = isRsa ? RsaTemplate(Signing, s_null, s_null, []) : EccTemplate(Signing, s_null, s_null);
        (uint handle, _) = Primary(client, Owner, template);
        byte[] digest = Random(32);
        byte[] signature = client.Do(0x15D, [handle], [.. Sized(digest), .. isRsa ? s_rsaSsa : s_ecdsa, .. s_noTicket], 1).Parameters;
        foreach ((double, double) sample in Repeat(client, count, TpmClient.Command(0x177, [handle], [.. Sized(digest), .. signature])))
        {
            yield return sample;
        }

        client.Flush(handle);
    }

    private static IEnumerable<(double, double)> Quote(TpmClient client, int count, bool isRsa)
    {
        byte[] template = isRsa ? RsaTemplate(RestrictedSigning, s_null, s_rsaSsa, []) : EccTemplate(RestrictedSigning, s_null, s_ecdsa);
        (uint handle, byte[] area) = Primary(client, Endorsement, template);
        using RSA? rsa = isRsa ? RsaKey(area) : null;
        using ECDsa? ecc = isRsa ? null : EccKey(area);
        for (int i = 0; i < count; i++)
        {
            byte[] nonce = Random(20);
            byte[] answer = client.Do(0x158, [handle], [.. Sized(nonce), 0, 0x10, .. s_eightPcrs], 1).Parameters;
            byte[] attested = Buffer(answer, 0).ToArray();
            byte[] signature = answer[(attested.Length + 2)..];
            Require(attested.AsSpan().IndexOf(nonce) > 0, "the nonce is not attested");
            Require(
                rsa?.VerifyData(attested, Buffer(signature, 4).ToArray(), HashAlgorithmName.SHA256, RSASignaturePadding.Pkcs1)
                    ?? ecc!.VerifyData(attested, EcdsaSignature(signature), HashAlgorithmName.SHA256),
                "the signature is wrong");
            yield return Sample(client);
        }

        client.Flush(handle);
    }

    private static IEnumerable<(double, double)> RsaDecrypt(TpmClient client, int count)
    {
        (uint handle, byte[] area) = Primary(client, Owner, RsaTemplate(Decrypt, s_null, s_null, []));
        using RSA key = RsaKey(area);
        for (int i = 0; i < count; i++)
        {
            byte[] message = Random(32);
            byte[] encrypted = key.Encrypt(message, RSAEncryptionPadding.OaepSHA256);
            byte[] answer = client.Do(0x159, [handle], [.. Sized(encrypted), 0, 0x17, 0, 0x0B, 0, 0], 1).Parameters;
            Require(Buffer(answer, 0).SequenceEqual(message), "the message is wrong");
            yield return Sample(client);
        }

        client.Flush(handle);
    }

    private static IEnumerable<(double, double)> EcdhZGen(TpmClient client, int count)
    {
        (uint handle, byte[] area) = Primary(client, Owner, EccTemplate(Decrypt, s_null, s_null));
        for (int i = 0; i < count; i++)
        {
            (byte[] point, byte[] shared) = Exchange(area);
            byte[] answer = client.Do(0x154, [handle], Sized(point), 1).Parameters;
            Require(Buffer(answer, 2).SequenceEqual(shared), "the shared point is wrong");
            yield return Sample(client);
        }

        client.Flush(handle);
    }

    private static IEnumerable<(double, double)> Unseal(TpmClient client, int count)
    {
        uint parent = StorageKey(client);
        byte[] secret = Random(32);
        uint handle = LoadChild(client, parent, SealTemplate, [0, 36, 0, 0, 0, 32, .. secret]);
        for (int i = 0; i < count; i++)
        {
            Require(Buffer(client.Do(0x15E, [handle], [], 1).Parameters, 0).SequenceEqual(secret), "the data are wrong");
            yield return Sample(client);
        }

        client.Flush(handle);
        client.Flush(parent);
    }

    private static IEnumerable<(double, double)> Hmac(TpmClient client, int count)
    {
        uint parent = StorageKey(client);
        byte[] key = Random(32);
        byte[] template = [0, 8, 0, 0x0B, .. U32((Common & ~SensitiveDataOrigin) | Signing), 0, 0, 0, 5, 0, 0x0B, 0, 0];
        uint handle = LoadChild(client, parent, template, [0, 36, 0, 0, 0, 32, .. key]);
        for (int i = 0; i < count; i++)
        {
            byte[] message = Random(1024);
            byte[] answer = client.Do(0x155, [handle], [.. Sized(message), 0, 0x10], 1).Parameters;
            Require(Buffer(answer, 0).SequenceEqual(HMACSHA256.HashData(key, message)), "the HMAC is wrong");
            yield return Sample(client);
        }

        client.Flush(handle);
        client.Flush(parent);
    }

    private static IEnumerable<(double, double)> EncryptDecrypt(TpmClient client, int count)
    {
        uint parent = StorageKey(client);
        byte[] template = [0, 0x25, 0, 0x0B, .. U32(Common | Signing | Decrypt), 0, 0, .. s_aes, 0, 0];
        uint handle = LoadChild(client, parent, template, [0, 4, 0, 0, 0, 0]);
        byte[] message = Random(1024);
        byte[] encrypted = Transform(message, 0);
        Require(Transform(encrypted, 1).AsSpan().SequenceEqual(message) && !encrypted.AsSpan().SequenceEqual(message), "the data are wrong");
        for (int i = 0; i < count; i++)
        {
            Transform(message, 0);
            yield return Sample(client);
        }

        client.Flush(handle);
        client.Flush(parent);

        byte[] Transform(byte[] data, byte decrypt)
            => Buffer(client.Do(0x193, [handle], [.. Sized(data), decrypt, 0, 0x43, .. Sized(new byte[16])], 1).Parameters, 0).ToArray();
    }

    private static IEnumerable<(double, double)> NvWrite(TpmClient client, int count)
    {
        DefineNv(client);
        for (int i = 0; i < count; i++)
        {
            byte[] data = Random(512);
            client.Do(0x137, [NvIndex, NvIndex], [.. Sized(data), 0, 0], 1);
            (double, double) sample = Sample(client);
            Require(ReadNv(client).AsSpan().SequenceEqual(data), "the data are wrong");
            yield return sample;
        }

        client.Do(0x122, [Owner, NvIndex], [], 1);
    }

    private static IEnumerable<(double, double)> NvRead(TpmClient client, int count)
    {
        DefineNv(client);
        byte[] data = Random(512);
        client.Do(0x137, [NvIndex, NvIndex], [.. Sized(data), 0, 0], 1);
        for (int i = 0; i < count; i++)
        {
            Require(ReadNv(client).AsSpan().SequenceEqual(data), "the data are wrong");
            yield return Sample(client);
        }

        client.Do(0x122, [Owner, NvIndex], [], 1);
    }

    private static byte[] ReadNv(TpmClient client) => Buffer(client.Do(0x14E, [NvIndex, NvIndex], [2, 0, 0, 0], 1).Parameters, 0).ToArray();

    // Written and read with the index' own authorisation; no protection against dictionary attacks.
    private static void DefineNv(TpmClient client)
        => client.Do(0x12A, [Owner], [0, 0, .. Sized([.. U32(NvIndex), 0, 0x0B, .. U32(0x0206_0006), 0, 0, 2, 0])], 1);

    private static IEnumerable<(double, double)> StartSession(TpmClient client, int count)
    {
        for (int i = 0; i < count; i++)
        {
            (double, double) sample = Start(client, NoHierarchy, [], 0);
            yield return sample;
        }
    }

    private static IEnumerable<(double, double)> StartSaltedEcc(TpmClient client, int count)
    {
        (uint handle, byte[] area) = Primary(client, Owner, EccTemplate(Storage, s_aes, s_null));
        for (int i = 0; i < count; i++)
        {
            yield return Start(client, handle, Exchange(area).Point, 0);
        }

        client.Flush(handle);
    }

    private static IEnumerable<(double, double)> StartSaltedRsa(TpmClient client, int count)
    {
        (uint handle, byte[] area) = Primary(client, Owner, RsaTemplate(Storage, s_aes, s_null, []));
        BigInteger modulus = new(area.AsSpan(^256..), isUnsigned: true, isBigEndian: true);
        for (int i = 0; i < count; i++)
        {
            BigInteger encrypted = BigInteger.ModPow(new BigInteger(Oaep(Random(32), "SECRET\0"u8), isUnsigned: true, isBigEndian: true), 65537, modulus);
            byte[] bytes = encrypted.ToByteArray(isUnsigned: true, isBigEndian: true);
            yield return Start(client, handle, [.. new byte[256 - bytes.Length], .. bytes], 0);
        }

        client.Flush(handle);
    }

    private static (double, double) Start(TpmClient client, uint key, byte[] salt, byte type)
    {
        (uint session, _) = client.Do(0x176, [key, NoHierarchy], [.. Sized(Random(32)), .. Sized(salt), type, 0, 0x10, 0, 0x0B], 0, returnsHandle: true);
        (double, double) sample = Sample(client);
        client.Flush(session);
        return sample;
    }

    private static IEnumerable<(double, double)> ContextSave(TpmClient client, int count)
    {
        uint handle = StorageKey(client);
        for (int i = 0; i < count; i++)
        {
            client.Do(0x162, [handle], []);
            yield return Sample(client);
        }

        client.Flush(handle);
    }

    private static IEnumerable<(double, double)> ContextLoad(TpmClient client, int count)
    {
        uint handle = StorageKey(client);
        byte[] context = client.Do(0x162, [handle], []).Parameters;
        client.Flush(handle);
        for (int i = 0; i < count; i++)
        {
            (uint loaded, _) = client.Do(0x161, [], context, 0, returnsHandle: true);
            (double, double) sample = Sample(client);
            client.Flush(loaded);
            yield return sample;
        }
    }

    private static IEnumerable<(double, double)> PolicyPcr(TpmClient client, int count)
    {
        (uint session, _) = client.Do(0x176, [NoHierarchy, NoHierarchy], [.. Sized(Random(32)), 0, 0, 1, 0, 0x10, 0, 0x0B], 0, returnsHandle: true);
        foreach ((double, double) sample in Repeat(client, count, TpmClient.Command(0x17F, [session], [0, 0, .. s_eightPcrs])))
        {
            yield return sample;
        }

        client.Flush(session);
    }

    private static uint StorageKey(TpmClient client) => Primary(client, Owner, EccTemplate(Storage, s_aes, s_null)).Handle;

    /// <summary>A primary key and its public area.</summary>
    private static (uint Handle, byte[] Area) Primary(TpmClient client, uint hierarchy, byte[] template)
    {
        (uint handle, byte[] answer) = client.Do(0x131, [hierarchy], [0, 4, 0, 0, 0, 0, .. Sized(template), 0, 0, 0, 0, 0, 0], 1, returnsHandle: true);
        return (handle, Buffer(answer, 0).ToArray());
    }

    private static (byte[] Private, byte[] Area) CreateChild(TpmClient client, uint parent, byte[] template, byte[] sensitive)
    {
        byte[] answer = client.Do(0x153, [parent], [.. sensitive, .. Sized(template), 0, 0, 0, 0, 0, 0], 1).Parameters;
        byte[] privatePart = Buffer(answer, 0).ToArray();
        return (privatePart, Buffer(answer, privatePart.Length + 2).ToArray());
    }

    private static uint LoadChild(TpmClient client, uint parent, byte[] template, byte[] sensitive)
    {
        (byte[] privatePart, byte[] area) = CreateChild(client, parent, template, sensitive);
        return client.Do(0x157, [parent], [.. Sized(privatePart), .. Sized(area)], 1, returnsHandle: true).Handle;
    }

    private static byte[] RsaTemplate(uint use, byte[] symmetric, byte[] scheme, byte[] unique, int bits = 2048)
        => [0, 1, 0, 0x0B, .. U32(Common | use), 0, 0, .. symmetric, .. scheme, (byte)(bits >> 8), 0, 0, 0, 0, 0, .. Sized(unique)];

    private static byte[] EccTemplate(uint use, byte[] symmetric, byte[] scheme, byte[]? unique = null, byte curve = 3)
        => [0, 0x23, 0, 0x0B, .. U32(Common | use), 0, 0, .. symmetric, .. scheme, 0, curve, 0, 0x10, .. Sized(unique), .. Sized(unique)];

    private static RSA RsaKey(byte[] area) => RSA.Create(new RSAParameters { Modulus = area[^256..], Exponent = [1, 0, 1] });

    private static ECDsa EccKey(byte[] area) => ECDsa.Create(new ECParameters { Curve = ECCurve.NamedCurves.nistP256, Q = EccPoint(area) });

    private static ECPoint EccPoint(byte[] area) => new() { X = area[^66..^34], Y = area[^32..] };

    // A new point, and what it shares with a key.
    private static (byte[] Point, byte[] Shared) Exchange(byte[] area)
    {
        using ECDiffieHellman own = ECDiffieHellman.Create(ECCurve.NamedCurves.nistP256);
        using ECDiffieHellman other = ECDiffieHellman.Create(new ECParameters { Curve = ECCurve.NamedCurves.nistP256, Q = EccPoint(area) });
        ECPoint point = own.ExportParameters(false).Q;
        return ([.. Sized(point.X), .. Sized(point.Y)], own.DeriveRawSecretAgreement(other.PublicKey));
    }

    // EME-OAEP with SHA-256 for a modulus of 256 bytes (RFC 8017, 7.1.1).
    private static byte[] Oaep(byte[] message, ReadOnlySpan<byte> label)
    {
        const int Size = 256;
        const int HashSize = 32;
        byte[] seed = Random(HashSize);
        byte[] block = [.. SHA256.HashData(label), .. new byte[Size - message.Length - (2 * HashSize) - 2], 1, .. message];
        Xor(block, seed);
        Xor(seed, block);
        return [0, .. seed, .. block];

        static void Xor(Span<byte> data, byte[] seed)
        {
            byte[] mask = [];
            for (int i = 0; i < data.Length; i++)
            {
                mask = i % HashSize == 0 ? SHA256.HashData([.. seed, .. U32((uint)(i / HashSize))]) : mask;
                data[i] ^= mask[i % HashSize];
            }
        }
    }

    // The signature in the form of .NET: both numbers in full length.
    private static byte[] EcdsaSignature(byte[] signature)
    {
        ReadOnlySpan<byte> r = Buffer(signature, 4);
        ReadOnlySpan<byte> s = Buffer(signature, 6 + r.Length);
        return [.. new byte[32 - r.Length], .. r, .. new byte[32 - s.Length], .. s];
    }

    private static (double Elapsed, double ProcessorTime) Sample(TpmClient client) => (client.Elapsed, client.ProcessorTime);

    private static ReadOnlySpan<byte> Buffer(byte[] bytes, int offset) => bytes.AsSpan(offset + 2, BinaryPrimitives.ReadUInt16BigEndian(bytes.AsSpan(offset)));

    private static byte[] Sized(ReadOnlySpan<byte> bytes) => [(byte)(bytes.Length >> 8), (byte)bytes.Length, .. bytes];

    private static byte[] U32(uint value) => [(byte)(value >> 24), (byte)(value >> 16), (byte)(value >> 8), (byte)value];

    private static byte[] Random(int count) => RandomNumberGenerator.GetBytes(count);

    private static void Require(bool isSo, string otherwise)
    {
        if (!isSo)
        {
            throw new InvalidOperationException(otherwise);
        }
    }

    /// <summary>A command that is measured.</summary>
    /// <param name="Name">Its name.</param>
    /// <param name="Limit">How many times longer than the reference it may take.</param>
    /// <param name="Count">Samples per server.</param>
    /// <param name="Measure">Gives so many samples of a server, in microseconds, and cleans up after the last.</param>
    private sealed record Benchmark(string Name, double Limit, int Count, Func<TpmClient, int, IEnumerable<(double Elapsed, double ProcessorTime)>> Measure);
}
