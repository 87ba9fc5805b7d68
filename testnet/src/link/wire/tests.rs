use super::*;

const MS: Duration = Duration::from_millis(1);

/// A packet that came out: when, to which host, which slot.
type Arrival = (Duration, usize, Slot);

/// Offers `packets` of `(time, from, to, bytes)` in order of time, and returns what comes out, with the slots counted from 0.
fn play(wire: &mut Wire, packets: &[(Duration, usize, usize, u64)]) -> Vec<Arrival> {
    let start = Instant::now();
    let mut arrivals = Vec::new();
    let mut drain = |wire: &mut Wire, until: Option<Instant>| {
        while let Some(at) = wire.next_at().filter(|at| until.is_none_or(|until| *at <= until)) {
            while let Some(fate) = wire.next(at) {
                if let Fate::Deliver { to, slot } = fate {
                    arrivals.push((at - start, to, slot));
                }
            }
        }
    };
    for (slot, (time, from, to, len)) in packets.iter().enumerate() {
        drain(wire, Some(start + *time));
        wire.offer(start + *time, *from, *to, *len, slot);
    }
    drain(wire, None);
    arrivals
}

fn steady(packets: u32, every: Duration, len: u64) -> Vec<(Duration, usize, usize, u64)> {
    (0..packets).map(|i| (every * i, 0, 1, len)).collect()
}

#[test]
fn default_link_delivers_at_once_and_in_order() {
    let arrivals = play(
        &mut Wire::new(2, 1),
        &[(MS, 0, 1, 10), (MS, 0, 1, 20), (2 * MS, 1, 0, 30)],
    );
    assert_eq!(arrivals, [(MS, 1, 0), (MS, 1, 1), (2 * MS, 0, 2)]);
}

#[test]
fn delay_holds_to_the_nanosecond_and_per_direction() {
    let mut wire = Wire::new(2, 1);
    wire.set(
        0,
        1,
        Link {
            delay: 25 * MS,
            ..Link::default()
        },
    );
    wire.set(
        1,
        0,
        Link {
            delay: 3 * MS,
            ..Link::default()
        },
    );
    let arrivals = play(&mut wire, &[(Duration::ZERO, 0, 1, 10), (MS, 1, 0, 10)]);
    assert_eq!(arrivals, [(4 * MS, 0, 1), (25 * MS, 1, 0)]);
}

#[test]
fn jitter_stays_within_its_bound_and_keeps_the_order_unless_told() {
    for reorder in [false, true] {
        let mut wire = Wire::new(2, 7);
        wire.set_default(Link {
            delay: 10 * MS,
            jitter: 20 * MS,
            reorder,
            ..Link::default()
        });
        let arrivals = play(&mut wire, &steady(1000, MS, 100));
        assert_eq!(arrivals.len(), 1000);
        for (at, _, slot) in &arrivals {
            let late = *at - MS * *slot as u32;
            assert!(late >= 10 * MS && late <= 30 * MS, "packet {slot} took {late:?}");
        }
        assert_eq!(arrivals.is_sorted_by_key(|(_, _, slot)| *slot), !reorder);
    }
}

#[test]
fn loss_takes_its_share_and_repeats_from_the_seed() {
    let lost = |seed, extra_traffic: bool| {
        let mut wire = Wire::new(3, seed);
        wire.set_default(Link {
            loss: 0.1,
            ..Link::default()
        });
        let mut packets = steady(20_000, MS, 100);
        if extra_traffic {
            packets.extend((0..100).map(|i| (20_000 * MS + MS * i, 2, 1, 100)));
        }
        let arrivals = play(&mut wire, &packets);
        arrivals
            .into_iter()
            .map(|(_, _, slot)| slot)
            .filter(|slot| *slot < 20_000)
            .collect::<Vec<_>>()
    };
    let survivors = lost(42, false);
    assert!(
        (17_800..18_200).contains(&survivors.len()),
        "{} of 20000 came through",
        survivors.len()
    );
    assert_eq!(survivors, lost(42, true));
    assert_ne!(survivors, lost(43, false));
}

#[test]
fn rate_spaces_packets_and_a_full_queue_drops_the_newest() {
    let mut wire = Wire::new(2, 1);
    // 1000 bytes take 1 ms.
    let link = Link {
        rate_bits_per_s: Some(8_000_000),
        queue_bytes: 3000,
        ..Link::default()
    };
    wire.set_default(link);
    let burst = [(Duration::ZERO, 0, 1, 1000); 5];
    assert_eq!(
        play(&mut wire, &burst),
        [(MS, 1, 0), (2 * MS, 1, 1), (3 * MS, 1, 2)]
    );
    assert_eq!(wire.counters(0).dropped_packets, 2);
    assert_eq!(wire.counters(0).dropped_bytes, 2000);
}

#[test]
fn packet_longer_than_the_queue_passes_an_idle_link() {
    let mut wire = Wire::new(2, 1);
    wire.set_default(Link {
        rate_bits_per_s: Some(8_000_000),
        queue_bytes: 10,
        ..Link::default()
    });
    let arrivals = play(&mut wire, &[(Duration::ZERO, 0, 1, 1000), (2 * MS, 0, 1, 1000)]);
    assert_eq!(arrivals, [(MS, 1, 0), (3 * MS, 1, 1)]);
}

#[test]
fn uplink_is_shared_by_all_that_a_host_sends() {
    let mut wire = Wire::new(3, 1);
    wire.set_access(
        0,
        Access {
            up_bits_per_s: Some(8_000_000),
            ..Access::default()
        },
    );
    let arrivals = play(
        &mut wire,
        &[
            (Duration::ZERO, 0, 1, 1000),
            (Duration::ZERO, 0, 2, 1000),
            (Duration::ZERO, 1, 2, 1000),
        ],
    );
    assert_eq!(arrivals, [(Duration::ZERO, 2, 2), (MS, 1, 0), (2 * MS, 2, 1)]);
}

#[test]
fn downlink_is_shared_by_all_that_a_host_receives() {
    let mut wire = Wire::new(3, 1);
    wire.set_access(
        2,
        Access {
            down_bits_per_s: Some(8_000_000),
            down_queue_bytes: 2000,
            ..Access::default()
        },
    );
    wire.set(
        1,
        2,
        Link {
            delay: MS / 2,
            ..Link::default()
        },
    );
    let arrivals = play(
        &mut wire,
        &[
            (Duration::ZERO, 1, 2, 1000),
            (Duration::ZERO, 0, 2, 1000),
            (Duration::ZERO, 0, 2, 1000),
            (Duration::ZERO, 2, 0, 1000),
        ],
    );
    // The packet from 1 comes when 0's two fill the queue. The way out of 2 is not its way in.
    assert_eq!(arrivals, [(Duration::ZERO, 0, 3), (MS, 2, 1), (2 * MS, 2, 2)]);
    assert_eq!(wire.counters(1).dropped_packets, 1);
}

#[test]
fn lifted_limit_lets_nothing_overtake_the_queue() {
    let mut wire = Wire::new(2, 1);
    let start = Instant::now();
    wire.set_access(
        1,
        Access {
            down_bits_per_s: Some(8_000_000),
            ..Access::default()
        },
    );
    assert!(wire.offer(start, 0, 1, 1000, 0));
    assert_eq!(wire.next(start), None, "it waits for the downlink");
    wire.set_access(1, Access::default());
    assert!(wire.offer(start, 0, 1, 1000, 1));
    assert_eq!(wire.next(start + MS), Some(Fate::Deliver { to: 1, slot: 0 }));
    assert_eq!(wire.next(start + MS), Some(Fate::Deliver { to: 1, slot: 1 }));
}

#[test]
fn cut_stops_one_direction_and_what_is_on_its_way() {
    let mut wire = Wire::new(2, 1);
    let start = Instant::now();
    wire.set_default(Link {
        delay: MS,
        ..Link::default()
    });
    assert!(wire.offer(start, 0, 1, 10, 0));
    wire.cut(0, 1);
    assert!(!wire.offer(start, 0, 1, 10, 1));
    assert!(wire.offer(start, 1, 0, 10, 2));
    assert_eq!(wire.next(start + MS), Some(Fate::Drop { slot: 0 }));
    assert_eq!(wire.next(start + MS), Some(Fate::Deliver { to: 0, slot: 2 }));
    wire.heal();
    assert!(wire.offer(start + MS, 0, 1, 10, 3));
    assert_eq!(wire.next(start + 2 * MS), Some(Fate::Deliver { to: 1, slot: 3 }));
}

#[test]
fn packets_on_their_way_are_bounded_where_no_rate_bounds_them() {
    let mut wire = Wire::new(2, 1);
    let start = Instant::now();
    wire.set_default(Link {
        delay: 1000 * MS,
        ..Link::default()
    });
    let taken = |wire: &mut Wire, len| {
        (0..100_000)
            .take_while(|slot| wire.offer(start, 0, 1, len, *slot))
            .count() as u64
    };
    assert_eq!(taken(&mut wire, 40), FLIGHT_PACKETS_MAX);
    while wire.next(start + 1000 * MS).is_some() {}
    assert_eq!(taken(&mut wire, 9000), FLIGHT_BYTES_MAX / 9000);
}

#[test]
fn every_packet_is_received_dropped_or_on_its_way() {
    let mut wire = Wire::new(4, 5);
    let start = Instant::now();
    wire.set_default(Link {
        delay: 5 * MS,
        jitter: 5 * MS,
        loss: 0.05,
        rate_bits_per_s: Some(2_000_000),
        queue_bytes: 9000,
        reorder: true,
    });
    for host in 0..4 {
        wire.set_access(
            host,
            Access {
                up_bits_per_s: Some(3_000_000),
                down_bits_per_s: Some(1_500_000),
                up_queue_bytes: 20_000,
                down_queue_bytes: 20_000,
            },
        );
    }
    let (mut taken, mut out) = (0, 0);
    for i in 0..20_000u32 {
        let now = start + i * MS / 8;
        if i == 9_000 {
            wire.cut(0, 1);
        }
        while wire.next(now).is_some() {
            out += 1;
        }
        let from = i as usize % 4;
        taken += u64::from(wire.offer(
            now,
            from,
            (from + 1 + i as usize % 3) % 4,
            40 + u64::from(i) % 1400,
            0,
        ));
    }
    let sum = |wire: &Wire| {
        (0..4)
            .map(|host| wire.counters(host))
            .fold([0; 3], |[sent, got, lost], counters| {
                [
                    sent + counters.sent_bytes,
                    got + counters.received_bytes,
                    lost + counters.dropped_bytes,
                ]
            })
    };
    let [sent, got, lost] = sum(&wire);
    assert!(sent > got + lost, "some are on their way");
    while wire.next(start + 100_000 * MS).is_some() {
        out += 1;
    }
    let [sent, got, lost] = sum(&wire);
    assert_eq!(sent, got + lost);
    assert!(got > 0 && lost > 0);
    assert_eq!(taken, out);
}

#[test]
#[should_panic(expected = "no such host")]
fn link_of_a_host_that_does_not_exist_is_refused() {
    Wire::new(2, 1).set(0, 2, Link::default());
}

#[test]
fn counters_tell_what_passed_since() {
    let mut wire = Wire::new(2, 1);
    let start = Instant::now();
    assert!(wire.offer(start, 0, 1, 700, 0));
    let before = wire.counters(0);
    assert!(wire.offer(start, 0, 1, 300, 1));
    wire.stray(0);
    let since = wire.counters(0).since(before);
    assert_eq!(
        (since.sent_packets, since.sent_bytes, since.stray_packets),
        (1, 300, 1)
    );
    assert_eq!(since.dropped_packets, 0);
}
