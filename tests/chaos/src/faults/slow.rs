//! Slowloris: connections that never finish their requests.

use std::sync::Arc;
use std::time::{Duration, Instant};

use e2e::Manners;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::report::{Outcome, Tried, p99};
use crate::stage::Stage;
use crate::trial::{Trial, times};

const SOCKETS: usize = 1_000;

/// Pause between two bytes of one connection.
const DRIBBLE: Duration = Duration::from_millis(500);

/// How much sooner and how much later than at its deadline a connection may be closed.
const EARLY: Duration = Duration::from_secs(3);
const LATE: Duration = Duration::from_secs(3);

/// A time that is so short that twice as long is as good.
const SHORT: Duration = Duration::from_millis(5);

/// What a connection sends at once, and how long it may then take over the rest.
#[derive(Clone, Debug)]
struct Start {
    address: String,
    request: Arc<str>,
    deadline: Duration,
    /// When it must be closed at the latest.
    latest: Duration,
}

/// Half of the connections dribble headers, the others a body.
pub(crate) async fn run(stage: &Stage) -> Tried {
    let (headers, body) = (stage.pick(10, 2), stage.pick(30, 4));
    let setup = stage
        .setup()
        .ingest_env("HEADER_TIMEOUT", &format!("{headers}s"))
        .ingest_env("BODY_TIMEOUT", &format!("{body}s"));
    let trial = Trial::start(setup, Manners::default()).await;
    let flow = trial.flow(stage).await;
    let calm = Instant::now();
    tokio::time::sleep(Duration::from_secs(stage.pick(10, 2))).await;

    let attacked = Instant::now();
    let until = attacked + Duration::from_secs(stage.pick(35, 6));
    let mut sockets = JoinSet::new();
    for number in 0..SOCKETS {
        let start = start(stage, &trial, number, [headers, body]);
        sockets.spawn(dribble(start, until));
    }
    let late: Vec<_> = sockets.join_all().await.into_iter().flatten().collect();
    let answers = flow.stop().await;
    let before = p99(times(&answers, calm, attacked));
    let during = p99(times(&answers, attacked, until));
    let mut report = trial.end(&answers).await;
    report.note(format!(
        "{} of {SOCKETS} closed at the deadline",
        SOCKETS - late.len()
    ));
    if let Some(why) = late.first() {
        report.broken.push(why.clone());
    }
    report.note(format!("p99 before {before:?}"));
    report.note(format!("p99 meanwhile {during:?}"));
    if !stage.quick && during > 2 * before.max(SHORT) {
        report
            .broken
            .push("p99 meanwhile is more than twice as long".to_owned());
    }
    Ok(Outcome::Ran(report))
}

/// `deadlines` are those of headers and of bodies, in seconds.
fn start(stage: &Stage, trial: &Trial, number: usize, deadlines: [u64; 2]) -> Start {
    let [headers, body] = deadlines;
    let address = trial.stack().ingest(number % 2).url().replace("http://", "");
    let head = "POST /v1/events HTTP/1.1\r\nHost: penstock\r\nContent-Type: application/json\r\n";
    let (request, seconds) = if number % 4 < 2 {
        (format!("{head}X-Slow: "), headers)
    } else {
        let key = &trial.organization.key;
        let rest = format!("Authorization: Bearer {key}\r\nContent-Length: 10000\r\n\r\n{{");
        (head.to_owned() + &rest, body)
    };
    let deadline = Duration::from_secs(seconds);
    Start {
        address,
        request: request.into(),
        deadline,
        latest: deadline + stage.bound(LATE),
    }
}

/// Opens such a connection again whenever it is closed. Returns what was wrong about the closing of one.
async fn dribble(start: Start, until: Instant) -> Option<String> {
    while Instant::now() < until {
        let opened = Instant::now();
        let Ok(socket) = TcpStream::connect(&start.address).await else {
            continue;
        };
        let closed = send_slowly(socket, &start);
        match tokio::time::timeout(start.latest, closed).await {
            Ok(_) if opened.elapsed() + EARLY < start.deadline => {
                return Some(format!("closed after {:?}, too soon", opened.elapsed()));
            }
            Ok(_) => {}
            Err(_) => return Some(format!("open after {:?}", start.latest)),
        }
    }
    None
}

async fn send_slowly(mut socket: TcpStream, start: &Start) -> std::io::Result<()> {
    socket.write_all(start.request.as_bytes()).await?;
    let mut answer = [0; 1_024];
    loop {
        tokio::select! {
            length = socket.read(&mut answer) => {
                if length? == 0 {
                    return Ok(());
                }
            }
            () = tokio::time::sleep(DRIBBLE) => {
                // What the other end has closed takes no more.
                socket.write_all(b" ").await?;
            }
        }
    }
}
