use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc;
use std::time::Instant;

use super::*;
use futures_util::future::join_all;

/// Look-ups of names that begin with `silent` end when the sender is dropped; all others at once. Counts both, without
/// the question that shows whether the name server answers.
fn lookups() -> (Lookups, mpsc::Sender<()>, Arc<AtomicUsize>) {
    let (release, silence) = mpsc::channel::<()>();
    let (silence, asked) = (Mutex::new(silence), Arc::new(AtomicUsize::new(0)));
    let lookups = Lookups::new(SLOTS, {
        let asked = asked.clone();
        move |name| {
            asked.fetch_add(usize::from(name != CONTROL), Relaxed);
            if name.starts_with("silent") {
                _ = lock(&silence).recv();
            }
            Ok(vec!["192.0.2.1:0".parse().expect("it is an address")])
        }
    });
    (lookups, release, asked)
}

/// Tokio's paused clock stands still while a thread is blocked.
async fn in_fast_time<T>(waiting: impl Future<Output = T>) -> T {
    let pass = async {
        loop {
            tokio::time::advance(MAX_WAIT / 4).await;
        }
    };
    tokio::select! {
        answer = waiting => answer,
        () = pass => unreachable!("time does not end"),
    }
}

/// Asks for many names of which none is answered, until all attempts have given up. The threads are not free then.
async fn look_up_dead_names(lookups: &Lookups, owner: &Owner) {
    let names: Vec<_> = (0..1_000).map(|number| format!("silent-{number}.test")).collect();
    // Long: the fast time may pass before an attempt begins.
    let dead = names
        .iter()
        .map(|name| tokio::time::timeout(MAX_WAIT * 100, lookups.look_up(Some(owner), name)));
    let answers = in_fast_time(join_all(dead)).await;
    let given_up = answers.iter().filter(|answer| matches!(answer, Ok(Err(_))));
    assert_eq!(given_up.count(), names.len());
}

/// Waits until so many look-ups have begun: each is on a thread of its own, which may run late. There must be no more.
fn expect_asked(asked: &AtomicUsize, count: usize) {
    let begun = Instant::now();
    while asked.load(Relaxed) < count && begun.elapsed() < Duration::from_secs(10) {
        std::thread::yield_now();
    }
    assert_eq!(asked.load(Relaxed), count);
}

fn owner(org_id: OrgId, tenant: &str) -> Owner {
    (org_id, Some(tenant.parse().unwrap()))
}

#[tokio::test]
async fn attempts_that_ask_for_the_same_name_wait_for_the_same_answer() {
    let (lookups, release, asked) = lookups();
    let org_id = OrgId::generate();
    let owners = [(org_id, None), owner(org_id, "a"), owner(org_id, "b")];
    let of_each = owners.iter().cycle().take(1_000);
    let all = join_all(of_each.map(|owner| lookups.look_up(Some(owner), "silent.test")));
    let answers = tokio::join!(all, async { drop(release) }).0;
    assert!(answers.iter().all(Result::is_ok));
    assert_eq!(asked.load(Relaxed), 1);
    // It is not remembered.
    lookups.look_up(Some(&owners[0]), "silent.test").await.unwrap();
    assert_eq!(asked.load(Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn the_dead_names_of_one_organisation_keep_no_other_one_waiting() {
    let (lookups, release, asked) = lookups();
    let (one, other) = ((OrgId::generate(), None), (OrgId::generate(), None));
    look_up_dead_names(&lookups, &one).await;
    in_fast_time(lookups.look_up(Some(&one), "live.test"))
        .await
        .unwrap_err();
    lookups.look_up(Some(&other), "live.test").await.unwrap();
    expect_asked(&asked, SLOTS_EACH + 1);
    drop(release);
    lookups.look_up(Some(&one), "live.test").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_dead_names_of_one_owner_keep_no_other_one_of_its_organisation_waiting() {
    let org_id = OrgId::generate();
    let (own, a, b) = ((org_id, None), owner(org_id, "a"), owner(org_id, "b"));
    for (dead, living) in [(&a, &b), (&a, &own), (&own, &a)] {
        let (lookups, release, asked) = lookups();
        lookups.look_up(Some(&b), "live.test").await.unwrap();
        look_up_dead_names(&lookups, dead).await;
        in_fast_time(lookups.look_up(Some(dead), "live.test"))
            .await
            .unwrap_err();
        lookups.look_up(Some(living), "live.test").await.unwrap();
        expect_asked(&asked, 1 + SLOTS_OWNER + 1);
        drop(release);
        lookups.look_up(Some(dead), "live.test").await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn many_tenants_have_no_more_look_ups_than_their_organisation() {
    let (lookups, _silent, asked) = lookups();
    let (org_id, other) = (OrgId::generate(), (OrgId::generate(), None));
    for tenant in ["a", "b", "c", "d", "e", "f"] {
        look_up_dead_names(&lookups, &owner(org_id, tenant)).await;
    }
    expect_asked(&asked, SLOTS_EACH);
    lookups.look_up(Some(&other), "live.test").await.unwrap();
}

#[tokio::test]
async fn a_look_up_that_panics_is_over() {
    let lookups = Lookups::new(SLOTS, |_| panic!("out of luck"));
    for _ in 0..2 {
        lookups.look_up(None, "any.test").await.unwrap_err();
    }
}

#[tokio::test]
async fn look_ups_count_to_the_owner_whose_webhook_is_sent() {
    let org_id = OrgId::generate();
    for owner in [(org_id, None), owner(org_id, "a")] {
        assert_eq!(on_behalf_of(owner.clone(), async { sender() }).await, Some(owner));
    }
    assert_eq!(sender(), None);
}

fn temporary() -> io::Error {
    io::Error::other("failed to lookup address information: Temporary failure in name resolution")
}

#[tokio::test]
async fn a_name_that_a_living_name_server_cannot_resolve_is_its_own_fault() {
    let lookups = Lookups::new(SLOTS, |name| match name {
        CONTROL => Err(io::Error::other("Name or service not known")),
        _ => Err(temporary()),
    });
    let failed = lookups.look_up(None, "broken.test").await.unwrap_err();
    assert!(matches!(failed, LookupFailed::Name(_)), "{failed}");
}

#[tokio::test]
async fn a_name_server_that_knows_nothing_of_any_name_is_ours() {
    let lookups = Lookups::new(SLOTS, |_| Err(temporary()));
    let failed = lookups.look_up(None, "any.test").await.unwrap_err();
    assert!(matches!(failed, LookupFailed::Own(_)), "{failed}");
}

// In real time: the control look-up is answered by another thread.
#[tokio::test]
async fn silence_about_one_name_is_its_own_fault_and_about_all_is_ours() {
    for (is_there, silent) in [(true, "silent.test"), (false, "")] {
        let (release, silence) = mpsc::channel::<()>();
        let silence = Mutex::new(silence);
        let lookups = Lookups::new(SLOTS, move |name| {
            if name.starts_with(silent) {
                _ = lock(&silence).recv();
            }
            Err(io::Error::other("Name or service not known"))
        });
        let failed = lookups.look_up(None, "silent.test").await.unwrap_err();
        assert_eq!(matches!(failed, LookupFailed::Name(_)), is_there, "{failed}");
        drop(release);
    }
}
