//! Judging what the files of a repo say of themselves: the first level.

use super::report::{Line, counted};
use crate::check::facts::{Facts, Format};

/// Problems that are named; the others are counted.
const NAMED_MAX: usize = 3;

/// Judges what there is: what breaks the rules of its format is wrong; what this build does not read, or can run code, is only said.
pub(super) fn judge(facts: &Facts) -> Line {
    let broken = facts.problems.iter().filter(|problem| problem.broken);
    let mut broken: Vec<String> = broken
        .map(|problem| format!("{}: {}", problem.path, problem.what))
        .collect();
    if !broken.is_empty() {
        let more = broken.len().saturating_sub(NAMED_MAX);
        broken.truncate(NAMED_MAX);
        if more > 0 {
            broken.push(format!("and {more} more"));
        }
        return Line::failed(broken.join("; "));
    }
    let tensors: usize = facts.weights.iter().map(|file| file.tensors.len()).sum();
    if tensors == 0 {
        return Line::failed("there is no tensor in it");
    }
    let formats: Vec<String> = facts.formats.iter().map(Format::to_string).collect();
    let mut said = vec![format!(
        "{} in {}",
        counted(tensors as u64, "tensor"),
        formats.join(" and ")
    )];
    said.push(counted(facts.parameters(), "parameter"));
    said.extend(facts.architecture.clone());
    let unread = facts.problems.iter().filter(|problem| !problem.broken);
    said.extend(
        unread
            .take(NAMED_MAX)
            .map(|problem| format!("{}: {}", problem.path, problem.what)),
    );
    if !facts.code.is_empty() {
        let files = counted(facts.code.len() as u64, "file");
        said.push(format!("{files} that can run code, and never did here"));
    }
    if facts.unlooked > 0 {
        let files = counted(facts.unlooked, "file");
        said.push(format!("{files} not looked at, there are so many"));
    }
    if !facts.absent.is_empty() {
        said.push(format!("{} not here", counted(facts.absent.len() as u64, "file")));
    }
    Line::passed(said.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{
        Dtype, TensorInfo,
        facts::{Labelled, Problem, Weights},
    };
    use protocol::Verdict;

    fn sound() -> Facts {
        let tensor = TensorInfo {
            name: "a".to_owned(),
            dtype: Dtype::F32,
            shape: vec![2, 3],
            range: 0..24,
        };
        Facts {
            formats: vec![Format::Safetensors],
            architecture: Some("BertModel".to_owned()),
            parameters: [(Dtype::F32, 6)].into(),
            weights: vec![Weights {
                path: "model.safetensors".to_owned(),
                format: Format::Safetensors,
                tensors: vec![tensor],
            }],
            ..Facts::default()
        }
    }

    fn problem(path: &str, broken: bool) -> Problem {
        Problem {
            path: path.to_owned(),
            what: "wrong".to_owned(),
            broken,
        }
    }

    #[test]
    fn what_breaks_a_rule_fails_and_what_only_others_read_does_not() {
        assert_eq!(
            judge(&sound()),
            Line::passed("1 tensor in safetensors, 6 parameters, BertModel")
        );
        let mut unread = sound();
        unread.problems = vec![problem("config.json", false)];
        unread.code = vec![Labelled {
            path: "train.py".to_owned(),
            kind: None,
            what: "Python".to_owned(),
        }];
        let line = judge(&unread);
        assert_eq!(line.verdict, Verdict::Passed);
        assert!(
            line.text
                .ends_with("config.json: wrong, 1 file that can run code, and never did here"),
            "{line:?}"
        );
        let mut broken = unread;
        broken
            .problems
            .extend((0..5).map(|at| problem(&format!("{at}.safetensors"), true)));
        let line = judge(&broken);
        assert_eq!(line.verdict, Verdict::Failed);
        assert!(
            line.text.starts_with("0.safetensors: wrong; ") && line.text.ends_with("and 2 more"),
            "{line:?}"
        );
        assert_eq!(judge(&Facts::default()).verdict, Verdict::Failed);
    }
}
