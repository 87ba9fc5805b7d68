//! Messages of the catalog: with counts that nothing stands behind, or with records that do not belong together.

use super::{Refused, check};
use crate::fixture::{golden_known, golden_signed};
use protocol::limits::{CARD_LEN_MAX, FRAME_LEN_MAX, IDS_MAX, KEY_STATEMENT_LEN_MAX, RELEASE_LEN_MAX};
use protocol::wire::{KnownError, decode_frame, encode_frame};
use protocol::{CardError, CatalogAsk, CatalogTell, Known, ReleaseError, ReleaseId, WireError};

fn ask(body: &[u8]) -> Refused {
    let len = u32::try_from(body.len()).unwrap().to_le_bytes();
    Refused::Wire(decode_frame::<CatalogAsk>(&[&len, body].concat()).unwrap_err())
}

fn tell(tell: &CatalogTell) -> Refused {
    let frame = encode_frame(tell).unwrap();
    Refused::Wire(decode_frame::<CatalogTell>(&frame).unwrap_err())
}

#[test]
fn hostile_messages_of_the_catalog_are_refused() {
    let ids = |count| vec![ReleaseId::from_bytes([1; 32]); count];
    let body = |ask: &CatalogAsk| encode_frame(ask).unwrap()[4..].to_vec();
    let known = golden_known();
    let with = |release: Vec<u8>, card: &Option<Vec<u8>>| {
        let card = card.clone();
        Refused::Known(Known { release, card }.verify().unwrap_err())
    };
    let large = |release, card| {
        CatalogTell::Known(vec![Known {
            release: vec![0; release],
            card: Some(vec![0; card]),
        }])
    };
    let long = u32::try_from(FRAME_LEN_MAX + 1).unwrap().to_le_bytes();
    let long = Refused::Wire(decode_frame::<CatalogAsk>(&long).unwrap_err());
    let two_asks = [body(&CatalogAsk::Version), body(&CatalogAsk::Version)].concat();
    use Refused::Wire as W;
    check(
        vec![
            row!("frame: longer than any", long, W(WireError::TooLong { .. })),
            row!("frame: empty", ask(b""), W(WireError::Message)),
            row!(
                "frame: an ask of a later version",
                ask(&[7]),
                W(WireError::Message)
            ),
            row!(
                "frame: two asks in one",
                ask(&two_asks),
                W(WireError::Trailing { len: 1 })
            ),
            row!(
                "get: more ids than there may be",
                ask(&body(&CatalogAsk::Get(ids(IDS_MAX + 1)))),
                W(WireError::Message)
            ),
            row!(
                "get: ids that are announced and not there",
                ask(&[4, 0x80, 0x08]),
                W(WireError::Message)
            ),
            row!("get: half an id", ask(&[4, 1, 0, 0]), W(WireError::Message)),
            row!(
                "get: a count past all memory",
                ask(&[4, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]),
                W(WireError::Message)
            ),
            row!(
                "have: more ids than there may be",
                ask(&body(&CatalogAsk::Have(ids(IDS_MAX + 1)))),
                W(WireError::Message)
            ),
            row!(
                "have: a count with more digits than numbers have",
                ask(&[[5].as_slice(), &[0xff; 11]].concat()),
                W(WireError::Message)
            ),
            row!(
                "reconcile: a message that is cut",
                ask(&[3, 4, 1, 2, 3]),
                W(WireError::Message)
            ),
            row!(
                "keys: of a weak key",
                ask(&[[6].as_slice(), &[0; 32]].concat()),
                W(WireError::Message)
            ),
            row!(
                "known: more than there may be",
                tell(&CatalogTell::Known(vec![
                    Known {
                        release: Vec::new(),
                        card: None
                    };
                    IDS_MAX + 1
                ])),
                W(WireError::Message)
            ),
            row!(
                "known: a release that is too long",
                tell(&large(RELEASE_LEN_MAX + 1, 0)),
                W(WireError::Message)
            ),
            row!(
                "known: a summary that is too long",
                tell(&large(1, CARD_LEN_MAX + 1)),
                W(WireError::Message)
            ),
            row!(
                "told keys: more than there may be",
                tell(&CatalogTell::Keys(vec![Vec::new(); 17])),
                W(WireError::Message)
            ),
            row!(
                "told keys: one that is too long",
                tell(&CatalogTell::Keys(vec![vec![0; KEY_STATEMENT_LEN_MAX + 1]])),
                W(WireError::Message)
            ),
            row!(
                "known: the summary of another release",
                with(golden_signed().encode(), &known.card),
                Refused::Known(KnownError::Card(CardError::OtherCard { .. }))
            ),
            row!(
                "known: a release that nobody signed",
                with(vec![0; 64], &None),
                Refused::Known(KnownError::Release(ReleaseError::Json(_)))
            ),
        ],
        19,
    );
}
