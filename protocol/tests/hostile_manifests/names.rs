//! Single paths: every rule of the path, at every place where it can be broken.

use super::{Case, case, file, manifest};
use protocol::PathError;

pub(super) fn cases() -> Vec<Case> {
    let mut cases = shapes();
    cases.extend(characters());
    cases.extend(invisible());
    cases.extend(forms());
    cases.extend(devices());
    cases
}

fn bad(path: &str, wanted: PathError) -> Case {
    let shown: String = path.escape_debug().take(80).collect();
    let name = format!("path {shown:?}, {} bytes", path.len());
    case!(name, manifest(&[file(path, 1)]), Path { source, .. } if *source == wanted)
}

fn shapes() -> Vec<Case> {
    let mut cases = vec![
        bad("", PathError::Empty),
        bad(&"a/".repeat(512), PathError::TooDeep { depth: 513 }),
        bad(&"a".repeat(1025), PathError::TooLong { len: 1025 }),
        bad(&"é".repeat(513), PathError::TooLong { len: 1026 }),
        bad(&"a".repeat(256), PathError::ComponentTooLong { len: 256 }),
        bad(
            &format!("a/{}", "é".repeat(128)),
            PathError::ComponentTooLong { len: 256 },
        ),
        bad(
            &format!("{}/a", "b".repeat(300)),
            PathError::ComponentTooLong { len: 300 },
        ),
        bad(&["d"; 17].join("/"), PathError::TooDeep { depth: 17 }),
        bad(&["."; 17].join("/"), PathError::TooDeep { depth: 17 }),
    ];
    for absolute in [
        "/",
        "//",
        "/a",
        "//server/share",
        "/etc/passwd",
        "/../a",
        "//x/C/a",
        "//./pipe",
    ] {
        cases.push(bad(absolute, PathError::Absolute));
    }
    for back in [
        "\\",
        "\\a",
        "a\\b",
        "..\\..\\a",
        "\\\\server\\share\\a",
        "a/..\\b",
        "\\\\?\\a",
        "a\\",
    ] {
        cases.push(bad(back, PathError::Backslash));
    }
    for colon in ["C:", "C:a", "c:/a", "a:b", "a/b:c", "a::$DATA", ":", "a/:"] {
        cases.push(bad(colon, PathError::Colon));
    }
    for hole in ["a//b", "a/", "a/b/", "a///b", "a//"] {
        cases.push(bad(hole, PathError::EmptyComponent));
    }
    for dots in [
        ".",
        "..",
        "./a",
        "../a",
        "a/.",
        "a/..",
        "a/./b",
        "a/../b",
        "../../../../etc/passwd",
        "a/../../b",
    ] {
        cases.push(bad(dots, PathError::Dots));
    }
    for cut in [
        "a.", "a..", "a ", " ", "...", "a. ", ".. ", ". .", "a /b", "a./b", "x/. ", "x/...", "x/.../y",
    ] {
        cases.push(bad(cut, PathError::TrailingDotOrSpace));
    }
    cases
}

fn characters() -> Vec<Case> {
    let mut cases = Vec::new();
    for found in ['<', '>', '"', '|', '?', '*'] {
        for path in [format!("{found}"), format!("a{found}b"), format!("a/b{found}")] {
            cases.push(bad(&path, PathError::Forbidden { found }));
        }
    }
    for found in ('\0'..='\u{1f}').chain('\u{7f}'..='\u{9f}') {
        cases.push(bad(&format!("a{found}b"), PathError::Control { found }));
    }
    for found in ['\u{2028}', '\u{2029}'] {
        cases.push(bad(&format!("a{found}b"), PathError::Control { found }));
    }
    cases.push(bad("a\r\n", PathError::Control { found: '\r' }));
    cases.push(bad("\u{1b}]0;title\u{7}", PathError::Control { found: '\u{1b}' }));
    let bidi =
        "\u{61c}\u{200e}\u{200f}\u{202a}\u{202b}\u{202c}\u{202d}\u{202e}\u{2066}\u{2067}\u{2068}\u{2069}";
    for found in bidi.chars() {
        cases.push(bad(&format!("{found}a"), PathError::Bidi { found }));
        cases.push(bad(&format!("gnp{found}.exe"), PathError::Bidi { found }));
    }
    cases
}

fn invisible() -> Vec<Case> {
    let characters = [
        '\u{ad}',
        '\u{34f}',
        '\u{115f}',
        '\u{1160}',
        '\u{17b4}',
        '\u{17b5}',
        '\u{180b}',
        '\u{180e}',
        '\u{180f}',
        '\u{200b}',
        '\u{200c}',
        '\u{200d}',
        '\u{2060}',
        '\u{2061}',
        '\u{2064}',
        '\u{2065}',
        '\u{206a}',
        '\u{206f}',
        '\u{3164}',
        '\u{fe00}',
        '\u{fe0f}',
        '\u{feff}',
        '\u{ffa0}',
        '\u{fff0}',
        '\u{fff8}',
        '\u{fff9}',
        '\u{fffb}',
        '\u{1bca0}',
        '\u{1bca3}',
        '\u{1d173}',
        '\u{1d17a}',
        '\u{e0000}',
        '\u{e0001}',
        '\u{e0020}',
        '\u{e007f}',
        '\u{e0100}',
        '\u{e01ef}',
        '\u{e0fff}',
    ];
    let mut cases: Vec<Case> = characters
        .into_iter()
        .map(|found| bad(&format!("a{found}b"), PathError::Invisible { found }))
        .collect();
    cases.push(bad(
        ".gi\u{200c}t/config",
        PathError::Invisible { found: '\u{200c}' },
    ));
    cases.push(bad("..\u{200b}/a", PathError::Invisible { found: '\u{200b}' }));
    cases
}

/// Spellings that are not in normal form C.
fn forms() -> Vec<Case> {
    let spellings = [
        "e\u{301}",
        "a/e\u{301}/b",
        "A\u{30a}",
        "o\u{308}",
        "n\u{303}.txt",
        "\u{212b}",
        "\u{212a}",
        "\u{2126}",
        "\u{340}",
        "\u{374}",
        "\u{1100}\u{1161}",
        "\u{ac00}\u{11a8}",
        "\u{f900}",
        "\u{2f800}",
        "q\u{307}\u{323}",
        "\u{958}",
        "\u{fb1d}",
        "\u{2adc}",
        "\u{1d15e}",
    ];
    spellings
        .into_iter()
        .map(|path| bad(path, PathError::NotNfc))
        .collect()
}

fn devices() -> Vec<Case> {
    let mut devices: Vec<String> = ["con", "prn", "aux", "nul", "conin$", "conout$"]
        .map(str::to_owned)
        .to_vec();
    for port in ["com", "lpt"] {
        devices.extend("0123456789¹²³".chars().map(|number| format!("{port}{number}")));
    }
    let mut cases = Vec::new();
    for device in devices {
        let upper = device.to_ascii_uppercase();
        let paths = [
            (device.clone(), device.clone()),
            (upper.clone(), upper.clone()),
            (format!("a/{device}.txt"), format!("{device}.txt")),
            (format!("{upper}.tar.gz/b"), format!("{upper}.tar.gz")),
            (format!("{device} .x"), format!("{device} .x")),
        ];
        cases.extend(paths.map(|(path, name)| bad(&path, PathError::Device { name })));
    }
    cases.push(bad("cOn.", PathError::TrailingDotOrSpace));
    cases.push(bad("nul ", PathError::TrailingDotOrSpace));
    cases.push(bad("nul:", PathError::Colon));
    cases
}
