//! Every rule of a manifest is broken at least once, and each time the error says which rule it was.
//!
//! A case is a name, the bytes of a manifest and the one error they have to give. [`json`] breaks the encoding, [`names`] single paths,
//! [`sets`] what the files are to each other, [`mixed`] two rules at once.

mod json;
mod mixed;
mod names;
mod sets;

use std::collections::BTreeSet;

use protocol::{Manifest, ManifestError};

/// A manifest that has to be refused.
pub(crate) struct Case {
    name: String,
    bytes: Vec<u8>,
    wanted: Box<dyn Fn(&ManifestError) -> bool>,
    /// How the wanted error is called, for the message and for the count of rules.
    rule: &'static str,
}

/// Makes a case: `case!(name, bytes, pattern)`, and `if` a condition.
macro_rules! case {
    ($name:expr, $bytes:expr, $rule:ident $($pattern:tt)*) => {
        $crate::hostile_manifests::Case {
            name: $name.to_string(),
            bytes: $bytes.into(),
            wanted: Box::new(move |error| matches!(error, protocol::ManifestError::$rule $($pattern)*)),
            rule: stringify!($rule),
        }
    };
}
pub(crate) use case;

/// A file as it is written, of which a case replaces a part.
#[derive(Clone)]
pub(crate) struct Written {
    pub(crate) path: String,
    pub(crate) blake3: String,
    pub(crate) sha1: Option<String>,
    pub(crate) sha256: Option<String>,
    pub(crate) size: u64,
}

/// A sound file. Files of one size are one blob.
pub(crate) fn file(path: &str, size: u64) -> Written {
    let blob = crate::fixture::entry("a", size).blake3;
    Written {
        path: path.to_owned(),
        blake3: blob.to_string(),
        sha1: None,
        sha256: None,
        size,
    }
}

/// Writes files as they stand, in their order.
pub(crate) fn manifest(files: &[Written]) -> String {
    let text = |text: &str| serde_json::to_string(text).unwrap();
    let files: Vec<String> = files
        .iter()
        .map(|file| {
            let mut fields = vec![
                format!("\"blake3\":{}", text(&file.blake3)),
                format!("\"path\":{}", text(&file.path)),
            ];
            fields.extend(file.sha1.iter().map(|it| format!("\"sha1\":{}", text(it))));
            fields.extend(file.sha256.iter().map(|it| format!("\"sha256\":{}", text(it))));
            fields.push(format!("\"size\":{}", file.size));
            format!("{{{}}}", fields.join(","))
        })
        .collect();
    format!("{{\"files\":[{}],\"shoal\":1}}", files.join(","))
}

#[test]
fn sound_manifest_of_the_same_making_is_accepted() {
    let bytes = manifest(&[file("a", 0), file("b/c", 7), file("b/d", 7)]);
    let manifest = Manifest::decode(bytes.as_bytes()).unwrap();
    assert_eq!(manifest.total_len(), 14);
    assert_eq!(manifest.encode(), bytes.as_bytes());
}

#[test]
fn hostile_manifests_are_refused_by_the_rule_they_break() {
    let cases: Vec<Case> = [json::cases(), names::cases(), sets::cases(), mixed::cases()]
        .into_iter()
        .flatten()
        .collect();
    let mut wrong = Vec::new();
    for case in &cases {
        match Manifest::decode(&case.bytes) {
            Ok(_) => wrong.push(format!("{}: accepted, not {}", case.name, case.rule)),
            Err(error) if (case.wanted)(&error) => {}
            Err(error) => wrong.push(format!("{}: {error:?}, not {}", case.name, case.rule)),
        }
    }
    assert!(wrong.is_empty(), "{} cases:\n{}", wrong.len(), wrong.join("\n"));
    assert!(cases.len() >= 300, "only {} cases", cases.len());

    let rules: BTreeSet<&str> = cases.iter().map(|case| case.rule).collect();
    let all = BTreeSet::from([
        "BadHex",
        "Collides",
        "DigestConflict",
        "DuplicatePath",
        "EmptyFile",
        "EmptyManifest",
        "FileIsFolder",
        "Json",
        "NotCanonical",
        "Path",
        "SizeConflict",
        "SizeTooLarge",
        "TooLong",
        "TooManyFiles",
        "TotalTooLarge",
        "Unsorted",
        "Version",
    ]);
    assert_eq!(rules, all);
}

#[test]
fn errors_show_hostile_text_only_escaped() {
    let bytes = manifest(&[file("a\u{1b}[31m\u{202e}", 1)]);
    let error = Manifest::decode(bytes.as_bytes()).unwrap_err();
    let shown = format!("{error} {}", std::error::Error::source(&error).unwrap());
    assert!(
        !shown.contains('\u{1b}') && !shown.contains('\u{202e}'),
        "{shown}"
    );
    let bytes = "{\"files\":[],\"shoal\":1,\"\\u001b[31m\":1}";
    let error = Manifest::decode(bytes.as_bytes()).unwrap_err();
    let shown = format!("{error} {}", std::error::Error::source(&error).unwrap());
    assert!(!shown.contains('\u{1b}'), "{shown}");
}
