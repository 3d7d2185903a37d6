// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Immutable;
using System.IO;
using System.Linq;
using System.Text.Json;
using System.Threading.Tasks;
using System.Xml.Linq;
using CsCheck;
using Svsm.Builder;
using Svsm.Builder.Tests;
using Svsm.Igvm;
using Svsm.Igvm.Imaging;
using Svsm.Measurement;
using Svsm.Migration;
using Svsm.Wire;
using Xunit;

namespace Svsm.Tool.Tests;

public sealed class CommandTests : ToolTest
{
    private static IgvmFile WithDirectives(IgvmFile file, Func<IgvmDirective, IgvmDirective?> change) =>
        file with { Directives = [.. file.Directives.Select(change).OfType<IgvmDirective>()] };

    private static IgvmFile WithByte(IgvmFile file, ulong gpa, int offset) => WithDirectives(file, directive =>
    {
        if (directive is not IgvmPageData page || page.Gpa != gpa)
        {
            return directive;
        }

        byte[] data = page.Data.ToArray();
        data[offset] ^= 1;
        return page with { Data = data };
    });

    [Fact]
    public async Task Inspect_SvsmImage_Prints()
    {
        Outcome outcome = await Run("igvm", "inspect", WriteImage());

        Assert.Equal(ExitStatus.Success, outcome.Status);
        AssertPlain(outcome.Output);
        Assert.Equal(
            """
            Test.igvm: IGVM version 1, X64, 142 KiB
            Svsm.Sdk image for host qemu, region 0x8000000, guest payload at VMPL2

            header              mask         address    size
            SUPPORTED_PLATFORM  0x1                           SevSnp, highest VTL 2, shared
                                                              from 0x0
            GUEST_POLICY        0x1                           0x30000
            REQUIRED_MEMORY     0x1   0x000008000000   8 MiB
            REQUIRED_MEMORY     0x1   0x000000103000   8 KiB
            REQUIRED_MEMORY     0x1   0x00000080d000  12 KiB
            REQUIRED_MEMORY     0x1   0x000000812000   4 KiB
            PARAMETER_AREA                             4 KiB  area 0
            PARAMETER_AREA                             4 KiB  area 1
            VP_COUNT                                          area 0, offset 0
            ENVIRONMENT_INFO                                  area 0, offset 4
            MEMORY_MAP                                        area 1, offset 0
            PARAMETER_INSERT    0x1   0x000008015000          area 0
            PARAMETER_INSERT    0x1   0x000008016000          area 1
            PAGE_DATA           0x1   0x000000010000  32 KiB  normal
            PAGE_DATA           0x1   0x000000018000   4 KiB  cpuid
            PAGE_DATA           0x1   0x000000100000  12 KiB  normal
            PAGE_DATA           0x1   0x000008000000  28 KiB  normal
            PAGE_DATA           0x1   0x000008007000  44 KiB  normal, zeroes
            PAGE_DATA           0x1   0x000008012000   4 KiB  normal
            PAGE_DATA           0x1   0x000008013000   4 KiB  normal, zeroes
            PAGE_DATA           0x1   0x000008014000   4 KiB  normal
            PAGE_DATA           0x1   0x000008017000   4 KiB  secrets, no data
            PAGE_DATA           0x1   0x000008018000  40 KiB  normal
            PAGE_DATA           0x1   0x000008022000   4 KiB  normal, zeroes
            PAGE_DATA           0x1   0x000008023000   8 KiB  normal
            VP_CONTEXT          0x1   0xfffffffff000          vCPU 0

            Registers of vCPU 0; those not listed are 0
            CS            0x8 base 0x0 limit 0xffffffff attributes 0xc9b
            DS            0x10 base 0x0 limit 0xffffffff attributes 0xc93
            ES            0x10 base 0x0 limit 0xffffffff attributes 0xc93
            FS            0x10 base 0x0 limit 0xffffffff attributes 0xc93
            GS            0x10 base 0x0 limit 0xffffffff attributes 0xc93
            SS            0x10 base 0x0 limit 0xffffffff attributes 0xc93
            RIP           0x10010
            RFLAGS        0x2
            RBX           0x12000
            CR0           0x31
            CR4           0x40
            EFER          0x1000
            XCR0          0x1
            PAT           0x7040600070406
            SEV_FEATURES  0x9 (SnpActive, RestrictedInjection)

            """.ReplaceLineEndings("\n"),
            outcome.Output);
    }

    [Fact]
    public async Task Inspect_Json_HasEveryHeader()
    {
        string image = WriteImage();
        JsonElement json = (await Run("igvm", "inspect", image, "--json")).Json;
        IgvmFile file = IgvmFile.Parse(File.ReadAllBytes(image));

        Assert.Equal(["file", "byteLength", "formatVersion", "architecture", "svsm", "headers", "vcpus"], Names(json));
        Assert.Equal(file.Platforms.Length + file.Initializations.Length + file.Directives.Length, json.GetProperty("headers").GetArrayLength());
        Assert.Equal("0x10010", json.GetProperty("vcpus")[0].GetProperty("registers").GetProperty("RIP").GetString());
        Assert.Equal("qemu", json.GetProperty("svsm").GetProperty("host").GetString());
    }

    [Fact]
    public async Task Map_SvsmImage_Prints()
    {
        Outcome outcome = await Run("igvm", "map", WriteImage());

        Assert.Equal(ExitStatus.Success, outcome.Status);
        AssertPlain(outcome.Output);
        Assert.Equal(
            """
            Test.igvm on host qemu

            address            size               kind       rights
            0x000000010000    8 KiB  ##           data       r-x     boot stub
            0x000000012000    4 KiB  #            data       r--     boot parameters
            0x000000013000   20 KiB  ###          data       rw-     boot page tables
            0x000000018000    4 KiB  =            cpuid      r--     CPUID page
            :               924 KiB                                  not used
            0x000000100000   12 KiB  ##           data               guest payload
            0x000000103000    8 KiB  ..           required           guest zero data
            :                 7 MiB                                  not used
            0x00000080d000    4 KiB  .            required           guest secrets page
            0x00000080e000    4 KiB  .            required           guest CPUID page
            0x00000080f000    4 KiB  .            required           guest calling area
            :                 8 KiB                                  not used
            0x000000812000    4 KiB  .            required           guest memory map
            :               120 MiB                                  not used
            0x000008000000   12 KiB  ##           data       r-x     kernel text
            0x000008003000    8 KiB  ##           data       r--     kernel read-only data
            0x000008005000    8 KiB  ##           data       rw-     kernel data
            0x000008007000   44 KiB  ####         zero       rw-     kernel zero data
            0x000008012000    4 KiB  #            data       rw-     kernel data
            0x000008013000    4 KiB  #            zero       rw-     kernel zero data
            0x000008014000    4 KiB  #            data       r--     configuration
            0x000008015000    4 KiB  =            parameter  r--     general parameters
            0x000008016000    4 KiB  =            parameter  r--     memory map
            0x000008017000    4 KiB  =            secrets    rw-     secrets page
            0x000008018000   40 KiB  ####         data       rw-     kernel page tables
            0x000008022000    4 KiB  #            zero       rw-     kernel page tables
            0x000008023000    8 KiB  ##           data       rw-     kernel page tables
            0x000008025000  7.9 MiB  ...........  required           kernel heap
            :               256 TiB                                  not used
            0xfffffffff000    4 KiB  #            vmsa               launch VMSA

            # contents measured   = address measured   . not launched
            200 KiB launched, 184 KiB of it measured; 7.9 MiB validated at run time.

            """.ReplaceLineEndings("\n"),
            outcome.Output);
    }

    [Fact]
    public async Task Inspect_Modules_AreListed()
    {
        string image = WriteImage(modules: true);
        Outcome outcome = await Run("igvm", "inspect", image);
        AssertPlain(outcome.Output);
        Assert.Matches(@"(?m)^Acme\.EchoModule +0x80000001 +1-2 +6 MiB +ReadGuest, WriteGuest$", outcome.Output);
        JsonElement module = (await Run("igvm", "inspect", image, "--json")).Json.GetProperty("svsm").GetProperty("modules")[0];
        Assert.Equal(("Acme.EchoModule", "0x80000001", 10_000), (module.GetProperty("class").GetString(), module.GetProperty("protocol").GetString(), module.GetProperty("watchdog").GetInt32()));
        Assert.Matches(@"(?m)^0x0000080[0-9a-f]+ .* data +r-- +modules$", (await Run("igvm", "map", image)).Output);

        // An archive that is none: said, and nothing else is wrong with the file.
        ulong archive = (ulong)SvsmFacts.Find(IgvmFile.Parse(File.ReadAllBytes(image)))!.Configuration.ArchiveBase;
        string bad = WriteChanged("bad.igvm", image, file => file with
        {
            Directives = [.. file.Directives.Select(directive => directive is IgvmPageData page && page.Gpa == archive ? page with { Data = new byte[4096] } : directive)],
        });
        Assert.Contains("The archive of modules is damaged", (await Run("igvm", "inspect", bad)).Output, StringComparison.Ordinal);
        Assert.Equal(JsonValueKind.Null, (await Run("igvm", "inspect", bad, "--json")).Json.GetProperty("svsm").GetProperty("modules").ValueKind);
    }

    [Fact]
    public async Task Inspect_MigrationPolicy_IsInWords()
    {
        byte[] root = [.. Enumerable.Repeat((byte)0xA1, 48)];
        byte[] author = [.. Enumerable.Repeat((byte)0xB2, 48)];
        byte[] family = [.. Enumerable.Range(0, 16).Select(i => (byte)i)];
        byte[] policy = MigrationPolicy.Make(root, 0xDB18_0000_0000_0004, [new MigrationRule(author, family, 3), new MigrationRule(author, new byte[16], uint.MaxValue)]);
        string image = WriteImage(modules: true, files: [new ModuleFile(MigrationPolicy.Path, policy) { Readers = [0x8000_0001] }]);

        Outcome outcome = await Run("igvm", "inspect", image);
        AssertPlain(outcome.Output);
        Assert.Contains(
            """

            A guest is moved to and from an SVSM
            on a chip below root key   a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a
                                       1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1
            and a TCB of at least      0xdb18000000000004, in each byte
            from an image by author    b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b
                                       2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2
              of family                000102030405060708090a0b0c0d0e0f
              with an SVN of at least  3
            or by author               b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b
                                       2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2
              of family                00000000000000000000000000000000
              with an SVN of at least  4294967295

            """.ReplaceLineEndings("\n"),
            outcome.Output, StringComparison.Ordinal);
        JsonElement json = await PolicyOf(image);
        Assert.Equal(["rootKeyDigest", "minimumTcb", "peers"], Names(json));
        Assert.Equal(Convert.ToHexStringLower(root), json.GetProperty("rootKeyDigest").GetString());
        Assert.Equal("0xdb18000000000004", json.GetProperty("minimumTcb").GetString());
        Assert.Equal(2, json.GetProperty("peers").GetArrayLength());
        JsonElement peer = json.GetProperty("peers")[0];
        Assert.Equal(
            (Convert.ToHexStringLower(author), "000102030405060708090a0b0c0d0e0f", 3u),
            (peer.GetProperty("authorKeyDigest").GetString(), peer.GetProperty("familyId").GetString(), peer.GetProperty("minimumSvn").GetUInt32()));

        // What the module would not take either.
        string bad = WriteImage("bad", modules: true, files: [new ModuleFile(MigrationPolicy.Path, policy.AsMemory(1)) { Readers = [0x8000_0001] }]);
        Assert.Contains("\nThe migration policy is damaged: no guest is moved\n", (await Run("igvm", "inspect", bad)).Output, StringComparison.Ordinal);
        Assert.Equal(JsonValueKind.Null, (await PolicyOf(bad)).ValueKind);

        async Task<JsonElement> PolicyOf(string path) => (await Run("igvm", "inspect", path, "--json")).Json.GetProperty("svsm").GetProperty("migrationPolicy");
    }

    [Theory]
    [InlineData(HostFlavour.Qemu)]
    [InlineData(HostFlavour.HyperV)]
    [InlineData(HostFlavour.Vanadium)]
    public async Task Map_Json_AgreesWithTheBuilder(HostFlavour flavour)
    {
        string path = WriteImage(flavour: flavour);
        JsonElement json = (await Run("igvm", "map", path, "--json")).Json;
        SvsmImage image = SvsmImageBuilder.Build(new SvsmImageOptions { Kernel = TestElf.Kernel().ToArray(), GuestPayload = TestElf.Payload().ToArray(), Flavour = flavour });

        Assert.Equal(HostFlavourNames.ToName(flavour), json.GetProperty("host").GetString());
        ulong end = 0;
        ulong launched = 0;
        foreach (JsonElement range in json.GetProperty("ranges").EnumerateArray())
        {
            ulong gpa = Convert.ToUInt64(range.GetProperty("gpa").GetString()![2..], 16);
            ulong length = range.GetProperty("byteLength").GetUInt64();
            Assert.True(gpa >= end);
            end = gpa + length;
            launched += range.GetProperty("launched").GetBoolean() ? length : 0;
            ImagePart? part = image.Parts.FirstOrDefault(p => gpa >= p.Gpa && gpa - p.Gpa < p.Length);
            Assert.Equal(range.GetProperty("kind").GetString() != "vmsa", part is not null);
            if (part is { Rights: not PageRights.None })
            {
                Assert.Equal(part.Rights.HasFlag(PageRights.Write), range.GetProperty("rights").GetString()!.Contains('w', StringComparison.Ordinal));
                Assert.Equal(part.Rights.HasFlag(PageRights.Execute), range.GetProperty("rights").GetString()!.Contains('x', StringComparison.Ordinal));
            }
        }

        Assert.Equal(image.Sizes.Launched + 4096, launched);
    }

    [Fact]
    public async Task Map_Svg_IsWellFormedAndWithoutOverlaps()
    {
        string svg = At("map & more.svg");
        Outcome outcome = await Run("igvm", "map", WriteImage(), "--svg", svg, "--json");
        XElement root = XDocument.Load(svg).Root!;
        XNamespace ns = "http://www.w3.org/2000/svg";
        (int Y, int Height)[] bars = [.. root.Elements(ns + "rect").Where(r => (int?)r.Attribute("x") == 190).Select(r => ((int)r.Attribute("y")!, (int)r.Attribute("height")!))];

        Assert.Equal(ExitStatus.Success, outcome.Status);
        Assert.Equal(outcome.Json.GetProperty("ranges").GetArrayLength(), bars.Length);
        for (int i = 1; i < bars.Length; i++)
        {
            Assert.True(bars[i].Y >= bars[i - 1].Y + bars[i - 1].Height);
        }

        Assert.All(bars, bar => Assert.True(bar.Height >= 22));
        Assert.True((int)root.Attribute("height")! > bars[^1].Y + bars[^1].Height);
        Assert.Contains(root.Elements(ns + "text"), text => text.Value == "kernel text");
    }

    [Fact]
    public async Task Map_SvgThatCannotBeWritten_IsBadFile() =>
        Assert.Equal(ExitStatus.BadFile, (await Run("igvm", "map", WriteImage(), "--svg", At("no/folder/map.svg"))).Status);

    [Fact]
    public async Task Map_ForeignFile_HasGenericNames()
    {
        string foreign = WriteChanged("foreign.igvm", WriteImage(), file => WithByte(file, 0x12000, 0));
        Outcome outcome = await Run("igvm", "map", foreign, "--json");

        Assert.Equal(ExitStatus.Success, outcome.Status);
        Assert.Equal(
            ["contents", "CPUID page", "required memory", "zeroes", "parameters", "secrets page", "launch VMSA"],
            outcome.Json.GetProperty("ranges").EnumerateArray().Select(r => r.GetProperty("name").GetString()).Distinct());
    }

    [Theory]
    [InlineData(HostFlavour.Qemu)]
    [InlineData(HostFlavour.StockQemu)]
    [InlineData(HostFlavour.HyperV)]
    [InlineData(HostFlavour.Vanadium)]
    public async Task Verify_BuiltImage_Passes(HostFlavour flavour)
    {
        Outcome outcome = await Run("igvm", "verify", WriteImage(flavour: flavour));

        Assert.Equal(ExitStatus.Success, outcome.Status);
        AssertPlain(outcome.Output);
        Assert.Equal(
            $"""
            pass  format         version 1, 59 directives, checksum right
            pass  host rules     {HostFlavourNames.ToName(flavour)} starts it as the file says
            pass  launch digest  that of Test.digest.json
            Test.igvm on host {HostFlavourNames.ToName(flavour)}: verified

            """.ReplaceLineEndings("\n"),
            outcome.Output);
    }

    [Fact]
    public async Task Verify_ChangedPage_Fails()
    {
        string image = WriteImage();
        WriteChanged("Test.igvm", image, file => WithByte(file, 0x800_0000, 17));
        Outcome outcome = await Run("igvm", "verify", image, "--json");

        Assert.Equal(ExitStatus.Difference, outcome.Status);
        Assert.Equal(["file", "host", "vcpus", "launchDigest", "verified", "checks"], Names(outcome.Json));
        Assert.False(outcome.Json.GetProperty("verified").GetBoolean());
        Assert.Equal(
            ["pass", "pass", "fail"], outcome.Json.GetProperty("checks").EnumerateArray().Select(c => c.GetProperty("outcome").GetString()));
    }

    [Fact]
    public async Task Verify_DigestOption_IsCompared()
    {
        string image = WriteImage();
        string digest = LaunchMeasurement.Measure(IgvmFile.Parse(File.ReadAllBytes(image)), HostFlavour.Qemu).Digest.ToString();

        Assert.Equal(ExitStatus.Success, (await Run("igvm", "verify", image, "--digest", digest)).Status);
        Assert.Equal(ExitStatus.Success, (await Run("igvm", "verify", image, "--digest", At("Test.digest.json"))).Status);
        Assert.Equal(ExitStatus.Difference, (await Run("igvm", "verify", image, "--digest", new string('0', 96))).Status);
    }

    [Fact]
    public async Task Verify_StockQemu_TakesTheDigestForTheNumberOfVcpus()
    {
        string image = WriteImage(flavour: HostFlavour.StockQemu);

        Assert.Equal(ExitStatus.Success, (await Run("igvm", "verify", image, "--vcpus", "8")).Status);
        Outcome outcome = await Run("igvm", "verify", image, "--vcpus", "3");
        Assert.Equal(ExitStatus.BadFile, outcome.Status);
        Assert.StartsWith("error SVSM2017: ", outcome.Error, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("{")]
    [InlineData("{}")]
    [InlineData("[]")]
    [InlineData("{\"launchDigest\": 1}")]
    [InlineData("{\"launchDigest\": \"00\"}")]
    [InlineData("{\"launchDigest\": \"00\", \"launchDigests\": 3}")]
    [InlineData("{\"launchDigest\": \"00\", \"launchDigests\": [{\"vcpus\": \"x\"}]}")]
    public async Task Verify_DamagedDigestFile_IsBadFile(string text)
    {
        string image = WriteImage();
        File.WriteAllText(At("Test.digest.json"), text);
        Outcome outcome = await Run("igvm", "verify", image);

        Assert.Equal(ExitStatus.BadFile, outcome.Status);
        Assert.StartsWith("error SVSM2017: ", outcome.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Verify_WithoutDigestFile_SaysSo()
    {
        string image = WriteImage();
        File.Delete(At("Test.digest.json"));
        Outcome outcome = await Run("igvm", "verify", image, "--json");

        Assert.Equal(ExitStatus.Success, outcome.Status);
        Assert.Contains(outcome.Json.GetProperty("checks").EnumerateArray(), c => c.GetProperty("outcome").GetString() == "note");
    }

    [Fact]
    public async Task Verify_HostThatRefuses_Fails()
    {
        Outcome outcome = await Run("igvm", "verify", WriteImage(), "--host", "stock-qemu", "--digest", At("Test.digest.json"));

        Assert.Equal(ExitStatus.Difference, outcome.Status);
        Assert.Contains("SEV_FEATURES", outcome.Output, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Sign_WithBothKeys_Verifies()
    {
        string image = WriteImage();
        string signed = At("signed.igvm");
        Outcome outcome = await Run(
            "sign", image, "--id-key", WriteKey("id.pem"), "--author-key", WriteKey("author.pem"), "--family-id", "000102030405060708090A0B0C0D0E0F",
            "--image-id", new string('1', 32), "--svn", "3", "-o", signed, "--json");

        Assert.Equal(ExitStatus.Success, outcome.Status);
        Assert.Equal(
            ["file", "host", "vcpus", "replaced", "launchDigest", "familyId", "imageId", "guestSvn", "idKeyDigest", "authorKeyDigest"], Names(outcome.Json));
        Assert.Equal("000102030405060708090a0b0c0d0e0f", outcome.Json.GetProperty("familyId").GetString());
        Outcome verified = await Run("igvm", "verify", signed, "--digest", At("Test.digest.json"));
        Assert.Equal(ExitStatus.Success, verified.Status);
        Assert.Contains("signed by the key", verified.Output, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Sign_HumanOutput_IsPlain()
    {
        Outcome outcome = await Run("sign", WriteImage(), "--id-key", WriteKey("id.pem"), "-o", At("signed.igvm"));

        Assert.Equal(ExitStatus.Success, outcome.Status);
        Assert.Contains("\nlaunch digest\n", outcome.Output, StringComparison.Ordinal);
        Assert.Contains("ID block   added\n", outcome.Output, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Verify_ChangedAfterSigning_Fails()
    {
        string signed = At("signed.igvm");
        await Run("sign", WriteImage(), "--id-key", WriteKey("id.pem"), "-o", signed);
        string policy = WriteChanged("policy.igvm", signed, file => file with { Initializations = [((IgvmGuestPolicy)file.Initializations[0]) with { Policy = 0xB_0000 }] });
        string page = WriteChanged("page.igvm", signed, file => WithByte(file, 0x800_0000, 17));

        Outcome first = await Run("igvm", "verify", policy);
        Assert.Equal(ExitStatus.Difference, first.Status);
        Assert.Contains("a signature is wrong", first.Output, StringComparison.Ordinal);
        Outcome second = await Run("igvm", "verify", page);
        Assert.Equal(ExitStatus.Difference, second.Status);
        Assert.Contains("sign the file again", second.Output, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Sign_BadKey_IsBadFile()
    {
        File.WriteAllText(At("id.pem"), "nothing");
        Outcome outcome = await Run("sign", WriteImage(), "--id-key", At("id.pem"), "-o", At("signed.igvm"));

        Assert.Equal(ExitStatus.BadFile, outcome.Status);
        Assert.StartsWith("error SVSM3001: ", outcome.Error, StringComparison.Ordinal);
        Assert.False(File.Exists(At("signed.igvm")));
    }

    [Fact]
    public async Task Measure_Image_PrintsTheDigest()
    {
        string image = WriteImage();
        string digest = LaunchMeasurement.Measure(IgvmFile.Parse(File.ReadAllBytes(image)), HostFlavour.Qemu).Digest.ToString();
        Outcome outcome = await Run("measure", image);

        Assert.Equal(ExitStatus.Success, outcome.Status);
        AssertPlain(outcome.Output);
        Assert.Equal(
            $"""
            file   Test.igvm
            host   qemu
            vCPUs  1
            pages  2 unmeasured, 45 normal, 1 cpuid, 1 secrets, 1 vmsa
            launch digest
            {digest}

            """.ReplaceLineEndings("\n"),
            outcome.Output);
    }

    [Fact]
    public async Task Measure_StockQemu_DependsOnVcpusAndModel()
    {
        string image = WriteImage(flavour: HostFlavour.StockQemu);
        async Task<string?> Digest(params string[] args) => (await Run(["measure", image, "--json", .. args])).Json.GetProperty("launchDigest").GetString();

        string?[] digests = [await Digest(), await Digest("--vcpus", "2"), await Digest("--vcpus", "2", "--cpu", "milan"), await Digest("--vcpus", "2", "--cpu", "0x123")];
        Assert.Equal(4, digests.Distinct().Count());
        Assert.Equal(digests[0], await Digest("--cpu", "genoa"));
        Assert.Equal(digests[1], await Digest("--vcpus", "2", "--cpu", "0x800f12"));
    }

    [Fact]
    public async Task Measure_OvmfThatIsNone_IsBadFile()
    {
        File.WriteAllBytes(At("OVMF.fd"), new byte[8192]);
        Outcome outcome = await Run("measure", "--ovmf", At("OVMF.fd"));

        Assert.Equal(ExitStatus.BadFile, outcome.Status);
        Assert.StartsWith("error SVSM3002: ", outcome.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Diff_EqualFiles_IsSuccess()
    {
        Outcome outcome = await Run("igvm", "diff", WriteImage("A"), WriteImage("B"));

        Assert.Equal(ExitStatus.Success, outcome.Status);
        Assert.Equal("The files are equal.\n", outcome.Output);
    }

    [Fact]
    public async Task Diff_ChangedByte_IsOnePage()
    {
        string image = WriteImage();
        string other = WriteChanged("other.igvm", image, file => WithByte(file, 0x800_1000, 5));
        Outcome outcome = await Run("igvm", "diff", image, other, "--json");

        Assert.Equal(ExitStatus.Difference, outcome.Status);
        Assert.Equal(["first", "second", "equal", "differences"], Names(outcome.Json));
        JsonElement difference = Assert.Single(outcome.Json.GetProperty("differences").EnumerateArray());
        Assert.Equal(("page", "0x8001000", 1, 1), (
            difference.GetProperty("what").GetString(), difference.GetProperty("gpa").GetString(),
            difference.GetProperty("pages").GetInt32(), difference.GetProperty("bytes").GetInt32()));
    }

    [Fact]
    public async Task Diff_OtherKernel_PrintsPagesAndHeaders()
    {
        Outcome outcome = await Run("igvm", "diff", WriteImage("A"), WriteImage("B", change: kernel => kernel.Segments[1].Data[5] ^= 1));

        Assert.Equal(ExitStatus.Difference, outcome.Status);
        Assert.EndsWith(
            "\n\nwhat                          A       B\n0x000008000000 4 KiB, 1 byte  normal  other contents\n", outcome.Output, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Diff_OtherRegister_NamesIt()
    {
        string image = WriteImage();
        string other = WriteChanged("other.igvm", image, file => WithDirectives(file, directive =>
        {
            if (directive is not IgvmVpContext context)
            {
                return directive;
            }

            Vmsa vmsa = VmsaPage.Read(context.Data.Span);
            vmsa.Rip = 0x1_0020;
            vmsa.Rax = 7;
            return context with { Data = VmsaPage.ToArray(in vmsa) };
        }));
        JsonElement differences = (await Run("igvm", "diff", image, other, "--json")).Json.GetProperty("differences");

        Assert.Equal(
            [("vCPU 0 RIP", "0x10010", "0x10020"), ("vCPU 0 RAX", "0", "0x7")],
            differences.EnumerateArray().Select(d => (d.GetProperty("where").GetString()!, d.GetProperty("first").GetString()!, d.GetProperty("second").GetString()!)));
    }

    [Fact]
    public async Task Diff_OtherOrder_IsADifference()
    {
        string image = WriteImage();
        string other = WriteChanged("other.igvm", image, file => file with
        {
            Directives = [.. file.Directives.Where(d => d is not IgvmPageData), .. file.Directives.OfType<IgvmPageData>().Reverse()],
        });
        JsonElement json = (await Run("igvm", "diff", image, other, "--json")).Json;

        Assert.Equal("order", Assert.Single(json.GetProperty("differences").EnumerateArray()).GetProperty("what").GetString());
    }

    [Fact]
    public async Task Diff_OtherHost_IsADifferenceInHeaders()
    {
        Outcome outcome = await Run("igvm", "diff", WriteImage("A"), WriteImage("B", HostFlavour.HyperV), "--json");

        Assert.Equal(ExitStatus.Difference, outcome.Status);
        Assert.Contains(outcome.Json.GetProperty("differences").EnumerateArray(), d => d.GetProperty("what").GetString() == "header");
        Assert.Contains(outcome.Json.GetProperty("differences").EnumerateArray(), d => d.GetProperty("what").GetString() == "register");
    }

    // Page tables, configuration and addresses in a file can say anything; the commands that look at them end with a result or a message.
    [Fact]
    public void Commands_ChangedContents_EndWithAStatus()
    {
        IgvmFile original = IgvmFile.Parse(File.ReadAllBytes(WriteImage()));
        ImmutableArray<IgvmPageData> pages = [.. original.Directives.OfType<IgvmPageData>().Where(p => !p.Data.IsEmpty)];
        string path = At("changed.igvm");
        Gen.Select(Gen.Int[0, pages.Length - 1], Gen.Int[0, 4095], Gen.Byte).Array[1, 40].Sample(
            changes =>
            {
                var data = pages.ToDictionary(p => p.Gpa, p => p.Data.ToArray());
                foreach ((int page, int offset, byte value) in changes)
                {
                    data[pages[page].Gpa][offset % 8 == 7 ? 0 : offset % 64] = value;
                }

                File.WriteAllBytes(path, WithDirectives(original, d => d is IgvmPageData page && data.TryGetValue(page.Gpa, out byte[]? bytes) ? page with { Data = bytes } : d).Write());
                foreach (string command in (ReadOnlySpan<string>)["inspect", "verify", "map"])
                {
                    Assert.InRange(Run("igvm", command, path).GetAwaiter().GetResult().Status, 0, 1);
                }
            },
            iter: 150, seed: "0000000000001", threads: 1);
    }

    // A table that contains itself: 512^4 mappings, if one believes it.
    [Fact]
    public async Task Map_TablesThatContainThemselves_Ends()
    {
        string image = WriteImage();
        string hostile = WriteChanged("hostile.igvm", image, file => WithDirectives(file, directive =>
        {
            if (directive is not IgvmPageData { Gpa: 0x801_8000 } page)
            {
                return directive;
            }

            byte[] data = new byte[4096];
            for (int i = 0; i < 512; i++)
            {
                BitConverter.GetBytes(0x801_8003ul).CopyTo(data, i * 8);
            }

            return page with { Data = data };
        }));

        Assert.Equal(ExitStatus.Success, (await Run("igvm", "map", hostile)).Status);
    }
}
