//! The sweeps against what a loop over values would say.

use proptest::prelude::{Strategy, any, prop_assert_eq, proptest};

use super::Tally;
use crate::{
    check::{Dtype, TensorInfo},
    engine::{floats, wire::Numbers},
};

fn tensor(dtype: Dtype, bytes: &[u8]) -> TensorInfo {
    let (packed, len) = dtype.block();
    TensorInfo {
        name: "t".into(),
        dtype,
        shape: vec![bytes.len() as u64 / len * packed],
        range: 0..bytes.len() as u64,
    }
}

/// Looks at `bytes` in pieces of so many blocks.
fn tally(dtype: Dtype, bytes: &[u8], blocks: usize) -> Numbers {
    let mut tally = Tally::new(dtype);
    for piece in bytes.chunks(dtype.block().1 as usize * blocks) {
        tally.add(piece);
    }
    tally.numbers("f", &tensor(dtype, bytes))
}

/// What a loop over the values says.
fn slowly(dtype: Dtype, bytes: &[u8], value: impl Fn(&[u8]) -> f64) -> Numbers {
    let width = dtype.block().1 as usize;
    let values: Vec<f64> = bytes.chunks_exact(width).map(value).collect();
    let first = bytes.get(..width);
    Numbers {
        path: "f".into(),
        tensor: "t".into(),
        elements: values.len() as u64,
        nan: values.iter().filter(|value| value.is_nan()).count() as u64,
        infinite: values.iter().filter(|value| value.is_infinite()).count() as u64,
        zero: !values.is_empty() && values.iter().all(|value| *value == 0.0),
        equal: values.len() > 1 && bytes.chunks_exact(width).all(|element| Some(element) == first),
        max_abs: values
            .iter()
            .filter(|value| value.is_finite())
            .fold(0.0, |most, value| value.abs().max(most)),
    }
}

fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.try_into().unwrap()
}

fn value(dtype: Dtype, bytes: &[u8]) -> f64 {
    match dtype {
        Dtype::F16 => half::f16::from_le_bytes(array(bytes)).to_f64(),
        Dtype::BF16 => half::bf16::from_le_bytes(array(bytes)).to_f64(),
        Dtype::F32 => f32::from_le_bytes(array(bytes)).into(),
        Dtype::F64 => f64::from_le_bytes(array(bytes)),
        Dtype::F8E4M3 => floats::e4m3(bytes[0]),
        Dtype::F8E5M2 => floats::e5m2(bytes[0]),
        Dtype::U8 | Dtype::Bool => bytes[0].into(),
        Dtype::I8 => i8::from_le_bytes(array(bytes)).into(),
        Dtype::U16 => u16::from_le_bytes(array(bytes)).into(),
        Dtype::I16 => i16::from_le_bytes(array(bytes)).into(),
        Dtype::U32 => u32::from_le_bytes(array(bytes)).into(),
        Dtype::I32 => i32::from_le_bytes(array(bytes)).into(),
        Dtype::U64 => u64::from_le_bytes(array(bytes)) as f64,
        Dtype::I64 => i64::from_le_bytes(array(bytes)) as f64,
        packed => panic!("{packed}"),
    }
}

const PLAIN: [Dtype; 14] = [
    Dtype::Bool,
    Dtype::U8,
    Dtype::I8,
    Dtype::U16,
    Dtype::I16,
    Dtype::U32,
    Dtype::I32,
    Dtype::U64,
    Dtype::I64,
    Dtype::F8E4M3,
    Dtype::F8E5M2,
    Dtype::F16,
    Dtype::BF16,
    Dtype::F32,
];

/// Bytes in which all ones and all zeros are frequent, so that there are infinities, NaN and zeros of every width.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let byte = any::<u8>().prop_map(|byte| match byte % 4 {
        0 => 0xff,
        1 => 0x7f,
        2 => 0,
        _ => byte,
    });
    proptest::collection::vec(byte, 0..200).prop_map(|mut bytes| {
        bytes.truncate(bytes.len() / 8 * 8);
        bytes
    })
}

proptest! {
    #[test]
    fn a_sweep_says_what_a_loop_over_the_values_says(bytes in bytes(), blocks in 1_usize..9) {
        for dtype in PLAIN.into_iter().chain([Dtype::F64]) {
            let expected = slowly(dtype, &bytes, |bytes| value(dtype, bytes));
            prop_assert_eq!(tally(dtype, &bytes, blocks), expected);
        }
    }
}

#[test]
fn special_numbers_are_told_apart() {
    let with = |values: &[f32]| {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let found = tally(Dtype::F32, &bytes, 3);
        (found.nan, found.infinite, found.zero, found.equal, found.max_abs)
    };
    assert_eq!(
        with(&[
            f32::NAN,
            -f32::NAN,
            f32::INFINITY,
            f32::NEG_INFINITY,
            f32::MAX,
            1.0
        ]),
        (2, 2, false, false, f64::from(f32::MAX))
    );
    assert_eq!(with(&[0.0, -0.0, 0.0]), (0, 0, true, false, 0.0));
    assert_eq!(with(&[0.0; 7]), (0, 0, true, true, 0.0));
    assert_eq!(with(&[-2.5; 7]), (0, 0, false, true, 2.5));
    assert_eq!(with(&[-2.5]), (0, 0, false, false, 2.5));
    assert_eq!(
        with(&[f32::from_bits(1), 0.0]),
        (0, 0, false, false, f64::from(f32::from_bits(1)))
    );
    assert_eq!(with(&[]), (0, 0, false, false, 0.0));
}

#[test]
fn the_scales_of_every_kind_of_block_are_found() {
    // Where ggml's own reader of a block takes its scales from: a scale of infinity there makes all elements of the block none, or
    // infinite, and no other place of the block does.
    for dtype in [
        Dtype::Q4_0,
        Dtype::Q4_1,
        Dtype::Q5_0,
        Dtype::Q5_1,
        Dtype::Q8_0,
        Dtype::Q2K,
        Dtype::Q3K,
        Dtype::Q4K,
        Dtype::Q5K,
        Dtype::Q6K,
    ] {
        let len = dtype.block().1 as usize;
        let mut scales = 0;
        for at in (0..len).step_by(2) {
            let mut block = vec![0x11; len];
            block[at..at + 2].copy_from_slice(&half::f16::INFINITY.to_le_bytes());
            let mut values = Vec::new();
            floats::append(dtype, &block, &mut values).unwrap();
            let infinite = !values.iter().all(|value| value.is_finite());
            let found = tally(dtype, &block, 1);
            assert_eq!(
                (found.infinite, found.nan),
                (u64::from(infinite), 0),
                "{dtype} {at}"
            );
            block[at] = 1;
            assert_eq!(tally(dtype, &block, 1).nan, u64::from(infinite), "{dtype} {at}");
            scales += u64::from(infinite);
        }
        assert!((1..=2).contains(&scales), "{dtype} {scales}");
        // Nothing but zeros, in several blocks and pieces.
        let found = tally(dtype, &vec![0; 5 * len], 2);
        assert!(
            found.zero && found.equal && found.max_abs == 0.0,
            "{dtype} {found:?}"
        );
        let mut one = vec![0; 5 * len];
        one.iter_mut().rev().take(len).for_each(|byte| *byte = 0x22);
        let found = tally(dtype, &one, 2);
        assert!(
            !found.zero && !found.equal && found.max_abs > 0.0,
            "{dtype} {found:?}"
        );
        assert_eq!(found.elements, 5 * dtype.block().0);
    }
}

#[test]
fn blocks_that_repeat_are_equal_only_where_all_elements_are() {
    // A scale of 1 and quants of 8 and 9 by turns, then of 9 alone.
    let block = |quants: u8| [&half::f16::ONE.to_le_bytes()[..], &[quants; 16]].concat();
    let found = tally(Dtype::Q4_0, &block(0x89).repeat(4), 4);
    assert!(!found.equal, "{found:?}");
    let found = tally(Dtype::Q4_0, &block(0x99).repeat(4), 4);
    assert!(found.equal && !found.zero && found.max_abs == 1.0, "{found:?}");
}
