//! Batches: frames that are stored together. A batch has the frames that are there when its first one comes. It is smaller than
//! [`MAX_BATCH_BYTES`] and one frame.

use anyhow::anyhow;
use futures_util::{FutureExt as _, Stream, StreamExt as _};
use tokio::task::coop::unconstrained;

/// The most frames that are stored in one statement, and about the most bytes.
pub(crate) const MAX_BATCH_FRAMES: usize = 64;
const MAX_BATCH_BYTES: usize = 1 << 20;

/// Waits for a frame, and returns it with those that are there already and with the error that came after them, which may not
/// come again. `None` in `messages` is the end of a request. When that comes first, the batch is empty.
pub(crate) async fn next_batch<T, E>(
    messages: &mut (impl Stream<Item = Result<Option<T>, E>> + Unpin),
    size: impl Fn(&T) -> usize,
) -> (Vec<T>, anyhow::Result<()>)
where
    anyhow::Error: From<E>,
{
    let (mut batch, mut bytes) = (Vec::new(), 0);
    let mut next = messages.next().await;
    loop {
        match next {
            Some(Ok(Some(message))) => {
                bytes += size(&message);
                batch.push(message);
            }
            Some(Ok(None)) if batch.is_empty() => return (batch, Ok(())),
            Some(Ok(None)) => {}
            Some(Err(error)) => return (batch, Err(error.into())),
            None => return (batch, Err(anyhow!("the stream of frames ended"))),
        }
        if batch.len() >= MAX_BATCH_FRAMES || bytes >= MAX_BATCH_BYTES {
            return (batch, Ok(()));
        }
        next = match messages.next().now_or_never() {
            Some(next) => next,
            None => return (batch, Ok(())),
        };
    }
}

/// Takes all frames that are there, up to the first error.
pub(crate) fn take_all<T, E>(messages: &mut (impl Stream<Item = Result<Option<T>, E>> + Unpin)) -> Vec<T> {
    let mut all = Vec::new();
    // Tokio makes a task that has received much wait, and then it seems that nothing is there.
    while let Some(Some(Ok(message))) = unconstrained(messages.next()).now_or_never() {
        all.extend(message);
    }
    all
}

#[cfg(test)]
mod tests {
    use std::io;

    use futures_util::stream;
    use tokio::sync::mpsc;

    use super::*;

    fn frames(number: usize, bytes: usize) -> Vec<io::Result<Option<usize>>> {
        (0..number).map(|_| Ok(Some(bytes))).collect()
    }

    #[tokio::test]
    async fn the_end_of_a_request_ends_no_batch_and_does_not_wait_for_one() {
        let mut messages = frames(2, 1);
        messages.insert(0, Ok(None));
        messages.insert(2, Ok(None));
        let mut messages = stream::iter(messages).chain(stream::pending());
        for expected in [0, 2] {
            let (batch, outcome) = next_batch(&mut messages, |bytes| *bytes).await;
            assert_eq!(batch.len(), expected);
            outcome.unwrap();
        }
    }

    #[tokio::test]
    async fn an_error_comes_with_the_frames_before_it() {
        let mut messages = frames(3, 1);
        messages.push(Err(io::Error::other("no responders")));
        messages.extend(frames(1, 1));
        let mut messages = stream::iter(messages).chain(stream::pending());
        let (batch, outcome) = next_batch(&mut messages, |bytes| *bytes).await;
        assert_eq!(
            (batch.len(), outcome.unwrap_err().to_string()),
            (3, "no responders".to_owned())
        );
        let (batch, outcome) = next_batch(&mut messages, |bytes| *bytes).await;
        assert_eq!(batch.len(), 1);
        outcome.unwrap();
    }

    #[tokio::test]
    async fn the_end_of_the_frames_is_an_error_that_comes_with_those_before_it() {
        let mut messages = stream::iter(frames(3, 1));
        let (batch, outcome) = next_batch(&mut messages, |bytes| *bytes).await;
        assert_eq!(
            (batch.len(), outcome.unwrap_err().to_string()),
            (3, "the stream of frames ended".to_owned())
        );
    }

    #[tokio::test]
    async fn a_batch_is_bounded_in_frames_and_in_bytes() {
        let mut messages = stream::iter(frames(MAX_BATCH_FRAMES + 1, 1));
        let (batch, _) = next_batch(&mut messages, |bytes| *bytes).await;
        assert_eq!(batch.len(), MAX_BATCH_FRAMES);
        let mut messages = stream::iter(frames(4, MAX_BATCH_BYTES / 2));
        let (batch, _) = next_batch(&mut messages, |bytes| *bytes).await;
        assert_eq!(batch.len(), 2);
    }

    #[tokio::test]
    async fn all_that_is_there_is_taken_however_much_the_task_has_received() {
        let (sender, mut receiver) = mpsc::unbounded_channel();
        for message in frames(1_000, 1) {
            sender.send(message).unwrap();
        }
        let mut messages = stream::poll_fn(|context| receiver.poll_recv(context));
        assert_eq!(take_all(&mut messages).len(), 1_000);
    }
}
