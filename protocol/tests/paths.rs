//! A path that is accepted stays below the folder it is joined to, under POSIX and under Windows rules.
//!
//! The rules of the platforms are written down here a second time and independently, from the side of what a system does with a name.

use std::collections::BTreeMap;
use std::path::{Component, Path};

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use protocol::{PathError, RepoPath};
use unicode_normalization::UnicodeNormalization;

/// What makes paths dangerous, and enough that is harmless for some to pass.
const FRAGMENTS: [&str; 64] = [
    "a",
    "b",
    "model",
    "README",
    ".txt",
    ".safetensors",
    "-",
    "_",
    "0",
    "é",
    "日本",
    "ß",
    "a",
    "x.y",
    "~1",
    "~",
    "/",
    "/",
    "/",
    "/",
    "/",
    "//",
    ".",
    "..",
    "...",
    "./",
    "../",
    "/..",
    "/.",
    "\\",
    "\\\\",
    "..\\",
    ":",
    "C:",
    "c:/",
    "\\\\?\\",
    "\\\\.\\",
    "//server/share/",
    "con",
    "NUL",
    "nul.",
    "Aux.txt",
    "prn",
    "COM1",
    "com¹",
    "LPT9.x",
    "lpt0",
    "CONIN$",
    "conout$.a",
    " ",
    "  ",
    " .",
    "\0",
    "\n",
    "\u{1b}",
    "\u{202e}",
    "\u{200b}",
    "e\u{301}",
    "．．",
    "／",
    "\u{2024}",
    "<",
    "|",
    "*?",
];

fn candidates() -> impl Strategy<Value = String> {
    let fragment = proptest::sample::select(FRAGMENTS.to_vec());
    let nasty = proptest::collection::vec(fragment, 1..7).prop_map(|parts| parts.concat());
    let soup = "[ -~]{1,12}";
    let tame = "[a-z .]{1,5}(/[a-zA-Z. ]{1,5}){0,3}";
    let wild = "\\PC{1,6}(/\\PC{1,6}){0,2}";
    let long = (1..40_usize, 1..40_usize).prop_map(|(len, depth)| vec!["n".repeat(len * 8); depth].join("/"));
    prop_oneof![8 => nasty, 2 => soup, 3 => tame, 2 => wild, 1 => long]
}

/// What Windows makes of one component when it turns a path into the name of an object.
#[derive(Debug, PartialEq)]
enum Windows {
    Stays,
    Changed,
    Device,
    Stream,
    Refused,
}

fn windows_component(component: &str) -> Windows {
    if component.contains(':') {
        return Windows::Stream;
    }
    if component.chars().any(|c| c < ' ' || "<>\"|?*".contains(c)) {
        return Windows::Refused;
    }
    if component.is_empty() || component.trim_end_matches([' ', '.']) != component {
        return Windows::Changed;
    }
    let stem: String = component.chars().take_while(|c| *c != '.').collect();
    let stem = stem.trim_end_matches(' ').to_uppercase();
    let ports = ["COM", "LPT"];
    let numbers = ["1", "2", "3", "4", "5", "6", "7", "8", "9", "¹", "²", "³"];
    let port = ports
        .iter()
        .any(|port| numbers.iter().any(|number| stem == format!("{port}{number}")));
    if port || ["CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"].contains(&stem.as_str()) {
        return Windows::Device;
    }
    Windows::Stays
}

/// Where Windows ends up when `path` is opened in `C:\root\folder`: the components below that folder, or how it left.
fn windows_join(path: &str) -> Result<Vec<String>, String> {
    let path = path.replace('/', "\\");
    if path.starts_with('\\') {
        return Err("rooted, UNC or device namespace".to_owned());
    }
    let mut letters = path.chars();
    if letters.next().is_some_and(|c| c.is_ascii_alphabetic()) && letters.next() == Some(':') {
        return Err("drive".to_owned());
    }
    let mut below = Vec::new();
    for component in path.split('\\') {
        match component {
            "" | "." => return Err(format!("component {component:?} vanishes")),
            ".." => {
                below.pop().ok_or("left the folder")?;
                return Err("component .. is resolved".to_owned());
            }
            _ => match windows_component(component) {
                Windows::Stays => below.push(component.to_owned()),
                other => return Err(format!("{component:?}: {other:?}")),
            },
        }
    }
    Ok(below)
}

/// Where a POSIX system ends up, in the same way.
fn posix_join(path: &str) -> Result<Vec<String>, String> {
    if path.contains('\0') {
        return Err("ends at a zero byte".to_owned());
    }
    let root = Path::new("/root/folder");
    let joined = root.join(path);
    let below = joined.strip_prefix(root).map_err(|error| error.to_string())?;
    let mut components = Vec::new();
    for component in below.components() {
        match component {
            Component::Normal(name) if name.len() <= 255 => {
                components.push(name.to_str().unwrap().to_owned());
            }
            other => return Err(format!("{other:?}")),
        }
    }
    Ok(components)
}

/// The name of the rule that a path breaks.
fn rule(error: &PathError) -> String {
    let text = format!("{error:?}");
    text.chars().take_while(|c| c.is_ascii_alphabetic()).collect()
}

#[test]
fn accepted_paths_stay_below_their_folder_on_every_platform() {
    let seed = [7; 32];
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let candidates = candidates();
    let mut accepted = 0;
    let mut refused: BTreeMap<String, u32> = BTreeMap::new();
    for _ in 0..120_000 {
        let candidate = candidates.new_tree(&mut runner).unwrap().current();
        let path = match RepoPath::new(&candidate) {
            Ok(path) => path,
            Err(error) => {
                *refused.entry(rule(&error)).or_default() += 1;
                continue;
            }
        };
        accepted += 1;
        assert_eq!(path.as_str(), candidate);
        let components: Vec<String> = path.components().map(str::to_owned).collect();
        assert_eq!(posix_join(&candidate), Ok(components.clone()), "{candidate:?}");
        assert_eq!(windows_join(&candidate), Ok(components), "{candidate:?}");
        assert!(
            candidate.len() <= 1024 && candidate.nfc().eq(candidate.chars()),
            "{candidate:?}"
        );
        assert!(!candidate.chars().any(char::is_control), "{candidate:?}");
    }
    // The generator has teeth only if much passes, and every rule is met.
    assert!(
        accepted > 20_000,
        "only {accepted} of 120,000 paths were accepted"
    );
    let all = [
        "Absolute",
        "Backslash",
        "Bidi",
        "Colon",
        "ComponentTooLong",
        "Control",
        "Device",
        "Dots",
        "EmptyComponent",
        "Forbidden",
        "Invisible",
        "NotNfc",
        "TooDeep",
        "TooLong",
        "TrailingDotOrSpace",
    ];
    for rule in all {
        assert!(
            refused.get(rule).is_some_and(|count| *count > 20),
            "{rule} of {refused:?}"
        );
    }
}

#[test]
fn checkers_of_the_platforms_know_an_escape() {
    for escape in ["../a", "/a", "a/../../b", "a/./b", ".."] {
        assert!(
            posix_join(escape).is_err() || posix_join(escape).unwrap().join("/") != escape,
            "{escape}"
        );
        assert!(windows_join(escape).is_err(), "{escape}");
    }
    for escape in [
        "..\\a",
        "C:a",
        "c:/a",
        "\\\\s\\a",
        "a:b",
        "a.",
        "a ",
        "nul.txt",
        "a/COM¹ .x",
        "a/b?",
    ] {
        assert!(windows_join(escape).is_err(), "{escape}");
    }
}

#[test]
fn ordinary_names_are_accepted() {
    let ordinary = [
        "config.json",
        "model-00001-of-00002.safetensors",
        ".gitattributes",
        "a/.hidden/b",
        "größe.bin",
        "日本語/モデル.gguf",
        "onnx/model_quantized.onnx",
        "with space.txt",
        " leading",
        "a.b.c",
        "-dash",
        "~tilde",
        "1_Pooling/config.json",
        "ＷＩＤＥ",
        "что.txt",
        "عربي.txt",
        "😀.md",
        "console",
        "com10",
        "COM",
        "lpt",
        "nulls.txt",
        "aux2",
        "auxiliary/con-1",
        "conin",
        "com⁴",
        "%2e%2e",
        "$HOME",
        "a;b",
        "a'b",
        "a&b",
        "#",
        "a=b",
        "[x]",
        "{y}",
        "a,b",
        "a+b",
        "a@b",
        "!",
        "`",
    ];
    for path in ordinary {
        assert_eq!(RepoPath::new(path).map(String::from), Ok(path.to_owned()));
    }
    let deepest = ["d"; 16].join("/");
    let longest = ["a".repeat(255), "b".repeat(255), "c".repeat(255), "d".repeat(255)].join("/");
    let longest = format!("{}/", &longest[..1021]) + "ee";
    assert_eq!(longest.len(), 1024);
    for path in [deepest, longest] {
        assert!(RepoPath::new(&path).is_ok(), "{path}");
    }
}

proptest! {
    #[test]
    fn folding_is_blind_to_case_and_looks(path in "\\PC{1,12}") {
        let Ok(path) = RepoPath::new(&path) else { return Ok(()) };
        let key = path.fold();
        let variants = [
            path.as_str().nfkc().collect::<String>(),
            path.as_str().to_lowercase().nfc().collect(),
        ];
        for variant in variants {
            // A compatible spelling may break a rule that the path keeps; then there is no second path to collide with.
            if let Ok(variant) = RepoPath::new(&variant) {
                prop_assert_eq!(variant.fold(), key.clone(), "{:?} and {:?}", variant, path);
            }
        }
        if let Ok(folded) = RepoPath::new(&key) {
            prop_assert_eq!(folded.fold(), key);
        }
    }

    #[test]
    fn ascii_folds_to_lower_case(path in "[A-Za-z0-9_-]{1,12}(/[A-Za-z]{1,5}x)?") {
        if let Ok(path) = RepoPath::new(&path) {
            prop_assert_eq!(path.fold(), path.as_str().to_ascii_lowercase());
        }
    }
}
