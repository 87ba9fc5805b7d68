//! Who sends anything else than the protocol: typed errors, bounded answers, an end.

use super::{
    super::{
        super::set::{Item, Snapshot},
        Answerer, MESSAGE_LEN_MAX, Next, Opener, ROUNDS_MAX, ReconcileError,
        answerer::{Asks, Questions},
        message::{Edge, VERSION, Writer, answer, end, question, start},
    },
    ANSWERER, OPENER, random, session, snapshot,
};
use proptest::{collection::vec, prelude::*, sample::Index};
use rand::{Rng, SeedableRng, rngs::StdRng};

fn set(seed: u64, count: usize) -> Snapshot {
    let mut rng = StdRng::seed_from_u64(seed);
    snapshot((0..count).map(|_| random(&mut rng, 5_000)))
}

/// An answerer that was greeted.
fn answerer(set: Snapshot) -> Answerer {
    let mut answerer = Answerer::new(set, ANSWERER);
    answerer.take(&[&[VERSION], OPENER.as_slice()].concat()).unwrap();
    answerer
}

/// An opener that was greeted, and its first ask.
fn opener(set: Snapshot) -> (Opener, Vec<u8>) {
    let (mut opener, _) = Opener::new(set, OPENER);
    let greeting = [&[VERSION], ANSWERER.as_slice(), &[0]].concat();
    match opener.take(&greeting).ok().map(|step| step.next) {
        Some(Next::Ask(ask)) => (opener, ask),
        _ => panic!("no ask after the greeting"),
    }
}

/// Changes a message somewhere.
fn broken(message: &[u8], at: Index, byte: u8, how: u8) -> Vec<u8> {
    let mut message = message.to_vec();
    if message.is_empty() {
        return vec![byte];
    }
    let at = at.index(message.len());
    match how % 4 {
        0 => message[at] ^= 1 << (byte % 8),
        1 => message.truncate(at),
        2 => message.insert(at, byte),
        _ => drop(message.remove(at)),
    }
    message
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn any_bytes_get_an_answer_or_an_error(messages in vec(vec(any::<u8>(), 0..200), 1..5)) {
        let mut greeted = answerer(set(1, 100));
        let mut fresh = Answerer::new(set(1, 100), ANSWERER);
        let (mut asking, _) = opener(set(2, 100));
        let (mut opening, _) = Opener::new(set(2, 100), OPENER);
        for message in messages {
            for told in [greeted.take(&message), fresh.take(&message)].into_iter().flatten() {
                prop_assert!(told.len() <= MESSAGE_LEN_MAX);
            }
            for step in [asking.take(&message), opening.take(&message)].into_iter().flatten() {
                prop_assert!(step.need.len() <= message.len() / 32);
            }
        }
    }

    #[test]
    fn a_session_with_broken_messages_ends_by_itself(
        breaks in vec((any::<Index>(), any::<u8>(), 0u8..12), 1..20), seeds: [u64; 2],
    ) {
        let (theirs, ours) = (set(seeds[0], 700), set(seeds[1], 500));
        let mut answerer = answerer(theirs);
        let (mut opener, mut ask) = opener(ours.clone());
        let mut breaks = breaks.into_iter().cycle();
        // A few of the messages are broken, in turns.
        let mut pass = |message: Vec<u8>| match breaks.next() {
            Some((at, byte, how)) if how < 4 => broken(&message, at, byte, how),
            _ => message,
        };
        for round in 0.. {
            prop_assert!(round <= ROUNDS_MAX);
            let Ok(told) = answerer.take(&pass(ask)) else { break };
            let Ok(step) = opener.take(&pass(told)) else { break };
            prop_assert!(step.need.iter().all(|item| !ours.contains(item)));
            match step.next {
                Next::Ask(next) => ask = next,
                _ => break,
            }
        }
        prop_assert_eq!(ours.len(), ours.iter().count());
    }
}

/// Answers at random, in good form: what it tells is never true.
fn lie(rng: &mut StdRng, ask: &[u8], mut kinds: impl FnMut(&mut StdRng) -> u8) -> Vec<u8> {
    let mut questions = Questions::new(ask).unwrap();
    let mut writer = Writer::new();
    while let Some(question) = questions.next().unwrap() {
        if !writer.has_room(1_000) {
            break;
        }
        writer.at = question.high.issued;
        // Bounds within the range, descending.
        let mut within = |count: usize| -> Vec<Edge> {
            let top = question.high.issued.min(6_000).max(question.low.issued);
            let mut edges: Vec<Edge> = (0..count)
                .map(|_| Edge {
                    issued: rng.random_range(question.low.issued..=top),
                    id: rng.random(),
                })
                .filter(|edge| (question.low..question.high).contains(edge) && *edge != question.low)
                .collect();
            edges.sort_unstable_by(|a, b| b.cmp(a));
            edges
        };
        match question.asks {
            Asks::Fingerprint(_) => {
                let edges = within(15);
                match kinds(rng) {
                    0 => writer.bytes.push(answer::SAME),
                    1 => writer.bytes.push(answer::SPLIT),
                    2 => writer.bytes.push(answer::FEW),
                    _ if edges.is_empty() => writer.bytes.push(answer::SPLIT),
                    _ => {
                        writer.bytes.push((edges.len() as u8 + 1) << 2 | answer::SPLIT);
                        for edge in edges {
                            writer.edge(&edge, 0);
                            writer.bytes.extend_from_slice(&rng.random::<[u8; 8]>());
                        }
                        writer.bytes.extend_from_slice(&rng.random::<[u8; 8]>());
                    }
                }
            }
            Asks::List(_, count) => {
                let edges = within(2);
                let cut = !edges.is_empty() && rng.random_ratio(1, 50);
                writer.bytes.push(u8::from(cut) << 2 | answer::DIFFERENCE);
                writer.bytes.extend(vec![0; count.div_ceil(8)]);
                writer.varint(edges.len() as u64);
                for edge in edges {
                    writer.item(&Item::new(edge.issued, edge.id).unwrap());
                }
                if cut {
                    break;
                }
            }
        }
    }
    writer.bytes
}

#[test]
fn a_liar_in_good_form_is_done_with_after_bounded_rounds() {
    for seed in 0..40 {
        let mut rng = StdRng::seed_from_u64(seed);
        let ours = set(seed, 3_000);
        let (mut opener, mut ask) = opener(ours.clone());
        let mut asks = 1;
        loop {
            // Some split for ever, some do everything.
            let kinds = |rng: &mut StdRng| if seed % 2 == 0 { 3 } else { rng.random_range(0..5) };
            let told = lie(&mut rng, &ask, kinds);
            let step = match opener.take(&told) {
                Ok(step) => step,
                Err(error) => {
                    assert_eq!(error, ReconcileError::Work);
                    break;
                }
            };
            assert!(step.need.iter().all(|item| !ours.contains(item)));
            assert!(step.have.iter().all(|item| ours.contains(&item)));
            match step.next {
                Next::Ask(next) => ask = next,
                _ => break,
            }
            asks += 1;
            assert!(asks <= ROUNDS_MAX);
        }
        assert_eq!(opener.take(&[]).err(), Some(ReconcileError::Ended));
    }
}

#[test]
fn ranges_that_wait_are_bounded_and_the_newest_are_kept() {
    // Thousands of small parts, each of which seems to differ, in answer to every question.
    let item = |n: u64| Item::new(n, blake3::hash(&n.to_le_bytes()).into()).unwrap();
    let (mut opener, mut ask) = opener(snapshot((0..600_000).map(item)));
    let mut asks = 1;
    let end = loop {
        let mut rng = StdRng::seed_from_u64(asks);
        let told = {
            let mut questions = Questions::new(&ask).unwrap();
            let mut writer = Writer::new();
            while let Some(question) = questions.next().unwrap().filter(|_| writer.has_room(1_000)) {
                match question.asks {
                    Asks::List(_, count) => {
                        writer.bytes.push(answer::DIFFERENCE);
                        writer.bytes.extend(vec![0; count.div_ceil(8) + 1]);
                    }
                    Asks::Fingerprint(_) => {
                        let (low, high) = (question.low.issued, question.high.issued.min(600_000));
                        let parts = (high.saturating_sub(low) / 40).clamp(1, 16);
                        writer.at = question.high.issued;
                        writer
                            .bytes
                            .push(if parts == 1 { 0 } else { parts as u8 } << 2 | answer::SPLIT);
                        for part in (1..parts).rev() {
                            writer.edge(&start(low + part * (high - low) / parts), 0);
                            writer.bytes.extend_from_slice(&rng.random::<[u8; 8]>());
                        }
                        writer
                            .bytes
                            .extend_from_slice(if parts == 1 { &[] } else { &[9; 8] });
                    }
                }
            }
            writer.bytes
        };
        let step = match opener.take(&told) {
            Ok(step) => step,
            Err(error) => break Err(error),
        };
        assert!(opener.memory() < 32 << 20, "{} bytes", opener.memory());
        match step.next {
            Next::Ask(next) => ask = next,
            end => break Ok(end),
        }
        asks += 1;
    };
    assert!(
        matches!(end, Ok(Next::Cut | Next::Done) | Err(ReconcileError::Work)),
        "{end:?}"
    );
}

/// An ask about everything, in one question.
fn whole(kind: u8, rest: &[u8]) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.edge(&start(0), kind);
    [writer.bytes.as_slice(), rest].concat()
}

#[test]
fn who_asks_on_and_on_is_refused() {
    let mut patient = answerer(set(1, 100));
    for _ in 0..ROUNDS_MAX {
        patient.take(&whole(question::FINGERPRINT, &[9; 8])).unwrap();
    }
    let more = whole(question::FINGERPRINT, &[9; 8]);
    assert_eq!(patient.take(&more).err(), Some(ReconcileError::Rounds));
    assert_eq!(patient.take(&more).err(), Some(ReconcileError::Ended));

    // 600,000 items: sixteen times is more than what everybody gets.
    let item = |n: u64| Item::new(n, blake3::hash(&n.to_le_bytes()).into()).unwrap();
    let mut busy = answerer(snapshot((0..600_000).map(item)));
    for _ in 0..15 {
        busy.take(&more).unwrap();
    }
    assert_eq!(busy.take(&more).err(), Some(ReconcileError::Work));
    assert_eq!(busy.take(&more).err(), Some(ReconcileError::Ended));

    // Many small questions cost too, though there is nothing to go over.
    let mut many = Writer::new();
    for issued in (0..150_000).rev() {
        many.edge(&start(issued), question::LIST);
        many.bytes.push(0);
    }
    let mut idle = answerer(snapshot([]));
    assert_eq!(idle.take(&many.bytes).err(), Some(ReconcileError::Work));
}

#[test]
fn whoever_breaks_a_rule_of_form_is_told_which() {
    let time = |down: u64| {
        let mut writer = Writer::new();
        writer.varint(down);
        writer.bytes
    };
    let top = end().issued;
    let join = |parts: &[&[u8]]| parts.concat();
    let asks: Vec<(&str, Vec<u8>, ReconcileError)> = vec![
        ("nothing", vec![], ReconcileError::Silent),
        ("only a skip", whole(question::SKIP, &[]), ReconcileError::Silent),
        (
            "two skips",
            join(&[&[1, 0], &[1, 0], &[1, 1], &[0; 8]]),
            ReconcileError::Kind(0),
        ),
        (
            "a skip at the end",
            join(&[&[1, 1], &[0; 8], &[1, 0]]),
            ReconcileError::Silent,
        ),
        ("an unknown kind", whole(3, &[]), ReconcileError::Kind(3)),
        (
            "a short fingerprint",
            whole(question::FINGERPRINT, &[0; 7]),
            ReconcileError::Short,
        ),
        ("no kind", time(top), ReconcileError::Short),
        (
            "a short list",
            whole(question::LIST, &[2, 0, 0, 0, 0, 0, 0, 0, 0]),
            ReconcileError::Short,
        ),
        (
            "a long list",
            whole(question::LIST, &[[17].as_slice(), &[0; 17 * 8]].concat()),
            ReconcileError::Number,
        ),
        (
            "a time below 0",
            join(&[&time(top + 1), &[1], &[0; 8]]),
            ReconcileError::Order,
        ),
        ("an empty range", join(&[&[0, 1], &[0; 8]]), ReconcileError::Order),
        (
            "a range upwards",
            join(&[&[1, 4 | 1, 5], &[0; 8], &[0, 4 | 1, 6], &[0; 8]]),
            ReconcileError::Order,
        ),
        (
            "a long prefix",
            join(&[&[1, 33 << 2 | 1], &[1; 33], &[0; 8]]),
            ReconcileError::Bound,
        ),
        (
            "a prefix that ends with 0",
            join(&[&[1, 2 << 2 | 1, 1, 0], &[0; 8]]),
            ReconcileError::Bound,
        ),
        ("a short prefix", vec![1, 2 << 2 | 1, 1], ReconcileError::Short),
        (
            "a number with a 0 too many",
            join(&[&[0x81, 0, 1], &[0; 8]]),
            ReconcileError::Number,
        ),
        (
            "a number of 65 bits",
            join(&[&[0xff; 9], &[2, 1], &[0; 8]]),
            ReconcileError::Number,
        ),
        (
            "a number of 11 bytes",
            join(&[&[0x80; 10], &[1, 1], &[0; 8]]),
            ReconcileError::Number,
        ),
        (
            "too many bytes",
            vec![0; MESSAGE_LEN_MAX + 1],
            ReconcileError::TooLong {
                len: MESSAGE_LEN_MAX + 1,
            },
        ),
    ];
    for (what, ask, error) in asks {
        assert_eq!(answerer(set(1, 50)).take(&ask).err(), Some(error), "{what}");
    }
    let hello = [&[VERSION], OPENER.as_slice()].concat();
    for (what, hello, error) in [
        ("nothing", &[][..], ReconcileError::Short),
        ("half a nonce", &hello[..9], ReconcileError::Short),
        ("another version", &[2; 17], ReconcileError::Version(2)),
        ("more", &[hello.as_slice(), &[0]].concat(), ReconcileError::Long),
    ] {
        let mut answerer = Answerer::new(set(1, 50), ANSWERER);
        assert_eq!(answerer.take(hello).err(), Some(error), "greeting: {what}");
    }
}

/// Sets of 40 items are asked about in four ranges of ten, by fingerprints.
#[test]
fn whoever_answers_something_else_is_told_what() {
    let ours = snapshot((0..40).map(|n| Item::new(100 + n, [7; 32]).unwrap()));
    let tells: Vec<(&str, Vec<u8>, ReconcileError)> = vec![
        ("nothing", vec![], ReconcileError::Silent),
        (
            "five ranges are the same",
            vec![4 << 2 | answer::SAME],
            ReconcileError::Unasked,
        ),
        (
            "two and three are",
            vec![1 << 2 | answer::SAME, 2 << 2 | answer::SAME],
            ReconcileError::Unasked,
        ),
        (
            "items in full, too many",
            vec![2 << 2 | answer::FEW],
            ReconcileError::Kind(2 << 2 | answer::FEW),
        ),
        (
            "a difference where nothing was listed",
            vec![answer::DIFFERENCE, 0, 0],
            ReconcileError::Unasked,
        ),
        ("one part", vec![1 << 2 | answer::SPLIT], ReconcileError::Number),
        (
            "seventeen parts",
            vec![17 << 2 | answer::SPLIT],
            ReconcileError::Number,
        ),
        ("no bound", vec![2 << 2 | answer::SPLIT], ReconcileError::Short),
        (
            "an item half told",
            vec![1 << 2 | answer::FEW, 0, 1, 2],
            ReconcileError::Short,
        ),
        (
            "an item past the end",
            [&[1 << 2 | answer::FEW, 0][..], &[7; 32]].concat(),
            ReconcileError::Order,
        ),
    ];
    for (what, tell, error) in tells {
        let (mut opener, _) = opener(ours.clone());
        assert_eq!(opener.take(&tell).err(), Some(error), "{what}");
        assert_eq!(opener.take(&[0]).err(), Some(ReconcileError::Ended), "{what}");
    }
    // The newest range reaches from 130 on; below is not its business.
    let split = |edge: &Edge, bits: u8| {
        let mut writer = Writer::new();
        writer.bytes.push(2 << 2 | answer::SPLIT);
        writer.edge(edge, bits);
        [writer.bytes.as_slice(), &[0; 16]].concat()
    };
    let few = |issued: u64| {
        let mut writer = Writer::new();
        writer.bytes.push(1 << 2 | answer::FEW);
        writer.item(&Item::new(issued, [9; 32]).unwrap());
        writer.bytes
    };
    for (what, tell, error) in [
        ("a part below", split(&start(129), 0), ReconcileError::Outside),
        (
            "a part that is all",
            split(&start(130), 0),
            ReconcileError::Outside,
        ),
        ("a part above", split(&end(), 0), ReconcileError::Order),
        (
            "a part with a kind",
            split(&start(135), 1),
            ReconcileError::Kind(1),
        ),
        ("an item below", few(129), ReconcileError::Outside),
    ] {
        let (mut opener, _) = opener(ours.clone());
        assert_eq!(opener.take(&tell).err(), Some(error), "{what}");
    }
    assert!(opener(ours.clone()).0.take(&few(130)).is_ok());
    assert!(opener(ours).0.take(&split(&start(135), 0)).is_ok());
}

/// Sets of 10 items are listed at once.
#[test]
fn whoever_tells_false_differences_is_told_what() {
    let ours = snapshot((0..10).map(|n| Item::new(100 + n, [7; 32]).unwrap()));
    let tell = |head: u8, bits: [u8; 2], count: u64, items: &[(u64, u8)]| {
        let mut writer = Writer::new();
        writer.bytes.push(head << 2 | answer::DIFFERENCE);
        writer.bytes.extend_from_slice(&bits);
        writer.varint(count);
        for (issued, byte) in items {
            writer.item(&Item::new(*issued, [*byte; 32]).unwrap());
        }
        writer.bytes
    };
    for (what, tell, error) in [
        ("the same", vec![answer::SAME], ReconcileError::Unasked),
        (
            "a difference of unknown kind",
            tell(2, [0, 0], 0, &[]),
            ReconcileError::Kind(2 << 2 | answer::DIFFERENCE),
        ),
        ("no bits", vec![answer::DIFFERENCE, 0], ReconcileError::Short),
        ("a bit for none", tell(0, [0, 4], 0, &[]), ReconcileError::Number),
        (
            "an item that is listed",
            tell(0, [0, 0], 1, &[(105, 7)]),
            ReconcileError::Known,
        ),
        (
            "an item twice",
            tell(0, [0, 0], 2, &[(105, 8), (105, 8)]),
            ReconcileError::Order,
        ),
        (
            "items upwards",
            tell(0, [0, 0], 2, &[(105, 8), (105, 9)]),
            ReconcileError::Order,
        ),
        (
            "more than come",
            tell(0, [0, 0], 1 << 60, &[(105, 8)]),
            ReconcileError::Short,
        ),
        (
            "a cut before anything",
            tell(1, [0, 0], 0, &[]),
            ReconcileError::Silent,
        ),
        (
            "more after a cut",
            [tell(1, [0, 0], 1, &[(105, 8)]), vec![0]].concat(),
            ReconcileError::Long,
        ),
        (
            "an answer too many",
            [tell(0, [0, 0], 0, &[]), vec![0]].concat(),
            ReconcileError::Unasked,
        ),
    ] {
        let (mut opener, _) = opener(ours.clone());
        assert_eq!(opener.take(&tell).err(), Some(error), "{what}");
    }
    // A cut settles what is above it only.
    let (mut opener, _) = opener(ours);
    let step = opener
        .take(&tell(1, [0b11, 0], 1, &[(105, 8)]))
        .unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(
        step.have.iter().map(|item| item.issued()).collect::<Vec<_>>(),
        [107, 106]
    );
    assert!(matches!(step.next, Next::Ask(_)));
}

#[test]
fn greeting_with_a_floor_past_all_times_is_refused() {
    let mut writer = Writer::new();
    writer.bytes.push(VERSION);
    writer.bytes.extend_from_slice(&ANSWERER);
    writer.varint(u64::MAX);
    let (mut opener, _) = Opener::new(set(1, 9), OPENER);
    assert_eq!(opener.take(&writer.bytes).err(), Some(ReconcileError::Number));
}

/// The set cannot be made to look like another one by who knows no nonce: here, by who knows another one.
#[test]
fn what_is_found_does_not_depend_on_the_nonces() {
    let (one, other) = (set(1, 900), set(2, 900));
    let known = session(&one, &other);
    for nonce in 3..20 {
        let (mut opener, first) = Opener::new(one.clone(), [nonce; 16]);
        let mut answerer = Answerer::new(other.clone(), [nonce + 50; 16]);
        let mut told = answerer.take(&first).unwrap();
        let mut need = Vec::new();
        loop {
            let step = opener.take(&told).unwrap_or_else(|error| panic!("{error}"));
            need.extend(step.need);
            match step.next {
                Next::Ask(ask) => told = answerer.take(&ask).unwrap(),
                _ => break,
            }
        }
        need.sort_unstable();
        let mut expected = known.need.clone();
        expected.sort_unstable();
        assert_eq!(need, expected);
    }
}
