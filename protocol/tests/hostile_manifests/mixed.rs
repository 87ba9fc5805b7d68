//! Two rules broken at once: the earlier check speaks. The order is version, fields, form, count, each file's path and digests, order,
//! twice the same path, places, sizes, blobs.

use super::{Case, Written, case, file, manifest};
use protocol::{JsonError, PathError};

pub(super) fn cases() -> Vec<Case> {
    let bad_path = Written {
        path: "../a".to_owned(),
        blake3: "xyz".to_owned(),
        ..file("a", 1)
    };
    let bad_hex = Written {
        blake3: "xyz".to_owned(),
        ..file("a", u64::MAX)
    };
    let huge = |path| file(path, u64::MAX);
    let of = |files: &[Written]| manifest(files);
    vec![
        case!(
            "version and unknown field",
            of(&[]).replace("1}", "2,\"x\":1}"),
            Version { found: 2 }
        ),
        case!(
            "version and no files",
            r#"{"files":[],"shoal":3}"#,
            Version { found: 3 }
        ),
        case!(
            "unknown field and form",
            r#"{ "files":[],"x":1,"shoal":1}"#,
            Json(JsonError::UnknownField { .. })
        ),
        case!("form and no files", r#"{ "files":[],"shoal":1}"#, NotCanonical),
        case!(
            "form and path",
            of(std::slice::from_ref(&bad_path)) + " ",
            NotCanonical
        ),
        case!(
            "path and digest",
            of(std::slice::from_ref(&bad_path)),
            Path {
                source: PathError::Dots,
                ..
            }
        ),
        case!(
            "digest and size",
            of(std::slice::from_ref(&bad_hex)),
            BadHex { field: "blake3", .. }
        ),
        case!(
            "digest of the first, path of the second",
            of(&[bad_hex.clone(), bad_path]),
            BadHex { .. }
        ),
        case!("order and size", of(&[huge("b"), huge("a")]), Unsorted { .. }),
        case!(
            "order and collision",
            of(&[file("a", 1), file("A", 1)]),
            Unsorted { .. }
        ),
        case!(
            "order and folder",
            of(&[file("a/b", 1), file("a", 1)]),
            Unsorted { .. }
        ),
        case!(
            "twice and size",
            of(&[huge("a"), huge("a")]),
            DuplicatePath { .. }
        ),
        case!("collision and size", of(&[huge("A"), huge("a")]), Collides { .. }),
        case!(
            "folder and size",
            of(&[huge("a"), huge("a/b")]),
            FileIsFolder { .. }
        ),
        case!(
            "size and conflict",
            of(&[
                file("a", 1),
                Written {
                    size: u64::MAX,
                    ..file("b", 1)
                }
            ]),
            SizeTooLarge { .. }
        ),
        case!(
            "empty and conflict",
            of(&[
                file("a", 0),
                Written {
                    size: 5,
                    ..file("b", 0)
                }
            ]),
            EmptyFile { field: "blake3", .. }
        ),
        case!(
            "absolute and dots",
            of(&[file("/../a", 1)]),
            Path {
                source: PathError::Absolute,
                ..
            }
        ),
        case!(
            "drive and backslash",
            of(&[file("C:\\a", 1)]),
            Path {
                source: PathError::Colon,
                ..
            }
        ),
        case!(
            "backslash and drive",
            of(&[file("\\C:", 1)]),
            Path {
                source: PathError::Backslash,
                ..
            }
        ),
        case!(
            "device and depth",
            of(&[file(&["con"; 17].join("/"), 1)]),
            Path {
                source: PathError::TooDeep { depth: 17 },
                ..
            }
        ),
        case!(
            "device and trailing space",
            of(&[file("con ", 1)]),
            Path {
                source: PathError::TrailingDotOrSpace,
                ..
            }
        ),
        case!(
            "empty component, then device",
            of(&[file("a//con", 1)]),
            Path {
                source: PathError::EmptyComponent,
                ..
            }
        ),
        case!(
            "device, then empty component",
            of(&[file("con//a", 1)]),
            Path {
                source: PathError::Device { .. },
                ..
            }
        ),
        case!(
            "invisible and form",
            of(&[file("e\u{301}\u{200b}", 1)]),
            Path {
                source: PathError::Invisible { .. },
                ..
            }
        ),
        case!(
            "length and character",
            of(&[file(&"\u{7}".repeat(1025), 1)]),
            Path {
                source: PathError::TooLong { .. },
                ..
            }
        ),
        case!(
            "a good file, then a bad one",
            of(&[file("a", 1), file("b/", 1)]),
            Path {
                source: PathError::EmptyComponent,
                ..
            }
        ),
    ]
}
