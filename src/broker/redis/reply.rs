//! What a script answered, read value by value.

use ::redis::Value;

use crate::error::Error;
use crate::job::JobId;
use crate::time::Timestamp;

/// The values of an answer that are still to be read.
pub(super) struct Reply(std::vec::IntoIter<Value>);

impl Reply {
    /// The answer of a script that returns an array.
    pub fn new(value: Value) -> Result<Self, Error> {
        match value {
            Value::Array(values) | Value::Set(values) => Ok(Self(values.into_iter())),
            _ => Err(unexpected()),
        }
    }

    /// Whether everything is read.
    pub fn is_empty(&self) -> bool {
        self.0.len() == 0
    }

    /// The next value, whatever it is.
    pub fn value(&mut self) -> Option<Value> {
        self.0.next()
    }

    /// The next value, an array.
    pub fn array(&mut self) -> Result<Reply, Error> {
        self.value().ok_or_else(unexpected).and_then(Reply::new)
    }

    /// The next value, a whole number.
    pub fn int(&mut self) -> Result<i64, Error> {
        match self.0.next() {
            Some(Value::Int(number)) => Ok(number),
            _ => Err(unexpected()),
        }
    }

    /// The next value, if it is a whole number; it is still to be read.
    pub fn peek(&self) -> Option<i64> {
        match self.0.as_slice().first() {
            Some(Value::Int(number)) => Some(*number),
            _ => None,
        }
    }

    /// The next value, bytes.
    pub fn bytes(&mut self) -> Result<Vec<u8>, Error> {
        match self.0.next() {
            Some(Value::BulkString(bytes)) => Ok(bytes),
            Some(Value::SimpleString(text)) => Ok(text.into_bytes()),
            _ => Err(unexpected()),
        }
    }

    /// The next value, text.
    pub fn text(&mut self) -> Result<String, Error> {
        Ok(String::from_utf8_lossy(&self.bytes()?).into_owned())
    }

    /// The next value, a job's id.
    pub fn id(&mut self) -> Result<JobId, Error> {
        Ok(JobId::stored(&self.text()?))
    }

    /// The values of the next value, an array.
    pub fn rest(&mut self) -> Result<Reply, Error> {
        Reply::new(self.0.next().ok_or_else(unexpected)?)
    }

    /// The next value, a counter: text, because it may exceed a double.
    pub fn counter(&mut self) -> Result<u64, Error> {
        self.text()?.parse::<i64>().map(|n| n.max(0) as u64).map_err(|_| unexpected())
    }

    /// The next value, an instant in microseconds; -1 is none.
    pub fn instant(&mut self) -> Result<Option<Timestamp>, Error> {
        let micros = self.int()?;
        Ok((micros >= 0).then(|| Timestamp::from_micros(micros)))
    }

    /// The next value, a size.
    pub fn size(&mut self) -> Result<u64, Error> {
        Ok(self.int()?.max(0) as u64)
    }
}

/// Something other than a script of ours answered, or its data is damaged.
pub(super) fn unexpected() -> Error {
    Error::refused("the store answered in an unexpected form")
}
