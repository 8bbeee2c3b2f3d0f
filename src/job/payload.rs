//! The bytes of typed payloads: what `serde_json` writes, except that maps are sorted by key at
//! every depth. A `HashMap` has another order in each instance; a unique lock compares bytes,
//! so without this it would let the same job pass again.
//!
//! [`Sorted`] is a `serde` serializer around the one of `serde_json`. Scalars and texts are
//! left to `serde_json`; lists and structures are opened and closed here, so that the values
//! inside them come back here too. Only [`Map`] does more: it notes where each entry begins,
//! and puts the entries in order at its end. A map that is in order already, such as a
//! `BTreeMap`, is written once and not copied.
//!
//! What may surprise. Equal values have equal bytes only within one version of the type: a new
//! field changes them. Payloads that arrive as JSON by REST do not pass here; they are stored
//! as they were sent.

mod compound;
mod key;

use serde::ser::{Serialize, Serializer};
use serde_json::Error;

use self::compound::{FieldWriter, List, Map};

/// The payload of a job: compact JSON, the same bytes for equal values.
///
/// Structures keep the order in which their fields are declared; with
/// `#[serde(flatten)]` a structure is a map. Keys are sorted as they are written: text by its
/// bytes, numbers by value, variants as declared. For the usual key types that is the order
/// of a `BTreeMap`, whose bytes then stay as `serde_json` writes them. A key type with another
/// `Ord`, such as `Ipv4Addr` (written as text, ordered as a number) or `Reverse`, is sorted
/// by what is written. Sets are lists and keep their order.
pub(crate) fn payload_bytes<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::with_capacity(128);
    value.serialize(Sorted(&mut bytes))?;
    Ok(bytes)
}

/// Writes one value at the end of these bytes.
struct Sorted<'a>(&'a mut Vec<u8>);

/// Values that hold no others: `serde_json` writes them.
macro_rules! scalars {
    ($($method:ident($($argument:ident: $kind:ty),*);)*) => {
        $(fn $method(self, $($argument: $kind),*) -> Result<(), Error> {
            serde_json::Serializer::new(self.0).$method($($argument),*)
        })*
    };
}

impl<'a> Serializer for Sorted<'a> {
    type Ok = ();
    type Error = Error;
    type SerializeSeq = List<'a>;
    type SerializeTuple = List<'a>;
    type SerializeTupleStruct = List<'a>;
    type SerializeTupleVariant = List<'a>;
    type SerializeMap = Map<'a>;
    type SerializeStruct = FieldWriter<'a>;
    type SerializeStructVariant = FieldWriter<'a>;

    scalars! {
        serialize_bool(value: bool);
        serialize_i8(value: i8);
        serialize_i16(value: i16);
        serialize_i32(value: i32);
        serialize_i64(value: i64);
        serialize_i128(value: i128);
        serialize_u8(value: u8);
        serialize_u16(value: u16);
        serialize_u32(value: u32);
        serialize_u64(value: u64);
        serialize_u128(value: u128);
        serialize_f32(value: f32);
        serialize_f64(value: f64);
        serialize_char(value: char);
        serialize_str(value: &str);
        serialize_bytes(value: &[u8]);
        serialize_none();
        serialize_unit();
        serialize_unit_struct(name: &'static str);
        serialize_unit_variant(name: &'static str, index: u32, variant: &'static str);
    }

    /// Values that are written by their `Display` text.
    fn collect_str<T: std::fmt::Display + ?Sized>(self, value: &T) -> Result<(), Error> {
        serde_json::Serializer::new(self.0).collect_str(value)
    }

    /// An `Option` leaves no trace in JSON: `Some(value)` is written as the value.
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Error> {
        value.serialize(self)
    }

    /// A type around one value is written as that value.
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        value.serialize(self)
    }

    /// A variant around one value: `{"Name":value}`.
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        open_variant(self.0, variant)?;
        value.serialize(Sorted(self.0))?;
        self.0.push(b'}');
        Ok(())
    }

    /// Lists and tuples: `[a,b]`. Sets are lists too, in the order in which they iterate.
    fn serialize_seq(self, _len: Option<usize>) -> Result<List<'a>, Error> {
        self.0.push(b'[');
        Ok(List { bytes: self.0, is_first: true, end: "]" })
    }

    fn serialize_tuple(self, len: usize) -> Result<List<'a>, Error> {
        self.serialize_seq(Some(len))
    }

    fn serialize_tuple_struct(self, _name: &'static str, len: usize) -> Result<List<'a>, Error> {
        self.serialize_seq(Some(len))
    }

    /// A variant with several values: `{"Name":[a,b]}`, so two brackets end it.
    fn serialize_tuple_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        _len: usize,
    ) -> Result<List<'a>, Error> {
        open_variant(self.0, variant)?;
        self.0.push(b'[');
        Ok(List { bytes: self.0, is_first: true, end: "]}" })
    }

    /// A map: its entries are put in order when it ends.
    fn serialize_map(self, _len: Option<usize>) -> Result<Map<'a>, Error> {
        self.0.push(b'{');
        Ok(Map { start: self.0.len(), bytes: self.0, entries: Vec::new() })
    }

    /// A structure: `{"field":value}`, in the order of declaration.
    fn serialize_struct(self, name: &'static str, _len: usize) -> Result<FieldWriter<'a>, Error> {
        // Types of serde_json that carry their JSON as text, if its features are on.
        let is_json = ["$serde_json::private::RawValue", "$serde_json::private::Number"];
        if is_json.contains(&name) {
            return Ok(FieldWriter { bytes: self.0, is_first: true, end: "", is_json: true });
        }
        self.0.push(b'{');
        Ok(FieldWriter { bytes: self.0, is_first: true, end: "}", is_json: false })
    }

    /// A variant with fields: `{"Name":{"field":value}}`.
    fn serialize_struct_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        _len: usize,
    ) -> Result<FieldWriter<'a>, Error> {
        open_variant(self.0, variant)?;
        self.0.push(b'{');
        Ok(FieldWriter { bytes: self.0, is_first: true, end: "}}", is_json: false })
    }
}

/// Opens an enum variant with content: `{"Name":`. The caller closes the brace after the
/// content.
fn open_variant(bytes: &mut Vec<u8>, variant: &str) -> Result<(), Error> {
    bytes.push(b'{');
    Sorted(bytes).serialize_str(variant)?;
    bytes.push(b':');
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet, HashMap};

    use serde::Serialize;
    use serde_json::{Value, json};

    use super::*;

    fn text<T: Serialize + ?Sized>(value: &T) -> String {
        String::from_utf8(payload_bytes(value).unwrap()).unwrap()
    }

    #[derive(Serialize, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
    #[serde(rename_all = "kebab-case")]
    enum Size {
        Small,
        Large,
        Huge,
    }

    #[derive(Serialize)]
    struct Unit;

    #[derive(Serialize)]
    struct New<T>(T);

    #[derive(Serialize)]
    struct Pair(u8, char);

    #[derive(Serialize)]
    #[allow(dead_code)]
    enum Shape {
        Point,
        Circle(f32),
        Line(i64, u128),
        Named { z: u8, a: Option<&'static str> },
    }

    #[derive(Serialize)]
    #[serde(tag = "kind")]
    enum Tagged {
        Named { z: u8, a: u8 },
        Inner(Fixed),
    }

    #[derive(Serialize)]
    #[serde(tag = "t", content = "c")]
    enum Adjacent {
        Two(u8, u8),
    }

    #[derive(Serialize)]
    struct Fixed {
        z: u8,
        #[serde(skip_serializing_if = "Option::is_none")]
        m: Option<u8>,
        a: BTreeMap<Size, BTreeMap<i64, BTreeSet<u8>>>,
    }

    fn fixed() -> Fixed {
        let inner = BTreeMap::from([(-10, BTreeSet::from([3, 1])), (-9, BTreeSet::new())]);
        let sizes = [(Size::Small, inner.clone()), (Size::Large, inner), (Size::Huge, [].into())];
        Fixed { z: 1, m: None, a: sizes.into() }
    }

    fn same<T: Serialize>(value: T) {
        assert_eq!(text(&value), serde_json::to_string(&value).unwrap());
    }

    #[test]
    fn everything_but_the_order_of_maps_is_what_serde_json_writes() {
        same(("a\"\u{1}\u{7f}é\u{2028}\\/", 'x', true, (), None::<u8>, Some(Some(2))));
        same((u64::MAX, i64::MIN, u128::MAX, i128::MIN, 1e2, 0.1f32, f64::NAN, -0.0, f32::MAX));
        same((Unit, New("n"), New(Unit), Pair(1, '"'), [0u8; 0], Vec::<u8>::new(), b"bytes"));
        same([Shape::Point, Shape::Circle(1.5), Shape::Line(-1, 2)]);
        same([Shape::Named { z: 1, a: None }, Shape::Named { z: 2, a: Some("s") }]);
        same([Tagged::Named { z: 1, a: 2 }, Tagged::Inner(fixed())]);
        same((Adjacent::Two(1, 2), Ok::<u8, u8>(1), Err::<u8, u8>(2)));
        same((fixed(), BTreeMap::<String, u8>::new(), BTreeMap::from([(true, 1), (false, 2)])));
        same(BTreeMap::from([(u128::MAX, 1), (9, 2), (10, 3)]));
        same(BTreeMap::from([("10", 1), ("9", 2), ("\n", 3), ("\"", 4), ("é", 5), ("z", 6)]));
        same(BTreeMap::from([('b', Some(1)), ('a', None)]));
        same(std::time::Duration::from_millis(1500));
        same(std::net::IpAddr::from([127, 0, 0, 1]));
        same(std::path::Path::new("/a"));
    }

    #[derive(Serialize)]
    struct Flattened {
        z: u8,
        #[serde(flatten)]
        more: HashMap<&'static str, u8>,
        b: u8,
    }

    #[test]
    fn maps_are_sorted_by_key_at_every_depth() {
        let many = |name: &str| -> HashMap<String, HashMap<u32, Vec<HashMap<Size, u8>>>> {
            let sizes = || HashMap::from([(Size::Huge, 1), (Size::Small, 2), (Size::Large, 3)]);
            let inner = || (1..30).map(|n| (n, vec![sizes(), [].into()])).collect();
            (0..30).map(|n| (format!("{name}{n}"), inner())).collect()
        };
        let (made, again) = (many("k"), many("k"));
        assert_eq!(text(&made), text(&again));
        let sorted: BTreeMap<_, BTreeMap<_, Vec<BTreeMap<_, _>>>> = made
            .into_iter()
            .map(|(key, inner)| {
                let inner = inner.into_iter().map(|(key, list)| {
                    (key, list.into_iter().map(|map| map.into_iter().collect()).collect())
                });
                (key, inner.collect())
            })
            .collect();
        assert_eq!(text(&again), serde_json::to_string(&sorted).unwrap());

        let flattened = Flattened { z: 1, more: HashMap::from([("y", 2), ("a", 3)]), b: 4 };
        assert_eq!(text(&flattened), r#"{"a":3,"b":4,"y":2,"z":1}"#);
        let value: Value = json!({"b": [{"d": 1, "c": {"f": 1.0, "e": null}}], "a": "x"});
        assert_eq!(text(&value), r#"{"a":"x","b":[{"c":{"e":null,"f":1.0},"d":1}]}"#);
    }

    #[test]
    fn what_cannot_be_a_key_is_refused_as_serde_json_refuses_it() {
        let maps = (HashMap::from([(vec![1], 1)]), HashMap::from([((), 1)]));
        for (ours, theirs) in [
            (payload_bytes(&maps.0).unwrap_err(), serde_json::to_vec(&maps.0).unwrap_err()),
            (payload_bytes(&maps.1).unwrap_err(), serde_json::to_vec(&maps.1).unwrap_err()),
        ] {
            assert_eq!(ours.to_string(), theirs.to_string());
        }
    }
}
