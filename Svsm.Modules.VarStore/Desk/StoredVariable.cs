// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Globalization;
using System.Text;

namespace Svsm.Modules.VarStore.Desk;

/// <summary>A non-volatile variable, as it is stored.</summary>
/// <param name="Vendor">GUID of its vendor.</param>
/// <param name="Name">Its name: any 16-bit units but 0. A guest's word.</param>
/// <param name="Attributes">Its attributes.</param>
/// <param name="Data">Its data.</param>
/// <param name="Time">Of an authenticated one when it was signed last, as the signer has it, <c>2024-05-06T07:08:09</c>; null for others.</param>
/// <param name="Signer">Of an authenticated one, other than those of secure boot, 64 hexadecimal digits of who signed it first; null for others.</param>
public sealed record StoredVariable(Guid Vendor, string Name, VariableAttributes Attributes, ReadOnlyMemory<byte> Data, string? Time, string? Signer)
{
    /// <summary>The name for people: what a terminal would not show as a character of its own is <c>\u</c> and four hexadecimal digits.</summary>
    public string DisplayName => Display(Name);

    internal static StoredVariable Of(Variable variable) => new(
        variable.Id.Vendor,
        variable.Id.Name,
        variable.Attributes,
        variable.Data,
        variable.IsAuthenticated
            ? string.Create(CultureInfo.InvariantCulture, $"{variable.Time.Year:D4}-{variable.Time.Month:D2}-{variable.Time.Day:D2}T{variable.Time.Hour:D2}:{variable.Time.Minute:D2}:{variable.Time.Second:D2}")
            : null,
        variable.Signer.Length == 0 ? null : Convert.ToHexStringLower(variable.Signer));

    internal static string Display(string name)
    {
        var text = new StringBuilder();
        for (int i = 0; i < name.Length; i++)
        {
            bool isPair = i + 1 < name.Length && char.IsSurrogatePair(name[i], name[i + 1]);
            UnicodeCategory category = char.GetUnicodeCategory(name, i);
            if (category is UnicodeCategory.Control or UnicodeCategory.Format or UnicodeCategory.Surrogate or UnicodeCategory.PrivateUse or UnicodeCategory.OtherNotAssigned
                or UnicodeCategory.LineSeparator or UnicodeCategory.ParagraphSeparator or UnicodeCategory.NonSpacingMark or UnicodeCategory.EnclosingMark
                or UnicodeCategory.SpacingCombiningMark || name[i] == '\\' || (category == UnicodeCategory.SpaceSeparator && name[i] != ' '))
            {
                text.Append(CultureInfo.InvariantCulture, $"\\u{(int)name[i]:x4}");
                isPair = false;
            }
            else
            {
                text.Append(name, i, isPair ? 2 : 1);
            }

            i += isPair ? 1 : 0;
        }

        return text.ToString();
    }
}
