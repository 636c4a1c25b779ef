//! Canonical JSON (RFC 8785), the only byte form in which Safe-Run hashes or signs a document.
//!
//! The documents hold text, numbers and ASCII names: those are written in one pass, members put into order as their object
//! ends, without the tree of values that the canonicalizer builds. What is beyond that goes to the canonicalizer.

use serde::Serialize;
use serde::ser::Error as _;
use serde_json::Error;
use serde_json::ser::{Formatter, Serializer};
use std::cell::RefCell;
use std::io;

/// The largest integer that a JSON number holds exactly for every reader (RFC 8785 §3.2.2.3): 2^53 - 1.
pub const MAX_INTEGER: u64 = (1 << 53) - 1;

/// The canonical bytes of `value`. Fails on names that are no text; numbers that are none (NaN) become `null`, and integers
/// beyond [`MAX_INTEGER`] the nearest number that every reader has.
pub fn to_bytes<T: Serialize>(value: &T) -> Result<Vec<u8>, Error> {
    write(value).map(|written| written.bytes)
}

/// Like [`to_bytes`], but fails on an integer beyond [`MAX_INTEGER`], naming the member that holds it.
pub fn to_exact_bytes<T: Serialize>(value: &T) -> Result<Vec<u8>, Error> {
    match write(value)? {
        Written {
            inexact: None, bytes, ..
        } => Ok(bytes),
        Written {
            inexact: Some(name), ..
        } => Err(Error::custom(format!("{name} is an integer beyond 2^53"))),
    }
}

/// The canonical text of `value`; `None` where it holds an integer beyond [`MAX_INTEGER`], or its arrays and objects nest
/// deeper than `depth`.
pub fn to_exact_text<T: Serialize + ?Sized>(value: &T, depth: usize) -> Result<Option<String>, Error> {
    let written = write(value)?;
    match written.inexact.is_none() && written.depth <= depth {
        true => String::from_utf8(written.bytes).map(Some).map_err(Error::custom),
        false => Ok(None),
    }
}

struct Written {
    bytes: Vec<u8>,
    /// The member that holds the first integer that they do not carry exactly.
    inexact: Option<String>,
    /// How deep arrays and objects nest.
    depth: usize,
}

fn write<T: Serialize + ?Sized>(value: &T) -> Result<Written, Error> {
    let page = RefCell::new(Page {
        // Room for most documents: it costs nothing until it is written to.
        bytes: Vec::with_capacity(32 << 10),
        ..Page::default()
    });
    value.serialize(&mut Serializer::with_formatter(Pen(&page), Pen(&page)))?;
    let page = page.into_inner();
    let bytes = match page.foreign {
        // Of the values: written by itself it rounds a name that is a large number.
        true => serde_json_canonicalizer::to_vec(&serde_json::to_value(value)?)?,
        false => page.bytes,
    };
    Ok(Written {
        bytes,
        inexact: page.inexact,
        depth: page.deepest,
    })
}

/// The canonical text of `value`.
pub fn to_text<T: Serialize>(value: &T) -> Result<String, Error> {
    String::from_utf8(to_bytes(value)?).map_err(Error::custom)
}

/// A string as it stands in canonical JSON: serde_json escapes exactly what RFC 8785 §3.2.2.2 does.
pub fn string(text: &str) -> Result<String, Error> {
    serde_json::to_string(text)
}

/// SHA-256 of the canonical bytes.
pub fn digest<T: Serialize>(value: &T) -> Result<crate::Digest, Error> {
    Ok(crate::Digest::of(&to_bytes(value)?))
}

/// What is written so far.
#[derive(Default)]
struct Page {
    bytes: Vec<u8>,
    /// Of every object that is open: where its members begin in `members`.
    open: Vec<usize>,
    members: Vec<Member>,
    /// How many arrays and objects are open, and the most there were.
    depth: usize,
    deepest: usize,
    /// Where an object's members are put into order.
    sorted: Vec<u8>,
    /// There is something here whose order this does not know.
    foreign: bool,
    /// The name of the member with the first integer that a JSON number does not hold exactly.
    inexact: Option<String>,
}

/// Where a member stands in `bytes`: its name from `name` up to `name_end`, both within the quotation marks.
#[derive(Clone, Copy)]
struct Member {
    name: usize,
    name_end: usize,
    end: usize,
}

impl Member {
    fn name_in<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        &bytes[self.name..self.name_end]
    }
}

impl Page {
    fn begin(&mut self, bracket: u8) {
        self.depth += 1;
        self.deepest = self.deepest.max(self.depth);
        self.bytes.push(bracket);
    }

    fn end(&mut self, bracket: u8) {
        self.depth -= 1;
        self.bytes.push(bracket);
    }

    /// Notes the name that was just written; in ASCII, byte order is UTF-16 order (RFC 8785 §3.2.3).
    fn end_name(&mut self) {
        let name_end = self.bytes.len() - 1;
        if let Some(member) = self.members.last_mut() {
            member.name_end = name_end;
            let name = &self.bytes[member.name..name_end];
            self.foreign |= !name.is_ascii() || name.contains(&b'\\');
        }
    }

    fn end_member(&mut self) {
        let end = self.bytes.len();
        if let Some(member) = self.members.last_mut() {
            member.end = end;
        }
    }

    /// Puts the members of the object that ends into order.
    fn end_object(&mut self) {
        let Some(first) = self.open.pop() else { return };
        let (bytes, members) = (&mut self.bytes, &mut self.members[first..]);
        let ordered = |pair: &[Member]| pair[0].name_in(bytes) < pair[1].name_in(bytes);
        if !members.windows(2).all(ordered) {
            let start = members[0].name - 1;
            members.sort_unstable_by(|a, b| a.name_in(bytes).cmp(b.name_in(bytes)));
            // A name that comes twice: the last one counts, as a tree of values has it.
            self.foreign |= !members.windows(2).all(ordered);
            self.sorted.clear();
            for member in members {
                if !self.sorted.is_empty() {
                    self.sorted.push(b',');
                }
                self.sorted.extend_from_slice(&bytes[member.name - 1..member.end]);
            }
            bytes[start..].copy_from_slice(&self.sorted);
        }
        self.members.truncate(first);
    }

    /// As a value it becomes the nearest number, as a name it stays what it is: the canonicalizer's affair.
    fn large_integer(&mut self) -> io::Result<()> {
        self.foreign = true;
        if self.inexact.is_none() {
            let name = self.members.last().map(|member| member.name_in(&self.bytes));
            self.inexact = Some(String::from_utf8_lossy(name.unwrap_or(b"it")).into_owned());
        }
        Ok(())
    }
}

/// Serde's way to a [`Page`], both as that to which bytes are written and as what is told where they belong.
#[derive(Clone, Copy)]
struct Pen<'a>(&'a RefCell<Page>);

impl io::Write for Pen<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write(bytes).map(|_| ())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Formatter for Pen<'_> {
    fn begin_object<W: ?Sized + io::Write>(&mut self, _: &mut W) -> io::Result<()> {
        let page = &mut *self.0.borrow_mut();
        page.open.push(page.members.len());
        page.begin(b'{');
        Ok(())
    }

    fn begin_array<W: ?Sized + io::Write>(&mut self, _: &mut W) -> io::Result<()> {
        self.0.borrow_mut().begin(b'[');
        Ok(())
    }

    fn end_array<W: ?Sized + io::Write>(&mut self, _: &mut W) -> io::Result<()> {
        self.0.borrow_mut().end(b']');
        Ok(())
    }

    fn begin_object_key<W: ?Sized + io::Write>(&mut self, _: &mut W, first: bool) -> io::Result<()> {
        let page = &mut *self.0.borrow_mut();
        if !first {
            page.bytes.push(b',');
        }
        let name = page.bytes.len() + 1;
        page.members.push(Member {
            name,
            name_end: name,
            end: name,
        });
        Ok(())
    }

    fn end_object_key<W: ?Sized + io::Write>(&mut self, _: &mut W) -> io::Result<()> {
        self.0.borrow_mut().end_name();
        Ok(())
    }

    fn end_object_value<W: ?Sized + io::Write>(&mut self, _: &mut W) -> io::Result<()> {
        self.0.borrow_mut().end_member();
        Ok(())
    }

    fn end_object<W: ?Sized + io::Write>(&mut self, _: &mut W) -> io::Result<()> {
        let page = &mut *self.0.borrow_mut();
        page.end_object();
        page.end(b'}');
        Ok(())
    }

    fn write_u64<W: ?Sized + io::Write>(&mut self, writer: &mut W, value: u64) -> io::Result<()> {
        if value > MAX_INTEGER {
            return self.0.borrow_mut().large_integer();
        }
        serde_json::ser::CompactFormatter.write_u64(writer, value)
    }

    fn write_i64<W: ?Sized + io::Write>(&mut self, writer: &mut W, value: i64) -> io::Result<()> {
        if value.unsigned_abs() > MAX_INTEGER {
            return self.0.borrow_mut().large_integer();
        }
        serde_json::ser::CompactFormatter.write_i64(writer, value)
    }

    fn write_f64<W: ?Sized + io::Write>(&mut self, _: &mut W, value: f64) -> io::Result<()> {
        let page = &mut *self.0.borrow_mut();
        if value.abs() > MAX_INTEGER as f64 {
            return page.large_integer();
        }
        // A number whose shortest form the canonicalizer knows.
        page.bytes.extend(serde_json_canonicalizer::to_vec(&value)?);
        Ok(())
    }

    fn write_f32<W: ?Sized + io::Write>(&mut self, writer: &mut W, value: f32) -> io::Result<()> {
        self.write_f64(writer, value.into())
    }

    fn write_u128<W: ?Sized + io::Write>(&mut self, _: &mut W, _: u128) -> io::Result<()> {
        self.0.borrow_mut().foreign = true;
        Ok(())
    }

    fn write_i128<W: ?Sized + io::Write>(&mut self, _: &mut W, _: i128) -> io::Result<()> {
        self.0.borrow_mut().foreign = true;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            (-1000i64..1000).prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            ".*".prop_map(Value::from),
            "[\\x00-\\x80\u{e000}\u{10000}\\\\\"/]*".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::btree_map("[a-c\u{7f}\u{e000}\u{10000}\"]{0,3}", inner.clone(), 0..6)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
                prop::collection::btree_map("[ -~]{0,4}", inner, 0..6)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    /// The same value as a struct would have it written: members in another order than that of their names.
    struct Shuffled(Value);

    impl Serialize for Shuffled {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            match &self.0 {
                Value::Array(items) => serializer.collect_seq(items.iter().cloned().map(Shuffled)),
                Value::Object(map) => {
                    let (odd, even): (Vec<_>, Vec<_>) = map.iter().enumerate().partition(|(n, _)| n % 2 == 1);
                    let members = odd.into_iter().chain(even.into_iter().rev());
                    serializer.collect_map(members.map(|(_, (name, item))| (name, Shuffled(item.clone()))))
                }
                other => other.serialize(serializer),
            }
        }
    }

    proptest! {
        #[test]
        fn one_pass_gives_the_canonical_bytes(value in any_json()) {
            let canonical = serde_json_canonicalizer::to_vec(&value).unwrap();
            prop_assert_eq!(to_bytes(&value).unwrap(), canonical.clone());
            prop_assert_eq!(to_text(&value).unwrap().into_bytes(), canonical.clone());
            prop_assert_eq!(to_bytes(&Shuffled(value)).unwrap(), canonical);
        }

        #[test]
        fn strings_too(text in "\\PC*|[\\x00-\\xff]*") {
            prop_assert_eq!(string(&text).unwrap(), serde_json_canonicalizer::to_string(&text).unwrap());
        }
    }

    /// RFC 8785 §3.2.3: names sort by UTF-16 code units, which is not the order of their bytes.
    #[test]
    fn published_order() {
        let value = json!({
            "\u{20ac}": "Euro Sign", "\r": "Carriage Return", "\u{fb33}": "Hebrew Letter Dalet With Dagesh", "1": "One",
            "\u{1f600}": "Emoji: Grinning Face", "\u{80}": "Control", "\u{f6}": "Latin Small Letter O With Diaeresis"
        });
        let text = to_text(&value).unwrap();
        let order =
            ["Carriage", "One", "Control", "Latin", "Euro", "Emoji", "Hebrew"].map(|name| text.find(name).unwrap());
        assert!(order.is_sorted(), "{text}");
    }

    #[test]
    fn of_a_name_that_comes_twice_the_last_counts() {
        struct Twice;
        impl Serialize for Twice {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_map([("b", 1), ("a", 2), ("b", 3)])
            }
        }
        assert_eq!(to_text(&Twice).unwrap(), r#"{"a":2,"b":3}"#);
    }

    #[test]
    fn a_large_number_as_a_name_stays_what_it_is() {
        let map = std::collections::BTreeMap::from([(u64::MAX, u64::MAX), (7, 1)]);
        assert_eq!(
            to_text(&map).unwrap(),
            "{\"18446744073709551615\":18446744073709552000,\"7\":1}"
        );
    }

    #[test]
    fn what_has_no_canonical_form_is_refused() {
        assert!(to_bytes(&std::collections::BTreeMap::from([((1, 2), 3)])).is_err());
        let large = json!({"a": [1, {"b": MAX_INTEGER, "c": MAX_INTEGER + 1}]});
        let refused = to_exact_bytes(&large).unwrap_err();
        assert_eq!(refused.to_string(), "c is an integer beyond 2^53");
        assert!(to_exact_bytes(&large["a"][1]["b"]).is_ok());
        assert!(to_exact_bytes(&i64::MIN).is_err() && to_exact_bytes(&1e20).is_err());
    }

    /// RFC 8785 §3.2.2: the sample object.
    #[test]
    fn published_sample() {
        let value: Value = serde_json::from_str(
            r#"{"numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],
                "string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/", "literals": [null, true, false]}"#,
        )
        .unwrap();
        assert_eq!(
            to_text(&value).unwrap(),
            "{\"literals\":[null,true,false],\"numbers\":[333333333.3333333,1e+30,4.5,0.002,1e-27],\
             \"string\":\"€$\\u000f\\nA'B\\\"\\\\\\\\\\\"/\"}"
        );
    }
}
