//! Packets that stand for several: with offload, a host's kernel hands over long runs of a flow at once, as it would to a network
//! card, and takes them so. Pure; it knows IPv4 and the header that the kernel puts before each packet.

/// Bytes of the header before each packet: `virtio_net_hdr` of Linux.
pub(super) const HEADER_LEN: usize = 10;

/// The longest that is handed over at once, in bytes: the longest IP packet, behind its header.
pub(super) const FRAME_LEN_MAX: usize = HEADER_LEN + 65_535;

/// Kinds of runs, as Linux numbers them; all others travel alone.
const TCP_4: u8 = 1;
const UDP: u8 = 5;

/// Marks runs that may carry congestion marks, beside the kind.
const ECN: u8 = 0x80;

/// Bytes of a UDP header.
const UDP_LEN: u64 = 8;

/// Returns how many bytes a frame has on the wire, as IP packets: each segment of a run has the headers of its own.
///
/// `None`: it is too short for what it says.
pub(super) fn wire_len(frame: &[u8]) -> Option<u64> {
    let (header, packet) = frame.split_first_chunk::<HEADER_LEN>()?;
    let len = packet.len() as u64;
    // flags, kind, length of headers (which Linux does not keep to), bytes of a segment, where the transport's header begins.
    let [_, kind, _, _, size_0, size_1, start_0, start_1, _, _] = *header;
    let size = u64::from(u16::from_ne_bytes([size_0, size_1]));
    let start = u16::from_ne_bytes([start_0, start_1]);
    let headers = match kind & !ECN {
        _ if size == 0 => return Some(len),
        // The upper half of the byte is the length of the header in words of four bytes.
        TCP_4 => u64::from(start) + u64::from(packet.get(usize::from(start) + 12)? >> 4) * 4,
        UDP => u64::from(start) + UDP_LEN,
        _ => return Some(len),
    };
    let payload = len.checked_sub(headers)?;
    Some(payload + payload.div_ceil(size).max(1) * headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, size: u16, start: u16, packet: &[u8]) -> Vec<u8> {
        let [size_0, size_1] = size.to_ne_bytes();
        let [start_0, start_1] = start.to_ne_bytes();
        let header = [1, kind, 0, 0, size_0, size_1, start_0, start_1, 0, 0];
        [&header, packet].concat()
    }

    /// An IPv4 packet of 20 bytes of IP header, 32 of TCP, and a payload.
    fn tcp(payload: usize) -> Vec<u8> {
        let mut packet = vec![0; 52 + payload];
        packet[32] = 8 << 4;
        packet
    }

    #[test]
    fn a_single_packet_is_as_long_as_it_is() {
        assert_eq!(wire_len(&frame(0, 0, 20, &tcp(100))), Some(152));
        assert_eq!(wire_len(&frame(TCP_4, 1448, 20, &tcp(1448))), Some(1500));
        assert_eq!(wire_len(&frame(0, 0, 0, &[])), Some(0));
    }

    #[test]
    fn each_segment_of_a_run_has_headers() {
        assert_eq!(wire_len(&frame(TCP_4, 1448, 20, &tcp(1448 * 3))), Some(4500));
        assert_eq!(
            wire_len(&frame(TCP_4 | ECN, 1448, 20, &tcp(1448 + 1))),
            Some(1553)
        );
        assert_eq!(
            wire_len(&frame(UDP, 1200, 20, &[0; 28 + 2500])),
            Some(2500 + 3 * 28)
        );
    }

    #[test]
    fn what_is_too_short_has_no_length() {
        assert_eq!(wire_len(&[0; 9]), None);
        assert_eq!(wire_len(&frame(TCP_4, 1448, 20, &[0; 32])), None);
        assert_eq!(wire_len(&frame(UDP, 1448, 20, &[0; 27])), None);
        assert_eq!(wire_len(&frame(TCP_4, 1448, 20, &[255; 33])), None);
    }
}
