use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// The states after looks that are a second apart.
fn states(looks: &[Look]) -> Vec<State> {
    let (mut state, mut now) = (State::Well, Instant::now());
    let states = looks.iter().map(|look| {
        now += SECOND;
        state = state.after(*look, now);
        state
    });
    states.collect()
}

fn ends_wedged(looks: &[Look]) -> bool {
    states(looks).last() == Some(&State::Wedged)
}

#[test]
fn a_server_that_answers_and_stores_nothing_is_wedged_until_it_stores_again() {
    assert!(!ends_wedged(&[Look::StoresNothing; 10]));
    let mut looks = vec![Look::StoresNothing; 11];
    assert!(ends_wedged(&looks));
    looks.push(Look::Unknown);
    assert!(ends_wedged(&looks), "it is restarted");
    looks.push(Look::Stores);
    assert_eq!(states(&looks).last(), Some(&State::Well));
}

#[test]
fn a_server_that_does_not_answer_is_not_wedged_however_long() {
    assert!(!ends_wedged(&[Look::Unknown; 100]));
    let looks = [
        &[Look::StoresNothing; 9][..],
        &[Look::Unknown],
        &[Look::StoresNothing; 9],
    ];
    assert!(!ends_wedged(&looks.concat()), "the time begins anew");
}

#[test]
fn one_publish_that_is_acknowledged_shows_that_it_stores() {
    let looks = [
        &[Look::StoresNothing; 9][..],
        &[Look::Stores],
        &[Look::StoresNothing; 9],
    ];
    assert!(!ends_wedged(&looks.concat()));
}

#[test]
fn a_stream_is_in_doubt_after_a_publish_that_timed_out_and_not_when_others_were_stored() {
    let tally = Arc::<Tally>::default();
    let mut stream = Watched::new("EVENTS-0".to_owned(), "events.0".to_owned(), tally.clone());
    let now = Instant::now();
    tally.note_stored();
    tally.note_missed();
    stream.hear(now);
    assert_eq!(stream.state, State::Well);
    tally.note_missed();
    stream.hear(now);
    assert_eq!(stream.state, State::InDoubt { since: now });
    tally.note_stored();
    stream.hear(now);
    assert_eq!(stream.state, State::Well);
}

#[test]
fn a_replica_is_stuck_while_no_stream_stores() {
    let stream = |state| {
        let mut stream = Watched::new("EVENTS-0".to_owned(), "events.0".to_owned(), Arc::default());
        stream.state = state;
        stream
    };
    let doubt = State::InDoubt {
        since: Instant::now(),
    };
    assert!(is_stuck(&[stream(State::Wedged), stream(doubt)]));
    assert!(!is_stuck(&[stream(State::Wedged), stream(State::Well)]));
    assert!(!is_stuck(&[stream(doubt)]));
}
