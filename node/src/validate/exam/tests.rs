use super::*;
use crate::validate::probes::{Embed, Greedy, Logits, Nll};

/// A model made of arithmetic: as sure of itself as a real one, and far quicker.
#[derive(Clone)]
struct Toy {
    task: Task,
    /// What its weights are multiplied by.
    scale: f32,
    /// Added to every token of a text.
    shift: u32,
    /// At this question, from 0, it says something else.
    breaks: Option<(usize, Answer)>,
    asked: usize,
}

const VOCABULARY: u32 = 50;

impl Toy {
    fn new(task: Task) -> Toy {
        Toy {
            task,
            scale: 1.0,
            shift: 0,
            breaks: None,
            asked: 0,
        }
    }

    fn embedding(&self, ids: &[u32]) -> Vec<f32> {
        let seed = ids
            .iter()
            .fold(7_u32, |seed, id| seed.wrapping_mul(31).wrapping_add(*id));
        let value = |at: u32| ((seed.wrapping_add(at) % 97) as f32 * self.scale).sin() / 5.0;
        (0..24).map(value).collect()
    }

    fn rows(&self, ids: &[u32]) -> Vec<Row> {
        let logits = |at: usize| -> Vec<f32> {
            let seed = ids[..=at]
                .iter()
                .fold(7_u32, |seed, id| seed.wrapping_mul(31).wrapping_add(*id));
            (0..VOCABULARY)
                .map(|token| (seed.wrapping_mul(token * 2 + 1) % 1009) as f32 / 100.0 * self.scale)
                .collect()
        };
        let row = |at: usize| {
            let logits = logits(at);
            let mut top: Vec<(u32, f32)> = (0..).zip(logits.iter().copied()).collect();
            top.sort_by(|a, b| b.1.total_cmp(&a.1));
            let lse = logits
                .iter()
                .map(|logit| f64::from(*logit).exp())
                .sum::<f64>()
                .ln() as f32;
            let next = ids.get(at + 1).and_then(|id| logits.get(*id as usize).copied());
            Row { top, lse, next }
        };
        (0..ids.len()).map(row).collect()
    }

    fn answer(&mut self, question: &Question) -> Answer {
        self.asked += 1;
        if let Some((at, answer)) = &self.breaks
            && *at == self.asked - 1
        {
            return answer.clone();
        }
        match question {
            Question::Tokens(text) => Answer::Tokens(
                text.bytes()
                    .map(|byte| (u32::from(byte) + self.shift) % VOCABULARY)
                    .collect(),
            ),
            Question::Embed(ids) if self.task == Task::Embed => Answer::Embedding(self.embedding(ids)),
            Question::Logits(ids, top) if self.task == Task::Generate => {
                let mut rows = self.rows(ids);
                rows.iter_mut().for_each(|row| row.top.truncate(*top));
                Answer::Logits(rows, Hash::of(format!("{ids:?} {}", self.scale).as_bytes()))
            }
            _ => Answer::Fault(Fault::Ask("the model does not do that".to_owned())),
        }
    }

    fn examinee(&self) -> Examinee {
        Examinee {
            manifest: Hash::of(b"manifest"),
            task: self.task,
            vocabulary: Some(VOCABULARY),
            context: 4096,
        }
    }

    fn sit(&mut self, probes: Option<&Probes>, nonces: &[[u8; 16]]) -> Behaviour {
        self.sit_as(self.examinee(), probes, nonces)
    }

    fn sit_as(&mut self, examinee: Examinee, probes: Option<&Probes>, nonces: &[[u8; 16]]) -> Behaviour {
        let mut exam = Exam::new(examinee, probes, nonces);
        while let Some(question) = exam.next() {
            let left = exam.left();
            exam.take(self.answer(&question));
            assert!(exam.left() < left || left == 1, "the exam does not end");
        }
        exam.finish()
    }
}

fn tokens(text: &str) -> Vec<u32> {
    text.bytes().map(|byte| u32::from(byte) % VOCABULARY).collect()
}

fn declared(task: Task) -> Probes {
    let toy = Toy::new(task);
    let text = || Some("a text".to_owned());
    let ids = tokens("a text");
    let probes = match task {
        Task::Embed => vec![Probe::Embed(Embed {
            text: text(),
            expect: toy.embedding(&ids),
            ids,
            tol_abs: 1e-4,
        })],
        Task::Generate => {
            let rows = toy.rows(&ids);
            let last = rows.last().unwrap();
            let mut all = ids.clone();
            let (mut continued, mut margins) = (Vec::new(), Vec::new());
            for _ in 0..5 {
                let row = toy.rows(&all).pop().unwrap();
                margins.push(f64::from(row.top[0].1 - row.top[1].1));
                continued.push(row.top[0].0);
                all.push(row.top[0].0);
            }
            let (sum_nll, n) = compare::nll(&rows).unwrap();
            vec![
                Probe::Logits(Logits {
                    text: text(),
                    ids: ids.clone(),
                    top: last.top[..4].to_vec(),
                    lse: f64::from(last.lse),
                    tol_abs: 1e-2,
                }),
                Probe::Greedy(Greedy {
                    text: None,
                    ids: ids.clone(),
                    n: 5,
                    tokens: continued,
                    margins,
                    tie: 2e-3,
                }),
                Probe::Nll(Nll {
                    text: None,
                    text_hash: None,
                    ids,
                    sum_nll,
                    n,
                    tol_per_token: 1e-3,
                }),
            ]
        }
    };
    Probes::new(None, None, "a test", probes).unwrap()
}

#[test]
fn model_that_does_what_is_declared_passes() {
    let behaviour = Toy::new(Task::Embed).sit(Some(&declared(Task::Embed)), &[[1; 16]]);
    assert_eq!(
        behaviour.line,
        Line::passed("1 probe as declared, max difference 0.0e0, 1 challenge")
    );
    assert_eq!(behaviour.differences.embed, Finite::new(0.0));
    assert_eq!((behaviour.bits_per_byte, behaviour.challenges.len()), (None, 1));

    let behaviour = Toy::new(Task::Generate).sit(Some(&declared(Task::Generate)), &[[1; 16], [2; 16]]);
    assert_eq!(behaviour.line.verdict, Verdict::Passed, "{:?}", behaviour.line);
    assert!(
        behaviour
            .line
            .text
            .starts_with("3 probes as declared, max difference"),
        "{:?}",
        behaviour.line
    );
    assert!(behaviour.bits_per_byte.is_some() && behaviour.challenges.len() == 2);
    assert!(behaviour.differences.logits.is_some() && behaviour.differences.nll.is_some());
}

#[test]
fn model_without_probes_passes_and_that_is_said() {
    let behaviour = Toy::new(Task::Embed).sit(None, &[[1; 16]]);
    assert_eq!(
        behaviour.line,
        Line::passed("no probes are declared, 1 challenge")
    );
    assert_eq!(behaviour.differences, Differences::default());
}

#[test]
fn other_weights_are_caught_by_every_kind_of_probe() {
    let mut toy = Toy::new(Task::Embed);
    toy.scale = 1.05;
    let behaviour = toy.sit(Some(&declared(Task::Embed)), &[[1; 16]]);
    assert_eq!(behaviour.line.verdict, Verdict::Failed);
    assert!(
        behaviour.line.text.contains("probe 1: the embedding differs by"),
        "{:?}",
        behaviour.line
    );
    // What others can repeat is there nevertheless.
    assert_eq!(behaviour.challenges.len(), 1);
    let honest = Toy::new(Task::Embed).sit(None, &[[1; 16]]);
    assert!(!challenge::agree(&behaviour.challenges[0], &honest.challenges[0]));

    for (at, word) in [(0, "the logits differs"), (2, "the likelihood")] {
        let mut toy = Toy::new(Task::Generate);
        toy.scale = 1.05;
        let mut one = declared(Task::Generate);
        one.probes = vec![one.probes[at].clone()];
        let behaviour = toy.sit(Some(&one), &[[1; 16]]);
        assert_eq!(behaviour.line.verdict, Verdict::Failed);
        assert!(behaviour.line.text.contains(word), "{:?}", behaviour.line);
    }
    let mut swapped = declared(Task::Generate);
    let Probe::Greedy(greedy) = &mut swapped.probes[1] else {
        panic!("the second is a continuation");
    };
    greedy.tokens[3] = (greedy.tokens[3] + 1) % VOCABULARY;
    let behaviour = Toy::new(Task::Generate).sit(Some(&swapped), &[[1; 16]]);
    assert!(
        behaviour.line.text.contains("3 of 5 declared tokens follow"),
        "{:?}",
        behaviour.line
    );
}

#[test]
fn other_tokenizer_is_told_from_other_weights() {
    let mut toy = Toy::new(Task::Embed);
    toy.shift = 1;
    let behaviour = toy.sit(Some(&declared(Task::Embed)), &[[1; 16]]);
    let wanted = "the tokenizer differs: 1 text of the probes are other tokens";
    assert_eq!(behaviour.line, Line::failed(wanted));
    assert_eq!(behaviour.differences.embed, Finite::new(0.0));
}

#[test]
fn what_is_no_number_fails_wherever_it_comes_out() {
    // Of an encoder: the text, its embedding, then sixteen prompts.
    let nan = vec![f32::NAN; 24];
    for at in [1, 2, 17] {
        let mut toy = Toy::new(Task::Embed);
        toy.breaks = Some((at, Answer::Embedding(nan.clone())));
        let behaviour = toy.sit(Some(&declared(Task::Embed)), &[[1; 16]]);
        assert_eq!(behaviour.line.verdict, Verdict::Failed, "{at}");
        assert!(
            behaviour.line.text.contains("no number"),
            "{at}: {:?}",
            behaviour.line
        );
    }
    // Of a model that goes on with texts: the text, three probes, sixteen prompts, the fixed text, its bits.
    let rows = vec![
        Row {
            top: vec![(0, f32::NAN); 12],
            lse: f32::NAN,
            next: Some(f32::NAN),
        };
        32
    ];
    for at in [1, 2, 3, 4, 19, 21] {
        let mut toy = Toy::new(Task::Generate);
        toy.breaks = Some((at, Answer::Logits(rows.clone(), Hash::of(b""))));
        let behaviour = toy.sit(Some(&declared(Task::Generate)), &[[1; 16]]);
        assert_eq!(behaviour.line.verdict, Verdict::Failed, "{at}");
    }
}

#[test]
fn answer_of_another_kind_or_length_and_a_fault_fail_at_every_question() {
    let answers = [
        Answer::Fault(Fault::NotANumber("NaN".to_owned())),
        Answer::Tokens(Vec::new()),
        Answer::Embedding(Vec::new()),
        Answer::Logits(Vec::new(), Hash::of(b"")),
    ];
    for (task, questions) in [(Task::Embed, 18), (Task::Generate, 22)] {
        let mut honest = Toy::new(task);
        honest.sit(Some(&declared(task)), &[[1; 16]]);
        assert_eq!(honest.asked, questions);
        for at in 0..questions {
            for answer in &answers {
                let mut toy = Toy::new(task);
                toy.breaks = Some((at, answer.clone()));
                let behaviour = toy.sit(Some(&declared(task)), &[[1; 16]]);
                assert_eq!(
                    behaviour.line.verdict,
                    Verdict::Failed,
                    "{task:?} {at} {answer:?}"
                );
            }
        }
    }
}

#[test]
fn probes_of_another_kind_of_model_fail() {
    let behaviour = Toy::new(Task::Embed).sit(Some(&declared(Task::Generate)), &[[1; 16]]);
    assert_eq!(behaviour.line.verdict, Verdict::Failed);
    assert!(
        behaviour.line.text.contains("the model does not do that"),
        "{:?}",
        behaviour.line
    );
    assert_eq!(behaviour.challenges.len(), 1);
}

#[test]
fn short_model_is_not_passed_for_nobody_can_repeat_it() {
    let mut toy = Toy::new(Task::Embed);
    let short = Examinee {
        context: 16,
        ..toy.examinee()
    };
    let behaviour = toy.sit_as(short, Some(&declared(Task::Embed)), &[[1; 16]]);
    assert_eq!(behaviour.line.verdict, Verdict::NotDone, "{:?}", behaviour.line);
    let unknown = Examinee {
        vocabulary: None,
        ..toy.examinee()
    };
    let behaviour = toy.sit_as(unknown, Some(&declared(Task::Embed)), &[[1; 16]]);
    assert_eq!(behaviour.line.verdict, Verdict::NotDone, "{:?}", behaviour.line);
    let mut toy = Toy::new(Task::Generate);
    let shorter = Examinee {
        context: 64,
        ..toy.examinee()
    };
    let behaviour = toy.sit_as(shorter, None, &[[1; 16]]);
    assert_eq!(
        (behaviour.line.verdict, behaviour.bits_per_byte),
        (Verdict::Passed, None)
    );
    assert!(
        behaviour.line.text.ends_with("the fixed text is too long for it"),
        "{:?}",
        behaviour.line
    );
}

#[test]
fn two_who_take_the_same_nonce_get_the_same_results() {
    let one = Toy::new(Task::Generate).sit(None, &[[1; 16], [2; 16]]);
    let other = Toy::new(Task::Generate).sit(None, &[[2; 16], [1; 16]]);
    assert_eq!(one.challenges[0], other.challenges[1]);
    assert!(challenge::agree(&one.challenges[1], &other.challenges[0]));
    assert_ne!(one.challenges[0].numbers, one.challenges[1].numbers);
}
