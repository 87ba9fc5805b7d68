//! One host: a namespace to run programs, closures and whole async runtimes in.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::panic;
use std::process::{Child, Command};
use std::sync::Arc;
use std::thread;

use tokio::runtime::{Builder, Runtime};

use super::{NetError, io_error, ip, move_thread};

/// A host of a [`Net`](super::Net).
#[derive(Debug)]
pub struct Host {
    name: String,
    ip: Ipv4Addr,
    namespace: Arc<OwnedFd>,
}

impl Host {
    pub(super) fn open(name: &str, ip: Ipv4Addr) -> Result<Self, NetError> {
        let path = ip::path_of(name);
        let file = File::open(&path).map_err(io_error(path.display().to_string()))?;
        Ok(Self {
            name: name.to_owned(),
            ip,
            namespace: Arc::new(file.into()),
        })
    }

    pub(super) fn namespace(&self) -> &OwnedFd {
        &self.namespace
    }

    /// The name of the namespace, as `ip netns` knows it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The address of the host.
    pub fn ip(&self) -> Ipv4Addr {
        self.ip
    }

    /// A command that runs `program` on this host. Give it arguments as usual, and start it with [`Running::start`].
    ///
    /// The process id of the child is that of `program`: `ip` replaces itself.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program);
        command
    }

    /// Runs `work` on this host, on a thread of its own, and waits for it.
    ///
    /// - A socket belongs to the host where it was opened: those that `work` returns can be used from anywhere.
    /// - A panic in `work` goes on in the caller.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let entered = thread::scope(|scope| {
            scope
                .spawn(|| {
                    self.move_in();
                    work()
                })
                .join()
        });
        entered.unwrap_or_else(|panic| panic::resume_unwind(panic))
    }

    /// An async runtime whose `workers` threads, and those for blocking work, are on this host.
    ///
    /// What is *spawned* on it runs on the host; `block_on` polls on the calling thread, which is not. Errors: no threads to be had.
    pub fn runtime(&self, workers: usize) -> io::Result<Runtime> {
        let namespace = Arc::clone(&self.namespace);
        let move_in = move || move_thread(&namespace).expect(OPEN);
        Builder::new_multi_thread()
            .worker_threads(workers)
            .enable_all()
            .on_thread_start(move_in)
            .build()
    }

    fn move_in(&self) {
        move_thread(&self.namespace).expect(OPEN);
    }
}

/// Why moving into a host's namespace always works.
const OPEN: &str = "a namespace lives as long as it is held open, and we entered it before";

/// A program on a host, killed and reaped on drop.
#[derive(Debug)]
pub struct Running {
    child: Child,
}

impl Running {
    /// Starts `command`. Errors: as [`Command::spawn`].
    pub fn start(mut command: Command) -> io::Result<Self> {
        Ok(Self {
            child: command.spawn()?,
        })
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The child, to read from it, write to it, or wait for it.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Kills the program with SIGKILL, as a crash would, and waits until it is gone.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only when it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
