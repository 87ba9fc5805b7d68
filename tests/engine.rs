//! What a model may do to the process that it runs in, and what the node makes of it: a typed error, in bounded time.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use node::engine::child;
use node::engine::session::{Engine, EngineConfig, EngineError};
use node::engine::wire::{Bytes, Given, Loaded, Weights};
use protocol::Hash;

/// Longest that an engine may take for one ask here.
const WALL: Duration = Duration::from_secs(8);

/// Longest that anything may take here.
const PATIENCE: Duration = Duration::from_secs(60);

/// Memory that an engine may take here.
const MEMORY: u64 = 512 << 20;

fn config() -> EngineConfig {
    EngineConfig {
        program: Some(PathBuf::from(env!("CARGO_BIN_EXE_misbehaver"))),
        memory: Some(MEMORY),
        cpu: Some(Duration::from_secs(4)),
        wall: WALL,
    }
}

/// What tells an engine how to misbehave.
fn told(how: &str) -> Vec<Given> {
    vec![Given {
        path: how.to_owned(),
        size: 0,
        blake3: Hash::EMPTY,
        bytes: Bytes::Inline(String::new()),
    }]
}

async fn misbehave(how: &str) -> (Result<Loaded, EngineError>, Engine) {
    let mut engine = Engine::start(&config()).await.unwrap();
    let load = engine.load(told(how), Weights::F32, |_| ());
    let outcome = tokio::time::timeout(PATIENCE, load).await;
    (outcome.unwrap_or_else(|_| panic!("{how} took too long")), engine)
}

/// What becomes of an engine that does this, and whether the error is the one that is due.
async fn expect(how: &str, is: impl Fn(&EngineError) -> bool) {
    let (outcome, engine) = misbehave(how).await;
    let error = outcome.map(drop).unwrap_err();
    assert!(is(&error), "{how}: {error:?}");
    let doors = engine.doors().unwrap();
    assert!(
        doors.syscalls && doors.missing.is_empty(),
        "{how}: this machine lacks {:?}",
        doors.missing
    );
    assert_eq!((doors.memory, doors.cpu_s), (Some(MEMORY), Some(4)));
    assert!(!engine.is_alive(), "{how}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_model_does_is_a_typed_error_in_bounded_time() {
    use EngineError::*;

    let begun = Instant::now();
    expect(
        "panic",
        |error| matches!(error, Panicked { said } if said.contains("the tensor is bent")),
    )
    .await;
    expect("abort", |error| matches!(error, Crashed { signal: 6, .. })).await;
    expect("recurse", |error| matches!(error, Crashed { signal: 6 | 11, .. })).await;
    expect("loop", |error| matches!(error, Cpu { limit_s: 4 })).await;
    expect("sleep", |error| matches!(error, Wall { limit } if *limit == WALL)).await;
    for how in ["fork", "exec", "thread", "connect"] {
        expect(how, |error| matches!(error, Forbidden)).await;
    }
    for how in ["open", "create"] {
        expect(
            how,
            |error| matches!(error, Panicked { said } if said.contains("Operation not permitted")),
        )
        .await;
    }
    for how in ["allocate", "fill"] {
        expect(how, |error| matches!(error, Memory { limit: Some(MEMORY) })).await;
    }
    expect(
        "exit",
        |error| matches!(error, Ended { code: 7, said } if said == "enough"),
    )
    .await;
    for how in ["garbage", "endless", "other", "twice"] {
        expect(how, |error| matches!(error, Nonsense { .. })).await;
    }
    expect("mute", |error| matches!(error, Wall { .. })).await;
    expect("chatter", |error| matches!(error, Wall { .. } | Cpu { .. })).await;
    // Four of them use up their time.
    assert!(begun.elapsed() < 4 * WALL + PATIENCE, "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn engine_inherits_no_descriptor_and_no_variable() {
    // One that would be inherited: not closed at an exec.
    let file = std::fs::File::open("/proc/self/status").unwrap();
    rustix::io::fcntl_setfd(&file, rustix::io::FdFlags::empty()).unwrap();
    let (outcome, _engine) = misbehave("inherited").await;
    // It ends well, but early: it found nothing to complain about.
    assert!(
        matches!(outcome, Err(EngineError::Ended { code: 0, .. })),
        "{outcome:?}"
    );
}

/// The engines that a process started and that have this among their arguments, by Linux's word.
fn children(parent: u32, of: &str) -> Vec<String> {
    let parent = parent.to_string();
    let all = std::fs::read_dir("/proc").unwrap();
    // Not the lists of the parent's threads: a child is in none of them for a moment when the thread that started it ends.
    let is_child = |process: &Path| {
        let stat = std::fs::read_to_string(process.join("stat")).unwrap_or_default();
        // Behind the name, which may hold anything: the state, then the parent.
        let behind = stat.rsplit(") ").next().unwrap_or_default();
        let line = std::fs::read(process.join("cmdline")).unwrap_or_default();
        behind.split(' ').nth(1) == Some(&parent) && String::from_utf8_lossy(&line).contains(of)
    };
    let found = all
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| is_child(path));
    found
        .filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn engine_ends_when_nobody_waits_for_its_answer_any_more() {
    // A name of its own, by its bounds, among the engines of other tests.
    let memory = MEMORY + 4711;
    let config = EngineConfig {
        memory: Some(memory),
        ..config()
    };
    let mut engine = Engine::start(&config).await.unwrap();
    let marked = memory.to_string();
    assert_eq!(children(std::process::id(), &marked).len(), 1);
    let gone = tokio::time::timeout(
        Duration::from_millis(200),
        engine.load(told("sleep"), Weights::F32, |_| ()),
    );
    assert!(gone.await.is_err());
    let again = engine.tokens("a", true).await.unwrap_err();
    assert!(matches!(again, EngineError::Cancelled), "{again:?}");
    let deadline = Instant::now() + PATIENCE;
    while !children(std::process::id(), &marked).is_empty() {
        assert!(Instant::now() < deadline, "it is still there");
        tokio::task::yield_now().await;
    }
}

/// A process that is killed and waited for, whatever becomes of the test.
struct Stopped(std::process::Child);

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn engine_never_outlives_its_parent() {
    let mut parent = Stopped(
        Command::new(env!("CARGO_BIN_EXE_misbehaver"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    let mut line = String::new();
    let mut said = BufReader::new(parent.0.stdout.take().unwrap());
    said.read_line(&mut line).unwrap();
    assert_eq!(line, "started\n");
    let deadline = Instant::now() + PATIENCE;
    // What was forked bears its parent's name until it is a program of its own.
    let engine = loop {
        match children(parent.0.id(), child::ARGUMENT).as_slice() {
            [engine] => break engine.clone(),
            engines => assert!(Instant::now() < deadline, "one engine: {engines:?}"),
        }
        std::thread::yield_now();
    };
    // As a power cut of the parent alone would: it can do nothing more.
    drop(parent);
    let runs =
        || std::fs::read_to_string(format!("/proc/{engine}/stat")).is_ok_and(|stat| !stat.contains(") Z "));
    while runs() {
        assert!(Instant::now() < deadline, "it outlives its parent");
        std::thread::yield_now();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn program_that_is_no_engine_is_told_from_one() {
    let none = EngineConfig {
        program: Some(PathBuf::from("/nowhere/engine")),
        ..config()
    };
    let error = Engine::start(&none).await.unwrap_err();
    assert!(matches!(error, EngineError::Start { .. }), "{error:?}");
    for (program, code) in [("/bin/true", 0), ("/bin/false", 1)] {
        let other = EngineConfig {
            program: Some(PathBuf::from(program)),
            ..config()
        };
        let mut engine = Engine::start(&other).await.unwrap();
        let error = engine.load(told("x"), Weights::F32, |_| ()).await.unwrap_err();
        assert!(
            matches!(error, EngineError::Ended { code: found, .. } if found == code),
            "{error:?}"
        );
    }
}
