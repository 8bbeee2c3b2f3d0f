//! Lists, structures and maps while they are being written.
//!
//! Each of these types has the buffer of the whole payload, writes its own punctuation and hands
//! every value inside it back to [`Sorted`]. So a map is put in order however deep it lies. Values
//! are written in place; only a map whose entries arrive out of order is copied once, when it ends.

use serde::ser::{self, Serialize, Serializer};
use serde_json::Error;

use super::Sorted;
use super::key::{KeyReader, MapKey};

/// Writes a comma, except before the first item.
pub(super) fn comma(bytes: &mut Vec<u8>, is_first: &mut bool) {
    if !std::mem::take(is_first) {
        bytes.push(b',');
    }
}

/// A list, tuple or tuple variant that is being written. `end` is what closes it: a tuple
/// variant has its outer brace to close as well.
pub(super) struct List<'a> {
    pub(super) bytes: &'a mut Vec<u8>,
    pub(super) is_first: bool,
    pub(super) end: &'static str,
}

impl List<'_> {
    /// Writes one item, after a comma unless it is the first.
    pub(super) fn item<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        comma(self.bytes, &mut self.is_first);
        value.serialize(Sorted(self.bytes))
    }

    pub(super) fn close(self) -> Result<(), Error> {
        self.bytes.extend_from_slice(self.end.as_bytes());
        Ok(())
    }
}

/// The four traits of lists, and the two of structures, differ in their names only.
macro_rules! compound {
    ($kind:ident: $($name:path, $method:ident($($key:ident)?) => $own:ident;)*) => {
        $(impl $name for $kind<'_> {
            type Ok = ();
            type Error = Error;

            fn $method<T: Serialize + ?Sized>(
                &mut self,
                $($key: &'static str,)?
                value: &T,
            ) -> Result<(), Error> {
                self.$own($($key,)? value)
            }

            fn end(self) -> Result<(), Error> {
                self.close()
            }
        })*
    };
}

compound! { List:
    ser::SerializeSeq, serialize_element() => item;
    ser::SerializeTuple, serialize_element() => item;
    ser::SerializeTupleStruct, serialize_field() => item;
    ser::SerializeTupleVariant, serialize_field() => item;
}

compound! { FieldWriter:
    ser::SerializeStruct, serialize_field(key) => field;
    ser::SerializeStructVariant, serialize_field(key) => field;
}

/// A structure that is being written. Fields stay in the order of their declaration, which is
/// the same for all values of the type. `is_json` is set for a type of `serde_json` whose only
/// field is text that is JSON already: it is copied as it is.
pub(super) struct FieldWriter<'a> {
    pub(super) bytes: &'a mut Vec<u8>,
    pub(super) is_first: bool,
    pub(super) end: &'static str,
    pub(super) is_json: bool,
}

impl FieldWriter<'_> {
    /// Writes one field: its name, a colon and its value.
    pub(super) fn field<T: Serialize + ?Sized>(
        &mut self,
        key: &str,
        value: &T,
    ) -> Result<(), Error> {
        if self.is_json {
            let json: String = serde_json::from_value(serde_json::to_value(value)?)?;
            self.bytes.extend_from_slice(json.as_bytes());
            return Ok(());
        }
        comma(self.bytes, &mut self.is_first);
        Sorted(self.bytes).serialize_str(key)?;
        self.bytes.push(b':');
        value.serialize(Sorted(self.bytes))
    }

    pub(super) fn close(self) -> Result<(), Error> {
        self.bytes.extend_from_slice(self.end.as_bytes());
        Ok(())
    }
}

/// A map. Entries are written as they come, each followed by a comma, and sorted at the end if
/// necessary.
pub(super) struct Map<'a> {
    pub(super) bytes: &'a mut Vec<u8>,
    /// The offset of the first entry.
    pub(super) start: usize,
    /// The key of each entry, and its offset.
    pub(super) entries: Vec<(MapKey, usize)>,
}

impl ser::SerializeMap for Map<'_> {
    type Ok = ();
    type Error = Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Error> {
        let at = self.bytes.len();
        // `serde_json` decides which types can be keys and how they are written. Its map writer
        // also opens a map, so the brace before the key is removed again.
        let mut writer = serde_json::Serializer::new(&mut *self.bytes);
        ser::SerializeMap::serialize_key(&mut writer.serialize_map(None)?, key)?;
        self.bytes.remove(at);
        self.entries.push((key.serialize(KeyReader)?, at));
        Ok(())
    }

    /// Writes the value of the last key. Each entry ends with a comma, so that entries can change
    /// places; the last comma is removed when the map ends.
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.bytes.push(b':');
        value.serialize(Sorted(self.bytes))?;
        self.bytes.push(b',');
        Ok(())
    }

    fn end(self) -> Result<(), Error> {
        // Maps that are in order already, such as a `BTreeMap`, stay as they were written.
        if !self.entries.is_sorted_by(|(a, _), (b, _)| a <= b) {
            let written = self.bytes.split_off(self.start);
            let ends = self.entries.iter().skip(1).map(|(_, at)| *at);
            let ends: Vec<usize> = ends.chain([self.start + written.len()]).collect();
            let mut order: Vec<usize> = (0..self.entries.len()).collect();
            order.sort_by(|a, b| self.entries[*a].0.cmp(&self.entries[*b].0));
            for entry in order {
                let range = self.entries[entry].1 - self.start..ends[entry] - self.start;
                self.bytes.extend_from_slice(&written[range]);
            }
        }
        if !self.entries.is_empty() {
            self.bytes.pop();
        }
        self.bytes.push(b'}');
        Ok(())
    }
}
