//! A table of files that are wrong, by families, each refused for what is wrong with it.

use std::io::{self, Read};

use proptest::prelude::{ProptestConfig, any, proptest};

use super::samples::{Gguf, array, entry, safetensors, string};
use crate::check::{self, CheckError, Wrong};

/// What a refusal is called in the table.
fn called(error: &CheckError) -> &'static str {
    match error {
        CheckError::Read(_) => "read",
        CheckError::Short { .. } => "short",
        CheckError::Bound { .. } => "bound",
        CheckError::Format(_) => "format",
        CheckError::Version { .. } => "version",
        CheckError::Json(_) => "json",
        CheckError::Twice { .. } => "twice",
        CheckError::Dtype { .. } => "dtype",
        CheckError::Value { .. } => "value",
        CheckError::Left { .. } => "left",
        CheckError::Tensor { wrong, .. } => match wrong {
            Wrong::Rank(_) => "rank",
            Wrong::Empty => "empty",
            Wrong::Overflow => "overflow",
            Wrong::Blocks { .. } => "blocks",
            Wrong::Order => "order",
            Wrong::Length { .. } => "length",
            Wrong::Alignment { .. } => "alignment",
            Wrong::Overlap(_) => "overlap",
            Wrong::Outside { .. } => "outside",
            Wrong::Absent(_) => "absent",
            Wrong::Unlisted { .. } => "unlisted",
        },
    }
}

/// One line of the table.
struct Line {
    name: String,
    file: Vec<u8>,
    /// How long the file is said to be, and is beyond `file` nothing but zeros.
    len: u64,
    refused: &'static str,
}

fn line(name: impl Into<String>, file: Vec<u8>, refused: &'static str) -> Line {
    Line {
        name: name.into(),
        len: file.len() as u64,
        file,
        refused,
    }
}

/// Counts what is read of a file that goes on with zeros.
struct Counted<'a> {
    file: &'a [u8],
    read: &'a mut u64,
}

impl Read for Counted<'_> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let read = self.file.chain(io::repeat(0)).read(room)?;
        self.file = self.file.get(read..).unwrap_or_default();
        *self.read += read as u64;
        Ok(read)
    }
}

fn tensors(entries: &[String], data: usize) -> Vec<u8> {
    safetensors(&format!("{{{}}}", entries.join(",")), data)
}

fn lengths(table: &mut Vec<Line>) {
    let sound = tensors(&[entry("a", "F32", "[2]", "[0,8]")], 8);
    for cut in 0..sound.len() {
        let refused = match cut {
            // The header is whole, and the tensor is not.
            cut if cut >= sound.len() - 8 => "outside",
            _ => "short",
        };
        table.push(line(format!("cut at {cut}"), sound[..cut].to_vec(), refused));
    }
    for header in [0_u64, 1] {
        let mut file = sound.clone();
        file[..8].copy_from_slice(&header.to_le_bytes());
        let refused = if header == 0 { "format" } else { "json" };
        table.push(line(format!("a header of {header} bytes"), file, refused));
    }
    for header in [
        sound.len() as u64 - 7,
        1 << 31,
        1 << 32,
        1 << 62,
        1 << 63,
        u64::MAX - 8,
        u64::MAX - 7,
        u64::MAX,
    ] {
        let mut file = sound.clone();
        file[..8].copy_from_slice(&header.to_le_bytes());
        table.push(line(format!("a header of {header} bytes"), file, "short"));
    }
    for header in [(16 << 20) + 1_u64, 100_000_000, 1 << 40] {
        let mut long = line(
            format!("a header of {header} bytes that are there"),
            header.to_le_bytes().to_vec(),
            "bound",
        );
        long.len = 1 << 41;
        table.push(long);
    }
    for (name, more) in [
        ("one byte more", 1),
        ("a byte less than a page more", 4095),
        ("much more", 1 << 20),
    ] {
        let mut file = sound.clone();
        file.resize(sound.len() + more, 0);
        table.push(line(name, file, "left"));
    }
}

fn json(table: &mut Vec<Line>) {
    let texts = [
        "{",
        "{]",
        "{}}",
        "{},",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1}",
        "{\"a\":null}",
        "{\"a\":[]}",
        "{\"a\":\"\"}",
        "{a:{}}",
        "{\"a\":{}}",
        "{\"a\":{\"dtype\":\"F32\"}}",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[]}}",
        "{'a':{}}",
        "{\"a\":{}} x",
        "{\"\\ud800\":{}}",
        "{\"__metadata__\":1}",
        "{\"__metadata__\":[]}",
        "{\"__metadata__\":null}",
        "{\"__metadata__\":{\"a\":1}}",
        "{\"__metadata__\":{\"a\":null}}",
        "{\"__metadata__\":{\"a\":{}}}",
        "{//\n}",
        "{\"a\":{},}",
    ];
    for text in texts {
        table.push(line(format!("JSON {text}"), safetensors(text, 0), "json"));
    }
    for text in [
        "[]",
        "null",
        "1",
        "\"\"",
        " {}",
        "\n{}",
        "\u{feff}{}",
        "true",
        "PK\x03\x04",
        "\u{80}\u{2}",
    ] {
        table.push(line(
            format!("no object: {text:?}"),
            safetensors(text, 0),
            "format",
        ));
    }
    for byte in [0x00, 0x80, 0xc0, 0xff] {
        let mut file = tensors(&[entry("abc", "U8", "[0]", "[0,0]")], 0);
        file[11] = byte;
        table.push(line(format!("a name with byte {byte:#x}"), file, "json"));
    }
    let shapes = [
        "[-1]",
        "[1.0]",
        "[1e0]",
        "[\"1\"]",
        "[null]",
        "[[1]]",
        "[true]",
        "[18446744073709551616]",
        "[-9223372036854775808]",
        "1",
        "null",
        "\"[1]\"",
        "{}",
        "[1,]",
        "[,1]",
        "[0x1]",
        "[01]",
        "[+1]",
        "[NaN]",
        "[Infinity]",
    ];
    for shape in shapes {
        table.push(line(
            format!("shape {shape}"),
            tensors(&[entry("a", "U8", shape, "[0,1]")], 1),
            "json",
        ));
    }
    let offsets = [
        "[0]",
        "[]",
        "[0,1,1]",
        "[-1,0]",
        "[0,1.0]",
        "[0,\"1\"]",
        "[0,null]",
        "1",
        "null",
        "{}",
        "[[0,1]]",
        "[0,1e0]",
        "[0,18446744073709551616]",
    ];
    for offsets in offsets {
        table.push(line(
            format!("offsets {offsets}"),
            tensors(&[entry("a", "U8", "[1]", offsets)], 1),
            "json",
        ));
    }
    for dtype in ["1", "null", "[\"U8\"]", "{}", "true"] {
        let text = format!("{{\"a\":{{\"dtype\":{dtype},\"shape\":[1],\"data_offsets\":[0,1]}}}}");
        table.push(line(format!("dtype {dtype}"), safetensors(&text, 1), "json"));
    }
    for depth in [10, 100, 127, 128, 1_000, 100_000] {
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
        table.push(line(
            format!("arrays {depth} deep"),
            safetensors(&deep, 0),
            "json",
        ));
        let deep = "{\"a\":".repeat(depth) + "1" + &"}".repeat(depth);
        let refused = "value";
        table.push(line(
            format!("objects {depth} deep"),
            safetensors(&deep, 0),
            refused,
        ));
    }
}

fn names(table: &mut Vec<Line>) {
    let one = |name: &str| entry(name, "U8", "[1]", "[0,1]");
    table.push(line("a tensor twice", tensors(&[one("a"), one("a")], 1), "twice"));
    table.push(line(
        "a tensor twice, elsewhere",
        tensors(&[one("a"), entry("a", "U8", "[1]", "[1,2]")], 2),
        "twice",
    ));
    table.push(line(
        "a tensor twice, once escaped",
        tensors(&[one("a"), entry("\\u0061", "U8", "[1]", "[1,2]")], 2),
        "twice",
    ));
    let twice = "{\"__metadata__\":{},\"__metadata__\":{}}";
    table.push(line("metadata twice", safetensors(twice, 0), "twice"));
    let twice = "{\"__metadata__\":{\"a\":\"1\",\"a\":\"2\"}}";
    table.push(line("a key of metadata twice", safetensors(twice, 0), "twice"));
    for key in ["\"dtype\":\"U8\"", "\"shape\":[1]", "\"data_offsets\":[0,1]"] {
        let text = format!("{{\"a\":{{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1],{key}}}}}");
        table.push(line(format!("{key} twice"), safetensors(&text, 1), "twice"));
    }
    for key in ["\"strides\":[1]", "\"\":0", "\"Dtype\":\"U8\""] {
        let text = format!("{{\"a\":{{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1],{key}}}}}");
        table.push(line(format!("{key} too"), safetensors(&text, 1), "value"));
    }
    table.push(line("a tensor without a name", tensors(&[one("")], 1), "value"));
    for len in [513, 1_000, 100_000] {
        table.push(line(
            format!("a name of {len} bytes"),
            tensors(&[one(&"n".repeat(len))], 1),
            "bound",
        ));
    }
    for rank in [9, 10, 64, 1_000, 100_000] {
        let shape = format!("[{}1]", "1,".repeat(rank - 1));
        table.push(line(
            format!("{rank} dimensions"),
            tensors(&[entry("a", "U8", &shape, "[0,1]")], 1),
            "bound",
        ));
    }
    let many: Vec<String> = (0..200_001)
        .map(|name| entry(&name.to_string(), "U8", "[0]", "[0,0]"))
        .collect();
    table.push(line("200001 tensors", tensors(&many, 0), "bound"));
    let many: Vec<String> = (0..4_097).map(|key| format!("\"{key}\":\"\"")).collect();
    let many = format!("{{\"__metadata__\":{{{}}}}}", many.join(","));
    table.push(line("4097 entries of metadata", safetensors(&many, 0), "bound"));
    for dtype in [
        "F4",
        "F6_E2M3",
        "F6_E3M2",
        "F8_E8M0",
        "C64",
        "F128",
        "f32",
        "U4",
        "Q4_0",
        "",
        "F32 ",
        "F8_E4M3FNUZ",
    ] {
        table.push(line(
            format!("dtype {dtype:?}"),
            tensors(&[entry("a", dtype, "[1]", "[0,1]")], 1),
            "dtype",
        ));
    }
}

fn places(table: &mut Vec<Line>) {
    let most = u64::MAX;
    let shapes = [
        "[4294967296,4294967296]".to_owned(),
        "[9223372036854775808]".to_owned(),
        format!("[{most}]"),
        format!("[{most},{most}]"),
        "[2147483648,2147483648,4]".to_owned(),
        "[9223372036854775808,0]".to_owned(),
        "[0,4294967296,4294967296]".to_owned(),
        "[4294967296,0,4294967296]".to_owned(),
        "[3,6148914691236517206]".to_owned(),
        "[65536,65536,65536,32768]".to_owned(),
    ];
    for shape in &shapes {
        for (dtype, offsets) in [("U8", "[0,0]"), ("F32", "[0,0]"), ("F64", "[0,8]")] {
            let file = tensors(
                &[entry("a", dtype, shape, offsets)],
                if offsets == "[0,0]" { 0 } else { 8 },
            );
            table.push(line(format!("{shape} of {dtype}"), file, "overflow"));
        }
    }
    for dtype in ["F32", "I64", "F64", "U64"] {
        let file = tensors(&[entry("a", dtype, "[4611686018427387904]", "[0,0]")], 0);
        table.push(line(format!("2^62 of {dtype}"), file, "overflow"));
    }
    for (shape, offsets) in [
        ("[1]", "[0,3]"),
        ("[1]", "[0,5]"),
        ("[]", "[0,0]"),
        ("[0]", "[0,4]"),
        ("[2,2]", "[0,12]"),
        ("[1]", "[0,18446744073709551615]"),
    ] {
        let file = tensors(&[entry("a", "F32", shape, offsets)], 4);
        table.push(line(format!("{shape} of F32 at {offsets}"), file, "length"));
    }
    for offsets in ["[4,0]", "[1,0]", "[18446744073709551615,0]"] {
        let file = tensors(&[entry("a", "F32", "[1]", offsets)], 4);
        table.push(line(format!("offsets {offsets}"), file, "order"));
    }
    for start in [1_u64, 4, 1 << 20, 1 << 40, 1 << 62] {
        let offsets = format!("[{start},{}]", start + 4);
        let file = tensors(&[entry("a", "F32", "[1]", &offsets)], 4);
        table.push(line(format!("offsets {offsets} of 4"), file, "outside"));
    }
    let offsets = format!("[{},{}]", most - 4, most);
    table.push(line(
        "offsets at the end of all numbers",
        tensors(&[entry("a", "F32", "[1]", &offsets)], 4),
        "overflow",
    ));
    let two = |a: &str, b: &str, data| {
        tensors(
            &[
                entry("a", "U8", &format!("[{}]", count(a)), a),
                entry("b", "U8", &format!("[{}]", count(b)), b),
            ],
            data,
        )
    };
    for (a, b) in [
        ("[0,4]", "[0,4]"),
        ("[0,4]", "[3,7]"),
        ("[0,4]", "[1,3]"),
        ("[1,3]", "[0,4]"),
        ("[3,7]", "[0,4]"),
        ("[0,4]", "[2,2]"),
        ("[0,7]", "[0,1]"),
    ] {
        let data = [a, b]
            .map(|range| end(range))
            .into_iter()
            .max()
            .unwrap_or_default();
        table.push(line(format!("{a} and {b}"), two(a, b, data), "overlap"));
    }
    for (a, b, data) in [
        ("[0,4]", "[5,9]", 9),
        ("[1,4]", "[4,9]", 9),
        ("[0,4]", "[4,8]", 9),
        ("[4,8]", "[1,4]", 8),
        ("[0,1]", "[100,101]", 101),
        ("[0,4]", "[5,5]", 5),
    ] {
        table.push(line(format!("{a} and {b} of {data}"), two(a, b, data), "left"));
    }
    table.push(line("bytes and no tensor", safetensors("{}", 1), "left"));
}

fn end(range: &str) -> usize {
    range
        .trim_matches(['[', ']'])
        .split(',')
        .next_back()
        .unwrap_or_default()
        .parse()
        .unwrap_or_default()
}

fn count(range: &str) -> usize {
    let begin: usize = range
        .trim_matches(['[', ']'])
        .split(',')
        .next()
        .unwrap_or_default()
        .parse()
        .unwrap_or_default();
    end(range) - begin
}

/// Everything that is no safetensors file.
fn of_safetensors() -> Vec<Line> {
    let mut table = Vec::new();
    lengths(&mut table);
    json(&mut table);
    names(&mut table);
    places(&mut table);
    table
}

fn beginnings(table: &mut Vec<Line>) {
    let sound = Gguf::new().bytes();
    let header = sound.len() - 96;
    for cut in (0..header - 31).step_by(3).chain([header, sound.len() - 17]) {
        let refused = match cut {
            ..4 => "format",
            cut if cut >= header - 31 => "outside",
            _ => "short",
        };
        table.push(line(format!("cut at {cut}"), sound[..cut].to_vec(), refused));
    }
    for magic in [
        *b"GGML",
        *b"GGJT",
        *b"FUGG",
        *b"gguf",
        *b"GGU\0",
        *b"\0\0\0\0",
        *b"PK\x03\x04",
        *b"\x80\x04\x95\0",
    ] {
        let file = Gguf { magic, ..Gguf::new() };
        table.push(line(format!("begins with {magic:?}"), file.bytes(), "format"));
    }
    for version in [0, 1, 4, 5, 0x0300_0000, 0x0200_0000, u32::MAX] {
        let file = Gguf {
            version,
            ..Gguf::new()
        };
        table.push(line(format!("version {version}"), file.bytes(), "version"));
    }
    for count in [65_537, 1 << 20, 1 << 32, 1 << 62, u64::MAX] {
        for counts in [
            (Some(count), None),
            (None, Some(count)),
            (Some(count), Some(count)),
        ] {
            let file = Gguf {
                counts,
                ..Gguf::new()
            };
            table.push(line(format!("counts {counts:?}"), file.bytes(), "bound"));
        }
    }
    for counts in [(None, Some(65_536)), (Some(65_536), Some(5))] {
        let file = Gguf {
            counts,
            ..Gguf::new()
        };
        // What comes next is read as keys or tensors, and is none.
        let refused = if counts.0.is_some() { "value" } else { "short" };
        table.push(line(format!("counts {counts:?}"), file.bytes(), refused));
    }
}

fn keys(table: &mut Vec<Line>) {
    let with = |key: &[u8], kind, value: Vec<u8>| Gguf::new().with_key(key, kind, value).bytes();
    table.push(line(
        "a key twice",
        with(b"general.architecture", 4, vec![0; 4]),
        "twice",
    ));
    table.push(line("no key", with(b"", 4, vec![0; 4]), "value"));
    table.push(line(
        "a key with NUL behind it",
        with(b"general.architecture\0", 4, vec![0; 4]),
        "value",
    ));
    table.push(line(
        "a key that is not UTF-8",
        with(b"a\xff", 4, vec![0; 4]),
        "value",
    ));
    for len in [1_025, 4_096, 70_000] {
        table.push(line(
            format!("a key of {len} bytes"),
            with(&vec![b'k'; len], 4, vec![0; 4]),
            "bound",
        ));
    }
    for len in [1_u64 << 20, 1 << 31, 1 << 62, u64::MAX - 7, u64::MAX] {
        let mut file = Gguf::new();
        file.keys.clear();
        file.counts = (None, Some(1));
        let mut file = file.bytes();
        file[24..32].copy_from_slice(&len.to_le_bytes());
        table.push(line(
            format!("a key of {len} bytes that are not there"),
            file,
            "short",
        ));
        let string = len.to_le_bytes().to_vec();
        table.push(line(
            format!("a string of {len} bytes that are not there"),
            with(b"k", 8, string.clone()),
            "short",
        ));
        table.push(line(
            format!("a string of {len} bytes in an array"),
            with(b"k", 9, array(8, 1, &string)),
            "short",
        ));
    }
    for kind in [13, 14, 15, 16, 32, 255, 256, 1 << 16, u32::MAX] {
        table.push(line(
            format!("a value of type {kind}"),
            with(b"k", kind, vec![0; 8]),
            "value",
        ));
        table.push(line(
            format!("an array of type {kind}"),
            with(b"k", 9, array(kind, 1, &[0; 8])),
            "value",
        ));
    }
    for byte in [2, 3, 16, 128, 255] {
        table.push(line(
            format!("yes and no as {byte}"),
            with(b"k", 7, vec![byte]),
            "value",
        ));
        table.push(line(
            format!("yes and no as {byte} in an array"),
            with(b"k", 9, array(7, 2, &[1, byte])),
            "value",
        ));
    }
    for kind in [0, 5, 6, 7, 8, 9, 10, 12] {
        for elements in [1 << 24, 1 << 40, 1 << 61, u64::MAX] {
            let value = array(kind, elements, &[0; 16]);
            table.push(line(
                format!("{elements} elements of type {kind}"),
                with(b"k", 9, value),
                "short",
            ));
        }
        let mut many = line(
            format!("2^24 + 1 elements of type {kind} that are there"),
            with(b"k", 9, array(kind, (1 << 24) + 1, &[])),
            "bound",
        );
        many.len = 1 << 40;
        table.push(many);
    }
    for depth in [3, 4, 65, 1_000, 5_000] {
        let mut value = array(4, 0, &[]);
        (1..depth).for_each(|_| value = array(9, 1, &value));
        table.push(line(
            format!("arrays {depth} deep"),
            with(b"k", 9, value),
            "value",
        ));
    }
    let mut long = line(
        "a string of more than 16 MiB",
        with(b"k", 8, ((16_u64 << 20) + 1).to_le_bytes().to_vec()),
        "bound",
    );
    long.len = 1 << 30;
    table.push(long);
    let strings = Gguf::new().with_key(b"k", 9, array(8, 1 << 24, &[]));
    let mut many = line(
        "2^24 empty strings, and 65,000 times more",
        strings.bytes(),
        "bound",
    );
    many.len = 1 << 40;
    many.file.truncate(many.file.len() - 96);
    table.push(many);
    for (name, tokens, types) in [
        ("a byte token without a byte", "a", 6),
        ("a byte token with one digit", "<0xA>", 6),
        ("a byte token with three digits", "<0x0AB>", 6),
        ("a byte token that is no number", "<0xZZ>", 6),
        ("a byte token with a sign", "<0x+A>", 6),
    ] {
        let mut file = Gguf::new();
        file.keys.truncate(3);
        let file = file
            .with_key(
                b"tokenizer.ggml.tokens",
                9,
                array(8, 1, &string(tokens.as_bytes())),
            )
            .with_key(
                b"tokenizer.ggml.token_type",
                9,
                array(5, 1, &i32::to_le_bytes(types)),
            );
        table.push(line(name, file.bytes(), "value"));
    }
    for elements in [0_u64, 2, 4] {
        let mut file = Gguf::new();
        file.keys[4].2 = array(5, elements, &vec![0; elements as usize * 4]);
        table.push(line(
            format!("{elements} types of 3 tokens"),
            file.bytes(),
            "value",
        ));
        let scores = array(6, elements, &vec![0; elements as usize * 4]);
        table.push(line(
            format!("{elements} scores of 3 tokens"),
            with(b"tokenizer.ggml.scores", 9, scores),
            "value",
        ));
    }
    let mut file = Gguf::new();
    file.keys[3].2 = array(4, 3, &[0; 12]);
    table.push(line("numbers for tokens", file.bytes(), "value"));
    for alignment in [
        0_u32,
        1,
        2,
        4,
        7,
        9,
        12,
        24,
        31,
        33,
        48,
        131_072,
        1 << 31,
        u32::MAX,
    ] {
        let value = alignment.to_le_bytes().to_vec();
        table.push(line(
            format!("alignment {alignment}"),
            with(b"general.alignment", 4, value),
            "value",
        ));
    }
    for (kind, value) in [
        (0, vec![32]),
        (5, vec![32, 0, 0, 0]),
        (10, vec![32, 0, 0, 0, 0, 0, 0, 0]),
        (11, vec![0; 8]),
        (6, vec![0; 4]),
        (8, string(b"32")),
        (9, array(4, 1, &[32, 0, 0, 0])),
    ] {
        table.push(line(
            format!("alignment of type {kind}"),
            with(b"general.alignment", kind, value),
            "value",
        ));
    }
}

fn shapes(table: &mut Vec<Line>) {
    let with = |tensors: &[(&[u8], &[u64], u32, u64)]| Gguf::new().with_tensors(tensors).bytes();
    for rank in [5, 6, 8, 100, 60_000] {
        table.push(line(
            format!("{rank} dimensions"),
            with(&[(b"a", &vec![1; rank], 0, 0)]),
            "rank",
        ));
    }
    for shape in [
        &[0_u64] as &[u64],
        &[32, 0],
        &[0, 32],
        &[1, 0, 1, 1],
        &[0, 0, 0, 0],
        &[0, u64::MAX],
    ] {
        table.push(line(
            format!("shape {shape:?}"),
            with(&[(b"a", shape, 0, 0)]),
            "empty",
        ));
    }
    let wraps: [&[u64]; 9] = [
        &[1 << 33, 1 << 33],
        &[1 << 62, 4],
        &[1 << 32, 1 << 32],
        &[1 << 16, 1 << 16, 1 << 16, 1 << 16],
        &[1 << 63],
        &[1 << 63, 2],
        &[u64::MAX - 255, u64::MAX],
        &[1 << 62],
        &[1 << 40, 1 << 30],
    ];
    for shape in wraps {
        for kind in [0, 1, 8] {
            // Their bytes are fewer than their elements, and too many for any file.
            let fits = shape.len() == 1 && shape[0] == 1 << 62 && kind == 0;
            let refused = if shape == [1 << 62] && !fits {
                "outside"
            } else {
                "overflow"
            };
            table.push(line(
                format!("shape {shape:?} of type {kind}"),
                with(&[(b"a", shape, kind, 0)]),
                refused,
            ));
        }
    }
    for kind in [
        4,
        5,
        16,
        17,
        20,
        23,
        24,
        25,
        26,
        27,
        28,
        29,
        31,
        34,
        39,
        40,
        255,
        u32::MAX,
    ] {
        table.push(line(
            format!("type {kind}"),
            with(&[(b"a", &[256], kind, 0)]),
            "dtype",
        ));
    }
    for (kind, row) in [
        (2, 31),
        (2, 33),
        (3, 1),
        (6, 16),
        (7, 48),
        (8, 100),
        (9, 8),
        (10, 32),
        (11, 128),
        (12, 255),
        (13, 257),
        (14, 64),
        (15, 512 - 32),
    ] {
        table.push(line(
            format!("rows of {row} of type {kind}"),
            with(&[(b"a", &[row, 256], kind, 0)]),
            "blocks",
        ));
    }
    table.push(line(
        "no dimension of blocks",
        with(&[(b"a", &[], 2, 0)]),
        "blocks",
    ));
    for offset in [1, 2, 4, 8, 16, 31, 33, 63, u64::MAX] {
        table.push(line(
            format!("offset {offset}"),
            with(&[(b"a", &[4], 0, offset)]),
            "alignment",
        ));
    }
    for offset in [96, 128, 1 << 32, 1 << 62] {
        table.push(line(
            format!("offset {offset} of 96"),
            with(&[(b"a", &[4], 0, offset)]),
            "outside",
        ));
    }
    table.push(line(
        "offset at the end of all numbers",
        with(&[(b"a", &[8], 0, u64::MAX - 31)]),
        "overflow",
    ));
    table.push(line(
        "offset that wraps with where tensors begin",
        with(&[(b"a", &[4], 0, u64::MAX - 63)]),
        "outside",
    ));
    for (a, b) in [(0, 0), (0, 32), (32, 0), (32, 32)] {
        let both = with(&[(b"a", &[12], 0, a), (b"b", &[12], 0, b)]);
        table.push(line(format!("tensors at {a} and {b}"), both, "overlap"));
    }
    table.push(line(
        "a tensor within another",
        with(&[(b"a", &[24], 0, 0), (b"b", &[4], 0, 32)]),
        "overlap",
    ));
    table.push(line(
        "a tensor twice",
        with(&[(b"a", &[4], 0, 0), (b"a", &[4], 0, 32)]),
        "twice",
    ));
    table.push(line(
        "a tensor without a name",
        with(&[(b"", &[4], 0, 0)]),
        "value",
    ));
    table.push(line(
        "a name with NUL behind it",
        with(&[(b"a\0", &[4], 0, 0)]),
        "value",
    ));
    table.push(line(
        "a name that is not UTF-8",
        with(&[(b"\xc3", &[4], 0, 0)]),
        "value",
    ));
    table.push(line(
        "a name of 513 bytes",
        with(&[(&[b'n'; 513], &[4], 0, 0)]),
        "bound",
    ));
}

/// Everything that is no GGUF file.
fn of_gguf() -> Vec<Line> {
    let mut table = Vec::new();
    beginnings(&mut table);
    keys(&mut table);
    shapes(&mut table);
    table
}

/// Holds a table against a reader, which reads no more of a file than `most` bytes.
fn hold(table: &[Line], most: u64, read: impl Fn(Counted<'_>, u64) -> Option<CheckError>) {
    for Line {
        name,
        file,
        len,
        refused,
    } in table
    {
        let mut count = 0;
        let source = Counted {
            file,
            read: &mut count,
        };
        let error = read(source, *len).unwrap_or_else(|| panic!("{name}: accepted"));
        assert_eq!(called(&error), *refused, "{name}: {error}");
        assert!(error.to_string().len() < 2_000, "{name}: {error}");
        assert!(count <= most, "{name}: {count} bytes were read");
    }
}

#[test]
fn table_has_at_least_300_lines() {
    let (safetensors, gguf) = (of_safetensors().len(), of_gguf().len());
    assert!(safetensors >= 200 && gguf >= 200, "{safetensors} and {gguf}");
}

#[test]
fn hostile_safetensors_are_refused_for_what_is_wrong_with_them() {
    let most = check::safetensors::HEADER_LEN_MAX + 8;
    hold(&of_safetensors(), most, |source, len| {
        check::safetensors::read(source, len).err()
    });
}

#[test]
fn hostile_ggufs_are_refused_for_what_is_wrong_with_them() {
    hold(&of_gguf(), (256 << 20) + (64 << 10), |source, len| {
        check::gguf::read(source, len).err()
    });
}

#[test]
fn files_that_this_build_does_not_read_are_not_called_broken() {
    let broken = |file: Vec<u8>| {
        let len = file.len() as u64;
        let safetensors = check::safetensors::read(file.as_slice(), len).err();
        let gguf = check::gguf::read(file.as_slice(), len).err();
        match file.starts_with(b"GGUF") {
            true => gguf.is_some_and(|error| error.is_broken()),
            false => safetensors.is_some_and(|error| error.is_broken()),
        }
    };
    assert!(!broken(tensors(&[entry("a", "F4", "[2]", "[0,1]")], 1)));
    assert!(!broken(
        Gguf::new().with_tensors(&[(b"a", &[256], 23, 0)]).bytes()
    ));
    assert!(!broken(
        Gguf {
            version: 4,
            ..Gguf::new()
        }
        .bytes()
    ));
    assert!(broken(Gguf::new().with_tensors(&[(b"a", &[4], 0, 1)]).bytes()));
    assert!(broken(tensors(&[entry("a", "U8", "[2]", "[0,1]")], 1)));
}

#[test]
fn source_that_ends_early_is_no_fault_of_the_file() {
    let file = Gguf::new().bytes();
    let tensors = tensors(&[entry("a", "U8", "[1]", "[0,1]")], 1);
    for (file, header) in [(&file, 200), (&tensors, tensors.len() - 1)] {
        for cut in 0..header {
            let (half, len) = (&file[..cut], file.len() as u64);
            let error = match file.starts_with(b"GGUF") {
                true => check::gguf::read(half, len).err(),
                false => check::safetensors::read(half, len).err(),
            };
            assert!(matches!(error, Some(CheckError::Read(_))), "{cut}: {error:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn arbitrary_bytes_never_panic(bytes: Vec<u8>, more: u32, longer: bool) {
        let len = bytes.len() as u64 + if longer { u64::from(more) } else { 0 };
        let _ = check::safetensors::read(bytes.as_slice(), len);
        let _ = check::gguf::read(bytes.as_slice(), len);
        let _ = check::shards::read(&bytes, |_| true);
        let _ = check::config::read(&bytes);
        let _ = check::tokenizer::read(bytes.as_slice(), len);
        let _ = check::code::detect("a", &bytes, &bytes);
    }

    #[test]
    fn bytes_behind_a_right_beginning_never_panic(bytes: Vec<u8>, which in 0..4_usize, numbers: [u8; 16]) {
        let beginning: &[u8] = [b"GGUF\x03\0\0\0".as_slice(), b"\x40\0\0\0\0\0\0\0{\"a\":{\"dtype\":\"", b"PK\x03\x04", b"\x80\x04\x95"][which];
        let file = [beginning, &numbers, &bytes].concat();
        let _ = check::safetensors::read(file.as_slice(), file.len() as u64);
        let _ = check::gguf::read(file.as_slice(), file.len() as u64);
        let _ = check::code::detect("a", &file, &file);
    }

    #[test]
    fn small_counts_before_anything_never_panic(tensors in 0..4_u64, keys in 0..4_u64, bytes: Vec<u8>, kinds in proptest::collection::vec(0..14_u32, 8), lens in proptest::collection::vec(0..9_u64, 8), value in any::<u64>()) {
        let mut file = b"GGUF\x03\0\0\0".to_vec();
        file.extend(tensors.to_le_bytes());
        file.extend(keys.to_le_bytes());
        for (kind, len) in kinds.iter().zip(&lens) {
            file.extend(string(&vec![b'k'; *len as usize]));
            file.extend(kind.to_le_bytes());
            file.extend(value.to_le_bytes());
        }
        file.extend(&bytes);
        let _ = check::gguf::read(file.as_slice(), file.len() as u64);
    }
}
