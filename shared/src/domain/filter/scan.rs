//! One reading of a document for all pointers of all filters. It can be done in slices.

use std::collections::BTreeMap;

use crate::domain::filter::pointer::{Place, Pointers};
use crate::domain::filter::value::{Found, Scalar, string};

/// Deepest nesting that is read. The ingest API takes less.
const MAX_DEPTH: usize = 128;

/// What stands in a document, by the index of the pointer to it. Of a member that is repeated the last one counts, as in
/// most parsers.
pub type Values<'d> = BTreeMap<usize, Found<'d>>;

/// A document that is being read. Time and memory are in proportion to its length, whatever the pointers are, but for the
/// logarithm of their number.
#[derive(Debug)]
pub struct Scan<'d, 'p> {
    data: &'d str,
    pointers: &'p Pointers,
    at: usize,
    next: Next,
    open: Vec<Level>,
    values: Values<'d>,
}

/// It is no JSON, or nested too deep: nothing is known about it.
#[derive(Debug, PartialEq, Eq)]
pub struct Unreadable;

/// What comes next in the document.
#[derive(Clone, Copy, Debug)]
enum Next {
    /// A value, which has a place when a pointer leads there.
    Value(Option<Place>),
    /// What may follow a value.
    AfterValue,
}

/// An object or array that has not been closed. Its place is that of pointers to what is in it.
#[derive(Clone, Copy, Debug)]
enum Level {
    Object(Option<Place>),
    Array(Option<Place>, usize),
}

impl<'d, 'p> Scan<'d, 'p> {
    /// Begins to read.
    ///
    /// # Errors
    /// When it is not UTF-8.
    pub fn new(data: &'d [u8], pointers: &'p Pointers) -> Result<Self, Unreadable> {
        Ok(Self {
            data: std::str::from_utf8(data).map_err(|_| Unreadable)?,
            pointers,
            at: 0,
            next: Next::Value(Some(pointers.root())),
            open: Vec::new(),
            values: Values::new(),
        })
    }

    /// Reads on for about that many bytes. True when the whole document has been read.
    ///
    /// # Errors
    /// When it is no JSON.
    pub fn advance(&mut self, bytes: usize) -> Result<bool, Unreadable> {
        let until = self.at.saturating_add(bytes);
        while self.at < until {
            match self.next {
                Next::Value(place) => self.value(place)?,
                Next::AfterValue => {
                    if self.after_value()? {
                        return Ok(true);
                    }
                }
            }
        }
        Ok(false)
    }

    /// What was found.
    pub fn into_values(self) -> Values<'d> {
        self.values
    }

    fn value(&mut self, place: Option<Place>) -> Result<(), Unreadable> {
        self.skip_space();
        let ending = place.and_then(|place| self.pointers.ending_at(place));
        let inside = place.filter(|place| self.pointers.lead_on(*place));
        let start = self.at;
        match self.peek() {
            Some(b'{') => self.open(Level::Object(inside))?,
            Some(b'[') => self.open(Level::Array(inside, 0))?,
            Some(b'"') => {
                self.string()?;
                self.next = Next::AfterValue;
            }
            Some(b'-' | b'0'..=b'9') => {
                self.number()?;
                self.next = Next::AfterValue;
            }
            Some(_) => {
                let rest = &self.data.as_bytes()[start..];
                let words = ["null", "true", "false"];
                let word = words.iter().find(|word| rest.starts_with(word.as_bytes()));
                self.at += word.ok_or(Unreadable)?.len();
                self.next = Next::AfterValue;
            }
            None => return Err(Unreadable),
        }
        if let Some(index) = ending {
            let found = match self.data.as_bytes()[start] {
                b'{' | b'[' => Found::Nested,
                _ => Scalar::parse(&self.data[start..self.at]).map_or(Found::Unreadable, Found::Scalar),
            };
            self.values.insert(index, found);
        }
        Ok(())
    }

    fn open(&mut self, level: Level) -> Result<(), Unreadable> {
        if self.open.len() == MAX_DEPTH {
            return Err(Unreadable);
        }
        self.at += 1;
        self.skip_space();
        match (level, self.peek()) {
            (Level::Object(_), Some(b'}')) | (Level::Array(..), Some(b']')) => {
                self.at += 1;
                self.next = Next::AfterValue;
            }
            (Level::Object(place), _) => {
                self.open.push(level);
                self.member(place)?;
            }
            (Level::Array(place, _), _) => {
                self.open.push(level);
                self.element(place, 0);
            }
        }
        Ok(())
    }

    /// True at the end of the document.
    fn after_value(&mut self) -> Result<bool, Unreadable> {
        self.skip_space();
        let byte = self.peek();
        self.at += 1;
        match (self.open.last_mut(), byte) {
            (None, None) => return Ok(true),
            (Some(Level::Object(_)), Some(b'}')) | (Some(Level::Array(..)), Some(b']')) => {
                self.open.pop();
            }
            (Some(Level::Object(place)), Some(b',')) => {
                let place = *place;
                self.skip_space();
                self.member(place)?;
            }
            (Some(Level::Array(place, index)), Some(b',')) => {
                *index += 1;
                let (place, index) = (*place, *index);
                self.element(place, index);
            }
            _ => return Err(Unreadable),
        }
        Ok(false)
    }

    /// Reads a member's name. What was found in an earlier member of that name does not count.
    fn member(&mut self, object: Option<Place>) -> Result<(), Unreadable> {
        let start = self.at;
        self.string()?;
        let place = object.and_then(|object| {
            // A name with half of a surrogate pair in it is no pointer's.
            let name = string(&self.data[start..self.at])?;
            self.pointers.child(object, &name)
        });
        if let Some(place) = place {
            self.forget(place);
        }
        self.skip_space();
        if self.peek() != Some(b':') {
            return Err(Unreadable);
        }
        self.at += 1;
        self.next = Next::Value(place);
        Ok(())
    }

    fn forget(&mut self, place: Place) {
        while let Some((&index, _)) = self.values.range(place.indexes()).next() {
            self.values.remove(&index);
        }
    }

    fn element(&mut self, array: Option<Place>, index: usize) {
        let place = array.and_then(|array| self.pointers.child(array, &index.to_string()));
        self.next = Next::Value(place);
    }

    fn peek(&self) -> Option<u8> {
        self.data.as_bytes().get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    /// Reads a string to after its closing quote.
    fn string(&mut self) -> Result<(), Unreadable> {
        if self.peek() != Some(b'"') {
            return Err(Unreadable);
        }
        self.at += 1;
        loop {
            let rest = &self.data.as_bytes()[self.at..];
            let special = rest
                .iter()
                .position(|byte| matches!(byte, b'"' | b'\\' | 0..=0x1f));
            let special = special.ok_or(Unreadable)?;
            self.at += special + 1;
            match &rest[special..] {
                [b'"', ..] => return Ok(()),
                [b'\\', b'u', a, b, c, d, ..]
                    if [a, b, c, d].iter().all(|digit| digit.is_ascii_hexdigit()) =>
                {
                    self.at += 5;
                }
                [b'\\', b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', ..] => self.at += 1,
                _ => return Err(Unreadable),
            }
        }
    }

    fn number(&mut self) -> Result<(), Unreadable> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    /// At least one.
    fn digits(&mut self) -> Result<(), Unreadable> {
        let rest = &self.data.as_bytes()[self.at..];
        let count = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += count;
        if count == 0 { Err(Unreadable) } else { Ok(()) }
    }
}
