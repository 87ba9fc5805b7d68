//! An engine that misbehaves: it enters and closes the doors as a real one does, and then does what the path of the first file it
//! is given says. The tests look at what becomes of it.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "an engine speaks to its node over stdout, and its last words go to stderr"
)]

use std::fs::File;
use std::io::{BufRead, Write, stdin, stdout};
use std::net::TcpStream;
use std::process::{Command, ExitCode, abort, exit};
use std::thread;
use std::time::Duration;

use node::engine::child;
use node::engine::doors::start_threads;
use node::engine::session::{Engine, EngineConfig};
use node::engine::wire::{Ask, Bytes, Given, Said, Weights};
use protocol::Hash;

fn main() -> ExitCode {
    let Some(Ok(doorway)) = child::enter(std::env::args_os()) else {
        return parent();
    };
    let mut line = String::new();
    stdin().lock().read_line(&mut line).expect("an ask");
    let Ok(Ask::Load { files, .. }) = serde_json::from_str(&line) else {
        return ExitCode::FAILURE;
    };
    let how = files.first().map_or("", |file| file.path.as_str());
    if how == "inherited" {
        // Before the doors are closed: what is open can still be looked at.
        let open = std::fs::read_dir("/proc/self/fd").expect("Linux").count();
        // Stdin, stdout, stderr, and the folder that is read.
        assert_eq!(open, 4, "descriptors");
        assert_eq!(std::env::vars_os().count(), 0, "variables");
    }
    start_threads();
    say(&Said::Closed(doorway.close()));
    misbehave(how);
    ExitCode::SUCCESS
}

/// Not an engine, but who has one that sleeps; says so, and waits for its own end.
fn parent() -> ExitCode {
    let config = EngineConfig {
        program: std::env::current_exe().ok(),
        ..EngineConfig::default()
    };
    let files = vec![Given {
        path: "sleep".to_owned(),
        size: 0,
        blake3: Hash::EMPTY,
        bytes: Bytes::Inline(String::new()),
    }];
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let mut engine = Engine::start(&config).await.expect("an engine");
        println!("started");
        let _ = engine.load(files, Weights::F32, |_| ()).await;
    });
    ExitCode::FAILURE
}

fn say(said: &Said) {
    let line = serde_json::to_string(said).expect("JSON");
    println!("{line}");
    stdout().flush().expect("somebody listens");
}

fn misbehave(how: &str) {
    match how {
        "panic" => panic!("the tensor is bent"),
        "abort" => abort(),
        "loop" => loop {
            std::hint::black_box(());
        },
        "sleep" => thread::sleep(Duration::from_secs(3600)),
        "fork" | "exec" => drop(Command::new("/bin/true").status()),
        "thread" => drop(thread::Builder::new().spawn(|| ())),
        "connect" => drop(TcpStream::connect("127.0.0.1:9")),
        "open" => {
            let error = File::open("/etc/passwd").expect_err("a file was opened");
            panic!("refused: {error}");
        }
        "create" => {
            let error = File::create("/tmp/engine-was-here").expect_err("a file was made");
            panic!("refused: {error}");
        }
        "allocate" => {
            let huge: Vec<u8> = vec![1; 1 << 40];
            std::hint::black_box(&huge);
        }
        "fill" => {
            let mut kept = Vec::new();
            loop {
                kept.push(vec![1u8; 1 << 20]);
            }
        }
        "recurse" => drop(std::hint::black_box(deeper(1))),
        "exit" => {
            eprintln!("enough");
            exit(7);
        }
        "garbage" => println!("Segmentation fault, or was it?"),
        "endless" => loop {
            let _ = stdout().write_all(&[b'['; 1 << 16]);
        },
        "other" => say(&Said::Tokens(vec![1])),
        "twice" => say(&Said::Closed(Default::default())),
        "mute" => {
            // Says nothing more, and does not end: its last line is not even whole.
            print!("{{\"read\":");
            let _ = stdout().flush();
            thread::sleep(Duration::from_secs(3600));
        }
        "chatter" => loop {
            say(&Said::Read { bytes: 1 });
        },
        "inherited" => say(&Said::Read { bytes: 4 }),
        other => panic!("{other} is nothing that is known"),
    }
}

fn deeper(depth: u64) -> u64 {
    let here = std::hint::black_box([depth; 64]);
    match here[9] {
        0 => 0,
        _ => deeper(depth + 1) + here[7],
    }
}
