use super::*;
use crate::domain::access::grant::Grant;
use crate::domain::access::realm::Realm;
use crate::domain::access::scope::Scopes;
use crate::domain::accounts::limit::Limit;
use crate::keys::changes::hearing::{FRESH, Span};

fn cache(size: u32, ttl: Duration) -> KeyCache {
    KeyCache::new(KeyCacheConfig {
        key_cache_ttl: ttl,
        key_cache_size: size,
        ..KeyCacheConfig::for_tests()
    })
}

fn key(id: &str, org_id: OrgId, confirmed_at: Moment) -> VerifiedKey {
    let grant = Grant {
        realm: Realm::of_organization(org_id),
        limit: Limit::per_minute(1),
        scopes: Scopes::all(),
        expires_at: None,
        fingerprint: [0; 32],
    };
    VerifiedKey::new(id.parse().unwrap(), grant, confirmed_at)
}

const ID: &str = "aaaaaaaaaaaaaaaa";
const OTHER: &str = "bbbbbbbbbbbbbbbb";

#[test]
fn a_change_removes_what_it_concerns_and_nothing_else() {
    let cache = cache(10, Duration::from_secs(60));
    let (one, two) = (OrgId::generate(), OrgId::generate());
    let now = Moment::now();
    let fill = || {
        cache.remember([1; 32], key(ID, one, now), Moment::now()).unwrap();
        cache
            .remember([2; 32], key(OTHER, two, now), Moment::now())
            .unwrap();
    };
    fill();
    cache.change(&KeyChange::Key(OTHER.parse().unwrap()));
    assert!(cache.get(&[1; 32], Moment::now()).is_some() && cache.get(&[2; 32], Moment::now()).is_none());
    fill();
    cache.change(&KeyChange::Organization(one));
    assert!(cache.get(&[1; 32], Moment::now()).is_none() && cache.get(&[2; 32], Moment::now()).is_some());
    assert_eq!(cache.by_id.len(), 1);
}

#[test]
fn an_outcome_that_was_asked_for_before_a_change_is_not_remembered() {
    let cache = cache(10, Duration::from_secs(60));
    let org_id = OrgId::generate();
    for change in [
        KeyChange::Key(ID.parse().unwrap()),
        KeyChange::Organization(org_id),
    ] {
        let asked_at = Moment::now();
        cache.change(&change);
        assert!(
            cache
                .remember([1; 32], key(ID, org_id, asked_at), asked_at)
                .is_none()
        );
        assert!(cache.get(&[1; 32], Moment::now()).is_none());
        let asked_at = Moment::now();
        assert!(
            cache
                .remember([1; 32], key(ID, org_id, asked_at), asked_at)
                .is_some()
        );
    }
    let asked_at = Moment::now();
    assert_eq!(cache.back_in_touch().len(), 1);
    assert!(
        cache
            .remember([1; 32], key(ID, org_id, asked_at), asked_at)
            .is_none()
    );
}

#[test]
fn a_change_is_known_for_as_long_as_an_answer_goes_on() {
    const LONGEST_ANSWER: Duration = Duration::from_secs(120);
    let cache = cache(10, Duration::from_secs(60));
    let id: KeyId = ID.parse().unwrap();
    let admitted_at = Moment::now() - LONGEST_ANSWER;
    cache.changes.insert(KeyChange::Key(id.clone()), admitted_at);
    cache.sweep();
    assert!(cache.key_changed_since(&id, admitted_at));
}

/// What two threads can do to each other, step by step: one removes an entry, and before it drops its id the
/// other remembers the key again.
#[test]
fn a_key_that_is_remembered_again_while_it_is_removed_is_still_found_by_a_change() {
    let cache = cache(10, Duration::from_secs(60));
    let org_id = OrgId::generate();
    let id: KeyId = ID.parse().unwrap();
    let remember = || {
        let asked_at = Moment::now();
        cache
            .remember([1; 32], key(ID, org_id, asked_at), asked_at)
            .unwrap();
    };
    remember();
    cache.verified.remove(&[1; 32]);
    remember();
    cache.forget_id(&id);
    cache.change(&KeyChange::Key(id.clone()));
    assert!(cache.get(&[1; 32], Moment::now()).is_none());

    remember();
    cache.verified.remove(&[1; 32]);
    cache.forget_id(&id);
    assert!(cache.by_id.is_empty());
}

#[test]
fn a_key_is_due_at_half_its_time_and_stays_while_postgres_is_away() {
    let (ttl, outage) = (Duration::from_secs(60), Duration::from_secs(600));
    let cache = cache(10, ttl);
    let now = Moment::now();
    let heard = Span {
        from: now - 2 * outage,
        until: now,
    };
    cache.hearing.add(heard);
    let remember = |age: Duration| {
        let key = key(ID, OrgId::generate(), now - age);
        cache.remember([1; 32], key, now).unwrap();
        cache.get(&[1; 32], now)
    };
    assert!(matches!(remember(Duration::ZERO), Some(Known::Verified(_))));
    assert!(matches!(remember(ttl / 2), Some(Known::Due(_))));
    assert!(remember(outage).is_none());
    assert!(matches!(remember(ttl), Some(Known::Due(_))));
    cache.database_answered(now - SILENCE);
    cache.sweep();
    assert_eq!((cache.verified.len(), cache.by_id.len()), (1, 1));
    cache.database_answered(Moment::now());
    cache.sweep();
    assert_eq!((cache.verified.len(), cache.by_id.len()), (0, 0));
}

#[test]
fn a_key_that_may_have_been_revoked_meanwhile_is_not_trusted() {
    let cache = cache(10, Duration::from_secs(60));
    let now = Moment::now();
    let key = key(ID, OrgId::generate(), now);
    cache.remember([1; 32], key, now).unwrap();
    let get = |later| cache.get(&[1; 32], now + later);
    assert!(matches!(get(Duration::ZERO), Some(Known::Verified(_))));
    assert!(matches!(get(FRESH), Some(Known::Unsure)));
}

#[test]
fn a_use_survives_refreshes_and_sweeps_until_it_is_saved() {
    let cache = cache(10, Duration::ZERO);
    let (org_id, now) = (OrgId::generate(), Moment::now());
    let first = cache.remember([1; 32], key(ID, org_id, now), now).unwrap();
    cache.used(&first, now);
    cache.remember([1; 32], key(ID, org_id, now), now).unwrap();
    cache.sweep();
    let unsaved = cache.unsaved_uses();
    let second = unsaved[0].unsaved_use().unwrap();
    unsaved[0].saved_use(second);
    assert!(cache.unsaved_uses().is_empty());
    cache.sweep();
    assert!(cache.verified.is_empty());
}

#[test]
fn neither_cache_grows_beyond_its_size() {
    let cache = cache(3, Duration::from_secs(60));
    let now = Moment::now();
    for number in 0..10_u8 {
        let id = format!("aaaaaaaaaaaaaaa{}", char::from(b'a' + number));
        cache
            .remember([number; 32], key(&id, OrgId::generate(), now), now)
            .unwrap();
        cache.refuse([100 + number; 32]);
    }
    assert_eq!(
        (cache.verified.len(), cache.by_id.len(), cache.refused.len()),
        (3, 3, 3)
    );
}
