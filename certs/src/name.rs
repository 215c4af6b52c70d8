//! Distinguished names in the RFC 2253 form in which Envoy prints them (OpenSSL's `XN_FLAG_RFC2253`).
//!
//! The last RDN comes first, attributes have OpenSSL's short names, an attribute without one is written as its OID with
//! the value dumped as `#` and the hexadecimal DER, and everything outside printable ASCII is escaped as `\XX` per UTF-8 byte.

use std::fmt::Write;

use crate::der::{Element, name_attributes};

/// Renders a DER `Name` (with its header).
pub(crate) fn rfc2253(name: &[u8]) -> String {
    let mut out = String::new();
    let mut previous = None;
    for (rdn, oid, value) in name_attributes(name).into_iter().rev() {
        match previous {
            Some(last) if last == rdn => out.push('+'),
            Some(_) => out.push(','),
            None => {}
        }
        previous = Some(rdn);
        let text = match short_name(oid) {
            Some(short) => {
                out.push_str(short);
                string_value(value)
            }
            None => {
                out.push_str(&dotted(oid));
                None
            }
        };
        out.push('=');
        match text {
            Some(text) => escape(&text, &mut out),
            None => dump(value, &mut out),
        }
    }
    out
}

/// The text of a string type, or nothing for a value that has to be dumped.
pub(crate) fn string_value(value: Element<'_>) -> Option<String> {
    Some(match value.tag {
        // UTF8String
        0x0c => String::from_utf8(value.value.to_vec()).ok()?,
        // NumericString, PrintableString, T61String (as Latin-1, as OpenSSL reads it), IA5String, VisibleString
        0x12 | 0x13 | 0x14 | 0x16 | 0x1a => value.value.iter().map(|b| char::from(*b)).collect(),
        // UniversalString
        0x1c => {
            let (chars, []) = value.value.as_chunks::<4>() else { return None };
            chars.iter().map(|c| char::from_u32(u32::from_be_bytes(*c))).collect::<Option<_>>()?
        }
        // BMPString
        0x1e => {
            let (units, []) = value.value.as_chunks::<2>() else { return None };
            let units: Vec<u16> = units.iter().map(|c| u16::from_be_bytes(*c)).collect();
            String::from_utf16(&units).ok()?
        }
        _ => return None,
    })
}

fn escape(text: &str, out: &mut String) {
    let last = text.chars().count().saturating_sub(1);
    for (at, c) in text.chars().enumerate() {
        match c {
            ',' | '+' | '"' | '\\' | '<' | '>' | ';' => out.extend(['\\', c]),
            '#' if at == 0 => out.push_str("\\#"),
            ' ' if at == 0 || at == last => out.push_str("\\ "),
            ' '..='~' => out.push(c),
            _ => {
                let mut utf8 = [0; 4];
                for byte in c.encode_utf8(&mut utf8).bytes() {
                    let _ = write!(out, "\\{byte:02X}");
                }
            }
        }
    }
}

fn dump(value: Element<'_>, out: &mut String) {
    out.push('#');
    for byte in value.whole {
        let _ = write!(out, "{byte:02X}");
    }
}

/// An OID in dotted form; arcs that do not end are left out.
pub(crate) fn dotted(oid: &[u8]) -> String {
    let mut out = String::new();
    let mut arc: u64 = 0;
    for byte in oid {
        arc = (arc << 7) | u64::from(byte & 0x7f);
        if byte & 0x80 != 0 {
            continue;
        }
        if out.is_empty() {
            let first = (arc / 40).min(2);
            let _ = write!(out, "{first}.{}", arc - first * 40);
        } else {
            let _ = write!(out, ".{arc}");
        }
        arc = 0;
    }
    out
}

/// OpenSSL's short names of the attribute types that occur in names.
fn short_name(oid: &[u8]) -> Option<&'static str> {
    Some(match oid {
        [0x55, 0x04, attribute] => match attribute {
            3 => "CN",
            4 => "SN",
            5 => "serialNumber",
            6 => "C",
            7 => "L",
            8 => "ST",
            9 => "street",
            10 => "O",
            11 => "OU",
            12 => "title",
            13 => "description",
            15 => "businessCategory",
            16 => "postalAddress",
            17 => "postalCode",
            18 => "postOfficeBox",
            19 => "physicalDeliveryOfficeName",
            20 => "telephoneNumber",
            41 => "name",
            42 => "GN",
            43 => "initials",
            44 => "generationQualifier",
            45 => "x500UniqueIdentifier",
            46 => "dnQualifier",
            51 => "houseIdentifier",
            54 => "dmdName",
            65 => "pseudonym",
            72 => "role",
            _ => return None,
        },
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 1] => "emailAddress",
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 2] => "unstructuredName",
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 8] => "unstructuredAddress",
        [0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 0x01, 1] => "UID",
        [0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 0x01, 25] => "DC",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn element(tag: u8, value: &[u8]) -> Vec<u8> {
        let mut out = vec![tag];
        match value.len() {
            len @ 0..=0x7f => out.push(len as u8),
            len => out.extend([0x81, len as u8]),
        }
        out.extend(value);
        out
    }

    fn attribute(oid: &[u8], tag: u8, value: &[u8]) -> Vec<u8> {
        element(0x30, &[element(0x06, oid), element(tag, value)].concat())
    }

    fn name(rdns: &[&[Vec<u8>]]) -> Vec<u8> {
        let sets: Vec<u8> = rdns.iter().flat_map(|rdn| element(0x31, &rdn.concat())).collect();
        element(0x30, &sets)
    }

    /// Each case was printed by Envoy 1.40 for a certificate with these attributes.
    #[test]
    fn names_look_as_envoy_prints_them() {
        let cases: &[(&[u8], u8, &[u8], &str)] = &[
            (&[0x55, 4, 3], 0x0c, b"odd\x01name", r"CN=odd\01name"),
            (&[0x55, 4, 11], 0x0c, b" lead trail ", r"OU=\ lead trail\ "),
            (&[0x55, 4, 10], 0x0c, br##"#A "q" <x>; \ z"##, r##"O=\#A \"q\" \<x\>\; \\ z"##),
            (&[0x55, 4, 8], 0x0c, "Bä, y+n".as_bytes(), r"ST=B\C3\A4\, y\+n"),
            (&[0x55, 4, 7], 0x0c, "日本".as_bytes(), r"L=\E6\97\A5\E6\9C\AC"),
            (&[0x2a, 0x03, 0x04, 0x05], 0x0c, b"weird", "1.2.3.4.5=#0C057765697264"),
            (&[0x55, 4, 97], 0x0c, b"oi", "2.5.4.97=#0C026F69"),
            (&[0x2b, 6, 1, 4, 1, 0x82, 0x37, 60, 2, 1, 3], 0x13, b"US", "1.3.6.1.4.1.311.60.2.1.3=#13025553"),
            (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 1], 0x0c, b"uid", "UID=uid"),
            (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 13, 1, 9, 1], 0x16, b"e@x.y", "emailAddress=e@x.y"),
        ];
        for (oid, tag, value, want) in cases {
            assert_eq!(rfc2253(&name(&[&[attribute(oid, *tag, value)]])), *want);
        }
    }

    #[test]
    fn the_last_rdn_comes_first_and_a_set_is_joined_by_plus() {
        let c = attribute(&[0x55, 4, 6], 0x13, b"DE");
        let ou = attribute(&[0x55, 4, 11], 0x13, b"Sales");
        let cn = attribute(&[0x55, 4, 3], 0x13, b"J. Smith");
        assert_eq!(rfc2253(&name(&[&[c], &[cn, ou]])), "OU=Sales+CN=J. Smith,C=DE");
        assert_eq!(rfc2253(&name(&[])), "");
        assert_eq!(rfc2253(b"\xff\xff"), "");
    }

    #[test]
    fn other_string_types() {
        let cn = |tag, value: &[u8]| rfc2253(&name(&[&[attribute(&[0x55, 4, 3], tag, value)]]));
        assert_eq!(cn(0x1e, &[0, b'a', 0x30, 0x42]), r"CN=a\E3\81\82");
        assert_eq!(cn(0x1c, &[0, 0, 0, b'a']), "CN=a");
        assert_eq!(cn(0x14, &[0xe4]), r"CN=\C3\A4");
        assert_eq!(cn(0x02, &[5]), "CN=#020105", "not a string");
        assert_eq!(cn(0x0c, &[0xff]), "CN=#0C01FF", "not UTF-8");
    }
}
