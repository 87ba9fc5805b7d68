use std::collections::HashSet;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::*;
use crate::link::{Access, Counters, Link};

/// Far more than any step here takes on a busy machine.
const DEADLINE: Duration = Duration::from_secs(20);

/// A net to order, or `None` after saying that the test is skipped.
fn net(options: NetOptions) -> Option<Net> {
    match Net::with(options) {
        Ok(net) => Some(net),
        Err(error @ NetError::Unavailable { .. }) => {
            crate::skip(error);
            None
        }
        Err(error) => panic!("{error:?}"),
    }
}

fn udp(host: &Host) -> UdpSocket {
    let socket = host.enter(|| UdpSocket::bind((host.ip(), 0))).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    socket
}

/// Receives one packet and returns its length. A wait with a deadline, unlike one without, may be interrupted: it goes on.
fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> usize {
    loop {
        match socket.recv(buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            received => return received.unwrap(),
        }
    }
}

/// Sends back whatever comes until a packet of one byte comes.
fn echo(host: &Host) -> (SocketAddr, JoinHandle<()>) {
    let socket = udp(host);
    let address = socket.local_addr().unwrap();
    let thread = thread::spawn(move || {
        let mut buffer = [0; 2048];
        loop {
            match socket.recv_from(&mut buffer) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                received => {
                    let (len, peer) = received.unwrap();
                    socket.send_to(&buffer[..len], peer).unwrap();
                    if len == 1 {
                        return;
                    }
                }
            }
        }
    });
    (address, thread)
}

fn names() -> HashSet<String> {
    let output = Command::new("ip").args(["netns", "list"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines()
        .filter_map(|line| line.split_whitespace().next())
        .map(str::to_owned)
        .collect()
}

#[test]
fn echo_takes_the_delay_of_both_ways() {
    let Some(net) = net(NetOptions::default()) else {
        return;
    };
    let (address, echo) = echo(net.host(1));
    let socket = udp(net.host(0));
    let round = |delay: Duration| {
        net.links().set_default(Link {
            delay,
            ..Link::default()
        });
        let mut fastest = DEADLINE;
        for i in 0..10u16 {
            let start = Instant::now();
            socket.send_to(&i.to_be_bytes(), address).unwrap();
            let mut back = [0; 2];
            receive(&socket, &mut back);
            assert_eq!(back, i.to_be_bytes());
            let took = start.elapsed();
            assert!(took >= 2 * delay, "{took:?} is less than twice {delay:?}");
            fastest = fastest.min(took);
        }
        assert!(
            fastest <= 2 * delay + Duration::from_millis(20),
            "{fastest:?} is much more than twice {delay:?}"
        );
    };
    round(Duration::from_millis(25));
    round(Duration::ZERO);
    round(Duration::from_millis(3));
    socket.send_to(&[0], address).unwrap();
    echo.join().unwrap();
}

#[test]
fn lost_packets_are_their_share_and_the_counters_tell() {
    const SENT: usize = 5000;
    let Some(net) = net(NetOptions::default()) else {
        return;
    };
    let (from, to) = (udp(net.host(0)), udp(net.host(1)));
    let address = to.local_addr().unwrap();
    net.links().set_one_way(
        0,
        1,
        Link {
            loss: 0.2,
            ..Link::default()
        },
    );
    let mut buffer = [0; 128];
    let mut received = 0;
    for i in 0..SENT {
        from.send_to(&[7; 72], address).unwrap();
        if i % 50 == 49 {
            // Wait for the emulator's count before reading, so that no socket buffer overflows and nothing is lost but by the link.
            let arrived = arrived_when_all_are_counted(&net, i as u64 + 1);
            while received < arrived {
                assert_eq!(receive(&to, &mut buffer), 72);
                received += 1;
            }
        }
    }
    assert!(
        (3800..4200).contains(&received),
        "{received} of {SENT} came through a loss of 20 %"
    );
    let (a, b) = (net.links().counters(0), net.links().counters(1));
    // 72 bytes and 28 of IP and UDP headers.
    assert_eq!((a.sent_packets, a.sent_bytes), (SENT as u64, SENT as u64 * 100));
    assert_eq!((b.received_packets, b.received_bytes), (received, received * 100));
    assert_eq!(
        (a.dropped_packets, a.dropped_bytes),
        (SENT as u64 - received, (SENT as u64 - received) * 100)
    );
    assert_eq!((b.sent_packets, b.dropped_packets, a.received_packets), (0, 0, 0));
}

/// How many packets host 1 has received, once `sent` of host 0 are accounted for.
fn arrived_when_all_are_counted(net: &Net, sent: u64) -> u64 {
    let start = Instant::now();
    loop {
        let (a, b) = (net.links().counters(0), net.links().counters(1));
        if a.dropped_packets + b.received_packets == sent {
            return b.received_packets;
        }
        assert!(start.elapsed() < DEADLINE, "{a:?} {b:?} after {sent} packets");
        thread::yield_now();
    }
}

/// Sends `bytes` by TCP from host `from` to host `to`; returns the rate seen by the receiver in bits per second.
fn tcp_rate(net: &Net, from: usize, to: usize, bytes: usize) -> f64 {
    let to = net.host(to);
    let listener = to.enter(|| TcpListener::bind((to.ip(), 0))).unwrap();
    let address = listener.local_addr().unwrap();
    let mut sender = net
        .host(from)
        .enter(|| TcpStream::connect_timeout(&address, DEADLINE))
        .unwrap();
    let (mut receiver, _) = listener.accept().unwrap();
    receiver.set_read_timeout(Some(DEADLINE)).unwrap();
    let start = Instant::now();
    let sending = thread::spawn(move || {
        let chunk = vec![42; 64 * 1024];
        for _ in 0..bytes / chunk.len() {
            sender.write_all(&chunk).unwrap();
        }
    });
    let mut chunk = vec![0; 64 * 1024];
    let mut received = 0;
    loop {
        match receiver.read(&mut chunk) {
            Ok(0) => break,
            Ok(len) => received += len,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => panic!("{error}"),
        }
    }
    sending.join().unwrap();
    assert_eq!(received, bytes);
    received as f64 * 8.0 / start.elapsed().as_secs_f64()
}

#[test]
fn tcp_fills_a_limited_link_and_never_exceeds_it() {
    let Some(net) = net(NetOptions::default()) else {
        return;
    };
    let link = Link {
        delay: Duration::from_millis(2),
        rate_bits_per_s: Some(20_000_000),
        ..Link::default()
    };
    net.links().set(0, 1, link);
    let rate = tcp_rate(&net, 0, 1, 4 << 20);
    assert!(
        rate <= 20_000_000.0 * 1.05,
        "{rate} bit/s over a link of 20 Mbit/s"
    );
    assert!(rate >= 10_000_000.0, "{rate} bit/s over a link of 20 Mbit/s");
}

#[test]
fn runs_of_packets_keep_the_rate_and_count_the_headers_of_each() {
    const BYTES: usize = 4 << 20;
    let Some(net) = net(NetOptions {
        offload: true,
        ..NetOptions::default()
    }) else {
        return;
    };
    net.links().set_access(
        0,
        Access {
            up_bits_per_s: Some(40_000_000),
            ..Access::default()
        },
    );
    let rate = tcp_rate(&net, 0, 1, BYTES);
    assert!(rate <= 40_000_000.0, "{rate} bit/s over 40 Mbit/s");
    let Counters {
        sent_packets,
        sent_bytes,
        dropped_bytes,
        ..
    } = net.links().counters(0);
    // 52 bytes of headers for 1,448 of the file, the greeting and the end, and what was lost and sent again.
    let least = BYTES as u64 * 1500 / 1448;
    assert!(
        sent_bytes >= least && sent_bytes <= least + dropped_bytes + 100_000,
        "{sent_bytes}"
    );
    assert!(
        sent_packets < BYTES as u64 / 1448 / 2,
        "{sent_packets} are no runs"
    );
}

#[test]
fn flows_of_a_host_share_its_uplink_and_its_downlink_is_another() {
    let Some(net) = net(NetOptions {
        hosts: 3,
        ..NetOptions::default()
    }) else {
        return;
    };
    let access = Access {
        up_bits_per_s: Some(10_000_000),
        down_bits_per_s: Some(50_000_000),
        ..Access::default()
    };
    net.links().set_access(0, access);
    let start = Instant::now();
    thread::scope(|scope| {
        scope.spawn(|| tcp_rate(&net, 0, 1, 1 << 20));
        scope.spawn(|| tcp_rate(&net, 0, 2, 1 << 20));
    });
    let up = (2 << 20) as f64 * 8.0 / start.elapsed().as_secs_f64();
    assert!(
        up <= 10_000_000.0 * 1.05,
        "two flows had {up} bit/s over an uplink of 10 Mbit/s"
    );
    let down = tcp_rate(&net, 1, 0, 4 << 20);
    assert!(
        down <= 50_000_000.0 * 1.05,
        "{down} bit/s over a downlink of 50 Mbit/s"
    );
    assert!(down >= 20_000_000.0, "{down} bit/s over a downlink of 50 Mbit/s");
}

#[test]
fn cut_stops_traffic_and_heal_restores_it() {
    let Some(net) = net(NetOptions {
        hosts: 3,
        ..NetOptions::default()
    }) else {
        return;
    };
    let (address, echo) = echo(net.host(1));
    let (socket, other) = (udp(net.host(0)), udp(net.host(2)));
    let mut back = [0; 8];
    for cut in [
        |links: &Links| links.cut(0, 1),
        |links: &Links| links.cut_one_way(1, 0),
        |links: &Links| links.isolate(0),
    ] {
        let dropped = |host| net.links().counters(host).dropped_packets;
        let before = dropped(0) + dropped(1);
        cut(net.links());
        socket.send_to(b"lost", address).unwrap();
        let start = Instant::now();
        while dropped(0) + dropped(1) == before {
            assert!(start.elapsed() < DEADLINE);
            thread::yield_now();
        }
        // The others are not cut off: and their echo comes after the lost one would have come.
        other.send_to(b"there", address).unwrap();
        assert_eq!(receive(&other, &mut back), 5);
        net.links().heal();
        socket.send_to(b"healed", address).unwrap();
        assert_eq!(
            receive(&socket, &mut back),
            6,
            "the first packet that comes is the one sent after healing"
        );
    }
    socket.send_to(&[0], address).unwrap();
    echo.join().unwrap();
}

#[test]
fn programs_run_on_their_host_and_end_with_their_guard() {
    let Some(net) = net(NetOptions::default()) else {
        return;
    };
    let output = net
        .host(1)
        .command("ip")
        .args(["-4", "-o", "addr", "show", DEVICE])
        .output()
        .unwrap();
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(shown.contains("10.88.0.2/32"), "{shown}");

    let mut command = net.host(0).command("cat");
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut running = Running::start(command).unwrap();
    let process = Path::new("/proc").join(running.id().to_string());
    running.child().stdin.as_mut().unwrap().write_all(b"x").unwrap();
    let mut back = [0];
    running
        .child()
        .stdout
        .as_mut()
        .unwrap()
        .read_exact(&mut back)
        .unwrap();
    assert_eq!(fs::read_to_string(process.join("comm")).unwrap().trim(), "cat");
    running.stop();
    assert!(!process.exists());
}

#[test]
fn runtime_of_a_host_is_on_the_host() {
    let Some(net) = net(NetOptions::default()) else {
        return;
    };
    let seen = net.hosts().iter().map(|host| {
        let runtime = host.runtime(2).unwrap();
        let async_work = runtime.spawn(async { namespace_of_this_thread() });
        let blocking_work = runtime.spawn_blocking(namespace_of_this_thread);
        let seen = runtime.block_on(async { (async_work.await.unwrap(), blocking_work.await.unwrap()) });
        assert_eq!(seen.0, seen.1);
        assert_eq!(seen.0, host.enter(namespace_of_this_thread));
        seen.0
    });
    let mut all: HashSet<_> = seen.collect();
    all.insert(namespace_of_this_thread());
    assert_eq!(
        all.len(),
        3,
        "two hosts and the test are in three namespaces: {all:?}"
    );
}

/// The kernel's name of the network namespace that the caller is in.
fn namespace_of_this_thread() -> std::path::PathBuf {
    fs::read_link("/proc/thread-self/ns/net").unwrap()
}

#[test]
fn dropping_a_net_removes_its_namespaces_also_when_a_test_panics() {
    let Some(net) = net(NetOptions {
        hosts: 3,
        ..NetOptions::default()
    }) else {
        return;
    };
    let ours: HashSet<String> = net.hosts().iter().map(|host| host.name().to_owned()).collect();
    assert!(names().is_superset(&ours));
    let socket = udp(net.host(0));
    let panicked = thread::spawn(move || {
        let _net = net;
        panic!("as a failing test does");
    })
    .join();
    assert!(panicked.is_err());
    assert!(names().is_disjoint(&ours));
    drop(socket);
}

#[test]
fn namespaces_of_a_dead_process_are_swept() {
    let Some(_net) = net(NetOptions::default()) else {
        return;
    };
    let mut gone = Command::new("true").spawn().unwrap();
    let name = format!("shoal-{}-0-0", gone.id());
    gone.wait().unwrap();
    ip::batch(None, &format!("netns add {name}\n")).unwrap();
    assert!(names().contains(&name));
    ip::sweep();
    assert!(!names().contains(&name));
}

#[test]
fn packets_to_nobody_are_counted_as_strays() {
    let Some(net) = net(NetOptions {
        first: "9.9.9.1".parse().unwrap(),
        ..NetOptions::default()
    }) else {
        return;
    };
    let (socket, peer) = (udp(net.host(0)), udp(net.host(1)));
    let before = net.links().counters(0).stray_packets;
    socket.send_to(b"nobody", "9.9.9.3:1").unwrap();
    socket.send_to(b"nobody", "8.8.8.8:53").unwrap();
    socket.send_to(b"somebody", peer.local_addr().unwrap()).unwrap();
    let mut buffer = [0; 16];
    assert_eq!(receive(&peer, &mut buffer), 8);
    let counters = net.links().counters(0);
    assert!(counters.stray_packets >= before + 2, "{counters:?}");
    assert_eq!(
        Counters {
            stray_packets: 0,
            ..counters
        },
        Counters {
            sent_packets: 1,
            sent_bytes: 36,
            ..Counters::default()
        }
    );
}
