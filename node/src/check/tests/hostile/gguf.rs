//! Files that are no GGUF files, though they begin as if they were.

use super::{
    super::samples::{Gguf, array, string},
    Line, line,
};

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
    table.push(line("no dimension of blocks", with(&[(b"a", &[], 2, 0)]), "rank"));
    table.push(line("no dimension", with(&[(b"a", &[], 0, 0)]), "rank"));
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
pub(super) fn of_gguf() -> Vec<Line> {
    let mut table = Vec::new();
    beginnings(&mut table);
    keys(&mut table);
    shapes(&mut table);
    table
}
