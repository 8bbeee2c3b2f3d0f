//! The sort order of map keys in payloads.
//!
//! JSON has only text as keys, so a key `10` is written before `9` if it is sorted as text,
//! while a `BTreeMap<u64, _>` has it after. To keep the bytes of such maps as they are, each
//! key is read a second time, as the value that it is in Rust, and compared as such.
//!
//! [`KeyReader`] is a `serde` serializer that accepts what `serde_json` accepts as a key: truth
//! values, numbers, characters, texts, and variants without content. `serde_json` has written
//! the key before and refused all else, so the errors here are never seen.

use std::cmp::Ordering;

use serde::ser::{self, Impossible, Serialize, Serializer};
use serde_json::Error;

/// A map key in its own sort order, not the order of its text, so that a `BTreeMap`
/// stays as it is.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum MapKey {
    Bool(bool),
    /// Any integer that fits, signed or not: `1u8` and `1i64` are the same key.
    Integer(i128),
    /// Beyond [`MapKey::Integer`].
    Large(u128),
    Float(Float),
    /// By its index in the declaration; keys may be of several types.
    Variant(u32, &'static str),
    Text(String),
}

/// A float with a total order: -0.0 comes before 0.0, and NaN after all numbers.
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

/// Types whose value is the key, each with the variant of [`MapKey`] that compares it.
macro_rules! keys {
    ($($method:ident($value:ident: $kind:ty) => $key:expr;)*) => {
        $(fn $method(self, $value: $kind) -> Result<MapKey, Error> {
            Ok($key)
        })*
    };
}

impl Serializer for KeyReader {
    type Ok = MapKey;
    type Error = Error;
    type SerializeSeq = Impossible<MapKey, Error>;
    type SerializeTuple = Impossible<MapKey, Error>;
    type SerializeTupleStruct = Impossible<MapKey, Error>;
    type SerializeTupleVariant = Impossible<MapKey, Error>;
    type SerializeMap = Impossible<MapKey, Error>;
    type SerializeStruct = Impossible<MapKey, Error>;
    type SerializeStructVariant = Impossible<MapKey, Error>;

    keys! {
        serialize_bool(value: bool) => MapKey::Bool(value);
        serialize_i8(value: i8) => MapKey::Integer(value.into());
        serialize_i16(value: i16) => MapKey::Integer(value.into());
        serialize_i32(value: i32) => MapKey::Integer(value.into());
        serialize_i64(value: i64) => MapKey::Integer(value.into());
        serialize_i128(value: i128) => MapKey::Integer(value);
        serialize_u8(value: u8) => MapKey::Integer(value.into());
        serialize_u16(value: u16) => MapKey::Integer(value.into());
        serialize_u32(value: u32) => MapKey::Integer(value.into());
        serialize_u64(value: u64) => MapKey::Integer(value.into());
        serialize_u128(value: u128) => i128::try_from(value).map_or(MapKey::Large(value), MapKey::Integer);
        serialize_f32(value: f32) => MapKey::Float(Float(value.into()));
        serialize_f64(value: f64) => MapKey::Float(Float(value));
        serialize_char(value: char) => MapKey::Text(value.into());
        serialize_str(value: &str) => MapKey::Text(value.to_owned());
        serialize_unit_struct(name: &'static str) => MapKey::Text(name.to_owned());
    }

    fn serialize_bytes(self, _value: &[u8]) -> Result<MapKey, Error> {
        Err(no_key())
    }

    fn serialize_none(self) -> Result<MapKey, Error> {
        Err(no_key())
    }

    fn serialize_unit(self) -> Result<MapKey, Error> {
        Err(no_key())
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<MapKey, Error> {
        value.serialize(self)
    }

    fn serialize_unit_variant(
        self,
        _name: &'static str,
        index: u32,
        variant: &'static str,
    ) -> Result<MapKey, Error> {
        Ok(MapKey::Variant(index, variant))
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        value: &T,
    ) -> Result<MapKey, Error> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        _index: u32,
        _variant: &'static str,
        _value: &T,
    ) -> Result<MapKey, Error> {
        Err(no_key())
    }

    fn serialize_seq(self, _len: Option<usize>) -> Result<Impossible<MapKey, Error>, Error> {
        Err(no_key())
    }

    fn serialize_tuple(self, _len: usize) -> Result<Impossible<MapKey, Error>, Error> {
        Err(no_key())
    }

    fn serialize_tuple_struct(
        self,
        _name: &'static str,
        _len: usize,
    ) -> Result<Impossible<MapKey, Error>, Error> {
        Err(no_key())
    }

    fn serialize_tuple_variant(
        self,
        _name: &'static str,
        _index: u32,
        _variant: &'static str,
        _len: usize,
    ) -> Result<Impossible<MapKey, Error>, Error> {
        Err(no_key())
    }

    fn serialize_map(self, _len: Option<usize>) -> Result<Impossible<MapKey, Error>, Error> {
        Err(no_key())
    }

    fn serialize_struct(
        self,
        _name: &'static str,
        _len: usize,
    ) -> Result<Impossible<MapKey, Error>, Error> {
        Err(no_key())
    }

    fn serialize_struct_variant(
        self,
        _name: &'static str,
        _index: u32,
        _variant: &'static str,
        _len: usize,
    ) -> Result<Impossible<MapKey, Error>, Error> {
        Err(no_key())
    }
}

/// The error for a type that cannot be a key, with the text of `serde_json`.
fn no_key() -> Error {
    ser::Error::custom("key must be a string")
}
