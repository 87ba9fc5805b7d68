//! Files that are no safetensors files, though they begin as if they were.

use super::{
    super::samples::{entry, safetensors},
    Line, line,
};

/// A file with these entries and so many bytes of tensors.
pub(super) fn tensors(entries: &[String], data: usize) -> Vec<u8> {
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
        let data = [a, b].map(end).into_iter().max().unwrap_or_default();
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
pub(super) fn of_safetensors() -> Vec<Line> {
    let mut table = Vec::new();
    lengths(&mut table);
    json(&mut table);
    names(&mut table);
    places(&mut table);
    table
}
