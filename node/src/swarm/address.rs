//! What a multiaddress tells by itself: who, how far away, over what, from which network. Pure; it knows no peer and no table.

use std::net::{IpAddr, Ipv6Addr};

use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};
use serde::{Deserialize, Serialize};

/// Longest address we keep, in bytes of its binary form: a relayed IPv6 address with two peer ids is about 110.
const ADDRESS_LEN_MAX: usize = 256;

/// How far an address reaches. Ordered: a narrower scope is less than a wider one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Scope {
    /// Only this machine.
    Loopback,
    /// Only this network: private, link-local, carrier-grade NAT.
    Private,
    /// Anywhere, as far as the digits can tell. DNS names count as global.
    Global,
}

/// What carries a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Carrier {
    /// TCP with Noise and Yamux.
    Tcp,
    /// QUIC.
    Quic,
}

/// The unit in which we count strangers: an IPv4 /24 or an IPv6 /48, the smallest blocks that are commonly handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(super) struct Net(u64);

impl Net {
    /// Everybody we only see through a relay shares one quota, for a relay hides the address.
    pub(super) const RELAYED: Self = Self(0);

    /// The block of `ip`; `None` for loopback and private addresses, which have no quota (a LAN is one block).
    pub(super) fn of(ip: IpAddr) -> Option<Self> {
        if ip_scope(ip) != Some(Scope::Global) {
            return None;
        }
        Some(match canonical(ip) {
            IpAddr::V4(ip) => Self(1 << 56 | u64::from(ip.to_bits() >> 8)),
            IpAddr::V6(ip) => Self(2 << 56 | (ip.to_bits() >> 80) as u64),
        })
    }
}

/// The first IP address in `address`; `None` for DNS names.
pub(super) fn ip(address: &Multiaddr) -> Option<IpAddr> {
    address.iter().find_map(|part| match part {
        Protocol::Ip4(ip) => Some(IpAddr::V4(ip)),
        Protocol::Ip6(ip) => Some(canonical(IpAddr::V6(ip))),
        _ => None,
    })
}

/// How far `address` reaches; `None` if it cannot be dialled by us: no port, unspecified or multicast host, unknown transport, too long.
pub(super) fn scope(address: &Multiaddr) -> Option<Scope> {
    if address.len() > ADDRESS_LEN_MAX {
        return None;
    }
    carrier(address)?;
    let port = address.iter().find_map(|part| match part {
        Protocol::Tcp(port) | Protocol::Udp(port) => Some(port),
        _ => None,
    })?;
    if port == 0 {
        return None;
    }
    match address.iter().next()? {
        Protocol::Ip4(ip) => ip_scope(IpAddr::V4(ip)),
        Protocol::Ip6(ip) => ip_scope(IpAddr::V6(ip)),
        Protocol::Dns(_) | Protocol::Dns4(_) | Protocol::Dns6(_) => Some(Scope::Global),
        _ => None,
    }
}

/// What carries a connection to `address`, or to its relay; `None` if it is nothing we speak.
pub(super) fn carrier(address: &Multiaddr) -> Option<Carrier> {
    let mut parts = address.iter().skip(1);
    match (parts.next()?, parts.next()) {
        (Protocol::Udp(_), Some(Protocol::QuicV1)) => Some(Carrier::Quic),
        (Protocol::Tcp(_), None | Some(Protocol::P2p(_) | Protocol::P2pCircuit)) => Some(Carrier::Tcp),
        _ => None,
    }
}

/// Whether `address` goes through a relay.
pub(super) fn is_relayed(address: &Multiaddr) -> bool {
    address.iter().any(|part| matches!(part, Protocol::P2pCircuit))
}

/// The peer that `address` leads to: its last part, if that is a peer id.
pub(super) fn peer(address: &Multiaddr) -> Option<PeerId> {
    match address.iter().last()? {
        Protocol::P2p(peer) => Some(peer),
        _ => None,
    }
}

/// `address` with `/p2p/PEER` at its end; `None` if it ends in somebody else's id.
pub(super) fn with_peer(address: &Multiaddr, peer: PeerId) -> Option<Multiaddr> {
    address.clone().with_p2p(peer).ok()
}

/// Whether an address somebody told us is worth keeping, given from how far away they told us.
///
/// A stranger from the internet does not know our neighbours, and nobody but a process of this machine knows our loopback:
/// without this rule a liar makes us dial services of our own network.
pub(super) fn is_plausible(address: &Multiaddr, told_from: Scope) -> bool {
    scope(address).is_some_and(|scope| scope == Scope::Global || scope >= told_from)
}

fn ip_scope(ip: IpAddr) -> Option<Scope> {
    let ip = canonical(ip);
    if ip.is_unspecified() || ip.is_multicast() {
        return None;
    }
    if ip.is_loopback() {
        return Some(Scope::Loopback);
    }
    let private = match ip {
        IpAddr::V4(ip) => {
            let [a, b, ..] = ip.octets();
            ip.is_private() || ip.is_link_local() || (a == 100 && b & 0xc0 == 64) || a == 0
        }
        IpAddr::V6(ip) => ip.is_unique_local() || ip.is_unicast_link_local(),
    };
    Some(if private { Scope::Private } else { Scope::Global })
}

/// An IPv4 address in IPv6 clothes is an IPv4 address.
fn canonical(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V6(v6) if v6 != Ipv6Addr::LOCALHOST => v6.to_ipv4_mapped().map_or(ip, IpAddr::V4),
        IpAddr::V4(_) | IpAddr::V6(_) => ip,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Multiaddr {
        text.parse().unwrap()
    }

    #[test]
    fn scopes_are_told_apart() {
        for (text, expected) in [
            ("/ip4/127.0.0.1/tcp/1", Some(Scope::Loopback)),
            ("/ip6/::1/udp/1/quic-v1", Some(Scope::Loopback)),
            ("/ip4/10.1.2.3/tcp/1", Some(Scope::Private)),
            ("/ip4/100.64.0.1/tcp/1", Some(Scope::Private)),
            ("/ip4/169.254.9.9/tcp/1", Some(Scope::Private)),
            ("/ip6/fd00::1/tcp/1", Some(Scope::Private)),
            ("/ip6/fe80::1/tcp/1", Some(Scope::Private)),
            ("/ip6/::ffff:192.168.0.1/tcp/1", Some(Scope::Private)),
            ("/ip4/8.8.8.8/tcp/1", Some(Scope::Global)),
            ("/ip6/2001:4860::1/tcp/1", Some(Scope::Global)),
            ("/dns4/example.org/tcp/443", Some(Scope::Global)),
            ("/ip4/0.0.0.0/tcp/1", None),
            ("/ip4/224.0.0.1/tcp/1", None),
            ("/ip4/8.8.8.8/tcp/0", None),
            ("/ip4/8.8.8.8/udp/1", None),
            ("/ip4/8.8.8.8/tcp/1/ws", None),
            ("/ip4/8.8.8.8", None),
            ("/memory/7", None),
        ] {
            assert_eq!(scope(&address(text)), expected, "{text}");
        }
    }

    #[test]
    fn a_stranger_cannot_point_us_at_our_own_network() {
        let loopback = address("/ip4/127.0.0.1/tcp/1");
        let private = address("/ip4/192.168.1.1/tcp/1");
        let global = address("/ip4/8.8.8.8/tcp/1");
        for (told_from, kept) in [
            (Scope::Global, [false, false, true]),
            (Scope::Private, [false, true, true]),
            (Scope::Loopback, [true, true, true]),
        ] {
            let found = [&loopback, &private, &global].map(|address| is_plausible(address, told_from));
            assert_eq!(found, kept, "{told_from:?}");
        }
    }

    #[test]
    fn nets_are_slash_24_and_slash_48_and_never_private() {
        let net = |text: &str| Net::of(text.parse().unwrap());
        assert_eq!(net("8.8.8.1"), net("8.8.8.250"));
        assert_ne!(net("8.8.8.1"), net("8.8.9.1"));
        assert_eq!(net("::ffff:8.8.8.1"), net("8.8.8.1"));
        assert_eq!(net("2001:db8:1:2::1"), net("2001:db8:1:ffff::9"));
        assert_ne!(net("2001:db8:1::1"), net("2001:db8:2::1"));
        assert_eq!(net("127.0.0.1"), None);
        assert_eq!(net("192.168.3.4"), None);
    }

    #[test]
    fn relays_and_peers_are_found_in_an_address() {
        let (relay, target) = (PeerId::random(), PeerId::random());
        let direct = address(&format!("/ip4/8.8.8.8/tcp/1/p2p/{target}"));
        let relayed = address(&format!(
            "/ip4/8.8.8.8/udp/1/quic-v1/p2p/{relay}/p2p-circuit/p2p/{target}"
        ));
        assert!(!is_relayed(&direct) && is_relayed(&relayed));
        assert_eq!((peer(&direct), peer(&relayed)), (Some(target), Some(target)));
        assert_eq!(
            (carrier(&direct), carrier(&relayed)),
            (Some(Carrier::Tcp), Some(Carrier::Quic))
        );
        assert_eq!(with_peer(&direct, relay), None);
        assert_eq!(with_peer(&direct, target), Some(direct));
    }
}
