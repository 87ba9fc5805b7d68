//! What is denied stays out of what is known, and out of what is told and found.

use protocol::release::id_of;
use protocol::{Known, RepoRef, SignedRelease};

use crate::denials::What;
use crate::discovery::samples::{discovery, forged, peer, signed, told};
use crate::discovery::searching::ROUNDS_MAX;
use crate::discovery::{Relay, SearchAnswer, SearchAsk, SearchSort};

fn all_of(release: &SignedRelease) -> What {
    What::Publisher(release.release().publisher)
}

#[tokio::test]
async fn denied_is_neither_taken_in_nor_asked_for_nor_told_until_it_is_allowed() {
    let (discovery, _data) = discovery(Relay::All).await;
    let library = discovery.library().clone();
    let (old, free) = (signed(1, "old", 1), signed(2, "free", 1));
    discovery.take(&[told(&old), told(&free)], peer()).unwrap();
    let ids = [id_of(&old), id_of(&free)];
    assert_eq!(discovery.told(&ids).unwrap().len(), 2);

    library.deny(&all_of(&old), None, None).await.unwrap();
    assert_eq!(discovery.told(&ids).unwrap(), [told(&free)]);
    let (new, next) = (signed(1, "new", 1), signed(1, "old", 2));
    let taken = discovery.take(&[told(&new), told(&next)], peer()).unwrap();
    assert_eq!((taken.new.len(), taken.passed, taken.false_ones), (0, 2, 0));
    for release in [&new, &next] {
        assert!(!discovery.asks_for(id_of(release).name_half(), |_| true).unwrap());
    }
    let stranger = signed(2, "another", 1);
    assert!(
        discovery
            .asks_for(id_of(&stranger).name_half(), |_| true)
            .unwrap()
    );
    assert!(!discovery.lifted(), "nothing was allowed");

    library.allow(&all_of(&old)).await.unwrap();
    assert!(discovery.lifted() && !discovery.lifted());
    assert_eq!(discovery.told(&ids).unwrap().len(), 2);
    for release in [&new, &next] {
        assert!(discovery.asks_for(id_of(release).name_half(), |_| true).unwrap());
    }
    let taken = discovery.take(&[told(&new), told(&next)], peer()).unwrap();
    assert_eq!(taken.new.len(), 2);
}

#[tokio::test]
async fn one_denied_revision_is_not_told_and_its_name_goes_on() {
    let (discovery, _data) = discovery(Relay::All).await;
    let (first, second) = (signed(1, "model", 1), signed(1, "model", 2));
    discovery.take(&[told(&first)], peer()).unwrap();
    let what = What::Repo(RepoRef::Content(first.release().manifest));
    discovery.library().deny(&what, None, None).await.unwrap();
    assert_eq!(discovery.told(&[id_of(&first)]).unwrap(), []);
    assert_eq!(discovery.take(&[told(&second)], peer()).unwrap().new.len(), 1);
    assert_eq!(discovery.told(&[id_of(&second)]).unwrap(), [told(&second)]);
}

#[tokio::test]
async fn pages_of_a_search_are_filled_past_what_is_denied() {
    let (discovery, _data) = discovery(Relay::All).await;
    let library = discovery.library().clone();
    let some = |seed: u8, letter: char| {
        (0..30).map(move |number| told(&signed(seed, &format!("{letter}{number:02}"), 1)))
    };
    let all: Vec<Known> = some(1, 'a').chain(some(2, 'b')).collect();
    discovery.take(&all, peer()).unwrap();
    discovery.catch_up();
    let search = |limit, after: Option<String>| -> SearchAnswer {
        let ask = SearchAsk {
            sort: SearchSort::Name,
            ascending: true,
            limit,
            after,
            ..SearchAsk::default()
        };
        discovery.search(&ask).unwrap()
    };
    let names = |answer: &SearchAnswer| -> Vec<String> {
        let names = answer.hits.iter().map(|hit| hit.repo.name.to_string());
        names.collect()
    };
    library
        .deny(&all_of(&signed(1, "a", 1)), None, None)
        .await
        .unwrap();
    let page = search(20, None);
    assert_eq!((page.hits.len(), page.denied, page.total), (20, 30, 60));
    assert_eq!(
        (names(&page)[0].as_str(), names(&page)[19].as_str()),
        ("b00", "b19")
    );
    let rest = search(20, page.next);
    assert_eq!((rest.hits.len(), rest.denied, rest.next), (10, 0, None));
    // Where there is much to pass over, a page is shorter, and the next one goes on.
    let short = search(1, None);
    assert_eq!((short.hits.len(), short.denied), (0, ROUNDS_MAX as u64));
    let on = search(1, short.next);
    assert_eq!(names(&on), ["b00"]);

    library.allow(&all_of(&signed(1, "a", 1))).await.unwrap();
    let page = search(1, None);
    assert_eq!((names(&page), page.denied), (vec!["a00".to_owned()], 0));
}

#[tokio::test]
async fn followed_list_is_kept_without_its_publisher_and_only_with_the_right_signature() {
    let (discovery, _data) = discovery(Relay::Followed).await;
    let library = discovery.library().clone();
    let (list, other) = (signed(3, "denylist", 1), signed(3, "other", 1));
    let repo = list.release().repo();
    assert_eq!(discovery.take(&[told(&list)], peer()).unwrap().new.len(), 0);
    library.subscribe(&RepoRef::Id(repo.clone())).await.unwrap();

    let taken = discovery.take(&[forged(&list)], peer()).unwrap();
    assert_eq!((taken.new.len(), taken.false_ones), (0, 1));
    assert_eq!(library.names().get(&repo).unwrap(), None);

    let taken = discovery.take(&[told(&list), told(&other)], peer()).unwrap();
    assert_eq!(taken.new, [id_of(&list)]);
    assert_eq!(library.names().get(&repo).unwrap(), Some(list.clone()));
    let ids = [id_of(&other), id_of(&list)];
    assert_eq!(discovery.lists_among(&ids), [repo]);
    assert_eq!(discovery.lists_among(&ids[..1]), []);
    assert!(discovery.near().publishers().contains(&list.release().publisher));
}
