//! What the files of a manifest are to each other: order, places, sizes and blobs.

use super::{Case, Written, case, file, manifest};

pub(super) fn cases() -> Vec<Case> {
    let mut cases = order();
    cases.extend(places());
    cases.extend(folders());
    cases.extend(sizes());
    cases.extend(empties());
    cases.extend(blobs());
    cases.push(too_many());
    cases
}

fn order() -> Vec<Case> {
    let mut cases = Vec::new();
    let pairs = [
        ("b", "a"),
        ("a/b", "a.b"),
        ("a0", "a/b"),
        ("aa", "a"),
        ("é", "z"),
        ("a", "B"),
        ("Z/a", "A/z"),
        ("a2", "a10"),
        ("日", "é"),
        ("\u{1f600}", "\u{ffee}"),
    ];
    for (first, second) in pairs {
        let bytes = manifest(&[file(first, 1), file(second, 1)]);
        cases.push(
            case!(format!("{first:?} before {second:?}"), bytes, Unsorted { after, before }
            if after.as_str() == first && before.as_str() == second),
        );
    }
    let bytes = manifest(&[file("a", 1), file("b", 1), file("d", 1), file("c", 1)]);
    cases.push(case!("the last two swapped", bytes, Unsorted { .. }));
    for twice in ["a", "a/b", "é"] {
        let bytes = manifest(&[file(twice, 1), file(twice, 1)]);
        cases
            .push(case!(format!("{twice:?} twice"), bytes, DuplicatePath { path } if path.as_str() == twice));
        let bytes = manifest(&[file(twice, 1), file(twice, 2)]);
        cases.push(case!(format!("{twice:?} with two contents"), bytes, DuplicatePath { path } if path.as_str() == twice));
    }
    cases
}

/// Two paths that somebody takes for one.
fn places() -> Vec<Case> {
    let pairs = [
        ("A", "a"),
        ("README.md", "readme.MD"),
        ("A/b", "a/B"),
        ("a/B/c", "a/b/c"),
        ("É", "é"),
        ("STRASSE", "straße"),
        ("ẞ", "ß"),
        ("SS", "ß"),
        ("ﬁle", "file"),
        ("ﬃ", "FFI"),
        ("Σ", "ς"),
        ("σ", "ς"),
        ("Ω", "ω"),
        ("K", "k"),
        ("Ⅳ", "IV"),
        ("①", "1"),
        ("²", "2"),
        ("ａ", "A"),
        ("Ａ.txt", "a.txt"),
        ("ｶ", "カ"),
        ("ǆ", "DŽ"),
        ("ſ", "S"),
        ("İ", "i\u{307}"),
        ("ŉ", "ʼn"),
        ("Ꭰ", "ꭰ"),
        ("Ა", "ა"),
        ("𐐀", "𐐨"),
        ("ѐ", "Ѐ"),
        ("և", "ԵՒ"),
        ("ᾳ", "ΑΙ"),
        ("a\u{a0}b", "a b"),
        ("㎏", "kg"),
        ("℀", "A/C"),
        ("x/℀", "X/a/c"),
        ("½", "1⁄2"),
        ("a／b", "A/B"),
        ("．a", ".a"),
        ("ΰ", "Ϋ\u{301}"),
        ("µ", "μ"),
        ("ﷺ", "صلى الله عليه وسلم"),
    ];
    pairs
        .into_iter()
        .map(|(one, other)| {
            let (first, second) = if one < other { (one, other) } else { (other, one) };
            let bytes = manifest(&[file(first, 1), file(second, 1)]);
            case!(format!("{one:?} and {other:?}"), bytes, Collides { a, b }
                if [a.as_str(), b.as_str()] == [first, second])
        })
        .collect()
}

/// Files that are also folders.
fn folders() -> Vec<Case> {
    let sets: [(&[&str], &str, &str); 12] = [
        (&["a", "a/b"], "a", "a/b"),
        (&["a/b", "a/b/c"], "a/b", "a/b/c"),
        (&["a", "a/b/c/d"], "a", "a/b/c/d"),
        (&["a", "a!", "a-b", "a.b", "a/b"], "a", "a/b"),
        (&["a", "a b", "a!/x", "a/b"], "a", "a/b"),
        (&["a/b", "a/b!", "a/b/c", "a/b/d"], "a/b", "a/b/c"),
        (&["A", "a/b"], "A", "a/b"),
        (&["A/x", "a"], "a", "A/x"),
        (&["Straße", "strasse/x"], "Straße", "strasse/x"),
        (&["file/x", "ﬁle"], "ﬁle", "file/x"),
        (&["a/c/x", "℀"], "℀", "a/c/x"),
        (&["É/x", "é"], "é", "É/x"),
    ];
    sets.into_iter()
        .map(|(paths, wanted_file, wanted_inside)| {
            let files: Vec<Written> = paths.iter().map(|path| file(path, 1)).collect();
            case!(format!("{paths:?}"), manifest(&files), FileIsFolder { file, inside }
                if file.as_str() == wanted_file && inside.as_str() == wanted_inside)
        })
        .collect()
}

fn sizes() -> Vec<Case> {
    let max: u64 = 1 << 42;
    let mut cases: Vec<Case> = [max + 1, 1 << 53, u64::MAX - 1, u64::MAX, i64::MAX.unsigned_abs()]
        .into_iter()
        .map(|wanted| {
            let bytes = manifest(&[file("a", 1), file("b", wanted)]);
            case!(format!("size {wanted}"), bytes, SizeTooLarge { path, size, max }
                if path.as_str() == "b" && *size == wanted && *max == 1 << 42)
        })
        .collect();
    let many: Vec<Written> = (0..2049)
        .map(|number| file(&format!("{number:04}"), max))
        .collect();
    cases.push(case!(
        "2,049 files of 4 TiB",
        manifest(&many),
        TotalTooLarge {
            max: 9_007_199_254_740_992
        }
    ));
    let mut exact: Vec<Written> = many[..2048].to_vec();
    exact.push(file("9999", 1));
    cases.push(case!(
        "a byte over the total",
        manifest(&exact),
        TotalTooLarge { .. }
    ));
    cases
}

fn empties() -> Vec<Case> {
    let empty_sha256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let empty_git = "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391";
    let (empty, full) = (file("a", 0), file("a", 1));
    let written = [
        (
            "blake3",
            Written {
                blake3: full.blake3.clone(),
                ..empty.clone()
            },
        ),
        (
            "blake3",
            Written {
                blake3: "0".repeat(64),
                ..empty.clone()
            },
        ),
        (
            "blake3",
            Written {
                blake3: empty.blake3.clone(),
                ..full.clone()
            },
        ),
        (
            "sha256",
            Written {
                sha256: Some("0".repeat(64)),
                ..empty.clone()
            },
        ),
        (
            "sha256",
            Written {
                sha256: Some(empty_sha256.to_owned()),
                ..full.clone()
            },
        ),
        (
            "sha1",
            Written {
                sha1: Some("0".repeat(40)),
                ..empty.clone()
            },
        ),
        // The SHA-1 of no bytes, where git hashes a header before them.
        (
            "sha1",
            Written {
                sha1: Some("da39a3ee5e6b4b0d3255bfef95601890afd80709".to_owned()),
                ..empty
            },
        ),
        (
            "sha1",
            Written {
                sha1: Some(empty_git.to_owned()),
                ..full
            },
        ),
    ];
    written
        .into_iter()
        .map(|(wanted, it)| {
            let name = format!("{} bytes, {wanted} does not fit", it.size);
            case!(name, manifest(&[it]), EmptyFile { field, .. } if *field == wanted)
        })
        .collect()
}

fn blobs() -> Vec<Case> {
    let mut cases = Vec::new();
    let blob = |path: &str, size, sha256: Option<char>, sha1: Option<char>| Written {
        blake3: "b".repeat(64),
        sha256: sha256.map(|digit| String::from(digit).repeat(64)),
        sha1: sha1.map(|digit| String::from(digit).repeat(40)),
        ..file(path, size)
    };
    for (one, other) in [(1, 2), (2, 1), (1, 1 << 42), (1 << 20, (1 << 20) + 1)] {
        let bytes = manifest(&[blob("a", one, None, None), blob("b", other, None, None)]);
        cases.push(
            case!(format!("one blob of {one} and {other} bytes"), bytes, SizeConflict { a, b }
            if a.as_str() == "a" && b.as_str() == "b"),
        );
    }
    let far = manifest(&[
        blob("a", 1, None, None),
        file("b", 1),
        file("c", 2),
        blob("d", 2, None, None),
    ]);
    cases.push(
        case!("one blob of two sizes, far apart", far, SizeConflict { a, b }
        if a.as_str() == "a" && b.as_str() == "d"),
    );
    let sets = [
        (
            "sha256",
            vec![blob("a", 1, Some('1'), None), blob("b", 1, Some('2'), None)],
        ),
        (
            "sha1",
            vec![blob("a", 1, None, Some('1')), blob("b", 1, None, Some('2'))],
        ),
        (
            "sha256",
            vec![
                blob("a", 1, Some('1'), None),
                blob("aa", 1, None, None),
                blob("b", 1, Some('2'), None),
            ],
        ),
        (
            "sha1",
            vec![
                blob("a", 1, None, Some('1')),
                blob("aa", 1, None, None),
                blob("b", 1, None, Some('2')),
            ],
        ),
    ];
    for (wanted, files) in sets {
        cases.push(
            case!(format!("one blob, two {wanted}"), manifest(&files), DigestConflict { a, b, field }
            if *field == wanted && a.as_str() == "a" && b.as_str() == "b"),
        );
    }
    cases
}

fn too_many() -> Case {
    let files: Vec<Written> = (0..100_001)
        .map(|number| file(&format!("{number:06}"), 1))
        .collect();
    case!(
        "100,001 files",
        manifest(&files),
        TooManyFiles {
            count: 100_001,
            max: 100_000
        }
    )
}
