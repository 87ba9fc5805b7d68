//! A ticket holds what it may hold, and says what is wrong with it otherwise.

use crate::fixture::{PEER, golden_ticket};
use data_encoding::{Encoding, Specification};
use protocol::limits::{ADDRESS_LEN_MAX, TICKET_LEN_MAX};
use protocol::{Hash, Ticket, TicketError};

fn base32() -> Encoding {
    let mut spec = Specification::new();
    spec.symbols.push_str("abcdefghijklmnopqrstuvwxyz234567");
    spec.encoding().unwrap()
}

/// The text of a ticket with these bytes before its checksum.
fn forge(bytes: &[u8]) -> String {
    let checksum = &Hash::of(bytes).as_bytes()[..4].to_vec();
    format!("shoal:{}", base32().encode(&[bytes, checksum].concat()))
}

fn bytes_of(ticket: &Ticket) -> Vec<u8> {
    let text = ticket.to_string();
    let bytes = base32().decode(&text.as_bytes()[6..]).unwrap();
    bytes[..bytes.len() - 4].to_vec()
}

fn with(addresses: &[&str]) -> Result<Ticket, TicketError> {
    let addresses = addresses.iter().map(|it| (*it).to_owned()).collect();
    Ticket::new(Hash::of(b"m"), addresses, None)
}

#[test]
fn forge_makes_what_display_makes() {
    let ticket = golden_ticket();
    assert_eq!(forge(&bytes_of(&ticket)), ticket.to_string());
}

#[test]
fn ticket_says_what_is_wrong_with_it() {
    let parse = |text: &str| text.parse::<Ticket>().unwrap_err();
    let good = golden_ticket().to_string();
    assert_eq!(parse(""), TicketError::Prefix);
    assert_eq!(parse("shoal"), TicketError::Prefix);
    assert_eq!(parse(&good.to_uppercase()), TicketError::Prefix);
    assert_eq!(parse(&format!(" {good}")), TicketError::Prefix);
    assert_eq!(parse("shoal:"), TicketError::TooShort);
    assert_eq!(parse("shoal:A"), TicketError::Encoding { at: 0 });
    assert_eq!(parse("shoal:aaaaaa1a"), TicketError::Encoding { at: 6 });
    assert!(matches!(parse(&format!("{good}=")), TicketError::Encoding { .. }));
    assert!(matches!(
        parse(&format!("{good}\n")),
        TicketError::Encoding { .. }
    ));
    assert_eq!(parse(&format!("shoal:{}", "a".repeat(40))), TicketError::Checksum);
    let long = format!("shoal:{}", "a".repeat(TICKET_LEN_MAX));
    assert_eq!(
        parse(&long),
        TicketError::TooLong {
            len: long.len(),
            max: TICKET_LEN_MAX
        }
    );
}

#[test]
fn newer_version_is_named() {
    let mut bytes = bytes_of(&golden_ticket());
    bytes[0] = 2;
    assert_eq!(
        forge(&bytes).parse::<Ticket>(),
        Err(TicketError::Version { found: 2 })
    );
    assert_eq!(
        forge(&[9]).parse::<Ticket>(),
        Err(TicketError::Version { found: 9 })
    );
}

#[test]
fn body_has_one_form() {
    let bytes = bytes_of(&with(&[]).unwrap());
    let wrong = |bytes: &[u8]| assert_eq!(forge(bytes).parse::<Ticket>(), Err(TicketError::Body));
    assert!(forge(&bytes).parse::<Ticket>().is_ok());
    wrong(&bytes[..bytes.len() - 1]);
    wrong(&[&bytes[..], &[0]].concat());
    // A zero in two bytes, as the count of addresses.
    wrong(&[&bytes[..33], &[0x80, 0], &bytes[34..]].concat());
    // More addresses than there are bytes.
    wrong(&[&bytes[..33], &[0xff, 0xff, 0xff, 0xff, 0x0f], &bytes[34..]].concat());
    // A repo that is neither there nor not.
    wrong(&[&bytes[..34], &[2]].concat());
    wrong(&[1]);
}

#[test]
fn ticket_bounds_its_addresses_when_made_and_when_read() {
    let address = format!("/ip4/192.0.2.1/tcp/1/p2p/{PEER}");
    let sixteen = vec![address.as_str(); 16];
    assert!(with(&sixteen).is_ok());
    let seventeen = vec![address.as_str(); 17];
    let error = TicketError::TooManyAddresses { count: 17, max: 16 };
    assert_eq!(with(&seventeen), Err(error.clone()));
    let mut bytes = bytes_of(&with(&sixteen).unwrap());
    bytes[33] = 17;
    let one = [&[u8::try_from(address.len()).unwrap()], address.as_bytes()].concat();
    bytes.splice(34..34, one);
    assert_eq!(forge(&bytes).parse::<Ticket>(), Err(error));
}

#[test]
fn address_has_the_form_of_a_multiaddr_with_a_peer() {
    let longest = format!(
        "/dns/{}/p2p/{PEER}",
        "h".repeat(ADDRESS_LEN_MAX - 10 - PEER.len())
    );
    assert_eq!(longest.len(), ADDRESS_LEN_MAX);
    let circuit = format!("/ip4/192.0.2.1/udp/1/quic-v1/p2p/{PEER}/p2p-circuit/p2p/{PEER}");
    let alone = format!("/p2p/{PEER}");
    for address in [&longest, &circuit, &alone] {
        assert!(with(&[address]).is_ok(), "{address}");
    }
    let wrong = [
        String::new(),
        "/".to_owned(),
        PEER.to_owned(),
        "/ip4/192.0.2.1/tcp/1".to_owned(),
        "/ip4/192.0.2.1/tcp/1/p2p/".to_owned(),
        "/ip4/192.0.2.1/tcp/1/p2p/x".to_owned(),
        format!("ip4/192.0.2.1/tcp/1/p2p/{PEER}"),
        format!("/ip4/192.0.2.1/tcp/1/p2p/{PEER}/"),
        format!("/ip4/192.0.2.1/tcp/1/p2p/{PEER}/p2p-circuit"),
        format!("/dns/h h/p2p/{PEER}"),
        format!("/dns/h\u{1b}[0m/p2p/{PEER}"),
        format!("/dns/hôte/p2p/{PEER}"),
        format!("/ip4/192.0.2.1/tcp/1/p2p/0{}", &PEER[1..]),
        format!("/ip4/192.0.2.1/tcp/1/p2p/{PEER}{PEER}"),
        format!("/d{longest}"),
    ];
    for address in wrong {
        let shown = address.chars().take(ADDRESS_LEN_MAX).collect();
        assert_eq!(with(&[&address]), Err(TicketError::Address { address: shown }));
    }
}

#[test]
fn largest_ticket_can_be_read() {
    let longest = format!(
        "/dns/{}/p2p/{PEER}",
        "h".repeat(ADDRESS_LEN_MAX - 10 - PEER.len())
    );
    let repo = protocol::RepoId {
        publisher: crate::fixture::publisher(1),
        name: crate::fixture::name(&"n".repeat(96)),
    };
    let ticket = Ticket::new(Hash::of(b"m"), vec![longest; 16], Some(repo)).unwrap();
    let text = ticket.to_string();
    assert!(text.len() <= TICKET_LEN_MAX, "{}", text.len());
    assert_eq!(text.parse(), Ok(ticket));
}
