//! Reads a script's reply value by value.
//!
//! Scripts return flat arrays, which cost Redis and the client least. A [`Reply`]
//! is read from front to back with one method per type, in the order in which the
//! script wrote the values. A value of another type means damaged data or the
//! answer of another program; it becomes
//! [`Error::is_damaged`](crate::Error::is_damaged), never a panic.
//!
//! The reply of a queue's script begins with the time at which it ran, from which
//! the store's clock is learned. Numbers that may exceed 2^53 travel as text,
//! because Lua has only doubles.

use ::redis::Value;

use crate::error::Error;
use crate::job::JobId;
use crate::time::Timestamp;

/// A reply that is being read.
pub(super) struct Reply {
    values: std::vec::IntoIter<Value>,
    /// When the script ran; the epoch if the reply has no time.
    now: Timestamp,
}

impl Reply {
    /// The reply of a queue's script, which begins with the time at which it ran.
    pub(super) fn timed(value: Value) -> Result<Self, Error> {
        let mut reply = Self::new(value)?;
        // A number, or its text if the script received the time as an argument.
        let now = match reply.peek() {
            Some(_) => reply.int()?,
            None => reply.text()?.parse().map_err(|_| unexpected())?,
        };
        reply.now = Timestamp::from_micros(now);
        Ok(reply)
    }

    /// When the script ran, in store time.
    pub(super) fn now(&self) -> Timestamp {
        self.now
    }

    /// A reply that is an array.
    pub(super) fn new(value: Value) -> Result<Self, Error> {
        match value {
            Value::Array(values) | Value::Set(values) => {
                Ok(Self { values: values.into_iter(), now: Timestamp::from_micros(0) })
            }
            _ => Err(unexpected()),
        }
    }

    /// Whether all values are read.
    pub(super) fn is_empty(&self) -> bool {
        self.values.len() == 0
    }

    /// The next value of any type.
    pub(super) fn value(&mut self) -> Option<Value> {
        self.values.next()
    }

    /// The next value, an array.
    pub(super) fn array(&mut self) -> Result<Reply, Error> {
        self.value().ok_or_else(unexpected).and_then(Reply::new)
    }

    /// The next value, a whole number.
    pub(super) fn int(&mut self) -> Result<i64, Error> {
        match self.values.next() {
            Some(Value::Int(number)) => Ok(number),
            _ => Err(unexpected()),
        }
    }

    /// The next value if it is a whole number, without reading it.
    pub(super) fn peek(&self) -> Option<i64> {
        match self.values.as_slice().first() {
            Some(Value::Int(number)) => Some(*number),
            _ => None,
        }
    }

    /// The next value, bytes.
    pub(super) fn bytes(&mut self) -> Result<Vec<u8>, Error> {
        match self.values.next() {
            Some(Value::BulkString(bytes)) => Ok(bytes),
            Some(Value::SimpleString(text)) => Ok(text.into_bytes()),
            _ => Err(unexpected()),
        }
    }

    /// The next value, text.
    pub(super) fn text(&mut self) -> Result<String, Error> {
        Ok(String::from_utf8_lossy(&self.bytes()?).into_owned())
    }

    /// The next value, a job's id.
    pub(super) fn id(&mut self) -> Result<JobId, Error> {
        Ok(JobId::stored(self.bytes()?))
    }

    /// The next value, in the printable form of an id.
    pub(super) fn printable(&mut self) -> Result<String, Error> {
        Ok(self.id()?.to_string())
    }

    /// The values of the next value, an array.
    pub(super) fn rest(&mut self) -> Result<Reply, Error> {
        Reply::new(self.values.next().ok_or_else(unexpected)?)
    }

    /// The next value, a counter: text, because it may exceed a double.
    pub(super) fn counter(&mut self) -> Result<u64, Error> {
        self.text()?.parse::<i64>().map(|n| n.max(0) as u64).map_err(|_| unexpected())
    }

    /// The next value, an instant in microseconds; a negative number is none.
    pub(super) fn instant(&mut self) -> Result<Option<Timestamp>, Error> {
        let micros = self.int()?;
        Ok((micros >= 0).then(|| Timestamp::from_micros(micros)))
    }

    /// The next value, a size. A negative number, which only damaged data gives, counts as
    /// zero.
    pub(super) fn size(&mut self) -> Result<u64, Error> {
        Ok(self.int()?.max(0) as u64)
    }
}

/// The reply is not one of our scripts': another program answered, or the data is damaged.
pub(super) fn unexpected() -> Error {
    Error::damaged("the store replied in an unexpected form")
}
