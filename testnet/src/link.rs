//! The internet between the hosts of a [`Net`](crate::netns::Net): what each link does to packets, changeable while traffic runs.
//!
//! A packet passes the sender's uplink, the link of the pair, and the receiver's downlink, in that order. It knows hosts by index and
//! packets by length; what is inside them is the hosts' affair. Invariant: each packet a host sent to another is delivered once,
//! counted as dropped once, or still on its way.

mod pump;
mod segments;
mod wire;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub(crate) use pump::Pump;
pub(crate) use wire::Wire;

/// What one direction between two hosts does to packets. The default passes everything at once.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Link {
    /// Time on the way, beside the time spent in queues.
    pub delay: Duration,
    /// Each packet is delayed by up to this much more, drawn evenly.
    pub jitter: Duration,
    /// Share of packets that vanish, from 0 to 1.
    pub loss: f64,
    /// Rate of the link, counted over whole IP packets. `None`: no limit.
    pub rate_bits_per_s: Option<u64>,
    /// Most bytes that wait for the rate; what comes on top is dropped. Without a rate nothing waits.
    pub queue_bytes: u64,
    /// Whether jitter may let a packet overtake an earlier one. If not, it waits for the earlier one.
    pub reorder: bool,
}

impl Default for Link {
    fn default() -> Self {
        Self {
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            loss: 0.0,
            rate_bits_per_s: None,
            queue_bytes: QUEUE_BYTES,
            reorder: false,
        }
    }
}

/// How a host is joined to the internet: rates that all its flows share. The default has no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// Rate of everything the host sends, counted over whole IP packets. `None`: no limit.
    pub up_bits_per_s: Option<u64>,
    /// Rate of everything the host receives, counted over whole IP packets. `None`: no limit.
    pub down_bits_per_s: Option<u64>,
    /// Most bytes that wait for the rate upward; what comes on top is dropped.
    pub up_queue_bytes: u64,
    /// Most bytes that wait for the rate downward.
    pub down_queue_bytes: u64,
}

impl Default for Access {
    fn default() -> Self {
        Self {
            up_bits_per_s: None,
            down_bits_per_s: None,
            up_queue_bytes: QUEUE_BYTES,
            down_queue_bytes: QUEUE_BYTES,
        }
    }
}

/// Bytes that wait before a rate unless the test says otherwise: 50 ms at 40 Mbit/s, as a common home router holds.
const QUEUE_BYTES: u64 = 256 * 1024;

/// What passed between one host and the internet. Bytes are those of whole IP packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Packets the host sent to other hosts of the net.
    pub sent_packets: u64,
    /// Bytes of those packets.
    pub sent_bytes: u64,
    /// Packets delivered to the host.
    pub received_packets: u64,
    /// Bytes of those packets.
    pub received_bytes: u64,
    /// Packets that the host sent and no other host got: lost, cut off, or one too many for a queue.
    pub dropped_packets: u64,
    /// Bytes of those packets.
    pub dropped_bytes: u64,
    /// Packets the host sent to an address that is no host here, multicast among them. Counted nowhere else.
    pub stray_packets: u64,
}

impl Counters {
    /// What passed since `earlier`, counters of the same host.
    pub fn since(self, earlier: Counters) -> Counters {
        Counters {
            sent_packets: self.sent_packets - earlier.sent_packets,
            sent_bytes: self.sent_bytes - earlier.sent_bytes,
            received_packets: self.received_packets - earlier.received_packets,
            received_bytes: self.received_bytes - earlier.received_bytes,
            dropped_packets: self.dropped_packets - earlier.dropped_packets,
            dropped_bytes: self.dropped_bytes - earlier.dropped_bytes,
            stray_packets: self.stray_packets - earlier.stray_packets,
        }
    }
}

/// The links of a running net. Every change holds for the packets sent after the call returned; a cut also for those on their way.
///
/// Hosts are named by index. All methods panic when an index is not below the number of hosts.
#[derive(Clone, Debug)]
pub struct Links {
    wire: Arc<Mutex<Wire>>,
}

impl Links {
    pub(crate) fn new(wire: Arc<Mutex<Wire>>) -> Self {
        Self { wire }
    }

    /// Makes `link` that of every pair, also of those set before.
    pub fn set_default(&self, link: Link) {
        self.wire().set_default(link);
    }

    /// Sets the link between `a` and `b`, in both directions.
    pub fn set(&self, a: usize, b: usize, link: Link) {
        let mut wire = self.wire();
        wire.set(a, b, link);
        wire.set(b, a, link);
    }

    /// Sets the link from `from` to `to`, and leaves the way back as it is.
    pub fn set_one_way(&self, from: usize, to: usize, link: Link) {
        self.wire().set(from, to, link);
    }

    /// Sets the rates that all traffic of `host` shares.
    pub fn set_access(&self, host: usize, access: Access) {
        self.wire().set_access(host, access);
    }

    /// Sets the rates of every host.
    pub fn set_access_default(&self, access: Access) {
        let mut wire = self.wire();
        for host in 0..wire.hosts() {
            wire.set_access(host, access);
        }
    }

    /// Cuts `a` and `b` off from each other, until [`heal`](Self::heal).
    pub fn cut(&self, a: usize, b: usize) {
        let mut wire = self.wire();
        wire.cut(a, b);
        wire.cut(b, a);
    }

    /// Lets nothing through from `from` to `to`, until [`heal`](Self::heal); the way back stays open.
    pub fn cut_one_way(&self, from: usize, to: usize) {
        self.wire().cut(from, to);
    }

    /// Cuts `host` off from every other host, until [`heal`](Self::heal).
    pub fn isolate(&self, host: usize) {
        let mut wire = self.wire();
        for other in (0..wire.hosts()).filter(|other| *other != host) {
            wire.cut(host, other);
            wire.cut(other, host);
        }
    }

    /// Undoes every cut.
    pub fn heal(&self) {
        self.wire().heal();
    }

    /// What passed between `host` and the internet until now.
    pub fn counters(&self, host: usize) -> Counters {
        self.wire().counters(host)
    }

    fn wire(&self) -> MutexGuard<'_, Wire> {
        lock(&self.wire)
    }
}

/// A call with a host that does not exist panics under the lock, but before it has changed anything: the wire is whole all the same.
fn lock(wire: &Mutex<Wire>) -> MutexGuard<'_, Wire> {
    wire.lock().unwrap_or_else(PoisonError::into_inner)
}
