//! HTTP/2: answers that are taken slowly or not at all, and connections without requests.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;

async fn until_none_is_held(mediums: &Mediums) {
    let free = async {
        while mediums.load(Ordering::Relaxed) > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let freed = tokio::time::timeout(PATIENCE, free).await;
    freed.expect("its memory is given back");
}

// Types of HTTP/2 frames, and a flag.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const END: u8 = 1;

/// The beginning of an HTTP/2 connection whose streams may be sent this many bytes.
fn http2_preface(window: u32) -> Vec<u8> {
    let settings = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x06\x04\0\0\0\0\0\0\x04";
    [&settings[..], &window.to_be_bytes()].concat()
}

/// `GET` of a path of less than 128 bytes.
fn http2_request(stream: u8, path: &str) -> Vec<u8> {
    let length = u8::try_from(path.len()).expect("it is short");
    let head = [b"\x82\x86\x04", &[length][..], path.as_bytes(), b"\x41\x01x"].concat();
    let length = u8::try_from(head.len()).expect("it is short");
    [&[0, 0, length, 1, 5, 0, 0, 0, stream][..], &head].concat()
}

fn window_update(stream: u8, bytes: u32) -> Vec<u8> {
    [&[0, 0, 4, 8, 0, 0, 0, 0, stream][..], &bytes.to_be_bytes()].concat()
}

/// The next frame that is not about the connection: its type, its flags, its stream and what is in it. Pings are
/// answered. Nothing at the end of the connection.
async fn next_frame(client: &mut TcpStream) -> Option<(u8, u8, u8, Vec<u8>)> {
    loop {
        let mut head = [0; 9];
        client.read_exact(&mut head).await.ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        client.read_exact(&mut payload).await.expect("a whole frame");
        match (head[3], head[4]) {
            (6, 0) => {
                head[4] = 1;
                let _ = client.write_all(&[&head[..], &payload].concat()).await;
            }
            (kind, flags) if head[8] != 0 => return Some((kind, flags, head[8], payload)),
            _ => {}
        }
    }
}

#[tokio::test]
async fn an_http2_answer_may_take_longer_than_its_connection_may_be_idle() {
    /// Much longer than its client waits before it takes a piece, so that the machine may stand still for a moment.
    const IDLE: Duration = Duration::from_secs(4);
    const PAUSE: Duration = Duration::from_millis(500);
    /// The largest frame, unless the client allows larger ones.
    const PIECE: u32 = 16 * 1_024;
    let config = HttpServerConfig {
        idle_timeout: IDLE,
        ..HttpServerConfig::for_operations()
    };
    let (address, _server) = start(config, CancellationToken::new()).await;
    let mut client = TcpStream::connect(address).await.expect("it listens");
    let begin = [http2_preface(PIECE), http2_request(1, "/medium")].concat();
    client.write_all(&begin).await.expect("it is open");
    let (sent_at, mut taken) = (Instant::now(), 0);
    loop {
        let frame = tokio::time::timeout(PATIENCE, next_frame(&mut client)).await;
        let frame = frame.expect("it goes on");
        let (kind, flags, _, payload) = frame.unwrap_or_else(|| panic!("it was closed after {taken} bytes"));
        if kind != DATA {
            continue;
        }
        let length = u32::try_from(payload.len()).expect("a frame is short");
        taken += length;
        if flags & END == END {
            break;
        }
        // It is slow, but not idle.
        tokio::time::sleep(PAUSE).await;
        let more = [window_update(0, length), window_update(1, length)].concat();
        client.write_all(&more).await.expect("it is open");
    }
    assert_eq!(taken, MEDIUM);
    assert!(sent_at.elapsed() > IDLE, "it took long enough");
}

#[tokio::test]
async fn an_http2_answer_that_is_not_taken_is_given_up_and_its_connection_serves_others() {
    let config = HttpServerConfig {
        answer_timeout: Duration::from_millis(300),
        ..HttpServerConfig::for_operations()
    };
    let mediums = Mediums::default();
    let (address, _server) = start_counting(config, CancellationToken::new(), mediums.clone()).await;
    // None of it fits, some of it, and all but the last byte.
    for window in [0, 1_000, MEDIUM - 1] {
        let mut client = TcpStream::connect(address).await.expect("it listens");
        let begin = [
            http2_preface(window),
            window_update(0, MEDIUM),
            http2_request(1, "/medium"),
        ];
        client.write_all(&begin.concat()).await.expect("it is open");
        let until = async |client: &mut TcpStream, wanted: (u8, u8)| {
            while let Some((kind, _, stream, _)) = next_frame(client).await {
                if (kind, stream) == wanted {
                    return;
                }
            }
            panic!("the connection was closed before {wanted:?}");
        };
        let reset = tokio::time::timeout(PATIENCE, until(&mut client, (RESET, 1))).await;
        reset.expect("its stream is reset");
        until_none_is_held(&mediums).await;
        client
            .write_all(&http2_request(3, "/"))
            .await
            .expect("it is open");
        let answered = tokio::time::timeout(PATIENCE, until(&mut client, (HEADERS, 3))).await;
        answered.expect("an answer");
    }
}

#[tokio::test]
async fn an_http2_connection_without_requests_is_closed_although_it_answers_pings() {
    const OVER_HTTP2: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\
        \0\0\0\x04\0\0\0\0\0\
        \0\0\x06\x01\x05\0\0\0\x01\x82\x86\x84\x41\x01x";
    let config = HttpServerConfig {
        header_timeout: Duration::from_millis(100),
        idle_timeout: Duration::from_millis(500),
        ..HttpServerConfig::for_operations()
    };
    let (address, _server) = start(config, CancellationToken::new()).await;
    let mut client = ask(address, OVER_HTTP2).await;
    let until_closed = async {
        let (mut answers, mut pings) = (0, 0);
        let mut head = [0; 9];
        while client.read_exact(&mut head).await.is_ok() {
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; length as usize];
            client.read_exact(&mut payload).await.expect("a whole frame");
            match (head[3], head[4]) {
                (1, _) => answers += 1,
                (6, 0) => {
                    pings += 1;
                    head[4] = 1;
                    let _ = client.write_all(&[&head[..], &payload].concat()).await;
                }
                _ => {}
            }
        }
        (answers, pings)
    };
    let (answers, pings) = tokio::time::timeout(PATIENCE, until_closed)
        .await
        .expect("it is closed");
    assert!(answers == 1 && pings > 0, "{answers} answers, {pings} pings");
}
