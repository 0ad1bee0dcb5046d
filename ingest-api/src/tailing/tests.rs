use shared::domain::id::OrgId;

use super::*;

fn tenant_of(org_id: OrgId, uid: &str) -> Realm {
    Realm {
        org_id,
        tenant: Some(uid.parse().expect("it is a name")),
    }
}

#[test]
fn no_more_listen_than_may_and_whoever_leaves_makes_room() {
    let tails = Arc::new(Tails::new(CancellationToken::new()));
    let (realm, other) = (
        Realm::of_organization(OrgId::generate()),
        Realm::of_organization(OrgId::generate()),
    );
    let mut places: Vec<_> = (0..MOST_EACH)
        .map(|_| tails.enter(&realm, &realm).expect("there is room"))
        .collect();
    assert!(tails.enter(&realm, &realm).is_none() && tails.sit(&realm).is_none());
    let another = tails.enter(&other, &other).expect("others have room");
    assert_ne!(another.name(), places[0].name());
    places.pop();
    assert_eq!(
        tails.enter(&realm, &realm).map(|place| place.name()),
        Some(places[0].name())
    );
    drop((places, another));
    assert!(tails.listeners().is_empty());
    assert_eq!(tails.realms.len(), 2, "they are followed for a while");
    let later = Instant::now() + LINGER + Duration::from_secs(1);
    tails.realms.retain(|_, tail| !tail.is_left(later));
    assert!(tails.realms.is_empty());
}

#[test]
fn one_who_comes_and_goes_for_many_tenants_keeps_nobody_out() {
    let tails = Arc::new(Tails::new(CancellationToken::new()));
    let org_id = OrgId::generate();
    for number in 0..MOST_REALMS {
        let realm = tenant_of(org_id, &number.to_string());
        assert!(tails.enter(&realm, &realm).is_some());
    }
    let other = Realm::of_organization(OrgId::generate());
    let place = tails.enter(&other, &other);
    assert!(place.is_some());
    assert!(tails.realms.len() == 1 && tails.realms.contains_key(&other));
}

#[test]
fn a_tenant_takes_a_part_of_the_seats_and_all_tenants_leave_some_to_their_organization() {
    let tails = Arc::new(Tails::new(CancellationToken::new()));
    let organization = Realm::of_organization(OrgId::generate());
    let org_id = organization.org_id;
    let mut seats = Vec::new();
    for uid in ["a", "b", "c"] {
        let tenant = tenant_of(org_id, uid);
        seats.extend((0..MOST_OF_TENANT).map(|_| tails.sit(&tenant).expect("a tenant has room")));
        assert!(tails.sit(&tenant).is_none(), "{uid} has its part");
    }
    assert!(
        tails.sit(&tenant_of(org_id, "d")).is_none(),
        "tenants have theirs"
    );
    let elsewhere = tails.sit(&tenant_of(OrgId::generate(), "a"));
    assert!(elsewhere.is_some(), "another organisation's tenants have room");
    let own = || tails.enter(&organization, &tenant_of(org_id, "a"));
    let own: Vec<_> = (MOST_OF_TENANTS..MOST_EACH).map(|_| own()).collect();
    assert!(own.iter().all(Option::is_some));
    assert!(tails.sit(&organization).is_none());
    seats.pop();
    assert!(tails.sit(&tenant_of(org_id, "d")).is_some());
}

#[test]
fn an_organization_that_finds_no_seat_leaves_nothing_behind() {
    let tails = Arc::new(Tails::new(CancellationToken::new()));
    let sit = || tails.sit(&Realm::of_organization(OrgId::generate()));
    let seats: Vec<_> = (0..MOST).map(|_| sit()).collect();
    assert!(seats.iter().all(Option::is_some));
    assert!(sit().is_none());
    drop(seats);
    assert!(tails.listeners().is_empty());
}

#[tokio::test]
async fn what_comes_while_the_log_is_read_wakes_its_reader() {
    let tails = Arc::new(Tails::new(CancellationToken::new()));
    let realm = Realm::of_organization(OrgId::generate());
    let mut place = tails.enter(&realm, &realm).expect("there is room");
    assert!(place.read(place.next()).items.is_empty());
    place.tail.log.push(vec![item::Item::skipped(Some(1))]);
    tokio::time::timeout(Duration::from_secs(10), place.more())
        .await
        .expect("it is woken");
    assert_eq!(place.read(0).items.len(), 1);
}
