//! Requests that are written once and sent many times: making them costs the machine nothing that it is measured
//! with.

/// Size of an event's body, envelope included, in bytes.
pub(crate) const EVENT_BYTES: usize = 500;

/// The number of the first event: all numbers have twelve digits, so that one can be written over another.
pub(crate) const FIRST_NUMBER: u64 = 100_000_000_000;

/// What stands before an event's number in its body.
pub(crate) const NUMBER_FIELD: &[u8] = b"\"n\":";

/// The type of events in batches, which no endpoint here wants.
const BATCH_TYPE: &str = "load.batch";

const NUMBER_DIGITS: usize = 12;

/// One HTTP request, with the places of what changes from one sending to the next.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    bytes: Vec<u8>,
    /// Where each event's number stands.
    numbers: Vec<usize>,
    /// Where the API key stands.
    key: usize,
    /// Events in it.
    pub(crate) events: u64,
}

impl Request {
    /// One event of `event_type`.
    pub(crate) fn single(key: &str, event_type: &str) -> Self {
        Self::new("/v1/events", key, &event(event_type), 1)
    }

    /// One event of `event_type` that has another field, such as an ordering key.
    pub(crate) fn with_field(key: &str, event_type: &str, field: &str, value: &str) -> Self {
        let fields = format!(r#"{{"{field}":"{value}","type":"#);
        let body = event(event_type).replacen(r#"{"type":"#, &fields, 1);
        Self::new("/v1/events", key, &body, 1)
    }

    /// A batch of `count` events.
    pub(crate) fn batch(key: &str, count: u64) -> Self {
        let events: Vec<_> = (0..count).map(|_| event(BATCH_TYPE)).collect();
        Self::new("/v1/events/batch", key, &format!("[{}]", events.join(",")), count)
    }

    fn new(path: &str, key: &str, body: &str, events: u64) -> Self {
        let head = format!("POST {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer ");
        let rest = format!(
            "\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        let key_at = head.len();
        let bytes = [head.as_bytes(), key.as_bytes(), rest.as_bytes(), body.as_bytes()].concat();
        let numbers = memchr::memmem::find_iter(&bytes, NUMBER_FIELD).map(|at| at + NUMBER_FIELD.len());
        Self {
            numbers: numbers.collect(),
            key: key_at,
            events,
            bytes,
        }
    }

    /// Writes consecutive numbers, from `first` on, into its events.
    pub(crate) fn number(&mut self, first: u64) {
        for (number, at) in (first..).zip(&self.numbers) {
            write_digits(&mut self.bytes[*at..*at + NUMBER_DIGITS], number);
        }
    }

    /// Puts another key of the same length in place.
    pub(crate) fn set_key(&mut self, key: &str) {
        self.bytes[self.key..self.key + key.len()].copy_from_slice(key.as_bytes());
    }

    /// What goes over the wire.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
}

fn event(event_type: &str) -> String {
    let start = format!(
        r#"{{"type":"{event_type}","data":{{"n":{FIRST_NUMBER},"customer":"cus_9s6XKzkNRiz8i3","text":""#
    );
    let end = "\"}}";
    let padding = "x".repeat(EVENT_BYTES - start.len() - end.len());
    format!("{start}{padding}{end}")
}

fn write_digits(digits: &mut [u8], mut number: u64) {
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + u8::try_from(number % 10).expect("a digit is below 10");
        number /= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_has_its_size_and_the_number_it_was_given() {
        let mut request = Request::batch("pk_live_a", 2);
        request.number(FIRST_NUMBER + 41);
        let text = String::from_utf8(request.as_bytes().to_vec()).unwrap();
        let (_, body) = text.split_once("\r\n\r\n").unwrap();
        assert_eq!(body.len(), 2 * EVENT_BYTES + "[,]".len());
        assert!(body.contains("\"n\":100000000041") && body.contains("\"n\":100000000042"));
        assert!(text.contains(&format!("content-length: {}\r\n", body.len())));
    }

    #[test]
    fn another_key_takes_the_place_of_the_first() {
        let mut request = Request::single("pk_live_a", "t");
        request.set_key("pk_live_b");
        assert!(
            request
                .as_bytes()
                .windows(21)
                .any(|part| part == b"Bearer pk_live_b\r\ncon")
        );
    }
}
