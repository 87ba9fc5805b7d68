//! The encoding: JSON, its fields, its one form, its version and its length.

use super::{Case, case, file, manifest};
use protocol::{HashError, JsonError};

pub(super) fn cases() -> Vec<Case> {
    let mut cases = syntax();
    cases.extend(fields());
    cases.extend(values());
    cases.extend(form());
    cases.extend(versions());
    cases.extend(digests());
    cases.push(case!(
        "a byte too long",
        vec![b' '; 32 * 1024 * 1024 + 1],
        TooLong {
            len: 33_554_433,
            max: 33_554_432
        }
    ));
    cases.push(case!("no files", r#"{"files":[],"shoal":1}"#, EmptyManifest));
    cases
}

fn good() -> String {
    manifest(&[file("a", 1), file("b", 2)])
}

/// Bytes that are no JSON, or none of ours.
fn syntax() -> Vec<Case> {
    let texts: [&[u8]; 26] = [
        b"",
        b" ",
        b"\0",
        b"{",
        b"}",
        b"[",
        b"[]",
        b"[[],1]",
        b"null",
        b"true",
        b"1",
        b"1e999",
        b"\"shoal\"",
        b"{]",
        b"{\"shoal\"",
        b"{\"shoal\":",
        b"{\"shoal\":1",
        b"{\"shoal\":1,}",
        b"{shoal:1}",
        b"{'shoal':1}",
        b"{\"shoal\":1}{\"shoal\":1}",
        b"{\"shoal\":1}\0",
        b"\xef\xbb\xbf{\"shoal\":1}",
        b"\xff\xfe{\0",
        b"{\"shoal\":1,\"files\":NaN}",
        b"{\"shoal\":1 /* */}",
    ];
    let mut cases: Vec<Case> = texts
        .into_iter()
        .map(|text| {
            let name = format!("no JSON: {}", text.escape_ascii());
            case!(name, text, Json(JsonError::Syntax { .. }))
        })
        .collect();
    let good = good();
    for cut in (1..good.len()).step_by(13) {
        let name = format!("cut after {cut} bytes");
        cases.push(case!(
            name,
            &good.as_bytes()[..cut],
            Json(JsonError::Syntax { .. })
        ));
    }
    let deep = |open: &str, count: usize| {
        let name = format!("{count} times {open}");
        let text = format!("{{\"files\":{},\"shoal\":1}}", open.repeat(count));
        case!(name, text, Json(JsonError::Syntax { .. }))
    };
    cases.extend([
        deep("[", 1),
        deep("[", 200),
        deep("[", 1_000_000),
        deep("{\"a\":", 100_000),
    ]);
    let nested = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let text = format!("{{\"files\":[],\"shoal\":1,\"x\":{nested}}}");
    cases.push(case!(
        "deep unknown field",
        text,
        Json(JsonError::UnknownField { .. })
    ));
    let mut bytes = good.clone().into_bytes();
    let at = good.find("\"path\":\"a\"").unwrap() + 8;
    bytes[at] = 0xff;
    cases.push(case!("path is not UTF-8", bytes, Json(JsonError::Syntax { .. })));
    for bad in ["\\ud800", "\\udc00", "\\x41", "\\u00g0", "\\u12"] {
        let text = good.replacen("\"a\"", &format!("\"{bad}\""), 1);
        cases.push(case!(
            format!("escape {bad}"),
            text,
            Json(JsonError::Syntax { .. })
        ));
    }
    let raw = good.replacen("\"a\"", "\"\u{1}\"", 1);
    cases.push(case!(
        "control character in a string",
        raw,
        Json(JsonError::Syntax { .. })
    ));
    cases
}

/// Fields that are missing, doubled or unknown, at the top and in a file.
fn fields() -> Vec<Case> {
    let good = good();
    let mut cases = Vec::new();
    for field in ["files", "shoal"] {
        let text = match field {
            "files" => "{\"shoal\":1}".to_owned(),
            _ => good.replace(",\"shoal\":1", ""),
        };
        let name = format!("no {field}");
        cases.push(case!(name, text, Json(JsonError::MissingField { name }) if name == field));
    }
    for field in ["blake3", "path", "size"] {
        let text = good.replacen(&format!("\"{field}\""), "\"sha1\"", 1);
        // The value moves to the optional field; what is wrong with it there is found later, except for the size, which is no string.
        let name = format!("no {field}");
        cases.push(match field {
            "size" => case!(name, text, Json(JsonError::Syntax { .. })),
            _ => case!(name, text, Json(JsonError::MissingField { name }) if name == field),
        });
    }
    let without_size = good.replacen(",\"size\":1", "", 1);
    cases.push(
        case!("no size at all", without_size, Json(JsonError::MissingField { name }) if name == "size"),
    );

    for (field, value) in [("blake3", "\"00\""), ("path", "\"z\""), ("size", "3")] {
        let name = format!("two of {field}");
        let text = good.replacen("{\"blake3\"", &format!("{{\"{field}\":{value},\"blake3\""), 1);
        cases.push(case!(name, text, Json(JsonError::DuplicateField { name }) if name == field));
    }
    for field in ["sha1", "sha256"] {
        let name = format!("two of {field}");
        let text = good.replacen(
            ",\"size\"",
            &format!(",\"{field}\":\"\",\"{field}\":\"\",\"size\""),
            1,
        );
        cases.push(case!(name, text, Json(JsonError::DuplicateField { name }) if name == field));
    }
    let two = good.replacen("{\"files\"", "{\"files\":[],\"files\"", 1);
    cases.push(case!("two of files", two, Json(JsonError::DuplicateField { name }) if name == "files"));
    let two = good.replace("\"shoal\":1", "\"shoal\":1,\"shoal\":1");
    cases.push(case!("two of shoal", two, Json(JsonError::DuplicateField { name }) if name == "shoal"));
    let hidden = good.replace("\"shoal\":1", "\"shoal\":1,\"sho\\u0061l\":2");
    cases.push(case!(
        "two of shoal, one escaped",
        hidden,
        Json(JsonError::DuplicateField { .. })
    ));

    for field in [
        "mode",
        "symlink",
        "tensors",
        "md5",
        "Path",
        "BLAKE3",
        "",
        "size ",
        "__proto__",
        "ſize",
    ] {
        let name = format!("a file has {field:?}");
        let text = good.replacen(",\"size\"", &format!(",\"{field}\":1,\"size\""), 1);
        cases.push(case!(name, text, Json(JsonError::UnknownField { name }) if name == field));
    }
    for field in ["name", "publisher", "signature", "Shoal", "files2", ""] {
        let name = format!("the manifest has {field:?}");
        let text = good.replace("\"shoal\":1", &format!("\"shoal\":1,\"{field}\":null"));
        cases.push(case!(name, text, Json(JsonError::UnknownField { name }) if name == field));
    }
    cases
}

/// Values of the wrong type.
fn values() -> Vec<Case> {
    let good = good();
    let mut cases = Vec::new();
    let values = [
        "null",
        "true",
        "\"1\"",
        "-1",
        "-0",
        "1.0",
        "1e2",
        "01",
        "+1",
        "0x1",
        "18446744073709551616",
        "[1]",
        "{}",
        "",
    ];
    for value in values {
        let text = good.replacen("\"size\":1", &format!("\"size\":{value}"), 1);
        cases.push(case!(
            format!("size {value}"),
            text,
            Json(JsonError::Syntax { .. })
        ));
        let text = good.replace("\"shoal\":1", &format!("\"shoal\":{value}"));
        cases.push(case!(
            format!("shoal {value}"),
            text,
            Json(JsonError::Syntax { .. })
        ));
    }
    for value in ["null", "true", "1", "[\"a\"]", "{}"] {
        let text = good.replacen("\"path\":\"a\"", &format!("\"path\":{value}"), 1);
        cases.push(case!(
            format!("path {value}"),
            text,
            Json(JsonError::Syntax { .. })
        ));
    }
    for value in [
        "null", "{}", "1", "\"a\"", "[null]", "[1]", "[\"a\"]", "[[[]]]", "[true]",
    ] {
        let text = format!("{{\"files\":{value},\"shoal\":1}}");
        cases.push(case!(
            format!("files {value}"),
            text,
            Json(JsonError::Syntax { .. })
        ));
    }
    for (field, value) in [
        ("blake3", "null"),
        ("blake3", "7"),
        ("sha1", "7"),
        ("sha256", "[]"),
    ] {
        let old = match field {
            "blake3" => format!("\"blake3\":\"{}\"", file("a", 1).blake3),
            _ => "\"size\":1".to_owned(),
        };
        let new = match field {
            "blake3" => format!("\"blake3\":{value}"),
            _ => format!("\"{field}\":{value},\"size\":1"),
        };
        let text = good.replacen(&old, &new, 1);
        cases.push(case!(
            format!("{field} {value}"),
            text,
            Json(JsonError::Syntax { .. })
        ));
    }
    cases
}

/// Manifests that mean something, in another than the one form.
fn form() -> Vec<Case> {
    let good = good();
    let (first, second) = (file("a", 1), file("b", 2));
    let swapped = format!("{{\"path\":\"a\",\"blake3\":\"{}\",\"size\":1}}", first.blake3);
    let first = manifest(&[first]);
    let first = &first[10..first.len() - 12];
    let texts = [
        ("space before", format!(" {good}")),
        ("space behind", format!("{good} ")),
        ("newline behind", format!("{good}\n")),
        ("carriage return behind", format!("{good}\r\n")),
        ("space after a colon", good.replacen("\":", "\": ", 1)),
        ("space after a comma", good.replacen(',', ", ", 1)),
        ("tab in an object", good.replacen('{', "{\t", 1)),
        ("newline in the list", good.replacen('[', "[\n", 1)),
        (
            "fields of a file in another order",
            good.replacen(first, &swapped, 1),
        ),
        (
            "shoal first",
            good.replace(",\"shoal\":1", "").replacen('{', "{\"shoal\":1,", 1),
        ),
        ("escaped letter", good.replacen("\"a\"", "\"\\u0061\"", 1)),
        ("escaped slash", good.replacen("\"b\"", "\"b\\/c\"", 1)),
        (
            "escaped letter in a key",
            good.replacen("\"path\"", "\"p\\u0061th\"", 1),
        ),
        (
            "escaped digit in a digest",
            good.replacen("\"blake3\":\"", "\"blake3\":\"\\u0030", 1),
        ),
        (
            "surrogates for one character",
            good.replacen("\"b\"", "\"\\ud83d\\ude00\"", 1),
        ),
        ("escape in capitals", good.replacen("\"b\"", "\"\\u00E9\"", 1)),
        (
            "no sha1 said with null",
            good.replacen(",\"size\"", ",\"sha1\":null,\"size\"", 1),
        ),
        (
            "no sha256 said with null",
            good.replacen(",\"size\"", ",\"sha256\":null,\"size\"", 1),
        ),
        (
            "escaped control character, spelled long",
            good.replacen("\"b\"", "\"\\u000a\"", 1),
        ),
        (
            "file as an array",
            good.replacen(
                first,
                &format!("[\"{}\",\"a\",null,null,1]", file("a", 1).blake3),
                1,
            ),
        ),
    ];
    let mut cases: Vec<Case> = texts
        .into_iter()
        .map(|(name, text)| case!(name, text, NotCanonical))
        .collect();
    let upper = manifest(&[second]).replace("\"path\"", "\"PATH\"");
    cases.push(case!(
        "upper-case key",
        upper,
        Json(JsonError::UnknownField { .. })
    ));
    cases
}

fn versions() -> Vec<Case> {
    let good = good();
    let mut cases: Vec<Case> = [0, 2, 3, 10, 4_294_967_297, u64::MAX]
        .into_iter()
        .map(|version| {
            let text = good.replace("\"shoal\":1", &format!("\"shoal\":{version}"));
            let name = format!("version {version}");
            case!(name, text, Version { found } if *found == version)
        })
        .collect();
    let later = r#"{"chunks":{"deep":[[1.5,null]]},"files":"elsewhere","shoal":2,"zeta":-1}"#;
    cases.push(case!(
        "a later format of other shape",
        later,
        Version { found: 2 }
    ));
    let spaced = "{ \"shoal\" : 2 }";
    cases.push(case!(
        "a later format in another form",
        spaced,
        Version { found: 2 }
    ));
    cases
}

/// Digests that are not lower-case hex of the right length.
fn digests() -> Vec<Case> {
    let mut cases = Vec::new();
    let fields = [("blake3", 64), ("sha256", 64), ("sha1", 40)];
    for (wanted_field, len) in fields {
        let mut bad = |name: &str, value: String, wanted: HashError| {
            let mut it = file("a", 1);
            match wanted_field {
                "blake3" => it.blake3 = value,
                "sha256" => it.sha256 = Some(value),
                _ => it.sha1 = Some(value),
            }
            let name = format!("{wanted_field}: {name}");
            cases.push(case!(name, manifest(&[it]), BadHex { field, source, .. }
                if *field == wanted_field && *source == wanted));
        };
        let length = |found| HashError::Length { wanted: len, found };
        bad("empty", String::new(), length(0));
        bad("one short", "0".repeat(len - 1), length(len - 1));
        bad("one long", "0".repeat(len + 1), length(len + 1));
        bad("half", "0".repeat(len / 2), length(len / 2));
        bad("prefixed", format!("0x{}", "0".repeat(len)), length(len + 2));
        bad("a path", "../../../etc/passwd".to_owned(), length(19));
        bad(
            "upper case",
            format!("{}A", "0".repeat(len - 1)),
            HashError::Digit { at: len - 1 },
        );
        bad(
            "space first",
            format!(" {}", "0".repeat(len - 1)),
            HashError::Digit { at: 0 },
        );
        bad(
            "letter g",
            format!("0g{}", "0".repeat(len - 2)),
            HashError::Digit { at: 1 },
        );
        bad(
            "slashes",
            format!("../{}", "0".repeat(len - 3)),
            HashError::Digit { at: 0 },
        );
        bad(
            "wide digit",
            format!("{}０", "0".repeat(len - 3)),
            HashError::Digit { at: len - 3 },
        );
        bad(
            "0x within",
            format!("0x{}", "0".repeat(len - 2)),
            HashError::Digit { at: 1 },
        );
    }
    cases
}
