//! Hosts on one machine, each in a network namespace of its own, joined by the emulated internet of [`link`](crate::link).
//!
//! Needs Linux, root, `ip` of iproute2 and `/dev/net/tun`; [`NetError::Unavailable`] says which is missing. It does not know what runs
//! on a host. Invariant: what a [`Net`] made is gone when it is dropped, and what a killed process left is swept by the next one.

mod host;
mod ip;

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tun_rs::{DeviceBuilder, SyncDevice};

pub use self::host::{Host, Running};
use crate::link::{Links, Pump, Wire};

/// The interface that every host has to the internet.
const DEVICE: &str = "wan0";

/// Packets a host's kernel holds until the emulator reads them. Long, because a queue is the links' to emulate, not the device's.
const DEVICE_QUEUE_PACKETS: u32 = 8192;

/// Most hosts in a net: a tenth of the file descriptors a process may have here, and some 17 s to make.
const HOSTS_MAX: usize = 1000;

/// Why there is no net.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// This machine or this user cannot have network namespaces. A test that meets this is [skipped](crate::skip), not passed.
    #[error("no network namespaces here: {why}")]
    Unavailable {
        /// What is missing.
        why: String,
    },
    /// `ip` refused a command.
    #[error("ip {command}: {said}")]
    Ip {
        /// The arguments of `ip`.
        command: String,
        /// What it wrote to stderr.
        said: String,
    },
    /// The system refused something else.
    #[error("{what}")]
    Io {
        /// What was wanted.
        what: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// What a net looks like.
#[derive(Clone, Debug)]
pub struct NetOptions {
    /// How many hosts; at most 1,000.
    pub hosts: usize,
    /// Address of host 0; the others have those after it. Nothing leaves the namespaces, so any address will do: one from a public
    /// range, where a program treats private addresses otherwise.
    pub first: Ipv4Addr,
    /// Longest packet, in bytes.
    pub mtu: u16,
    /// Whether hosts hand over runs of a flow's packets at once, as they do to network cards: the emulator then spends far less on
    /// a byte. A run passes the links as a whole, and counts as one packet of as many bytes as its packets have.
    pub offload: bool,
    /// How the hosts' TCP finds its rate, by the kernel's name for it. `None`: [`CONGESTION`], whatever the machine's own choice is, unless the machine
    /// lets namespaces have no other.
    pub congestion: Option<String>,
    /// Decides which packets are lost, and the jitter of each.
    pub seed: u64,
}

/// What most kernels use.
pub const CONGESTION: &str = "cubic";

/// Where a namespace keeps what its TCP uses. It may choose among what the machine allows to everybody, in `tcp_allowed_congestion_control` beside it.
const CONGESTION_PATH: &str = "/proc/sys/net/ipv4/tcp_congestion_control";

impl Default for NetOptions {
    fn default() -> Self {
        Self {
            hosts: 2,
            first: Ipv4Addr::new(10, 88, 0, 1),
            mtu: 1500,
            offload: false,
            congestion: None,
            seed: 1,
        }
    }
}

/// Hosts in network namespaces, and the links between them. Dropping it removes them.
///
/// A program still running on a host when the net is dropped loses its network; stop it first.
#[derive(Debug)]
pub struct Net {
    links: Links,
    // In this order: a namespace goes when nothing holds it open any more.
    _pump: Pump,
    hosts: Vec<Host>,
    _namespaces: ip::Namespaces,
}

impl Net {
    /// Makes `hosts` hosts that reach each other without delay, loss or limit.
    ///
    /// Errors: as [`Net::with`].
    pub fn create(hosts: usize) -> Result<Self, NetError> {
        Self::with(NetOptions {
            hosts,
            ..NetOptions::default()
        })
    }

    /// Makes a net to order.
    ///
    /// Errors: [`NetError::Unavailable`] where the machine has no means for it; otherwise what went wrong, with nothing left behind.
    pub fn with(options: NetOptions) -> Result<Self, NetError> {
        assert!(
            options.hosts <= HOSTS_MAX,
            "{} hosts, more than {HOSTS_MAX}",
            options.hosts
        );
        check_available()?;
        ip::sweep();
        static NETS: AtomicU32 = AtomicU32::new(0);
        let net = NETS.fetch_add(1, Ordering::Relaxed);
        let namespaces = ip::Namespaces::add(net, options.hosts)?;
        let first = u32::from(options.first);
        let hosts = (first..)
            .zip(namespaces.names())
            .map(|(address, name)| Host::open(name, address.into()))
            .collect::<Result<Vec<_>, _>>()?;
        let tuns = open_tuns(&hosts, options.offload)?;
        for host in &hosts {
            ip::batch(
                Some(host.name()),
                &format!(
                    "link set lo up\n\
                     addr add {}/32 dev {DEVICE}\n\
                     link set {DEVICE} mtu {} txqueuelen {DEVICE_QUEUE_PACKETS} up\n\
                     route add default dev {DEVICE}\n",
                    host.ip(),
                    options.mtu
                ),
            )?;
            let choose = |name: &str| host.enter(|| fs::write(CONGESTION_PATH, name));
            match &options.congestion {
                Some(name) => choose(name).map_err(io_error(format!("{CONGESTION_PATH}: {name}")))?,
                None => match choose(CONGESTION) {
                    Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
                    chosen => chosen.map_err(io_error(CONGESTION_PATH))?,
                },
            }
        }
        let wire = Arc::new(Mutex::new(Wire::new(options.hosts, options.seed)));
        let pump = Pump::start(
            tuns,
            options.first,
            options.mtu.into(),
            options.offload,
            Arc::clone(&wire),
        )
        .map_err(io_error("the internet's thread"))?;
        Ok(Self {
            links: Links::new(wire),
            _pump: pump,
            hosts,
            _namespaces: namespaces,
        })
    }

    /// Host `index`, counted from 0. Panics when there is no such host.
    pub fn host(&self, index: usize) -> &Host {
        &self.hosts[index]
    }

    /// All hosts.
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// The links between the hosts, to read and to change.
    pub fn links(&self) -> &Links {
        &self.links
    }
}

/// Moves the calling thread into a network namespace, for the rest of its life.
fn move_thread(namespace: &OwnedFd) -> io::Result<()> {
    Ok(move_into_link_name_space(
        namespace.as_fd(),
        Some(LinkNameSpaceType::Network),
    )?)
}

/// Opens the TUN of each host. A scratch thread does it, so that the caller stays in its own namespace.
fn open_tuns(hosts: &[Host], offload: bool) -> Result<Vec<SyncDevice>, NetError> {
    let open = |host: &Host| {
        move_thread(host.namespace())?;
        let tun = DeviceBuilder::new()
            .name(DEVICE)
            .enable(false)
            .offload(offload)
            .build_sync()?;
        // Closing is slow if it removes the device: now that goes with its namespace, all of them together.
        tun.persist()?;
        Ok(tun)
    };
    let opened = thread::scope(|scope| {
        scope
            .spawn(|| hosts.iter().map(open).collect::<io::Result<Vec<_>>>())
            .join()
    });
    let opened = opened.expect("opening devices does not panic");
    opened.map_err(|source| match source.kind() {
        io::ErrorKind::PermissionDenied => NetError::Unavailable {
            why: format!("a TUN device: {source}"),
        },
        _ => io_error("a TUN device in a namespace")(source),
    })
}

fn check_available() -> Result<(), NetError> {
    let unavailable = |why: &str| Err(NetError::Unavailable { why: why.into() });
    if !rustix::process::geteuid().is_root() {
        return unavailable("only root may make them");
    }
    if !Path::new("/dev/net/tun").exists() {
        return unavailable("there is no /dev/net/tun");
    }
    ip::check_installed()
}

fn io_error(what: impl Into<String>) -> impl FnOnce(io::Error) -> NetError {
    let what = what.into();
    |source| NetError::Io { what, source }
}

#[cfg(test)]
mod tests;
