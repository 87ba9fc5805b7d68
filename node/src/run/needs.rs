//! How much memory a model needs, by the headers of its files, and whether there is so much.

use crate::{
    check::{Dtype, TensorInfo},
    engine::wire::Weights,
};

use super::RunError;

/// Memory of an engine beside its weights, in bytes: the program, the tokenizer, what a file is read through.
const BESIDE: u64 = 150 << 20;

/// Memory for what a model remembers of a text and computes with, in bytes: the limit of an engine is so much above its need,
/// where there is room for it.
const WORK: u64 = 1 << 30;

/// What of the system's free memory is left to others, as one part of so many.
const LEFT: u64 = 10;

/// Memory that an engine may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// The user said so, in bytes.
    Given(u64),
    /// The system has so much, in bytes.
    Free(u64),
    /// The system does not say.
    Unknown,
}

/// How a model is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) weights: Weights,
    /// What the engine may take, in bytes.
    pub(super) limit: Option<u64>,
}

/// What of the system's memory an engine may take.
pub fn available() -> Room {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    free(&text).map_or(Room::Unknown, |free| Room::Free(free - free / LEFT))
}

/// The bytes that Linux says are available.
fn free(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// Decides how weights are kept: as is wanted, or as 32 bits floats where they fit, or as they are in the file where that is
/// packed.
pub(super) fn plan(tensors: &[TensorInfo], wanted: Option<Weights>, room: Room) -> Result<Plan, RunError> {
    let packed = tensors.iter().any(|tensor| is_packed(tensor.dtype));
    let ways: &[Weights] = match wanted {
        Some(Weights::F32) => &[Weights::F32],
        Some(Weights::Stored) => &[Weights::Stored],
        None if packed => &[Weights::F32, Weights::Stored],
        None => &[Weights::F32],
    };
    let (bytes, given) = match room {
        Room::Unknown => (u64::MAX, false),
        Room::Free(bytes) => (bytes, false),
        Room::Given(bytes) => (bytes, true),
    };
    let fits = ways.iter().find_map(|weights| {
        let need = need(tensors, *weights);
        (need <= bytes).then_some((*weights, need))
    });
    let Some((weights, need)) = fits else {
        let least = ways.iter().map(|weights| need(tensors, *weights)).min();
        return Err(RunError::Memory {
            need: least.unwrap_or(u64::MAX),
            room: bytes,
            given,
        });
    };
    let limit = match room {
        Room::Given(bytes) => Some(bytes),
        Room::Free(bytes) => Some(bytes.min(need.saturating_add(WORK))),
        Room::Unknown => Some(need.saturating_add(WORK)),
    };
    Ok(Plan { weights, limit })
}

/// What loading takes at most, in bytes: a fifth above the weights, and what is beside them.
fn need(tensors: &[TensorInfo], weights: Weights) -> u64 {
    let one = |tensor: &TensorInfo| match weights {
        Weights::Stored if is_packed(tensor.dtype) => tensor.range.end.saturating_sub(tensor.range.start),
        Weights::Stored | Weights::F32 => tensor.elements().saturating_mul(4),
    };
    let weights = tensors.iter().map(one).fold(0, u64::saturating_add);
    weights.saturating_add(weights / 5).saturating_add(BESIDE)
}

/// Whether elements are packed in blocks, which are multiplied as they are.
fn is_packed(dtype: Dtype) -> bool {
    dtype.block().0 > 1
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn tensor(dtype: Dtype, elements: u64) -> TensorInfo {
        TensorInfo {
            name: "a".to_owned(),
            dtype,
            shape: vec![elements / 256, 256],
            range: 0..dtype.len(elements).unwrap(),
        }
    }

    #[test]
    fn weights_are_floats_where_they_fit_and_else_as_they_are_packed() {
        // 4 GiB as floats, 640 MiB packed.
        let packed = [tensor(Dtype::Q4_1, GIB)];
        let ways = [
            (6 * GIB, Some(Weights::F32)),
            (2 * GIB, Some(Weights::Stored)),
            (GIB / 2, None),
        ];
        for (room, wanted) in ways {
            let plan = plan(&packed, None, Room::Free(room)).ok();
            assert_eq!(plan.map(|plan| plan.weights), wanted, "{room}");
        }
        let plain = [tensor(Dtype::BF16, GIB)];
        let error = plan(&plain, None, Room::Given(2 * GIB)).unwrap_err();
        assert_eq!(error.to_string(), "it needs 5.0 GiB of memory, and 2.0 are given");
        let error = plan(&packed, Some(Weights::F32), Room::Free(2 * GIB)).unwrap_err();
        assert!(error.to_string().ends_with("2.0 are free"), "{error}");
    }

    #[test]
    fn engine_gets_what_it_needs_and_some_room_but_no_more_than_there_is() {
        let small = [tensor(Dtype::F32, 1 << 20)];
        let limit = |room| plan(&small, None, room).unwrap().limit.unwrap();
        let need = need(&small, Weights::F32);
        assert_eq!(need, (4 << 20) + (4 << 20) / 5 + BESIDE);
        assert_eq!(limit(Room::Free(100 * GIB)), need + WORK);
        assert_eq!(limit(Room::Free(need + 1)), need + 1);
        assert_eq!(limit(Room::Unknown), need + WORK);
        assert_eq!(limit(Room::Given(9 * GIB)), 9 * GIB);
    }

    #[test]
    fn sizes_that_no_machine_has_do_not_wrap() {
        let mut huge = tensor(Dtype::F32, 256);
        huge.shape = vec![1 << 62];
        let error = plan(&[huge.clone(), huge], None, Room::Free(GIB)).unwrap_err();
        assert!(
            matches!(error, RunError::Memory { need: u64::MAX, .. }),
            "{error:?}"
        );
    }

    #[test]
    fn free_memory_is_read_from_what_linux_says() {
        let text = "MemTotal:       24684096 kB\nMemFree:         6140352 kB\nMemAvailable:   22421188 kB\n";
        assert_eq!(free(text), Some(22_421_188 * 1024));
        for wrong in [
            "",
            "MemAvailable: kB",
            "MemAvailable: 1 MB",
            "MemAvailable: 99999999999999999999 kB",
        ] {
            assert_eq!(free(wrong), None, "{wrong}");
        }
    }
}
