//! The rooms and what may know what: read from what cargo knows, and from the source.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::acts::files;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// For each room, the rooms that it depends on in any way.
fn arrows() -> BTreeMap<String, BTreeSet<String>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let mut arrows = BTreeMap::new();
    for package in metadata["packages"].as_array().unwrap() {
        let dependencies = package["dependencies"].as_array().unwrap().iter();
        let rooms = dependencies.filter(|dependency| dependency["path"].is_string());
        let rooms = rooms
            .map(|dependency| dependency["name"].as_str().unwrap().to_owned())
            .collect();
        arrows.insert(package["name"].as_str().unwrap().to_owned(), rooms);
    }
    arrows
}

#[test]
fn rooms_know_only_the_rooms_below_them() {
    let table = [
        ("protocol", "".split_whitespace()),
        // Not a room but a corner of the node's, which every profile optimises.
        ("sums", "".split_whitespace()),
        ("node", "protocol sums".split_whitespace()),
        ("cli", "node protocol".split_whitespace()),
        ("testnet", "node protocol".split_whitespace()),
        ("tests", "cli node protocol testnet".split_whitespace()),
    ];
    let allowed: BTreeMap<String, BTreeSet<String>> = table
        .map(|(room, below)| (room.to_owned(), below.map(str::to_owned).collect()))
        .into();
    let arrows = arrows();
    assert_eq!(
        arrows.keys().collect::<Vec<_>>(),
        allowed.keys().collect::<Vec<_>>(),
        "the rooms"
    );
    for (room, below) in &arrows {
        let forbidden: Vec<_> = below.difference(&allowed[room]).collect();
        assert!(forbidden.is_empty(), "{room} may not know {forbidden:?}");
    }
}

#[test]
fn root_holds_nothing_but_the_rooms_and_what_cargo_and_ci_need() {
    let allowed = "Cargo.toml Cargo.lock LICENSE README.md protocol node cli testnet tests \
        .ci .cargo .config .clippy.toml .rustfmt.toml .gitignore .gitattributes";
    let allowed: BTreeSet<&str> = allowed.split_whitespace().collect();
    // What git does not keep.
    let unkept = [".git", "target"];
    for entry in fs::read_dir(root()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(
            allowed.contains(&*name) || unkept.contains(&&*name),
            "{name} does not belong in the root"
        );
    }
}

/// The source of a file without its tests and its comments.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    text.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect::<Vec<_>>()
        .join("\n")
}

/// The source files of a module: `NAME.rs` and what is below `NAME/`, but for the tests.
fn module(source: &Path, name: &str) -> Vec<PathBuf> {
    let (file, folder) = (source.join(format!("{name}.rs")), source.join(name));
    let below = if folder.is_dir() {
        files(&folder)
    } else {
        Vec::new()
    };
    let is_test = |path: &PathBuf| {
        path.strip_prefix(source)
            .unwrap()
            .to_string_lossy()
            .contains("tests")
    };
    [file]
        .into_iter()
        .chain(below)
        .filter(|path| !is_test(path))
        .collect()
}

/// The modules of its own crate that a source file names: `crate::NAME`, alone or within braces.
fn named(code: &str) -> BTreeSet<String> {
    let word = |text: &str| {
        text.chars()
            .take_while(|c| c.is_alphanumeric() || *c == '_')
            .collect::<String>()
    };
    let mut found = BTreeSet::new();
    for rest in code.split("crate::").skip(1) {
        let Some(list) = rest.strip_prefix('{') else {
            found.insert(word(rest));
            continue;
        };
        // One name at each comma, but for those within further braces.
        let mut depth = 0;
        let mut at_name = true;
        for (at, c) in list.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => at_name = true,
                c if at_name && !c.is_whitespace() => {
                    found.insert(word(&list[at..]));
                    at_name = false;
                }
                _ => {}
            }
        }
    }
    found
}

#[test]
fn names_of_modules_are_found_however_they_are_written() {
    let code = "use crate::{\n    a::{b, c},\n    d,\n    e::f::{self, g},\n};\nuse crate::h;\nlet x = crate::i::j();";
    assert_eq!(named(code), ["a", "d", "e", "h", "i"].map(str::to_owned).into());
}

#[test]
fn possessions_know_neither_verbs_nor_doors() {
    let source = root().join("node/src");
    let strangers = [
        "library", "publish", "fetch", "serve", "announce", "resolve", "verify", "validate", "node", "http",
    ];
    for possession in ["store", "catalog", "search", "names", "keys", "durable", "swarm"] {
        for path in module(&source, possession) {
            let known = named(&code(&path));
            let stranger = strangers.iter().find(|stranger| known.contains(**stranger));
            assert!(stranger.is_none(), "{} knows {stranger:?}", path.display());
        }
    }
}

#[test]
fn iroh_blobs_sled_and_tantivy_stay_behind_their_own_files() {
    let source = root().join("node/src");
    let behind = |module: &str, path: &Path| {
        let below = path.strip_prefix(&source).unwrap().to_string_lossy().into_owned();
        below == format!("{module}.rs") || below.starts_with(&format!("{module}/"))
    };
    for path in files(&source) {
        let code = code(&path);
        assert!(
            !code.contains("sled::") || behind("catalog", &path),
            "{} knows sled",
            path.display()
        );
        assert!(
            !code.contains("tantivy::") || behind("search", &path),
            "{} knows tantivy",
            path.display()
        );
        assert!(
            !code.contains("FsStore") || behind("store", &path),
            "{} knows the blob database",
            path.display()
        );
    }
}

#[test]
fn nouns_are_pure() {
    let impure = [
        "std::fs",
        "std::net",
        "std::env",
        "std::process",
        "std::thread",
        "SystemTime",
        "Instant::",
        "tokio",
        "async ",
        "rand::",
        "OsRng",
    ];
    for path in files(&root().join("protocol/src")) {
        let code = code(&path);
        for word in impure {
            assert!(!code.contains(word), "{} has {word}", path.display());
        }
    }
}
