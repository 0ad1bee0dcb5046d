use futures_util::FutureExt as _;
use tokio::io::AsyncReadExt as _;

use super::watched_stream::TURN;
use super::*;

const PATIENCE: Duration = Duration::from_secs(10);
const IDLE: Duration = Duration::from_secs(75);
const ANSWER: Duration = Duration::from_secs(120);

fn is_late(progress: &Progress) -> bool {
    let deadlines = Deadlines {
        patience: PATIENCE,
        idle: IDLE,
        answer: ANSWER,
    };
    progress.clone().late(deadlines).now_or_never().is_some()
}

#[tokio::test(start_paused = true)]
async fn the_deadline_is_for_heads_and_not_for_the_time_between_them() {
    let progress = Progress::new();
    let request = progress.request(true);
    tokio::time::advance(PATIENCE * 3).await;
    assert!(!is_late(&progress), "it sends a body");
    drop(request);
    tokio::time::advance(PATIENCE * 3).await;
    assert!(!is_late(&progress), "it is idle");
    progress.note_read();
    tokio::time::advance(PATIENCE / 2).await;
    progress.note_read();
    assert!(!is_late(&progress), "it sends a head");
    tokio::time::advance(PATIENCE / 2).await;
    assert!(is_late(&progress), "counted from the first byte");
}

#[tokio::test(start_paused = true)]
async fn the_first_head_is_due_from_the_start() {
    let progress = Progress::new();
    tokio::time::advance(PATIENCE).await;
    assert!(is_late(&progress));
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_late_when_it_has_been_idle_for_long_since_its_last_answer() {
    let progress = Progress::new();
    for _ in 0..2 {
        drop(progress.request(true));
        tokio::time::advance(IDLE / 2).await;
        assert!(!is_late(&progress), "it may be idle for a while");
    }
    tokio::time::advance(IDLE / 2).await;
    assert!(is_late(&progress));
}

#[tokio::test(start_paused = true)]
async fn a_deadline_that_begins_between_two_looks_is_kept() {
    let progress = Progress::new();
    let request = progress.request(true);
    let deadlines = Deadlines {
        patience: PATIENCE,
        idle: PATIENCE / 10,
        answer: ANSWER,
    };
    let looking = async {
        progress.clone().late(deadlines).await;
        Instant::now()
    };
    let answering = async {
        tokio::time::sleep(PATIENCE / 50).await;
        drop(request);
        Instant::now()
    };
    let (late, answered) = tokio::join!(looking, answering);
    let taken = late - answered;
    assert!((PATIENCE / 20..PATIENCE / 5).contains(&taken), "{taken:?}");
}

#[tokio::test(start_paused = true)]
async fn an_http2_connection_whose_client_takes_what_is_left_of_an_answer_is_not_idle() {
    let progress = Progress::new();
    drop(progress.request(false));
    for _ in 0..3 {
        tokio::time::advance(IDLE * 2 / 3).await;
        progress.note_taken(FRAMES_ALONE + 1);
        assert!(!is_late(&progress));
    }
    tokio::time::advance(IDLE * 2 / 3).await;
    progress.note_taken(FRAMES_ALONE);
    tokio::time::advance(IDLE * 2 / 3).await;
    assert!(is_late(&progress), "these may be answers to pings");
}

#[tokio::test(start_paused = true)]
async fn an_http2_connection_is_late_when_it_has_been_without_requests_for_long() {
    let progress = Progress::new();
    let (first, second) = (progress.request(false), progress.request(false));
    drop(first);
    progress.note_read();
    tokio::time::advance(IDLE * 2).await;
    assert!(!is_late(&progress), "one is not answered");
    drop(second);
    tokio::time::advance(IDLE / 2).await;
    assert!(!is_late(&progress));
    tokio::time::advance(IDLE / 2).await;
    assert!(is_late(&progress));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_nothing_is_late_and_one_that_is_slow_is_not() {
    let progress = Progress::new();
    let _request = progress.request(true);
    progress.note_write(true);
    tokio::time::advance(PATIENCE / 2).await;
    progress.note_write(false);
    progress.note_write(true);
    tokio::time::advance(PATIENCE / 2).await;
    progress.note_write(true);
    assert!(!is_late(&progress), "it took some");
    tokio::time::advance(PATIENCE / 2).await;
    assert!(is_late(&progress));
}

#[tokio::test(start_paused = true)]
async fn a_large_answer_is_late_when_it_is_not_out_in_time_and_one_after_the_other_is_not() {
    let progress = Progress::new();
    for _ in 0..2 {
        let request = progress.request(true);
        let sending = request.sending();
        drop(request);
        tokio::time::advance(ANSWER / 2).await;
        assert!(!is_late(&progress), "there is time left");
        drop(sending);
    }
    let _sending = progress.request(true).sending();
    tokio::time::advance(ANSWER).await;
    assert!(is_late(&progress));
}

#[tokio::test(start_paused = true)]
async fn a_large_answer_over_http2_does_not_end_its_connection() {
    let progress = Progress::new();
    let request = progress.request(false);
    let _sending = request.sending();
    tokio::time::advance(ANSWER * 2).await;
    assert!(!is_late(&progress));
}

#[tokio::test]
async fn others_have_their_turn_however_much_there_is_to_read() {
    let endless = tokio::io::join(tokio::io::repeat(b'0'), tokio::io::sink());
    let mut stream = WatchedStream::new(endless, Progress::new());
    let mut bytes = [0; 1_024];
    for _ in 0..3 {
        for _ in 0..TURN / bytes.len() as u64 {
            let read = stream.read(&mut bytes).now_or_never();
            assert_eq!(read.map(Result::ok), Some(Some(bytes.len())));
        }
        assert!(stream.read(&mut bytes).now_or_never().is_none());
    }
}
