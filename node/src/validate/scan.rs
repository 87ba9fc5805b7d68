//! Judging the numbers of a model: the second level. NaN and infinity anywhere are wrong; a matrix of which every element is the same is too, for
//! nobody trains that. (A vector may well be all zero or all one: biases and norms are.)

use std::collections::HashMap;

use super::report::{Line, counted};
use crate::{check::TensorInfo, engine::wire::Numbers};

/// Wrong tensors that are named; the others are counted.
const NAMED_MAX: usize = 3;

/// Judges what a scan found. `tensors` say which of them are matrices.
pub(super) fn judge(found: &[Numbers], tensors: &[TensorInfo]) -> Line {
    let matrices: HashMap<&str, bool> = tensors
        .iter()
        .map(|tensor| (tensor.name.as_str(), is_matrix(&tensor.shape)))
        .collect();
    let wrong: Vec<String> = found
        .iter()
        .filter_map(|numbers| {
            let matrix = matrices.get(numbers.tensor.as_str()).copied().unwrap_or(false);
            what_is_wrong(numbers, matrix).map(|what| format!("{} has {what}", numbers.tensor))
        })
        .collect();
    let elements: u64 = found.iter().map(|numbers| numbers.elements).sum();
    if found.len() != tensors.len() {
        let (seen, there) = (found.len(), tensors.len());
        return Line::failed(format!(
            "{seen} tensors were found where the headers name {there}"
        ));
    }
    if wrong.is_empty() {
        let tensors = counted(found.len() as u64, "tensor");
        return Line::passed(format!("{} in {tensors}", counted(elements, "number")));
    }
    let more = wrong.len().saturating_sub(NAMED_MAX);
    let mut named = wrong[..wrong.len() - more].join("; ");
    if more > 0 {
        named.push_str(&format!("; and {more} more"));
    }
    Line::failed(named)
}

fn what_is_wrong(numbers: &Numbers, matrix: bool) -> Option<String> {
    if numbers.nan > 0 {
        return Some(format!("{} NaN among {} elements", numbers.nan, numbers.elements));
    }
    if numbers.infinite > 0 {
        return Some(format!(
            "{} infinite among {} elements",
            numbers.infinite, numbers.elements
        ));
    }
    // NaN is no size at all.
    if !numbers.max_abs.is_finite() {
        return Some("no largest number".to_owned());
    }
    match (matrix, numbers.zero, numbers.equal) {
        (true, true, _) => Some("nothing but zeros".to_owned()),
        (true, _, true) => Some("the same number everywhere".to_owned()),
        _ => None,
    }
}

fn is_matrix(shape: &[u64]) -> bool {
    shape.iter().filter(|len| **len > 1).count() >= 2
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Dtype;
    use protocol::Verdict;

    fn tensor(name: &str, shape: &[u64]) -> TensorInfo {
        TensorInfo {
            name: name.to_owned(),
            dtype: Dtype::F32,
            shape: shape.to_vec(),
            range: 0..4 * shape.iter().product::<u64>(),
        }
    }

    fn numbers(tensor: &TensorInfo) -> Numbers {
        Numbers {
            path: "model.safetensors".to_owned(),
            tensor: tensor.name.clone(),
            elements: tensor.elements(),
            nan: 0,
            infinite: 0,
            zero: false,
            equal: false,
            max_abs: 1.0,
        }
    }

    fn judged(shape: &[u64], change: impl Fn(&mut Numbers)) -> Line {
        let tensors = [tensor("a", &[2, 2]), tensor("encoder.b", shape)];
        let mut found: Vec<Numbers> = tensors.iter().map(numbers).collect();
        change(&mut found[1]);
        judge(&found, &tensors)
    }

    /// Damages what was found.
    type Change = fn(&mut Numbers);

    #[test]
    fn what_is_no_number_fails_and_names_its_tensor() {
        let line = judged(&[4, 4], |_| {});
        assert_eq!(
            (line.verdict, &*line.text),
            (Verdict::Passed, "20 numbers in 2 tensors")
        );
        let changes: [(Change, &str); 5] = [
            (|numbers| numbers.nan = 1, "encoder.b has 1 NaN"),
            (|numbers| numbers.infinite = 2, "encoder.b has 2 infinite"),
            (|numbers| numbers.max_abs = f64::NAN, "no largest"),
            (
                |numbers| (numbers.zero, numbers.equal) = (true, true),
                "nothing but zeros",
            ),
            (|numbers| numbers.equal = true, "the same number"),
        ];
        for (change, word) in changes {
            let line = judged(&[4, 4], change);
            assert_eq!(line.verdict, Verdict::Failed);
            assert!(line.text.contains(word), "{}", line.text);
        }
    }

    #[test]
    fn vectors_may_be_all_zero_or_all_one() {
        for shape in [&[16][..], &[1, 16], &[16, 1, 1], &[]] {
            let line = judged(shape, |numbers| (numbers.zero, numbers.equal) = (true, true));
            assert_eq!(line.verdict, Verdict::Passed, "{shape:?}");
            let line = judged(shape, |numbers| numbers.nan = 1);
            assert_eq!(line.verdict, Verdict::Failed, "{shape:?}");
        }
    }

    #[test]
    fn many_wrong_tensors_are_named_in_part_and_missing_ones_noticed() {
        let tensors: Vec<TensorInfo> = (0..9).map(|at| tensor(&format!("t{at}"), &[2, 2])).collect();
        let mut found: Vec<Numbers> = tensors.iter().map(numbers).collect();
        found.iter_mut().for_each(|numbers| numbers.nan = 1);
        let line = judge(&found, &tensors);
        assert!(
            line.text.contains("t2 has") && line.text.ends_with("and 6 more"),
            "{}",
            line.text
        );
        assert_eq!(judge(&found[..8], &tensors).verdict, Verdict::Failed);
        assert_eq!(judge(&[], &tensors).verdict, Verdict::Failed);
    }
}
