//! Room for what QUIC receives. libp2p-quic makes its sockets itself, with the system's default of some 200 KiB: at 400 Mbit/s
//! they overflow when nobody reads for 3 ms, and every overflow is taken for a full network.

/// Bytes that a UDP socket should hold: 80 ms at 400 Mbit/s. The system's own limit (`net.core.rmem_max`) may be lower.
#[cfg(target_os = "linux")]
const RECEIVE: usize = 4 * 1024 * 1024;

/// Gives the UDP sockets of this process room to receive. Where that does not work, nothing changes.
#[cfg(target_os = "linux")]
pub(super) fn make_room() {
    use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};

    let Ok(this) = pidfd_open(getpid(), PidfdFlags::empty()) else {
        return;
    };
    let numbers = std::fs::read_dir("/proc/self/fd").into_iter().flatten();
    for number in numbers.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()) {
        // A duplicate: it stays open while we look at it, whatever becomes of the original.
        if let Ok(file) = pidfd_getfd(&this, number, PidfdGetfdFlags::empty()) {
            widen(&file);
        }
    }
}

/// See the other one: elsewhere there is no way to a socket that somebody else made.
#[cfg(not(target_os = "linux"))]
pub(super) fn make_room() {}

#[cfg(target_os = "linux")]
fn widen(file: &std::os::fd::OwnedFd) {
    use rustix::net::{
        AddressFamily, SocketType,
        sockopt::{set_socket_recv_buffer_size, socket_domain, socket_recv_buffer_size, socket_type},
    };

    let internet = matches!(
        socket_domain(file),
        Ok(AddressFamily::INET | AddressFamily::INET6)
    );
    let datagrams = socket_type(file) == Ok(SocketType::DGRAM);
    if internet && datagrams && socket_recv_buffer_size(file).is_ok_and(|size| size < RECEIVE) {
        // Linux gives what it allows.
        let _ = set_socket_recv_buffer_size(file, RECEIVE);
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use rustix::net::sockopt::socket_recv_buffer_size;

    #[test]
    fn udp_sockets_get_what_the_system_allows_and_others_are_left_alone() {
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let before = socket_recv_buffer_size(&tcp).unwrap();
        super::make_room();
        let allowed = std::fs::read_to_string("/proc/sys/net/core/rmem_max").unwrap();
        let allowed: usize = allowed.trim().parse().unwrap();
        // Linux says twice what was asked for.
        assert!(socket_recv_buffer_size(&udp).unwrap() >= allowed.min(super::RECEIVE));
        assert_eq!(socket_recv_buffer_size(&tcp).unwrap(), before);
    }
}
