//! What is accepted here the libraries accept that read the same files after us, with the same tensors in the same places.

use std::{collections::BTreeMap, io::Cursor};

use candle_core::{Device, quantized::gguf_file};
use proptest::{
    collection::vec,
    prelude::{Just, ProptestConfig, Strategy, any, prop_oneof, proptest},
    sample::Index,
};

use super::samples::{Gguf, array, string};
use crate::check::{Dtype, TensorInfo, gguf, safetensors};

pub(super) const PLAIN: [(&str, Dtype); 15] = [
    ("BOOL", Dtype::Bool),
    ("U8", Dtype::U8),
    ("I8", Dtype::I8),
    ("U16", Dtype::U16),
    ("I16", Dtype::I16),
    ("U32", Dtype::U32),
    ("I32", Dtype::I32),
    ("U64", Dtype::U64),
    ("I64", Dtype::I64),
    ("F8_E4M3", Dtype::F8E4M3),
    ("F8_E5M2", Dtype::F8E5M2),
    ("F16", Dtype::F16),
    ("BF16", Dtype::BF16),
    ("F32", Dtype::F32),
    ("F64", Dtype::F64),
];

/// Those that candle has no tensors of.
const NOT_IN_CANDLE: [Dtype; 4] = [Dtype::Bool, Dtype::I8, Dtype::U64, Dtype::F8E5M2];
/// Those of which candle makes others.
const OTHERS_IN_CANDLE: [Dtype; 1] = [Dtype::U16];

/// The types of GGUF files, by their numbers.
const PACKED: [(u32, Dtype); 15] = [
    (0, Dtype::F32),
    (1, Dtype::F16),
    (2, Dtype::Q4_0),
    (3, Dtype::Q4_1),
    (6, Dtype::Q5_0),
    (7, Dtype::Q5_1),
    (8, Dtype::Q8_0),
    (9, Dtype::Q8_1),
    (10, Dtype::Q2K),
    (11, Dtype::Q3K),
    (12, Dtype::Q4K),
    (13, Dtype::Q5K),
    (14, Dtype::Q6K),
    (15, Dtype::Q8K),
    (30, Dtype::BF16),
];

/// What a safetensors file is made of: a type and a shape for each tensor, in the order of their bytes.
pub(super) fn parts() -> impl Strategy<Value = Vec<(usize, Vec<u64>)>> {
    vec((0..PLAIN.len(), vec(0..5_u64, 0..5)), 0..6)
}

/// Writes one; returns it and what should be read.
fn write(parts: &[(usize, Vec<u64>)]) -> (Vec<u8>, Vec<TensorInfo>) {
    let (mut at, mut entries, mut tensors) = (0, Vec::new(), Vec::new());
    for (number, (dtype, shape)) in parts.iter().enumerate() {
        let (name, dtype) = PLAIN[*dtype];
        let len = dtype.len(shape.iter().product()).unwrap();
        entries.push(format!(
            r#""tensor {number}":{{"dtype":"{name}","shape":{shape:?},"data_offsets":[{at},{}]}}"#,
            at + len
        ));
        tensors.push(TensorInfo {
            name: format!("tensor {number}"),
            dtype,
            shape: shape.clone(),
            range: at..at + len,
        });
        at += len;
    }
    // The order of the entries says nothing.
    entries.reverse();
    let header = format!("{{{}}}  ", entries.join(","));
    let file = super::samples::safetensors(&header, at as usize);
    let data = 8 + header.len() as u64;
    for tensor in &mut tensors {
        tensor.range = tensor.range.start + data..tensor.range.end + data;
    }
    (file, tensors)
}

/// Holds what is accepted here against the `safetensors` crate and candle. `false`: it is not accepted.
pub(super) fn agree_on_safetensors(file: &[u8]) -> bool {
    let Ok(ours) = safetensors::read(file, file.len() as u64) else {
        return false;
    };
    let (_, said) = ::safetensors::SafeTensors::read_metadata(file).unwrap();
    let said: BTreeMap<_, _> = said.metadata().clone().unwrap_or_default().into_iter().collect();
    assert_eq!(ours.metadata, said);
    let theirs = ::safetensors::SafeTensors::deserialize(file).unwrap();
    let theirs: BTreeMap<String, _> = theirs.tensors().into_iter().collect();
    assert_eq!(ours.tensors.len(), theirs.len());
    for tensor in &ours.tensors {
        let view = &theirs[&tensor.name];
        let shape: Vec<u64> = view.shape().iter().map(|len| *len as u64).collect();
        assert_eq!(shape, tensor.shape);
        let dtype = PLAIN.iter().find(|(_, dtype)| *dtype == tensor.dtype).unwrap();
        assert_eq!(view.dtype().to_string(), dtype.0);
        let range = tensor.range.start as usize..tensor.range.end as usize;
        assert_eq!(view.data().as_ptr(), file[range.clone()].as_ptr());
        assert_eq!(view.data().len(), range.len());
    }
    let candle = candle_core::safetensors::BufferedSafetensors::new(file.to_vec()).unwrap();
    for tensor in &ours.tensors {
        if !NOT_IN_CANDLE.contains(&tensor.dtype) {
            let loaded = candle.load(&tensor.name, &Device::Cpu).unwrap();
            let dims: Vec<u64> = loaded.dims().iter().map(|len| *len as u64).collect();
            assert_eq!(dims, tensor.shape);
            if OTHERS_IN_CANDLE.contains(&tensor.dtype) {
                continue;
            }
            let mut bytes = Vec::new();
            loaded.write_bytes(&mut bytes).unwrap();
            assert_eq!(
                bytes,
                file[tensor.range.start as usize..tensor.range.end as usize]
            );
        }
    }
    true
}

/// A GGUF file of tensors of these types and shapes, aligned to a power of two.
pub(super) fn ggufs() -> impl Strategy<Value = (Gguf, Vec<TensorInfo>)> {
    let tensors = vec((0..PACKED.len(), vec(1..4_u64, 0..4), 1..3_u64), 0..6);
    (tensors, 3..8_u32, any::<bool>(), 2..4_u32).prop_map(|(parts, power, says, version)| {
        let mut file = Gguf {
            version,
            tensors: Vec::new(),
            data: 0,
            ..Gguf::new()
        };
        if says {
            file.alignment = 1 << power;
            let value = (file.alignment as u32).to_le_bytes().to_vec();
            file = file.with_key(b"general.alignment", 4, value);
        }
        let mut infos = Vec::new();
        for (number, (dtype, rows, blocks)) in parts.into_iter().enumerate() {
            let (kind, dtype) = PACKED[dtype];
            let dimensions: Vec<u64> = [&[blocks * dtype.block().0], rows.as_slice()].concat();
            let shape: Vec<u64> = dimensions.iter().rev().copied().collect();
            let len = dtype.len(shape.iter().product()).unwrap();
            let name = format!("tensor {number}");
            file.tensors
                .push((name.clone().into_bytes(), dimensions, kind, file.data));
            infos.push(TensorInfo {
                name,
                dtype,
                shape,
                range: file.data..file.data + len,
            });
            file.data = (file.data + len).next_multiple_of(file.alignment);
        }
        (file, infos)
    })
}

/// Whether a value is the same to candle.
fn same(ours: &gguf::Value, theirs: &gguf_file::Value) -> bool {
    use gguf_file::Value;
    let array = |theirs: &Value| match theirs {
        Value::Array(values) => Some(values.clone()),
        _ => None,
    };
    let each = |len: usize, is: &dyn Fn(usize, &Value) -> bool| {
        let values = array(theirs).unwrap_or_default();
        values.len() == len && values.iter().enumerate().all(|(at, value)| is(at, value))
    };
    let whole = |value: &Value| match value {
        Value::Bool(flag) => Some(i128::from(*flag)),
        Value::U8(number) => Some(i128::from(*number)),
        Value::I8(number) => Some(i128::from(*number)),
        Value::U16(number) => Some(i128::from(*number)),
        Value::I16(number) => Some(i128::from(*number)),
        Value::U32(number) => Some(i128::from(*number)),
        Value::I32(number) => Some(i128::from(*number)),
        Value::U64(number) => Some(i128::from(*number)),
        Value::I64(number) => Some(i128::from(*number)),
        Value::F32(_) | Value::F64(_) | Value::String(_) | Value::Array(_) => None,
    };
    // Bits, since NaN is not itself.
    let float = |value: &Value| match value {
        Value::F32(number) => Some(f64::from(*number).to_bits()),
        Value::F64(number) => Some(number.to_bits()),
        _ => None,
    };
    // candle takes zeros off the end of every text, as the first version of the format had one there.
    let text = |value: &Value, ours: &str| matches!(value, Value::String(theirs) if theirs == ours.trim_end_matches('\0'));
    match ours {
        gguf::Value::Unsigned(ours) => whole(theirs) == Some(i128::from(*ours)),
        gguf::Value::Negative(ours) => whole(theirs) == Some(i128::from(*ours)),
        gguf::Value::Float(ours) => float(theirs) == Some(ours.to_bits()),
        gguf::Value::Bool(ours) => matches!(theirs, Value::Bool(theirs) if theirs == ours),
        gguf::Value::Text(ours) => text(theirs, ours),
        gguf::Value::Texts(ours) => each(ours.len(), &|at, value| text(value, &ours[at])),
        gguf::Value::Integers(ours) => each(ours.len(), &|at, value| {
            whole(value) == Some(i128::from(ours[at]))
        }),
        gguf::Value::Floats(ours) => each(ours.len(), &|at, value| float(value) == Some(ours[at].to_bits())),
        gguf::Value::Skipped { elements } => {
            array(theirs).is_some_and(|values| values.len() as u64 == *elements)
        }
    }
}

/// Holds what is accepted here against candle. `false`: it is not accepted.
pub(super) fn agree_on_gguf(file: &[u8]) -> bool {
    let Ok(ours) = gguf::read(file, file.len() as u64) else {
        return false;
    };
    let mut cursor = Cursor::new(file);
    let theirs = gguf_file::Content::read(&mut cursor).unwrap();
    assert_eq!(theirs.tensor_data_offset, ours.data);
    assert_eq!(theirs.tensor_infos.len(), ours.tensors.len());
    assert_eq!(theirs.metadata.len(), ours.metadata.len());
    for (key, value) in &ours.metadata {
        let other = &theirs.metadata[key];
        assert!(same(value, other), "{key}: {value:?} and {other:?}");
    }
    for tensor in &ours.tensors {
        let info = &theirs.tensor_infos[&tensor.name];
        let dims: Vec<u64> = info.shape.dims().iter().map(|len| *len as u64).collect();
        assert_eq!(dims, tensor.shape);
        assert_eq!(format!("{:?}", info.ggml_dtype), tensor.dtype.to_string());
        assert_eq!(theirs.tensor_data_offset + info.offset, tensor.range.start);
        // Candle knows these types, and loads none of them: only computations have them.
        if matches!(tensor.dtype, Dtype::Q8_1 | Dtype::Q8K) {
            continue;
        }
        let loaded = theirs.tensor(&mut cursor, &tensor.name, &Device::Cpu).unwrap();
        assert_eq!(
            loaded.storage_size_in_bytes() as u64,
            tensor.range.end - tensor.range.start
        );
        let bytes = loaded.data().unwrap();
        assert_eq!(
            *bytes,
            file[tensor.range.start as usize..tensor.range.end as usize]
        );
    }
    true
}

/// What is done to a file to make it another.
fn edits() -> impl Strategy<Value = Vec<(Index, u8)>> {
    let byte = prop_oneof![
        any::<u8>(),
        Just(0),
        Just(1),
        Just(b'0'),
        Just(b'"'),
        Just(b','),
        Just(0xff)
    ];
    vec((any::<Index>(), byte), 0..4)
}

/// Changes some bytes of the first `most`.
fn edit(file: &mut [u8], edits: &[(Index, u8)], most: usize) {
    let most = most.min(file.len());
    for (at, byte) in edits {
        file[at.index(most)] = *byte;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn written_safetensors_are_read_as_they_were_written(parts in parts()) {
        let (file, tensors) = write(&parts);
        let mut read = safetensors::read(file.as_slice(), file.len() as u64).unwrap();
        // Those without bytes lie at the same place as their neighbours.
        read.tensors.sort_by(|one, other| one.name.cmp(&other.name));
        assert_eq!(read.tensors, tensors);
        assert!(agree_on_safetensors(&file));
    }

    #[test]
    fn accepted_safetensors_are_accepted_by_safetensors_and_candle(parts in parts(), edits in edits()) {
        let (mut file, _) = write(&parts);
        let most = file.len();
        edit(&mut file, &edits, most);
        agree_on_safetensors(&file);
    }

    #[test]
    fn written_ggufs_are_read_as_they_were_written((file, tensors) in ggufs()) {
        let bytes = file.bytes();
        let read = gguf::read(bytes.as_slice(), bytes.len() as u64).unwrap();
        let at = |tensor: &TensorInfo| TensorInfo { range: tensor.range.start + read.data..tensor.range.end + read.data, ..tensor.clone() };
        assert_eq!(read.tensors, tensors.iter().map(at).collect::<Vec<_>>());
        assert_eq!(read.version, file.version);
        assert!(agree_on_gguf(&bytes));
    }

    #[test]
    fn accepted_ggufs_are_accepted_by_candle((file, _) in ggufs(), edits in edits()) {
        let mut bytes = file.bytes();
        let most = bytes.len();
        edit(&mut bytes, &edits, most);
        agree_on_gguf(&bytes);
    }
}

#[test]
fn what_the_safetensors_crate_writes_is_read() {
    let data: Vec<u8> = (0..24).collect();
    let view = |dtype, shape: &[usize], range: std::ops::Range<usize>| {
        ::safetensors::tensor::TensorView::new(dtype, shape.to_vec(), &data[range]).unwrap()
    };
    let tensors = [
        ("b", view(::safetensors::Dtype::F32, &[2, 2], 0..16)),
        ("a", view(::safetensors::Dtype::I64, &[], 16..24)),
        ("none", view(::safetensors::Dtype::F16, &[0, 4], 0..0)),
    ];
    let more = Some([("format".to_owned(), "pt".to_owned())].into());
    let file = ::safetensors::serialize(tensors, more).unwrap();
    let read = safetensors::read(file.as_slice(), file.len() as u64).unwrap();
    assert_eq!(read.tensors.len(), 3);
    assert_eq!(read.metadata["format"], "pt");
    assert_eq!(read.data + 24, file.len() as u64);
    assert!(agree_on_safetensors(&file));
}

#[test]
fn values_of_every_type_are_read_as_they_were_written() {
    let long = (gguf::VOCAB_MAX + 1) as usize;
    let file = Gguf::new()
        .with_key(b"u8", 0, vec![200])
        .with_key(b"i8", 1, vec![200])
        .with_key(b"u16", 2, 60_000_u16.to_le_bytes().to_vec())
        .with_key(b"i16", 3, (-2_i16).to_le_bytes().to_vec())
        .with_key(b"i32", 5, 7_i32.to_le_bytes().to_vec())
        .with_key(b"yes", 7, vec![1])
        .with_key(b"text", 8, string("früh\0".as_bytes()))
        .with_key(b"no text", 8, string(b"\xff"))
        .with_key(b"u64", 10, u64::MAX.to_le_bytes().to_vec())
        .with_key(b"i64", 11, i64::MIN.to_le_bytes().to_vec())
        .with_key(b"f64", 12, 0.1_f64.to_le_bytes().to_vec())
        .with_key(b"flags", 9, array(7, 2, &[0, 1]))
        .with_key(b"halves", 9, array(6, 1, &0.5_f32.to_le_bytes()))
        .with_key(b"huge", 9, array(10, 1, &u64::MAX.to_le_bytes()))
        .with_key(b"long", 9, array(0, long as u64, &vec![0; long]))
        .with_key(
            b"nested",
            9,
            array(9, 2, &[array(0, 1, &[1]), array(8, 0, &[])].concat()),
        );
    let file = file.bytes();
    let read = gguf::read(file.as_slice(), file.len() as u64).unwrap();
    let value = |key: &str| read.metadata[key].clone();
    assert_eq!(read.unsigned("u8"), Some(200));
    assert_eq!(value("i8"), gguf::Value::Negative(-56));
    assert_eq!(read.unsigned("u16"), Some(60_000));
    assert_eq!(value("i16"), gguf::Value::Negative(-2));
    assert_eq!(read.unsigned("i32"), Some(7));
    assert_eq!(read.flag("yes"), Some(true));
    assert_eq!(read.text("text"), Some("früh\0"));
    assert_eq!(read.text("no text"), Some("\u{fffd}"));
    assert_eq!(read.unsigned("u64"), Some(u64::MAX));
    assert_eq!(value("i64"), gguf::Value::Negative(i64::MIN));
    assert_eq!(read.float("f64"), Some(0.1));
    assert_eq!(read.integers("flags"), Some([0, 1].as_slice()));
    assert_eq!(read.floats("halves"), Some([0.5].as_slice()));
    assert_eq!(value("huge"), gguf::Value::Skipped { elements: 1 });
    assert_eq!(
        value("long"),
        gguf::Value::Skipped {
            elements: long as u64
        }
    );
    assert_eq!(value("nested"), gguf::Value::Skipped { elements: 2 });
    assert_eq!(read.texts("tokenizer.ggml.tokens").unwrap()[2], "<0x0A>");
    assert_eq!(read.of_architecture("context_length"), Some(2_048));
    assert_eq!(read.float("llama.rope.freq_base"), Some(10_000.0));
    assert_eq!(read.text("u8"), None);
    assert!(agree_on_gguf(&file));
}

#[test]
fn nothing_behind_the_header_is_asked_of_a_source() {
    let file = Gguf::new().bytes();
    let header = &file[..file.len() - 96];
    assert_eq!(gguf::read(header, file.len() as u64).unwrap().tensors.len(), 2);
    let (file, tensors) = write(&[(13, vec![4])]);
    let header = &file[..file.len() - 16];
    assert_eq!(
        safetensors::read(header, file.len() as u64).unwrap().tensors,
        tensors
    );
}
