use super::*;

fn blobs(all: &[(u8, u64)]) -> Vec<(Hash, u64)> {
    all.iter().map(|(name, len)| (Hash::of(&[*name]), *len)).collect()
}

fn shelf<'a>(all: &'a [(Vec<(Hash, u64)>, bool)]) -> Vec<Shelved<'a>> {
    let shelved = |(blobs, droppable): &'a (Vec<(Hash, u64)>, bool)| Shelved {
        blobs,
        droppable: *droppable,
    };
    all.iter().map(shelved).collect()
}

#[test]
fn shared_blobs_count_once() {
    let (one, two) = (blobs(&[(1, 10), (2, 5)]), blobs(&[(1, 10), (3, 1)]));
    assert_eq!(union([&*one, &*two]), 16);
    let kept = [(one, false)];
    assert_eq!(fit(Some(16), &shelf(&kept), &two), Fit::Fits { drop: vec![] });
    assert_eq!(fit(Some(15), &shelf(&kept), &two), Fit::No { need: 1, free: 0 });
}

#[test]
fn oldest_goes_first_and_no_more_than_is_needed() {
    let kept = [
        (blobs(&[(1, 4)]), true),
        (blobs(&[(2, 4)]), false),
        (blobs(&[(3, 4)]), true),
        (blobs(&[(4, 4)]), true),
    ];
    let new = blobs(&[(9, 4)]);
    let drops = |quota| fit(Some(quota), &shelf(&kept), &new);
    assert_eq!(drops(20), Fit::Fits { drop: vec![] });
    assert_eq!(drops(16), Fit::Fits { drop: vec![0] });
    assert_eq!(drops(12), Fit::Fits { drop: vec![0, 2] });
    assert_eq!(drops(8), Fit::Fits { drop: vec![0, 2, 3] });
    // Nothing goes in vain.
    assert_eq!(drops(7), Fit::No { need: 4, free: 3 });
}

#[test]
fn what_makes_no_difference_is_spared() {
    // All that the oldest has is in the newest too: without it nothing would be won.
    let kept = [
        (blobs(&[(1, 6)]), true),
        (blobs(&[(2, 6)]), true),
        (blobs(&[(1, 6)]), false),
    ];
    assert_eq!(
        fit(Some(12), &shelf(&kept), &blobs(&[(9, 6)])),
        Fit::Fits { drop: vec![1] }
    );
    // A small one is spared where a later large one has to go anyway.
    let kept = [(blobs(&[(1, 1)]), true), (blobs(&[(2, 10)]), true)];
    assert_eq!(
        fit(Some(12), &shelf(&kept), &blobs(&[(9, 11)])),
        Fit::Fits { drop: vec![1] }
    );
}

#[test]
fn lengths_that_no_number_holds_do_not_fit() {
    let new = blobs(&[(1, u64::MAX), (2, u64::MAX)]);
    let kept = [(blobs(&[(3, 7)]), false)];
    let no = Fit::No {
        need: u64::MAX,
        free: u64::MAX - 7,
    };
    assert_eq!(fit(Some(u64::MAX), &shelf(&kept), &new), no);
    assert_eq!(union([&*new]), u64::MAX);
}

#[test]
fn over_a_quota_that_was_lowered_only_what_adds_nothing_fits() {
    let kept = [(blobs(&[(1, 10)]), false)];
    let fits = |new: &[(u8, u64)]| fit(Some(5), &shelf(&kept), &blobs(new));
    assert_eq!(fits(&[(1, 10)]), Fit::Fits { drop: vec![] });
    assert_eq!(fits(&[(2, 1)]), Fit::No { need: 1, free: 0 });
    assert_eq!(
        fit(None, &shelf(&kept), &blobs(&[(2, u64::MAX)])),
        Fit::Fits { drop: vec![] }
    );
}
