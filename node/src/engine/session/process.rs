//! The child process itself: started with nothing but three pipes, heard line by line within bounds, and reaped by a thread of
//! its own. That thread lives as long as the child does: a child goes when the thread that started it goes, and those of a
//! runtime come and go.

use std::{
    io,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    process::{ChildStderr, ChildStdin, ChildStdout},
    sync::{oneshot, watch},
    task::JoinHandle,
    time::timeout,
};

use super::error::{End, EngineError};
use crate::engine::{
    child,
    doors::Bounds,
    wire::{Ask, LINE_LEN_MAX, Said},
};

/// How long a child that has said its last may take to end by itself.
const LAST_WAIT: Duration = Duration::from_secs(2);

/// Bytes of what a child writes to stderr that are kept, the last ones: a message and where it comes from.
const STDERR_KEPT: usize = 2 * 1024;

/// Bytes of a line that makes no sense that are shown.
const SHOWN: usize = 80;

/// The child has ended: it does not listen.
#[derive(Debug)]
pub(super) struct Ended;

/// A child process. Dropping it kills it.
#[derive(Debug)]
pub(super) struct Process {
    bounds: Bounds,
    reins: Arc<Reins>,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    stderr: Option<JoinHandle<String>>,
    ended: watch::Receiver<Option<ExitStatus>>,
}

/// What is needed to kill it, as long as its number is its own.
#[derive(Debug)]
struct Reins {
    pid: Pid,
    reaped: Mutex<bool>,
}

impl Reins {
    /// Kills the child and all that it started, if it was not reaped yet.
    fn kill(&self) {
        let reaped = self.reaped.lock().expect("nothing panics while it holds this");
        if !*reaped {
            // An error means that there is nobody left.
            let _ = kill_process_group(self.pid, Signal::KILL);
        }
    }
}

type Started = (Child, Pid);

impl Process {
    /// Its number.
    pub(super) fn id(&self) -> u32 {
        self.reins.pid.as_raw_nonzero().get().unsigned_abs()
    }

    pub(super) async fn start(program: Option<PathBuf>, bounds: Bounds) -> Result<Process, EngineError> {
        let program = match program {
            Some(program) => program,
            None => this_program().map_err(|source| EngineError::Start {
                program: PathBuf::from("this program"),
                source,
            })?,
        };
        let cannot = |source| EngineError::Start {
            program: program.clone(),
            source,
        };
        let command = command(&program, bounds);
        let (hand_over, handed) = oneshot::channel();
        let (tell, ended) = watch::channel(None);
        thread::Builder::new()
            .name("engine".to_owned())
            .spawn(move || own(command, hand_over, &tell))
            .map_err(cannot)?;
        let gone = || io::Error::other("its thread ended");
        let (mut pipes, reins) = handed.await.map_err(|_| cannot(gone()))?.map_err(cannot)?;
        let killed = |source| {
            reins.kill();
            cannot(source)
        };
        let (stdin, stdout, stderr) = pipes.take().ok_or_else(|| killed(gone()))?;
        let stdin = ChildStdin::from_std(stdin).map_err(killed)?;
        let stdout = ChildStdout::from_std(stdout).map_err(killed)?;
        let stderr = ChildStderr::from_std(stderr).map_err(killed)?;
        Ok(Process {
            bounds,
            stdin,
            stdout: BufReader::new(stdout),
            stderr: Some(tokio::spawn(last_words(stderr))),
            ended,
            reins,
        })
    }

    /// Says a line.
    pub(super) async fn say(&mut self, ask: &Ask) -> Result<(), Ended> {
        let mut line = serde_json::to_vec(ask).expect("strings and numbers are JSON");
        line.push(b'\n');
        let said = self.stdin.write_all(&line).await;
        said.map_err(|_| Ended)
    }

    /// Hears a line; `None`: there will be no more.
    pub(super) async fn hear(&mut self) -> Result<Option<Said>, String> {
        let mut line = Vec::new();
        loop {
            // An error of a pipe is its end.
            let piece = self.stdout.fill_buf().await.unwrap_or_default();
            if piece.is_empty() {
                // A line that broke off says nothing: how the child ended does.
                return Ok(None);
            }
            let end = piece.iter().position(|byte| *byte == b'\n');
            let taken = end.map_or(piece.len(), |end| end + 1);
            line.extend_from_slice(&piece[..taken]);
            self.stdout.consume(taken);
            if line.len() > LINE_LEN_MAX {
                return Err(format!("a line longer than {LINE_LEN_MAX} bytes"));
            }
            if end.is_some() {
                break;
            }
        }
        let nonsense = |error| {
            let shown = String::from_utf8_lossy(&line[..line.len().min(SHOWN)]);
            format!("what is none of its words ({error}): {shown:?}")
        };
        serde_json::from_slice(&line).map(Some).map_err(nonsense)
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended.borrow().is_some()
    }

    pub(super) fn kill(&self) {
        self.reins.kill();
    }

    /// Returns how it ended, once it has; it is killed if it does not soon.
    pub(super) async fn end(&mut self) -> Option<End> {
        let by_itself = timeout(LAST_WAIT, self.ended.wait_for(Option::is_some))
            .await
            .is_ok();
        if !by_itself {
            self.kill();
        }
        // An error means that the thread which reaps it is gone.
        let status = self
            .ended
            .wait_for(Option::is_some)
            .await
            .ok()
            .and_then(|status| *status);
        let said = match self.stderr.take() {
            // Who else holds its stderr was killed with it.
            Some(stderr) => timeout(LAST_WAIT, stderr).await.ok().and_then(Result::ok),
            None => None,
        };
        let said = said.unwrap_or_default();
        status.map(|status| End { status, said })
    }

    pub(super) async fn why_ended(&mut self) -> EngineError {
        match self.end().await {
            Some(end) => EngineError::of(end, self.bounds),
            None => EngineError::Cancelled,
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// This very program, also when its file was replaced meanwhile.
fn this_program() -> io::Result<PathBuf> {
    match cfg!(target_os = "linux") {
        true => Ok(PathBuf::from("/proc/self/exe")),
        false => std::env::current_exe(),
    }
}

fn command(program: &Path, bounds: Bounds) -> Command {
    let mut command = Command::new(program);
    command
        .arg0("shoal-engine")
        .args(child::arguments(bounds))
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // What a terminal sends to us is not for it, and with it goes whatever it started.
        .process_group(0);
    command
}

type Pipes = (
    std::process::ChildStdin,
    std::process::ChildStdout,
    std::process::ChildStderr,
);
type HandedOver = io::Result<(Option<Pipes>, Arc<Reins>)>;

/// Starts the child, hands its pipes over, waits for its end and tells it.
fn own(
    mut command: Command,
    hand_over: oneshot::Sender<HandedOver>,
    tell: &watch::Sender<Option<ExitStatus>>,
) {
    let started = command.spawn().and_then(|child| {
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        Ok::<Started, _>((child, pid.ok_or_else(|| io::Error::other("it has no number"))?))
    });
    let (mut child, pid) = match started {
        Ok(started) => started,
        Err(error) => {
            // Whoever waited for it is gone.
            let _ = hand_over.send(Err(error));
            return;
        }
    };
    let pipes = match (child.stdin.take(), child.stdout.take(), child.stderr.take()) {
        (Some(stdin), Some(stdout), Some(stderr)) => Some((stdin, stdout, stderr)),
        _ => None,
    };
    let reins = Arc::new(Reins {
        pid,
        reaped: Mutex::new(false),
    });
    if hand_over.send(Ok((pipes, reins.clone()))).is_err() {
        reins.kill();
    }
    // Its number stays its own until it is reaped below.
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    while let Err(rustix::io::Errno::INTR) = waitid(WaitId::Pid(pid), options) {}
    let mut reaped = reins.reaped.lock().expect("nothing panics while it holds this");
    let _ = kill_process_group(pid, Signal::KILL);
    let status = child.wait();
    *reaped = true;
    drop(reaped);
    if let Ok(status) = status {
        tell.send_replace(Some(status));
    }
}

/// Reads what the child writes to stderr to its end, and keeps the last of it.
async fn last_words(mut stderr: ChildStderr) -> String {
    let mut kept = Vec::new();
    let mut piece = [0; STDERR_KEPT];
    while let Ok(len @ 1..) = stderr.read(&mut piece).await {
        kept.extend_from_slice(&piece[..len]);
        let beyond = kept.len().saturating_sub(STDERR_KEPT);
        kept.drain(..beyond);
    }
    let printable = |c: char| if c.is_control() { ' ' } else { c };
    let text: String = String::from_utf8_lossy(&kept).chars().map(printable).collect();
    text.trim().to_owned()
}
