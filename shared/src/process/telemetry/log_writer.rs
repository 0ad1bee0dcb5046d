//! Log lines on their way out.
//!
//! Logging never waits and never fails, even when the reader of the log stands still or is gone. Lines go into a
//! bounded buffer, which a thread of its own writes out. Lines that do not fit, or that cannot be written, are dropped
//! and counted.

use std::io::{self, ErrorKind, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

/// Bytes of lines that may wait. The thread holds as many again while it writes them.
const BUFFER_BYTES: usize = 1 << 20;

/// Pause before an output is tried again that takes nothing now and says so instead of waiting.
const RETRY_PAUSE: Duration = Duration::from_millis(10);

/// Takes log lines without ever waiting. Its copies share one buffer.
#[derive(Clone, Debug)]
pub struct LogWriter(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// Tells that there are lines to write, or that all are written.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<u8>,
    is_writing: bool,
    dropped: u64,
}

impl LogWriter {
    /// Starts the thread that writes to `output`.
    ///
    /// # Errors
    /// When the operating system gives no thread.
    pub fn start(output: impl Write + Send + 'static) -> io::Result<Self> {
        let writer = Self(Arc::default());
        let of_thread = writer.clone();
        std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || of_thread.write_out(output))?;
        Ok(writer)
    }

    /// Waits until everything is written, but not longer than `patience`.
    pub fn flush(&self, patience: Duration) {
        let is_busy = |state: &mut State| state.is_writing || !state.waiting.is_empty();
        drop(self.0.changed.wait_timeout_while(self.state(), patience, is_busy));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, line: &[u8]) {
        let mut state = self.state();
        if state.waiting.len() + line.len() > BUFFER_BYTES {
            drop(state);
            return self.count_dropped(1);
        }
        state.waiting.extend_from_slice(line);
        drop(state);
        self.0.changed.notify_all();
    }

    fn count_dropped(&self, lines: u64) {
        let mut state = self.state();
        state.dropped += lines;
        let dropped = state.dropped;
        drop(state);
        // The sum, because the first lines may come before the metrics recorder.
        metrics::counter!("penstock_log_lines_dropped_total").absolute(dropped);
    }

    /// Writes for ever.
    fn write_out(&self, mut output: impl Write) {
        let (mut lines, mut told) = (Vec::new(), 0);
        loop {
            self.take(&mut lines);
            let unwritten = write(&mut output, &lines);
            if !unwritten.is_empty() {
                self.count_dropped(count_lines(unwritten));
                continue;
            }
            let dropped = self.state().dropped;
            if dropped > told {
                tracing::warn!(
                    lines = dropped - told,
                    "log lines were dropped: they were not read in time"
                );
                told = dropped;
            }
        }
    }

    /// Waits for lines, and exchanges those that were written for them.
    fn take(&self, lines: &mut Vec<u8>) {
        lines.clear();
        let mut state = self.state();
        state.is_writing = false;
        self.0.changed.notify_all();
        let is_idle = |state: &mut State| state.waiting.is_empty();
        let woken = self.0.changed.wait_while(state, is_idle);
        state = woken.unwrap_or_else(PoisonError::into_inner);
        std::mem::swap(lines, &mut state.waiting);
        state.is_writing = true;
    }
}

/// Writes lines, and returns what could not be written.
fn write<'a>(output: &mut impl Write, mut lines: &'a [u8]) -> &'a [u8] {
    while !lines.is_empty() {
        match output.write(lines) {
            Ok(0) => return lines,
            Ok(length) => lines = &lines[length..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // Another process that shares the output has made it so.
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(RETRY_PAUSE),
            Err(_) => return lines,
        }
    }
    lines
}

fn count_lines(lines: &[u8]) -> u64 {
    lines.split_inclusive(|byte| *byte == b'\n').count() as u64
}

/// Takes one line at a time, as the subscriber writes them.
impl Write for &LogWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.put(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LogWriter {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> &'a Self {
        self
    }
}

#[cfg(test)]
mod tests {
    use std::io::{PipeReader, PipeWriter, Read as _};
    use std::time::Instant;

    use super::*;

    /// Only a failing test takes this long.
    const PATIENCE: Duration = Duration::from_secs(10);

    fn pipe() -> (PipeReader, PipeWriter) {
        io::pipe().expect("there are descriptors")
    }

    fn log(writer: &LogWriter, line: &str) {
        let mut writer = writer;
        writer.write_all(line.as_bytes()).expect("it never fails");
    }

    #[test]
    fn lines_come_out_in_their_order_and_all_before_a_flush_ends() {
        let (mut reader, output) = pipe();
        let writer = LogWriter::start(output).expect("there are threads");
        let lines: Vec<_> = (0..1_000).map(|number| format!("line {number}\n")).collect();
        for line in &lines {
            log(&writer, line);
        }
        writer.flush(PATIENCE);
        let mut read = vec![0; lines.concat().len()];
        // The pipe holds them all: without the flush some might not be there.
        reader.read_exact(&mut read).expect("they are there");
        assert_eq!(String::from_utf8_lossy(&read), lines.concat());
        assert_eq!(writer.state().dropped, 0);
    }

    #[test]
    fn nobody_waits_for_a_reader_that_stands_still_and_the_end_does_so_for_a_bounded_time() {
        let (reader, output) = pipe();
        let writer = LogWriter::start(output).expect("there are threads");
        let line = format!("{}\n", "x".repeat(1_023));
        for _ in 0..4_096 {
            log(&writer, &line);
        }
        let begun = Instant::now();
        // Its thread may not have run yet.
        while !writer.state().is_writing {
            assert!(begun.elapsed() < PATIENCE, "nothing is written");
            std::thread::yield_now();
        }
        writer.flush(Duration::from_millis(10));
        let state = writer.state();
        assert!(state.is_writing && state.waiting.len() <= BUFFER_BYTES);
        assert!(state.dropped >= 4_096 - 2 * 1_024 - 64, "{}", state.dropped);
        drop(state);
        drop(reader);
    }

    #[test]
    fn lines_that_nobody_can_read_any_more_are_counted_and_no_failure() {
        let (reader, output) = pipe();
        drop(reader);
        let writer = LogWriter::start(output).expect("there are threads");
        for _ in 0..3 {
            log(&writer, "a line\n");
            writer.flush(PATIENCE);
        }
        assert_eq!(writer.state().dropped, 3);
    }
}
