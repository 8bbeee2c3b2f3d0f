//! The sort order of map keys in payloads.

use std::cmp::Ordering;

use serde::ser::{self, Impossible, Serialize, Serializer};
use serde_json::Error;

/// A map key in its own sort order, not the order of its text, so that a `BTreeMap`
/// stays as it is.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    Bool(bool),
    Integer(i128),
    /// Beyond [`Key::Integer`].
    Large(u128),
    Float(Float),
    /// By its index in the declaration; keys may be of several types.
    Variant(u32, &'static str),
    Text(String),
}

pub(super) struct Float(f64);

impl Ord for Float {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl PartialOrd for Float {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Float {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Float {}

/// Reads a key that serde_json has accepted.
pub(super) struct KeyReader;

macro_rules! keys {
    ($($method:ident($value:ident: $kind:ty) => $key:expr;)*) => {
        $(fn $method(self, $value: $kind) -> Result<Key, Error> {
            Ok($key)
        })*
    };
}

impl Serializer for KeyReader {
    type Ok = Key;
    type Error = Error;
    type SerializeSeq = Impossible<Key, Error>;
    type SerializeTuple = Impossible<Key, Error>;
    type SerializeTupleStruct = Impossible<Key, Error>;
    type SerializeTupleVariant = Impossible<Key, Error>;
    type SerializeMap = Impossible<Key, Error>;
    type SerializeStruct = Impossible<Key, Error>;
    type SerializeStructVariant = Impossible<Key, Error>;

    keys! {
        serialize_bool(value: bool) => Key::Bool(value);
        serialize_i8(value: i8) => Key::Integer(value.into());
        serialize_i16(value: i16) => Key::Integer(value.into());
        serialize_i32(value: i32) => Key::Integer(value.into());
        serialize_i64(value: i64) => Key::Integer(value.into());
        serialize_i128(value: i128) => Key::Integer(value);
        serialize_u8(value: u8) => Key::Integer(value.into());
        serialize_u16(value: u16) => Key::Integer(value.into());
        serialize_u32(value: u32) => Key::Integer(value.into());
        serialize_u64(value: u64) => Key::Integer(value.into());
        serialize_u128(value: u128) => i128::try_from(value).map_or(Key::Large(value), Key::Integer);
        serialize_f32(value: f32) => Key::Float(Float(value.into()));
        serialize_f64(value: f64) => Key::Float(Float(value));
        serialize_char(value: char) => Key::Text(value.into());
        serialize_str(value: &str) => Key::Text(value.to_owned());
        serialize_unit_struct(name: &'static str) => Key::Text(name.to_owned());
    }

    fn serialize_bytes(self, _value: &[u8]) -> Result<Key, Error> {
        Err(no_key())
    }

    fn serialize_none(self) -> Result<Key, Error> {
        Err(no_key())
    }

    fn serialize_unit(self) -> Result<Key, Error> {
        Err(no_key())
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<Key, Error> {
        value.serialize(self)
    }

    fn serialize_unit_variant(
        self,
        _name: &'static str,
        index: u32,
        variant: &'static str,
    ) -> Result<Key, Error> {
        Ok(Key::Variant(index, variant))
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        value: &T,
    ) -> Result<Key, Error> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        _index: u32,
        _variant: &'static str,
        _value: &T,
    ) -> Result<Key, Error> {
        Err(no_key())
    }

    fn serialize_seq(self, _len: Option<usize>) -> Result<Impossible<Key, Error>, Error> {
        Err(no_key())
    }

    fn serialize_tuple(self, _len: usize) -> Result<Impossible<Key, Error>, Error> {
        Err(no_key())
    }

    fn serialize_tuple_struct(
        self,
        _name: &'static str,
        _len: usize,
    ) -> Result<Impossible<Key, Error>, Error> {
        Err(no_key())
    }

    fn serialize_tuple_variant(
        self,
        _name: &'static str,
        _index: u32,
        _variant: &'static str,
        _len: usize,
    ) -> Result<Impossible<Key, Error>, Error> {
        Err(no_key())
    }

    fn serialize_map(self, _len: Option<usize>) -> Result<Impossible<Key, Error>, Error> {
        Err(no_key())
    }

    fn serialize_struct(
        self,
        _name: &'static str,
        _len: usize,
    ) -> Result<Impossible<Key, Error>, Error> {
        Err(no_key())
    }

    fn serialize_struct_variant(
        self,
        _name: &'static str,
        _index: u32,
        _variant: &'static str,
        _len: usize,
    ) -> Result<Impossible<Key, Error>, Error> {
        Err(no_key())
    }
}

fn no_key() -> Error {
    ser::Error::custom("key must be a string")
}
