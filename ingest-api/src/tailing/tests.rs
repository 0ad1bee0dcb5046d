use super::*;

#[test]
fn no_more_listen_than_may_and_whoever_leaves_makes_room() {
    let tails = Arc::new(Tails::new(CancellationToken::new()));
    let (realm, other) = (
        Realm::of_organization(OrgId::generate()),
        Realm::of_organization(OrgId::generate()),
    );
    let mut places: Vec<_> = (0..MOST_EACH)
        .map(|_| tails.enter(&realm).expect("there is room"))
        .collect();
    assert!(tails.enter(&realm).is_none() && tails.sit(realm.org_id).is_none());
    let another = tails.enter(&other).expect("others have room");
    assert_ne!(another.name(), places[0].name());
    places.pop();
    assert_eq!(
        tails.enter(&realm).map(|place| place.name()),
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
        let tenant = number.to_string().parse().expect("digits are a name");
        let realm = Realm {
            org_id,
            tenant: Some(tenant),
        };
        assert!(tails.enter(&realm).is_some());
    }
    let other = Realm::of_organization(OrgId::generate());
    let place = tails.enter(&other);
    assert!(place.is_some());
    assert!(tails.realms.len() == 1 && tails.realms.contains_key(&other));
}

#[test]
fn an_organization_that_finds_no_seat_leaves_nothing_behind() {
    let tails = Arc::new(Tails::new(CancellationToken::new()));
    let seats: Vec<_> = (0..MOST).map(|_| tails.sit(OrgId::generate())).collect();
    assert!(seats.iter().all(Option::is_some));
    assert!(tails.sit(OrgId::generate()).is_none());
    drop(seats);
    assert!(tails.listeners().is_empty());
}

#[tokio::test]
async fn what_comes_while_the_log_is_read_wakes_its_reader() {
    let tails = Arc::new(Tails::new(CancellationToken::new()));
    let realm = Realm::of_organization(OrgId::generate());
    let mut place = tails.enter(&realm).expect("there is room");
    assert!(place.read(place.next()).items.is_empty());
    place.tail.log.push(vec![item::Item::skipped(Some(1))]);
    tokio::time::timeout(Duration::from_secs(10), place.more())
        .await
        .expect("it is woken");
    assert_eq!(place.read(0).items.len(), 1);
}
