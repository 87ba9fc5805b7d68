//! The program as a child process: started, listened to, stopped, killed. Blocking; every wait has a deadline, and nothing
//! outlives its handle.

use anyhow::{Context, Result, bail};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open},
};
use serde::Deserialize;
use std::{
    ffi::OsString,
    fs::File,
    io::{BufRead, BufReader, Read, Seek, SeekFrom},
    ops::{Deref, DerefMut},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::{
        Mutex, PoisonError,
        mpsc::{Receiver, sync_channel},
    },
    thread,
    time::Duration,
};

/// How long a node may take until it serves.
const START_DEADLINE: Duration = Duration::from_secs(30);

/// How long a command that [`shoal`] runs may take.
const COMMAND_DEADLINE: Duration = Duration::from_secs(120);

/// Lines of stdout that wait to be read; then the child waits.
const LINES_MAX: usize = 65_536;

/// Most of stderr that is kept for an error's text, in bytes, from the end.
const STDERR_MAX: u64 = 64 * 1024;

/// A child process. It is killed with SIGKILL and reaped when this is dropped.
pub struct Process {
    shown: String,
    child: Child,
    status: Option<ExitStatus>,
    // The receiver of a channel is not `Sync`, and handles are kept across awaits.
    lines: Mutex<Receiver<String>>,
    stderr: File,
}

impl Process {
    /// Starts a command with its standard streams in our hands.
    ///
    /// # Errors
    /// As [`Command::spawn`], with the command named.
    pub fn spawn(mut command: Command) -> Result<Process> {
        let shown = format!("{command:?}");
        let stderr = tempfile::tempfile()?;
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(stderr.try_clone()?);
        let mut child = command.spawn().with_context(|| shown.clone())?;
        let stdout = child.stdout.take().context("stdout was piped")?;
        let (sender, lines) = sync_channel(LINES_MAX);
        // Ends when the child closes its stdout, or when nobody listens any more.
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Process {
            shown,
            child,
            status: None,
            lines: Mutex::new(lines),
            stderr,
        })
    }

    /// Returns the process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Returns the child's stdin, the first time; dropping it tells the child the end.
    pub fn stdin(&mut self) -> Option<ChildStdin> {
        self.child.stdin.take()
    }

    /// Returns the next line of stdout.
    ///
    /// # Errors
    /// None came before the deadline, or none comes any more; with the end of stderr.
    pub fn next_line(&self, deadline: Duration) -> Result<String> {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let line = lines.recv_timeout(deadline);
        line.map_err(|error| anyhow::anyhow!("{}: no line: {error}; it said: {}", self.shown, self.stderr()))
    }

    /// Returns what the child wrote to stderr so far, at most its last 64 KiB.
    pub fn stderr(&self) -> String {
        let read = || {
            let mut file = File::open(format!(
                "/proc/self/fd/{}",
                std::os::fd::AsRawFd::as_raw_fd(&self.stderr)
            ))?;
            let len = file.metadata()?.len();
            file.seek(SeekFrom::Start(len.saturating_sub(STDERR_MAX)))?;
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            std::io::Result::Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        read().unwrap_or_else(|error| format!("(its stderr cannot be read: {error})"))
    }

    /// Tells whether the child still runs.
    pub fn running(&mut self) -> bool {
        self.reap().is_ok_and(|status| status.is_none())
    }

    /// Kills the child with SIGKILL, as a crash would, and waits until it is gone.
    pub fn kill_nine(&mut self) -> Result<ExitStatus> {
        // Fails only when it is gone already.
        let _ = self.child.kill();
        let status = self.child.wait()?;
        self.status = Some(status);
        Ok(status)
    }

    /// Asks the child to stop, with SIGTERM.
    pub fn terminate(&mut self) -> Result<()> {
        if self.running() {
            // Its id is not anybody else's before we have reaped it.
            kill_process(self.pid()?, Signal::TERM)?;
        }
        Ok(())
    }

    /// Waits until the child ends by itself.
    ///
    /// # Errors
    /// It did not before the deadline; it goes on.
    pub fn wait(&mut self, deadline: Duration) -> Result<ExitStatus> {
        if let Some(status) = self.reap()? {
            return Ok(status);
        }
        let handle = pidfd_open(self.pid()?, PidfdFlags::empty())?;
        let until = Timespec {
            tv_sec: i64::try_from(deadline.as_secs())?,
            tv_nsec: deadline.subsec_nanos().into(),
        };
        poll(&mut [PollFd::new(&handle, PollFlags::IN)], Some(&until))?;
        match self.reap()? {
            Some(status) => Ok(status),
            None => bail!(
                "{} still runs after {deadline:?}; it said: {}",
                self.shown,
                self.stderr()
            ),
        }
    }

    fn reap(&mut self) -> Result<Option<ExitStatus>> {
        if self.status.is_none() {
            self.status = self.child.try_wait()?;
        }
        Ok(self.status)
    }

    fn pid(&self) -> Result<Pid> {
        i32::try_from(self.id())
            .ok()
            .and_then(Pid::from_raw)
            .context("a child has a process id")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Nobody is left to be told.
        let _ = self.kill_nine();
    }
}

/// What `shoal up --json` says when it serves.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Ready {
    /// The node's id.
    pub peer_id: String,
    /// Who it publishes as.
    pub publisher: String,
    /// Where it listens, with its id.
    pub listen: Vec<String>,
    /// Where its doors are.
    pub http: String,
    /// Its data folder.
    pub data: PathBuf,
}

/// How to start a [`ShoalProcess`].
#[derive(Clone, Debug)]
pub struct UpOptions {
    /// Where it listens; by default on loopback, TCP and QUIC, on any port.
    pub listen: Vec<String>,
    /// Nodes it knows from the start.
    pub peers: Vec<String>,
    /// More arguments.
    pub args: Vec<OsString>,
    /// More variables of its environment.
    pub envs: Vec<(OsString, OsString)>,
}

impl Default for UpOptions {
    fn default() -> UpOptions {
        UpOptions {
            listen: vec![
                "/ip4/127.0.0.1/tcp/0".into(),
                "/ip4/127.0.0.1/udp/0/quic-v1".into(),
            ],
            peers: Vec::new(),
            args: Vec::new(),
            envs: Vec::new(),
        }
    }
}

/// A node in a process of its own: `shoal up`.
pub struct ShoalProcess {
    process: Process,
    ready: Ready,
}

impl ShoalProcess {
    /// Starts the program `shoal` on a data folder, and waits until it serves. No mDNS, no UPnP; the doors on any port.
    ///
    /// # Errors
    /// It ended, said something else, or did not serve within 30 s.
    pub fn up(shoal: &Path, data: &Path, options: UpOptions) -> Result<ShoalProcess> {
        ShoalProcess::start(Command::new(shoal), data, options)
    }

    /// The same with a command that runs the program, such as one of a [`Host`](crate::netns::Host).
    pub fn start(mut command: Command, data: &Path, options: UpOptions) -> Result<ShoalProcess> {
        command
            .args(["up", "--json", "--no-mdns", "--no-upnp", "--http", "127.0.0.1:0"])
            .arg("--data")
            .arg(data);
        for address in &options.listen {
            command.args(["--listen", address]);
        }
        for address in &options.peers {
            command.args(["--peer", address]);
        }
        command.args(options.args).envs(options.envs);
        let process = Process::spawn(command)?;
        let line = process.next_line(START_DEADLINE)?;
        let ready =
            serde_json::from_str(&line).with_context(|| format!("{} is not ready: {line}", process.shown))?;
        Ok(ShoalProcess { process, ready })
    }

    /// Returns what it said when it was ready.
    pub fn ready(&self) -> &Ready {
        &self.ready
    }
}

impl Deref for ShoalProcess {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.process
    }
}

impl DerefMut for ShoalProcess {
    fn deref_mut(&mut self) -> &mut Process {
        &mut self.process
    }
}

/// What a command said until it ended.
#[derive(Clone, Debug)]
pub struct Said {
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote to stdout; the last line ends like the others.
    pub stdout: String,
    /// What it wrote to stderr, at most the last 64 KiB.
    pub stderr: String,
}

impl Said {
    /// Returns the exit code; -1 for a process that a signal ended.
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or(-1)
    }

    /// Returns the last line of stdout as JSON.
    ///
    /// # Errors
    /// It is none; with all that was said.
    pub fn json(&self) -> Result<serde_json::Value> {
        let last = self.stdout.lines().last().unwrap_or_default();
        serde_json::from_str(last).with_context(|| format!("{:?} {:?}", self.stdout, self.stderr))
    }
}

/// Runs `shoal ARGS… --data DATA` to its end.
///
/// # Errors
/// It cannot be started, or runs for more than 120 s: then it is killed. How it ends is for the caller to judge.
pub fn shoal(shoal: &Path, data: &Path, args: &[&str]) -> Result<Said> {
    let mut command = Command::new(shoal);
    command.args(args).arg("--data").arg(data);
    let mut process = Process::spawn(command)?;
    drop(process.stdin());
    let status = process.wait(COMMAND_DEADLINE)?;
    let mut stdout = String::new();
    // The child has ended; a line is on its way, or there is none.
    while let Ok(line) = process.next_line(COMMAND_DEADLINE) {
        stdout.push_str(&line);
        stdout.push('\n');
    }
    Ok(Said {
        status,
        stdout,
        stderr: process.stderr(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Process {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Process::spawn(command).unwrap()
    }

    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn a_child_is_heard_and_its_end_is_seen() {
        let mut child = shell("echo one; echo two; echo trouble >&2; exit 3");
        assert_eq!(child.next_line(LONG).unwrap(), "one");
        assert_eq!(child.next_line(LONG).unwrap(), "two");
        assert_eq!(child.wait(LONG).unwrap().code(), Some(3));
        assert_eq!(child.stderr(), "trouble\n");
        assert!(!child.running());
        assert!(child.next_line(LONG).is_err());
    }

    #[test]
    fn waiting_ends_at_the_deadline_and_the_child_goes_on() {
        let mut child = shell("read line; echo $line");
        let error = child.wait(Duration::from_millis(10)).unwrap_err();
        assert!(error.to_string().contains("still runs"), "{error}");
        assert!(child.running());
        std::io::Write::write_all(&mut child.stdin().unwrap(), b"woken\n").unwrap();
        assert_eq!(child.next_line(LONG).unwrap(), "woken");
        assert!(child.wait(LONG).unwrap().success());
    }

    #[test]
    fn kill_nine_cannot_be_refused() {
        use std::os::unix::process::ExitStatusExt;
        let mut child = shell("trap '' TERM; echo ready; read line");
        assert_eq!(child.next_line(LONG).unwrap(), "ready");
        child.terminate().unwrap();
        assert!(child.running());
        assert_eq!(child.kill_nine().unwrap().signal(), Some(9));
    }

    #[test]
    fn a_dropped_child_is_gone() {
        let child = shell("echo ready; read line");
        child.next_line(LONG).unwrap();
        let entry = PathBuf::from(format!("/proc/{}", child.id()));
        assert!(entry.exists());
        drop(child);
        assert!(!entry.exists());
    }
}
