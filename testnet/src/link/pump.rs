//! The thread that is the internet: reads packets from every host's TUN, asks the [`Wire`] when each is due, and writes it to its
//! destination's TUN then.
//!
//! It knows IPv4 destinations and nothing else of a packet. Its memory is bounded by the wire's queues: buffers are reused, and there
//! are as many as packets were ever on their way at once.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, Timespec, epoll, eventfd};
use rustix::io::Errno;
use tun_rs::SyncDevice;

use super::wire::{Fate, Slot, Wire};
use super::{lock, segments};

/// Packets read from one host before the others get their turn and due packets leave: some 100 µs of work.
const BATCH: usize = 64;

/// Least time between two waits for packets: what comes meanwhile is handled together, for waking up costs more than a packet does.
/// So a packet is late by no more than this where there are many, and by nothing where there are few.
const GRAIN: Duration = Duration::from_micros(250);

/// Marks the event that ends the thread among the hosts' indices.
const STOP: u64 = u64::MAX;

/// A running pump. Dropping it ends the thread and closes the TUNs.
#[derive(Debug)]
pub(crate) struct Pump {
    stop: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl Pump {
    /// Starts to carry packets between `tuns`. Host `i` has the `i`th TUN and the `i`th address from `first` on.
    ///
    /// - `mtu`: the longest packet, in bytes; that of the TUN devices.
    /// - `offload`: whether the TUN devices hand over and take runs of packets, with a header before each.
    /// - Errors: no eventfd, epoll or thread to be had.
    pub(crate) fn start(
        tuns: Vec<SyncDevice>,
        first: Ipv4Addr,
        mtu: usize,
        offload: bool,
        wire: Arc<Mutex<Wire>>,
    ) -> io::Result<Self> {
        let stop = Arc::new(eventfd(0, EventfdFlags::CLOEXEC)?);
        let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(
            &poll,
            &stop,
            epoll::EventData::new_u64(STOP),
            epoll::EventFlags::IN,
        )?;
        for (host, tun) in tuns.iter().enumerate() {
            tun.set_nonblocking(true)?;
            epoll::add(
                &poll,
                tun,
                epoll::EventData::new_u64(host as u64),
                epoll::EventFlags::IN,
            )?;
        }
        let state = State {
            poll,
            tuns,
            first: first.into(),
            wire,
            buffers: Buffers::new(if offload { segments::FRAME_LEN_MAX } else { mtu }),
            offload,
            read: Vec::new(),
            due: Vec::new(),
        };
        let thread = thread::Builder::new()
            .name("internet".into())
            .spawn(move || state.run())?;
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        let told = rustix::io::write(&*self.stop, &1u64.to_ne_bytes());
        if told.is_ok()
            && let Some(thread) = self.thread.take()
        {
            // A panic of the thread was printed when it happened, and the packets it lost are noticed by the test.
            let _ = thread.join();
        }
    }
}

struct State {
    poll: OwnedFd,
    tuns: Vec<SyncDevice>,
    first: u32,
    wire: Arc<Mutex<Wire>>,
    buffers: Buffers,
    offload: bool,
    read: Vec<Slot>,
    due: Vec<Fate>,
}

impl State {
    fn run(mut self) {
        let mut events = Vec::with_capacity(64);
        let mut woken: Option<Instant> = None;
        loop {
            let next_at = self.deliver_due();
            if let Some(rest) = woken.and_then(|woken| GRAIN.checked_sub(woken.elapsed())) {
                thread::sleep(rest);
            }
            let timeout = next_at.map(|at| {
                let wait = at.saturating_duration_since(Instant::now());
                Timespec::try_from(wait).expect("delays are far below 2^63 seconds")
            });
            events.clear();
            match epoll::wait(
                &self.poll,
                rustix::buffer::spare_capacity(&mut events),
                timeout.as_ref(),
            ) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => panic!("the pump's epoll: {error}"),
            }
            woken = Some(Instant::now());
            for event in &events {
                match event.data.u64() {
                    STOP => return,
                    host => {
                        self.read_batch(host as usize);
                        self.deliver_due();
                    }
                }
            }
        }
    }

    /// Writes every due packet, and returns when the next one is due, or `None` when none is on its way.
    fn deliver_due(&mut self) -> Option<Instant> {
        let now = Instant::now();
        let mut wire = lock(&self.wire);
        while let Some(fate) = wire.next(now) {
            self.due.push(fate);
        }
        let next_at = wire.next_at();
        drop(wire);
        for fate in self.due.drain(..) {
            let slot = match fate {
                Fate::Deliver { to, slot } => {
                    // The device is only ever down or out of memory while its namespace goes away: then nobody misses the packet.
                    let _ = rustix::io::write(&self.tuns[to], self.buffers.packet(slot));
                    slot
                }
                Fate::Drop { slot } => slot,
            };
            self.buffers.free(slot);
        }
        next_at
    }

    /// Reads up to [`BATCH`] packets of `host` and offers them to the wire.
    fn read_batch(&mut self, host: usize) {
        while self.read.len() < BATCH {
            let Some(slot) = self
                .buffers
                .fill(|buffer| rustix::io::read(self.tuns[host].as_fd(), buffer).ok())
            else {
                break;
            };
            self.read.push(slot);
        }
        let now = Instant::now();
        let mut wire = lock(&self.wire);
        for slot in self.read.drain(..) {
            let frame = self.buffers.packet(slot);
            let (packet, len) = match self.offload {
                true => (frame.get(segments::HEADER_LEN..), segments::wire_len(frame)),
                false => (Some(frame), Some(frame.len() as u64)),
            };
            let to = packet.and_then(|packet| destination(packet, self.first, self.tuns.len()));
            let taken = match to.zip(len) {
                Some((to, len)) => wire.offer(now, host, to, len, slot),
                None => {
                    wire.stray(host);
                    false
                }
            };
            if !taken {
                self.buffers.free(slot);
            }
        }
    }
}

/// The index of the host that an IPv4 packet goes to; `None` for other packets and other addresses.
fn destination(packet: &[u8], first: u32, hosts: usize) -> Option<usize> {
    if packet.first()? >> 4 != 4 {
        return None;
    }
    let address: [u8; 4] = packet.get(16..20)?.try_into().ok()?;
    let index = u32::from_be_bytes(address).checked_sub(first)? as usize;
    (index < hosts).then_some(index)
}

/// Packet buffers, named by slot.
struct Buffers {
    /// Bytes of each.
    longest: usize,
    all: Vec<Buffer>,
    free: Vec<Slot>,
}

struct Buffer {
    bytes: Box<[u8]>,
    len: usize,
}

impl Buffers {
    fn new(longest: usize) -> Self {
        Self {
            longest,
            all: Vec::new(),
            free: Vec::new(),
        }
    }

    /// Lets `read` fill a buffer and returns its slot, or `None` when `read` had nothing.
    fn fill(&mut self, read: impl FnOnce(&mut [u8]) -> Option<usize>) -> Option<Slot> {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.all.push(Buffer {
                bytes: vec![0; self.longest].into(),
                len: 0,
            });
            self.all.len() - 1
        });
        let buffer = &mut self.all[slot];
        match read(&mut buffer.bytes) {
            Some(len) => {
                buffer.len = len;
                Some(slot)
            }
            None => {
                self.free.push(slot);
                None
            }
        }
    }

    fn packet(&self, slot: Slot) -> &[u8] {
        let buffer = &self.all[slot];
        &buffer.bytes[..buffer.len]
    }

    fn free(&mut self, slot: Slot) {
        self.free.push(slot);
    }
}
